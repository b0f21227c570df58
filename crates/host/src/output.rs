//! What a job is meant to leave: its output, which is never touched and never news.
//!
//! The kinds sort files by type and place; this sorts regular files and folders of class temporary once more, by what the
//! command was told. In doubt it says "output": a leftover too many does less harm than a result too few.

use crate::classify::{Ground, Look, path_of};
use crate::listing;
use crate::tree;
use crate::view::View;
use kobj_abi::{Class, HostKind};
use kobj_core::image::HostImage;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// The command as it was started.
#[derive(Clone, Copy, Debug)]
pub struct Command<'c> {
    /// The command and its arguments.
    pub arguments: &'c [OsString],
    /// Its environment; `HOME` is taken from here.
    pub environment: &'c [(OsString, OsString)],
    /// Its working folder.
    pub folder: &'c Path,
}

/// The output rules for one command. Made only when there is something to judge: it looks up each path that is named.
#[derive(Debug)]
pub struct Outputs<'v> {
    view: &'v View,
    /// Folders under which everything is output, and why.
    kept: Vec<(PathBuf, &'static str)>,
    /// Paths named in arguments and environment, as they are and with links resolved.
    named: Vec<PathBuf>,
}

impl<'v> Outputs<'v> {
    /// The rules for `command`, seen from `view`.
    #[must_use]
    pub fn new(view: &'v View, command: &Command<'_>) -> Self {
        let mut outputs = Self { view, kept: Vec::new(), named: Vec::new() };
        outputs.keep(command.folder, "the command's working folder");
        if let Some((_, home)) = command.environment.iter().find(|(name, _)| name == "HOME") {
            outputs.keep(Path::new(home), "the home folder");
        }
        for argument in command.arguments {
            for path in paths_in(argument.as_bytes()) {
                outputs.name(&command.folder.join(path));
            }
        }
        for (name, value) in command.environment {
            // The shell's memory of where it was says nothing about what the command is to write.
            if name == "OLDPWD" || name == "HOME" || name == "PWD" {
                continue;
            }
            for part in value.as_bytes().split(|byte| *byte == b':') {
                for path in paths_in(part).filter(|path| path.as_os_str().as_bytes().contains(&b'/')) {
                    outputs.name(&command.folder.join(path));
                }
            }
        }
        outputs.named.sort();
        outputs.named.dedup();
        outputs
    }

    fn keep(&mut self, path: &Path, why: &'static str) {
        for path in both(path) {
            if self.counts(&path) {
                self.kept.push((path, why));
            }
        }
    }

    fn name(&mut self, path: &Path) {
        let found = both(path).into_iter().filter(|path| self.counts(path));
        let found: Vec<_> = found.collect();
        self.named.extend(found);
    }

    /// "/", the temporary and segment folders and whatever these lie in are everybody's: naming them says nothing.
    fn counts(&self, path: &Path) -> bool {
        let roots = || self.view.temporary_folders.iter().chain(&self.view.segment_folders);
        path.is_absolute() && path.parent().is_some() && !roots().any(|root| root.starts_with(path))
    }

    /// Whether `image` is something that the job was meant to leave.
    #[must_use]
    pub fn is_output(&self, image: &HostImage) -> bool {
        self.reason(image).is_some()
    }

    /// Why `image` is something that the job was meant to leave, in one clause; `None` if it is a leftover.
    #[must_use]
    pub fn reason(&self, image: &HostImage) -> Option<String> {
        if image.class == Class::Output {
            return Some("an ordinary file, not in a temporary folder".to_owned());
        }
        let path = path_of(image);
        match image.kind {
            HostKind::TemporaryFile | HostKind::TemporaryFolder => {}
            // Lock and pid files keep their class; but in an ordinary folder one that carries the name of what the
            // command was told to write belongs to that.
            HostKind::LockFile | HostKind::PidFile => return self.belongs_to_named(path),
            _ => return None,
        }
        let is_folder = image.kind == HostKind::TemporaryFolder;
        // A folder that was made around a kept path is as precious as what is in it.
        let touches = |kept: &Path| path.starts_with(kept) || is_folder && kept.starts_with(path);
        if let Some((kept, why)) = self.kept.iter().find(|(kept, _)| touches(kept)) {
            return Some(format!("{why} is {}", kept.display()));
        }
        if let Some(named) = self.named.iter().find(|named| touches(named)) {
            return Some(format!("the command was told of {}", named.display()));
        }
        let keeps = if is_folder { folder_keeps(path) } else { database_file(path) };
        keeps.map(|what| format!("it {} {what}", if is_folder { "holds" } else { "is part of" }))
    }

    fn belongs_to_named(&self, path: &Path) -> Option<String> {
        if Look::new(self.view).ground(path.parent()?) != Ground::Elsewhere {
            return None;
        }
        let whole = path.as_os_str().as_bytes();
        let named = self.named.iter().find(|named| {
            let end = whole.strip_prefix(named.as_os_str().as_bytes());
            end.is_some_and(|end| end.is_empty() || matches!(end[0], b'.' | b'-' | b'_'))
        })?;
        Some(format!("the command was told of {}", named.display()))
    }
}

/// A path without `.` and `..`, and the same with links resolved as far as it exists.
fn both(path: &Path) -> Vec<PathBuf> {
    let plain = plain(path);
    let real = real(&plain);
    if real == plain { vec![plain] } else { vec![plain, real] }
}

/// Without `.`, and `..` taken as the shell does.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

/// Links resolved in the longest part that exists.
fn real(path: &Path) -> PathBuf {
    for part in path.ancestors() {
        if let Ok(found) = std::fs::canonicalize(part) {
            let rest = path.strip_prefix(part).unwrap_or(Path::new(""));
            return if rest.as_os_str().is_empty() { found } else { found.join(rest) };
        }
    }
    path.to_path_buf()
}

/// The paths that one word can mean: itself, what follows each "=", what follows "-x".
fn paths_in(word: &[u8]) -> impl Iterator<Item = &Path> {
    /// The kernel's limit for a path.
    const PATH_BYTES_MAX: usize = 4096;
    let after_equals = word.iter().enumerate().filter(|(_, byte)| **byte == b'=').map(|(at, _)| &word[at + 1..]);
    let after_option = (word.len() > 2 && word[0] == b'-' && word[1] != b'-').then(|| &word[2..]);
    let whole = (!word.starts_with(b"-")).then_some(word);
    let all = whole.into_iter().chain(after_equals.take(8)).chain(after_option);
    all.filter(|path| !path.is_empty() && path.len() < PATH_BYTES_MAX && !path.contains(&0))
        .map(|path| Path::new(OsStr::from_bytes(path)))
}

fn folder_keeps(path: &Path) -> Option<&'static str> {
    let folder = listing::open(path).ok()?;
    tree::measure(folder).ok()?.keeps
}

/// Whether a file is a database, or what stands beside one.
fn database_file(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?;
    let folder = crate::hands::open_folder(path.parent()?).ok()?;
    let bytes = name.as_bytes();
    let sides = [&b"-wal"[..], b"-shm", b"-journal"];
    let base = sides.iter().find_map(|side| bytes.strip_suffix(*side)).map_or(name, OsStr::from_bytes);
    let by_name = [&b".rdb"[..], b".aof", b".mdb"].iter().any(|end| bytes.ends_with(end));
    (by_name || tree::is_sqlite(folder.as_fd(), base)).then_some("a database")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kobj_core::image::Identity;

    fn view() -> View {
        let folders = ["/tmp", "/var/tmp", "/run", "/run/user/1000"];
        View {
            proc: PathBuf::from("/proc"),
            segment_folders: vec![PathBuf::from("/dev/shm")],
            temporary_folders: folders.map(PathBuf::from).to_vec(),
            uid: 0,
        }
    }

    fn object(kind: HostKind, name: &str) -> HostImage {
        HostImage::new(kind, name.into(), Identity::File { device: 1, inode: 1, handle: None, born: None })
    }

    struct Case {
        view: View,
        arguments: Vec<OsString>,
        environment: Vec<(OsString, OsString)>,
        folder: PathBuf,
    }

    impl Case {
        fn new(words: &str) -> Self {
            let arguments = words.split(' ').map(OsString::from).collect();
            Self { view: view(), arguments, environment: Vec::new(), folder: PathBuf::from("/srv/nowhere") }
        }

        fn at(mut self, folder: &str) -> Self {
            self.folder = PathBuf::from(folder);
            self
        }

        fn with(mut self, name: &str, value: &str) -> Self {
            self.environment.push((name.into(), value.into()));
            self
        }

        fn is_output(&self, kind: HostKind, name: &str) -> bool {
            let command = Command { arguments: &self.arguments, environment: &self.environment, folder: &self.folder };
            Outputs::new(&self.view, &command).is_output(&object(kind, name))
        }

        #[track_caller]
        fn output(&self, name: &str) -> &Self {
            assert!(self.is_output(HostKind::TemporaryFile, name), "{name} is output");
            self
        }

        #[track_caller]
        fn leftover(&self, name: &str) -> &Self {
            assert!(!self.is_output(HostKind::TemporaryFile, name), "{name} is a leftover");
            self
        }
    }

    #[test]
    fn a_work_tree_in_tmp() {
        let case = Case::new("make all").at("/tmp/kobj-none/tree");
        case.output("/tmp/kobj-none/tree/a.o").leftover("/tmp/ccXYZ.o").leftover("/tmp/kobj-none/tree2");
        assert!(case.is_output(HostKind::TemporaryFolder, "/tmp/kobj-none"), "the folder around it");
    }

    #[test]
    fn a_compiler_told_where_to_write() {
        Case::new("gcc -o /tmp/kobj-none-x a.c").output("/tmp/kobj-none-x").leftover("/tmp/kobj-none-xy");
        Case::new("gcc -o/tmp/kobj-none-x a.c").output("/tmp/kobj-none-x");
        Case::new("tool --out=/tmp/kobj-none-x").output("/tmp/kobj-none-x").output("/tmp/kobj-none-x/in/it");
        Case::new("tool -Dkey=/tmp/kobj-none-x").output("/tmp/kobj-none-x");
        Case::new("tool --out /tmp/./a/../kobj-none-x").output("/tmp/kobj-none-x");
    }

    #[test]
    fn a_database_named_in_the_environment() {
        let case = Case::new("postgres").with("PGDATA", "/tmp/kobj-none-pg");
        assert!(case.is_output(HostKind::TemporaryFolder, "/tmp/kobj-none-pg"));
        case.leftover("/tmp/kobj-none-other");
        let case = Case::new("tool").with("FLAGS", "-x --dir=/tmp/kobj-none-pg").with("P", "/a:/tmp/kobj-none-q");
        case.output("/tmp/kobj-none-pg/f").output("/tmp/kobj-none-q");
    }

    #[test]
    fn the_root_and_the_roots_count_for_nothing() {
        Case::new("tool").at("/").leftover("/tmp/kobj-none");
        Case::new("tool").at("/tmp").leftover("/tmp/kobj-none");
        Case::new("tool").at("/var").leftover("/var/tmp/kobj-none");
        Case::new("tool").at("/run/user").leftover("/run/user/1000/kobj-none");
        Case::new("tool").with("HOME", "/").leftover("/tmp/kobj-none");
        Case::new("tool").with("HOME", "/tmp").leftover("/tmp/kobj-none");
        Case::new("tool").with("HOME", "/tmp/kobj-none").output("/tmp/kobj-none/.cache");
        Case::new("postgres -k /tmp -D /srv/nowhere/pg").leftover("/tmp/kobj-none");
        Case::new("tool --tmp=/tmp/ /").leftover("/tmp/kobj-none");
    }

    #[test]
    fn a_temporary_folder_of_its_own() {
        let mut case = Case::new("tool").with("TMPDIR", "/srv/nowhere/scratch");
        case.view.temporary_folders.push(PathBuf::from("/srv/nowhere/scratch"));
        case.leftover("/srv/nowhere/scratch/kobj-none");
        let case = case.at("/srv/nowhere");
        case.leftover("/srv/nowhere/scratch/kobj-none");
    }

    #[test]
    fn a_relative_name_is_one_in_the_working_folder() {
        Case::new("gcc -o kobj-none-x").at("/tmp").output("/tmp/kobj-none-x").leftover("/tmp/kobj-none-y");
        Case::new("gcc -okobj-none-x").at("/tmp").output("/tmp/kobj-none-x");
        Case::new("tool").at("/tmp").with("WORD", "kobj-none-x").leftover("/tmp/kobj-none-x");
    }

    #[test]
    fn only_files_and_folders_are_judged() {
        let case = Case::new("tmux -S /tmp/kobj-none-s").at("/tmp/kobj-none-w");
        for kind in [HostKind::UnixSocket, HostKind::Segment, HostKind::Fifo, HostKind::SymbolicLink] {
            assert!(!case.is_output(kind, "/tmp/kobj-none-s"), "{kind:?}");
        }
        for kind in [HostKind::LockFile, HostKind::PidFile] {
            let case = Case::new("daemon /srv/nowhere/job --pid /run/kobj-none.pid").at("/tmp/kobj-none-w");
            assert!(!case.is_output(kind, "/run/kobj-none.pid"), "{kind:?} keeps its class");
            assert!(!case.is_output(kind, "/srv/nowhere/other.pid"), "{kind:?} keeps its class");
            assert!(case.is_output(kind, "/srv/nowhere/job.pid"), "{kind:?} of what it was told to write");
        }
    }

    #[test]
    fn what_holds_data_is_output() {
        let scene = crate::testing::Folder::new("output");
        let case = Case::new("tool");
        let path = |name: &str| scene.path().join(name).to_str().expect("plain").to_owned();
        std::fs::create_dir_all(scene.path().join("checkout/deep/.git")).expect("made");
        std::fs::create_dir_all(scene.path().join("pg/base")).expect("made");
        std::fs::write(scene.path().join("pg/PG_VERSION"), "17\n").expect("written");
        std::fs::create_dir_all(scene.path().join("plain/deep")).expect("made");
        std::fs::write(scene.path().join("plain/a.db"), "not one").expect("written");
        for (name, holds) in [("checkout", true), ("pg", true), ("plain", false)] {
            assert_eq!(case.is_output(HostKind::TemporaryFolder, &path(name)), holds, "{name}");
        }
        std::fs::write(scene.path().join("data"), b"SQLite format 3\0rest").expect("written");
        for side in ["data", "data-wal", "data-shm", "dump.rdb"] {
            case.output(&path(side));
        }
        case.leftover(&path("other-wal"));
    }
}

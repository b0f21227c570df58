//! The file system as a source: walks folders without following links and without recursion, by handles of folders and not by
//! paths, so that what is renamed meanwhile leads nowhere else.

use super::exclude::Patterns;
use super::metadata::{self, Owners};
use super::{Contents, Extent, Failure, Fingerprint, Source, Step, holes};
use crate::error::{Error, Result};
use crate::tree::{Node, NodeKind, Zone};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, open, openat, readlinkat, statat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Folders within folders beyond this are refused: such a path cannot be restored.
const DEEPEST: usize = 2000;
/// So many folders are open at once; others are opened again, and must be the same, when the walk comes back to them.
const MOST_OPEN: usize = 128;
/// Of those above, each so many-th stays open, so that the way back to the others is short.
const KEPT_OPEN: usize = 64;

/// What to take and what to leave out.
#[derive(Clone, Debug)]
pub struct Options {
    /// Paths that match are left out.
    pub excludes: Patterns,
    /// Of a folder with a sound `CACHEDIR.TAG` only that file is kept.
    pub caches: bool,
    /// Of a folder that has a file of this name, which begins with these bytes, only that file is kept.
    pub if_present: Vec<(Vec<u8>, Vec<u8>)>,
    /// Other file systems are not entered; where they are mounted, an empty folder is kept.
    pub one_file_system: bool,
    /// Larger files are left out.
    pub larger_than: Option<u64>,
    /// Keep when files were read; else the time of their contents stands there.
    pub with_access_time: bool,
    /// The zone in which times are written.
    pub zone: Zone,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            excludes: Patterns::default(),
            caches: false,
            if_present: Vec::new(),
            one_file_system: false,
            larger_than: None,
            with_access_time: false,
            zone: Zone::local(),
        }
    }
}

/// A place of the listing above what was asked for: its entries are parts of paths.
#[derive(Debug, Default)]
struct Place {
    /// Where it is.
    path: PathBuf,
    asked_for: bool,
    below: BTreeMap<Vec<u8>, Place>,
}

struct Frame {
    handle: Option<OwnedFd>,
    /// It is found again by its name from the frame before. A path that was asked for is not, and stays open.
    by_name: bool,
    identity: (u64, u64),
    path: PathBuf,
    name: Vec<u8>,
    /// Names yet to come, the next one last.
    names: Vec<Vec<u8>>,
    places: BTreeMap<Vec<u8>, Place>,
    /// The device of the path that was asked for.
    device: u64,
}

/// A walk over paths.
pub struct Walk {
    options: Options,
    owners: Owners,
    frames: Vec<Frame>,
    root: Option<BTreeMap<Vec<u8>, Place>>,
    /// The last entry: its name, and where it is if it is a place.
    name: Vec<u8>,
    here: Option<PathBuf>,
    asked_for: bool,
    stat: Option<Stat>,
}

impl Walk {
    /// A walk over these paths, which become a tree as restic makes it: of an absolute path every part is a folder, of a relative one
    /// all but leading "..".
    ///
    /// # Errors
    /// A path is missing or two have the same place.
    pub fn new(paths: &[PathBuf], options: Options) -> Result<Self> {
        let mut root = Place::default();
        for path in paths {
            statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| Error::io("look at", path.display(), error))?;
            insert(&mut root, path)?;
        }
        if paths.is_empty() {
            return Err(Error::refused("backup", "no path was named; name at least one"));
        }
        let owners = Owners::of_this_machine();
        let root = Some(root.below);
        Ok(Self {
            options,
            owners,
            frames: Vec::new(),
            root,
            name: Vec::new(),
            here: None,
            asked_for: false,
            stat: None,
        })
    }

    /// The handle of the folder of the last frame, opened again if it was given up.
    fn folder(&mut self) -> io::Result<&OwnedFd> {
        let last = self.frames.len().checked_sub(1).ok_or(Errno::BADF)?;
        let mut known = last;
        while self.frames[known].handle.is_none() {
            known = known.checked_sub(1).ok_or(Errno::STALE)?;
        }
        let mut opened: Option<OwnedFd> = None;
        for at in known + 1..=last {
            let (before, rest) = self.frames.split_at(at);
            let kept = before.last().and_then(|frame| frame.handle.as_ref());
            let (Some(parent), Some(frame)) = (opened.as_ref().or(kept), rest.first()) else {
                return Err(Errno::STALE.into());
            };
            let handle = openat(parent, frame.name.as_slice(), FOLDER, Mode::empty())?;
            let stat = fstat(&handle)?;
            if (stat.st_dev, stat.st_ino) != frame.identity {
                return Err(io::Error::other("the folder was replaced while it was read"));
            }
            opened = Some(handle);
        }
        if opened.is_some() {
            self.frames[last].handle = opened;
        }
        self.frames[last].handle.as_ref().ok_or_else(|| Errno::STALE.into())
    }

    /// The path by which calls without a handle reach the last entry: the kernel goes from the handle of its folder, whatever
    /// that folder's path has become.
    fn reach(&mut self) -> io::Result<Vec<u8>> {
        if let Some(path) = &self.here {
            return Ok(path.as_os_str().as_bytes().to_vec());
        }
        let number = self.folder()?.as_raw_fd();
        Ok([format!("/proc/self/fd/{number}/").as_bytes(), &self.name].concat())
    }

    fn fail(&self, action: &'static str, source: impl Into<io::Error>) -> Step {
        Step::Failed(Failure { path: self.path(), action, source: source.into(), asked_for: self.asked_for })
    }

    fn look(&mut self) -> io::Result<Stat> {
        if let Some(path) = &self.here {
            return Ok(statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?);
        }
        let name = self.name.clone();
        Ok(statat(self.folder()?, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// The node of the last entry, whole but for what it contains. None for a socket.
    fn node(&mut self, stat: &Stat) -> io::Result<Option<Node>> {
        let zone = &self.options.zone;
        let Some(mut node) = metadata::node(&self.name, stat, &self.owners, zone, self.options.with_access_time) else {
            return Ok(None);
        };
        if node.kind == NodeKind::Link {
            let target = match &self.here {
                Some(path) => readlinkat(CWD, path, Vec::new())?,
                None => {
                    let name = self.name.clone();
                    readlinkat(self.folder()?, name.as_slice(), Vec::new())?
                }
            };
            node.set_target(CString::into_bytes(target));
        }
        let path = self.reach()?;
        node.attributes = metadata::attributes(&path)?;
        Ok(Some(node))
    }

    /// Looks at one name; none if it is left out.
    fn visit(&mut self, place: Option<Place>, device: Option<u64>) -> Option<Step> {
        let inner = place.as_ref().is_some_and(|place| !place.below.is_empty());
        if !inner && !self.options.excludes.is_empty() {
            let path = absolute(&self.path());
            if self.options.excludes.leaves_out(path.as_os_str().as_bytes()) {
                return None;
            }
        }
        let mut stat = match self.look() {
            Ok(stat) => stat,
            // It went between the listing and now: as if it had gone before.
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) && !self.asked_for => return None,
            Err(error) => return Some(self.fail("look at", error)),
        };
        if inner && FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            // A part of a path that was asked for may lead through a link.
            match statat(CWD, self.path(), AtFlags::empty()) {
                Ok(followed) => stat = followed,
                Err(error) => return Some(self.fail("look at", error)),
            }
        }
        self.stat = Some(stat);
        let foreign = self.options.one_file_system && device.is_some_and(|device| device != stat.st_dev);
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let too_large =
            self.options.larger_than.is_some_and(|most| u64::try_from(stat.st_size).is_ok_and(|size| size > most));
        if !is_folder && (foreign || (too_large && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)) {
            return None;
        }
        let node = match self.node(&stat) {
            Ok(Some(node)) => Box::new(node),
            Ok(None) => return None,
            Err(error) => return Some(self.fail("read the metadata of", error)),
        };
        if !is_folder {
            return Some(Step::Entry(node));
        }
        let entered = match place {
            Some(place) if inner => self.enter_place(place, &stat),
            _ if foreign => self.enter(&stat, device, false),
            _ => self.enter(&stat, device, true),
        };
        match entered {
            Ok(()) => Some(Step::Enter(node)),
            Err(error) => Some(self.fail("read the folder", error)),
        }
    }

    fn enter_place(&mut self, place: Place, stat: &Stat) -> io::Result<()> {
        self.frames.push(Frame {
            handle: None,
            by_name: false,
            identity: (stat.st_dev, stat.st_ino),
            path: place.path,
            name: self.name.clone(),
            names: Vec::new(),
            places: place.below,
            device: stat.st_dev,
        });
        Ok(())
    }

    fn enter(&mut self, stat: &Stat, device: Option<u64>, with_entries: bool) -> io::Result<()> {
        if self.frames.len() >= DEEPEST {
            return Err(io::Error::other(format!("more than {DEEPEST} folders within each other")));
        }
        let path = self.path();
        let handle = match &self.here {
            Some(path) => open(path, FOLDER, Mode::empty())?,
            None => {
                let name = self.name.clone();
                openat(self.folder()?, name.as_slice(), FOLDER, Mode::empty())?
            }
        };
        let opened = fstat(&handle)?;
        if (opened.st_dev, opened.st_ino) != (stat.st_dev, stat.st_ino) {
            return Err(io::Error::other("the folder was replaced while it was read"));
        }
        let mut names = if with_entries { entries(&handle)? } else { Vec::new() };
        if let Some(tag) = self.tag_of(&handle, &names) {
            names = vec![tag];
        }
        let length = self.frames.len();
        if let Some(far) = length.checked_sub(MOST_OPEN).and_then(|at| self.frames.get_mut(at))
            && far.by_name
            && !(length - MOST_OPEN).is_multiple_of(KEPT_OPEN)
        {
            far.handle = None;
        }
        self.frames.push(Frame {
            handle: Some(handle),
            by_name: self.here.is_none(),
            identity: (stat.st_dev, stat.st_ino),
            path,
            name: self.name.clone(),
            names,
            places: BTreeMap::new(),
            device: device.unwrap_or(stat.st_dev),
        });
        Ok(())
    }

    /// The name of the file that says to keep nothing else of a folder.
    fn tag_of(&self, folder: &OwnedFd, names: &[Vec<u8>]) -> Option<Vec<u8>> {
        const CACHE: (&[u8], &[u8]) = (b"CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55");
        let asked = self.options.if_present.iter().map(|(name, begin)| (name.as_slice(), begin.as_slice()));
        let found = asked.chain(self.options.caches.then_some(CACHE)).find(|(name, begin)| {
            names.iter().any(|own| own == name) && (begin.is_empty() || begins_with(folder, name, begin))
        });
        found.map(|(name, _)| name.to_vec())
    }
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn insert(root: &mut Place, path: &Path) -> Result<()> {
    let mut at = root;
    let mut real = PathBuf::new();
    for component in path.components() {
        real.push(component);
        let name = match component {
            Component::Normal(name) => name.as_bytes().to_vec(),
            Component::ParentDir | Component::CurDir | Component::RootDir | Component::Prefix(_) => continue,
        };
        if at.asked_for {
            return Ok(());
        }
        at = at.below.entry(name).or_insert_with(|| Place { path: real.clone(), ..Place::default() });
        if at.path != real {
            let why =
                format!("it has the same place in the snapshot as {}; name both by absolute paths", at.path.display());
            return Err(Error::refused(path.display(), why));
        }
    }
    if real == Path::new("/") || path.components().all(|part| !matches!(part, Component::Normal(_))) {
        return insert_entries(at, path);
    }
    at.asked_for = true;
    at.below.clear();
    Ok(())
}

/// "/", "." and "..": their entries stand at the root.
fn insert_entries(root: &mut Place, path: &Path) -> Result<()> {
    let read = |error: io::Error| Error::io("read the folder", path.display(), error);
    for entry in std::fs::read_dir(path).map_err(read)? {
        let name = entry.map_err(read)?.file_name();
        let place = Place { path: path.join(&name), asked_for: true, below: BTreeMap::new() };
        root.below.insert(name.as_bytes().to_vec(), place);
    }
    Ok(())
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// The names in a folder, the first in order last.
fn entries(folder: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

fn begins_with(folder: &OwnedFd, name: &[u8], begin: &[u8]) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = openat(folder, name, flags, Mode::empty()) else {
        return false;
    };
    let mut bytes = vec![0; begin.len()];
    rustix::io::pread(&file, &mut bytes[..], 0).is_ok_and(|length| bytes[..length] == *begin)
}

impl Source for Walk {
    fn next_step(&mut self) -> Option<Step> {
        if let Some(places) = self.root.take() {
            self.frames.push(Frame {
                handle: None,
                by_name: false,
                identity: (0, 0),
                path: PathBuf::new(),
                name: Vec::new(),
                names: Vec::new(),
                places,
                device: u64::MAX,
            });
        }
        loop {
            let last = self.frames.last_mut()?;
            if let Some((name, place)) = last.places.pop_first() {
                self.name = name;
                self.here = Some(place.path.clone());
                self.asked_for = place.asked_for;
                if let Some(step) = self.visit(Some(place), None) {
                    return Some(step);
                }
            } else if let Some(name) = last.names.pop() {
                let device = last.device;
                self.name = name;
                self.here = None;
                self.asked_for = false;
                if let Some(step) = self.visit(None, Some(device)) {
                    return Some(step);
                }
            } else {
                self.frames.pop();
                return if self.frames.is_empty() { None } else { Some(Step::Leave) };
            }
        }
    }

    fn open(&mut self) -> io::Result<Box<dyn Contents>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let seen = self.stat.ok_or(Errno::BADF)?;
        let (here, name) = (self.here.clone(), self.name.clone());
        let attempt = |walk: &mut Self, flags: OFlags| match &here {
            Some(path) => Ok::<_, io::Error>(open(path, flags, Mode::empty())?),
            None => Ok(openat(walk.folder()?, name.as_slice(), flags, Mode::empty())?),
        };
        // Only the owner may leave the access time alone.
        let file = match attempt(self, flags | OFlags::NOATIME) {
            Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => attempt(self, flags)?,
            other => other?,
        };
        let stat = fstat(&file)?;
        if (stat.st_dev, stat.st_ino) != (seen.st_dev, seen.st_ino) || stat.st_mode != seen.st_mode {
            // Replaced between look and open: it is read as what it is now, if it is a file.
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Err(io::Error::other("it was replaced by something that is no file"));
            }
        }
        Ok(Box::new(OpenFile(file)))
    }

    fn look_again(&mut self) -> io::Result<Node> {
        let stat = self.look()?;
        self.stat = Some(stat);
        let node = self.node(&stat)?.filter(|node| node.kind == NodeKind::File);
        node.ok_or_else(|| io::Error::other("it was replaced by something that is no file"))
    }

    fn path(&self) -> PathBuf {
        match (&self.here, self.frames.last()) {
            (Some(path), _) => path.clone(),
            (None, Some(frame)) => frame.path.join(OsStr::from_bytes(&self.name)),
            (None, None) => PathBuf::from(OsStr::from_bytes(&self.name)),
        }
    }

    fn asked_for(&self) -> bool {
        self.asked_for
    }
}

/// An open file of the file system.
struct OpenFile(OwnedFd);

impl Contents for OpenFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match rustix::io::pread(&self.0, &mut *buffer, offset) {
                Ok(length) => return Ok(length),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn extent(&self, offset: u64, size: u64) -> io::Result<Extent> {
        holes::extent(self.0.as_fd(), offset, size)
    }

    fn fingerprint(&self) -> io::Result<Fingerprint> {
        let stat = fstat(&self.0)?;
        let short = |nanoseconds| u32::try_from(nanoseconds).unwrap_or(0);
        Ok(Fingerprint {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime, short(stat.st_mtime_nsec)),
            changed: (stat.st_ctime, short(stat.st_ctime_nsec)),
            inode: stat.st_ino,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("kobj-vault-walk-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn listed(walk: &mut Walk) -> Vec<String> {
        let (mut depth, mut lines) = (0, Vec::new());
        while let Some(step) = walk.next_step() {
            match step {
                Step::Enter(node) => {
                    lines.push(format!("{}{}/", " ".repeat(depth), node.name));
                    depth += 1;
                }
                Step::Entry(node) => lines.push(format!("{}{} {}", " ".repeat(depth), node.name, node.kind.word())),
                Step::Leave => depth -= 1,
                Step::Failed(failure) => lines.push(format!("{failure}")),
            }
        }
        assert_eq!(depth, 0, "each folder is left");
        lines
    }

    fn below(lines: &[String], name: &str) -> Vec<String> {
        let at = lines.iter().position(|line| line.trim() == format!("{name}/")).unwrap();
        let depth = lines[at].len() - lines[at].trim_start().len();
        lines[at + 1..]
            .iter()
            .take_while(|line| line.len() - line.trim_start().len() > depth)
            .map(|line| line[depth + 1..].to_string())
            .collect()
    }

    #[test]
    fn a_folder_is_listed_in_order_and_no_link_is_followed() {
        let scratch = Scratch::new("order");
        let root = &scratch.0;
        fs::create_dir_all(root.join("b/c")).unwrap();
        fs::write(root.join("b/c/deep"), "x").unwrap();
        fs::write(root.join("a.b"), "xyz").unwrap();
        fs::write(root.join("a"), "").unwrap();
        symlink("b", root.join("link")).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
        assert!(fs::symlink_metadata(root.join("socket")).unwrap().file_type().is_socket());
        let mut walk = Walk::new(std::slice::from_ref(root), Options::default()).unwrap();
        let lines = listed(&mut walk);
        let name = root.file_name().unwrap().to_str().unwrap();
        assert_eq!(below(&lines, name), ["a file", "a.b file", "b/", " c/", "  deep file", "link symlink"]);
        drop(socket);
    }

    #[test]
    fn metadata_is_the_inodes_and_contents_are_read() {
        let scratch = Scratch::new("metadata");
        let path = scratch.0.join("file");
        fs::write(&path, "hello").unwrap();
        let mut walk =
            Walk::new(std::slice::from_ref(&path), Options { zone: Zone::utc(), ..Options::default() }).unwrap();
        loop {
            if let Step::Entry(node) = walk.next_step().unwrap() {
                let meta = fs::metadata(&path).unwrap();
                assert_eq!((node.size, node.inode, node.links), (5, meta.ino(), 1));
                assert_eq!(node.modified.instant(), (meta.mtime(), u32::try_from(meta.mtime_nsec()).unwrap()));
                break;
            }
        }
        assert!(walk.asked_for());
        let file = walk.open().unwrap();
        let mut buffer = [0; 16];
        assert_eq!(file.read_at(&mut buffer, 1).unwrap(), 4);
        assert_eq!(&buffer[..4], b"ello");
        let before = file.fingerprint().unwrap();
        fs::write(&path, "hello, world").unwrap();
        assert_ne!(file.fingerprint().unwrap(), before);
    }

    #[test]
    fn what_is_excluded_is_left_out() {
        let scratch = Scratch::new("exclude");
        let root = &scratch.0;
        for folder in ["cache/sub", "marked", "plain"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join("cache/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n").unwrap();
        fs::write(root.join("cache/x"), "").unwrap();
        fs::write(root.join("marked/.nobackup"), "").unwrap();
        fs::write(root.join("marked/x"), "").unwrap();
        fs::write(root.join("plain/x.o"), "").unwrap();
        fs::write(root.join("plain/CACHEDIR.TAG"), "none").unwrap();
        fs::write(root.join("plain/large"), vec![0; 1001]).unwrap();
        let mut excludes = Patterns::default();
        excludes.add(b"*.o", false).unwrap();
        let if_present = vec![(b".nobackup".to_vec(), Vec::new())];
        let options = Options { excludes, caches: true, if_present, larger_than: Some(1000), ..Options::default() };
        let lines = listed(&mut Walk::new(std::slice::from_ref(root), options).unwrap());
        let name = root.file_name().unwrap().to_str().unwrap();
        let expected = ["cache/", " CACHEDIR.TAG file", "marked/", " .nobackup file", "plain/", " CACHEDIR.TAG file"];
        assert_eq!(below(&lines, name), expected);
    }

    #[test]
    fn deep_folders_are_walked_with_few_handles() {
        let scratch = Scratch::new("deep");
        let mut folder = scratch.0.clone();
        for _ in 0..300 {
            fs::write(folder.join("a"), "x").unwrap();
            fs::write(folder.join("z"), "x").unwrap();
            folder.push("d");
            fs::create_dir(&folder).unwrap();
        }
        let mut walk = Walk::new(std::slice::from_ref(&scratch.0), Options::default()).unwrap();
        let (mut entries, mut most) = (0, 0);
        while let Some(step) = walk.next_step() {
            assert!(!matches!(step, Step::Failed(_)), "{step:?}");
            if let Step::Entry(_) = step {
                entries += 1;
                walk.open().unwrap();
            }
            most = most.max(walk.frames.iter().filter(|frame| frame.handle.is_some()).count());
        }
        assert_eq!(entries, 600);
        assert!(most <= MOST_OPEN + 8, "{most}");
    }

    #[test]
    fn paths_have_their_places() {
        let mut root = Place::default();
        for path in ["/a/b/c", "/a/x", "rel/y", "../up", "/a/b"] {
            insert(&mut root, Path::new(path)).unwrap();
        }
        let names = |place: &Place| {
            place.below.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(&root), ["a", "rel", "up"]);
        assert_eq!(names(&root.below[&b"a"[..]]), ["b", "x"]);
        assert!(root.below[&b"a"[..]].below[&b"b"[..]].below.is_empty(), "the whole of /a/b was asked for");
        assert!(insert(&mut root, Path::new("up")).is_err(), "../up and up would be one");
        assert!(Walk::new(&[PathBuf::from("/no/such/path")], Options::default()).is_err());
        assert!(Walk::new(&[], Options::default()).is_err());
    }
}

//! Bringing a snapshot, or a part of one, back into a folder.
//!
//! The tree is gone through twice. First folders, links and special files are made, and files are planned: what of an
//! existing file can stay is compared blob by blob, the rest is fetched in the order in which packs hold it, several at a
//! time, and written where it belongs. A file is built under a name of its own and takes its right name when it is
//! whole. Then, deepest first, folders get their metadata.
//!
//! Nothing is done through a symbolic link or outside the target. What cannot be restored is named and the rest goes on;
//! only a full disk and the like end it.

mod files;
mod metadata;
mod place;

use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::Index;
use crate::repository::Repository;
use crate::tree::{Node, NodeKind};
use crate::walk::{Descend, Step, walk};
use files::Batch;
use place::{Target, kind_of, names_in, remove_all};
use rustix::fs::{self, AtFlags, FileType, Mode};
use rustix::io::Errno;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::os::fd::AsFd;
use std::path::Path;

/// Folders below each other that `delete` goes down.
const DELETE_DEPTH_MOST: usize = 512;
/// The file in the target that names what is being written block by block: while it stands, these files are broken.
pub const JOURNAL: &str = ".kobj-restore-unfinished";

/// What to do with a file that is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overwrite {
    /// Its contents are compared, and what differs is written.
    #[default]
    Always,
    /// The same, unless its size and time are those of the snapshot: then it is believed to be the same.
    IfChanged,
    /// It stays as it is.
    Never,
}

/// How to restore.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Whether the target may have something in it already.
    pub in_place: bool,
    /// What to do with files that are there.
    pub overwrite: Overwrite,
    /// Whether entries of restored folders that the snapshot does not have are removed. Needs `in_place`.
    pub delete: bool,
    /// Whether nothing is changed, only said.
    pub dry_run: bool,
    /// Whether all files are read back and compared afterwards.
    pub verify: bool,
}

/// What a selection says of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selected {
    /// Whether it is restored.
    pub restore: bool,
    /// Whether something below it may be.
    pub descend: bool,
}

impl Selected {
    /// It and all below it.
    pub const ALL: Self = Self { restore: true, descend: true };
}

/// What happens to an entry.
#[derive(Debug)]
pub enum Event<'a> {
    /// It is made, or its contents are written.
    Restore(&'a [u8], &'a Node),
    /// It stays: it is the same, or must not be overwritten.
    Keep(&'a [u8], &'a Node),
    /// It is removed: the snapshot does not have it.
    Delete(&'a [u8]),
    /// It could not be restored, or not wholly.
    Problem(&'a [u8], &'a str),
    /// Bytes of files that are in place now (fetched, or found there).
    Bytes(u64),
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries restored, folders among them.
    pub restored: u64,
    /// Entries left as they were.
    pub kept: u64,
    /// Entries removed.
    pub deleted: u64,
    /// Bytes of the files that were restored.
    pub bytes: u64,
    /// Bytes of them that were fetched from the vault.
    pub bytes_fetched: u64,
    /// What went wrong, by number; each was an [`Event::Problem`].
    pub problems: u64,
}

/// What decides and what hears of it.
pub struct Callbacks<'a> {
    /// Which entries are restored: their path in the restored tree, and whether it is a folder.
    pub select: &'a mut dyn FnMut(&[u8], bool) -> Selected,
    /// What happens.
    pub event: &'a mut dyn FnMut(&Event<'_>),
}

pub(crate) struct Run<'a, 'b> {
    repository: &'a Repository,
    index: &'a Index,
    target: Option<Target>,
    options: Options,
    callbacks: &'a mut Callbacks<'b>,
    report: Report,
    /// First path of each inode with several names, and what it holds.
    links: HashMap<(u64, u64), (Vec<u8>, Id)>,
    /// Folders that were made only because something below them is restored.
    made: BTreeSet<Vec<u8>>,
    batch: Batch,
}

/// Restores a tree into a folder. The index must be one that was loaded for this.
///
/// # Errors
/// [`Error::Refused`] for a target that is not empty without `in_place`; those of the operating system that concern the
/// target as a whole (no room). What concerns one entry is an [`Event::Problem`], and at the end [`Report::problems`].
pub fn restore(
    repository: &Repository,
    index: &Index,
    tree: &Id,
    target: &Path,
    options: Options,
    callbacks: &mut Callbacks<'_>,
) -> Result<Report> {
    if options.delete && !options.in_place {
        return Err(Error::refused(target.display(), "--delete removes what is there: it needs --in-place"));
    }
    // The tree is read before anything is made: a wrong id shall leave no empty folder.
    repository.load_tree(index, tree)?;
    let place = Target::open(target, !options.dry_run)?;
    if let Some(place) = &place
        && !options.in_place
        && !place.is_empty()?
    {
        let why = "the target is not empty; --in-place restores into it, or choose an empty folder";
        return Err(Error::refused(target.display(), why));
    }
    let mut run = Run {
        repository,
        index,
        target: place,
        options,
        callbacks,
        report: Report::default(),
        links: HashMap::new(),
        made: BTreeSet::new(),
        batch: Batch::default(),
    };
    run.entries(tree)?;
    run.finish_batch()?;
    if !options.dry_run {
        run.folders(tree)?;
        if options.verify {
            run.verify(tree)?;
        }
    }
    Ok(run.report)
}

impl Run<'_, '_> {
    fn problem(&mut self, path: &[u8], what: &str) {
        self.report.problems += 1;
        (self.callbacks.event)(&Event::Problem(path, what));
    }

    fn restored(&mut self, path: &[u8], node: &Node) {
        self.report.restored += 1;
        (self.callbacks.event)(&Event::Restore(path, node));
    }

    fn kept(&mut self, path: &[u8], node: &Node) {
        self.report.kept += 1;
        (self.callbacks.event)(&Event::Keep(path, node));
    }

    /// Everything but the contents of files and the metadata of folders.
    fn entries(&mut self, tree: &Id) -> Result<()> {
        let (repository, index) = (self.repository, self.index);
        if self.options.delete {
            self.delete_others(&[], tree)?;
        }
        walk(repository, index, tree, &mut |step| {
            match step {
                Step::Entry(path, node) => return self.entry(path, node),
                Step::Leave(..) => {}
                Step::Lost(path, error) => self.problem(path, &error.to_string()),
            }
            Ok(Descend::Over)
        })
    }

    fn entry(&mut self, path: &[u8], node: &Node) -> Result<Descend> {
        let is_folder = node.kind == NodeKind::Folder;
        let selected = (self.callbacks.select)(path, is_folder);
        if is_folder {
            if !selected.descend && !selected.restore {
                return Ok(Descend::Over);
            }
            return self.folder(path, node, selected);
        }
        if !selected.restore {
            return Ok(Descend::Over);
        }
        match self.not_folder(path, node) {
            Ok(()) => {}
            Err(error) if ends_all(&error) => return Err(error),
            Err(error) => self.problem(path, &error.to_string()),
        }
        Ok(Descend::Over)
    }

    /// Makes a folder, if something is to be restored in it or it itself.
    fn folder(&mut self, path: &[u8], node: &Node, selected: Selected) -> Result<Descend> {
        let descend = if selected.descend { Descend::Into } else { Descend::Over };
        if self.options.dry_run {
            if selected.restore {
                self.restored(path, node);
            }
            if self.options.delete && selected.restore {
                self.delete_below(path, node)?;
            }
            return Ok(descend);
        }
        // A folder that only leads to what is selected is made when that is: see `parents`.
        if selected.restore {
            match self.make_folder(path) {
                Ok(()) => self.restored(path, node),
                Err(error) if ends_all(&error) => return Err(error),
                Err(error) => {
                    self.problem(path, &error.to_string());
                    return Ok(Descend::Over);
                }
            }
            if self.options.delete {
                self.delete_below(path, node)?;
            }
        }
        Ok(descend)
    }

    fn make_folder(&mut self, path: &[u8]) -> Result<()> {
        self.parents(path)?;
        let Some(target) = &self.target else { return Ok(()) };
        let failed = |error| io("create the folder", path, error);
        let spot = target.spot(path).map_err(failed)?;
        match fs::mkdirat(&spot.folder, spot.name, Mode::RWXU) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => match spot.stat().map_err(failed)?.as_ref().map(kind_of) {
                Some(FileType::Directory) => Ok(()),
                _ => {
                    let why = "something else stands where the snapshot has a folder; move it away";
                    Err(Error::refused(String::from_utf8_lossy(path), why))
                }
            },
            Err(error) => Err(failed(error)),
        }
    }

    /// Makes the folders above a path that are missing.
    pub(crate) fn parents(&mut self, path: &[u8]) -> Result<()> {
        let Some(target) = &self.target else { return Ok(()) };
        let (above, _) = place::split(path);
        match target.folder(above) {
            Ok(_) => return Ok(()),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(io("open the folder of", path, error)),
        }
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let spot = target.spot(&path[..at]).map_err(|error| io("open", path, error))?;
            match fs::mkdirat(&spot.folder, spot.name, Mode::RWXU) {
                Ok(()) => drop(self.made.insert(path[..at].to_vec())),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(io("create the folder of", path, error)),
            }
        }
        Ok(())
    }

    fn not_folder(&mut self, path: &[u8], node: &Node) -> Result<()> {
        if !self.options.dry_run {
            self.parents(path)?;
        }
        if node.kind != NodeKind::Folder && node.links > 1 && self.link(path, node)? {
            return Ok(());
        }
        match &node.kind {
            NodeKind::File => self.file(path, node),
            NodeKind::Link | NodeKind::BlockDevice | NodeKind::CharacterDevice | NodeKind::Pipe => {
                self.special(path, node)
            }
            NodeKind::Socket => {
                self.kept(path, node);
                Ok(())
            }
            other => Err(Error::unsupported(
                String::from_utf8_lossy(path),
                format_args!("entries of kind {:?} cannot be restored here", other.word()),
            )),
        }
    }

    /// Another name of an inode that has one already. False if this is the first, or holds something else.
    fn link(&mut self, path: &[u8], node: &Node) -> Result<bool> {
        let contents: Vec<u8> = node.content.iter().flatten().flat_map(|id| *id.as_bytes()).collect();
        let contents = Id::of(&[node.kind.word().as_bytes(), &node.target(), &contents].concat());
        let first = match self.links.entry((node.device_id, node.inode)) {
            Entry::Vacant(vacant) => {
                vacant.insert((path.to_vec(), contents));
                return Ok(false);
            }
            // What stands at the first name may hold something else then.
            Entry::Occupied(first) if self.batch.was_left_alone(&first.get().0) => return Ok(false),
            Entry::Occupied(first) if first.get().1 == contents => first.get().0.clone(),
            Entry::Occupied(_) => return Ok(false),
        };
        if node.kind == NodeKind::File && self.batch.note_link(&first, path) {
            // The first name is given when the contents are whole; this one then, too.
            self.restored(path, node);
            return Ok(true);
        }
        if self.options.dry_run {
            self.restored(path, node);
            return Ok(true);
        }
        self.make_link(&first, path)?;
        self.restored(path, node);
        Ok(true)
    }

    /// Makes one more name of what stands at `first`.
    pub(crate) fn make_link(&mut self, first: &[u8], path: &[u8]) -> Result<()> {
        let Some(target) = &self.target else { return Ok(()) };
        let failed = |error| io("link", path, error);
        let (from, to) = (target.spot(first).map_err(failed)?, target.spot(path).map_err(failed)?);
        if let Some(there) = to.stat().map_err(failed)? {
            let same = from
                .stat()
                .map_err(failed)?
                .is_some_and(|from| (from.st_dev, from.st_ino) == (there.st_dev, there.st_ino));
            if same || self.options.overwrite == Overwrite::Never {
                return Ok(());
            }
            if kind_of(&there) == FileType::Directory {
                return Err(Error::refused(String::from_utf8_lossy(path), "a folder stands there; move it away"));
            }
            to.unlink().map_err(failed)?;
        }
        fs::linkat(&from.folder, from.name, &to.folder, to.name, AtFlags::empty()).map_err(failed)
    }

    /// Links, devices and pipes.
    fn special(&mut self, path: &[u8], node: &Node) -> Result<()> {
        let Some(target) = &self.target else {
            self.restored(path, node);
            return Ok(());
        };
        let failed = |error| io("create", path, error);
        let spot = match target.spot(path) {
            Ok(spot) => spot,
            Err(Errno::NOENT) if self.options.dry_run => {
                self.restored(path, node);
                return Ok(());
            }
            Err(error) => return Err(failed(error)),
        };
        if let Some(there) = spot.stat().map_err(failed)? {
            if self.options.overwrite == Overwrite::Never {
                self.kept(path, node);
                return Ok(());
            }
            if kind_of(&there) == FileType::Directory {
                return Err(Error::refused(String::from_utf8_lossy(path), "a folder stands there; move it away"));
            }
            if !self.options.dry_run {
                spot.unlink().map_err(failed)?;
            }
        }
        if !self.options.dry_run {
            let mode = Mode::RUSR | Mode::WUSR;
            let made = match node.kind {
                NodeKind::Link => fs::symlinkat(&node.target()[..], &spot.folder, spot.name),
                NodeKind::BlockDevice => fs::mknodat(&spot.folder, spot.name, FileType::BlockDevice, mode, node.device),
                NodeKind::CharacterDevice => {
                    fs::mknodat(&spot.folder, spot.name, FileType::CharacterDevice, mode, node.device)
                }
                _ => fs::mknodat(&spot.folder, spot.name, FileType::Fifo, mode, 0),
            };
            made.map_err(failed)?;
            let mut failures = Vec::new();
            metadata::apply(&spot, node, &mut |what| failures.push(what));
            failures.iter().for_each(|what| self.problem(path, what));
        }
        self.restored(path, node);
        Ok(())
    }

    fn delete_below(&mut self, path: &[u8], node: &Node) -> Result<()> {
        node.subtree.map_or(Ok(()), |tree| self.delete_others(path, &tree))
    }

    /// Removes what a restored folder has and the snapshot's does not, of what is selected.
    fn delete_others(&mut self, folder: &[u8], tree: &Id) -> Result<()> {
        let Some(open) = self.target.as_ref().and_then(|target| target.folder(folder).ok()) else { return Ok(()) };
        let Ok(tree) = self.repository.load_tree(self.index, tree) else { return Ok(()) };
        let names = names_in(open.as_fd()).map_err(|error| io("list", folder, error))?;
        for name in names.iter().filter(|name| tree.find(name).is_none() && name.as_slice() != JOURNAL.as_bytes()) {
            let path = if folder.is_empty() { name.clone() } else { [folder, b"/", name].concat() };
            let stat = fs::statat(&open, &name[..], AtFlags::SYMLINK_NOFOLLOW);
            let is_folder = stat.is_ok_and(|stat| kind_of(&stat) == FileType::Directory);
            if !(self.callbacks.select)(&path, is_folder).restore {
                continue;
            }
            if !self.options.dry_run
                && let Err(error) = remove_all(open.as_fd(), name, DELETE_DEPTH_MOST)
            {
                self.problem(&path, &format!("it cannot be removed: {error}"));
                continue;
            }
            self.report.deleted += 1;
            (self.callbacks.event)(&Event::Delete(&path));
        }
        Ok(())
    }

    /// The metadata of folders, deepest first: nothing is made in them any more.
    fn folders(&mut self, tree: &Id) -> Result<()> {
        let (repository, index) = (self.repository, self.index);
        walk(repository, index, tree, &mut |step| {
            match step {
                Step::Entry(path, node) if node.kind == NodeKind::Folder => {
                    let selected = (self.callbacks.select)(path, true);
                    return Ok(if selected.descend || selected.restore { Descend::Into } else { Descend::Over });
                }
                // A folder that was there and is not itself selected stays as it is.
                Step::Leave(path, node) => {
                    if self.made.contains(path) || (self.callbacks.select)(path, true).restore {
                        self.folder_metadata(path, node);
                    }
                }
                // Told in the first pass.
                Step::Entry(..) | Step::Lost(..) => {}
            }
            Ok(Descend::Over)
        })
    }

    fn folder_metadata(&mut self, path: &[u8], node: &Node) {
        let Some(target) = &self.target else { return };
        let spot = match target.spot(path) {
            Ok(spot) => spot,
            // It was not made: not selected and nothing below it was, or a problem that was told.
            Err(_) => return,
        };
        if !matches!(spot.stat(), Ok(Some(stat)) if kind_of(&stat) == FileType::Directory) {
            return;
        }
        let mut failures = Vec::new();
        metadata::apply(&spot, node, &mut |what| failures.push(what));
        failures.iter().for_each(|what| self.problem(path, what));
    }
}

/// An error of the operating system that concerns one entry.
fn io(action: &'static str, path: &[u8], error: Errno) -> Error {
    let object = String::from_utf8_lossy(path);
    match error {
        Errno::LOOP | Errno::NOTDIR => {
            Error::refused(object, "a symbolic link or a file stands where the snapshot has a folder")
        }
        error => Error::io(action, object, error),
    }
}

/// Whether going on makes no sense: the disk is full or broken.
fn ends_all(error: &Error) -> bool {
    let Error::Io { source, .. } = error else { return false };
    let number = source.raw_os_error().map(Errno::from_raw_os_error);
    matches!(number, Some(Errno::NOSPC | Errno::DQUOT | Errno::ROFS | Errno::IO | Errno::MFILE | Errno::NFILE))
}

#[cfg(test)]
#[path = "restore_tests.rs"]
mod tests;

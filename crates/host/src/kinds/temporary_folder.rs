//! Folders that a job made in a temporary folder, each with its tree as one object.
//!
//! No judge for folders: `rmdir` succeeds on a living process's working folder and on another namespace's mount point. So
//! before anything goes, no mount may hold anything in the tree, and no process that can be looked at may have a folder of
//! it as working or root folder or open. Then the tree goes from the bottom up, each file with its own judge; what is in
//! use stays, with every folder above it. Before the folders go, the processes are looked at once more.

use crate::classify::{join, path_of};
use crate::hands::Hands;
use crate::holders::Holders;
use crate::identity::{self, Stat};
use crate::kind::{Facts, Kind, Maker, NewIn, Outcome, Verdict, Visibility};
use crate::kinds::{fifo, symbolic_link, unix_socket};
use crate::quarantine::{self, Batch, Place, Refusal};
use crate::tree::DEPTH_MAX;
use crate::view::View;
use crate::{listing, places};
use kobj_abi::HostKind;
use kobj_core::image::{Holder, HostImage};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::OsString;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// This kind.
#[derive(Debug)]
pub struct TemporaryFolder;

/// What was made sure of, when it went.
const UNUSED: &str = "no process seen in it, no mount on or from it, each file judged by itself";

impl Kind for TemporaryFolder {
    fn kind(&self) -> HostKind {
        HostKind::TemporaryFolder
    }

    fn facts(&self) -> Facts {
        Facts {
            maker: Maker::FileEvent,
            new_in: NewIn::Folders,
            unused_is_left_over: true,
            is_named_by_path: false,
            end: "it stays until somebody deletes it",
        }
    }

    fn census(&self, view: &View, found: &mut Vec<HostImage>) -> Visibility {
        places::census(view, self.kind(), found)
    }

    /// Whether any file in it is in use, by the files' own judges; nothing is changed.
    fn judge(&self, view: &View, image: &HostImage, hands: &mut Hands<'_>) -> Verdict {
        let mut visit = Visit::new(view, hands, false);
        match visit.whole(image) {
            Err(Refusal::Verdict(verdict)) => verdict,
            Err(Refusal::Failed(why)) => Verdict::Unknown(why),
            Ok(()) => visit.kept.map_or_else(|| Verdict::Unused(UNUSED.to_owned()), |kept| kept.verdict),
        }
    }

    fn scrub(&self, view: &View, image: &HostImage, hands: &mut Hands<'_>) -> Outcome {
        let mut visit = Visit::new(view, hands, true);
        match visit.whole(image) {
            Err(refusal) => refusal.into(),
            Ok(()) => visit.outcome(),
        }
    }
}

/// The first thing that had to stay.
struct Kept {
    verdict: Verdict,
    failed: bool,
}

/// A folder on the way, and the folders in it that are still to be entered.
struct Level {
    folder: Rc<OwnedFd>,
    path: PathBuf,
    below: Vec<OsString>,
}

/// A folder of the tree, to be removed when all in it are gone.
struct Empty {
    image: HostImage,
    /// Its path from the folder in which the tree lies.
    relative: PathBuf,
}

/// One visit to a whole tree.
struct Visit<'v, 'h, 'n> {
    view: &'v View,
    hands: &'h mut Hands<'n>,
    /// Whether to delete; else only to ask.
    deletes: bool,
    /// Files on their way out, by their paths.
    batch: Batch<PathBuf>,
    at_once: usize,
    gone: u64,
    kept: Option<Kept>,
    kept_count: u64,
}

impl<'v, 'h, 'n> Visit<'v, 'h, 'n> {
    fn new(view: &'v View, hands: &'h mut Hands<'n>, deletes: bool) -> Self {
        let at_once = quarantine::at_once();
        Self { view, hands, deletes, batch: Batch::default(), at_once, gone: 0, kept: None, kept_count: 0 }
    }

    fn outcome(self) -> Outcome {
        let Some(kept) = self.kept else { return Outcome::Scrubbed(UNUSED.to_owned()) };
        let so_far = format!("{} entries are gone, {} stay", self.gone, self.kept_count);
        let with = |words: String| format!("{words}; {so_far}");
        match kept.verdict {
            Verdict::Unknown(words) if kept.failed => Outcome::Failed(with(words)),
            Verdict::Unknown(words) => Outcome::Left(Verdict::Unknown(with(words))),
            Verdict::InUse(holders, words) => Outcome::Left(Verdict::InUse(holders, with(words))),
            other => Outcome::Left(other),
        }
    }

    fn keep(&mut self, path: &Path, refusal: Refusal) {
        let name = path.display();
        let (verdict, failed) = match refusal {
            // Gone by itself: nothing stays.
            Refusal::Verdict(Verdict::Gone) => return,
            Refusal::Verdict(Verdict::InUse(holders, words)) => {
                (Verdict::InUse(holders, format!("{name}: {words}")), false)
            }
            Refusal::Verdict(Verdict::Unknown(words)) => (Verdict::Unknown(format!("{name}: {words}")), false),
            Refusal::Verdict(_) => (Verdict::Unknown(format!("{name} became another object meanwhile")), false),
            Refusal::Failed(why) => (Verdict::Unknown(why), true),
        };
        self.kept_count += 1;
        // "In use" says more than "unknown".
        let says_more =
            |kept: &Kept| matches!(verdict, Verdict::InUse(..)) && !matches!(kept.verdict, Verdict::InUse(..));
        if self.kept.as_ref().is_none_or(says_more) {
            self.kept = Some(Kept { verdict, failed });
        }
    }

    fn whole(&mut self, image: &HostImage) -> Result<(), Refusal> {
        let place = quarantine::place(self.hands, path_of(image))?;
        let (pointer, top) = quarantine::point(&place, &image.identity)?;
        if !top.is_folder() {
            return Err(Verdict::Replaced.into());
        }
        if let Some(why) = self.hands.pins(self.view).partial.clone() {
            return Err(Verdict::Unknown(format!("what other namespaces mount is not known: {why}")).into());
        }
        quarantine::unmounted(self.view, self.hands, &place)?;
        drop(pointer);
        let folders = self.folders(&place, &top)?;
        self.nobody_in(&folders)?;
        if self.deletes {
            // The private folder must not be made inside the tree that is to go.
            quarantine::prepare(self.hands, &place, &top)?;
        }
        let walked = self.walk(&place, &top, |visit, level| visit.entries(level, &top), |_, _, _| {});
        self.finish_batch();
        walked?;
        if !self.deletes {
            return Ok(());
        }
        self.nobody_in(&folders)?;
        // Each was found after the one that it lies in, so the deepest come last.
        for folder in folders.iter().rev() {
            if let Err(refusal) = self.remove(&place, folder) {
                self.keep(path_of(&folder.image), refusal);
            } else {
                self.gone += 1;
            }
        }
        Ok(())
    }

    /// Goes through the tree from the top down. `at` is given each folder and returns the folders in it; `not` is told of
    /// each that is not entered, and why.
    fn walk(
        &mut self,
        place: &Place<'_>,
        top: &Stat,
        mut at: impl FnMut(&mut Self, &Level) -> io::Result<Vec<OsString>>,
        mut not: impl FnMut(&mut Self, &Path, String),
    ) -> Result<(), Refusal> {
        let mut way: Vec<Level> = Vec::new();
        let mut next = Some((Rc::clone(&place.folder), place.path.to_path_buf(), place.name.to_os_string()));
        loop {
            if let Some((parent, path, name)) = next.take() {
                let path = path.join(&name);
                match enter(parent.as_fd(), path.clone(), &name, top, way.len()) {
                    Ok(mut level) => match at(self, &level) {
                        Ok(below) => {
                            level.below = below;
                            way.push(level);
                        }
                        Err(error) => not(self, &path, format!("cannot be listed: {error}")),
                    },
                    Err(why) => not(self, &path, why),
                }
            }
            let Some(last) = way.last_mut() else { return Ok(()) };
            match last.below.pop() {
                Some(name) => next = Some((Rc::clone(&last.folder), last.path.clone(), name)),
                None => {
                    way.pop();
                }
            }
        }
    }

    /// Every folder of the tree, each after the one it lies in.
    fn folders(&mut self, place: &Place<'_>, top: &Stat) -> Result<Vec<Empty>, Refusal> {
        let mut found = Vec::new();
        self.walk(
            place,
            top,
            |_, level| {
                let identity = identity::of_descriptor(level.folder.as_fd())?.1;
                let name = level.path.as_os_str().as_encoded_bytes().to_vec();
                let relative = level.path.strip_prefix(place.path).unwrap_or(&level.path).to_path_buf();
                found.push(Empty { image: HostImage::new(HostKind::TemporaryFolder, name, identity), relative });
                Ok(list(&level.folder)?.into_iter().filter(|(_, is_folder)| *is_folder).map(|(name, _)| name).collect())
            },
            |visit, path, why| visit.keep(path, Verdict::Unknown(why).into()),
        )?;
        Ok(found)
    }

    fn nobody_in(&self, folders: &[Empty]) -> Result<(), Refusal> {
        let images: Vec<HostImage> = folders.iter().map(|folder| folder.image.clone()).collect();
        let holders: Vec<Holder> = Holders::of(self.view, &images).found.into_iter().flatten().collect();
        if holders.is_empty() {
            return Ok(());
        }
        Err(Verdict::InUse(holders, "a process is in it, has it open or mounted".to_owned()).into())
    }

    /// Visits what is not a folder in one folder; returns the folders.
    fn entries(&mut self, level: &Level, top: &Stat) -> io::Result<Vec<OsString>> {
        let mut below = Vec::new();
        for (name, is_folder) in list(&level.folder)? {
            if is_folder {
                below.push(name);
                continue;
            }
            let place = Place { folder: Rc::clone(&level.folder), path: &level.path, name: &name };
            match self.entry(&place, top) {
                Ok(is_gone) => self.gone += u64::from(is_gone),
                Err(refusal) => self.keep(&level.path.join(&name), refusal),
            }
            if self.batch.len() >= self.at_once {
                self.finish_batch();
            }
        }
        Ok(below)
    }

    /// Deletes what was set aside, or says why it stays.
    fn finish_batch(&mut self) {
        for (path, result) in self.batch.finish(self.hands) {
            match result {
                Ok(()) => self.gone += 1,
                Err(refusal) => self.keep(&path, refusal),
            }
        }
    }

    /// One entry that is not a folder: asks its judge and, if deleting, deletes it or sets it aside. Whether it is gone.
    fn entry(&mut self, place: &Place<'_>, top: &Stat) -> Result<bool, Refusal> {
        let pointer = identity::point_at(place.folder.as_fd(), place.name);
        let (stat, identity) = match pointer.and_then(|pointer| identity::of_descriptor(pointer.as_fd())) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(self.deletes),
            Err(error) => return Err(Verdict::Unknown(format!("cannot be looked at: {error}")).into()),
        };
        if (stat.device, stat.mount) != (top.device, top.mount) {
            return Err(Verdict::InUse(Vec::new(), "something is mounted on it".to_owned()).into());
        }
        if let Some(why) = self.hands.foreign(&stat, &identity, top.uid) {
            return Err(Verdict::Unknown(why).into());
        }
        let asked = if stat.is_regular() {
            if self.deletes {
                let path = place.path.join(place.name);
                return self.batch.set_aside(self.view, self.hands, place, &identity, path).map(|()| false);
            } else {
                quarantine::ask(self.view, self.hands, place, &identity).map_err(Refusal::from)
            }
        } else if stat.is_link() {
            if self.deletes { symbolic_link::scrub_inner(self.hands, place, &identity) } else { Ok(()) }
        } else if stat.is_socket() {
            if self.deletes {
                unix_socket::scrub_at(self.view, self.hands, place, &identity)
            } else {
                unix_socket::ask(place, &identity).map_err(Refusal::from)
            }
        } else if stat.is_fifo() {
            let image = HostImage::new(HostKind::Fifo, join(place.path, place.name), identity);
            if self.deletes {
                fifo::scrub_at(self.view, self.hands, place, &image)
            } else {
                fifo::ask(self.view, place, &image).map_err(Refusal::from)
            }
        } else {
            Err(Verdict::Unknown("a device node is never deleted".to_owned()).into())
        };
        asked.map(|()| self.deletes)
    }

    /// Removes one folder, if it is that very folder and empty now.
    fn remove(&mut self, place: &Place<'_>, folder: &Empty) -> Result<(), Refusal> {
        let (Some(parent), Some(name)) = (folder.relative.parent(), folder.relative.file_name()) else {
            return Err(Refusal::Failed(format!("{} has no name", folder.relative.display())));
        };
        let failed = |error: io::Error| Refusal::Failed(format!("cannot remove {}: {error}", place.full()));
        let parent = if parent.as_os_str().is_empty() {
            Rc::clone(&place.folder)
        } else {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            // Nobody can lead this astray by putting a link into the way.
            let way = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
            let opened = rustix::fs::openat2(&*place.folder, parent, flags, Mode::empty(), way);
            Rc::new(opened.map_err(|error| failed(error.into()))?)
        };
        let path = path_of(&folder.image);
        let at = Place { folder: parent, path: path.parent().unwrap_or(path), name };
        let (_pointer, _) = quarantine::point(&at, &folder.image.identity)?;
        quarantine::unmounted(self.view, self.hands, &at)?;
        match rustix::fs::unlinkat(&*at.folder, at.name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                Err(Verdict::Unknown("it is not empty: something in it stays, or came meanwhile".to_owned()).into())
            }
            Err(error) => Err(failed(error.into())),
        }
    }
}

/// Opens a folder of the tree, if it is on the tree's mount and not too deep.
fn enter(
    parent: std::os::fd::BorrowedFd<'_>,
    path: PathBuf,
    name: &std::ffi::OsStr,
    top: &Stat,
    depth: usize,
) -> Result<Level, String> {
    if depth >= DEPTH_MAX {
        return Err(format!("it lies more than {DEPTH_MAX} folders deep"));
    }
    let opened = listing::open_at(parent, name)
        .and_then(|folder| identity::stat_descriptor(folder.as_fd()).map(|stat| (folder, stat)));
    match opened {
        Ok((_, stat)) if (stat.device, stat.mount) != (top.device, top.mount) => {
            Err("something is mounted on it".to_owned())
        }
        Ok((_, stat)) if depth == 0 && stat.inode != top.inode => Err("it is another folder now".to_owned()),
        Ok((folder, _)) => Ok(Level { folder: Rc::new(folder), path, below: Vec::new() }),
        Err(error) => Err(format!("cannot be entered: {error}")),
    }
}

/// The names in a folder, each with whether it is a folder itself.
fn list(folder: &OwnedFd) -> io::Result<Vec<(OsString, bool)>> {
    // A descriptor of its own, since a listing moves the position.
    let own = rustix::fs::openat(folder, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    let _ = listing::each(&own, |entry| {
        let is_folder = match entry.kind {
            FileType::Unknown => identity::stat(own.as_fd(), entry.name).is_ok_and(|stat| stat.is_folder()),
            kind => kind == FileType::Directory,
        };
        names.push((entry.name.to_os_string(), is_folder));
        ControlFlow::Continue(())
    })?;
    Ok(names)
}

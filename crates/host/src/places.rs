//! What is new in the places where jobs leave files: a cheap look before, a look at what changed after.
//!
//! Before a job, each watched folder's change time and names are kept, of the folders in it the change time alone. After
//! it, a folder that has not changed is not read again, so a job that leaves nothing costs a few microseconds a folder.
//! What is new is a candidate, nothing more: it may be anybody's.

use crate::classify::Look;
use crate::hands;
use crate::identity::{self, Stat};
use crate::kind::Visibility;
use crate::kinds::posix_queue;
use crate::listing;
use crate::tables::NotVisible;
use crate::view::View;
use kobj_abi::{Class, HostKind};
use kobj_core::image::{HostImage, Time};
use rustix::fs::FileType;
use rustix::time::ClockId;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// How many folders below one watched folder are watched too (by change time).
const INNER_MAX: usize = 256;

/// The kernel's clock for files ticks at least this often: a folder changed again within a tick may show no new time.
const TICK_US: i64 = 20_000;

/// Names in one buffer: ten thousand of them are three allocations.
#[derive(Clone, Debug, Default)]
struct Names {
    bytes: Vec<u8>,
    /// Inode and end of the name in `bytes`.
    entries: Vec<(u64, usize)>,
}

impl Names {
    fn push(&mut self, name: &OsStr, inode: u64) {
        self.bytes.extend_from_slice(name.as_bytes());
        self.entries.push((inode, self.bytes.len()));
    }

    /// What lies in `name` in `folder`; `None` if that cannot be listed.
    fn of(folder: BorrowedFd<'_>, name: &OsStr) -> Option<Self> {
        Self::in_folder(listing::open_at(folder, name).ok()?.as_fd()).ok()
    }

    fn in_folder(folder: BorrowedFd<'_>) -> io::Result<Self> {
        let mut names = Self::default();
        let _ = listing::each(folder, |entry| {
            names.push(entry.name, entry.inode);
            ControlFlow::Continue(())
        })?;
        Ok(names)
    }

    fn as_map(&self) -> HashMap<&[u8], u64> {
        let mut start = 0;
        let each = self.entries.iter().map(|(inode, end)| {
            let name = &self.bytes[start..*end];
            start = *end;
            (name, *inode)
        });
        each.collect()
    }
}

/// A folder inside a watched one, as it was.
#[derive(Clone, Debug)]
struct Inner {
    name: OsString,
    inode: u64,
    changed: Time,
    /// What lay in it, if it changed so shortly before the look that birth times cannot tell old from new.
    names: Option<Names>,
}

/// A watched folder as it was.
#[derive(Clone, Debug)]
struct Folder {
    path: PathBuf,
    /// `None`: it was not there.
    was: Option<Was>,
}

#[derive(Clone, Debug)]
struct Was {
    device: u64,
    inode: u64,
    changed: Time,
    names: Names,
    inner: Vec<Inner>,
    /// Not every folder in it is watched.
    more_inner: bool,
}

/// The watched places as they were at one moment.
#[derive(Clone, Debug)]
pub struct Before {
    /// Whatever is born later has at least this birth time: the clock that stamps files may lag by a tick.
    at: Time,
    /// Whatever has a greater birth time than this was born later.
    until: Time,
    folders: Vec<Folder>,
    /// The POSIX queues, if they can be seen, and the folder that shows them: to mount it twice would cost twice.
    queues: Option<(Names, Rc<OwnedFd>)>,
    /// That mount itself, to be closed late.
    queue_mount: Option<Rc<OwnedFd>>,
    blind: NotVisible,
}

/// The time by the kernel's coarse clock, from which file systems take their stamps (or, where those have a finer grain,
/// from one between it and [`ClockId::Realtime`]).
pub(crate) fn file_clock(clock: ClockId) -> Time {
    let now = rustix::time::clock_gettime(clock);
    Time(now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000))
}

impl Before {
    /// Looks at the view's segment and temporary folders, and at when the folders in them last changed.
    #[must_use]
    pub fn take(view: &View) -> Self {
        Self::look(view, INNER_MAX, None)
    }

    /// The same by a folder of queues that is open already: to mount it twice would cost twice.
    #[must_use]
    pub fn take_by(view: &View, queues: Option<posix_queue::Opened>) -> Self {
        Self::look(view, INNER_MAX, queues)
    }

    /// The same without the folders in them: for whom watches see every creation, wherever it is.
    #[must_use]
    pub fn take_outer(view: &View) -> Self {
        Self::look(view, 0, None)
    }

    fn look(view: &View, inner_max: usize, queues: Option<posix_queue::Opened>) -> Self {
        let at = file_clock(ClockId::RealtimeCoarse);
        let mut before =
            Self { at, until: at, folders: Vec::new(), queues: None, queue_mount: None, blind: NotVisible::new() };
        for path in watched(view) {
            let was = match Was::look(path, before.at, inner_max) {
                Ok(was) => Some(was),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => {
                    before.blind.push(unreadable(view, path, &error));
                    continue;
                }
            };
            before.folders.push(Folder { path: path.clone(), was });
        }
        let listed = queues.map_or_else(|| posix_queue::queues_and_mount(view), Ok);
        match listed.and_then(|(folder, mount)| Ok((Names::in_folder(folder.as_fd())?, folder, mount))) {
            Ok((names, folder, mount)) => {
                before.queues = Some((names, Rc::new(folder)));
                before.queue_mount = mount.map(Rc::new);
            }
            Err(error) => {
                let why = format!("the mqueue file system cannot be mounted: {error}");
                before.blind.push((HostKind::PosixQueue, why));
            }
        }
        before.until = file_clock(ClockId::Realtime);
        before
    }

    /// Ends the looks; what is left to close is better closed late: the mount of our own goes with its descriptor.
    #[must_use]
    pub fn into_descriptors(self) -> Vec<OwnedFd> {
        let folder = self.queues.map(|(_, folder)| folder);
        folder.into_iter().chain(self.queue_mount).filter_map(Rc::into_inner).collect()
    }

    /// What is there now and was not before, each with kind, class, identity and size; and what could not be looked at.
    ///
    /// Files of class output are left out in the folders below a watched one, and kept in the watched ones themselves
    /// (the caller's output rules judge those).
    #[must_use]
    pub fn candidates(&self, view: &View) -> (Vec<HostImage>, NotVisible) {
        let mut after =
            After { before: self, look: Look::new(view), view, found: Vec::new(), blind: self.blind.clone() };
        for folder in &self.folders {
            match after.folder(folder) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => after.blind.push(unreadable(view, &folder.path, &error)),
            }
        }
        after.queues();
        (after.found, after.blind)
    }
}

/// The folders to watch, each once.
fn watched(view: &View) -> impl Iterator<Item = &PathBuf> {
    let all = || view.segment_folders.iter().chain(&view.temporary_folders);
    all().enumerate().filter(move |(index, path)| all().position(|other| other == *path) == Some(*index)).map(|f| f.1)
}

fn is_mounted_on(folder: BorrowedFd<'_>, name: &OsStr) -> bool {
    let outside = identity::stat_descriptor(folder).map(|stat| stat.mount);
    identity::stat(folder, name).is_ok_and(|stat| outside.is_ok_and(|mount| mount != stat.mount))
}

fn is_watched(view: &View, path: &Path) -> bool {
    watched(view).any(|known| known == path)
}

fn unreadable(view: &View, path: &Path, error: &io::Error) -> (HostKind, String) {
    let segments = view.segment_folders.iter().any(|known| known == path);
    let kind = if segments { HostKind::Segment } else { HostKind::TemporaryFile };
    (kind, format!("cannot list {}: {error}", path.display()))
}

impl Was {
    fn look(path: &Path, at: Time, inner_max: usize) -> io::Result<Self> {
        let folder = listing::open(path)?;
        // The time comes before the names: what arrives in between is then seen as a change.
        let stat = identity::stat_descriptor(folder.as_fd())?;
        let mut was = Self {
            device: stat.device,
            inode: stat.inode,
            changed: stat.changed,
            names: Names::default(),
            inner: Vec::new(),
            more_inner: false,
        };
        let _ = listing::each(&folder, |entry| {
            was.names.push(entry.name, entry.inode);
            if inner_max > 0 && entry.kind == FileType::Directory && hands::room_maker(entry.name).is_none() {
                if was.inner.len() < inner_max {
                    was.inner.push(Inner { name: entry.name.to_os_string(), inode: 0, changed: Time(0), names: None });
                } else {
                    was.more_inner = true;
                }
            }
            ControlFlow::Continue(())
        })?;
        for inner in &mut was.inner {
            if let Ok(stat) = identity::stat(folder.as_fd(), &inner.name) {
                inner.inode = stat.inode;
                inner.changed = stat.changed;
                if stat.changed.0 >= at.0 - TICK_US {
                    inner.names = Names::of(folder.as_fd(), &inner.name);
                }
            }
        }
        Ok(was)
    }
}

/// One look after a job.
struct After<'b> {
    before: &'b Before,
    look: Look<'b>,
    view: &'b View,
    found: Vec<HostImage>,
    blind: NotVisible,
}

impl After<'_> {
    /// Whether a folder with that change time is as it was: the same time, and so old that a later change shows.
    fn is_unchanged(&self, then: Time, now: Time) -> bool {
        then == now && now.0 < self.before.at.0 - TICK_US
    }

    fn folder(&mut self, folder: &Folder) -> io::Result<()> {
        let opened = listing::open(&folder.path)?;
        let stat = identity::stat_descriptor(opened.as_fd())?;
        // Another folder under the old name: nothing in it was seen before.
        let was = folder.was.as_ref().filter(|was| (was.device, was.inode) == (stat.device, stat.inode));
        if !was.is_some_and(|was| self.is_unchanged(was.changed, stat.changed)) {
            self.names(folder, was, opened.as_fd())?;
        }
        let Some(was) = was else { return Ok(()) };
        for inner in &was.inner {
            self.inner(&folder.path, opened.as_fd(), inner);
        }
        if was.more_inner {
            let why = format!("only {INNER_MAX} folders in {} are watched", folder.path.display());
            self.blind.push((HostKind::UnixSocket, why));
        }
        Ok(())
    }

    /// The queues that were not there; their inode numbers are never given twice.
    fn queues(&mut self) {
        let Some((known, folder)) = self.before.queues.as_ref() else { return };
        let known = known.as_map();
        // A listing of its own: the first one stands at its end.
        let Ok(listed) = listing::open_at(folder.as_fd(), OsStr::new(".")) else { return };
        let _ = listing::each(listed.as_fd(), |entry| {
            if known.get(entry.name.as_bytes()) != Some(&entry.inode)
                && let Ok(image) = posix_queue::image(folder, entry.name)
            {
                self.found.push(image);
            }
            ControlFlow::Continue(())
        });
    }

    /// The new names in a watched folder.
    fn names(&mut self, folder: &Folder, was: Option<&Was>, opened: BorrowedFd<'_>) -> io::Result<()> {
        let known = was.map(|was| was.names.as_map()).unwrap_or_default();
        // tmpfs counts its inodes up and never gives a number twice, so an old number there is an old file.
        let reuses = !is_tmpfs(opened);
        let mut failed = None;
        let _ = listing::each(opened, |entry| {
            if hands::room_maker(entry.name).is_some() || is_watched(self.view, &folder.path.join(entry.name)) {
                return ControlFlow::Continue(());
            }
            if known.get(entry.name.as_bytes()) == Some(&entry.inode)
                && !(reuses && identity::stat(opened, entry.name).is_ok_and(|stat| self.is_born_since(&stat)))
            {
                return ControlFlow::Continue(());
            }
            match self.look.image(opened, &folder.path, entry.name) {
                // What lies mounted there is the mount's to tell; the folder below it cannot be seen.
                Ok(image) if image.kind == HostKind::TemporaryFolder && is_mounted_on(opened, entry.name) => {}
                Ok(image) => self.found.push(image),
                // Gone again already.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => failed = Some(error),
            }
            ControlFlow::Continue(())
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// Whether something was surely born after the look before. Within the same tick it may have been seen then.
    fn is_born_since(&self, stat: &Stat) -> bool {
        stat.born.is_some_and(|born| born > self.before.until)
    }

    /// A folder below a watched one: only what keeps its class wherever it lies.
    fn inner(&mut self, path: &Path, parent: BorrowedFd<'_>, inner: &Inner) {
        let Ok(stat) = identity::stat(parent, &inner.name) else { return };
        // Another inode is a new folder, found by its name above.
        if stat.inode != inner.inode || self.is_unchanged(inner.changed, stat.changed) {
            return;
        }
        let path = path.join(&inner.name);
        if is_watched(self.view, &path) {
            return;
        }
        let Ok(opened) = listing::open_at(parent, &inner.name) else {
            // Nobody but its owner can make anything in a folder that we cannot read; a job of ours could.
            if stat.uid == self.view.uid {
                let why = format!("cannot list {}", path.display());
                self.blind.push((HostKind::UnixSocket, why));
            }
            return;
        };
        let known = inner.names.as_ref().map(Names::as_map).unwrap_or_default();
        let _ = listing::each(&opened, |entry| {
            let was_there = known.get(entry.name.as_bytes()) == Some(&entry.inode);
            let new = entry.kind != FileType::Directory
                && identity::stat(opened.as_fd(), entry.name).is_ok_and(|stat| {
                    let born = stat.born.unwrap_or(stat.changed);
                    born > self.before.until || born >= self.before.at && !was_there
                });
            if new
                && let Ok(image) = self.look.image(opened.as_fd(), &path, entry.name)
                && image.class != Class::Output
            {
                self.found.push(image);
            }
            ControlFlow::Continue(())
        });
    }
}

fn is_tmpfs(folder: BorrowedFd<'_>) -> bool {
    const TMPFS: i64 = 0x0102_1994;
    #[allow(clippy::useless_conversion, reason = "f_type is 32 bits wide on some machines")]
    rustix::fs::fstatfs(folder).is_ok_and(|stat| i64::from(stat.f_type) == TMPFS)
}

/// Appends every object of `kind` that lies directly in a watched folder: the census of the kinds that are files.
pub(crate) fn census(view: &View, kind: HostKind, found: &mut Vec<HostImage>) -> Visibility {
    let look = Look::new(view);
    let segments = matches!(kind, HostKind::Segment | HostKind::PosixSemaphore);
    let folders = if segments { &view.segment_folders } else { &view.temporary_folders };
    let mut hidden = Vec::new();
    for path in folders {
        let listed = listing::open(path).and_then(|folder| {
            listing::each(&folder, |entry| {
                if may_be(kind, &entry)
                    && hands::room_maker(entry.name).is_none()
                    && let Ok(image) = look.image(folder.as_fd(), path, entry.name)
                    && image.kind == kind
                {
                    found.push(image);
                }
                ControlFlow::Continue(())
            })
        });
        match listed {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => hidden.push(format!("cannot list {}: {error}", path.display())),
        }
    }
    if hidden.is_empty() { Visibility::Whole } else { Visibility::NotVisible(hidden.join("; ")) }
}

/// Whether an entry can be of that kind, by its type alone.
fn may_be(kind: HostKind, entry: &listing::Entry<'_>) -> bool {
    let wanted = match kind {
        HostKind::UnixSocket => FileType::Socket,
        HostKind::Fifo => FileType::Fifo,
        HostKind::SymbolicLink => FileType::Symlink,
        HostKind::TemporaryFolder => FileType::Directory,
        HostKind::DeviceNode => return matches!(entry.kind, FileType::BlockDevice | FileType::CharacterDevice),
        HostKind::PosixSemaphore if !entry.name.as_bytes().starts_with(b"sem.") => return false,
        _ => FileType::RegularFile,
    };
    entry.kind == wanted || entry.kind == FileType::Unknown
}

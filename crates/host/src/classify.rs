//! What a file is to us: its kind and class, by type, place, name and, for lock and pid files, content.

use crate::identity::{self, Stat};
use crate::listing;
use crate::proc;
use crate::tree;
use crate::view::View;
use kobj_abi::{Class, HostKind};
use kobj_core::image::HostImage;
use std::cell::OnceCell;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The largest lock or pid file that is read.
const SMALL_BYTES: u64 = 512;

/// What kind of place a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ground {
    /// A segment folder or one below it: files are shared memory.
    Segments,
    /// A temporary folder itself.
    Temporary,
    /// Below a folder for what runs now (`/run`): nothing lasting lies there.
    Running,
    /// Everywhere else: files are output, unless they are sockets, lock or pid files.
    Elsewhere,
}

/// A look at files: the view, and what is read once for many of them.
pub(crate) struct Look<'v> {
    view: &'v View,
    /// Device and inode of every file with an advisory lock on it, once asked for.
    locked: OnceCell<HashSet<(u64, u64)>>,
}

impl<'v> Look<'v> {
    pub(crate) fn new(view: &'v View) -> Self {
        Self { view, locked: OnceCell::new() }
    }

    /// What kind of place `folder` is.
    pub(crate) fn ground(&self, folder: &Path) -> Ground {
        if self.view.segment_folders.iter().any(|known| folder.starts_with(known)) {
            Ground::Segments
        } else if self.view.temporary_folders.iter().any(|known| folder == known) {
            Ground::Temporary
        } else if folder.starts_with("/run") {
            Ground::Running
        } else {
            Ground::Elsewhere
        }
    }

    /// The image of `name` in an open folder that lies at `path`. Nothing but small regular files with the name of a
    /// lock or pid file, and folders for their size, is opened.
    pub(crate) fn image(&self, folder: BorrowedFd<'_>, path: &Path, name: &OsStr) -> io::Result<HostImage> {
        let pointer = identity::point_at(folder, name)?;
        let (stat, identity) = identity::of_descriptor(pointer.as_fd())?;
        let ground = self.ground(path);
        let (kind, class) = self.kind(ground, &stat, name, pointer.as_fd());
        let mut image = HostImage::new(kind, join(path, name), identity);
        image.class = class;
        image.uid = Some(stat.uid);
        if stat.is_regular() {
            image.size = Some(stat.size);
        } else if stat.is_folder() && class != Class::Output {
            measure(folder, name, &mut image);
        }
        Ok(image)
    }

    fn kind(&self, ground: Ground, stat: &Stat, name: &OsStr, pointer: BorrowedFd<'_>) -> (HostKind, Class) {
        let own = |kind: HostKind| (kind, kind.class());
        let by_place = |kind: HostKind| match ground {
            Ground::Elsewhere | Ground::Running => (kind, Class::Output),
            _ => own(kind),
        };
        if stat.is_socket() {
            own(HostKind::UnixSocket)
        } else if stat.is_fifo() {
            own(HostKind::Fifo)
        } else if stat.is_link() {
            by_place(HostKind::SymbolicLink)
        } else if stat.is_device() {
            by_place(HostKind::DeviceNode)
        } else if stat.is_folder() {
            by_place(HostKind::TemporaryFolder)
        } else if ground == Ground::Segments {
            let semaphore = name.as_bytes().starts_with(b"sem.");
            own(if semaphore { HostKind::PosixSemaphore } else { HostKind::Segment })
        } else {
            self.lock_or_pid(ground, stat, name, pointer).map_or_else(|| by_place(HostKind::TemporaryFile), own)
        }
    }

    /// Whether a regular file is a lock or pid file.
    ///
    /// A name is not enough where data lies: `Cargo.lock` is no lock, and a result may be a number. So a lock file has
    /// the name of one and, outside the temporary places, a pid in it; a pid file has the name of one and a pid in it.
    fn lock_or_pid(&self, ground: Ground, stat: &Stat, name: &OsStr, pointer: BorrowedFd<'_>) -> Option<HostKind> {
        let (lock, pid) = (is_lock_name(name.as_bytes()), is_pid_name(name.as_bytes()));
        let has_pid = (lock || pid)
            && stat.size <= SMALL_BYTES
            && tree::read_pointed(pointer, SMALL_BYTES as usize).is_ok_and(|content| first_pid(&content).is_some());
        if lock && (has_pid || ground == Ground::Temporary || ground == Ground::Running && stat.size == 0) {
            Some(HostKind::LockFile)
        } else if pid && has_pid {
            Some(HostKind::PidFile)
        } else if ground == Ground::Temporary && self.is_locked(stat) {
            Some(HostKind::LockFile)
        } else {
            None
        }
    }

    fn is_locked(&self, stat: &Stat) -> bool {
        let locked = self.locked.get_or_init(|| {
            let table = proc::read(&self.view.proc.join("locks"), proc::TABLE).unwrap_or_default();
            proc::locks::parse(&table).map(|lock| (lock.device, lock.inode)).collect()
        });
        locked.contains(&(stat.device, stat.inode))
    }
}

/// Fills in the size and number of entries of a folder's tree; leaves the size out where it cannot be told.
fn measure(folder: BorrowedFd<'_>, name: &OsStr, image: &mut HostImage) {
    let Ok(opened) = listing::open_at(folder, name) else { return };
    let found = identity::of_descriptor(opened.as_fd());
    if !found.is_ok_and(|(_, found)| identity::same(&found, &image.identity)) {
        return;
    }
    if let Ok(tree) = tree::measure(opened) {
        image.size = Some(tree.bytes);
        image.entries = tree.entries;
    }
}

/// Says of one path after another what lies there; what their folders and tables share is read once.
pub struct Classifier<'v> {
    look: Look<'v>,
    /// The folder of the last path, held open.
    folder: Option<(PathBuf, OwnedFd)>,
}

impl std::fmt::Debug for Classifier<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Classifier").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl<'v> Classifier<'v> {
    /// One for paths that are asked about now.
    #[must_use]
    pub fn new(view: &'v View) -> Self {
        Self { look: Look::new(view), folder: None }
    }

    /// What lies at `path` (absolute), or `None` if nothing does.
    ///
    /// For a path that an event names anywhere. Small files with the name of a lock or pid file are read: whoever watches
    /// opens reads his queue first.
    ///
    /// # Errors
    /// Something is there but cannot be looked at.
    pub fn at(&mut self, path: &Path) -> io::Result<Option<HostImage>> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
        match self.folder(parent).and_then(|(look, folder)| look.image(folder, parent, name)) {
            Ok(image) => Ok(Some(image)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn folder(&mut self, path: &Path) -> io::Result<(&Look<'v>, BorrowedFd<'_>)> {
        let known = self.folder.take().filter(|(known, _)| known.as_os_str() == path.as_os_str());
        let opened = match known {
            Some(known) => known,
            None => (path.to_path_buf(), crate::hands::open_folder(path)?),
        };
        Ok((&self.look, self.folder.insert(opened).1.as_fd()))
    }
}

/// What lies at `path`, as [`Classifier::at`] says it.
///
/// # Errors
/// Something is there but cannot be looked at.
pub fn classify(view: &View, path: &Path) -> io::Result<Option<HostImage>> {
    Classifier::new(view).at(path)
}

/// What `name` in `folder` is, the folder's path being `path`.
pub fn classify_at(view: &View, folder: BorrowedFd<'_>, path: &Path, name: &OsStr) -> io::Result<HostImage> {
    Look::new(view).image(folder, path, name)
}

/// A folder's path and a name as one path, byte for byte.
pub(crate) fn join(path: &Path, name: &OsStr) -> Vec<u8> {
    let mut whole = path.as_os_str().as_bytes().to_vec();
    if whole.last() != Some(&b'/') {
        whole.push(b'/');
    }
    whole.extend_from_slice(name.as_bytes());
    whole
}

/// The path that an image of a file is called by.
pub(crate) fn path_of(image: &HostImage) -> &Path {
    Path::new(OsStr::from_bytes(&image.name))
}

/// Whether a file with that name is a lock by custom.
pub(crate) fn is_lock_name(name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    lower == b"lock" || [&b".lock"[..], b".lck", b"-lock", b"_lock"].iter().any(|end| lower.ends_with(end))
}

/// Whether a file with that name holds a pid by custom.
pub(crate) fn is_pid_name(name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    lower == b"pid" || [&b".pid"[..], b"-pid", b"_pid", b".pidfile"].iter().any(|end| lower.ends_with(end))
}

/// The pid that a lock or pid file names: the number on its first line, blanks around it.
#[must_use]
pub(crate) fn first_pid(content: &[u8]) -> Option<u32> {
    const PID_MAX: u32 = 4 * 1024 * 1024;
    let line = content.split(|byte| *byte == b'\n' || *byte == 0).next()?;
    let pid: u32 = std::str::from_utf8(line).ok()?.trim().parse().ok()?;
    (1..=PID_MAX).contains(&pid).then_some(pid)
}

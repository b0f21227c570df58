//! The target of a restore: whatever is done is done below one open folder, by names one at a time, through no link.

use crate::error::{Error, Result};
use rustix::fs::{self, AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The folder that is restored into.
#[derive(Debug)]
pub(crate) struct Target {
    path: PathBuf,
    root: OwnedFd,
}

/// A name in an open folder.
#[derive(Debug)]
pub(crate) struct Spot<'a> {
    pub(crate) folder: OwnedFd,
    pub(crate) name: &'a [u8],
}

impl Target {
    /// Opens the target, made (0700) if it is missing. `None` in a dry run where it is missing.
    pub(crate) fn open(path: &Path, make: bool) -> Result<Option<Self>> {
        let failed = |action, error| Error::io(action, path.display(), error);
        if make {
            match fs::mkdirat(CWD, path, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(failed("create", error)),
            }
        }
        // The target itself may be named through a link: the person named it.
        match fs::openat(CWD, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(root) => Ok(Some(Self { path: path.to_path_buf(), root })),
            Err(Errno::NOENT) if !make => Ok(None),
            Err(error) => Err(failed("open", error)),
        }
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    pub(crate) fn is_empty(&self) -> Result<bool> {
        Ok(names_in(self.root.as_fd()).map_err(|error| Error::io("list", self.path.display(), error))?.is_empty())
    }

    /// The folder at a path below the target.
    pub(crate) fn folder(&self, path: &[u8]) -> std::result::Result<OwnedFd, Errno> {
        let root = rustix::io::fcntl_dupfd_cloexec(&self.root, 0)?;
        path.split(|byte| *byte == b'/')
            .filter(|part| !part.is_empty())
            .try_fold(root, |folder, part| fs::openat(&folder, part, FOLDER, Mode::empty()))
    }

    /// The last name of a path, in its folder.
    pub(crate) fn spot<'a>(&self, path: &'a [u8]) -> std::result::Result<Spot<'a>, Errno> {
        let (above, name) = split(path);
        Ok(Spot { folder: self.folder(above)?, name })
    }
}

/// A path's folder and its last name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

impl Spot<'_> {
    /// What stands there, links not followed; `None` for nothing.
    pub(crate) fn stat(&self) -> std::result::Result<Option<Stat>, Errno> {
        match fs::statat(&self.folder, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn open(&self, flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        fs::openat(&self.folder, self.name, flags, Mode::RUSR | Mode::WUSR)
    }

    /// Removes what is no folder.
    pub(crate) fn unlink(&self) -> std::result::Result<(), Errno> {
        fs::unlinkat(&self.folder, self.name, AtFlags::empty())
    }
}

/// The names in a folder.
pub(crate) fn names_in(folder: BorrowedFd<'_>) -> std::result::Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

pub(crate) fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Removes an entry and all below it; crosses into no other file system and follows no link. Depth is bounded by the
/// folders that are open at a time.
pub(crate) fn remove_all(folder: BorrowedFd<'_>, name: &[u8], depth: usize) -> std::result::Result<(), Errno> {
    let stat = fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if kind_of(&stat) != FileType::Directory {
        return fs::unlinkat(folder, name, AtFlags::empty());
    }
    if depth == 0 || stat.st_dev != fs::fstat(folder)?.st_dev {
        return Err(Errno::XDEV);
    }
    let inner = fs::openat(folder, name, FOLDER, Mode::empty())?;
    for name in names_in(inner.as_fd())? {
        remove_all(inner.as_fd(), &name, depth - 1)?;
    }
    drop(inner);
    fs::unlinkat(folder, name, AtFlags::REMOVEDIR)
}

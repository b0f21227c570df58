//! A vault in a folder of this machine: restic's default layout.
//!
//! ```text
//! config  keys/ID  locks/ID  snapshots/ID  index/ID  data/XX/ID     XX: the first two digits of ID
//! ```
//! Folders are made 0700, files 0400. No symbolic link inside the vault is followed: whoever may write into its folder
//! shall not choose where else we read or write. The folder itself may be named through one.
//!
//! A file comes into being without a name, is written and made durable, and only then linked under its name, which fails
//! if the name is taken. File systems that cannot do this get a temporary name `ID-tmp-RANDOM`, which no listing shows.

use super::{FileKind, Listed, Name, Storage, length_of};
use crate::error::{Error, Result};
use crate::id::Id;
use rustix::fs::{self, AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const FOLDER_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::RUSR;
const FOLDER_FLAGS: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Not blocking: somebody may have put a fifo in the place of a file.
const READ_FLAGS: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// A vault's folder.
#[derive(Debug)]
pub struct LocalStorage {
    path: PathBuf,
    root: OwnedFd,
}

impl LocalStorage {
    /// The vault in this folder, which must exist.
    ///
    /// # Errors
    /// [`Error::NoVault`] without such a folder; [`Error::Unsupported`] when it has restic's old `s3legacy` layout; those of
    /// the operating system.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::openat(CWD, path, flags, Mode::empty()).map_err(|error| match error {
            Errno::NOENT | Errno::NOTDIR => Error::NoVault {
                place: path.display().to_string(),
                why: "there is no such folder; `kobj vault init` makes a new vault".to_string(),
            },
            error => Error::io("open", path.display(), error),
        })?;
        let storage = Self { path: path.to_path_buf(), root };
        storage.refuse_old_layout()?;
        Ok(storage)
    }

    /// The vault in this folder; the folder (not those above it) is made when it is missing.
    ///
    /// # Errors
    /// Those of [`LocalStorage::open`].
    pub fn create(path: &Path) -> Result<Self> {
        match fs::mkdirat(CWD, path, FOLDER_MODE) {
            Ok(()) | Err(Errno::EXIST) => Self::open(path),
            Err(error) => Err(Error::io("create", path.display(), error)),
        }
    }

    /// The old layout calls its folders `key`, `snapshot`, `lock`; `data` is without subfolders.
    fn refuse_old_layout(&self) -> Result<()> {
        let there = |name| fs::statat(&self.root, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        if there("key") && !there("keys") {
            let why =
                "this is restic's old layout s3legacy; `restic migrate s3_layout` brings it to the default layout";
            return Err(Error::unsupported(self.path.display(), why));
        }
        Ok(())
    }

    fn object(&self, name: &Name) -> String {
        match name.kind {
            FileKind::Config => self.path.join("config").display().to_string(),
            kind => format!("{}/{}/{}", self.path.display(), folder_of(kind, &name.id), name.id),
        }
    }

    /// A folder, opened component by component so that no link is followed.
    fn folder(&self, path: &str) -> std::result::Result<OwnedFd, Errno> {
        path.split('/')
            .filter(|part| !part.is_empty())
            .try_fold(self.root()?, |folder, part| fs::openat(&folder, part, FOLDER_FLAGS, Mode::empty()))
    }

    fn root(&self) -> std::result::Result<OwnedFd, Errno> {
        rustix::io::fcntl_dupfd_cloexec(&self.root, 0)
    }

    /// The folder that a file belongs to, made when it is missing.
    fn folder_for_writing(&self, name: &Name) -> Result<OwnedFd> {
        let path = folder_of(name.kind, &name.id);
        match self.folder(&path) {
            Err(Errno::NOENT) => {
                self.make_folder(&path)?;
                self.folder(&path).map_err(|error| Error::io("open", self.object(name), error))
            }
            other => other.map_err(|error| Error::io("open the folder of", self.object(name), error)),
        }
    }

    fn make_folder(&self, path: &str) -> Result<()> {
        let failed = |error| Error::io("create", self.path.join(path).display(), error);
        let mut folder = self.root().map_err(failed)?;
        for part in path.split('/') {
            match fs::mkdirat(&folder, part, FOLDER_MODE) {
                Ok(()) => fs::fsync(&folder).map_err(failed)?,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failed(error)),
            }
            folder = fs::openat(&folder, part, FOLDER_FLAGS, Mode::empty()).map_err(failed)?;
        }
        Ok(())
    }

    /// A file, open for reading, and its size.
    fn open_file(&self, name: &Name) -> Result<(File, u64)> {
        let failed = |error| match error {
            Errno::NOENT => Error::Missing { name: *name },
            error => Error::io("open", self.object(name), error),
        };
        let folder = self.folder(&folder_of(name.kind, &name.id)).map_err(failed)?;
        let file = fs::openat(&folder, file_name(name), READ_FLAGS, Mode::empty()).map_err(failed)?;
        let stat = fs::fstat(&file).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::damaged(self.object(name), "it is no regular file"));
        }
        Ok((File::from(file), u64::try_from(stat.st_size).unwrap_or(0)))
    }

    fn list_folder(&self, kind: FileKind, path: &str, each: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        let failed = |error| Error::io("list", self.path.join(path).display(), error);
        let folder = match self.folder(path) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        for entry in Dir::read_from(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Some(id) = entry.file_name().to_str().ok().and_then(|name| name.parse::<Id>().ok()) else { continue };
            // A pack in the wrong folder would never be found by its name.
            if kind == FileKind::Pack && folder_of(kind, &id) != path {
                continue;
            }
            let stat = match fs::statat(&folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // Removed since it was listed.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(failed(error)),
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                each(Listed { id, size_bytes: u64::try_from(stat.st_size).unwrap_or(0) })?;
            }
        }
        Ok(())
    }
}

fn folder_of(kind: FileKind, id: &Id) -> String {
    match kind {
        FileKind::Pack => format!("data/{:02x}", id.as_bytes()[0]),
        kind => kind.folder().to_string(),
    }
}

fn file_name(name: &Name) -> String {
    match name.kind {
        FileKind::Config => "config".to_string(),
        _ => name.id.to_string(),
    }
}

/// Fills a file and makes it durable; its name is not.
fn fill(file: OwnedFd, bytes: &[u8]) -> std::result::Result<OwnedFd, std::io::Error> {
    let file = File::from(file);
    file.write_all_at(bytes, 0)?;
    fs::fchmod(&file, FILE_MODE)?;
    fs::fsync(&file)?;
    Ok(file.into())
}

/// Whether the file system can make a file without a name and give it one later.
enum Unnamed {
    Done,
    Impossible,
}

/// Writes by a file without a name: nothing is left of it if we die.
fn write_unnamed(
    folder: BorrowedFd<'_>,
    file_name: &str,
    bytes: &[u8],
) -> std::result::Result<Unnamed, std::io::Error> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = match fs::openat(folder, ".", flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => file,
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => return Ok(Unnamed::Impossible),
        Err(error) => return Err(error.into()),
    };
    let file = fill(file, bytes)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    match fs::linkat(CWD, path, folder, file_name, AtFlags::SYMLINK_FOLLOW) {
        Ok(()) => Ok(Unnamed::Done),
        // Without /proc, or where files cannot be linked.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::OPNOTSUPP | Errno::PERM | Errno::XDEV | Errno::MLINK) => {
            Ok(Unnamed::Impossible)
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes under a temporary name, which is then moved to the right one unless that is taken.
fn write_temporary(folder: BorrowedFd<'_>, file_name: &str, bytes: &[u8]) -> std::result::Result<(), std::io::Error> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(std::io::Error::other)?;
    let temporary = format!("{file_name}-tmp-{:016x}", u64::from_le_bytes(random));
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = fs::openat(folder, &temporary, flags, Mode::RUSR | Mode::WUSR)?;
    let moved = fill(file, bytes).and_then(|_file| move_unless_taken(folder, &temporary, file_name));
    if moved.is_err() {
        // Nothing more can be done about it; no listing shows the name.
        let _ = fs::unlinkat(folder, &temporary, AtFlags::empty());
    }
    moved
}

fn move_unless_taken(folder: BorrowedFd<'_>, from: &str, to: &str) -> std::result::Result<(), std::io::Error> {
    match fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
        // The file system or the kernel does not know the flag.
        Err(Errno::INVAL | Errno::NOSYS) => {
            fs::linkat(folder, from, folder, to, AtFlags::empty())?;
            fs::unlinkat(folder, from, AtFlags::empty())?;
            Ok(())
        }
        other => Ok(other?),
    }
}

impl Storage for LocalStorage {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn prepare(&self) -> Result<()> {
        for kind in FileKind::ALL.into_iter().filter(|kind| *kind != FileKind::Config) {
            self.make_folder(kind.folder())?;
        }
        (0..=u8::MAX).try_for_each(|first| self.make_folder(&format!("data/{first:02x}")))
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        match kind {
            FileKind::Config => Ok(()),
            FileKind::Pack => {
                (0..=u8::MAX).try_for_each(|first| self.list_folder(kind, &format!("data/{first:02x}"), each))
            }
            kind => self.list_folder(kind, kind.folder(), each),
        }
    }

    fn size(&self, name: &Name) -> Result<u64> {
        self.open_file(name).map(|(_, size_bytes)| size_bytes)
    }

    fn read(&self, name: &Name, range: Range<u64>, into: &mut Vec<u8>) -> Result<()> {
        let (file, size_bytes) = self.open_file(name)?;
        let length = length_of(&range)
            .filter(|_| range.end <= size_bytes)
            .ok_or_else(|| Error::damaged(name, format_args!("it ends at byte {size_bytes}")))?;
        let before = into.len();
        into.resize(before + length, 0);
        file.read_exact_at(&mut into[before..], range.start).map_err(|error| {
            into.truncate(before);
            Error::io("read", self.object(name), error)
        })
    }

    fn write(&self, name: &Name, bytes: &[u8]) -> Result<()> {
        let folder = self.folder_for_writing(name)?;
        let file_name = file_name(name);
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Error::Exists { name: *name },
            _ => Error::io("write", self.object(name), error),
        };
        match write_unnamed(folder.as_fd(), &file_name, bytes).map_err(failed)? {
            Unnamed::Done => {}
            Unnamed::Impossible => write_temporary(folder.as_fd(), &file_name, bytes).map_err(failed)?,
        }
        fs::fsync(&folder).map_err(|error| Error::io("write", self.object(name), error))
    }

    fn remove(&self, name: &Name) -> Result<()> {
        let failed = |error| match error {
            Errno::NOENT => Error::Missing { name: *name },
            error => Error::io("remove", self.object(name), error),
        };
        let folder = self.folder(&folder_of(name.kind, &name.id)).map_err(failed)?;
        fs::unlinkat(&folder, file_name(name), AtFlags::empty()).map_err(failed)?;
        fs::fsync(&folder).map_err(failed)
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;

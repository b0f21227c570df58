//! Reading folders as the kernel gives them: names with inode numbers and types, no look at each entry.

use rustix::fs::{FileType, Mode, OFlags, RawDir};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// One entry of a folder.
pub(crate) struct Entry<'e> {
    /// Its name.
    pub(crate) name: &'e OsStr,
    /// The inode number as the folder has it (of what lies under a mount point, not of what is mounted there).
    pub(crate) inode: u64,
    /// Its type; `FileType::Unknown` where the folder does not say.
    pub(crate) kind: FileType,
}

/// Space for one read of a folder.
const BUFFER_BYTES: usize = 32 * 1024;

/// Opens a folder for listing, its last name not followed if it is a link.
pub(crate) fn open_at(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(folder, name, flags(), Mode::empty())?)
}

/// Opens a folder for listing by its path.
pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, flags(), Mode::empty())?)
}

fn flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK
}

/// Calls `each` for every entry but `.` and `..`, until it breaks.
pub(crate) fn each(
    folder: impl AsFd,
    mut each: impl FnMut(Entry<'_>) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let mut buffer: Box<[MaybeUninit<u8>]> = Box::new_uninit_slice(BUFFER_BYTES);
    let mut reader = RawDir::new(folder, &mut buffer);
    while let Some(entry) = reader.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let entry = Entry { name: OsStr::from_bytes(name), inode: entry.ino(), kind: entry.file_type() };
        if each(entry).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

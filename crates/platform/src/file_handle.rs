//! File handles: `name_to_handle_at` and `open_by_handle_at`, which `rustix` lacks.

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ffi::CStr;
use std::io;

/// The longest handle the kernel gives, in bytes.
pub const HANDLE_BYTES_MAX: usize = 128;

/// The kernel's `struct file_handle` with room for the longest handle.
#[repr(C)]
struct Buffer {
    bytes: u32,
    kind: i32,
    handle: [u8; HANDLE_BYTES_MAX],
}

/// A handle as the kernel gives it: inode and generation in the file system's own form.
#[derive(Clone, Copy, Debug)]
pub struct RawHandle {
    /// The file system's type of handle.
    pub kind: i32,
    length: usize,
    bytes: [u8; HANDLE_BYTES_MAX],
}

impl RawHandle {
    /// The handle's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }
}

/// Ask for a handle that only tells objects apart (`AT_HANDLE_FID`, since Linux 6.5).
const ONLY_TELLS_APART: libc::c_int = 0x200;

/// The handle of `name` in `folder`, symbolic links not followed; with an empty name, of `folder` itself.
///
/// # Errors
/// As the kernel says; `EOPNOTSUPP` where the file system has none.
pub fn handle_at(folder: BorrowedFd<'_>, name: &CStr) -> io::Result<RawHandle> {
    ask(folder, name, 0)
}

/// The same on file systems whose handles cannot be opened: what file events name their objects by.
///
/// # Errors
/// As the kernel says; `EINVAL` before Linux 6.5.
pub fn event_handle_at(folder: BorrowedFd<'_>, name: &CStr) -> io::Result<RawHandle> {
    ask(folder, name, ONLY_TELLS_APART)
}

fn ask(folder: BorrowedFd<'_>, name: &CStr, flags: libc::c_int) -> io::Result<RawHandle> {
    let mut buffer = Buffer { bytes: HANDLE_BYTES_MAX as u32, kind: 0, handle: [0; HANDLE_BYTES_MAX] };
    let mut mount: libc::c_int = 0;
    let flags = if name.is_empty() { flags | libc::AT_EMPTY_PATH } else { flags };
    // SAFETY: duty: `name` ends in NUL, the buffer has the header and as many bytes as its first field says, `mount` can
    // be written. Held by the types above, which live past the call; would break if `bytes` said more than the array has.
    let result = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            folder.as_raw_fd(),
            name.as_ptr(),
            &raw mut buffer,
            &raw mut mount,
            flags,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let length = (buffer.bytes as usize).min(HANDLE_BYTES_MAX);
    Ok(RawHandle { kind: buffer.kind, length, bytes: buffer.handle })
}

/// Opens the object of a handle for reading its path and attributes (`O_PATH`); needs the right to read every folder.
///
/// `mount` is an open file or folder (not `O_PATH`) on the file system of the handle.
///
/// # Errors
/// As the kernel says; `ESTALE` if the object is gone, `EINVAL` if the handle is too long.
pub fn open_handle(mount: BorrowedFd<'_>, kind: i32, bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut buffer = Buffer { bytes: bytes.len() as u32, kind, handle: [0; HANDLE_BYTES_MAX] };
    let room = buffer.handle.get_mut(..bytes.len()).ok_or(io::ErrorKind::InvalidInput)?;
    room.copy_from_slice(bytes);
    let flags = libc::O_PATH | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    // SAFETY: duty: the buffer has the header and as many bytes as its first field says. Held by the check above; the
    // kernel only reads it. Would break if `bytes` were set to more than the array holds.
    let result = unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), &raw mut buffer, flags) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let raw = libc::c_int::try_from(result).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: duty: `raw` is an open descriptor that nobody else owns. The kernel has just made it for this call; would
    // break if the number were used anywhere else.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags};

    #[test]
    fn a_handle_names_the_file_and_not_its_successor() {
        let folder = rustix::fs::open("/dev/shm", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("/dev/shm");
        let path = format!("/dev/shm/kobj-test-handle-{}", std::process::id());
        let name = std::ffi::CString::new(path.trim_start_matches("/dev/shm/")).expect("name");
        std::fs::write(&path, "1").expect("write");
        let first = handle_at(folder.as_fd(), &name).expect("handle");
        let again = handle_at(folder.as_fd(), &name).expect("handle");
        std::fs::remove_file(&path).expect("remove");
        std::fs::write(&path, "2").expect("write");
        let second = handle_at(folder.as_fd(), &name).expect("handle");
        std::fs::remove_file(&path).expect("remove");
        assert_eq!(first.bytes(), again.bytes());
        assert_ne!(first.bytes(), second.bytes());
        assert!(handle_at(folder.as_fd(), &name).is_err());
    }

    use rustix::fd::AsFd;

    #[test]
    fn a_folder_is_found_again_by_its_handle() {
        let folder = rustix::fs::open("/dev/shm", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("/dev/shm");
        let handle = handle_at(folder.as_fd(), c"").expect("handle");
        match open_handle(folder.as_fd(), handle.kind, handle.bytes()) {
            Ok(found) => {
                let (a, b) = (rustix::fs::fstat(&folder).expect("stat"), rustix::fs::fstat(&found).expect("stat"));
                assert_eq!((a.st_dev, a.st_ino), (b.st_dev, b.st_ino));
            }
            Err(why) => println!("skipped: a_folder_is_found_again_by_its_handle: {why}"),
        }
        assert!(open_handle(folder.as_fd(), 1, &[0; HANDLE_BYTES_MAX + 1]).is_err());
    }
}

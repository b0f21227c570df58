//! Loop devices: what is behind one, and letting go of it.

use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd};

const LOOP_SET_FD: u64 = 0x4c00;
const LOOP_CLR_FD: u64 = 0x4c01;
const LOOP_SET_STATUS64: u64 = 0x4c04;
const LOOP_GET_STATUS64: u64 = 0x4c05;
const LOOP_CTL_GET_FREE: u64 = 0x4c82;
/// The flag by which a device lets go of its file at its last close.
const AUTOCLEAR: u32 = 4;

/// The kernel's `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo {
    device: u64,
    inode: u64,
    node: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encryption: u32,
    key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    encryption_name: [u8; 64],
    key: [u8; 32],
    initial: [u64; 2],
}

const _: () = assert!(size_of::<LoopInfo>() == 232);

const EMPTY: LoopInfo = LoopInfo {
    device: 0,
    inode: 0,
    node: 0,
    offset: 0,
    size_limit: 0,
    number: 0,
    encryption: 0,
    key_size: 0,
    flags: 0,
    file_name: [0; 64],
    encryption_name: [0; 64],
    key: [0; 32],
    initial: [0; 2],
};

/// What is behind a loop device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopStatus {
    /// The backing file's inode.
    pub inode: u64,
    /// Whether the device lets go of its file at its last close.
    pub lets_go_by_itself: bool,
}

fn answer(result: i32) -> rustix::io::Result<i32> {
    if result >= 0 {
        return Ok(result);
    }
    let code = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    Err(Errno::from_raw_os_error(code))
}

fn info(device: impl AsFd) -> rustix::io::Result<LoopInfo> {
    let mut info = EMPTY;
    let pointer = &raw mut info;
    // SAFETY: duty: the pointer must lead to a writable loop_info64. It is a local of the kernel's layout and size (see
    // the assertion). A descriptor that is no loop device gives ENOTTY without writing. Another request would break it.
    answer(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_GET_STATUS64 as _, pointer) })?;
    Ok(info)
}

/// What is behind the loop device.
///
/// # Errors
/// `NXIO`: nothing. `NOTTY`: no loop device.
pub fn status(device: impl AsFd) -> rustix::io::Result<LoopStatus> {
    let info = info(device)?;
    Ok(LoopStatus { inode: info.inode, lets_go_by_itself: info.flags & AUTOCLEAR != 0 })
}

/// Lets go of the backing file: at once if `device` is the only descriptor of it, when that is closed; else when the
/// last of the others is closed.
///
/// # Errors
/// `NXIO`: nothing is behind it. `BUSY` in old kernels: others have it open.
pub fn let_go(device: impl AsFd) -> rustix::io::Result<()> {
    // SAFETY: duty: none, the request takes no pointer. A request that does would break it.
    answer(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_CLR_FD as _, 0) }).map(|_| ())
}

/// Takes back a [`let_go`] that waits for others: the device keeps its file at its last close.
///
/// # Errors
/// `NXIO`: it has let go already. `PERM`: not allowed.
pub fn keep(device: impl AsFd) -> rustix::io::Result<()> {
    let mut info = info(&device)?;
    info.flags &= !AUTOCLEAR;
    let pointer = &raw const info;
    // SAFETY: duty: the pointer must lead to an initialised loop_info64. It is a local that the kernel filled. Another
    // request would break it.
    answer(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_SET_STATUS64 as _, pointer) }).map(|_| ())
}

/// The number of a free loop device, which is made if there is none. `control` is `/dev/loop-control`.
///
/// # Errors
/// What the call said.
pub fn free_number(control: impl AsFd) -> rustix::io::Result<u32> {
    // SAFETY: duty: none, the request takes no pointer. A request that does would break it.
    let number = answer(unsafe { libc::ioctl(control.as_fd().as_raw_fd(), LOOP_CTL_GET_FREE as _, 0) })?;
    u32::try_from(number).map_err(|_| Errno::RANGE)
}

/// Puts `file` behind the loop device.
///
/// # Errors
/// `BUSY`: something is behind it already.
pub fn put_behind(device: impl AsFd, file: impl AsFd) -> rustix::io::Result<()> {
    let file = file.as_fd().as_raw_fd();
    // SAFETY: duty: the argument must be a descriptor, which the borrow keeps open. A pointer request would break it.
    answer(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_SET_FD as _, file) }).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn what_is_no_loop_device_is_refused() {
        let null = File::open("/dev/null").unwrap();
        assert_eq!(status(&null), Err(Errno::NOTTY));
        assert_eq!(let_go(&null), Err(Errno::NOTTY));
        assert_eq!(keep(&null), Err(Errno::NOTTY));
    }
}

//! The system calls of a section and nothing else: what sections are measured against.

use super::map;
use kobj_abi::section::Access;
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;

/// Makes a sealed memory file with its pages, maps all of it, unmaps it and closes it: seven calls.
///
/// # Errors
/// As the kernel says.
pub fn make_map_end(size_bytes: usize) -> Result<(), Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::NOEXEC_SEAL;
    let file = rustix::fs::memfd_create(c"kobj:00000001:00000001", flags)?;
    rustix::fs::ftruncate(&file, size_bytes as u64)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size_bytes as u64)?;
    let start = map(&file, size_bytes, 0, Access::ReadWrite)?;
    // SAFETY: duty: the range must be one that was mapped here, and nobody may use it again. It was mapped above, and nobody
    // else knows it. Giving it out would break it.
    unsafe { rustix::mm::munmap(start.as_ptr().cast(), size_bytes) }
}

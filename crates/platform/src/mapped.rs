//! A file of 64-bit words in a shared mapping: what is stored in it survives the death of its writer without a call.
//!
//! Touching a mapped page for which the file system has no room is death by SIGBUS. So words are handed out only inside
//! ranges that `fallocate` has reserved; growing is asked for, and may be refused.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::FallocateFlags;
use rustix::mm::{MapFlags, ProtFlags};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// Space is reserved in units of this many bytes, a multiple of every page size.
pub const GRANULE: usize = 64 << 10;

/// A file mapped as words.
#[derive(Debug)]
pub struct Mapped {
    file: OwnedFd,
    start: NonNull<AtomicU64>,
    capacity: usize,
    /// One bit a granule: has it been reserved?
    reserved: Vec<u64>,
}

// SAFETY: duty: `start` may be used from any thread. It is memory of the whole process, read and written by atomic
// operations alone, and unmapped only when the owner is dropped. A cache of plain memory beside it would break it.
unsafe impl Send for Mapped {}

impl Mapped {
    /// Maps `file` with room to grow up to `capacity` bytes, rounded up to [`GRANULE`]. Nothing is reserved yet.
    ///
    /// The file must be writable, and nobody else may shorten it: that is death by SIGBUS (its folder must be ours alone).
    ///
    /// # Errors
    /// As the kernel says, or `InvalidInput` for a capacity of 0.
    pub fn new(file: OwnedFd, capacity: usize) -> io::Result<Self> {
        let capacity = capacity.checked_next_multiple_of(GRANULE).filter(|bytes| *bytes > 0);
        let capacity = capacity.ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: duty: no memory of this process may be replaced. With a null hint and no MAP_FIXED the kernel chooses
        // a free range. MAP_FIXED would break it.
        let start =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), capacity, protection, MapFlags::SHARED, &file, 0)? };
        // Each page is new: to read the next ones ahead, empty as they are, takes longer than all the rest. Only a hint.
        // SAFETY: duty: a range that is mapped and stays as it is for others. It was mapped above, and this advice changes
        // no content. Another advice (MADV_DONTNEED) would break it.
        let _ = unsafe { rustix::mm::madvise(start, capacity, rustix::mm::Advice::Random) };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { file, start, capacity, reserved: vec![0; (capacity / GRANULE).div_ceil(64)] })
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Reserves the granules that hold `length` bytes from `offset`; those reserved before cost nothing.
    ///
    /// # Errors
    /// No space, or the file system cannot reserve; what was reserved before stays usable.
    pub fn reserve(&mut self, offset: usize, length: usize) -> io::Result<()> {
        let end = offset.checked_add(length).filter(|end| *end <= self.capacity).ok_or(io::ErrorKind::InvalidInput)?;
        for granule in offset / GRANULE..end.div_ceil(GRANULE) {
            if self.is_reserved(granule) {
                continue;
            }
            let from = (granule * GRANULE) as u64;
            loop {
                match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), from, GRANULE as u64) {
                    Err(rustix::io::Errno::INTR) => {}
                    other => break other?,
                }
            }
            self.reserved[granule / 64] |= 1 << (granule % 64);
        }
        Ok(())
    }

    /// The `count` words from byte `offset`; `None` unless aligned and reserved.
    #[must_use]
    pub fn words(&self, offset: usize, count: usize) -> Option<&[AtomicU64]> {
        let end = offset.checked_add(count.checked_mul(8)?)?;
        let granules = offset / GRANULE..end.div_ceil(GRANULE);
        if !offset.is_multiple_of(8) || end > self.capacity || !granules.into_iter().all(|g| self.is_reserved(g)) {
            return None;
        }
        // SAFETY: duty: the result must stay inside the mapping. `offset <= end <= capacity` was checked above. A capacity
        // that grew without a new mapping would break it.
        let first = unsafe { self.start.byte_add(offset) };
        // SAFETY: duty: aligned words that live as long as the borrow, shared only atomically. The mapping is page
        // aligned and `offset` a multiple of 8; it lives until drop; every granule was reserved, so a touch finds room.
        // It would break if another process shortened the file (the folder is ours alone).
        Some(unsafe { std::slice::from_raw_parts(first.as_ptr(), count) })
    }

    fn is_reserved(&self, granule: usize) -> bool {
        self.reserved.get(granule / 64).is_some_and(|bits| bits >> (granule % 64) & 1 == 1)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: duty: nobody uses the memory afterwards. Every slice borrows `self`, which is going away. A slice that
        // lived longer would break it.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.capacity) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    fn file() -> OwnedFd {
        rustix::fs::memfd_create("kobj-test-mapped", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd")
    }

    #[test]
    fn words_are_given_only_where_room_was_reserved() {
        let mut mapped = Mapped::new(file(), 1 << 30).expect("map");
        assert!(mapped.words(0, 1).is_none());
        mapped.reserve(0, 1).expect("reserve");
        mapped.reserve(5 * GRANULE + 8, 16).expect("reserve");
        assert_eq!(mapped.words(0, GRANULE / 8).map(<[_]>::len), Some(GRANULE / 8));
        assert!(mapped.words(0, GRANULE / 8 + 1).is_none());
        assert!(mapped.words(4, 1).is_none());
        assert!(mapped.words(usize::MAX - 7, 2).is_none());
        assert!(mapped.reserve(1 << 30, 1).is_err());
        mapped.words(5 * GRANULE, 1).expect("reserved")[0].store(7, Ordering::Release);
        let mut seen = [0; 8];
        rustix::io::pread(mapped.file(), &mut seen, 5 * GRANULE as u64).expect("read");
        assert_eq!(u64::from_ne_bytes(seen), 7);
    }

    #[test]
    fn a_full_file_system_refuses_and_does_not_kill() {
        use rustix::fs::SealFlags;
        let flags = rustix::fs::MemfdFlags::CLOEXEC | rustix::fs::MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("kobj-test-mapped", flags).expect("memfd");
        // A file that may not grow stands in for a disk that has no room: both refuse the reservation.
        rustix::fs::fcntl_add_seals(&file, SealFlags::GROW).expect("seal");
        let mut mapped = Mapped::new(file, GRANULE).expect("map");
        assert!(mapped.reserve(0, 8).is_err());
        assert!(mapped.words(0, 1).is_none());
    }
}

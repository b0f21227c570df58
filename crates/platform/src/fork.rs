//! Telling a process from a child that was forked off it, without a system call.

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// A page that the kernel empties in a forked child (`MADV_WIPEONFORK`, Linux 4.14).
///
/// What threads share under a lock is of no use in a child: the lock may be held for ever by a thread that was not copied.
#[derive(Debug)]
pub struct ForkMark {
    page: NonNull<AtomicU32>,
}

const PAGE_BYTES: usize = 4096;

// SAFETY: duty: threads that share it must not race. All that is done with the page is a load of an atomic word, and one
// store before it is shared. Handing out the pointer would break it.
unsafe impl Sync for ForkMark {}
// SAFETY: duty: another thread may drop it. Unmapping is any thread's to do. A thread-bound mapping would break it.
unsafe impl Send for ForkMark {}

impl ForkMark {
    /// A mark of the calling process.
    ///
    /// # Errors
    /// There is no memory, or too many mappings; the kernel is older than 4.14 (`EINVAL`).
    pub fn new() -> std::io::Result<Self> {
        let flags = MapFlags::PRIVATE;
        // SAFETY: duty: the mapping must replace nobody's. No address is asked for, so the kernel finds a free one; asking for
        // a fixed one would break it.
        let page =
            unsafe { mmap_anonymous(std::ptr::null_mut(), PAGE_BYTES, ProtFlags::READ | ProtFlags::WRITE, flags) }?;
        let mark = Self { page: NonNull::new(page.cast()).ok_or(Errno::NOMEM)? };
        // SAFETY: duty: the advice must not take memory away that somebody uses. The page was just mapped and is ours alone;
        // it is emptied in children, which is wanted. Another range would break it.
        unsafe { madvise(page, PAGE_BYTES, Advice::LinuxWipeOnFork) }?;
        mark.word().store(1, Ordering::Relaxed);
        Ok(mark)
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: duty: the word must be mapped and aligned for as long as it is borrowed. The page is unmapped by the drop
        // alone, and pages are aligned to more than four bytes. Unmapping it earlier would break it.
        unsafe { self.page.as_ref() }
    }

    /// Whether this is a child of the process that made the mark.
    #[inline]
    #[must_use]
    pub fn is_child(&self) -> bool {
        // Relaxed: it changes by a fork alone, and then before the child runs.
        self.word().load(Ordering::Relaxed) == 0
    }
}

impl Drop for ForkMark {
    fn drop(&mut self) {
        // SAFETY: duty: nobody may use the page any more. Borrows of it end before the drop, and it was mapped with that
        // length. A second unmapping, or another length, would break it.
        let _unmapped = unsafe { munmap(self.page.as_ptr().cast(), PAGE_BYTES) };
    }
}

/// Runs something in a forked child and waits for its end: for tests of what a child may do.
///
/// What it runs must be content with one thread: locks that other threads hold at that instant stay locked.
///
/// # Errors
/// No child could be made, or it did not end by itself.
pub fn in_a_child(action: impl FnOnce()) -> std::io::Result<()> {
    // SAFETY: duty: the child of a process with threads may do little. The caller says that what runs is content with one
    // thread. Other threads that hold the allocator's lock would break it.
    let child = unsafe { libc::fork() };
    if child == 0 {
        action();
        // SAFETY: duty: none; it ends the child without the parent's destructors. Returning from here would break it.
        unsafe { libc::_exit(0) };
    }
    if child < 0 {
        return Err(std::io::Error::last_os_error());
    }
    let mut status = 0;
    // SAFETY: duty: the status must be writable. It is a local variable. A dangling pointer would break it.
    let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
    if ended == child && status == 0 { Ok(()) } else { Err(std::io::Error::other("the child did not end by itself")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forked_child_is_told_apart_and_its_parent_is_not() {
        let mark = ForkMark::new().unwrap();
        assert!(!mark.is_child());
        // A page of anonymous memory would be a copy: the child says what it saw by how it ends.
        let seen = in_a_child(|| {
            if !mark.is_child() {
                std::process::abort();
            }
        });
        assert!(seen.is_ok(), "{seen:?}");
        assert!(!mark.is_child());
    }
}

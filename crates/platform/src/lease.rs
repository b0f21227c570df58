//! Write leases: the kernel's own answer to "has anybody this file open or mapped?", and the signal that comes with them.

use crate::mask;
use crate::startup::SignalSet;
use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

// fcntl commands and constants of linux/fcntl.h that the libc crate does not name on every target.
const F_SETLEASE: c_int = 1024;
const F_GETLEASE: c_int = 1025;
const F_SETOWN_EX: c_int = 15;
const F_OWNER_TID: c_int = 0;

#[repr(C)]
struct FileOwner {
    kind: c_int,
    id: libc::pid_t,
}

/// While this lives, SIGIO is blocked in the calling thread; one that came meanwhile is swallowed at its end.
///
/// The default action of SIGIO is death, and a racing open of a leased file sends it.
#[derive(Debug)]
#[must_use]
pub struct SigioBlocked {
    was_blocked: bool,
    // The mask belongs to the thread that set it.
    thread: std::marker::PhantomData<*const ()>,
}

fn only_sigio() -> SignalSet {
    SignalSet::of(&[libc::SIGIO])
}

impl SigioBlocked {
    /// Blocks SIGIO in this thread.
    pub fn new() -> Self {
        // It cannot fail: the way of changing is a right one. If it did, nothing was blocked.
        let before = mask::change(libc::SIG_BLOCK, only_sigio()).unwrap_or(SignalSet(0));
        let was_blocked = before.contains(libc::SIGIO);
        Self { was_blocked, thread: std::marker::PhantomData }
    }
}

impl Default for SigioBlocked {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for SigioBlocked {
    fn drop(&mut self) {
        if self.was_blocked {
            return;
        }
        let set = mask::in_c(only_sigio());
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            // SAFETY: reads two live values of this frame and, given a null info, writes nothing. Broken if they moved.
            let taken = unsafe { libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const now) };
            if taken != libc::SIGIO {
                break;
            }
        }
        let _ = mask::change(libc::SIG_UNBLOCK, only_sigio());
    }
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Takes the write lease of an open regular file: granted only if this descriptor is the file's only opening.
///
/// `EAGAIN`: somebody else has it open or mapped. `EACCES`: neither owner nor CAP_LEASE. `EINVAL`: no such thing on that
/// file system. The lease goes with the descriptor. Taking the [`SigioBlocked`] proves that its signal cannot kill; the
/// signal is sent to this thread alone, so that no other thread of the process has to block it.
pub fn take_write_lease(file: BorrowedFd<'_>, _blocked: &SigioBlocked) -> io::Result<()> {
    // SAFETY: gettid takes no arguments and touches no memory. Broken by nothing.
    let id = unsafe { libc::gettid() };
    let owner = FileOwner { kind: F_OWNER_TID, id };
    // SAFETY: F_SETOWN_EX reads a struct f_owner_ex; `owner` has its layout and lives here. Broken if the layout changed.
    check(unsafe { libc::fcntl(file.as_raw_fd(), F_SETOWN_EX, &raw const owner) })?;
    // SAFETY: F_SETLEASE takes an int and touches no memory of ours. Broken by nothing.
    check(unsafe { libc::fcntl(file.as_raw_fd(), F_SETLEASE, libc::F_WRLCK as c_int) })?;
    Ok(())
}

/// Asks for a write lease that is held already once more: refused with `EAGAIN` as soon as an open of the file has been
/// counted, which is earlier than that open breaks the lease.
pub fn confirm_write_lease(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: F_SETLEASE takes an int and touches no memory of ours. Broken by nothing; that SIGIO cannot kill was proved
    // when the lease was taken.
    check(unsafe { libc::fcntl(file.as_raw_fd(), F_SETLEASE, libc::F_WRLCK as c_int) })?;
    Ok(())
}

/// Whether the write lease still stands whole: nobody has tried to open the file since it was taken.
pub fn write_lease_stands(file: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: F_GETLEASE takes no argument and touches no memory of ours. Broken by nothing.
    Ok(check(unsafe { libc::fcntl(file.as_raw_fd(), F_GETLEASE) })? == libc::F_WRLCK as c_int)
}

/// Gives a lease back; whoever waits to open the file goes on.
pub fn give_lease_back(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: F_SETLEASE takes an int and touches no memory of ours. Broken by nothing.
    check(unsafe { libc::fcntl(file.as_raw_fd(), F_SETLEASE, libc::F_UNLCK as c_int) })?;
    Ok(())
}

/// Runs `work` with `uid` as this thread's file system user, then returns to the effective one.
///
/// For root without CAP_LEASE (containers), who may lease a file only as its owner. Work must not panic away from here
/// with other threads relying on this one; the user is given back even then.
pub fn as_file_system_user<T>(uid: u32, work: impl FnOnce() -> T) -> T {
    struct Back;
    impl Drop for Back {
        fn drop(&mut self) {
            // SAFETY: geteuid has no arguments and cannot fail. Broken by nothing.
            let effective = unsafe { libc::geteuid() };
            // SAFETY: setfsuid changes this thread alone and to the user it acts as anyway. Broken by nothing.
            unsafe { libc::setfsuid(effective) };
        }
    }
    let _back = Back;
    // SAFETY: setfsuid changes this thread's file system user and no memory; a refusal leaves it as it was, and the
    // lease is then refused too. Broken if `work` moved to another thread; it runs here.
    unsafe { libc::setfsuid(uid) };
    work()
}

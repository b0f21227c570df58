//! Signals as descriptors: a keeper blocks what it can catch and reads it in its one loop.

use crate::mask;
use crate::startup::SignalSet;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;

/// Signals that stay as they are: not catchable, or raised by the process's own faults.
const NOT_BLOCKED: [c_int; 9] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGSYS,
];

/// A signal as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub signal: c_int,
    /// `si_code`: who sent it.
    pub code: c_int,
    /// The sender's pid, 0 where there is none.
    pub sender: u32,
}

impl Received {
    /// Whether the kernel sent it (a terminal's key, a hang-up), and so sent it to the whole group as well.
    #[must_use]
    pub fn is_from_kernel(self) -> bool {
        self.code == libc::SI_KERNEL
    }
}

/// Every catchable signal, blocked and readable.
#[derive(Debug)]
pub struct Signals {
    descriptor: OwnedFd,
}

impl Signals {
    /// Blocks all catchable signals on this thread and opens the descriptor that delivers them.
    ///
    /// SIGCHLD gets its default action, since where it is ignored the kernel throws wait statuses away.
    /// To be called before any other thread starts.
    ///
    /// # Errors
    /// The descriptor could not be made (no free descriptor).
    pub fn take() -> io::Result<Self> {
        set_default(libc::SIGCHLD)?;
        let all = SignalSet(!SignalSet::of(&NOT_BLOCKED).0);
        mask::change(libc::SIG_SETMASK, all)?;
        let set = mask::in_c(all);
        // SAFETY: duty: an initialised set, which the kernel only reads; -1 asks for a new descriptor. It is a local that
        // lives past the call. A descriptor of somebody else's instead of -1 would break it.
        let raw = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: duty: an open descriptor that nobody else owns. The kernel has just made it for this call. Another use of
        // the number would break it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Self { descriptor })
    }

    /// The next pending signal, if there is one.
    ///
    /// # Errors
    /// Reading failed for another reason than "nothing there".
    pub fn next(&self) -> io::Result<Option<Received>> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: duty: room for `size` bytes. The buffer is a record of that size. A larger size would break it.
        let got = unsafe { libc::read(self.descriptor.as_raw_fd(), info.as_mut_ptr().cast(), size) };
        if got < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        }
        // SAFETY: duty: an initialised value. It began as zeroes, and any bytes are valid for plain integers. A reference in
        // it would break it.
        let info = unsafe { info.assume_init() };
        Ok((got as usize == size).then_some(Received {
            signal: info.ssi_signo as c_int,
            code: info.ssi_code,
            sender: info.ssi_pid,
        }))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

pub(crate) fn set_default(signal: c_int) -> io::Result<()> {
    // SAFETY: duty: a disposition that may run at any time. SIG_DFL installs no code. A function of ours would break it.
    let before = unsafe { libc::signal(signal, libc::SIG_DFL) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sends any signal, real-time ones too, to the process that `pidfd` refers to.
///
/// # Errors
/// It has ended (`ESRCH`), may not be signalled (`EPERM`), or the number is no signal (`EINVAL`).
pub fn send_to(pidfd: BorrowedFd<'_>, signal: c_int) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: duty: a siginfo or null, which asks for the information that kill would give. It is null. A pointer to
    // anything else would break it.
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives `signal` its default action, unblocks it and sends it to this process.
///
/// For stopping as a command stopped, and for ending as it ended. Returns when the process goes on afterwards (it was
/// continued, or the kernel ignores a stop signal in an orphaned group); the signal is blocked again then.
///
/// # Errors
/// The disposition could not be set (an invalid number).
pub fn raise_default(signal: c_int) -> io::Result<()> {
    // These two have nothing but their default action, and refuse to be given it.
    if !matches!(signal, libc::SIGKILL | libc::SIGSTOP) {
        set_default(signal)?;
    }
    // SAFETY: duty: none, it only asks. The number cannot change while we run; nothing would break it.
    let own = unsafe { libc::getpid() };
    // SAFETY: duty: whatever the signal does may happen now. It is sent to ourselves and blocked until the next line, and
    // its disposition is the default. A handler of ours would break it.
    unsafe { libc::kill(own, signal) };
    // The pending signal is delivered before this returns.
    let one = SignalSet::of(&[signal]);
    mask::change(libc::SIG_UNBLOCK, one)?;
    mask::change(libc::SIG_BLOCK, one)?;
    Ok(())
}

/// Ends this process by `signal`, as its command ended, without a core file. Returns only if the signal did not end it.
pub fn die_by(signal: c_int) {
    let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: duty: a limit to read. It is a local; a refusal is harmless, since the flag below is the second guard. A
    // pointer to anything else would break it.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core) };
    // SAFETY: duty: none, this request takes integers; it clears the dumpable flag, so that a piped core pattern gets
    // nothing either. A request with a pointer would break it.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    let _ = raise_default(signal);
}

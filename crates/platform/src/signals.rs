//! Signals as descriptors: a keeper blocks what it can catch and reads it in its one loop.

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
        let set = all_but(&NOT_BLOCKED);
        // SAFETY: `set` is an initialised sigset; a null old set is allowed.
        let error = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        // SAFETY: `set` is an initialised sigset; -1 asks for a new descriptor.
        let raw = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: signalfd just returned this descriptor and nobody else owns it.
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
        // SAFETY: the buffer is valid for `size` bytes; the kernel writes whole records only.
        let got = unsafe { libc::read(self.descriptor.as_raw_fd(), info.as_mut_ptr().cast(), size) };
        if got < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        }
        // SAFETY: plain integers: any bytes, the zeroed ones too, are a valid record.
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

/// The calling thread's mask, bit n-1 for signal n.
pub(crate) fn current_mask() -> u64 {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: a null new set only asks; `set` is valid for the write of one sigset.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), set.as_mut_ptr()) };
    let mut mask = 0;
    for signal in 1..=crate::startup::SIGNAL_MAX {
        // SAFETY: the set is initialised (zeroed at least) and `signal` is in range.
        if unsafe { libc::sigismember(set.as_ptr(), signal) } == 1 {
            mask |= 1 << (signal - 1);
        }
    }
    mask
}

fn all_but(excluded: &[c_int]) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: `set` is valid for the write of one sigset.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    for signal in excluded {
        // SAFETY: the set was initialised above and the number is a real signal.
        unsafe { libc::sigdelset(set.as_mut_ptr(), *signal) };
    }
    // SAFETY: initialised by sigfillset.
    unsafe { set.assume_init() }
}

pub(crate) fn set_default(signal: c_int) -> io::Result<()> {
    // SAFETY: SIG_DFL is a valid disposition for every signal and installs no code.
    let before = unsafe { libc::signal(signal, libc::SIG_DFL) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sends any signal, real-time ones too, to the process that `pidfd` refers to.
///
/// # Errors
/// It has ended (`ESRCH`), may not be signalled (`EPERM`), or the number is no signal (`EINVAL`).
pub fn send_to(pidfd: BorrowedFd<'_>, signal: c_int) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: takes integers and a null pointer, which asks for the same information that kill would give.
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
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: `set` is valid for the write of one sigset.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialised above; an out-of-range number is refused and leaves the set empty.
    unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    // SAFETY: initialised by sigemptyset.
    let set = unsafe { set.assume_init() };
    // SAFETY: no duty, it only asks. The number cannot change while we run.
    let own = unsafe { libc::getpid() };
    // SAFETY: sends a signal to ourselves; blocked until the next line.
    unsafe { libc::kill(own, signal) };
    // SAFETY: `set` is initialised; a null old set is allowed. The pending signal is delivered before this returns.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) };
    // SAFETY: as above.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    Ok(())
}

/// Ends this process by `signal`, as its command ended, without a core file. Returns only if the signal did not end it.
pub fn die_by(signal: c_int) {
    let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is valid for reading; a refusal is harmless (the dumpable flag below is the second guard).
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core) };
    // SAFETY: takes integers only; clears the dumpable flag, so that a piped core pattern gets nothing either.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    let _ = raise_default(signal);
}

//! The calling thread's signal mask, with sets as plain numbers.

use crate::startup::{SIGNAL_MAX, SignalSet};
use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;

/// The set as the C library keeps it. What is no signal, or the C library's own, is left out.
pub(crate) fn in_c(signals: SignalSet) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: duty: room for one sigset. It is a local of that type. A pointer to anything smaller would break it.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in (1..=SIGNAL_MAX).filter(|signal| signals.contains(*signal)) {
        // SAFETY: duty: an initialised set. The call above wrote it; a number that is refused leaves it as it is. Leaving
        // out that call would break it.
        unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    }
    // SAFETY: duty: an initialised value. It began as zeroes, valid for plain integers, and was written above. A reference
    // in it would break it.
    unsafe { set.assume_init() }
}

/// Changes the mask of this thread (`SIG_BLOCK`, `SIG_UNBLOCK` or `SIG_SETMASK`); gives what it was before.
///
/// Only calls that may be made in a signal handler, and so in a child that shares memory.
pub(crate) fn change(how: c_int, signals: SignalSet) -> io::Result<SignalSet> {
    let set = in_c(signals);
    let mut before = in_c(SignalSet(0));
    // SAFETY: duty: two sets, the second one writable. Both are initialised locals that live past the call. Passing one of
    // another thread's frame would break it.
    let error = unsafe { libc::pthread_sigmask(how, &raw const set, &raw mut before) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let mut found = 0;
    for signal in 1..=SIGNAL_MAX {
        // SAFETY: duty: an initialised set. It was one before the call and is one after it. Uninitialised memory in
        // `before` would break it.
        if unsafe { libc::sigismember(&raw const before, signal) } == 1 {
            found |= 1 << (signal - 1);
        }
    }
    Ok(SignalSet(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_changed_and_put_back() {
        let one = SignalSet::of(&[libc::SIGUSR2]);
        let before = change(libc::SIG_BLOCK, one).unwrap();
        let with = change(libc::SIG_BLOCK, SignalSet(0)).unwrap();
        assert_eq!(with.0, before.0 | one.0);
        change(libc::SIG_SETMASK, before).unwrap();
        assert_eq!(change(libc::SIG_BLOCK, SignalSet(0)).unwrap().0, before.0);
        assert!(change(99, one).is_err());
    }
}

//! What this process inherited, recorded before the Rust runtime changes any of it.
//!
//! The runtime ignores SIGPIPE and opens `/dev/null` on closed standard streams before `main`. A keeper must hand to its
//! command what it was given itself, so a function in `.init_array` looks first.

use std::ffi::c_int;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

// Written before `main`, when there is one thread, and only read afterwards: Relaxed is enough.
static IGNORED_SIGNALS: AtomicU64 = AtomicU64::new(0);
static BLOCKED_SIGNALS: AtomicU64 = AtomicU64::new(0);
static CLOSED_STREAMS: AtomicU8 = AtomicU8::new(0);
/// Device and inode of each open descriptor, and how many there were.
static OBJECTS: [[AtomicU64; 2]; OBJECTS_MAX] = [const { [const { AtomicU64::new(0) }; 2] }; OBJECTS_MAX];
static OBJECTS_COUNT: AtomicUsize = AtomicUsize::new(0);

/// The most objects behind inherited descriptors that are remembered.
pub const OBJECTS_MAX: usize = 16;
/// How many numbers of descriptors are looked at; fewer in a process that may not have so many.
const NUMBERS: [usize; 3] = [256, 64, 3];

/// The highest signal number on Linux.
pub const SIGNAL_MAX: c_int = 64;

/// The signals whose disposition this process changes: the runtime ignores SIGPIPE, and waiting needs SIGCHLD's default.
pub const CHANGED: [c_int; 2] = [libc::SIGPIPE, libc::SIGCHLD];

/// A set of signal numbers 1 to 64; bit n-1 stands for signal n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalSet(pub u64);

impl SignalSet {
    /// Those signals; numbers outside 1 to 64 are left out.
    #[must_use]
    pub fn of(signals: &[c_int]) -> Self {
        let known = signals.iter().filter(|signal| (1..=SIGNAL_MAX).contains(*signal));
        Self(known.fold(0, |bits, signal| bits | 1 << (signal - 1)))
    }

    /// Whether `signal` is in the set; false for numbers outside 1 to 64.
    #[must_use]
    pub fn contains(self, signal: c_int) -> bool {
        (1..=SIGNAL_MAX).contains(&signal) && self.0 & (1 << (signal - 1)) != 0
    }
}

/// What the process was given by its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inherited {
    /// Which of the [`CHANGED`] signals were ignored. All others are as they were, here and in what is started from here.
    pub ignored: SignalSet,
    /// The signal mask.
    pub blocked: SignalSet,
    /// Bit n: standard stream n (0 to 2) was closed.
    pub closed_streams: u8,
}

/// What this process inherited. The same answer at any time after start.
#[must_use]
pub fn inherited() -> Inherited {
    Inherited {
        ignored: SignalSet(IGNORED_SIGNALS.load(Ordering::Relaxed)),
        blocked: SignalSet(BLOCKED_SIGNALS.load(Ordering::Relaxed)),
        closed_streams: CLOSED_STREAMS.load(Ordering::Relaxed),
    }
}

/// Device and inode of what this process had open when it was started, by its lowest descriptors: at most [`OBJECTS_MAX`].
#[must_use]
pub fn inherited_objects() -> Vec<(u64, u64)> {
    let known = OBJECTS.iter().take(OBJECTS_COUNT.load(Ordering::Relaxed));
    known.map(|[device, inode]| (device.load(Ordering::Relaxed), inode.load(Ordering::Relaxed))).collect()
}

/// The C library calls this before `main`, and so before the Rust runtime's own start.
// SAFETY: the section holds function pointers that the C library calls once, on the main thread, with argc, argv, envp;
// an extern "C" function that takes fewer arguments may be called so. It calls only async-signal-safe functions and
// touches atomics; it would break if it relied on anything that the Rust runtime sets up.
#[used]
#[unsafe(link_section = ".init_array")]
static RECORD_AT_START: extern "C" fn() = record;

extern "C" fn record() {
    let mut ignored = 0u64;
    for signal in CHANGED {
        if disposition_is_ignore(signal) {
            ignored |= 1 << (signal - 1);
        }
    }
    IGNORED_SIGNALS.store(ignored, Ordering::Relaxed);
    let blocked = crate::mask::change(libc::SIG_BLOCK, SignalSet(0)).map_or(0, |mask| mask.0);
    BLOCKED_SIGNALS.store(blocked, Ordering::Relaxed);
    record_descriptors();
}

/// One call tells which numbers are open; nothing of our own is open yet.
fn record_descriptors() {
    let mut asked = [libc::pollfd { fd: -1, events: 0, revents: 0 }; NUMBERS[0]];
    for (number, entry) in (0..).zip(&mut asked) {
        entry.fd = number;
    }
    let is_answered = |count: &usize| {
        // SAFETY: duty: as many entries as said, valid for writing. The counts are at most the array's length, which is a
        // local. A count above it would break it.
        let answer = unsafe { libc::poll(asked.as_mut_ptr(), *count as libc::nfds_t, 0) };
        answer >= 0
    };
    // More than the process may have is refused.
    let Some(count) = NUMBERS.into_iter().find(is_answered) else { return };
    let is_closed = |entry: &libc::pollfd| entry.revents & libc::POLLNVAL != 0;
    let streams = asked.iter().take(3).enumerate().filter(|(_, entry)| is_closed(entry));
    CLOSED_STREAMS.store(streams.fold(0, |bits, (stream, _)| bits | 1 << stream), Ordering::Relaxed);
    let mut seen = 0;
    for entry in asked[..count].iter().filter(|entry| !is_closed(entry)) {
        let Some(stat) = stat_of(entry.fd) else { continue };
        // The streams are often one terminal.
        let is_known = |[device, inode]: &[AtomicU64; 2]| {
            (device.load(Ordering::Relaxed), inode.load(Ordering::Relaxed)) == (stat.st_dev, stat.st_ino)
        };
        if OBJECTS[..seen].iter().any(is_known) {
            continue;
        }
        let Some([device, inode]) = OBJECTS.get(seen) else { break };
        device.store(stat.st_dev, Ordering::Relaxed);
        inode.store(stat.st_ino, Ordering::Relaxed);
        seen += 1;
    }
    OBJECTS_COUNT.store(seen, Ordering::Relaxed);
}

fn stat_of(descriptor: c_int) -> Option<libc::stat> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: duty: room for one stat. It is a local of that type. A smaller buffer would break it.
    let answer = unsafe { libc::fstat(descriptor, stat.as_mut_ptr()) };
    // SAFETY: duty: an initialised value. It began as zeroes, valid for integers, whether or not the call wrote it. A field
    // that may not be zero would break it.
    let stat = unsafe { stat.assume_init() };
    (answer == 0).then_some(stat)
}

fn disposition_is_ignore(signal: c_int) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: duty: room for one sigaction; the null pointer only asks. It is a local of that type. An action that is not
    // null would install code and break it.
    let answer = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: duty: an initialised value. It began as zeroes, valid for integers and an optional pointer, whether or not
    // the call wrote it. A field that may not be zero would break it.
    let action = unsafe { action.assume_init() };
    answer == 0 && action.sa_sigaction == libc::SIG_IGN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_open_at_the_start_is_remembered() {
        use std::os::unix::fs::MetadataExt;
        let objects = inherited_objects();
        assert!(objects.len() <= OBJECTS_MAX);
        for stream in (0..3).filter(|stream| inherited().closed_streams >> stream & 1 == 0) {
            let found = std::fs::metadata(format!("/proc/self/fd/{stream}")).expect("open");
            assert!(objects.contains(&(found.dev(), found.ino())), "{stream}: {objects:?}");
        }
    }

    #[test]
    fn the_record_was_made_before_main() {
        // The test runner's runtime ignores SIGPIPE by now; what was inherited is what the parent set.
        assert!(!inherited().ignored.contains(libc::SIGKILL));
        assert!(!SignalSet(u64::MAX).contains(0));
        assert!(!SignalSet(u64::MAX).contains(65));
        assert!(SignalSet(1 << 12).contains(libc::SIGPIPE));
    }
}

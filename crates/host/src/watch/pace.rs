//! When descriptors are polled again, so that a busy job pays little for being watched.

use super::look::Looked;
use std::time::{Duration, Instant};

/// How long descriptors rest after a drain that found something.
pub(super) const REST: Duration = Duration::from_millis(2);
/// The same, where the kernel keeps few events for us.
const SHORT_REST: Duration = Duration::from_micros(500);
/// A queue of at least this many bytes is a large one.
const LARGE_QUEUE_BYTES: usize = 2 << 20;
/// How many looks may follow each other at once; more come back one every [`LOOK_EVERY`].
const LOOKS_AT_ONCE: u32 = 16;
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long a file has to stay as it was made before it is looked at by all means.
const SECOND_LOOK: Duration = Duration::from_millis(1);
/// In a storm, how many times as long as it looked inotify rests.
const LOOK_SHARE: u32 = 10;
/// The longest rest: the kernel's queue of 16,384 events lasts 40 ms in the worst storm.
const LONGEST_REST: Duration = Duration::from_millis(10);
/// How long inotify stays deaf in a storm of files that are gone before anyone can look.
const DEAF: Duration = Duration::from_millis(100);
/// Fewer new names than this in one drain are no such storm.
const CHURN_NAMES: usize = 32;
/// Nor is it one if at least one of so many new names is still there, open.
const CHURN_SHARE: usize = 8;

/// When descriptors are polled again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    rests_until: Option<Instant>,
}

impl Pace {
    /// Notes a drain of a queue of that size.
    pub(super) fn after(&mut self, found: bool, now: Instant, queue_bytes: usize) {
        let rest = if queue_bytes >= LARGE_QUEUE_BYTES { REST } else { SHORT_REST };
        self.rests_until = found.then(|| now + rest);
    }

    /// How long it rests still; `None` if it is polled.
    pub(super) fn left(self, now: Instant) -> Option<Duration> {
        self.rests_until.map(|until| until.saturating_duration_since(now))
    }
}

/// The same for looks, which are dear: immediate while they are rare.
#[derive(Clone, Copy, Debug)]
pub(super) struct LookPace {
    pace: Pace,
    looks_left: u32,
    counted_at: Instant,
    again_at: Option<Instant>,
    deaf: bool,
}

impl LookPace {
    pub(super) fn new(now: Instant) -> Self {
        Self { pace: Pace::default(), looks_left: LOOKS_AT_ONCE, counted_at: now, again_at: None, deaf: false }
    }

    /// How long its descriptor rests still; `None` if it is polled.
    pub(super) fn left(self, now: Instant) -> Option<Duration> {
        self.pace.left(now)
    }

    /// How long until a look is due without any event; `None`: never.
    pub(super) fn next(self, now: Instant) -> Option<Duration> {
        self.left(now).or_else(|| self.again_at.map(|at| at.saturating_duration_since(now)))
    }

    /// Whether a look may be taken now.
    pub(super) fn is_due(self, now: Instant) -> bool {
        self.left(now).is_none_or(|left| left.is_zero())
    }

    /// Whether inotify was made deaf and has to be told to listen again.
    pub(super) fn is_deaf(self) -> bool {
        self.deaf
    }

    /// Notes a look that took `cost`; whether inotify is to be deaf until the next one is due.
    pub(super) fn after(&mut self, looked: Looked, cost: Duration, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.counted_at);
        let back = u32::try_from(passed.as_micros() / LOOK_EVERY.as_micros()).unwrap_or(LOOKS_AT_ONCE);
        if back > 0 {
            self.looks_left = self.looks_left.saturating_add(back).min(LOOKS_AT_ONCE);
            self.counted_at = now;
        }
        self.looks_left = self.looks_left.saturating_sub(u32::from(looked.found));
        let storm = looked.found && self.looks_left == 0;
        self.deaf = storm && looked.made >= CHURN_NAMES && looked.open * CHURN_SHARE < looked.made;
        let rest = if self.deaf { DEAF } else { (cost * LOOK_SHARE).clamp(REST, LONGEST_REST) };
        self.pace.rests_until = storm.then(|| now + rest);
        self.again_at = looked.pending.then(|| now + SECOND_LOOK);
        self.deaf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_looks_are_immediate_and_a_storm_of_gone_files_goes_unheard() {
        let begun = Instant::now();
        let mut pace = LookPace::new(begun);
        let (one, kept) = (
            Looked { found: true, made: 1, open: 1, pending: false },
            Looked { found: true, made: 100, open: 100, pending: false },
        );
        let churn = Looked { found: true, made: 100, open: 1, pending: false };
        for n in 0..100 {
            let at = begun + LOOK_EVERY * n;
            assert!(!pace.after(one, REST, at) && pace.is_due(at), "look {n}");
        }
        let at = begun + LOOK_EVERY * 100;
        for _ in 0..LOOKS_AT_ONCE {
            assert!(pace.is_due(at));
            pace.after(kept, REST, at);
        }
        assert!(!pace.is_due(at) && !pace.is_deaf(), "files that stay are looked at, in batches");
        assert_eq!(pace.left(at), Some(LONGEST_REST));
        assert!(pace.after(churn, REST, at + LONGEST_REST) || pace.looks_left > 0);
        for _ in 0..LOOKS_AT_ONCE {
            pace.after(churn, REST, at + LONGEST_REST);
        }
        assert!(pace.is_deaf());
        assert!(!pace.is_due(at + DEAF) && pace.is_due(at + LONGEST_REST + DEAF));
        let later = at + LONGEST_REST + DEAF;
        assert!(!pace.after(Looked::default(), REST, later) && pace.left(later).is_none());
    }
}

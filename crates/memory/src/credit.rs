//! Credit that a thread has in advance, and the owner can call back at any time; counters that one thread writes.

use crate::sync::{AtomicU32, AtomicU64, Ordering, load_32, load_64, store_32, store_64};

/// Nothing more is taken from here.
const CLOSED: u64 = 1 << 63;

/// How [`Credit::take`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Take {
    /// One less.
    Taken,
    /// There is none.
    Empty,
    /// There never will be any more.
    Closed,
}

/// How many more objects, or handles, a thread may make without asking: `[closed 1][credit 63]`.
///
/// Each change is one read-modify-write of the one word, so whatever the order in which the thread takes and the owner
/// calls back, each unit is in exactly one hand. Credit that comes back after closing stays for the owner to call back.
#[derive(Debug, Default)]
pub struct Credit(AtomicU64);

impl Credit {
    /// Takes one.
    ///
    /// Acquire pairs with the release in [`Credit::give`]: who may make an object in place of an ended one sees its end.
    #[inline]
    pub fn take(&self) -> Take {
        let mut now = load_64(&self.0, Ordering::Relaxed);
        loop {
            if now & CLOSED != 0 {
                return Take::Closed;
            }
            if now == 0 {
                return Take::Empty;
            }
            match self.0.compare_exchange_weak(now, now - 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Take::Taken,
                Err(found) => now = found,
            }
        }
    }

    /// Gives one back that was used; `false` if it is closed, and nobody but the owner can use it.
    #[inline]
    pub fn give(&self) -> bool {
        self.0.fetch_add(1, Ordering::Release) & CLOSED == 0
    }

    /// The owner gives more; `false` if it is closed. Then nothing changed.
    pub fn grant(&self, more: u32) -> bool {
        // The owner alone closes, so nobody does between these two.
        if self.is_closed() {
            return false;
        }
        self.0.fetch_add(u64::from(more), Ordering::Release);
        true
    }

    /// The owner takes all that is not used.
    pub fn recall(&self) -> u32 {
        Self::credit(self.0.fetch_and(CLOSED, Ordering::AcqRel))
    }

    /// The owner takes all that is not used, and nothing more can be taken by others.
    pub fn close(&self) -> u32 {
        Self::credit(self.0.swap(CLOSED, Ordering::AcqRel))
    }

    /// How much is not used.
    #[must_use]
    pub fn unused(&self) -> u32 {
        Self::credit(load_64(&self.0, Ordering::Relaxed))
    }

    /// Whether it is closed.
    #[inline]
    #[must_use]
    pub fn is_closed(&self) -> bool {
        load_64(&self.0, Ordering::Relaxed) & CLOSED != 0
    }

    /// No more is ever granted than there are places, so it fits.
    fn credit(word: u64) -> u32 {
        u32::try_from(word & !CLOSED).unwrap_or(u32::MAX)
    }
}

/// A number that one thread raises and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more. Only the counter's own thread calls this: a load and a store, where an exchange would cost five times as much.
    ///
    /// Release: who sees the number sees what was counted before it, elsewhere too.
    #[inline]
    pub fn add_one(&self) {
        store_64(&self.0, load_64(&self.0, Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    /// The number.
    #[must_use]
    pub fn get(&self) -> u64 {
        load_64(&self.0, Ordering::Acquire)
    }
}

/// What was made and what ended, of objects and of handles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Objects made.
    pub created: u64,
    /// Objects ended.
    pub destroyed: u64,
    /// Handles made.
    pub opened: u64,
    /// Handles ended.
    pub closed: u64,
}

/// What a lease's thread and the owner share: two kinds of credit, four counters. A pair of cache lines of its own.
#[derive(Debug, Default)]
#[cfg_attr(not(any(loom, shuttle)), repr(align(128)))]
pub(crate) struct LeaseBlock {
    pub(crate) objects: Credit,
    pub(crate) handles: Credit,
    created: Counter,
    destroyed: Counter,
    opened: Counter,
    closed: Counter,
    abandoned: AtomicU32,
}

impl LeaseBlock {
    /// Takes credit for an object and counts it as made, before anybody can see it: so none is seen to end that was not made.
    #[inline]
    pub(crate) fn begin_object(&self) -> Take {
        let taken = self.objects.take();
        if taken == Take::Taken {
            self.created.add_one();
        }
        taken
    }

    /// Counts an object as ended, and then gives its credit back: so there are never more than the credit allows.
    #[inline]
    pub(crate) fn end_object(&self) {
        self.destroyed.add_one();
        self.objects.give();
    }

    #[inline]
    pub(crate) fn begin_handle(&self) -> Take {
        let taken = self.handles.take();
        if taken == Take::Taken {
            self.opened.add_one();
        }
        taken
    }

    #[inline]
    pub(crate) fn end_handle(&self) {
        self.closed.add_one();
        self.handles.give();
    }

    /// The thread's last word: the owner may fold the counters and take what credit is left.
    pub(crate) fn abandon(&self) {
        store_32(&self.abandoned, 1, Ordering::Release);
    }

    /// Whether its thread is gone. Acquire: all that it counted is seen.
    pub(crate) fn is_abandoned(&self) -> bool {
        load_32(&self.abandoned, Ordering::Acquire) != 0
    }

    fn add_ended(&self, totals: &mut Totals) {
        totals.destroyed += self.destroyed.get();
        totals.closed += self.closed.get();
    }

    fn add_begun(&self, totals: &mut Totals) {
        totals.created += self.created.get();
        totals.opened += self.opened.get();
    }

    /// Adds what blocks counted. What ended is read first, from every block, and what was made after it: whatever is seen to
    /// end is then seen to have been made, also by another thread.
    pub(crate) fn add_all<'a>(blocks: impl Iterator<Item = &'a Self> + Clone, totals: &mut Totals) {
        blocks.clone().for_each(|block| block.add_ended(totals));
        blocks.for_each(|block| block.add_begun(totals));
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn credit_is_in_one_hand_at_a_time() {
        let credit = Credit::default();
        assert_eq!(credit.take(), Take::Empty);
        assert!(credit.grant(3));
        assert_eq!((credit.take(), credit.unused(), credit.recall()), (Take::Taken, 2, 2));
        assert_eq!(credit.take(), Take::Empty);
        assert!(credit.give());
        assert_eq!((credit.close(), credit.close()), (1, 0), "closing again finds nothing");
        assert_eq!(credit.take(), Take::Closed);
        assert!(!credit.grant(1) && !credit.give());
        assert_eq!((credit.take(), credit.recall(), credit.recall()), (Take::Closed, 1, 0), "what comes back late");
        assert!(credit.is_closed());
    }

    #[test]
    fn a_block_counts_what_begins_and_ends() {
        let block = LeaseBlock::default();
        assert!(block.objects.grant(1) && block.handles.grant(2));
        assert_eq!((block.begin_object(), block.begin_object()), (Take::Taken, Take::Empty));
        assert_eq!((block.begin_handle(), block.begin_handle()), (Take::Taken, Take::Taken));
        block.end_object();
        block.end_handle();
        let mut totals = Totals::default();
        LeaseBlock::add_all([&block].into_iter(), &mut totals);
        assert_eq!(totals, Totals { created: 1, destroyed: 1, opened: 2, closed: 1 });
        assert_eq!((block.objects.unused(), block.handles.unused()), (1, 1));
    }
}

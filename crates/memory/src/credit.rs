//! Credit that a thread has in advance, and the owner can call back at any time; counters that one thread writes.

use crate::sync::{AtomicU32, AtomicU64, Ordering, load_32, load_64, store_32, store_64};

/// What is taken and given back: `[closed 1][objects 31][handles 32]`, the form of the word of credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Units(u64);

impl Units {
    pub(crate) const OBJECT: Self = Self(1 << 32);
    pub(crate) const HANDLE: Self = Self(1);
    pub(crate) const BOTH: Self = Self(Self::OBJECT.0 | Self::HANDLE.0);
    /// Every unit of objects, every unit of handles: what is called back.
    pub(crate) const OBJECTS: Self = Self(((1 << 31) - 1) << 32);
    pub(crate) const HANDLES: Self = Self((1 << 32) - 1);
    const CLOSED: u64 = 1 << 63;
    /// What a word is granted at most, of each: half of what it can hold, since what is given back comes on top.
    const MOST: u32 = 1 << 30;

    pub(crate) fn objects(self) -> u32 {
        ((self.0 & Self::OBJECTS.0) >> 32) as u32
    }

    pub(crate) fn handles(self) -> u32 {
        (self.0 & Self::HANDLES.0) as u32
    }

    fn of(objects: u32, handles: u32) -> Self {
        Self(u64::from(objects) << 32 | u64::from(handles))
    }

    const fn has_object(self) -> bool {
        self.0 & Self::OBJECTS.0 != 0
    }

    const fn has_handle(self) -> bool {
        self.0 & Self::HANDLES.0 != 0
    }
}

/// How [`Credit::take`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Take {
    /// So much less.
    Taken,
    /// There is not so much.
    Empty,
    /// There never will be any more.
    Closed,
}

/// How many more objects and handles a thread may make without asking.
///
/// Each change is one read-modify-write of the one word, so whatever the order in which the thread takes and the owner
/// calls back, each unit is in exactly one hand. Credit that comes back after closing stays for the owner to call back.
#[derive(Debug, Default)]
pub(crate) struct Credit(AtomicU64);

impl Credit {
    /// Takes what one object, one handle, or one of each needs: all or nothing.
    ///
    /// Acquire pairs with the release in [`Credit::give`]: who may make an object in place of an ended one sees its end.
    #[inline]
    pub(crate) fn take(&self, wanted: Units) -> Take {
        let mut now = load_64(&self.0, Ordering::Relaxed);
        loop {
            if now & Units::CLOSED != 0 {
                return Take::Closed;
            }
            let there = Units(now);
            if (wanted.has_object() && !there.has_object()) || (wanted.has_handle() && !there.has_handle()) {
                return Take::Empty;
            }
            match self.0.compare_exchange_weak(now, now - wanted.0, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Take::Taken,
                Err(found) => now = found,
            }
        }
    }

    /// Gives back what was used; if it is closed, nobody but the owner can use it.
    #[inline]
    pub(crate) fn give(&self, back: Units) {
        self.0.fetch_add(back.0, Ordering::Release);
    }

    /// The owner gives more; `false` if it is closed or has more than anybody needs. Then nothing changed.
    pub(crate) fn grant(&self, objects: u32, handles: u32) -> bool {
        // The owner alone closes and grants, so nobody does between these two.
        let there = self.unused();
        let fits = |there: u32, more: u32| there.checked_add(more).is_some_and(|sum| sum <= Units::MOST);
        if self.is_closed() || !fits(there.objects(), objects) || !fits(there.handles(), handles) {
            return false;
        }
        self.0.fetch_add(Units::of(objects, handles).0, Ordering::Release);
        true
    }

    /// The owner takes all of one kind that is not used.
    pub(crate) fn recall(&self, kind: Units) -> Units {
        Units(self.0.fetch_and(!kind.0, Ordering::AcqRel) & kind.0)
    }

    /// The owner takes all that is not used, and nothing more can be taken by others.
    ///
    /// SeqCst, here and in [`Credit::is_closed`], as are a handle's becoming valid and the look of who closes it: of a thread
    /// that makes a handle valid and then looks here, and an owner that closes and then looks for handles, one sees the other.
    pub(crate) fn close(&self) -> Units {
        Units(self.0.swap(Units::CLOSED, Ordering::SeqCst))
    }

    /// How much is not used.
    pub(crate) fn unused(&self) -> Units {
        Units(load_64(&self.0, Ordering::Relaxed))
    }

    /// Whether it is closed.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        load_64(&self.0, Ordering::SeqCst) & Units::CLOSED != 0
    }
}

/// A number that one thread raises and any thread reads.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// One more. Only the counter's own thread calls this: a load and a store, where an exchange would cost five times as much.
    ///
    /// Release: who sees the number sees what was counted before it, elsewhere too.
    #[inline]
    pub(crate) fn add_one(&self) {
        store_64(&self.0, load_64(&self.0, Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    /// The number.
    pub(crate) fn get(&self) -> u64 {
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

/// What a lease's thread and the owner share: credit and four counters. A pair of cache lines of its own.
#[derive(Debug, Default)]
#[cfg_attr(not(any(loom, shuttle)), repr(align(128)))]
pub(crate) struct LeaseBlock {
    pub(crate) credit: Credit,
    created: Counter,
    destroyed: Counter,
    opened: Counter,
    closed: Counter,
    abandoned: AtomicU32,
}

impl LeaseBlock {
    /// Takes credit and counts what is about to be made, before anybody can see it: so none is seen to end that was not made.
    #[inline]
    pub(crate) fn begin(&self, what: Units) -> Take {
        let taken = self.credit.take(what);
        if taken == Take::Taken {
            if what.has_object() {
                self.created.add_one();
            }
            if what.has_handle() {
                self.opened.add_one();
            }
        }
        taken
    }

    /// Counts what ended, and then gives its credit back: so there is never more than the credit allows.
    #[inline]
    pub(crate) fn end(&self, what: Units) {
        if what.has_object() {
            self.destroyed.add_one();
        }
        if what.has_handle() {
            self.closed.add_one();
        }
        self.credit.give(what);
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
        assert_eq!(credit.take(Units::OBJECT), Take::Empty);
        assert!(credit.grant(3, 2));
        assert_eq!((credit.take(Units::BOTH), credit.unused()), (Take::Taken, Units::of(2, 1)));
        assert_eq!((credit.recall(Units::OBJECTS).objects(), credit.unused()), (2, Units::of(0, 1)));
        assert_eq!(
            (credit.take(Units::BOTH), credit.take(Units::OBJECT)),
            (Take::Empty, Take::Empty),
            "all or nothing"
        );
        assert_eq!((credit.take(Units::HANDLE), credit.take(Units::HANDLE)), (Take::Taken, Take::Empty));
        credit.give(Units::BOTH);
        assert_eq!((credit.close(), credit.close().objects()), (Units::of(1, 1), 0), "closing again finds nothing");
        assert_eq!(credit.take(Units::OBJECT), Take::Closed);
        credit.give(Units::HANDLE);
        assert_eq!((credit.grant(1, 0), credit.take(Units::HANDLE)), (false, Take::Closed), "what comes back late");
        assert_eq!((credit.recall(Units::OBJECTS).objects(), credit.recall(Units::HANDLES).handles()), (0, 1));
        assert!(credit.is_closed());
    }

    #[test]
    fn no_kind_of_credit_runs_over_into_the_other() {
        let credit = Credit::default();
        assert!(!credit.grant(0, u32::MAX) && !credit.grant(u32::MAX, 0));
        assert!(credit.grant(Units::MOST, Units::MOST) && !credit.grant(0, 1) && !credit.grant(1, 0));
        assert_eq!((credit.unused().objects(), credit.unused().handles()), (Units::MOST, Units::MOST));
    }

    #[test]
    fn a_block_counts_what_begins_and_ends() {
        let block = LeaseBlock::default();
        assert!(block.credit.grant(1, 2));
        assert_eq!((block.begin(Units::BOTH), block.begin(Units::BOTH)), (Take::Taken, Take::Empty));
        assert_eq!(block.begin(Units::HANDLE), Take::Taken);
        block.end(Units::OBJECT);
        block.end(Units::HANDLE);
        let mut totals = Totals::default();
        LeaseBlock::add_all([&block].into_iter(), &mut totals);
        assert_eq!(totals, Totals { created: 1, destroyed: 1, opened: 2, closed: 1 });
        assert_eq!(block.credit.unused(), Units::BOTH);
    }
}

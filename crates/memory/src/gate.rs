//! The gate of an object: its tag and its counts, the words that threads share.

use crate::sync::{AtomicU16, AtomicU32, AtomicU64, Ordering, load_32, load_64, store_32, store_64};
use kobj_abi::{Koid, Tag};

/// What stands in place of a type's letters once an object is destroyed.
pub(crate) const DEAD: u32 = u32::from_le_bytes(*b"DEAD");

/// One reference in the word of counts.
const REFERENCE: u64 = 1;
/// One handle in the word of counts; each is a reference too.
const HANDLE: u64 = 1 << 32;
/// The owner of the slab knows the object: its end is the owner's business.
const GRAPH: u64 = 1 << 63;
/// The most references, and the most handles, that are given out; what is above is left for pins, which cannot be refused.
const MOST: u32 = (1 << 30) - 1;

/// The counts of an object, in one word: `[graph 1][handles 31][references 32]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts(u64);

impl Counts {
    /// Of an object that the slab's owner makes and keeps: one reference.
    pub const KEPT: Self = Self(GRAPH | REFERENCE);
    /// Of an object that a lease makes: one handle, and no one else knows of it.
    pub const HANDLED: Self = Self(HANDLE | REFERENCE);

    /// References, each handle one of them.
    #[inline]
    #[must_use]
    pub const fn references(self) -> u32 {
        self.0 as u32
    }

    /// Handles in all tables.
    #[inline]
    #[must_use]
    pub const fn handles(self) -> u32 {
        ((self.0 & !GRAPH) >> 32) as u32
    }

    /// Whether the slab's owner knows the object: it made it, named it or linked it.
    #[inline]
    #[must_use]
    pub const fn in_graph(self) -> bool {
        self.0 & GRAPH != 0
    }
}

/// Tag and counts of a slot. All zero is a free slot.
///
/// Slots are type-stable: a late comer may look at a gate whose slot was freed or given to another object meanwhile. It
/// then finds a count of 0, which it never changes, or another tag, and gives back what it counted.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Gate {
    counts: AtomicU64,
    pub(crate) koid: AtomicU64,
    pub(crate) letters: AtomicU32,
    /// What is in the slot's body, and of which type: see `header`. It stands here for want of four bytes elsewhere.
    pub(crate) body: AtomicU16,
    /// Likewise: references that callers of the owner took by koid.
    pub(crate) held: AtomicU16,
}

/// What a gate says of its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// Nobody's.
    Free,
    /// A living object's.
    Live(Tag),
    /// A destroyed object's that is still referenced, or not yet buried.
    Dead(Koid),
}

/// How [`Gate::acquire`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Acquire {
    /// One reference more.
    Counted,
    /// The object is no more; nothing changed.
    Stale,
    /// The object is no more, and giving back what was counted on its successor gave up that one's last reference:
    /// the caller queues the slot.
    StaleLast,
    /// There are too many references.
    Full,
}

/// How [`Gate::release`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Others remain.
    Remaining,
    /// That was the last one: exactly one caller is told so, and queues the slot.
    Last,
    /// There was none to give up.
    None,
}

/// How [`Gate::add_handle`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum AddHandle {
    /// One handle and one reference more.
    Counted,
    /// There is no handle left, so there will be none.
    NoHandle,
    /// There are too many.
    Full,
}

/// How [`Gate::drop_handle`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum DropHandle {
    /// Others remain.
    Remaining,
    /// It was the last handle and there are other references: the handle's own reference is still counted, and the
    /// caller's now.
    LastHandle,
    /// It was the last handle and the last reference: exactly one caller is told so, and buries or queues the slot.
    Last,
    /// There was none to give up.
    None,
}

impl Gate {
    /// Opens a free slot's gate for a new object.
    ///
    /// Only who took the slot from a free list may call this. Late comers cannot be in the way: they never change a count
    /// of 0. Who sees the letters (acquire, in [`Gate::stamp`] and [`Gate::is`]) or counts itself in sees the koid and all
    /// that was written to the header before: both stores release. The counts come last, so that who is counted finds the tag.
    pub fn open(&self, tag: Tag, counts: Counts) {
        // Release: who finds the new koid finds no letters from before the slot was cleaned.
        store_64(&self.koid, tag.koid.raw(), Ordering::Release);
        store_32(&self.letters, u32::from_le_bytes(tag.letters), Ordering::Release);
        store_64(&self.counts, counts.0, Ordering::Release);
    }

    /// Takes the tag off a slot whose counts are 0. Who looks meanwhile sees the dead stamp, or no koid.
    pub(crate) fn clear(&self) {
        store_64(&self.koid, 0, Ordering::Relaxed);
        store_32(&self.letters, 0, Ordering::Release);
        // References are 0; what goes is the graph flag.
        store_64(&self.counts, 0, Ordering::Release);
    }

    /// Changes the counts by `next` until nobody comes between, or `next` declines; gives what was there before.
    ///
    /// Acquire on success pairs with the release in [`Gate::open`] and of whoever counted before; release hands on what the
    /// caller did to the object to whoever gives up the last reference.
    #[inline]
    fn change(&self, next: impl Fn(Counts) -> Option<u64>) -> Result<Counts, Counts> {
        let mut now = load_64(&self.counts, Ordering::Relaxed);
        loop {
            let Some(wanted) = next(Counts(now)) else { return Err(Counts(now)) };
            match self.counts.compare_exchange_weak(now, wanted, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(before) => return Ok(Counts(before)),
                Err(found) => now = found,
            }
        }
    }

    /// Counts one reference more, whatever object is there, unless there is none: increment unless zero.
    #[inline]
    pub(crate) fn acquire_any(&self) -> Acquire {
        let counted = self.change(|counts| {
            let references = counts.references();
            if references == 0 {
                return None;
            }
            if references >= MOST {
                return None;
            }
            Some(counts.0 + REFERENCE)
        });
        match counted {
            Ok(_) => Acquire::Counted,
            Err(counts) if counts.references() == 0 => Acquire::Stale,
            Err(_) => Acquire::Full,
        }
    }

    /// Counts one reference more, unless the object is no more: increment unless zero, then look at the tag again.
    #[inline]
    pub fn acquire(&self, tag: Tag) -> Acquire {
        let counted = self.acquire_any();
        if counted != Acquire::Counted {
            return counted;
        }
        // Between the caller's look and the count the slot may have changed hands, or the tag have been taken.
        if self.is(tag) {
            return Acquire::Counted;
        }
        if self.release() == Release::Last { Acquire::StaleLast } else { Acquire::Stale }
    }

    /// Counts one reference more on an object that the caller knows to be referenced; never refused, `false` at zero.
    pub fn pin(&self) -> bool {
        self.change(|counts| (counts.references() != 0).then_some(counts.0 + REFERENCE)).is_ok()
    }

    /// Gives up one reference that is no handle's.
    #[inline]
    pub fn release(&self) -> Release {
        match self.change(|counts| (counts.references() > counts.handles()).then(|| counts.0 - REFERENCE)) {
            Ok(before) if before.references() == 1 => Release::Last,
            Ok(_) => Release::Remaining,
            Err(_) => Release::None,
        }
    }

    /// Counts one handle more, and its reference, on an object on which the caller holds a reference.
    ///
    /// From 0 a count of handles never comes back: the last close was told so, and has begun to end what goes with it.
    #[inline]
    pub fn add_handle(&self) -> AddHandle {
        self.add_handle_where(|counts| counts.handles() != 0)
    }

    /// As [`Gate::add_handle`], also the first one: for the owner alone, which knows that the object is permanent or new.
    pub fn add_first_handle(&self) -> AddHandle {
        self.add_handle_where(|counts| counts.references() != 0)
    }

    #[inline]
    fn add_handle_where(&self, may: impl Fn(Counts) -> bool) -> AddHandle {
        let counted = self.change(|counts| {
            let room = counts.handles() < MOST && counts.references() < MOST;
            (may(counts) && room).then_some(counts.0 + HANDLE + REFERENCE)
        });
        match counted {
            Ok(_) => AddHandle::Counted,
            Err(counts) if may(counts) => AddHandle::Full,
            Err(_) => AddHandle::NoHandle,
        }
    }

    /// Gives up a handle and its reference in one change.
    ///
    /// Only the reference of a last handle beside other references stays, for the caller: the type's last-close hook
    /// has to look at the object.
    #[inline]
    pub fn drop_handle(&self) -> (DropHandle, Counts) {
        let dropped = self.change(|counts| match (counts.handles(), counts.references()) {
            (0, _) | (_, 0) => None,
            (1, 2..) => Some(counts.0 - HANDLE),
            _ => Some(counts.0 - HANDLE - REFERENCE),
        });
        match dropped {
            Ok(before) if before.handles() > 1 => (DropHandle::Remaining, before),
            Ok(before) if before.references() > 1 => (DropHandle::LastHandle, before),
            Ok(before) => (DropHandle::Last, before),
            Err(counts) => (DropHandle::None, counts),
        }
    }

    /// The same unless it is the last one: `false` then, or if there is none, and nothing changed.
    #[inline]
    pub fn drop_one_of_many(&self) -> bool {
        self.change(|counts| (counts.handles() > 1).then(|| counts.0 - HANDLE - REFERENCE)).is_ok()
    }

    /// Says that the slab's owner knows the object from now on; `false` if its last reference is gone.
    ///
    /// In the same word as the counts: of a last close and this one comes first, and the other sees it.
    pub fn join_graph(&self) -> bool {
        self.change(|counts| (counts.references() != 0).then_some(counts.0 | GRAPH)).is_ok()
    }

    /// Replaces the tag by the dead stamp: from now on nobody can count itself in.
    pub fn take_tag(&self) {
        store_32(&self.letters, DEAD, Ordering::Release);
    }

    /// Whether the slot bears exactly this tag.
    #[inline]
    #[must_use]
    pub fn is(&self, tag: Tag) -> bool {
        load_32(&self.letters, Ordering::Acquire) == u32::from_le_bytes(tag.letters)
            && load_64(&self.koid, Ordering::Relaxed) == tag.koid.raw()
    }

    /// What stands on the slot.
    ///
    /// A slot that is freed or given away meanwhile is looked at again: koids never come back, so one that is the same
    /// before and behind the letters is theirs. Acquire on the first load keeps the second behind it.
    #[inline]
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        let mut koid = load_64(&self.koid, Ordering::Acquire);
        loop {
            let letters = load_32(&self.letters, Ordering::Acquire);
            let again = load_64(&self.koid, Ordering::Acquire);
            if koid == again {
                return match Koid::from_raw(koid) {
                    None => Stamp::Free,
                    Some(_) if letters == 0 => Stamp::Free,
                    Some(koid) if letters == DEAD => Stamp::Dead(koid),
                    Some(koid) => Stamp::Live(Tag { letters: letters.to_le_bytes(), koid }),
                };
            }
            koid = again;
        }
    }

    /// The counts: exact when nobody else changes them.
    #[inline]
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts(load_64(&self.counts, Ordering::Acquire))
    }

    /// How many references there are, each handle one of them.
    #[inline]
    #[must_use]
    pub fn references(&self) -> u32 {
        self.counts().references()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use kobj_abi::Era;

    fn tag(counter: u32) -> Tag {
        Tag { letters: *b"HOST", koid: Koid::new(Era(7), counter).unwrap() }
    }

    #[test]
    fn a_gate_counts_from_one_to_zero_and_never_back() {
        let gate = Gate::default();
        assert_eq!(gate.acquire(tag(1)), Acquire::Stale);
        gate.open(tag(1), Counts::KEPT);
        assert_eq!(gate.acquire(tag(1)), Acquire::Counted);
        assert_eq!(gate.release(), Release::Remaining);
        assert_eq!(gate.release(), Release::Last);
        assert_eq!(gate.acquire(tag(1)), Acquire::Stale, "increment unless zero");
        assert!(!gate.pin() && !gate.join_graph());
        assert_eq!((gate.add_first_handle(), gate.release()), (AddHandle::NoHandle, Release::None));
    }

    #[test]
    fn a_wrong_or_dead_tag_is_not_followed() {
        let gate = Gate::default();
        gate.open(tag(1), Counts::KEPT);
        assert_eq!(gate.acquire(tag(2)), Acquire::Stale);
        assert_eq!(gate.acquire(Tag { letters: *b"PROC", ..tag(1) }), Acquire::Stale);
        gate.take_tag();
        assert_eq!(gate.acquire(tag(1)), Acquire::Stale);
        assert_eq!(gate.stamp(), Stamp::Dead(tag(1).koid));
        assert_eq!(gate.references(), 1);
    }

    #[test]
    fn too_many_references_are_refused_and_pins_are_not() {
        let gate = Gate::default();
        gate.open(tag(1), Counts::HANDLED);
        gate.counts.store(HANDLE | u64::from(MOST), Ordering::Relaxed);
        assert_eq!((gate.acquire(tag(1)), gate.add_handle()), (Acquire::Full, AddHandle::Full));
        assert!(gate.pin());
        assert_eq!(gate.references(), MOST + 1);
        gate.counts.store(HANDLE * u64::from(MOST) + u64::from(MOST), Ordering::Relaxed);
        assert_eq!(gate.add_handle(), AddHandle::Full);
    }

    #[test]
    fn a_handle_is_a_reference_and_the_last_one_is_told() {
        let gate = Gate::default();
        gate.open(tag(1), Counts::HANDLED);
        assert_eq!(gate.release(), Release::None, "a handle's reference goes with the handle alone");
        assert_eq!(gate.add_handle(), AddHandle::Counted);
        assert_eq!((gate.counts().handles(), gate.counts().references()), (2, 2));
        assert!(gate.drop_one_of_many());
        assert!(!gate.drop_one_of_many(), "the last one is not given up unseen");
        assert_eq!((gate.counts().handles(), gate.counts().references()), (1, 1));
        assert_eq!(gate.add_handle(), AddHandle::Counted);
        assert_eq!(gate.drop_handle().0, DropHandle::Remaining);
        assert_eq!(gate.acquire(tag(1)), Acquire::Counted);
        let (dropped, before) = gate.drop_handle();
        assert_eq!((dropped, before.in_graph()), (DropHandle::LastHandle, false));
        assert_eq!((gate.counts().handles(), gate.references()), (0, 2), "the reference is the caller's now");
        assert_eq!(gate.add_handle(), AddHandle::NoHandle, "handles never come back from 0");
        assert_eq!(gate.drop_handle().0, DropHandle::None);
        assert_eq!(gate.add_first_handle(), AddHandle::Counted, "but the owner may give a first one");
        assert!(gate.join_graph());
        assert_eq!((gate.release(), gate.release()), (Release::Remaining, Release::Remaining));
        let (dropped, before) = gate.drop_handle();
        assert_eq!((dropped, before.in_graph()), (DropHandle::Last, true));
    }
}

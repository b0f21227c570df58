//! The gate of an object: its tag and its reference count, the words that threads share.

use crate::sync::{AtomicU32, AtomicU64, Ordering, load_32, load_64, store_32, store_64};
use kobj_abi::{Koid, Tag};

/// What stands in place of a type's letters once an object is destroyed.
const DEAD: u32 = u32::from_le_bytes(*b"DEAD");

/// The most references that are given out; the upper half is left for pins, which cannot be refused.
const MOST: u32 = u32::MAX / 2;

/// Tag and reference count of a slot. All zero is a free slot.
///
/// Slots are type-stable: a late comer may look at a gate whose slot was freed or given to another object meanwhile. It
/// then finds a count of 0, which it never changes, or another tag, and gives back what it counted.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Gate {
    pub(crate) koid: AtomicU64,
    pub(crate) letters: AtomicU32,
    references: AtomicU32,
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

impl Gate {
    /// Opens a free slot's gate for a new object, with one reference.
    ///
    /// Only the slot's owner (who took it from the free list) may call this. Late comers cannot be in the way: they never
    /// change a count of 0. The count is stored last with release ordering, so who counts itself in sees the whole tag.
    pub fn open(&self, tag: Tag) {
        store_64(&self.koid, tag.koid.raw(), Ordering::Relaxed);
        store_32(&self.letters, u32::from_le_bytes(tag.letters), Ordering::Relaxed);
        store_32(&self.references, 1, Ordering::Release);
    }

    /// Counts one reference more, unless the object is no more: increment unless zero, then look at the tag again.
    ///
    /// Acquire ordering on success pairs with the release in [`Gate::open`] and [`Gate::take_tag`].
    pub fn acquire(&self, tag: Tag) -> Acquire {
        let mut count = load_32(&self.references, Ordering::Relaxed);
        loop {
            if count == 0 {
                return Acquire::Stale;
            }
            if count >= MOST {
                return Acquire::Full;
            }
            let next = self.references.compare_exchange(count, count + 1, Ordering::Acquire, Ordering::Relaxed);
            match next {
                Ok(_) => break,
                Err(now) => count = now,
            }
        }
        // Between the caller's look and the count the slot may have changed hands, or the tag have been taken.
        if self.is(tag) {
            return Acquire::Counted;
        }
        if self.release() == Release::Last { Acquire::StaleLast } else { Acquire::Stale }
    }

    /// Counts one reference more on an object that the caller knows to be referenced; never refused, `false` at zero.
    pub fn pin(&self) -> bool {
        let mut count = load_32(&self.references, Ordering::Relaxed);
        while count != 0 {
            let next = count.saturating_add(1);
            match self.references.compare_exchange(count, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => count = now,
            }
        }
        false
    }

    /// Gives up one reference.
    ///
    /// Release ordering makes what the caller did to the object visible to whoever gives up the last one; acquire makes
    /// the last one see it, before it buries.
    pub fn release(&self) -> Release {
        let mut count = load_32(&self.references, Ordering::Relaxed);
        loop {
            if count == 0 {
                return Release::None;
            }
            match self.references.compare_exchange(count, count - 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(1) => return Release::Last,
                Ok(_) => return Release::Remaining,
                Err(now) => count = now,
            }
        }
    }

    /// Replaces the tag by the dead stamp: from now on nobody can count itself in.
    pub fn take_tag(&self) {
        store_32(&self.letters, DEAD, Ordering::Release);
    }

    /// Whether the slot bears exactly this tag.
    #[inline]
    #[must_use]
    pub fn is(&self, tag: Tag) -> bool {
        load_64(&self.koid, Ordering::Relaxed) == tag.koid.raw()
            && load_32(&self.letters, Ordering::Acquire) == u32::from_le_bytes(tag.letters)
    }

    /// What stands on the slot.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        let letters = load_32(&self.letters, Ordering::Acquire);
        match Koid::from_raw(load_64(&self.koid, Ordering::Relaxed)) {
            None => Stamp::Free,
            Some(koid) if letters == DEAD => Stamp::Dead(koid),
            Some(koid) => Stamp::Live(Tag { letters: letters.to_le_bytes(), koid }),
        }
    }

    /// How many references there are: exact when nobody else changes them.
    #[must_use]
    pub fn references(&self) -> u32 {
        load_32(&self.references, Ordering::Acquire)
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
        gate.open(tag(1));
        assert_eq!(gate.acquire(tag(1)), Acquire::Counted);
        assert_eq!(gate.release(), Release::Remaining);
        assert_eq!(gate.release(), Release::Last);
        assert_eq!(gate.acquire(tag(1)), Acquire::Stale, "increment unless zero");
        assert!(!gate.pin());
        assert_eq!(gate.release(), Release::None);
    }

    #[test]
    fn a_wrong_or_dead_tag_is_not_followed() {
        let gate = Gate::default();
        gate.open(tag(1));
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
        gate.open(tag(1));
        store_32(&gate.references, MOST, Ordering::Relaxed);
        assert_eq!(gate.acquire(tag(1)), Acquire::Full);
        assert!(gate.pin());
        assert_eq!(gate.references(), MOST + 1);
    }
}

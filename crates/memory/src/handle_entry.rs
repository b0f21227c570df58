//! An entry of the handle table: 24 bytes, all atomics.

use crate::Place;
use crate::buckets::Zeroed;
use crate::sync::{AtomicU32, AtomicU64, Ordering, load_32, load_64, store_32};
use kobj_abi::Rights;

/// Bit 0 of the word: a new process may inherit the handle.
pub(crate) const INHERITABLE: u64 = 1;
/// One pin. Pins have bits 1 to 29.
pub(crate) const PIN: u64 = 1 << 1;
/// All pins.
pub(crate) const PINS: u64 = (1 << 30) - PIN;
/// The upper half of the pins, one bit, is not given out: threads that find it set give back what they just added, and
/// there are never so many threads that the other half fills meanwhile. So pins never reach the bits above.
pub(crate) const TOO_MANY: u64 = 1 << 29;
/// Somebody won the closing of the handle: nobody else closes it, nobody pins it any more.
pub(crate) const CLOSING: u64 = 1 << 30;
/// There is a handle.
pub(crate) const LIVE: u64 = 1 << 31;
/// Where the generation begins: the upper half of the word.
pub(crate) const GENERATION_SHIFT: u32 = 32;

/// What a word must be, shifted right by [`OPEN_SHIFT`], to be pinned: this generation, live, not closing, room for pins.
#[inline]
pub(crate) const fn open(generation: u32) -> u64 {
    ((generation as u64) << GENERATION_SHIFT | LIVE) >> OPEN_SHIFT
}

/// Generation, live, closing and the bit of too many pins remain.
pub(crate) const OPEN_SHIFT: u32 = 29;

const _: () = assert!(TOO_MANY == 1 << OPEN_SHIFT && PINS & TOO_MANY != 0);

/// Whether there is a handle in this word that nobody closes yet.
#[inline]
pub(crate) const fn is_open(word: u64) -> bool {
    word & (LIVE | CLOSING) == LIVE
}

/// A word's generation.
#[inline]
pub(crate) const fn generation(word: u64) -> u32 {
    (word >> GENERATION_SHIFT) as u32
}

/// What a handle stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// The object.
    pub object: Place,
    /// What the handle allows.
    pub rights: Rights,
    /// The derivation node on which the handle is counted; none for what was made or opened and has no children.
    pub node: Option<Place>,
    /// Whether a new process that inherits gets it.
    pub inheritable: bool,
}

/// [generation 32 | live | closing | pins 29 | inheritable], and what the handle stands for. All zero was never used.
///
/// Late lookups add to and take from the word of any entry, also of a free one or one that is being made: the word changes
/// by read-modify-write alone, and whoever owns the entry changes only its own bits. The rest is written by who took the slot
/// before the handle is live, and stays until who closed it has read it; only `node` may go from none to one under a pin.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) word: AtomicU64,
    object: AtomicU32,
    rights: AtomicU32,
    node: AtomicU32,
    /// Link of the list that the slot is in: free, closed, or somebody's own.
    pub(crate) next: AtomicU32,
}

#[cfg(not(any(loom, shuttle)))]
const _: () = assert!(size_of::<Entry>() == 24, "a handle costs 24 bytes");

// SAFETY: zeroes must be a value that needs no drop: five atomic numbers. A field with a niche, or one that owns, would
// break it.
unsafe impl Zeroed for Entry {
    #[cfg(any(loom, shuttle))]
    fn zeroed() -> Self {
        Self::default()
    }
}

impl Entry {
    /// Writes what the handle will stand for. Only the slot's owner may, before the handle is live; whoever makes it live
    /// releases this.
    pub(crate) fn write(&self, content: &Content) {
        store_32(&self.object, content.object.raw(), Ordering::Relaxed);
        store_32(&self.rights, content.rights.bits(), Ordering::Relaxed);
        store_32(&self.node, content.node.map_or(0, Place::raw), Ordering::Relaxed);
    }

    /// What it stands for; `word` says the rest. Only under a pin, or for who closed it.
    #[inline]
    pub(crate) fn content(&self, word: u64) -> Content {
        Content {
            object: self.object(),
            rights: self.rights(),
            node: self.node(),
            inheritable: word & INHERITABLE != 0,
        }
    }

    // Relaxed: whoever may read acquired the word that made them true.

    #[inline]
    pub(crate) fn object(&self) -> Place {
        // A live entry has one; what never is has a place that never is.
        Place::from_raw(load_32(&self.object, Ordering::Relaxed)).unwrap_or(Place::LAST)
    }

    #[inline]
    pub(crate) fn rights(&self) -> Rights {
        Rights::from_bits(load_32(&self.rights, Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn node(&self) -> Option<Place> {
        Place::from_raw(load_32(&self.node, Ordering::Relaxed))
    }

    /// Gives the handle its node, once; the one it has already if that is another's doing. Only under a pin.
    pub(crate) fn set_node(&self, node: Place) -> Result<(), Place> {
        // Relaxed: the node's own words are published by the caller's lock, and read under it.
        let set = self.node.compare_exchange(0, node.raw(), Ordering::Relaxed, Ordering::Relaxed);
        set.map(drop).map_err(|there| Place::from_raw(there).unwrap_or(node))
    }

    /// The word: acquire, so that what made it true is seen; SeqCst for who looks for handles after closing a lease.
    #[inline]
    pub(crate) fn look(&self) -> u64 {
        load_64(&self.word, Ordering::SeqCst)
    }
}

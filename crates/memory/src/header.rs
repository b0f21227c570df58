//! The header of an object: one cache line in front of its body.

use crate::gate::Counts;
use crate::sync::{AtomicU32, AtomicU64, Ordering, load_16, load_32, load_64, store_16, store_32, store_64};
use crate::{Gate, Place};
use core::ops::Deref;
use kobj_abi::{Koid, ObjectType, TypeNumber};

/// What the slab and its owner keep about each object. All zero is a free slot's header.
///
/// Each field is an atomic word, since threads look while the owner changes; all accesses are relaxed. What is written
/// before an object's tag is seen by whoever sees the tag (its letters and counts are stored with release and loaded with
/// acquire); what changes later is changed by the owner alone, and a thread that looks without the owner's lock may
/// see it late.
///
/// The name and whatever else is optional stand out of line; the header has four bytes for all of them.
///
/// Nobody outside gets at the gate: who gives up a reference by it gives up another's, whose object is then buried.
///
/// ```compile_fail
/// fn give_up_anothers(held: &kobj_memory::Held<'_>) {
///     held.header().gate().release();
/// }
/// ```
#[derive(Debug, Default)]
#[repr(C)]
#[cfg_attr(not(any(loom, shuttle)), repr(align(64)))]
pub struct Header {
    pub(crate) gate: Gate,
    created_us: AtomicU64,
    owner: AtomicU32,
    /// Threads the free lists, the reaper list and the list of those to be buried: a slot is in at most one.
    pub(crate) next: AtomicU32,
    first_out: AtomicU32,
    first_in: AtomicU32,
    charge_bytes: AtomicU32,
    /// References that the owner counts by itself, and [`CONDEMNED`]; as long as there is one, they are one reference in the
    /// gate.
    pub(crate) owned: AtomicU32,
    mark: AtomicU32,
    pub(crate) optional: AtomicU32,
}

#[cfg(not(any(loom, shuttle)))]
const _: () = assert!(size_of::<Header>() == 64, "a header is one cache line");

/// Beside the type's number: the body is one of the slab's owner. Without it the body is a user's state, if the number is a
/// user's, else nothing.
pub(crate) const OWNERS: u16 = 1 << 15;
/// Beside the type's number: the object is on the list of users' objects whose last-close hook is due.
const LAST_CLOSE_DUE: u16 = 1 << 14;
/// The bits of the number, and the largest one that a type gets.
pub(crate) const NUMBER: u16 = LAST_CLOSE_DUE - 1;

/// Beside the owner's references: the object stands in the list of those to be buried, which counts as one. No release gives
/// that one up, or the slot would come to the reaper list by the link that leads on here.
pub(crate) const CONDEMNED: u32 = 1 << 31;

impl Header {
    /// The number of the object's type; 0 where it was made without.
    #[must_use]
    pub fn type_number(&self) -> TypeNumber {
        TypeNumber(load_16(&self.gate.body, Ordering::Relaxed) & NUMBER)
    }

    /// Whether the body is one of the slab's owner.
    pub(crate) fn is_owners(&self) -> bool {
        load_16(&self.gate.body, Ordering::Relaxed) & OWNERS != 0
    }

    /// The type whose state is in the body, if one is.
    pub(crate) fn state_number(&self) -> Option<TypeNumber> {
        let body = load_16(&self.gate.body, Ordering::Relaxed);
        (body & OWNERS == 0 && body & NUMBER >= TypeNumber::FIRST_OWN.0).then_some(TypeNumber(body & NUMBER))
    }

    /// Says what is in the body.
    pub(crate) fn set_body(&self, body: u16) {
        store_16(&self.gate.body, body, Ordering::Relaxed);
    }

    /// References that callers of the owner took by koid, and have to give back.
    #[must_use]
    pub fn held(&self) -> u16 {
        load_16(&self.gate.held, Ordering::Relaxed)
    }

    /// When it was made: microseconds since 1970.
    #[must_use]
    pub fn created_us(&self) -> i64 {
        load_64(&self.created_us, Ordering::Relaxed).cast_signed()
    }

    /// Who is charged for it.
    #[must_use]
    pub fn owner(&self) -> Option<Place> {
        Place::from_raw(load_32(&self.owner, Ordering::Relaxed))
    }

    /// Whether it is on the list of users' objects whose last-close hook is due, by the link that other lists use too. Acquire:
    /// who sees that it is not may use the link, behind whoever took it off.
    pub(crate) fn is_last_close_due(&self) -> bool {
        load_16(&self.gate.body, Ordering::Acquire) & LAST_CLOSE_DUE != 0
    }

    /// Says so: the owner sets it, and whoever takes the object off the list clears it, so the word changes by
    /// read-modify-write.
    pub(crate) fn set_last_close_due(&self, is_due: bool) {
        if is_due {
            self.gate.body.fetch_or(LAST_CLOSE_DUE, Ordering::Release);
        } else {
            self.gate.body.fetch_and(!LAST_CLOSE_DUE, Ordering::Release);
        }
    }

    /// First of the links that start here.
    #[must_use]
    pub fn first_out(&self) -> Option<Place> {
        Place::from_raw(load_32(&self.first_out, Ordering::Relaxed))
    }

    /// First of the links that end here.
    #[must_use]
    pub fn first_in(&self) -> Option<Place> {
        Place::from_raw(load_32(&self.first_in, Ordering::Relaxed))
    }

    /// What its owner is charged, in bytes.
    #[must_use]
    pub fn charge_bytes(&self) -> u32 {
        load_32(&self.charge_bytes, Ordering::Relaxed)
    }

    /// The last search that came by.
    #[must_use]
    pub fn mark(&self) -> u32 {
        load_32(&self.mark, Ordering::Relaxed)
    }

    /// References: those that threads and handles count, and those that the owner counts.
    #[must_use]
    pub fn references(&self) -> u32 {
        let owned = load_32(&self.owned, Ordering::Relaxed);
        let owned = (owned & !CONDEMNED) + u32::from(owned & CONDEMNED != 0);
        self.counts().references().saturating_sub(u32::from(owned > 0)).saturating_add(owned)
    }

    /// Handles and the gate's own count of references, and whether the owner knows the object.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.gate.counts()
    }

    /// Writes what is known of a new object, before its gate is opened. All else of a free slot's header is 0.
    pub(crate) fn begin(&self, body: u16, created_us: i64, owner: Option<Place>, charge_bytes: u32) {
        self.set_body(body);
        store_64(&self.created_us, created_us.cast_unsigned(), Ordering::Relaxed);
        store_32(&self.owner, owner.map_or(0, Place::raw), Ordering::Relaxed);
        store_32(&self.charge_bytes, charge_bytes, Ordering::Relaxed);
    }

    /// Makes every word 0 but the link, by which the caller frees the slot.
    pub(crate) fn clear(&self) {
        self.gate.clear();
        self.begin(0, 0, None, 0);
        store_16(&self.gate.held, 0, Ordering::Relaxed);
        for word in [&self.first_out, &self.first_in, &self.owned, &self.mark, &self.optional] {
            store_32(word, 0, Ordering::Relaxed);
        }
    }
}

/// An object's header in the hands of the slab's owner, who alone may change it.
#[derive(Debug)]
pub struct HeaderMut<'a>(pub(crate) &'a Header);

impl Deref for HeaderMut<'_> {
    type Target = Header;

    fn deref(&self) -> &Header {
        self.0
    }
}

impl HeaderMut<'_> {
    /// Changes who is charged for it.
    pub fn set_owner(&self, owner: Option<Place>) {
        store_32(&self.0.owner, owner.map_or(0, Place::raw), Ordering::Relaxed);
    }

    /// Changes the first of the links that start here; gives the one before.
    pub fn set_first_out(&self, link: Option<Place>) -> Option<Place> {
        let before = self.first_out();
        store_32(&self.0.first_out, link.map_or(0, Place::raw), Ordering::Relaxed);
        before
    }

    /// Changes the first of the links that end here; gives the one before.
    pub fn set_first_in(&self, link: Option<Place>) -> Option<Place> {
        let before = self.first_in();
        store_32(&self.0.first_in, link.map_or(0, Place::raw), Ordering::Relaxed);
        before
    }

    /// Changes what its owner is charged, in bytes.
    pub fn set_charge_bytes(&self, charge_bytes: u32) {
        store_32(&self.0.charge_bytes, charge_bytes, Ordering::Relaxed);
    }

    /// Changes how many references callers took by koid.
    pub fn set_held(&self, held: u16) {
        store_16(&self.0.gate.held, held, Ordering::Relaxed);
    }

    /// Puts the number of a search on it; gives the one before.
    pub fn set_mark(&self, mark: u32) -> u32 {
        let before = self.mark();
        store_32(&self.0.mark, mark, Ordering::Relaxed);
        before
    }
}

/// What is known of an object when it is made.
#[derive(Clone, Debug, Default)]
pub struct Birth<'a> {
    /// What it is, unless it is a user's own type.
    pub object_type: Option<ObjectType>,
    /// The process that made it, where known.
    pub creator: Option<Koid>,
    /// When: microseconds since 1970.
    pub created_us: i64,
    /// Who is to be charged.
    pub owner: Option<Place>,
    /// What it is charged, in bytes.
    pub charge_bytes: u32,
    /// Its name, if it has one.
    pub name: Option<&'a [u8]>,
}

//! The header of an object: one cache line in front of its body.

use crate::sync::AtomicU32;
use crate::{Gate, Place};
use kobj_abi::Koid;

/// What the slab and its user keep about each object. All zero is a free slot's header.
///
/// The name and whatever else is optional stand out of line; the header has four bytes for all of them.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Header {
    pub(crate) gate: Gate,
    /// The process that made it, where known.
    pub creator: Option<Koid>,
    /// When it was made: microseconds since 1970.
    pub created_us: i64,
    /// The job that is charged for it.
    pub owner: Option<Place>,
    /// Threads the free list, the reaper list and the list of those to be buried: a slot is in at most one.
    pub(crate) next: AtomicU32,
    /// First of the links that start here.
    pub first_out: Option<Place>,
    /// First of the links that end here.
    pub first_in: Option<Place>,
    /// What its owner is charged, in bytes.
    pub charge_bytes: u32,
    /// References that callers took by koid, and have to give back.
    pub held: u32,
    /// The last search that came by.
    pub mark: u32,
    pub(crate) optional: Option<Place>,
}

const _: () = assert!(size_of::<Header>() == 64, "a header is one cache line");

impl Header {
    /// Tag and reference count.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }
}

/// What is known of an object when it is made.
#[derive(Clone, Debug, Default)]
pub struct Birth<'a> {
    /// The process that made it, where known.
    pub creator: Option<Koid>,
    /// When: microseconds since 1970.
    pub created_us: i64,
    /// The job to be charged.
    pub owner: Option<Place>,
    /// What it is charged, in bytes.
    pub charge_bytes: u32,
    /// Its name, if it has one.
    pub name: Option<&'a [u8]>,
}

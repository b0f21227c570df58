//! What threads share: the object slab, handle tables, derivation nodes, leases. It knows no names, jobs or types.
//!
//! An object is made as a kernel makes it: a slot is taken that never moves, a [`kobj_abi::Tag`] is stamped on it, and its
//! first reference is counted. It ends the same way: the last reference queues it on the reaper list, its tag is replaced by
//! a dead stamp, and its slot is scrubbed clean before anybody gets it again.
//!
//! There are two views of the objects. [`Slab`] is the owner's: it alone makes and takes the owner's bodies, condemns and
//! buries, by `&mut`. [`Objects`] is everybody's: threads hold an object by a counted reference ([`Held`]), read the state of a
//! user's type in place, and give up handles; who gives up the last reference is told so, alone, and has the sole right to the
//! slot ([`Ended`]). With a [`Lease`] a thread makes and buries objects of one type without the owner, on credit that the
//! owner's [`LeaseBook`] can call back at any time.
//!
//! A handle is a number in a [`Table`]: a lookup pins its entry, and what the handle counted stays counted until the guard is
//! dropped; a close never waits for one. [`Nodes`] count the equal handles of each derivation.
//!
//! What takes `&self` uses atomics alone and is modelled with loom and shuttle (`--cfg loom`, `--cfg shuttle`); where `&mut` is
//! asked for, the borrow checker is the proof. All memory is asked for fallibly.
#![no_std]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod array;
mod buckets;
// Models use a part of it.
#[cfg_attr(any(loom, shuttle), allow(dead_code))]
mod credit;
mod fallible;
mod gate;
mod handle_entry;
mod handle_table;
#[cfg_attr(any(loom, shuttle), allow(dead_code))]
mod header;
mod lease;
mod lock;
#[cfg(all(test, any(loom, shuttle)))]
mod models;
#[cfg(all(test, any(loom, shuttle)))]
mod models_objects;
#[cfg(all(test, any(loom, shuttle)))]
mod models_table;
mod nodes;
mod objects;
mod place;
mod reaper;
mod refusing;
mod shared;
mod slab;
mod slot_list;
mod state;
mod sync;

pub use array::{Array, Pool};
pub use buckets::NoMemory;
pub use credit::Totals;
pub use fallible::{Bytes, TryPush, try_box, try_collect, try_zeroed_words};
pub use gate::{Acquire, AddHandle, Counts, DropHandle, Gate, Release, Stamp};
pub use handle_entry::Content;
pub use handle_table::{BadHandle, Closed, Next, Pin, PinError, Released, Reserved, Slots, Table, TableError};
pub use header::{Birth, Header, HeaderMut};
pub use lease::{Burial, KoidRange, LEASED_OBJECT_BYTES, Lease, LeaseBook, LeaseError, LeasePlace, Unused};
pub use lock::{Lock, Locked, Spin, SpinLock};
pub use nodes::{CountError, Hint, NodeError, NodeLinks, Nodes, Uncounted};
pub use objects::{AcquireError, Dropped, Ended, Finished, Held, Kept, Objects, Reference, Stale};
pub use place::Place;
pub use reaper::Reaper;
pub use refusing::RefusingAllocator;
pub use shared::Shared;
pub use slab::{Buried, Slab};
pub use state::{RegisterError, StateKey};

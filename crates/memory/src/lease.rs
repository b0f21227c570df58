//! Leases: a block of credit, places and koids with which one thread makes and ends objects of one type by itself.
//!
//! A thread has a [`Lease`]; the owner keeps the [`LeaseBook`], calls credit back and sums up. Totals are the owner's and
//! all leases'. A lease that is dropped, also by a thread that unwinds, gives its places back at once and its credit to
//! the book, which finds it at its next look.

use crate::credit::{LeaseBlock, Take, Totals, Units};
use crate::objects::{Ended, Free, Objects, Reference};
use crate::state::StateKey;
use crate::{Array, Counts, NoMemory, Place, Pool, Shared, Stamp};
use core::fmt;
use kobj_abi::{Era, Koid, TypeNumber};

/// Places that a lease keeps for its next objects, at most: beyond, half of them go back to all.
const PLACES_MOST: u32 = 256;

/// Bytes that an object made in a lease takes: header and state.
pub const LEASED_OBJECT_BYTES: u32 = 128;

/// A lease in its book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeasePlace(pub Place);

/// Why a lease made nothing; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseError {
    /// Its job or process has ended.
    Closed,
    /// Its credit is used up, or was called back: ask the owner for more.
    NoCredit,
    /// It has no place left: ask the owner.
    NoPlace,
    /// It has no koid left: ask the owner.
    NoKoid,
    /// It is for objects of another type.
    WrongType,
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the lease is closed: its job or process has ended",
            Self::NoCredit => "the lease has no credit left; ask the manager for more",
            Self::NoPlace => "the lease has no place left; ask the manager for more",
            Self::NoKoid => "the lease has no koid left; ask the manager for more",
            Self::WrongType => "the lease is for objects of another type",
        })
    }
}

/// Koids of one era that were set aside for a lease: `count` of them from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KoidRange {
    /// Their era.
    pub era: Era,
    /// The first one's counter, from 1.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl KoidRange {
    fn first(self) -> Option<Koid> {
        if self.count == 0 { None } else { Koid::new(self.era, self.first) }
    }

    fn advance(&mut self) {
        self.first = self.first.wrapping_add(1);
        self.count -= 1;
    }
}

/// What became of an object that a thread ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Burial {
    /// It is gone, and its slot and credit are the lease's.
    Freed,
    /// It is gone; the lease is closed, so its credit is the owner's to call back.
    FreedForOwner,
    /// It is not this lease's to bury: it is on the reaper list, for the owner. `true` if that was empty: tell the owner.
    Queued(bool),
}

/// A thread's lease. Objects are made and ended by `&mut`: it is one thread's at a time.
pub struct Lease {
    block: Shared<LeaseBlock>,
    objects: Shared<Objects>,
    number: TypeNumber,
    owner: Option<Place>,
    free: Free,
    koids: KoidRange,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("number", &self.number).field("block", &self.block).finish_non_exhaustive()
    }
}

impl Lease {
    /// The objects that it makes its own among.
    #[must_use]
    pub fn objects(&self) -> &Shared<Objects> {
        &self.objects
    }

    /// The type of its objects.
    #[must_use]
    pub fn type_number(&self) -> TypeNumber {
        self.number
    }

    /// Whether its job or process has ended, so that it makes nothing more.
    #[inline]
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.block.credit.is_closed()
    }

    /// How many places and koids it has left: with one of each, and credit, it makes an object.
    #[must_use]
    pub fn left(&self) -> (u32, u32) {
        (self.free.len(), self.koids.count)
    }

    /// Sets koids aside for it. What is left of those before is lost: koids are not used twice, and not all are used.
    pub fn set_koids(&mut self, koids: KoidRange) {
        self.koids = koids;
    }

    /// Makes an unnamed object with one handle, which the caller is about to have: no one else knows of it yet. It takes credit
    /// for both.
    ///
    /// Time is in microseconds since 1970. It is charged to the lease's owner, whom its header names.
    ///
    /// # Errors
    /// [`LeaseError`], with the state.
    #[inline]
    pub fn create_user<S: Send + Sync + 'static>(
        &mut self,
        key: &StateKey<S>,
        created_us: i64,
        state: S,
    ) -> Result<Reference, (LeaseError, S)> {
        if key.slab != self.objects.slab || key.number() != self.number {
            return Err((LeaseError::WrongType, state));
        }
        let Some(koid) = self.koids.first() else { return Err((LeaseError::NoKoid, state)) };
        if self.free.is_empty() {
            return Err((LeaseError::NoPlace, state));
        }
        match self.block.begin(Units::BOTH) {
            Take::Taken => {}
            Take::Empty => return Err((LeaseError::NoCredit, state)),
            Take::Closed => return Err((LeaseError::Closed, state)),
        }
        let Some((place, slot)) = self.free.pop(&self.objects) else {
            self.block.end(Units::BOTH);
            return Err((LeaseError::NoPlace, state));
        };
        self.koids.advance();
        self.objects.put(slot, state);
        slot.header.begin(self.number.0, created_us, self.owner, LEASED_OBJECT_BYTES);
        let tag = key.tag(koid);
        slot.header.gate.open(tag, Counts::HANDLED);
        Ok(Reference { place, tag })
    }

    /// Buries an object whose last reference went, if it is of the lease's type and charged to the lease's owner, and nobody
    /// named or linked it; else queues it for the owner, who knows what to do.
    ///
    /// The state is dropped here: hooks have run before. If its drop panics, the object has ended nevertheless.
    #[inline]
    pub fn bury(&mut self, ended: Ended<'_>) -> Burial {
        self.end(ended, Units::OBJECT)
    }

    /// Buries an object that ended with the last handle, as [`Lease::bury`], and counts the handle as closed, as
    /// [`Lease::close_handle`]: one change of the word of credit instead of two.
    #[inline]
    pub fn close_last(&mut self, ended: Ended<'_>) -> Burial {
        self.end(ended, Units::BOTH)
    }

    /// Whether an object is this lease's to bury: of its type, charged to its owner, and known to nobody else. The answer
    /// holds until it is buried or left, since nobody has it any more. Hooks that the owner runs for what it buries are run
    /// here only for what is buried here: so this is asked before the first of them.
    #[inline]
    #[must_use]
    pub fn may_bury(&self, ended: &Ended<'_>) -> bool {
        let header = ended.header();
        ended.is_of(&self.objects)
            && header.state_number() == Some(self.number)
            && header.owner() == self.owner
            && !ended.in_graph()
            // One whose tag the owner took is in the owner's books already.
            && matches!(ended.stamp(), Stamp::Live(_))
    }

    #[inline]
    fn end(&mut self, ended: Ended<'_>, what: Units) -> Burial {
        let header = ended.header();
        if !self.may_bury(&ended) {
            if what == Units::BOTH {
                self.block.end(Units::HANDLE);
            }
            return Burial::Queued(ended.leave());
        }
        header.gate.take_tag();
        self.block.end(what);
        ended.bury(&mut self.free);
        if self.free.len() > PLACES_MOST {
            self.objects.give_back(&mut self.free, PLACES_MOST / 2);
        }
        if self.is_closed() { Burial::FreedForOwner } else { Burial::Freed }
    }

    /// Takes credit for a handle and counts it.
    ///
    /// # Errors
    /// [`LeaseError::NoCredit`], [`LeaseError::Closed`].
    #[inline]
    pub fn open_handle(&mut self) -> Result<(), LeaseError> {
        match self.block.begin(Units::HANDLE) {
            Take::Taken => Ok(()),
            Take::Empty => Err(LeaseError::NoCredit),
            Take::Closed => Err(LeaseError::Closed),
        }
    }

    /// Counts a handle as closed and gives its credit back.
    #[inline]
    pub fn close_handle(&mut self) {
        self.block.end(Units::HANDLE);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let all = self.free.len();
        self.objects.give_back(&mut self.free, all);
        self.block.abandon();
    }
}

/// A lease as its owner knows it.
#[derive(Debug)]
struct Open {
    block: Shared<LeaseBlock>,
    number: TypeNumber,
}

/// Credit that was called back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unused {
    /// For objects.
    pub objects: u32,
    /// For handles.
    pub handles: u32,
}

impl From<Units> for Unused {
    fn from(units: Units) -> Self {
        Self { objects: units.objects(), handles: units.handles() }
    }
}

/// All leases, in the owner's hands.
#[derive(Debug, Default)]
pub struct LeaseBook {
    leases: Pool<Open>,
    /// What leases counted that are no more, by type from [`TypeNumber::FIRST_OWN`] on.
    ended: Array<Totals>,
}

impl LeaseBook {
    /// Opens a lease of objects of one type, charged to `owner`; it has nothing yet.
    pub(crate) fn open(
        &mut self,
        objects: Shared<Objects>,
        number: TypeNumber,
        owner: Option<Place>,
    ) -> Result<(LeasePlace, Lease), NoMemory> {
        // What the end of the lease needs is reserved now.
        let index = u32::from(number.0.checked_sub(TypeNumber::FIRST_OWN.0).ok_or(NoMemory)?);
        while self.ended.len() <= index {
            self.ended.push(Totals::default())?;
        }
        let block = Shared::try_new(LeaseBlock::default())?;
        let place = self.leases.insert(Open { block: block.clone(), number })?;
        let koids = KoidRange { era: Era(0), first: 0, count: 0 };
        Ok((LeasePlace(place), Lease { block, objects, number, owner, free: Free::default(), koids }))
    }

    fn block(&self, lease: LeasePlace) -> Option<&LeaseBlock> {
        self.leases.get(lease.0).map(|open| &*open.block)
    }

    /// How many leases there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.leases.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Gives a lease credit for so many objects more; `false` if it is closed or no more.
    pub fn grant_objects(&mut self, lease: LeasePlace, more: u32) -> bool {
        self.block(lease).is_some_and(|block| block.credit.grant(more, 0))
    }

    /// Gives a lease credit for so many handles more; `false` if it is closed or no more.
    pub fn grant_handles(&mut self, lease: LeasePlace, more: u32) -> bool {
        self.block(lease).is_some_and(|block| block.credit.grant(0, more))
    }

    /// Takes all object credit of a lease that is not used, whatever its thread does. Says how much.
    pub fn recall_objects(&mut self, lease: LeasePlace) -> u32 {
        self.block(lease).map_or(0, |block| block.credit.recall(Units::OBJECTS).objects())
    }

    /// Takes all handle credit of a lease that is not used. Says how much.
    pub fn recall_handles(&mut self, lease: LeasePlace) -> u32 {
        self.block(lease).map_or(0, |block| block.credit.recall(Units::HANDLES).handles())
    }

    /// How much credit of a lease is not used now.
    #[must_use]
    pub fn unused(&self, lease: LeasePlace) -> Unused {
        self.block(lease).map_or(Unused::default(), |block| block.credit.unused().into())
    }

    /// Closes a lease whose job or process ends: its thread makes nothing more with it. Takes what is not used; what its thread
    /// ends from now on comes back by [`LeaseBook::recall_objects`] and [`LeaseBook::recall_handles`].
    pub fn close(&mut self, lease: LeasePlace) -> Unused {
        self.block(lease).map_or(Unused::default(), |block| block.credit.close().into())
    }

    /// Takes a lease out of the book whose thread dropped it, the first from `from` on: which one, and the credit that it had
    /// left. Allocates nothing.
    pub fn take_dropped(&mut self, from: Place) -> Option<(LeasePlace, Unused)> {
        let mut from = from;
        let place = loop {
            let (place, open) = self.leases.next_from(from)?;
            if open.block.is_abandoned() {
                break place;
            }
            from = Place::new(place.index().checked_add(1)?)?;
        };
        let unused = self.close(LeasePlace(place));
        let Open { block, number } = self.leases.remove(place)?;
        let row = Place::new(u32::from(number.0.saturating_sub(TypeNumber::FIRST_OWN.0)));
        if let Some(totals) = row.and_then(|row| self.ended.get_mut(row)) {
            LeaseBlock::add_all([&*block].into_iter(), totals);
        }
        Some((LeasePlace(place), unused))
    }

    /// What a lease counted so far.
    #[must_use]
    pub fn totals_of(&self, lease: LeasePlace) -> Totals {
        let mut totals = Totals::default();
        LeaseBlock::add_all(self.block(lease).into_iter(), &mut totals);
        totals
    }

    /// What all leases of a type counted so far, those that are no more included; of every type, if none is named.
    ///
    /// Threads go on meanwhile, but no object or handle is seen to have ended that is not seen to have been made.
    #[must_use]
    pub fn totals(&self, number: Option<TypeNumber>) -> Totals {
        let wanted = |of: TypeNumber| number.is_none_or(|number| number == of);
        let mut totals = Totals::default();
        for (row, ended) in self.ended.iter() {
            let of = u16::try_from(row.index()).ok().and_then(|row| row.checked_add(TypeNumber::FIRST_OWN.0));
            if of.is_some_and(|of| wanted(TypeNumber(of))) {
                totals.created += ended.created;
                totals.destroyed += ended.destroyed;
                totals.opened += ended.opened;
                totals.closed += ended.closed;
            }
        }
        let open = (0..self.leases.places()).filter_map(|index| self.leases.get(Place::new(index)?));
        LeaseBlock::add_all(open.filter(|open| wanted(open.number)).map(|open| &*open.block), &mut totals);
        totals
    }
}

impl Lease {
    /// Takes places over from the slab's owner.
    pub(crate) fn free_mut(&mut self) -> &mut Free {
        &mut self.free
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

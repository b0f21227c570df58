//! Tickets: effects under way, each of which holds its object until its result is told.
//!
//! Room for them is taken when processes are made, so that ending one needs no memory.

use crate::command::Ticket;
use kobj_memory::{Array, NoMemory, Place, Reference};

/// Bits of a ticket that say its place; above them is its serial number.
const PLACE_BITS: u32 = 24;

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// 0 is a free slot.
    serial: u64,
    object: Option<Reference>,
    next_free: Option<Place>,
}

/// All effects under way.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    slots: Array<Slot>,
    free: Option<Place>,
    free_count: u32,
    serial: u64,
}

impl Tickets {
    /// Brings room for that many tickets more.
    pub(crate) fn reserve(&mut self, more: u32) -> Result<(), NoMemory> {
        while self.free_count < more {
            if self.slots.len() >> PLACE_BITS > 0 {
                return Err(NoMemory);
            }
            let place = self.slots.push(Slot { next_free: self.free, ..Slot::default() })?;
            self.free = Some(place);
            self.free_count += 1;
        }
        Ok(())
    }

    /// A ticket that was never given before.
    pub(crate) fn open(&mut self, object: Reference) -> Result<Ticket, NoMemory> {
        self.reserve(1)?;
        let place = self.free.ok_or(NoMemory)?;
        let slot = self.slots.get_mut(place).ok_or(NoMemory)?;
        self.serial += 1;
        self.free = slot.next_free;
        self.free_count -= 1;
        *slot = Slot { serial: self.serial, object: Some(object), next_free: None };
        Ok(Ticket(self.serial << PLACE_BITS | u64::from(place.index())))
    }

    fn find(&self, ticket: Ticket) -> Option<(Place, Reference)> {
        let place = Place::new(ticket.0 as u32 & ((1 << PLACE_BITS) - 1))?;
        let slot = self.slots.get(place).filter(|slot| slot.serial == ticket.0 >> PLACE_BITS)?;
        Some((place, slot.object?))
    }

    /// The object that a ticket holds.
    pub(crate) fn object(&self, ticket: Ticket) -> Option<Reference> {
        self.find(ticket).map(|(_, object)| object)
    }

    /// Settles a ticket; gives the object that it held.
    pub(crate) fn settle(&mut self, ticket: Ticket) -> Option<Reference> {
        let (place, object) = self.find(ticket)?;
        *self.slots.get_mut(place)? = Slot { next_free: self.free, ..Slot::default() };
        self.free = Some(place);
        self.free_count += 1;
        Some(object)
    }
}

//! The slab as its owner sees it: who alone makes and takes the owner's bodies, and buries what comes to the reaper list.

use crate::credit::Totals;
use crate::header::{Birth, CONDEMNED, Header, HeaderMut, OWNERS};
use crate::lease::{Lease, LeaseBook, LeasePlace};
use crate::objects::{AcquireError, Free, Objects, Reference, Room, Slot, Stale};
use crate::state::{RegisterError, StateKey};
use crate::sync::{AtomicU32, Ordering, load_32, store_32};
use crate::{AddHandle, Bytes, Counts, DropHandle, NoMemory, Place, Pool, Release, Shared, Stamp};
use core::fmt;
use core::marker::PhantomData;
use kobj_abi::{Koid, ObjectType, Tag, TypeNumber};

/// The most references that the owner counts on one object.
const MOST_OWNED: u32 = u32::MAX / 2;

/// What became of the object at the front of the list of those to be buried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buried {
    /// Its slot is clean and free.
    Freed,
    /// It is still referenced: its slot stays until the last reference goes.
    Referenced,
    /// It lives, or there is nobody at the front; nothing changed.
    Refused,
}

/// The owner's view of objects: there is one for each [`Objects`], and bodies of type `B` are reached through it alone.
///
/// The owner's references are counted by the owner: whatever their number, they are one reference of those that threads
/// share, so none of the owner's mistakes gives up a reference that a thread holds.
pub struct Slab<B> {
    objects: Shared<Objects>,
    free: Free,
    /// Objects that the owner made, less those whose tag it took. Below 0 when it ends what leases made.
    live: i64,
    dead: u32,
    /// Taken from the reaper or condemned: first to be buried. Threaded through `next`.
    front: Option<Place>,
    optional: Pool<Part>,
    leases: LeaseBook,
    /// There are values of this type in the slots, and they are used by who has the slab.
    bodies: PhantomData<B>,
}

/// What an object may have and most have not.
#[derive(Debug)]
struct Part {
    name: Option<Bytes>,
    creator: Option<Koid>,
}

impl<B> fmt::Debug for Slab<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slab").field("live", &self.live).field("dead", &self.dead).finish_non_exhaustive()
    }
}

impl<B> Slab<B> {
    /// Bytes of a slot: what each object costs in here.
    pub const SLOT_BYTES: u32 = size_of::<Slot>() as u32;

    /// A slab without objects.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn try_new() -> Result<Self, NoMemory> {
        const { assert!(size_of::<B>() <= size_of::<Room>(), "a body has at most 64 bytes") };
        const { assert!(align_of::<B>() <= align_of::<Room>(), "a body is aligned to 16 bytes at most") };
        Ok(Self {
            objects: Shared::try_new(Objects::new())?,
            free: Free::default(),
            live: 0,
            dead: 0,
            front: None,
            optional: Pool::default(),
            leases: LeaseBook::default(),
            bodies: PhantomData,
        })
    }

    /// The objects as every thread may see them. They outlive the slab if somebody still has them then.
    #[must_use]
    pub fn shared(&self) -> Shared<Objects> {
        self.objects.clone()
    }

    /// How many objects live, those that leases made and did not end among them.
    #[must_use]
    pub fn live(&self) -> u32 {
        let Totals { created, destroyed, .. } = self.leases.totals(None);
        let leased = created.wrapping_sub(destroyed).cast_signed();
        u32::try_from(self.live.saturating_add(leased).max(0)).unwrap_or(u32::MAX)
    }

    /// The leases that were opened here.
    #[must_use]
    pub fn leases(&self) -> &LeaseBook {
        &self.leases
    }

    /// The leases that were opened here, to give and to call back credit.
    #[must_use]
    pub fn leases_mut(&mut self) -> &mut LeaseBook {
        &mut self.leases
    }

    /// Opens a lease with which a thread makes objects of a user's type, charged to `owner`. It has no credit, no places and no
    /// koids yet.
    ///
    /// # Errors
    /// [`NoMemory`], also for a type that is built in; nothing changed.
    pub fn open_lease(&mut self, number: TypeNumber, owner: Option<Place>) -> Result<(LeasePlace, Lease), NoMemory> {
        self.leases.open(self.objects.clone(), number, owner)
    }

    /// Fills a lease's places up to so many.
    ///
    /// # Errors
    /// [`NoMemory`], also for a lease of another slab; the lease keeps those that it got.
    pub fn refill(&mut self, lease: &mut Lease, places: u32) -> Result<(), NoMemory> {
        if !lease.objects().is_same(&self.objects) {
            return Err(NoMemory);
        }
        while lease.free_mut().len() < places {
            let place = self.take_place()?;
            let slot = self.objects.slot(place).ok_or(NoMemory)?;
            lease.free_mut().push(place, slot);
        }
        Ok(())
    }

    fn take_place(&mut self) -> Result<Place, NoMemory> {
        self.free.take_returned(&self.objects);
        match self.free.pop(&self.objects) {
            Some((place, _)) => Ok(place),
            None => self.objects.extend(),
        }
    }

    /// How many objects are destroyed and not yet buried.
    #[must_use]
    pub fn dead(&self) -> u32 {
        self.dead
    }

    /// Makes an object: takes a slot, stamps the tag, counts the first reference, which is the owner's.
    ///
    /// # Errors
    /// [`NoMemory`]; then nothing changed, and the body is dropped.
    pub fn create(&mut self, tag: Tag, birth: &Birth<'_>, body: B) -> Result<Reference, NoMemory> {
        const { assert!(LARGEST_NUMBER < TypeNumber::FIRST_OWN.0, "built-in types have small numbers") };
        let number = birth.object_type.map_or(0, |object_type| object_type.number().0);
        let (place, optional) = self.take_slot(birth)?;
        self.put(place, optional, tag, birth, OWNERS | number, body)
    }

    /// Makes an object of a user's type: as [`Slab::create`], with a state that every thread can read.
    ///
    /// # Errors
    /// [`NoMemory`], also for a key of another slab; then nothing changed, and the state is dropped.
    pub fn create_user<S: Send + Sync + 'static>(
        &mut self,
        key: &StateKey<S>,
        koid: Koid,
        birth: &Birth<'_>,
        state: S,
    ) -> Result<Reference, NoMemory> {
        self.create_user_from(key, koid, birth, &mut Some(state))
    }

    /// Whether a key is of a type that is registered here.
    #[must_use]
    pub fn gave<S>(&self, key: &StateKey<S>) -> bool {
        key.slab == self.objects.slab
    }

    /// The same, and takes the state only if it makes the object: for who has a lock that a state's drop must not run under.
    ///
    /// # Errors
    /// [`NoMemory`], also for a key of another slab or no state; then nothing changed.
    pub fn create_user_from<S: Send + Sync + 'static>(
        &mut self,
        key: &StateKey<S>,
        koid: Koid,
        birth: &Birth<'_>,
        from: &mut Option<S>,
    ) -> Result<Reference, NoMemory> {
        if !self.gave(key) || from.is_none() {
            return Err(NoMemory);
        }
        let (place, optional) = self.take_slot(birth)?;
        let state = from.take().ok_or(NoMemory)?;
        self.put(place, optional, key.tag(koid), birth, key.number().0, state)
    }

    fn put<T>(
        &mut self,
        place: Place,
        optional: Option<Place>,
        tag: Tag,
        birth: &Birth<'_>,
        what: u16,
        value: T,
    ) -> Result<Reference, NoMemory> {
        let slot = self.objects.slot(place).ok_or(NoMemory)?;
        self.objects.put(slot, value);
        let header = &slot.header;
        header.begin(what, birth.created_us, birth.owner, birth.charge_bytes);
        store_32(&header.optional, optional.map_or(0, Place::raw), Ordering::Relaxed);
        store_32(&header.owned, 1, Ordering::Relaxed);
        header.gate.open(tag, Counts::KEPT);
        self.live += 1;
        Ok(Reference { place, tag })
    }

    /// A free slot, and the optional part of the object to come, if it needs one.
    fn take_slot(&mut self, birth: &Birth<'_>) -> Result<(Place, Option<Place>), NoMemory> {
        let optional = match (birth.name, birth.creator) {
            (None, None) => None,
            (name, creator) => {
                let name = name.map(Bytes::try_from_slice).transpose()?;
                Some(self.optional.insert(Part { name, creator })?)
            }
        };
        let place = self.take_place();
        if place.is_err() {
            optional.and_then(|part| self.optional.remove(part));
        }
        Ok((place?, optional))
    }

    /// Registers a type of the user's, with states `S`.
    ///
    /// # Errors
    /// [`RegisterError`]; nothing changed.
    pub fn register_state<S: Send + Sync + 'static>(&mut self, letters: [u8; 4]) -> Result<StateKey<S>, RegisterError> {
        self.objects.types.register(self.objects.slab, letters)
    }

    fn slot(&self, reference: Reference) -> Result<&Slot, Stale> {
        let slot = self.objects.slot(reference.place).ok_or(Stale)?;
        if slot.header.gate.is(reference.tag) { Ok(slot) } else { Err(Stale) }
    }

    /// The object's header.
    ///
    /// # Errors
    /// [`Stale`] if the object is no more.
    #[inline]
    pub fn header(&self, reference: Reference) -> Result<&Header, Stale> {
        Ok(&self.slot(reference)?.header)
    }

    /// The object's header, to change.
    ///
    /// # Errors
    /// [`Stale`] if the object is no more.
    #[inline]
    pub fn header_mut(&mut self, reference: Reference) -> Result<HeaderMut<'_>, Stale> {
        Ok(HeaderMut(&self.slot(reference)?.header))
    }

    /// The slot of an object that has a body of the owner's.
    fn owners_slot(&self, reference: Reference) -> Result<&Slot, Stale> {
        let slot = self.slot(reference)?;
        if slot.header.is_owners() { Ok(slot) } else { Err(Stale) }
    }

    /// The object's body.
    ///
    /// # Errors
    /// [`Stale`] if the object is no more, or is a user's: that has a state instead.
    #[inline]
    pub fn body(&self, reference: Reference) -> Result<&B, Stale> {
        let slot = self.owners_slot(reference)?;
        // SAFETY: there must be a B, which nobody writes meanwhile. The mark that `owners_slot` looks for is set by `create`
        // alone, with a body, and taken off by `take_tag`, with the body; both need the slab uniquely, and nobody else looks
        // into such a room. A second slab for the same objects would break this.
        Ok(unsafe { &*slot.room.get().cast::<B>() })
    }

    /// The object's body, to change.
    ///
    /// # Errors
    /// [`Stale`] if the object is no more, or is a user's.
    #[inline]
    pub fn body_mut(&mut self, reference: Reference) -> Result<&mut B, Stale> {
        let slot = self.owners_slot(reference)?;
        // SAFETY: there must be a B, which nobody else looks at: as in `body`, and the slab is borrowed uniquely. What
        // breaks that breaks this.
        Ok(unsafe { &mut *slot.room.get().cast::<B>() })
    }

    fn part(&self, reference: Reference) -> Result<Option<&Part>, Stale> {
        let place = Place::from_raw(load_32(&self.header(reference)?.optional, Ordering::Relaxed));
        Ok(place.and_then(|place| self.optional.get(place)))
    }

    /// The object's name, if it has one.
    ///
    /// # Errors
    /// [`Stale`] if the object is no more.
    pub fn name(&self, reference: Reference) -> Result<Option<&[u8]>, Stale> {
        Ok(self.part(reference)?.and_then(|part| part.name.as_deref()))
    }

    /// The process that made the object, where known.
    ///
    /// # Errors
    /// [`Stale`] if the object is no more.
    pub fn creator(&self, reference: Reference) -> Result<Option<Koid>, Stale> {
        Ok(self.part(reference)?.and_then(|part| part.creator))
    }

    /// What stands at a place.
    #[must_use]
    pub fn stamp(&self, place: Place) -> Stamp {
        self.objects.stamp(place)
    }

    /// A reference to the living object at a place, not counted.
    ///
    /// # Errors
    /// [`Stale`] if none lives there.
    #[inline]
    pub fn at(&self, place: Place) -> Result<Reference, Stale> {
        self.objects.at(place)
    }

    /// The header at a place, of a living or a dead object.
    #[must_use]
    pub fn any_header(&self, place: Place) -> Option<&Header> {
        self.objects.slot(place).map(|slot| &slot.header).filter(|header| header.gate.stamp() != Stamp::Free)
    }

    /// The header at a place, of a living or a dead object, to change.
    #[must_use]
    pub fn any_header_mut(&mut self, place: Place) -> Option<HeaderMut<'_>> {
        self.any_header(place).map(HeaderMut)
    }

    /// Slots ever used: each object has a place whose index is below.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.objects.used()
    }

    /// Each living object, in the order of its slot.
    pub fn iter(&self) -> impl Iterator<Item = Reference> + '_ {
        (0..self.objects.used()).filter_map(|index| self.at(Place::new(index)?).ok())
    }

    /// Counts one reference of the owner's more.
    ///
    /// # Errors
    /// [`AcquireError`]: the object is no more, or has too many.
    pub fn acquire(&mut self, reference: Reference) -> Result<(), AcquireError> {
        let slot = self.slot(reference).map_err(|Stale| AcquireError::Stale)?;
        match load_32(&slot.header.owned, Ordering::Relaxed) & !CONDEMNED {
            0 => self.objects.acquire(reference, slot)?,
            MOST_OWNED.. => return Err(AcquireError::Full),
            _ => {}
        }
        add(&slot.header.owned, 1);
        Ok(())
    }

    /// Gives up one of the owner's references to the object, dead or alive, at a place. The last of all queues it to be buried.
    pub fn release(&mut self, place: Place) -> Release {
        let Some(slot) = self.objects.slot(place) else { return Release::None };
        let released = give_up_owned(slot);
        if released == Release::Last {
            self.objects.queue(place, slot);
        }
        released
    }

    /// Counts one handle more. The owner holds the object, or has a handle of it pinned.
    pub fn add_handle(&mut self, reference: Reference) -> AddHandle {
        self.slot(reference).map_or(AddHandle::NoHandle, |slot| slot.header.gate.add_handle())
    }

    /// The same, also from 0: for an object that is new, or permanent. The owner holds it.
    pub fn add_first_handle(&mut self, reference: Reference) -> AddHandle {
        self.slot(reference).map_or(AddHandle::NoHandle, |slot| slot.header.gate.add_first_handle())
    }

    /// Gives up a handle, and its reference, on the object at a place that has others; `false`, and nothing changed, if it has not.
    #[inline]
    pub fn drop_one_of_many(&mut self, place: Place) -> bool {
        self.objects.slot(place).is_some_and(|slot| slot.header.gate.drop_one_of_many())
    }

    /// Gives up a handle on the object at a place, and its reference: [`Objects::drop_handle`] in the owner's hands.
    ///
    /// After [`DropHandle::LastHandle`] the handle's reference is one of the owner's: [`Slab::release`] gives it up. After
    /// [`DropHandle::Last`] the object is on the list of those to be buried.
    pub fn drop_handle(&mut self, place: Place) -> DropHandle {
        let Some(slot) = self.objects.slot(place) else { return DropHandle::None };
        let (dropped, _) = slot.header.gate.drop_handle();
        match dropped {
            DropHandle::Last => {
                self.objects.queue(place, slot);
            }
            DropHandle::LastHandle => {
                // One of the gate's references stands for all of the owner's.
                if load_32(&slot.header.owned, Ordering::Relaxed) > 0 {
                    slot.header.gate.release();
                }
                add(&slot.header.owned, 1);
            }
            DropHandle::Remaining | DropHandle::None => {}
        }
        dropped
    }

    /// Says that the owner knows the object, so that whoever closes it last leaves its end to the owner. The owner holds it,
    /// or has a handle of it pinned.
    ///
    /// # Errors
    /// [`Stale`] if the object is no more: its last reference is gone.
    pub fn join_graph(&mut self, reference: Reference) -> Result<(), Stale> {
        if self.slot(reference)?.header.gate.join_graph() { Ok(()) } else { Err(Stale) }
    }

    /// Takes the tag of an object and gives its body back: what is left of it is a corpse, which nobody can look at.
    ///
    /// A user's state stays until the slot is buried, since threads may hold it: there is no body then.
    ///
    /// # Errors
    /// [`Stale`] if it was destroyed before, or a thread is about to end it.
    pub fn take_tag(&mut self, reference: Reference) -> Result<Option<B>, Stale> {
        let slot = self.slot(reference)?;
        if !slot.header.is_owners() {
            // Whom the owner neither holds nor has from the reaper list, a thread may be burying.
            if self.front != Some(reference.place) && load_32(&slot.header.owned, Ordering::Relaxed) == 0 {
                return Err(Stale);
            }
            slot.header.gate.take_tag();
            self.took_tag(reference.place);
            return Ok(None);
        }
        slot.header.gate.take_tag();
        slot.header.set_body(slot.header.type_number().0);
        // SAFETY: there must be a B, which is not used again: it was there (see `body`), and the mark was taken off
        // before. Reading it before the mark is off would break it, where its drop panics.
        let body = unsafe { slot.room.get().cast::<B>().read() };
        // SAFETY: the room must be good for its own bytes, and nobody may look: as before, and the body was moved out.
        // A look at the body from here on would break it.
        unsafe { slot.room.get().write_bytes(0, 1) };
        self.took_tag(reference.place);
        Ok(Some(body))
    }

    fn took_tag(&mut self, place: Place) {
        let optional = self.objects.slot(place).map(|slot| &slot.header.optional);
        let part = optional.and_then(|word| Place::from_raw(load_32(word, Ordering::Relaxed)));
        if let Some(part) = part {
            self.optional.remove(part);
        }
        if let Some(word) = optional {
            store_32(word, 0, Ordering::Relaxed);
        }
        self.live -= 1;
        self.dead += 1;
    }

    /// Takes the tag of an object that may still be referenced and puts it in front of those to be buried.
    ///
    /// It is pinned until [`Slab::bury_front`].
    ///
    /// # Errors
    /// [`Stale`] if it was destroyed before, or is about to be.
    pub fn condemn(&mut self, reference: Reference) -> Result<Option<B>, Stale> {
        let slot = self.slot(reference)?;
        // A user's object a thread may be burying, or give its slot to another: counted with a look at the tag, or not at all.
        let pinned = if slot.header.is_owners() {
            pin(slot)
        } else {
            self.acquire(reference).map_err(|_| Stale)?;
            true
        };
        let body = self.take_tag(reference)?;
        if body.is_none() && self.objects.slot(reference.place).is_some_and(|slot| slot.header.is_last_close_due()) {
            // Its link is in use: who runs the hook gives up the last reference, and the reaper list brings it here.
            self.release(reference.place);
            return Ok(None);
        }
        if pinned && let Some(slot) = self.objects.slot(reference.place) {
            // The reference that was just counted is the list's from here on.
            let owned = load_32(&slot.header.owned, Ordering::Relaxed);
            store_32(&slot.header.owned, owned.saturating_sub(1) | CONDEMNED, Ordering::Relaxed);
            store_32(&slot.header.next, self.front.map_or(0, Place::raw), Ordering::Relaxed);
            self.front = Some(reference.place);
        }
        // Else the last reference is gone: it is on the reaper list already, and a slot is in at most one list.
        Ok(body)
    }

    /// Who is to be buried next: an object, still tagged or not, that lost its last reference or was condemned.
    pub fn front(&mut self) -> Option<Place> {
        if self.front.is_none() {
            self.front = self.objects.reaper.take();
        }
        self.front
    }

    /// Buries who is in front: a slot that nobody references is scrubbed clean and freed.
    pub fn bury_front(&mut self) -> Buried {
        self.end_front(false)
    }

    /// The same, but a user's object goes to [`Objects::next_finished`]: its state is dropped there, by who runs its hooks.
    pub fn hand_over_front(&mut self) -> Buried {
        self.end_front(true)
    }

    /// Lets the last-close hook of a user's object come due: [`Objects::next_last_closed`] gives it out, held.
    ///
    /// `false` if it is no more, or a built-in one, which has no hooks; or if the hook is due already, since a permanent
    /// object was opened and closed again meanwhile: it runs once for both.
    pub fn hand_over_last_close(&mut self, reference: Reference) -> bool {
        let Ok(slot) = self.slot(reference) else { return false };
        if slot.header.is_last_close_due() || slot.header.state_number().is_none() || !slot.header.gate.pin() {
            return false;
        }
        slot.header.set_last_close_due(true);
        self.objects.last_closed.push(reference.place.index(), &slot.header.next);
        true
    }

    fn end_front(&mut self, hand_over: bool) -> Buried {
        let Some(place) = self.front else { return Buried::Refused };
        let Some(slot) = self.objects.slot(place) else { return Buried::Refused };
        if matches!(slot.header.gate.stamp(), Stamp::Live(_)) {
            return Buried::Refused;
        }
        self.front = Place::from_raw(load_32(&slot.header.next, Ordering::Relaxed));
        store_32(&slot.header.next, 0, Ordering::Relaxed);
        // A condemned object is pinned, one from the reaper list has no reference.
        let owned = load_32(&slot.header.owned, Ordering::Relaxed);
        if owned & CONDEMNED != 0 {
            store_32(&slot.header.owned, (owned & !CONDEMNED) + 1, Ordering::Relaxed);
        }
        if slot.header.gate.references() > 0 && give_up_owned(slot) != Release::Last {
            return Buried::Referenced;
        }
        self.dead -= 1;
        if hand_over && slot.header.state_number().is_some() {
            self.objects.finished.push(place.index(), &slot.header.next);
            return Buried::Freed;
        }
        // SAFETY: the slot must be the owner's alone: it gave up the last reference, or found it on the reaper list. A
        // slot that is in two lists would break it.
        unsafe { self.objects.bury(place, slot, &mut self.free) };
        Buried::Freed
    }

    /// Whether somebody waits to be buried.
    #[must_use]
    pub fn has_queued(&self) -> bool {
        self.front.is_some() || self.objects.has_queued()
    }
}

/// The largest number of a built-in type.
const LARGEST_NUMBER: u16 = {
    let mut largest = 0;
    let mut at = 0;
    while at < ObjectType::ALL.len() {
        let number = ObjectType::ALL[at].number().0;
        if number > largest {
            largest = number;
        }
        at += 1;
    }
    largest
};

/// Changes a word that the owner alone writes.
fn add(word: &AtomicU32, more: u32) {
    store_32(word, load_32(word, Ordering::Relaxed).saturating_add(more), Ordering::Relaxed);
}

/// Counts one of the owner's references more, on whatever is referenced; `false` if nothing is.
fn pin(slot: &Slot) -> bool {
    if load_32(&slot.header.owned, Ordering::Relaxed) == 0 && !slot.header.gate.pin() {
        return false;
    }
    add(&slot.header.owned, 1);
    true
}

/// Gives up one of the owner's references. The last of these gives up the one that threads see.
fn give_up_owned(slot: &Slot) -> Release {
    match load_32(&slot.header.owned, Ordering::Relaxed) {
        0 | CONDEMNED => Release::None,
        1 => {
            store_32(&slot.header.owned, 0, Ordering::Relaxed);
            slot.header.gate.release()
        }
        owned => {
            store_32(&slot.header.owned, owned - 1, Ordering::Relaxed);
            Release::Remaining
        }
    }
}

impl<B> Drop for Slab<B> {
    /// Takes the tags and drops the bodies of those that live: one pass over the slots, no recursion. States of users' types
    /// are left to whoever drops the objects last.
    fn drop(&mut self) {
        for index in 0..self.objects.used() {
            let Some(slot) = Place::new(index).and_then(|place| self.objects.slot(place)) else { continue };
            if slot.header.is_owners() {
                slot.header.gate.take_tag();
                slot.header.set_body(slot.header.type_number().0);
                // SAFETY: there must be a B, which is not used again: the mark was there (see `body`), and was taken
                // off. Dropping before the mark is off would break it, where a drop panics.
                unsafe { slot.room.get().cast::<B>().drop_in_place() };
            }
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::Held;
    use kobj_abi::Era;
    use std::string::String;
    use std::vec::Vec;

    fn tag(counter: u32) -> Tag {
        Tag { letters: *b"HOST", koid: Koid::new(Era(7), counter).unwrap() }
    }

    /// Every byte of a slot, by plain reads.
    fn bytes<B>(slab: &Slab<B>, place: Place) -> Vec<u8> {
        let slot: *const Slot = slab.objects.slot(place).unwrap();
        // SAFETY: the bytes must be inside the slot, written, and nobody's meanwhile: it is allocated zeroed, and what
        // `create`, `take_tag` and `bury_front` write has no gaps here (bodies of these tests have no padding; one that has
        // some would break it); no other thread has this slab.
        unsafe { core::slice::from_raw_parts(slot.cast::<u8>(), size_of::<Slot>()) }.to_vec()
    }

    #[test]
    fn a_stale_reference_is_caught_though_the_slot_lives_again() {
        let mut slab = Slab::try_new().unwrap();
        let first = slab.create(tag(1), &Birth::default(), String::from("first")).unwrap();
        assert_eq!(slab.body(first).unwrap(), "first");
        assert_eq!(slab.release(first.place()), Release::Last);
        assert_eq!(slab.front(), Some(first.place()));
        assert_eq!(slab.bury_front(), Buried::Refused, "the tag must be taken before the memory");
        assert_eq!(slab.take_tag(first).unwrap().unwrap(), "first");
        assert_eq!(slab.body(first), Err(Stale));
        assert_eq!(slab.bury_front(), Buried::Freed);
        let second = slab.create(tag(2), &Birth::default(), String::from("second")).unwrap();
        assert_eq!(second.place(), first.place());
        assert_eq!(slab.body(first), Err(Stale));
        assert_eq!(slab.acquire(first), Err(AcquireError::Stale));
        assert_eq!(slab.header(second).unwrap().gate.references(), 1);
    }

    #[test]
    fn freed_memory_is_scrubbed_clean() {
        let mut slab = Slab::try_new().unwrap();
        let birth = Birth {
            creator: Some(tag(9).koid),
            created_us: -1,
            charge_bytes: !0,
            name: Some(b"secret"),
            owner: Place::new(6),
            object_type: Some(ObjectType::HostObject),
        };
        let object = slab.create(tag(1), &birth, [0xaa_u8; 64]).unwrap();
        slab.header_mut(object).unwrap().set_mark(!0);
        assert_eq!(slab.creator(object), Ok(birth.creator));
        assert_eq!(slab.name(object).unwrap(), Some(&b"secret"[..]));
        slab.condemn(object).unwrap();
        assert!(bytes(&slab, object.place())[64..].iter().all(|byte| *byte == 0), "a corpse keeps no body");
        slab.release(object.place());
        assert_eq!(slab.bury_front(), Buried::Freed);
        assert_eq!(bytes(&slab, object.place()), [0; 128]);
        assert!(slab.optional.is_empty());
    }

    #[test]
    fn no_memory_is_freed_while_referenced() {
        let mut slab = Slab::try_new().unwrap();
        let object = slab.create(tag(1), &Birth::default(), ()).unwrap();
        slab.acquire(object).unwrap();
        slab.condemn(object).unwrap();
        assert_eq!(slab.bury_front(), Buried::Referenced);
        assert_eq!((slab.live(), slab.dead(), slab.stamp(object.place())), (0, 1, Stamp::Dead(object.koid())));
        assert_eq!(slab.release(object.place()), Release::Remaining);
        assert_eq!(slab.front(), None);
        assert_eq!(slab.release(object.place()), Release::Last);
        assert_eq!(slab.front(), Some(object.place()));
        assert_eq!(slab.bury_front(), Buried::Freed);
        assert_eq!(slab.stamp(object.place()), Stamp::Free);
        assert_eq!(slab.bury_front(), Buried::Refused);
    }

    #[test]
    fn what_still_lives_is_dropped_with_the_slab() {
        let witness = alloc::rc::Rc::new(());
        let mut slab = Slab::try_new().unwrap();
        for counter in 1..=3000 {
            slab.create(tag(counter), &Birth::default(), witness.clone()).unwrap();
        }
        let one = slab.iter().nth(2000).unwrap();
        drop(slab.condemn(one).unwrap());
        assert_eq!(alloc::rc::Rc::strong_count(&witness), 3000);
        drop(slab);
        assert_eq!(alloc::rc::Rc::strong_count(&witness), 1);
    }

    #[test]
    fn condemning_what_waits_already_queues_it_once() {
        let mut slab = Slab::try_new().unwrap();
        let object = slab.create(tag(1), &Birth::default(), ()).unwrap();
        assert_eq!(slab.release(object.place()), Release::Last);
        slab.condemn(object).unwrap();
        assert_eq!(slab.front(), Some(object.place()));
        assert_eq!(slab.bury_front(), Buried::Freed);
        assert_eq!(slab.front(), None);
    }

    #[test]
    fn what_is_to_be_buried_is_not_given_up_into_a_second_list() {
        let mut slab = Slab::try_new().unwrap();
        let object = slab.create(tag(1), &Birth::default(), ()).unwrap();
        slab.condemn(object).unwrap();
        let released = [slab.release(object.place()), slab.release(object.place())];
        assert_eq!(released, [Release::Remaining, Release::None], "the list's reference is not to be given up");
        assert_eq!(slab.bury_front(), Buried::Freed);
        assert_eq!((slab.front(), slab.bury_front()), (None, Buried::Refused), "it was in another list too");
        let [one, other] = [2, 3].map(|number| slab.create(tag(number), &Birth::default(), ()).unwrap());
        assert_ne!(one.place(), other.place(), "two objects in one slot");
    }

    #[test]
    fn the_owners_references_are_one_of_the_threads_and_handles_are_apart() {
        let mut slab: Slab<()> = Slab::try_new().unwrap();
        let object = slab.create(tag(1), &Birth::default(), ()).unwrap();
        slab.acquire(object).unwrap();
        assert_eq!(slab.add_handle(object), AddHandle::NoHandle);
        assert_eq!(slab.add_first_handle(object), AddHandle::Counted);
        assert_eq!(slab.add_handle(object), AddHandle::Counted);
        let header = slab.header(object).unwrap();
        assert_eq!((header.references(), header.counts().references(), header.counts().handles()), (4, 3, 2));
        assert!(header.counts().in_graph());
        let shared = slab.shared();
        let held = shared.hold(object).unwrap();
        for _ in 0..2 {
            assert_eq!(slab.release(object.place()), Release::Remaining);
        }
        assert_eq!(slab.release(object.place()), Release::None, "what threads and handles count is not the owner's");
        assert_eq!(slab.drop_handle(object.place()), DropHandle::Remaining);
        assert_eq!(slab.drop_handle(object.place()), DropHandle::LastHandle);
        assert_eq!(slab.drop_handle(object.place()), DropHandle::None);
        assert_eq!(slab.release(object.place()), Release::Remaining, "the last handle's reference became the owner's");
        assert!(held.release(), "the first on the list is told");
        assert_eq!(slab.front(), Some(object.place()));
        let other = slab.create(tag(2), &Birth::default(), ()).unwrap();
        assert_eq!(slab.add_first_handle(other), AddHandle::Counted);
        assert_eq!(slab.drop_handle(other.place()), DropHandle::LastHandle);
        assert_eq!(slab.header(other).unwrap().references(), 2);
        let released = [slab.release(other.place()), slab.release(other.place())];
        assert_eq!(released, [Release::Remaining, Release::Last], "together with the owner's others");
    }

    #[test]
    fn many_threads_count_and_one_of_them_is_last() {
        let mut slab = Slab::try_new().unwrap();
        let object = slab.create(tag(1), &Birth::default(), ()).unwrap();
        let shared = slab.shared();
        let last: u32 = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let queued = (0..1000).filter(|_| shared.hold(object).is_ok_and(Held::release));
                        queued.count() as u32
                    })
                })
                .collect();
            let own = u32::from(slab.release(object.place()) == Release::Last);
            own + workers.into_iter().map(|worker| worker.join().unwrap()).sum::<u32>()
        });
        assert_eq!(last, 1);
        assert_eq!(slab.header(object).unwrap().gate.references(), 0);
        assert_eq!(slab.front(), Some(object.place()));
        slab.take_tag(object).unwrap();
        assert_eq!(slab.bury_front(), Buried::Freed);
        assert_eq!(slab.front(), None, "queued exactly once");
    }
}

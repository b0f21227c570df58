//! The slab: slots of header and body in chunks that never move.

use crate::chunks::{Chunks, PER_CHUNK};
use crate::header::{Birth, Header};
use crate::sync::Ordering;
use crate::{Acquire, Place, Reaper, Release, Stamp};
use alloc::boxed::Box;
use core::fmt;
use core::mem::MaybeUninit;
use kobj_abi::{Koid, Tag};

/// A reference to an object: where it stands and the tag it must bear. Looking through it checks the tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    place: Place,
    tag: Tag,
}

impl Reference {
    /// Where the object stands.
    #[must_use]
    pub const fn place(self) -> Place {
        self.place
    }

    /// The tag it must bear.
    #[must_use]
    pub const fn tag(self) -> Tag {
        self.tag
    }

    /// The object's id.
    #[must_use]
    pub const fn koid(self) -> Koid {
        self.tag.koid
    }
}

/// The object that a reference meant is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale;

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the object is no more; its tag is gone")
    }
}

/// There is no slot left: [`Place::MAX`] are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Why a reference was not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcquireError {
    /// The object is no more.
    Stale,
    /// It has too many references.
    Full,
}

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

/// Header and body. The body is there exactly while the header bears a living object's tag.
#[repr(C)]
struct Slot<B> {
    header: Header,
    body: MaybeUninit<B>,
}

impl<B> Slot<B> {
    fn is_live(&self) -> bool {
        matches!(self.header.gate.stamp(), Stamp::Live(_))
    }
}

/// Objects with bodies of type `B`.
///
/// Counting references ([`Slab::acquire`], [`Slab::release`]) needs `&self` alone and may be done by many threads.
pub struct Slab<B> {
    slots: Chunks<Slot<B>>,
    /// First free slot among those used before.
    free: Option<Place>,
    /// Slots ever used: behind it all is untouched.
    used: u32,
    live: u32,
    dead: u32,
    reaper: Reaper,
    /// Taken from the reaper or condemned: first to be buried. Threaded through `next`.
    front: Option<Place>,
    optional: Optional,
}

impl<B> fmt::Debug for Slab<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slab").field("live", &self.live).field("dead", &self.dead).finish_non_exhaustive()
    }
}

impl<B> Default for Slab<B> {
    fn default() -> Self {
        Self {
            slots: Chunks::default(),
            free: None,
            used: 0,
            live: 0,
            dead: 0,
            reaper: Reaper::default(),
            front: None,
            optional: Optional::default(),
        }
    }
}

impl<B> Slab<B> {
    /// Bytes of a slot: what each object costs in here.
    pub const SLOT_BYTES: u32 = size_of::<Slot<B>>() as u32;

    /// How many objects live.
    #[must_use]
    pub fn live(&self) -> u32 {
        self.live
    }

    /// How many objects are destroyed and not yet buried.
    #[must_use]
    pub fn dead(&self) -> u32 {
        self.dead
    }

    /// Makes an object: takes a slot, stamps the tag, counts the first reference.
    ///
    /// # Errors
    /// [`Full`] if no slot is left; then nothing changed, and the body is dropped.
    pub fn create(&mut self, tag: Tag, birth: &Birth<'_>, body: B) -> Result<Reference, Full> {
        let place = self.take_slot()?;
        let optional = birth.name.map(|name| self.optional.insert(name));
        let slot = self.slots.get_mut(place).ok_or(Full)?;
        slot.body.write(body);
        let header = &mut slot.header;
        header.creator = birth.creator;
        header.created_us = birth.created_us;
        header.owner = birth.owner;
        header.charge_bytes = birth.charge_bytes;
        header.optional = optional.flatten();
        header.gate.open(tag);
        self.live += 1;
        Ok(Reference { place, tag })
    }

    fn take_slot(&mut self) -> Result<Place, Full> {
        if let Some(place) = self.free {
            let slot = self.slots.get_mut(place).ok_or(Full)?;
            self.free = Place::from_raw(core::mem::take(slot.header.next.get_mut()));
            return Ok(place);
        }
        let place = Place::new(self.used).ok_or(Full)?;
        if self.used as usize == self.slots.capacity() {
            self.slots.grow(|| Slot { header: Header::default(), body: MaybeUninit::zeroed() });
        }
        self.used += 1;
        Ok(place)
    }

    fn slot(&self, reference: Reference) -> Result<&Slot<B>, Stale> {
        let slot = self.slots.get(reference.place).ok_or(Stale)?;
        if slot.header.gate.is(reference.tag) { Ok(slot) } else { Err(Stale) }
    }

    fn slot_mut(&mut self, reference: Reference) -> Result<&mut Slot<B>, Stale> {
        let slot = self.slots.get_mut(reference.place).ok_or(Stale)?;
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
    pub fn header_mut(&mut self, reference: Reference) -> Result<&mut Header, Stale> {
        Ok(&mut self.slot_mut(reference)?.header)
    }

    /// The object's body.
    ///
    /// # Errors
    /// [`Stale`] if the object is no more.
    #[inline]
    pub fn body(&self, reference: Reference) -> Result<&B, Stale> {
        let slot = self.slot(reference)?;
        // SAFETY: the body must be there. A slot that bears a type's letters has one: `create` writes it before it stamps,
        // `take_tag` takes it out when it stamps dead. A third place that stamps would break this.
        Ok(unsafe { slot.body.assume_init_ref() })
    }

    /// The object's body, to change.
    ///
    /// # Errors
    /// [`Stale`] if the object is no more.
    #[inline]
    pub fn body_mut(&mut self, reference: Reference) -> Result<&mut B, Stale> {
        let slot = self.slot_mut(reference)?;
        // SAFETY: the body must be there: as in `body`, and broken by the same. The borrow of the slab is unique.
        Ok(unsafe { slot.body.assume_init_mut() })
    }

    /// The object's name, if it has one.
    ///
    /// # Errors
    /// [`Stale`] if the object is no more.
    pub fn name(&self, reference: Reference) -> Result<Option<&[u8]>, Stale> {
        Ok(self.header(reference)?.optional.and_then(|place| self.optional.name(place)))
    }

    /// What stands at a place.
    #[must_use]
    pub fn stamp(&self, place: Place) -> Stamp {
        self.slots.get(place).map_or(Stamp::Free, |slot| slot.header.gate.stamp())
    }

    /// A reference to the living object at a place, not counted.
    ///
    /// # Errors
    /// [`Stale`] if none lives there.
    #[inline]
    pub fn at(&self, place: Place) -> Result<Reference, Stale> {
        match self.stamp(place) {
            Stamp::Live(tag) => Ok(Reference { place, tag }),
            Stamp::Dead(_) | Stamp::Free => Err(Stale),
        }
    }

    /// The header at a place, of a living or a dead object.
    #[must_use]
    pub fn any_header(&self, place: Place) -> Option<&Header> {
        self.slots.get(place).map(|slot| &slot.header).filter(|header| header.gate.stamp() != Stamp::Free)
    }

    /// The header at a place, of a living or a dead object, to change.
    #[must_use]
    pub fn any_header_mut(&mut self, place: Place) -> Option<&mut Header> {
        self.slots.get_mut(place).map(|slot| &mut slot.header).filter(|header| header.gate.stamp() != Stamp::Free)
    }

    /// Each living object, in the order of its slot.
    pub fn iter(&self) -> impl Iterator<Item = Reference> + '_ {
        (0..self.used).filter_map(|index| self.at(Place::new(index)?).ok())
    }

    /// Counts one reference more.
    ///
    /// # Errors
    /// [`AcquireError`]: the object is no more, or has too many.
    pub fn acquire(&self, reference: Reference) -> Result<(), AcquireError> {
        let slot = self.slots.get(reference.place).ok_or(AcquireError::Stale)?;
        match slot.header.gate.acquire(reference.tag) {
            Acquire::Counted => Ok(()),
            Acquire::Full => Err(AcquireError::Full),
            Acquire::Stale => Err(AcquireError::Stale),
            Acquire::StaleLast => {
                self.reaper.push(reference.place, &slot.header.next);
                Err(AcquireError::Stale)
            }
        }
    }

    /// Gives up one reference to the object, dead or alive, at a place. The last one queues it to be buried.
    pub fn release(&self, place: Place) -> Release {
        let Some(slot) = self.slots.get(place) else { return Release::None };
        let released = slot.header.gate.release();
        if released == Release::Last {
            self.reaper.push(place, &slot.header.next);
        }
        released
    }

    /// Takes the tag of an object and gives its body back: what is left of it is a corpse, which nobody can look at.
    ///
    /// # Errors
    /// [`Stale`] if it was destroyed before.
    pub fn take_tag(&mut self, reference: Reference) -> Result<B, Stale> {
        let slot = self.slot_mut(reference)?;
        slot.header.gate.take_tag();
        // SAFETY: the body must be there and not be used again. The tag was there (`slot_mut`), so the body is (see
        // `body`); the dead stamp, set before, makes this the last look at it. Stamping after the read would break this if
        // dropping the body panicked.
        let body = unsafe { slot.body.assume_init_read() };
        // SAFETY: the pointer must be good for one `B`: it comes from the slot's own `MaybeUninit`, borrowed uniquely. A
        // count above 1 would break this.
        unsafe { core::ptr::write_bytes(slot.body.as_mut_ptr(), 0, 1) };
        let optional = slot.header.optional.take();
        if let Some(place) = optional {
            self.optional.remove(place);
        }
        self.live -= 1;
        self.dead += 1;
        Ok(body)
    }

    /// Takes the tag of an object that may still be referenced and puts it in front of those to be buried.
    ///
    /// It is pinned until [`Slab::bury_front`].
    ///
    /// # Errors
    /// [`Stale`] if it was destroyed before.
    pub fn condemn(&mut self, reference: Reference) -> Result<B, Stale> {
        let body = self.take_tag(reference)?;
        let front = self.front;
        if let Some(slot) = self.slots.get_mut(reference.place)
            && slot.header.gate.pin()
        {
            *slot.header.next.get_mut() = front.map_or(0, Place::raw);
            self.front = Some(reference.place);
        }
        // Else the last reference is gone: it is on the reaper list already, and a slot is in at most one list.
        Ok(body)
    }

    /// Who is to be buried next: an object, still tagged or not, that lost its last reference or was condemned.
    pub fn front(&mut self) -> Option<Place> {
        if self.front.is_none() {
            self.front = self.reaper.take();
        }
        self.front
    }

    /// Buries who is in front: a slot that nobody references is scrubbed clean and freed.
    pub fn bury_front(&mut self) -> Buried {
        let Some(place) = self.front else { return Buried::Refused };
        let free = self.free;
        let Some(slot) = self.slots.get_mut(place) else { return Buried::Refused };
        if slot.is_live() {
            return Buried::Refused;
        }
        self.front = Place::from_raw(core::mem::take(slot.header.next.get_mut()));
        // A condemned object is pinned, one from the reaper list has no reference.
        if slot.header.gate.references() > 0 && slot.header.gate.release() != Release::Last {
            return Buried::Referenced;
        }
        // The body was cleaned when the tag was taken. The header has no padding, so this cleans every byte of it.
        slot.header = Header::default();
        slot.header.next.store(free.map_or(0, Place::raw), Ordering::Relaxed);
        self.free = Some(place);
        self.dead -= 1;
        Buried::Freed
    }

    /// Whether somebody waits to be buried.
    #[must_use]
    pub fn has_queued(&self) -> bool {
        self.front.is_some() || !self.reaper.is_empty()
    }
}

impl<B> Drop for Slab<B> {
    /// Drops the bodies of those that live: one pass over the slots, no recursion.
    fn drop(&mut self) {
        for index in 0..self.used {
            let Some(slot) = Place::new(index).and_then(|place| self.slots.get_mut(place)) else { continue };
            if slot.is_live() {
                // SAFETY: the body must be there and not be used again: it is tagged, so it is there (see `body`); the
                // slab is being dropped. Calling this from anywhere but `drop` would break it.
                unsafe { slot.body.assume_init_drop() };
            }
        }
    }
}

/// The optional parts of headers: names, for now.
#[derive(Debug, Default)]
struct Optional {
    parts: Chunks<Part>,
    free: Option<Place>,
    used: u32,
}

#[derive(Debug, Default)]
struct Part {
    name: Box<[u8]>,
    next: Option<Place>,
}

impl Optional {
    fn insert(&mut self, name: &[u8]) -> Option<Place> {
        let place = match self.free {
            Some(place) => place,
            None => {
                let place = Place::new(self.used)?;
                if self.used as usize == self.parts.capacity() {
                    self.parts.grow(Part::default);
                }
                self.used += 1;
                place
            }
        };
        let part = self.parts.get_mut(place)?;
        self.free = part.next.take();
        part.name = name.into();
        Some(place)
    }

    fn name(&self, place: Place) -> Option<&[u8]> {
        self.parts.get(place).map(|part| &*part.name)
    }

    fn remove(&mut self, place: Place) {
        let free = self.free;
        if let Some(part) = self.parts.get_mut(place) {
            *part = Part { name: Box::default(), next: free };
            self.free = Some(place);
        }
    }
}

const _: () = assert!(PER_CHUNK.is_power_of_two());

#[cfg(test)]
mod tests {
    use super::*;
    use kobj_abi::Era;
    use std::string::String;
    use std::vec::Vec;

    fn tag(counter: u32) -> Tag {
        Tag { letters: *b"HOST", koid: Koid::new(Era(7), counter).unwrap() }
    }

    /// Every byte of a slot, by plain reads.
    fn bytes<B>(slab: &Slab<B>, place: Place) -> Vec<u8> {
        let slot: *const Slot<B> = slab.slots.get(place).unwrap();
        let bytes = size_of::<Slot<B>>();
        // SAFETY: the bytes must be inside the slot and written: it is allocated zeroed, and what `create`, `take_tag` and
        // `bury_front` write has no gaps here (bodies of these tests have no padding; one that has some would break it).
        unsafe { core::slice::from_raw_parts(slot.cast::<u8>(), bytes) }.to_vec()
    }

    #[test]
    fn a_stale_reference_is_caught_though_the_slot_lives_again() {
        let mut slab = Slab::default();
        let first = slab.create(tag(1), &Birth::default(), String::from("first")).unwrap();
        assert_eq!(slab.body(first).unwrap(), "first");
        assert_eq!(slab.release(first.place()), Release::Last);
        assert_eq!(slab.front(), Some(first.place()));
        assert_eq!(slab.bury_front(), Buried::Refused, "the tag must be taken before the memory");
        assert_eq!(slab.take_tag(first).unwrap(), "first");
        assert_eq!(slab.body(first), Err(Stale));
        assert_eq!(slab.bury_front(), Buried::Freed);
        let second = slab.create(tag(2), &Birth::default(), String::from("second")).unwrap();
        assert_eq!(second.place(), first.place());
        assert_eq!(slab.body(first), Err(Stale));
        assert_eq!(slab.acquire(first), Err(AcquireError::Stale));
        assert_eq!(slab.header(second).unwrap().gate().references(), 1);
    }

    #[test]
    fn freed_memory_is_scrubbed_clean() {
        let mut slab = Slab::default();
        let birth = Birth {
            creator: Some(tag(9).koid),
            created_us: -1,
            charge_bytes: !0,
            name: Some(b"secret"),
            owner: Place::new(6),
        };
        let object = slab.create(tag(1), &birth, [0xaa_u8; 64]).unwrap();
        slab.header_mut(object).unwrap().mark = !0;
        assert_eq!(slab.name(object).unwrap(), Some(&b"secret"[..]));
        slab.condemn(object).unwrap();
        assert!(bytes(&slab, object.place())[64..].iter().all(|byte| *byte == 0), "a corpse keeps no body");
        slab.release(object.place());
        assert_eq!(slab.bury_front(), Buried::Freed);
        assert_eq!(bytes(&slab, object.place()), [0; 128]);
        assert_eq!(slab.optional.name(Place::new(0).unwrap()), Some(&[][..]));
    }

    #[test]
    fn no_memory_is_freed_while_referenced() {
        let mut slab = Slab::default();
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
        let mut slab = Slab::default();
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
        let mut slab = Slab::default();
        let object = slab.create(tag(1), &Birth::default(), ()).unwrap();
        assert_eq!(slab.release(object.place()), Release::Last);
        slab.condemn(object).unwrap();
        assert_eq!(slab.front(), Some(object.place()));
        assert_eq!(slab.bury_front(), Buried::Freed);
        assert_eq!(slab.front(), None);
    }

    #[test]
    fn many_threads_count_and_one_of_them_is_last() {
        let mut slab = Slab::default();
        let object = slab.create(tag(1), &Birth::default(), ()).unwrap();
        let shared = &slab;
        let last: u32 = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(move || {
                        for _ in 0..1000 {
                            if shared.acquire(object).is_ok() {
                                assert_ne!(shared.release(object.place()), Release::None);
                            }
                        }
                        0
                    })
                })
                .collect();
            let own = u32::from(shared.release(object.place()) == Release::Last);
            own + workers.into_iter().map(|worker| worker.join().unwrap()).sum::<u32>()
        });
        assert!(last <= 1);
        assert_eq!(slab.header(object).unwrap().gate().references(), 0);
        assert_eq!(slab.front(), Some(object.place()));
        slab.take_tag(object).unwrap();
        assert_eq!(slab.bury_front(), Buried::Freed);
        assert_eq!(slab.front(), None, "queued exactly once");
    }
}

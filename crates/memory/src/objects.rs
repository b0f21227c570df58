//! The objects as every thread sees them: held by counted references, closed by handles, looked at by place.
//!
//! A slot is a header of atomic words and a body of 64 bytes. Bodies of the slab's owner are behind [`crate::Slab`] alone;
//! a user's state is read by whoever holds a reference. Who gives up the last reference is told so, and alone: it has the
//! sole right to the slot (an [`Ended`]), buries it or puts it on the reaper list, from where the owner buries it.

use crate::buckets::{Buckets, Zeroed};
use crate::header::Header;
use crate::slot_list::SlotList;
use crate::state::{STATE_BYTES, StateKey, Types};
use crate::sync::{AtomicU32, AtomicU64, Ordering, load_32, load_64, store_32};
use crate::{Acquire, AddHandle, DropHandle, NoMemory, Place, Reaper, Release, Shared, Stamp};
use core::cell::UnsafeCell;
use core::fmt;
use core::mem::MaybeUninit;
use kobj_abi::{Koid, Tag, TypeNumber};

/// A reference to an object: where it stands and the tag it must bear. Looking through it checks the tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    pub(crate) place: Place,
    pub(crate) tag: Tag,
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

/// Why a reference was not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcquireError {
    /// The object is no more.
    Stale,
    /// It has too many references.
    Full,
}

/// The body of a slot: a value of the slab's owner, or a user's state, or zeroes; the header says which.
#[repr(C, align(16))]
pub(crate) struct Room([MaybeUninit<u8>; STATE_BYTES]);

/// Header and body: two cache lines, never shared with a neighbour.
#[repr(C, align(128))]
pub(crate) struct Slot {
    pub(crate) header: Header,
    pub(crate) room: UnsafeCell<Room>,
}

#[cfg(not(any(loom, shuttle)))]
const _: () = assert!(size_of::<Slot>() == 128, "an object is two cache lines");

// SAFETY: zeroes must be a value, without a drop: they are a free slot's header and bytes that nobody reads. A field
// with a niche, or one that owns, would break it.
unsafe impl Zeroed for Slot {
    #[cfg(any(loom, shuttle))]
    fn zeroed() -> Self {
        Self { header: Header::default(), room: UnsafeCell::new(Room([MaybeUninit::zeroed(); STATE_BYTES])) }
    }
}

// SAFETY: threads that share a slot must not race for its body. It is written by who has the sole right to the slot (who
// took it from a free list, before the tag; who was told `Last`, behind it) and by the unique owner of the `Slab`, whose
// bodies nobody else looks at. States are `Sync`, and read by those alone who are counted. Reading a state without being
// counted, or burying without the sole right, would break it.
unsafe impl Sync for Slot {}

/// A list of free slots of one thread, threaded through their headers.
#[derive(Debug, Default)]
pub(crate) struct Free {
    first: Option<Place>,
    count: u32,
}

impl Free {
    pub(crate) fn len(&self) -> u32 {
        self.count
    }

    pub(crate) fn push(&mut self, place: Place, slot: &Slot) {
        store_32(&slot.header.next, self.first.map_or(0, Place::raw), Ordering::Relaxed);
        self.first = Some(place);
        self.count += 1;
    }

    /// Takes a slot off the list: it is the caller's alone.
    pub(crate) fn pop<'a>(&mut self, objects: &'a Objects) -> Option<(Place, &'a Slot)> {
        let place = self.first?;
        let slot = objects.slot(place)?;
        self.first = Place::from_raw(load_32(&slot.header.next, Ordering::Relaxed));
        self.count = self.count.saturating_sub(1);
        store_32(&slot.header.next, 0, Ordering::Relaxed);
        Some((place, slot))
    }

    /// Whether there is none. A list that was taken from others is not counted, so the count does not say it.
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The slots that others gave back become the list, if it is empty.
    pub(crate) fn take_returned(&mut self, objects: &Objects) {
        if self.first.is_none() {
            self.first = objects.returned.take();
        }
    }
}

/// All objects of one manager. Slots are never moved and never given back before the whole.
pub struct Objects {
    slots: Buckets<Slot>,
    /// Slots below were used: behind all is untouched.
    used: AtomicU32,
    pub(crate) reaper: Reaper,
    /// Free slots that leases gave back.
    pub(crate) returned: Reaper,
    /// Users' objects whose last-close hook is due: each is held by one reference.
    pub(crate) last_closed: SlotList,
    /// Users' objects that have ended and wait for their destroy hook: whoever takes one has the sole right to it.
    pub(crate) finished: SlotList,
    pub(crate) types: Types,
    /// What no other slab of this program has or had.
    pub(crate) slab: u64,
    /// States whose drop panicked.
    panicked: AtomicU64,
    /// References that are kept by [`Kept`].
    kept: AtomicU64,
    /// By place, where audits ask object by object: those of them and of [`Held`].
    #[cfg(debug_assertions)]
    keepers: Buckets<Keepers>,
}

/// How many keep the object of a slot.
#[cfg(debug_assertions)]
struct Keepers(AtomicU32);

// SAFETY: zeroes must be a value, without a drop: they are the number 0. A niche would break it.
#[cfg(debug_assertions)]
unsafe impl Zeroed for Keepers {
    #[cfg(any(loom, shuttle))]
    fn zeroed() -> Self {
        Self(AtomicU32::new(0))
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").field("slab", &self.slab).field("used", &self.used()).finish_non_exhaustive()
    }
}

impl Objects {
    pub(crate) fn new() -> Self {
        static SLABS: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(1);
        Self {
            slots: Buckets::default(),
            used: AtomicU32::new(0),
            reaper: Reaper::default(),
            returned: Reaper::default(),
            last_closed: SlotList::default(),
            finished: SlotList::default(),
            types: Types::default(),
            // Relaxed: that the numbers differ is all that is asked. It would take centuries to wrap.
            slab: SLABS.fetch_add(1, Ordering::Relaxed),
            panicked: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            #[cfg(debug_assertions)]
            keepers: Buckets::default(),
        }
    }

    #[inline]
    pub(crate) fn slot(&self, place: Place) -> Option<&Slot> {
        self.slots.get(place.index())
    }

    /// Takes a slot that was never used; the slab's owner alone calls this.
    pub(crate) fn extend(&self) -> Result<Place, NoMemory> {
        let used = load_32(&self.used, Ordering::Relaxed);
        let place = Place::new(used).ok_or(NoMemory)?;
        #[cfg(debug_assertions)]
        self.keepers.grow_to(used)?;
        self.slots.grow_to(used)?;
        // Release: who sees the count sees the bucket.
        store_32(&self.used, used + 1, Ordering::Release);
        Ok(place)
    }

    /// Gives so many slots of a thread's list to all.
    pub(crate) fn give_back(&self, free: &mut Free, count: u32) {
        let Some(first) = free.first.filter(|_| count > 0) else { return };
        let mut last = first;
        let mut given = 1;
        let next_of = |place| Place::from_raw(load_32(&self.slot(place)?.header.next, Ordering::Relaxed));
        while given < count
            && let Some(next) = next_of(last)
        {
            last = next;
            given += 1;
        }
        free.first = next_of(last);
        free.count = free.count.saturating_sub(given);
        if let Some(slot) = self.slot(last) {
            // A whole piece of a list is pushed as one: its last link leads to the head that was there.
            self.returned.push(first, &slot.header.next);
        }
    }

    /// How many slots were ever used: each object has a place whose index is below.
    #[must_use]
    pub fn used(&self) -> u32 {
        load_32(&self.used, Ordering::Acquire)
    }

    /// States whose drop panicked; their slots were freed nevertheless.
    #[must_use]
    pub fn panicked_drops(&self) -> u64 {
        load_64(&self.panicked, Ordering::Relaxed)
    }

    /// A hook panicked that ran before [`Finished`]; counted with [`Objects::panicked_drops`].
    pub fn count_panic(&self) {
        self.panicked.fetch_add(1, Ordering::Relaxed);
    }

    /// References that are kept by [`Kept`].
    #[must_use]
    pub fn kept(&self) -> u64 {
        load_64(&self.kept, Ordering::Relaxed)
    }

    /// References to the object at a place that states and threads keep, by [`Kept`] and by [`Held`], and the one for a hook that
    /// is due; exact when all is quiet. `None` in a release build, where nobody counts them.
    #[must_use]
    pub fn keepers(&self, place: Place) -> Option<u32> {
        #[cfg(debug_assertions)]
        {
            let due = self.slot(place).is_some_and(|slot| slot.header.is_last_close_due());
            let kept = self.keepers.get(place.index()).map_or(0, |keepers| load_32(&keepers.0, Ordering::Relaxed));
            Some(kept + u32::from(due))
        }
        #[cfg(not(debug_assertions))]
        {
            let _ = place;
            None
        }
    }

    // Relaxed, both: numbers for audits, which look when all is quiet.

    /// Somebody who is counted keeps the object.
    #[inline]
    fn keep(&self, place: Place) {
        #[cfg(debug_assertions)]
        if let Some(keepers) = self.keepers.get(place.index()) {
            keepers.0.fetch_add(1, Ordering::Relaxed);
        }
        #[cfg(not(debug_assertions))]
        let _ = place;
    }

    /// One who kept the object is about to give its reference up.
    #[inline]
    fn unkeep(&self, place: Place) {
        #[cfg(debug_assertions)]
        if let Some(keepers) = self.keepers.get(place.index()) {
            keepers.0.fetch_sub(1, Ordering::Relaxed);
        }
        #[cfg(not(debug_assertions))]
        let _ = place;
    }

    /// What stands at a place.
    #[inline]
    #[must_use]
    pub fn stamp(&self, place: Place) -> Stamp {
        self.slot(place).map_or(Stamp::Free, |slot| slot.header.gate.stamp())
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

    /// [`Objects::at`] and [`Objects::header`] in one look.
    ///
    /// # Errors
    /// [`Stale`] if none lives there.
    #[inline]
    pub fn look_at(&self, place: Place) -> Result<(Reference, &Header), Stale> {
        let slot = self.slot(place).ok_or(Stale)?;
        match slot.header.gate.stamp() {
            Stamp::Live(tag) => Ok((Reference { place, tag }, &slot.header)),
            Stamp::Dead(_) | Stamp::Free => Err(Stale),
        }
    }

    /// The header of an object. Unless the caller keeps the object (holds it, or has a handle of it pinned), it may end at any
    /// time, and the header be another's.
    ///
    /// # Errors
    /// [`Stale`] if the object is no more.
    #[inline]
    pub fn header(&self, reference: Reference) -> Result<&Header, Stale> {
        let slot = self.slot(reference.place).ok_or(Stale)?;
        if slot.header.gate.is(reference.tag) { Ok(&slot.header) } else { Err(Stale) }
    }

    /// Counts one reference more and holds the object.
    ///
    /// # Errors
    /// [`AcquireError`]: the object is no more, or has too many references.
    #[inline]
    pub fn hold(&self, reference: Reference) -> Result<Held<'_>, AcquireError> {
        let slot = self.slot(reference.place).ok_or(AcquireError::Stale)?;
        self.acquire(reference, slot)?;
        Ok(Held::new(self, slot, reference.place))
    }

    /// Holds whatever object lives at a place: what it says of itself is then of one object, whole.
    #[must_use]
    pub fn hold_at(&self, place: Place) -> Option<Held<'_>> {
        let slot = self.slot(place)?;
        if slot.header.gate.acquire_any() != Acquire::Counted {
            return None;
        }
        // Counted now, so it stays what it is; a destroyed one is given up again by the drop.
        let held = Held::new(self, slot, place);
        matches!(held.stamp(), Stamp::Live(_)).then_some(held)
    }

    /// Holds each living object in turn, in the order of places: a census beside others' work. What lived throughout is
    /// met exactly once.
    pub fn iter(&self) -> impl Iterator<Item = Held<'_>> + '_ {
        (0..self.used()).filter_map(|index| self.hold_at(Place::new(index)?))
    }

    pub(crate) fn acquire(&self, reference: Reference, slot: &Slot) -> Result<(), AcquireError> {
        match slot.header.gate.acquire(reference.tag) {
            Acquire::Counted => Ok(()),
            Acquire::Full => Err(AcquireError::Full),
            Acquire::Stale => Err(AcquireError::Stale),
            Acquire::StaleLast => {
                self.queue(reference.place, slot);
                Err(AcquireError::Stale)
            }
        }
    }

    /// Puts a slot whose last reference went on the reaper list; the caller was told so, and gives up its sole right.
    pub(crate) fn queue(&self, place: Place, slot: &Slot) -> bool {
        self.reaper.push(place, &slot.header.next)
    }

    /// Counts one handle more on the object at a place, of which the caller has a handle pinned.
    pub fn add_handle(&self, place: Place) -> AddHandle {
        self.slot(place).map_or(AddHandle::NoHandle, |slot| slot.header.gate.add_handle())
    }

    /// Gives up a handle on the object at a place, and the handle's reference.
    ///
    /// Nobody can be hurt by a handle that is dropped twice: the second takes another's handle, whose object may end early
    /// and be found stale; references that are held are none of a handle's.
    #[inline]
    pub fn drop_handle(&self, place: Place) -> Dropped<'_> {
        let Some(slot) = self.slot(place) else { return Dropped::None };
        match slot.header.gate.drop_handle() {
            (DropHandle::Remaining, _) => Dropped::Remaining,
            (DropHandle::LastHandle, _) => Dropped::LastHandle(Held::new(self, slot, place)),
            (DropHandle::Last, _) => Dropped::Last(Ended { objects: self, slot, place }),
            (DropHandle::None, _) => Dropped::None,
        }
    }

    /// Whether somebody waits for the owner to bury it.
    #[must_use]
    pub fn has_queued(&self) -> bool {
        !self.reaper.is_empty()
    }

    /// The state in a slot's body, if it is an S of whatever type.
    ///
    /// # Safety
    /// As [`Objects::state`].
    pub(crate) unsafe fn state_as<'a, S: 'static>(&self, slot: &'a Slot) -> Option<&'a S> {
        let table = self.types.get(slot.header.state_number()?)?;
        if table.state != core::any::TypeId::of::<S>() {
            return None;
        }
        // SAFETY: there must be an S, as in `state`: the type of that number was registered with S, so says its table.
        // One number for two types would break it.
        Some(unsafe { &*slot.room.get().cast::<S>() })
    }

    /// The state in a slot's body, if it is one of that key.
    ///
    /// # Safety
    /// The caller keeps the object from being buried as long as the result is used: it is counted, or has the sole right.
    unsafe fn state<'a, S>(&self, slot: &'a Slot, key: &StateKey<S>) -> Option<&'a S> {
        if key.slab != self.slab || slot.header.state_number() != Some(key.number()) {
            return None;
        }
        // SAFETY: there must be an S, which nobody writes or drops: a slot with a type's number has that type's state,
        // written before the tag, and the number of this slab's key belongs to S alone. It is dropped by burial, which
        // the caller keeps off. A number that is given twice would break it.
        Some(unsafe { &*slot.room.get().cast::<S>() })
    }

    /// Puts a new object's state in a slot that is the caller's alone; its gate is opened next.
    pub(crate) fn put<S>(&self, slot: &Slot, state: S) {
        const { assert!(size_of::<S>() <= size_of::<Room>() && align_of::<S>() <= align_of::<Room>(), "it has room") };
        // SAFETY: the room must be good for an S and nobody's: it is large and aligned enough, and the slot was taken from a
        // free list by the caller, who has not opened the gate. Calling this for a slot that bears a tag would break it.
        unsafe { slot.room.get().cast::<S>().write(state) };
    }

    /// Drops what is left of an object and frees its slot: not a byte of it remains.
    ///
    /// A state whose drop panics is not dropped again: its slot is cleaned and freed then too.
    ///
    /// # Safety
    /// The caller has the sole right to the slot: there is no reference, and it was told so by the last one or took the
    /// slot from the reaper list.
    pub(crate) unsafe fn bury(&self, place: Place, slot: &Slot, free: &mut Free) {
        let number = slot.header.state_number();
        let mut scrub = Scrub { objects: self, place, slot, free, dropped: false };
        if let Some(drop) = number.and_then(|number| self.types.get(number)?.drop) {
            // SAFETY: there must be a state of that type, which nobody else uses: the number says so, and the caller
            // has the sole right. `scrub` takes the number off in any case, so nobody drops it again. A second burial
            // of the same object would break it.
            unsafe { drop(slot.room.get().cast()) };
        }
        scrub.dropped = true;
    }
}

/// Cleans a slot and frees it, whether or not the state's drop came back.
struct Scrub<'a> {
    objects: &'a Objects,
    place: Place,
    slot: &'a Slot,
    free: &'a mut Free,
    dropped: bool,
}

impl Drop for Scrub<'_> {
    fn drop(&mut self) {
        if !self.dropped {
            self.objects.panicked.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the room must be good for its own bytes and nobody's: `bury` was called with the sole right to it. A
        // slot that somebody else may take meanwhile would break it.
        unsafe { self.slot.room.get().write_bytes(0, 1) };
        self.slot.header.clear();
        self.free.push(self.place, self.slot);
    }
}

impl Drop for Objects {
    /// Drops the states that are left: one pass over the slots. Bodies of the slab's owner went with the slab.
    fn drop(&mut self) {
        for index in 0..self.used() {
            let Some(slot) = self.slots.get(index) else { continue };
            let number = slot.header.state_number();
            let Some(drop) = number.and_then(|number| self.types.get(number)?.drop) else { continue };
            // SAFETY: as in `bury`: the objects are borrowed uniquely, so nobody is counted any more, and this is the
            // last pass. An object that outlives the pass would break it.
            unsafe { drop(slot.room.get().cast()) };
        }
    }
}

/// A counted reference to an object: neither its slot nor its state goes while this is there.
///
/// Dropped, it gives the reference up; the last one puts the object on the reaper list.
pub struct Held<'a> {
    objects: &'a Objects,
    slot: &'a Slot,
    place: Place,
}

impl fmt::Debug for Held<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.stamp()).finish()
    }
}

impl<'a> Held<'a> {
    /// For who is counted.
    #[inline]
    fn new(objects: &'a Objects, slot: &'a Slot, place: Place) -> Self {
        objects.keep(place);
        Self { objects, slot, place }
    }
}

impl Held<'_> {
    /// Where it stands.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// Its tag, or that it was destroyed meanwhile.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.slot.header.gate.stamp()
    }

    /// A reference to it.
    ///
    /// # Errors
    /// [`Stale`] if it was destroyed meanwhile.
    pub fn reference(&self) -> Result<Reference, Stale> {
        self.objects.at(self.place)
    }

    /// Its header, also of a destroyed one.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.slot.header
    }

    /// Its state, if it is of that key's type; also a destroyed object's, as long as it is held.
    #[inline]
    #[must_use]
    pub fn state<S>(&self, key: &StateKey<S>) -> Option<&S> {
        // SAFETY: it must not be buried meanwhile: this counts one reference, which no handle gives up, as long as it
        // is borrowed. A handle that gives up others' references would break it.
        unsafe { self.objects.state(self.slot, key) }
    }

    /// Its state, if it is an S of whatever type.
    #[must_use]
    pub fn state_as<S: 'static>(&self) -> Option<&S> {
        // SAFETY: it must not be buried meanwhile, as in `state`. What breaks that breaks this.
        unsafe { self.objects.state_as(self.slot) }
    }

    /// Counts one handle more on it, unless its last one is gone.
    pub fn add_handle(&self) -> AddHandle {
        self.slot.header.gate.add_handle()
    }

    /// Gives it up; `true` if that was the last reference and the list was empty: tell the owner that there is work.
    pub fn release(self) -> bool {
        core::mem::ManuallyDrop::new(self).give_up()
    }

    fn give_up(&self) -> bool {
        self.objects.unkeep(self.place);
        self.slot.header.gate.release() == Release::Last && self.objects.queue(self.place, self.slot)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// A counted reference to an object that knows its way to it: what the state of one object keeps another by.
///
/// It is no handle: it allows nothing, no quota counts it, and nobody takes it back. Dropped, it gives the reference up; the
/// last one puts the object on the reaper list.
pub struct Kept {
    objects: Shared<Objects>,
    reference: Reference,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kept").field(&self.reference).finish()
    }
}

impl Kept {
    /// Keeps an object.
    ///
    /// # Errors
    /// [`AcquireError`]: it is no more, or has too many references.
    pub fn new(objects: &Shared<Objects>, reference: Reference) -> Result<Self, AcquireError> {
        let slot = objects.slot(reference.place).ok_or(AcquireError::Stale)?;
        objects.acquire(reference, slot)?;
        // Relaxed: a number for audits, which look when all is quiet.
        objects.kept.fetch_add(1, Ordering::Relaxed);
        objects.keep(reference.place);
        Ok(Self { objects: objects.clone(), reference })
    }

    /// The object's id.
    #[must_use]
    pub fn koid(&self) -> Koid {
        self.reference.koid()
    }

    /// Its state, if it is an S of whatever type.
    #[must_use]
    pub fn state_as<S: 'static>(&self) -> Option<&S> {
        let slot = self.objects.slot(self.reference.place)?;
        // SAFETY: it must not be buried meanwhile: this counts one reference, which no handle gives up, as long as it is
        // borrowed. Giving it up before its drop would break it.
        unsafe { self.objects.state_as(slot) }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.objects.kept.fetch_sub(1, Ordering::Relaxed);
        self.objects.unkeep(self.reference.place);
        let Some(slot) = self.objects.slot(self.reference.place) else { return };
        if slot.header.gate.release() == Release::Last {
            self.objects.queue(self.reference.place, slot);
        }
    }
}

/// An object whose last reference went, with the sole right to bury it. It still bears its tag, but nobody can be counted.
///
/// Dropped, it goes to the reaper list, for the owner to bury.
pub struct Ended<'a> {
    objects: &'a Objects,
    slot: &'a Slot,
    place: Place,
}

impl fmt::Debug for Ended<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ended").field(&self.slot.header.gate.stamp()).finish()
    }
}

impl Ended<'_> {
    /// Where it stands.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// Its tag, or that it was destroyed before.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.slot.header.gate.stamp()
    }

    /// Its header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.slot.header
    }

    /// Whether the owner knows it, so that its end is the owner's business.
    #[must_use]
    pub fn in_graph(&self) -> bool {
        self.slot.header.gate.counts().in_graph()
    }

    /// Its state, if it is an S of whatever type.
    #[must_use]
    pub fn state_as<S: 'static>(&self) -> Option<&S> {
        // SAFETY: it must not be buried meanwhile: this is the sole right to do so, and it is borrowed. A second
        // `Ended` for the object would break it.
        unsafe { self.objects.state_as(self.slot) }
    }

    /// Its state, if it is of that key's type.
    #[must_use]
    pub fn state<S>(&self, key: &StateKey<S>) -> Option<&S> {
        // SAFETY: it must not be buried meanwhile: this is the sole right to do so, and it is borrowed. A second
        // `Ended` for the object would break it.
        unsafe { self.objects.state(self.slot, key) }
    }

    /// Leaves it to the owner; `true` if the list was empty: tell the owner that there is work.
    pub fn leave(self) -> bool {
        let ended = core::mem::ManuallyDrop::new(self);
        ended.objects.queue(ended.place, ended.slot)
    }

    /// Drops what is left of it and frees its slot.
    pub(crate) fn bury(self, free: &mut Free) {
        let ended = core::mem::ManuallyDrop::new(self);
        // SAFETY: the slot must be the caller's alone: there is one `Ended` for an object, made for who gave up the last
        // reference, and this one is not dropped. A second way to make one would break it.
        unsafe { ended.objects.bury(ended.place, ended.slot, free) };
    }

    /// Whether it stands in these objects.
    pub(crate) fn is_of(&self, objects: &Objects) -> bool {
        core::ptr::eq(self.objects, objects)
    }
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.objects.queue(self.place, self.slot);
    }
}

/// A user's object that has ended, with the sole right to it, before its destroy hook: its tag is gone, its state is there.
///
/// Dropped, its state is dropped and its slot freed, also when a hook panicked before; that is counted.
pub struct Finished<'a> {
    objects: &'a Objects,
    slot: &'a Slot,
    place: Place,
    is_hooked: bool,
}

impl fmt::Debug for Finished<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Finished").field(&self.slot.header.gate.stamp()).finish()
    }
}

impl Finished<'_> {
    /// The id that it had.
    #[must_use]
    pub fn koid(&self) -> Option<Koid> {
        match self.slot.header.gate.stamp() {
            Stamp::Live(tag) => Some(tag.koid),
            Stamp::Dead(koid) => Some(koid),
            Stamp::Free => None,
        }
    }

    /// Its type.
    #[must_use]
    pub fn type_number(&self) -> TypeNumber {
        self.slot.header.type_number()
    }

    /// Its state, if it is an S.
    #[must_use]
    pub fn state_as<S: 'static>(&self) -> Option<&S> {
        // SAFETY: it must not be buried meanwhile: this is the sole right to do so, and it is borrowed. A second
        // `Finished` for the object would break it.
        unsafe { self.objects.state_as(self.slot) }
    }

    /// Its hooks have run, or it has none.
    pub fn hooked(mut self) {
        self.is_hooked = true;
    }
}

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        if !self.is_hooked {
            self.objects.panicked.fetch_add(1, Ordering::Relaxed);
        }
        let mut free = Given { objects: self.objects, free: Free::default() };
        // SAFETY: the slot must be the caller's alone: it took it from the list of those that ended, where each is
        // once. A slot that is on that list twice would break it.
        unsafe { self.objects.bury(self.place, self.slot, &mut free.free) };
    }
}

/// Slots that go back to all, also when a state's drop unwinds.
struct Given<'a> {
    objects: &'a Objects,
    free: Free,
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        let all = self.free.len();
        self.objects.give_back(&mut self.free, all);
    }
}

impl Objects {
    /// Takes one of the users' objects that have ended. Any thread may.
    #[must_use]
    pub fn next_finished(&self) -> Option<Finished<'_>> {
        let (place, slot) = self.pop(&self.finished)?;
        Some(Finished { objects: self, slot, place, is_hooked: false })
    }

    /// Takes one of the users' objects whose last-close hook is due. Any thread may.
    #[must_use]
    pub fn next_last_closed(&self) -> Option<Held<'_>> {
        let (place, slot) = self.pop(&self.last_closed)?;
        // From here on a further last close lets it come due again.
        slot.header.set_last_close_due(false);
        Some(Held::new(self, slot, place))
    }

    fn pop(&self, list: &SlotList) -> Option<(Place, &Slot)> {
        let index = list.pop(|index| self.slots.get(index).map(|slot| &slot.header.next))?;
        let place = Place::new(index)?;
        let slot = self.slot(place)?;
        store_32(&slot.header.next, 0, Ordering::Relaxed);
        Some((place, slot))
    }

    /// Whether hooks are due.
    #[inline]
    #[must_use]
    pub fn has_due_hooks(&self) -> bool {
        !self.finished.is_empty() || !self.last_closed.is_empty()
    }
}

/// What giving up a handle did.
#[derive(Debug)]
#[must_use = "what ended is buried late if it is dropped"]
pub enum Dropped<'a> {
    /// Other handles remain.
    Remaining,
    /// It was the last handle, and other references remain: the type's last-close hook is due, then the held reference is
    /// dropped. If the owner knows the object ([`crate::Counts::in_graph`]) its name goes now.
    LastHandle(Held<'a>),
    /// It was the last handle and the last reference: the last-close hook is due, then the end.
    Last(Ended<'a>),
    /// There was no handle to give up.
    None,
}

//! Tracing and the census: where each object and handle was made, and what there is.
//!
//! Off, it costs nothing. On, each object and each handle that comes of a call is noted with the place in the source, the
//! time and how it came to be: 24 bytes each, kept beside the objects and tables and never in them. A note that finds no
//! memory is left out and counted; no call fails for it.

use crate::call::{Call, CallAnswer, CallError};
use crate::image::Time;
use crate::manager::Core;
use alloc::vec::Vec;
use core::panic::Location;
use kobj_abi::{Koid, RawHandle, Rights, TypeNumber};
use kobj_memory::{Array, NoMemory, Place, TryPush};

/// How a handle came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// With its object.
    Created,
    /// By a name.
    Opened,
    /// From an equal.
    Duplicated,
    /// From one that can take it back.
    Derived,
    /// In the place of another one of the same process.
    Replaced,
    /// From another process.
    Transferred,
}

impl How {
    /// The word that people read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Opened => "opened",
            Self::Duplicated => "duplicated",
            Self::Derived => "derived",
            Self::Replaced => "replaced",
            Self::Transferred => "transferred",
        }
    }
}

/// Where and when something was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The place in the source of the program that asked for it.
    pub place: &'static Location<'static>,
    /// When.
    pub at: Time,
    /// How.
    pub how: How,
}

/// Notes by place or index.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    notes: Array<Option<Trace>>,
}

impl Notes {
    fn set(&mut self, index: u32, trace: Trace) -> Result<(), NoMemory> {
        while self.notes.len() <= index {
            self.notes.push(None)?;
        }
        if let Some(note) = Place::new(index).and_then(|place| self.notes.get_mut(place)) {
            *note = Some(trace);
        }
        Ok(())
    }

    fn get(&self, index: u32) -> Option<Trace> {
        *self.notes.get(Place::new(index)?)?
    }

    fn clear(&mut self, index: u32) {
        if let Some(note) = Place::new(index).and_then(|place| self.notes.get_mut(place)) {
            *note = None;
        }
    }
}

/// What is noted.
#[derive(Debug, Default)]
pub(crate) struct Tracing {
    is_on: bool,
    objects: Notes,
    /// Notes that found no memory.
    lost: u64,
    /// Objects that are no leaks, by their makers' word.
    excused: Vec<Koid>,
}

/// An object, as a census finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Which object.
    pub koid: Koid,
    /// Its type.
    pub object_type: TypeNumber,
    /// When it was made.
    pub created: Time,
    /// Handles to it, in all tables.
    pub handles: u32,
    /// Where it was made, if that was traced.
    pub made: Option<Trace>,
    /// Whether its maker says that it is no leak.
    pub is_excused: bool,
}

/// A handle, as a census finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedHandle {
    /// Whose.
    pub process: Koid,
    /// What it allows.
    pub rights: Rights,
    /// Where it was made, if that was traced.
    pub made: Option<Trace>,
}

impl Core {
    /// Notes from now on where objects and handles are made, or does not. What was noted stays.
    pub fn set_tracing(&mut self, is_on: bool) {
        self.tracing.is_on = is_on;
    }

    /// Whether places are noted.
    #[must_use]
    pub fn is_tracing(&self) -> bool {
        self.tracing.is_on
    }

    /// Notes that found no memory.
    #[must_use]
    pub fn lost_traces(&self) -> u64 {
        self.tracing.lost
    }

    /// [`Core::call`], asked for at a place in the source.
    ///
    /// # Errors
    /// [`CallError`]; then nothing changed.
    pub fn call_at(
        &mut self,
        now: Time,
        process: Koid,
        call: Call<'_>,
        place: &'static Location<'static>,
    ) -> Result<CallAnswer, CallError> {
        self.call_by(now, process, &call, place)
    }

    pub(crate) fn call_by(
        &mut self,
        now: Time,
        process: Koid,
        call: &Call<'_>,
        place: &'static Location<'static>,
    ) -> Result<CallAnswer, CallError> {
        if self.tracing.is_on { self.call_noted(now, process, call, place) } else { self.do_call(now, process, call) }
    }

    fn call_noted(
        &mut self,
        now: Time,
        process: Koid,
        call: &Call<'_>,
        place: &'static Location<'static>,
    ) -> Result<CallAnswer, CallError> {
        // A moved handle is in another table then.
        let receiver = match *call {
            Call::Transfer { process: receiver, .. } => self.koid_of(process, receiver),
            _ => None,
        };
        let answer = self.do_call(now, process, call);
        let how = match call {
            Call::Open { .. } => How::Opened,
            Call::Duplicate { .. } => How::Duplicated,
            Call::Derive { .. } => How::Derived,
            Call::Replace { .. } => How::Replaced,
            Call::Transfer { .. } => How::Transferred,
            _ => How::Created,
        };
        match answer {
            Ok(CallAnswer::Handle(handle) | CallAnswer::Guest { handle, .. }) => {
                self.note(receiver.unwrap_or(process), handle, Trace { place, at: now, how });
            }
            Ok(CallAnswer::Opened { handle, created }) => {
                let how = if created { How::Created } else { How::Opened };
                self.note(process, handle, Trace { place, at: now, how });
            }
            _ => {}
        }
        answer
    }

    fn koid_of(&self, process: Koid, handle: RawHandle) -> Option<Koid> {
        let caller = self.caller(process).ok()?;
        let place = caller.table.pin(handle).ok()?.object();
        self.koid_at(place)
    }

    /// Notes a handle that was just made, and its object if that was, too.
    pub(crate) fn note(&mut self, process: Koid, handle: RawHandle, trace: Trace) {
        if !self.tracing.is_on {
            return;
        }
        let Ok(caller) = self.caller(process) else { return };
        let Ok(pin) = caller.table.pin(handle) else { return };
        let mut noted = Ok(());
        if trace.how == How::Created {
            noted = self.tracing.objects.set(pin.object().index(), trace);
        }
        if let Some(guest) = self.guest_mut(caller.process) {
            noted = noted.and(guest.notes.set(pin.index(), trace));
        }
        if noted.is_err() {
            self.tracing.lost += 1;
        }
    }

    /// An object has ended: its place may be another's next.
    pub(crate) fn forget_trace(&mut self, place: Place) {
        self.tracing.objects.clear(place.index());
    }

    /// Says that an object is no leak though it outlives who asks: a cache, a singleton.
    ///
    /// # Errors
    /// [`NoMemory`]; nothing changed.
    pub fn excuse(&mut self, koid: Koid) -> Result<(), NoMemory> {
        // Not by the index alone: what a thread made by itself is in none.
        let mut excused = core::mem::take(&mut self.tracing.excused);
        excused.retain(|koid| self.find(*koid).is_ok());
        let pushed = if excused.contains(&koid) { Ok(()) } else { excused.try_push(koid) };
        self.tracing.excused = excused;
        pushed
    }

    /// Every living object, in the order of places: one step, whose length is the number of slots.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn census(&self) -> Result<Vec<Counted>, NoMemory> {
        let mut all = Vec::new();
        let objects = self.slab.shared();
        for object in objects.iter() {
            let Ok(reference) = object.reference() else { continue };
            let koid = reference.koid();
            // A note of an object that stood here before is older than this one.
            let created = Time(object.header().created_us());
            let made = self.tracing.objects.get(reference.place().index()).filter(|trace| trace.at >= created);
            all.try_push(Counted {
                koid,
                object_type: object.header().type_number(),
                created,
                handles: object.header().counts().handles(),
                made,
                is_excused: self.tracing.excused.contains(&koid) || self.is_the_systems(koid),
            })?;
        }
        Ok(all)
    }

    /// Every handle to an object.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn handles_of(&self, koid: Koid) -> Result<Vec<CountedHandle>, NoMemory> {
        let mut all = Vec::new();
        let Ok(object) = self.find(koid) else { return Ok(all) };
        for process in &self.guest_list {
            let Some(guest) = self.guest(*process) else { continue };
            let mut from = 0;
            while let Some((index, content)) = guest.table.find(from, u32::MAX, |place| place == object.place()) {
                let made = guest.notes.get(index);
                all.try_push(CountedHandle { process: process.koid(), rights: content.rights, made })?;
                from = index + 1;
            }
        }
        Ok(all)
    }
}

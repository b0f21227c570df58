//! Who holds an object: handles in tables, permanent names, links; and from whom a handle was derived.

use crate::account::AccountId;
use crate::call::CallError;
use crate::handles::Caller;
use crate::link::Keeps;
use crate::manager::Core;
use crate::types::State;
use alloc::vec::Vec;
use kobj_abi::{Koid, LinkKind, Operation, RawHandle, Rights};
use kobj_memory::{Place, Reference, TryPush};

/// A process with handles to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Which process.
    pub process: Koid,
    /// How many handles it has.
    pub handles: u32,
    /// What they allow together.
    pub rights: Rights,
}

/// Who keeps an object alive, directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeper {
    /// A process, a directory with a permanent name for it, a job, or what a link starts from.
    pub koid: Koid,
    /// How: [`LinkKind::Holds`] by handles, [`LinkKind::Contains`] by a name or as its job.
    pub kind: LinkKind,
}

/// What looking at a guest costs besides the slots of its table, in slots.
const SLOTS_PER_GUEST: u32 = 16;

/// A look through the tables for handles to an object. Who has it between two pieces has a handle to the object pinned, so
/// that its place is no other object's meanwhile.
#[derive(Debug)]
pub(crate) struct HolderLook {
    object: Reference,
    /// Whose table is looked through: from the last seat down, since whoever gets another seat gets a lower one. So nobody is
    /// passed over, and one may be met twice.
    seat: usize,
    process: Option<Reference>,
    slot: u32,
    /// What was found there.
    handles: u32,
    rights: Rights,
    found: Vec<Holder>,
    /// Handles found in all.
    counted: u32,
    /// Whether nobody had a turn since it began.
    is_at_once: bool,
}

impl HolderLook {
    fn end_guest(&mut self) -> Result<(), CallError> {
        let Some(process) = self.process.take().filter(|_| self.handles > 0) else { return Ok(()) };
        let holder = Holder { process: process.koid(), handles: self.handles, rights: self.rights };
        self.found.try_push(holder).map_err(|_| CallError::NoMemory {})
    }

    /// Goes on to the next seat, unless that was the last.
    fn is_last_seat(&mut self) -> bool {
        self.process = None;
        match self.seat.checked_sub(1) {
            Some(seat) => {
                self.seat = seat;
                false
            }
            None => true,
        }
    }

    /// Who was found, each once.
    pub(crate) fn into_found(mut self) -> Vec<Holder> {
        if !self.is_at_once {
            self.found.sort_unstable_by_key(|holder| holder.process);
            self.found.dedup_by_key(|holder| holder.process);
        }
        self.found
    }
}

/// A way up from a derived handle. Who has it between two pieces has that handle pinned, and so keeps all nodes above it.
#[derive(Debug)]
pub(crate) struct Ancestry {
    next: Option<Place>,
    pub(crate) found: Vec<Koid>,
}

impl Core {
    /// Every guest with handles to an object, in no order. One pass over the tables, which ends with the last handle.
    pub(crate) fn holders_of(&self, object: Reference) -> Result<Vec<Holder>, CallError> {
        let mut look = self.look_for_holders(object);
        while !self.look_on(&mut look, u32::MAX)? {}
        Ok(look.found)
    }

    /// Begins a look for who has handles to an object.
    pub(crate) fn look_for_holders(&self, object: Reference) -> HolderLook {
        HolderLook {
            object,
            seat: self.guest_list.len(),
            process: None,
            slot: 0,
            handles: 0,
            rights: Rights::NONE,
            found: Vec::new(),
            counted: 0,
            is_at_once: true,
        }
    }

    /// Goes on with a look, over about so many slots; `true` when all tables were looked through.
    pub(crate) fn look_on(&self, look: &mut HolderLook, slots: u32) -> Result<bool, CallError> {
        let mut left = slots;
        while left > 0 {
            // Only what nobody changes between two pieces ends with the last handle.
            if look.is_at_once && look.counted >= self.handles_to(look.object) {
                look.end_guest()?;
                return Ok(true);
            }
            let Some(process) = self.guest_list.get(look.seat).copied() else {
                if look.is_last_seat() {
                    return Ok(true);
                }
                continue;
            };
            if look.process != Some(process) {
                (look.process, look.slot, look.handles, look.rights) = (Some(process), 0, 0, Rights::NONE);
            }
            let (place, from) = (look.object.place(), look.slot);
            let table = self.guest(process).map(|guest| &guest.table);
            let found = table.and_then(|table| table.find(from, left, |at| at == place));
            let end = table.map_or(0, |table| table.used());
            if let Some((index, content)) = found {
                look.slot = index + 1;
                look.handles += 1;
                look.counted = look.counted.saturating_add(1);
                look.rights = look.rights | content.rights;
                left = left.saturating_sub(look.slot - from);
            } else if end > from.saturating_add(left) {
                look.slot = from + left;
                left = 0;
            } else {
                left = left.saturating_sub(end.saturating_sub(from).saturating_add(SLOTS_PER_GUEST));
                look.end_guest()?;
                if look.is_last_seat() {
                    return Ok(true);
                }
            }
        }
        look.is_at_once = false;
        Ok(false)
    }

    /// Who keeps an object, directly.
    pub(crate) fn keepers_of(&self, object: Reference) -> Result<Vec<Keeper>, CallError> {
        self.keepers_beside(object, self.holders_of(object)?)
    }

    /// Those who hold an object, and who keeps it otherwise.
    pub(crate) fn keepers_beside(&self, object: Reference, holders: Vec<Holder>) -> Result<Vec<Keeper>, CallError> {
        let mut found = Vec::new();
        let mut add = |koid, kind| found.try_push(Keeper { koid, kind }).map_err(|_| CallError::NoMemory {});
        for holder in holders {
            add(holder.process, LinkKind::Holds)?;
        }
        if let Some(directory) = self.kept_by_name(object.place()).and_then(|place| self.koid_at(place)) {
            add(directory, LinkKind::Contains)?;
        }
        let held = self.body(object).is_some_and(|body| body.hold);
        let Ok(header) = self.slab.header(object) else { return Ok(found) };
        let mut incoming = header.first_in();
        while let Some(record) = incoming.and_then(|place| self.links.get(place)) {
            incoming = record.next_in;
            let Some(kind) = record.kind().filter(|kind| Keeps::of(*kind) == Keeps::Target) else { continue };
            let keeper = record.source.and_then(|place| self.koid_at(place));
            if let Some(koid) = keeper.filter(|_| kind != LinkKind::Contains || held) {
                add(koid, kind)?;
            }
        }
        let mut outgoing = self.first_that_may_keep(object);
        while let Some(record) = outgoing.and_then(|place| self.links.get(place)) {
            outgoing = record.next_out;
            let Some(kind) = record.kind().filter(|kind| Keeps::of(*kind) == Keeps::Source) else { continue };
            if let Some(koid) = record.target.and_then(|place| self.koid_at(place)) {
                add(koid, kind)?;
            }
        }
        Ok(found)
    }

    /// Who keeps an object, directly, and how many views of it there are: the embedder's own question, by koid. Nobody keeps
    /// what is gone.
    ///
    /// # Errors
    /// [`CallError::NoMemory`].
    pub fn kept_by(&self, koid: Koid) -> Result<(Vec<Keeper>, u32), CallError> {
        let Ok(object) = self.find(koid) else { return Ok((Vec::new(), 0)) };
        Ok((self.keepers_of(object)?, self.views_of(object)))
    }

    /// The directory whose permanent name keeps what is at a place.
    pub(crate) fn kept_by_name(&self, place: Place) -> Option<Place> {
        self.names.name_of(place).filter(|named| named.permanent).map(|named| named.directory)
    }

    pub(crate) fn call_holders(&self, caller: &Caller, handle: RawHandle) -> Result<Vec<Holder>, CallError> {
        let object = self.meant(caller, handle, Operation::Holders)?.object;
        self.holders_of(object)
    }

    pub(crate) fn call_kept_by(&self, caller: &Caller, handle: RawHandle) -> Result<Vec<Keeper>, CallError> {
        let object = self.meant(caller, handle, Operation::KeptBy)?.object;
        self.keepers_of(object)
    }

    /// The processes from which a handle came by derivation, the nearest first; none for one that can be taken back by nobody.
    pub(crate) fn call_derived_from(&self, caller: &Caller, handle: RawHandle) -> Result<Vec<Koid>, CallError> {
        let mut ancestry = self.ancestry_of(caller, handle)?;
        while !self.ancestry_on(&mut ancestry, u32::MAX)? {}
        Ok(ancestry.found)
    }

    /// Begins to go up from what a handle was derived from.
    pub(crate) fn ancestry_of(&self, caller: &Caller, handle: RawHandle) -> Result<Ancestry, CallError> {
        let meant = self.meant(caller, handle, Operation::DerivedFrom)?;
        let next = meant.node.and_then(|node| self.nodes.links(node).parent);
        Ok(Ancestry { next, found: Vec::new() })
    }

    /// Goes up so many generations; `true` at the top.
    pub(crate) fn ancestry_on(&self, ancestry: &mut Ancestry, generations: u32) -> Result<bool, CallError> {
        for _ in 0..generations {
            let Some(node) = ancestry.next else { return Ok(true) };
            // A node notes the account that is charged for it, which is that of the process that derived.
            let account = self.nodes.process(node).and_then(|account| AccountId::from_raw(account.raw()));
            if let Some(koid) = account.and_then(|account| self.accounts.owner(account)) {
                ancestry.found.try_push(koid).map_err(|_| CallError::NoMemory {})?;
            }
            ancestry.next = self.nodes.links(node).parent;
        }
        Ok(ancestry.next.is_none())
    }

    /// A living guest with a handle to one of the objects that the present search has come to last.
    pub(crate) fn holder_among(&self, wanted: impl Fn(Place) -> bool) -> Option<(Reference, Place)> {
        self.guest_list.iter().find_map(|process| {
            let guest = self.guest(*process).filter(|guest| !guest.dying)?;
            let (_, content) = guest.table.find(0, u32::MAX, &wanted)?;
            Some((*process, content.object))
        })
    }

    /// Whether a process lives: one of the operating system's that was not seen to end, or a guest that is not being ended.
    pub(crate) fn is_living(&self, process: Reference) -> bool {
        match self.state(process) {
            Some(State::Process(state)) => state.is_living() && state.guest.as_ref().is_none_or(|guest| !guest.dying),
            _ => false,
        }
    }
}

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

impl Core {
    /// Every guest with handles to an object, in no order. One pass over the tables, which ends with the last handle.
    pub(crate) fn holders_of(&self, object: Reference) -> Result<Vec<Holder>, CallError> {
        let mut found = Vec::new();
        let mut left = self.handles_to(object);
        for guest in &self.guest_list {
            if left == 0 {
                break;
            }
            let Some(table) = self.guest(*guest).map(|guest| &guest.table) else { continue };
            let mut holder = Holder { process: guest.koid(), handles: 0, rights: Rights::NONE };
            let mut from = 0;
            while let Some((index, content)) = table.find(from, u32::MAX, |place| place == object.place()) {
                holder.handles += 1;
                holder.rights = holder.rights | content.rights;
                from = index + 1;
            }
            left = left.saturating_sub(holder.handles);
            if holder.handles > 0 {
                found.try_push(holder).map_err(|_| CallError::NoMemory {})?;
            }
        }
        Ok(found)
    }

    /// Who keeps an object, directly.
    pub(crate) fn keepers_of(&self, object: Reference) -> Result<Vec<Keeper>, CallError> {
        let mut found = Vec::new();
        let mut add = |koid, kind| found.try_push(Keeper { koid, kind }).map_err(|_| CallError::NoMemory {});
        for holder in self.holders_of(object)? {
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
        let meant = self.meant(caller, handle, Operation::DerivedFrom)?;
        let mut chain = Vec::new();
        let parent = |node: Place| self.nodes.links(node).parent;
        let mut next = meant.node.and_then(parent);
        while let Some(node) = next {
            // A node notes the account that is charged for it, which is that of the process that derived.
            let account = self.nodes.process(node).and_then(|account| AccountId::from_raw(account.raw()));
            if let Some(koid) = account.and_then(|account| self.accounts.owner(account)) {
                chain.try_push(koid).map_err(|_| CallError::NoMemory {})?;
            }
            next = parent(node);
        }
        Ok(chain)
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

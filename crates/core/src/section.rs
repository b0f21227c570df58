//! Sections and views of them, each made in two steps.
//!
//! What the platform does can fail and takes its time, so it is not done under the manager's lock. The first step checks,
//! charges, and makes the object, which nobody can name yet; then the platform does its part; the second step gives out the
//! handle, or takes everything back. A view is one reference to its section and is charged to its process.
//!
//! What is to be given back to the platform when an object or a process ends is a [`Release`]. Its room in the list is taken
//! when the section or view is made, so that its end needs no memory.

use crate::account::{AccountId, Charge};
use crate::call::CallError;
use crate::create::Making;
use crate::handles::{Caller, HANDLE};
use crate::image::Time;
use crate::leases::credit;
use crate::manager::{Body, Core};
use crate::platform::{PlatformError, ViewId};
use crate::pool::Pool;
use crate::types::section::Request;
use crate::types::{State, section};
use alloc::collections::VecDeque;
use core::num::NonZeroU32;
use kobj_abi::section::{Access, Part};
use kobj_abi::{Koid, ObjectType, Operation, RawHandle};
use kobj_memory::{Content, NoMemory, Reference, Reserved, Shared, Slab, Table};

/// What the platform is to give back. It cannot fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The view's process has ended.
    Unmap(ViewId),
    /// The section's last handle, name and view are gone.
    Destroy(Koid),
}

/// A view, as the core knows it.
#[derive(Debug)]
struct Record {
    serial: u64,
    section: Reference,
    process: Reference,
    /// The views of one process are a list.
    previous: Option<NonZeroU32>,
    next: Option<NonZeroU32>,
    /// The platform has mapped it.
    is_mapped: bool,
}

/// What a view is charged.
const VIEW: Charge = Charge { bytes: size_of::<Record>() as u64, ..Charge::NONE };

/// All views, and what is to be given back.
#[derive(Debug, Default)]
pub(crate) struct Sections {
    views: Pool<Record>,
    last_serial: u64,
    releases: VecDeque<Release>,
    /// Sections and views: each may become a release, and has room for it.
    promised: usize,
}

impl Sections {
    fn promise(&mut self) -> Result<(), NoMemory> {
        self.releases.try_reserve(self.promised + 1).map_err(|_| NoMemory)?;
        self.promised += 1;
        Ok(())
    }

    fn redeem(&mut self, release: Option<Release>) {
        self.promised -= 1;
        self.releases.extend(release);
    }

    fn get(&self, view: ViewId) -> Option<&Record> {
        self.views.get(view.record).filter(|record| record.serial == view.serial)
    }
}

/// A section that is being made: the platform is to make its memory.
#[derive(Debug)]
#[must_use = "what is neither finished nor refused stays charged for ever"]
pub struct Opening {
    pub(crate) object: Reference,
    pub(crate) process: Koid,
    pub(crate) table: Shared<Table>,
    pub(crate) reserved: Reserved,
    /// Who is charged for the handle, also when the process has ended meanwhile.
    pub(crate) charged: Option<AccountId>,
}

impl Opening {
    /// The object to come.
    #[must_use]
    pub const fn koid(&self) -> Koid {
        self.object.koid()
    }
}

/// A view that is being made: the platform is to map it.
#[derive(Debug)]
#[must_use = "what is neither finished nor refused stays charged until its process ends"]
pub struct Mapping {
    view: ViewId,
    section: Koid,
    process: Koid,
}

impl Mapping {
    /// The view to come.
    #[must_use]
    pub const fn view(&self) -> ViewId {
        self.view
    }

    /// Of which section.
    #[must_use]
    pub const fn section(&self) -> Koid {
        self.section
    }
}

impl From<PlatformError> for CallError {
    fn from(error: PlatformError) -> Self {
        match error {
            PlatformError::NoMemory => Self::NoMemory {},
            PlatformError::TooMany => Self::TooManyFiles {},
        }
    }
}

/// No file and no address space is larger.
const SIZE_MOST_BYTES: u64 = i64::MAX as u64;

// Sections

impl Core {
    /// Begins to make a section, charged to the caller, its size included. `room` says whether the platform has so much
    /// memory; it was asked before the lock was taken, and matters after quotas.
    ///
    /// # Errors
    /// [`CallError`]; then nothing changed, and nothing was allocated if it is for want of room or quota.
    pub fn begin_section(
        &mut self,
        now: Time,
        process: Koid,
        request: Request,
        room: Result<(), PlatformError>,
    ) -> Result<Opening, CallError> {
        let ends = self.ending.begun;
        let caller = self.take_caller(process)?;
        let begun = self.open_section(now, &caller, request, room);
        self.after_call(&caller, &begun);
        self.keep_caller(caller, ends);
        begun
    }

    pub(crate) fn open_section(
        &mut self,
        now: Time,
        caller: &Caller,
        request: Request,
        room: Result<(), PlatformError>,
    ) -> Result<Opening, CallError> {
        if request.size_bytes == 0 {
            return Err(CallError::EmptySection {});
        }
        let job = self.job_of(caller.process)?;
        if request.size_bytes > SIZE_MOST_BYTES {
            return Err(CallError::NoMemory {});
        }
        let state = section::State::begin(request);
        let bytes = u64::from(Slab::<Body>::SLOT_BYTES).saturating_add(request.size_bytes);
        let charged = self.guest(caller.process).and_then(|guest| guest.account);
        if let Err(error) = room {
            // A quota that refuses it, too, is told first.
            self.may_charge(charged, HANDLE)?;
            self.may_charge(charged, Charge::object(ObjectType::Section.number(), bytes))?;
            return Err(error.into());
        }
        let promised = self.sections.promise().map_err(|_| CallError::NoMemory {});
        self.quota_first(
            promised,
            [(charged, HANDLE), (charged, Charge::object(ObjectType::Section.number(), bytes))],
        )?;
        let reserved =
            self.reserve_handle(caller.process, &caller.table).inspect_err(|_| self.sections.redeem(None))?;
        let creator = Some(caller.process.koid());
        let state = State::Section(state);
        let making = Making { owner: Some(job), charged, maker: None, creator, name: None, state, hold: false };
        match self.make(now, making) {
            Ok(object) => {
                let (process, table) = (caller.process.koid(), caller.table.clone());
                Ok(Opening { object, process, table, reserved, charged })
            }
            Err(refused) => {
                self.give_back_handle(caller.process, &caller.table, reserved);
                self.sections.redeem(None);
                Err(self.not_made(refused))
            }
        }
    }

    /// Gives out the first handle of a section whose memory was made, or takes back what was begun.
    ///
    /// # Errors
    /// What the platform said; or the process has ended meanwhile. Nothing of the section is left then, and if the platform
    /// has made its memory it is to be destroyed.
    pub fn finish_section(
        &mut self,
        opening: Opening,
        made: Result<(), PlatformError>,
    ) -> Result<RawHandle, CallError> {
        let Opening { object, process, table, reserved, charged } = opening;
        let counted = made
            .map_err(CallError::from)
            .and_then(|()| self.may_call(process))
            .and_then(|()| self.count_handle(object).map_err(|_| CallError::Dying { koid: process }));
        let finished = match counted {
            Ok(()) => {
                if let Some(State::Section(state)) = self.state_mut(object) {
                    state.is_made = true;
                }
                let rights = ObjectType::Section.default_rights();
                let content = Content { object: object.place(), rights, node: None, inheritable: false };
                Ok(table.commit(reserved, content))
            }
            Err(error) => {
                table.give_back(reserved);
                self.refund(charged, HANDLE);
                Err(error)
            }
        };
        // The first reference was the opening's own. Where there is no handle it is the last, unless a job that was killed
        // meanwhile has destroyed what was begun in it.
        let _last_is_queued = self.slab.release(object.place());
        if finished.is_err() {
            self.work();
        }
        finished
    }

    /// What the end of a section gives back to the platform.
    pub(crate) fn section_ended(&mut self, koid: Koid, state: &section::State) {
        // Memory that was not made yet is with whoever makes it.
        self.sections.redeem(state.is_made.then_some(Release::Destroy(koid)));
    }

    /// Whether the object is a section whose memory is being made: nobody is to get a handle to it.
    pub(crate) fn is_being_made(&self, object: Reference) -> bool {
        matches!(self.state(object), Some(State::Section(state)) if !state.is_made)
    }
}

// Views

impl Core {
    /// Begins to map a part of a section for a process.
    ///
    /// # Errors
    /// [`CallError`]; then nothing changed.
    pub fn begin_map(
        &mut self,
        process: Koid,
        handle: RawHandle,
        part: Part,
        access: Access,
    ) -> Result<Mapping, CallError> {
        let ends = self.ending.begun;
        let caller = self.take_caller(process)?;
        let begun = self.open_view(&caller, handle, part, access);
        self.after_call(&caller, &begun);
        self.keep_caller(caller, ends);
        begun
    }

    fn open_view(
        &mut self,
        caller: &Caller,
        handle: RawHandle,
        part: Part,
        access: Access,
    ) -> Result<Mapping, CallError> {
        let operation = match access {
            Access::Read => Operation::Map,
            Access::ReadWrite => Operation::MapWritable,
        };
        let section = self.meant_here(caller, handle, operation)?.object;
        let size_bytes = self.section(section).map_or(0, |state| state.size_bytes);
        if !part.is_inside(size_bytes) {
            return Err(CallError::BadRange { koid: section.koid(), part, size_bytes });
        }
        let charged = self.guest(caller.process).and_then(|guest| guest.account);
        self.charge(charged, VIEW)?;
        match self.add_view(caller, section) {
            Ok(view) => Ok(Mapping { view, section: section.koid(), process: caller.process.koid() }),
            Err(error) => {
                self.refund(charged, VIEW);
                Err(error)
            }
        }
    }

    /// A record and a reference for a view that was charged.
    fn add_view(&mut self, caller: &Caller, section: Reference) -> Result<ViewId, CallError> {
        let process = caller.process;
        self.sections.promise().map_err(|_| CallError::NoMemory {})?;
        let next = self.guest(process).and_then(|guest| guest.first_view);
        let serial = self.sections.last_serial + 1;
        let record = Record { serial, section, process, previous: None, next, is_mapped: false };
        let Ok(record) = self.sections.views.insert(record) else {
            self.sections.redeem(None);
            return Err(CallError::NoMemory {});
        };
        if self.slab.acquire(section).is_err() {
            self.sections.views.remove(record);
            self.sections.redeem(None);
            return Err(CallError::TooManyReferences { koid: section.koid() });
        }
        self.sections.last_serial = serial;
        if let Some(next) = next.and_then(|next| self.sections.views.get_mut(next)) {
            next.previous = Some(record);
        }
        if let Some(guest) = self.guest_mut(process) {
            guest.first_view = Some(record);
        }
        if let Some(State::Section(state)) = self.state_mut(section) {
            state.views += 1;
        }
        Ok(ViewId { serial, record })
    }

    /// Completes a view that was mapped, or takes back what was begun.
    ///
    /// # Errors
    /// What the platform said; or the process has ended meanwhile. There is no view then, and if the platform has mapped it
    /// it is to be unmapped.
    pub fn finish_map(&mut self, mapping: Mapping, mapped: Result<(), PlatformError>) -> Result<ViewId, CallError> {
        let Mapping { view, process, .. } = mapping;
        if let Err(error) = mapped {
            self.end_view(view);
            return Err(error.into());
        }
        let found = self.sections.get(view).is_some();
        match self.sections.views.get_mut(view.record).filter(|_| found) {
            Some(record) => {
                record.is_mapped = true;
                Ok(view)
            }
            None => Err(CallError::Dying { koid: process }),
        }
    }

    /// A view was unmapped by whoever had it. One that has ended already is not ended again.
    pub fn end_view(&mut self, view: ViewId) {
        if self.sections.get(view).is_some() {
            self.cut_view(view.record, false);
            self.work();
        }
    }

    /// Ends one view of a process that is being ended; `false` if it has none.
    pub(crate) fn end_a_view(&mut self, process: Reference) -> bool {
        let Some(view) = self.guest(process).and_then(|guest| guest.first_view) else { return false };
        self.cut_view(view, true);
        true
    }

    fn cut_view(&mut self, view: NonZeroU32, by_force: bool) {
        let Some(record) = self.sections.views.remove(view) else { return };
        let Record { serial, section, process, previous, next, is_mapped } = record;
        if let Some(next) = next.and_then(|next| self.sections.views.get_mut(next)) {
            next.previous = previous;
        }
        if let Some(previous) = previous.and_then(|previous| self.sections.views.get_mut(previous)) {
            previous.next = next;
        } else if let Some(guest) = self.guest_mut(process) {
            guest.first_view = next;
        }
        let release = Release::Unmap(ViewId { serial, record: view });
        self.sections.redeem(Some(release).filter(|_| by_force && is_mapped));
        let charged = self.guest(process).and_then(|guest| guest.account);
        self.refund(charged, VIEW);
        if let Some(State::Section(state)) = self.state_mut(section) {
            state.views -= 1;
        }
        let _last_is_queued = self.slab.release(section.place());
    }

    fn section(&self, object: Reference) -> Option<&section::State> {
        match self.state(object)? {
            State::Section(state) => Some(state),
            _ => None,
        }
    }

    /// How many views of an object there are.
    pub(crate) fn views_of(&self, object: Reference) -> u32 {
        self.section(object).map_or(0, |state| state.views)
    }

    /// The next of what the platform is to give back; allocates nothing.
    pub fn next_release(&mut self) -> Option<Release> {
        self.sections.releases.pop_front()
    }

    /// Whether [`Core::next_release`] gives one.
    pub(crate) fn has_releases(&self) -> bool {
        !self.sections.releases.is_empty()
    }

    /// Whether an account could be charged: what [`Core::charge`] would say, and nothing is charged or allocated.
    pub(crate) fn may_charge(&mut self, account: Option<AccountId>, charge: Charge) -> Result<(), CallError> {
        let Some(account) = account else { return Ok(()) };
        let checked = self.accounts.check(account, charge, &mut credit!(self));
        let owner = self.accounts.owner(account);
        checked
            .map_err(|error| owner.map_or(CallError::NoMemory {}, |owner| self.charge_refused(account, owner, error)))
    }
}

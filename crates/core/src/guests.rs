//! Guests: processes that are the embedder's, each with a handle table; how they are made, and how they end.
//!
//! A guest that is ended takes no new handles from that instant on. Its table is closed in bounded steps, oldest slot first;
//! with the last handle the embedder is told ([`Effect::Killed`]), and the process object stays for as long as somebody
//! has a handle to it. Nothing of this allocates: what it needs was taken when the guest was made.

use crate::account::{AccountId, Charge};
use crate::call::{CallAnswer, CallError};
use crate::command::{Effect, KillReason};
use crate::create::Making;
use crate::handles::{Caller, HANDLE};
use crate::image::Time;
use crate::leases::credit;
use crate::manager::{Body, Core};
use crate::notices::{CloseReason, OpenReason};
use crate::types::directory::Provider;
use crate::types::process::{Guest, Life};
use crate::types::{State, Type, directory, job, process};
use kobj_abi::{AskedRights, Koid, ObjectType, Operation, RawHandle};
use kobj_memory::{Closed, Content, Next, Reference, Shared, Slab, Table};

/// Guests that are being ended, threaded through their states.
#[derive(Default)]
pub(crate) struct Ending {
    first: Option<Reference>,
    /// How many ends were ever begun: who had a guest in hand sees by it whether that may have ended meanwhile.
    pub(crate) begun: u64,
}

impl Ending {
    pub(crate) fn is_busy(&self) -> bool {
        self.first.is_some()
    }
}

/// Slots of a table that are looked at in one unit of work.
const SLOTS_PER_UNIT: u32 = 64;

/// What making an equal costs, in slots that are only looked at.
const SLOTS_PER_EQUAL: u32 = 16;

/// A guest that is being made in pieces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MakingGuest {
    guest: Reference,
    job: Koid,
    /// The slot of its maker's table that is looked at next.
    from: u32,
}

/// What an embedded manager begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// The job in which all others are.
    pub root_job: Koid,
    /// The embedder's own process, a guest in the root job.
    pub process: Koid,
    /// The embedder's handle to the root job.
    pub job: RawHandle,
    /// The embedder's handle to the root directory.
    pub directory: RawHandle,
}

impl Core {
    /// Makes what an embedded manager begins with: the root job, the embedder's process in it, and the root directory,
    /// which ends with the root job.
    ///
    /// # Errors
    /// [`CallError`]; what was made until then ends with the manager.
    pub fn boot(&mut self, now: Time) -> Result<Boot, CallError> {
        let mut root = job::State::create(job::Request {}).map_err(|_| CallError::NoMemory {})?;
        root.is_root = true;
        let no_one =
            |state, owner| Making { owner, charged: None, maker: None, creator: None, name: None, state, hold: true };
        let job = self.make(now, no_one(State::Job(root), None)).map_err(|refused| self.not_made(refused))?;
        let process = self.make_guest(now, job, None)?;
        let directory = directory::State { is_root: true, ..directory::State::of(Provider::Names) };
        let directory =
            self.make(now, no_one(State::Directory(directory), Some(job))).map_err(|refused| self.not_made(refused))?;
        if let Some(guest) = self.guest_mut(process) {
            guest.is_host = true;
        }
        let caller = self.caller(process.koid())?;
        let mut handle = |object: Reference, rights| {
            let content = Content { object: object.place(), rights, node: None, inheritable: false };
            self.give_handle(caller.process, &caller.table, object, content)
        };
        Ok(Boot {
            root_job: job.koid(),
            process: process.koid(),
            job: handle(job, ObjectType::Job.default_rights())?,
            directory: handle(directory, ObjectType::Directory.default_rights())?,
        })
    }

    /// Gives a guest a handle to any object: the embedder's own act, by koid and past all rights.
    ///
    /// # Errors
    /// [`CallError`]; then nothing changed.
    pub fn grant(&mut self, process: Koid, object: Koid, rights: AskedRights) -> Result<RawHandle, CallError> {
        let caller = self.caller(process)?;
        self.opening = OpenReason::Granted;
        let koid = object;
        let object = self.find(object).ok().filter(|object| !self.is_being_made(*object));
        let object = object.ok_or(CallError::Dying { koid })?;
        let rights = Self::within(object, self.type_number(object), rights, self.default_rights(object))?;
        let content = Content { object: object.place(), rights, node: None, inheritable: false };
        self.give_handle(caller.process, &caller.table, object, content)
    }

    pub(crate) fn call_create_job(
        &mut self,
        now: Time,
        caller: &Caller,
        job: RawHandle,
    ) -> Result<RawHandle, CallError> {
        let meant = self.meant(caller, job, Operation::CreateJob)?;
        let parent = meant.object;
        self.takes_children(parent)?;
        let depth = self.job(parent).map_or(0, |job| job.depth);
        if depth >= job::DEPTH_MOST {
            return Err(CallError::TooDeep { koid: parent.koid(), most: job::DEPTH_MOST });
        }
        let made = job::State::create(job::Request {}).map_err(|_| CallError::NoMemory {}).and_then(|mut state| {
            state.depth = depth + 1;
            self.make_handle(now, caller, parent, State::Job(state))
        });
        let (own, payer) = (self.account_of_guest(caller.process), self.job(parent).and_then(|job| job.account));
        let bytes = Slab::<Body>::SLOT_BYTES + job::CHARGE_BYTES;
        self.quota_first(made, [(own, HANDLE), (payer, Charge::object(ObjectType::Job.number(), bytes.into()))])
    }

    pub(crate) fn call_create_guest(
        &mut self,
        now: Time,
        caller: &Caller,
        job: RawHandle,
        inherit: bool,
    ) -> Result<CallAnswer, CallError> {
        let mut making = self.begin_guest(now, caller, job)?;
        while inherit && !self.inherit_on(caller, &mut making, u32::MAX)? {}
        self.hand_out_guest(caller, &making)
    }

    /// Begins a guest that is to inherit: it stands in its job, and nobody knows of it until it is handed out.
    pub(crate) fn begin_guest(&mut self, now: Time, caller: &Caller, job: RawHandle) -> Result<MakingGuest, CallError> {
        let job = self.meant(caller, job, Operation::CreateProcess)?.object;
        self.takes_children(job)?;
        let (own, payer) = (self.account_of_guest(caller.process), self.job(job).and_then(|job| job.account));
        let object = Charge::object(ObjectType::Process.number(), Slab::<Body>::SLOT_BYTES.into());
        let guest = self.make_guest(now, job, Some(caller.process.koid()));
        let guest = self.quota_first(guest, [(payer, object), (own, HANDLE)])?;
        if let Some(guest) = self.guest_mut(guest) {
            guest.is_unseen = true;
        }
        Ok(MakingGuest { guest, job: job.koid(), from: 0 })
    }

    /// Goes on over about so many slots of the caller's table; `true` when the guest has all. Refused, the guest goes as a
    /// whole, with what it inherited so far.
    pub(crate) fn inherit_on(
        &mut self,
        caller: &Caller,
        making: &mut MakingGuest,
        slots: u32,
    ) -> Result<bool, CallError> {
        let made = self.inherit(caller, making, slots);
        made.inspect_err(|_| self.abandon_guest(making))
    }

    /// Gives the caller its handle to the guest that it made.
    pub(crate) fn hand_out_guest(&mut self, caller: &Caller, making: &MakingGuest) -> Result<CallAnswer, CallError> {
        let guest = making.guest;
        let rights = ObjectType::Process.default_rights();
        let content = Content { object: guest.place(), rights, node: None, inheritable: false };
        let handle =
            self.lives_still(making).and_then(|_| self.give_handle(caller.process, &caller.table, guest, content));
        let handle = handle.inspect_err(|_| self.abandon_guest(making))?;
        if let Some(guest) = self.guest_mut(guest) {
            guest.is_unseen = false;
        }
        Ok(CallAnswer::Guest { handle, process: guest.koid() })
    }

    /// Nobody has seen it: it goes, and nobody is told.
    pub(crate) fn abandon_guest(&mut self, making: &MakingGuest) {
        self.end_guest(making.guest, None);
    }

    /// A guest that is being made, unless its job was killed between two pieces.
    fn lives_still(&self, making: &MakingGuest) -> Result<Caller, CallError> {
        self.caller(making.guest.koid()).map_err(|_| CallError::Dying { koid: making.job })
    }

    /// Makes a guest with an empty table in a job.
    pub(crate) fn make_guest(
        &mut self,
        now: Time,
        job: Reference,
        creator: Option<Koid>,
    ) -> Result<Reference, CallError> {
        self.guest_list.try_reserve(1).map_err(|_| CallError::NoMemory {})?;
        let mask = self.secret.next();
        let table = Table::with_bounds(mask, self.limits.generation_bits, self.limits.table_slots);
        let table = Shared::try_new(table).map_err(|_| CallError::NoMemory {})?;
        let state = process::State::guest(table).map_err(|_| CallError::NoMemory {})?;
        let making = Making {
            owner: Some(job),
            charged: None,
            maker: None,
            creator,
            name: None,
            state: State::Process(state),
            hold: true,
        };
        let guest = self.make(now, making).map_err(|refused| self.not_made(refused))?;
        self.guests += 1;
        let seat = self.guest_list.len();
        if let Some(guest) = self.guest_mut(guest) {
            guest.seat = seat;
            guest.table.set_payer(guest.account.map_or(0, AccountId::to_raw));
        }
        // Reserved above.
        self.guest_list.push(guest);
        Ok(guest)
    }

    /// Equals of the caller's inheritable handles, under numbers of the new table.
    fn inherit(&mut self, caller: &Caller, making: &mut MakingGuest, slots: u32) -> Result<bool, CallError> {
        let to = self.lives_still(making)?;
        let mut left = slots;
        while left > 0 {
            let from = making.from;
            match caller.table.next_from(from, left) {
                Next::Found(pin) => {
                    making.from = pin.index() + 1;
                    let content = pin.content();
                    // What is being taken back is not passed on.
                    let may = |object: &Reference| self.is_not_taken_back(content.node, *object).is_ok();
                    let object = self.slab.at(content.object).ok().filter(may);
                    if let (true, Some(object)) = (content.inheritable, object) {
                        self.give_handle(to.process, &to.table, object, content)?;
                        left = left.saturating_sub(SLOTS_PER_EQUAL);
                    }
                }
                Next::GoOn(index) => making.from = index,
                Next::End => return Ok(true),
            }
            left = left.saturating_sub(making.from - from);
        }
        Ok(false)
    }

    pub(crate) fn call_kill(&mut self, caller: &Caller, handle: RawHandle) -> Result<(), CallError> {
        let object = self.meant(caller, handle, Operation::Kill)?.object;
        let koid = object.koid();
        if self.job(object).is_some() {
            if self.owner(object).is_none() {
                return Err(CallError::RootJob { koid });
            }
            return self.do_kill_job(koid).map_err(|_| CallError::Dying { koid });
        }
        if self.guest(object).is_none() {
            return Err(CallError::NotAGuest { koid });
        }
        self.end_guest(object, Some(KillReason::Killed));
        Ok(())
    }

    /// Begins the end of a guest: nothing new from now on. Again: nothing. Without a reason nobody is told.
    pub(crate) fn end_guest(&mut self, process: Reference, reason: Option<KillReason>) {
        self.unlist(process);
        let first = self.ending.first;
        if let Some(guest) = self.guest_mut(process)
            && !guest.dying
        {
            guest.dying = true;
            guest.reason = reason.filter(|_| !guest.is_unseen);
            guest.next = first.map(Reference::place);
            let account = guest.account;
            self.ending.first = Some(process);
            self.ending.begun += 1;
            self.last_table = None;
            if let Some(account) = account {
                self.close_leases(account);
            }
        }
    }

    /// One unit of ending guests; `false` if none is being ended.
    pub(crate) fn end_one(&mut self) -> bool {
        let Some(process) = self.ending.first else { return false };
        let Some(guest) = self.guest_mut(process) else {
            self.ending.first = None;
            return true;
        };
        let (table, cursor) = (guest.table.clone(), guest.cursor);
        if let Some(content) = table.take_closed() {
            self.gave_up(process, content, None);
            return true;
        }
        let end = table.used().min(cursor.saturating_add(SLOTS_PER_UNIT));
        let found = (cursor..end).find_map(|index| Some((index, table.close_at(index)?)));
        let next = found.map_or(end, |(index, _)| index + 1);
        if let Some(guest) = self.guest_mut(process) {
            guest.cursor = next;
        }
        match found {
            Some((_, Closed::Now(content))) => self.gave_up(process, content, Some(CloseReason::Ended)),
            // Somebody looks at it this moment; what the last look hands over is taken in by whoever ends it.
            Some((_, Closed::Later(_))) => {}
            None if end < table.used() => {}
            None if self.end_a_view(process) => {}
            None => self.guest_ended(process),
        }
        true
    }

    /// A guest's table is empty: its process ends, and the embedder is told.
    fn guest_ended(&mut self, process: Reference) {
        let Some(guest) = self.guest_mut(process) else { return };
        let (reason, next, seat) = (guest.reason, guest.next, guest.seat);
        if self.guest_list.get(seat) == Some(&process) {
            self.guest_list.swap_remove(seat);
            if let Some(guest) = self.guest_list.get(seat).copied().and_then(|moved| self.guest_mut(moved)) {
                guest.seat = seat;
            }
        }
        self.ending.first = next.and_then(|place| self.slab.at(place).ok());
        if let Some(State::Process(state)) = self.state_mut(process) {
            state.life = Life::Ended;
        }
        self.guests -= 1;
        if let Some(reason) = reason {
            // The room was taken when the guest was made.
            self.effects.push_back(Effect::Killed { koid: process.koid(), reason });
        }
        if let Some(account) = self.guest_mut(process).and_then(|guest| guest.account.take()) {
            self.accounts.close(account, &mut credit!(self));
        }
        self.let_go(process);
        self.left_by_the_dying(process);
    }

    /// Something has ended and stays for those who have handles to it: a dying job does not wait for them.
    pub(crate) fn left_by_the_dying(&mut self, ended: Reference) {
        let Some(job) = self.owner(ended).filter(|job| self.job(*job).is_some_and(|job| job.dying)) else { return };
        if self.handles_to(ended) > 0 {
            self.leave_behind(ended, job);
            if self.job(job).is_some_and(|job| job.is_over()) {
                self.destroy(job);
            }
        }
    }

    pub(crate) fn guest(&self, process: Reference) -> Option<&Guest> {
        match self.state(process)? {
            State::Process(state) => state.guest.as_deref(),
            _ => None,
        }
    }

    pub(crate) fn guest_mut(&mut self, process: Reference) -> Option<&mut Guest> {
        match self.state_mut(process)? {
            State::Process(state) => state.guest.as_deref_mut(),
            _ => None,
        }
    }
}

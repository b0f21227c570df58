//! Handles: how a call is taken, what a handle means, and the calls that make, move and give up handles.

use crate::account::{AccountId, Charge, ChargeError};
use crate::call::{Call, CallAnswer, CallError, HandleInfo, What};
use crate::create::Making;
use crate::image::Time;
use crate::leases::credit;
use crate::manager::{Body, Core};
use crate::notices::{CloseReason, OpenReason};
use crate::types::directory::Provider;
use crate::types::{State, Type, directory, symbolic_link};
use kobj_abi::{AskedRights, Denied, Koid, Operation, RawHandle, Rights, TypeNumber, check};
use kobj_memory::{
    AddHandle, Bytes, Closed, Content, DropHandle, Pin, PinError, Place, Reference, Reserved, Shared, Slab, Table,
    TableError,
};

/// What a handle is charged.
pub(crate) const HANDLE: Charge = Charge::handle(24);

/// Who calls: a living guest and its table.
pub(crate) struct Caller {
    pub(crate) process: Reference,
    pub(crate) table: Shared<Table>,
}

/// What a handle means, held for as long as this is.
pub(crate) struct Meant<'t> {
    pub(crate) object: Reference,
    pub(crate) object_type: TypeNumber,
    pub(crate) rights: Rights,
    /// Its derivation node, if it was derived or derived from.
    pub(crate) node: Option<Place>,
    pub(crate) inheritable: bool,
    /// The slot cannot be given to another handle meanwhile, nor the object end.
    pin: Pin<'t>,
}

impl<'t> Meant<'t> {
    pub(crate) fn pin(&self) -> &Pin<'t> {
        &self.pin
    }
}

impl Core {
    /// Does what a process asks for by its handles, and a bounded amount of left-over work.
    ///
    /// # Errors
    /// [`CallError`]; then nothing changed.
    pub fn call(&mut self, now: Time, process: Koid, call: Call<'_>) -> Result<CallAnswer, CallError> {
        self.do_call(now, process, &call)
    }

    pub(crate) fn do_call(&mut self, now: Time, process: Koid, call: &Call<'_>) -> Result<CallAnswer, CallError> {
        let (last, table) = (self.last_process, self.last_table.take());
        // It is not looked for again, and its table not counted. The table of one that is being ended is not here.
        if let (Some(last), Some(table)) = (last, table)
            && last.koid() == process
            && self.slab.header(last).is_ok_and(|header| header.counts().references() > 0)
        {
            return self.call_of(now, Caller { process: last, table }, call);
        }
        let caller = self.caller(process)?;
        self.last_process = Some(caller.process);
        self.call_of(now, caller, call)
    }

    #[inline(always)]
    fn call_of(&mut self, now: Time, caller: Caller, call: &Call<'_>) -> Result<CallAnswer, CallError> {
        self.opening = OpenReason::of(call);
        let ends = self.ending.begun;
        let result = self.dispatch_call(now, &caller, call);
        self.after_call(&caller, &result);
        self.keep_caller(caller, ends);
        result
    }

    /// The living guest that calls, not looked for again if it called last. [`Core::keep_caller`] takes it back.
    #[inline]
    pub(crate) fn take_caller(&mut self, process: Koid) -> Result<Caller, CallError> {
        if self.called_last(process)
            && let (Some(process), Some(table)) = (self.last_process, self.last_table.take())
        {
            return Ok(Caller { process, table });
        }
        self.caller(process)
    }

    /// Keeps who called at hand for the next call, unless a guest was ended since `ends` was [`guests::Ending::begun`].
    #[inline]
    pub(crate) fn keep_caller(&mut self, caller: Caller, ends: u64) {
        if self.ending.begun == ends {
            self.last_process = Some(caller.process);
            self.last_table = Some(caller.table);
        }
    }

    /// Whether a process may call: it is a living guest.
    #[inline]
    pub(crate) fn may_call(&self, process: Koid) -> Result<(), CallError> {
        if self.called_last(process) { Ok(()) } else { self.caller(process).map(drop) }
    }

    /// Whether that living guest called last. The table of one that is being ended is not kept.
    #[inline]
    fn called_last(&self, process: Koid) -> bool {
        let last = self.last_process.filter(|last| last.koid() == process && self.last_table.is_some());
        let header = last.and_then(|last| self.slab.header(last).ok());
        header.is_some_and(|header| header.counts().references() > 0)
    }

    /// Does a piece of a call that is done in pieces, between which others have their turn.
    pub(crate) fn piece<T>(
        &mut self,
        process: Koid,
        call: &Call<'_>,
        action: impl FnOnce(&mut Self, &Caller) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let caller = self.caller(process)?;
        self.opening = OpenReason::of(call);
        let result = action(self, &caller);
        self.after_call(&caller, &result);
        result
    }

    /// What follows every call.
    pub(crate) fn after_call<T>(&mut self, caller: &Caller, result: &Result<T, CallError>) {
        if let Err(CallError::BadHandle { handle }) = result
            && !self.is_giving_up
        {
            self.used_bad_handle(caller.process, *handle);
        }
        self.take_in(caller);
        self.work();
    }

    /// Closes a handle for the wrapper in the embedder's program that has it: [`Call::Close`], but that one which is gone (it
    /// was taken back, or closed by its number) is nobody's mistake, and no policy hears of it. Whether it was there.
    pub fn give_up(&mut self, process: Koid, handle: RawHandle) -> bool {
        self.is_giving_up = true;
        let closed = self.do_call(Time(0), process, &Call::Close { handle });
        self.is_giving_up = false;
        closed.is_ok()
    }

    fn dispatch_call(&mut self, now: Time, caller: &Caller, call: &Call<'_>) -> Result<CallAnswer, CallError> {
        match *call {
            Call::Close { handle } => self.call_close(caller, handle),
            Call::Duplicate { handle, rights } => self.call_duplicate(caller, handle, rights).map(CallAnswer::Handle),
            Call::Replace { handle, rights } => self.call_replace(caller, handle, rights).map(CallAnswer::Handle),
            Call::Transfer { handle, process, rights } => {
                self.call_transfer(caller, handle, process, rights).map(CallAnswer::Handle)
            }
            Call::HandleInfo { handle } => self.call_handle_info(caller, handle).map(CallAnswer::Info),
            Call::SetInheritable { handle, inheritable } => {
                self.call_set_inheritable(caller, handle, inheritable).map(|()| CallAnswer::Done)
            }
            Call::Create { what } => self.call_create(now, caller, what).map(CallAnswer::Handle),
            Call::CreateJob { job } => self.call_create_job(now, caller, job).map(CallAnswer::Handle),
            Call::CreateGuest { job, inherit } => self.call_create_guest(now, caller, job, inherit),
            Call::Kill { handle } => self.call_kill(caller, handle).map(|()| CallAnswer::Done),
            Call::Link { directory, name, handle, most, permanent } => {
                self.call_link(caller, directory, name, handle, most, permanent).map(|()| CallAnswer::Done)
            }
            Call::Unlink { directory, name } => self.call_unlink(caller, directory, name).map(|()| CallAnswer::Done),
            Call::Rename { directory, from, to } => {
                self.call_rename(caller, directory, from, to).map(|()| CallAnswer::Done)
            }
            Call::Open { directory, path, rights, expected, follow } => {
                self.call_open(caller, directory, path, rights, expected, follow)
            }
            Call::OpenOrCreate { directory, name, what, rights, exclusive } => {
                self.call_open_or_create(now, caller, directory, name, what, rights, exclusive)
            }
            Call::Enumerate { directory, cursor } => {
                self.call_enumerate(caller, directory, cursor).map(CallAnswer::Entry)
            }
            Call::SetPermanent { handle, permanent } => {
                self.call_set_permanent(caller, handle, permanent).map(|()| CallAnswer::Done)
            }
            Call::Why { handle } => {
                let koid = self.meant(caller, handle, Operation::Why)?.object.koid();
                self.do_why(koid).map(CallAnswer::Why).map_err(|_| CallError::NoMemory {})
            }
            Call::Holders { handle } => self.call_holders(caller, handle).map(CallAnswer::Holders),
            Call::KeptBy { handle } => self.call_kept_by(caller, handle).map(CallAnswer::KeptBy),
            Call::DerivedFrom { handle } => self.call_derived_from(caller, handle).map(CallAnswer::DerivedFrom),
            Call::ReadLink { handle } => self.call_read_link(caller, handle).map(CallAnswer::Target),
            Call::Derive { handle, rights } => self.call_derive(caller, handle, rights),
            Call::Revoke { handle } => self.call_revoke(caller, handle),
            Call::SetQuota { handle, resource, limit } => {
                self.call_set_quota(caller, handle, resource, limit).map(|()| CallAnswer::Done)
            }
            Call::SetBadHandlePolicy { job, policy } => {
                self.call_set_bad_handle_policy(caller, job, policy).map(|()| CallAnswer::Done)
            }
            Call::Recharge { handle, from, to } => {
                self.call_recharge(caller, handle, from, to).map(|()| CallAnswer::Done)
            }
        }
    }

    /// The living guest that calls.
    pub(crate) fn caller(&self, koid: Koid) -> Result<Caller, CallError> {
        let process = self.find(koid).map_err(|_| CallError::NoProcess { process: koid })?;
        let guest = self.guest(process).ok_or(CallError::NoProcess { process: koid })?;
        if guest.dying {
            return Err(CallError::Dying { koid });
        }
        Ok(Caller { process, table: guest.table.clone() })
    }

    /// What a handle means, if it allows the operation: bad handle, wrong type and access denied in that order.
    pub(crate) fn meant<'t>(
        &self,
        caller: &'t Caller,
        handle: RawHandle,
        operation: Operation,
    ) -> Result<Meant<'t>, CallError> {
        self.meant_here(caller, handle, operation)
    }

    /// The same for calls of which there are many: what it finds is not handed on through memory.
    #[inline(always)]
    pub(crate) fn meant_here<'t>(
        &self,
        caller: &'t Caller,
        handle: RawHandle,
        operation: Operation,
    ) -> Result<Meant<'t>, CallError> {
        let pin = caller.table.pin(handle).map_err(|error| match error {
            PinError::BadHandle => CallError::BadHandle { handle },
            PinError::TooManyPins => CallError::TooManyReferences { koid: caller.process.koid() },
        })?;
        let Content { object: place, rights, node, inheritable } = pin.content();
        // A handle is a reference: the slot is the object's as long as the handle is pinned. Its tag may be gone.
        let object = self.slab.at(place).map_err(|_| match self.koid_at(place) {
            Some(koid) => CallError::Dying { koid },
            None => CallError::BadHandle { handle },
        })?;
        let object_type = self.type_number(object);
        match check(object_type, rights, operation) {
            Ok(()) => Ok(Meant { object, object_type, rights, node, inheritable, pin }),
            Err(Denied::WrongType) => Err(CallError::WrongType { koid: object.koid(), found: object_type, operation }),
            Err(Denied::AccessDenied { missing }) => {
                Err(CallError::AccessDenied { koid: object.koid(), operation, missing })
            }
        }
    }

    /// The rights that are given where at most `most` can be.
    pub(crate) fn within(
        object: Reference,
        object_type: TypeNumber,
        asked: AskedRights,
        most: Rights,
    ) -> Result<Rights, CallError> {
        asked.within(most).ok_or_else(|| {
            let AskedRights::Exactly(asked) = asked else { return CallError::ReservedRights { asked: most } };
            if asked.intersection(Rights::RESERVED).is_empty() {
                CallError::TooManyRights { koid: object.koid(), object_type, asked, most }
            } else {
                CallError::ReservedRights { asked }
            }
        })
    }

    /// The job that is charged for what a process makes, unless it is being killed.
    pub(crate) fn job_of(&self, process: Reference) -> Result<Reference, CallError> {
        let dying = CallError::Dying { koid: process.koid() };
        let job = self.owner(process).ok_or(dying)?;
        self.takes_children(job)?;
        Ok(job)
    }

    /// Refused if a job, or one around it, is being killed. Depth is bounded, so is this walk.
    pub(crate) fn takes_children(&self, job: Reference) -> Result<(), CallError> {
        let mut around = Some(job);
        while let Some(outer) = around {
            if self.job(outer).is_none_or(|outer| outer.dying) {
                return Err(CallError::Dying { koid: job.koid() });
            }
            around = self.owner(outer);
        }
        Ok(())
    }

    /// A slot for a handle to come in the table of `process`, which is charged for it.
    #[inline]
    pub(crate) fn reserve_handle(&mut self, process: Reference, table: &Table) -> Result<Reserved, CallError> {
        let account = self.guest(process).and_then(|guest| guest.account);
        self.charge(account, HANDLE)?;
        self.reserve_charged(process, table)
    }

    /// A slot for a handle to come that takes the place of another one of the same process: it needs no room.
    fn reserve_in_place(&mut self, process: Reference, table: &Table) -> Result<Reserved, CallError> {
        if let Some(account) = self.guest(process).and_then(|guest| guest.account) {
            self.accounts.charge_in_place(account, HANDLE.handles, HANDLE.bytes);
        }
        self.reserve_charged(process, table)
    }

    /// A slot for a handle to come, which is charged for; refused, the charge goes back.
    #[inline]
    fn reserve_charged(&mut self, process: Reference, table: &Table) -> Result<Reserved, CallError> {
        let account = self.guest(process).and_then(|guest| guest.account);
        self.reserve_paid_by(account, HANDLE, process, table)
    }

    /// A slot for a handle to come, for which an account is charged; refused, the charge goes back.
    #[inline]
    pub(crate) fn reserve_paid_by(
        &mut self,
        account: Option<AccountId>,
        charge: Charge,
        process: Reference,
        table: &Table,
    ) -> Result<Reserved, CallError> {
        table.reserve().map_err(|error| {
            self.refund(account, charge);
            match error {
                TableError::NoMemory => CallError::NoMemory {},
                TableError::Full => CallError::TableFull { process: process.koid() },
            }
        })
    }

    /// Gives back a slot of which no handle was made, and its charge.
    pub(crate) fn give_back_handle(&mut self, process: Reference, table: &Table, reserved: Reserved) {
        table.give_back(reserved);
        let account = self.guest(process).and_then(|guest| guest.account);
        self.refund(account, HANDLE);
    }

    /// Counts one handle more of an object that is held; from 0 only a new or a permanent one has more again.
    #[inline]
    pub(crate) fn count_handle(&mut self, object: Reference) -> Result<(), CallError> {
        let most = self.limits.handles_per_object.max(1);
        if most < u32::MAX && self.handles_to(object) >= most {
            return Err(CallError::TooManyReferences { koid: object.koid() });
        }
        match self.slab.add_first_handle(object) {
            AddHandle::Counted => Ok(()),
            AddHandle::NoHandle | AddHandle::Full => Err(CallError::TooManyReferences { koid: object.koid() }),
        }
    }

    /// Takes back what was counted for a handle that was not made; others remain.
    pub(crate) fn uncount_handle(&mut self, object: Reference) {
        let _not_the_last = self.slab.drop_handle(object.place());
    }

    /// How many handles to an object there are in all tables.
    pub(crate) fn handles_to(&self, object: Reference) -> u32 {
        self.slab.header(object).map_or(0, |header| header.counts().handles())
    }

    /// Charges an account and all around it; what has no account is not charged.
    #[inline]
    pub(crate) fn charge(&mut self, account: Option<AccountId>, charge: Charge) -> Result<(), CallError> {
        let Some(account) = account else { return Ok(()) };
        let charged = self.accounts.charge(account, charge, &mut credit!(self));
        charged.map_err(|error| {
            let owner = self.accounts.owner(account);
            owner.map_or(CallError::NoMemory {}, |owner| self.charge_refused(account, owner, error))
        })
    }

    /// Want of memory is told only where no quota refuses the same: that would refuse it with memory, too.
    pub(crate) fn quota_first<T, const N: usize>(
        &mut self,
        result: Result<T, CallError>,
        charges: [(Option<AccountId>, Charge); N],
    ) -> Result<T, CallError> {
        if let Err(CallError::NoMemory {}) = result {
            for (account, charge) in charges {
                self.may_charge(account, charge)?;
            }
        }
        result
    }

    /// The account of a guest.
    pub(crate) fn account_of_guest(&self, process: Reference) -> Option<AccountId> {
        self.guest(process).and_then(|guest| guest.account)
    }

    /// The refusal of a charge; `owner` has the account.
    pub(crate) fn charge_refused(&self, account: AccountId, owner: Koid, error: ChargeError) -> CallError {
        match error {
            ChargeError::Quota(error) => {
                CallError::Quota { koid: error.owner, resource: error.resource, limit: error.limit, used: error.used }
            }
            ChargeError::Closed => CallError::Dying { koid: self.accounts.owner(account).unwrap_or(owner) },
            ChargeError::NoMemory => CallError::NoMemory {},
        }
    }

    pub(crate) fn refund(&mut self, account: Option<AccountId>, charge: Charge) {
        if let Some(account) = account {
            self.accounts.refund(account, charge);
        }
    }

    #[inline(never)]
    fn call_close(&mut self, caller: &Caller, handle: RawHandle) -> Result<CallAnswer, CallError> {
        match caller.table.close(handle) {
            Ok(Closed::Now(content)) => self.gave_up(caller.process, content, Some(CloseReason::Closed)),
            // Somebody looks at it this moment: whoever ends the last look hands it over.
            Ok(Closed::Later(_)) => {}
            Err(_) => return Err(CallError::BadHandle { handle }),
        }
        Ok(CallAnswer::Done)
    }

    /// A handle of that process is no more: its charge and its reference go. Without a reason a last look handed it over.
    pub(crate) fn gave_up(&mut self, process: Reference, content: Content, reason: Option<CloseReason>) {
        let payer = self.guest(process).map_or(0, |guest| guest.table.payer());
        self.gave_up_for(process.koid(), payer, content, reason);
    }

    /// The same by the payer of the handle's table, which is there until the last of them is given up: the last look at a
    /// handle may outlive its process.
    fn gave_up_for(&mut self, process: Koid, payer: u32, content: Content, reason: Option<CloseReason>) {
        let place = content.object;
        // A user's object stays until its last-close hook has come due.
        let own = self.slab.at(place).ok().filter(|object| self.body(*object).is_none());
        let noticed = own.filter(|object| self.is_noticed(*object));
        // Asked before its node goes, which says whether it was taken back.
        let reason = match noticed {
            Some(object) => reason.unwrap_or_else(|| self.reason_of_late(process, object, content)),
            None => CloseReason::Closed,
        };
        self.refund_handle(AccountId::from_raw(payer), content.node);
        if own.is_some() && noticed.is_none() && self.slab.drop_one_of_many(place) {
            return;
        }
        let kept = own.filter(|object| self.slab.acquire(*object).is_ok());
        let dropped = self.drop_handle(place);
        if let Some(object) = kept {
            self.notice_closed(process, object, reason);
            // By what this close was told, not by a look at the count: a thread may have closed the last one meanwhile.
            if dropped == DropHandle::LastHandle {
                self.own_last_close(object);
            }
            let _last_is_queued = self.slab.release(place);
        }
    }

    fn drop_handle(&mut self, place: Place) -> DropHandle {
        let dropped = self.slab.drop_handle(place);
        match dropped {
            DropHandle::Remaining | DropHandle::None => {}
            // It is on the list of those to be buried already.
            DropHandle::Last => {
                if let Ok(object) = self.slab.at(place) {
                    self.last_handle_went(object);
                }
            }
            DropHandle::LastHandle => {
                if let Ok(object) = self.slab.at(place) {
                    self.last_handle_went(object);
                }
                // The handle's own reference, which was left for this.
                let _last_is_queued = self.slab.release(place);
            }
        }
        dropped
    }

    /// No handle to an object is left and no name by which to get one; a reference is still counted.
    pub(crate) fn nobody_has(&mut self, object: Reference) {
        if let Some(job) = self.job_mut(object) {
            job.unattended = true;
            if job.balance.live() == 0 {
                self.end_job(object);
            }
        }
    }

    /// A handle in a guest's table was closed by a thread: its charge, its node and its reference go.
    pub(crate) fn gave_up_by(&mut self, process: Koid, table: &Table, content: Content) {
        self.gave_up_for(process, table.payer(), content, Some(CloseReason::Closed));
        self.work();
    }

    /// A thread gave up the last handle of a user's object that other references keep.
    pub(crate) fn last_handle_of_own(&mut self, object: Reference) {
        self.last_handle_went(object);
        self.own_last_close(object);
        self.work();
    }

    /// A thread gave up the last handle, and reference, of a user's object that is known here; its last-close hook has run.
    /// Whoever came first may have buried it, and another object may stand in its place: so it is told by its koid.
    pub(crate) fn named_one_ended(&mut self, place: Place, koid: Option<Koid>) {
        if let Ok(object) = self.slab.at(place)
            && Some(object.koid()) == koid
        {
            self.last_handle_went(object);
        }
        self.work();
    }

    /// Takes in what the last looks at closing handles handed over, and works: also of a guest that is no more.
    pub(crate) fn take_in_of(&mut self, process: Koid, table: &Table) {
        self.take_in_from(process, table);
        self.work();
    }

    /// Takes in what the last looks at closing handles handed over.
    pub(crate) fn take_in(&mut self, caller: &Caller) {
        self.take_in_from(caller.process.koid(), &caller.table);
    }

    fn take_in_from(&mut self, process: Koid, table: &Table) {
        while let Some(content) = table.take_closed() {
            self.gave_up_for(process, table.payer(), content, None);
        }
    }

    fn call_duplicate(
        &mut self,
        caller: &Caller,
        handle: RawHandle,
        rights: AskedRights,
    ) -> Result<RawHandle, CallError> {
        let meant = self.meant(caller, handle, Operation::Duplicate)?;
        let rights = Self::within(meant.object, meant.object_type, rights, meant.rights)?;
        self.is_not_taken_back(meant.node, meant.object)?;
        let content = Content { object: meant.object.place(), rights, node: meant.node, inheritable: false };
        self.give_handle(caller.process, &caller.table, meant.object, content)
    }

    /// One handle more to an object that is held, in the table of `process`.
    pub(crate) fn give_handle(
        &mut self,
        process: Reference,
        table: &Table,
        object: Reference,
        content: Content,
    ) -> Result<RawHandle, CallError> {
        let room = self.reserve_notice_of(object);
        self.quota_first(room, [(self.account_of_guest(process), HANDLE)])?;
        let reserved = self.reserve_handle(process, table)?;
        let counted = self
            .count_handle(object)
            .and_then(|()| self.count_on_node(content.node, object).inspect_err(|_| self.uncount_handle(object)));
        match counted {
            Ok(()) => {
                let handle = table.commit(reserved, content);
                self.notice_opened(process, object, self.opening);
                Ok(handle)
            }
            Err(error) => {
                self.give_back_handle(process, table, reserved);
                Err(error)
            }
        }
    }

    fn call_replace(
        &mut self,
        caller: &Caller,
        handle: RawHandle,
        rights: AskedRights,
    ) -> Result<RawHandle, CallError> {
        let meant = self.meant(caller, handle, Operation::Replace)?;
        let rights = Self::within(meant.object, meant.object_type, rights, meant.rights)?;
        let content =
            Content { object: meant.object.place(), rights, node: meant.node, inheritable: meant.inheritable };
        self.move_handle(caller, handle, &meant, caller.process, &caller.table, content)
    }

    fn call_transfer(
        &mut self,
        caller: &Caller,
        handle: RawHandle,
        process: RawHandle,
        rights: AskedRights,
    ) -> Result<RawHandle, CallError> {
        let meant = self.meant(caller, handle, Operation::Transfer)?;
        let receiver = self.meant(caller, process, Operation::Receive)?.object;
        self.move_to(caller, handle, &meant, receiver.koid(), rights)
    }

    /// Moves a handle of a guest to another one: the embedder's own act, who needs no handle to the receiver; else as
    /// [`Call::Transfer`].
    ///
    /// # Errors
    /// [`CallError`]; then nothing changed.
    pub fn transfer(
        &mut self,
        process: Koid,
        handle: RawHandle,
        receiver: Koid,
        rights: AskedRights,
    ) -> Result<RawHandle, CallError> {
        let caller = self.caller(process)?;
        self.opening = OpenReason::Moved;
        let moved = self
            .meant(&caller, handle, Operation::Transfer)
            .and_then(|meant| self.move_to(&caller, handle, &meant, receiver, rights));
        self.after_call(&caller, &moved);
        moved
    }

    /// Moves what a handle means to a guest that is checked last.
    fn move_to(
        &mut self,
        caller: &Caller,
        handle: RawHandle,
        meant: &Meant<'_>,
        receiver: Koid,
        rights: AskedRights,
    ) -> Result<RawHandle, CallError> {
        let rights = Self::within(meant.object, meant.object_type, rights, meant.rights)?;
        let to = self.caller(receiver).map_err(|error| match error {
            CallError::NoProcess { process } => CallError::NotAGuest { koid: process },
            other => other,
        })?;
        let content = Content { object: meant.object.place(), rights, node: meant.node, inheritable: false };
        self.move_handle(caller, handle, meant, to.process, &to.table, content)
    }

    /// Makes the new handle ready, closes the old one, and only then makes the new one valid: refused, the old one is as it
    /// was. Of a move and a close at the same time one wins.
    fn move_handle(
        &mut self,
        caller: &Caller,
        handle: RawHandle,
        meant: &Meant<'_>,
        receiver: Reference,
        table: &Table,
        content: Content,
    ) -> Result<RawHandle, CallError> {
        self.is_not_taken_back(meant.node, meant.object)?;
        let room = self.reserve_notice_of(meant.object);
        if receiver == caller.process {
            room?;
        } else {
            self.quota_first(room, [(self.account_of_guest(receiver), HANDLE)])?;
        }
        let reserved = match receiver == caller.process {
            true => self.reserve_in_place(receiver, table)?,
            false => self.reserve_handle(receiver, table)?,
        };
        let counted = self.count_handle(meant.object).and_then(|()| {
            self.count_on_node(meant.node, meant.object).inspect_err(|_| self.uncount_handle(meant.object))
        });
        if let Err(error) = counted {
            self.give_back_handle(receiver, table, reserved);
            return Err(error);
        }
        // This call has the old handle pinned: its own count and charge go when the pin does.
        if caller.table.close(handle).is_err() {
            self.give_back_handle(receiver, table, reserved);
            self.uncount_handle(meant.object);
            self.count_off_node(meant.node);
            return Err(CallError::BadHandle { handle });
        }
        if self.is_noticed(meant.object) {
            self.moved = Some((caller.process.koid(), meant.object, meant.pin().content()));
        }
        let moved = table.commit(reserved, content);
        self.notice_opened(receiver, meant.object, OpenReason::Moved);
        if let Some(node) = meant.node {
            self.hint(node, receiver, table, moved);
        }
        Ok(moved)
    }

    fn call_handle_info(&self, caller: &Caller, handle: RawHandle) -> Result<HandleInfo, CallError> {
        let meant = self.meant(caller, handle, Operation::HandleInfo)?;
        Ok(HandleInfo {
            koid: meant.object.koid(),
            object_type: meant.object_type,
            rights: meant.rights,
            inheritable: meant.inheritable,
            derived: meant.node.is_some_and(|node| self.nodes.links(node).parent.is_some()),
        })
    }

    fn call_set_inheritable(&self, caller: &Caller, handle: RawHandle, inheritable: bool) -> Result<(), CallError> {
        let meant = self.meant(caller, handle, Operation::HandleInfo)?;
        meant.pin.set_inheritable(inheritable);
        Ok(())
    }

    fn call_create(&mut self, now: Time, caller: &Caller, what: What<'_>) -> Result<RawHandle, CallError> {
        what.check()?;
        let job = self.job_of(caller.process)?;
        let made = Self::state_of(what).and_then(|state| self.make_handle(now, caller, job, state));
        let account = self.account_of_guest(caller.process);
        self.quota_first(made, [(account, HANDLE), (account, Self::charge_for(what))])
    }

    /// What is charged for what is to be made.
    pub(crate) fn charge_for(what: What<'_>) -> Charge {
        let out_of_line = match what {
            What::Directory => 0,
            What::SymbolicLink { target } => target.len() as u64,
        };
        Charge::object(what.object_type().number(), u64::from(Slab::<Body>::SLOT_BYTES) + out_of_line)
    }

    /// The state of what is to be made.
    pub(crate) fn state_of(what: What<'_>) -> Result<State, CallError> {
        match what {
            What::Directory => Ok(State::Directory(directory::State::of(Provider::Names))),
            What::SymbolicLink { target } => {
                let target = Bytes::try_from_slice(target).map_err(|_| CallError::NoMemory {})?.into_box();
                symbolic_link::State::create(symbolic_link::Request { target })
                    .map(State::SymbolicLink)
                    .map_err(|_| CallError::NoMemory {})
            }
        }
    }

    /// Makes an object in a job and the first handle to it, with all that its type can do.
    pub(crate) fn make_handle(
        &mut self,
        now: Time,
        caller: &Caller,
        job: Reference,
        state: State,
    ) -> Result<RawHandle, CallError> {
        let rights = state.object_type().default_rights();
        // A job is kept by the job around it, too, until it has ended.
        let hold = matches!(state, State::Job(_));
        let reserved = self.reserve_handle(caller.process, &caller.table)?;
        let creator = Some(caller.process.koid());
        // A job is charged to the job in which it stands, all else to who makes it, and so to its job.
        let maker = if hold { None } else { self.guest(caller.process).and_then(|guest| guest.account) };
        let making = Making { owner: Some(job), charged: maker, maker: None, creator, name: None, state, hold };
        let object = match self.make(now, making) {
            Ok(object) => object,
            Err(refused) => {
                self.give_back_handle(caller.process, &caller.table, reserved);
                return Err(self.not_made(refused));
            }
        };
        // A new object has few references: one more can be counted.
        let _counted = self.count_handle(object);
        if !hold {
            // The first reference was its maker's, who has the handle now.
            let _not_the_last = self.slab.release(object.place());
        }
        let content = Content { object: object.place(), rights, node: None, inheritable: false };
        Ok(caller.table.commit(reserved, content))
    }
}

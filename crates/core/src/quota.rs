//! Quotas and policies: what a job or process may have, whose charge an object is, and what a bad handle leads to.

use crate::account::{AccountId, Charge, LeftBehind, Usage};
use crate::call::{BadHandlePolicy, CallError, Resource};
use crate::command::{Effect, KillReason};
use crate::error::QueryError;
use crate::handles::Caller;
use crate::leases::{Idle, credit};
use crate::manager::Core;
use crate::types::State;
use crate::user_type::own_charge;
use kobj_abi::{Koid, ObjectType, Operation, RawHandle};
use kobj_memory::{Place, Reference};

impl Core {
    pub(crate) fn call_set_quota(
        &mut self,
        caller: &Caller,
        handle: RawHandle,
        resource: Resource,
        limit: u64,
    ) -> Result<(), CallError> {
        let object = self.meant(caller, handle, Operation::SetQuota)?.object;
        if let Resource::ObjectsOf(number) = resource
            && self.type_info(number).is_none()
        {
            return Err(CallError::UnknownType { number });
        }
        let koid = object.koid();
        let account = self.account_of(object)?;
        self.accounts.set_limit(account, resource, limit).map_err(|error| self.charge_refused(account, koid, error))
    }

    /// The account of a living job or guest.
    fn account_of(&self, object: Reference) -> Result<AccountId, CallError> {
        let koid = object.koid();
        match self.state(object) {
            Some(State::Job(job)) => job.account.ok_or(CallError::Dying { koid }),
            Some(State::Process(process)) => match &process.guest {
                Some(guest) => guest.account.filter(|_| !guest.dying).ok_or(CallError::Dying { koid }),
                None => Err(CallError::NotAGuest { koid }),
            },
            _ => Err(CallError::Dying { koid }),
        }
    }

    /// Moves the charge of an object, and the object, from one job to another.
    pub(crate) fn call_recharge(
        &mut self,
        caller: &Caller,
        handle: RawHandle,
        from: RawHandle,
        to: RawHandle,
    ) -> Result<(), CallError> {
        let object = self.meant(caller, handle, Operation::Recharge)?.object;
        let from = self.meant(caller, from, Operation::MoveCharge)?.object;
        let to = self.meant(caller, to, Operation::MoveCharge)?.object;
        let koid = object.koid();
        if self.body(object).is_none() {
            return self.recharge_own(object, from, to);
        }
        let object_type = self.type_of(object);
        if matches!(object_type, ObjectType::Job | ObjectType::Process) {
            return Err(CallError::StandsInItsJob { koid });
        }
        let (Some(account), true) = (self.body(object).and_then(|body| body.account), self.owner(object) == Some(from))
        else {
            return Err(CallError::ChargedElsewhere { koid });
        };
        self.takes_children(to)?;
        let into = self.account_of(to)?;
        let charge = self.charge_of(object);
        let moved = self.accounts.recharge(account, into, charge, &mut credit!(self));
        moved.map_err(|error| self.charge_refused(into, to.koid(), error))?;
        if let Ok(body) = self.slab.body_mut(object) {
            body.account = Some(into);
        }
        self.move_to_job(object, from, to);
        Ok(())
    }

    /// The same for a user's object: its header says which account pays for it.
    fn recharge_own(&mut self, object: Reference, from: Reference, to: Reference) -> Result<(), CallError> {
        let koid = object.koid();
        let account = self.own_account(object).filter(|_| self.job_that_pays(object) == Some(from));
        let account = account.ok_or(CallError::ChargedElsewhere { koid })?;
        self.takes_children(to)?;
        let into = self.account_of(to)?;
        let moved = self.accounts.recharge(account, into, own_charge(self.type_number(object)), &mut credit!(self));
        moved.map_err(|error| self.charge_refused(into, to.koid(), error))?;
        // The caller's handle is held: nobody ends the object meanwhile by what its header said before.
        if let Ok(header) = self.slab.header_mut(object) {
            header.set_owner(Place::from_raw(into.to_raw()));
        }
        if let Some(link) = self.link_of_the_job_that_pays(object.place()) {
            // The killer must not follow it out of the job.
            self.kill.passes(link, &self.links);
            self.links.change_source(&mut self.slab, link, to.place());
        }
        Ok(())
    }

    /// What is charged for an object: itself and, of a directory, its permanent names.
    fn charge_of(&self, object: Reference) -> Charge {
        let charge_bytes = self.slab.header(object).map_or(0, |header| header.charge_bytes());
        let names = self.permanence_charged(object.place());
        let bytes = u64::from(charge_bytes) + self.state(object).map_or(0, State::platform_bytes);
        Charge::object(self.type_of(object).number(), bytes.saturating_add(names.bytes))
    }

    /// The account that is charged for an object, fit for more: if its maker has ended, whoever inherited takes it over.
    pub(crate) fn living_account(&mut self, object: Reference) -> Option<AccountId> {
        let account = self.body(object)?.account?;
        let heir = self.accounts.heir(account).filter(|heir| *heir != account);
        let Some(heir) = heir else { return Some(account) };
        // The heir has it in its totals already: nothing can refuse it but memory.
        if self.accounts.recharge(account, heir, self.charge_of(object), &mut credit!(self)).is_err() {
            return Some(account);
        }
        self.slab.body_mut(object).ok()?.account = Some(heir);
        Some(heir)
    }

    pub(crate) fn call_set_bad_handle_policy(
        &mut self,
        caller: &Caller,
        job: RawHandle,
        policy: BadHandlePolicy,
    ) -> Result<(), CallError> {
        let job = self.meant(caller, job, Operation::SetPolicy)?.object;
        let koid = job.koid();
        let state = self.job_mut(job).filter(|job| !job.dying).ok_or(CallError::Dying { koid })?;
        state.bad_handle = Some(policy);
        Ok(())
    }

    /// What the job of a process says of bad handles; where it says nothing, the job around it does.
    fn bad_handle_policy(&self, process: Reference) -> BadHandlePolicy {
        let mut around = self.owner(process);
        while let Some(job) = around {
            if let Some(policy) = self.job(job).and_then(|job| job.bad_handle) {
                return policy;
            }
            around = self.owner(job);
        }
        BadHandlePolicy::Error
    }

    /// A process named a handle that it does not have.
    pub(crate) fn used_bad_handle(&mut self, process: Reference, handle: RawHandle) {
        let policy = self.bad_handle_policy(process);
        if policy == BadHandlePolicy::Error {
            return;
        }
        // One who names many is told of once, with their number, until the embedder has taken that: so no guest fills the list.
        if !self.effects.count_bad_handle(process.koid(), self.guest(process).map_or(0, |guest| guest.bad_handle)) {
            // Told where there is memory to tell it; the call itself is refused in any case.
            if self.reserve_effects().is_ok() {
                let number = self.effects.push_back(Effect::BadHandle { process: process.koid(), handle, times: 1 });
                if let Some(guest) = self.guest_mut(process) {
                    guest.bad_handle = number;
                }
            }
        }
        let is_host = self.guest(process).is_none_or(|guest| guest.is_host);
        if policy == BadHandlePolicy::Kill && !is_host {
            self.end_guest(process, Some(KillReason::BadHandle));
        }
    }

    /// A process looked, without a call, at a handle that it does not have.
    pub(crate) fn looked_at_bad_handle(&mut self, process: Koid, handle: RawHandle) {
        if let Ok(caller) = self.caller(process) {
            self.used_bad_handle(caller.process, handle);
            self.work();
        }
    }

    /// How much of a resource a living job or guest has, with all in it, and how much it may have.
    ///
    /// # Errors
    /// [`QueryError`]: there is no such object, or it is neither.
    pub fn usage(&self, koid: Koid, resource: Resource) -> Result<Usage, QueryError> {
        let object = self.find(koid)?;
        let idle = Idle { book: self.slab.leases(), leases: &self.leases };
        let usage = self.account_of(object).ok().and_then(|it| self.accounts.usage(it, resource, &idle));
        usage.ok_or_else(|| self.wrong_type(object, ObjectType::Job).into())
    }

    /// How many slots of a living guest's handle table are used up: no handle is ever given there again.
    ///
    /// # Errors
    /// [`CallError::NoProcess`], [`CallError::Dying`].
    pub fn retired_slots(&self, process: Koid) -> Result<u32, CallError> {
        self.caller(process).map(|caller| caller.table.retired())
    }

    /// What ended jobs and guests have left to a living job or guest.
    ///
    /// # Errors
    /// [`QueryError`]: there is no such object, or it is neither.
    pub fn left_behind(&self, koid: Koid) -> Result<LeftBehind, QueryError> {
        let object = self.find(koid)?;
        let account = self.account_of(object).map_err(|_| self.wrong_type(object, ObjectType::Job))?;
        Ok(self.accounts.left_behind(account))
    }
}

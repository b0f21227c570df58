//! Jobs: trees of processes with quotas, ended as a whole.

use crate::directory::Entries;
use crate::process::{Caller, Guest};
use crate::{BadHandlePolicy, Call, CallAnswer, Error, Handle, Job, Resource};

impl Job {
    /// Makes a job in this one. Needs CREATE_CHILD. NT: `NtCreateJobObject`; Zircon: `zx_job_create`.
    ///
    /// # Errors
    /// [`Error::AccessDenied`], [`Error::TooDeep`] (32 levels), [`Error::Dying`], [`Error::Quota`], [`Error::NoMemory`].
    #[track_caller]
    pub fn create_job(&self) -> Result<Self, Error> {
        let raw = self.caller().handle(Call::CreateJob { job: self.raw() })?;
        Ok(Handle::owned(self.caller().clone(), raw))
    }

    /// Makes a guest in this job, with an empty handle table. Needs CREATE_CHILD. Zircon: `zx_process_create`.
    ///
    /// # Errors
    /// As [`Job::create_job`].
    #[track_caller]
    pub fn create_guest(&self) -> Result<Guest, Error> {
        self.guest(false)
    }

    /// The same with equals of this process's inheritable handles. NT: `CreateProcess` with `bInheritHandles`.
    ///
    /// # Errors
    /// As [`Job::create_job`].
    #[track_caller]
    pub fn create_guest_inheriting(&self) -> Result<Guest, Error> {
        self.guest(true)
    }

    /// The living jobs and processes that stand in this one, named by their koids, in the order in which they were made. Needs
    /// ENUMERATE. NT: `JobObjectBasicProcessIdList`; Zircon: `ZX_INFO_JOB_CHILDREN` and `ZX_INFO_JOB_PROCESSES`.
    #[must_use]
    pub fn entries(&self) -> Entries<'_> {
        Entries::of(self)
    }

    #[track_caller]
    fn guest(&self, inherit: bool) -> Result<Guest, Error> {
        let caller = self.caller();
        match self.call(Call::CreateGuest { job: self.raw(), inherit })? {
            CallAnswer::Guest { handle, process } => {
                let guest = Caller::new(caller.inner.clone(), process)?;
                Ok(Guest::new(guest, Handle::owned(caller.clone(), handle)))
            }
            _ => Err(Error::NoProcess { process: caller.koid() }),
        }
    }

    /// Limits what the job and all in it may have, from now on: what is there beyond a lower limit stays, and nothing is added.
    /// Needs MANAGE. NT: `SetInformationJobObject`; Linux: cgroups.
    ///
    /// # Errors
    /// [`Error::AccessDenied`], [`Error::UnknownType`], [`Error::Dying`], [`Error::NoMemory`].
    #[track_caller]
    pub fn set_quota(&self, resource: Resource, limit: u64) -> Result<(), Error> {
        self.call(Call::SetQuota { handle: self.raw(), resource, limit }).map(drop)
    }

    /// Says what follows when a process in the job names a handle that it does not have. Needs MANAGE. Zircon:
    /// `ZX_POL_BAD_HANDLE`.
    ///
    /// # Errors
    /// [`Error::AccessDenied`], [`Error::Dying`].
    #[track_caller]
    pub fn set_bad_handle_policy(&self, policy: BadHandlePolicy) -> Result<(), Error> {
        self.call(Call::SetBadHandlePolicy { job: self.raw(), policy }).map(drop)
    }

    /// Pays from now on for an object that another job pays for; it stands in this job then. Needs MANAGE on the object and on
    /// both jobs, with handles of one process.
    ///
    /// # Errors
    /// [`Error::ChargedElsewhere`], [`Error::Quota`], [`Error::AccessDenied`], [`Error::Dying`]; [`Error::OtherProcess`] or
    /// [`Error::OtherManager`] for a handle in another table.
    #[track_caller]
    pub fn recharge<T>(&self, object: &Handle<T>, from: &Self) -> Result<(), Error> {
        self.caller().has_in_its_table(object)?;
        self.caller().has_in_its_table(from)?;
        self.call(Call::Recharge { handle: object.raw(), from: from.raw(), to: self.raw() }).map(drop)
    }

    /// Ends the job with all in it, the inner first: guests are killed, names taken away; what others have handles to lives on,
    /// charged to the job around. Again: nothing. Needs DESTROY. NT: `NtTerminateJobObject`; Zircon: `zx_task_kill`.
    ///
    /// # Errors
    /// [`Error::AccessDenied`]; [`Error::RootJob`].
    #[track_caller]
    pub fn kill(&self) -> Result<(), Error> {
        self.call(Call::Kill { handle: self.raw() })?;
        self.caller().inner.settle();
        Ok(())
    }
}

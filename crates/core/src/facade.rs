//! One method for each command, with the command's own result. Effects gather until [`Core::take_effects`].

use crate::command::{Answer, Info, LinkId, LooseEnds, Outcome, Ticket, Why};
use crate::error::{
    CloseError, CreateError, DoneError, EndError, EraError, KillError, LinkError, QueryError, ReferenceError,
    ReleaseError, ScrubError, UnlinkError,
};
use crate::image::{HostImage, Time};
use crate::manager::Core;
use crate::types::{Image, Request, host_object, job, process};
use kobj_abi::{Era, Koid, LinkKind};
use kobj_memory::{NoMemory, try_box};

impl Core {
    /// Does a command and the work of one step.
    fn run<T>(&mut self, command: impl FnOnce(&mut Self) -> T) -> T {
        let result = command(self);
        self.work();
        result
    }

    /// Gives out koids of a newer era from now on.
    ///
    /// # Errors
    /// [`EraError`] if it is not newer.
    pub fn open_era(&mut self, era: Era) -> Result<(), EraError> {
        self.run(|core| core.do_open_era(era))
    }

    /// Makes a job, inside another one or as a first one.
    ///
    /// # Errors
    /// [`CreateError`]; then nothing changed.
    pub fn create_job(&mut self, now: Time, parent: Option<Koid>, name: Option<&[u8]>) -> Result<Koid, CreateError> {
        self.run(|core| core.do_create(now, parent, None, name, Request::Job(job::Request {})))
    }

    /// Enters a process, in a job or outside of all jobs; `name` is its command name.
    ///
    /// # Errors
    /// [`CreateError`]; then nothing changed.
    pub fn create_process(
        &mut self,
        now: Time,
        job: Option<Koid>,
        request: process::Request,
        name: Option<&[u8]>,
    ) -> Result<Koid, CreateError> {
        self.run(|core| core.do_create(now, job, None, name, Request::Process(request)))
    }

    /// Enters a kernel object into a job; `creator` is the process object of its maker, linked as owner.
    ///
    /// # Errors
    /// [`CreateError`]; then nothing changed.
    pub fn create_host_object(
        &mut self,
        now: Time,
        job: Koid,
        image: HostImage,
        creator: Option<Koid>,
    ) -> Result<Koid, CreateError> {
        let image = try_box(image).map_err(|NoMemory| CreateError::NoMemory { job: Some(job) })?;
        let request = Request::HostObject(host_object::Request { image });
        self.run(|core| core.do_create(now, Some(job), creator, None, request))
    }

    /// Links two objects: "source kind target".
    ///
    /// # Errors
    /// [`LinkError`]; then nothing changed.
    pub fn link(&mut self, source: Koid, kind: LinkKind, target: Koid) -> Result<LinkId, LinkError> {
        self.run(|core| core.do_link(source, kind, target))
    }

    /// Takes a link away, in constant time; what only it kept is destroyed.
    ///
    /// # Errors
    /// [`UnlinkError`]; then nothing changed.
    pub fn unlink(&mut self, link: LinkId) -> Result<(), UnlinkError> {
        self.run(|core| core.do_unlink(link))
    }

    /// Holds an object until [`Core::release`].
    ///
    /// # Errors
    /// [`ReferenceError`]; then nothing changed.
    pub fn reference(&mut self, koid: Koid) -> Result<(), ReferenceError> {
        self.run(|core| core.do_reference(koid))
    }

    /// Gives a held object back, also one that was destroyed meanwhile.
    ///
    /// # Errors
    /// [`ReleaseError`]; then nothing changed.
    pub fn release(&mut self, koid: Koid) -> Result<(), ReleaseError> {
        self.run(|core| core.do_release(koid))
    }

    /// What is known of an object.
    ///
    /// # Errors
    /// [`QueryError`] if there is none.
    pub fn query(&self, koid: Koid) -> Result<Info, QueryError> {
        self.do_query(koid)
    }

    /// What is stored of an object.
    ///
    /// # Errors
    /// [`QueryError`] if there is none.
    pub fn image(&self, koid: Koid) -> Result<Image, QueryError> {
        self.do_image(koid)
    }

    /// The shortest chain of links that keeps an object alive.
    ///
    /// # Errors
    /// [`QueryError`] if there is none.
    pub fn why(&mut self, koid: Koid) -> Result<Why, QueryError> {
        self.do_why(koid)
    }

    /// Reserves a host object; the effect that scrubs it waits in [`Core::take_effects`].
    ///
    /// # Errors
    /// [`ScrubError`]; then nothing changed.
    pub fn begin_scrub(&mut self, koid: Koid) -> Result<Ticket, ScrubError> {
        self.run(|core| core.do_begin_scrub(koid))
    }

    /// Reserves a process; the effect that ends it waits in [`Core::take_effects`].
    ///
    /// # Errors
    /// [`EndError`]; then nothing changed.
    pub fn end_process(&mut self, koid: Koid) -> Result<Ticket, EndError> {
        self.run(|core| core.do_end_process(koid))
    }

    /// Destroys the object of a process that was seen to be gone; what it held is let go.
    ///
    /// # Errors
    /// [`EndError`]; then nothing changed.
    pub fn process_ended(&mut self, koid: Koid) -> Result<LooseEnds, EndError> {
        self.run(|core| core.do_process_ended(koid))
    }

    /// Takes the result of an effect: commits it or undoes the reservation.
    ///
    /// # Errors
    /// [`DoneError`] if the ticket is not under way.
    pub fn done(&mut self, ticket: Ticket, outcome: Outcome) -> Result<Answer, DoneError> {
        self.run(|core| core.do_done(ticket, outcome))
    }

    /// Kills a job with all that it contains, the inner first; idempotent.
    ///
    /// # Errors
    /// [`KillError`]; then nothing changed.
    pub fn kill_job(&mut self, koid: Koid) -> Result<(), KillError> {
        self.run(|core| core.do_kill_job(koid))
    }

    /// Lets go of an object: it lives only as long as something else keeps it.
    ///
    /// # Errors
    /// [`CloseError`]; then nothing changed.
    pub fn close(&mut self, koid: Koid) -> Result<(), CloseError> {
        self.run(|core| core.do_close(koid))
    }

    /// Does one step's worth of left-over work; `true` while there is more.
    pub fn go_on(&mut self) -> bool {
        self.work();
        self.has_work()
    }
}

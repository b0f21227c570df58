//! Jobs and guests: how deep, how they end, and what is left then.

use crate::calls::*;
use crate::row::rows;
use crate::world::{holds, same};
use alloc::vec::Vec;
use kobj_abi::ErrorCode::{BadHandle, Dying, NotFound, TooDeep, WrongType};
use kobj_abi::{Koid, ObjectType};
use kobj_core::{Call, CallAnswer, CallError};

rows! { Jobs:
    /// Jobs nest 32 deep, and in the innermost there can still be a guest.
    /// [Zircon zx_job_create: ZX_ERR_OUT_OF_RANGE]
    refusal fn jobs_nest_32_deep(w) {
        let me = w.first;
        let mut job = w.job;
        for _ in 0..32 {
            job = w.gives(me, create_job(job))?;
        }
        let koid = w.koid(me, job)?;
        w.refused_as(me, create_job(job), CallError::TooDeep { koid, most: 32 })?;
        w.refused(me, create_job(job), TooDeep)?;
        let _guest = w.guest_in(job, false)?;
    }

    /// A guest begins with an empty table. [Zircon zx_process_create]
    plain fn a_guest_begins_with_nothing(w) {
        let guest = w.guest()?;
        same(w.handles(guest.process), 0)?;
        same(w.info(w.first, guest.handle)?.object_type, ObjectType::Process.number())?;
        same(w.koid(w.first, guest.handle)?, guest.process)?;
    }

    /// A guest that was killed makes no calls. [Zircon zx_task_kill]
    refusal fn a_killed_guest_makes_no_calls(w) {
        let me = w.first;
        let guest = w.guest()?;
        w.directory(guest.process)?;
        w.done(me, kill(guest.handle))?;
        w.refused(guest.process, DIRECTORY, Dying)?;
        same(w.handles(guest.process), 0)?;
    }

    /// With the guest go its handles, and what they alone kept.
    /// [NT life cycle of an object: a process's end closes its handles]
    refusal fn a_guests_end_closes_its_handles(w) {
        let (me, root) = (w.first, w.root);
        let guest = w.guest()?;
        let there = w.share(root, guest)?;
        let live = w.live();
        for name in [&b"one"[..], b"two", b"three"] {
            w.named(guest.process, there, name)?;
        }
        w.gives(me, open(root, b"two"))?;
        w.done(me, kill(guest.handle))?;
        w.refused(me, open(root, b"one"), NotFound)?;
        same(w.names(me, root)?.as_str(), "two")?;
        same(w.live(), live + 1)?;
    }

    /// The embedder is told once of each guest that was killed. [Zircon zx_task_kill: ZX_TASK_TERMINATED]
    order fn the_embedder_is_told_once(w) {
        let me = w.first;
        let (one, two) = (w.guest()?, w.guest()?);
        same(w.killed(), Vec::new())?;
        w.done(me, kill(one.handle))?;
        w.done(me, kill(one.handle))?;
        same(w.killed(), Vec::from([one.process]))?;
        w.done(me, kill(two.handle))?;
        w.done(me, kill(one.handle))?;
        same(w.killed(), Vec::from([two.process]))?;
    }

    /// Killing again does nothing. [Zircon zx_task_kill]
    plain fn killing_again_does_nothing(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(job, false)?;
        w.done(me, kill(job))?;
        let live = w.live();
        w.done(me, kill(job))?;
        w.done(me, kill(guest.handle))?;
        same(w.live(), live)?;
    }

    /// A handle to what was killed still says what it is. [Zircon zx_task_kill: most operations no longer succeed]
    refusal fn a_handle_to_the_dead_is_a_handle(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(job, false)?;
        let before = (w.koid(me, job)?, w.koid(me, guest.handle)?);
        w.done(me, kill(job))?;
        same((w.koid(me, job)?, w.koid(me, guest.handle)?), before)?;
        w.refused(me, create_job(job), Dying)?;
        w.done(me, close(job))?;
        w.refused(me, info(job), BadHandle)?;
    }

    /// The dead are destroyed with the last handle. [Zircon zx_handle_close: reclaimed if no other handles exist]
    order fn the_dead_go_with_the_last_handle(w) {
        let me = w.first;
        let live = w.live();
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(job, false)?;
        w.done(me, kill(job))?;
        w.done(me, close(guest.handle))?;
        w.done(me, close(job))?;
        same(w.live(), live)?;
    }

    /// A job that is ended takes nothing new. [Zircon zx_job_create: ZX_ERR_BAD_STATE]
    refusal fn a_killed_job_takes_nothing_new(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        let inner = w.gives(me, create_job(job))?;
        w.done(me, kill(job))?;
        for dead in [job, inner] {
            w.refused(me, create_job(dead), Dying)?;
            w.refused(me, create_guest(dead, false), Dying)?;
        }
    }

    /// Killing a job ends all guests in it and in the jobs in it, and no others. [NT TerminateJobObject: nested jobs]
    refusal fn killing_a_job_ends_all_in_it(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        let inner = w.gives(me, create_job(job))?;
        let (outer_guest, inner_guest, other) = (w.guest_in(job, false)?, w.guest_in(inner, false)?, w.guest()?);
        w.done(me, kill(job))?;
        w.refused(outer_guest.process, DIRECTORY, Dying)?;
        w.refused(inner_guest.process, DIRECTORY, Dying)?;
        w.directory(other.process)?;
        let mut told = w.killed();
        told.sort();
        same(told, Vec::from([outer_guest.process, inner_guest.process]))?;
    }

    /// Killing an inner job leaves the outer one. [Zircon zx_task_kill]
    plain fn killing_an_inner_job_leaves_the_outer(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        let inner = w.gives(me, create_job(job))?;
        let guest = w.guest_in(job, false)?;
        w.done(me, kill(inner))?;
        w.directory(guest.process)?;
        w.gives(me, create_job(job))?;
    }

    /// The names of a killed job go, permanent ones too. [docs/semantics.md, kill]
    refusal fn a_killed_jobs_names_go(w) {
        let (me, root) = (w.first, w.root);
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(job, false)?;
        let there = w.share(root, guest)?;
        let live = w.live();
        let (lasting, passing) = (w.directory(guest.process)?, w.directory(guest.process)?);
        w.done(guest.process, link_permanently(there, b"lasting", lasting))?;
        w.done(guest.process, link(there, b"passing", passing))?;
        w.done(me, kill(job))?;
        w.refused(me, open(root, b"lasting"), NotFound)?;
        same((w.names(me, root)?.as_str(), w.live()), ("", live))?;
    }

    /// What is held from outside lives on without its name, and can get another. [NT life cycle of an object]
    order fn what_is_held_from_outside_lives_on(w) {
        let (me, root) = (w.first, w.root);
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(job, false)?;
        let there = w.share(root, guest)?;
        let _made = w.named(guest.process, there, b"object")?;
        let held = w.gives(me, open(root, b"object"))?;
        let koid = w.koid(me, held)?;
        w.done(me, kill(job))?;
        w.refused(me, open(root, b"object"), NotFound)?;
        same(w.koid(me, held)?, koid)?;
        w.done(me, link(root, b"again", held))?;
        w.done(me, close(job))?;
        w.gives(me, open(root, b"again"))?;
    }

    /// The root job ends with its manager. [docs/semantics.md, kill]
    refusal fn the_root_job_cannot_be_killed(w) {
        let (me, job, koid) = (w.first, w.job, w.root_job);
        w.refused_as(me, kill(job), CallError::RootJob { koid })?;
        w.directory(me)?;
    }

    /// Only jobs and processes can be killed. [Zircon zx_task_kill: ZX_ERR_WRONG_TYPE]
    refusal fn only_jobs_and_processes_are_killed(w) {
        let me = w.first;
        let target = w.gives(me, symbolic_link(b"a"))?;
        let directory = w.directory(me)?;
        w.refused(me, kill(directory), WrongType)?;
        w.refused(me, kill(target), WrongType)?;
    }

    /// A guest that kills itself is told so and is gone. [Zircon zx_task_kill does not return then]
    order fn a_guest_can_kill_itself(w) {
        let guest = w.guest()?;
        let own = w.share(guest.handle, guest)?;
        w.done(guest.process, kill(own))?;
        w.refused(guest.process, DIRECTORY, Dying)?;
        same(w.killed(), Vec::from([guest.process]))?;
    }

    /// A guest that kills the job it is in is gone with it. [NT TerminateJobObject by a member]
    order fn a_guest_can_kill_its_job(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        let (guest, other) = (w.guest_in(job, false)?, w.guest_in(job, false)?);
        let own = w.share(job, guest)?;
        w.done(guest.process, kill(own))?;
        w.refused(guest.process, DIRECTORY, Dying)?;
        w.refused(other.process, DIRECTORY, Dying)?;
        w.refused(me, create_job(job), Dying)?;
    }

    /// Whoever is no guest makes no calls. [docs/semantics.md: who asks]
    refusal fn whoever_is_no_guest_makes_no_calls(w) {
        let me = w.first;
        let directory = w.directory(me)?;
        let koid = w.koid(me, directory)?;
        for process in [koid, w.root_job].into_iter().chain(Koid::new(koid.era(), u32::MAX)) {
            w.refused_as(process, DIRECTORY, CallError::NoProcess { process })?;
        }
    }

    /// Closing the handle to a guest does not end it. [docs/semantics.md, kill]
    order fn closing_its_handle_ends_no_guest(w) {
        let me = w.first;
        let guest = w.guest()?;
        w.done(me, close(guest.handle))?;
        w.directory(guest.process)?;
        same(w.killed(), Vec::new())?;
    }

    /// Closing the handle to a job does not end what is in it.
    /// [NT CreateJobObject: without JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE]
    order fn closing_its_handle_ends_no_job(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(job, false)?;
        w.done(me, close(job))?;
        w.directory(guest.process)?;
    }

    /// A guest can make jobs and guests itself, with what it was given. [Zircon zx_process_create: by a job handle]
    refusal fn a_guest_makes_guests_by_a_job_handle(w) {
        let guest = w.guest()?;
        let there = w.share(w.job, guest)?;
        let inner = w.gives(guest.process, create_job(there))?;
        let CallAnswer::Guest { handle, process } = w.does(guest.process, create_guest(inner, false))? else {
            return holds(false, "a new guest is given");
        };
        w.directory(process)?;
        w.done(guest.process, kill(handle))?;
        w.refused(process, DIRECTORY, Dying)?;
    }

    /// A thousand handles of a guest are closed, in bounded steps. [docs/semantics.md, kill]
    plain fn a_large_table_is_closed(w) {
        let me = w.first;
        let guest = w.guest()?;
        let live = w.live();
        for number in 0..1000 {
            let call = if number % 2 == 0 { DIRECTORY } else { symbolic_link(b"a") };
            w.gives(guest.process, call)?;
        }
        w.done(me, kill(guest.handle))?;
        same((w.live(), w.handles(guest.process)), (live, 0))?;
    }

    /// A guest's end leaves what others derived from what it had; its own handles are gone. [seL4]
    refusal fn a_killed_guests_values_mean_nothing(w) {
        let me = w.first;
        let guest = w.guest()?;
        let handle = w.directory(guest.process)?;
        w.done(me, kill(guest.handle))?;
        w.refused(me, Call::HandleInfo { handle }, BadHandle)?;
        w.refused(guest.process, Call::HandleInfo { handle }, Dying)?;
    }
}

//! Charges: which job pays for an object, and how that changes.

use crate::calls::*;
use crate::row::rows;
use crate::world::same;
use kobj_abi::ErrorCode::{AccessDenied, BadHandle, BadState, Dying, NotFound, Quota, WrongType};
use kobj_abi::{ObjectType, Rights};
use kobj_core::{CallError, Resource};

const DIRECTORIES: Resource = Resource::ObjectsOf(ObjectType::Directory.number());

rows! { Charges:
    /// A moved charge is paid where it moved, and no longer where it was.
    /// [none elsewhere: docs/semantics.md, recharge]
    order fn a_charge_moves(w) {
        let me = w.first;
        let (one, two) = (w.gives(me, create_job(w.job))?, w.gives(me, create_job(w.job))?);
        let (in_one, in_two) = (w.guest_in(one, false)?, w.guest_in(two, false)?);
        w.done(me, set_quota(one, DIRECTORIES, 1))?;
        w.done(me, set_quota(two, DIRECTORIES, 1))?;
        let root = w.root;
        let there = w.share(root, in_one)?;
        let _made = w.named(in_one.process, there, b"object")?;
        let object = w.gives(me, open(root, b"object"))?;
        w.refused(in_one.process, DIRECTORY, Quota)?;
        w.done(me, recharge(object, one, two))?;
        w.directory(in_one.process)?;
        w.refused(in_two.process, DIRECTORY, Quota)?;
    }

    /// What moved lives on when its old job ends, and loses its name with its new one. [docs/semantics.md, recharge]
    refusal fn what_moved_ends_with_its_new_job(w) {
        let (me, root) = (w.first, w.root);
        let (one, two) = (w.gives(me, create_job(w.job))?, w.gives(me, create_job(w.job))?);
        let guest = w.guest_in(one, false)?;
        let there = w.share(root, guest)?;
        let made = w.directory(guest.process)?;
        w.done(guest.process, link_permanently(there, b"object", made))?;
        let object = w.gives(me, open(root, b"object"))?;
        w.done(me, recharge(object, one, two))?;
        w.done(me, close(object))?;
        w.done(me, kill(one))?;
        same(w.names(me, root)?.as_str(), "object")?;
        w.done(me, kill(two))?;
        w.refused(me, open(root, b"object"), NotFound)?;
    }

    /// An object that another job pays for is refused. [docs/semantics.md, recharge]
    refusal fn what_another_job_pays_for_is_refused(w) {
        let me = w.first;
        let (one, two) = (w.gives(me, create_job(w.job))?, w.gives(me, create_job(w.job))?);
        let object = w.directory(me)?;
        let koid = w.koid(me, object)?;
        w.refused_as(me, recharge(object, one, two), CallError::ChargedElsewhere { koid })?;
        let job = w.job;
        w.done(me, recharge(object, job, one))?;
        w.refused_as(me, recharge(object, job, two), CallError::ChargedElsewhere { koid })?;
        w.done(me, recharge(object, one, two))?;
    }

    /// Jobs and processes are charged where they stand. [NT nested jobs: a process stays in its job]
    refusal fn jobs_and_processes_do_not_move(w) {
        let (me, job) = (w.first, w.job);
        let (inner, to) = (w.gives(me, create_job(job))?, w.gives(me, create_job(job))?);
        let guest = w.guest()?;
        for handle in [inner, guest.handle] {
            let koid = w.koid(me, handle)?;
            w.refused_as(me, recharge(handle, job, to), CallError::StandsInItsJob { koid })?;
        }
    }

    /// A full job takes nothing over, and it is paid where it was. [docs/semantics.md: all or nothing]
    refusal fn a_full_job_takes_nothing_over(w) {
        let (me, job) = (w.first, w.job);
        let to = w.gives(me, create_job(job))?;
        let object = w.directory(me)?;
        w.done(me, set_quota(to, DIRECTORIES, 0))?;
        let koid = w.koid(me, to)?;
        let error = CallError::Quota { koid, resource: DIRECTORIES, limit: 0, used: 0 };
        w.refused_as(me, recharge(object, job, to), error)?;
        w.done(me, set_quota(to, DIRECTORIES, 1))?;
        w.done(me, recharge(object, job, to))?;
    }

    /// A job around both is full, and that does not matter: it pays already. [docs/semantics.md, recharge]
    plain fn a_full_job_around_both_does_not_matter(w) {
        let me = w.first;
        let outer = w.gives(me, create_job(w.job))?;
        let (one, two) = (w.gives(me, create_job(outer))?, w.gives(me, create_job(outer))?);
        let (in_one, me_too) = (w.guest_in(one, false)?, w.guest()?);
        let made = w.directory(in_one.process)?;
        let to_me = w.share(me_too.handle, in_one)?;
        let object = w.gives(in_one.process, transfer(made, to_me, SAME))?;
        w.done(me, set_quota(outer, DIRECTORIES, 1))?;
        let (one, two) = (w.share(one, me_too)?, w.share(two, me_too)?);
        w.done(me_too.process, recharge(object, one, two))?;
    }

    /// A job that has ended takes nothing over. [docs/semantics.md, recharge]
    refusal fn a_dead_job_takes_nothing_over(w) {
        let (me, job) = (w.first, w.job);
        let to = w.gives(me, create_job(job))?;
        let object = w.directory(me)?;
        w.done(me, kill(to))?;
        w.refused(me, recharge(object, job, to), Dying)?;
    }

    /// All three handles are looked at, in their order, each wholly. [docs/semantics.md: the order of refusals]
    refusal fn three_handles_are_looked_at_in_their_order(w) {
        let (me, job) = (w.first, w.job);
        let object = w.directory(me)?;
        let gone = w.directory(me)?;
        w.done(me, close(gone))?;
        let weak_object = w.weaker(me, object, Rights::LOOKUP)?;
        let weak_job = w.weaker(me, job, Rights::INSPECT)?;
        w.refused(me, recharge(gone, object, object), BadHandle)?;
        w.refused(me, recharge(weak_object, gone, gone), AccessDenied)?;
        w.refused(me, recharge(object, object, gone), WrongType)?;
        w.refused(me, recharge(object, weak_job, gone), AccessDenied)?;
        w.refused(me, recharge(object, job, gone), BadHandle)?;
        w.refused(me, recharge(object, job, object), WrongType)?;
        w.refused(me, recharge(object, job, weak_job), AccessDenied)?;
    }

    /// A quota of what has ended is not set. [docs/semantics.md, set_quota]
    refusal fn the_dead_have_no_quota(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(job, false)?;
        w.done(me, kill(job))?;
        w.refused(me, set_quota(job, Resource::Handles, 1), Dying)?;
        w.refused(me, set_quota(guest.handle, Resource::Handles, 1), Dying)?;
    }

    /// Whoever has a handle with MANAGE sets a quota, also its own. [Linux setrlimit(2)]
    plain fn a_guest_can_limit_itself(w) {
        let guest = w.guest()?;
        let own = w.share(guest.handle, guest)?;
        w.done(guest.process, set_quota(own, Resource::Handles, 2))?;
        w.directory(guest.process)?;
        w.refused(guest.process, DIRECTORY, Quota)?;
        w.done(guest.process, set_quota(own, Resource::Handles, 3))?;
        w.directory(guest.process)?;
    }

    /// To the job that pays already: nothing changes. [docs/semantics.md, recharge]
    plain fn to_the_same_job_changes_nothing(w) {
        let (me, job) = (w.first, w.job);
        let object = w.directory(me)?;
        w.done(me, recharge(object, job, job))?;
        let to = w.gives(me, create_job(job))?;
        w.done(me, recharge(object, job, to))?;
        w.refused(me, recharge(object, job, job), BadState)?;
    }
}

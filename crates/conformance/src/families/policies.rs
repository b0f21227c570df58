//! Policies: what a bad handle leads to, besides its refusal.

use crate::calls::*;
use crate::row::rows;
use crate::world::same;
use alloc::vec::Vec;
use kobj_abi::ErrorCode::{BadHandle, Dying, WrongType};
use kobj_abi::Rights;
use kobj_core::BadHandlePolicy::{Error, Kill, Trace};

rows! { Policies:
    /// Without a policy a bad handle is refused and no more.
    /// [Zircon zx_job_set_policy: ZX_POL_BAD_HANDLE, ZX_POL_ACTION_ALLOW]
    refusal fn a_bad_handle_is_an_error(w) {
        let guest = w.guest()?;
        w.refused(guest.process, close(made_up(7)), BadHandle)?;
        same((w.bad_handles(), w.killed()), (Vec::new(), Vec::new()))?;
        w.directory(guest.process)?;
    }

    /// The embedder can be told of each. [Zircon zx_job_set_policy: ZX_POL_ACTION_ALLOW_EXCEPTION]
    refusal fn a_bad_handle_can_be_told(w) {
        let me = w.first;
        let guest = w.guest()?;
        w.done(me, set_policy(w.job, Trace))?;
        let bad = made_up(7);
        w.refused(guest.process, info(bad), BadHandle)?;
        w.refused(guest.process, close(bad), BadHandle)?;
        same(w.bad_handles(), Vec::from([(guest.process, bad), (guest.process, bad)]))?;
        w.directory(guest.process)?;
    }

    /// Or the guest is ended. [Zircon zx_job_set_policy: ZX_POL_ACTION_KILL; NT SetProcessMitigationPolicy]
    refusal fn a_bad_handle_can_end_its_guest(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        let (guest, other) = (w.guest_in(job, false)?, w.guest_in(job, false)?);
        let handle = w.directory(guest.process)?;
        let live = w.live();
        w.done(me, set_policy(job, Kill))?;
        let ended = w.tries(guest.process, close(made_up(7)));
        same(ended.map_err(kobj_core::CallError::code), Err(BadHandle))?;
        w.refused(guest.process, info(handle), Dying)?;
        same((w.killed(), w.live()), (Vec::from([guest.process]), live - 1))?;
        w.directory(other.process)?;
    }

    /// The embedder's own process is never ended. [docs/semantics.md, set_bad_handle_policy]
    refusal fn the_embedder_is_never_ended(w) {
        let me = w.first;
        w.done(me, set_policy(w.job, Kill))?;
        w.refused(me, close(made_up(7)), BadHandle)?;
        w.directory(me)?;
        same(w.bad_handles().len(), 1)?;
    }

    /// An inner job that says nothing has the outer one's policy; what it says itself counts.
    /// [Zircon zx_job_set_policy: combined with the parent's]
    refusal fn the_innermost_that_says_something_counts(w) {
        let me = w.first;
        let outer = w.gives(me, create_job(w.job))?;
        let inner = w.gives(me, create_job(outer))?;
        let guest = w.guest_in(inner, false)?;
        w.done(me, set_policy(outer, Trace))?;
        w.refused(guest.process, close(made_up(7)), BadHandle)?;
        same(w.bad_handles().len(), 1)?;
        w.done(me, set_policy(inner, Error))?;
        w.refused(guest.process, close(made_up(7)), BadHandle)?;
        same(w.bad_handles().len(), 0)?;
    }

    /// A job next door is not concerned. [Zircon zx_job_set_policy: a process under this job]
    refusal fn a_job_next_door_is_not_concerned(w) {
        let me = w.first;
        let (one, two) = (w.gives(me, create_job(w.job))?, w.gives(me, create_job(w.job))?);
        let guest = w.guest_in(two, false)?;
        w.done(me, set_policy(one, Kill))?;
        w.refused(guest.process, close(made_up(7)), BadHandle)?;
        w.directory(guest.process)?;
        same(w.bad_handles().len(), 0)?;
    }

    /// A wrong type and a missing right are no bad handle.
    /// [Zircon zx_job_set_policy: ZX_POL_WRONG_OBJECT is another condition]
    refusal fn other_refusals_are_no_bad_handle(w) {
        let me = w.first;
        let guest = w.guest()?;
        let handle = w.directory(guest.process)?;
        let weak = w.weaker(guest.process, handle, Rights::NONE)?;
        w.done(me, set_policy(w.job, Kill))?;
        w.refused(guest.process, read_link(handle), WrongType)?;
        let _denied = w.error(guest.process, enumerate(weak, 0))?;
        let _missing = w.error(guest.process, open(handle, b"missing"))?;
        w.directory(guest.process)?;
        same(w.bad_handles().len(), 0)?;
    }

    /// A wrapper that gives up a handle which was taken back, or closed by its number, makes nobody guilty; one that is there
    /// it closes. [Zircon fit::handle and zx::handle close what they have; ours may have been taken back, as in seL4]
    order fn giving_up_what_is_gone_is_nobodys_mistake(w) {
        let me = w.first;
        let guest = w.guest()?;
        w.done(me, set_policy(w.job, Kill))?;
        let root = w.directory(me)?;
        let lent = w.gives(me, derive(root, SAME))?;
        let lent = w.gives(me, transfer(lent, guest.handle, SAME))?;
        w.done(me, revoke(root))?;
        same(w.gives_up(guest.process, lent), false)?;
        let closed = w.directory(guest.process)?;
        w.done(guest.process, close(closed))?;
        same(w.gives_up(guest.process, closed), false)?;
        let (live, there) = (w.live(), w.directory(guest.process)?);
        same((w.gives_up(guest.process, there), w.live()), (true, live))?;
        same((w.bad_handles(), w.killed()), (Vec::new(), Vec::new()))?;
        // A call is not forgiven.
        w.refused(guest.process, info(made_up(7)), BadHandle)?;
        same(w.killed(), Vec::from([guest.process]))?;
        same(w.gives_up(guest.process, there), false)?;
    }

    /// A policy of a job that has ended is not set. [docs/semantics.md, set_bad_handle_policy]
    refusal fn the_dead_have_no_policy(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        w.done(me, kill(job))?;
        w.refused(me, set_policy(job, Trace), Dying)?;
    }

    /// The last policy that was set counts. [docs/semantics.md, set_bad_handle_policy]
    order fn the_last_policy_counts(w) {
        let me = w.first;
        let guest = w.guest()?;
        for (policy, told) in [(Trace, 1), (Error, 0), (Trace, 1)] {
            w.done(me, set_policy(w.job, policy))?;
            w.refused(guest.process, close(made_up(7)), BadHandle)?;
            same(w.bad_handles().len(), told)?;
        }
    }
}

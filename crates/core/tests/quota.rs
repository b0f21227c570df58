//! Quotas, charges that move, what is left behind, and bad handles, through the public calls.

mod common;

use common::{SAME, Scene, code};
use kobj_abi::{AskedRights, ErrorCode, Koid, ObjectType, RawHandle, Rights};
use kobj_core::{
    BadHandlePolicy, Call, CallAnswer, CallError, Effect, KillReason, LeftBehind, Limits, Resource, UNLIMITED, What,
};

impl Scene {
    fn limit(&mut self, handle: RawHandle, resource: Resource, limit: u64) {
        let set = Call::SetQuota { handle, resource, limit };
        assert_eq!(self.call(self.boot.process, set), Ok(CallAnswer::Done));
    }

    fn used(&self, koid: Koid, resource: Resource) -> u64 {
        self.core.usage(koid, resource).unwrap().used
    }

    fn koid(&mut self, handle: RawHandle) -> Koid {
        self.info(self.boot.process, handle).unwrap().koid
    }
}

const MAKE: Call<'static> = Call::Create { what: What::Directory };

#[test]
fn a_quota_holds_at_every_level_and_nothing_is_left_of_what_it_refuses() {
    let mut scene = Scene::new();
    let me = scene.boot.process;
    let [(to_one, one), (_, other)] = scene.guests;
    let job = scene.koid(scene.job);
    let directories = Resource::ObjectsOf(ObjectType::Directory.number());
    let guests = scene.used(job, Resource::Objects);
    scene.limit(scene.job, directories, 3);
    scene.limit(to_one, Resource::Objects, 2);
    let first = scene.handle(one, MAKE);
    scene.handle(one, MAKE);
    let refused = scene.call(one, MAKE).unwrap_err();
    assert_eq!(refused, CallError::Quota { koid: one, resource: Resource::Objects, limit: 2, used: 2 });
    scene.handle(other, MAKE);
    let refused = scene.call(other, MAKE).unwrap_err();
    assert_eq!(refused, CallError::Quota { koid: job, resource: directories, limit: 3, used: 3 });
    assert_eq!(scene.used(job, Resource::Objects), guests + 3);
    let usage = scene.core.usage(job, directories).unwrap();
    assert_eq!((usage.used, usage.limit, usage.peak, usage.refused), (3, 3, 3, 1));
    scene.call(one, Call::Close { handle: first }).unwrap();
    scene.settle();
    scene.handle(other, MAKE);
    let root = scene.koid(scene.boot.job);
    assert!(scene.used(root, Resource::Objects) > guests + 3, "the root job has all of it and more");
    let _unused = me;
    scene.end();
}

#[test]
fn handles_are_the_receivers_charge_and_a_refusal_leaves_the_senders_handle() {
    let mut scene = Scene::new();
    let me = scene.boot.process;
    let [(to_one, one), _] = scene.guests;
    let handle = scene.directory();
    scene.limit(to_one, Resource::Handles, 1);
    let mine = scene.used(me, Resource::Handles);
    let spare = scene.handle(me, Call::Duplicate { handle, rights: SAME });
    scene.call(me, Call::Transfer { handle: spare, process: to_one, rights: SAME }).unwrap();
    assert_eq!((scene.used(me, Resource::Handles), scene.used(one, Resource::Handles)), (mine, 1));
    let refused = scene.call(me, Call::Transfer { handle, process: to_one, rights: SAME }).unwrap_err();
    assert_eq!(refused, CallError::Quota { koid: one, resource: Resource::Handles, limit: 1, used: 1 });
    assert!(scene.info(me, handle).is_ok());
    assert_eq!(code(scene.call(one, MAKE)), ErrorCode::Quota, "a new object is nothing without a handle");
    // Below the use: nothing new, and nothing is taken away.
    scene.limit(to_one, Resource::Handles, 0);
    assert_eq!(scene.used(one, Resource::Handles), 1);
    scene.limit(to_one, Resource::Handles, UNLIMITED);
    scene.call(me, Call::Transfer { handle, process: to_one, rights: SAME }).unwrap();
    scene.end();
}

#[test]
fn a_handle_that_takes_the_place_of_another_is_charged_as_that_was() {
    let mut scene = Scene::new();
    let me = scene.boot.process;
    let handle = scene.directory();
    let handles = scene.used(me, Resource::Handles);
    scene.limit(scene.boot.job, Resource::Handles, handles);
    let replaced = scene.handle(me, Call::Replace { handle, rights: SAME });
    assert_eq!(scene.used(me, Resource::Handles), handles);
    scene.call(me, Call::Close { handle: replaced }).unwrap();
    assert_eq!(scene.used(me, Resource::Handles), handles - 1);
    scene.limit(scene.boot.job, Resource::Handles, UNLIMITED);
    scene.end();
}

#[test]
fn a_charge_moves_between_jobs_with_the_right_to_all_three() {
    let mut scene = Scene::new();
    let me = scene.boot.process;
    let (from, to) = (scene.job, scene.handle(me, Call::CreateJob { job: scene.boot.job }));
    let (from_koid, to_koid) = (scene.koid(from), scene.koid(to));
    let [(to_one, one), _] = scene.guests;
    let made = scene.handle(one, MAKE);
    let object = scene.pass(one, made, me);
    let weak = |scene: &mut Scene, handle| {
        let rights = AskedRights::Exactly(Rights::INSPECT);
        scene.handle(me, Call::Duplicate { handle, rights })
    };
    let (weak_object, weak_from, weak_to) = (weak(&mut scene, object), weak(&mut scene, from), weak(&mut scene, to));
    for (handle, from, to) in [(weak_object, from, to), (object, weak_from, to), (object, from, weak_to)] {
        assert_eq!(code(scene.call(me, Call::Recharge { handle, from, to })), ErrorCode::AccessDenied);
    }
    let elsewhere = scene.call(me, Call::Recharge { handle: object, from: to, to: from }).unwrap_err();
    assert!(matches!(elsewhere, CallError::ChargedElsewhere { .. }), "{elsewhere:?}");
    assert_eq!(code(scene.call(me, Call::Recharge { handle: to_one, from, to })), ErrorCode::BadState);
    assert_eq!(code(scene.call(me, Call::Recharge { handle: object, from, to: to_one })), ErrorCode::WrongType);

    scene.limit(to, Resource::Objects, 0);
    let before = scene.used(from_koid, Resource::Objects);
    let refused = scene.call(me, Call::Recharge { handle: object, from, to }).unwrap_err();
    assert_eq!(refused, CallError::Quota { koid: to_koid, resource: Resource::Objects, limit: 0, used: 0 });
    assert_eq!(scene.used(from_koid, Resource::Objects), before);
    scene.limit(to, Resource::Objects, 1);
    // The job around both is full, and has it already.
    let root = scene.koid(scene.boot.job);
    let full = scene.used(root, Resource::Objects);
    scene.limit(scene.boot.job, Resource::Objects, full);
    scene.call(me, Call::Recharge { handle: object, from, to }).unwrap();
    assert_eq!((scene.used(from_koid, Resource::Objects), scene.used(to_koid, Resource::Objects)), (before - 1, 1));
    assert_eq!(scene.used(root, Resource::Objects), full);
    assert_eq!(scene.used(one, Resource::Objects), 0, "its maker does not pay any longer");
    let koid = scene.koid(object);
    assert_eq!(scene.core.query(koid).unwrap().owner, Some(to_koid), "it stands in the job that pays");
    scene.end();
}

#[test]
fn what_is_moved_out_of_a_dying_job_does_not_take_the_killer_with_it() {
    for stop in 0..80 {
        let mut scene = Scene::with_limits(Limits { seed: 1, work_per_step: 1, ..Limits::default() });
        let me = scene.boot.process;
        let (from, to) = (scene.job, scene.handle(me, Call::CreateJob { job: scene.boot.job }));
        let to_koid = scene.koid(to);
        let [(_, one), _] = scene.guests;
        let make = |scene: &mut Scene| {
            let made = scene.handle(one, MAKE);
            scene.pass(one, made, me)
        };
        let moved: Vec<RawHandle> = (0..6).map(|_| make(&mut scene)).collect();
        // Two are moved to the other job before, and are to stay there.
        for handle in moved[4..].iter().copied() {
            scene.call(me, Call::Recharge { handle, from, to }).unwrap();
        }
        scene.call(me, Call::Kill { handle: from }).unwrap();
        for _ in 0..stop {
            scene.core.go_on();
        }
        for handle in moved[..4].iter().copied() {
            let _left_behind_already = scene.call(me, Call::Recharge { handle, from, to });
        }
        scene.settle();
        for handle in moved[4..].iter().copied() {
            let koid = scene.koid(handle);
            assert_eq!(scene.core.query(koid).unwrap().owner, Some(to_koid), "stopped after {stop} steps");
        }
        scene.end();
    }
}

#[test]
fn permanent_names_are_paid_by_whoever_inherits_a_directory_and_move_with_it() {
    let mut scene = Scene::new();
    let me = scene.boot.process;
    let (from, to) = (scene.job, scene.handle(me, Call::CreateJob { job: scene.boot.job }));
    let (from_koid, to_koid) = (scene.koid(from), scene.koid(to));
    let [(to_one, one), _] = scene.guests;
    let made = scene.handle(one, MAKE);
    let directory = scene.pass(one, made, me);
    scene.call(me, Call::Kill { handle: to_one }).unwrap();
    scene.settle();
    let before = scene.used(from_koid, Resource::Bytes);
    assert_eq!(scene.core.left_behind(from_koid).unwrap().live, 1);
    let handle = scene.directory();
    let link = Call::Link { directory, name: b"kept", handle, most: SAME, permanent: true };
    assert_eq!(scene.call(me, link), Ok(CallAnswer::Done));
    let name = scene.used(from_koid, Resource::Bytes) - before;
    assert!(name > 0);
    assert_eq!(scene.core.left_behind(from_koid).unwrap(), LeftBehind { ever: 1, live: 0 }, "it was taken over");
    scene.call(me, Call::Recharge { handle: directory, from, to }).unwrap();
    let paid = scene.used(to_koid, Resource::Bytes);
    assert!(paid > name && scene.used(from_koid, Resource::Bytes) < before);
    scene.call(me, Call::Unlink { directory, name: b"kept" }).unwrap();
    assert_eq!(scene.used(to_koid, Resource::Bytes), paid - name);
    scene.end();
}

#[test]
fn survivors_of_a_killed_job_are_left_behind_to_the_job_around_and_paid_until_they_go() {
    let mut scene = Scene::new();
    let me = scene.boot.process;
    let root = scene.koid(scene.boot.job);
    let [(_, one), _] = scene.guests;
    let made = scene.handle(one, MAKE);
    let kept = scene.pass(one, made, me);
    scene.call(me, Call::Kill { handle: scene.job }).unwrap();
    scene.settle();
    let left = scene.core.left_behind(root).unwrap();
    assert!(left.live >= 1 && left.ever >= 1, "{left:?}");
    let used = scene.used(root, Resource::Objects);
    assert_eq!(
        code(scene.call(me, Call::SetQuota { handle: scene.job, resource: Resource::Bytes, limit: 1 })),
        ErrorCode::Dying
    );
    scene.call(me, Call::Close { handle: kept }).unwrap();
    scene.settle();
    assert_eq!(scene.used(root, Resource::Objects), used - 1);
    assert_eq!(scene.core.left_behind(root).unwrap(), LeftBehind { live: left.live - 1, ..left });
    scene.end();
}

#[test]
fn a_bad_handle_is_an_error_is_told_or_ends_a_guest_and_never_the_embedder() {
    let mut scene = Scene::new();
    let me = scene.boot.process;
    let [(_, one), (_, other)] = scene.guests;
    let handle = scene.directory();
    let bad = |scene: &mut Scene, process| {
        assert_eq!(code(scene.call(process, Call::Close { handle })), ErrorCode::BadHandle)
    };
    bad(&mut scene, one);
    assert_eq!(scene.core.next_effect(), None);
    let policy = |policy| move |job| Call::SetBadHandlePolicy { job, policy };
    scene.call(me, policy(BadHandlePolicy::Trace)(scene.boot.job)).unwrap();
    bad(&mut scene, one);
    assert_eq!(scene.core.next_effect(), Some(Effect::BadHandle { process: one, handle, times: 1 }));
    scene.call(me, policy(BadHandlePolicy::Kill)(scene.job)).unwrap();
    bad(&mut scene, other);
    scene.settle();
    assert_eq!(scene.core.next_effect(), Some(Effect::BadHandle { process: other, handle, times: 1 }));
    assert_eq!(scene.core.next_effect(), Some(Effect::Killed { koid: other, reason: KillReason::BadHandle }));
    assert_eq!(code(scene.call(other, MAKE)), ErrorCode::Dying);
    scene.call(me, policy(BadHandlePolicy::Kill)(scene.boot.job)).unwrap();
    scene.call(me, Call::Close { handle }).unwrap();
    bad(&mut scene, me);
    scene.handle(me, MAKE);
    scene.end();
}

#[test]
fn one_who_names_many_bad_handles_is_told_of_once_until_that_was_taken() {
    let mut scene = Scene::new();
    let me = scene.boot.process;
    let [(_, one), (_, other)] = scene.guests;
    let first = scene.directory();
    let second = scene.directory();
    let trace = Call::SetBadHandlePolicy { job: scene.job, policy: BadHandlePolicy::Trace };
    scene.call(me, trace).unwrap();
    for handle in [first, second, first] {
        for process in [one, other] {
            assert_eq!(code(scene.call(process, Call::Close { handle })), ErrorCode::BadHandle);
        }
    }
    let told = |process, handle, times| Some(Effect::BadHandle { process, handle, times });
    assert_eq!(scene.core.next_effect(), told(one, first, 3));
    assert_eq!(code(scene.call(one, Call::Close { handle: second })), ErrorCode::BadHandle);
    assert_eq!(code(scene.call(other, Call::Close { handle: second })), ErrorCode::BadHandle);
    assert_eq!(scene.core.next_effect(), told(other, first, 4));
    assert_eq!(scene.core.next_effect(), told(one, second, 1));
    assert_eq!(scene.core.next_effect(), None);
    scene.end();
}

#[test]
fn the_keeper_s_commands_do_not_end_guests() {
    use kobj_core::{CloseError, Command, EndError, Refusal};
    let mut scene = Scene::with_limits(Limits { seed: 1, work_per_step: 1, ..Limits::default() });
    let me = scene.boot.process;
    let [(to_one, one), (to_other, other)] = scene.guests;
    for _ in 0..50 {
        scene.handle(one, MAKE);
        scene.handle(other, MAKE);
    }
    let refused = |scene: &mut Scene, koid| {
        for (command, refusal) in [
            (Command::ProcessEnded { koid }, Refusal::End(EndError::Guest { koid })),
            (Command::EndProcess { koid }, Refusal::End(EndError::Guest { koid })),
            (Command::Close { koid }, Refusal::Close(CloseError::Guest { koid })),
        ] {
            assert_eq!(scene.core.step(kobj_core::image::Time(0), command).0, Err(refusal));
        }
    };
    refused(&mut scene, one);
    // Also while they are being ended: who is first in that list has others behind him.
    scene.call(me, Call::Kill { handle: to_one }).unwrap();
    scene.call(me, Call::Kill { handle: to_other }).unwrap();
    refused(&mut scene, other);
    scene.settle();
    scene.core.audit().unwrap();
    let ended: Vec<_> = std::iter::from_fn(|| scene.core.next_effect()).collect();
    assert_eq!(ended.len(), 2, "{ended:?}");
    scene.end();
}

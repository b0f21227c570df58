//! Handles through the public calls: made, shrunk, moved, given up; guests that end with all they had.

mod common;

use common::{SAME, Scene, code};
use kobj_abi::{AskedRights, ErrorCode, ObjectType, Rights};
use kobj_core::{Call, CallAnswer, CallError, Effect, KillReason, Limits, What};

#[test]
fn an_object_ends_with_its_last_handle_and_a_closed_handle_is_never_valid_again() {
    let mut scene = Scene::new();
    let me = scene.boot.process;
    let before = scene.live(ObjectType::Directory);
    let first = scene.directory();
    let second = scene.handle(me, Call::Duplicate { handle: first, rights: SAME });
    assert_ne!(first, second);
    assert_eq!(scene.info(me, first).unwrap(), scene.info(me, second).unwrap());
    scene.call(me, Call::Close { handle: first }).unwrap();
    assert_eq!(code(scene.call(me, Call::Close { handle: first })), ErrorCode::BadHandle);
    assert_eq!(scene.live(ObjectType::Directory), before + 1);
    scene.call(me, Call::Close { handle: second }).unwrap();
    assert_eq!(scene.live(ObjectType::Directory), before);
    for _ in 0..1000 {
        let handle = scene.directory();
        assert!(handle != first && handle != second);
        scene.call(me, Call::Close { handle }).unwrap();
    }
    scene.end();
}

#[test]
fn rights_only_shrink_and_a_refusal_leaves_the_handle() {
    let mut scene = Scene::new();
    let me = scene.boot.process;
    let full = scene.directory();
    let few = Rights::LOOKUP | Rights::DUPLICATE;
    let small = scene.handle(me, Call::Duplicate { handle: full, rights: AskedRights::Exactly(few) });
    assert_eq!(scene.info(me, small).unwrap().rights, few);
    let more = AskedRights::Exactly(few | Rights::CREATE);
    for call in [Call::Duplicate { handle: small, rights: more }, Call::Replace { handle: small, rights: more }] {
        let refused = scene.call(me, call).unwrap_err();
        assert!(matches!(refused, CallError::TooManyRights { most, .. } if most == few), "{refused:?}");
    }
    let reserved = AskedRights::Exactly(Rights::from_bits(1 << 12));
    assert_eq!(code(scene.call(me, Call::Replace { handle: small, rights: reserved })), ErrorCode::BadArgument);
    let least = scene.handle(me, Call::Replace { handle: small, rights: AskedRights::Exactly(Rights::LOOKUP) });
    assert_eq!(code(scene.info(me, small)), ErrorCode::BadHandle, "the old value is invalid");
    let refused = scene.call(me, Call::Duplicate { handle: least, rights: SAME }).unwrap_err();
    assert!(matches!(refused, CallError::AccessDenied { missing: Rights::DUPLICATE, .. }), "{refused:?}");
    scene.end();
}

#[test]
fn a_handle_means_nothing_in_another_table() {
    let mut scene = Scene::new();
    let handle = scene.directory();
    for (_, guest) in scene.guests {
        assert_eq!(code(scene.info(guest, handle)), ErrorCode::BadHandle);
    }
    scene.end();
}

#[test]
fn a_transfer_moves_and_a_dead_receiver_leaves_the_handle() {
    let mut scene = Scene::new();
    let me = scene.boot.process;
    let [(first, first_koid), (second, _)] = scene.guests;
    let handle = scene.directory();
    let koid = scene.info(me, handle).unwrap().koid;
    let read = AskedRights::Exactly(Rights::LOOKUP);
    let theirs = scene.handle(me, Call::Transfer { handle, process: first, rights: read });
    assert_eq!(code(scene.info(me, handle)), ErrorCode::BadHandle, "it moved");
    let info = scene.info(first_koid, theirs).unwrap();
    assert_eq!((info.koid, info.rights), (koid, Rights::LOOKUP));
    let another = scene.directory();
    scene.call(me, Call::Kill { handle: second }).unwrap();
    let call = Call::Transfer { handle: another, process: second, rights: SAME };
    assert_eq!(code(scene.call(me, call)), ErrorCode::Dying);
    assert!(scene.info(me, another).is_ok(), "a refusal leaves the sender's handle");
    scene.end();
}

#[test]
fn wrong_type_comes_before_access_denied() {
    let mut scene = Scene::new();
    let me = scene.boot.process;
    let none = AskedRights::Exactly(Rights::NONE);
    let directory = scene.directory();
    let weak = scene.handle(me, Call::Replace { handle: directory, rights: none });
    assert_eq!(code(scene.call(me, Call::Kill { handle: weak })), ErrorCode::WrongType);
    assert_eq!(code(scene.call(me, Call::CreateJob { job: weak })), ErrorCode::WrongType);
    let job = scene.handle(me, Call::Duplicate { handle: scene.job, rights: none });
    assert_eq!(code(scene.call(me, Call::Kill { handle: job })), ErrorCode::AccessDenied);
    scene.end();
}

#[test]
fn a_killed_guest_gives_back_all_it_had_and_the_embedder_is_told_once() {
    let mut scene = Scene::new();
    let me = scene.boot.process;
    let (guest, koid) = scene.guests[0];
    let shared = scene.directory();
    let keep = scene.handle(me, Call::Duplicate { handle: shared, rights: SAME });
    scene.handle(me, Call::Transfer { handle: shared, process: guest, rights: SAME });
    for _ in 0..100 {
        scene.handle(koid, Call::Create { what: What::Directory });
    }
    scene.call(me, Call::Kill { handle: guest }).unwrap();
    scene.call(me, Call::Kill { handle: guest }).unwrap();
    assert_eq!(code(scene.call(koid, Call::Create { what: What::Directory })), ErrorCode::Dying);
    scene.settle();
    assert_eq!(scene.live(ObjectType::Directory), 2, "the root directory and the shared one");
    assert!(scene.info(me, keep).is_ok());
    assert_eq!(scene.core.next_effect(), Some(Effect::Killed { koid, reason: KillReason::Killed }));
    assert_eq!(scene.core.next_effect(), None);
    scene.call(me, Call::Close { handle: guest }).unwrap();
    assert_eq!(scene.live(ObjectType::Process), 2);
    scene.end();
}

#[test]
fn a_killed_job_ends_its_guests_and_leaves_what_others_hold_to_the_job_around() {
    let mut scene = Scene::new();
    let me = scene.boot.process;
    let job = scene.job;
    let inner = scene.handle(me, Call::CreateJob { job });
    // Of what the first guest makes, one goes to the embedder and one stays with it.
    let guest = scene.guests[0];
    let [theirs, ours] = [(); 2].map(|()| scene.handle(guest.1, Call::Create { what: What::Directory }));
    let itself = scene.core.grant(guest.1, me, SAME).unwrap();
    let ours = scene.handle(guest.1, Call::Transfer { handle: ours, process: itself, rights: SAME });
    scene.call(me, Call::Kill { handle: job }).unwrap();
    assert_eq!(code(scene.call(me, Call::CreateJob { job: inner })), ErrorCode::Dying);
    assert_eq!(code(scene.call(me, Call::Kill { handle: scene.boot.job })), ErrorCode::BadState, "the root job stays");
    scene.settle();
    let told: Vec<_> = std::iter::from_fn(|| scene.core.next_effect()).collect();
    assert!(told.iter().all(|effect| matches!(effect, Effect::Killed { reason: KillReason::JobKilled, .. })));
    assert_eq!(told.len(), 2);
    assert_eq!(code(scene.info(guest.1, theirs)), ErrorCode::Dying);
    // What the embedder has handles to is there to be asked, in the root job now.
    for handle in [inner, job, ours, guest.0] {
        assert!(scene.info(me, handle).is_ok());
    }
    let books = *scene.core.job_balance(scene.boot.root_job).unwrap();
    assert_eq!((books.of(ObjectType::Job).live, books.of(ObjectType::Directory).taken_over), (2, 1));
    for handle in [job, inner, ours, scene.guests[0].0, scene.guests[1].0] {
        scene.call(me, Call::Close { handle }).unwrap();
    }
    assert_eq!((scene.live(ObjectType::Job), scene.live(ObjectType::Process)), (1, 1));
    scene.end();
}

#[test]
fn inheritable_handles_come_to_new_guests_and_others_do_not() {
    let mut scene = Scene::new();
    let me = scene.boot.process;
    let (inherited, other) = (scene.directory(), scene.directory());
    scene.call(me, Call::SetInheritable { handle: inherited, inheritable: true }).unwrap();
    assert!(scene.info(me, inherited).unwrap().inheritable);
    let before = scene.live(ObjectType::Directory);
    let call = Call::CreateGuest { job: scene.job, inherit: true };
    let CallAnswer::Guest { handle: guest, .. } = scene.call(me, call).unwrap() else { panic!("no guest") };
    for handle in [inherited, other] {
        scene.call(me, Call::Close { handle }).unwrap();
    }
    assert_eq!(scene.live(ObjectType::Directory), before - 1, "one of them is the new guest's");
    scene.call(me, Call::Kill { handle: guest }).unwrap();
    scene.settle();
    assert_eq!(scene.live(ObjectType::Directory), before - 2);
    scene.end();
}

#[test]
fn jobs_nest_so_deep_and_no_deeper() {
    let mut scene = Scene::new();
    let me = scene.boot.process;
    let mut job = scene.job;
    for _ in 1..32 {
        job = scene.handle(me, Call::CreateJob { job });
    }
    assert_eq!(code(scene.call(me, Call::CreateJob { job })), ErrorCode::TooDeep);
    scene.end();
}

#[test]
fn a_job_without_handles_ends_when_it_is_empty() {
    let mut scene = Scene::new();
    let me = scene.boot.process;
    let job = scene.handle(me, Call::CreateJob { job: scene.job });
    let call = Call::CreateGuest { job, inherit: false };
    let CallAnswer::Guest { handle: guest, .. } = scene.call(me, call).unwrap() else { panic!("no guest") };
    scene.call(me, Call::Close { handle: job }).unwrap();
    assert_eq!(scene.live(ObjectType::Job), 3, "it is not empty");
    scene.call(me, Call::Kill { handle: guest }).unwrap();
    scene.call(me, Call::Close { handle: guest }).unwrap();
    scene.settle();
    assert_eq!(scene.live(ObjectType::Job), 2);
    scene.end();
}

#[test]
fn who_is_ended_calls_no_more_though_it_was_the_last_to_call() {
    for (by_itself, work_per_step) in [(true, 1), (true, 256), (false, 1), (false, 256)] {
        let mut scene = Scene::with_limits(Limits { seed: 1, work_per_step, ..Limits::default() });
        let me = scene.boot.process;
        let [(to_one, one), _] = scene.guests;
        let itself = scene.core.grant(one, one, SAME).unwrap();
        assert!(scene.info(one, itself).is_ok());
        let kill = if by_itself { (one, itself) } else { (me, to_one) };
        scene.call(kill.0, Call::Kill { handle: kill.1 }).unwrap();
        assert_eq!(code(scene.info(one, itself)), ErrorCode::Dying);
        scene.settle();
        assert_eq!(code(scene.info(one, itself)), ErrorCode::Dying);
        scene.call(me, Call::Close { handle: to_one }).unwrap();
        scene.settle();
        assert!(matches!(scene.info(one, itself), Err(CallError::NoProcess { .. })));
        scene.end();
    }
}

#[test]
fn refusals_name_the_rights_as_the_type_does() {
    let mut scene = Scene::new();
    let me = scene.boot.process;
    let directory = scene.boot.directory;
    let refused = |scene: &mut Scene, call| scene.call(me, call).unwrap_err().to_string();
    let few = AskedRights::Exactly(Rights::DUPLICATE | Rights::LOOKUP);
    let handle = scene.handle(me, Call::Duplicate { handle: directory, rights: few });
    let text = refused(&mut scene, Call::Unlink { directory: handle, name: b"x" });
    assert!(text.contains("lacks the rights REMOVE that unlink needs"), "{text}");
    let more = AskedRights::Exactly(Rights::INSPECT | Rights::CREATE);
    let text = refused(&mut scene, Call::Duplicate { handle, rights: more });
    assert!(text.contains("rights INSPECT|CREATE were asked for, at most DUPLICATE|LOOKUP can be given"), "{text}");
    let reserved = AskedRights::Exactly(Rights::from_bits(1 << 13));
    let text = refused(&mut scene, Call::Duplicate { handle, rights: reserved });
    assert!(text.contains("rights BIT13 have bits without a meaning"), "{text}");
}

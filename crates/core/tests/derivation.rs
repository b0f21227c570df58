//! Derive and revoke through the public calls: what is taken back, from where, and what stays.

mod common;

use common::{SAME, Scene, code};
use kobj_abi::{AskedRights, ErrorCode, ObjectType, RawHandle, Rights};
use kobj_core::{Call, CallAnswer, CallError, Limits, Resource, UNLIMITED, What};

impl Scene {
    fn derive(&mut self, process: kobj_abi::Koid, handle: RawHandle) -> RawHandle {
        self.handle(process, Call::Derive { handle, rights: SAME })
    }

    fn is_there(&mut self, process: kobj_abi::Koid, handle: RawHandle) -> bool {
        self.info(process, handle).is_ok()
    }
}

#[test]
fn what_was_derived_is_taken_back_from_every_table_and_equals_stay() {
    let mut scene = Scene::new();
    let me = scene.boot.process;
    let [(to_one, one), (to_other, other)] = scene.guests;
    let root = scene.directory();
    let earlier = scene.handle(me, Call::Duplicate { handle: root, rights: SAME });
    let given = scene.derive(me, root);
    let later = scene.handle(me, Call::Duplicate { handle: root, rights: SAME });
    assert!(!scene.info(me, root).unwrap().derived && scene.info(me, given).unwrap().derived);
    let at_one = scene.handle(me, Call::Transfer { handle: given, process: to_one, rights: SAME });
    let equal = scene.handle(one, Call::Duplicate { handle: at_one, rights: SAME });
    let passed_on = scene.derive(one, equal);
    let at_other = scene.pass(one, passed_on, other);
    let deeper = scene.derive(other, at_other);
    assert_eq!(scene.core.derivation_nodes(), 4, "the root, and three that were derived");

    // From an equal that was made after the first derive; earlier ones are roots of their own.
    assert_eq!(scene.call(me, Call::Revoke { handle: earlier }), Ok(CallAnswer::Done));
    assert!(scene.is_there(other, deeper));
    assert_eq!(scene.call(me, Call::Revoke { handle: later }), Ok(CallAnswer::Done));
    assert!(!scene.is_there(one, at_one) && !scene.is_there(one, equal));
    assert!(!scene.is_there(other, at_other) && !scene.is_there(other, deeper));
    assert!([root, earlier, later].into_iter().all(|handle| scene.is_there(me, handle)));
    scene.settle();
    assert_eq!(scene.core.derivation_nodes(), 1);
    let again = scene.derive(me, later);
    assert!(scene.is_there(me, again));
    let _unused = to_other;
    scene.end();
}

#[test]
fn a_handle_that_moved_is_found_and_a_closed_one_does_not_hide_its_children() {
    let mut scene = Scene::new();
    let me = scene.boot.process;
    let root = scene.directory();
    let middle = scene.derive(me, root);
    let leaf = scene.derive(me, middle);
    let leaf = scene.handle(me, Call::Replace { handle: leaf, rights: AskedRights::Exactly(Rights::LOOKUP) });
    scene.call(me, Call::Close { handle: middle }).unwrap();
    assert_eq!(scene.core.derivation_nodes(), 3, "the closed one's node stays for its child");
    assert!(scene.is_there(me, leaf));
    scene.call(me, Call::Revoke { handle: root }).unwrap();
    assert!(!scene.is_there(me, leaf));
    scene.settle();
    assert_eq!(scene.core.derivation_nodes(), 1);
    scene.call(me, Call::Close { handle: root }).unwrap();
    scene.settle();
    assert_eq!(scene.core.derivation_nodes(), 0);
    scene.end();
}

#[test]
fn a_revoke_in_pieces_goes_on_where_it_was_and_refuses_what_would_escape_it() {
    let mut scene = Scene::with_limits(Limits { seed: 3, work_per_step: 1, ..Limits::default() });
    let me = scene.boot.process;
    let root = scene.directory();
    let mut chain = vec![root];
    for _ in 0..40 {
        let last = chain[chain.len() - 1];
        chain.push(scene.derive(me, last));
    }
    let equals: Vec<RawHandle> =
        (1..=40).step_by(3).map(|at| scene.handle(me, Call::Duplicate { handle: chain[at], rights: SAME })).collect();
    let (mut pieces, mut refused) = (0, 0);
    while scene.call(me, Call::Revoke { handle: root }).unwrap() == CallAnswer::GoOn {
        pieces += 1;
        assert!(pieces < 10_000);
        let call = match pieces % 5 {
            0 => Call::Derive { handle: root, rights: SAME },
            1 => Call::Derive { handle: chain[20], rights: SAME },
            2 => Call::Derive { handle: equals[5], rights: SAME },
            3 => Call::Duplicate { handle: chain[40], rights: SAME },
            _ => Call::Replace { handle: equals[9], rights: SAME },
        };
        match scene.call(me, call) {
            Err(CallError::Revoked { .. }) => refused += 1,
            // The piece that was done after the last call has taken it back.
            Err(CallError::BadHandle { .. }) if pieces % 5 > 0 => {}
            other => panic!("{call:?}: {other:?}"),
        }
    }
    assert!(refused > 20, "{refused}");
    assert!(pieces > 40);
    assert!(chain[1..].iter().chain(&equals).all(|handle| !scene.is_there(me, *handle)));
    let equal = scene.handle(me, Call::Duplicate { handle: root, rights: SAME });
    assert!(scene.is_there(me, equal));
    scene.end();
}

#[test]
fn a_revoke_goes_to_the_handles_and_looks_at_no_others() {
    let mut scene = Scene::with_limits(Limits { seed: 3, work_per_step: 1, ..Limits::default() });
    let me = scene.boot.process;
    let root = scene.directory();
    let taken = scene.derive(me, root);
    let moved = scene.derive(me, root);
    for _ in 0..5_000 {
        scene.handle(me, Call::Duplicate { handle: root, rights: SAME });
    }
    let moved = scene.handle(me, Call::Replace { handle: moved, rights: SAME });
    let mut pieces = 0;
    while scene.call(me, Call::Revoke { handle: root }).unwrap() == CallAnswer::GoOn {
        pieces += 1;
        assert!(pieces < 20, "it goes through the whole table");
    }
    assert!(!scene.is_there(me, taken) && !scene.is_there(me, moved));
    scene.end();
}

#[test]
fn derivation_needs_the_right_and_is_charged_until_the_node_goes() {
    let mut scene = Scene::new();
    let me = scene.boot.process;
    let root = scene.directory();
    let weak = scene.handle(me, Call::Duplicate { handle: root, rights: AskedRights::Exactly(Rights::LOOKUP) });
    assert_eq!(code(scene.call(me, Call::Derive { handle: weak, rights: SAME })), ErrorCode::AccessDenied);
    assert_eq!(code(scene.call(me, Call::Revoke { handle: weak })), ErrorCode::AccessDenied);
    let bytes = |scene: &Scene| scene.core.usage(me, Resource::Bytes).unwrap().used;
    let process = scene.handle_to_me();
    let before = bytes(&scene);
    // Room for the handle, and not for the two nodes: nothing is left of the attempt.
    let limit = |limit| Call::SetQuota { handle: process, resource: Resource::Bytes, limit };
    scene.call(me, limit(before + 24 + 63)).unwrap();
    let refused = scene.call(me, Call::Derive { handle: root, rights: SAME }).unwrap_err();
    assert!(matches!(refused, CallError::Quota { resource: Resource::Bytes, .. }), "{refused:?}");
    assert_eq!((bytes(&scene), scene.core.derivation_nodes()), (before, 0));
    scene.call(me, limit(UNLIMITED)).unwrap();
    let derived = scene.derive(me, root);
    assert_eq!(bytes(&scene), before + 24 + 64);
    scene.call(me, Call::Close { handle: derived }).unwrap();
    scene.settle();
    assert_eq!(bytes(&scene), before + 32, "the root's node stays with its handle");
    scene.end();
}

#[test]
fn a_guest_that_ends_leaves_what_it_derived_for_others_and_no_node_too_many() {
    let mut scene = Scene::new();
    let me = scene.boot.process;
    let [(to_one, one), (to_other, other)] = scene.guests;
    let root = scene.directory();
    let given = scene.derive(me, root);
    let at_one = scene.handle(me, Call::Transfer { handle: given, process: to_one, rights: SAME });
    let passed_on = scene.derive(one, at_one);
    let at_other = scene.pass(one, passed_on, other);
    scene.call(me, Call::Kill { handle: to_one }).unwrap();
    scene.settle();
    assert!(scene.is_there(other, at_other), "who took it from the dead keeps it");
    assert_eq!(scene.core.derivation_nodes(), 3);
    scene.call(me, Call::Revoke { handle: root }).unwrap();
    assert!(!scene.is_there(other, at_other));
    let directories = scene.live(ObjectType::Directory);
    scene.call(me, Call::Close { handle: root }).unwrap();
    scene.settle();
    assert_eq!((scene.live(ObjectType::Directory), scene.core.derivation_nodes()), (directories - 1, 0));
    let _unused = to_other;
    scene.end();
}

#[test]
fn of_several_limits_it_is_the_first_that_refuses_to_derive() {
    let mut scene = Scene::new();
    let me = scene.boot.process;
    let [(to_one, one), _] = scene.guests;
    let made = scene.handle(one, Call::Create { what: What::Directory });
    let job = scene.info(me, scene.job).unwrap().koid;
    let used = |scene: &Scene, koid, resource| scene.core.usage(koid, resource).unwrap().used;
    // The handle finds no room in the job, and its nodes none in the guest: the handle comes first.
    let (handles, bytes) = (used(&scene, job, Resource::Handles), used(&scene, one, Resource::Bytes));
    let limit = |handle, resource, limit| Call::SetQuota { handle, resource, limit };
    scene.call(me, limit(scene.job, Resource::Handles, handles)).unwrap();
    scene.call(me, limit(to_one, Resource::Bytes, bytes + 24 + 63)).unwrap();
    let refused = scene.call(one, Call::Derive { handle: made, rights: SAME }).unwrap_err();
    assert_eq!(refused, CallError::Quota { koid: job, resource: Resource::Handles, limit: handles, used: handles });
    scene.call(me, limit(scene.job, Resource::Handles, handles + 1)).unwrap();
    let refused = scene.call(one, Call::Derive { handle: made, rights: SAME }).unwrap_err();
    let nodes = CallError::Quota { koid: one, resource: Resource::Bytes, limit: bytes + 87, used: bytes + 24 };
    assert_eq!(refused, nodes);
    assert_eq!((used(&scene, job, Resource::Handles), used(&scene, one, Resource::Bytes)), (handles, bytes));
    scene.call(me, limit(to_one, Resource::Bytes, bytes + 88)).unwrap();
    let derived = scene.derive(one, made);
    assert_eq!((used(&scene, job, Resource::Handles), used(&scene, one, Resource::Bytes)), (handles + 1, bytes + 88));
    scene.call(one, Call::Close { handle: derived }).unwrap();
    assert_eq!((used(&scene, job, Resource::Handles), used(&scene, one, Resource::Bytes)), (handles, bytes + 32));
    scene.end();
}

#[test]
fn a_node_that_goes_with_a_handle_elsewhere_is_given_back_to_who_paid_for_it() {
    let mut scene = Scene::new();
    let me = scene.boot.process;
    let [(to_one, one), _] = scene.guests;
    let root = scene.directory();
    let bytes = |scene: &Scene, koid| scene.core.usage(koid, Resource::Bytes).unwrap().used;
    let (mine, theirs) = (bytes(&scene, me), bytes(&scene, one));
    let derived = scene.derive(me, root);
    let moved = scene.handle(me, Call::Transfer { handle: derived, process: to_one, rights: SAME });
    assert_eq!((bytes(&scene, me), bytes(&scene, one)), (mine + 64, theirs + 24));
    scene.call(one, Call::Close { handle: moved }).unwrap();
    assert_eq!((bytes(&scene, me), bytes(&scene, one)), (mine + 32, theirs));
    scene.call(me, Call::Close { handle: root }).unwrap();
    scene.end();
}

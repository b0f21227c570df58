//! What a type is told of its handles: each that comes and goes, why, where, and how many there are since.

use kobj_abi::{AskedRights, Era, Koid, RawHandle, Rights};
use kobj_core::embed::Manager;
use kobj_core::image::Time;
use kobj_core::{Call, CallAnswer, Change, CloseReason, Limits, Notice, ObjectType, OpenReason};
use kobj_memory::Spin;
use std::sync::Mutex;

struct Told;

impl ObjectType for Told {
    const TAG: [u8; 4] = *b"TOLD";
    const NAME: &'static str = "told";
    const DEFAULT_RIGHTS: Rights = Rights::GENERIC;
    const HAS_OPEN_HOOKS: bool = true;
    type State = Mutex<Vec<(Change, Koid, u32, u32)>>;

    fn handles_changed(state: &Self::State, notice: &Notice) {
        state.lock().unwrap().push((notice.change, notice.process, notice.process_handles, notice.handles));
    }
}

const NOW: Time = Time(0);
const SAME: AskedRights = AskedRights::Same;

#[test]
fn a_type_is_told_of_each_handle_with_its_reason_and_counts() {
    let manager: Manager<Spin> = Manager::new(NOW, Era(7), Limits { seed: 1, ..Limits::default() }).unwrap();
    let key = manager.register::<Told>().unwrap();
    let boot = manager.boot();
    let me = boot.process;
    let call = |process, call| manager.call(NOW, process, call).unwrap();
    let handle = |answer| match answer {
        CallAnswer::Handle(handle) => handle,
        other => panic!("{other:?}"),
    };
    let CallAnswer::Guest { handle: guest, process: them } =
        call(me, Call::CreateGuest { job: boot.job, inherit: false })
    else {
        panic!("no guest")
    };
    let first: RawHandle = manager.create_own(NOW, me, &key, Mutex::default()).unwrap();
    let second = handle(call(me, Call::Duplicate { handle: first, rights: SAME }));
    let link = Call::Link { directory: boot.directory, name: b"x", handle: first, most: SAME, permanent: true };
    call(me, link);
    let third = handle(call(
        me,
        Call::Open { directory: boot.directory, path: b"x", rights: SAME, expected: None, follow: true },
    ));
    call(me, Call::Transfer { handle: third, process: guest, rights: SAME });
    let derived = handle(call(me, Call::Derive { handle: second, rights: SAME }));
    call(me, Call::Transfer { handle: derived, process: guest, rights: SAME });
    call(me, Call::Revoke { handle: second });
    call(me, Call::Close { handle: second });
    call(me, Call::Kill { handle: guest });
    while manager.go_on() {}
    // The look itself is by a kept reference, of which no type is told.
    let table = manager.table(me).unwrap();
    let kept = manager.lookup(me, &table, first, None, Rights::NONE).unwrap().keep().unwrap();
    call(me, Call::Close { handle: first });
    let told = kept.state_as::<<Told as ObjectType>::State>().unwrap().lock().unwrap().clone();
    let opened = |why| Change::Opened(why);
    let closed = |why| Change::Closed(why);
    let expected = [
        (opened(OpenReason::Created), me, 1, 1),
        (opened(OpenReason::Duplicated), me, 2, 2),
        (opened(OpenReason::Opened), me, 3, 3),
        (opened(OpenReason::Moved), them, 1, 4),
        (closed(CloseReason::Moved), me, 2, 3),
        (opened(OpenReason::Duplicated), me, 3, 4),
        (opened(OpenReason::Moved), them, 2, 5),
        (closed(CloseReason::Moved), me, 2, 4),
        (closed(CloseReason::Revoked), them, 1, 3),
        (closed(CloseReason::Closed), me, 1, 2),
        (closed(CloseReason::Ended), them, 0, 1),
        (closed(CloseReason::Closed), me, 0, 0),
    ];
    assert_eq!(told, expected);
    drop(kept);
    manager.with(|core| core.audit().unwrap());
}

#[test]
fn a_thread_s_handles_are_told_of_too() {
    let manager: Manager<Spin> = Manager::new(NOW, Era(7), Limits { seed: 1, ..Limits::default() }).unwrap();
    let key = manager.register::<Told>().unwrap();
    let me = manager.boot().process;
    let mut thread = manager.thread(me, &key).unwrap();
    let first = thread.create(NOW, Mutex::default()).unwrap();
    let second = thread.duplicate(NOW, first, SAME).unwrap();
    thread.close(NOW, first).unwrap();
    let table = manager.table(me).unwrap();
    let kept = manager.lookup(me, &table, second, None, Rights::NONE).unwrap().keep().unwrap();
    let told = kept.state_as::<<Told as ObjectType>::State>().unwrap().lock().unwrap().len();
    assert_eq!(told, 3);
    drop(kept);
    thread.close(NOW, second).unwrap();
    drop(thread);
    manager.with(|core| core.audit().unwrap());
}

struct Plain;

impl ObjectType for Plain {
    const TAG: [u8; 4] = *b"PLAI";
    const NAME: &'static str = "plain";
    const DEFAULT_RIGHTS: Rights = Rights::GENERIC;
    type State = ();
}

/// A manager with two types, a told object, a handle to it, and a reference by which to see what it was told.
fn told_object() -> (Manager<Spin>, kobj_core::TypeKey<Plain>, RawHandle, kobj_memory::Kept) {
    let manager: Manager<Spin> = Manager::new(NOW, Era(7), Limits { seed: 1, ..Limits::default() }).unwrap();
    let (key, plain) = (manager.register::<Told>().unwrap(), manager.register::<Plain>().unwrap());
    let me = manager.boot().process;
    let handle = manager.create_own(NOW, me, &key, Mutex::default()).unwrap();
    let table = manager.table(me).unwrap();
    let kept = manager.lookup(me, &table, handle, None, Rights::NONE).unwrap().keep().unwrap();
    told(&kept);
    (manager, plain, handle, kept)
}

/// What it was told since the last time.
fn told(kept: &kobj_memory::Kept) -> Vec<Change> {
    let told = std::mem::take(&mut *kept.state_as::<<Told as ObjectType>::State>().unwrap().lock().unwrap());
    told.into_iter().map(|(change, ..)| change).collect()
}

#[test]
fn a_type_is_told_of_what_another_type_s_thread_does_with_its_handles() {
    let (manager, plain, handle, kept) = told_object();
    let me = manager.boot().process;
    let mut thread = manager.thread(me, &plain).unwrap();
    // So that it has slots and credit.
    thread.create(NOW, ()).unwrap();
    let equal = thread.duplicate(NOW, handle, SAME).unwrap();
    assert_eq!(told(&kept), [Change::Opened(OpenReason::Duplicated)]);
    thread.close(NOW, equal).unwrap();
    assert_eq!(told(&kept), [Change::Closed(CloseReason::Closed)]);
}

#[test]
fn the_reason_of_a_close_is_its_own_whatever_step_came_before() {
    let (manager, plain, handle, kept) = told_object();
    let boot = manager.boot();
    let me = boot.process;
    let call = |call| manager.call(NOW, me, call).unwrap();
    let mut thread = manager.thread(me, &plain).unwrap();
    let call_handle = |what| match call(what) {
        CallAnswer::Handle(handle) => handle,
        other => panic!("{other:?}"),
    };
    let equal = call_handle(Call::Duplicate { handle, rights: SAME });
    // A step of another kind that ends no handle of this object.
    let directory = call_handle(Call::Derive { handle: boot.directory, rights: SAME });
    call(Call::Revoke { handle: boot.directory });
    told(&kept);
    thread.close(NOW, equal).unwrap();
    assert_eq!(told(&kept), [Change::Closed(CloseReason::Closed)]);
    assert!(manager.call(NOW, me, Call::Close { handle: directory }).is_err());
    // Taken back, a step at a time, while others go on, and one of them is looked at meanwhile.
    let derived: Vec<_> = (0..50).map(|_| call_handle(Call::Derive { handle, rights: SAME })).collect();
    let table = manager.table(me).unwrap();
    let look = manager.lookup(me, &table, derived[0], None, Rights::NONE).unwrap();
    told(&kept);
    call(Call::Revoke { handle });
    drop(look);
    while manager.go_on() {}
    manager.call(NOW, me, Call::HandleInfo { handle }).unwrap();
    assert_eq!(told(&kept), [Change::Closed(CloseReason::Revoked); 50]);
    // Moved while somebody else looks at it.
    let look = manager.lookup(me, &table, handle, None, Rights::NONE).unwrap();
    let moved = call_handle(Call::Replace { handle, rights: SAME });
    drop(look);
    manager.call(NOW, me, Call::HandleInfo { handle: moved }).unwrap();
    assert_eq!(told(&kept), [Change::Opened(OpenReason::Moved), Change::Closed(CloseReason::Moved)]);
}

#[test]
fn what_is_granted_is_told_of_at_once() {
    let (manager, _, _, kept) = told_object();
    manager.grant(manager.boot().process, kept.koid(), SAME).unwrap();
    assert_eq!(told(&kept), [Change::Opened(OpenReason::Granted)]);
}

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

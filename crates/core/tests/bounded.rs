//! Nothing that is asked takes longer under the lock the more there is: it is done in pieces, between which others have their
//! turn, or in steps that do not grow.

use kobj_abi::{AskedRights, Era, Koid, RawHandle, Rights};
use kobj_core::image::Time;
use kobj_core::{Boot, Call, CallAnswer, Core, Limits, Notice, ObjectType, What};
use std::time::{Duration, Instant};

const NOW: Time = Time(0);
const SAME: AskedRights = AskedRights::Same;

struct Told;

impl ObjectType for Told {
    const TAG: [u8; 4] = *b"TOLD";
    const NAME: &'static str = "told";
    const DEFAULT_RIGHTS: Rights = Rights::GENERIC;
    const HAS_OPEN_HOOKS: bool = true;
    type State = ();

    fn handles_changed((): &(), _: &Notice) {}
}

fn core() -> (Core, Boot) {
    let mut core = Core::with_limits(Era(7), Limits { seed: 1, ..Limits::default() });
    let boot = core.boot(NOW).unwrap();
    (core, boot)
}

fn handle(core: &mut Core, process: Koid, call: Call<'_>) -> RawHandle {
    match core.call(NOW, process, call).unwrap() {
        CallAnswer::Handle(handle) => handle,
        other => panic!("{other:?}"),
    }
}

/// The shortest of some runs: what others do to this machine meanwhile only makes runs longer.
fn shortest(mut run: impl FnMut()) -> Duration {
    let times = (0..20).map(|_| {
        let begun = Instant::now();
        run();
        begun.elapsed()
    });
    times.min().unwrap()
}

#[test]
fn a_handle_that_a_type_is_told_of_costs_the_same_in_a_large_table() {
    let (mut core, boot) = core();
    let me = boot.process;
    let key = core.register::<Told>().unwrap();
    let told = core.create_own(NOW, me, &key, ()).unwrap();
    let equal = |core: &mut Core| {
        shortest(|| {
            let equal = handle(core, me, Call::Duplicate { handle: told, rights: SAME });
            core.call(NOW, me, Call::Close { handle: equal }).unwrap();
        })
    };
    let alone = equal(&mut core);
    let other = handle(&mut core, me, Call::Create { what: What::Directory });
    for _ in 0..40_000 {
        handle(&mut core, me, Call::Duplicate { handle: other, rights: SAME });
    }
    let among_many = equal(&mut core);
    assert!(among_many < alone * 20, "alone {alone:?}, in a table of 40,000 {among_many:?}");
    core.audit().unwrap();
}

#[test]
fn each_told_handle_of_a_guest_that_ends_costs_the_same() {
    let end = |handles: u32| {
        let (mut core, boot) = core();
        let me = boot.process;
        let key = core.register::<Told>().unwrap();
        let call = Call::CreateGuest { job: boot.job, inherit: false };
        let CallAnswer::Guest { handle: guest, process } = core.call(NOW, me, call).unwrap() else {
            panic!("no guest")
        };
        let told = core.create_own(NOW, process, &key, ()).unwrap();
        for _ in 1..handles {
            handle(&mut core, process, Call::Duplicate { handle: told, rights: SAME });
        }
        core.call(NOW, me, Call::Kill { handle: guest }).unwrap();
        let begun = Instant::now();
        while core.go_on() {}
        let ended = begun.elapsed();
        core.audit().unwrap();
        ended / handles
    };
    let few = (0..3).map(|_| end(500)).min().unwrap();
    let many = end(20_000);
    assert!(many < few * 10, "each of 500: {few:?}, each of 20,000: {many:?}");
}

//! Nothing that is asked takes longer under the lock the more there is: it is done in pieces, between which others have their
//! turn, or in steps that do not grow.

use kobj_abi::{AskedRights, Era, Koid, LinkKind, RawHandle, Rights};
use kobj_core::embed::Manager;
use kobj_core::image::Time;
use kobj_core::{Boot, Call, CallAnswer, CallError, Core, Effect, Holder, Keeper, Limits, Notice, ObjectType, What};
use kobj_memory::{Lock, Locked, RefusingAllocator};
use std::alloc::{Layout, System};
use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const NOW: Time = Time(0);
const SAME: AskedRights = AskedRights::Same;

/// After so many turns of the lock, what somebody else does.
type Meanwhile = (u32, Box<dyn FnOnce()>);

thread_local! {
    /// Turns at the lock that this thread has had.
    static TURNS: Cell<u32> = const { Cell::new(0) };
    /// What another thread does before which of them.
    static MEANWHILE: RefCell<Option<Meanwhile>> = const { RefCell::new(None) };
    static IS_LOCKED: Cell<bool> = const { Cell::new(false) };
    /// The most that was allocated at once under the lock.
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn measure(layout: Layout) -> bool {
    if IS_LOCKED.try_with(Cell::get).unwrap_or(false) {
        let _gone_with_its_thread = LARGEST.try_with(|largest| largest.set(largest.get().max(layout.size())));
    }
    false
}

#[global_allocator]
static ALLOCATOR: RefusingAllocator<System> = RefusingAllocator::new(System, measure);

/// A lock that counts its turns.
struct Counted;

struct Around<T>(Mutex<T>);

impl Lock for Counted {
    type Around<T: Send> = Around<T>;
}

impl<T: Send> Locked<T> for Around<T> {
    fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    fn with<R>(&self, action: impl FnOnce(&mut T) -> R) -> R {
        TURNS.set(TURNS.get() + 1);
        let due = MEANWHILE.with_borrow_mut(|next| next.take_if(|(turn, _)| *turn <= TURNS.get()));
        if let Some((_, other)) = due {
            other();
        }
        let mut value = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        IS_LOCKED.set(true);
        let result = action(&mut value);
        IS_LOCKED.set(false);
        result
    }
}

type Pieces = Manager<Counted>;

fn manager() -> Arc<Pieces> {
    Arc::new(Manager::new(NOW, Era(7), Limits { seed: 1, ..Limits::default() }).unwrap())
}

fn made(answer: Result<CallAnswer, CallError>) -> RawHandle {
    match answer.unwrap() {
        CallAnswer::Handle(handle) => handle,
        other => panic!("{other:?}"),
    }
}

fn guest(manager: &Pieces, job: RawHandle) -> (RawHandle, Koid) {
    match manager.call(NOW, manager.boot().process, Call::CreateGuest { job, inherit: false }).unwrap() {
        CallAnswer::Guest { handle, process } => (handle, process),
        other => panic!("{other:?}"),
    }
}

/// The turns that an action takes.
fn turns<R>(action: impl FnOnce() -> R) -> (u32, R) {
    let before = TURNS.get();
    let result = action();
    (TURNS.get() - before, result)
}

/// Has another thread's act come before a turn from now.
fn meanwhile(turn: u32, act: impl FnOnce() + 'static) {
    MEANWHILE.set(Some((TURNS.get() + turn, Box::new(act))));
}

/// Gives a process many equals of a handle.
fn fill(manager: &Pieces, process: Koid, handle: RawHandle, count: u32, inheritable: bool) {
    for _ in 0..count {
        let handle = made(manager.call(NOW, process, Call::Duplicate { handle, rights: SAME }));
        if inheritable {
            manager.call(NOW, process, Call::SetInheritable { handle, inheritable }).unwrap();
        }
    }
}

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
    let few = (0..20).map(|_| end(500)).min().unwrap();
    let many = (0..20).map(|_| end(20_000)).min().unwrap();
    println!("each of 500: {few:?}, each of 20,000: {many:?}");
    assert!(many < few * 10, "each of 500: {few:?}, each of 20,000: {many:?}");
}

#[test]
fn who_holds_and_keeps_an_object_is_looked_for_in_pieces() {
    let manager = manager();
    let boot = manager.boot();
    let me = boot.process;
    let wanted = made(manager.call(NOW, me, Call::Create { what: What::Directory }));
    let other = made(manager.call(NOW, me, Call::Create { what: What::Directory }));
    fill(&manager, me, other, 40_000, false);
    let (few, answer) = turns(|| manager.call(NOW, me, Call::Holders { handle: wanted }).unwrap());
    assert!(few <= 15, "{few} turns");
    let CallAnswer::Holders(found) = answer else { panic!("no holders") };
    assert_eq!(found.iter().map(|holder| (holder.process, holder.handles)).collect::<Vec<_>>(), [(me, 1)]);
    // The last handle stands at the end of a large table.
    let last = made(manager.call(NOW, me, Call::Duplicate { handle: wanted, rights: SAME }));
    for call in [Call::Holders { handle: wanted }, Call::KeptBy { handle: last }] {
        let (turns, answer) = turns(|| manager.call(NOW, me, call).unwrap());
        assert!(turns >= 10, "{turns} turns for 40,000 slots");
        match answer {
            CallAnswer::Holders(found) => assert_eq!((found.len(), found[0].process, found[0].handles), (1, me, 2)),
            CallAnswer::KeptBy(found) => assert_eq!(found, [Keeper { koid: me, kind: LinkKind::Holds }]),
            other => panic!("{other:?}"),
        }
    }
    manager.with(|core| core.audit().unwrap());
}

#[test]
fn who_holds_an_object_all_the_time_is_found_once_whoever_ends_meanwhile() {
    for turn in 2..14 {
        let manager = manager();
        let boot = manager.boot();
        let me = boot.process;
        let wanted = made(manager.call(NOW, me, Call::Create { what: What::Directory }));
        let other = made(manager.call(NOW, me, Call::Create { what: What::Directory }));
        fill(&manager, me, other, 1_000, false);
        let guests: Vec<_> = (0..6).map(|_| guest(&manager, boot.job)).collect();
        for (receiver, process) in &guests {
            for handle in [other, wanted] {
                let equal = made(manager.call(NOW, me, Call::Duplicate { handle, rights: SAME }));
                let given =
                    made(manager.call(NOW, me, Call::Transfer { handle: equal, process: *receiver, rights: SAME }));
                fill(&manager, *process, given, if handle == other { 6_000 } else { 0 }, false);
            }
        }
        let (ends, ended) = guests[2];
        let all = Arc::clone(&manager);
        meanwhile(turn, move || {
            all.call(NOW, me, Call::Kill { handle: ends }).unwrap();
            while all.go_on() {}
        });
        let CallAnswer::Holders(found) = manager.call(NOW, me, Call::Holders { handle: wanted }).unwrap() else {
            panic!("no holders")
        };
        MEANWHILE.take();
        let mut found: Vec<(Koid, u32)> =
            found.iter().map(|Holder { process, handles, .. }| (*process, *handles)).collect();
        found.sort_unstable();
        found.retain(|(process, _)| *process != ended);
        let stayed = guests.iter().map(|(_, process)| *process).filter(|process| *process != ended);
        let mut expected: Vec<(Koid, u32)> = stayed.chain([me]).map(|process| (process, 1)).collect();
        expected.sort_unstable();
        assert_eq!(found, expected, "an end before turn {turn}");
        while manager.go_on() {}
        manager.with(|core| core.audit().unwrap());
    }
}

#[test]
fn from_whom_a_handle_came_is_followed_in_pieces() {
    let manager = manager();
    let me = manager.boot().process;
    let first = made(manager.call(NOW, me, Call::Create { what: What::Directory }));
    let mut last = first;
    for _ in 0..20_000 {
        last = made(manager.call(NOW, me, Call::Derive { handle: last, rights: SAME }));
    }
    // All is taken back meanwhile: what is asked about stays until the answer is there.
    let all = Arc::clone(&manager);
    meanwhile(4, move || {
        // One step of it: it is not over before the answer is there.
        let answer = all.with(|core| core.call(NOW, me, Call::Revoke { handle: first }).unwrap());
        assert_eq!(answer, CallAnswer::GoOn);
    });
    let (turns, answer) = turns(|| manager.call(NOW, me, Call::DerivedFrom { handle: last }).unwrap());
    assert!(MEANWHILE.take().is_none() && turns >= 5, "{turns} turns for 20,000 generations");
    assert_eq!(answer, CallAnswer::DerivedFrom(vec![me; 20_000]));
    while manager.go_on() {}
    assert_eq!(manager.with(|core| core.derivation_nodes()), 1);
    manager.with(|core| core.audit().unwrap());
}

#[test]
fn a_guest_inherits_in_pieces_and_ends_unseen_with_its_job_or_maker() {
    let manager = manager();
    let boot = manager.boot();
    let me = boot.process;
    let (maker, process) = guest(&manager, boot.job);
    let job = made(manager.call(NOW, me, Call::CreateJob { job: boot.job }));
    let koid = manager.lookup(me, &manager.table(me).unwrap(), job, None, Rights::NONE).unwrap().koid();
    let jobs = manager.grant(process, koid, SAME).unwrap();
    let handle = made(manager.call(NOW, process, Call::Create { what: What::Directory }));
    fill(&manager, process, handle, 3_000, true);
    let call = Call::CreateGuest { job: jobs, inherit: true };
    let (turns, made) = turns(|| manager.call(NOW, process, call).unwrap());
    assert!(turns >= 10, "{turns} turns for 3,000 handles");
    let CallAnswer::Guest { process: inner, .. } = made else { panic!("no guest") };
    assert_eq!(manager.table(inner).unwrap().live(), 3_000);
    let mut told = vec![];
    for (victim, expected) in [(job, CallError::Dying { koid }), (maker, CallError::Dying { koid: process })] {
        let all = Arc::clone(&manager);
        meanwhile(5, move || {
            all.call(NOW, me, Call::Kill { handle: victim }).unwrap();
        });
        let jobs = if victim == job { jobs } else { manager.grant(process, boot.root_job, SAME).unwrap() };
        let answer = manager.call(NOW, process, Call::CreateGuest { job: jobs, inherit: true });
        assert_eq!(answer, Err(expected));
        assert!(MEANWHILE.take().is_none());
        while manager.go_on() {}
        told.extend(core::iter::from_fn(|| manager.next_effect()));
        manager.with(|core| core.audit().unwrap());
    }
    // Of the two that were begun nobody is told.
    let koid_of = |effect: &Effect| match effect {
        Effect::Killed { koid, .. } => *koid,
        other => panic!("{other:?}"),
    };
    let koids: Vec<Koid> = told.iter().map(koid_of).collect();
    assert_eq!(koids, [inner, process]);
}

#[test]
fn the_memory_of_a_search_is_taken_while_nobody_waits() {
    let manager = manager();
    let me = manager.boot().process;
    for _ in 0..30_000 {
        made(manager.call(NOW, me, Call::Create { what: What::Directory }));
    }
    LARGEST.set(0);
    assert!(manager.unreachable().unwrap().found().is_empty());
    assert!(LARGEST.get() < 30_000, "{} bytes at once under the lock", LARGEST.get());
}

//! Models of what threads do beside the lock, for loom: the manager as it is, whole, with loom's lock around the core.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p kobj-core --release --lib embed::models`
//!
//! What memory alone carries is modelled there; here it is what threads, calls and the core make of it together: a thread's
//! lease against a quota and a kill, hooks that others run, and the last look at a handle that is closed. Each model names the
//! mutants that it catches; "alone" says that no other model here does.

use super::Manager;
use crate::call::{Call, CallAnswer, CallError, Resource};
use crate::image::Time;
use crate::manager::Limits;
use crate::types::process;
use crate::user_type::{ObjectType, TypeKey};
use kobj_abi::{AskedRights, Era, Koid, RawHandle, Rights};
use kobj_memory::{Lock, Locked, Shared, Table};
use loom::sync::{Arc, Mutex};
use loom::thread;
use std::sync::Arc as Plain;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Runs a model over its interleavings: of what stands between [`loom::explore`] and [`loom::stop_exploring`].
fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 100_000;
    builder.expect_explicit_explore = true;
    builder.check(model);
}

/// The lock of the models.
struct Modelled;

struct Around<T>(Mutex<T>);

impl Lock for Modelled {
    type Around<T: Send> = Around<T>;
}

impl<T: Send> Locked<T> for Around<T> {
    fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    fn with<R>(&self, action: impl FnOnce(&mut T) -> R) -> R {
        action(&mut self.0.lock().expect("nothing panics inside"))
    }
}

/// How often each hook of an object ran, and its state's drop: no steps of the model.
#[derive(Default)]
struct Log {
    closed: AtomicU32,
    destroyed: AtomicU32,
    dropped: AtomicU32,
}

impl Log {
    fn ran(&self) -> [u32; 3] {
        [&self.closed, &self.destroyed, &self.dropped].map(|count| count.load(Relaxed))
    }
}

struct State(Plain<Log>);

impl Drop for State {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Relaxed);
    }
}

struct Item;

impl ObjectType for Item {
    const TAG: [u8; 4] = *b"ITEM";
    const NAME: &'static str = "item";
    const DEFAULT_RIGHTS: Rights = Rights::GENERIC;
    type State = State;

    fn last_close(_: Koid, state: &State) {
        state.0.closed.fetch_add(1, Relaxed);
        assert_eq!(state.0.ran(), [1, 0, 0]);
    }

    fn destroy(_: Koid, state: &State) {
        state.0.destroyed.fetch_add(1, Relaxed);
        assert_eq!(state.0.ran(), [1, 1, 0]);
    }
}

const NOW: Time = Time(0);
const SAME: AskedRights = AskedRights::Same;

/// A manager with a guest, in whose name things are made.
struct World {
    manager: Manager<Modelled>,
    key: TypeKey<Item>,
    guest: (RawHandle, Koid),
    table: Shared<Table>,
}

impl World {
    fn new() -> Arc<Self> {
        let manager: Manager<Modelled> = Manager::new(NOW, Era(7), Limits { seed: 1, ..Limits::default() }).unwrap();
        let (boot, key) = (manager.boot(), manager.register::<Item>().unwrap());
        let call = Call::CreateGuest { job: boot.job, inherit: false };
        let Ok(CallAnswer::Guest { handle, process }) = manager.call(NOW, boot.process, call) else {
            panic!("no guest")
        };
        let table = manager.table(process).unwrap();
        Arc::new(Self { manager, key, guest: (handle, process), table })
    }

    /// What a process asks for, for a handle.
    fn handle(&self, process: Koid, call: Call<'_>) -> RawHandle {
        match self.manager.call(NOW, process, call) {
            Ok(CallAnswer::Handle(handle)) => handle,
            other => panic!("{other:?}"),
        }
    }

    fn close(&self, handle: RawHandle) -> Result<(), CallError> {
        self.manager.call(NOW, self.guest.1, Call::Close { handle }).map(drop)
    }

    fn own(&self, log: &Plain<Log>) -> Result<RawHandle, CallError> {
        self.manager.create_own(NOW, self.guest.1, &self.key, State(log.clone()))
    }

    /// A look at a handle of the guest's.
    fn look(&self, handle: RawHandle) {
        drop(self.manager.lookup(self.guest.1, &self.table, handle, None, Rights::NONE));
    }

    fn used(&self, koid: Koid, resource: Resource) -> u64 {
        self.manager.with(|core| core.usage(koid, resource)).unwrap().used
    }

    /// All are through: what is left over is done, but nobody asks for anything. The guest has so many handles.
    fn audit(&self, handles: u64) {
        while self.manager.go_on() {}
        self.manager.with(|core| core.audit().unwrap());
        assert_eq!(self.used(self.guest.1, Resource::Handles), handles);
    }
}

/// Two do something at once.
fn race<A: Send + 'static>(
    world: &Arc<World>,
    theirs: impl FnOnce(&World) -> A + Send + 'static,
    mine: impl FnOnce(),
) -> A {
    loom::explore();
    let other = {
        let world = world.clone();
        thread::spawn(move || theirs(&world))
    };
    mine();
    let result = other.join().unwrap();
    loom::stop_exploring();
    result
}

// ---- hooks

/// A thread and a call close the two handles of an object at once: its hooks run once each.
///
/// Mutant, alone: a close looks at the count of handles and not at what it was told.
#[test]
fn model_a_threads_close_against_a_calls() {
    explore(2, || {
        let (world, log) = (World::new(), Plain::<Log>::default());
        let mut mine = world.manager.thread(world.guest.1, &world.key).unwrap();
        let handle = mine.create(NOW, State(log.clone())).unwrap();
        let equal = mine.duplicate(NOW, handle, SAME).unwrap();
        race(&world, move |world| world.close(equal).unwrap(), || mine.close(NOW, handle).unwrap());
        drop(mine);
        world.audit(0);
        assert_eq!(log.ran(), [1, 1, 1]);
    });
}

/// One thread at a time runs hooks here, and leaves what comes meanwhile to nobody: in the end all have run.
///
/// Mutants, alone: who has run hooks ends without another look at the lists; who leaves hooks to others goes by its first look
/// at their number.
#[test]
fn model_hooks_that_are_left_to_who_is_at_it() {
    explore(2, || {
        let (world, logs) = (World::new(), [(); 2].map(|()| Plain::<Log>::default()));
        let [mine, theirs] = logs.each_ref().map(|log| world.own(log).unwrap());
        race(&world, move |world| world.close(theirs).unwrap(), || world.close(mine).unwrap());
        // Nobody came by since.
        assert_eq!(logs.map(|log| log.ran()), [[1, 1, 1]; 2]);
        world.audit(0);
    });
}

// ---- leases

/// A guest is killed while its thread makes an object: either the thread sees that its lease is closed, or the sweep of the
/// table sees the handle.
///
/// Mutant, alone: a thread does not look at its lease after it has made a handle valid.
#[test]
fn model_a_threads_create_against_a_kill() {
    explore(2, || {
        let (world, log) = (World::new(), Plain::<Log>::default());
        let mut mine = world.manager.thread(world.guest.1, &world.key).unwrap();
        let first = mine.create(NOW, State(Plain::default())).unwrap();
        mine.close(NOW, first).unwrap();
        let kill = move |world: &World| {
            let call = Call::Kill { handle: world.guest.0 };
            world.manager.call(NOW, world.manager.boot().process, call).unwrap();
            while world.manager.go_on() {}
        };
        race(&world, kill, || {
            let _made_or_dying = mine.create(NOW, State(log.clone()));
        });
        drop(mine);
        while world.manager.go_on() {}
        assert!([[0, 0, 1], [1, 1, 1]].contains(&log.ran()), "{:?}", log.ran());
        let boot = world.manager.boot();
        assert_eq!(world.used(boot.root_job, Resource::ObjectsOf(world.key.number())), 0);
        world.manager.call(NOW, boot.process, Call::Close { handle: world.guest.0 }).unwrap();
        world.manager.with(|core| core.audit().unwrap());
    });
}

/// There is room for one more object, and a thread has the credit for it: of the thread and a call that both make one, one does.
///
/// Mutant, alone: the books take back what a look said was idle.
#[test]
fn model_a_threads_credit_against_a_call_that_needs_it() {
    explore(2, || {
        let (world, log) = (World::new(), Plain::<Log>::default());
        let boot = world.manager.boot();
        let limit = world.used(boot.root_job, Resource::Objects) + 1;
        let call = Call::SetQuota { handle: boot.job, resource: Resource::Objects, limit };
        world.manager.call(NOW, boot.process, call).unwrap();
        let mut mine = world.manager.thread(world.guest.1, &world.key).unwrap();
        let first = mine.create(NOW, State(Plain::default())).unwrap();
        mine.close(NOW, first).unwrap();
        let mut made = None;
        let other = log.clone();
        let theirs = race(
            &world,
            move |world| world.own(&other).map_err(|error| error.code()),
            || made = Some(mine.create(NOW, State(log.clone())).map_err(|error| error.code())),
        );
        let made = [made.unwrap(), theirs];
        assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1, "{made:?}");
        drop(mine);
        world.audit(1);
    });
}

/// There is room for two more objects: a thread whose credit a call has called back asks again, and both make one.
///
/// Mutant, alone: a thread whose credit was called back gives up.
#[test]
fn model_a_thread_whose_credit_is_called_back() {
    explore(2, || {
        let (world, log) = (World::new(), Plain::<Log>::default());
        let boot = world.manager.boot();
        let limit = world.used(boot.root_job, Resource::Objects) + 2;
        let call = Call::SetQuota { handle: boot.job, resource: Resource::Objects, limit };
        world.manager.call(NOW, boot.process, call).unwrap();
        let mut mine = world.manager.thread(world.guest.1, &world.key).unwrap();
        let first = mine.create(NOW, State(Plain::default())).unwrap();
        mine.close(NOW, first).unwrap();
        let other = log.clone();
        race(
            &world,
            move |world| world.own(&other).unwrap(),
            || {
                mine.create(NOW, State(log.clone())).unwrap();
            },
        );
        drop(mine);
        world.audit(2);
    });
}

// ---- the last look at a handle that is closed

/// A handle is closed under two looks, of which one may come too late and still stand in the entry: whoever leaves last hands it
/// over.
///
/// Mutants, alone: a guard that is dropped hands nothing over; a look that is refused hands nothing over.
#[test]
fn model_a_look_against_a_close_under_another() {
    explore(2, || {
        let (world, log) = (World::new(), Plain::<Log>::default());
        let mut mine = world.manager.thread(world.guest.1, &world.key).unwrap();
        let handle = mine.create(NOW, State(log.clone())).unwrap();
        let pin = world.table.pin(handle).unwrap();
        let close = || {
            mine.close(NOW, handle).unwrap();
            world.manager.leave(world.guest.1, &world.table, pin);
        };
        race(&world, move |world| world.look(handle), close);
        drop(mine);
        world.audit(0);
        assert_eq!(log.ran(), [1, 1, 1]);
    });
}

/// A look finds a handle whose object is gone, while a thread closes that: the handle's charge comes back all the same.
///
/// Mutant, alone: a look at what is gone hands nothing over.
#[test]
fn model_a_look_at_what_is_gone_against_a_close() {
    explore(2, || {
        let world = World::new();
        let request = process::Request { pid: 1, started: 1, ended: false };
        let gone = world.manager.with(|core| core.create_process(NOW, None, request, None)).unwrap();
        let handle = world.manager.grant(world.guest.1, gone, SAME).unwrap();
        world.manager.with(|core| core.process_ended(gone)).unwrap();
        let mut mine = world.manager.thread(world.guest.1, &world.key).unwrap();
        race(&world, move |world| world.look(handle), || mine.close(NOW, handle).unwrap());
        drop(mine);
        world.audit(0);
    });
}

/// A handle is copied by a thread while a call closes it: whoever looks last hands it over.
///
/// Mutant, alone: a thread that has copied a handle hands nothing over.
#[test]
fn model_a_threads_duplicate_against_a_close() {
    explore(2, || {
        let (world, log) = (World::new(), Plain::<Log>::default());
        let mut mine = world.manager.thread(world.guest.1, &world.key).unwrap();
        let handle = mine.create(NOW, State(log.clone())).unwrap();
        let mut equal = None;
        race(&world, move |world| world.close(handle).unwrap(), || equal = mine.duplicate(NOW, handle, SAME).ok());
        if let Some(equal) = equal {
            assert_eq!(log.ran(), [0; 3]);
            mine.close(NOW, equal).unwrap();
        }
        drop(mine);
        world.audit(0);
        assert_eq!(log.ran(), [1, 1, 1]);
    });
}

/// Someone with two handles on one node, so that the hint is not enough and all tables are swept when it is revoked: the handle
/// to revoke by.
fn sweepable(world: &World) -> RawHandle {
    let me = world.manager.boot().process;
    let root = world.manager.create_own(NOW, me, &world.key, State(Plain::default())).unwrap();
    let derived = world.handle(me, Call::Derive { handle: root, rights: SAME });
    world.handle(me, Call::Duplicate { handle: derived, rights: SAME });
    root
}

fn revoke(world: &World, handle: RawHandle) {
    world.manager.call(NOW, world.manager.boot().process, Call::Revoke { handle }).unwrap();
}

/// A revoke's sweep looks at each handle of each table, also at one that its process closes this moment under another look: the
/// sweep's may be the last, also where it came too late.
///
/// Mutants, alone: what a sweep's look was the last at is taken in by nobody; a sweep whose look was refused takes nothing in.
#[test]
fn model_a_sweeps_look_against_a_close_under_another() {
    explore(4, || {
        let (world, log) = (World::new(), Plain::<Log>::default());
        let root = sweepable(&world);
        let mut mine = world.manager.thread(world.guest.1, &world.key).unwrap();
        let handle = mine.create(NOW, State(log.clone())).unwrap();
        let pin = world.table.pin(handle).unwrap();
        let close = || {
            mine.close(NOW, handle).unwrap();
            world.manager.leave(world.guest.1, &world.table, pin);
        };
        race(&world, move |world| revoke(world, root), close);
        drop(mine);
        world.audit(0);
        assert_eq!(log.ran(), [1, 1, 1]);
    });
}

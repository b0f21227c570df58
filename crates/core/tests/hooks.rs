//! Hooks and drops of users' states that panic or call the manager (those that race have models); looks and handles that outlive
//! their process: each hook runs once, nothing of the user's runs under the lock, and every charge comes back.

use kobj_abi::{Era, ErrorCode, Koid, RawHandle, Rights};
use kobj_core::embed::Manager;
use kobj_core::image::Time;
use kobj_core::{Call, CallAnswer, Limits, Notice, ObjectType, Resource};
use kobj_memory::Spin;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::time::Duration;

const NOW: Time = Time(0);

fn manager() -> Manager<Spin> {
    Manager::new(NOW, Era(7), Limits { seed: 1, ..Limits::default() }).unwrap()
}

/// What happened to an object; which hook is to panic.
#[derive(Default)]
struct Log {
    closed: AtomicU64,
    destroyed: AtomicU64,
    panics_in: AtomicU64,
}

struct Logged;

const IN_LAST_CLOSE: u64 = 1;
const IN_DESTROY: u64 = 2;

impl ObjectType for Logged {
    const TAG: [u8; 4] = *b"LOGD";
    const NAME: &'static str = "logged";
    const DEFAULT_RIGHTS: Rights = Rights::GENERIC;
    type State = Arc<Log>;

    fn last_close(_: Koid, log: &Arc<Log>) {
        log.closed.fetch_add(1, Ordering::Relaxed);
        assert_ne!(log.panics_in.load(Ordering::Relaxed), IN_LAST_CLOSE, "the hook of a type");
    }

    fn destroy(_: Koid, log: &Arc<Log>) {
        log.destroyed.fetch_add(1, Ordering::Relaxed);
        assert_ne!(log.panics_in.load(Ordering::Relaxed), IN_DESTROY, "the hook of a type");
    }
}

struct Scene {
    manager: Manager<Spin>,
    job: Koid,
    guest: (RawHandle, Koid),
}

impl Scene {
    fn new() -> Self {
        let manager = manager();
        let boot = manager.boot();
        let Ok(CallAnswer::Handle(job)) = manager.call(NOW, boot.process, Call::CreateJob { job: boot.job }) else {
            panic!("no job")
        };
        let Ok(CallAnswer::Guest { handle, process }) =
            manager.call(NOW, boot.process, Call::CreateGuest { job, inherit: false })
        else {
            panic!("no guest")
        };
        let Ok(CallAnswer::Info(info)) = manager.call(NOW, boot.process, Call::HandleInfo { handle: job }) else {
            panic!("no koid")
        };
        Self { manager, job: info.koid, guest: (handle, process) }
    }

    fn used(&self) -> [u64; 3] {
        let of = |resource| self.manager.with(|core| core.usage(self.job, resource)).unwrap().used;
        [Resource::Objects, Resource::Handles, Resource::Bytes].map(of)
    }

    fn me(&self, call: Call<'_>) -> CallAnswer {
        self.manager.call(NOW, self.manager.boot().process, call).unwrap()
    }
}

/// A state whose drop calls the manager, as that of a handle does.
struct Caller(Weak<Manager<Spin>>);

impl Drop for Caller {
    fn drop(&mut self) {
        if let Some(manager) = self.0.upgrade() {
            manager.go_on();
        }
    }
}

struct Calling;

impl ObjectType for Calling {
    const TAG: [u8; 4] = *b"CALL";
    const NAME: &'static str = "calling";
    const DEFAULT_RIGHTS: Rights = Rights::GENERIC;
    type State = Caller;
}

#[test]
fn a_state_of_which_no_object_is_made_is_dropped_outside_the_lock() {
    let (done, is_done) = mpsc::channel();
    // Under the lock it would never come back.
    std::thread::spawn(move || {
        let manager = Arc::new(manager());
        let boot = manager.boot();
        let key = manager.register::<Calling>().unwrap();
        let quota = Call::SetQuota { handle: boot.job, resource: Resource::Objects, limit: 1 };
        manager.call(NOW, boot.process, quota).unwrap();
        let refused = manager.create_own(NOW, boot.process, &key, Caller(Arc::downgrade(&manager)));
        done.send(refused.map_err(|error| error.code())).unwrap();
    });
    assert_eq!(is_done.recv_timeout(Duration::from_secs(20)), Ok(Err(ErrorCode::Quota)));
}

#[test]
fn a_hook_that_panics_in_a_thread_runs_once_and_every_charge_comes_back() {
    for which in [IN_LAST_CLOSE, IN_DESTROY] {
        let scene = Scene::new();
        let key = scene.manager.register::<Logged>().unwrap();
        let before = scene.used();
        let mut thread = scene.manager.thread(scene.guest.1, &key).unwrap();
        let log = Arc::new(Log::default());
        let handle = thread.create(NOW, log.clone()).unwrap();
        log.panics_in.store(which, Ordering::Relaxed);
        assert!(catch_unwind(AssertUnwindSafe(|| thread.close(NOW, handle))).is_err());
        log.panics_in.store(0, Ordering::Relaxed);
        while scene.manager.go_on() {}
        let ran = (log.closed.load(Ordering::Relaxed), log.destroyed.load(Ordering::Relaxed));
        assert_eq!((ran, Arc::strong_count(&log)), ((1, 1), 1), "hook {which}");
        drop(thread);
        assert_eq!(scene.used(), before, "hook {which}");
        scene.manager.with(|core| {
            core.audit().unwrap();
            assert_eq!(core.panicked_hooks(), 1);
        });
    }
}

/// Made by the manager and closed by a call, or by a thread that is not its maker: the hooks are run by whoever comes by.
#[test]
fn a_hook_that_panics_in_a_call_or_for_anothers_object_is_counted_and_the_object_has_ended() {
    for (which, by_a_thread) in [(IN_LAST_CLOSE, false), (IN_DESTROY, false), (IN_LAST_CLOSE, true), (IN_DESTROY, true)]
    {
        let scene = Scene::new();
        let (key, process) = (scene.manager.register::<Logged>().unwrap(), scene.guest.1);
        let (before, log) = (scene.used(), Arc::new(Log::default()));
        let handle = scene.manager.create_own(NOW, process, &key, log.clone()).unwrap();
        let mut thread = scene.manager.thread(process, &key).unwrap();
        log.panics_in.store(which, Ordering::Relaxed);
        let close = || match by_a_thread {
            true => thread.close(NOW, handle),
            false => scene.manager.call(NOW, process, Call::Close { handle }).map(drop),
        };
        assert!(catch_unwind(AssertUnwindSafe(close)).is_err(), "hook {which}, {by_a_thread}");
        log.panics_in.store(0, Ordering::Relaxed);
        drop(thread);
        while scene.manager.go_on() {}
        let ran = (log.closed.load(Ordering::Relaxed), log.destroyed.load(Ordering::Relaxed));
        assert_eq!((ran, Arc::strong_count(&log)), ((1, 1), 1), "hook {which}, {by_a_thread}");
        assert_eq!(scene.used(), before, "hook {which}, {by_a_thread}");
        scene.manager.with(|core| {
            core.audit().unwrap();
            assert_eq!(core.panicked_hooks(), 1, "hook {which}, {by_a_thread}");
            assert_eq!(core.type_info(key.number()).unwrap().tally.live, 0);
        });
    }
}

struct Told;

impl ObjectType for Told {
    const TAG: [u8; 4] = *b"TOLD";
    const NAME: &'static str = "told";
    const DEFAULT_RIGHTS: Rights = Rights::GENERIC;
    const HAS_OPEN_HOOKS: bool = true;
    type State = Arc<Log>;

    fn handles_changed(log: &Arc<Log>, notice: &Notice) {
        assert!(log.panics_in.load(Ordering::Relaxed) == 0 || notice.handles > 0, "the hook of a type");
    }

    fn destroy(_: Koid, log: &Arc<Log>) {
        log.destroyed.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_type_that_panics_when_told_of_a_handle_is_counted_and_its_object_ends() {
    let scene = Scene::new();
    let (key, process) = (scene.manager.register::<Told>().unwrap(), scene.guest.1);
    let (before, log) = (scene.used(), Arc::new(Log::default()));
    let handle = scene.manager.create_own(NOW, process, &key, log.clone()).unwrap();
    log.panics_in.store(1, Ordering::Relaxed);
    let close = || scene.manager.call(NOW, process, Call::Close { handle });
    assert!(catch_unwind(AssertUnwindSafe(close)).is_err());
    while scene.manager.go_on() {}
    assert_eq!((log.destroyed.load(Ordering::Relaxed), Arc::strong_count(&log), scene.used()), (1, 1, before));
    scene.manager.with(|core| {
        core.audit().unwrap();
        assert_eq!(core.panicked_hooks(), 1);
    });
}

#[test]
fn a_look_that_outlives_its_process_gives_back_what_the_handle_counted() {
    let scene = Scene::new();
    let key = scene.manager.register::<Logged>().unwrap();
    let (before, log) = (scene.used(), Arc::new(Log::default()));
    let (handle, process) = scene.guest;
    let theirs = scene.manager.create_own(NOW, process, &key, log.clone()).unwrap();
    let table = scene.manager.table(process).unwrap();
    let guard = scene.manager.lookup(process, &table, theirs, Some(key.number()), Rights::NONE).unwrap();
    scene.me(Call::Kill { handle });
    scene.me(Call::Close { handle });
    while scene.manager.go_on() {}
    assert_eq!(log.destroyed.load(Ordering::Relaxed), 0, "the look keeps it");
    drop(guard);
    while scene.manager.go_on() {}
    assert_eq!((log.closed.load(Ordering::Relaxed), log.destroyed.load(Ordering::Relaxed)), (1, 1));
    let after = scene.used();
    assert!(after.iter().zip(before).all(|(after, before)| *after <= before), "{after:?} of {before:?}");
    assert_eq!(after[1], 0, "nobody has a handle there");
    scene.manager.with(|core| core.audit().unwrap());
}

/// A state that has a handle to the next object: its drop closes that one.
struct Chained {
    manager: Weak<Manager<Spin>>,
    next: Option<RawHandle>,
    dropped: Arc<AtomicU64>,
}

impl Drop for Chained {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        if let (Some(manager), Some(handle)) = (self.manager.upgrade(), self.next) {
            manager.call(NOW, manager.boot().process, Call::Close { handle }).unwrap();
        }
    }
}

struct Chain;

impl ObjectType for Chain {
    const TAG: [u8; 4] = *b"CHAI";
    const NAME: &'static str = "chain";
    const DEFAULT_RIGHTS: Rights = Rights::GENERIC;
    type State = Chained;
}

#[test]
fn a_long_chain_of_states_with_handles_ends_without_a_deep_stack() {
    const LENGTH: u64 = 20_000;
    let manager = Arc::new(manager());
    let key = manager.register::<Chain>().unwrap();
    let (process, dropped) = (manager.boot().process, Arc::new(AtomicU64::new(0)));
    let mut next = None;
    for _ in 0..LENGTH {
        let state = Chained { manager: Arc::downgrade(&manager), next, dropped: dropped.clone() };
        next = Some(manager.create_own(NOW, process, &key, state).unwrap());
    }
    manager.call(NOW, process, Call::Close { handle: next.unwrap() }).unwrap();
    assert_eq!(dropped.load(Ordering::Relaxed), LENGTH);
    manager.with(|core| core.audit().unwrap());
}

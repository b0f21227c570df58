//! Threads that make and end objects without the lock: the books are exact, quotas are never passed and never refuse while
//! credit lies idle, and what needs the core gets there.

use kobj_abi::{AskedRights, Era, ErrorCode, Koid, RawHandle, Rights};
use kobj_core::embed::Manager;
use kobj_core::image::Time;
use kobj_core::{BadHandlePolicy, Call, CallAnswer, CallError, Effect, Limits, ObjectType, Resource, TypeKey, What};
use kobj_memory::Spin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

struct Item;

/// How often each hook ran.
#[derive(Default)]
struct Fate {
    closed: AtomicU64,
    destroyed: AtomicU64,
}

impl Fate {
    fn hooks(&self) -> (u64, u64) {
        (self.closed.load(Ordering::Relaxed), self.destroyed.load(Ordering::Relaxed))
    }
}

impl ObjectType for Item {
    const TAG: [u8; 4] = *b"ITEM";
    const NAME: &'static str = "item";
    const DEFAULT_RIGHTS: Rights = Rights::GENERIC;
    type State = Arc<Fate>;

    fn last_close(_: Koid, fate: &Arc<Fate>) {
        fate.closed.fetch_add(1, Ordering::Relaxed);
    }

    fn destroy(_: Koid, fate: &Arc<Fate>) {
        fate.destroyed.fetch_add(1, Ordering::Relaxed);
    }
}

struct Scene {
    manager: Manager<Spin>,
    key: TypeKey<Item>,
    job: RawHandle,
    guest: (RawHandle, Koid),
}

const NOW: Time = Time(0);
const SAME: AskedRights = AskedRights::Same;

impl Scene {
    fn new() -> Self {
        Self::with(Limits { seed: 1, ..Limits::default() })
    }

    fn with(limits: Limits) -> Self {
        let manager = Manager::new(NOW, Era(7), limits).unwrap();
        let key = manager.register::<Item>().unwrap();
        let boot = manager.boot();
        let Ok(CallAnswer::Handle(job)) = manager.call(NOW, boot.process, Call::CreateJob { job: boot.job }) else {
            panic!("no job")
        };
        let guest = match manager.call(NOW, boot.process, Call::CreateGuest { job, inherit: false }).unwrap() {
            CallAnswer::Guest { handle, process } => (handle, process),
            other => panic!("{other:?}"),
        };
        Self { manager, key, job, guest }
    }

    fn limit(&self, resource: Resource, limit: u64) {
        let call = Call::SetQuota { handle: self.job, resource, limit };
        self.manager.call(NOW, self.manager.boot().process, call).unwrap();
    }

    fn used(&self, resource: Resource) -> u64 {
        let me = self.manager.boot().process;
        let Ok(CallAnswer::Info(job)) = self.manager.call(NOW, me, Call::HandleInfo { handle: self.job }) else {
            panic!()
        };
        self.manager.with(|core| core.usage(job.koid, resource)).unwrap().used
    }

    fn live(&self) -> u64 {
        self.manager.with(|core| {
            core.audit().unwrap();
            core.type_info(self.key.number()).unwrap().tally.live
        })
    }
}

#[test]
fn a_thread_makes_duplicates_and_ends_and_the_books_are_exact() {
    let scene = Scene::new();
    let process = scene.guest.1;
    let before = (scene.used(Resource::Objects), scene.used(Resource::Handles), scene.used(Resource::Bytes));
    let mut thread = scene.manager.thread(process, &scene.key).unwrap();
    let fates: Vec<Arc<Fate>> = (0..1000).map(|_| Arc::default()).collect();
    let handles: Vec<_> = fates.iter().map(|fate| thread.create(NOW, fate.clone()).unwrap()).collect();
    assert_eq!(scene.live(), 1000);
    assert_eq!(scene.used(Resource::ObjectsOf(scene.key.number())), 1000, "credit that is not used is not shown");
    for handle in handles {
        let equal = thread.duplicate(NOW, handle, SAME).unwrap();
        thread.close(NOW, handle).unwrap();
        assert_eq!(thread.close(NOW, handle).unwrap_err().code(), ErrorCode::BadHandle);
        thread.close(NOW, equal).unwrap();
    }
    assert_eq!(scene.live(), 0);
    assert!(fates.iter().all(|fate| fate.hooks() == (1, 1) && Arc::strong_count(fate) == 1));
    drop(thread);
    let after = (scene.used(Resource::Objects), scene.used(Resource::Handles), scene.used(Resource::Bytes));
    assert_eq!(before, after);
}

#[test]
fn a_quota_is_exact_across_threads_and_idle_credit_is_called_back() {
    let scene = Scene::new();
    let process = scene.guest.1;
    let others = scene.used(Resource::Objects);
    scene.limit(Resource::Objects, others + 100);
    let mut first = scene.manager.thread(process, &scene.key).unwrap();
    let mut second = scene.manager.thread(process, &scene.key).unwrap();
    // The first has a block of credit and uses one of it; the second gets all the rest.
    let one = first.create(NOW, Arc::default()).unwrap();
    let mut rest: Vec<_> = std::iter::from_fn(|| second.create(NOW, Arc::default()).ok()).collect();
    assert_eq!(rest.len(), 99);
    assert_eq!(first.create(NOW, Arc::default()).unwrap_err().code(), ErrorCode::Quota);
    // What one gives back the other can have.
    second.close(NOW, rest.pop().unwrap()).unwrap();
    first.create(NOW, Arc::default()).unwrap();
    assert_eq!(second.create(NOW, Arc::default()).unwrap_err().code(), ErrorCode::Quota);
    first.close(NOW, one).unwrap();
    assert_eq!(scene.live(), 99);
}

#[test]
fn a_guest_s_own_quota_holds_for_what_its_threads_make() {
    let scene = Scene::new();
    let (me, process) = (scene.manager.boot().process, scene.guest.1);
    let limit = |resource, limit| {
        let call = Call::SetQuota { handle: scene.guest.0, resource, limit };
        scene.manager.call(NOW, me, call).unwrap();
    };
    let made = |by_steps: bool| {
        let mut thread = scene.manager.thread(process, &scene.key).unwrap();
        let mut make = || match by_steps {
            true => scene.manager.create_own(NOW, process, &scene.key, Arc::default()),
            false => thread.create(NOW, Arc::default()),
        };
        let handles: Vec<_> = std::iter::from_fn(|| make().ok()).collect();
        assert_eq!(make().unwrap_err().code(), ErrorCode::Quota);
        handles.iter().for_each(|handle| thread.close(NOW, *handle).unwrap());
        assert_eq!(scene.manager.with(|core| core.usage(process, Resource::Bytes)).unwrap().used, 0);
        handles.len()
    };
    for by_steps in [true, false] {
        limit(Resource::Objects, 2);
        assert_eq!(made(by_steps), 2);
        limit(Resource::Objects, u64::MAX);
        // Each is 128 bytes, and its handle 24. What is scarce may not be lent to and fro without end.
        for room in [151, 152, 303, 304, 1000] {
            limit(Resource::Bytes, room);
            assert_eq!(made(by_steps) as u64, room / 152, "{room} bytes");
        }
        limit(Resource::Bytes, u64::MAX);
    }
}

#[test]
fn what_needs_the_core_gets_there() {
    let scene = Scene::new();
    let boot = scene.manager.boot();
    let mut thread = scene.manager.thread(boot.process, &scene.key).unwrap();
    let named = thread.create(NOW, Arc::default()).unwrap();
    let link = Call::Link { directory: boot.directory, name: b"item", handle: named, most: SAME, permanent: false };
    scene.manager.call(NOW, boot.process, link).unwrap();
    let open = Call::Open { directory: boot.directory, path: b"item", rights: SAME, expected: None, follow: true };
    let Ok(CallAnswer::Handle(opened)) = scene.manager.call(NOW, boot.process, open) else { panic!("not found") };
    thread.close(NOW, named).unwrap();
    assert_eq!(scene.live(), 1);
    thread.close(NOW, opened).unwrap();
    assert_eq!(scene.live(), 0);
    assert_eq!(scene.manager.call(NOW, boot.process, open).unwrap_err().code(), ErrorCode::NotFound);
    // A derived handle, and one of another type.
    let item = thread.create(NOW, Arc::default()).unwrap();
    let Ok(CallAnswer::Handle(derived)) =
        scene.manager.call(NOW, boot.process, Call::Derive { handle: item, rights: SAME })
    else {
        panic!("not derived")
    };
    let equal = thread.duplicate(NOW, derived, SAME).unwrap();
    scene.manager.call(NOW, boot.process, Call::Revoke { handle: item }).unwrap();
    for handle in [derived, equal] {
        assert_eq!(thread.close(NOW, handle).unwrap_err().code(), ErrorCode::BadHandle);
    }
    let job = thread.duplicate(NOW, scene.job, SAME).unwrap();
    thread.close(NOW, job).unwrap();
    thread.close(NOW, item).unwrap();
    assert_eq!(scene.live(), 0);
}

#[test]
fn hooks_run_once_where_the_last_handle_of_what_another_job_pays_for_is_closed() {
    let scene = Scene::new();
    let me = scene.manager.boot().process;
    let mut maker = scene.manager.thread(me, &scene.key).unwrap();
    let mut closer = scene.manager.thread(scene.guest.1, &scene.key).unwrap();
    let fate = Arc::new(Fate::default());
    let made = maker.create(NOW, fate.clone()).unwrap();
    let moved = scene.manager.transfer(NOW, me, made, scene.guest.1, SAME).unwrap();
    let equal = closer.duplicate(NOW, moved, SAME).unwrap();
    closer.close(NOW, moved).unwrap();
    assert_eq!(fate.hooks(), (0, 0));
    closer.close(NOW, equal).unwrap();
    assert_eq!((fate.hooks(), Arc::strong_count(&fate)), ((1, 1), 1));
    assert_eq!(scene.live(), 0);
    // Made and closed by one thread, but charged to another job meanwhile.
    let fate = Arc::new(Fate::default());
    let made = maker.create(NOW, fate.clone()).unwrap();
    let (from, to) = (scene.manager.boot().job, scene.job);
    scene.manager.call(NOW, me, Call::Recharge { handle: made, from, to }).unwrap();
    maker.close(NOW, made).unwrap();
    assert_eq!((fate.hooks(), Arc::strong_count(&fate)), ((1, 1), 1));
    assert_eq!(scene.live(), 0);
}

#[test]
fn a_killed_process_s_thread_makes_nothing_more() {
    let scene = Scene::new();
    let boot = scene.manager.boot();
    let mut thread = scene.manager.thread(scene.guest.1, &scene.key).unwrap();
    let handle = thread.create(NOW, Arc::default()).unwrap();
    scene.manager.call(NOW, boot.process, Call::Kill { handle: scene.guest.0 }).unwrap();
    while scene.manager.go_on() {}
    assert_eq!(thread.create(NOW, Arc::default()).unwrap_err().code(), ErrorCode::Dying);
    assert!(thread.close(NOW, handle).is_err());
    assert_eq!(scene.live(), 0);
    drop(thread);
    scene.manager.with(|core| core.audit().unwrap());
}

#[test]
fn the_policy_hears_of_bad_handles_that_are_looked_at() {
    let scene = Scene::new();
    let (me, process) = (scene.manager.boot().process, scene.guest.1);
    let policy = Call::SetBadHandlePolicy { job: scene.job, policy: BadHandlePolicy::Kill };
    scene.manager.call(NOW, me, policy).unwrap();
    let table = scene.manager.table(process).unwrap();
    let handle = scene.manager.create_own(NOW, process, &scene.key, Arc::default()).unwrap();
    drop(scene.manager.lookup(process, &table, handle, None, Rights::NONE).unwrap());
    scene.manager.call(NOW, process, Call::Close { handle }).unwrap();
    let refused = scene.manager.lookup(process, &table, handle, None, Rights::NONE).unwrap_err();
    assert_eq!(refused, CallError::BadHandle { handle });
    assert_eq!(scene.manager.next_effect(), Some(Effect::BadHandle { process, handle, times: 1 }));
    let call = Call::Create { what: What::Directory };
    assert_eq!(scene.manager.call(NOW, process, call).unwrap_err().code(), ErrorCode::Dying);
}

#[test]
fn two_objects_of_threads_are_excused() {
    let scene = Scene::new();
    let process = scene.guest.1;
    let mut thread = scene.manager.thread(process, &scene.key).unwrap();
    let koids: Vec<_> = (0..3)
        .map(|_| {
            let handle = thread.create(NOW, Arc::default()).unwrap();
            let call = Call::HandleInfo { handle };
            let Ok(CallAnswer::Info(info)) = scene.manager.call(NOW, process, call) else { panic!("no info") };
            info.koid
        })
        .collect();
    scene.manager.with(|core| {
        core.excuse(koids[0]).unwrap();
        core.excuse(koids[1]).unwrap();
        let excused = |koid: &Koid| core.census().unwrap().iter().any(|it| it.koid == *koid && it.is_excused);
        assert_eq!(koids.iter().map(excused).collect::<Vec<_>>(), [true, true, false]);
    });
}

#[test]
fn a_killed_job_s_threads_make_nothing_more_from_that_step_on() {
    // One unit of work: the guest itself has not been come to yet.
    let scene = Scene::with(Limits { seed: 1, work_per_step: 1, ..Limits::default() });
    let me = scene.manager.boot().process;
    let mut thread = scene.manager.thread(scene.guest.1, &scene.key).unwrap();
    thread.create(NOW, Arc::default()).unwrap();
    scene.manager.call(NOW, me, Call::Kill { handle: scene.job }).unwrap();
    assert_eq!(thread.create(NOW, Arc::default()).unwrap_err().code(), ErrorCode::Dying);
    assert_eq!(scene.live(), 1);
    while scene.manager.go_on() {}
    assert_eq!(scene.live(), 0);
}

#[test]
fn a_leased_object_is_found_by_its_koid() {
    let scene = Scene::new();
    let boot = scene.manager.boot();
    let mut thread = scene.manager.thread(boot.process, &scene.key).unwrap();
    let handle = thread.create(NOW, Arc::default()).unwrap();
    let Ok(CallAnswer::Info(info)) = scene.manager.call(NOW, boot.process, Call::HandleInfo { handle }) else {
        panic!()
    };
    let why = scene.manager.with(|core| core.why(info.koid)).unwrap();
    assert_eq!(why.chain[0].0, boot.process);
    thread.close(NOW, handle).unwrap();
    assert!(scene.manager.with(|core| core.why(info.koid)).is_err());
}

#[test]
fn threads_race_with_a_quota_a_kill_and_each_other() {
    for seed in 0..20_u64 {
        let scene = Scene::new();
        let boot = scene.manager.boot();
        scene.limit(Resource::Objects, scene.used(Resource::Objects) + 40);
        std::thread::scope(|scope| {
            for worker in 0..2_u64 {
                let scene = &scene;
                scope.spawn(move || {
                    // The kill may come first.
                    let Ok(mut thread) = scene.manager.thread(scene.guest.1, &scene.key) else { return };
                    let mut held = Vec::new();
                    let mut random = seed * 2 + worker + 1;
                    for _ in 0..2000 {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        match (random >> 33) % 4 {
                            0 | 1 => match thread.create(NOW, Arc::default()) {
                                Ok(handle) => held.push(handle),
                                Err(error) => {
                                    let code = error.code();
                                    assert!(
                                        matches!(code, ErrorCode::Quota | ErrorCode::Dying),
                                        "seed {seed}: {error}"
                                    );
                                }
                            },
                            2 => held.extend(held.last().and_then(|last| thread.duplicate(NOW, *last, SAME).ok())),
                            _ => drop(held.pop().map(|handle| thread.close(NOW, handle))),
                        }
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..50 {
                    assert!(scene.used(Resource::Objects) <= 42, "seed {seed}: the quota is passed");
                }
                if seed % 2 == 0 {
                    scene.manager.call(NOW, boot.process, Call::Kill { handle: scene.guest.0 }).unwrap();
                }
            });
        });
        if seed % 2 == 1 {
            scene.manager.call(NOW, boot.process, Call::Kill { handle: scene.guest.0 }).unwrap();
        }
        while scene.manager.go_on() {}
        assert_eq!(scene.live(), 0, "seed {seed}");
    }
}

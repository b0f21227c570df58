//! Users' own types through the manager: made, read, closed, and their hooks.

use kobj_abi::{AskedRights, Era, ErrorCode, Koid, RawHandle, Rights};
use kobj_core::embed::Manager;
use kobj_core::image::Time;
use kobj_core::{Call, CallAnswer, CallError, Limits, ObjectType, Refused, Resource, TypeKey};
use kobj_memory::Spin;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// Says in order what happened to an object.
struct Diary;

struct Page {
    value: u32,
    written: Arc<Mutex<Vec<&'static str>>>,
}

impl Drop for Page {
    fn drop(&mut self) {
        self.written.lock().unwrap().push("dropped");
    }
}

impl ObjectType for Diary {
    const TAG: [u8; 4] = *b"DIAR";
    const NAME: &'static str = "diary";
    const DEFAULT_RIGHTS: Rights = Rights::GENERIC;
    type State = Page;

    fn create(page: &Page) -> Result<(), Refused> {
        if page.value == 13 { Err(Refused) } else { Ok(()) }
    }

    fn last_close(_: Koid, page: &Page) {
        page.written.lock().unwrap().push("closed");
    }

    fn destroy(_: Koid, page: &Page) {
        page.written.lock().unwrap().push("destroyed");
    }
}

struct Scene {
    manager: Manager<Spin>,
    key: TypeKey<Diary>,
    written: Arc<Mutex<Vec<&'static str>>>,
}

impl Scene {
    fn new() -> Self {
        let manager = Manager::new(Time(0), Era(7), Limits { seed: 1, ..Limits::default() }).unwrap();
        let key = manager.register::<Diary>().unwrap();
        Self { manager, key, written: Arc::default() }
    }

    fn create(&self, value: u32) -> Result<RawHandle, CallError> {
        let page = Page { value, written: self.written.clone() };
        self.manager.create_own(Time(0), self.manager.boot().process, &self.key, page)
    }

    fn call(&self, call: Call<'_>) -> Result<CallAnswer, CallError> {
        let answer = self.manager.call(Time(0), self.manager.boot().process, call);
        self.manager.with(|core| core.audit().unwrap());
        answer
    }

    fn live(&self) -> u64 {
        self.manager.with(|core| core.type_info(self.key.number()).unwrap().tally.live)
    }

    fn written(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.written.lock().unwrap())
    }
}

#[test]
fn hooks_run_once_each_in_their_order() {
    let scene = Scene::new();
    let first = scene.create(1).unwrap();
    let CallAnswer::Handle(second) = scene.call(Call::Duplicate { handle: first, rights: AskedRights::Same }).unwrap()
    else {
        panic!("no handle")
    };
    scene.call(Call::Close { handle: first }).unwrap();
    assert_eq!((scene.written(), scene.live()), (vec![], 1));
    scene.call(Call::Close { handle: second }).unwrap();
    assert_eq!((scene.written(), scene.live()), (vec!["closed", "destroyed", "dropped"], 0));
}

#[test]
fn a_permanent_name_keeps_the_object_after_its_last_close() {
    let scene = Scene::new();
    let handle = scene.create(1).unwrap();
    let directory = scene.manager.boot().directory;
    let link = Call::Link { directory, name: b"diary", handle, most: AskedRights::Same, permanent: true };
    scene.call(link).unwrap();
    scene.call(Call::Close { handle }).unwrap();
    assert_eq!((scene.written(), scene.live()), (vec!["closed"], 1));
    let open = Call::Open {
        directory,
        path: b"diary",
        rights: AskedRights::Same,
        expected: Some(scene.key.number()),
        follow: true,
    };
    let CallAnswer::Handle(handle) = scene.call(open).unwrap() else { panic!("no handle") };
    scene.call(Call::Unlink { directory, name: b"diary" }).unwrap();
    assert_eq!((scene.written(), scene.live()), (vec![], 1));
    scene.call(Call::Close { handle }).unwrap();
    assert_eq!((scene.written(), scene.live()), (vec!["closed", "destroyed", "dropped"], 0));
}

#[test]
fn a_charge_of_a_users_object_moves_from_the_job_that_pays_for_it_and_from_no_other() {
    let scene = Scene::new();
    let handle = scene.create(1).unwrap();
    let from = scene.manager.boot().job;
    let CallAnswer::Handle(to) = scene.call(Call::CreateJob { job: from }).unwrap() else { panic!("no handle") };
    let CallAnswer::Info(info) = scene.call(Call::HandleInfo { handle: to }).unwrap() else { panic!("no info") };
    let diaries = Resource::ObjectsOf(scene.key.number());
    let used = || scene.manager.with(|core| core.usage(info.koid, diaries).unwrap().used);
    let elsewhere = scene.call(Call::Recharge { handle, from: to, to: from });
    assert!(matches!(elsewhere, Err(CallError::ChargedElsewhere { .. })), "{elsewhere:?}");
    assert_eq!(used(), 0);
    assert_eq!(scene.call(Call::Recharge { handle, from, to }), Ok(CallAnswer::Done));
    assert_eq!(used(), 1);
    scene.call(Call::Close { handle }).unwrap();
    assert_eq!(used(), 0);
}

#[test]
fn a_create_hook_that_refuses_leaves_nothing() {
    let scene = Scene::new();
    assert_eq!(scene.create(13).unwrap_err().code(), ErrorCode::BadArgument);
    assert_eq!((scene.written(), scene.live()), (vec!["dropped"], 0));
    scene.manager.with(|core| core.audit().unwrap());
}

#[test]
fn a_killed_guest_s_objects_have_their_hooks_run() {
    let scene = Scene::new();
    let boot = scene.manager.boot();
    let CallAnswer::Guest { handle, process } =
        scene.call(Call::CreateGuest { job: boot.job, inherit: false }).unwrap()
    else {
        panic!("no guest")
    };
    for value in 0..3 {
        let page = Page { value, written: scene.written.clone() };
        scene.manager.create_own(Time(0), process, &scene.key, page).unwrap();
    }
    scene.call(Call::Kill { handle }).unwrap();
    while scene.manager.go_on() {}
    assert_eq!((scene.written().len(), scene.live()), (9, 0));
}

#[test]
fn what_the_manager_s_end_leaves_is_named_and_dropped() {
    let scene = Scene::new();
    scene.create(1).unwrap();
    let written = scene.written.clone();
    drop(scene);
    assert_eq!(*written.lock().unwrap(), ["closed", "destroyed", "dropped"], "as whatever ends");
}

#[test]
fn letters_are_one_type_s() {
    struct Twin;
    impl ObjectType for Twin {
        const TAG: [u8; 4] = *b"DIAR";
        const NAME: &'static str = "twin";
        const DEFAULT_RIGHTS: Rights = Rights::NONE;
        type State = u64;
    }
    struct Builtin;
    impl ObjectType for Builtin {
        const TAG: [u8; 4] = *b"JOB_";
        const NAME: &'static str = "false job";
        const DEFAULT_RIGHTS: Rights = Rights::NONE;
        type State = u64;
    }
    let scene = Scene::new();
    assert!(scene.manager.register::<Twin>().is_err());
    assert!(scene.manager.register::<Builtin>().is_err());
}

/// The hook of a type that panics: its object has ended nevertheless, is counted, and the manager goes on.
#[test]
fn a_hook_that_panics_leaves_the_object_destroyed_and_counted() {
    struct Bomb;
    static DROPPED: AtomicU32 = AtomicU32::new(0);
    struct Fuse;
    impl Drop for Fuse {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
    impl ObjectType for Bomb {
        const TAG: [u8; 4] = *b"BOMB";
        const NAME: &'static str = "bomb";
        const DEFAULT_RIGHTS: Rights = Rights::GENERIC;
        type State = Fuse;

        fn destroy(_: Koid, _: &Fuse) {
            panic!("the hook of a type");
        }
    }
    let scene = Scene::new();
    let key = scene.manager.register::<Bomb>().unwrap();
    let process = scene.manager.boot().process;
    let handle = scene.manager.create_own(Time(0), process, &key, Fuse).unwrap();
    let close = AssertUnwindSafe(|| scene.manager.call(Time(0), process, Call::Close { handle }));
    assert!(catch_unwind(close).is_err());
    assert_eq!(DROPPED.load(Ordering::Relaxed), 1);
    scene.manager.with(|core| {
        core.audit().unwrap();
        assert_eq!((core.panicked_hooks(), core.type_info(key.number()).unwrap().tally.live), (1, 0));
    });
    let handle = scene.create(1).unwrap();
    scene.call(Call::Close { handle }).unwrap();
    assert_eq!(scene.written().len(), 3);
}

#[test]
fn each_of_many_objects_is_found_by_its_id() {
    let scene = Scene::new();
    let directory = scene.manager.boot().directory;
    for value in 100..1_300 {
        let handle = scene.create(value).unwrap();
        let name = value.to_string();
        let link = Call::Link { directory, name: name.as_bytes(), handle, most: AskedRights::Same, permanent: false };
        scene.manager.call(Time(0), scene.manager.boot().process, link).unwrap();
        let info = Call::HandleInfo { handle };
        let Ok(CallAnswer::Info(info)) = scene.manager.call(Time(0), scene.manager.boot().process, info) else {
            panic!("no object")
        };
        let named = scene.manager.with(|core| core.name_of(info.koid)).unwrap();
        assert_eq!(named.1.name.as_bytes(), name.as_bytes());
        let close = Call::Close { handle };
        scene.manager.call(Time(0), scene.manager.boot().process, close).unwrap();
        assert_eq!(scene.manager.with(|core| core.name_of(info.koid)), None);
    }
    assert_eq!(scene.live(), 0);
}

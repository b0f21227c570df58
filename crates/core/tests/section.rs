//! Sections through the manager, on the heap: made whole or not at all, mapped, shared, and gone with their last view.

use kobj_abi::section::{Access, Part, ViewError};
use kobj_abi::{AskedRights, Era, ErrorCode, Koid, ObjectType, RawHandle, Rights};
use kobj_core::embed::{Manager, Mapped};
use kobj_core::image::Time;
use kobj_core::platform::{Heap, HeapView, Platform, PlatformError, View, ViewId};
use kobj_core::{Boot, Call, CallAnswer, CallError, Limits, Resource, SectionName, SectionRequest, What};
use kobj_memory::Spin;
use std::cell::Cell;
use std::sync::Mutex;

const NOW: Time = Time(0);
const SAME: AskedRights = AskedRights::Same;

thread_local! {
    /// How many more calls of the platform succeed before one fails.
    static CALLS_LEFT: Cell<u32> = const { Cell::new(u32::MAX) };
}

/// Fails at one call, as the heap with no memory and a process with no descriptor would.
fn fails() -> Result<(), PlatformError> {
    match CALLS_LEFT.get() {
        u32::MAX => Ok(()),
        0 => {
            CALLS_LEFT.set(u32::MAX);
            Err(PlatformError::TooMany)
        }
        left => {
            CALLS_LEFT.set(left - 1);
            Ok(())
        }
    }
}

type Act = Box<dyn FnOnce() + Send>;

/// The heap, failing where it is told to, and with something done between the steps of a call.
struct Faulty {
    heap: Heap,
    between: Mutex<Option<Act>>,
}

impl Faulty {
    fn between(&self) {
        let act = self.between.lock().unwrap().take();
        if let Some(act) = act {
            act();
        }
    }
}

impl Platform for Faulty {
    type View = HeapView;

    fn take_room(&self, size_bytes: u64) -> Result<(), PlatformError> {
        fails()?;
        self.heap.take_room(size_bytes)
    }

    fn create_memory(&self, section: Koid, size_bytes: u64, lazy: bool) -> Result<(), PlatformError> {
        fails()?;
        self.heap.create_memory(section, size_bytes, lazy)?;
        self.between();
        Ok(())
    }

    fn map(&self, section: Koid, view: ViewId, part: Part, access: Access) -> Result<HeapView, PlatformError> {
        fails()?;
        let view = self.heap.map(section, view, part, access)?;
        self.between();
        Ok(view)
    }

    fn unmap(&self, view: ViewId) {
        self.heap.unmap(view);
    }

    fn destroy_memory(&self, section: Koid) {
        self.heap.destroy_memory(section);
    }
}

/// A manager with two guests in a job of their own.
struct Scene {
    manager: &'static Manager<Spin, Faulty>,
    boot: Boot,
    job: RawHandle,
    guests: [(RawHandle, Koid); 2],
}

impl Scene {
    fn new() -> Self {
        let platform = Faulty { heap: Heap::new(1 << 20), between: Mutex::new(None) };
        let limits = Limits { seed: 1, ..Limits::default() };
        let manager = Manager::with_platform(NOW, Era(7), limits, platform).unwrap();
        // Lives as long as what is done between the steps.
        let manager: &'static Manager<Spin, Faulty> = Box::leak(Box::new(manager));
        let boot = manager.boot();
        let CallAnswer::Handle(job) = manager.call(NOW, boot.process, Call::CreateJob { job: boot.job }).unwrap()
        else {
            panic!("no job")
        };
        let guests =
            [(); 2].map(|()| match manager.call(NOW, boot.process, Call::CreateGuest { job, inherit: false }) {
                Ok(CallAnswer::Guest { handle, process }) => (handle, process),
                other => panic!("{other:?}"),
            });
        Self { manager, boot, job, guests }
    }

    fn create(&self, process: Koid, size_bytes: u64) -> Result<RawHandle, CallError> {
        self.checked(self.manager.create_section(NOW, process, SectionRequest { size_bytes, lazy: false }))
    }

    fn map(&self, process: Koid, handle: RawHandle, part: Part) -> Result<Mapped<HeapView>, CallError> {
        self.checked(self.manager.map(process, handle, part, Access::ReadWrite))
    }

    fn call(&self, process: Koid, call: Call<'_>) -> Result<CallAnswer, CallError> {
        self.checked(self.manager.call(NOW, process, call))
    }

    fn handle(&self, process: Koid, call: Call<'_>) -> RawHandle {
        match self.call(process, call) {
            Ok(CallAnswer::Handle(handle)) => handle,
            other => panic!("{other:?}"),
        }
    }

    fn checked<T>(&self, result: T) -> T {
        self.manager.with(|core| core.audit()).unwrap();
        result
    }

    fn settle(&self) {
        while self.manager.go_on() {}
        self.checked(());
    }

    fn counts(&self) -> (usize, usize) {
        self.manager.platform().heap.counts()
    }

    fn live(&self) -> u64 {
        self.manager.with(|core| core.balance().of(ObjectType::Section).live)
    }

    /// Everything that a refusal must leave as it was.
    fn all(&self) -> (u64, (usize, usize), u64, u64) {
        let charged = self.manager.with(|core| core.balance().charge_bytes);
        let handles = self.manager.with(|core| core.live());
        (self.live(), self.counts(), charged, handles.into())
    }

    fn between(&self, act: impl FnOnce() + Send + 'static) {
        *self.manager.platform().between.lock().unwrap() = Some(Box::new(act));
    }

    fn end(self) {
        self.manager.with(|core| core.shut_down());
        assert_eq!((self.live(), self.counts()), (0, (0, 0)));
        self.checked(());
    }
}

fn part(offset_bytes: u64, size_bytes: u64) -> Part {
    Part { offset_bytes, size_bytes }
}

fn code<T: core::fmt::Debug>(refused: Result<T, CallError>) -> ErrorCode {
    refused.unwrap_err().code()
}

fn bytes(view: &HeapView, offset: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    view.read(offset, &mut bytes).unwrap();
    bytes
}

#[test]
fn two_guests_see_each_others_bytes_and_the_memory_goes_with_the_last_view() {
    let scene = Scene::new();
    let [(first_handle, first), (_, second)] = scene.guests;
    let handle = scene.create(first, 100).unwrap();
    let itself = scene.manager.grant(first, second, SAME).unwrap();
    let theirs = scene.handle(first, Call::Duplicate { handle, rights: SAME });
    let theirs = scene.handle(first, Call::Transfer { handle: theirs, process: itself, rights: SAME });
    let mine = scene.map(first, handle, part(0, 100)).unwrap();
    let their = scene.map(second, theirs, part(10, 90)).unwrap();
    mine.view.write(10, b"hello").unwrap();
    assert_eq!(bytes(&their.view, 0, 5), b"hello");
    their.view.write(89, b"!").unwrap();
    assert_eq!(bytes(&mine.view, 99, 1), b"!");
    assert!(their.view.write(90, b"!").is_err() && mine.view.read(0, &mut [0; 101]).is_err());
    // Both handles go, one view ends with its process, the other one keeps the section.
    scene.call(first, Call::Close { handle }).unwrap();
    scene.call(second, Call::Close { handle: theirs }).unwrap();
    assert_eq!((scene.live(), scene.counts()), (1, (1, 2)));
    scene.call(scene.boot.process, Call::Kill { handle: first_handle }).unwrap();
    scene.settle();
    assert_eq!(mine.view.read(0, &mut [0]), Err(ViewError::Unmapped));
    assert_eq!(mine.view.write(0, &[0]), Err(ViewError::Unmapped));
    assert_eq!(bytes(&their.view, 0, 5), b"hello");
    assert_eq!((scene.live(), scene.counts()), (1, (1, 1)));
    scene.manager.unmap(their.id);
    assert_eq!((scene.live(), scene.counts()), (0, (0, 0)));
    scene.manager.unmap(their.id);
    scene.manager.unmap(mine.id);
    scene.end();
}

#[test]
fn parts_that_are_not_within_and_rights_that_are_not_there_are_refused() {
    let scene = Scene::new();
    let me = scene.boot.process;
    assert_eq!(code(scene.create(me, 0)), ErrorCode::BadArgument);
    let handle = scene.create(me, 4096).unwrap();
    for bad in [part(0, 0), part(0, 4097), part(4096, 1), part(u64::MAX, 1), part(1, u64::MAX)] {
        let refused = scene.map(me, handle, bad).unwrap_err();
        assert!(matches!(refused, CallError::BadRange { size_bytes: 4096, .. }), "{refused:?}");
        assert_eq!(refused.code(), ErrorCode::BadArgument);
    }
    let read = AskedRights::Exactly(Rights::MAP_READ);
    let reader = scene.handle(me, Call::Duplicate { handle, rights: read });
    assert_eq!(code(scene.map(me, reader, part(0, 1))), ErrorCode::AccessDenied);
    let view = scene.checked(scene.manager.map(me, reader, part(0, 4096), Access::Read)).unwrap();
    assert_eq!(view.view.write(0, b"x"), Err(ViewError::ReadOnly));
    let write = AskedRights::Exactly(Rights::MAP_WRITE);
    let writer = scene.handle(me, Call::Duplicate { handle, rights: write });
    for access in [Access::Read, Access::ReadWrite] {
        let refused = scene.manager.map(me, writer, part(0, 1), access).unwrap_err();
        assert!(matches!(refused, CallError::AccessDenied { missing: Rights::MAP_READ, .. }), "{refused:?}");
    }
    assert_eq!(code(scene.map(me, scene.job, part(0, 1))), ErrorCode::WrongType);
    scene.end();
}

#[test]
fn what_is_larger_than_the_memory_is_refused_lazily_too() {
    let scene = Scene::new();
    let before = scene.all();
    for size_bytes in [(1 << 20) + 1, 1 << 50, u64::MAX] {
        for lazy in [false, true] {
            let refused = scene.manager.create_section(NOW, scene.boot.process, SectionRequest { size_bytes, lazy });
            assert_eq!(code(refused), ErrorCode::NoMemory, "{size_bytes}");
            assert_eq!(scene.all(), before);
        }
    }
    scene.create(scene.boot.process, 1 << 20).unwrap();
    assert_eq!(code(scene.create(scene.boot.process, 1)), ErrorCode::NoMemory);
    scene.end();
}

#[test]
fn a_platform_that_fails_at_any_call_leaves_nothing() {
    let scene = Scene::new();
    let (_, guest) = scene.guests[0];
    let before = scene.all();
    let mut refused = 0;
    loop {
        CALLS_LEFT.set(refused);
        let made = scene.create(guest, 100);
        if CALLS_LEFT.replace(u32::MAX) != u32::MAX {
            scene.call(guest, Call::Close { handle: made.unwrap() }).unwrap();
            break;
        }
        assert!(matches!(made, Err(CallError::TooManyFiles {})), "{made:?}");
        assert_eq!(scene.all(), before, "refused at call {refused}");
        refused += 1;
    }
    assert_eq!((refused, scene.all()), (2, before));
    let handle = scene.create(guest, 100).unwrap();
    let before = scene.all();
    CALLS_LEFT.set(0);
    let mapped = scene.map(guest, handle, part(0, 1));
    assert!(matches!(mapped, Err(CallError::TooManyFiles {})), "{mapped:?}");
    assert_eq!(scene.all(), before);
    scene.map(guest, handle, part(0, 1)).unwrap();
    scene.end();
}

#[test]
fn a_process_that_is_killed_between_the_steps_gets_nothing() {
    for kill_job in [false, true] {
        for mapping in [false, true] {
            let scene = Scene::new();
            let (victim, guest) = scene.guests[0];
            let (manager, me) = (scene.manager, scene.boot.process);
            // A section that another one has, so that it outlives the job.
            let shared = scene.create(me, 64).unwrap();
            let handle = scene.manager.grant(me, guest, SAME).unwrap();
            let copy = scene.handle(me, Call::Duplicate { handle: shared, rights: SAME });
            let theirs = scene.handle(me, Call::Transfer { handle: copy, process: handle, rights: SAME });
            let target = if kill_job { scene.job } else { victim };
            scene.between(move || {
                manager.call(NOW, me, Call::Kill { handle: target }).unwrap();
                while manager.go_on() {}
                manager.with(|core| core.audit()).unwrap();
            });
            let refused =
                if mapping { code(scene.map(guest, theirs, part(0, 1))) } else { code(scene.create(guest, 100)) };
            assert_eq!(refused, ErrorCode::Dying);
            scene.settle();
            assert_eq!((scene.live(), scene.counts()), (1, (1, 0)), "job {kill_job}, mapping {mapping}");
            scene.end();
        }
    }
}

#[test]
fn nobody_gets_at_a_section_that_is_being_made() {
    let scene = Scene::new();
    let (manager, me) = (scene.manager, scene.boot.process);
    scene.between(move || {
        let last = manager.with(|core| core.balance().of(ObjectType::Section).live);
        assert_eq!(last, 1);
        // Its number is the next one after those of the manager's own, its job and its guests.
        let found = (1..64).filter_map(|counter| Koid::new(Era(7), counter)).find(|koid| {
            let info = manager.with(|core| core.query(*koid));
            info.is_ok_and(|info| info.object_type == ObjectType::Section)
        });
        assert_eq!(code(manager.grant(me, found.unwrap(), SAME)), ErrorCode::Dying);
    });
    scene.create(me, 100).unwrap();
    scene.end();
}

#[test]
fn a_section_that_somebody_outside_has_mapped_outlives_its_job() {
    let scene = Scene::new();
    let me = scene.boot.process;
    let (_, guest) = scene.guests[0];
    let handle = scene.create(guest, 100).unwrap();
    let itself = scene.manager.grant(guest, me, SAME).unwrap();
    let mine = scene.handle(guest, Call::Transfer { handle, process: itself, rights: SAME });
    let view = scene.map(me, mine, part(0, 100)).unwrap();
    view.view.write(0, b"kept").unwrap();
    scene.call(me, Call::Close { handle: mine }).unwrap();
    scene.call(me, Call::Kill { handle: scene.job }).unwrap();
    scene.settle();
    assert_eq!((bytes(&view.view, 0, 4), scene.live()), (b"kept".to_vec(), 1));
    let books = scene.manager.with(|core| *core.job_balance(scene.boot.root_job).unwrap());
    assert_eq!(books.of(ObjectType::Section).taken_over, 1);
    scene.manager.unmap(view.id);
    assert_eq!((scene.live(), scene.counts()), (0, (0, 0)));
    scene.end();
}

#[test]
fn many_views_of_one_process_end_with_it_in_bounded_steps() {
    let scene = Scene::new();
    let (victim, guest) = scene.guests[0];
    let handle = scene.create(guest, 4096).unwrap();
    let views: Vec<_> = (0..1000).map(|at| scene.manager.map(guest, handle, part(at, 1), Access::Read)).collect();
    // Some from the middle, the first and the last end before.
    for at in [0, 999, 500, 501] {
        scene.manager.unmap(views[at].as_ref().unwrap().id);
    }
    assert_eq!(scene.counts(), (1, 996));
    scene.call(scene.boot.process, Call::Kill { handle: victim }).unwrap();
    assert!(scene.counts().1 > 0, "not all at once");
    scene.settle();
    assert_eq!((scene.live(), scene.counts()), (0, (0, 0)));
    scene.end();
}

#[test]
fn the_size_is_charged_and_comes_back_exactly() {
    let scene = Scene::new();
    let me = scene.boot.process;
    let (guest_handle, guest) = scene.guests[0];
    let job = match scene.call(me, Call::HandleInfo { handle: scene.job }) {
        Ok(CallAnswer::Info(info)) => info.koid,
        other => panic!("{other:?}"),
    };
    let used = |koid, resource| scene.manager.with(|core| core.usage(koid, resource).unwrap().used);
    let (before, handles) = (used(job, Resource::Bytes), used(guest, Resource::Handles));
    let handle = scene.create(guest, 10_000).unwrap();
    let with_section = used(job, Resource::Bytes);
    assert!((before + 10_000..before + 10_500).contains(&with_section), "{before}, then {with_section}");
    let view = scene.map(guest, handle, part(0, 1)).unwrap();
    assert!(used(guest, Resource::Bytes) < used(job, Resource::Bytes) && used(job, Resource::Bytes) > with_section);
    scene.manager.unmap(view.id);
    assert_eq!(used(job, Resource::Bytes), with_section);
    // The quota is asked before the memory, and both before anything is made.
    let limit = with_section + 10_000;
    scene.call(me, Call::SetQuota { handle: scene.job, resource: Resource::Bytes, limit }).unwrap();
    let all = scene.all();
    for size_bytes in [10_000, 1 << 50] {
        let refused = scene.create(guest, size_bytes).unwrap_err();
        assert!(matches!(refused, CallError::Quota { resource: Resource::Bytes, .. }), "{refused:?}");
    }
    assert_eq!((scene.all(), used(guest, Resource::Handles)), (all, handles + 1));
    // Another job takes all of the charge over.
    let inner = scene.handle(me, Call::CreateJob { job: scene.boot.job });
    let itself = scene.manager.grant(guest, me, SAME).unwrap();
    let mine = scene.handle(guest, Call::Transfer { handle, process: itself, rights: SAME });
    scene.call(guest, Call::Close { handle: itself }).unwrap();
    scene.call(me, Call::Recharge { handle: mine, from: scene.job, to: inner }).unwrap();
    assert_eq!((used(job, Resource::Bytes), used(guest, Resource::Handles)), (before, handles));
    scene.call(me, Call::Close { handle: mine }).unwrap();
    scene.call(me, Call::Kill { handle: guest_handle }).unwrap();
    scene.end();
}

#[test]
fn every_refusal_by_a_quota_leaves_nothing() {
    let scene = Scene::new();
    let me = scene.boot.process;
    let (guest_handle, guest) = scene.guests[0];
    let used = |resource| scene.manager.with(|core| core.usage(guest, resource).unwrap().used);
    let handle = scene.create(guest, 8).unwrap();
    let section = Resource::ObjectsOf(ObjectType::Section.number());
    for resource in [Resource::Handles, Resource::Objects, section, Resource::Bytes] {
        let before = (scene.all(), used(resource));
        scene.call(me, Call::SetQuota { handle: guest_handle, resource, limit: before.1 }).unwrap();
        assert_eq!(code(scene.create(guest, 8)), ErrorCode::Quota, "{resource:?}");
        assert_eq!((scene.all(), used(resource)), before);
        if resource == Resource::Bytes {
            assert_eq!(code(scene.map(guest, handle, part(0, 1))), ErrorCode::Quota);
            assert_eq!((scene.all(), used(resource)), before);
        }
        scene.call(me, Call::SetQuota { handle: guest_handle, resource, limit: u64::MAX }).unwrap();
    }
    scene.end();
}

// Under a name

impl Scene {
    fn named(
        &self,
        process: Koid,
        directory: RawHandle,
        name: &[u8],
        size_bytes: u64,
        exclusive: bool,
    ) -> Result<(RawHandle, bool), CallError> {
        let name = SectionName { directory, name, rights: SAME, exclusive };
        let request = SectionRequest { size_bytes, lazy: false };
        self.checked(self.manager.open_or_create_section(NOW, process, name, request))
    }

    /// Another handle to the root directory, in a guest's table.
    fn root_of(&self, guest: Koid) -> RawHandle {
        let root = self.koid(self.boot.process, self.boot.directory);
        self.manager.grant(guest, root, SAME).unwrap()
    }

    fn koid(&self, process: Koid, handle: RawHandle) -> Koid {
        match self.call(process, Call::HandleInfo { handle }) {
            Ok(CallAnswer::Info(info)) => info.koid,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_section_is_opened_or_made_under_a_name() {
    let scene = Scene::new();
    let guest = scene.guests[0].1;
    let (me, root, theirs) = (scene.boot.process, scene.boot.directory, scene.root_of(guest));
    let (first, created) = scene.named(me, root, b"frames", 100, false).unwrap();
    let (second, again) = scene.named(guest, theirs, b"frames", 7, false).unwrap();
    assert_eq!((created, again), (true, false));
    assert_eq!(scene.koid(me, first), scene.koid(guest, second));
    assert_eq!((scene.live(), scene.counts()), (1, (1, 0)), "one section, of the first one's size");
    scene.map(guest, second, part(0, 100)).unwrap();
    let before = scene.all();
    let taken = scene.koid(me, first);
    assert_eq!(scene.named(me, root, b"frames", 100, true), Err(CallError::NameExists { koid: taken }));
    assert_eq!(scene.named(me, root, b"a/b", 100, false), Err(CallError::BadName { bytes: 3 }));
    assert_eq!(code(scene.named(me, root, b"frames", 0, false)), ErrorCode::BadArgument);
    assert_eq!(code(scene.named(me, root, b"large", 1 << 40, false)), ErrorCode::NoMemory);
    assert_eq!(code(scene.named(me, first, b"frames", 1, false)), ErrorCode::WrongType);
    let directory = scene.handle(me, Call::Create { what: What::Directory });
    let most = SAME;
    scene.call(me, Call::Link { directory: root, name: b"inner", handle: directory, most, permanent: false }).unwrap();
    assert!(matches!(scene.named(me, root, b"inner", 1, false), Err(CallError::UnexpectedType { .. })));
    scene.call(me, Call::Close { handle: directory }).unwrap();
    assert_eq!(scene.all(), before);
    // The name is temporary, and a larger section than there is room for is opened all the same.
    assert!(!scene.named(me, root, b"frames", 1 << 40, false).unwrap().1);
    scene.call(me, Call::Kill { handle: scene.guests[0].0 }).unwrap();
    scene.end();
}

#[test]
fn of_two_who_make_a_section_at_once_the_second_opens_the_firsts() {
    for exclusive in [false, true] {
        let scene = Scene::new();
        let (manager, guest) = (scene.manager, scene.guests[0].1);
        let (me, root, theirs) = (scene.boot.process, scene.boot.directory, scene.root_of(guest));
        let name = move |directory, exclusive| SectionName { directory, name: b"x", rights: SAME, exclusive };
        scene.between(move || {
            let request = SectionRequest { size_bytes: 200, lazy: false };
            let quicker = manager.open_or_create_section(NOW, guest, name(theirs, true), request);
            assert!(quicker.unwrap().1, "nobody has it yet");
        });
        let slower = scene.named(me, root, b"x", 100, exclusive);
        scene.settle();
        assert_eq!((scene.live(), scene.counts()), (1, (1, 0)), "one is left, and its memory");
        match slower {
            Ok((handle, created)) => {
                assert!(!exclusive && !created);
                scene.map(me, handle, part(0, 200)).unwrap();
            }
            Err(error) => assert!(exclusive && error.code() == ErrorCode::NameExists, "{error:?}"),
        }
        scene.end();
    }
}

#[test]
fn a_named_section_is_made_whole_or_not_at_all() {
    let scene = Scene::new();
    let (guest_handle, guest) = scene.guests[0];
    let (me, theirs) = (scene.boot.process, scene.root_of(guest));
    let used = |resource| scene.manager.with(|core| core.usage(guest, resource).unwrap().used);
    let before = scene.all();
    for refused in 0..2 {
        CALLS_LEFT.set(refused);
        assert!(matches!(scene.named(guest, theirs, b"x", 100, false), Err(CallError::TooManyFiles {})));
        CALLS_LEFT.set(u32::MAX);
        assert_eq!(scene.all(), before, "refused at call {refused}");
    }
    for resource in [Resource::Handles, Resource::Objects, Resource::Bytes] {
        let limit = used(resource);
        scene.call(me, Call::SetQuota { handle: guest_handle, resource, limit }).unwrap();
        assert_eq!(code(scene.named(guest, theirs, b"x", 8, false)), ErrorCode::Quota, "{resource:?}");
        assert_eq!((scene.all(), used(resource)), (before, limit));
        scene.call(me, Call::SetQuota { handle: guest_handle, resource, limit: u64::MAX }).unwrap();
    }
    // The directory's handle is closed, or the process ended, between the steps.
    let manager = scene.manager;
    scene.between(move || drop(manager.call(NOW, guest, Call::Close { handle: theirs }).unwrap()));
    assert_eq!(code(scene.named(guest, theirs, b"x", 8, false)), ErrorCode::BadHandle);
    let theirs = scene.root_of(guest);
    assert_eq!(scene.all(), before);
    scene.between(move || {
        manager.call(NOW, me, Call::Kill { handle: guest_handle }).unwrap();
        while manager.go_on() {}
    });
    assert_eq!(code(scene.named(guest, theirs, b"x", 8, false)), ErrorCode::Dying);
    scene.settle();
    assert_eq!((scene.live(), scene.counts()), (0, (0, 0)));
    let root = scene.boot.directory;
    let open = Call::Open { directory: root, path: b"x", rights: SAME, expected: None, follow: true };
    assert_eq!(code(scene.call(me, open)), ErrorCode::NotFound);
    scene.end();
}

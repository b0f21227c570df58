//! No memory, at every single allocation: each operation then does nothing, and says so. What takes away allocates
//! nothing.
//!
//! To add an operation: [`at_each_allocation`] with how to make what it works on, the operation, and what must hold
//! after a refusal; or [`without_allocation`] around what must not allocate.
#![forbid(unsafe_code)]

#[path = "allocation/operations.rs"]
mod operations;

use kobj_core::names::{InsertError, Name, Names, RenameError};
use kobj_memory::{Place, RefusingAllocator};
use std::alloc::{Layout, System};
use std::cell::Cell;

#[global_allocator]
static ALLOCATOR: RefusingAllocator<System> = RefusingAllocator::new(System, refuse);

#[derive(Clone, Copy)]
enum Plan {
    Give,
    /// This many more are given, then one is refused, then all are given.
    RefuseAfter(u32),
    /// All are refused, and counted.
    RefuseAll(u32),
}

thread_local! {
    static PLAN: Cell<Plan> = const { Cell::new(Plan::Give) };
}

fn refuse(_: Layout) -> bool {
    let (plan, refused) = match PLAN.get() {
        Plan::Give => (Plan::Give, false),
        Plan::RefuseAfter(0) => (Plan::Give, true),
        Plan::RefuseAfter(more) => (Plan::RefuseAfter(more - 1), false),
        Plan::RefuseAll(count) => (Plan::RefuseAll(count + 1), true),
    };
    PLAN.set(plan);
    refused
}

/// Does an operation with its first allocation refused, then with its second, and so on until none of its allocations
/// is. Each time on something newly made, and then again, now with memory: it must succeed. Gives how many allocations
/// were refused.
fn at_each_allocation<S, T, E>(
    make: impl Fn() -> S,
    operation: impl Fn(&mut S) -> Result<T, E>,
    after_refusal: impl Fn(&S, E),
) -> u32 {
    for given in 0..10_000 {
        let mut state = make();
        PLAN.set(Plan::RefuseAfter(given));
        let result = operation(&mut state);
        let all_given = matches!(PLAN.replace(Plan::Give), Plan::RefuseAfter(_));
        match result {
            Ok(_) if all_given => return given,
            // Refused, and got along: then it did the whole of it.
            Ok(_) => {}
            Err(error) => {
                assert!(!all_given, "an operation fails only where an allocation was refused");
                after_refusal(&state, error);
                assert!(operation(&mut state).is_ok(), "with memory it succeeds, after allocation {given} was refused");
            }
        }
    }
    panic!("an operation takes more allocations than anybody believes");
}

/// Does something that must not allocate. What it asserts is asserted afterwards: a message needs memory.
fn without_allocation<T>(operation: impl FnOnce() -> T) -> T {
    PLAN.set(Plan::RefuseAll(0));
    let result = operation();
    let tried = match PLAN.replace(Plan::Give) {
        Plan::RefuseAll(tried) => tried,
        Plan::Give | Plan::RefuseAfter(_) => 0,
    };
    assert_eq!(tried, 0, "allocations");
    result
}

#[test]
fn the_allocator_refuses_as_planned() {
    let refused = at_each_allocation(
        Vec::<u64>::new,
        |list| {
            list.try_reserve_exact(1)?;
            list.try_reserve_exact(1000)
        },
        |list, _| assert!(list.is_empty()),
    );
    assert_eq!(refused, 2);
    let caught = std::panic::catch_unwind(|| without_allocation(|| Vec::<u8>::new().try_reserve(1).is_err()));
    assert!(caught.is_err(), "an allocation is noticed");
}

mod names {
    use super::*;
    use kobj_abi::Rights;

    const LONG: &[u8] = b"a name that has no room in its entry";

    fn name(bytes: &[u8]) -> Name<'_> {
        Name::new(bytes).unwrap()
    }

    fn place(index: u32) -> Place {
        Place::new(index).unwrap()
    }

    /// A directory with so many names that the next one needs storage of each kind.
    fn filled(count: u32) -> Names {
        let mut names = Names::new([1, 2, 3]);
        names.add_directory(place(0)).unwrap();
        for number in 1..=count {
            let text = format!("{} {number}", str::from_utf8(LONG).unwrap());
            names.insert(place(0), name(text.as_bytes()), place(number), Rights::NONE, false).unwrap();
        }
        names
    }

    /// All that can be seen of the names.
    fn seen(names: &Names) -> Vec<(Vec<u8>, Place)> {
        let mut cursor = 0;
        let next = || {
            let named = names.after(place(0), cursor)?;
            cursor = named.cursor;
            Some((named.name.to_vec(), named.target))
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn a_directory_is_made_or_not() {
        let refused = at_each_allocation(
            || Names::new([1, 2, 3]),
            |names| names.add_directory(place(0)),
            |names, _| assert!(!names.is_directory(place(0))),
        );
        assert_eq!(refused, 3, "the list of pages, a page, a bucket of directories");
    }

    #[test]
    fn a_name_is_given_or_not() {
        let mut most = 0;
        for count in [0, 1, 15, 16, 31, 32, 47, 48, 95, 96, 1023] {
            let refused = at_each_allocation(
                || filled(count),
                |names| names.insert(place(0), name(LONG), place(count + 1), Rights::NONE, true),
                |names, error| {
                    assert_eq!(error, InsertError::NoMemory);
                    assert_eq!((names.len(), names.count(place(0))), (count, count));
                    assert_eq!(seen(names), seen(&filled(count)));
                    assert_eq!(names.name_of(place(count + 1)), None);
                    assert!(names.find(place(0), name(LONG)).is_none());
                },
            );
            most = most.max(refused);
        }
        assert!(most >= 4, "index, entry, name and its pool: {most}");
    }

    #[test]
    fn a_name_is_changed_or_not() {
        let old = [LONG, b" 1"].concat();
        let refused = at_each_allocation(
            || filled(32),
            |names| names.rename(place(0), name(&old), name(LONG)),
            |names, error| {
                assert_eq!(error, RenameError::NoMemory);
                assert_eq!(seen(names), seen(&filled(32)));
                assert_eq!(names.find(place(0), name(&old)).map(|named| named.target), Some(place(1)));
            },
        );
        assert_eq!(refused, 2, "the bytes and their pool");
    }

    #[test]
    fn taking_away_allocates_nothing() {
        let mut names = filled(1000);
        let old = [LONG, b" 500"].concat();
        let done = without_allocation(|| {
            let removed = names.remove(place(0), name(&old)).is_some();
            let taken = names.take(place(7)).is_some();
            let made_permanent = names.set_permanent(place(8), true).is_some();
            let path = names.path(place(9), &mut [0; 100], |_| true).is_ok();
            while names.take_first(place(0)).is_some() {}
            [removed, taken, made_permanent, path, names.remove_directory(place(0)), names.is_empty()]
        });
        assert_eq!(done, [true; 6]);
    }
}

mod calls_on_names {
    use super::*;
    use kobj_abi::{AskedRights, Era, RawHandle};
    use kobj_core::image::Time;
    use kobj_core::{Boot, Call, CallAnswer, CallError, Core, Limits, What};

    const LONG: &[u8] = b"a name that has no room in its entry";
    const SAME: AskedRights = AskedRights::Same;

    struct Scene {
        core: Core,
        boot: Boot,
        /// A directory under its name, and something in it under another.
        directory: RawHandle,
        object: RawHandle,
        /// Without a name.
        other: RawHandle,
    }

    impl Scene {
        fn new() -> Self {
            let mut core = Core::with_limits(Era(7), Limits::default());
            let boot = core.boot(Time(0)).unwrap();
            let mut make = |what| match core.call(Time(0), boot.process, Call::Create { what }) {
                Ok(CallAnswer::Handle(handle)) => handle,
                other => panic!("{other:?}"),
            };
            let directory = make(What::Directory);
            let object = make(What::SymbolicLink { target: LONG });
            let other = make(What::Directory);
            let mut scene = Self { core, boot, directory, object, other };
            for (directory, name, handle) in [(boot.directory, &b"d"[..], directory), (directory, b"o", object)] {
                let call = Call::Link { directory, name, handle, most: SAME, permanent: true };
                scene.call(call).unwrap();
            }
            scene
        }

        fn call(&mut self, call: Call<'_>) -> Result<CallAnswer, CallError> {
            self.core.call(Time(0), self.boot.process, call)
        }

        /// The next object's id needs another page of the index.
        fn at_the_edge() -> Self {
            let mut scene = Self::new();
            while scene.core.balance().rows().map(|(_, tally)| tally.created).sum::<u64>() < 1023 {
                let Ok(CallAnswer::Handle(handle)) = scene.call(Call::Create { what: What::Directory }) else {
                    panic!("no directory")
                };
                scene.call(Call::Close { handle }).unwrap();
            }
            scene
        }

        /// What can be seen: names, handles, the books; and that they agree.
        fn seen(&self) -> String {
            self.core.audit().unwrap();
            let mut paths = String::new();
            for counter in 1..=self.core.balance().rows().map(|(_, tally)| tally.created).sum::<u64>() {
                let koid = kobj_abi::Koid::new(Era(7), counter as u32).unwrap();
                let path = self.core.path(koid, &mut [0; 1000]).map(|(_, path)| path.to_vec());
                paths += &format!("{koid} {path:?} {:?}\n", self.core.query(koid).map(|info| info.references));
            }
            paths
        }
    }

    fn check(call: impl Fn(&Scene) -> Call<'static>, allocations: std::ops::RangeInclusive<u32>) {
        let before = Scene::new().seen();
        let refused = at_each_allocation(
            Scene::new,
            |scene| scene.call(call(scene)),
            |scene, error| {
                assert_eq!(error, CallError::NoMemory {});
                assert_eq!(scene.seen(), before);
            },
        );
        assert!(allocations.contains(&refused), "{refused} allocations");
    }

    #[test]
    fn a_name_is_given_or_not() {
        for permanent in [false, true] {
            let name = |scene: &Scene| Call::Link {
                directory: scene.boot.directory,
                name: LONG,
                handle: scene.other,
                most: SAME,
                permanent,
            };
            check(name, 2..=9);
        }
        let first = |scene: &Scene| Call::Link {
            directory: scene.other,
            name: b"x",
            handle: scene.boot.job,
            most: SAME,
            permanent: true,
        };
        check(first, 0..=9);
    }

    #[test]
    fn a_name_is_changed_or_not() {
        check(|scene| Call::Rename { directory: scene.boot.directory, from: b"d", to: LONG }, 2..=2);
    }

    #[test]
    fn a_name_is_listed_or_not() {
        check(|scene| Call::Enumerate { directory: scene.boot.directory, cursor: 0 }, 1..=1);
    }

    #[test]
    fn a_link_is_read_or_not() {
        check(|scene| Call::ReadLink { handle: scene.object }, 1..=1);
    }

    #[test]
    fn what_there_is_is_opened_or_not() {
        check(
            |scene| Call::Open {
                directory: scene.boot.directory,
                path: b"d/o",
                rights: SAME,
                expected: None,
                follow: false,
            },
            0..=2,
        );
    }

    #[test]
    fn what_is_made_under_a_name_is_made_or_not() {
        let link = What::SymbolicLink { target: LONG };
        let scenes: [fn() -> Scene; 2] = [Scene::new, Scene::at_the_edge];
        for (name, what) in [(LONG, What::Directory), (b"x", What::Directory), (LONG, link)] {
            let refused = scenes.map(|new| {
                at_each_allocation(
                    new,
                    |scene| {
                        let directory = scene.directory;
                        scene.call(Call::OpenOrCreate { directory, name, what, rights: SAME, exclusive: true })
                    },
                    |scene, error| {
                        assert_eq!(error, CallError::NoMemory {});
                        scene.core.audit().unwrap();
                        assert_eq!((scene.core.live(), scene.core.has_work()), (6, false), "nothing was made");
                    },
                )
            });
            assert!(refused[1] > refused[0], "{refused:?}: the index is one of them");
        }
    }

    #[test]
    fn what_takes_names_away_allocates_nothing() {
        let mut scene = Scene::new();
        let (directory, object, other) = (scene.directory, scene.object, scene.other);
        let root = scene.boot.directory;
        scene.call(Call::Link { directory, name: b"other", handle: other, most: SAME, permanent: false }).unwrap();
        let calls = [
            Call::SetPermanent { handle: object, permanent: false },
            Call::Close { handle: other },
            Call::Close { handle: object },
            Call::SetPermanent { handle: directory, permanent: false },
            Call::SetPermanent { handle: directory, permanent: true },
            Call::Close { handle: directory },
            Call::Unlink { directory: root, name: b"d" },
        ];
        let done = without_allocation(|| calls.map(|call| scene.call(call).is_ok()));
        assert_eq!(done, [true; 7]);
        scene.core.audit().unwrap();
        assert_eq!(scene.core.live(), 3, "job, process and the root");
    }
}

mod sections {
    use super::*;
    use kobj_abi::section::{Access, Part};
    use kobj_abi::{AskedRights, Era, Koid, ObjectType, RawHandle};
    use kobj_core::embed::Manager;
    use kobj_core::image::Time;
    use kobj_core::platform::{Heap, HeapView, View};
    use kobj_core::{Call, CallAnswer, CallError, Limits, SectionName, SectionRequest};
    use kobj_memory::Spin;

    const SAME: AskedRights = AskedRights::Same;
    const PART: Part = Part { offset_bytes: 0, size_bytes: 64 };

    struct Scene {
        manager: Manager<Spin, Heap>,
        guest: Koid,
        victim: RawHandle,
        /// The last one of the guest's; a number that is no handle if it has none.
        section: RawHandle,
    }

    impl Scene {
        fn new() -> Self {
            Self::with_sections(1)
        }

        /// So many, that lists of each length are grown.
        fn with_sections(count: u32) -> Self {
            let manager = Manager::with_platform(Time(0), Era(7), Limits::default(), Heap::new(1 << 20)).unwrap();
            let boot = manager.boot();
            let call = Call::CreateGuest { job: boot.job, inherit: false };
            let Ok(CallAnswer::Guest { handle: victim, process: guest }) = manager.call(Time(0), boot.process, call)
            else {
                panic!("no guest")
            };
            let request = SectionRequest { size_bytes: 64, lazy: false };
            let mut section = victim;
            for _ in 0..count {
                section = manager.create_section(Time(0), guest, request).unwrap();
            }
            Self { manager, guest, victim, section }
        }

        fn create(&self, size_bytes: u64) -> Result<RawHandle, CallError> {
            self.manager.create_section(Time(0), self.guest, SectionRequest { size_bytes, lazy: false })
        }

        fn view(&self) -> HeapView {
            self.manager.map(self.guest, self.section, PART, Access::ReadWrite).unwrap().view
        }

        /// Sections, and what the platform has: sections and views; that the books agree.
        fn seen(&self) -> (u64, (usize, usize), u64) {
            self.manager.with(|core| {
                core.audit().unwrap();
                let sections = core.balance().of(ObjectType::Section).live;
                (sections, self.manager.platform().counts(), core.balance().charge_bytes)
            })
        }
    }

    #[test]
    fn a_section_is_made_or_not() {
        let mut most = 0;
        for count in [0, 1, 3, 4, 7, 15, 28, 29, 30, 31, 32, 60] {
            let before = Scene::with_sections(count).seen();
            let refused = at_each_allocation(
                || Scene::with_sections(count),
                |scene| scene.create(100),
                |scene, error| {
                    assert_eq!(error, CallError::NoMemory {});
                    assert_eq!(scene.seen(), before);
                },
            );
            assert!(refused >= 2, "its memory, and what shares it: {refused}");
            most = most.max(refused);
        }
        assert!(most >= 5, "slots, books and lists, too: {most}");
    }

    #[test]
    fn a_section_is_made_under_its_name_or_there_is_neither() {
        let before = Scene::new().seen();
        let open = |scene: &Scene| {
            let (me, directory) = (scene.manager.boot().process, scene.manager.boot().directory);
            let open = Call::Open { directory, path: b"x", rights: SAME, expected: None, follow: true };
            scene.manager.call(Time(0), me, open)
        };
        let refused = at_each_allocation(
            Scene::new,
            |scene| {
                let boot = scene.manager.boot();
                let name = SectionName { directory: boot.directory, name: b"x", rights: SAME, exclusive: false };
                let request = SectionRequest { size_bytes: 100, lazy: false };
                scene.manager.open_or_create_section(Time(0), boot.process, name, request).map(drop)
            },
            |scene, error| {
                assert_eq!(error, CallError::NoMemory {});
                assert_eq!(scene.seen(), before);
                assert!(matches!(open(scene), Err(CallError::NotFound { .. })));
            },
        );
        assert!(refused >= 5, "the section's, and its name's: {refused}");
    }

    #[test]
    fn a_part_is_mapped_or_not() {
        let before = Scene::new().seen();
        let refused = at_each_allocation(
            Scene::new,
            |scene| scene.manager.map(scene.guest, scene.section, PART, Access::Read).map(drop),
            |scene, error| {
                assert_eq!(error, CallError::NoMemory {});
                assert_eq!(scene.seen(), before);
            },
        );
        assert!((3..=8).contains(&refused), "{refused} allocations");
    }

    #[test]
    fn what_is_too_large_allocates_nothing() {
        let scene = Scene::new();
        let refused = without_allocation(|| [1 << 21, 1 << 50, u64::MAX].map(|size_bytes| scene.create(size_bytes)));
        assert_eq!(refused, [Err(CallError::NoMemory {}); 3]);
    }

    #[test]
    fn the_end_of_sections_and_views_allocates_nothing() {
        let scene = Scene::new();
        let views: Vec<HeapView> = (0..100).map(|_| scene.view()).collect();
        let sections: Vec<RawHandle> = (0..100).map(|_| scene.create(8).unwrap()).collect();
        let (first, boot) =
            (scene.manager.map(scene.guest, scene.section, PART, Access::Read).unwrap(), scene.manager.boot());
        without_allocation(|| {
            scene.manager.unmap(first.id);
            let closed = scene.manager.call(Time(0), scene.guest, Call::Close { handle: sections[0] }).is_ok();
            let killed = scene.manager.call(Time(0), boot.process, Call::Kill { handle: scene.victim }).is_ok();
            while scene.manager.go_on() {}
            assert!(closed && killed);
        });
        assert_eq!((scene.seen().0, scene.seen().1), (0, (0, 0)));
        assert!(views.iter().all(|view| view.read(0, &mut [0]).is_err()));
    }
}

/// Where neither a quota nor memory is left, it is the quota that is told of: with memory it would refuse, too.
#[test]
fn a_quota_refuses_before_want_of_memory_does() {
    use kobj_abi::{AskedRights, Era, ErrorCode, Rights};
    use kobj_core::image::Time;
    use kobj_core::{Call, CallAnswer, Core, Limits, ObjectType, Resource, SectionRequest, What};

    struct Item;

    impl ObjectType for Item {
        const TAG: [u8; 4] = *b"ITEM";
        const NAME: &'static str = "item";
        const DEFAULT_RIGHTS: Rights = Rights::GENERIC;
        const HAS_OPEN_HOOKS: bool = true;
        type State = u64;
    }

    const NOW: Time = Time(0);
    const SAME: AskedRights = AskedRights::Same;
    let all_refused = |operation: &mut dyn FnMut() -> ErrorCode| {
        PLAN.set(Plan::RefuseAll(0));
        let code = operation();
        PLAN.set(Plan::Give);
        code
    };
    let mut core = Core::with_limits(Era(7), Limits { seed: 1, ..Limits::default() });
    let key = core.register::<Item>().unwrap();
    let boot = core.boot(NOW).unwrap();
    let me = boot.process;
    let Ok(CallAnswer::Handle(job)) = core.call(NOW, me, Call::CreateJob { job: boot.job }) else { panic!("no job") };
    let create = Call::CreateGuest { job, inherit: false };
    let Ok(CallAnswer::Guest { handle: guest, process }) = core.call(NOW, me, create) else { panic!("no guest") };
    let held = core.create_own(NOW, process, &key, 1).unwrap();
    let directory = {
        let root = core.call(NOW, me, Call::HandleInfo { handle: boot.directory }).unwrap();
        let CallAnswer::Info(root) = root else { panic!("no info") };
        core.grant(process, root.koid, SAME).unwrap()
    };
    for (handle, resource) in [(guest, Resource::Objects), (job, Resource::Objects)] {
        core.call(NOW, me, Call::SetQuota { handle, resource, limit: 0 }).unwrap();
    }
    let link = What::SymbolicLink { target: b"a/path/to/somewhere/else" };
    let named = |what| Call::OpenOrCreate { directory, name: b"x", what, rights: SAME, exclusive: true };
    let calls =
        [Call::Create { what: What::Directory }, Call::Create { what: link }, named(What::Directory), named(link)];
    for call in calls {
        let code = all_refused(&mut || core.call(NOW, process, call).unwrap_err().code());
        assert_eq!(code, ErrorCode::Quota, "{call:?}");
    }
    for call in [Call::CreateJob { job }, create] {
        let code = all_refused(&mut || core.call(NOW, me, call).unwrap_err().code());
        assert_eq!(code, ErrorCode::Quota, "{call:?}");
    }
    assert_eq!(all_refused(&mut || core.create_own(NOW, process, &key, 1).unwrap_err().code()), ErrorCode::Quota);
    let request = SectionRequest { size_bytes: 4096, lazy: false };
    let code = all_refused(&mut || core.begin_section(NOW, process, request, Ok(())).map(drop).unwrap_err().code());
    assert_eq!(code, ErrorCode::Quota);
    // A handle more to what is told of each.
    core.call(NOW, me, Call::SetQuota { handle: guest, resource: Resource::Handles, limit: 0 }).unwrap();
    for call in [Call::Duplicate { handle: held, rights: SAME }, Call::Derive { handle: held, rights: SAME }] {
        let code = all_refused(&mut || core.call(NOW, process, call).unwrap_err().code());
        assert_eq!(code, ErrorCode::Quota, "{call:?}");
    }
    core.audit().unwrap();
}

/// Where a quota has room for what is made, and no more, want of memory is told as that: what was made so far does not count.
#[test]
fn what_a_quota_has_room_for_is_not_refused_for_it() {
    use kobj_abi::{AskedRights, Era, ErrorCode};
    use kobj_core::image::Time;
    use kobj_core::{Call, CallAnswer, Core, Limits, Resource, What};

    const NOW: Time = Time(0);
    const LONG: &[u8] = b"a name that has no room in its entry";
    let make = || {
        let mut core = Core::with_limits(Era(7), Limits { seed: 1, ..Limits::default() });
        let boot = core.boot(NOW).unwrap();
        let Ok(CallAnswer::Handle(job)) = core.call(NOW, boot.process, Call::CreateJob { job: boot.job }) else {
            panic!("no job")
        };
        let used = core.usage(boot.root_job, Resource::Objects).unwrap().used;
        let quota = Call::SetQuota { handle: boot.job, resource: Resource::Objects, limit: used + 1 };
        core.call(NOW, boot.process, quota).unwrap();
        (core, boot, job)
    };
    let link = What::SymbolicLink { target: LONG };
    for which in 0..5 {
        at_each_allocation(
            make,
            |(core, boot, job)| {
                let directory = boot.directory;
                let named = |what| Call::OpenOrCreate {
                    directory,
                    name: LONG,
                    what,
                    rights: AskedRights::Same,
                    exclusive: true,
                };
                let call = match which {
                    0 => Call::Create { what: link },
                    1 => named(What::Directory),
                    2 => named(link),
                    3 => Call::CreateJob { job: *job },
                    _ => Call::CreateGuest { job: *job, inherit: false },
                };
                core.call(NOW, boot.process, call)
            },
            |_, error| assert_eq!(error.code(), ErrorCode::NoMemory, "{which}"),
        );
    }
}

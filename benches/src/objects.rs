//! Group `objects`: the whole manager, with everything on, against what one would take instead.
//!
//! Everything on: a table with rights and generations, the check of the tag in the slab, a user's own type with its hooks, a
//! job with limits on objects, handles and bytes, all of them charged exactly. Times are processor times of the thread, so that
//! what else runs on the machine is not in them (it still takes part of the caches).
//!
//! `objects/create-close*`, `objects/duplicate-close` and `objects/lookup-*` take no lock, `objects/derive-close`,
//! `objects/open-close*` and `objects/traced*` are calls of the core. The rivals keep no rights, no quotas and no tags, except
//! for the kernel's descriptors. What concerns many objects is in `scale.rs`.

use crate::figure::{Figure, Options, Report, Samples};
use hashbrown::HashMap;
use kobj::Hosted;
use kobj_abi::{AskedRights, Era, Koid, RawHandle, Rights};
use kobj_core::embed::{Manager, Thread};
use kobj_core::image::Time;
use kobj_core::{Call, CallAnswer, Limits, ObjectType, Resource, TypeKey, What};
use kobj_memory::{Shared, Table};
use parking_lot::{Mutex, RwLock};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open};
use rustix::time::{ClockId, clock_gettime};
use slotmap::{DefaultKey, SlotMap};
use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::thread;

pub(crate) const GROUP: &str = "objects";
pub(crate) const NOW: Time = Time(0);
pub(crate) const SAME: AskedRights = AskedRights::Same;
const ROUNDS: usize = 101;
const PER_ROUND: usize = 10_000;
/// The kernel's descriptors take longer.
const CALLS_PER_ROUND: usize = 500;
pub(crate) const MANY: usize = 1_000_000;

/// The user's type that is measured.
pub(crate) struct Item;

impl ObjectType for Item {
    const TAG: [u8; 4] = *b"BNCH";
    const NAME: &'static str = "item";
    const DEFAULT_RIGHTS: Rights = Rights::GENERIC;
    type State = [u64; 8];
}

/// A manager with a guest in a job with limits, as an embedder makes it.
pub(crate) struct Scene {
    pub(crate) manager: Manager<Hosted>,
    pub(crate) key: TypeKey<Item>,
    pub(crate) guest: Koid,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let manager = Manager::new(NOW, Era(7), Limits { seed: 1, ..Limits::default() }).expect("memory for a manager");
        let key = manager.register::<Item>().expect("the first type has a number");
        let boot = manager.boot();
        let job = handle_of(manager.call(NOW, boot.process, Call::CreateJob { job: boot.job }));
        let made = manager.call(NOW, boot.process, Call::CreateGuest { job, inherit: false });
        let Ok(CallAnswer::Guest { process: guest, .. }) = made else { panic!("no guest: {made:?}") };
        let limits = [(Resource::Objects, 1 << 25), (Resource::Handles, 1 << 25), (Resource::Bytes, 1 << 34)];
        for (resource, limit) in limits {
            let set = manager.call(NOW, boot.process, Call::SetQuota { handle: job, resource, limit });
            assert!(set.is_ok(), "the job's own maker may limit it: {set:?}");
        }
        Self { manager, key, guest }
    }

    pub(crate) fn thread(&self) -> Thread<'_, Hosted, kobj_core::platform::Heap, Item> {
        self.manager.thread(self.guest, &self.key).expect("the guest lives")
    }

    fn table(&self) -> Shared<Table> {
        self.manager.table(self.guest).expect("the guest lives")
    }

    /// What a lookup finds: pinned, the tag, the type and a right checked.
    #[inline]
    pub(crate) fn koid(&self, table: &Table, handle: RawHandle) -> Option<Koid> {
        let guard = self.manager.lookup(self.guest, table, handle, Some(self.key.number()), Rights::READ);
        guard.ok().map(|guard| guard.koid())
    }
}

pub(crate) type Worker<'m> = Thread<'m, Hosted, kobj_core::platform::Heap, Item>;

pub(crate) fn handle_of(answer: Result<CallAnswer, kobj_core::CallError>) -> RawHandle {
    match answer {
        Ok(CallAnswer::Handle(handle)) => handle,
        other => panic!("no handle: {other:?}"),
    }
}

/// One object made and ended.
#[inline]
pub(crate) fn make_and_end(worker: &mut Worker<'_>) {
    let handle = worker.create(NOW, black_box([7; 8])).expect("the quota is far away");
    worker.close(NOW, black_box(handle)).expect("it was just made");
}

/// The processor time of this thread, in nanoseconds.
pub(crate) fn processor_ns() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// The mean of `count` operations, in nanoseconds.
pub(crate) fn timed(count: usize, operation: &mut dyn FnMut(usize)) -> f64 {
    let start = processor_ns();
    operation(count);
    (processor_ns() - start) / count as f64
}

/// Numbers below `size` in random order.
pub(crate) fn shuffled(size: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..size as u32).collect();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for at in (1..size).rev() {
        order.swap(at, random.below(at + 1));
    }
    order
}

/// xorshift64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, size: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * size as u128) >> 64) as usize
    }
}

/// A side of a comparison: its name, how many operations a round has, and the loop over them.
type Side<'a> = (&'a str, usize, &'a mut dyn FnMut(usize));

/// What is asked for.
enum Asked {
    /// At most so many nanoseconds.
    Ns(f64),
    /// At most so many times the first rival.
    Times(f64),
}

/// Rounds of all sides in turn, the first being ours.
fn compare(report: &mut Report, name: &str, rounds: usize, asked: Option<Asked>, sides: &mut [Side<'_>]) {
    let mut samples: Vec<Samples> = sides.iter().map(|_| Samples::default()).collect();
    for _ in 0..rounds {
        for ((_, count, side), of_side) in sides.iter_mut().zip(&mut samples) {
            of_side.push(timed(*count, *side));
        }
    }
    let mut samples = samples.into_iter();
    let ours = samples.next().unwrap_or_default();
    let rivals: Vec<_> = sides.iter().skip(1).map(|(name, ..)| *name).zip(samples).collect();
    let bar = asked.and_then(|asked| match asked {
        Asked::Ns(most) => Some((format!("at most {most} ns"), ours.median() <= most)),
        Asked::Times(most) => {
            let (rival, of_rival) = rivals.first()?;
            Some((format!("at most {most} times {rival}"), ours.median() <= most * of_rival.median()))
        }
    });
    let bar = bar.as_ref().map(|(words, holds)| (words.as_str(), *holds));
    report.print(&Figure { name, group: GROUP, unit: "ns", ours, rivals, bar });
}

pub(crate) fn run(options: &Options, report: &mut Report) {
    let wants = |name: &str| options.wants(GROUP, name);
    if let Ok(load) = std::fs::read_to_string("/proc/loadavg") {
        eprintln!("load averages: {}", load.trim());
    }
    if wants("objects/create-close") {
        create_close(report);
    }
    if wants("objects/create-close-threads-2") {
        two_threads(report);
    }
    if wants("objects/duplicate-close") {
        duplicate_close(report);
    }
    if wants("objects/derive-close") {
        derive_close(report);
    }
    if wants("objects/lookup-hot") {
        lookup_hot(report);
    }
    let many = options.most.unwrap_or(MANY).min(MANY);
    if wants("objects/lookup-random-1e6") {
        lookup_random(report, many);
    }
    if wants("objects/open-close-1e6") {
        open_close(report, "objects/open-close-1e6", many, false);
    }
    if wants("objects/open-close-own-1e6") {
        open_close(report, "objects/open-close-own-1e6", many, true);
    }
    if wants("objects/traced") {
        traced(report);
    }
    crate::scale::run(options, report);
}

/// The values of who keeps an `Arc` in a slotmap under a mutex.
type Arcs = Mutex<SlotMap<DefaultKey, (Arc<[u64; 8]>, u32)>>;

fn arcs(map: &Arcs, count: usize) {
    for number in 0..count {
        let key = map.lock().insert((Arc::new(black_box([number as u64; 8])), 7));
        let taken = map.lock().remove(black_box(key));
        drop(black_box(taken));
    }
}

fn create_close(report: &mut Report) {
    let scene = Scene::new();
    let mut worker = scene.thread();
    let map = Arcs::default();
    let mut sides: [Side<'_>; 5] = [
        ("ours", PER_ROUND, &mut |count| (0..count).for_each(|_| make_and_end(&mut worker))),
        ("mutex-slotmap-arc", PER_ROUND, &mut |count| arcs(&map, count)),
        ("eventfd", CALLS_PER_ROUND, &mut |count| {
            (0..count).for_each(|_| drop(eventfd(0, EventfdFlags::CLOEXEC).expect("a descriptor")));
        }),
        ("memfd", CALLS_PER_ROUND, &mut |count| {
            (0..count).for_each(|_| drop(memfd_create(c"bench", MemfdFlags::CLOEXEC).expect("a descriptor")));
        }),
        ("openat", CALLS_PER_ROUND, &mut |count| {
            let null = || open(c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).expect("a descriptor");
            (0..count).for_each(|_| drop(null()));
        }),
    ];
    compare(report, "objects/create-close", ROUNDS, Some(Asked::Ns(60.0)), &mut sides);
}

/// The mean of both threads' times of one operation when they run at once.
fn together(mut work: [impl FnMut(usize) + Send; 2]) -> f64 {
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        let threads = work.each_mut().map(|work| {
            scope.spawn(|| {
                barrier.wait();
                timed(10 * PER_ROUND, work)
            })
        });
        threads.map(|thread| thread.join().expect("a round does not panic")).into_iter().sum::<f64>() / 2.0
    })
}

fn two_threads(report: &mut Report) {
    let scene = Scene::new();
    let (mut first, mut second) = (scene.thread(), scene.thread());
    let map = Arcs::default();
    let (mut ours, mut alone, mut rival) = (Samples::default(), Samples::default(), Samples::default());
    let work = |worker: &mut Worker<'_>, count: usize| (0..count).for_each(|_| make_and_end(worker));
    for _ in 0..ROUNDS {
        ours.push(together([&mut first, &mut second].map(|worker| move |count| work(worker, count))));
        alone.push(timed(10 * PER_ROUND, &mut |count| work(&mut first, count)));
        rival.push(together([&map, &map].map(|map| move |count| arcs(map, count))));
    }
    let holds = ours.median() <= 2.0 * alone.median();
    let rivals = vec![("one-thread", alone), ("mutex-slotmap-arc, two threads", rival)];
    let bar = Some(("two threads in one job with limits at most 2 times one", holds));
    report.print(&Figure { name: "objects/create-close-threads-2", group: GROUP, unit: "ns", ours, rivals, bar });
}

fn duplicate_close(report: &mut Report) {
    let scene = Scene::new();
    let mut worker = scene.thread();
    let handle = worker.create(NOW, [7; 8]).expect("the quota is far away");
    let map = Arcs::default();
    let key = map.lock().insert((Arc::new([7; 8]), 7));
    let mut sides: [Side<'_>; 2] = [
        ("ours", PER_ROUND, &mut |count| {
            for _ in 0..count {
                let equal = worker.duplicate(NOW, black_box(handle), SAME).expect("it may be duplicated");
                worker.close(NOW, black_box(equal)).expect("it was just made");
            }
        }),
        ("mutex-slotmap-arc", PER_ROUND, &mut |count| {
            for _ in 0..count {
                let mut held = map.lock();
                let equal = held.get(black_box(key)).cloned().expect("it is there");
                let equal = held.insert(equal);
                drop(held);
                let taken = map.lock().remove(black_box(equal));
                drop(black_box(taken));
            }
        }),
    ];
    compare(report, "objects/duplicate-close", ROUNDS, Some(Asked::Ns(60.0)), &mut sides);
}

fn derive_close(report: &mut Report) {
    let scene = Scene::new();
    let handle = scene.thread().create(NOW, [7; 8]).expect("the quota is far away");
    let call = |call| scene.manager.call(NOW, scene.guest, call);
    let mut sides: [Side<'_>; 1] = [("ours", PER_ROUND, &mut |count| {
        for _ in 0..count {
            let derived = handle_of(call(Call::Derive { handle: black_box(handle), rights: SAME }));
            black_box(call(Call::Close { handle: derived })).expect("it was just made");
        }
    })];
    compare(report, "objects/derive-close", ROUNDS, Some(Asked::Ns(150.0)), &mut sides);
}

fn lookup_hot(report: &mut Report) {
    let scene = Scene::new();
    let mut worker = scene.thread();
    let table = scene.table();
    let handle = worker.create(NOW, [7; 8]).expect("the quota is far away");
    let map: Mutex<SlotMap<DefaultKey, (u64, u32)>> = Mutex::default();
    let key = map.lock().insert((7, 7));
    let mut sides: [Side<'_>; 2] = [
        ("ours", PER_ROUND, &mut |count| {
            let found = (0..count).filter(|_| scene.koid(&table, black_box(handle)).is_some()).count();
            assert_eq!(found, count);
        }),
        ("mutex-slotmap", PER_ROUND, &mut |count| {
            let found = (0..count).filter(|_| map.lock().get(black_box(key)).is_some_and(|it| it.1 == 7)).count();
            assert_eq!(found, count);
        }),
    ];
    compare(report, "objects/lookup-hot", ROUNDS, Some(Asked::Times(1.5)), &mut sides);
}

/// A cache line of the plain reads; the first word leads to a line of the second array, or is the line's number.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Line([u64; 8]);

/// Distinct objects in random order, each operation after what the one before found: what two reads cost of which the second
/// depends on the first, and what the lookup does beyond.
fn lookup_random(report: &mut Report, many: usize) {
    let scene = Scene::new();
    let mut worker = scene.thread();
    let table = scene.table();
    let made: Vec<RawHandle> =
        (0..many).map(|number| worker.create(NOW, [number as u64; 8]).expect("the quota is far away")).collect();
    let order = shuffled(many);
    let handles: Vec<RawHandle> = order.iter().map(|at| made[*at as usize]).collect();
    let first: Vec<Line> = shuffled(many).iter().map(|second| Line([u64::from(*second); 8])).collect();
    let second: Vec<Line> = (0..many as u64).map(|number| Line([number; 8])).collect();
    // What was found, without its bits: the next operation waits for it, and the compiler does not know why not.
    let nothing = black_box(0);
    let mut sides: [Side<'_>; 2] = [
        ("ours", many, &mut |count| {
            let next =
                |last: u64, at: usize| scene.koid(&table, handles[at + (last & nothing) as usize]).map(Koid::raw);
            assert!(black_box((0..count).try_fold(0, next)).is_some());
        }),
        ("two-dependent-reads", many, &mut |count| {
            let read =
                |last: u64, at: usize| second[first[order[at + (last & nothing) as usize] as usize].0[0] as usize].0[0];
            black_box((0..count).fold(0, read));
        }),
    ];
    compare(report, "objects/lookup-random-1e6", 11, Some(Asked::Times(1.3)), &mut sides);
}

/// `object-` and eight digits.
pub(crate) fn name_of(number: usize) -> [u8; 15] {
    let mut text = *b"object-00000000";
    let mut rest = number;
    for digit in text[7..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    text
}

/// Objects with names, a built-in type's or the user's: of these a last-close hook comes due each time, since nobody else has a
/// handle, and it runs outside the lock.
fn open_close(report: &mut Report, name: &str, many: usize, own: bool) {
    let scene = Scene::new();
    let boot = scene.manager.boot();
    let mut worker = scene.manager.thread(boot.process, &scene.key).expect("the embedder's process lives");
    let call = |call: Call<'_>| scene.manager.call(NOW, boot.process, call);
    let directory = boot.directory;
    let mut names: HashMap<Box<[u8]>, Arc<[u64; 8]>> = HashMap::new();
    for number in 0..many {
        let name = name_of(number);
        let handle = match own {
            true => worker.create(NOW, [number as u64; 8]).expect("the root job has no limit"),
            false => handle_of(call(Call::Create { what: What::Directory })),
        };
        let linked = call(Call::Link { directory, name: &name, handle, most: SAME, permanent: true });
        assert_eq!(linked, Ok(CallAnswer::Done));
        worker.close(NOW, handle).expect("it was just made");
        names.insert(name.into(), Arc::new([number as u64; 8]));
    }
    let names = RwLock::new(names);
    let map: Mutex<SlotMap<DefaultKey, Arc<[u64; 8]>>> = Mutex::default();
    let (mut random, mut random_too) = (Random(1), Random(1));
    let mut sides: [Side<'_>; 2] = [
        ("ours", PER_ROUND, &mut |count| {
            for _ in 0..count {
                let path = name_of(random.below(many));
                let open = Call::Open { directory, path: &path, rights: SAME, expected: None, follow: true };
                let handle = handle_of(call(open));
                black_box(call(Call::Close { handle })).expect("it was just opened");
            }
        }),
        ("RwLock<hashbrown> + Arc + Mutex<slotmap>", PER_ROUND, &mut |count| {
            for _ in 0..count {
                let name = name_of(random_too.below(many));
                let found = names.read().get(&name[..]).cloned().expect("it was entered");
                let key = map.lock().insert(found);
                let taken = map.lock().remove(black_box(key));
                drop(black_box(taken));
            }
        }),
    ];
    let asked = (!own).then_some(Asked::Times(1.5));
    compare(report, name, ROUNDS, asked, &mut sides);
}

/// Through the core, with the place in the source noted for the object and for its handle, and without.
fn traced(report: &mut Report) {
    let (with, without) = (Scene::new(), Scene::new());
    with.manager.with(|core| core.set_tracing(true));
    let work = |scene: &Scene, count: usize| {
        for _ in 0..count {
            let made = scene.manager.create_own(NOW, scene.guest, &scene.key, black_box([7; 8]));
            let handle = made.expect("the quota is far away");
            scene.manager.call(NOW, scene.guest, Call::Close { handle }).expect("it was just made");
        }
    };
    let mut sides: [Side<'_>; 2] = [
        ("ours", PER_ROUND, &mut |count| work(&with, count)),
        ("untraced", PER_ROUND, &mut |count| work(&without, count)),
    ];
    compare(report, "objects/traced-create-close", ROUNDS, Some(Asked::Times(1.3)), &mut sides);
}

//! Group `lease`: the floor of making and ending an unnamed object in a thread's lease, with quotas on.
//!
//! `lease/object` is memory's part alone: credit taken, place and koid used, header and state written, tag stamped; the last
//! handle counted down, the state dropped, the slot scrubbed, credit given back. `lease/handle` adds the handle's entry in a
//! table, made from the thread's own slots, and closed. `lease/threads-2` is the same from two threads at once, each with its
//! lease, while every thousand objects one calls back the other's credit and grants it anew.
//!
//! The rivals: slots popped from a free list, written and pushed (what memory alone costs); an `Arc` in a slotmap under a mutex
//! (what one would take instead, without quotas, tags and scrubbing).

use crate::figure::{Figure, Options, Report, Samples};
use kobj_abi::{Era, RawHandle, Rights, TypeNumber};
use kobj_memory::{
    Burial, Closed, Content, Dropped, KoidRange, Lease, LeasePlace, Objects, Place, Shared, Slab, Slots, StateKey,
    Table,
};
use parking_lot::Mutex;
use slotmap::{DefaultKey, SlotMap};
use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Instant;

const GROUP: &str = "lease";
const ROUNDS: usize = 101;
const OBJECTS_PER_ROUND: usize = 10_000;
/// After so many objects one thread calls the other's credit back.
const OBJECTS_PER_RECALL: usize = 1_000;
const CREDIT: u32 = 64;

type State = [u64; 8];

pub(crate) fn run(options: &Options, report: &mut Report) {
    let wants = |name: &str| options.wants(GROUP, name);
    if wants("lease/object") {
        one(report, "lease/object", Worker::object, None);
    }
    if wants("lease/handle") {
        one(report, "lease/handle", Worker::handle, Some(60.0));
    }
    if wants("lease/threads-2") {
        two(report);
    }
}

fn now_ns(operation: impl FnOnce()) -> f64 {
    let start = Instant::now();
    operation();
    start.elapsed().as_nanos() as f64 / OBJECTS_PER_ROUND as f64
}

/// One thread's part: a lease, and slots of a table.
struct Worker {
    objects: Shared<Objects>,
    table: Shared<Table>,
    key: StateKey<State>,
    lease: Lease,
    place: LeasePlace,
    slots: Slots,
}

struct World {
    slab: Slab<()>,
    table: Shared<Table>,
    key: StateKey<State>,
}

impl World {
    fn new() -> Self {
        let mut slab = Slab::try_new().expect("memory for an empty slab");
        let key = slab.register_state::<State>(*b"BNCH").expect("the first type has a number");
        Self { slab, table: Shared::try_new(Table::new(0x9e37_79b9_7f4a_7c15)).expect("memory for a table"), key }
    }

    fn worker(&mut self, number: u32) -> Worker {
        let objects = self.slab.shared();
        let (place, mut lease) =
            self.slab.open_lease(self.key.number(), Place::new(3)).expect("memory for a lease and its block");
        self.slab.refill(&mut lease, 64).expect("memory for places");
        lease.set_koids(KoidRange { era: Era(1 + number), first: 1, count: u32::MAX - 1 });
        self.grant(place);
        let mut slots = Slots::default();
        for _ in 0..64 {
            let reserved = self.table.reserve().expect("memory for handles");
            self.table.keep(&mut slots, reserved);
        }
        Worker { objects, table: self.table.clone(), key: self.key, lease, place, slots }
    }

    fn grant(&mut self, place: LeasePlace) {
        self.slab.leases_mut().grant_objects(place, CREDIT);
        self.slab.leases_mut().grant_handles(place, CREDIT);
    }

    fn recall(&mut self, place: LeasePlace) {
        let leases = self.slab.leases_mut();
        let (objects, handles) = (leases.recall_objects(place), leases.recall_handles(place));
        leases.grant_objects(place, objects);
        leases.grant_handles(place, handles);
    }
}

impl Worker {
    /// Makes an object with a handle that stands nowhere, and ends both; `false` if the credit is called back just now.
    fn object(&mut self) -> bool {
        let Ok(object) = self.lease.create_user(&self.key, 0, black_box([7; 8])) else { return false };
        self.end(object.place());
        true
    }

    fn end(&mut self, place: Place) {
        let Dropped::Last(ended) = self.objects.drop_handle(place) else { panic!("the one handle was the last") };
        assert_eq!(self.lease.close_last(ended), Burial::Freed);
    }

    /// The same with a handle in the table, through which it is closed.
    fn handle(&mut self) -> bool {
        let Some(handle) = self.open() else { return false };
        let Ok(Closed::Now(content)) = self.table.close_into(black_box(handle), &mut self.slots) else {
            panic!("nobody has it pinned")
        };
        self.end(content.object);
        true
    }

    fn open(&mut self) -> Option<RawHandle> {
        let object = self.lease.create_user(&self.key, 0, black_box([7; 8])).ok()?;
        let reserved = self.table.take_kept(&mut self.slots).expect("as many slots as credit");
        let content = Content { object: object.place(), rights: Rights::GENERIC, node: None, inheritable: false };
        Some(self.table.commit(reserved, content))
    }

    /// A round of a thread, which calls the credit of `other` back now and then.
    fn round(&mut self, world: &Mutex<World>, other: LeasePlace) {
        for number in 0..OBJECTS_PER_ROUND {
            while !self.handle() {
                thread::yield_now();
            }
            if number % OBJECTS_PER_RECALL == 0 {
                world.lock().recall(other);
            }
        }
    }
}

/// The floor: a free list of plain slots.
struct Plain {
    slots: Vec<[u64; 16]>,
    free: Vec<u32>,
}

impl Plain {
    fn round(&mut self) {
        for number in 0..OBJECTS_PER_ROUND {
            let at = self.free.pop().expect("what was popped is pushed again");
            let slot = &mut self.slots[at as usize];
            *slot = black_box([number as u64; 16]);
            black_box(&slot);
            *slot = [0; 16];
            self.free.push(at);
        }
    }
}

fn arcs(map: &Mutex<SlotMap<DefaultKey, (Arc<State>, u32)>>) {
    for number in 0..OBJECTS_PER_ROUND {
        let key = map.lock().insert((Arc::new(black_box([number as u64; 8])), 7));
        let taken = map.lock().remove(black_box(key));
        drop(black_box(taken));
    }
}

fn one(report: &mut Report, name: &str, operation: fn(&mut Worker) -> bool, most_ns: Option<f64>) {
    let mut world = World::new();
    let mut worker = world.worker(0);
    let mut plain = Plain { slots: vec![[0; 16]; 64], free: (0..64).collect() };
    let map = Mutex::new(SlotMap::new());
    let (mut ours, mut floor, mut rival) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        ours.push(now_ns(|| assert!((0..OBJECTS_PER_ROUND).all(|_| operation(&mut worker)), "credit is there")));
        floor.push(now_ns(|| plain.round()));
        rival.push(now_ns(|| arcs(&map)));
    }
    assert_eq!(world.slab.live(), 0);
    let bar = most_ns.map(|most_ns| (format!("at most {most_ns} ns (aim 40)"), ours.median() <= most_ns));
    let bar = bar.as_ref().map(|(bar, holds)| (bar.as_str(), *holds));
    let rivals = vec![("plain-slots", floor), ("mutex-slotmap-arc", rival)];
    report.print(&Figure { name, group: GROUP, unit: "ns", ours, rivals, bar });
}

/// Two threads at once; each round's sample is the mean of both.
fn together(mut work: [impl FnMut() + Send; 2]) -> f64 {
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        let threads = work.each_mut().map(|work| {
            scope.spawn(|| {
                barrier.wait();
                now_ns(work)
            })
        });
        threads.map(|thread| thread.join().expect("a round does not panic")).into_iter().sum::<f64>() / 2.0
    })
}

fn two(report: &mut Report) {
    let mut world = World::new();
    let (mut first, mut second) = (world.worker(0), world.worker(1));
    let places = [first.place, second.place];
    let number: TypeNumber = world.key.number();
    let world = Mutex::new(world);
    let map = Mutex::new(SlotMap::new());
    let (mut ours, mut alone, mut rival) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        ours.push(together([(&mut first, places[1]), (&mut second, places[0])].map(|(worker, other)| {
            let world = &world;
            move || worker.round(world, other)
        })));
        alone.push(now_ns(|| first.round(&world, places[1])));
        rival.push(together([&map, &map].map(|map| move || arcs(map))));
    }
    let totals = world.lock().slab.leases().totals(Some(number));
    assert_eq!((totals.created, totals.opened), (totals.destroyed, totals.closed));
    let holds = ours.median() <= 2.0 * alone.median();
    let rivals = vec![("one-thread", alone), ("mutex-slotmap-arc", rival)];
    let bar = Some(("two threads at most 2 times one", holds));
    report.print(&Figure { name: "lease/threads-2", group: GROUP, unit: "ns", ours, rivals, bar });
}

//! No memory, at every single allocation: each operation then does nothing, and says so. Making and ending objects in a
//! lease allocates nothing, nor does anything that takes away.
#![forbid(unsafe_code)]
// Models have no slab, and their allocator is not asked for places.
#![cfg(not(any(loom, shuttle)))]

use kobj_abi::{Era, Koid, ObjectType, RawHandle, Rights, Tag};
use kobj_memory::{
    Array, Birth, Burial, Buried, Bytes, Closed, Content, Dropped, KoidRange, Lease, LeasePlace, NoMemory, Nodes,
    Place, Pool, RefusingAllocator, Release, Released, Shared, Slab, Slots, StateKey, Table, TableError, TryPush,
    Uncounted, try_box, try_collect,
};
use std::alloc::{Layout, System};
use std::cell::Cell;

#[global_allocator]
static ALLOCATOR: RefusingAllocator<System> = RefusingAllocator::new(System, refuse);

thread_local! {
    /// How many allocations are given before one is refused; `None`: all.
    static GIVEN: Cell<Option<u32>> = const { Cell::new(None) };
    /// Allocations of this thread.
    static COUNT: Cell<u32> = const { Cell::new(0) };
}

fn refuse(_: Layout) -> bool {
    COUNT.set(COUNT.get() + 1);
    match GIVEN.get() {
        Some(0) => {
            GIVEN.set(None);
            true
        }
        given => {
            GIVEN.set(given.map(|given| given - 1));
            false
        }
    }
}

/// Does an operation with its first allocation refused, then its second, and so on, each time on something new; refused, it
/// must have changed nothing (`after_refusal`) and succeed when it is done again. Gives how many allocations it takes.
fn at_each_allocation<S, T, E>(
    make: impl Fn() -> S,
    operation: impl Fn(&mut S) -> Result<T, E>,
    after_refusal: impl Fn(&S),
) -> u32 {
    for given in 0..1_000 {
        let mut state = make();
        GIVEN.set(Some(given));
        let result = operation(&mut state);
        let all_given = GIVEN.take().is_some();
        match (result.is_ok(), all_given) {
            (true, true) => return given,
            (true, false) => panic!("an allocation was refused, and nobody said so"),
            (false, true) => panic!("refused, though there was memory"),
            (false, false) => {
                after_refusal(&state);
                assert!(operation(&mut state).is_ok(), "with memory it succeeds, after allocation {given} was refused");
            }
        }
    }
    panic!("an operation takes more allocations than anybody believes");
}

/// Does something that must not allocate.
fn without_allocation<T>(operation: impl FnOnce() -> T) -> T {
    let before = COUNT.get();
    let result = operation();
    let allocations = COUNT.get() - before;
    assert_eq!(allocations, 0);
    result
}

type State = Box<u64>;

struct World {
    slab: Slab<u64>,
    key: StateKey<State>,
    lease: Option<(LeasePlace, Lease)>,
}

fn world() -> World {
    let mut slab = Slab::try_new().unwrap();
    let key = slab.register_state(*b"USER").unwrap();
    World { slab, key, lease: None }
}

fn leased() -> World {
    let mut world = world();
    let (place, mut lease) = world.slab.open_lease(world.key.number(), Place::new(3)).unwrap();
    assert!(world.slab.leases_mut().grant_objects(place, 8) && world.slab.leases_mut().grant_handles(place, 8));
    world.slab.refill(&mut lease, 8).unwrap();
    lease.set_koids(KoidRange { era: Era(1), first: 1, count: 8 });
    world.lease = Some((place, lease));
    world
}

fn koid(counter: u32) -> Koid {
    Koid::new(Era(2), counter).unwrap()
}

const BIRTH: Birth<'_> = Birth {
    object_type: Some(ObjectType::Job),
    creator: None,
    created_us: 7,
    owner: None,
    charge_bytes: 128,
    name: Some(b"a name"),
};

fn is_empty(world: &World) {
    assert_eq!((world.slab.live(), world.slab.iter().count(), world.slab.leases().len()), (0, 0, 0));
}

#[test]
fn what_makes_objects_and_leases_says_that_there_is_no_memory() {
    let tag = Tag { letters: *b"JOB_", koid: koid(1) };
    assert_eq!(at_each_allocation(|| (), |()| Slab::<u64>::try_new(), |()| ()), 1);
    assert_eq!(
        at_each_allocation(|| Slab::<u64>::try_new().unwrap(), |slab| slab.register_state::<u8>(*b"BYTE"), |_| ()),
        1
    );
    // Debug builds count beside each slot who keeps its object.
    let audit = u32::from(cfg!(debug_assertions));
    // The name, its record, the slots.
    assert_eq!(at_each_allocation(world, |world| world.slab.create(tag, &BIRTH, 7), is_empty), 3 + audit);
    let create_user = |world: &mut World| {
        // The state's own box comes first, and is dropped with the refusal.
        let state = try_box(7)?;
        world.slab.create_user(&world.key, koid(1), &BIRTH, state)
    };
    assert_eq!(at_each_allocation(world, create_user, is_empty), 4 + audit);
    let open = |world: &mut World| -> Result<(), NoMemory> {
        world.lease = Some(world.slab.open_lease(world.key.number(), None)?);
        Ok(())
    };
    assert_eq!(at_each_allocation(world, open, is_empty), 3);
    let refill = |world: &mut World| match &mut world.lease {
        Some((_, lease)) => world.slab.refill(lease, 100),
        None => Err(NoMemory),
    };
    // From 8 places on: the buckets of 64 and of 128.
    let keeps = |world: &World| assert!(world.lease.as_ref().is_some_and(|(_, lease)| lease.left().0 >= 8));
    assert_eq!(at_each_allocation(leased, refill, keeps), 2 + 2 * audit);
}

#[test]
fn what_holds_values_says_that_there_is_no_memory() {
    assert_eq!(at_each_allocation(|| (), |()| try_box([1_u64; 9]), |()| ()), 1);
    assert_eq!(at_each_allocation(|| (), |()| Shared::try_new(7), |()| ()), 1);
    assert_eq!(at_each_allocation(|| (), |()| Bytes::try_from_slice(b"bytes"), |()| ()), 1);
    assert_eq!(at_each_allocation(|| (), |()| Bytes::try_from_slice(b""), |()| ()), 0);
    assert_eq!(at_each_allocation(Array::default, |array| array.push(7), |array| assert!(array.is_empty())), 1);
    assert_eq!(at_each_allocation(Pool::default, |pool| pool.insert(7), |pool| assert!(pool.is_empty())), 1);
    assert_eq!(at_each_allocation(Vec::new, |list| list.try_push(7), |list| assert!(list.is_empty())), 1);
    assert_eq!(at_each_allocation(|| (), |()| try_collect(0..9), |()| ()), 1);
}

#[test]
fn a_lease_makes_and_ends_objects_without_the_allocator() {
    let mut world = leased();
    let objects = world.slab.shared();
    let (place, mut lease) = world.lease.take().unwrap();
    let states: Vec<State> = (0..4).map(Box::new).collect();
    without_allocation(|| {
        for state in states {
            let object = lease.create_user(&world.key, 0, state).map_err(|(error, _)| error).unwrap();
            let held = objects.hold(object).unwrap();
            assert!(held.state(&world.key).is_some_and(|state| **state < 4));
            drop(held);
            let Dropped::Last(ended) = objects.drop_handle(object.place()) else { panic!("the last handle") };
            assert_eq!(lease.close_last(ended), Burial::Freed);
        }
        assert_eq!(world.slab.leases_mut().recall_objects(place), 8);
        assert_eq!(world.slab.leases_mut().close(place).handles, 8);
        drop(lease);
        assert!(world.slab.leases_mut().take_dropped(Place::new(0).unwrap()).is_some());
        assert_eq!(world.slab.leases().totals(None).destroyed, 4);
    });
}

#[test]
fn what_takes_away_needs_no_memory() {
    let mut world = leased();
    let objects = world.slab.shared();
    let tag = Tag { letters: *b"JOB_", koid: koid(1) };
    let own = world.slab.create(tag, &BIRTH, 7).unwrap();
    let user = world.slab.create_user(&world.key, koid(2), &BIRTH, Box::new(7)).unwrap();
    without_allocation(|| {
        let held = objects.hold(user).unwrap();
        assert_eq!((world.slab.condemn(own), world.slab.condemn(user)), (Ok(Some(7)), Ok(None)));
        for object in [own, user] {
            let _last_or_not: Release = world.slab.release(object.place());
        }
        drop(held);
        while world.slab.front().is_some() {
            assert_ne!(world.slab.bury_front(), Buried::Refused);
        }
    });
    assert_eq!((world.slab.live(), world.slab.dead()), (0, 0));
}

fn content(place: Place) -> Content {
    Content { object: place, rights: Rights::READ, node: Some(place), inheritable: true }
}

/// A table and nodes with as many as their first buckets hold, so that the next one needs memory.
fn full() -> (Table, Nodes, Vec<RawHandle>) {
    let (table, nodes) = (Table::new(7), Nodes::default());
    let open = |_| table.open(content(nodes.make().unwrap())).unwrap();
    let handles = (0..32).map(open).collect();
    (table, nodes, handles)
}

#[test]
fn handles_and_nodes_say_that_there_is_no_memory_and_lose_no_slot() {
    let nothing_changed = |(table, nodes, _): &(Table, Nodes, Vec<RawHandle>)| {
        assert_eq!((table.live(), table.used(), table.capacity()), (32, 32, 32));
        assert_eq!((nodes.live(), nodes.capacity()), (32, 32));
    };
    let place = Place::new(0).unwrap();
    assert_eq!(at_each_allocation(full, |(table, ..)| table.open(content(place)), nothing_changed), 1);
    assert_eq!(at_each_allocation(full, |(table, ..)| table.reserve(), nothing_changed), 1);
    assert_eq!(at_each_allocation(full, |(_, nodes, _)| nodes.make(), nothing_changed), 1);
    let (table, ..) = full();
    GIVEN.set(Some(0));
    assert_eq!(table.open(content(place)), Err(TableError::NoMemory));
}

#[test]
fn looking_up_closing_revoking_and_using_slots_again_need_no_memory() {
    let (table, nodes, handles) = full();
    let mut slots = Slots::default();
    without_allocation(|| {
        let pin = table.pin(handles[0]).unwrap();
        assert!(matches!(table.close(handles[0]), Ok(Closed::Later(_))));
        assert_eq!(pin.release(), Released::LastOfClosing);
        let closed = table.take_closed().unwrap();
        assert_eq!(nodes.uncount(closed.node.unwrap()), Uncounted::Last);
        nodes.free(closed.node.unwrap());
        assert!(matches!(table.close_into(handles[1], &mut slots), Ok(Closed::Now(_))));
        let node = nodes.make().unwrap();
        let kept = table.take_kept(&mut slots).unwrap();
        table.commit(kept, content(node));
        assert_eq!(nodes.revoke(node), 1);
        let revoked = (0..table.used()).find_map(|index| table.close_of(index, node));
        assert_eq!(revoked.map(|closed| nodes.uncount(closed.content().node.unwrap())), Some(Uncounted::Last));
        assert!((0..table.used()).filter_map(|index| table.close_at(index)).count() == 30);
        for _ in 0..32 {
            table.open(content(node)).unwrap();
        }
        table.give_back_all(slots);
    });
    assert_eq!((table.used(), table.live(), table.capacity()), (32, 32, 32));
}

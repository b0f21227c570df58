//! Tests of the handle table: what each call promises, then a storm of threads on real memory.

use super::*;
use crate::handle_entry::TOO_MANY;
use std::collections::HashSet;
use std::vec::Vec;

const MASK: u64 = 0x9e37_79b9_7f4a_7c15;

fn content(object: u32) -> Content {
    let object = Place::from_raw(object).unwrap();
    Content { object, rights: Rights::READ | Rights::WRITE, node: None, inheritable: false }
}

fn word(table: &Table, handle: RawHandle) -> u64 {
    table.entry(table.split(handle).0).unwrap().look()
}

#[test]
fn a_handle_is_looked_up_until_it_is_closed_and_never_again() {
    let table = Table::new(MASK);
    let given = Content { node: Place::new(8), inheritable: true, ..content(7) };
    let handle = table.open(given).unwrap();
    for _ in 0..3 {
        let pin = table.pin(handle).unwrap();
        assert_eq!(pin.content(), given);
        assert_eq!((pin.object(), pin.rights(), pin.node()), (given.object, given.rights, given.node));
        assert_eq!(pin.handle(), Some(handle));
    }
    assert_eq!((table.live(), table.used()), (1, 1));
    assert_eq!(table.close(handle), Ok(Closed::Now(given)));
    assert_eq!(table.pin(handle).err(), Some(PinError::BadHandle));
    assert_eq!(table.close(handle), Err(BadHandle));
    let next = table.open(content(9)).unwrap();
    assert_eq!(table.used(), 1, "the slot is used again");
    assert_ne!(next, handle);
    assert_eq!(table.pin(handle).err(), Some(PinError::BadHandle), "under another number");
    assert_eq!(table.pin(next).unwrap().content(), content(9));
    assert_eq!(word(&table, next) & PINS, 0, "late lookups took their pins out");
}

#[test]
fn numbers_that_were_never_given_are_refused_and_bring_no_memory() {
    let (table, other) = (Table::new(MASK), Table::new(!MASK));
    let handles: Vec<_> = (1..=100).map(|object| table.open(content(object)).unwrap()).collect();
    let foreign: Vec<_> = (1..=100).map(|object| other.open(content(object)).unwrap()).collect();
    let capacity = table.capacity();
    let mut random = MASK;
    let mut refused = 0;
    let made_up = core::iter::repeat_with(|| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    });
    // Also each possible generation of a slot that is there, and an index past every bucket.
    let near = (0..1_000_u64).map(|number| ((number << 32) | (number % 100)) ^ MASK);
    let far = [u64::from(u32::MAX) ^ MASK, u64::from(u32::MAX - 31) ^ MASK, 5_000 ^ MASK, u64::MAX, 1];
    let numbers = made_up.take(100_000).chain(near).chain(far).chain(foreign.iter().map(|handle| handle.raw()));
    for number in numbers.collect::<Vec<_>>() {
        let handle = RawHandle::from_raw(number).unwrap();
        if !handles.contains(&handle) {
            assert_eq!(table.pin(handle).err(), Some(PinError::BadHandle), "{handle}");
            assert_eq!(table.close(handle), Err(BadHandle), "{handle}");
            refused += 1;
        }
    }
    assert!(refused > 101_000);
    assert_eq!((table.capacity(), table.live(), table.used()), (capacity, 100, 100));
    assert!(handles.iter().all(|handle| word(&table, *handle) & PINS == 0));
}

#[test]
fn a_close_does_not_wait_for_pins_and_the_last_one_hands_the_entry_over() {
    let table = Table::new(MASK);
    let handle = table.open(content(7)).unwrap();
    let (first, second) = (table.pin(handle).unwrap(), table.pin(handle).unwrap());
    assert_eq!(table.close(handle), Ok(Closed::Later(content(7))));
    assert_eq!(table.close(handle), Err(BadHandle), "there is one winner");
    assert_eq!(table.pin(handle).err(), Some(PinError::BadHandle));
    assert_eq!(table.live(), 0);
    let other = table.open(content(8)).unwrap();
    assert_eq!(table.used(), 2, "the slot is not free yet");
    assert_eq!(first.object().raw(), 7);
    assert_eq!(first.release(), Released::Remaining);
    assert!(!table.has_closed() && table.take_closed().is_none());
    assert_eq!(second.content().object.raw(), 7);
    assert_eq!(second.release(), Released::LastOfClosing);
    assert!(table.has_closed());
    assert_eq!(table.take_closed(), Some(content(7)));
    assert_eq!(table.take_closed(), None);
    assert_eq!(table.open(content(9)).map(|_| table.used()), Ok(2), "now it is");
    // Dropping does what releasing does.
    let pin = table.pin(other).unwrap();
    assert_eq!(table.close(other), Ok(Closed::Later(content(8))));
    drop(pin);
    assert_eq!(table.take_closed(), Some(content(8)));
}

#[test]
fn a_late_lookup_that_leaves_last_hands_the_entry_over() {
    let table = Table::new(MASK);
    let handle = table.open(content(7)).unwrap();
    let (index, generation) = table.split(handle);
    let entry = table.entry(index).unwrap();
    // What a lookup with an old number does, up to its look.
    let seen = entry.word.fetch_add(PIN, Ordering::Acquire);
    assert_eq!(table.close(handle), Ok(Closed::Later(content(7))));
    assert_eq!(table.refuse(entry, index, generation.wrapping_sub(1), seen), PinError::BadHandle);
    assert_eq!(table.take_closed(), Some(content(7)));
    assert_eq!(word(&table, handle) & (PINS | LIVE | CLOSING), 0);
}

#[test]
fn a_late_pin_in_a_free_slot_survives_the_making_of_a_handle() {
    let table = Table::new(MASK);
    let reserved = table.reserve().unwrap();
    let handle = reserved.handle();
    let (index, generation) = table.split(handle);
    let entry = table.entry(index).unwrap();
    let seen = entry.word.fetch_add(PIN, Ordering::Acquire);
    assert_eq!(table.commit(reserved, content(7)), handle);
    assert_eq!(table.refuse(entry, index, generation, seen), PinError::BadHandle, "it looked before");
    assert_eq!(word(&table, handle), LIVE | u64::from(generation) << 32);
    assert_eq!(table.close(handle), Ok(Closed::Now(content(7))));
}

#[test]
fn generations_are_used_up_and_the_slot_is_retired() {
    for bits in [2, 3] {
        let table = Table::with_generation_bits(MASK, bits);
        let mut seen = HashSet::new();
        for _ in 0..1 << bits {
            let handle = table.open(content(7)).unwrap();
            assert_eq!(table.used(), 1);
            assert!(seen.insert(handle));
            assert_eq!(table.close(handle), Ok(Closed::Now(content(7))));
        }
        assert_eq!(table.retired(), 1);
        let handle = table.open(content(8)).unwrap();
        assert!(seen.insert(handle));
        assert_eq!((table.used(), table.live()), (2, 1));
        let bad = seen.iter().filter(|old| table.pin(**old).is_err()).count();
        assert_eq!(bad, 1 << bits, "none of the old numbers is valid");
    }
}

#[test]
fn a_table_has_no_more_slots_than_it_may() {
    let table = Table::with_bounds(MASK, 2, 2);
    let [first, _second] = [7, 8].map(|object| table.open(content(object)).unwrap());
    assert_eq!(table.open(content(9)), Err(TableError::Full));
    let mut handle = first;
    for _ in 1..4 {
        assert_eq!(table.close(handle), Ok(Closed::Now(content(if handle == first { 7 } else { 9 }))));
        handle = table.open(content(9)).unwrap();
    }
    assert_eq!(table.close(handle), Ok(Closed::Now(content(9))));
    assert_eq!((table.open(content(9)), table.retired(), table.used()), (Err(TableError::Full), 1, 2));
}

#[test]
fn a_slot_is_retired_whichever_way_its_last_handle_ends() {
    let table = Table::with_generation_bits(MASK, 2);
    let mut slots = Slots::default();
    for round in 0..4 {
        let handle = table.open(content(7)).unwrap();
        if round < 3 {
            assert!(table.close(handle).is_ok());
        } else {
            assert!(table.close_into(handle, &mut slots).is_ok());
        }
    }
    assert_eq!((table.retired(), slots.len()), (1, 0), "closed into somebody's own slots");
    for _ in 0..4 {
        let handle = table.open(content(7)).unwrap();
        let pin = table.pin(handle).unwrap();
        assert!(matches!(table.close(handle), Ok(Closed::Later(_))));
        drop(pin);
        assert_eq!(table.take_closed(), Some(content(7)));
    }
    assert_eq!(table.retired(), 2, "handed over by a pin");
}

#[test]
fn no_handle_is_zero() {
    // Slot 1 in generation 0 would be 0; then slot 0 in its last generation.
    let table = Table::new(1);
    let handles: Vec<_> = (1..4).map(|object| table.open(content(object)).unwrap()).collect();
    assert_eq!(handles.iter().map(|handle| handle.raw()).collect::<Vec<_>>(), [1, 1 << 32, 3]);
    assert!(handles.iter().all(|handle| table.pin(*handle).is_ok()));
    let table = Table::with_generation_bits(3 << 32, 2);
    for _ in 0..3 {
        let handle = table.open(content(1)).unwrap();
        assert!(table.close(handle).is_ok());
    }
    assert_eq!(table.retired(), 0);
    assert_eq!(table.open(content(1)).map(|_| table.used()), Ok(2));
    assert_eq!(table.retired(), 1, "its last generation had no number");
}

#[test]
fn forgotten_guards_never_reach_the_other_bits() {
    let table = Table::new(MASK);
    let handle = table.open(Content { inheritable: true, ..content(7) }).unwrap();
    let entry = table.entry(table.split(handle).0).unwrap();
    core::mem::forget(table.pin(handle).unwrap());
    entry.word.fetch_add(TOO_MANY - 2 * PIN, Ordering::Relaxed);
    core::mem::forget(table.pin(handle).unwrap());
    let full = entry.look();
    assert_eq!(full & PINS, TOO_MANY);
    for _ in 0..1_000 {
        assert_eq!(table.pin(handle).err(), Some(PinError::TooManyPins));
    }
    assert_eq!(entry.look(), full, "refused, and nothing changed");
    assert!(matches!(table.close(handle), Ok(Closed::Later(_))), "it can be closed");
    assert_eq!(table.pin(handle).err(), Some(PinError::BadHandle));
    assert_eq!(entry.look(), full | CLOSING);
    // Give back all but one, and let that one go.
    entry.word.fetch_sub(TOO_MANY - PIN, Ordering::Relaxed);
    assert_eq!(table.unpin(entry, table.split(handle).0), Released::LastOfClosing);
}

#[test]
fn a_reserved_slot_is_invisible_until_it_is_committed() {
    let table = Table::new(MASK);
    let reserved = table.reserve().unwrap();
    let handle = reserved.handle();
    assert_eq!(table.pin(handle).err(), Some(PinError::BadHandle));
    assert_eq!(table.close(handle), Err(BadHandle));
    assert_eq!(table.live(), 0);
    table.give_back(reserved);
    let again = table.reserve().unwrap();
    assert_eq!((again.handle(), table.used()), (handle, 1), "the number was never given");
    assert_eq!(table.commit(again, content(7)), handle);
    assert_eq!(table.pin(handle).unwrap().content(), content(7));
}

#[test]
fn a_thread_keeps_slots_of_its_own() {
    let table = Table::new(MASK);
    let mut slots = Slots::default();
    for _ in 0..3 {
        table.keep(&mut slots, table.reserve().unwrap());
    }
    assert_eq!((slots.len(), table.used()), (3, 3));
    let handle = table.commit(table.take_kept(&mut slots).unwrap(), content(7));
    assert_eq!(table.close_into(handle, &mut slots), Ok(Closed::Now(content(7))));
    assert_eq!(table.close_into(handle, &mut slots), Err(BadHandle));
    assert_eq!(slots.len(), 3);
    let next = table.commit(table.take_kept(&mut slots).unwrap(), content(8));
    assert_ne!(next, handle);
    assert_eq!(table.split(next).0, table.split(handle).0);
    table.give_back_all(slots);
    assert!((0..2).all(|_| table.open(content(9)).is_ok()));
    assert_eq!(table.used(), 3);
    assert!(table.take_kept(&mut Slots::default()).is_none() && Slots::default().is_empty());
}

#[test]
fn growing_moves_no_entry_and_a_sweep_meets_all() {
    let table = Table::new(MASK);
    let first = table.open(content(1)).unwrap();
    let pin = table.pin(first).unwrap();
    let handles: Vec<_> = (2..=3_000).map(|object| table.open(content(object)).unwrap()).collect();
    assert_eq!(pin.object().raw(), 1);
    drop(pin);
    assert_eq!(HashSet::<_>::from_iter(&handles).len(), handles.len());
    for handle in handles.iter().step_by(2) {
        assert!(table.close(*handle).is_ok());
    }
    let (mut at, mut steps, mut met) = (0, 0, Vec::new());
    loop {
        steps += 1;
        match table.next_from(at, 1) {
            Next::Found(pin) => {
                at = pin.index() + 1;
                met.push(pin.object().raw());
            }
            Next::GoOn(from) => at = from,
            Next::End => break,
        }
    }
    assert_eq!(met, (1..=3_000).step_by(2).collect::<Vec<_>>());
    assert_eq!((steps, table.live()), (3_000, 1_500), "the last step looks at the last slot");
    let closed = (0..table.used()).filter_map(|index| table.close_at(index)).count();
    assert_eq!((closed, table.live()), (1_500, 0));
    assert!(table.pin_at(0).is_none() && table.pin_at(u32::MAX).is_none() && table.close_at(u32::MAX).is_none());
    assert!(matches!(table.next_from(u32::MAX, u32::MAX), Next::End));
}

#[test]
fn a_full_table_says_so() {
    let table = Table::new(MASK);
    table.slack.used.store(Table::SLOTS_MOST, Ordering::Relaxed);
    assert_eq!(table.open(content(7)), Err(TableError::Full));
    // The bucket of the last index would take 48 GiB: the refusal takes no slot, whatever the allocator says.
    table.slack.used.store(0, Ordering::Relaxed);
    assert!(table.open(content(7)).is_ok());
}

#[test]
fn a_node_is_given_once_and_stays_with_the_handle() {
    let table = Table::new(MASK);
    let handle = table.open(content(7)).unwrap();
    let pin = table.pin(handle).unwrap();
    let [one, two] = [1, 2].map(|raw| Place::from_raw(raw).unwrap());
    assert_eq!(pin.set_node(one), Ok(()));
    assert_eq!(pin.set_node(two), Err(one));
    drop(pin);
    let other = table.open(content(8)).unwrap();
    assert_eq!([table.close_of(0, two), table.close_of(1, one), table.close_of(2, one)], [None; 3]);
    let derived = table.open(Content { node: Some(two), ..content(9) }).unwrap();
    assert_eq!(table.close_of(2, two), Some(Closed::Now(Content { node: Some(two), ..content(9) })));
    assert!(table.pin(derived).is_err() && table.pin(other).is_ok());
    assert_eq!(table.close(handle), Ok(Closed::Now(Content { node: Some(one), ..content(7) })));
}

#[test]
fn neighbours_by_index_stand_on_other_cache_lines() {
    let all: HashSet<u32> = (0..96).map(position).collect();
    assert_eq!(all.len(), 96);
    assert_eq!(all.iter().max(), Some(&95));
    assert!((0..95).all(|index| position(index).abs_diff(position(index + 1)) * 24 >= 64 + 24));
}

/// What is known of an object: how many handles count it, and whether it was destroyed.
#[derive(Default)]
struct Counted(core::sync::atomic::AtomicI64);

/// Eight threads open, look up, duplicate, move between two tables, close and use old numbers. A counter for each object
/// plays its reference count: under a pin it is never 0, and in the end it is 0 for all.
#[test]
fn a_storm_of_threads_keeps_each_count() {
    const THREADS: u64 = 8;
    const OBJECTS: u64 = 16;
    let rounds = if cfg!(miri) { 50 } else { 20_000 };
    let tables = [Table::with_generation_bits(MASK, 6), Table::with_generation_bits(!MASK, 32)];
    let objects: [Counted; OBJECTS as usize] = Default::default();
    let shared: [AtomicU64Cell; 32] = Default::default();
    let give_back = |content: Content| {
        let before = objects[content.object.index() as usize].0.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "given back twice");
    };
    let finish = |closed: Closed| {
        if let Closed::Now(content) = closed {
            give_back(content);
        }
    };
    let drain = |table: &Table| {
        while let Some(content) = table.take_closed() {
            give_back(content);
        }
    };
    // Whoever puts a number in another's place ends that one, if nobody did.
    let put = |table: &Table, cell: &AtomicU64Cell, handle: RawHandle| {
        if let Some(old) = RawHandle::from_raw(cell.0.swap(handle.raw(), Ordering::Relaxed)) {
            let _ = table.close(old).map(finish);
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (tables, objects, shared) = (&tables, &objects, &shared);
            scope.spawn(move || {
                let mut random = (thread + 1).wrapping_mul(MASK);
                let mut next = |below: u64| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    (random >> 8) % below
                };
                let mut slots = Slots::default();
                for _ in 0..rounds {
                    let at = next(2) as usize;
                    let table = &tables[at];
                    // A number that anybody may have closed meanwhile.
                    let cell = &shared[at * 16 + next(16) as usize];
                    let number = RawHandle::from_raw(cell.0.load(Ordering::Relaxed));
                    match (next(6), number) {
                        (0, _) | (_, None) => {
                            let object = next(OBJECTS) as u32;
                            objects[object as usize].0.fetch_add(1, Ordering::Relaxed);
                            let handle = table.open(content(object + 1)).unwrap();
                            put(table, cell, handle);
                        }
                        (1 | 2, Some(handle)) => {
                            if let Ok(pin) = table.pin(handle) {
                                let object = pin.object();
                                assert!(objects[object.index() as usize].0.load(Ordering::Relaxed) > 0);
                                assert_eq!(pin.object(), object);
                                assert_eq!(pin.handle(), Some(handle));
                            }
                        }
                        (3, Some(handle)) => {
                            // A duplicate, in a slot of this thread's own.
                            if let Ok(pin) = table.pin(handle) {
                                let kept = if at == 0 { table.take_kept(&mut slots) } else { None };
                                let reserved = kept.unwrap_or_else(|| table.reserve().unwrap());
                                objects[pin.object().index() as usize].0.fetch_add(1, Ordering::Relaxed);
                                let copy = table.commit(reserved, pin.content());
                                put(table, cell, copy);
                            }
                        }
                        (4, Some(handle)) => {
                            // To the other table: the one who wins the closing makes the new one.
                            if let Ok(closed) = table.close(handle) {
                                let object = closed.content().object;
                                if let Closed::Later(_) = closed {
                                    objects[object.index() as usize].0.fetch_add(1, Ordering::Relaxed);
                                }
                                let moved = tables[1 - at].open(closed.content()).unwrap();
                                put(&tables[1 - at], &shared[(1 - at) * 16 + next(16) as usize], moved);
                            }
                        }
                        (_, Some(handle)) if at == 0 => drop(table.close_into(handle, &mut slots).map(finish)),
                        (_, Some(handle)) => drop(table.close(handle).map(finish)),
                    }
                    drain(table);
                }
                tables[0].give_back_all(slots);
            });
        }
    });
    for table in &tables {
        for index in 0..table.used() {
            if let Some(closed) = table.close_at(index) {
                finish(closed);
            }
        }
        drain(table);
        assert_eq!(table.live(), 0);
        let words = (0..table.used()).filter_map(|index| table.entry(index)).map(Entry::look);
        assert!(words.into_iter().all(|word| word & (PINS | CLOSING | LIVE) == 0));
    }
    assert!(tables[0].retired() > 0, "six bits were used up");
    assert!(objects.iter().all(|object| object.0.load(Ordering::Relaxed) == 0));
    // Every slot is free or retired, and in the free list once.
    for table in &tables {
        let free = core::iter::from_fn(|| table.pop(&table.slack.free)).collect::<Vec<_>>();
        assert_eq!(HashSet::<u32>::from_iter(free.iter().copied()).len(), free.len());
        assert_eq!(free.len() as u32 + table.retired(), table.used());
    }
}

/// A handle's number that threads hand each other.
#[derive(Default)]
struct AtomicU64Cell(core::sync::atomic::AtomicU64);

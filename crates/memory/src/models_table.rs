//! Models of the handle table, the derivation nodes' counts and the spinning lock; see `models` for how they run.
//!
//! Each names the mutants that it catches; "alone" says that no other model here does. A counter stands for the object's reference count: who has a handle open, and
//! who has one pinned, must find it above 0.

use crate::handle_entry::{CLOSING, LIVE, PINS};
use crate::models::explore;
use crate::sync::{AtomicU32, Ordering, load_32, store_32};
use crate::{
    BadHandle, Closed, Content, CountError, Lock, Locked, Nodes, Pin, Place, Released, Spin, Table, Uncounted,
};
use alloc::vec::Vec;
use kobj_abi::{RawHandle, Rights};
#[cfg(loom)]
use loom::{sync::Arc, thread};
#[cfg(shuttle)]
use shuttle::{sync::Arc, thread};

fn content(object: u32) -> Content {
    let object = Place::from_raw(object).unwrap();
    Content { object, rights: Rights::READ, node: None, inheritable: false }
}

/// Two tables and the counts of two objects, whose places are 1 and 2.
struct World {
    tables: [Table; 2],
    counts: [AtomicU32; 2],
}

impl World {
    fn new() -> Arc<Self> {
        let tables = [Table::new(0x5bd1_e995), Table::new(0x1234_5678)];
        Arc::new(Self { tables, counts: [AtomicU32::new(0), AtomicU32::new(0)] })
    }

    fn table(&self) -> &Table {
        &self.tables[0]
    }

    /// Counts a reference more.
    fn count(&self, object: Place) -> u32 {
        self.counts[object.index() as usize].fetch_add(1, Ordering::AcqRel)
    }

    fn counted(&self, object: Place) -> u32 {
        load_32(&self.counts[object.index() as usize], Ordering::Acquire)
    }

    /// Makes an object's handle in a table.
    fn open(&self, table: usize, object: u32) -> RawHandle {
        self.count(content(object).object);
        self.tables[table].open(content(object)).unwrap()
    }

    fn give_back(&self, content: Content) {
        let before = self.counts[content.object.index() as usize].fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "given back twice");
    }

    /// What a close has to do; whether it won.
    fn settle(&self, closed: Result<Closed, BadHandle>) -> bool {
        if let Ok(Closed::Now(content)) = closed {
            self.give_back(content);
        }
        closed.is_ok()
    }

    fn drain(&self) {
        while let Some(content) = self.table().take_closed() {
            self.give_back(content);
        }
    }

    /// A look through a pin, with all that must hold under it.
    fn look(&self, pin: Pin<'_>, object: u32) {
        assert_eq!(pin.content(), content(object));
        assert!(self.counted(pin.object()) > 0, "the object went under a pin");
        if pin.release() == Released::LastOfClosing {
            self.drain();
        }
    }

    /// Once all is quiet: so many handles live, each counted once, every other slot is free, once, and no pin is left.
    fn audit(&self, live: u32) {
        self.drain();
        let mut found = [0; 2];
        for table in &self.tables {
            for index in 0..table.used() {
                let word = table.word(index);
                assert_eq!(word & (PINS | CLOSING), 0, "{word:x}");
                if word & LIVE != 0 {
                    found[table.pin_at(index).unwrap().object().index() as usize] += 1;
                }
            }
            let mut free: Vec<u32> = core::iter::from_fn(|| table.pop_free()).collect();
            assert_eq!(free.len() as u32 + table.live() + table.retired(), table.used());
            free.sort_unstable();
            free.dedup();
            assert_eq!(free.len() as u32 + table.live() + table.retired(), table.used(), "a slot is free twice");
        }
        assert_eq!(found.iter().sum::<u32>(), live);
        assert_eq!(found, self.counts.each_ref().map(|count| load_32(count, Ordering::Acquire)));
    }
}

/// A lookup finds the object or is refused; closed, the handle is found by nobody; the object is given back once, after the
/// last pin.
///
/// Mutants, alone: a closing handle is pinned; who took out the last pin hands the entry over without the exchange.
/// Mutants: a lookup looks first and then pins; a close does not look for pins.
#[test]
fn model_lookups_against_a_close() {
    explore(Some(3), || {
        let world = World::new();
        let handle = world.open(0, 1);
        let closed = Arc::new(AtomicU32::new(0));
        let others: Vec<_> = (0..2)
            .map(|_| {
                let (world, closed) = (world.clone(), closed.clone());
                thread::spawn(move || {
                    let closed_before = load_32(&closed, Ordering::Acquire) == 1;
                    match world.table().pin(handle) {
                        Ok(pin) => {
                            assert!(!closed_before, "pinned after it was closed");
                            world.look(pin, 1);
                        }
                        Err(_) => world.drain(),
                    }
                })
            })
            .collect();
        assert!(world.settle(world.table().close(handle)));
        store_32(&closed, 1, Ordering::Release);
        others.into_iter().for_each(|other| other.join().unwrap());
        world.audit(0);
    });
}

/// Of two who close a handle one wins.
///
/// Mutant: a close does not look whether its exchange was made.
#[test]
fn model_a_close_against_a_close() {
    explore(None, || {
        let world = World::new();
        let handle = world.open(0, 1);
        let other = {
            let world = world.clone();
            thread::spawn(move || u32::from(world.settle(world.table().close(handle))))
        };
        let won = u32::from(world.settle(world.table().close(handle)));
        assert_eq!(won + other.join().unwrap(), 1);
        world.audit(0);
    });
}

/// A handle is copied while it is closed: the copy counts the object before the closed one gives it back.
///
/// Mutant: the slot of a handle that is closed and pinned is free at once; then the copy gets it.
#[test]
fn model_a_close_against_a_duplicate() {
    explore(None, || {
        let world = World::new();
        let handle = world.open(0, 1);
        let other = {
            let world = world.clone();
            thread::spawn(move || {
                let Ok(pin) = world.table().pin(handle) else { return 0 };
                assert!(world.count(pin.object()) > 0, "the object went under a pin");
                let copy = world.table().open(pin.content()).unwrap();
                world.look(pin, 1);
                world.look(world.table().pin(copy).unwrap(), 1);
                1
            })
        };
        assert!(world.settle(world.table().close(handle)));
        let copies = other.join().unwrap();
        world.audit(copies);
    });
}

/// Moves handle 1 to the other table, if nobody ended it; how many arrived.
fn transfer(world: &World, handle: RawHandle) -> u32 {
    let Ok(closed) = world.table().close(handle) else { return 0 };
    assert_eq!(closed.content(), content(1), "what arrives is what was sent");
    if let Closed::Later(content) = closed {
        world.count(content.object);
    }
    world.tables[1].open(closed.content()).unwrap();
    1
}

/// A pinned handle is moved to another table and closed: one of the two ends it.
///
/// Mutant: who loses the exchange takes itself for the winner.
#[test]
fn model_a_transfer_against_a_close() {
    explore(None, || {
        let world = World::new();
        let handle = world.open(0, 1);
        let pin = world.table().pin(handle).unwrap();
        let mover = {
            let world = world.clone();
            thread::spawn(move || transfer(&world, handle))
        };
        let closed = u32::from(world.settle(world.table().close(handle)));
        let moved = mover.join().unwrap();
        assert_eq!(closed + moved, 1);
        world.look(pin, 1);
        world.audit(moved);
    });
}

/// A handle is moved while its last pin goes and another object comes into its slot: what arrives is what was sent.
///
/// Mutant, alone: the mover reads what the handle stands for without a pin of its own.
#[test]
fn model_a_transfer_against_the_last_pin() {
    explore(None, || {
        let world = World::new();
        let handle = world.open(0, 1);
        let pin = world.table().pin(handle).unwrap();
        let mover = {
            let world = world.clone();
            thread::spawn(move || assert_eq!(transfer(&world, handle), 1))
        };
        world.look(pin, 1);
        world.drain();
        let other = world.open(0, 2);
        mover.join().unwrap();
        world.look(world.table().pin(other).unwrap(), 2);
        world.audit(2);
    });
}

/// A late lookup adds to a slot that is being made, and takes that out again: the new handle is there.
///
/// Mutants, alone: a handle is made by a plain store; by a load and a store.
#[test]
fn model_a_create_against_a_stale_lookup() {
    explore(None, || {
        let world = World::new();
        let old = world.open(0, 1);
        let other = {
            let world = world.clone();
            thread::spawn(move || match world.table().pin(old) {
                Ok(pin) => world.look(pin, 1),
                Err(_) => world.drain(),
            })
        };
        assert!(world.settle(world.table().close(old)));
        let new = world.open(0, 2);
        world.look(world.table().pin(new).unwrap(), 2);
        other.join().unwrap();
        world.look(world.table().pin(new).unwrap(), 2);
        assert!(world.table().pin(old).is_err());
        world.audit(1);
    });
}

/// A late lookup of an earlier handle stands in the entry while the present one is closed: whoever leaves last hands it over.
///
/// Mutant, alone: a lookup with an old number takes its pin out and looks no further.
#[test]
fn model_a_stale_lookup_that_leaves_a_closing_handle_last() {
    explore(None, || {
        let world = World::new();
        let old = world.open(0, 1);
        assert!(world.settle(world.table().close(old)));
        let handle = world.open(0, 1);
        let other = {
            let world = world.clone();
            thread::spawn(move || assert!(world.table().pin(old).is_err()))
        };
        assert!(world.settle(world.table().close(handle)));
        other.join().unwrap();
        world.audit(0);
    });
}

/// Slots are taken and given back while another takes one: no slot is had twice.
///
/// Mutant, alone: a pop does not count; then an old look at the head passes for a new one.
#[test]
fn model_the_free_list_does_not_take_an_old_head_for_a_new_one() {
    explore(None, || {
        let world = World::new();
        let table = world.table();
        let three: Vec<_> = (0..3).map(|_| table.reserve().unwrap()).collect();
        three.into_iter().for_each(|reserved| table.give_back(reserved));
        let other = {
            let world = world.clone();
            thread::spawn(move || world.table().reserve().unwrap().handle())
        };
        let (first, second) = (table.reserve().unwrap(), table.reserve().unwrap());
        table.give_back(first);
        let third = table.reserve().unwrap();
        let mut held = [second.handle(), third.handle(), other.join().unwrap()];
        held.sort_unstable();
        assert!(held[0] != held[1] && held[1] != held[2], "{held:?}");
    });
}

/// Two give back while one takes: no slot is lost.
///
/// Mutant, alone: a push that has to try again keeps the link of its first look.
#[test]
fn model_two_give_back_at_once() {
    explore(None, || {
        let world = World::new();
        let table = world.table();
        let (one, two) = (table.reserve().unwrap(), table.reserve().unwrap());
        let other = {
            let world = world.clone();
            thread::spawn(move || world.table().give_back(one))
        };
        table.give_back(two);
        other.join().unwrap();
        world.audit(0);
    });
}

/// Two bring the same bucket: both use the one that stays. (The first bucket of a model has two entries.)
///
/// Mutants, alone: a bucket is stored, not exchanged; an index is taken without an exchange.
#[test]
fn model_two_grow_at_once() {
    explore(Some(4), || {
        let world = World::new();
        let open_two = |world: &World, object: u32| {
            let handles = [world.open(0, object), world.open(0, object)];
            for handle in handles {
                world.look(world.table().pin(handle).unwrap(), object);
            }
            handles
        };
        let other = {
            let world = world.clone();
            thread::spawn(move || open_two(&world, 1))
        };
        let mine = open_two(&world, 2);
        let theirs = other.join().unwrap();
        let table = world.table();
        assert_eq!((table.used(), table.capacity()), (4, 6));
        mine.into_iter().for_each(|handle| world.look(table.pin(handle).unwrap(), 2));
        theirs.into_iter().for_each(|handle| world.look(table.pin(handle).unwrap(), 1));
        world.audit(4);
    });
}

/// A node is revoked while a handle of it is copied: in the end it has no handle, and the copy was refused or was found.
///
/// Mutant, alone: a count looks whether the node is revoked, and then adds.
#[test]
fn model_a_revoke_against_a_duplicate() {
    explore(None, || {
        let world = World::new();
        let nodes = Arc::new(Nodes::default());
        let node = nodes.make().unwrap();
        world.count(content(1).object);
        let with_node = Content { node: Some(node), ..content(1) };
        let handle = world.table().open(with_node).unwrap();
        let other = {
            let (world, nodes) = (world.clone(), nodes.clone());
            thread::spawn(move || {
                // Stands for the pin of the handle that is copied: the count is never 0 here.
                let counted = nodes.count(node);
                if counted.is_ok() {
                    world.count(with_node.object);
                    world.table().open(with_node).unwrap();
                }
                assert!(matches!(counted, Ok(()) | Err(CountError::Revoked)));
            })
        };
        let to_find = nodes.revoke(node);
        let close = |index| {
            let Some(Closed::Now(content)) = world.table().close_at(index) else { return false };
            world.give_back(content);
            nodes.uncount(node) == Uncounted::Last
        };
        // The first sweep finds what is open; what is counted and not open yet is found after the other is through.
        let mut last: u32 = (0..world.table().used()).map(|index| u32::from(close(index))).sum();
        other.join().unwrap();
        let late: u32 = (0..world.table().used()).map(|index| u32::from(close(index))).sum();
        last += late;
        assert_eq!(nodes.handles(node), 0);
        assert_eq!(last, 1, "of {to_find} one was the last");
        assert_eq!(nodes.count(node), Err(CountError::Revoked));
        assert!(world.table().pin(handle).is_err());
        world.audit(0);
    });
}

/// A revoke finds a handle by its index while that one is closed and another, of no node, comes into its slot: the other one
/// stays.
///
/// Mutant, alone: the revoke looks at the node, and then closes whatever stands there.
#[test]
fn model_a_revoke_against_a_slot_that_lives_again() {
    explore(None, || {
        let world = World::new();
        let node = Place::new(0).unwrap();
        world.count(content(1).object);
        let handle = world.table().open(Content { node: Some(node), ..content(1) }).unwrap();
        let other = {
            let world = world.clone();
            thread::spawn(move || {
                let looked = world.table().pin(handle).map(drop);
                let closed = u32::from(world.settle(world.table().close(handle)));
                world.drain();
                (closed, looked, world.open(0, 2))
            })
        };
        let closed = world.table().close_of(0, node);
        let revoked = u32::from(closed.is_some_and(|closed| world.settle(Ok(closed))));
        let (closed, _, stays) = other.join().unwrap();
        assert_eq!(revoked + closed, 1);
        world.look(world.table().pin(stays).unwrap(), 2);
        world.audit(1);
    });
}

/// Of two who give up a node's last handles exactly one is told so.
///
/// Mutant, alone: a count is given up by a load and a store.
#[test]
fn model_the_last_handle_of_a_node() {
    explore(None, || {
        let nodes = Arc::new(Nodes::default());
        let node = nodes.make().unwrap();
        nodes.count(node).unwrap();
        let other = {
            let nodes = nodes.clone();
            thread::spawn(move || u32::from(nodes.uncount(node) == Uncounted::Last))
        };
        let last = u32::from(nodes.uncount(node) == Uncounted::Last);
        assert_eq!(last + other.join().unwrap(), 1);
        assert_eq!(nodes.uncount(node), Uncounted::None);
    });
}

/// One at a time is inside the lock.
///
/// Mutant, alone: the lock is opened before what is inside is done.
#[test]
fn model_the_spinning_lock_lets_one_in() {
    explore(Some(3), || {
        let lock: Arc<<Spin as Lock>::Around<AtomicU32>> = Arc::new(Locked::new(AtomicU32::new(0)));
        // A load and a store: two inside at once would lose one.
        let add = |count: &mut AtomicU32| store_32(count, load_32(count, Ordering::Relaxed) + 1, Ordering::Relaxed);
        let other = {
            let lock = lock.clone();
            thread::spawn(move || lock.with(add))
        };
        lock.with(add);
        other.join().unwrap();
        assert_eq!(lock.with(|count| load_32(count, Ordering::Relaxed)), 2);
    });
}

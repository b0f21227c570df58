//! Models of objects that threads make, hold, close and count, and of leases; see `models` for how they run.
//!
//! Each names the mutants that it catches. Loom watches each body: a look and a write that nothing orders is a failure.

use crate::credit::{LeaseBlock, Take, Totals, Units};
use crate::header::Header;
use crate::models::explore;
use crate::sync::{AtomicU32, Ordering, load_32, store_32};
use crate::{Acquire, AddHandle, Counts, DropHandle, Place, Reaper, Release, Shared, Stamp};
use alloc::vec::Vec;
use kobj_abi::{Era, Koid, Tag};
#[cfg(loom)]
use loom::{sync::Arc, thread};
#[cfg(shuttle)]
use shuttle::{sync::Arc, thread};

/// What stands in a slot behind the header: 0 where there is no state.
#[cfg(loom)]
struct Body(loom::cell::UnsafeCell<u32>);

// SAFETY: threads must not race for the number: that is what loom looks for. A race breaks it, and the model fails.
#[cfg(loom)]
unsafe impl Sync for Body {}

#[cfg(loom)]
impl Body {
    fn new() -> Self {
        Self(loom::cell::UnsafeCell::new(0))
    }

    fn look(&self) -> u32 {
        // SAFETY: the pointer must be good for a look: loom gave it, and fails where somebody writes meanwhile. A race
        // breaks it, and the model fails.
        self.0.with(|body| unsafe { *body })
    }

    fn replace(&self, state: u32) -> u32 {
        // SAFETY: the pointer must be good for a write: loom gave it, and fails where somebody looks meanwhile. A race
        // breaks it, and the model fails.
        self.0.with_mut(|body| unsafe { body.replace(state) })
    }
}

/// The same where races are not looked for.
#[cfg(shuttle)]
struct Body(AtomicU32);

#[cfg(shuttle)]
impl Body {
    fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    fn look(&self) -> u32 {
        load_32(&self.0, Ordering::Relaxed)
    }

    fn replace(&self, state: u32) -> u32 {
        self.0.swap(state, Ordering::Relaxed)
    }
}

fn tag(life: u32) -> Tag {
    Tag { letters: *b"USER", koid: Koid::new(Era(7), life).unwrap() }
}

/// One slot, the reaper list, and how often the slot was buried.
struct World {
    header: Header,
    body: Body,
    reaper: Reaper,
    buried: AtomicU32,
}

impl World {
    fn new() -> Arc<Self> {
        let (header, reaper) = (Header::default(), Reaper::default());
        Arc::new(Self { header, body: Body::new(), reaper, buried: AtomicU32::new(0) })
    }

    fn place() -> Place {
        Place::new(0).unwrap()
    }

    /// Makes the object of a life, as a lease does: what its header and its body say is its own.
    fn make(&self, life: u32, counts: Counts) {
        assert_eq!(self.body.replace(life), 0, "the slot is another's");
        self.header.begin(64, i64::from(life), Place::from_raw(life), life);
        self.header.gate.open(tag(life), counts);
    }

    /// What a held object says of itself is of one life.
    fn look(&self) {
        let Stamp::Live(tag) = self.header.gate.stamp() else { panic!("held, and no tag") };
        let life = tag.koid.counter();
        assert_eq!(self.header.owner(), Place::from_raw(life));
        assert_eq!((self.header.created_us(), self.header.charge_bytes()), (i64::from(life), life));
        assert_eq!(self.body.look(), life);
    }

    /// Buries, as who has the sole right does.
    fn bury(&self) {
        assert_eq!(self.header.gate.references(), 0);
        self.header.gate.take_tag();
        assert_ne!(self.body.replace(0), 0, "its state was dropped before");
        self.header.clear();
        self.buried.fetch_add(1, Ordering::Relaxed);
    }

    fn queue(&self) {
        self.reaper.push(Self::place(), &self.header.next);
    }

    fn release(&self) {
        match self.header.gate.release() {
            Release::Last => self.queue(),
            Release::Remaining => {}
            Release::None => panic!("a reference that was counted is gone"),
        }
    }

    /// Closes a handle, as a lease's thread does; whether it was the last one.
    fn close(&self) -> bool {
        match self.header.gate.drop_handle() {
            (DropHandle::Remaining, _) => false,
            (DropHandle::LastHandle, _) => {
                self.look();
                self.release();
                true
            }
            (DropHandle::Last, counts) => {
                assert_eq!(self.body.look(), self.header.charge_bytes(), "the hooks look at it");
                if counts.in_graph() {
                    self.queue()
                } else {
                    self.bury()
                }
                true
            }
            (DropHandle::None, _) => panic!("a handle that was counted is gone"),
        }
    }

    /// Takes and buries what is on the list.
    fn reap(&self) {
        let mut at = self.reaper.take();
        while at.is_some() {
            at = Place::from_raw(load_32(&self.header.next, Ordering::Relaxed));
            store_32(&self.header.next, 0, Ordering::Relaxed);
            self.bury();
        }
    }

    fn buried(&self) -> u32 {
        load_32(&self.buried, Ordering::Relaxed)
    }
}

/// A census meets an object whole or not at all, though its slot changes hands.
///
/// Mutants: `Gate::open` counts before it stamps; `Gate::acquire_any` counts where there is nothing.
#[test]
fn model_making_against_a_census() {
    // Many words are looked at: bounded to two preemptions.
    explore(Some(2), || {
        let world = World::new();
        let census = {
            let world = world.clone();
            thread::spawn(move || {
                if world.header.gate.acquire_any() == Acquire::Counted {
                    world.look();
                    world.release();
                }
            })
        };
        world.make(1, Counts::HANDLED);
        assert!(world.close());
        // Buried by this thread, or the census held it and put it on the list.
        let mine = world.buried() == 1;
        if mine {
            world.make(2, Counts::HANDLED);
            assert!(world.close());
        }
        census.join().unwrap();
        world.reap();
        assert_eq!(world.buried(), if mine { 2 } else { 1 });
    });
}

/// Of two closes and a release one is the last of all and one the last handle's; the state is there as long as somebody
/// looks, and goes once.
///
/// Mutants: `drop_handle` gives up the reference of a last handle too; `drop_handle` says of each close that it is the last.
#[test]
fn model_two_closes_against_a_release() {
    explore(Some(3), || {
        let world = World::new();
        world.make(1, Counts::HANDLED);
        assert_eq!(world.header.gate.add_handle(), AddHandle::Counted);
        assert_eq!(world.header.gate.acquire(tag(1)), Acquire::Counted);
        let closers: Vec<_> = (0..2)
            .map(|_| {
                let world = world.clone();
                thread::spawn(move || u32::from(world.close()))
            })
            .collect();
        world.look();
        world.release();
        let last: u32 = closers.into_iter().map(|closer| closer.join().unwrap()).sum();
        world.reap();
        assert_eq!((last, world.buried()), (1, 1));
    });
}

/// The owner closes one of several handles without a reference of its own, and a thread another: one of them is the last one's,
/// and hears of it while the object is there.
///
/// Mutant: the last handle is given up as if there were others.
#[test]
fn model_one_of_many_against_a_close() {
    explore(None, || {
        let world = World::new();
        world.make(1, Counts::HANDLED);
        assert_eq!(world.header.gate.add_handle(), AddHandle::Counted);
        let closer = {
            let world = world.clone();
            thread::spawn(move || u32::from(world.close()))
        };
        let last = if world.header.gate.drop_one_of_many() { 0 } else { u32::from(world.close()) };
        let last = last + closer.join().unwrap();
        world.reap();
        assert_eq!((last, world.buried()), (1, 1));
    });
}

/// A handle is duplicated by who holds the object while the last one is closed: the type's last-close hook runs once.
///
/// Mutant: `add_handle` does not look whether there is a handle.
#[test]
fn model_a_duplicate_against_the_last_close() {
    explore(None, || {
        let world = World::new();
        world.make(1, Counts::HANDLED);
        assert_eq!(world.header.gate.acquire(tag(1)), Acquire::Counted);
        let closer = {
            let world = world.clone();
            thread::spawn(move || u32::from(world.close()))
        };
        let mut last = 0;
        if world.header.gate.add_handle() == AddHandle::Counted {
            world.look();
            last += u32::from(world.close());
        }
        world.release();
        last += closer.join().unwrap();
        world.reap();
        assert_eq!((last, world.buried()), (1, 1));
    });
}

/// The owner links an object while its only handle is closed: either the closer leaves its end to the owner, or the owner hears
/// that it is gone.
///
/// Mutant: `join_graph` does not look whether the object is referenced.
#[test]
fn model_joining_the_graph_against_the_last_close() {
    explore(None, || {
        let world = World::new();
        world.make(1, Counts::HANDLED);
        let closer = {
            let world = world.clone();
            thread::spawn(move || {
                let (dropped, counts) = world.header.gate.drop_handle();
                assert_eq!(dropped, DropHandle::Last);
                if counts.in_graph() {
                    world.queue()
                } else {
                    world.bury()
                }
                counts.in_graph()
            })
        };
        let joined = world.header.gate.join_graph();
        assert_eq!(closer.join().unwrap(), joined, "each leaves the end to the other, or both take it");
        world.reap();
        assert_eq!(world.buried(), 1);
    });
}

/// The slot of a lease lives again at once, under the eyes of a holder that comes late: it never takes the new object for the old,
/// and whoever gives up the last reference of a life ends that life.
///
/// Mutants: an acquire does not look at the tag again; a late acquire that gave up the last reference queues nobody.
#[test]
fn model_a_leases_slot_that_lives_again_against_a_late_holder() {
    explore(None, || {
        let world = World::new();
        world.make(1, Counts::HANDLED);
        let late = {
            let world = world.clone();
            thread::spawn(move || match world.header.gate.acquire(tag(1)) {
                Acquire::Counted => {
                    assert_eq!(world.body.look(), 1);
                    world.release();
                }
                Acquire::StaleLast => world.queue(),
                Acquire::Stale | Acquire::Full => {}
            })
        };
        assert!(world.close());
        let lives = if world.buried() == 1 {
            world.make(2, Counts::HANDLED);
            assert!(world.close() || world.buried() == 1);
            2
        } else {
            1
        };
        late.join().unwrap();
        world.reap();
        assert_eq!(world.buried(), lives);
    });
}

/// Credit is taken while it is called back: each unit is in one hand.
///
/// Mutant: `recall` loads and then stores.
#[test]
fn model_take_against_recall() {
    explore(None, || {
        let block = Arc::new(LeaseBlock::default());
        assert!(block.credit.grant(2, 2));
        let thread = {
            let block = block.clone();
            thread::spawn(move || (0..2).filter(|_| block.begin(Units::BOTH) == Take::Taken).count() as u32)
        };
        let recalled = block.credit.recall(Units::OBJECTS).objects();
        let taken = thread.join().unwrap();
        assert_eq!(recalled + taken + block.credit.unused().objects(), 2);
        assert_eq!(taken + block.credit.unused().handles(), 2, "the other kind is not called back with it");
        let mut totals = Totals::default();
        LeaseBlock::add_all([&*block].into_iter(), &mut totals);
        assert_eq!((totals.created, totals.opened), (taken.into(), taken.into()));
    });
}

/// Credit comes back while the lease is closed, twice: none is lost, none is doubled, and nothing is taken afterwards.
///
/// Mutants: `give` leaves a closed word as it is; `close` leaves the credit there; `take` does not look whether it is closed.
#[test]
fn model_give_against_close() {
    explore(None, || {
        let block = Arc::new(LeaseBlock::default());
        assert!(block.credit.grant(2, 2));
        assert_eq!(block.begin(Units::OBJECT), Take::Taken);
        let thread = {
            let block = block.clone();
            thread::spawn(move || {
                block.end(Units::OBJECT);
                u32::from(block.begin(Units::OBJECT) == Take::Taken)
            })
        };
        let early = block.credit.close().objects() + block.credit.close().objects();
        let again = thread.join().unwrap();
        assert_eq!(block.begin(Units::OBJECT), Take::Closed);
        assert_eq!(early + again + block.credit.recall(Units::OBJECTS).objects(), 2);
        assert_eq!(block.credit.recall(Units::OBJECTS).objects(), 0);
    });
}

/// One thread makes an object, another ends it: who sums up never sees it end without having been made, and who makes another with
/// the credit that came back finds the first one ended.
///
/// Mutants: `add_all` reads what was made first; `end_object` gives the credit back before it counts.
#[test]
fn model_sums_against_threads_that_count() {
    explore(Some(3), || {
        let blocks = Arc::new([LeaseBlock::default(), LeaseBlock::default()]);
        assert!(blocks[0].credit.grant(1, 1));
        let made = Arc::new(AtomicU32::new(0));
        let maker = {
            let (blocks, made) = (blocks.clone(), made.clone());
            thread::spawn(move || {
                assert_eq!(blocks[0].begin(Units::OBJECT), Take::Taken);
                store_32(&made, 1, Ordering::Release);
            })
        };
        let ender = {
            let (blocks, made) = (blocks.clone(), made.clone());
            thread::spawn(move || {
                if load_32(&made, Ordering::Acquire) == 1 {
                    blocks[1].end(Units::OBJECT);
                }
            })
        };
        let sum = || {
            let mut totals = Totals::default();
            LeaseBlock::add_all(blocks.iter(), &mut totals);
            totals
        };
        let recalled = blocks[1].credit.recall(Units::OBJECTS).objects();
        let seen = sum();
        assert!(seen.destroyed <= seen.created, "{seen:?}");
        assert!(u64::from(recalled) <= seen.destroyed, "the credit of an object that did not end: {seen:?}");
        maker.join().unwrap();
        ender.join().unwrap();
        let all = sum();
        assert_eq!(u64::from(recalled + blocks[1].credit.unused().objects()), all.destroyed);
    });
}

/// Says when it is dropped, and is written before by each owner.
struct Watched {
    body: Body,
    drops: Arc<AtomicU32>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.body.replace(0);
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
}

/// The last owner of a shared value drops it, after all that others did to it.
///
/// Mutants: the count goes down without ordering; two owners think that they are the last.
#[test]
fn model_two_owners_of_a_shared_value() {
    explore(None, || {
        let drops = Arc::new(AtomicU32::new(0));
        let shared = Shared::try_new(Watched { body: Body::new(), drops: drops.clone() }).unwrap();
        let other = {
            let shared = shared.clone();
            thread::spawn(move || {
                assert_eq!(shared.body.look(), 0);
                drop(shared);
            })
        };
        assert_eq!(shared.clone().body.look(), 0);
        drop(shared);
        other.join().unwrap();
        assert_eq!(load_32(&drops, Ordering::Relaxed), 1);
    });
}

/// A lease gives back a piece of its list while another gives one slot and the owner takes all: each slot is found once.
///
/// Mutant: a push goes on with the head of its first look.
#[test]
fn model_pieces_of_lists_that_come_back() {
    explore(None, || {
        let next: Arc<[AtomicU32; 3]> = Arc::new(core::array::from_fn(|_| AtomicU32::new(0)));
        let returned = Arc::new(Reaper::default());
        let place = |index| Place::new(index).unwrap();
        let other = {
            let (next, returned) = (next.clone(), returned.clone());
            thread::spawn(move || {
                // 0, then 1.
                store_32(&next[0], place(1).raw(), Ordering::Relaxed);
                returned.push(place(0), &next[1]);
            })
        };
        let mut found = Vec::new();
        let mut take = || {
            let mut at = returned.take();
            while let Some(here) = at {
                found.push(here.index());
                at = Place::from_raw(load_32(&next[here.index() as usize], Ordering::Relaxed));
            }
        };
        returned.push(place(2), &next[2]);
        take();
        other.join().unwrap();
        take();
        found.sort_unstable();
        assert_eq!(found, [0, 1, 2]);
    });
}

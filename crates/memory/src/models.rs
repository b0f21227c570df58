//! Models of what threads share, for loom (every sequentially consistent interleaving of the real code, within a bound)
//! and for shuttle (random ones and such with few preemptions, of larger models too; a failure prints its schedule).
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p kobj-memory --release --lib models`, and the same with `--cfg shuttle`.
//!
//! Each model names the mutant that it catches: plant it, see the model fail, take it out. Orderings weaker than
//! sequential consistency are argued where they stand (see `sync`).

use crate::sync::{AtomicU32, Ordering, load_32, store_32};
use crate::{Acquire, Counts, Gate, Place, Reaper, Release, Stamp};
use alloc::vec::Vec;
use kobj_abi::{Era, Koid, Tag};
#[cfg(loom)]
use loom::{sync::Arc, thread};
#[cfg(shuttle)]
use shuttle::{rand::Rng, sync::Arc, thread};

/// Runs a model over its interleavings; `preemptions` bounds loom alone, `None` not at all.
#[cfg(loom)]
pub(crate) fn explore(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(model);
}

/// Interleavings that shuttle tries of each kind.
#[cfg(shuttle)]
const TRIES: usize = 50_000;

/// Runs a model over random interleavings, then over such as few preemptions give: rare ones come up there.
#[cfg(shuttle)]
pub(crate) fn explore(_preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let model = std::sync::Arc::new(model);
    let again = model.clone();
    shuttle::check_random(move || model(), TRIES);
    shuttle::check_pct(move || again(), TRIES, 3);
}

fn tag(counter: u32) -> Tag {
    Tag { letters: *b"HOST", koid: Koid::new(Era(7), counter).unwrap() }
}

/// Gates and link words of two slots, and the reaper.
struct Shared {
    gates: [Gate; 2],
    next: [AtomicU32; 2],
    reaper: Reaper,
}

impl Shared {
    fn new() -> Arc<Self> {
        let next = [AtomicU32::new(0), AtomicU32::new(0)];
        Arc::new(Self { gates: [Gate::default(), Gate::default()], next, reaper: Reaper::default() })
    }

    fn push(&self, slot: u32) -> bool {
        self.reaper.push(Place::new(slot).unwrap(), &self.next[slot as usize])
    }

    /// Gives up a reference as the slab does: the last one queues.
    fn release(&self, slot: u32) -> Release {
        let released = self.gates[slot as usize].release();
        if released == Release::Last {
            self.push(slot);
        }
        released
    }

    /// Counts a reference as the slab does.
    fn acquire(&self, slot: u32, tag: Tag) -> bool {
        let acquired = self.gates[slot as usize].acquire(tag);
        if acquired == Acquire::StaleLast {
            self.push(slot);
        }
        acquired == Acquire::Counted
    }

    /// Takes the list and gives its slots.
    fn take(&self) -> Vec<u32> {
        let mut found = Vec::new();
        let mut at = self.reaper.take();
        while let Some(place) = at {
            let next = &self.next[place.index() as usize];
            at = Place::from_raw(load_32(next, Ordering::Relaxed));
            store_32(next, 0, Ordering::Relaxed);
            found.push(place.index());
            assert!(found.len() <= 2, "a slot is in the list twice");
        }
        found
    }

    /// What burial does to a gate.
    fn clean(&self, slot: usize) {
        let gate = &self.gates[slot];
        assert_eq!(gate.references(), 0);
        gate.clear();
    }
}

/// Nobody comes back from zero: the object is queued once, and while it is counted its tag is there.
///
/// Mutant: `acquire` adds without looking whether the count is 0; then the object is queued twice.
#[test]
fn model_the_last_release_against_a_late_acquire() {
    // Three threads: bounded to three preemptions, which takes seconds; the others are not bounded.
    explore(Some(3), || {
        let shared = Shared::new();
        shared.gates[0].open(tag(1), Counts::KEPT);
        let others: Vec<_> = (0..2)
            .map(|_| {
                let shared = shared.clone();
                thread::spawn(move || {
                    if shared.acquire(0, tag(1)) {
                        assert_eq!(shared.gates[0].stamp(), Stamp::Live(tag(1)));
                        shared.release(0);
                    }
                })
            })
            .collect();
        shared.release(0);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(shared.take(), [0]);
        assert_eq!(shared.gates[0].references(), 0);
    });
}

/// A slot changes hands under a late comer: it never takes the new object for the old one, and if it was the new
/// object's last reference for a moment, the new object is still queued, once.
///
/// Mutants: `acquire` does not look at the tag again after counting; `StaleLast` is not queued.
#[test]
fn model_a_late_acquire_against_a_slot_that_lives_again() {
    explore(None, || {
        let shared = Shared::new();
        shared.gates[0].open(tag(1), Counts::KEPT);
        let late = {
            let shared = shared.clone();
            thread::spawn(move || {
                if shared.acquire(0, tag(1)) {
                    assert_eq!(shared.gates[0].stamp(), Stamp::Live(tag(1)));
                    shared.release(0);
                }
            })
        };
        let mut buried = 0;
        shared.release(0);
        if shared.take() == [0] {
            buried += 1;
            shared.gates[0].take_tag();
            shared.clean(0);
            shared.gates[0].open(tag(2), Counts::KEPT);
            shared.release(0);
        }
        late.join().unwrap();
        buried += shared.take().len();
        assert_eq!(buried, if shared.gates[0].is(tag(2)) { 2 } else { 1 });
        assert_eq!(shared.gates[0].references(), 0);
    });
}

/// Once the tag is taken nobody counts itself in; who was counted before keeps the memory.
///
/// Mutant: `acquire` does not look at the tag again after counting.
#[test]
fn model_an_acquire_against_the_taking_of_the_tag() {
    explore(None, || {
        let shared = Shared::new();
        shared.gates[0].open(tag(1), Counts::KEPT);
        let taken = Arc::new(AtomicU32::new(0));
        let late = {
            let (shared, taken) = (shared.clone(), taken.clone());
            thread::spawn(move || {
                let taken_before = load_32(&taken, Ordering::Acquire) == 1;
                if shared.acquire(0, tag(1)) {
                    assert!(!taken_before, "counted in after the tag was taken");
                    shared.release(0);
                }
            })
        };
        shared.gates[0].take_tag();
        store_32(&taken, 1, Ordering::Release);
        shared.release(0);
        late.join().unwrap();
        assert_eq!(shared.take(), [0]);
    });
}

/// Two push while one takes: each slot is found once, and for each list that is found there was one who was told that
/// it is the first.
///
/// Mutants: `push` stores the head instead of exchanging it; `push` links to the head of its first look after a failed
/// exchange; `take` loads and then stores 0.
#[test]
fn model_two_push_while_one_takes() {
    explore(None, || {
        let shared = Shared::new();
        let pushers: Vec<_> = (0..2)
            .map(|slot| {
                let shared = shared.clone();
                thread::spawn(move || u32::from(shared.push(slot)))
            })
            .collect();
        let early = shared.take();
        let firsts: u32 = pushers.into_iter().map(|pusher| pusher.join().unwrap()).sum();
        let late = shared.take();
        assert_eq!(firsts, u32::from(!early.is_empty()) + u32::from(!late.is_empty()));
        let mut found = [early, late].concat();
        found.sort_unstable();
        assert_eq!(found, [0, 1]);
    });
}

/// A slot is taken and pushed again while another pusher stands between its look and its exchange: the list stays whole.
///
/// Mutant: `push` stores its link after the exchange instead of before; then the slot behind it is lost.
#[test]
fn model_a_slot_that_returns_while_another_is_pushed() {
    explore(None, || {
        let shared = Shared::new();
        shared.push(0);
        let pusher = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.push(1);
            })
        };
        let mut seen = [0; 2];
        for slot in shared.take() {
            seen[slot as usize] += 1;
        }
        assert_eq!(seen[0], 1);
        shared.push(0);
        pusher.join().unwrap();
        for slot in shared.take() {
            seen[slot as usize] += 1;
        }
        assert_eq!(seen, [2, 1]);
    });
}

/// Larger than loom can do: four threads count and give back on two slots, while the consumer buries and opens them again.
/// Every life ends in exactly one burial, and nobody takes one life for another.
///
/// Mutants: each of those above.
#[cfg(shuttle)]
#[test]
fn model_many_threads_on_slots_that_live_again() {
    const LIVES: u32 = 3;
    explore(None, || {
        let shared = Shared::new();
        let of = |slot: u32, life: u32| tag(1 + slot + 2 * life);
        shared.gates.iter().zip(0..).for_each(|(gate, slot)| gate.open(of(slot, 0), Counts::KEPT));
        let others: Vec<_> = (0..4)
            .map(|_| {
                let shared = shared.clone();
                thread::spawn(move || {
                    for _ in 0..4 {
                        let mut random = shuttle::rand::thread_rng();
                        let (slot, life) = (random.gen_range(0..2), random.gen_range(0..LIVES));
                        let wanted = of(slot, life);
                        if shared.acquire(slot, wanted) {
                            assert_eq!(shared.gates[slot as usize].stamp(), Stamp::Live(wanted));
                            assert_ne!(shared.release(slot), Release::None);
                        }
                    }
                })
            })
            .collect();
        let mut buried = [0; 2];
        let mut others = Some(others);
        let first_lives_end = |slot: u32| assert_ne!(shared.release(slot), Release::None);
        (0..2).for_each(first_lives_end);
        while buried != [LIVES; 2] {
            let ended = shared.take();
            if ended.is_empty() {
                // Whoever counts a life in ends it: with all of them gone each life has come to the list.
                let Some(waited_for) = others.take() else {
                    panic!("{buried:?} buried, and nobody is left to end more")
                };
                waited_for.into_iter().for_each(|other| other.join().unwrap());
            }
            for slot in ended {
                let at = slot as usize;
                shared.gates[at].take_tag();
                shared.clean(at);
                buried[at] += 1;
                if buried[at] < LIVES {
                    shared.gates[at].open(of(slot, buried[at]), Counts::KEPT);
                    shared.release(slot);
                }
            }
        }
        for other in others.into_iter().flatten() {
            other.join().unwrap();
        }
        assert_eq!(shared.take(), []);
        assert!(shared.gates.iter().all(|gate| gate.references() == 0));
    });
}

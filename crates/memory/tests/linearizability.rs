//! Recorded histories of the concurrent handle table are linearizable: for every handle there is one order of the operations on
//! it, true to their real times, in which the sequential model gives the same replies.
//!
//! Operations on different handles are independent, so handle by handle is enough (linearizability is local). An order is
//! searched with backtracking (Wing and Gong's search, with Lowe's memory of what was tried).
#![cfg(not(any(loom, shuttle)))]

use kobj_abi::{RawHandle, Rights};
use kobj_memory::{Closed, Content, Place, Slots, Table};
use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;

/// What was asked of a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// Make it, standing for this.
    Open(Content),
    /// Look it up.
    Pin,
    /// End it: a close, or the sender's side of a transfer.
    Close,
}

/// What the table said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Done,
    Is(Content),
    BadHandle,
}

/// The sequential model of one handle: its whole life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Unborn,
    Live(Content),
    Closed,
}

impl Life {
    /// The reply to a call and what comes after; `None` for what can never be asked (no number is given twice).
    fn step(self, call: Call) -> Option<(Reply, Self)> {
        Some(match (self, call) {
            (Self::Unborn, Call::Open(content)) => (Reply::Done, Self::Live(content)),
            (Self::Live(_) | Self::Closed, Call::Open(_)) => return None,
            (Self::Live(content), Call::Pin) => (Reply::Is(content), self),
            (Self::Live(content), Call::Close) => (Reply::Is(content), Self::Closed),
            (Self::Unborn | Self::Closed, Call::Pin | Call::Close) => (Reply::BadHandle, self),
        })
    }

    const fn number(self) -> u8 {
        match self {
            Self::Unborn => 0,
            Self::Live(_) => 1,
            Self::Closed => 2,
        }
    }
}

/// One operation as it was seen from outside.
#[derive(Clone, Copy, Debug)]
struct Operation {
    thread: u8,
    /// Instants of one clock that never gives the same one twice.
    begun: u64,
    ended: u64,
    call: Call,
    reply: Reply,
}

/// The table, by number, and the handle.
type Key = (usize, RawHandle);
/// What one thread did, in its order.
type Log = Vec<(Key, Operation)>;

/// Whether there is an order of one handle's operations that is true to their times and to the model.
///
/// A state of the search: all before `frontier` are placed but those in `pending`. Whoever begins after another ended comes
/// after it, so these all overlap: at most one of each client.
fn is_linearizable(operations: &mut [Operation]) -> bool {
    operations.sort_unstable_by_key(|operation| operation.begun);
    let mut tried = HashSet::new();
    let mut open = vec![(0_usize, Vec::<usize>::new(), Life::Unborn)];
    while let Some((frontier, pending, life)) = open.pop() {
        if frontier == operations.len() && pending.is_empty() {
            return true;
        }
        if !tried.insert((frontier, pending.clone(), life.number())) {
            continue;
        }
        // Next may be whoever began before all others that are not placed ended.
        let mut first_end = pending.iter().map(|at| operations[*at].ended).min().unwrap_or(u64::MAX);
        let mut place = |at: usize, pending: Vec<usize>, frontier: usize| {
            if let Some((reply, next)) = life.step(operations[at].call)
                && reply == operations[at].reply
            {
                open.push((frontier, pending, next));
            }
        };
        for at in &pending {
            place(*at, pending.iter().copied().filter(|other| other != at).collect(), frontier);
        }
        for (at, operation) in operations.iter().enumerate().skip(frontier) {
            if operation.begun > first_end {
                break;
            }
            first_end = first_end.min(operation.ended);
            place(at, pending.iter().copied().chain(frontier..at).collect(), at + 1);
        }
    }
    false
}

/// The histories of all handles.
fn by_handle(logs: &[Log]) -> HashMap<Key, Vec<Operation>> {
    let mut histories: HashMap<Key, Vec<Operation>> = HashMap::new();
    for (key, operation) in logs.iter().flatten() {
        histories.entry(*key).or_default().push(*operation);
    }
    histories
}

/// The handles whose histories have no order.
fn violations(histories: &mut HashMap<Key, Vec<Operation>>) -> Vec<Key> {
    let wrong = histories.iter_mut().filter_map(|(key, operations)| (!is_linearizable(operations)).then_some(*key));
    wrong.collect()
}

/// How many operations were under way while another thread's on the same handle was.
fn overlapping(histories: &mut HashMap<Key, Vec<Operation>>) -> usize {
    let mut count = 0;
    for operations in histories.values_mut() {
        operations.sort_unstable_by_key(|operation| operation.begun);
        let mut met = vec![false; operations.len()];
        for (at, early) in operations.iter().enumerate() {
            for (other, late) in operations.iter().enumerate().skip(at + 1) {
                if late.begun > early.ended {
                    break;
                }
                if late.thread != early.thread {
                    (met[at], met[other]) = (true, true);
                }
            }
        }
        count += met.iter().filter(|met| **met).count();
    }
    count
}

/// More than there are processors: they are stopped in the middle of what they do.
const THREADS: usize = 6;
/// Numbers that threads hand each other: few, so that they meet.
const CELLS: usize = 2;
/// One operation in so many is slow.
const SLOW: usize = 6;
/// How often a slow one lets others go on before it goes on itself, though nobody did anything.
const PATIENCE: usize = 10;

/// What the threads of a run share.
struct Run {
    tables: [Table; 2],
    clock: AtomicU64,
    stamps: AtomicU32,
    cells: [[AtomicU64; CELLS]; 2],
    /// A handle of each table of which somebody is in the middle of something.
    slow: [AtomicU64; 2],
}

/// Operations of each sort.
#[derive(Debug, Default)]
struct Shares {
    stale: usize,
    foreign: usize,
    transfers: usize,
    later: usize,
}

/// One thread's doing: one operation after the other. Some of them are slow: in their middle the thread lets others do
/// something first, and says at which handle it is, so that they come there.
struct Worker<'a> {
    run: &'a Run,
    thread: u8,
    random: u64,
    log: Log,
    /// Numbers it saw: most are closed by now.
    seen: Vec<Key>,
    slots: Slots,
    given_back: Vec<Content>,
    shares: Shares,
}

impl Worker<'_> {
    fn random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) as usize % below
    }

    /// Lets others go on until two of their operations began or ended, or none of them does anything.
    fn linger(&self, key: Key) {
        let cell = &self.run.slow[key.0];
        cell.store(key.1.raw(), Ordering::Relaxed);
        let until = self.run.clock.load(Ordering::Relaxed) + 2;
        for _ in 0..PATIENCE {
            let mut looks = 0..50;
            if looks.any(|_| {
                std::hint::spin_loop();
                self.run.clock.load(Ordering::Relaxed) >= until
            }) {
                break;
            }
            thread::yield_now();
        }
        let _another_is_there = cell.compare_exchange(key.1.raw(), 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Does it and writes down when and with what reply. A slow one lingers before it is done, or behind it.
    fn record(&mut self, key: Key, call: Call, act: impl FnOnce(&mut Self) -> Reply) -> Reply {
        let slow = self.random(2 * SLOW);
        let begun = self.run.clock.fetch_add(1, Ordering::SeqCst);
        if slow == 0 {
            self.linger(key);
        }
        let reply = act(self);
        if slow == 1 {
            self.linger(key);
        }
        let ended = self.run.clock.fetch_add(1, Ordering::SeqCst);
        self.log.push((key, Operation { thread: self.thread, begun, ended, call, reply }));
        reply
    }

    /// Opens a handle with a content that no other has, and lets others know.
    fn open(&mut self, table: usize, object: Place) {
        let node = Place::from_raw(self.run.stamps.fetch_add(1, Ordering::Relaxed));
        let content = Content { object, rights: Rights::READ, node, inheritable: false };
        let call = Call::Open(content);
        let kept = if table == 0 { self.run.tables[0].take_kept(&mut self.slots) } else { None };
        let reserved = kept.unwrap_or_else(|| self.run.tables[table].reserve().unwrap());
        let key = (table, reserved.handle());
        let act = |this: &mut Self| {
            this.run.tables[table].commit(reserved, content);
            Reply::Done
        };
        // Others know the number before it is one: they are refused until it is.
        let cell = self.random(CELLS);
        self.run.cells[table][cell].store(key.1.raw(), Ordering::Relaxed);
        self.record(key, call, act);
        self.seen.push(key);
    }

    /// Looks a handle up; keeps it pinned for a while, sometimes.
    fn pin(&mut self, key: Key) -> Reply {
        let hold = self.random(8) == 0;
        self.record(key, Call::Pin, |this| {
            let run = this.run;
            let Ok(pin) = run.tables[key.0].pin(key.1) else { return Reply::BadHandle };
            let content = pin.content();
            if hold {
                this.linger(key);
                assert_eq!(pin.content(), content);
            }
            Reply::Is(content)
        })
    }

    fn close(&mut self, key: Key) -> Reply {
        let keep = key.0 == 0 && self.random(2) == 0;
        self.record(key, Call::Close, |this| {
            let table = &this.run.tables[key.0];
            let closed = if keep { table.close_into(key.1, &mut this.slots) } else { table.close(key.1) };
            let Ok(closed) = closed else { return Reply::BadHandle };
            match closed {
                Closed::Now(content) => this.given_back.push(content),
                Closed::Later(_) => this.shares.later += 1,
            }
            Reply::Is(closed.content())
        })
    }

    fn work(&mut self, operations: usize) {
        while self.log.len() < operations {
            let (table, cell) = (self.random(2), self.random(CELLS));
            let slow = RawHandle::from_raw(self.run.slow[table].load(Ordering::Relaxed));
            let current = slow.or_else(|| RawHandle::from_raw(self.run.cells[table][cell].load(Ordering::Relaxed)));
            let Some(handle) = current else {
                self.open(table, Place::new(cell as u32).unwrap());
                continue;
            };
            let key = (table, handle);
            match self.random(20) {
                0..8 => drop(self.pin(key)),
                8..10 => self.open(table, Place::new(cell as u32).unwrap()),
                10..12 => drop(self.close(key)),
                12..14 => {
                    if let Reply::Is(content) = self.pin(key) {
                        self.open(table, content.object);
                    }
                }
                14..16 => {
                    if let Reply::Is(content) = self.close(key) {
                        self.shares.transfers += 1;
                        self.open(1 - table, content.object);
                    }
                }
                16 => {
                    self.shares.foreign += 1;
                    self.pin((1 - table, handle));
                }
                _ if self.seen.is_empty() => {}
                number => {
                    let at = self.random(self.seen.len());
                    let old = if number == 19 { self.seen[at] } else { self.seen.swap_remove(at) };
                    let reply = if number == 17 { self.close(old) } else { self.pin(old) };
                    self.shares.stale += usize::from(reply == Reply::BadHandle);
                }
            }
            while let Some(content) = self.run.tables[table].take_closed() {
                self.given_back.push(content);
            }
        }
    }
}

/// Runs threads against two tables; gives their logs and what they did. Checks that each handle was given back once.
fn run(seed: u64, operations_each: usize) -> (Vec<Log>, Shares) {
    let tables = [Table::with_generation_bits(seed ^ 0x9e37_79b9_7f4a_7c15, 12), Table::new(!seed)];
    let (clock, stamps) = (AtomicU64::new(1), AtomicU32::new(1));
    let run = Run { tables, clock, stamps, cells: Default::default(), slow: Default::default() };
    let barrier = Barrier::new(THREADS);
    let workers: Vec<_> = thread::scope(|scope| {
        let spawn = |thread: usize| {
            let (run, barrier) = (&run, &barrier);
            scope.spawn(move || {
                let random = (seed + 1).wrapping_mul(0x2545_f491_4f6c_dd1d) ^ (thread as u64 + 1) << 32;
                let (log, seen) = (Log::with_capacity(operations_each + 8), Vec::new());
                let (slots, shares) = (Slots::default(), Shares::default());
                let mut worker =
                    Worker { run, thread: thread as u8, random, log, seen, slots, given_back: Vec::new(), shares };
                barrier.wait();
                worker.work(operations_each);
                run.tables[0].give_back_all(std::mem::take(&mut worker.slots));
                (worker.log, worker.given_back, worker.shares)
            })
        };
        let threads: Vec<_> = (0..THREADS).map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (mut logs, mut given_back, mut shares) = (Vec::new(), Vec::new(), Shares::default());
    for (log, mut contents, of_one) in workers {
        logs.push(log);
        given_back.append(&mut contents);
        shares.stale += of_one.stale;
        shares.foreign += of_one.foreign;
        shares.transfers += of_one.transfers;
        shares.later += of_one.later;
    }
    for table in &run.tables {
        let rest = (0..table.used()).filter_map(|index| table.close_at(index)).map(Closed::content);
        given_back.extend(rest);
        given_back.extend(std::iter::from_fn(|| table.take_closed()));
    }
    let mut stamps: Vec<u32> = given_back.iter().filter_map(|content| content.node).map(Place::raw).collect();
    stamps.sort_unstable();
    let opened = run.stamps.load(Ordering::Relaxed);
    assert!(stamps.into_iter().eq(1..opened), "each handle that was opened is given back once");
    (logs, shares)
}

/// The seed of a run: another one each time, unless `KOBJ_SEED` names one.
fn seed() -> u64 {
    let named = std::env::var("KOBJ_SEED").ok().map(|seed| seed.parse().expect("KOBJ_SEED is a number"));
    named.unwrap_or_else(|| RandomState::new().hash_one(std::process::id()) >> 32)
}

#[test]
fn recorded_histories_are_linearizable_handle_by_handle() {
    const RUNS: u64 = 10;
    const EACH: usize = 1_000_000 / RUNS as usize / THREADS + 1;
    let first = seed();
    println!("KOBJ_SEED={first}");
    let (mut all, mut overlaps, mut shares, mut handles) = (0, 0, Shares::default(), 0);
    for seed in first..first + RUNS {
        let (logs, of_run) = run(seed, EACH);
        let mut histories = by_handle(&logs);
        let wrong = violations(&mut histories);
        if let Some(key) = wrong.first() {
            panic!("KOBJ_SEED={seed}: no order for {} handles; {key:?}: {:#?}", wrong.len(), histories[key]);
        }
        overlaps += overlapping(&mut histories);
        all += logs.iter().map(Vec::len).sum::<usize>();
        handles += histories.len();
        shares.stale += of_run.stale;
        shares.foreign += of_run.foreign;
        shares.transfers += of_run.transfers;
        shares.later += of_run.later;
    }
    let share = overlaps * 100 / all;
    println!(
        "{all} operations on {handles} handles; {share} percent overlap another thread's on their handle; {shares:?}"
    );
    assert!(all >= 1_000_000);
    assert!(overlaps * 5 >= all, "{overlaps} of {all} overlap another thread's on their handle: less than 20 percent");
    assert!(shares.stale > all / 20 && shares.foreign > all / 50 && shares.transfers > all / 100, "{shares:?}");
    assert!(shares.later > 1_000, "few closes met a pin: {shares:?}");
}

// ---- the checker itself

fn content(stamp: u32) -> Content {
    let place = Place::from_raw(stamp).unwrap();
    Content { object: place, rights: Rights::READ, node: Some(place), inheritable: false }
}

fn at(begun: u64, ended: u64, call: Call, reply: Reply) -> Operation {
    Operation { thread: 0, begun, ended, call, reply }
}

#[test]
fn the_checker_accepts_either_order_of_what_overlaps() {
    let (open, is) = (Call::Open(content(1)), Reply::Is(content(1)));
    for (pin, close) in [((5, 8), (6, 7)), ((5, 7), (6, 8)), ((6, 8), (5, 7)), ((6, 7), (5, 8))] {
        for seen in [is, Reply::BadHandle] {
            let pin = at(pin.0, pin.1, Call::Pin, seen);
            let mut history = [at(1, 2, open, Reply::Done), pin, at(close.0, close.1, Call::Close, is)];
            assert!(is_linearizable(&mut history), "{history:?}");
        }
    }
    let early = [at(1, 4, Call::Pin, is), at(2, 5, open, Reply::Done), at(3, 6, Call::Pin, Reply::BadHandle)];
    assert!(is_linearizable(&mut early.clone()), "the order is not that of the beginnings");
    let never = [at(1, 2, Call::Pin, Reply::BadHandle), at(3, 4, Call::Close, Reply::BadHandle)];
    assert!(is_linearizable(&mut never.clone()));
}

#[test]
fn the_checker_refuses_what_cannot_be() {
    let (open, is) = (Call::Open(content(1)), Reply::Is(content(1)));
    let opened = at(1, 2, open, Reply::Done);
    let closed = at(5, 6, Call::Close, is);
    let wrong: [(&str, Vec<Operation>); 9] = [
        ("found after the close", vec![opened, closed, at(7, 8, Call::Pin, is)]),
        ("closed twice", vec![opened, closed, at(4, 7, Call::Close, is)]),
        ("closed after the close", vec![opened, closed, at(7, 8, Call::Close, is)]),
        ("found before it was made", vec![at(3, 4, open, Reply::Done), at(1, 2, Call::Pin, is)]),
        ("never made, and found", vec![at(1, 2, Call::Pin, is)]),
        ("never made, and closed", vec![at(1, 2, Call::Close, is)]),
        ("another content", vec![opened, at(3, 4, Call::Pin, Reply::Is(content(2)))]),
        ("refused while it was there", vec![opened, at(3, 4, Call::Pin, Reply::BadHandle), closed]),
        // The close comes before the second pin's refusal, and that one ends before the third begins.
        (
            "gone, and there again",
            vec![opened, at(3, 10, Call::Close, is), at(4, 5, Call::Pin, Reply::BadHandle), at(6, 7, Call::Pin, is)],
        ),
    ];
    for (what, mut history) in wrong {
        assert!(!is_linearizable(&mut history), "{what}");
    }
    let twice = vec![opened, at(3, 4, open, Reply::Done)];
    assert!(!is_linearizable(&mut twice.clone()), "a number given twice");
}

/// Lies are planted in a real history, where no overlap excuses them; each is found, at its handle and no other.
#[test]
fn planted_errors_in_a_recorded_history_are_caught() {
    let (logs, _) = run(99, 5_000);
    let mut histories = by_handle(&logs);
    assert_eq!(violations(&mut histories), []);
    let mut keys: Vec<Key> = histories.keys().copied().collect();
    keys.sort_unstable();
    let mut planted = [0; 4];
    for key in keys {
        let history = &histories[&key];
        let found = |call: fn(&Operation) -> bool| history.iter().find(|operation| call(operation)).copied();
        let opened = found(|operation| matches!(operation.call, Call::Open(_)));
        let closed = found(|operation| operation.call == Call::Close && operation.reply != Reply::BadHandle);
        let (Some(opened), Some(closed)) = (opened, closed) else { continue };
        let Reply::Is(right) = closed.reply else { continue };
        for (at, operation) in history.iter().enumerate() {
            let (inside, after) =
                (operation.begun > opened.ended && operation.ended < closed.begun, operation.begun > closed.ended);
            let lie = match (operation.call, operation.reply) {
                (Call::Pin, Reply::Is(_)) if inside => (0, Reply::BadHandle),
                (Call::Pin, Reply::BadHandle) if after => (1, Reply::Is(right)),
                (Call::Close, Reply::BadHandle) => (2, Reply::Is(right)),
                (Call::Pin, Reply::Is(content)) => (3, Reply::Is(Content { rights: Rights::WRITE, ..content })),
                _ => continue,
            };
            // One handle's history is enough to check: the others are as they were.
            let mut with_lie = history.clone();
            with_lie[at].reply = lie.1;
            assert!(!is_linearizable(&mut with_lie), "{key:?}: {:?} passed as {:?}", history[at], lie.1);
            planted[lie.0] += 1;
        }
    }
    println!("planted: {planted:?}");
    assert!(planted.iter().all(|count| *count >= 10), "{planted:?}");
}

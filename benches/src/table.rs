//! Group `table`: the handle table against what one would take instead.
//!
//! Ours is a lookup with everything on: the guard (a pin, taken and dropped), the check of a right, the check of the object's
//! tag in the slab. The rivals give what they have: a mutex around a slotmap, sharded-slab with its guard, DashMap with an
//! `Arc`; each checks a right and a tag in the value that it found. Times are processor times of the thread.
//!
//! `table/lookup-*` looks up, `table/triple` makes, looks up and ends a handle, `table/threads-*` does it from two threads, and
//! `table/longest-step` is the way to 10^7 handles, in processor time of each step.

use crate::figure::{Figure, Options, Report, Samples};
use dashmap::DashMap;
use kobj_abi::{Era, Koid, RawHandle, Rights, Tag};
use kobj_memory::{Birth, Closed, Content, Objects, Place, Shared, Slab, Slots, Stamp, Table};
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use slotmap::{DefaultKey, SlotMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

const GROUP: &str = "table";
const ROUNDS: usize = 101;
const LOOKUPS_PER_ROUND: usize = 20_000;
/// Living objects for the random lookups.
const MANY: usize = 1_000_000;
const MOST: usize = 10_000_000;
const LETTERS: [u8; 4] = *b"BNCH";
const NEEDED: Rights = Rights::READ;

pub(crate) fn run(options: &Options, report: &mut Report) {
    if options.wants(GROUP, "table/lookup-hot") || options.wants(GROUP, "table/triple") {
        hot(options, report);
    }
    if ["table/lookup-random-1e6", "table/lookup-overlapped-1e6"].iter().any(|name| options.wants(GROUP, name))
        && options.most.is_none_or(|most| MANY <= most)
    {
        random(report);
    }
    threads(options, report);
    if options.wants(GROUP, "table/longest-step") {
        longest_step(report, options.most.unwrap_or(MOST).min(MOST));
    }
}

/// What a rival keeps for a handle: the same that an entry stands for, and the tag that ours finds in the slab.
#[derive(Clone, Copy)]
struct Value {
    rights: Rights,
    tag: Tag,
}

impl Value {
    fn new(number: usize) -> Self {
        Self { rights: Rights::GENERIC, tag: tag(number) }
    }

    fn is_good(&self) -> bool {
        self.rights.contains(NEEDED) && self.tag.letters == LETTERS
    }
}

fn tag(number: usize) -> Tag {
    Tag { letters: LETTERS, koid: Koid::new(Era(1), number as u32 + 1).expect("a counter from 1") }
}

/// A table and the slab of its objects.
struct Ours {
    table: Table,
    objects: Shared<Objects>,
    _slab: Slab<[u64; 8]>,
    handles: Vec<RawHandle>,
}

impl Ours {
    fn new(size: usize) -> Self {
        let mut slab = Slab::try_new().expect("memory for an empty slab");
        let table = Table::new(0x9e37_79b9_7f4a_7c15);
        let open = |number: usize| {
            let made = slab.create(tag(number), &Birth::default(), [number as u64; 8]).expect("memory for an object");
            table.open(content(made.place())).expect("memory for a handle")
        };
        let handles = (0..size).map(open).collect();
        Self { table, objects: slab.shared(), _slab: slab, handles }
    }

    /// The koid of a handle's object, after all that is checked.
    #[inline]
    fn koid(&self, handle: RawHandle) -> Option<Koid> {
        let pin = self.table.pin(handle).ok()?;
        match self.objects.stamp(pin.object()) {
            Stamp::Live(tag) if tag.letters == LETTERS && pin.rights().contains(NEEDED) => Some(tag.koid),
            _ => None,
        }
    }

    #[inline]
    fn lookup(&self, handle: RawHandle) -> bool {
        self.koid(handle).is_some()
    }

    #[inline]
    fn triple(&self, object: Place) -> bool {
        let Ok(handle) = self.table.open(content(object)) else { return false };
        let found = self.lookup(handle);
        found && matches!(self.table.close(handle), Ok(Closed::Now(_)))
    }
}

impl Ours {
    /// The same with slots that the thread keeps, as a lease does: no word is shared with other threads.
    fn triples_in_own_slots(&self, object: Place, count: usize) -> usize {
        let mut slots = Slots::default();
        let triple = |_: &usize| {
            let Some(reserved) = self.table.take_kept(&mut slots).or_else(|| self.table.reserve().ok()) else {
                return false;
            };
            let handle = self.table.commit(reserved, content(black_box(object)));
            let found = self.lookup(handle);
            found && matches!(self.table.close_into(handle, &mut slots), Ok(Closed::Now(_)))
        };
        let done = (0..count).filter(triple).count();
        self.table.give_back_all(slots);
        done
    }
}

fn content(object: Place) -> Content {
    Content { object, rights: Rights::GENERIC, node: None, inheritable: false }
}

/// One multiplication, as the fastest hashers for numbers do.
#[derive(Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

type Map = DashMap<u64, Arc<Value>, BuildHasherDefault<NumberHasher>>;

/// The rivals with as many values.
struct Rivals {
    mutex: Mutex<SlotMap<DefaultKey, Value>>,
    mutex_keys: Vec<DefaultKey>,
    sharded: sharded_slab::Slab<Value>,
    sharded_keys: Vec<usize>,
    map: Map,
}

impl Rivals {
    fn new(size: usize) -> Self {
        let (mutex, sharded, map) = (Mutex::new(SlotMap::new()), sharded_slab::Slab::new(), Map::default());
        let mutex_keys = (0..size).map(|number| mutex.lock().insert(Value::new(number))).collect();
        let sharded_keys = (0..size).map(|number| sharded.insert(Value::new(number)).expect("a free slot")).collect();
        for number in 0..size {
            map.insert(number as u64, Arc::new(Value::new(number)));
        }
        Self { mutex, mutex_keys, sharded, sharded_keys, map }
    }

    #[inline]
    fn in_mutex(&self, key: DefaultKey) -> bool {
        self.mutex.lock().get(key).is_some_and(Value::is_good)
    }

    #[inline]
    fn in_sharded(&self, key: usize) -> bool {
        self.sharded.get(key).is_some_and(|value| value.is_good())
    }

    /// The `Arc` is cloned: the value has to outlive the look at the map, as ours does under its pin.
    #[inline]
    fn in_map(&self, key: u64) -> bool {
        self.map.get(&key).map(|value| Arc::clone(&value)).is_some_and(|value| value.is_good())
    }
}

/// A side of a comparison: its name, and what it does for one operation of a number.
type Side<'a> = (&'a str, &'a (dyn Fn(usize) -> usize + Sync));

/// Rounds of all sides in turn, each a loop over `count` operations inside the side; samples are means in nanoseconds.
fn alternate(rounds: usize, count: usize, sides: &[Side<'_>]) -> Vec<Samples> {
    let mut samples: Vec<Samples> = sides.iter().map(|_| Samples::default()).collect();
    for _ in 0..rounds {
        for ((_, side), of_side) in sides.iter().zip(&mut samples) {
            let start = processor_us();
            assert_eq!(black_box(side(count)), count, "each operation succeeds");
            of_side.push((processor_us() - start) * 1_000.0 / count as f64);
        }
    }
    samples
}

/// A figure of the first side against the others; the bar is a ratio to the first rival.
fn print(report: &mut Report, name: &str, sides: &[Side<'_>], samples: Vec<Samples>, most: Option<f64>) {
    let mut samples = samples.into_iter();
    let ours = samples.next().unwrap_or_default();
    let rivals: Vec<_> = sides.iter().skip(1).map(|(name, _)| *name).zip(samples).collect();
    let bar = most.and_then(|most| {
        let (rival, of_rival) = rivals.first()?;
        Some((format!("at most {most} times {rival}"), ours.median() <= most * of_rival.median()))
    });
    let bar = bar.as_ref().map(|(words, holds)| (words.as_str(), *holds));
    report.print(&Figure { name, group: GROUP, unit: "ns", ours, rivals, bar });
}

/// A thousand handles, which the caches hold; then one handle made and ended again and again.
fn hot(options: &Options, report: &mut Report) {
    const SIZE: usize = 1_000;
    let (ours, rivals) = (Ours::new(SIZE), Rivals::new(SIZE));
    // One handle is looked up again and again: the cost of the operation itself.
    let (handle, key, index) = (ours.handles[7], rivals.mutex_keys[7], rivals.sharded_keys[7]);
    let sides: [Side<'_>; 4] = [
        ("ours", &|count| (0..count).filter(|_| ours.lookup(black_box(handle))).count()),
        ("mutex-slotmap", &|count| (0..count).filter(|_| rivals.in_mutex(black_box(key))).count()),
        ("sharded-slab", &|count| (0..count).filter(|_| rivals.in_sharded(black_box(index))).count()),
        ("dashmap-arc", &|count| (0..count).filter(|_| rivals.in_map(black_box(7))).count()),
    ];
    if options.wants(GROUP, "table/lookup-hot") {
        let samples = alternate(ROUNDS, LOOKUPS_PER_ROUND, &sides);
        print(report, "table/lookup-hot", &sides, samples, Some(1.5));
    }
    let object = ours.table.pin(handle).expect("it is there").object();
    let sides: [Side<'_>; 4] = [
        ("ours", &|count| (0..count).filter(|_| ours.triple(black_box(object))).count()),
        ("mutex-slotmap", &|count| {
            let triple = |_: &usize| {
                let key = rivals.mutex.lock().insert(Value::new(black_box(7)));
                rivals.in_mutex(key) && rivals.mutex.lock().remove(key).is_some()
            };
            (0..count).filter(triple).count()
        }),
        ("sharded-slab", &|count| {
            let triple = |_: &usize| {
                let key = rivals.sharded.insert(Value::new(black_box(7))).expect("a free slot");
                rivals.in_sharded(key) && rivals.sharded.remove(key)
            };
            (0..count).filter(triple).count()
        }),
        ("dashmap-arc", &|count| {
            let triple = |_: &usize| {
                let key = black_box(SIZE as u64 + 7);
                rivals.map.insert(key, Arc::new(Value::new(7)));
                rivals.in_map(key) && rivals.map.remove(&key).is_some()
            };
            (0..count).filter(triple).count()
        }),
    ];
    if options.wants(GROUP, "table/triple") {
        let samples = alternate(ROUNDS, LOOKUPS_PER_ROUND, &sides);
        print(report, "table/triple", &sides, samples, None);
    }
}

/// Numbers below `size` in random order.
fn shuffled(size: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..size as u32).collect();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for at in (1..size).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        order.swap(at, ((u128::from(random) * (at as u128 + 1)) >> 64) as usize);
    }
    order
}

/// A cache line of the plain reads; the first word leads to a line of the second array, or is the line's number.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Line([u64; 8]);

/// Handles of 10^6 distinct objects in random order, against two reads of random cache lines of which the second depends on
/// the first: what an entry and its object's header cost if nothing else did. On both sides each operation waits for what the
/// one before found, so that the whole way is measured.
///
/// `table/lookup-overlapped-1e6` is the same without that wait, and with the rivals: there the processor works on several
/// operations at once, and on more of them the less they need. (The rivals' values stand in their own slots: one line.)
fn random(report: &mut Report) {
    let (ours, rivals) = (Ours::new(MANY), Rivals::new(MANY));
    let order = shuffled(MANY);
    let first: Vec<Line> = shuffled(MANY).iter().map(|second| Line([u64::from(*second); 8])).collect();
    let second: Vec<Line> = (0..MANY as u64).map(|number| Line([number; 8])).collect();
    // Handles in the order in which they are asked for, so that only the lookup is at random.
    let handles: Vec<RawHandle> = order.iter().map(|at| ours.handles[*at as usize]).collect();
    let mutex_keys: Vec<DefaultKey> = order.iter().map(|at| rivals.mutex_keys[*at as usize]).collect();
    let sharded_keys: Vec<usize> = order.iter().map(|at| rivals.sharded_keys[*at as usize]).collect();
    // What was found, without its bits: the next operation waits for it, and the compiler does not know why not.
    let nothing = black_box(0);
    let read_two = |at: usize| second[first[order[at] as usize].0[0] as usize].0[0];
    let sides: [Side<'_>; 2] = [
        ("ours", &|count| {
            let next = |last: u64, at: usize| ours.koid(handles[at + (last & nothing) as usize]).map(Koid::raw);
            (0..count).try_fold(0, next).map_or(0, |_| count)
        }),
        ("two-dependent-reads", &|count| {
            let last = (0..count).fold(0, |last, at| read_two(at + (last & nothing) as usize));
            black_box(last);
            count
        }),
    ];
    let samples = alternate(11, MANY, &sides);
    print(report, "table/lookup-random-1e6", &sides, samples, Some(1.3));
    let sides: [Side<'_>; 5] = [
        ("ours", &|count| handles[..count].iter().filter(|handle| ours.lookup(**handle)).count()),
        ("two-dependent-reads", &|count| (0..count).filter(|at| read_two(*at) < MANY as u64).count()),
        ("mutex-slotmap", &|count| mutex_keys[..count].iter().filter(|key| rivals.in_mutex(**key)).count()),
        ("sharded-slab", &|count| sharded_keys[..count].iter().filter(|key| rivals.in_sharded(**key)).count()),
        ("dashmap-arc", &|count| order[..count].iter().filter(|at| rivals.in_map(u64::from(**at))).count()),
    ];
    let samples = alternate(11, MANY, &sides);
    print(report, "table/lookup-overlapped-1e6", &sides, samples, None);
}

/// The mean of one operation's time when each of two threads does `count` of them, or the first alone. `None` if the two did
/// not run at the same time: the machine had other work.
fn timed(threads: usize, count: usize, operation: &(dyn Fn(usize, usize) -> usize + Sync)) -> Option<f64> {
    let arrived = AtomicUsize::new(0);
    let times: Vec<(Instant, Instant, f64)> = thread::scope(|scope| {
        let spawn = |thread: usize| {
            let arrived = &arrived;
            scope.spawn(move || {
                // Both are running when the second comes: a thread that slept would come late.
                arrived.fetch_add(1, Ordering::AcqRel);
                while arrived.load(Ordering::Acquire) < threads {
                    std::hint::spin_loop();
                }
                let (start, processor) = (Instant::now(), processor_us());
                assert_eq!(black_box(operation(thread, count)), count, "each operation succeeds");
                (start, Instant::now(), processor_us() - processor)
            })
        };
        let running: Vec<_> = (0..threads).map(spawn).collect();
        running.into_iter().map(|thread| thread.join().expect("a thread of the benchmark")).collect()
    });
    let (first, last) = (times.iter().map(|time| time.0).min()?, times.iter().map(|time| time.1).max()?);
    let longest = times.iter().map(|time| time.2).fold(0.0, f64::max);
    let together = last.duration_since(first).as_micros() as f64 <= 1.25 * longest;
    together.then(|| times.iter().map(|time| time.2).sum::<f64>() * 1_000.0 / (threads * count) as f64)
}

/// Two threads against one, alternating: on handles of their own, on one handle, and each making and ending its own.
fn threads(options: &Options, report: &mut Report) {
    type Operation<'a> = (&'a str, &'a (dyn Fn(usize, usize) -> usize + Sync), Option<f64>);
    const EACH: usize = 20_000;
    let ours = Ours::new(2);
    let objects = [0, 1].map(|at: usize| ours.table.pin(ours.handles[at]).expect("it is there").object());
    let cases: [Operation<'_>; 4] = [
        (
            "table/threads-two-handles",
            &|thread, count| (0..count).filter(|_| ours.lookup(black_box(ours.handles[thread]))).count(),
            Some(1.3),
        ),
        (
            "table/threads-one-handle",
            &|_, count| (0..count).filter(|_| ours.lookup(black_box(ours.handles[0]))).count(),
            None,
        ),
        (
            "table/threads-triple",
            &|thread, count| (0..count).filter(|_| ours.triple(black_box(objects[thread]))).count(),
            None,
        ),
        ("table/threads-own-slots", &|thread, count| ours.triples_in_own_slots(objects[thread], count), None),
    ];
    for (name, operation, most) in cases.iter().filter(|(name, ..)| options.wants(GROUP, name)) {
        let (mut two, mut one, mut rounds) = (Samples::default(), Samples::default(), 0);
        for _ in 0..1_000 {
            if rounds == 21 {
                break;
            }
            if let (Some(of_two), Some(of_one)) = (timed(2, EACH, operation), timed(1, EACH, operation)) {
                two.push(of_two);
                one.push(of_one);
                rounds += 1;
            }
        }
        if rounds < 21 {
            eprintln!(
                "skipped: {name}: two threads ran at the same time {rounds} times only; the machine has other work"
            );
            continue;
        }
        let bar = most.map(|most| (format!("at most {most} times one thread"), two.median() <= most * one.median()));
        let bar = bar.as_ref().map(|(words, holds)| (words.as_str(), *holds));
        let rivals = vec![("one-thread", one)];
        report.print(&Figure { name, group: GROUP, unit: "ns", ours: two, rivals, bar });
    }
}

/// The processor time of this thread, in microseconds.
fn processor_us() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

/// Opens handle after handle: growth is among the steps. Steps over 10 us are kept each, of the others the number, so
/// that the quantile is exact where it matters.
fn longest_step(report: &mut Report, size: usize) {
    let table = Table::new(0x9e37_79b9_7f4a_7c15);
    let object = Place::new(0).expect("a place");
    let (mut long, mut before) = (Vec::new(), processor_us());
    for _ in 0..size {
        table.open(content(object)).expect("memory for a handle");
        let now = processor_us();
        if now - before > 10.0 {
            long.push(now - before);
        }
        before = now;
    }
    long.sort_by(f64::total_cmp);
    let longest = long.last().copied().unwrap_or(10.0);
    let beyond = size / 1_000;
    let p999 = if long.len() > beyond { long[long.len() - 1 - beyond] } else { 10.0 };
    let mut ours = Samples::default();
    ours.push(longest);
    let bar = format!("p99.9 of {size} steps under 1 ms (it is at most {p999:.1} us)");
    let bar = Some((bar.as_str(), p999 < 1_000.0));
    report.print(&Figure { name: "table/longest-step", group: GROUP, unit: "us", ours, rivals: Vec::new(), bar });
}

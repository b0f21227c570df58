//! Group `core`: making and destroying objects among 10^3 to 10^7 living ones.
//!
//! Everything is on: full header, tag check on each access, slots scrubbed, ids entered and forgotten, ledgers of the
//! manager and of the job. The rival is a plain array of slots of the same size, touched in the same pattern: what memory
//! alone costs.
//!
//! `core/last-*` makes a process object and closes it; `core/random-*` destroys a random one, linked to a job and two
//! neighbours, and puts a new one in its place; `core/host-*` does the same with host objects, whose images stand out of line
//! and whose end is two steps (reserve, effect, commit).

use crate::figure::{Figure, Options, Report, Samples};
use kobj_abi::{Era, HostKind, Koid, LinkKind};
use kobj_core::image::{HostImage, Identity, Time};
use kobj_core::types::process;
use kobj_core::{Command, Core, Effect, Limits, Outcome};
use std::hint::black_box;
use std::time::Instant;

const GROUP: &str = "core";
const SIZES: [usize; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
const ROUNDS: usize = 101;
const OPERATIONS_PER_ROUND: usize = 1_000;
const CHAIN: usize = 1_000_000;

/// What an object costs here at most, the rival's slot included, in bytes; measured.
const PROCESS_BYTES: u64 = 400;
const HOST_BYTES: u64 = 700;

/// A slot of the rival: header and body are two cache lines.
type Slot = [u64; 16];

pub(crate) fn run(options: &Options, report: &mut Report) {
    for size in SIZES.into_iter().filter(|size| options.most.is_none_or(|most| *size <= most)) {
        let exponent = size.ilog10();
        let [last, random, host] = ["last", "random", "host"].map(|what| format!("core/{what}-1e{exponent}"));
        let wanted = |name: &str, bytes_each| options.wants(GROUP, name) && has_room(name, size, bytes_each);
        let (last_wanted, random_wanted) = (wanted(&last, PROCESS_BYTES), wanted(&random, PROCESS_BYTES));
        if last_wanted || random_wanted {
            let mut bench = Bench::new(size, Bench::create_process, LinkKind::WaitsOn);
            if last_wanted {
                let (ours, array) = alternate(&mut bench, Bench::last, Bench::last_in_array);
                print(report, &last, ours, array);
            }
            if random_wanted {
                let (ours, array) = alternate(&mut bench, Bench::random_process, Bench::random_in_array);
                print(report, &random, ours, array);
            }
        }
        if wanted(&host, HOST_BYTES) {
            let mut bench = Bench::new(size, Bench::create_host, LinkKind::DerivedFrom);
            let (ours, array) = alternate(&mut bench, Bench::random_host, Bench::random_in_array);
            print(report, &host, ours, array);
        }
    }
    if options.wants(GROUP, "core/chain-step") {
        chain(report);
    }
}

/// Whether the machine has room for so many; says by name if it has not.
fn has_room(name: &str, size: usize, bytes_each: u64) -> bool {
    let needed = size as u64 * bytes_each;
    let table = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = table.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let available = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) * 1024;
    if needed > available {
        eprintln!("skipped: {name}: needs {} MiB, {} MiB are available", needed >> 20, available >> 20);
    }
    needed <= available
}

fn print(report: &mut Report, name: &str, ours: Samples, array: Samples) {
    let rivals = vec![("plain-array", array)];
    report.print(&Figure { name, group: GROUP, unit: "ns", ours, rivals, bar: None });
}

/// Rounds of both sides in turn; each sample is the mean of a round in nanoseconds.
fn alternate(bench: &mut Bench, ours: fn(&mut Bench), rival: fn(&mut Bench)) -> (Samples, Samples) {
    let time = |bench: &mut Bench, operation: fn(&mut Bench)| {
        let start = Instant::now();
        for _ in 0..OPERATIONS_PER_ROUND {
            operation(bench);
        }
        start.elapsed().as_nanos() as f64 / OPERATIONS_PER_ROUND as f64
    };
    let (mut of_ours, mut of_rival) = (Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        of_ours.push(time(bench, ours));
        of_rival.push(time(bench, rival));
    }
    (of_ours, of_rival)
}

/// A manager and an array with as many objects, in a ring of random neighbours.
struct Bench {
    core: Core,
    job: Koid,
    /// Objects in the order of the ring.
    ring: Vec<Koid>,
    array: Vec<Slot>,
    /// Slots in the order of the ring.
    array_ring: Vec<u32>,
    books: Slot,
    random: u64,
    create: fn(&mut Core, Koid, usize) -> Koid,
    neighbours: LinkKind,
}

fn living(pid: usize) -> process::Request {
    process::Request { pid: pid as u32 | 1, started: 1, ended: false }
}

impl Bench {
    fn new(size: usize, create: fn(&mut Core, Koid, usize) -> Koid, neighbours: LinkKind) -> Self {
        let mut core = Core::new(Era(1));
        let job = core.create_job(Time(0), None, None).expect("an empty manager makes a job");
        let mut ring: Vec<Koid> = Vec::with_capacity(size);
        ring.extend((0..size).map(|number| create(&mut core, job, number)));
        let mut array_ring: Vec<u32> = (0..size as u32).collect();
        let mut bench = Self {
            core,
            job,
            ring: Vec::new(),
            array: vec![[1; 16]; size],
            array_ring: Vec::new(),
            books: [0; 16],
            random: 0x9e37_79b9_7f4a_7c15,
            create,
            neighbours,
        };
        for at in (1..size).rev() {
            let other = bench.next_random(at + 1);
            ring.swap(at, other);
            array_ring.swap(at, other);
        }
        for at in 0..size {
            let linked = bench.core.link(ring[at], neighbours, ring[(at + 1) % size]);
            linked.expect("neighbours can be linked");
        }
        (bench.ring, bench.array_ring) = (ring, array_ring);
        bench
    }

    fn create_process(core: &mut Core, job: Koid, pid: usize) -> Koid {
        core.create_process(Time(0), Some(job), living(pid), None).expect("a job takes a process")
    }

    fn create_host(core: &mut Core, job: Koid, id: usize) -> Koid {
        let identity = Identity::Ipc { id: id as i64, key: 0, uid: 0 };
        let image = HostImage::new(HostKind::SysvSegment, b"segment".to_vec(), identity);
        core.create_host_object(Time(0), job, image, None).expect("a job takes a host object")
    }

    fn next_random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ((u128::from(self.random) * below as u128) >> 64) as usize
    }

    /// Makes an object in the job and destroys it.
    fn last(&mut self) {
        let koid = (self.create)(&mut self.core, self.job, 1);
        black_box(self.core.close(koid)).expect("what was just made is closed");
    }

    /// Writes a slot and the books, and cleans the slot.
    fn last_in_array(&mut self) {
        let at = self.array.len() - 1;
        self.array[at] = black_box([7; 16]);
        self.books[0] += 1;
        black_box(&self.array[at]);
        self.array[at] = [0; 16];
        self.books[1] += 1;
        black_box(&self.books);
    }

    /// Destroys a random process object, which a job contains and two neighbours are linked to, and replaces it.
    fn random_process(&mut self) {
        let at = self.next_random(self.ring.len());
        black_box(self.core.process_ended(self.ring[at])).expect("what is in the ring lives");
        self.replace(at);
    }

    /// The same with a host object: reserved, its effect taken, committed.
    fn random_host(&mut self) {
        let at = self.next_random(self.ring.len());
        self.core.begin_scrub(self.ring[at]).expect("what is in the ring lives");
        for effect in self.core.take_effects().list {
            let (Effect::Scrub { ticket, .. } | Effect::EndProcess { ticket, .. }) = effect else { continue };
            black_box(self.core.done(ticket, Outcome::Destroyed)).expect("the ticket is under way");
        }
        self.replace(at);
    }

    /// Puts a new object between its neighbours.
    fn replace(&mut self, at: usize) {
        let size = self.ring.len();
        let (before, after) = ((at + size - 1) % size, (at + 1) % size);
        let koid = (self.create)(&mut self.core, self.job, at);
        self.ring[at] = koid;
        let linked = self.core.link(self.ring[before], self.neighbours, koid);
        linked.and_then(|_| self.core.link(koid, self.neighbours, self.ring[after])).expect("neighbours can be linked");
    }

    /// Cleans a random slot, touches its neighbours and the books, and writes it again.
    fn random_in_array(&mut self) {
        let size = self.array_ring.len();
        let at = self.next_random(size);
        let slot = |at: usize| self.array_ring[at] as usize;
        let (before, here, after) = (slot((at + size - 1) % size), slot(at), slot((at + 1) % size));
        self.array[here] = [0; 16];
        self.array[before][4] = self.array[before][4].wrapping_add(1);
        self.array[after][5] = self.array[after][5].wrapping_add(1);
        self.books[0] += 1;
        black_box(&self.array[here]);
        self.array[here] = black_box([7; 16]);
        self.array[before][4] = self.array[before][4].wrapping_add(1);
        self.array[after][5] = self.array[after][5].wrapping_add(1);
        self.books[1] += 1;
        black_box(&self.books);
    }
}

/// A chain of 10^6 objects, each kept by the one before alone, loses its head: each step is bounded.
fn chain(report: &mut Report) {
    let mut core = Core::new(Era(1));
    let job = core.create_job(Time(0), None, None).expect("an empty manager makes a job");
    let mut head = Bench::create_process(&mut core, job, 1);
    for pid in 1..CHAIN {
        let next = Bench::create_process(&mut core, job, pid);
        core.link(next, LinkKind::WaitsOn, head).expect("a living process can wait");
        core.close(head).expect("what was just made is closed");
        head = next;
    }
    let mut ours = Samples::default();
    let mut command = Command::Close { koid: head };
    loop {
        let start = Instant::now();
        let (_, effects) = core.step(Time(0), std::mem::replace(&mut command, Command::Continue));
        ours.push(start.elapsed().as_nanos() as f64 / 1_000.0);
        if !effects.more {
            break;
        }
    }
    assert_eq!(core.live(), 1, "the chain is gone");
    let holds = ours.p99() < 1_000.0;
    let bar = format!("a step under 1 ms ({} units of work each)", Limits::default().work_per_step);
    let name = "core/chain-step";
    report.print(&Figure { name, group: GROUP, unit: "us", ours, rivals: Vec::new(), bar: Some((&bar, holds)) });
}

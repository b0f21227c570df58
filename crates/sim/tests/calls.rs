//! The calls of the object manager against their model: each reply, count, name and right, and the balance, after each.
//!
//! The seed is printed; `KOBJ_SIM_SEED=N` runs it again, `KOBJ_SIM_COMMANDS=N` sets how many calls are made.

use kobj_abi::{Era, Koid, ObjectType, RawHandle};
use kobj_core::{Call, CallAnswer, CallError, Effect, Resource, Tally, Usage, Why};
use kobj_memory::RefusingAllocator;
use kobj_sim::calls::{Bounds, Driven, Generator, Manager, Model, Seen, Start, Step, World, refuse, replay, shrink};
use std::alloc::System;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

type Reply = Result<CallAnswer, CallError>;

#[global_allocator]
static ALLOCATOR: RefusingAllocator<System> = RefusingAllocator::new(System, refuse);

const CALLS_PER_CASE: u64 = 800;

/// The first word of what `Debug` prints.
fn word(of: &impl std::fmt::Debug) -> String {
    format!("{of:?}").split(['(', ' ', '{']).next().unwrap_or_default().to_owned()
}

/// How often each reply came to each call.
#[derive(Debug, Default)]
struct Share {
    replies: BTreeMap<(String, String), u64>,
    calls: u64,
    refused: u64,
}

impl Share {
    fn note(&mut self, step: &Step, reply: &Reply) {
        self.calls += 1;
        self.refused += u64::from(reply.is_err());
        let word = match reply {
            Ok(answer) => word(answer),
            Err(error) => word(error),
        };
        *self.replies.entry((self::word(&step.ask), word)).or_default() += 1;
    }

    /// How often that reply came, whatever the call.
    fn count(&self, reply: &str) -> u64 {
        self.replies.iter().filter(|((_, other), _)| other == reply).map(|(_, count)| count).sum()
    }

    /// Prints itself. Of many calls, about a third is refused, and no kind of reply is rare.
    fn judge(&self, name: &str) {
        for ((call, reply), count) in &self.replies {
            println!("{count:8} {call} -> {reply}");
        }
        let percent = self.refused * 100 / self.calls;
        println!("{name}: {} calls, {percent} percent refused", self.calls);
        if self.calls >= 400_000 {
            assert!((28..=38).contains(&percent), "{percent} percent of the calls were refused, about 30 are wanted");
            for reply in REPLIES {
                let count = self.count(reply);
                println!("{count:8} {reply}");
                assert!(count >= 100, "{reply} came {count} times, 100 are wanted");
            }
            let others = self.replies.keys().find(|(_, reply)| !REPLIES.contains(&reply.as_str()));
            assert_eq!(others, None, "a reply that is not expected at all");
        }
    }
}

/// Every kind of reply that calls can have here. `Revoked` comes in the middle of left-over work alone.
const REPLIES: [&str; 39] = [
    "Done",
    "Handle",
    "Opened",
    "Guest",
    "Info",
    "Entry",
    "Target",
    "Why",
    "Holders",
    "KeptBy",
    "DerivedFrom",
    "NoProcess",
    "Dying",
    "BadHandle",
    "WrongType",
    "UnexpectedType",
    "AccessDenied",
    "TooManyRights",
    "ReservedRights",
    "BadName",
    "BadPath",
    "AboveStart",
    "NotFound",
    "NameExists",
    "AlreadyNamed",
    "NotNamed",
    "LinkLoop",
    "Cycle",
    "TooDeep",
    "Quota",
    "RootDirectory",
    "RootJob",
    "StandsInItsJob",
    "ChargedElsewhere",
    "NotAGuest",
    "EraExhausted",
    "NoMemory",
    "TableFull",
    "TooManyReferences",
];

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// What was done, or with which words it panicked: hundreds of panics while a script is cut down are nobody's to read.
fn whole<T>(of: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(
            move |panic| {
                if IS_CAUGHT.get() { PANIC.set(Some(panic.to_string())) } else { usual(panic) }
            },
        ));
    });
    IS_CAUGHT.set(true);
    let result = catch_unwind(AssertUnwindSafe(of));
    IS_CAUGHT.set(false);
    result.unwrap_or_else(|_| Err(PANIC.take().unwrap_or_default()))
}

/// Makes a script up by a seed, step by step.
fn make_up<M: Manager>(
    bounds: Bounds,
    mut generator: Generator,
    script: &mut Vec<Step>,
    share: &mut Share,
) -> Result<(), String> {
    let mut world = World::<M>::new(bounds);
    for _ in 0..CALLS_PER_CASE {
        let Some(step) = generator.step(&world) else { break };
        script.push(step.clone());
        if let Some(reply) = world.run(&step)? {
            share.note(&step, &reply);
        }
    }
    world.finish()
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// The seed of a test, printed.
fn seed(name: &str) -> u64 {
    let clock = || std::time::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_nanos() as u64);
    let seed = from_environment("KOBJ_SIM_SEED").unwrap_or_else(clock);
    println!("{name}: KOBJ_SIM_SEED={seed}");
    seed
}

/// A script that fails, cut down, as Rust that can be kept.
fn report<M: Manager>(bounds: Bounds, script: &[Step]) -> String {
    let fails = |script: &[Step]| whole(|| replay::<M>(bounds, script)?.finish());
    let script = shrink(script, |script| fails(script).is_err());
    let lines: String = script.iter().map(|step| format!("        {step:?},\n")).collect();
    format!("{}\n    agrees({bounds:?}, &[\n{lines}    ]);", fails(&script).err().unwrap_or_default())
}

/// Bounds of a script: small ones are reached.
fn bounds(seed: u64) -> Bounds {
    let vary = seed / 16;
    match seed % 16 {
        0 => Bounds { koids: 30 + (vary % 64) as u32, ..Bounds::NONE },
        1 => Bounds { slots: 8 + (vary % 16) as u32, generation_bits: 2 + (vary / 16 % 4) as u32, ..Bounds::NONE },
        2 => Bounds { handles_per_object: 2 + (vary % 4) as u32, ..Bounds::NONE },
        _ => Bounds::NONE,
    }
}

fn run<M: Manager>(name: &str, calls: u64) -> Share {
    let calls = from_environment("KOBJ_SIM_COMMANDS").unwrap_or(calls);
    let first = seed(name);
    let mut share = Share::default();
    let mut seed = first;
    while share.calls < calls {
        let mut script = Vec::new();
        let bounds = bounds(seed);
        if let Err(why) = whole(|| make_up::<M>(bounds, Generator::new(seed), &mut script, &mut share)) {
            panic!("{name}: KOBJ_SIM_SEED={seed}: {why}\ncut down: {}", report::<M>(bounds, &script));
        }
        seed = seed.wrapping_add(1);
    }
    share.judge(name);
    share
}

/// The model as a manager, with a fault: 0 is none.
struct Faulty<const FAULT: u8>(Model);

impl<const FAULT: u8> Manager for Faulty<FAULT> {
    fn start(bounds: Bounds) -> (Self, Start) {
        let koid = |counter| Koid::new(Era(7), counter).unwrap();
        let handle = |raw| RawHandle::from_raw(raw).unwrap();
        let start = Start {
            job: koid(1),
            guest: koid(2),
            job_handle: handle(1),
            directory_handle: handle(2),
            own_handle: handle(3),
            outsider: koid(4),
            outsider_handle: handle(4),
            bounds,
            sizes: BTreeMap::new(),
        };
        (Self(Model::new(start.clone())), start)
    }

    fn call(&mut self, process: Koid, call: Call<'_>, _: Option<u32>) -> Reply {
        match (FAULT, call) {
            // Nothing is done, and it is said that it was.
            (1, Call::Revoke { handle }) => {
                self.0.answer(process, &Call::HandleInfo { handle }).map(|_| CallAnswer::Done)
            }
            (2, Call::Rename { .. }) => {
                self.0.answer(process, &call).map(|_| CallAnswer::Done).or(Ok(CallAnswer::Done))
            }
            (3, Call::Kill { handle }) => {
                self.0.answer(process, &Call::HandleInfo { handle }).map(|_| CallAnswer::Done)
            }
            _ => self.0.answer(process, &call),
        }
    }

    fn seen(&self, koid: Koid) -> Option<Seen> {
        self.0.seen().remove(&koid)
    }

    fn tally(&self, object_type: ObjectType) -> Tally {
        self.0.tally(object_type)
    }

    fn charged(&self, job: Koid, object_type: ObjectType) -> Option<u64> {
        Some(self.0.charged().get(&job)?.get(&object_type).copied().unwrap_or(0))
    }

    fn handles(&self, process: Koid) -> Vec<RawHandle> {
        self.0.handles(process)
    }

    fn effects(&mut self) -> Vec<Effect> {
        self.0.effects()
    }

    fn usage(&self, koid: Koid, resource: Resource) -> Option<Usage> {
        Some(self.0.usage(&self.0.used(), koid, resource))
    }

    fn retired(&self, process: Koid) -> Option<u32> {
        Some(self.0.retired(process))
    }

    fn nodes(&self) -> u32 {
        self.0.node_count()
    }

    fn why(&mut self, koid: Koid) -> Option<Why> {
        Some(self.0.shortest(koid))
    }

    fn audit(&self) -> Result<(), String> {
        Ok(())
    }

    fn finish(self) -> Result<(), String> {
        Ok(())
    }
}

/// The first script that shows a fault of the faulty model, cut down.
fn shown<const FAULT: u8>(mut seeds: Range<u64>) -> Option<Vec<Step>> {
    seeds.find_map(|seed| {
        let mut script = Vec::new();
        let made_up = make_up::<Faulty<FAULT>>(Bounds::NONE, Generator::new(seed), &mut script, &mut Share::default());
        made_up.err()?;
        Some(shrink(&script, |script| replay::<Faulty<FAULT>>(Bounds::NONE, script).is_err()))
    })
}

/// Comparing finds what it is to find, and what is printed is short.
#[test]
fn a_fault_is_shown_by_a_short_script() {
    for (fault, script) in [("revoke", shown::<1>(0..20)), ("rename", shown::<2>(0..20)), ("kill", shown::<3>(0..20))] {
        let script = script.unwrap_or_else(|| panic!("nothing shows the fault in {fault}"));
        println!("{fault}: {script:?}");
        assert!((1..=12).contains(&script.len()), "{fault}: {script:?}");
    }
    assert_eq!(shown::<0>(0..2), None, "without a fault");
}

#[test]
fn whole_steps_do_what_the_model_says() {
    run::<Driven<1_000_000>>("whole steps", 500_000);
}

#[test]
fn small_steps_come_to_the_same_end() {
    run::<Driven<1>>("small steps", 500_000);
}

/// The same scripts without waiting for work that is left over: the books are right at every moment, and nothing stays.
#[test]
fn calls_in_the_middle_of_left_over_work_keep_the_balance() {
    let (first, mut share) = (seed("in the middle"), Share::default());
    for seed in first..first + 180 {
        let mut script = Vec::new();
        let generator = if seed % 4 == 0 { Generator::new(seed) } else { Generator::deriving(seed) };
        make_up::<Driven<1_000_000>>(Bounds::NONE, generator, &mut script, &mut Share::default()).unwrap();
        let mut world = World::<Driven<1, false>>::new(Bounds::NONE);
        for step in &script {
            if let Some(reply) = world.run_alone(step).unwrap() {
                share.note(step, &reply);
            }
        }
        world.finish_alone().unwrap();
    }
    share.judge("in the middle");
    assert!(share.count("Revoked") >= 100 && share.count("GoOn") >= 100);
}

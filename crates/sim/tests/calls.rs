//! The calls of the object manager against their model: each reply, count, name and right, and the balance, after each.
//!
//! The seed is printed; `KOBJ_SIM_SEED=N` runs it again, `KOBJ_SIM_COMMANDS=N` sets how many calls are made.

use kobj_abi::{Era, Koid, ObjectType, RawHandle};
use kobj_core::{Call, CallAnswer, CallError, KillReason, Tally};
use kobj_sim::calls::{Driven, Generator, Manager, Model, Seen, Start, Step, World, replay, shrink};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

type Reply = Result<CallAnswer, CallError>;

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

    /// How often each reply came, whatever the call.
    fn kinds(&self) -> BTreeMap<&str, u64> {
        let mut kinds = BTreeMap::new();
        for ((_, reply), count) in &self.replies {
            *kinds.entry(reply.as_str()).or_default() += count;
        }
        kinds
    }
}

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

/// One case: a script by a seed, and what came of it.
fn run_case<M: Manager>(seed: u64, share: &mut Share) -> Result<(), (Vec<Step>, String)> {
    let mut script = Vec::new();
    let run = |script: &mut Vec<Step>, share: &mut Share| {
        let mut generator = Generator::new(seed);
        let mut world = World::<M>::new();
        for _ in 0..CALLS_PER_CASE {
            let Some(step) = generator.step(&world) else { break };
            script.push(step.clone());
            if let Some(reply) = world.run(&step)? {
                share.note(&step, &reply);
            }
        }
        world.finish()
    };
    whole(|| run(&mut script, share)).map_err(|why| (script, why))
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

fn run<M: Manager>(name: &str, calls: u64) -> Share {
    let calls = from_environment("KOBJ_SIM_COMMANDS").unwrap_or(calls);
    let clock = || std::time::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_nanos() as u64);
    let first = from_environment("KOBJ_SIM_SEED").unwrap_or_else(clock);
    println!("{name}: KOBJ_SIM_SEED={first}");
    let mut share = Share::default();
    let mut seed = first;
    while share.calls < calls {
        if let Err((script, why)) = run_case::<M>(seed, &mut share) {
            let script = shrink(&script, |script| whole(|| replay::<M>(script).map(drop)).is_err());
            let lines: String = script.iter().map(|step| format!("    {step:?},\n")).collect();
            let why_now = whole(|| replay::<M>(&script).map(drop)).err().unwrap_or_default();
            panic!("{name}: KOBJ_SIM_SEED={seed}: {why}\nshortened: {why_now}\n&[\n{lines}]");
        }
        seed = seed.wrapping_add(1);
    }
    for ((call, reply), count) in &share.replies {
        println!("{count:8} {call} -> {reply}");
    }
    println!("{:?}", share.kinds());
    println!("{name}: {} calls, {} percent refused", share.calls, share.refused * 100 / share.calls);
    share
}

/// The model as a manager, with a fault.
struct Faulty<const FAULT: u8>(Model);

impl<const FAULT: u8> Manager for Faulty<FAULT> {
    fn start() -> (Self, Start) {
        let koid = |counter| Koid::new(Era(7), counter).unwrap();
        let handle = |raw| RawHandle::from_raw(raw).unwrap();
        let start = Start {
            job: koid(1),
            guest: koid(2),
            job_handle: handle(1),
            directory_handle: handle(2),
            own_handle: handle(3),
        };
        (Self(Model::new(start)), start)
    }

    fn call(&mut self, process: Koid, call: Call<'_>) -> Reply {
        match (FAULT, call) {
            (1, Call::Revoke { .. }) => Ok(CallAnswer::Done),
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

    fn killed(&mut self) -> Vec<(Koid, KillReason)> {
        self.0.killed()
    }

    fn audit(&self) -> Result<(), String> {
        Ok(())
    }

    fn finish(self) -> Result<(), String> {
        Ok(())
    }
}

#[test]
fn the_model_agrees_with_itself() {
    run::<Faulty<0>>("the model", 2_000);
}

#[test]
fn whole_steps_do_what_the_model_says() {
    run::<Driven<1_000_000>>("whole steps", 100_000);
}

#[test]
fn small_steps_come_to_the_same_end() {
    run::<Driven<1>>("small steps", 100_000);
}

//! The core against the reference model: each reply, each effect and the balance after each command.
//!
//! The seed is printed; `KOBJ_SIM_SEED=N` runs it again, `KOBJ_SIM_COMMANDS=N` sets how many commands are run.

use kobj_abi::{Era, ObjectType};
use kobj_core::image::Time;
use kobj_core::{Command, Core, Effects, Limits, Outcome};
use kobj_sim::{Model, Script};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestError, TestRunner};
use std::cell::RefCell;
use std::collections::BTreeMap;

const ERA: Era = Era(100);
const COMMANDS_PER_CASE: usize = 400;

/// How often each reply came.
#[derive(Default)]
struct Share {
    replies: BTreeMap<String, u32>,
    commands: u32,
    refused: u32,
}

impl Share {
    fn note(&mut self, reply: &kobj_core::Reply) {
        self.commands += 1;
        self.refused += u32::from(reply.is_err());
        let words: Vec<String> = format!("{reply:?}").split(['(', ' ', '{', ')']).take(3).map(String::from).collect();
        *self.replies.entry(words.join(" ")).or_default() += 1;
    }
}

/// A step, and as many further ones as it takes to leave no work over.
fn whole_step(core: &mut Core, now: Time, command: Command) -> (kobj_core::Reply, Effects) {
    let (reply, mut effects) = core.step(now, command);
    while effects.more {
        let (_, later) = core.step(now, Command::Continue);
        effects.list.extend(later.list);
        effects.more = later.more;
    }
    (reply, effects)
}

fn compare_books(core: &Core, model: &Model) -> Result<(), String> {
    core.audit().map_err(|imbalance| imbalance.to_string())?;
    for (object_type, tally) in core.balance().rows() {
        if tally != model.tally(object_type) {
            return Err(format!("{object_type:?}: {tally:?}, not {:?}", model.tally(object_type)));
        }
    }
    for job in model.jobs() {
        let books = core.job_balance(job).map_err(|error| error.to_string())?;
        for object_type in ObjectType::ALL {
            if Some(books.of(object_type)) != model.job_tally(job, object_type) {
                return Err(format!("job {job}, {object_type:?}: {:?}", books.of(object_type)));
            }
        }
    }
    Ok(())
}

fn run_case(limits: Limits, bytes: &[[u8; 8]], share: &mut Share) -> Result<(), String> {
    let mut core = Core::with_limits(ERA, limits);
    let mut model = Model::new(ERA, limits);
    let mut script = Script::new(ERA);
    for (at, bytes) in bytes.iter().enumerate() {
        let now = Time(at as i64);
        let command = script.command(*bytes);
        let (reply, effects) = whole_step(&mut core, now, command.clone());
        share.note(&reply);
        let compared = model.check(now, &command, &reply, &effects).and_then(|()| compare_books(&core, &model));
        compared.map_err(|difference| format!("command {at}: {difference}"))?;
        script.note(&command, &reply, &effects);
        script.retain(|koid| model.lives(koid));
    }
    let living = ObjectType::ALL.iter().map(|object_type| model.tally(*object_type).live).sum::<u64>();
    let ending = core.finish().map_err(|imbalance| imbalance.to_string())?;
    if ending.left.len() as u64 == living { Ok(()) } else { Err(format!("{} left, not {living}", ending.left.len())) }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// A seed, printed, and as many cases of it.
fn config(name: &str, cases: u64) -> (u64, Config) {
    let clock = || std::time::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_nanos() as u64);
    let seed = from_environment("KOBJ_SIM_SEED").unwrap_or_else(clock);
    println!("{name}: KOBJ_SIM_SEED={seed}");
    let config = Config {
        cases: cases.max(1) as u32,
        rng_algorithm: RngAlgorithm::ChaCha,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 4000,
        ..Config::default()
    };
    (seed, config)
}

fn run(name: &str, limits: Limits, commands: u64) {
    let commands = from_environment("KOBJ_SIM_COMMANDS").unwrap_or(commands);
    let (seed, config) = config(name, commands / COMMANDS_PER_CASE as u64);
    let share = RefCell::new(Share::default());
    let script = vec(any::<[u8; 8]>(), COMMANDS_PER_CASE..=COMMANDS_PER_CASE * 2);
    let result = TestRunner::new(config)
        .run(&script, |bytes| run_case(limits, &bytes, &mut share.borrow_mut()).map_err(TestCaseError::fail));
    if let Err(TestError::Fail(why, bytes)) = &result {
        panic!("{name}: KOBJ_SIM_SEED={seed}: {why}\nshortest script: {bytes:?}");
    }
    result.unwrap();
    let share = share.into_inner();
    for (reply, count) in &share.replies {
        println!("{count:8} {reply}");
    }
    let percent = share.refused * 100 / share.commands;
    println!("{name}: {} commands, {percent} percent refused", share.commands);
    assert!(share.commands as u64 >= commands);
    assert!((20..=30).contains(&percent), "{percent} percent of the commands were refused, 20 to 30 are wanted");
}

#[test]
fn whole_steps_do_what_the_model_says() {
    run("whole steps", Limits { work_per_step: 1_000_000, ..Limits::default() }, 50_000);
}

#[test]
fn small_steps_come_to_the_same_end() {
    run("small steps", Limits { work_per_step: 1, ..Limits::default() }, 50_000);
}

/// Commands that come while work is left over: no panic, and the books are right at every moment.
#[test]
fn commands_in_the_middle_of_left_over_work_keep_the_balance() {
    let limits = Limits { work_per_step: 1, ..Limits::default() };
    let script = vec(any::<[u8; 8]>(), 1..600);
    let (seed, config) = config("in the middle", 100);
    let run = |bytes: Vec<[u8; 8]>| {
        let mut core = Core::with_limits(ERA, limits);
        let mut script = Script::new(ERA);
        for bytes in bytes {
            let command = script.command(bytes);
            let (reply, effects) = core.step(Time(0), command.clone());
            core.audit().map_err(|imbalance| TestCaseError::fail(imbalance.to_string()))?;
            script.note(&command, &reply, &effects);
            script.retain(|koid| core.query(koid).is_ok());
        }
        let ending = core.finish().map_err(|imbalance| TestCaseError::fail(imbalance.to_string()))?;
        prop_assert!(ending.balance.is_even());
        Ok(())
    };
    let result = TestRunner::new(config).run(&script, run);
    result.unwrap_or_else(|failure| panic!("KOBJ_SIM_SEED={seed}: {failure}"));
}

/// At the end of any script: kill the first jobs, answer every effect, give back what is held. Nothing is left.
#[test]
fn whatever_was_done_everything_can_be_ended() {
    let script = vec(any::<[u8; 8]>(), 1..600);
    let (seed, config) = config("everything ended", 60);
    let run = |bytes: Vec<[u8; 8]>| {
        let mut core = Core::new(ERA);
        let mut script = Script::new(ERA);
        let (mut known, mut held, mut tickets) = (Vec::new(), Vec::new(), Vec::new());
        let mut note = |reply: &kobj_core::Reply, effects: &Effects, command: &Command, held: &mut Vec<_>| {
            if let Ok(kobj_core::Answer::Created(koid)) = reply {
                known.push(*koid);
            }
            if let (Command::Reference { koid }, Ok(_)) = (command, reply) {
                held.push(*koid);
            }
            for effect in &effects.list {
                let (kobj_core::Effect::Scrub { ticket, .. } | kobj_core::Effect::EndProcess { ticket, .. }) = effect
                else {
                    continue;
                };
                tickets.push(*ticket);
            }
        };
        for bytes in bytes {
            let command = script.command(bytes);
            let (reply, effects) = whole_step(&mut core, Time(0), command.clone());
            note(&reply, &effects, &command, &mut held);
            script.note(&command, &reply, &effects);
        }
        for koid in &known {
            // Jobs are killed, outside processes are gone, what else is outside is closed; each is refused what it is not.
            let _ = core.kill_job(*koid);
            let _ = core.process_ended(*koid);
            let _ = core.close(*koid);
        }
        while core.go_on() {}
        for ticket in tickets {
            let _ = core.done(ticket, Outcome::Destroyed);
        }
        for koid in held {
            let _ = core.release(koid);
        }
        let ending = core.finish().map_err(|imbalance| TestCaseError::fail(imbalance.to_string()))?;
        prop_assert!(ending.is_zero(), "left: {:?}", ending.left);
        Ok(())
    };
    let result = TestRunner::new(config).run(&script, run);
    result.unwrap_or_else(|failure| panic!("KOBJ_SIM_SEED={seed}: {failure}"));
}

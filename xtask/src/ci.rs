//! `cargo xtask ci`: every check and test, each step also by itself. `.ci/run` calls it without arguments.

mod beside;
pub(crate) mod install;
mod nextest;
mod steps;

use std::time::{Duration, Instant};

/// What became of a step.
pub(crate) enum Outcome {
    /// It ran and held.
    Held,
    /// It did not run, by name and reason.
    Skipped(String),
}

/// What the steps share.
pub(crate) struct Context {
    /// Whether Debian packages and cargo tools may be installed.
    may_install: bool,
    /// The closing lines and counts of the test runs so far.
    tests: nextest::Totals,
}

type Step = fn(&mut Context) -> Result<Outcome, String>;

/// The steps in their order: what fails fast comes first, the tests close the run.
const STEPS: [(&str, &str, Step); 16] = [
    ("install", "install by package name what the steps below need", install::run),
    ("fmt", "formatting", steps::fmt),
    ("tidy", "house rules", steps::tidy),
    ("clippy", "lints, as errors", steps::clippy),
    ("deny", "licences, duplicate and unwanted dependencies, sources", steps::deny),
    ("docs", "documentation, warnings as errors", steps::docs),
    ("doctests", "examples in the documentation", steps::doctests),
    (
        "loom",
        "interleavings of atomics and of the manager: within a bound by loom, random ones by shuttle",
        steps::loom,
    ),
    ("address", "memory's and core's unit tests under AddressSanitizer", steps::address),
    ("valgrind", "memory's and core's unit tests under valgrind", steps::valgrind),
    ("fuzz", "every fuzz target for a short time", steps::fuzz),
    ("miri", "memory's and core's unit tests under Miri, where it is installed", steps::miri),
    ("metal", "the core without an operating system, in an emulator", steps::metal),
    ("examples", "what README shows of crate kobj: guests in one program, guests in WebAssembly", steps::examples),
    ("unit", "unit and integration tests of every room", nextest::unit),
    ("e2e", "real programs under `kobj run`", nextest::e2e),
];

/// Runs the named steps, or all.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let mut named = Vec::new();
    let mut may_install = std::env::var_os("CI").is_some_and(|value| value == "true");
    for argument in arguments {
        match argument.as_str() {
            "--install" => may_install = true,
            "--list" => {
                STEPS.iter().for_each(|(name, what, _)| println!("{name:9} {what}"));
                return Ok(());
            }
            name if STEPS.iter().any(|(step, ..)| *step == name) => named.push(name),
            other => return Err(format!("ci: no step {other:?}; `cargo xtask ci --list` names them")),
        }
    }
    let mut context = Context { may_install, tests: nextest::Totals::default() };
    let mut results = Vec::new();
    for (name, what, step) in STEPS.iter().filter(|(name, ..)| named.is_empty() || named.contains(name)) {
        println!("== {name}: {what}");
        let start = Instant::now();
        let result = step(&mut context);
        match &result {
            Ok(Outcome::Held) => {}
            Ok(Outcome::Skipped(why)) => println!("skipped: {name}: {why}"),
            Err(message) => println!("FAILED: {name}: {message}"),
        }
        results.push((*name, result, start.elapsed()));
    }
    close(&results, &context)
}

/// The summary: every step with its time, then the test runner's own closing lines.
fn close(results: &[(&str, Result<Outcome, String>, Duration)], context: &Context) -> Result<(), String> {
    println!("== summary");
    for (name, result, took) in results {
        let (word, why) = match result {
            Ok(Outcome::Held) => ("ok", ""),
            Ok(Outcome::Skipped(why)) => ("skipped", why.as_str()),
            Err(message) => ("FAILED", message.as_str()),
        };
        println!("{name:9} {:>7.1} s  {word:7} {}", took.as_secs_f64(), why.lines().next().unwrap_or_default());
    }
    let total: Duration = results.iter().map(|(.., took)| *took).sum();
    println!("{:9} {:>7.1} s", "total", total.as_secs_f64());
    let failed: Vec<&str> = results.iter().filter(|(_, result, _)| result.is_err()).map(|(name, ..)| *name).collect();
    if !failed.is_empty() {
        println!("failed steps: {}", failed.join(", "));
    }
    context.tests.print();
    if failed.is_empty() { Ok(()) } else { Err(format!("ci: {} failed", failed.join(", "))) }
}

//! The project's own tasks: `cargo xtask tidy`, `ci`, `bench`, `metal`, `miri`, `mutants`, `picture`.
#![forbid(unsafe_code)]

mod bench;
mod ci;
mod metal;
mod miri;
mod mutants;
mod picture;
mod shell;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask TASK

  tidy                      check the house rules: import graph, unsafe, banned words, documents
  ci [--install] [STEP...]  run every check and test; STEP alone: see `cargo xtask ci --list`
  bench [NAME or GROUP...] [--json]
                            run the benchmarks, ours and the rivals alternating
  metal [--plant-leak] [--install]
                            boot the core without an operating system, in an emulator
  miri                      run the unit tests of memory and core under Miri, where it is installed
  mutants [WORD...]         plant mistakes in a copy of memory and core, one by one, and see a test fail
  picture                   make what README shows: docs/run.svg by a real run, the table of what programs leave";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((task, rest)) = arguments.split_first() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let result = match task.as_str() {
        "tidy" => tidy::run(rest),
        "ci" => ci::run(rest),
        "bench" => bench::run(rest),
        "metal" => metal::run(rest),
        "miri" => miri::run(rest),
        "mutants" => mutants::run(rest),
        "picture" => picture::run(rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        other => Err(format!("no task {other:?}\n{USAGE}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

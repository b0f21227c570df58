//! Benchmarks: ours and the rivals, alternating in one run.
//!
//! `kobj-benches [NAME or GROUP...] [--group GROUP] [--json] [--most OBJECTS]` prints one line for each figure. With `--json` each line is
//! an object: `name`, `group`, `unit`, `ours` and each of `rivals` with `median`, `p99` and `rounds`, `bar` (what is asked
//! for, in words, or null) and `holds` (whether it is met, or null).
#![forbid(unsafe_code)]

mod by_hand;
mod core;
mod figure;
mod lease;
mod names;
mod objects;
mod run;
mod scale;
mod section;
mod table;

use figure::{Options, Report};
use std::process::ExitCode;

/// A group of benchmarks: its name and what runs it.
type Group = (&'static str, fn(&Options, &mut Report));

/// One line for each group.
const GROUPS: &[Group] = &[
    ("core", core::run),
    ("run", run::run),
    ("census", run::census),
    ("names", names::run),
    ("objects", objects::run),
    ("section", section::run),
    ("table", table::run),
    ("lease", lease::run),
    ("by-hand", by_hand::run),
];

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("kobj-benches: {why}");
            return ExitCode::from(2);
        }
    };
    let mut report = Report::new(options.json);
    for (group, run) in GROUPS {
        if options.wants_group(group) {
            run(&options, &mut report);
        }
    }
    if report.lines() == 0 {
        eprintln!(
            "kobj-benches: nothing is called {:?}; groups: core, run, census, names, objects, section, table, lease, by-hand",
            options.wanted
        );
        return ExitCode::from(2);
    }
    if report.all_hold() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

//! The embedded manager, row by row: each is a test of its own, here and under nextest.

mod runner;

use kobj_conformance::broken::{Broken, Fault};
use kobj_conformance::embedded::Embedded;
use kobj_conformance::{Family, Nature, Row, rows};
use runner::Test;
use std::collections::BTreeSet;
use std::process::ExitCode;

/// Units of left-over work in a step: as it comes, and as few as there can be.
const WORK: [(&str, u32); 2] = [("whole", 1_000_000), ("small", 1)];

fn tests() -> Vec<Test> {
    let mut tests: Vec<Test> = Vec::new();
    for (steps, work) in WORK {
        for row in rows::<Embedded>() {
            let name = format!("{steps}::{}", row.name());
            tests.push((name, Box::new(move || row.run(work).map_err(|failure| failure.to_string()))));
        }
    }
    for fault in Fault::ALL {
        tests.push((format!("broken::{fault:?}"), Box::new(move || is_seen(fault))));
    }
    tests.push(("suite::table".into(), Box::new(table)));
    tests.push(("suite::shares".into(), Box::new(shares)));
    tests
}

/// The row that is named for a fault fails on the broken subject, and holds on the sound one.
fn is_seen(fault: Fault) -> Result<(), String> {
    let name = fault.seen_by();
    let sound = rows::<Embedded>().into_iter().find(|row| row.name() == name);
    let broken = rows::<Broken<Embedded>>().into_iter().find(|row| row.name() == name);
    let (Some(sound), Some(broken)) = (sound, broken) else { return Err(format!("there is no row {name}")) };
    sound.run(WORK[0].1).map_err(|failure| format!("without the fault: {failure}"))?;
    match broken.run((fault, WORK[0].1)) {
        Err(failure) => {
            println!("{fault:?} is seen by {name}: {failure}");
            Ok(())
        }
        Ok(()) => Err(format!("{name} holds all the same")),
    }
}

/// `docs/conformance.md` shows how many rows and faults there are.
fn table() -> Result<(), String> {
    let rows = rows::<Embedded>();
    let mut lines = String::from("| family | rows | refusals | orders | faults |\n|---|---|---|---|---|\n");
    let mut line = |name: &str, of: Vec<&Row<Embedded>>, faults: usize| {
        let count = |nature| of.iter().filter(|row| row.nature() == nature).count();
        let (refusals, orders) = (count(Nature::refusal), count(Nature::order));
        lines += &format!("| {name} | {} | {refusals} | {orders} | {faults} |\n", of.len());
    };
    for family in Family::ALL {
        let word = family.word();
        let faults = Fault::ALL.iter().filter(|fault| fault.seen_by().split("::").next() == Some(word)).count();
        line(&word.replace('_', " "), rows.iter().filter(|row| row.family() == family).collect(), faults);
    }
    line("together", rows.iter().collect(), Fault::ALL.len());
    let paper = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/conformance.md");
    let paper = std::fs::read_to_string(paper).expect("docs/conformance.md can be read");
    let shown = paper.split_once("embedded.rs -->\n").and_then(|(_, rest)| rest.split_once("<!-- end of rows -->"));
    match shown {
        Some((shown, _)) if shown == lines => Ok(()),
        _ => Err(format!("put this between the comments of docs/conformance.md:\n{lines}")),
    }
}

/// There are enough rows of each kind, and each says its rule and the source of it.
fn shares() -> Result<(), String> {
    let rows = rows::<Embedded>();
    let names: BTreeSet<String> = rows.iter().map(Row::name).collect();
    let count = |nature| rows.iter().filter(|row| row.nature() == nature).count();
    let hard = count(Nature::refusal) + count(Nature::order);
    println!(
        "{:4} rows: {} refusals, {} orders of events, {} percent",
        rows.len(),
        count(Nature::refusal),
        count(Nature::order),
        hard * 100 / rows.len()
    );
    if let Some(row) = rows.iter().find(|row| !runner::is_sourced(row.rule())) {
        return Err(format!("{} names no source that docs/semantics.md leads to: {}", row.name(), row.rule()));
    }
    if names.len() != rows.len() || rows.len() < 150 || hard * 100 < rows.len() * 60 {
        return Err("names that are not unique, fewer than 150 rows, or fewer than 60 percent hard ones".into());
    }
    Ok(())
}

fn main() -> ExitCode {
    runner::run(tests())
}

//! Group `section`: making, mapping and ending a section, against the same system calls bare.
//!
//! Ours is all that a program does: a handle is made, the size is compared with what the system leaves, quotas are charged, the
//! view is counted, everything is given back. The rival is memfd_create, ftruncate, the seals, fallocate, mmap, munmap and close.

use crate::figure::{Figure, Options, Report, Samples};
use kobj::{Access, Caller, Manager};
use kobj_platform::section::bare;
use std::time::Instant;

const GROUP: &str = "section";
/// The most that ours may take, in times of the rival.
const MOST: f64 = 1.1;

pub(crate) fn run(options: &Options, report: &mut Report) {
    for (name, size_bytes, rounds) in [("section/4KiB", 4 << 10, 20_001), ("section/1MiB", 1 << 20, 1_001)] {
        if options.wants(GROUP, name) {
            measure(report, name, size_bytes, rounds);
        }
    }
}

/// One of each in turn: the kernel's caches and predictions are then nobody's own, as in a program that does other things.
fn measure(report: &mut Report, name: &str, size_bytes: u64, rounds: u32) {
    let manager = match Manager::embedded() {
        Ok(manager) => manager,
        Err(error) => return println!("skipped: {name}: {error}"),
    };
    let caller = manager.caller();
    let (mut ours, mut rival) = (Samples::default(), Samples::default());
    for _ in 0..rounds {
        let start = Instant::now();
        let bare = bare::make_map_end(size_bytes as usize).is_ok();
        let between = Instant::now();
        let section = section(&caller, size_bytes).is_ok();
        let end = Instant::now();
        if !(bare && section) {
            return println!("skipped: {name}: too little memory, or no memfd with seals");
        }
        rival.push((between - start).as_nanos() as f64);
        ours.push((end - between).as_nanos() as f64);
    }
    let holds = ours.median() <= MOST * rival.median();
    let bar = Some(("at most 1.1 times the bare calls", holds));
    report.print(&Figure { name, group: GROUP, unit: "ns", ours, rivals: vec![("bare calls", rival)], bar });
}

fn section(caller: &Caller, size_bytes: u64) -> Result<(), kobj::Error> {
    let section = caller.create_section(size_bytes)?;
    let view = section.map(0..size_bytes, Access::ReadWrite)?;
    drop(view);
    drop(section);
    Ok(())
}

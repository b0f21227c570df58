//! Group `section`: making, mapping and ending a section, against the same system calls bare.
//!
//! Ours is all that a program does: a handle is made, the size is compared with what the system leaves, quotas are charged, the
//! view is counted, everything is given back. The rival is memfd_create, ftruncate, the seals, fallocate, mmap, munmap and close.

use crate::figure::{Figure, Options, Report, Samples};
use kobj::{Access, Caller, Manager};
use kobj_platform::section::bare;
use std::time::Instant;

const GROUP: &str = "section";
const ROUNDS: usize = 201;
/// The most that ours may take, in times of the rival.
const MOST: f64 = 1.1;

pub(crate) fn run(options: &Options, report: &mut Report) {
    for (name, size_bytes, times) in [("section/4KiB", 4 << 10, 200), ("section/1MiB", 1 << 20, 20)] {
        if options.wants(GROUP, name) {
            measure(report, name, size_bytes, times);
        }
    }
}

fn measure(report: &mut Report, name: &str, size_bytes: u64, times: u32) {
    let manager = match Manager::embedded() {
        Ok(manager) => manager,
        Err(error) => return println!("skipped: {name}: {error}"),
    };
    let caller = manager.caller();
    let (mut ours, mut rival) = (Samples::default(), Samples::default());
    for round in 0..ROUNDS * 2 {
        let start = Instant::now();
        let whole = (0..times).all(|_| match round % 2 {
            0 => section(&caller, size_bytes).is_ok(),
            _ => bare::make_map_end(size_bytes as usize).is_ok(),
        });
        if !whole {
            return println!("skipped: {name}: too little memory, or no memfd with seals");
        }
        let each_ns = start.elapsed().as_secs_f64() * 1e9 / f64::from(times);
        if round % 2 == 0 { ours.push(each_ns) } else { rival.push(each_ns) }
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

//! Rules of memory and core, each a row that sets up its own manager, and fails by a panic that says where.

mod calls;
mod ends;
mod keeps;
mod kill;
mod links;
mod made;
mod memory;
mod table;

use crate::Machine;
use alloc::vec::Vec;
use core::fmt::Write;
use kobj_abi::{Era, HostKind, Koid, LinkKind};
use kobj_core::image::{HostImage, Identity, Time};
use kobj_core::types::process;
use kobj_core::{Core, Limits, LooseEnds, Missing};

/// A rule and its check.
type Row = (&'static str, fn(&Machine));

const TABLES: [&[Row]; 8] =
    [memory::ROWS, table::ROWS, calls::ROWS, made::ROWS, keeps::ROWS, links::ROWS, ends::ROWS, kill::ROWS];

/// Runs every row, each with its name on the console; none may leave a byte on the heap. Gives how many ran.
pub(crate) fn run(machine: &Machine, console: &mut dyn Write) -> usize {
    let mut ran = 0;
    for (name, check) in TABLES.into_iter().flatten() {
        let _ = write!(console, "row: {name} ... ");
        let before = (machine.live_bytes)();
        check(machine);
        let left = (machine.live_bytes)() - before;
        assert!(left == 0, "the row leaves {left} heap bytes");
        let _ = writeln!(console, "ok");
        ran += 1;
    }
    ran
}

// What the rows share

/// Refuses the first allocation, then the second, and so on, until the action succeeds; each refusal is an error and leaves
/// not a byte behind.
fn refused_until_it_succeeds<T, E>(machine: &Machine, mut action: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let before = (machine.live_bytes)();
    for allocations in 0..1000 {
        (machine.refuse_after)(Some(allocations));
        let result = action();
        (machine.refuse_after)(None);
        if result.is_ok() {
            return result;
        }
        drop(result);
        let left = (machine.live_bytes)() - before;
        assert!(left == 0, "refused after {allocations} allocations, it leaves {left} bytes");
    }
    action()
}

const NOW: Time = Time(1_000_000);

fn core() -> Core {
    Core::new(Era(0x6924_e0a1))
}

/// One unit of left-over work a step: what should take many steps does.
fn small_steps() -> Core {
    Core::with_limits(Era(1), Limits { work_per_step: 1, ..Limits::default() })
}

fn job(core: &mut Core) -> Koid {
    core.create_job(NOW, None, None).expect("a job")
}

fn living(pid: u32) -> process::Request {
    process::Request { pid, started: 77, ended: false }
}

/// A process outside of all jobs.
fn outsider(core: &mut Core, pid: u32) -> Koid {
    core.create_process(NOW, None, living(pid), None).expect("a process")
}

fn segment(id: i64) -> HostImage {
    HostImage::new(HostKind::SysvSegment, Vec::from(id.to_le_bytes()), Identity::Ipc { id, key: 0, uid: 0 })
}

fn host(core: &mut Core, job: Koid, id: i64) -> Koid {
    core.create_host_object(NOW, job, segment(id), None).expect("a host object")
}

/// Does all left-over work, counts its steps, and checks the books.
fn drain(core: &mut Core) -> u32 {
    let mut steps = 1;
    while core.go_on() {
        steps += 1;
    }
    core.audit().expect("the books agree");
    steps
}

/// Ends the manager, which must be empty.
fn nothing_left(core: Core) {
    let ending = core.finish().expect("the books agree");
    assert!(ending.is_zero(), "{:?}", ending.left);
}

/// Ends the manager, which keeps so many objects.
fn left(core: Core, count: usize) {
    assert_eq!(core.finish().expect("the books agree").left.len(), count);
}

fn gone(koid: Koid) -> Missing {
    Missing { koid, gone: true }
}

fn never(koid: Koid) -> Missing {
    Missing { koid, gone: false }
}

fn stranger() -> Koid {
    Koid::new(Era(3), 3).expect("a koid")
}

fn ends(keepers: &[(Koid, LinkKind)]) -> LooseEnds {
    LooseEnds { keepers: keepers.to_vec(), more: false }
}

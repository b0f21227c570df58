//! The suite that every implementation must pass, on bare metal: the manager under a lock that spins.

use crate::Machine;
use core::fmt::Write;
use kobj_conformance::embedded::Embedded;
use kobj_conformance::rows;

/// Units of left-over work in a step: as it comes, and as few as there can be.
const WORK: [u32; 2] = [1_000_000, 1];

/// Runs every row, with each size of step; none may leave a byte on the heap. Gives how many rows there are.
pub(crate) fn run(machine: &Machine, console: &mut dyn Write) -> usize {
    let rows = rows::<Embedded>();
    let mut failed = 0;
    for row in &rows {
        let _ = write!(console, "row: {} ... ", row.name());
        let before = (machine.live_bytes)();
        let outcome = WORK.into_iter().find_map(|work_per_step| row.run(work_per_step).err());
        failed += usize::from(outcome.is_some());
        let _ = match outcome {
            Some(failure) => writeln!(console, "FAILED: {failure}"),
            None => writeln!(console, "ok"),
        };
        let left = (machine.live_bytes)().saturating_sub(before);
        assert!(left == 0, "the row leaves {left} heap bytes");
    }
    assert!(failed == 0, "{failed} rows failed");
    rows.len()
}

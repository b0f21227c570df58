//! What the suite for every implementation does not ask: the memory room by itself, memory that is refused, sections on
//! the heap. Each row sets up what it needs, and fails by a panic that says where.

mod calls;
mod memory;
mod sections;
mod table;

use crate::Machine;
use core::fmt::Write;

/// A rule and its check.
type Row = (&'static str, fn(&Machine));

const TABLES: [&[Row]; 4] = [memory::ROWS, table::ROWS, calls::ROWS, sections::ROWS];

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

/// Refuses the first allocation, then the second, and so on, until the action succeeds; each refusal is an error and
/// leaves not a byte behind.
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

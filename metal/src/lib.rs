//! What the image does: rules of the core, a million objects, and a last look at the heap. Safe, and knows no hardware.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

mod conformance;
mod million;
mod rows;

use core::fmt::Write;

/// What the machine can tell and do.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Heap bytes that were asked for and not given back.
    pub live_bytes: fn() -> usize,
    /// The most of them that ever lived at once.
    pub peak_bytes: fn() -> usize,
    /// Refuses every allocation after so many; `None` ends that.
    pub refuse_after: fn(Option<u64>),
}

/// Does all of it; `true` if all held. The last line on the console is the sum; a rule that is broken panics.
pub fn run(machine: &Machine, console: &mut dyn Write) -> bool {
    let rows = conformance::run(machine, console) + rows::run(machine, console);
    let books = million::run(console);
    let left_bytes = (machine.live_bytes)();
    let _ = writeln!(console, "heap: {left_bytes} bytes left, {} at the most", (machine.peak_bytes)());
    let held = books.live == 0 && books.created == books.destroyed && left_bytes == 0;
    let verdict = if held { "" } else { " FAILED" };
    let million::Books { created, destroyed, live } = books;
    let _ = writeln!(console, "metal: rows={rows} created={created} destroyed={destroyed} live={live}{verdict}");
    held
}

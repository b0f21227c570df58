//! A million objects, a hundred thousand of them alive at once, and not one left: with `plant-leak`, one is.

use crate::rows::segment;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt::Write;
use kobj_abi::{Era, Koid};
use kobj_core::Core;
use kobj_core::image::Time;

/// Objects made and destroyed.
const OBJECTS: i64 = 1_000_000;
/// Of them alive at once.
const ALIVE: usize = 100_000;

/// What the manager's books say at its end.
pub(crate) struct Books {
    /// Objects ever made.
    pub(crate) created: u64,
    /// Objects ever destroyed.
    pub(crate) destroyed: u64,
    /// Objects that still live.
    pub(crate) live: u64,
}

/// Makes and destroys them in the order of their making; names what is left.
pub(crate) fn run(console: &mut dyn Write) -> Books {
    let mut core = Core::new(Era(1));
    let job = core.create_job(Time(0), None, Some(b"million")).expect("a job");
    let mut alive: VecDeque<Koid> = VecDeque::with_capacity(ALIVE);
    for id in 0..OBJECTS {
        if alive.len() == ALIVE {
            end(&mut core, alive.pop_front());
        }
        alive.push_back(core.create_host_object(Time(id), job, segment(id), None).expect("an object"));
    }
    if cfg!(feature = "plant-leak") {
        core.reference(alive[ALIVE / 2]).expect("a hold that nobody gives back");
    }
    while let Some(object) = alive.pop_front() {
        end(&mut core, Some(object));
    }
    core.close(job).ok();
    let ending = core.finish().expect("the books agree");
    for left in &ending.left {
        let _ = writeln!(console, "left: {} ({})", left.tag, left.object_type.name());
    }
    let sum: Vec<_> = ending.balance.rows().map(|(_, tally)| tally).collect();
    Books {
        created: sum.iter().map(|tally| tally.created).sum(),
        destroyed: sum.iter().map(|tally| tally.destroyed).sum(),
        live: ending.balance.live(),
    }
}

fn end(core: &mut Core, object: Option<Koid>) {
    let object = object.expect("one is alive");
    core.close(object).expect("an object that lives");
}

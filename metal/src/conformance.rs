//! The suite that every implementation must pass, on bare metal: the manager under a lock that spins.

use crate::Machine;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::iter;
use kobj_abi::{AskedRights, Era, Koid, Rights};
use kobj_conformance::{Start, Subject, rows};
use kobj_core::embed::Manager;
use kobj_core::image::Time;
use kobj_core::{Call, CallAnswer, CallError, Core, Effect, Limits, Resource};
use kobj_memory::Spin;

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

/// A manager that was just started, asked until none of the work is left over that a call began.
struct Embedded {
    manager: Manager<Spin>,
    now: Time,
}

impl Subject for Embedded {
    /// Units of left-over work in one step.
    type Options = u32;

    fn start(work_per_step: u32) -> Result<(Self, Start), CallError> {
        let limits = Limits { work_per_step, seed: 0x6b6f_626a, ..Limits::default() };
        let manager: Manager<Spin> = Manager::new(Time(0), Era(7), limits)?;
        let boot = manager.boot();
        let start = Start { root_job: boot.root_job, process: boot.process, job: boot.job, directory: boot.directory };
        Ok((Self { manager, now: Time(0) }, start))
    }

    fn call(&mut self, process: Koid, call: Call<'_>) -> Result<CallAnswer, CallError> {
        self.now.0 += 1;
        let result = self.manager.call(self.now, process, call);
        while self.manager.go_on() {}
        result
    }

    fn live(&self) -> u64 {
        self.manager.with(|core| core.live()).into()
    }

    fn handles(&self, process: Koid) -> u64 {
        let mut from = 0;
        let next = || {
            from = self.manager.with(|core| core.handle_from(process, from))?.1;
            Some(())
        };
        iter::from_fn(next).count() as u64
    }

    fn limit(&mut self, owner: Koid, resource: Resource, limit: u64) {
        let embedder = self.manager.boot().process;
        let rights = AskedRights::Exactly(Rights::MANAGE);
        let handle = self.manager.grant(embedder, owner, rights).expect("a handle to the owner of a quota");
        self.call(embedder, Call::SetQuota { handle, resource, limit }).expect("a quota");
        self.call(embedder, Call::Close { handle }).expect("a handle that is open");
    }

    fn killed(&mut self) -> Vec<Koid> {
        let effects = iter::from_fn(|| self.manager.next_effect());
        effects.filter_map(|effect| if let Effect::Killed { koid, .. } = effect { Some(koid) } else { None }).collect()
    }

    fn end(self) -> Result<(), String> {
        self.manager.with(|core| core.audit()).map_err(|imbalance| format!("{imbalance}"))?;
        self.manager.with(Core::shut_down);
        while self.manager.next_effect().is_some() {}
        let core = self.manager.with(|core| core::mem::replace(core, Core::new(Era(8))));
        let ending = core.finish().map_err(|imbalance| format!("{imbalance}"))?;
        if ending.is_zero() { Ok(()) } else { Err(format!("left: {:?}", ending.left)) }
    }
}

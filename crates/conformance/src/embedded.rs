//! The embedded manager as a subject.

use crate::subject::{Start, Subject};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::iter;
use kobj_abi::{AskedRights, Era, Koid, Rights};
use kobj_core::image::Time;
use kobj_core::{Boot, Call, CallAnswer, CallError, Core, Effect, Limits, Resource};

/// The core, asked until none of the work is left over that a call began.
#[derive(Debug)]
pub struct Embedded {
    core: Core,
    now: Time,
    first: Koid,
}

impl Subject for Embedded {
    /// Units of left-over work in one step: with few of them every bounded step is seen to stop and go on.
    type Options = u32;

    fn start(work_per_step: u32) -> Result<(Self, Start), CallError> {
        let limits = Limits { work_per_step, seed: 0x6b6f_626a, ..Limits::default() };
        let mut core = Core::try_with_limits(Era(7), limits).map_err(|_| CallError::NoMemory {})?;
        let Boot { root_job, process, job, directory } = core.boot(Time(0))?;
        Ok((Self { core, now: Time(0), first: process }, Start { root_job, process, job, directory }))
    }

    fn call(&mut self, process: Koid, call: Call<'_>) -> Result<CallAnswer, CallError> {
        self.now.0 += 1;
        let mut result = self.core.call(self.now, process, call);
        while result == Ok(CallAnswer::GoOn) {
            result = self.core.call(self.now, process, call);
        }
        while self.core.go_on() {}
        result
    }

    fn live(&self) -> u64 {
        self.core.live().into()
    }

    fn handles(&self, process: Koid) -> u64 {
        let mut from = 0;
        let next = || {
            let (_, next) = self.core.handle_from(process, from)?;
            from = next;
            Some(())
        };
        iter::from_fn(next).count() as u64
    }

    fn limit(&mut self, owner: Koid, resource: Resource, limit: u64) {
        let handle = self.core.grant(self.first, owner, AskedRights::Exactly(Rights::MANAGE));
        if let Ok(handle) = handle {
            // A limit that is not set is seen by the row.
            let _set = self.call(self.first, Call::SetQuota { handle, resource, limit });
            let _closed = self.call(self.first, Call::Close { handle });
        }
    }

    fn killed(&mut self) -> Vec<Koid> {
        let effects = iter::from_fn(|| self.core.next_effect());
        effects.filter_map(|effect| if let Effect::Killed { koid, .. } = effect { Some(koid) } else { None }).collect()
    }

    fn end(mut self) -> Result<(), String> {
        self.core.audit().map_err(|imbalance| format!("{imbalance}"))?;
        self.core.shut_down();
        while self.core.go_on() {}
        let _told = self.killed();
        let ending = self.core.finish().map_err(|imbalance| format!("{imbalance}"))?;
        if ending.is_zero() { Ok(()) } else { Err(format!("left: {:?}", ending.left)) }
    }
}

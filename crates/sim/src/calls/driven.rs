//! The core as it is compared with the model.

use super::model::Expected;
use super::world::{Manager, Seen, SeenName, Start};
use kobj_abi::{AskedRights, Era, Koid, ObjectType, RawHandle};
use kobj_core::image::Time;
use kobj_core::{Call, Core, Effect, KillReason, Limits, Tally};

/// The core, which does at most so many units of left-over work in a step, and is asked until none is left.
#[derive(Debug)]
pub struct Driven<const WORK_PER_STEP: u32> {
    core: Core,
    now: Time,
}

impl<const WORK_PER_STEP: u32> Manager for Driven<WORK_PER_STEP> {
    fn start() -> (Self, Start) {
        let limits = Limits { work_per_step: WORK_PER_STEP, seed: 0x6b6f_626a, ..Limits::default() };
        let mut core = Core::with_limits(Era(7), limits);
        let boot = core.boot(Time(0)).unwrap();
        let own_handle = core.grant(boot.process, boot.process, AskedRights::Same).unwrap();
        let start = Start {
            job: boot.root_job,
            guest: boot.process,
            job_handle: boot.job,
            directory_handle: boot.directory,
            own_handle,
        };
        (Self { core, now: Time(0) }, start)
    }

    fn call(&mut self, process: Koid, call: Call<'_>) -> Expected {
        self.now.0 += 1;
        let reply = self.core.call(self.now, process, call);
        while self.core.go_on() {}
        reply
    }

    fn killed(&mut self) -> Vec<(Koid, KillReason)> {
        let effects = std::iter::from_fn(|| self.core.next_effect());
        effects
            .map(|effect| match effect {
                Effect::Killed { koid, reason } => (koid, reason),
                other => unreachable!("a call wants {other:?} done"),
            })
            .collect()
    }

    fn seen(&self, koid: Koid) -> Option<Seen> {
        let info = self.core.query(koid).ok()?;
        let name = self.core.name_of(koid).map(|(directory, entry)| SeenName {
            directory,
            name: entry.name,
            most: entry.most,
            permanent: entry.permanent,
        });
        Some(Seen {
            object_type: info.object_type,
            owner: info.owner,
            handles: self.core.handle_count(koid).ok()?,
            references: info.references,
            name,
        })
    }

    fn tally(&self, object_type: ObjectType) -> Tally {
        self.core.balance().of(object_type)
    }

    fn charged(&self, job: Koid, object_type: ObjectType) -> Option<u64> {
        Some(self.core.job_balance(job).ok()?.of(object_type).live)
    }

    fn handles(&self, process: Koid) -> Vec<RawHandle> {
        let mut from = 0;
        std::iter::from_fn(|| {
            let (handle, next) = self.core.handle_from(process, from)?;
            from = next;
            Some(handle)
        })
        .collect()
    }

    fn audit(&self) -> Result<(), String> {
        self.core.audit().map_err(|imbalance| imbalance.to_string())
    }

    fn finish(mut self) -> Result<(), String> {
        self.core.shut_down();
        while self.core.next_effect().is_some() {}
        let ending = self.core.finish().map_err(|imbalance| imbalance.to_string())?;
        if ending.is_zero() { Ok(()) } else { Err(format!("left at the end: {:?}", ending.left)) }
    }
}

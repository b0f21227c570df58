//! The core as it is compared with the model.

use super::memory::with_given;
use super::model::Expected;
use super::world::{Bounds, Manager, Seen, SeenName, Start};
use kobj_abi::{AskedRights, Era, Koid, ObjectType, RawHandle};
use kobj_core::image::Time;
use kobj_core::types::process;
use kobj_core::{Call, CallAnswer, Core, Effect, Limits, Outcome, Resource, Tally, Usage, Why};

/// The core, which does at most so many units of left-over work in a step. `WHOLE`, it is asked until none is left.
#[derive(Debug)]
pub struct Driven<const WORK_PER_STEP: u32, const WHOLE: bool = true> {
    core: Core,
    now: Time,
}

impl<const WORK_PER_STEP: u32, const WHOLE: bool> Manager for Driven<WORK_PER_STEP, WHOLE> {
    fn start(bounds: Bounds) -> (Self, Start) {
        let limits = Limits {
            work_per_step: WORK_PER_STEP,
            seed: 0x6b6f_626a,
            koids_per_era: bounds.koids,
            table_slots: bounds.slots,
            generation_bits: bounds.generation_bits,
            handles_per_object: bounds.handles_per_object,
            ..Limits::default()
        };
        let mut core = Core::with_limits(Era(7), limits);
        let boot = core.boot(Time(0)).unwrap();
        let own_handle = core.grant(boot.process, boot.process, AskedRights::Same).unwrap();
        let process = process::Request { pid: 1, started: 1, ended: false };
        let outsider = core.create_process(Time(0), Some(boot.root_job), process, None).unwrap();
        let outsider_handle = core.grant(boot.process, outsider, AskedRights::Same).unwrap();
        let charged = |koid| core.query(koid).map_or(0, |info| u64::from(info.charge_bytes));
        let job = (ObjectType::Job, charged(boot.root_job));
        let other = [ObjectType::Process, ObjectType::Directory, ObjectType::SymbolicLink];
        let sizes = other.map(|object_type| (object_type, charged(boot.process))).into_iter().chain([job]).collect();
        let start = Start {
            job: boot.root_job,
            guest: boot.process,
            job_handle: boot.job,
            directory_handle: boot.directory,
            own_handle,
            outsider,
            outsider_handle,
            bounds,
            sizes,
        };
        (Self { core, now: Time(0) }, start)
    }

    fn call(&mut self, process: Koid, call: Call<'_>, mut given: Option<u32>) -> Expected {
        self.now.0 += 1;
        loop {
            let reply = match given.take() {
                Some(given) => with_given(given, || self.core.call(self.now, process, call)),
                None => self.core.call(self.now, process, call),
            };
            while WHOLE && self.core.go_on() {}
            if !WHOLE || reply != Ok(CallAnswer::GoOn) {
                return reply;
            }
        }
    }

    fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.core.next_effect()).collect()
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

    fn usage(&self, koid: Koid, resource: Resource) -> Option<Usage> {
        self.core.usage(koid, resource).ok()
    }

    fn retired(&self, process: Koid) -> Option<u32> {
        self.core.retired_slots(process).ok()
    }

    fn nodes(&self) -> u32 {
        self.core.derivation_nodes()
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

    fn why(&mut self, koid: Koid) -> Option<Why> {
        self.core.why(koid).ok()
    }

    fn audit(&self) -> Result<(), String> {
        self.core.audit().map_err(|imbalance| imbalance.to_string())
    }

    fn finish(mut self) -> Result<(), String> {
        self.core.shut_down();
        while let Some(effect) = self.core.next_effect() {
            if let Effect::EndProcess { ticket, .. } = effect {
                self.core.done(ticket, Outcome::Destroyed).map_err(|error| error.to_string())?;
            }
        }
        let ending = self.core.finish().map_err(|imbalance| imbalance.to_string())?;
        if ending.is_zero() { Ok(()) } else { Err(format!("left at the end: {:?}", ending.left)) }
    }
}

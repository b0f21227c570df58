//! Creation: checked first, then done as a whole: slot, tag, books, links.

use crate::error::{CreateError, EraError, ReferenceError, ReleaseError};
use crate::image::Time;
use crate::manager::{Body, Core};
use crate::types::{Request, State, job, procedures};
use kobj_abi::{Era, Koid, LinkKind, ObjectType, Tag};
use kobj_memory::{AcquireError, Birth, Reference, Slab};

impl Core {
    pub(crate) fn do_open_era(&mut self, era: Era) -> Result<(), EraError> {
        if era <= self.era {
            return Err(EraError::NotNewer { era, present: self.era });
        }
        self.era = era;
        self.issued = 0;
        self.index.open(era);
        Ok(())
    }

    pub(crate) fn do_create(
        &mut self,
        now: Time,
        job: Option<Koid>,
        creator: Option<Koid>,
        name: Option<&[u8]>,
        request: Request,
    ) -> Result<Koid, CreateError> {
        let object_type = request.object_type();
        let owner = job.map(|job| self.containing_job(job, object_type)).transpose()?;
        let table = procedures(object_type);
        if owner.is_none() && table.needs_job {
            return Err(CreateError::NeedsJob { object_type });
        }
        let maker = creator.map(|creator| self.making_process(creator)).transpose()?;
        let most = self.limits.name_bytes;
        if let Some(name) = name.filter(|name| name.len() > most) {
            return Err(CreateError::NameTooLong { bytes: name.len(), most });
        }
        if self.issued >= self.limits.koids_per_era {
            return Err(CreateError::EraExhausted { era: self.era });
        }
        let koid = Koid::new(self.era, self.issued + 1).ok_or(CreateError::EraExhausted { era: self.era })?;
        if !self.links.has_room(2) {
            return Err(CreateError::NoMemory { job });
        }
        let mut state = (table.create)(request)?;
        if let (State::Job(new), Some(owner)) = (&mut state, owner) {
            new.depth = self.job(owner).map_or(0, |job| job.depth + 1);
        }
        let out_of_line = name.map_or(0, <[u8]>::len) as u32;
        let charge_bytes =
            (table.charge_bytes)(&state).saturating_add(Slab::<Body>::SLOT_BYTES).saturating_add(out_of_line);
        let birth = Birth { creator, created_us: now.0, owner: owner.map(Reference::place), charge_bytes, name };
        let body = Body { home: None, hold: true, state };
        let tag = Tag { letters: object_type.letters(), koid };
        let object = self.slab.create(tag, &birth, body).map_err(|_| CreateError::NoMemory { job })?;
        self.issued += 1;
        self.index.insert(koid, object.place());
        self.balance.create(object_type, charge_bytes);
        if let Some(owner) = owner {
            // The first reference is the job's hold; the link itself counts none.
            let home = self.links.insert(&mut self.slab, owner.place(), LinkKind::Contains, object.place());
            if let Ok(body) = self.slab.body_mut(object) {
                body.home = home.map(|link| link.place);
            }
            if let Some(job) = self.job_mut(owner) {
                job.balance.create(object_type, charge_bytes);
            }
        }
        if let Some(maker) = maker {
            self.links.insert(&mut self.slab, maker.place(), LinkKind::Owns, object.place());
        }
        Ok(koid)
    }

    /// The job that is to contain a new object, if it may.
    fn containing_job(&self, koid: Koid, object_type: ObjectType) -> Result<Reference, CreateError> {
        let reference = self.find(koid)?;
        let job = self.job(reference).ok_or(self.wrong_type(reference, ObjectType::Job))?;
        // A job around it may be dying and the killer not have come down here yet. Depth is bounded, so is this walk.
        let mut around = Some(reference);
        while let Some(outer) = around {
            if self.job(outer).is_none_or(|outer| outer.dying) {
                return Err(CreateError::JobDying { job: koid });
            }
            around = self.owner(outer);
        }
        if object_type == ObjectType::Job && job.depth >= job::DEPTH_MOST {
            return Err(CreateError::TooDeep { job: koid, most: job::DEPTH_MOST });
        }
        Ok(reference)
    }

    fn making_process(&self, koid: Koid) -> Result<Reference, CreateError> {
        let reference = self.find(koid)?;
        match self.state(reference) {
            Some(State::Process(_)) => Ok(reference),
            _ => Err(self.wrong_type(reference, ObjectType::Process).into()),
        }
    }

    pub(crate) fn do_reference(&mut self, koid: Koid) -> Result<(), ReferenceError> {
        let object = self.find(koid)?;
        self.slab.acquire(object).map_err(|error| match error {
            AcquireError::Stale => ReferenceError::NoObject(self.missing(koid)),
            AcquireError::Full => ReferenceError::Full { koid },
        })?;
        if let Ok(header) = self.slab.header_mut(object) {
            header.held += 1;
        }
        Ok(())
    }

    /// Gives back what was held; also what was destroyed meanwhile, whose memory stays until then.
    pub(crate) fn do_release(&mut self, koid: Koid) -> Result<(), ReleaseError> {
        let place = self.index.get(koid).filter(|place| self.koid_at(*place) == Some(koid));
        let alive = self.find(koid).is_ok();
        let held = place.and_then(|place| Some((place, self.slab.any_header_mut(place)?)));
        let Some((place, header)) = held.filter(|(_, header)| alive || header.held > 0) else {
            return Err(self.missing(koid).into());
        };
        header.held = header.held.checked_sub(1).ok_or(ReleaseError::NotHeld { koid })?;
        let _last_is_queued = self.slab.release(place);
        Ok(())
    }
}

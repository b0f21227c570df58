//! Creation: checked first, then done as a whole: slot, tag, books, links.

use crate::account::{AccountId, Charge};
use crate::call::CallError;
use crate::error::{CreateError, EraError, ReferenceError, ReleaseError};
use crate::image::Time;
use crate::leases::credit;
use crate::listing::Group;
use crate::manager::{Body, Core};
use crate::namespace::Naming;
use crate::types::{Request, State, job, procedures};
use kobj_abi::{Era, Koid, LinkKind, ObjectType, Tag};
use kobj_memory::{AcquireError, Birth, NoMemory, Reference, Slab};

/// An object to be made, all checks passed.
pub(crate) struct Making<'a> {
    /// The job that contains it and is charged.
    pub(crate) owner: Option<Reference>,
    /// Who is charged, if that is not the job itself: an account inside the job's.
    pub(crate) charged: Option<AccountId>,
    /// The process that is linked as owner.
    pub(crate) maker: Option<Reference>,
    /// The process that is noted as its maker.
    pub(crate) creator: Option<Koid>,
    pub(crate) name: Option<&'a [u8]>,
    pub(crate) state: State,
    /// Whether its first reference is its job's hold; else it is the caller's, who makes a handle of it.
    pub(crate) hold: bool,
}

/// Why an object was not made.
pub(crate) enum NotMade {
    /// No koid is left.
    EraExhausted,
    /// Its job may not have it.
    Charge(CallError),
    /// No slot is left.
    NoMemory,
}

impl Core {
    pub(crate) fn not_made(&self, refused: NotMade) -> CallError {
        match refused {
            NotMade::EraExhausted => CallError::EraExhausted {},
            NotMade::Charge(error) => error,
            NotMade::NoMemory => CallError::NoMemory {},
        }
    }

    pub(crate) fn do_open_era(&mut self, era: Era) -> Result<(), EraError> {
        if era <= self.era {
            return Err(EraError::NotNewer { era, present: self.era });
        }
        self.index.open(era).map_err(|NoMemory| EraError::NoMemory)?;
        self.era = era;
        self.issued = 0;
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
        let mut state = (table.create)(request)?;
        if let (State::Job(new), Some(owner)) = (&mut state, owner) {
            new.depth = self.job(owner).map_or(0, |job| job.depth + 1);
        }
        let object = self.make(now, Making { owner, charged: None, maker, creator, name, state, hold: true });
        object.map(Reference::koid).map_err(|refused| match refused {
            NotMade::EraExhausted => CreateError::EraExhausted { era: self.era },
            NotMade::Charge(_) | NotMade::NoMemory => CreateError::NoMemory { job },
        })
    }

    /// Makes an object that may be made: slot, tag, books, links. Refused, it has changed nothing.
    pub(crate) fn make(&mut self, now: Time, making: Making<'_>) -> Result<Reference, NotMade> {
        let object_type = making.state.object_type();
        let out_of_line = making.name.map_or(0, <[u8]>::len) as u32;
        let charge_bytes = (procedures(object_type).charge_bytes)(&making.state)
            .saturating_add(Slab::<Body>::SLOT_BYTES)
            .saturating_add(out_of_line);
        let account = making.charged.or_else(|| making.owner.and_then(|owner| self.job(owner)?.account));
        let charge = Charge::object(object_type.number(), u64::from(charge_bytes) + making.state.platform_bytes());
        // Quotas are looked at before memory and counters.
        self.charge(account, charge).map_err(NotMade::Charge)?;
        let made = self.make_charged(now, making, account, charge_bytes);
        if made.is_err() {
            self.refund(account, charge);
        }
        made
    }

    fn make_charged(
        &mut self,
        now: Time,
        making: Making<'_>,
        account: Option<AccountId>,
        charge_bytes: u32,
    ) -> Result<Reference, NotMade> {
        let Making { owner, maker, creator, name, mut state, hold, .. } = making;
        if self.issued >= self.limits.koids_per_era {
            return Err(NotMade::EraExhausted);
        }
        let koid = Koid::new(self.era, self.issued + 1).ok_or(NotMade::EraExhausted)?;
        self.links.reserve(2).and_then(|()| self.index.reserve(koid)).map_err(|NoMemory| NotMade::NoMemory)?;
        let group = Group::of(&state, owner);
        if group.is_some() {
            self.listing.reserve().map_err(|NoMemory| NotMade::NoMemory)?;
        }
        if matches!(state, State::Process(_)) {
            // Its end shall need no memory.
            self.reserve_effects().map_err(|NoMemory| NotMade::NoMemory)?;
        }
        let object_type = state.object_type();
        let birth = Birth {
            object_type: Some(object_type),
            creator,
            created_us: now.0,
            owner: owner.map(Reference::place),
            charge_bytes,
            name,
        };
        // A job or guest inside what has an account gets one, and so does the root job of an embedded manager.
        let own = match &mut state {
            State::Job(job) if account.is_some() || job.is_root => Some(&mut job.account),
            State::Process(process) => process.guest.as_mut().map(|guest| &mut guest.account),
            _ => None,
        };
        let opened = match own {
            Some(own) => match self.accounts.open(account, koid) {
                Ok(opened) => Some(*own.insert(opened)),
                Err(_) => return Err(NotMade::NoMemory),
            },
            None => None,
        };
        let body = Body { home: None, hold, naming: Naming::None, account, state };
        let tag = Tag { letters: object_type.letters(), koid };
        let Ok(object) = self.slab.create(tag, &birth, body) else {
            if let Some(opened) = opened {
                self.accounts.close(opened, &mut credit!(self));
            }
            return Err(NotMade::NoMemory);
        };
        self.issued += 1;
        self.index.insert(koid, object.place());
        if let Some(group) = group {
            self.listing.insert(group, koid);
        }
        self.balance.create(object_type, charge_bytes);
        if let Some(owner) = owner {
            // The first reference is the job's hold, or its maker's handle; the link itself counts none.
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
        Ok(object)
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
        let held = self.slab.header(object).map_or(0, |header| header.held());
        let more = held.checked_add(1).ok_or(ReferenceError::Full { koid })?;
        self.slab.acquire(object).map_err(|error| match error {
            AcquireError::Stale => ReferenceError::NoObject(self.missing(koid)),
            AcquireError::Full => ReferenceError::Full { koid },
        })?;
        if let Ok(header) = self.slab.header_mut(object) {
            header.set_held(more);
        }
        Ok(())
    }

    /// Gives back what was held; also what was destroyed meanwhile, whose memory stays until then.
    pub(crate) fn do_release(&mut self, koid: Koid) -> Result<(), ReleaseError> {
        let place = self.index.get(koid).filter(|place| self.koid_at(*place) == Some(koid));
        let alive = self.find(koid).is_ok();
        let held = place.and_then(|place| Some((place, self.slab.any_header_mut(place)?)));
        let Some((place, header)) = held.filter(|(_, header)| alive || header.held() > 0) else {
            return Err(self.missing(koid).into());
        };
        header.set_held(header.held().checked_sub(1).ok_or(ReleaseError::NotHeld { koid })?);
        let _last_is_queued = self.slab.release(place);
        Ok(())
    }
}

//! Destruction: loose ends looked for first, then the tag taken, then memory.
//!
//! Losing the tag is one instant: books and all replies know it at once. Cutting the links and freeing the slot is work
//! that goes on in bounded pieces; each link that is cut may free another object, which waits its turn in a list and not
//! on the stack.

use crate::account::Charge;
use crate::command::{Answer, Effect, LooseEnds, Outcome, Ticket};
use crate::error::{CloseError, DoneError, EndError, ScrubError};
use crate::leases::credit;
use crate::listing::Group;
use crate::manager::{Body, Core};
use crate::namespace::Naming;
use crate::types::job;
use crate::types::process::Life;
use crate::types::{State, Type, procedures};
use kobj_abi::{Koid, LinkKind, ObjectType};
use kobj_memory::{AcquireError, Buried, NoMemory, Place, Reference};

impl Core {
    /// Destroys an object and says who still kept it.
    fn destroy_with_ends(&mut self, object: Reference) -> LooseEnds {
        let loose_ends = self.loose_ends(object);
        self.destroy(object);
        loose_ends
    }

    /// Destroys an object whoever still refers to it. What keeps it is cut.
    pub(crate) fn destroy(&mut self, object: Reference) {
        let mut next = Some(object);
        // Up the tree: a dying job ends with the last object in it. No deeper than jobs nest.
        while let Some(object) = next {
            if self.job(object).is_some() && self.handles_to(object) > 0 {
                // Somebody has a handle to the job: its books are closed, and it stays to be asked, without a name.
                self.end_job(object);
                self.lose_name(object.place());
                self.left_by_the_dying(object);
                break;
            }
            let owner = self.owner(object);
            let charge_bytes = self.slab.header(object).map_or(0, |header| header.charge_bytes());
            let body = match self.slab.condemn(object) {
                Ok(Some(body)) => body,
                Ok(None) => {
                    self.took_own_tag(object.place());
                    break;
                }
                Err(_) => break,
            };
            next = self.took_tag(object.place(), owner, charge_bytes, body);
        }
    }

    /// Books the end of an object whose tag was just taken and gives up its job's hold. Gives the job that ends with it.
    fn took_tag(&mut self, place: Place, owner: Option<Reference>, charge_bytes: u32, body: Body) -> Option<Reference> {
        let object_type = body.state.object_type();
        if let State::Job(job::State { account: Some(account), .. }) = &body.state {
            self.accounts.close(*account, &mut credit!(self));
        }
        if let State::Job(job) = &body.state {
            self.leave_kill_queue(job.turn);
        }
        if let (Some(group), Some(koid)) = (Group::of(&body.state, owner), self.koid_at(place)) {
            self.listing.remove(group, koid);
        }
        let charged_bytes = u64::from(charge_bytes) + body.state.platform_bytes();
        if let (State::Section(section), Some(koid)) = (&body.state, self.koid_at(place)) {
            self.section_ended(koid, section);
        }
        (procedures(object_type).delete)(body.state);
        if body.naming != Naming::None {
            self.lose_name(place);
        }
        if object_type == ObjectType::Directory {
            self.refund(body.account, self.permanence_charged(place));
        }
        self.refund(body.account, Charge::object(object_type.number(), charged_bytes));
        self.balance.destroy(object_type, charge_bytes);
        if let Some(header) = self.slab.any_header_mut(place) {
            header.set_owner(None);
        }
        if body.hold {
            // It is pinned by its condemnation, so this is not the last.
            let _pinned = self.slab.release(place);
        }
        let owner = owner?;
        let job = self.job_mut(owner)?;
        job.balance.destroy(object_type, charge_bytes);
        job.is_over().then_some(owner)
    }

    /// Its job (or the manager) does not keep an object any longer: what nothing else keeps is buried.
    pub(crate) fn let_go(&mut self, object: Reference) {
        if let Ok(body) = self.slab.body_mut(object)
            && core::mem::replace(&mut body.hold, false)
        {
            let _last_is_queued = self.slab.release(object.place());
        }
    }

    /// A job contains nothing any more and is dying, or nobody has a handle to it: it takes nothing new, and its job lets go.
    pub(crate) fn end_job(&mut self, job: Reference) {
        self.unlist(job);
        let Some(state) = self.job_mut(job) else { return };
        state.die();
        if let Some(account) = state.account.take() {
            self.close_leases(account);
            self.accounts.close(account, &mut credit!(self));
        }
        self.let_go(job);
    }

    /// What outlives its job loses its name and goes to the job around it: its place in the tree and its books. Its charge
    /// stays at the closed account, which counts for the outer ones as before.
    pub(crate) fn leave_behind(&mut self, object: Reference, job: Reference) {
        self.lose_name(object.place());
        let Some(around) = self.owner(job) else { return };
        self.move_to_job(object, job, around);
    }

    /// Moves an object's place in the tree, and its books, from its job to another one.
    pub(crate) fn move_to_job(&mut self, object: Reference, job: Reference, around: Reference) {
        let charge_bytes = self.slab.header(object).map_or(0, |header| header.charge_bytes());
        let object_type = self.type_of(object);
        let Some(home) = self.body(object).and_then(|body| body.home) else { return };
        // The killer must not follow it out of the job.
        self.kill.passes(home, &self.links);
        self.links.change_source(&mut self.slab, home, around.place());
        if let Ok(header) = self.slab.header_mut(object) {
            header.set_owner(Some(around.place()));
        }
        if let Some(state) = self.job_mut(job) {
            state.balance.leave(object_type, charge_bytes);
        }
        if let Some(state) = self.job_mut(around) {
            state.balance.take_over(object_type, charge_bytes);
        }
    }

    /// Who keeps an object besides its job.
    fn loose_ends(&self, object: Reference) -> LooseEnds {
        let mut found = LooseEnds::default();
        let Ok(header) = self.slab.header(object) else { return found };
        let mut incoming = header.first_in();
        let mut outgoing = self.first_that_may_keep(object);
        // Bounded: a few more links are looked at than are named, then it only says that there are more.
        for _ in 0..LooseEnds::MOST * 4 {
            let (place, is_incoming) = match (incoming, outgoing) {
                (Some(place), _) => (place, true),
                (None, Some(place)) => (place, false),
                (None, None) => {
                    found.more |= header.held() > 0;
                    return found;
                }
            };
            let Some(record) = self.links.get(place) else { return found };
            if is_incoming {
                incoming = record.next_in
            } else {
                outgoing = record.next_out
            }
            let Some(kind) = record.kind().filter(|kind| *kind != LinkKind::Contains) else { continue };
            if record.kept() != Some(object.place()) {
                continue;
            }
            if found.keepers.len() == LooseEnds::MOST {
                found.more = true;
                return found;
            }
            if let Some(koid) = record.keeper().and_then(|keeper| self.koid_at(keeper)) {
                found.keepers.add((koid, kind));
            }
        }
        found.more = true;
        found
    }

    /// First of the links that start at an object, if any of them may keep it: only what backs something is kept so.
    pub(crate) fn first_that_may_keep(&self, object: Reference) -> Option<Place> {
        let may = procedures(self.type_of(object)).source_of.contains(&LinkKind::Backs);
        self.slab.header(object).ok().filter(|_| may).and_then(|header| header.first_out())
    }

    /// One unit of burying; `false` if nobody waits.
    pub(crate) fn bury_one(&mut self) -> bool {
        let Some(place) = self.slab.front() else { return false };
        if let Ok(object) = self.slab.at(place) {
            // Its last reference went: nothing keeps it, so there is no loose end but what keeps nothing.
            let owner = self.owner(object);
            let charge_bytes = self.slab.header(object).map_or(0, |header| header.charge_bytes());
            match self.slab.take_tag(object) {
                Ok(Some(body)) => {
                    if let Some(job) = self.took_tag(place, owner, charge_bytes, body) {
                        self.destroy(job);
                    }
                }
                Ok(None) => self.took_own_tag(place),
                Err(_) => {}
            }
            return true;
        }
        let link = self.slab.any_header(place).and_then(|header| header.first_out().or(header.first_in()));
        if let Some(link) = link {
            self.cut(link);
            return true;
        }
        let number = self.slab.any_header(place).map(|header| header.type_number());
        if number == Some(ObjectType::Directory.number()) && self.empty_one(place) {
            return true;
        }
        let koid = self.koid_at(place);
        if let (Buried::Freed, Some(koid)) = (self.slab.hand_over_front(), koid) {
            self.index.remove(koid);
            self.forget_trace(place);
        }
        true
    }

    pub(crate) fn do_close(&mut self, koid: Koid) -> Result<(), CloseError> {
        let object = self.find(koid)?;
        if let Some(job) = self.job(object)
            && job.balance.live() > 0
        {
            return Err(CloseError::NotEmpty { koid, live: job.balance.live() });
        }
        if self.guest(object).is_some() {
            return Err(CloseError::Guest { koid });
        }
        let ticket = self.state(object).and_then(State::ticket);
        if let Some(ticket) = ticket {
            return Err(CloseError::Reserved { koid, ticket });
        }
        let body = self.slab.body_mut(object).map_err(|_| CloseError::Closed { koid })?;
        if !core::mem::replace(&mut body.hold, false) {
            return Err(CloseError::Closed { koid });
        }
        if let State::Job(job) = &mut body.state {
            job.die();
            self.unlist(object);
        }
        let _last_is_queued = self.slab.release(object.place());
        Ok(())
    }

    pub(crate) fn do_begin_scrub(&mut self, koid: Koid) -> Result<Ticket, ScrubError> {
        let object = self.find(koid)?;
        let Some(State::HostObject(host)) = self.state(object) else {
            return Err(self.wrong_type(object, ObjectType::HostObject).into());
        };
        if let Some(ticket) = Type::ticket(host) {
            return Err(ScrubError::Reserved { koid, ticket });
        }
        let image = Type::image(host).map_err(|NoMemory| ScrubError::NoMemory { koid })?;
        // What ending processes needs stays for that.
        self.reserve_effects().map_err(|NoMemory| ScrubError::NoMemory { koid })?;
        self.slab.acquire(object).map_err(|error| match error {
            AcquireError::Stale => ScrubError::NoObject(self.missing(koid)),
            AcquireError::Full => ScrubError::Full { koid },
        })?;
        let ticket = self.tickets.open(object).inspect_err(|_| {
            let _not_the_last = self.slab.release(object.place());
        });
        let ticket = ticket.map_err(|NoMemory| ScrubError::NoMemory { koid })?;
        if let Some(State::HostObject(host)) = self.state_mut(object) {
            host.reserve(ticket);
        }
        self.effects.push_back(Effect::Scrub { ticket, koid, image });
        Ok(ticket)
    }

    pub(crate) fn do_end_process(&mut self, koid: Koid) -> Result<Ticket, EndError> {
        let object = self.find(koid)?;
        let Some(State::Process(process)) = self.state(object) else {
            return Err(self.wrong_type(object, ObjectType::Process).into());
        };
        if process.guest.is_some() {
            return Err(EndError::Guest { koid });
        }
        match process.life {
            Life::Ending(ticket) => return Err(EndError::Reserved { koid, ticket }),
            Life::Ended => return Err(EndError::Ended { koid }),
            Life::Living => {}
        }
        // There is room since the process was made; unless a result was told before its effect was taken.
        let room = self.tickets.reserve(1).and_then(|()| self.effects.reserve(1));
        room.map_err(|NoMemory| EndError::NoMemory { koid })?;
        self.slab.acquire(object).map_err(|error| match error {
            AcquireError::Stale => EndError::NoObject(self.missing(koid)),
            AcquireError::Full => EndError::Full { koid },
        })?;
        let ticket = self.tickets.open(object).map_err(|NoMemory| EndError::NoMemory { koid })?;
        if let Some(State::Process(process)) = self.state_mut(object) {
            process.reserve(ticket);
            let (pid, started) = (process.pid, process.started);
            self.effects.push_back(Effect::EndProcess { ticket, koid, pid, started });
        }
        Ok(ticket)
    }

    pub(crate) fn do_process_ended(&mut self, koid: Koid) -> Result<LooseEnds, EndError> {
        let object = self.find(koid)?;
        match self.state(object) {
            // Its handles would stay counted, and those behind it in the list of the dying be forgotten.
            Some(State::Process(process)) if process.guest.is_some() => Err(EndError::Guest { koid }),
            Some(State::Process(_)) => Ok(self.destroy_with_ends(object)),
            _ => Err(self.wrong_type(object, ObjectType::Process).into()),
        }
    }

    pub(crate) fn do_done(&mut self, ticket: Ticket, outcome: Outcome) -> Result<Answer, DoneError> {
        let object = self.tickets.settle(ticket).ok_or(DoneError::NoTicket { ticket })?;
        let answer = match (self.slab.body_mut(object), outcome) {
            (Err(_), _) => Answer::Settled,
            (Ok(_), Outcome::Destroyed) => Answer::Destroyed(self.destroy_with_ends(object)),
            (Ok(body), Outcome::Left) => {
                body.state.restore();
                Answer::Left
            }
        };
        // The effect's own reference. The slot cannot have changed hands while it was counted.
        let _last_is_queued = self.slab.release(object.place());
        Ok(answer)
    }
}

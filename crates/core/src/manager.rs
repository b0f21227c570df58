//! The manager itself: what it consists of, how a command is looked up and dispatched, how left-over work goes on.

use crate::account::{AccountId, Accounts};
use crate::command::{Answer, Command, Effect, Effects, Refusal, Reply};
use crate::derivation::Derivations;
use crate::effects::Pending;
use crate::error::{Missing, WrongType};
use crate::guests;
use crate::image::Time;
use crate::index::Index;
use crate::kill::Kill;
use crate::leases::Leases;
use crate::ledger::Balance;
use crate::link::Links;
use crate::listing::Listing;
use crate::names::Names;
use crate::namespace::Naming;
use crate::notices::{Notice, OpenReason};
use crate::secret::Secret;
use crate::section::Sections;
use crate::system::System;
use crate::ticket::Tickets;
use crate::trace::Tracing;
use crate::types::{State, job};
use crate::user_type::Registered;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use kobj_abi::{Era, Koid, ObjectType, TypeNumber};
use kobj_memory::{Content, NoMemory, Nodes, Place, Reference, Shared, Slab, Stamp, Table};

/// What bounds a manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Units of left-over work that a step does, at least 1: a link cut, an object destroyed, a child visited.
    pub work_per_step: u32,
    /// The longest name, in bytes.
    pub name_bytes: usize,
    /// Koids given out in one era.
    pub koids_per_era: u32,
    /// Slots of one process's handle table, and numbers that each gives out, as a power of two from 2 to 32: used up, it
    /// is retired.
    pub table_slots: u32,
    /// See there.
    pub generation_bits: u32,
    /// Handles to one object from which calls make no more, at least 1. Beyond, as for handles that threads make by their
    /// leases, the object's counter is the bound.
    pub handles_per_object: u32,
    /// Where the masks of handle tables and the key of the hash of names come from: a secret, random in the field; printed in
    /// simulation. Who knows it can choose names that are slow to find.
    pub seed: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            work_per_step: 256,
            name_bytes: 4096,
            koids_per_era: u32::MAX,
            table_slots: Table::SLOTS_MOST,
            generation_bits: 32,
            handles_per_object: u32::MAX,
            seed: 0,
        }
    }
}

/// What the slab keeps behind each header.
pub(crate) struct Body {
    /// The link by which a job contains it; none for first jobs and outside processes.
    pub(crate) home: Option<Place>,
    /// Whether its job (or, without one, the manager) keeps it. Closing ends that, and the link stays.
    pub(crate) hold: bool,
    /// Whether it has a name: so that what has none costs no look at the names, and what a name keeps none at its last close.
    pub(crate) naming: Naming,
    /// What is charged for it, where its job has an account.
    pub(crate) account: Option<AccountId>,
    pub(crate) state: State,
}

const _: () = assert!(size_of::<Body>() <= 64, "header and body are two cache lines");

/// The object manager.
///
/// One thread at a time. Its end is [`Core::finish`], which checks the balance and names what is left.
pub struct Core {
    pub(crate) limits: Limits,
    pub(crate) era: Era,
    /// Koids given out in this era.
    pub(crate) issued: u32,
    pub(crate) index: Index,
    pub(crate) slab: Slab<Body>,
    pub(crate) links: Links,
    pub(crate) names: Names,
    /// What is listed and not named.
    pub(crate) listing: Listing,
    pub(crate) balance: Balance,
    pub(crate) tracing: Tracing,
    /// What users' types are to be told, in its order.
    pub(crate) notices: VecDeque<Notice>,
    /// Handles to objects of types that are told: each will be one notice more.
    pub(crate) noticed_handles: usize,
    /// How many of those each process has to each object.
    pub(crate) told: Listing,
    /// Why the present step makes handles.
    pub(crate) opening: OpenReason,
    /// The last handle that was moved from a table and is looked at there, by the call itself at least: when the last look
    /// hands it over, that is no close.
    pub(crate) moved: Option<(Koid, Reference, Content)>,
    /// Users' types, by number from [`TypeNumber::FIRST_OWN`] on.
    pub(crate) own_types: Vec<Registered>,
    pub(crate) accounts: Accounts,
    pub(crate) leases: Leases,
    pub(crate) tickets: Tickets,
    pub(crate) kill: Kill,
    /// Guests that are being ended.
    pub(crate) ending: guests::Ending,
    /// Guests whose end was not told yet.
    pub(crate) guests: u32,
    /// Guests whose tables are not empty yet: each knows its seat.
    pub(crate) guest_list: Vec<Reference>,
    /// Who called last, as long as it lives: most calls come one after another from one process.
    pub(crate) last_process: Option<Reference>,
    pub(crate) last_table: Option<Shared<Table>>,
    /// While a handle is given up that may be gone: that is no bad handle.
    pub(crate) is_giving_up: bool,
    /// From what handles were derived.
    pub(crate) nodes: Nodes,
    pub(crate) derivations: Derivations,
    /// For the masks of handle tables, the hash of names and the balance of lists.
    pub(crate) secret: Secret,
    pub(crate) effects: Pending,
    pub(crate) sections: Sections,
    /// The system directory, once it was asked for.
    pub(crate) system: Option<System>,
    /// The last search through the graph.
    pub(crate) mark: u32,
    pub(crate) finished: bool,
}

impl core::fmt::Debug for Core {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Core").field("era", &self.era).field("slab", &self.slab).finish_non_exhaustive()
    }
}

impl Core {
    /// An empty manager whose koids are of `era`. The caller has claimed the era, so that no other manager has it.
    ///
    /// # Panics
    /// If there is no memory even for an empty manager; see [`Core::try_with_limits`].
    #[must_use]
    pub fn new(era: Era) -> Self {
        Self::with_limits(era, Limits::default())
    }

    /// An empty manager with limits of one's own.
    ///
    /// # Panics
    /// If there is no memory even for an empty manager; see [`Core::try_with_limits`].
    #[must_use]
    pub fn with_limits(era: Era, limits: Limits) -> Self {
        Self::try_with_limits(era, limits).expect("there is memory for an empty manager")
    }

    /// An empty manager with limits of one's own.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn try_with_limits(era: Era, limits: Limits) -> Result<Self, NoMemory> {
        // A step that does no work would never come to an end.
        let limits = Limits { work_per_step: limits.work_per_step.max(1), ..limits };
        let mut index = Index::default();
        index.open(era)?;
        let mut core = Self {
            limits,
            era,
            issued: 0,
            index,
            slab: Slab::try_new()?,
            links: Links::default(),
            names: Names::new([0; 3]),
            listing: Listing::new(0),
            balance: Balance::default(),
            tracing: Tracing::default(),
            notices: VecDeque::new(),
            noticed_handles: 0,
            told: Listing::new(0),
            opening: OpenReason::default(),
            moved: None,
            own_types: Vec::new(),
            accounts: Accounts::default(),
            leases: Leases::default(),
            tickets: Tickets::default(),
            kill: Kill::default(),
            ending: guests::Ending::default(),
            guests: 0,
            guest_list: Vec::new(),
            last_process: None,
            last_table: None,
            is_giving_up: false,
            nodes: Nodes::default(),
            derivations: Derivations::default(),
            secret: Secret::new(limits.seed),
            effects: Pending::default(),
            sections: Sections::default(),
            system: None,
            mark: 0,
            finished: false,
        };
        core.names = Names::new([core.secret.next(), core.secret.next(), core.secret.next()]);
        core.listing = Listing::new(core.secret.next());
        core.told = Listing::new(core.secret.next());
        Ok(core)
    }

    /// Does one command, and a bounded amount of left-over work.
    pub fn step(&mut self, now: Time, command: Command) -> (Reply, Effects) {
        let reply = self.dispatch(now, command);
        self.work();
        (reply, self.take_effects())
    }

    fn dispatch(&mut self, now: Time, command: Command) -> Reply {
        match command {
            Command::OpenEra { era } => self.do_open_era(era).map(|()| Answer::EraOpened).map_err(Refusal::Era),
            Command::Create { job, creator, name, request } => {
                let made = self.do_create(now, job, creator, name.as_deref(), request);
                made.map(Answer::Created).map_err(Refusal::Create)
            }
            Command::Link { source, kind, target } => {
                self.do_link(source, kind, target).map(Answer::Linked).map_err(Refusal::Link)
            }
            Command::Unlink { link } => self.do_unlink(link).map(|()| Answer::Unlinked).map_err(Refusal::Unlink),
            Command::Reference { koid } => {
                self.do_reference(koid).map(|()| Answer::Referenced).map_err(Refusal::Reference)
            }
            Command::Release { koid } => self.do_release(koid).map(|()| Answer::Released).map_err(Refusal::Release),
            Command::Query { koid } => self.do_query_boxed(koid).map(Answer::Info).map_err(Refusal::Query),
            Command::Image { koid } => self.do_image_boxed(koid).map(Answer::Image).map_err(Refusal::Query),
            Command::Why { koid } => self.do_why(koid).map(Answer::Why).map_err(Refusal::Query),
            Command::BeginScrub { koid } => self.do_begin_scrub(koid).map(Answer::Reserved).map_err(Refusal::Scrub),
            Command::EndProcess { koid } => self.do_end_process(koid).map(Answer::Reserved).map_err(Refusal::End),
            Command::ProcessEnded { koid } => self.do_process_ended(koid).map(Answer::Destroyed).map_err(Refusal::End),
            Command::Done { ticket, outcome } => self.do_done(ticket, outcome).map_err(Refusal::Done),
            Command::KillJob { koid } => self.do_kill_job(koid).map(|()| Answer::Killing).map_err(Refusal::Kill),
            Command::Close { koid } => self.do_close(koid).map(|()| Answer::Closed).map_err(Refusal::Close),
            Command::Continue => Ok(Answer::Continued),
        }
    }

    /// Does left-over work, at most [`Limits::work_per_step`] units: burials first, then killing.
    pub(crate) fn work(&mut self) {
        if !self.has_work() {
            return;
        }
        for _ in 0..self.limits.work_per_step {
            if !self.bury_one() && !self.end_one() && !self.derive_one() && !self.kill_one() {
                return;
            }
        }
    }

    /// Whether work is left over.
    #[must_use]
    #[inline]
    pub fn has_work(&self) -> bool {
        self.slab.has_queued() || self.ending.is_busy() || self.derivations.has_work() || self.kill.is_busy()
    }

    /// Takes what the steps so far want done. Where there is no memory for the list, it stays for the next time.
    #[must_use]
    pub fn take_effects(&mut self) -> Effects {
        let mut list = Vec::new();
        if list.try_reserve_exact(self.effects.len()).is_ok() {
            while list.len() < list.capacity() {
                let Some(effect) = self.effects.pop_front() else { break };
                list.push(effect);
            }
        }
        Effects { list, more: self.has_work() || !self.effects.is_empty() }
    }

    /// Takes one of what the steps so far want done; allocates nothing.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// What `koid` being absent means.
    pub(crate) fn missing(&self, koid: Koid) -> Missing {
        Missing { koid, gone: self.index.was_issued(koid) }
    }

    /// The living object at a place, unless its last reference is gone.
    pub(crate) fn alive(&self, place: Place) -> Option<Reference> {
        let reference = self.slab.at(place).ok()?;
        (self.slab.header(reference).ok()?.counts().references() > 0).then_some(reference)
    }

    /// The living object of a koid.
    pub(crate) fn find(&self, koid: Koid) -> Result<Reference, Missing> {
        let found = self.index.get(koid).and_then(|place| self.alive(place));
        let found = found.filter(|reference| reference.koid() == koid).or_else(|| self.find_leased(koid));
        found.ok_or_else(|| self.missing(koid))
    }

    pub(crate) fn body(&self, object: Reference) -> Option<&Body> {
        self.slab.body(object).ok()
    }

    pub(crate) fn state(&self, object: Reference) -> Option<&State> {
        self.body(object).map(|body| &body.state)
    }

    pub(crate) fn state_mut(&mut self, object: Reference) -> Option<&mut State> {
        self.slab.body_mut(object).ok().map(|body| &mut body.state)
    }

    /// The type of a living object, as its tag says.
    pub(crate) fn type_of(&self, object: Reference) -> ObjectType {
        self.state(object).map_or(ObjectType::HostObject, State::object_type)
    }

    /// The number of a living object's type, users' own included.
    pub(crate) fn type_number(&self, object: Reference) -> TypeNumber {
        self.slab.header(object).map_or(TypeNumber(0), |header| header.type_number())
    }

    pub(crate) fn job(&self, object: Reference) -> Option<&job::State> {
        match self.state(object)? {
            State::Job(job) => Some(job),
            _ => None,
        }
    }

    pub(crate) fn job_mut(&mut self, object: Reference) -> Option<&mut job::State> {
        match self.state_mut(object)? {
            State::Job(job) => Some(job),
            _ => None,
        }
    }

    pub(crate) fn wrong_type(&self, object: Reference, wanted: ObjectType) -> WrongType {
        WrongType { koid: object.koid(), found: self.type_of(object), wanted }
    }

    /// The job that contains an object.
    pub(crate) fn owner(&self, object: Reference) -> Option<Reference> {
        // A user's object names its account there.
        self.body(object)?;
        self.slab.at(self.slab.header(object).ok()?.owner()?).ok()
    }

    /// The koid of whatever stands at a place.
    pub(crate) fn koid_at(&self, place: Place) -> Option<Koid> {
        match self.slab.stamp(place) {
            Stamp::Live(tag) => Some(tag.koid),
            Stamp::Dead(koid) => Some(koid),
            Stamp::Free => None,
        }
    }

    /// Brings room for one effect and ticket more, and for all that the end of what lives may want: then it needs none.
    pub(crate) fn reserve_effects(&mut self) -> Result<(), NoMemory> {
        let ends = self.balance.of(ObjectType::Process).live.saturating_add(1);
        self.tickets.reserve(u32::try_from(ends).map_err(|_| NoMemory)?)?;
        self.effects.reserve(usize::try_from(ends).map_err(|_| NoMemory)?)
    }
}

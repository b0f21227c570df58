//! What the manager must do, in plain maps: objects, links, tickets. Slow, small, and written from the rules alone.
//!
//! Ids of links and tickets are the manager's to choose: the model takes them from the reply and checks that they are new.

use kobj_abi::{Era, Koid, LinkKind, ObjectType, Tag};
use kobj_core::image::Time;
use kobj_core::types::{Detail, Image, Request, host_object, job, process};
use kobj_core::{
    Answer, CloseError, Command, CreateError, DoneError, Effect, Effects, EndError, EraError, KillError, Limits,
    LinkError, LinkId, LooseEnds, Missing, Outcome, QueryError, ReferenceError, Refusal, ReleaseError, Reply,
    ScrubError, Tally, Ticket, UnlinkError, Why, WrongType,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// An object that lives.
#[derive(Debug)]
struct Object {
    request: Request,
    name: Option<Vec<u8>>,
    creator: Option<Koid>,
    created: Time,
    job: Option<Koid>,
    /// Whether its job, or the manager, keeps it.
    hold: bool,
    held: u32,
    ticket: Option<Ticket>,
    /// Jobs: takes no new objects.
    dying: bool,
    books: BTreeMap<ObjectType, Tally>,
}

/// The reference model.
#[derive(Debug)]
pub struct Model {
    limits: Limits,
    era: Era,
    eras: BTreeMap<Era, u32>,
    objects: BTreeMap<Koid, Object>,
    /// Destroyed and still held: how often.
    corpses: BTreeMap<Koid, u32>,
    links: BTreeMap<LinkId, (Koid, LinkKind, Koid)>,
    seen_links: BTreeSet<LinkId>,
    tickets: BTreeMap<Ticket, Koid>,
    seen_tickets: BTreeSet<Ticket>,
    books: BTreeMap<ObjectType, Tally>,
    /// What is wrong with the effects of the command under way.
    complaint: Option<String>,
    /// Links at the object that the command under way destroyed.
    links_looked_at: usize,
    /// Who kept what was destroyed last.
    last_keepers: Vec<(Koid, LinkKind)>,
}

type Expected = Result<Answer, Refusal>;

fn keeps(kind: LinkKind, source: Koid, target: Koid) -> Option<(Koid, Koid)> {
    match kind {
        LinkKind::Contains | LinkKind::Holds | LinkKind::WaitsOn | LinkKind::Exports | LinkKind::DerivedFrom => {
            Some((source, target))
        }
        LinkKind::Backs => Some((target, source)),
        LinkKind::Owns => None,
    }
}

/// (source type, kind, target type) of links that are allowed, containment apart.
fn allowed(source: ObjectType, kind: LinkKind, target: ObjectType) -> bool {
    use LinkKind::{Backs, DerivedFrom, Exports, Holds, Owns, WaitsOn};
    use ObjectType::{HostObject, Job, Process};
    match (source, target) {
        (Process, HostObject) => matches!(kind, Holds | Owns | WaitsOn | Exports | DerivedFrom),
        (Process, Process) => matches!(kind, Holds | Owns | WaitsOn | DerivedFrom),
        (Process, Job) => matches!(kind, Holds | WaitsOn),
        (HostObject, HostObject) => matches!(kind, Backs | Exports | DerivedFrom),
        (HostObject, Process) => kind == DerivedFrom,
        // The keeper's commands, which this model is of, make these three types alone.
        _ => false,
    }
}

impl Model {
    /// A model of an empty manager.
    #[must_use]
    pub fn new(era: Era, limits: Limits) -> Self {
        Self {
            limits,
            era,
            eras: BTreeMap::from([(era, 0)]),
            objects: BTreeMap::new(),
            corpses: BTreeMap::new(),
            links: BTreeMap::new(),
            seen_links: BTreeSet::new(),
            tickets: BTreeMap::new(),
            seen_tickets: BTreeSet::new(),
            books: BTreeMap::new(),
            complaint: None,
            links_looked_at: 0,
            last_keepers: Vec::new(),
        }
    }

    /// Whether that object lives.
    #[must_use]
    pub fn lives(&self, koid: Koid) -> bool {
        self.objects.contains_key(&koid)
    }

    /// The books of a type.
    #[must_use]
    pub fn tally(&self, object_type: ObjectType) -> Tally {
        self.books.get(&object_type).copied().unwrap_or_default()
    }

    /// Does a command and compares what the manager said to it.
    ///
    /// # Errors
    /// What differs, in words.
    pub fn check(&mut self, now: Time, command: &Command, reply: &Reply, effects: &Effects) -> Result<(), String> {
        let expected = self.expect(now, command, reply, effects);
        let same = match (&expected, reply) {
            (Ok(Answer::Info(ours)), Ok(Answer::Info(theirs))) => Self::same_info(ours, theirs),
            (Ok(Answer::Destroyed(ours)), Ok(Answer::Destroyed(theirs))) => self.same_ends(ours, theirs),
            (Ok(Answer::Why(ours)), Ok(Answer::Why(theirs))) => self.same_why(command, ours, theirs),
            (ours, theirs) => ours == theirs,
        };
        if !same {
            return Err(format!("{command:?}: expected {expected:?}, got {reply:?}"));
        }
        self.check_effects(command, effects)
    }

    fn expect(&mut self, now: Time, command: &Command, reply: &Reply, effects: &Effects) -> Expected {
        match command {
            Command::OpenEra { era } => self.open_era(*era),
            Command::Create { job, creator, name, request } => {
                self.create(now, *job, *creator, name.as_deref(), request).map(Answer::Created).map_err(Refusal::Create)
            }
            Command::Link { source, kind, target } => self.link(*source, *kind, *target, reply).map_err(Refusal::Link),
            Command::Unlink { link } => self.unlink(*link).map_err(Refusal::Unlink),
            Command::Reference { koid } => self.reference(*koid).map_err(Refusal::Reference),
            Command::Release { koid } => self.release(*koid).map_err(Refusal::Release),
            Command::Query { koid } => self.query(*koid).map_err(Refusal::Query),
            Command::Image { koid } => self.image(*koid).map_err(Refusal::Query),
            Command::Why { koid } => self.why(*koid).map(Answer::Why).map_err(Refusal::Query),
            Command::BeginScrub { koid } => self.begin_scrub(*koid, reply).map_err(Refusal::Scrub),
            Command::EndProcess { koid } => self.end_process(*koid, reply).map_err(Refusal::End),
            Command::ProcessEnded { koid } => self.process_ended(*koid).map_err(Refusal::End),
            Command::Done { ticket, outcome } => self.done(*ticket, *outcome).map_err(Refusal::Done),
            Command::KillJob { koid } => self.kill(*koid, effects).map_err(Refusal::Kill),
            Command::Close { koid } => self.close(*koid).map_err(Refusal::Close),
            Command::Continue => Ok(Answer::Continued),
        }
    }

    fn missing(&self, koid: Koid) -> Missing {
        Missing { koid, gone: self.eras.get(&koid.era()).is_some_and(|issued| koid.counter() <= *issued) }
    }

    fn find(&self, koid: Koid) -> Result<&Object, Missing> {
        self.objects.get(&koid).ok_or_else(|| self.missing(koid))
    }

    fn find_mut(&mut self, koid: Koid) -> Result<&mut Object, Missing> {
        let missing = self.missing(koid);
        self.objects.get_mut(&koid).ok_or(missing)
    }

    fn wanted(&self, koid: Koid, wanted: ObjectType) -> Result<Option<WrongType>, Missing> {
        let found = self.find(koid)?.request.object_type();
        Ok((found != wanted).then_some(WrongType { koid, found, wanted }))
    }

    fn open_era(&mut self, era: Era) -> Expected {
        if era <= self.era {
            return Err(Refusal::Era(EraError::NotNewer { era, present: self.era }));
        }
        self.era = era;
        self.eras.insert(era, 0);
        Ok(Answer::EraOpened)
    }

    fn jobs_around(&self, job: Option<Koid>) -> Vec<Koid> {
        let mut around = Vec::new();
        let mut next = job;
        while let Some(job) = next {
            around.push(job);
            next = self.objects.get(&job).and_then(|object| object.job);
        }
        around
    }

    fn create(
        &mut self,
        now: Time,
        job: Option<Koid>,
        creator: Option<Koid>,
        name: Option<&[u8]>,
        request: &Request,
    ) -> Result<Koid, CreateError> {
        let object_type = request.object_type();
        if let Some(job) = job {
            if let Some(wrong) = self.wanted(job, ObjectType::Job)? {
                return Err(wrong.into());
            }
            let around = self.jobs_around(Some(job));
            if around.iter().any(|job| self.objects[job].dying) {
                return Err(CreateError::JobDying { job });
            }
            if object_type == ObjectType::Job && around.len() > 32 {
                return Err(CreateError::TooDeep { job, most: 32 });
            }
        } else if object_type == ObjectType::HostObject {
            return Err(CreateError::NeedsJob { object_type });
        }
        if let Some(creator) = creator
            && let Some(wrong) = self.wanted(creator, ObjectType::Process)?
        {
            return Err(wrong.into());
        }
        let most = self.limits.name_bytes;
        if let Some(name) = name
            && name.len() > most
        {
            return Err(CreateError::NameTooLong { bytes: name.len(), most });
        }
        let issued = self.eras.entry(self.era).or_default();
        if *issued >= self.limits.koids_per_era {
            return Err(CreateError::EraExhausted { era: self.era });
        }
        if let Request::Process(process::Request { pid: 0, .. }) = request {
            return Err(CreateError::NoSuchPid { pid: 0 });
        }
        *issued += 1;
        let koid = Koid::new(self.era, *issued).unwrap();
        let object = Object {
            request: request.clone(),
            name: name.map(<[u8]>::to_vec),
            creator,
            created: now,
            job,
            hold: true,
            held: 0,
            ticket: None,
            dying: false,
            books: BTreeMap::new(),
        };
        self.objects.insert(koid, object);
        self.book(job, object_type, 1);
        Ok(koid)
    }

    fn book(&mut self, job: Option<Koid>, object_type: ObjectType, change: i64) {
        let own = job.and_then(|job| self.objects.get_mut(&job)).map(|job| &mut job.books);
        for books in own.into_iter().chain([&mut self.books]) {
            let tally = books.entry(object_type).or_default();
            if change > 0 {
                tally.created += 1;
                tally.live += 1;
                tally.peak = tally.peak.max(tally.live);
            } else {
                tally.destroyed += 1;
                tally.live -= 1;
            }
        }
    }

    fn link(&mut self, source: Koid, kind: LinkKind, target: Koid, reply: &Reply) -> Result<Answer, LinkError> {
        let from = self.find(source)?;
        let to = self.find(target)?;
        if source == target {
            return Err(LinkError::Itself { koid: source });
        }
        if kind == LinkKind::Contains {
            return Err(LinkError::Containment { target });
        }
        if !allowed(from.request.object_type(), kind, to.request.object_type()) {
            return Err(LinkError::NotAllowed { source, kind, target });
        }
        let ended = matches!(from.request, Request::Process(process::Request { ended: true, .. }));
        if ended && keeps(kind, source, target).is_some_and(|(keeper, _)| keeper == source) {
            return Err(LinkError::Ended { koid: source });
        }
        let Ok(Answer::Linked(link)) = reply else {
            return Err(LinkError::Full { koid: source });
        };
        assert!(self.seen_links.insert(*link), "{link:?} was given before");
        self.links.insert(*link, (source, kind, target));
        Ok(Answer::Linked(*link))
    }

    fn unlink(&mut self, link: LinkId) -> Result<Answer, UnlinkError> {
        let (source, kind, target) = self.links.remove(&link).ok_or(UnlinkError::NoLink { link })?;
        if let Some((_, kept)) = keeps(kind, source, target) {
            self.settle(kept);
        }
        Ok(Answer::Unlinked)
    }

    /// Who keeps an object by links, its job apart.
    fn keepers(&self, koid: Koid) -> Vec<(Koid, LinkKind)> {
        let links = self.links.values().filter_map(|(source, kind, target)| {
            let (keeper, kept) = keeps(*kind, *source, *target)?;
            (kept == koid).then_some((keeper, *kind))
        });
        links.collect()
    }

    fn references(&self, koid: Koid) -> u32 {
        let Some(object) = self.objects.get(&koid) else { return 0 };
        let tickets = self.tickets.values().filter(|other| **other == koid).count() as u32;
        u32::from(object.hold) + object.held + tickets + self.keepers(koid).len() as u32
    }

    /// Destroys the object if nothing refers to it, and then what only it kept, and so on.
    fn settle(&mut self, koid: Koid) {
        if self.lives(koid) && self.references(koid) == 0 {
            self.destroy(koid);
        }
    }

    fn destroy(&mut self, koid: Koid) -> LooseEnds {
        let mut keepers = self.keepers(koid);
        let mut work = VecDeque::from([koid]);
        let held = self.objects.get(&koid).is_some_and(|object| object.held > 0);
        self.links_looked_at = self.links.values().filter(|link| link.0 == koid || link.2 == koid).count();
        while let Some(koid) = work.pop_front() {
            let Some(object) = self.objects.remove(&koid) else { continue };
            if object.held > 0 {
                self.corpses.insert(koid, object.held);
            }
            let lost: Vec<Koid> = (self.links.values())
                .filter_map(|(source, kind, target)| keeps(*kind, *source, *target))
                .filter_map(|(keeper, kept)| (keeper == koid).then_some(kept))
                .collect();
            self.links.retain(|_, (source, _, target)| *source != koid && *target != koid);
            self.book(object.job, object.request.object_type(), -1);
            work.extend(lost.into_iter().filter(|kept| self.references(*kept) == 0));
            if let Some(job) = object.job
                && self.objects.get(&job).is_some_and(|state| state.dying)
                && !self.objects.values().any(|other| other.job == Some(job))
            {
                work.push_back(job);
            }
        }
        keepers.sort_unstable();
        self.last_keepers = keepers;
        LooseEnds { more: held, keepers: self.last_keepers.iter().copied().collect() }
    }

    fn reference(&mut self, koid: Koid) -> Result<Answer, ReferenceError> {
        self.find_mut(koid)?.held += 1;
        Ok(Answer::Referenced)
    }

    fn release(&mut self, koid: Koid) -> Result<Answer, ReleaseError> {
        if let Some(held) = self.corpses.get_mut(&koid) {
            *held -= 1;
            if *held == 0 {
                self.corpses.remove(&koid);
            }
            return Ok(Answer::Released);
        }
        let object = self.find_mut(koid)?;
        object.held = object.held.checked_sub(1).ok_or(ReleaseError::NotHeld { koid })?;
        self.settle(koid);
        Ok(Answer::Released)
    }

    fn query(&self, koid: Koid) -> Result<Answer, QueryError> {
        let object = self.find(koid)?;
        let object_type = object.request.object_type();
        let detail = match &object.request {
            Request::Job(_) => Detail::Job(job::Detail {
                depth: self.jobs_around(object.job).len() as u8,
                dying: object.dying,
                balance: Default::default(),
            }),
            Request::Process(seen) => Detail::Process(process::Detail {
                pid: seen.pid,
                started: seen.started,
                life: match object.ticket {
                    Some(ticket) => process::Life::Ending(ticket),
                    None if seen.ended => process::Life::Ended,
                    None => process::Life::Living,
                },
            }),
            Request::HostObject(seen) => Detail::HostObject(host_object::Detail {
                kind: seen.image.kind,
                name: seen.image.name.clone(),
                identity: seen.image.identity,
                class: seen.image.class,
                size: seen.image.size,
                scrub: object.ticket,
            }),
            other => unreachable!("the model has no {other:?}"),
        };
        Ok(Answer::Info(Box::new(kobj_core::Info {
            tag: Tag { letters: object_type.letters(), koid },
            object_type,
            name: object.name.clone(),
            references: self.references(koid),
            held: object.held,
            creator: object.creator,
            created: object.created,
            owner: object.job,
            charge_bytes: 0,
            detail,
        })))
    }

    fn image(&self, koid: Koid) -> Result<Answer, QueryError> {
        let object = self.find(koid)?;
        Ok(Answer::Image(Box::new(match &object.request {
            Request::Job(_) => Image::Job(job::Image { dying: object.dying }),
            Request::Process(seen) => {
                Image::Process(process::Image { pid: seen.pid, started: seen.started, ended: seen.ended })
            }
            Request::HostObject(seen) => Image::HostObject(seen.image.clone()),
            other => unreachable!("the model has no {other:?}"),
        })))
    }

    fn all_keepers(&self, koid: Koid) -> Vec<(Koid, LinkKind)> {
        let mut keepers = self.keepers(koid);
        if let Some(Object { job: Some(job), hold: true, .. }) = self.objects.get(&koid) {
            keepers.push((*job, LinkKind::Contains));
        }
        keepers
    }

    fn is_living_process(&self, koid: Koid) -> bool {
        matches!(self.objects[&koid].request, Request::Process(process::Request { ended: false, .. }))
    }

    fn is_held_by_manager(&self, koid: Koid) -> bool {
        let object = &self.objects[&koid];
        object.hold && object.job.is_none()
    }

    fn is_root(&self, koid: Koid) -> bool {
        let first_job = self.is_held_by_manager(koid) && matches!(self.objects[&koid].request, Request::Job(_));
        self.is_living_process(koid) || first_job
    }

    /// Some shortest chain: only its length and the kind of its root are compared.
    fn why(&self, koid: Koid) -> Result<Why, QueryError> {
        self.find(koid)?;
        let mut seen = BTreeSet::from([koid]);
        let mut level = vec![(koid, Vec::new())];
        while !level.is_empty() {
            let mut next = Vec::new();
            for (object, chain) in &level {
                for (keeper, kind) in self.all_keepers(*object) {
                    if seen.insert(keeper) {
                        let mut longer = chain.clone();
                        longer.insert(0, (keeper, kind));
                        next.push((keeper, longer));
                    }
                }
            }
            let roots = next.iter().filter(|(keeper, _)| self.is_root(*keeper));
            if let Some((_, chain)) = roots.min_by_key(|(keeper, _)| !self.is_living_process(*keeper)) {
                return Ok(Why { chain: chain.clone(), rooted: true });
            }
            level = next;
        }
        Ok(Why { chain: Vec::new(), rooted: self.is_held_by_manager(koid) || self.is_living_process(koid) })
    }

    fn begin_scrub(&mut self, koid: Koid, reply: &Reply) -> Result<Answer, ScrubError> {
        if let Some(wrong) = self.wanted(koid, ObjectType::HostObject)? {
            return Err(wrong.into());
        }
        if let Some(ticket) = self.find(koid)?.ticket {
            return Err(ScrubError::Reserved { koid, ticket });
        }
        let Ok(Answer::Reserved(ticket)) = reply else { return Err(ScrubError::Full { koid }) };
        self.reserve(koid, *ticket);
        Ok(Answer::Reserved(*ticket))
    }

    fn end_process(&mut self, koid: Koid, reply: &Reply) -> Result<Answer, EndError> {
        if let Some(wrong) = self.wanted(koid, ObjectType::Process)? {
            return Err(wrong.into());
        }
        if let Some(ticket) = self.find(koid)?.ticket {
            return Err(EndError::Reserved { koid, ticket });
        }
        if !self.is_living_process(koid) {
            return Err(EndError::Ended { koid });
        }
        let Ok(Answer::Reserved(ticket)) = reply else { return Err(EndError::Full { koid }) };
        self.reserve(koid, *ticket);
        Ok(Answer::Reserved(*ticket))
    }

    fn reserve(&mut self, koid: Koid, ticket: Ticket) {
        assert!(self.seen_tickets.insert(ticket), "{ticket:?} was given before");
        self.tickets.insert(ticket, koid);
        if let Some(object) = self.objects.get_mut(&koid) {
            object.ticket = Some(ticket);
        }
    }

    fn process_ended(&mut self, koid: Koid) -> Result<Answer, EndError> {
        match self.wanted(koid, ObjectType::Process)? {
            Some(wrong) => Err(wrong.into()),
            None => Ok(Answer::Destroyed(self.destroy(koid))),
        }
    }

    fn done(&mut self, ticket: Ticket, outcome: Outcome) -> Result<Answer, DoneError> {
        let koid = self.tickets.remove(&ticket).ok_or(DoneError::NoTicket { ticket })?;
        if !self.lives(koid) {
            return Ok(Answer::Settled);
        }
        if outcome == Outcome::Destroyed {
            return Ok(Answer::Destroyed(self.destroy(koid)));
        }
        if let Some(object) = self.objects.get_mut(&koid) {
            object.ticket = None;
        }
        self.settle(koid);
        Ok(Answer::Left)
    }

    /// First each living process inside is asked to end, the inner ones first; then all else inside is destroyed.
    fn kill(&mut self, koid: Koid, effects: &Effects) -> Result<Answer, KillError> {
        if let Some(wrong) = self.wanted(koid, ObjectType::Job)? {
            return Err(wrong.into());
        }
        let inside = |model: &Self, object: Koid| model.jobs_around(model.objects[&object].job).contains(&koid);
        let all: Vec<Koid> = self.objects.keys().copied().filter(|object| inside(self, *object)).collect();
        for object in all.iter().chain([&koid]) {
            if let Some(state) = self.objects.get_mut(object)
                && matches!(state.request, Request::Job(_))
            {
                state.dying = true;
            }
        }
        let to_end = |object: &Koid| self.is_living_process(*object) && self.objects[object].ticket.is_none();
        let to_end = all.iter().copied().filter(to_end).collect();
        self.end_all(to_end, effects);
        for object in all {
            let Some(state) = self.objects.get(&object) else { continue };
            if !matches!(state.request, Request::Job(_)) && !self.is_living_process(object) {
                self.destroy(object);
            }
        }
        let empty = |model: &Self, job: Koid| !model.objects.values().any(|object| object.job == Some(job));
        loop {
            let over = |(job, state): (&Koid, &Object)| (state.dying && empty(self, *job)).then_some(*job);
            // A closed job that is held is dying and empty too, and lives on.
            let over = |entry: (&Koid, &Object)| over(entry).filter(|job| self.jobs_around(Some(*job)).contains(&koid));
            let Some(job) = self.objects.iter().find_map(over) else { break };
            self.destroy(job);
        }
        Ok(Answer::Killing)
    }

    fn end_all(&mut self, mut to_end: BTreeSet<Koid>, effects: &Effects) {
        for effect in &effects.list {
            let Effect::EndProcess { ticket, koid, .. } = effect else { continue };
            let job = self.objects.get(koid).and_then(|object| object.job);
            let is_inside = |other: &Koid| {
                let home = self.objects[other].job;
                home != job && job.is_some_and(|job| self.jobs_around(home).contains(&job))
            };
            if !to_end.remove(koid) {
                self.complaint = Some(format!("{effect:?} is not wanted"));
                return;
            }
            if let Some(inner) = to_end.iter().copied().find(is_inside) {
                self.complaint = Some(format!("{effect:?} comes before {inner}, which is further in"));
            }
            self.reserve(*koid, *ticket);
        }
        if !to_end.is_empty() {
            self.complaint = Some(format!("nobody ends {to_end:?}"));
        }
    }

    fn close(&mut self, koid: Koid) -> Result<Answer, CloseError> {
        let live = self.objects.values().filter(|object| object.job == Some(koid)).count() as u64;
        let object = self.find_mut(koid)?;
        if live > 0 {
            return Err(CloseError::NotEmpty { koid, live });
        }
        if let Some(ticket) = object.ticket {
            return Err(CloseError::Reserved { koid, ticket });
        }
        if !object.hold {
            return Err(CloseError::Closed { koid });
        }
        object.hold = false;
        object.dying = matches!(object.request, Request::Job(_));
        self.settle(koid);
        Ok(Answer::Closed)
    }

    fn same_info(ours: &kobj_core::Info, theirs: &kobj_core::Info) -> bool {
        let mut theirs = theirs.clone();
        // Charges and a job's books are compared by the audit and by `job_tally`.
        theirs.charge_bytes = 0;
        if let Detail::Job(job) = &mut theirs.detail {
            job.balance = Default::default();
        }
        *ours == theirs
    }

    fn same_ends(&self, ours: &LooseEnds, theirs: &LooseEnds) -> bool {
        // Only so many are named, and only so many links are looked at.
        let mut keepers: Vec<_> = theirs.keepers.iter().collect();
        if self.last_keepers.len() > LooseEnds::MOST || self.links_looked_at >= LooseEnds::MOST * 4 {
            return theirs.more && keepers.iter().all(|keeper| self.last_keepers.contains(keeper));
        }
        keepers.sort_unstable();
        keepers == self.last_keepers && theirs.more == ours.more
    }

    /// As long as ours, ending at a root of the same kind, and each step a link that is there.
    fn same_why(&self, command: &Command, ours: &Why, theirs: &Why) -> bool {
        let Command::Why { koid } = command else { return false };
        let roots = |why: &Why| why.chain.first().map(|(root, _)| (self.is_root(*root), self.is_living_process(*root)));
        let kept = theirs.chain.iter().skip(1).map(|(koid, _)| *koid).chain([*koid]);
        let steps = theirs.chain.iter().zip(kept).all(|(keeper, kept)| self.all_keepers(kept).contains(keeper));
        ours.rooted == theirs.rooted && ours.chain.len() == theirs.chain.len() && roots(ours) == roots(theirs) && steps
    }

    fn check_effects(&mut self, command: &Command, effects: &Effects) -> Result<(), String> {
        if let Some(complaint) = self.complaint.take() {
            return Err(format!("{command:?}: {complaint}"));
        }
        for effect in &effects.list {
            let right = match (command, effect) {
                (Command::BeginScrub { koid }, Effect::Scrub { ticket, koid: other, image }) => {
                    let wanted = self.objects.get(koid).map(|object| &object.request);
                    let same = matches!(wanted, Some(Request::HostObject(seen)) if seen.image == *image);
                    koid == other && self.tickets.get(ticket) == Some(koid) && same
                }
                (
                    Command::EndProcess { .. } | Command::KillJob { .. },
                    Effect::EndProcess { ticket, koid, pid, started },
                ) => {
                    let wanted = self.objects.get(koid).map(|object| &object.request);
                    let same =
                        matches!(wanted, Some(Request::Process(seen)) if (seen.pid, seen.started) == (*pid, *started));
                    self.tickets.get(ticket) == Some(koid) && same
                }
                _ => false,
            };
            if !right {
                return Err(format!("{command:?}: {effect:?} is not wanted"));
            }
        }
        Ok(())
    }

    /// A job's own books.
    #[must_use]
    pub fn job_tally(&self, job: Koid, object_type: ObjectType) -> Option<Tally> {
        Some(self.objects.get(&job)?.books.get(&object_type).copied().unwrap_or_default())
    }

    /// Each job that lives.
    pub fn jobs(&self) -> impl Iterator<Item = Koid> + '_ {
        self.objects.iter().filter(|(_, object)| matches!(object.request, Request::Job(_))).map(|(koid, _)| *koid)
    }
}

//! A manager and the model side by side: each step of a script is done by both, and then everything is compared.

use super::model::{Expected, Model};
use super::script::{Ask, Cursor, Ref, Step};
use kobj_abi::{Koid, ObjectType, RawHandle, Rights};
use kobj_core::{Call, CallAnswer, CallError, Effect, EntryName, Resource, Tally, Usage, Why};
use std::collections::BTreeMap;

/// Bounds that are reached in a script where they are small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Ids that are given out.
    pub koids: u32,
    /// Slots of each handle table.
    pub slots: u32,
    /// A slot has 2 to this power handles, one after the other.
    pub generation_bits: u32,
    /// Handles to one object at the same time.
    pub handles_per_object: u32,
}

impl Bounds {
    /// As large as they can be.
    pub const NONE: Self = Self { koids: u32::MAX, slots: u32::MAX, generation_bits: 32, handles_per_object: u32::MAX };
}

/// What a manager begins with: a first job, a guest in it, and that guest's handles to both.
#[derive(Clone, Debug)]
pub struct Start {
    /// The first job.
    pub job: Koid,
    /// The first guest, which is in it.
    pub guest: Koid,
    /// The guest's handle to the job.
    pub job_handle: RawHandle,
    /// The guest's handle to the first directory, which is in the job.
    pub directory_handle: RawHandle,
    /// The guest's handle to itself.
    pub own_handle: RawHandle,
    /// A process of the operating system in the job, and the guest's handle to it.
    pub outsider: Koid,
    /// See there.
    pub outsider_handle: RawHandle,
    /// What there is of ids, slots and counts.
    pub bounds: Bounds,
    /// Bytes that an object of each type is charged, what is kept out of line apart.
    pub sizes: BTreeMap<ObjectType, u64>,
}

/// An object as it is seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its type.
    pub object_type: ObjectType,
    /// The job that it is charged to.
    pub owner: Option<Koid>,
    /// Handles to it, in all tables.
    pub handles: u32,
    /// All that keeps it.
    pub references: u32,
    /// Its name.
    pub name: Option<SeenName>,
}

/// A name as it is seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenName {
    /// The directory.
    pub directory: Koid,
    /// The name in it.
    pub name: EntryName,
    /// The most rights that it grants.
    pub most: Rights,
    /// Whether it keeps the object.
    pub permanent: bool,
}

/// Resources whose use is compared.
pub(super) const RESOURCES: [Resource; 4] =
    [Resource::Objects, Resource::ObjectsOf(ObjectType::Directory.number()), Resource::Handles, Resource::Bytes];

/// What is compared with the model.
pub trait Manager: Sized {
    /// A new one with these bounds.
    fn start(bounds: Bounds) -> (Self, Start);
    /// Does a call and all that it leaves to be done. Of its allocations the one after so many given is refused, if so
    /// many are said.
    fn call(&mut self, process: Koid, call: Call<'_>, given: Option<u32>) -> Expected;
    /// What an object looks like, if it lives.
    fn seen(&self, koid: Koid) -> Option<Seen>;
    /// The books of a type.
    fn tally(&self, object_type: ObjectType) -> Tally;
    /// How many objects of a type a living job is charged for, itself not counted, those of inner jobs neither.
    fn charged(&self, job: Koid, object_type: ObjectType) -> Option<u64>;
    /// The handles of a process. What a new one inherited stands there in the order in which it stands in its maker's.
    fn handles(&self, process: Koid) -> Vec<RawHandle>;
    /// What the embedder was told since this was asked last.
    fn effects(&mut self) -> Vec<Effect>;
    /// What a living job or process has of a resource with all in it, had at most, may have, and was refused.
    fn usage(&self, koid: Koid, resource: Resource) -> Option<Usage>;
    /// Slots of a living guest's table that are used up.
    fn retired(&self, process: Koid) -> Option<u32>;
    /// How many derivation nodes there are.
    fn nodes(&self) -> u32;
    /// What keeps an object.
    fn why(&mut self, koid: Koid) -> Option<Why>;
    /// What else can be checked by itself.
    fn audit(&self) -> Result<(), String>;
    /// Its end, with all that there is.
    fn finish(self) -> Result<(), String>;
}

/// A manager and the model.
#[derive(Debug)]
pub struct World<M> {
    manager: M,
    pub(super) model: Model,
    start: Start,
    values: BTreeMap<u32, RawHandle>,
    inherited: BTreeMap<(u32, u32), RawHandle>,
    guests: BTreeMap<u32, Koid>,
    cursors: BTreeMap<u32, u64>,
    /// By which step a value came, the last one if several had it.
    pub(super) steps: BTreeMap<RawHandle, Ref>,
}

impl<M: Manager> World<M> {
    /// A new manager with these bounds, and a model of it.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let (manager, start) = M::start(bounds);
        let mut world = Self {
            manager,
            model: Model::new(start.clone()),
            values: BTreeMap::from([(0, start.job_handle)]),
            inherited: BTreeMap::new(),
            guests: BTreeMap::from([(0, start.guest)]),
            cursors: BTreeMap::new(),
            steps: BTreeMap::new(),
            start,
        };
        world.steps.insert(world.start.job_handle, Ref::Of(0));
        world.steps.insert(world.start.own_handle, Ref::Myself);
        world.steps.insert(world.start.outsider_handle, Ref::Outsider);
        world.steps.insert(world.start.directory_handle, Ref::Top);
        world
    }

    fn value(&self, of: Ref) -> RawHandle {
        let nowhere = |number: u64| RawHandle::from_raw(number.max(1)).unwrap();
        let given = |step: u32| self.values.get(&step).map_or(u64::from(step), |value| value.raw());
        match of {
            Ref::Of(step) => nowhere(given(step)),
            Ref::Inherited(step, at) => nowhere(self.inherited.get(&(step, at)).map_or(0, |value| value.raw())),
            Ref::Myself => self.start.own_handle,
            Ref::Outsider => self.start.outsider_handle,
            Ref::Top => self.start.directory_handle,
            Ref::Near(step, bits) => nowhere(given(step) ^ bits),
            Ref::MadeUp(number) => nowhere(number),
        }
    }

    fn cursor(&self, at: Cursor) -> u64 {
        match at {
            Cursor::First => 0,
            Cursor::After(step) => self.cursors.get(&step).copied().unwrap_or(0),
            Cursor::Number(number) => number,
        }
    }

    /// Does a step and compares. A step of a guest that was never made is left out: nothing is told then.
    ///
    /// # Errors
    /// What differs, in words.
    pub fn run(&mut self, step: &Step) -> Result<Option<Expected>, String> {
        let Some(process) = self.guests.get(&step.who).copied() else { return Ok(None) };
        let call = step.ask.call(|of| self.value(of), |at| self.cursor(at));
        let given = step.given.filter(|_| self.model.clone().answer(process, &call).is_ok());
        let reply = self.manager.call(process, call, given);
        // In which order a guest inherits also says at which of them it is refused.
        let listed = match (&call, &reply) {
            (Call::CreateGuest { .. }, Ok(CallAnswer::Guest { process: new, .. })) => {
                (self.manager.handles(process), self.manager.handles(*new))
            }
            (Call::CreateGuest { .. }, _) => (self.manager.handles(process), Vec::new()),
            _ => Default::default(),
        };
        let checked = match (given, &reply) {
            (Some(_), Err(CallError::NoMemory {})) => self.model.no_memory(process, &call, &self.manager),
            _ => self.model.check(process, &call, &reply, listed),
        };
        checked.map_err(|difference| format!("step {}: {difference}", step.id))?;
        self.note(step, &reply);
        self.compare().map_err(|difference| format!("after step {} ({:?}): {difference}", step.id, step.ask))?;
        Ok(Some(reply))
    }

    /// Ends the manager alone.
    ///
    /// # Errors
    /// As [`World::finish`].
    pub fn finish_alone(self) -> Result<(), String> {
        self.manager.finish()
    }

    /// Does a step and lets the manager check itself alone.
    ///
    /// # Errors
    /// What it finds.
    pub fn run_alone(&mut self, step: &Step) -> Result<Option<Expected>, String> {
        let Some(process) = self.guests.get(&step.who).copied() else { return Ok(None) };
        let call = step.ask.call(|of| self.value(of), |at| self.cursor(at));
        let reply = self.manager.call(process, call, None);
        self.note(step, &reply);
        self.manager.audit().map_err(|difference| format!("after step {}: {difference}", step.id))?;
        Ok(Some(reply))
    }

    fn note(&mut self, step: &Step, reply: &Expected) {
        match reply {
            Ok(CallAnswer::Handle(handle) | CallAnswer::Opened { handle, .. }) => {
                self.values.insert(step.id, *handle);
                self.steps.insert(*handle, Ref::Of(step.id));
            }
            Ok(CallAnswer::Guest { handle, process }) => {
                self.values.insert(step.id, *handle);
                self.steps.insert(*handle, Ref::Of(step.id));
                self.guests.insert(step.id, *process);
                for (at, value) in (0..).zip(self.manager.handles(*process)) {
                    self.inherited.insert((step.id, at), value);
                    self.steps.insert(value, Ref::Inherited(step.id, at));
                }
            }
            Ok(CallAnswer::Entry(Some(entry))) => {
                self.cursors.insert(step.id, entry.cursor);
            }
            _ => {}
        }
    }

    /// Everything that can be seen: objects, handles, books.
    fn compare(&mut self) -> Result<(), String> {
        self.manager.audit()?;
        for object_type in ObjectType::ALL {
            same(|| object_type.name().to_owned(), self.manager.tally(object_type), self.model.tally(object_type))?;
        }
        for (koid, seen) in self.model.seen() {
            same(|| format!("object {koid}"), self.manager.seen(koid), Some(seen))?;
        }
        for (job, charged) in self.model.charged() {
            for object_type in ObjectType::ALL {
                let expected = charged.get(&object_type).copied().unwrap_or(0);
                same(|| format!("charges of job {job}"), self.manager.charged(job, object_type), Some(expected))?;
            }
        }
        let in_order = |mut effects: Vec<Effect>| {
            effects.sort_by_cached_key(|effect| format!("{effect:?}"));
            effects
        };
        same(|| "told".to_owned(), in_order(self.manager.effects()), in_order(self.model.effects()))?;
        same(|| "nodes".to_owned(), self.manager.nodes(), self.model.node_count())?;
        let used = self.model.used();
        for koid in self.model.owners() {
            for resource in RESOURCES {
                let expected = self.model.usage(&used, koid, resource);
                same(|| format!("{resource:?} of {koid}"), self.manager.usage(koid, resource), Some(expected))?;
            }
        }
        for (process, handles) in self.model.all_handles() {
            let mut found = self.manager.handles(process);
            found.sort_unstable();
            same(|| format!("handles of {process}"), &found, &handles)?;
            let retired = self.model.retired(process);
            same(|| format!("used up slots of {process}"), self.manager.retired(process), Some(retired))?;
            for handle in handles {
                let call = Call::HandleInfo { handle };
                let reply = self.manager.call(process, call, None);
                self.model.check(process, &call, &reply, Default::default())?;
            }
        }
        Ok(())
    }

    /// Asks of each object why it lives, then ends the manager.
    ///
    /// # Errors
    /// A chain that is not the shortest; what is left, or does not agree with the books.
    pub fn finish(mut self) -> Result<(), String> {
        for koid in self.model.all() {
            let why = self.manager.why(koid).ok_or(format!("{koid} does not live"))?;
            if !self.model.is_shortest(koid, &why) {
                return Err(format!("{koid} is not kept so, or more shortly: {why:?}"));
            }
        }
        self.manager.finish()
    }

    pub(super) fn first_guest(&self) -> Koid {
        self.start.guest
    }

    /// The guests that steps can be of, those that have ended among them.
    pub(super) fn guests(&self) -> impl Iterator<Item = (u32, Koid)> + '_ {
        self.guests.iter().map(|(step, koid)| (*step, *koid))
    }

    /// The steps that gave a cursor.
    pub(super) fn listings(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        self.cursors.keys().copied()
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: impl Fn() -> String, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{}: {found:?}, expected {expected:?}", what())) }
}

/// Runs a script from the start, in a manager with these bounds.
///
/// # Errors
/// The first difference.
pub fn replay<M: Manager>(bounds: Bounds, script: &[Step]) -> Result<World<M>, String> {
    let mut world = World::new(bounds);
    for step in script {
        world.run(step)?;
    }
    Ok(world)
}

/// The shortest script found that still fails: ever smaller parts are left out, then arguments become plainer.
#[must_use]
pub fn shrink(script: &[Step], fails: impl Fn(&[Step]) -> bool) -> Vec<Step> {
    let mut script = script.to_vec();
    let mut part = script.len().div_ceil(2);
    while part > 0 {
        let mut at = 0;
        let mut shorter = false;
        while at < script.len() {
            let mut without = script.clone();
            without.drain(at..(at + part).min(script.len()));
            if fails(&without) {
                script = without;
                shorter = true;
            } else {
                at += part;
            }
        }
        part = if part == 1 && shorter { 1 } else { part / 2 };
    }
    // A handle that was copied or moved may not be needed: what it came from does.
    let mut at = 0;
    while let Some(step) = script.get(at).cloned() {
        let mut without = script.clone();
        without.remove(at);
        step.ask
            .copied()
            .into_iter()
            .for_each(|from| without.iter_mut().for_each(|later| later.ask.rename(step.id, from)));
        if fails(&without) { script = without } else { at += 1 }
    }
    for at in 0..script.len() {
        let mut simpler = script.clone();
        simpler[at].given = None;
        if fails(&simpler) {
            script = simpler;
        }
        for plain in plainer(&script[at].ask) {
            let mut simpler = script.clone();
            simpler[at].ask = plain;
            if fails(&simpler) {
                script = simpler;
            }
        }
    }
    script
}

fn plainer(ask: &Ask) -> Vec<Ask> {
    use super::script::Asked::Same;
    match ask.clone() {
        Ask::Duplicate(handle, _) => vec![Ask::Duplicate(handle, Same)],
        Ask::Replace(handle, _) => vec![Ask::Close(handle), Ask::Replace(handle, Same)],
        Ask::Derive(handle, _) => vec![Ask::Derive(handle, Same), Ask::Duplicate(handle, Same)],
        Ask::Transfer(handle, process, _) => vec![Ask::Transfer(handle, process, Same)],
        Ask::Link(directory, name, handle, _, permanent) => vec![
            Ask::Link(directory, name.clone(), handle, Same, permanent),
            Ask::Link(directory, name, handle, Same, false),
        ],
        Ask::Open(directory, path, _, _, follow) => vec![Ask::Open(directory, path, Same, None, follow)],
        Ask::OpenOrCreate(directory, name, make, _, exclusive) => {
            vec![Ask::OpenOrCreate(directory, name, make.clone(), Same, exclusive), Ask::Create(make)]
        }
        _ => Vec::new(),
    }
}

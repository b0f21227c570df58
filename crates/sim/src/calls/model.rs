//! What the calls must do, in plain maps: objects, tables, nodes, names. Slow, small, and written from
//! `docs/semantics.md` alone: of the core it has only the words of its calls.
//!
//! Values of handles and cursors are the manager's to choose: the model takes them from the reply and checks that they are
//! new where they must be new, and the same where they must be the same.

use super::accounts::{NODE_BYTES, bytes_bill, handle_bill};
use super::world::Start;
use kobj_abi::{AskedRights, Koid, ObjectType, Operation, RawHandle, Rights};
use kobj_core::{BadHandlePolicy, Call, CallAnswer, CallError, Effect, HandleInfo, Resource, Tally, Usage, Why};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// A node of the derivation tree: its number, and who is charged for it, whether or not it lives.
type Node = (u32, Koid);

/// An entry of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Handle {
    /// Which object.
    pub(super) koid: Koid,
    /// What it allows.
    pub(super) rights: Rights,
    /// Whether processes made with `inherit` get an equal.
    pub(super) inheritable: bool,
    /// Where it stands in the derivation tree: the nodes from the root to its own; none if nothing was ever derived
    /// around it. A node is there as long as a handle has it in its path.
    pub(super) path: Vec<Node>,
}

/// A process's handles, and all values that ever were handles there.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) handles: BTreeMap<RawHandle, Handle>,
    /// By slot, which a value's low half says.
    ever: BTreeMap<u32, HashSet<RawHandle>>,
}

/// An object that lives.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) object_type: ObjectType,
    /// The job that it is in.
    pub(super) owner: Option<Koid>,
    /// Whose account it is charged to.
    pub(super) payer: Option<Koid>,
    /// Whether its job, or the manager, keeps it.
    pub(super) held: bool,
    /// Jobs and processes: whether it has ended.
    pub(super) dead: bool,
    /// Symbolic links: where it leads.
    pub(super) target: Vec<u8>,
}

/// A name. All of them stand in one list, in the order in which they were linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) directory: Koid,
    pub(super) name: Vec<u8>,
    pub(super) koid: Koid,
    pub(super) most: Rights,
    pub(super) permanent: bool,
    pub(super) serial: u64,
}

/// What the manager chose in the reply to the call under way. Where it says nothing the model chooses.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) handle: Option<RawHandle>,
    /// The object and the cursor of an entry.
    pub(super) entry: Option<(Koid, u64)>,
    pub(super) why: Option<Why>,
    /// The caller's handles and those of the guest that it made, in the order in which they were inherited.
    pub(super) inherited: (Vec<RawHandle>, Vec<RawHandle>),
}

/// The reference model.
#[derive(Clone, Debug, Default)]
pub struct Model {
    start: Option<Start>,
    caller: Option<Koid>,
    /// The first directory.
    pub(super) root: Option<Koid>,
    issued: u32,
    pub(super) objects: BTreeMap<Koid, Object>,
    pub(super) tables: BTreeMap<Koid, Table>,
    last_node: u32,
    pub(super) names: Vec<Name>,
    pub(super) last_serial: u64,
    /// What cursors the manager gave: the directory and the number, and after which name that is.
    pub(super) cursors: BTreeMap<(Koid, u64), u64>,
    pub(super) books: BTreeMap<ObjectType, Tally>,
    /// The accounts of jobs and processes, and inside which each is; they stay for what is still charged to them.
    pub(super) accounts: BTreeMap<Koid, Option<Koid>>,
    /// What an account remembers of a resource; what is used is counted anew.
    pub(super) meters: BTreeMap<(Koid, Resource), Usage>,
    pub(super) policies: BTreeMap<Koid, BadHandlePolicy>,
    pub(super) told: Told,
    chosen: u64,
    /// What the embedder is to be told.
    pub(super) effects: Vec<Effect>,
    /// What is wrong with what was told.
    pub(super) complaint: Option<String>,
}

pub(super) type Refusable<T> = Result<T, CallError>;

/// Refuses where that is not so.
pub(super) fn need(is_so: bool, error: CallError) -> Refusable<()> {
    if is_so { Ok(()) } else { Err(error) }
}

pub(super) type Expected = Refusable<CallAnswer>;

/// What an operation needs, as the semantics table says; `None` where the type has no such operation.
fn needed(object_type: ObjectType, operation: Operation) -> Option<Rights> {
    use ObjectType::{Directory, Job, Process, SymbolicLink};
    use Operation as O;
    Some(match (object_type, operation) {
        (_, O::Close | O::Replace | O::HandleInfo) => Rights::NONE,
        (_, O::Duplicate | O::Derive | O::Revoke | O::Name) => Rights::DUPLICATE,
        (_, O::NamePermanently) => Rights::DUPLICATE | Rights::MANAGE,
        (_, O::Transfer) => Rights::TRANSFER,
        (_, O::SetPermanent | O::Recharge) => Rights::MANAGE,
        (_, O::Why | O::Holders | O::KeptBy | O::DerivedFrom) => Rights::INSPECT,
        (Directory, O::Link | O::CreateNew) => Rights::CREATE,
        (Directory, O::Unlink) => Rights::REMOVE,
        (Directory, O::Rename) => Rights::MANAGE,
        (Directory, O::Open) => Rights::LOOKUP,
        (Directory, O::OpenOrCreate) => Rights::LOOKUP | Rights::CREATE,
        (Directory | Job, O::Enumerate) => Rights::ENUMERATE,
        (SymbolicLink, O::ReadLink) => Rights::READ,
        (Job, O::CreateJob | O::CreateProcess) => Rights::CREATE_CHILD,
        (Job | Process, O::Kill) => Rights::DESTROY,
        (Job | Process, O::SetQuota) | (Job, O::SetPolicy | O::MoveCharge) => Rights::MANAGE,
        (Process, O::Receive) => Rights::WRITE,
        _ => return None,
    })
}

/// All that a type can do.
pub(super) fn full(object_type: ObjectType) -> Rights {
    let own = match object_type {
        ObjectType::Job => Rights::CREATE_CHILD | Rights::ENUMERATE | Rights::WAIT | Rights::DESTROY,
        ObjectType::Process => Rights::WRITE | Rights::WAIT | Rights::DESTROY,
        ObjectType::Directory => Rights::LOOKUP | Rights::CREATE | Rights::REMOVE | Rights::ENUMERATE,
        ObjectType::SymbolicLink => Rights::READ,
        _ => Rights::NONE,
    };
    own | Rights::DUPLICATE | Rights::TRANSFER | Rights::INSPECT | Rights::MANAGE
}

impl Model {
    /// A model of a manager that has just begun.
    #[must_use]
    pub fn new(start: Start) -> Self {
        let mut model = Self { start: Some(start.clone()), caller: Some(start.guest), ..Self::default() };
        let types = [ObjectType::Job, ObjectType::Process, ObjectType::Directory, ObjectType::Process];
        let handles = [start.job_handle, start.own_handle, start.directory_handle, start.outsider_handle];
        for (of, value) in types.into_iter().zip(handles) {
            let job = model.objects.keys().next().copied();
            let koid = model.new_object(of, job, job);
            model.objects.get_mut(&koid).unwrap().held = true;
            model.tables.entry(start.guest).or_default();
            model.told.handle = Some(value);
            model.enter(start.guest, Handle { koid, rights: full(of), inheritable: false, path: Vec::new() });
        }
        model.root = model.objects.keys().nth(2).copied();
        model.accounts.remove(&start.outsider);
        model.note_peaks();
        model
    }

    pub(super) fn start(&self) -> &Start {
        self.start.as_ref().unwrap()
    }

    /// Who makes the call under way.
    pub(super) fn caller(&self) -> Koid {
        self.caller.unwrap()
    }

    /// Does a call.
    ///
    /// # Errors
    /// As the manager's.
    pub fn answer(&mut self, process: Koid, call: &Call<'_>) -> Expected {
        match self.objects.get(&process) {
            None => return Err(CallError::NoProcess { process }),
            Some(object) if object.dead => return Err(CallError::Dying { koid: process }),
            Some(_) => self.caller = Some(process),
        }
        let result = self.do_call(call);
        if let Err(CallError::BadHandle { handle }) = result {
            self.used_bad_handle(process, handle);
        }
        result
    }

    fn do_call(&mut self, call: &Call<'_>) -> Expected {
        match *call {
            Call::Close { handle } => {
                self.handle(handle)?;
                self.end_handle(self.caller(), handle);
            }
            Call::Duplicate { handle, rights } => return self.duplicate(handle, rights),
            Call::Replace { handle, rights } => return self.replace(handle, rights),
            Call::Derive { handle, rights } => return self.derive(handle, rights),
            Call::Revoke { handle } => self.revoke(handle)?,
            Call::Transfer { handle, process, rights } => return self.transfer(handle, process, rights),
            Call::HandleInfo { handle } => return self.handle_info(handle),
            Call::SetInheritable { handle, inheritable } => {
                self.handle(handle)?;
                self.own().get_mut(&handle).unwrap().inheritable = inheritable;
            }
            Call::Create { what } => return self.create(what),
            Call::CreateJob { job } => return self.create_job(job),
            Call::CreateGuest { job, inherit } => return self.create_guest(job, inherit),
            Call::SetQuota { handle, resource, limit } => self.set_quota(handle, resource, limit)?,
            Call::SetBadHandlePolicy { job, policy } => {
                let job = self.living_job(job, Operation::SetPolicy)?;
                self.policies.insert(job, policy);
            }
            Call::Recharge { handle, from, to } => self.recharge(handle, from, to)?,
            Call::Kill { handle } => self.kill(handle)?,
            Call::Link { directory, name, handle, most, permanent } => {
                self.link(directory, name, handle, most, permanent)?;
            }
            Call::Unlink { directory, name } => self.unlink(directory, name)?,
            Call::Rename { directory, from, to } => self.rename(directory, from, to)?,
            Call::Open { directory, path, rights, expected, follow } => {
                return self.open(directory, path, rights, expected, follow);
            }
            Call::OpenOrCreate { directory, name, what, rights, exclusive } => {
                return self.open_or_create(directory, name, what, rights, exclusive);
            }
            Call::Enumerate { directory, cursor } => return self.enumerate(directory, cursor),
            Call::SetPermanent { handle, permanent } => self.set_permanent(handle, permanent)?,
            Call::ReadLink { handle } => {
                let koid = self.look(handle, Operation::ReadLink)?.koid;
                return Ok(CallAnswer::Target(self.objects[&koid].target.clone()));
            }
            Call::Why { handle } => return self.why(handle),
            Call::Holders { handle } => {
                return Ok(CallAnswer::Holders(self.holders_of(self.look(handle, Operation::Holders)?.koid)));
            }
            Call::KeptBy { handle } => {
                return Ok(CallAnswer::KeptBy(self.keepers_of(self.look(handle, Operation::KeptBy)?.koid)));
            }
            Call::DerivedFrom { handle } => {
                let path = self.look(handle, Operation::DerivedFrom)?.path;
                return Ok(CallAnswer::DerivedFrom(path.iter().rev().skip(1).map(|(_, payer)| *payer).collect()));
            }
        }
        Ok(CallAnswer::Done)
    }

    // Looking.

    /// The caller's handles.
    fn own(&mut self) -> &mut BTreeMap<RawHandle, Handle> {
        let caller = self.caller();
        &mut self.tables.get_mut(&caller).unwrap().handles
    }

    fn handle(&self, handle: RawHandle) -> Refusable<Handle> {
        self.tables[&self.caller()].handles.get(&handle).cloned().ok_or(CallError::BadHandle { handle })
    }

    pub(super) fn allows(&self, koid: Koid, rights: Rights, operation: Operation) -> Refusable<()> {
        let object_type = self.objects[&koid].object_type;
        let Some(needed) = needed(object_type, operation) else {
            return Err(CallError::WrongType { koid, found: object_type.number(), operation });
        };
        match Rights::from_bits(needed.bits() & !rights.bits()) {
            Rights::NONE => Ok(()),
            missing => Err(CallError::AccessDenied { koid, operation, missing }),
        }
    }

    pub(super) fn look(&self, handle: RawHandle, operation: Operation) -> Refusable<Handle> {
        let found = self.handle(handle)?;
        self.allows(found.koid, found.rights, operation)?;
        Ok(found)
    }

    /// Refuses bits without a meaning.
    pub(super) fn meant(asked: AskedRights) -> Refusable<()> {
        match asked {
            AskedRights::Exactly(asked) if asked.bits() & 0xfc00 != 0 => Err(CallError::ReservedRights { asked }),
            _ => Ok(()),
        }
    }

    /// What is given of at most `most`.
    pub(super) fn part(&self, koid: Koid, asked: AskedRights, most: Rights) -> Refusable<Rights> {
        Self::part_of(koid, self.type_of(koid), asked, most)
    }

    /// The same where another type's rights are given than those of the object that is named.
    pub(super) fn part_of(koid: Koid, of: ObjectType, asked: AskedRights, most: Rights) -> Refusable<Rights> {
        Self::meant(asked)?;
        match asked {
            AskedRights::Same => Ok(most),
            AskedRights::Exactly(asked) if asked.bits() & !most.bits() != 0 => {
                Err(CallError::TooManyRights { koid, object_type: of.number(), asked, most })
            }
            AskedRights::Exactly(asked) => Ok(asked),
        }
    }

    /// All handles, with whose they are.
    pub(super) fn every_handle<'a>(&'a self) -> impl Iterator<Item = (Koid, RawHandle, &'a Handle)> {
        let of = |(process, table): (&Koid, &'a Table)| (*process, table.handles.iter());
        let all = self.tables.iter().map(of);
        all.flat_map(|(process, handles)| handles.map(move |(value, handle)| (process, *value, handle)))
    }

    /// The nodes that are there.
    pub(super) fn nodes(&self) -> BTreeSet<Node> {
        self.every_handle().flat_map(|(_, _, handle)| handle.path.iter().copied()).collect()
    }

    pub(super) fn handle_count(&self, koid: Koid) -> u32 {
        self.every_handle().filter(|(_, _, handle)| handle.koid == koid).count() as u32
    }

    fn reference_count(&self, koid: Koid) -> u32 {
        let kept_by_its_job = self.objects[&koid].held;
        let kept_by_name = self.names.iter().any(|name| name.koid == koid && name.permanent);
        self.handle_count(koid) + u32::from(kept_by_its_job) + u32::from(kept_by_name)
    }

    pub(super) fn is_alive(&self, koid: Koid) -> Refusable<()> {
        need(!self.objects[&koid].dead, CallError::Dying { koid })
    }

    pub(super) fn is_living_guest(&self, koid: Koid) -> Refusable<()> {
        self.is_alive(koid)?;
        need(self.tables.contains_key(&koid), CallError::NotAGuest { koid })
    }

    /// Slots of a process's table that have had all the handles that they can have.
    #[must_use]
    pub fn retired(&self, process: Koid) -> u32 {
        let table = &self.tables[&process];
        let numbers = 1_u64 << self.start().bounds.generation_bits;
        let is_free = |had: &HashSet<RawHandle>| had.iter().all(|value| !table.handles.contains_key(value));
        table.ever.values().filter(|had| had.len() as u64 == numbers && is_free(had)).count() as u32
    }

    // Making and ending.

    /// Whether one object more can have an id.
    pub(super) fn has_id(&self) -> Refusable<()> {
        need(self.issued < self.start().bounds.koids, CallError::EraExhausted {})
    }

    pub(super) fn new_object(&mut self, object_type: ObjectType, owner: Option<Koid>, payer: Option<Koid>) -> Koid {
        self.issued += 1;
        let koid = Koid::new(self.start().job.era(), self.issued).unwrap();
        let held = matches!(object_type, ObjectType::Job | ObjectType::Process);
        if held {
            self.accounts.insert(koid, owner);
        }
        self.objects.insert(koid, Object { object_type, owner, payer, held, dead: false, target: Vec::new() });
        let tally = self.books.entry(object_type).or_default();
        tally.created += 1;
        tally.live += 1;
        tally.peak = tally.peak.max(tally.live);
        koid
    }

    /// A slot and the charge for one handle more.
    pub(super) fn reserve(&mut self, process: Koid) -> Refusable<()> {
        self.afford(&[(process, handle_bill())])?;
        self.has_slot(process)
    }

    fn has_slot(&self, process: Koid) -> Refusable<()> {
        let taken = self.tables[&process].handles.len() as u32 + self.retired(process);
        need(taken < self.start().bounds.slots, CallError::TableFull { process })
    }

    fn is_countable(&self, koid: Koid) -> Refusable<()> {
        let most = self.start().bounds.handles_per_object;
        need(self.handle_count(koid) < most, CallError::TooManyReferences { koid })
    }

    /// Makes a handle, if there is room for it.
    pub(super) fn give(&mut self, process: Koid, handle: Handle) -> Refusable<RawHandle> {
        self.reserve(process)?;
        self.is_countable(handle.koid)?;
        Ok(self.enter(process, handle))
    }

    /// Makes a handle that has nothing to do with another one.
    pub(super) fn give_new(&mut self, koid: Koid, rights: Rights) -> Refusable<RawHandle> {
        self.give(self.caller(), Handle { koid, rights, inheritable: false, path: Vec::new() })
    }

    /// Enters a handle under the value that the manager gave.
    fn enter(&mut self, process: Koid, handle: Handle) -> RawHandle {
        self.chosen += 1;
        let value = self.told.handle.take().unwrap_or(RawHandle::from_raw(self.chosen << 32).unwrap());
        let table = self.tables.get_mut(&process).unwrap();
        if !table.ever.entry(value.raw() as u32).or_default().insert(value) {
            self.complaint = Some(format!("{value} was given before"));
        }
        table.handles.insert(value, handle);
        value
    }

    /// A handle's end: what it alone kept goes.
    pub(super) fn end_handle(&mut self, process: Koid, value: RawHandle) {
        let handle = self.tables.get_mut(&process).unwrap().handles.remove(&value).unwrap();
        self.settle(handle.koid);
    }

    /// Takes away the name and the object where nothing keeps them. A job that nobody refers to ends when it is empty.
    pub(super) fn settle(&mut self, koid: Koid) {
        let mut work = vec![koid];
        while let Some(koid) = work.pop() {
            if !self.objects.contains_key(&koid) {
                continue;
            }
            if self.handle_count(koid) == 0 {
                self.names.retain(|name| name.koid != koid || name.permanent);
            }
            if self.is_left_alone(koid) {
                let job = self.objects.get_mut(&koid).unwrap();
                (job.held, job.dead) = (false, true);
            }
            if self.reference_count(koid) > 0 {
                continue;
            }
            let object = self.objects.remove(&koid).unwrap();
            let tally = self.books.entry(object.object_type).or_default();
            tally.destroyed += 1;
            tally.live -= 1;
            work.extend(self.names.iter().filter(|name| name.directory == koid).map(|name| name.koid));
            self.names.retain(|name| name.directory != koid);
            work.extend(object.owner);
        }
    }

    fn is_left_alone(&self, koid: Koid) -> bool {
        let object = &self.objects[&koid];
        let is_inner = object.object_type == ObjectType::Job && object.owner.is_some();
        is_inner
            && object.held
            && self.reference_count(koid) == 1
            && !self.objects.values().any(|other| other.owner == Some(koid))
    }

    // Handles.

    fn duplicate(&mut self, handle: RawHandle, asked: AskedRights) -> Expected {
        let from = self.look(handle, Operation::Duplicate)?;
        let rights = self.part(from.koid, asked, from.rights)?;
        self.give(self.caller(), Handle { rights, inheritable: false, ..from }).map(CallAnswer::Handle)
    }

    fn replace(&mut self, handle: RawHandle, asked: AskedRights) -> Expected {
        let from = self.look(handle, Operation::Replace)?;
        let rights = self.part(from.koid, asked, from.rights)?;
        self.move_handle(handle, self.caller(), Handle { rights, ..from })
    }

    fn transfer(&mut self, handle: RawHandle, to: RawHandle, asked: AskedRights) -> Expected {
        let from = self.look(handle, Operation::Transfer)?;
        let receiver = self.look(to, Operation::Receive)?.koid;
        let rights = self.part(from.koid, asked, from.rights)?;
        self.is_living_guest(receiver)?;
        self.move_handle(handle, receiver, Handle { rights, inheritable: false, ..from })
    }

    /// Both handles are there for a moment, but what takes the place of another one in its table is not charged.
    fn move_handle(&mut self, from: RawHandle, to: Koid, handle: Handle) -> Expected {
        if to != self.caller() {
            self.afford(&[(to, handle_bill())])?;
        }
        self.has_slot(to)?;
        self.is_countable(handle.koid)?;
        self.own().remove(&from);
        Ok(CallAnswer::Handle(self.enter(to, handle)))
    }

    fn handle_info(&self, handle: RawHandle) -> Expected {
        let Handle { koid, rights, inheritable, path } = self.handle(handle)?;
        let (object_type, derived) = (self.type_of(koid).number(), path.len() > 1);
        Ok(CallAnswer::Info(HandleInfo { koid, object_type, rights, inheritable, derived }))
    }

    fn derive(&mut self, handle: RawHandle, asked: AskedRights) -> Expected {
        let (caller, from) = (self.caller(), self.look(handle, Operation::Derive)?);
        let rights = self.part(from.koid, asked, from.rights)?;
        let both = [(caller, handle_bill()), (caller, bytes_bill(NODE_BYTES * (1 + u64::from(from.path.is_empty()))))];
        // Charged at once where there is room for both, else the slot is looked for before the nodes are paid.
        let at_once = if self.clone().afford(&both).is_ok() { 2 } else { 1 };
        self.afford(&both[..at_once])?;
        self.has_slot(caller)?;
        self.afford(&both)?;
        self.is_countable(from.koid)?;
        let mut path = from.path.clone();
        if path.is_empty() {
            path.push(self.new_node());
            self.own().get_mut(&handle).unwrap().path = path.clone();
        }
        path.push(self.new_node());
        Ok(CallAnswer::Handle(self.enter(caller, Handle { rights, path, inheritable: false, ..from })))
    }

    fn new_node(&mut self) -> Node {
        self.last_node += 1;
        (self.last_node, self.caller())
    }

    fn revoke(&mut self, handle: RawHandle) -> Refusable<()> {
        let top = self.look(handle, Operation::Revoke)?.path;
        let is_below =
            |handle: &Handle| !top.is_empty() && handle.path.len() > top.len() && handle.path.starts_with(&top);
        let below = self.every_handle().filter(|(_, _, handle)| is_below(handle));
        let taken: Vec<(Koid, RawHandle)> = below.map(|(process, value, _)| (process, value)).collect();
        taken.into_iter().for_each(|(process, value)| self.end_handle(process, value));
        Ok(())
    }
}

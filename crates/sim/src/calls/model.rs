//! What the calls must do, in plain maps: objects, tables, nodes, names. Slow, small, and written from
//! `docs/semantics.md` alone: of the core it has only the words of its calls.
//!
//! Values of handles and cursors are the manager's to choose: the model takes them from the reply and checks that they are
//! new where they must be new, and the same where they must be the same.

use super::accounts::{Account, Bill};
use super::world::Start;
use kobj_abi::{AskedRights, Koid, ObjectType, Operation, RawHandle, Rights};
use kobj_core::{BadHandlePolicy, Call, CallAnswer, CallError, Effect, HandleInfo, Tally, Why};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// A node of the derivation tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) parent: Option<u32>,
    /// Who is charged for it, whether or not it lives.
    pub(super) payer: Koid,
}

/// An entry of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle {
    /// Which object.
    pub(super) koid: Koid,
    /// What it allows.
    pub(super) rights: Rights,
    /// Whether processes made with `inherit` get an equal.
    pub(super) inheritable: bool,
    /// Where it stands in the derivation tree, if anything was ever derived around it.
    pub(super) node: Option<u32>,
}

/// A process's handles, and all values that ever were handles there.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) handles: BTreeMap<RawHandle, Handle>,
    pub(super) ever: HashSet<RawHandle>,
}

/// An object that lives.
#[derive(Debug)]
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
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) handle: Option<RawHandle>,
    /// The object and the cursor of an entry.
    pub(super) entry: Option<(Koid, u64)>,
    pub(super) why: Option<Why>,
    /// The caller's handles and those of the guest that it made, in the order in which they were inherited.
    pub(super) inherited: (Vec<RawHandle>, Vec<RawHandle>),
}

/// The reference model.
#[derive(Debug, Default)]
pub struct Model {
    start: Option<Start>,
    /// The first directory.
    pub(super) root: Option<Koid>,
    issued: u32,
    pub(super) objects: BTreeMap<Koid, Object>,
    pub(super) tables: BTreeMap<Koid, Table>,
    pub(super) nodes: BTreeMap<u32, Node>,
    last_node: u32,
    pub(super) names: Vec<Name>,
    pub(super) last_serial: u64,
    /// What cursors the manager gave: the directory and the number, and after which name that is.
    pub(super) cursors: BTreeMap<(Koid, u64), u64>,
    pub(super) books: BTreeMap<ObjectType, Tally>,
    pub(super) accounts: BTreeMap<Koid, Account>,
    pub(super) policies: BTreeMap<Koid, BadHandlePolicy>,
    pub(super) told: Told,
    chosen: u64,
    /// What the embedder is to be told.
    pub(super) effects: Vec<Effect>,
    /// What is wrong with what was told.
    pub(super) complaint: Option<String>,
}

pub(super) type Expected = Result<CallAnswer, CallError>;
/// A job or process, if there is one.
type Owner = Option<Koid>;
pub(super) type Refusable<T> = Result<T, CallError>;

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
        let mut model = Self { start: Some(start.clone()), ..Self::default() };
        let job = model.new_object(ObjectType::Job, None, None, &[]);
        let guest = model.new_object(ObjectType::Process, Some(job), Some(job), &[]);
        let directory = model.new_object(ObjectType::Directory, Some(job), Some(job), &[]);
        let outsider = model.new_object(ObjectType::Process, Some(job), Some(job), &[]);
        model.objects.get_mut(&directory).unwrap().held = true;
        model.root = Some(directory);
        model.accounts.remove(&outsider);
        assert_eq!((job, guest, outsider), (start.job, start.guest, start.outsider), "ids are given out in order");
        model.tables.insert(guest, Table::default());
        let handles = [start.job_handle, start.own_handle, start.directory_handle, start.outsider_handle];
        for (koid, value) in [job, guest, directory, outsider].into_iter().zip(handles) {
            model.told.handle = Some(value);
            model.open_handle(guest, koid, full(model.objects[&koid].object_type));
        }
        model
    }

    pub(super) fn start(&self) -> &Start {
        self.start.as_ref().unwrap()
    }

    /// Does a call.
    ///
    /// # Errors
    /// As the manager's.
    pub fn answer(&mut self, process: Koid, call: &Call<'_>) -> Expected {
        match self.objects.get(&process) {
            None => return Err(CallError::NoProcess { process }),
            Some(object) if object.dead => return Err(CallError::Dying { koid: process }),
            Some(_) => {}
        }
        let result = self.do_call(process, call);
        if let Err(CallError::BadHandle { handle }) = result {
            self.used_bad_handle(process, handle);
        }
        result
    }

    fn do_call(&mut self, process: Koid, call: &Call<'_>) -> Expected {
        match *call {
            Call::SetQuota { handle, resource, limit } => self.set_quota(process, handle, resource, limit),
            Call::SetBadHandlePolicy { job, policy } => self.set_policy(process, job, policy),
            Call::Recharge { handle, from, to } => self.recharge(process, handle, from, to),
            Call::Close { handle } => self.close(process, handle),
            Call::Duplicate { handle, rights } => self.duplicate(process, handle, rights),
            Call::Replace { handle, rights } => self.replace(process, handle, rights),
            Call::Derive { handle, rights } => self.derive(process, handle, rights),
            Call::Revoke { handle } => self.revoke(process, handle),
            Call::Transfer { handle, process: to, rights } => self.transfer(process, handle, to, rights),
            Call::HandleInfo { handle } => self.handle_info(process, handle),
            Call::SetInheritable { handle, inheritable } => self.set_inheritable(process, handle, inheritable),
            Call::Create { what } => self.create(process, what),
            Call::CreateJob { job } => self.create_job(process, job),
            Call::CreateGuest { job, inherit } => self.create_guest(process, job, inherit),
            Call::Kill { handle } => self.kill(process, handle),
            Call::Link { directory, name, handle, most, permanent } => {
                self.link((process, directory), name, handle, most, permanent)
            }
            Call::Unlink { directory, name } => self.unlink(process, directory, name),
            Call::Rename { directory, from, to } => self.rename(process, directory, from, to),
            Call::Open { directory, path, rights, expected, follow } => {
                self.open((process, directory), path, rights, expected, follow)
            }
            Call::OpenOrCreate { directory, name, what, rights, exclusive } => {
                self.open_or_create((process, directory), name, what, rights, exclusive)
            }
            Call::Enumerate { directory, cursor } => self.enumerate(process, directory, cursor),
            Call::SetPermanent { handle, permanent } => self.set_permanent(process, handle, permanent),
            Call::ReadLink { handle } => self.read_link(process, handle),
            Call::Why { handle } => self.why(process, handle, self.told.why.as_ref()),
            Call::Holders { handle } => self.holders(process, handle),
            Call::KeptBy { handle } => self.kept_by(process, handle),
            Call::DerivedFrom { handle } => self.derived_from(process, handle),
        }
    }

    // Looking.

    pub(super) fn handle(&self, process: Koid, handle: RawHandle) -> Refusable<Handle> {
        self.tables[&process].handles.get(&handle).copied().ok_or(CallError::BadHandle { handle })
    }

    pub(super) fn allows(&self, koid: Koid, rights: Rights, operation: Operation) -> Refusable<()> {
        let object_type = self.objects[&koid].object_type;
        match needed(object_type, operation) {
            None => Err(CallError::WrongType { koid, found: object_type.number(), operation }),
            Some(needed) if needed.bits() & !rights.bits() == 0 => Ok(()),
            Some(needed) => Err(CallError::AccessDenied {
                koid,
                operation,
                missing: Rights::from_bits(needed.bits() & !rights.bits()),
            }),
        }
    }

    pub(super) fn look(&self, process: Koid, handle: RawHandle, operation: Operation) -> Refusable<Handle> {
        let found = self.handle(process, handle)?;
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
    pub(super) fn part(koid: Koid, asked: AskedRights, most: Rights) -> Refusable<Rights> {
        Self::meant(asked)?;
        match asked {
            AskedRights::Same => Ok(most),
            AskedRights::Exactly(asked) if asked.bits() & !most.bits() != 0 => {
                Err(CallError::TooManyRights { koid, asked, most })
            }
            AskedRights::Exactly(asked) => Ok(asked),
        }
    }

    pub(super) fn handle_count(&self, koid: Koid) -> u32 {
        self.tables.values().flat_map(|table| table.handles.values()).filter(|handle| handle.koid == koid).count()
            as u32
    }

    pub(super) fn reference_count(&self, koid: Koid) -> u32 {
        let kept_by_its_job = self.objects[&koid].held;
        let kept_by_name = self.names.iter().any(|name| name.koid == koid && name.permanent);
        self.handle_count(koid) + u32::from(kept_by_its_job) + u32::from(kept_by_name)
    }

    pub(super) fn is_alive(&self, koid: Koid) -> Refusable<()> {
        if self.objects[&koid].dead { Err(CallError::Dying { koid }) } else { Ok(()) }
    }

    pub(super) fn is_living_guest(&self, koid: Koid) -> Refusable<()> {
        self.is_alive(koid)?;
        if self.tables.contains_key(&koid) { Ok(()) } else { Err(CallError::NotAGuest { koid }) }
    }

    /// Whether one object more can have an id.
    pub(super) fn has_id(&self) -> Refusable<()> {
        if self.issued < self.start().koids_most { Ok(()) } else { Err(CallError::EraExhausted {}) }
    }

    // Making and ending.

    pub(super) fn new_object(&mut self, of: ObjectType, owner: Owner, payer: Owner, target: &[u8]) -> Koid {
        self.issued += 1;
        let koid = Koid::new(self.start().job.era(), self.issued).unwrap();
        let held = matches!(of, ObjectType::Job | ObjectType::Process);
        if held {
            self.accounts.insert(koid, Account { around: owner, limits: BTreeMap::new() });
        }
        let object = Object { object_type: of, owner, payer, held, dead: false, target: target.to_vec() };
        self.objects.insert(koid, object);
        let tally = self.books.entry(of).or_default();
        tally.created += 1;
        tally.live += 1;
        tally.peak = tally.peak.max(tally.live);
        koid
    }

    /// Enters a handle under the value that the manager gave.
    pub(super) fn new_handle(&mut self, process: Koid, handle: Handle) -> RawHandle {
        self.chosen += 1;
        let value = self.told.handle.take().unwrap_or(RawHandle::from_raw(self.chosen << 32).unwrap());
        let table = self.tables.get_mut(&process).unwrap();
        if !table.ever.insert(value) {
            self.complaint = Some(format!("{value} was given before"));
        }
        table.handles.insert(value, handle);
        value
    }

    /// Enters a handle that has nothing to do with another one.
    pub(super) fn open_handle(&mut self, process: Koid, koid: Koid, rights: Rights) -> RawHandle {
        self.new_handle(process, Handle { koid, rights, inheritable: false, node: None })
    }

    /// A handle's end: what it alone kept goes.
    pub(super) fn end_handle(&mut self, process: Koid, value: RawHandle) {
        let handle = self.tables.get_mut(&process).unwrap().handles.remove(&value).unwrap();
        self.settle_nodes(handle.node);
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

    fn close(&mut self, process: Koid, handle: RawHandle) -> Expected {
        self.handle(process, handle)?;
        self.end_handle(process, handle);
        Ok(CallAnswer::Done)
    }

    fn duplicate(&mut self, process: Koid, handle: RawHandle, asked: AskedRights) -> Expected {
        let from = self.look(process, handle, Operation::Duplicate)?;
        let rights = Self::part(from.koid, asked, from.rights)?;
        self.afford(&[(process, Bill::HANDLE)])?;
        Ok(CallAnswer::Handle(self.new_handle(process, Handle { rights, inheritable: false, ..from })))
    }

    fn replace(&mut self, process: Koid, handle: RawHandle, asked: AskedRights) -> Expected {
        let from = self.look(process, handle, Operation::Replace)?;
        let rights = Self::part(from.koid, asked, from.rights)?;
        self.tables.get_mut(&process).unwrap().handles.remove(&handle);
        Ok(CallAnswer::Handle(self.new_handle(process, Handle { rights, ..from })))
    }

    fn derive(&mut self, process: Koid, handle: RawHandle, asked: AskedRights) -> Expected {
        let from = self.look(process, handle, Operation::Derive)?;
        let rights = Self::part(from.koid, asked, from.rights)?;
        let nodes = 1 + u64::from(from.node.is_none());
        self.afford(&[(process, Bill::HANDLE), (process, Bill::nodes(nodes))])?;
        let parent = from.node.unwrap_or_else(|| self.new_node(None, process));
        self.tables.get_mut(&process).unwrap().handles.get_mut(&handle).unwrap().node = Some(parent);
        let node = self.new_node(Some(parent), process);
        let derived = Handle { rights, node: Some(node), inheritable: false, ..from };
        Ok(CallAnswer::Handle(self.new_handle(process, derived)))
    }

    fn new_node(&mut self, parent: Option<u32>, payer: Koid) -> u32 {
        self.last_node += 1;
        self.nodes.insert(self.last_node, Node { parent, payer });
        self.last_node
    }

    /// A node without handles and children goes, and then perhaps the one above it.
    fn settle_nodes(&mut self, from: Option<u32>) {
        let mut at = from;
        while let Some(node) = at {
            let has_handle =
                self.tables.values().flat_map(|table| table.handles.values()).any(|handle| handle.node == Some(node));
            if has_handle || self.nodes.values().any(|other| other.parent == Some(node)) {
                return;
            }
            at = self.nodes.remove(&node).and_then(|node| node.parent);
        }
    }

    fn is_below(&self, node: u32, above: u32) -> bool {
        let mut at = self.nodes[&node].parent;
        while let Some(parent) = at {
            if parent == above {
                return true;
            }
            at = self.nodes[&parent].parent;
        }
        false
    }

    fn revoke(&mut self, process: Koid, handle: RawHandle) -> Expected {
        let from = self.look(process, handle, Operation::Revoke)?;
        let Some(top) = from.node else { return Ok(CallAnswer::Done) };
        let below: BTreeSet<u32> = self.nodes.keys().copied().filter(|node| self.is_below(*node, top)).collect();
        let mut ends = Vec::new();
        for (process, table) in &self.tables {
            let taken =
                table.handles.iter().filter(|(_, handle)| handle.node.is_some_and(|node| below.contains(&node)));
            ends.extend(taken.map(|(value, _)| (*process, *value)));
        }
        for (process, value) in ends {
            self.end_handle(process, value);
        }
        Ok(CallAnswer::Done)
    }

    fn transfer(&mut self, process: Koid, handle: RawHandle, to: RawHandle, asked: AskedRights) -> Expected {
        let from = self.look(process, handle, Operation::Transfer)?;
        let receiver = self.look(process, to, Operation::Receive)?.koid;
        let rights = Self::part(from.koid, asked, from.rights)?;
        self.is_living_guest(receiver)?;
        if receiver != process {
            self.afford(&[(receiver, Bill::HANDLE)])?;
        }
        self.tables.get_mut(&process).unwrap().handles.remove(&handle);
        Ok(CallAnswer::Handle(self.new_handle(receiver, Handle { rights, inheritable: false, ..from })))
    }

    fn handle_info(&mut self, process: Koid, handle: RawHandle) -> Expected {
        let Handle { koid, rights, inheritable, node } = self.handle(process, handle)?;
        let object_type = self.objects[&koid].object_type.number();
        let derived = node.is_some_and(|node| self.nodes[&node].parent.is_some());
        Ok(CallAnswer::Info(HandleInfo { koid, object_type, rights, inheritable, derived }))
    }

    fn set_inheritable(&mut self, process: Koid, handle: RawHandle, inheritable: bool) -> Expected {
        self.handle(process, handle)?;
        self.tables.get_mut(&process).unwrap().handles.get_mut(&handle).unwrap().inheritable = inheritable;
        Ok(CallAnswer::Done)
    }

    /// Whether what it takes to make that, with a handle, is there.
    pub(super) fn may_make(&self, process: Koid, object_type: ObjectType, target: &[u8]) -> Refusable<()> {
        self.afford(&[(process, Bill::HANDLE), (process, self.object_bill(object_type, target))])?;
        self.has_id()
    }

    pub(super) fn make(&mut self, process: Koid, object_type: ObjectType, target: &[u8]) -> Koid {
        self.new_object(object_type, self.objects[&process].owner, Some(process), target)
    }
}

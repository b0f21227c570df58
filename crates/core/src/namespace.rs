//! The calls on names: link, unlink, rename, open, list; and what becomes of a name when its object or directory ends.
//!
//! A temporary name is no reference: it goes with the object's last handle. A permanent one is a reference, charged to
//! the account of its directory, and goes when it is taken away, when it is made temporary, or with the directory or
//! the job. Taking a name away allocates nothing.

use crate::account::{AccountId, Charge};
use crate::call::{CallAnswer, CallError, Entry, EntryName, What};
use crate::create::Making;
use crate::error::QueryError;
use crate::handles::{Caller, HANDLE, Meant};
use crate::image::Time;
use crate::manager::Core;
use crate::names::{
    DEPTH_MOST, InsertError, LinkTarget, LookedUp, Name, Named, Path, Removed, RenameError, WalkError, Ways,
};
use crate::system::Listed;
use crate::types::State;
use crate::types::directory::Provider;
use alloc::boxed::Box;
use alloc::vec::Vec;
use kobj_abi::{AskedRights, Koid, LinkKind, ObjectType, Operation, RawHandle, Rights, TypeNumber, rights_needed};
use kobj_memory::{Content, NoMemory, Place, Reference, try_box, try_collect};

/// What a permanent name is charged: bytes of an entry with the longest name, so that renaming costs nothing.
pub(crate) const PERMANENCE: Charge = Charge { bytes: 64 + 256, ..Charge::NONE };

/// Whether an object has a name. The names say the same; this stands beside the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    None,
    Temporary,
    Permanent,
}

impl Naming {
    const fn by_name(permanent: bool) -> Self {
        if permanent { Self::Permanent } else { Self::Temporary }
    }
}

pub(crate) fn checked_name(name: &[u8]) -> Result<Name<'_>, CallError> {
    Name::new(name).map_err(|_| CallError::BadName { bytes: name.len() })
}

pub(crate) fn without_reserved(asked: AskedRights) -> Result<(), CallError> {
    match asked {
        AskedRights::Exactly(asked) if !asked.intersection(Rights::RESERVED).is_empty() => {
            Err(CallError::ReservedRights { asked })
        }
        AskedRights::Same | AskedRights::Exactly(_) => Ok(()),
    }
}

impl What<'_> {
    /// The type of what is to be made.
    pub(crate) const fn object_type(self) -> ObjectType {
        match self {
            Self::Directory => ObjectType::Directory,
            Self::SymbolicLink { .. } => ObjectType::SymbolicLink,
        }
    }

    /// What can be wrong with it whatever the state of the manager is.
    pub(crate) fn check(self) -> Result<(), CallError> {
        match self {
            Self::Directory => Ok(()),
            Self::SymbolicLink { target } => {
                LinkTarget::new(target).map(drop).map_err(|_| CallError::BadPath { bytes: target.len() })
            }
        }
    }
}

// Giving names

impl Core {
    pub(crate) fn call_link(
        &mut self,
        caller: &Caller,
        directory: RawHandle,
        name: &[u8],
        handle: RawHandle,
        most: AskedRights,
        permanent: bool,
    ) -> Result<(), CallError> {
        let directory = self.naming_in(caller, directory, Operation::Link)?;
        let operation = if permanent { Operation::NamePermanently } else { Operation::Name };
        let meant = self.meant(caller, handle, operation)?;
        let name = checked_name(name)?;
        let most = Self::within(meant.object, meant.object_type, most, meant.rights)?;
        let object = meant.object;
        if self.is_root_directory(object) {
            return Err(CallError::RootDirectory { koid: object.koid() });
        }
        self.drop_dead_name(object.place());
        self.drop_dead_name(directory.object.place());
        let is_directory = meant.object_type == ObjectType::Directory.number();
        let may = self.names.check(directory.object.place(), name, Some(object.place()), is_directory);
        may.map_err(|error| self.not_named(error, directory.object, name, object))?;
        if permanent {
            self.keep_by_name(directory.object, object)?;
        }
        self.give_name(directory.object, name, object, most, permanent).inspect_err(|_| {
            if permanent {
                self.no_longer_kept(directory.object.place(), object.place());
            }
        })
    }

    /// A directory in which names are given and taken. One that looks up what it lists has none of its own: refused whatever
    /// the handle allows.
    pub(crate) fn naming_in<'t>(
        &self,
        caller: &'t Caller,
        directory: RawHandle,
        operation: Operation,
    ) -> Result<Meant<'t>, CallError> {
        let meant = self.meant(caller, directory, operation)?;
        if self.provider(meant.object) == Provider::Names {
            return Ok(meant);
        }
        let missing = rights_needed(meant.object_type, operation).unwrap_or(Rights::NONE);
        Err(CallError::AccessDenied { koid: meant.object.koid(), operation, missing })
    }

    /// Gives a permanent name in a directory of the manager's own, which is empty of such a name.
    pub(crate) fn name_permanently(
        &mut self,
        directory: Reference,
        name: Name<'_>,
        object: Reference,
        most: Rights,
    ) -> Result<(), CallError> {
        self.keep_by_name(directory, object)?;
        self.give_name(directory, name, object, most, true)
            .inspect_err(|_| self.no_longer_kept(directory.place(), object.place()))
    }

    /// Gives a name that was found to be free and allowed.
    pub(crate) fn give_name(
        &mut self,
        directory: Reference,
        name: Name<'_>,
        object: Reference,
        most: Rights,
        permanent: bool,
    ) -> Result<(), CallError> {
        // Whoever closes it last leaves its end to the core from now on.
        self.slab.join_graph(object).map_err(|_| CallError::Dying { koid: object.koid() })?;
        // A directory is known as one from its first name on: in it, or its own.
        let is_directory = self.type_number(object) == ObjectType::Directory.number();
        for place in [Some(directory), is_directory.then_some(object)].into_iter().flatten().map(Reference::place) {
            self.names.add_directory(place).map_err(|_| CallError::NoMemory {})?;
        }
        let job = self.job_that_pays(object);
        if job.is_some() {
            self.links.reserve(1).map_err(|NoMemory| CallError::NoMemory {})?;
        }
        let named = self.names.insert(directory.place(), name, object.place(), most, permanent);
        named.map_err(|error| self.not_named(error, directory, name, object))?;
        if let Some(job) = job {
            self.links.insert(&mut self.slab, job.place(), LinkKind::Contains, object.place());
        }
        // From now on whoever closes it last leaves its end to the manager, who takes the name away. The caller holds
        // it.
        let _held = self.slab.join_graph(object);
        self.note_naming(object, Naming::by_name(permanent));
        Ok(())
    }

    pub(crate) fn not_named(
        &self,
        error: InsertError,
        directory: Reference,
        name: Name<'_>,
        object: Reference,
    ) -> CallError {
        match error {
            InsertError::NameExists => {
                let taken = self.names.find(directory.place(), name).and_then(|named| self.koid_at(named.target));
                CallError::NameExists { koid: taken.unwrap_or(directory.koid()) }
            }
            InsertError::AlreadyNamed => CallError::AlreadyNamed { koid: object.koid() },
            InsertError::Cycle => CallError::Cycle { koid: object.koid() },
            InsertError::TooDeep => CallError::TooDeep { koid: directory.koid(), most: DEPTH_MOST },
            InsertError::NoDirectory | InsertError::NoMemory => CallError::NoMemory {},
        }
    }

    /// The reference and the charge of a permanent name.
    fn keep_by_name(&mut self, directory: Reference, object: Reference) -> Result<(), CallError> {
        let account = self.living_account(directory);
        self.charge(account, PERMANENCE)?;
        self.slab.acquire(object).map_err(|_| {
            self.refund(account, PERMANENCE);
            CallError::TooManyReferences { koid: object.koid() }
        })
    }

    /// Gives up the reference and the charge of a permanent name. The charge of a directory that is no more was given
    /// up when it ended.
    fn no_longer_kept(&mut self, directory: Place, object: Place) {
        let account = self.slab.at(directory).ok().and_then(|directory| self.body(directory)?.account);
        self.refund(account, PERMANENCE);
        let _last_is_queued = self.slab.release(object);
    }

    pub(crate) fn call_rename(
        &mut self,
        caller: &Caller,
        directory: RawHandle,
        from: &[u8],
        to: &[u8],
    ) -> Result<(), CallError> {
        let meant = self.naming_in(caller, directory, Operation::Rename)?;
        let directory = meant.object;
        let (from, to) = (checked_name(from)?, checked_name(to)?);
        self.names.rename(directory.place(), from, to).map_err(|error| match error {
            RenameError::NotFound => CallError::NotFound { directory: directory.koid() },
            RenameError::NameExists => self.not_named(InsertError::NameExists, directory, to, directory),
            RenameError::NoMemory => CallError::NoMemory {},
        })
    }

    pub(crate) fn call_set_permanent(
        &mut self,
        caller: &Caller,
        handle: RawHandle,
        permanent: bool,
    ) -> Result<(), CallError> {
        let meant = self.meant(caller, handle, Operation::SetPermanent)?;
        let object = meant.object;
        let named = self.names.name_of(object.place()).map(|named| (named.directory, named.permanent));
        let (directory, was_permanent) = named.ok_or(CallError::NotNamed { koid: object.koid() })?;
        // A name in a directory that was destroyed means nothing, whether it was its turn already or not.
        let directory = self.slab.at(directory).map_err(|_| CallError::NotNamed { koid: object.koid() })?;
        match (was_permanent, permanent) {
            (false, true) => self.keep_by_name(directory, object)?,
            // The caller's handle keeps it: nothing else is to be done.
            (true, false) => self.no_longer_kept(directory.place(), object.place()),
            _ => {}
        }
        self.names.set_permanent(object.place(), permanent);
        self.note_naming(object, Naming::by_name(permanent));
        Ok(())
    }

    /// Of users' own objects the names alone know it.
    fn note_naming(&mut self, object: Reference, naming: Naming) {
        if let Ok(body) = self.slab.body_mut(object) {
            body.naming = naming;
        }
    }

    fn naming(&self, object: Reference) -> Naming {
        match self.body(object) {
            Some(body) => body.naming,
            None => {
                let named = self.names.name_of(object.place());
                named.map_or(Naming::None, |named| Naming::by_name(named.permanent))
            }
        }
    }
}

// Taking names away

impl Core {
    pub(crate) fn call_unlink(&mut self, caller: &Caller, directory: RawHandle, name: &[u8]) -> Result<(), CallError> {
        let meant = self.naming_in(caller, directory, Operation::Unlink)?;
        let name = checked_name(name)?;
        let removed = self.names.remove(meant.object.place(), name);
        self.name_went(removed.ok_or(CallError::NotFound { directory: meant.object.koid() })?);
        Ok(())
    }

    /// Takes the name of whatever stands or stood at a place away, if it has one.
    pub(crate) fn lose_name(&mut self, place: Place) {
        if let Some(removed) = self.names.take(place) {
            self.name_went(removed);
        }
    }

    /// The account that is charged for a user's object.
    pub(crate) fn own_account(&self, object: Reference) -> Option<AccountId> {
        AccountId::from_raw(self.slab.header(object).ok()?.owner()?.raw())
    }

    /// The job that pays for a user's object, and whose end takes its name away. A built-in type's is in its job
    /// anyhow.
    pub(crate) fn job_that_pays(&self, object: Reference) -> Option<Reference> {
        if self.body(object).is_some() {
            return None;
        }
        // Its maker's account stands in that of his job.
        self.accounts.owners(self.accounts.heir(self.own_account(object)?)?).find_map(|owner| {
            let owner = self.find(owner).ok()?;
            self.job(owner).map(|_| owner)
        })
    }

    /// The link by which a job's end finds a user's object that has a name.
    pub(crate) fn link_of_the_job_that_pays(&self, place: Place) -> Option<Place> {
        let mut incoming = self.slab.any_header(place)?.first_in();
        while let Some((link, record)) = incoming.and_then(|link| Some((link, self.links.get(link)?))) {
            if record.kind() == Some(LinkKind::Contains) {
                return Some(link);
            }
            incoming = record.next_in;
        }
        None
    }

    /// A name is no more: if it was permanent, so is its reference.
    fn name_went(&mut self, removed: Removed) {
        let is_own = |number: TypeNumber| number >= TypeNumber::FIRST_OWN;
        if self.slab.any_header(removed.target).is_some_and(|header| is_own(header.type_number())) {
            // No job's end concerns it any longer.
            let link = self.link_of_the_job_that_pays(removed.target);
            link.into_iter().for_each(|link| self.cut(link));
        }
        // One that is being destroyed has no tag any more.
        let object = self.slab.at(removed.target).ok();
        if let Some(object) = object {
            self.note_naming(object, Naming::None);
        }
        if !removed.permanent {
            return;
        }
        if let Some(object) = object.filter(|object| self.handles_to(*object) == 0) {
            self.nobody_has(object);
        }
        self.no_longer_kept(removed.directory, removed.target);
    }

    /// The last handle of an object went: unless its name is permanent, its name goes too, and nobody can have it any
    /// more.
    pub(crate) fn last_handle_went(&mut self, object: Reference) {
        match self.naming(object) {
            Naming::Permanent => return,
            Naming::Temporary => self.lose_name(object.place()),
            Naming::None => {}
        }
        self.nobody_has(object);
    }

    /// Of a directory whose tag was taken: the charges of its permanent names. The names go one by one.
    pub(crate) fn permanence_charged(&self, directory: Place) -> Charge {
        let count = u64::from(self.names.count_permanent(directory));
        Charge { bytes: PERMANENCE.bytes.saturating_mul(count), ..Charge::NONE }
    }

    /// One name of a directory that was destroyed; `false` if it has none, and then it is a directory no more.
    pub(crate) fn empty_one(&mut self, directory: Place) -> bool {
        if let Some(removed) = self.names.take_first(directory) {
            self.name_went(removed);
            return true;
        }
        self.names.remove_directory(directory);
        false
    }

    /// A name in a directory that was destroyed means nothing, though it was not its turn yet to be taken away: takes
    /// such a name of an object, or of a directory above it.
    pub(crate) fn drop_dead_name(&mut self, place: Place) {
        let mut at = place;
        while let Some(directory) = self.names.name_of(at).map(|named| named.directory) {
            if self.slab.at(directory).is_err() {
                return self.lose_name(at);
            }
            at = directory;
        }
    }
}

// Opening

impl Core {
    /// Where the symbolic link at a place leads; `None` for any other object.
    fn leads_to(&self, place: Place) -> Option<&[u8]> {
        match self.state(self.slab.at(place).ok()?)? {
            State::SymbolicLink(link) => Some(&link.target),
            _ => None,
        }
    }

    #[inline(never)]
    pub(crate) fn call_open(
        &mut self,
        caller: &Caller,
        directory: RawHandle,
        path: &[u8],
        rights: AskedRights,
        expected: Option<TypeNumber>,
        follow: bool,
    ) -> Result<CallAnswer, CallError> {
        let start = self.meant_here(caller, directory, Operation::Open)?;
        let path = Path::new(path).map_err(|_| CallError::BadPath { bytes: path.len() })?;
        without_reserved(rights)?;
        let ways = Ways {
            link: |place| self.leads_to(place),
            looked_up: |place, name: Name<'_>| {
                let Listed { place, most, is_passed } = self.looked_up(place, name.bytes())?;
                Some(LookedUp { place, most, is_passed })
            },
        };
        let found = self.names.walk(start.object.place(), start.rights, path, follow, ways);
        let found = found.map_err(|error| self.lost(error, start.object))?;
        self.open_found(caller, start.object, found.place, rights, found.most, expected).map(CallAnswer::Handle)
    }

    /// A handle to what a name means.
    pub(crate) fn open_found(
        &mut self,
        caller: &Caller,
        directory: Reference,
        place: Place,
        rights: AskedRights,
        most: Rights,
        expected: Option<TypeNumber>,
    ) -> Result<RawHandle, CallError> {
        let object = self.slab.at(place).map_err(|_| CallError::NotFound { directory: directory.koid() })?;
        let found = self.type_number(object);
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(CallError::UnexpectedType { koid: object.koid(), found, expected });
        }
        let rights = Self::within(object, found, rights, most)?;
        let content = Content { object: object.place(), rights, node: None, inheritable: false };
        let handle = self.give_handle(caller.process, &caller.table, object, content)?;
        // A job that nobody had a handle to was to end with its last object; it is listed as long as it lives.
        if found == ObjectType::Job.number()
            && let Some(job) = self.job_mut(object)
        {
            job.unattended = false;
        }
        Ok(handle)
    }

    /// Why a walk came to nothing, by the koids of what it came to.
    fn lost(&self, error: WalkError, start: Reference) -> CallError {
        let directory = start.koid();
        let koid = |place| self.koid_at(place).unwrap_or(directory);
        match error {
            WalkError::NotFound { directory } => CallError::NotFound { directory: koid(directory) },
            WalkError::AboveStart => CallError::AboveStart { directory },
            WalkError::LinkLoop => CallError::LinkLoop { directory },
            WalkError::NotADirectory { place } => {
                let found =
                    self.slab.at(place).map_or(ObjectType::Directory.number(), |object| self.type_number(object));
                CallError::WrongType { koid: koid(place), found, operation: Operation::Open }
            }
            WalkError::NoLookup { place } => {
                CallError::AccessDenied { koid: koid(place), operation: Operation::Open, missing: Rights::LOOKUP }
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "they are the call's own, and the time and the caller")]
    pub(crate) fn call_open_or_create(
        &mut self,
        now: Time,
        caller: &Caller,
        directory: RawHandle,
        name: &[u8],
        what: What<'_>,
        rights: AskedRights,
        exclusive: bool,
    ) -> Result<CallAnswer, CallError> {
        let operation = if exclusive { Operation::CreateNew } else { Operation::OpenOrCreate };
        let meant = self.naming_in(caller, directory, operation)?;
        let directory = meant.object;
        let name = checked_name(name)?;
        what.check()?;
        without_reserved(rights)?;
        let object_type = what.object_type();
        if let Some(Named { target, most, .. }) = self.names.find(directory.place(), name) {
            if exclusive {
                return Err(self.not_named(InsertError::NameExists, directory, name, directory));
            }
            let handle = self.open_found(caller, directory, target, rights, most, Some(object_type.number()))?;
            return Ok(CallAnswer::Opened { handle, created: false });
        }
        let rights = Self::within(directory, object_type.number(), rights, object_type.default_rights())?;
        let job = self.job_of(caller.process)?;
        self.drop_dead_name(directory.place());
        let may = self.names.check(directory.place(), name, None, object_type == ObjectType::Directory);
        may.map_err(|error| self.not_named(error, directory, name, directory))?;
        let account = self.account_of_guest(caller.process);
        let reserved = self.reserve_handle(caller.process, &caller.table);
        let reserved = self.quota_first(reserved, [(account, HANDLE), (account, Self::charge_for(what))])?;
        let state = Self::state_of(what);
        let made = state.and_then(|state| {
            let creator = Some(caller.process.koid());
            let charged = self.guest(caller.process).and_then(|guest| guest.account);
            let making = Making { owner: Some(job), charged, maker: None, creator, name: None, state, hold: false };
            self.make(now, making).map_err(|refused| self.not_made(refused))
        });
        // Only now: what is made and gets no name is charged until it is buried.
        let made = self.quota_first(made, [(account, Self::charge_for(what))]);
        let named = made.and_then(|object| {
            // The first reference, which is nobody's yet, ends what was made if it gets no name.
            let named = self.give_name(directory, name, object, rights, false);
            let counted = named.and_then(|()| self.count_handle(object));
            let _queued_if_it_has_no_handle = self.slab.release(object.place());
            counted.map(|()| object)
        });
        match named {
            Ok(object) => {
                let content = Content { object: object.place(), rights, node: None, inheritable: false };
                Ok(CallAnswer::Opened { handle: caller.table.commit(reserved, content), created: true })
            }
            Err(error) => {
                self.give_back_handle(caller.process, &caller.table, reserved);
                Err(error)
            }
        }
    }
}

// Looking

impl Core {
    /// Where an object stands: the innermost directory above it that has no name, and the path from there. An object
    /// without a name stands nowhere: itself, and no path. [`crate::names::WHOLE_PATH_BYTES`] of buffer are always
    /// enough, and where there are fewer than needed there is no path.
    ///
    /// # Errors
    /// [`QueryError`] if there is no such object.
    pub fn path<'a>(&self, koid: Koid, buffer: &'a mut [u8]) -> Result<(Koid, &'a [u8]), QueryError> {
        let object = self.find(koid)?;
        let found = self.names.path(object.place(), buffer, |directory| self.slab.at(directory).is_ok());
        let (top, path) = found.unwrap_or((object.place(), &[]));
        Ok((self.koid_at(top).unwrap_or(koid), path))
    }

    pub(crate) fn call_enumerate(
        &self,
        caller: &Caller,
        directory: RawHandle,
        cursor: u64,
    ) -> Result<Option<Box<Entry>>, CallError> {
        let meant = self.meant(caller, directory, Operation::Enumerate)?;
        let next = match self.provider(meant.object) {
            _ if self.job(meant.object).is_some() => self.inside_after(meant.object, cursor),
            Provider::Names => self.names.after(meant.object.place(), cursor).and_then(|named| self.entry(&named)),
            provider => self.looked_up_after(meant.object, provider, cursor),
        };
        next.map(try_box).transpose().map_err(|_| CallError::NoMemory {})
    }

    fn entry(&self, named: &Named<'_>) -> Option<Entry> {
        let object = self.slab.at(named.target).ok()?;
        Some(Entry {
            name: EntryName::new(named.name)?,
            koid: object.koid(),
            object_type: self.type_number(object),
            most: named.most,
            permanent: named.permanent,
            cursor: named.cursor,
        })
    }

    /// The directory that names an object, and the entry there; `None` if none does.
    #[must_use]
    pub fn name_of(&self, koid: Koid) -> Option<(Koid, Entry)> {
        let named = self.names.name_of(self.find(koid).ok()?.place())?;
        Some((self.slab.at(named.directory).ok()?.koid(), self.entry(&named)?))
    }

    pub(crate) fn call_read_link(&self, caller: &Caller, handle: RawHandle) -> Result<Vec<u8>, CallError> {
        let meant = self.meant(caller, handle, Operation::ReadLink)?;
        let target = self.leads_to(meant.object.place()).unwrap_or_default();
        try_collect(target.iter().copied()).map_err(|_| CallError::NoMemory {})
    }
}

#[cfg(test)]
mod tests;

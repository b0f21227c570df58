//! The system directory: `types`, `jobs` and `host`, directories that look up what they list when they are asked.
//!
//! It is made when an embedder first asks for it, so a manager that has none pays nothing: the three in it, in `host` one for
//! each kind, and a Type object for each type, from then on for each that is registered. All of that is charged to the root
//! job and ends with it. What they list is not named by them: it may have a name elsewhere, and is listed as long as it lives.

use crate::call::{CallError, Entry, EntryName};
use crate::create::Making;
use crate::handles::Caller;
use crate::image::Time;
use crate::listing::Group;
use crate::manager::Core;
use crate::names::Name;
use crate::types::directory::Provider;
use crate::types::{State, directory, type_object};
use crate::user_type::TypeInfo;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};
use kobj_abi::{HostKind, Koid, ObjectType as BuiltIn, Operation, RawHandle, Rights, TypeNumber};
use kobj_memory::{Place, Reference, TryPush};

/// The most that opening one of these directories gives: nobody names anything in them.
pub const SYSTEM_DIRECTORY_RIGHTS: Rights =
    Rights::LOOKUP.union(Rights::ENUMERATE).union(Rights::INSPECT).union(Rights::DUPLICATE).union(Rights::TRANSFER);

/// The most that opening what is listed gives, of what its type can do: looking at it, and passing the handle on.
pub const LISTED_RIGHTS: Rights =
    Rights::INSPECT.union(Rights::ENUMERATE).union(Rights::DUPLICATE).union(Rights::TRANSFER);

/// What was made for the system directory.
#[derive(Debug)]
pub(crate) struct System {
    directory: Koid,
    /// Of what was made with it, one after the other.
    last: Koid,
    made: Time,
    /// The Type objects, in the order of [`Core::types`].
    types: Vec<Koid>,
}

/// What a directory looked up.
pub(crate) struct Listed {
    pub(crate) place: Place,
    /// The most that opening it gives.
    pub(crate) most: Rights,
    /// Whether a path may go on below it: what is in a job stands there.
    pub(crate) is_passed: bool,
}

/// A name as it is put together.
struct Spelled {
    bytes: [u8; 32],
    length: usize,
}

impl fmt::Write for Spelled {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.length..).and_then(|rest| rest.get_mut(..text.len())).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length += text.len();
        Ok(())
    }
}

/// A name of at most 32 bytes.
fn spelled(arguments: fmt::Arguments<'_>) -> Result<EntryName, CallError> {
    let mut name = Spelled { bytes: [0; 32], length: 0 };
    let written = name.write_fmt(arguments).ok().and_then(|()| EntryName::new(name.bytes.get(..name.length)?));
    written.ok_or(CallError::BadName { bytes: name.length })
}

// Making it

impl Core {
    /// The system directory, made when it is first asked for: in it `types`, which lists a Type object for each type, `jobs`,
    /// which lists the living jobs in the root job by their koids, what is in a job below it, and `host`, in which each kind of
    /// host object has a directory that lists those of it by their koids.
    ///
    /// # Errors
    /// [`CallError`], as for any objects made in the root job; then nothing changed. A manager without a root job that lives
    /// has [`CallError::Dying`].
    pub fn system_directory(&mut self, now: Time) -> Result<Koid, CallError> {
        if let Some(system) = &self.system
            && self.find(system.directory).is_ok()
        {
            return Ok(system.directory);
        }
        let root = self.root_job().ok_or(CallError::NoMemory {})?;
        self.takes_children(root)?;
        let mut made = Vec::new();
        let system = self.make_system(now, root, &mut made);
        if system.is_err() {
            // The last first: names go with what they name.
            for koid in made.into_iter().rev() {
                self.unmake(koid);
            }
        }
        let system = system?;
        let directory = system.directory;
        self.system = Some(system);
        Ok(directory)
    }

    fn root_job(&self) -> Option<Reference> {
        self.slab.iter().find(|object| self.job(*object).is_some_and(|job| job.is_root))
    }

    fn make_system(&mut self, now: Time, root: Reference, made: &mut Vec<Koid>) -> Result<System, CallError> {
        let count = self.types().count();
        let mut types = Vec::new();
        types.try_reserve(count).map_err(|_| CallError::NoMemory {})?;
        made.try_reserve(count + 4 + HostKind::ALL.len()).map_err(|_| CallError::NoMemory {})?;
        let mut make = |core: &mut Self, state| -> Result<Reference, CallError> {
            let object = core.make_for_system(now, root, state)?;
            // There is room: it was brought above.
            made.try_push(object.koid()).map_err(|_| CallError::NoMemory {})?;
            Ok(object)
        };
        let directory = |provider| State::Directory(directory::State::of(provider));
        let top = make(self, directory(Provider::Names))?;
        let mut listing = |core: &mut Self, above, name: EntryName, provider| -> Result<Reference, CallError> {
            let listing = make(core, directory(provider))?;
            let name = Name::new(name.as_bytes()).map_err(|_| CallError::BadName { bytes: name.as_bytes().len() })?;
            core.name_permanently(above, name, listing, SYSTEM_DIRECTORY_RIGHTS)?;
            Ok(listing)
        };
        listing(self, top, spelled(format_args!("types"))?, Provider::Types)?;
        listing(self, top, spelled(format_args!("jobs"))?, Provider::Jobs)?;
        let host = listing(self, top, spelled(format_args!("host"))?, Provider::Names)?;
        for kind in HostKind::ALL {
            let name = spelled(format_args!("{}{}", kind.name(), kind.plural_ending()))?;
            listing(self, host, name, Provider::Host(kind))?;
        }
        for index in 0..count {
            let Some(number) = self.types().nth(index).map(|info| info.number) else { break };
            let object = make(self, State::Type(type_object::State { number }))?;
            types.try_push(object.koid()).map_err(|_| CallError::NoMemory {})?;
        }
        let last = made.last().copied().unwrap_or(top.koid());
        Ok(System { directory: top.koid(), last, made: now, types })
    }

    fn make_for_system(&mut self, now: Time, root: Reference, state: State) -> Result<Reference, CallError> {
        let making =
            Making { owner: Some(root), charged: None, maker: None, creator: None, name: None, state, hold: true };
        self.make(now, making).map_err(|refused| self.not_made(refused))
    }

    /// Ends what was made for the system directory and is not yet to be seen.
    fn unmake(&mut self, koid: Koid) {
        if let Ok(object) = self.find(koid) {
            self.lose_name(object.place());
        }
        let _closed = self.do_close(koid);
        while self.has_work() {
            self.work();
        }
    }

    /// The Type object of a type that is about to be registered, if there is a system directory; room for it in the list.
    pub(crate) fn make_type_object(&mut self, number: TypeNumber) -> Result<Option<Koid>, CallError> {
        let Some(system) = &mut self.system else { return Ok(None) };
        system.types.try_reserve(1).map_err(|_| CallError::NoMemory {})?;
        let (made, directory) = (system.made, system.directory);
        let Some(root) = self.find(directory).ok().and_then(|_| self.root_job()) else { return Ok(None) };
        let koid = self.make_for_system(made, root, State::Type(type_object::State { number }))?.koid();
        // There is room: it was brought above.
        let listed = self.system.as_mut().map(|system| system.types.try_push(koid));
        match listed {
            Some(Ok(())) => Ok(Some(koid)),
            _ => {
                self.unmake(koid);
                Err(CallError::NoMemory {})
            }
        }
    }

    /// The type was not registered after all: its object goes.
    pub(crate) fn unmake_type_object(&mut self, object: Option<Koid>) {
        if let (Some(system), Some(koid)) = (&mut self.system, object) {
            system.types.retain(|listed| *listed != koid);
            self.unmake(koid);
        }
    }
}

impl Core {
    /// Whether an object was made for the system directory: no program has left it over.
    pub(crate) fn is_the_systems(&self, koid: Koid) -> bool {
        self.system.as_ref().is_some_and(|system| {
            // Type objects are made one after the other, so their koids ascend.
            (system.directory..=system.last).contains(&koid) || system.types.binary_search(&koid).is_ok()
        })
    }
}

// Looking at a type

impl Core {
    /// What a process is told of a type by a handle to its object: its number, letters, name, rights, and its books.
    ///
    /// # Errors
    /// [`CallError`]: the handle is bad, is to no Type object, or lacks INSPECT. A bad one is met by the policy of the job as
    /// in any call.
    pub fn type_object(&mut self, process: Koid, handle: RawHandle) -> Result<TypeInfo, CallError> {
        let caller = self.caller(process)?;
        let info = self.type_meant(&caller, handle);
        self.after_call(&caller, &info);
        info
    }

    fn type_meant(&self, caller: &Caller, handle: RawHandle) -> Result<TypeInfo, CallError> {
        let meant = self.meant(caller, handle, Operation::Inspect);
        // A handle of the wrong type is reported as such whatever it allows.
        let looked_at = match &meant {
            Ok(meant) => Some((meant.object.koid(), meant.object_type)),
            Err(CallError::AccessDenied { koid, .. }) => self.find(*koid).ok().map(|it| (*koid, self.type_number(it))),
            Err(_) => None,
        };
        if let Some((koid, found)) = looked_at.filter(|(_, found)| *found != BuiltIn::Type.number()) {
            return Err(CallError::WrongType { koid, found, operation: Operation::Inspect });
        }
        let object = meant?.object;
        let number = match self.state(object) {
            Some(State::Type(state)) => state.number,
            _ => return Err(CallError::Dying { koid: object.koid() }),
        };
        self.type_info(number).ok_or(CallError::Dying { koid: object.koid() })
    }
}

// Looking up

impl Core {
    /// Whether it is the directory that the manager began with.
    pub(crate) fn is_root_directory(&self, object: Reference) -> bool {
        matches!(self.state(object), Some(State::Directory(directory)) if directory.is_root)
    }

    /// How a directory comes by its names.
    pub(crate) fn provider(&self, directory: Reference) -> Provider {
        match self.state(directory) {
            Some(State::Directory(directory)) => directory.provider,
            _ => Provider::Names,
        }
    }

    /// What a directory that looks up its names has under one, and a job to which a path came through it.
    pub(crate) fn looked_up(&self, at: Place, name: &[u8]) -> Option<Listed> {
        let object = self.slab.at(at).ok()?;
        let in_group = |group| self.by_koid(name).filter(|found| self.listed_in(*found) == Some(group));
        let found = match self.state(object)? {
            State::Directory(directory) => match directory.provider {
                Provider::Names => None,
                Provider::Types => self.type_named(name),
                Provider::Jobs => in_group(Group::Jobs(self.owner(object)?.koid())),
                Provider::Host(kind) => in_group(Group::Host(kind)),
            },
            State::Job(_) => in_group(Group::Jobs(object.koid())).or_else(|| in_group(Group::Processes(object.koid()))),
            _ => None,
        }?;
        Some(Listed { place: found.place(), most: self.listed_rights(found), is_passed: self.job(found).is_some() })
    }

    /// The living object that is so called. A koid has one spelling alone, that of the listing.
    fn by_koid(&self, name: &[u8]) -> Option<Reference> {
        let koid: Koid = core::str::from_utf8(name).ok()?.parse().ok()?;
        let is_so_called = spelled(format_args!("{koid}")).is_ok_and(|own| own.as_bytes() == name);
        self.find(koid).ok().filter(|_| is_so_called)
    }

    /// The most that opening what is listed gives.
    fn listed_rights(&self, object: Reference) -> Rights {
        LISTED_RIGHTS.intersection(self.type_of(object).default_rights())
    }

    fn type_named(&self, name: &[u8]) -> Option<Reference> {
        let (_, object) =
            self.listed_types().find(|(info, _)| self.type_name(info).is_some_and(|own| own.as_bytes() == name))?;
        Some(object)
    }

    /// Each type that has an object, with it.
    fn listed_types(&self) -> impl Iterator<Item = (TypeInfo, Reference)> + '_ {
        let objects = self.system.as_ref().map_or(&[][..], |system| &system.types);
        self.types().zip(objects).filter_map(|(info, koid)| Some((info, self.find(*koid).ok()?)))
    }

    /// What a type is listed as: its name if that can be a name and no type before it has the same, else `#` and its number.
    fn type_name(&self, info: &TypeInfo) -> Option<EntryName> {
        let is_taken = || self.types().any(|other| other.number < info.number && other.name == info.name);
        let own = EntryName::new(info.name.as_bytes()).filter(|_| !info.name.starts_with('#') && !is_taken());
        own.or_else(|| spelled(format_args!("#{}", info.number.0)).ok())
    }

    /// The first entry of such a directory after a cursor.
    pub(crate) fn looked_up_after(&self, directory: Reference, provider: Provider, cursor: u64) -> Option<Entry> {
        match provider {
            Provider::Names => None,
            Provider::Types => {
                let is_after = |info: &TypeInfo| u64::from(info.number.0) > cursor;
                let (info, object) = self.listed_types().find(|(info, _)| is_after(info))?;
                self.listed(object, self.type_name(&info)?, u64::from(info.number.0))
            }
            Provider::Jobs => self.listed_after(Group::Jobs(self.owner(directory)?.koid()), cursor),
            Provider::Host(kind) => self.listed_after(Group::Host(kind), cursor),
        }
    }

    /// The first of the inner jobs and processes of a job after a cursor.
    pub(crate) fn inside_after(&self, job: Reference, cursor: u64) -> Option<Entry> {
        let jobs = self.listed_after(Group::Jobs(job.koid()), cursor);
        let processes = self.listed_after(Group::Processes(job.koid()), cursor);
        jobs.into_iter().chain(processes).min_by_key(|entry| entry.cursor)
    }

    fn listed_after(&self, group: Group, cursor: u64) -> Option<Entry> {
        let mut cursor = cursor;
        // One whose last reference just went is listed until it is its turn to be buried.
        let found = core::iter::from_fn(|| {
            let koid = self.listing.after(group, cursor)?;
            cursor = koid.raw();
            Some(self.find(koid))
        });
        let object = found.flatten().next()?;
        let koid = object.koid();
        self.listed(object, spelled(format_args!("{koid}")).ok()?, koid.raw())
    }

    fn listed(&self, object: Reference, name: EntryName, cursor: u64) -> Option<Entry> {
        let (object_type, most) = (self.type_number(object), self.listed_rights(object));
        Some(Entry { name, koid: object.koid(), object_type, most, permanent: false, cursor })
    }
}

#[cfg(test)]
mod tests;

//! The model's names and its jobs: the second half of [`super::model`].

use super::accounts::Bill;
use super::model::{Expected, Handle, Model, Name, Object, full};
use kobj_abi::{AskedRights as Asked, Koid, ObjectType, Operation, RawHandle, Rights, TypeNumber};
use kobj_core::{CallAnswer, CallError, Effect, Entry, EntryName, KillReason, What};

/// Levels of jobs below the first, of directories below one, symbolic links on a path.
const JOBS_DEEP: u8 = 32;
const DIRECTORIES_DEEP: u8 = 64;
const LINKS_MOST: u32 = 32;

/// Who asks, and by which handle to a directory.
type At = (Koid, RawHandle);
type Wanted = Option<TypeNumber>;

fn is_name(name: &[u8]) -> bool {
    (1..=255).contains(&name.len()) && !name.contains(&b'/') && !name.contains(&0) && name != b"." && name != b".."
}

fn name_of(name: &[u8]) -> Result<(), CallError> {
    if is_name(name) { Ok(()) } else { Err(CallError::BadName { bytes: name.len() }) }
}

fn names_of(path: &[u8]) -> Option<Vec<&[u8]>> {
    let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    (path.len() <= 4096 && names.iter().all(|name| is_name(name))).then_some(names)
}

/// What a symbolic link leads to: so many directories up, then names.
fn target_of(target: &[u8]) -> Option<(usize, Vec<&[u8]>)> {
    let all: Vec<&[u8]> = target.split(|byte| *byte == b'/').collect();
    let up = all.iter().take_while(|name| **name == b"..").count();
    let down = all[up..].to_vec();
    (target.len() <= 4096 && down.iter().all(|name| is_name(name))).then_some((up, down))
}

impl Model {
    // Names.

    fn named(&self, directory: Koid, name: &[u8]) -> Option<&Name> {
        self.names.iter().find(|entry| entry.directory == directory && entry.name == name)
    }

    pub(super) fn name_of(&self, koid: Koid) -> Option<&Name> {
        self.names.iter().find(|entry| entry.koid == koid)
    }

    /// The directories above one, the nearest first.
    pub(super) fn above(&self, directory: Koid) -> Vec<Koid> {
        let mut above = Vec::new();
        let mut at = directory;
        while let Some(name) = self.name_of(at) {
            above.push(name.directory);
            at = name.directory;
        }
        above
    }

    /// How many levels of directories there are from this object down.
    fn levels(&self, koid: Koid) -> usize {
        if self.objects[&koid].object_type != ObjectType::Directory {
            return 0;
        }
        let inside = self.names.iter().filter(|entry| entry.directory == koid);
        1 + inside.map(|entry| self.levels(entry.koid)).max().unwrap_or(0)
    }

    fn add_name(&mut self, directory: Koid, name: &[u8], koid: Koid, most: Rights, permanent: bool) {
        self.last_serial += 1;
        let serial = self.last_serial;
        self.names.push(Name { directory, name: name.to_vec(), koid, most, permanent, serial });
    }

    pub(super) fn link(&mut self, at: At, name: &[u8], handle: RawHandle, most: Asked, keep: bool) -> Expected {
        let ((process, directory), permanent) = (at, keep);
        let directory = self.look(process, directory, Operation::Link)?.koid;
        let operation = if permanent { Operation::NamePermanently } else { Operation::Name };
        let object = self.look(process, handle, operation)?;
        name_of(name)?;
        let most = Self::part(object.koid, most, object.rights)?;
        if Some(object.koid) == self.root {
            return Err(CallError::RootDirectory { koid: object.koid });
        }
        if let Some(other) = self.named(directory, name) {
            return Err(CallError::NameExists { koid: other.koid });
        }
        if self.name_of(object.koid).is_some() {
            return Err(CallError::AlreadyNamed { koid: object.koid });
        }
        let above = self.above(directory);
        if object.koid == directory || above.contains(&object.koid) {
            return Err(CallError::Cycle { koid: object.koid });
        }
        // The deepest directory in it has `above`, `directory` and all levels but its own above it.
        let levels = self.levels(object.koid);
        if above.len() + levels > usize::from(DIRECTORIES_DEEP) && levels > 0 {
            return Err(CallError::TooDeep { koid: directory, most: DIRECTORIES_DEEP });
        }
        if permanent {
            self.afford(&[(self.payer_of_names(directory), Bill::NAME)])?;
        }
        self.add_name(directory, name, object.koid, most, permanent);
        Ok(CallAnswer::Done)
    }

    pub(super) fn unlink(&mut self, process: Koid, directory: RawHandle, name: &[u8]) -> Expected {
        let directory = self.look(process, directory, Operation::Unlink)?.koid;
        name_of(name)?;
        let koid = self.named(directory, name).ok_or(CallError::NotFound { directory })?.koid;
        self.names.retain(|entry| entry.koid != koid);
        self.settle(koid);
        Ok(CallAnswer::Done)
    }

    pub(super) fn rename(&mut self, process: Koid, directory: RawHandle, from: &[u8], to: &[u8]) -> Expected {
        let directory = self.look(process, directory, Operation::Rename)?.koid;
        name_of(from)?;
        name_of(to)?;
        let koid = self.named(directory, from).ok_or(CallError::NotFound { directory })?.koid;
        if let Some(other) = self.named(directory, to).filter(|other| other.koid != koid) {
            return Err(CallError::NameExists { koid: other.koid });
        }
        let entry = self.names.iter_mut().find(|entry| entry.koid == koid).unwrap();
        entry.name = to.to_vec();
        Ok(CallAnswer::Done)
    }

    /// What is at the end of the names.
    fn walk(&self, start: Koid, names: &[&[u8]], follow: bool) -> Result<Koid, CallError> {
        let mut left: Vec<Vec<u8>> = names.iter().rev().map(|name| name.to_vec()).collect();
        let mut at = start;
        let mut links = 0;
        while let Some(name) = left.pop() {
            if self.objects[&at].object_type != ObjectType::Directory {
                let found = self.objects[&at].object_type.number();
                return Err(CallError::WrongType { koid: at, found, operation: Operation::Open });
            }
            if at != start {
                self.allows(at, self.name_of(at).unwrap().most, Operation::Open)?;
            }
            let koid = self.named(at, &name).ok_or(CallError::NotFound { directory: at })?.koid;
            let object = &self.objects[&koid];
            if object.object_type != ObjectType::SymbolicLink || (left.is_empty() && !follow) {
                at = koid;
                continue;
            }
            links += 1;
            if links > LINKS_MOST {
                return Err(CallError::LinkLoop { directory: start });
            }
            let (up, down) = target_of(&object.target).unwrap();
            for _ in 0..up {
                if at == start {
                    return Err(CallError::AboveStart { directory: start });
                }
                at = self.name_of(at).unwrap().directory;
            }
            left.extend(down.into_iter().rev().map(<[u8]>::to_vec));
        }
        Ok(at)
    }

    pub(super) fn open(&mut self, at: At, path: &[u8], asked: Asked, of: Wanted, follow: bool) -> Expected {
        let (process, directory) = at;
        let start = self.look(process, directory, Operation::Open)?;
        let names = names_of(path).ok_or(CallError::BadPath { bytes: path.len() })?;
        Self::meant(asked)?;
        let koid = self.walk(start.koid, &names, follow)?;
        let found = self.objects[&koid].object_type.number();
        if let Some(expected) = of.filter(|expected| *expected != found) {
            return Err(CallError::UnexpectedType { koid, found, expected });
        }
        let most = if koid == start.koid { start.rights } else { self.name_of(koid).unwrap().most };
        let rights = Self::part(koid, asked, most)?;
        self.afford(&[(process, Bill::HANDLE)])?;
        Ok(CallAnswer::Handle(self.open_handle(process, koid, rights)))
    }

    pub(super) fn open_or_create(&mut self, at: At, name: &[u8], what: What<'_>, asked: Asked, new: bool) -> Expected {
        let (process, directory) = at;
        let operation = if new { Operation::CreateNew } else { Operation::OpenOrCreate };
        let directory = self.look(process, directory, operation)?.koid;
        name_of(name)?;
        let (object_type, target) = Self::checked(what)?;
        Self::meant(asked)?;
        let Some(entry) = self.named(directory, name).cloned() else {
            let rights = Self::part(directory, asked, full(object_type))?;
            if object_type == ObjectType::Directory && self.above(directory).len() >= usize::from(DIRECTORIES_DEEP) {
                return Err(CallError::TooDeep { koid: directory, most: DIRECTORIES_DEEP });
            }
            self.may_make(process, object_type, target)?;
            let koid = self.make(process, object_type, target);
            self.add_name(directory, name, koid, rights, false);
            let handle = self.open_handle(process, koid, rights);
            return Ok(CallAnswer::Opened { handle, created: true });
        };
        let koid = entry.koid;
        if new {
            return Err(CallError::NameExists { koid });
        }
        let (found, expected) = (self.objects[&koid].object_type.number(), object_type.number());
        if found != expected {
            return Err(CallError::UnexpectedType { koid, found, expected });
        }
        let rights = Self::part(koid, asked, entry.most)?;
        self.afford(&[(process, Bill::HANDLE)])?;
        let handle = self.open_handle(process, koid, rights);
        Ok(CallAnswer::Opened { handle, created: false })
    }

    /// The type of what is to be made and its target, if that is right.
    fn checked(what: What<'_>) -> Result<(ObjectType, &[u8]), CallError> {
        match what {
            What::SymbolicLink { target } if target_of(target).is_none() => {
                Err(CallError::BadPath { bytes: target.len() })
            }
            What::SymbolicLink { target } => Ok((ObjectType::SymbolicLink, target)),
            What::Directory => Ok((ObjectType::Directory, &[])),
        }
    }

    pub(super) fn enumerate(&mut self, process: Koid, directory: RawHandle, cursor: u64) -> Expected {
        let directory = self.look(process, directory, Operation::Enumerate)?.koid;
        if self.objects[&directory].object_type == ObjectType::Job {
            return Ok(CallAnswer::Entry(self.inside_after(directory, cursor).map(Box::new)));
        }
        let after = match cursor {
            0 => 0,
            number => match self.cursors.get(&(directory, number)) {
                Some(serial) => *serial,
                // A number that the manager never gave may mean any place in the list.
                None => return self.anywhere(directory),
            },
        };
        let next = self.names.iter().find(|entry| entry.directory == directory && entry.serial > after).cloned();
        Ok(CallAnswer::Entry(next.map(|next| self.entry(&next).into())))
    }

    /// An entry as it is listed; its cursor is what the manager says, if that was not said of another one.
    fn entry(&mut self, name: &Name) -> Entry {
        let cursor = self.told.entry.map_or(name.serial, |(_, cursor)| cursor);
        let known = *self.cursors.entry((name.directory, cursor)).or_insert(name.serial);
        if known != name.serial || cursor == 0 {
            self.complaint = Some(format!("cursor {cursor} was said of another entry, or means the beginning"));
        }
        Entry {
            name: EntryName::new(&name.name).unwrap(),
            koid: name.koid,
            object_type: self.objects[&name.koid].object_type.number(),
            most: name.most,
            permanent: name.permanent,
            cursor,
        }
    }

    /// What lives in a job: the jobs and processes, by their koids.
    fn inside_after(&self, job: Koid, cursor: u64) -> Option<Entry> {
        let is_listed = |of: ObjectType| matches!(of, ObjectType::Job | ObjectType::Process);
        let inside = self.objects.iter().filter(|(_, object)| object.owner == Some(job) && !object.dead);
        let mut listed = inside.filter(|(koid, object)| is_listed(object.object_type) && koid.raw() > cursor);
        let (koid, Object { object_type, .. }) = listed.next()?;
        let looks = Rights::DUPLICATE | Rights::TRANSFER | Rights::INSPECT;
        let most = if *object_type == ObjectType::Job { looks | Rights::ENUMERATE } else { looks };
        let name = EntryName::new(koid.to_string().as_bytes()).unwrap();
        let (object_type, cursor) = (object_type.number(), koid.raw());
        Some(Entry { name, koid: *koid, object_type, most, permanent: false, cursor })
    }

    fn anywhere(&mut self, directory: Koid) -> Expected {
        let is_told = |entry: &&Name| self.told.entry.is_some_and(|(koid, _)| koid == entry.koid);
        let there = self.names.iter().find(|entry| entry.directory == directory && is_told(entry)).cloned();
        Ok(CallAnswer::Entry(there.map(|there| self.entry(&there).into())))
    }

    pub(super) fn set_permanent(&mut self, process: Koid, handle: RawHandle, permanent: bool) -> Expected {
        let koid = self.look(process, handle, Operation::SetPermanent)?.koid;
        let Some(entry) = self.names.iter().position(|entry| entry.koid == koid) else {
            return Err(CallError::NotNamed { koid });
        };
        if permanent && !self.names[entry].permanent {
            self.afford(&[(self.payer_of_names(self.names[entry].directory), Bill::NAME)])?;
        }
        self.names[entry].permanent = permanent;
        Ok(CallAnswer::Done)
    }

    pub(super) fn read_link(&self, process: Koid, handle: RawHandle) -> Expected {
        let koid = self.look(process, handle, Operation::ReadLink)?.koid;
        Ok(CallAnswer::Target(self.objects[&koid].target.clone()))
    }

    // Jobs and processes.

    pub(super) fn create(&mut self, process: Koid, what: What<'_>) -> Expected {
        let (object_type, target) = Self::checked(what)?;
        self.may_make(process, object_type, target)?;
        let koid = self.make(process, object_type, target);
        Ok(CallAnswer::Handle(self.open_handle(process, koid, full(object_type))))
    }

    fn jobs_around(&self, job: Koid) -> Vec<Koid> {
        let mut around = vec![job];
        while let Some(outer) = self.objects[around.last().unwrap()].owner {
            around.push(outer);
        }
        around
    }

    fn open_job(&self, process: Koid, job: RawHandle, operation: Operation) -> Result<Koid, CallError> {
        let job = self.look(process, job, operation)?.koid;
        self.is_alive(job).map(|()| job)
    }

    pub(super) fn create_job(&mut self, process: Koid, job: RawHandle) -> Expected {
        let job = self.open_job(process, job, Operation::CreateJob)?;
        if self.jobs_around(job).len() > usize::from(JOBS_DEEP) {
            return Err(CallError::TooDeep { koid: job, most: JOBS_DEEP });
        }
        self.afford(&[(process, Bill::HANDLE), (job, self.object_bill(ObjectType::Job, &[]))])?;
        self.has_id()?;
        let koid = self.new_object(ObjectType::Job, Some(job), Some(job), &[]);
        Ok(CallAnswer::Handle(self.open_handle(process, koid, full(ObjectType::Job))))
    }

    pub(super) fn create_guest(&mut self, process: Koid, job: RawHandle, inherit: bool) -> Expected {
        let job = self.open_job(process, job, Operation::CreateProcess)?;
        let (told, (mut order, values)) = (self.told.handle.take(), std::mem::take(&mut self.told.inherited));
        if order.is_empty() {
            order = self.tables[&process].handles.keys().copied().collect();
        }
        let handles = order.iter().filter_map(|value| self.tables[&process].handles.get(value).copied());
        let inherited: Vec<Handle> = handles.filter(|handle| inherit && handle.inheritable).collect();
        // The new guest's account is inside the job's, and has no limits of its own.
        let mut bills = vec![(job, self.object_bill(ObjectType::Process, &[]))];
        bills.extend(inherited.iter().map(|_| (job, Bill::HANDLE)));
        bills.push((process, Bill::HANDLE));
        let afforded = self.afford_all(&bills);
        if let Err((0, error)) = afforded {
            return Err(error);
        }
        self.has_id()?;
        let koid = self.new_object(ObjectType::Process, Some(job), Some(job), &[]);
        self.tables.insert(koid, Default::default());
        if let Err((_, error)) = afforded {
            // It was made, and is no more: its koid is spent.
            self.kill_process(koid, None);
            return Err(error);
        }
        let mut values = values.into_iter();
        for handle in inherited {
            self.told.handle = values.next();
            self.new_handle(koid, handle);
        }
        self.told.handle = told;
        let handle = self.open_handle(process, koid, full(ObjectType::Process));
        Ok(CallAnswer::Guest { handle, process: koid })
    }

    pub(super) fn kill(&mut self, process: Koid, handle: RawHandle) -> Expected {
        let koid = self.look(process, handle, Operation::Kill)?.koid;
        if self.objects[&koid].object_type == ObjectType::Process {
            if let Err(error @ CallError::NotAGuest { .. }) = self.is_living_guest(koid) {
                return Err(error);
            }
            self.kill_process(koid, Some(KillReason::Killed));
            return Ok(CallAnswer::Done);
        }
        if self.objects[&koid].owner.is_none() {
            return Err(CallError::RootJob { koid });
        }
        self.kill_job(koid);
        Ok(CallAnswer::Done)
    }

    pub(super) fn kill_process(&mut self, koid: Koid, reason: Option<KillReason>) {
        let process = self.objects.get_mut(&koid).unwrap();
        if process.dead {
            return;
        }
        (process.held, process.dead) = (false, true);
        self.effects.extend(reason.map(|reason| Effect::Killed { koid, reason }));
        while let Some((value, _)) = self.tables[&koid].handles.first_key_value() {
            self.end_handle(koid, *value);
        }
        self.tables.remove(&koid);
        self.settle(koid);
    }

    /// What is in a job, that in inner jobs first.
    fn inside(&self, job: Koid) -> Vec<Koid> {
        let own: Vec<Koid> =
            self.objects.iter().filter(|(_, object)| object.owner == Some(job)).map(|(koid, _)| *koid).collect();
        let is_job = |koid: &&Koid| self.objects[koid].object_type == ObjectType::Job;
        let inner: Vec<Koid> = own.iter().filter(is_job).flat_map(|inner| self.inside(*inner)).collect();
        [inner, own].concat()
    }

    /// First all guests in it end, then all else, the inner first; what somebody has a handle to goes to the job around.
    fn kill_job(&mut self, koid: Koid) {
        let all = self.inside(koid);
        for object in all.iter().chain([&koid]) {
            let object = self.objects.get_mut(object).unwrap();
            object.dead |= object.object_type == ObjectType::Job;
        }
        for object in &all {
            if self.objects.get(object).is_some_and(|object| object.object_type == ObjectType::Process) {
                self.kill_process(*object, Some(KillReason::JobKilled));
            }
        }
        self.empty_job(koid);
        self.names.retain(|name| name.koid != koid);
        if let Some(job) = self.objects.get_mut(&koid) {
            job.held = false;
        }
        self.settle(koid);
    }

    fn empty_job(&mut self, job: Koid) {
        // It may have ended with the last guest in it.
        let Some(around) = self.objects.get(&job).map(|job| job.owner) else { return };
        let is_in = |(_, object): &(&Koid, &Object)| object.owner == Some(job);
        let jobs = |(_, object): &(&Koid, &Object)| object.object_type == ObjectType::Job;
        let inner: Vec<Koid> = self.objects.iter().filter(is_in).filter(jobs).map(|(koid, _)| *koid).collect();
        for inner in inner {
            self.empty_job(inner);
        }
        let left: Vec<Koid> = self.objects.iter().filter(is_in).map(|(koid, _)| *koid).collect();
        for koid in left {
            self.names.retain(|name| name.koid != koid);
            let Some(object) = self.objects.get_mut(&koid) else { continue };
            (object.owner, object.held) = (around, false);
            self.settle(koid);
        }
    }
}

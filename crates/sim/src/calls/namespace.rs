//! The model's names and its jobs: the second half of [`super::model`].

use super::accounts::{NAME_BYTES, bytes_bill, handle_bill};
use super::model::{Expected, Handle, Model, Name, Object, Refusable, full, need};
use kobj_abi::{AskedRights as Asked, Koid, ObjectType, Operation, RawHandle, Rights, TypeNumber};
use kobj_core::{CallAnswer, CallError, Effect, Entry, EntryName, KillReason, What};
use std::iter::successors;

/// Levels of jobs below the first, of directories below one, symbolic links on a path.
const JOBS_DEEP: u8 = 32;
const DIRECTORIES_DEEP: u8 = 64;
const LINKS_MOST: u32 = 32;

/// The type that is expected, if only one is right.
type Wanted = Option<TypeNumber>;

fn is_name(name: &[u8]) -> bool {
    (1..=255).contains(&name.len()) && !name.contains(&b'/') && !name.contains(&0) && name != b"." && name != b".."
}

fn name_of(name: &[u8]) -> Refusable<()> {
    need(is_name(name), CallError::BadName { bytes: name.len() })
}

/// What a path or a symbolic link leads to: so many directories up, then names.
fn path_of(path: &[u8]) -> Refusable<(usize, Vec<&[u8]>)> {
    let all: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let up = all.iter().take_while(|name| **name == b"..").count();
    let is_path = path.len() <= 4096 && all[up..].iter().all(|name| is_name(name));
    need(is_path, CallError::BadPath { bytes: path.len() }).map(|()| (up, all[up..].to_vec()))
}

/// The type of what is to be made and its target, if that is right.
fn checked(what: What<'_>) -> Refusable<(ObjectType, &[u8])> {
    match what {
        What::SymbolicLink { target } => path_of(target).map(|_| (ObjectType::SymbolicLink, target)),
        What::Directory => Ok((ObjectType::Directory, &[])),
    }
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
        let next = |koid: &Koid| self.name_of(*koid).map(|name| name.directory);
        successors(next(&directory), next).collect()
    }

    /// How many levels of directories there are from this object down.
    fn levels(&self, koid: Koid) -> usize {
        if self.type_of(koid) != ObjectType::Directory {
            return 0;
        }
        let inside = self.names.iter().filter(|entry| entry.directory == koid);
        1 + inside.map(|entry| self.levels(entry.koid)).max().unwrap_or(0)
    }

    /// Refuses that many levels more in a directory.
    fn has_depth(&self, directory: Koid, levels: usize) -> Refusable<()> {
        let is_deep = levels > 0 && self.above(directory).len() + levels > usize::from(DIRECTORIES_DEEP);
        need(!is_deep, CallError::TooDeep { koid: directory, most: DIRECTORIES_DEEP })
    }

    fn add_name(&mut self, directory: Koid, name: &[u8], koid: Koid, most: Rights, permanent: bool) {
        self.last_serial += 1;
        let serial = self.last_serial;
        self.names.push(Name { directory, name: name.to_vec(), koid, most, permanent, serial });
    }

    pub(super) fn link(&mut self, at: RawHandle, name: &[u8], of: RawHandle, most: Asked, keep: bool) -> Refusable<()> {
        let directory = self.look(at, Operation::Link)?.koid;
        let operation = if keep { Operation::NamePermanently } else { Operation::Name };
        let Handle { koid, rights, .. } = self.look(of, operation)?;
        name_of(name)?;
        let most = self.part(koid, most, rights)?;
        need(self.root != Some(koid), CallError::RootDirectory { koid })?;
        if let Some(other) = self.named(directory, name) {
            return Err(CallError::NameExists { koid: other.koid });
        }
        need(self.name_of(koid).is_none(), CallError::AlreadyNamed { koid })?;
        need(koid != directory && !self.above(directory).contains(&koid), CallError::Cycle { koid })?;
        self.has_depth(directory, self.levels(koid))?;
        if keep {
            self.afford(&[(self.payer_of_names(directory), bytes_bill(NAME_BYTES))])?;
        }
        self.add_name(directory, name, koid, most, keep);
        Ok(())
    }

    pub(super) fn unlink(&mut self, directory: RawHandle, name: &[u8]) -> Refusable<()> {
        let directory = self.look(directory, Operation::Unlink)?.koid;
        name_of(name)?;
        let koid = self.named(directory, name).ok_or(CallError::NotFound { directory })?.koid;
        self.lose_name(koid);
        Ok(())
    }

    fn lose_name(&mut self, koid: Koid) {
        self.names.retain(|entry| entry.koid != koid);
        self.settle(koid);
    }

    pub(super) fn rename(&mut self, directory: RawHandle, from: &[u8], to: &[u8]) -> Refusable<()> {
        let directory = self.look(directory, Operation::Rename)?.koid;
        name_of(from)?;
        name_of(to)?;
        let koid = self.named(directory, from).ok_or(CallError::NotFound { directory })?.koid;
        if let Some(other) = self.named(directory, to).filter(|other| other.koid != koid) {
            return Err(CallError::NameExists { koid: other.koid });
        }
        self.names.iter_mut().find(|entry| entry.koid == koid).unwrap().name = to.to_vec();
        Ok(())
    }

    /// What is at the end of the names.
    fn walk(&self, start: Koid, names: &[&[u8]], follow: bool) -> Refusable<Koid> {
        let mut left: Vec<&[u8]> = names.iter().rev().copied().collect();
        let mut at = start;
        let mut links = 0;
        while let Some(name) = left.pop() {
            // The handle that it starts from was looked at before.
            let granted = if at == start { Rights::LOOKUP } else { self.name_of(at).unwrap().most };
            self.allows(at, granted, Operation::Open)?;
            let koid = self.named(at, name).ok_or(CallError::NotFound { directory: at })?.koid;
            let object = &self.objects[&koid];
            if object.object_type != ObjectType::SymbolicLink || (left.is_empty() && !follow) {
                at = koid;
                continue;
            }
            links += 1;
            need(links <= LINKS_MOST, CallError::LinkLoop { directory: start })?;
            let (up, down) = path_of(&object.target)?;
            for _ in 0..up {
                need(at != start, CallError::AboveStart { directory: start })?;
                at = self.name_of(at).unwrap().directory;
            }
            left.extend(down.into_iter().rev());
        }
        Ok(at)
    }

    pub(super) fn open(&mut self, at: RawHandle, path: &[u8], asked: Asked, of: Wanted, follow: bool) -> Expected {
        let start = self.look(at, Operation::Open)?;
        let (0, names) = path_of(path)? else { return Err(CallError::BadPath { bytes: path.len() }) };
        Self::meant(asked)?;
        let koid = self.walk(start.koid, &names, follow)?;
        let found = self.type_of(koid).number();
        let expected = of.unwrap_or(found);
        need(found == expected, CallError::UnexpectedType { koid, found, expected })?;
        let most = if koid == start.koid { start.rights } else { self.name_of(koid).unwrap().most };
        let rights = self.part(koid, asked, most)?;
        self.give_new(koid, rights).map(CallAnswer::Handle)
    }

    pub(super) fn open_or_create(
        &mut self,
        at: RawHandle,
        name: &[u8],
        what: What<'_>,
        asked: Asked,
        new: bool,
    ) -> Expected {
        let operation = if new { Operation::CreateNew } else { Operation::OpenOrCreate };
        let directory = self.look(at, operation)?.koid;
        name_of(name)?;
        let (object_type, target) = checked(what)?;
        Self::meant(asked)?;
        let Some(Name { koid, most, .. }) = self.named(directory, name).cloned() else {
            let rights = Self::part_of(directory, object_type, asked, full(object_type))?;
            self.has_depth(directory, usize::from(object_type == ObjectType::Directory))?;
            let koid = self.make(object_type, target)?;
            self.add_name(directory, name, koid, rights, false);
            return Ok(CallAnswer::Opened { handle: self.give_new(koid, rights)?, created: true });
        };
        let (found, expected) = (self.type_of(koid).number(), object_type.number());
        need(!new, CallError::NameExists { koid })?;
        need(found == expected, CallError::UnexpectedType { koid, found, expected })?;
        let rights = self.part(koid, asked, most)?;
        Ok(CallAnswer::Opened { handle: self.give_new(koid, rights)?, created: false })
    }

    /// An entry as it is listed; its cursor is what the manager says, if that was not said of another one. A number that
    /// the manager never gave may mean any place in the list.
    pub(super) fn enumerate(&mut self, directory: RawHandle, cursor: u64) -> Expected {
        let directory = self.look(directory, Operation::Enumerate)?.koid;
        if self.is_job(directory) {
            return Ok(CallAnswer::Entry(self.inside_after(directory, cursor).map(Box::new)));
        }
        let after = if cursor == 0 { Some(0) } else { self.cursors.get(&(directory, cursor)).copied() };
        let told = self.told.entry;
        let is_next = |entry: &&Name| match after {
            Some(serial) => entry.serial > serial,
            None => told.is_some_and(|(koid, _)| koid == entry.koid),
        };
        let inside = self.names.iter().filter(|entry| entry.directory == directory);
        let Some(next) = inside.clone().find(is_next).cloned() else { return Ok(CallAnswer::Entry(None)) };
        let cursor = told.map_or(next.serial, |(_, cursor)| cursor);
        let known = *self.cursors.entry((directory, cursor)).or_insert(next.serial);
        if known != next.serial || cursor == 0 {
            self.complaint = Some(format!("cursor {cursor} was said of another entry, or means the beginning"));
        }
        let name = EntryName::new(&next.name).unwrap();
        let Name { koid, most, permanent, .. } = next;
        let object_type = self.type_of(koid).number();
        Ok(CallAnswer::Entry(Some(Entry { name, koid, object_type, most, permanent, cursor }.into())))
    }

    /// What lives in a job: the jobs and processes, by their koids.
    fn inside_after(&self, job: Koid, after: u64) -> Option<Entry> {
        let is_listed = |koid: &Koid| self.is_job(*koid) || self.type_of(*koid) == ObjectType::Process;
        let inside = self.objects.iter().filter(|(_, object)| object.owner == Some(job) && !object.dead);
        let koid = inside.map(|(koid, _)| *koid).filter(is_listed).find(|koid| koid.raw() > after)?;
        let looks = Rights::DUPLICATE | Rights::TRANSFER | Rights::INSPECT;
        let most = if self.is_job(koid) { looks | Rights::ENUMERATE } else { looks };
        let name = EntryName::new(koid.to_string().as_bytes()).unwrap();
        let object_type = self.type_of(koid).number();
        Some(Entry { name, koid, object_type, most, permanent: false, cursor: koid.raw() })
    }

    pub(super) fn set_permanent(&mut self, handle: RawHandle, permanent: bool) -> Refusable<()> {
        let koid = self.look(handle, Operation::SetPermanent)?.koid;
        let place = self.names.iter().position(|entry| entry.koid == koid).ok_or(CallError::NotNamed { koid })?;
        if permanent && !self.names[place].permanent {
            self.afford(&[(self.payer_of_names(self.names[place].directory), bytes_bill(NAME_BYTES))])?;
        }
        self.names[place].permanent = permanent;
        Ok(())
    }

    // Jobs and processes.

    /// Makes an object, if there is room for it and for the caller's handle to it.
    fn make_in(&mut self, of: ObjectType, owner: Option<Koid>, payer: Koid, target: &[u8]) -> Refusable<Koid> {
        self.reserve(self.caller())?;
        self.afford(&[(self.caller(), handle_bill()), (payer, self.object_bill(of, target))])?;
        self.has_id()?;
        let koid = self.new_object(of, owner, Some(payer));
        self.objects.get_mut(&koid).unwrap().target = target.to_vec();
        Ok(koid)
    }

    fn make(&mut self, of: ObjectType, target: &[u8]) -> Refusable<Koid> {
        self.make_in(of, self.objects[&self.caller()].owner, self.caller(), target)
    }

    pub(super) fn create(&mut self, what: What<'_>) -> Expected {
        let (object_type, target) = checked(what)?;
        let koid = self.make(object_type, target)?;
        self.give_new(koid, full(object_type)).map(CallAnswer::Handle)
    }

    pub(super) fn living_job(&self, job: RawHandle, operation: Operation) -> Refusable<Koid> {
        let job = self.look(job, operation)?.koid;
        self.is_alive(job).map(|()| job)
    }

    pub(super) fn create_job(&mut self, job: RawHandle) -> Expected {
        let job = self.living_job(job, Operation::CreateJob)?;
        let is_deep = self.around(job).count() > usize::from(JOBS_DEEP);
        need(!is_deep, CallError::TooDeep { koid: job, most: JOBS_DEEP })?;
        let koid = self.make_in(ObjectType::Job, Some(job), job, &[])?;
        self.give_new(koid, full(ObjectType::Job)).map(CallAnswer::Handle)
    }

    pub(super) fn create_guest(&mut self, job: RawHandle, inherit: bool) -> Expected {
        let job = self.living_job(job, Operation::CreateProcess)?;
        let (told, (mut order, values)) = (self.told.handle.take(), std::mem::take(&mut self.told.inherited));
        let own = &self.tables[&self.caller()].handles;
        if order.is_empty() {
            order = own.keys().copied().collect();
        }
        let handles = order.iter().filter_map(|value| own.get(value).cloned());
        let inherited: Vec<Handle> = handles.filter(|handle| inherit && handle.inheritable).collect();
        self.afford(&[(job, self.object_bill(ObjectType::Process, &[]))])?;
        self.has_id()?;
        let process = self.new_object(ObjectType::Process, Some(job), Some(job));
        self.tables.insert(process, Default::default());
        let mut values = values.into_iter();
        let given = inherited.into_iter().try_for_each(|handle| {
            self.told.handle = values.next();
            self.give(process, handle).map(drop)
        });
        self.told.handle = told;
        match given.and_then(|()| self.give_new(process, full(ObjectType::Process))) {
            Ok(handle) => Ok(CallAnswer::Guest { handle, process }),
            Err(error) => {
                // It was made, and is no more: its koid is spent.
                self.kill_process(process, None);
                Err(error)
            }
        }
    }

    pub(super) fn kill(&mut self, handle: RawHandle) -> Refusable<()> {
        let koid = self.look(handle, Operation::Kill)?.koid;
        match (self.type_of(koid), self.objects[&koid].owner) {
            (ObjectType::Process, _) if koid == self.start().outsider => return Err(CallError::NotAGuest { koid }),
            (ObjectType::Process, _) => self.kill_process(koid, Some(KillReason::Killed)),
            (_, None) => return Err(CallError::RootJob { koid }),
            (_, Some(_)) => self.kill_job(koid),
        }
        Ok(())
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

    /// What is in a job, that in inner jobs before these.
    fn inside(&self, job: Koid) -> Vec<Koid> {
        let own = self.objects.iter().filter(|(_, object)| object.owner == Some(job)).map(|(koid, _)| *koid);
        let with_inner = |koid: Koid| if self.is_job(koid) { self.inside(koid) } else { Vec::new() };
        own.flat_map(|koid| [with_inner(koid), vec![koid]].concat()).collect()
    }

    fn is_job(&self, koid: Koid) -> bool {
        self.type_of(koid) == ObjectType::Job
    }

    /// First all guests in it end, then all else, the inner first; what somebody has a handle to goes to the job around.
    fn kill_job(&mut self, koid: Koid) {
        let all = [self.inside(koid), vec![koid]].concat();
        let (jobs, others): (Vec<Koid>, Vec<Koid>) = all.into_iter().partition(|koid| self.is_job(*koid));
        for job in &jobs {
            self.objects.get_mut(job).unwrap().dead = true;
        }
        for koid in others {
            if self.objects.get(&koid).is_some_and(|object| object.object_type == ObjectType::Process) {
                self.kill_process(koid, Some(KillReason::JobKilled));
            }
        }
        for job in jobs {
            // It may have ended with the last guest in it.
            let Some(around) = self.objects.get(&job).map(|job| job.owner) else { continue };
            let is_in = |(_, object): &(&Koid, &Object)| object.owner == Some(job);
            let left: Vec<Koid> = self.objects.iter().filter(is_in).map(|(koid, _)| *koid).collect();
            for koid in left {
                let Some(object) = self.objects.get_mut(&koid) else { continue };
                (object.owner, object.held) = (around, false);
                self.lose_name(koid);
            }
        }
        if let Some(job) = self.objects.get_mut(&koid) {
            job.held = false;
            self.lose_name(koid);
        }
    }
}

//! The directories of the tree, each a [`Provider`].

use super::{Listed, Provider, Thing, World, folder_name, short_name};
use crate::commands::records::Job;
use kobj_abi::{HostKind, ObjectType};
use kobj_core::image::HostImage;
use kobj_host::kinds;
use kobj_host::members::Member;

fn folder<'w>(name: &str, inside: impl Provider<'w> + 'w) -> Listed<'w> {
    (name.as_bytes().to_vec(), Thing::Directory, Some(Box::new(inside)))
}

/// `/`.
pub(super) struct Root;

impl<'w> Provider<'w> for Root {
    fn list(&self, _: &'w World) -> Vec<Listed<'w>> {
        vec![folder("jobs", Jobs), folder("host", Host), folder("types", Types)]
    }

    fn columns(&self) -> &'static [&'static str] {
        &["NAME", "TYPE", "COUNT"]
    }
}

/// `/jobs`: the runs that are in no other of them. By name, koid or process id any run is found.
struct Jobs;

fn job_entry(job: &Job) -> Listed<'_> {
    (job.number.to_string().into_bytes(), Thing::Job(job), Some(Box::new(JobFolder(job))))
}

fn parent<'w>(world: &'w World, job: &Job) -> Option<&'w Job> {
    world.job_of(job.record.contents.as_ref().ok()?.parent?)
}

const OF_JOBS: &[&str] = &["NAME", "TYPE", "LABEL", "STATE", "PID", "COMMAND"];

impl<'w> Provider<'w> for Jobs {
    fn list(&self, world: &'w World) -> Vec<Listed<'w>> {
        world.jobs.iter().filter(|job| parent(world, job).is_none()).map(job_entry).collect()
    }

    fn find(&self, world: &'w World, name: &[u8]) -> Vec<Listed<'w>> {
        let Ok(text) = std::str::from_utf8(name) else {
            return world.jobs.iter().filter(|job| job.label() == name).map(job_entry).collect();
        };
        // A number in the list stands before a process id.
        if let Some(job) = world.jobs.iter().find(|job| job.number.to_string() == text) {
            return vec![job_entry(job)];
        }
        world.jobs.iter().filter(|job| job.is_called(text)).map(job_entry).collect()
    }

    fn columns(&self) -> &'static [&'static str] {
        OF_JOBS
    }
}

/// `/jobs/NUMBER`.
struct JobFolder<'w>(&'w Job);

impl<'w> Provider<'w> for JobFolder<'w> {
    fn list(&self, _: &'w World) -> Vec<Listed<'w>> {
        let job = self.0;
        vec![folder("processes", Members(job)), folder("objects", Made(job)), folder("jobs", InnerJobs(job))]
    }

    fn columns(&self) -> &'static [&'static str] {
        &["NAME", "TYPE", "COUNT"]
    }
}

/// `/jobs/NUMBER/jobs`.
struct InnerJobs<'w>(&'w Job);

impl<'w> Provider<'w> for InnerJobs<'w> {
    fn list(&self, world: &'w World) -> Vec<Listed<'w>> {
        let is_inner = |job: &&Job| parent(world, job).is_some_and(|outer| outer.number == self.0.number);
        world.jobs.iter().filter(is_inner).map(job_entry).collect()
    }

    fn columns(&self) -> &'static [&'static str] {
        OF_JOBS
    }
}

/// `/jobs/NUMBER/processes`.
struct Members<'w>(&'w Job);

impl<'w> Provider<'w> for Members<'w> {
    fn list(&self, world: &'w World) -> Vec<Listed<'w>> {
        let entry = |member: &'w Member| -> Listed<'w> {
            let held = Held { pid: member.pid };
            (member.pid.to_string().into_bytes(), Thing::Process(self.0, member), Some(Box::new(held)))
        };
        world.members(self.0).iter().map(entry).collect()
    }

    fn count(&self, world: &'w World) -> Option<usize> {
        Some(world.members(self.0).len())
    }

    fn columns(&self) -> &'static [&'static str] {
        &["NAME", "TYPE", "COMMAND", "COUNT", "PROVED"]
    }
}

/// `KIND:NAME`, as `kobj who` takes it.
fn with_kind(image: &HostImage) -> Vec<u8> {
    [image.kind.name().as_bytes(), b":", &image.name].concat()
}

/// `/jobs/NUMBER/processes/PID`: what the process holds.
struct Held {
    pid: u32,
}

impl<'w> Provider<'w> for Held {
    fn list(&self, world: &'w World) -> Vec<Listed<'w>> {
        let held = world.held_by(self.pid).into_iter();
        held.map(|(image, how)| (with_kind(image), Thing::Held(image, how), None)).collect()
    }

    fn has_long_names(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [&'static str] {
        &["NAME", "TYPE", "HOW", "SIZE"]
    }
}

/// `/jobs/NUMBER/objects`: what the run has made and what is still there.
struct Made<'w>(&'w Job);

impl<'w> Provider<'w> for Made<'w> {
    fn list(&self, world: &'w World) -> Vec<Listed<'w>> {
        world.made(self.0).iter().map(|image| (with_kind(image), Thing::Made(image), None)).collect()
    }

    fn has_long_names(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [&'static str] {
        &["NAME", "TYPE", "SIZE", "CREATOR", "PROVED"]
    }

    fn tell_not_visible(&self, world: &'w World) {
        kinds::ALL.iter().filter(|kind| crate::commands::dead::has_a_witness(kind.kind())).for_each(|kind| {
            world.tell_kind(kind.kind());
        });
    }
}

/// `/host`: a directory for each kind.
struct Host;

impl<'w> Provider<'w> for Host {
    fn list(&self, _: &'w World) -> Vec<Listed<'w>> {
        let entry =
            |kind: HostKind| -> Listed<'w> { (folder_name(kind), Thing::Directory, Some(Box::new(KindFolder(kind)))) };
        kinds::ALL.iter().map(|kind| entry(kind.kind())).collect()
    }

    fn find(&self, world: &'w World, name: &[u8]) -> Vec<Listed<'w>> {
        let is = |kind: HostKind| folder_name(kind) == name || kind.name().as_bytes() == name;
        let index = kinds::ALL.iter().position(|kind| is(kind.kind()));
        index.map(|index| self.list(world).swap_remove(index)).into_iter().collect()
    }

    fn columns(&self) -> &'static [&'static str] {
        &["NAME", "TYPE", "COUNT"]
    }
}

/// `/host/KINDS`: every object of a kind.
struct KindFolder(HostKind);

impl<'w> Provider<'w> for KindFolder {
    fn list(&self, world: &'w World) -> Vec<Listed<'w>> {
        world.of_kind(self.0).iter().map(|image| (short_name(image), Thing::Host(image), None)).collect()
    }

    fn find(&self, world: &'w World, name: &[u8]) -> Vec<Listed<'w>> {
        let mut found = self.list(world);
        let is_whole = |thing: &Thing<'_>| matches!(thing, Thing::Host(image) if image.name == name);
        found.retain(|(short, thing, _)| short == name || is_whole(thing));
        found
    }

    fn count(&self, world: &'w World) -> Option<usize> {
        world.count_of_kind(self.0)
    }

    fn has_long_names(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [&'static str] {
        match self.0 {
            HostKind::Process => &["NAME", "TYPE", "COMMAND", "AGE", "OWNER"],
            _ => &["NAME", "TYPE", "SIZE", "AGE", "OWNER"],
        }
    }

    fn tell_not_visible(&self, world: &'w World) {
        world.tell_kind(self.0);
    }
}

/// `/types`: each object type, the kinds of host objects in theirs.
struct Types;

impl<'w> Provider<'w> for Types {
    fn list(&self, _: &'w World) -> Vec<Listed<'w>> {
        let entry = |object_type: ObjectType| -> Listed<'w> {
            let is_host = object_type == ObjectType::HostObject;
            let inside: Option<Box<dyn Provider<'w>>> = if is_host { Some(Box::new(HostKinds)) } else { None };
            (object_type.name().as_bytes().to_vec(), Thing::ObjectType(object_type), inside)
        };
        ObjectType::ALL.into_iter().map(entry).collect()
    }

    fn columns(&self) -> &'static [&'static str] {
        &["NAME", "TYPE", "COUNT"]
    }
}

/// `/types/host-object`: each kind.
struct HostKinds;

impl<'w> Provider<'w> for HostKinds {
    fn list(&self, _: &'w World) -> Vec<Listed<'w>> {
        let kinds = kinds::ALL.iter().map(|kind| kind.kind());
        kinds.map(|kind| (kind.name().as_bytes().to_vec(), Thing::HostKind(kind), None)).collect()
    }

    fn columns(&self) -> &'static [&'static str] {
        &["NAME", "TYPE", "COUNT"]
    }
}

/// How many objects of a type there are; `None` if that cannot be seen: the objects of an embedded manager are its
/// program's alone.
pub(crate) fn count_of_type(world: &World, object_type: ObjectType) -> Option<usize> {
    match object_type {
        ObjectType::Job => Some(world.jobs.len()),
        ObjectType::Process => Some(world.jobs.iter().map(|job| world.members(job).len()).sum()),
        ObjectType::HostObject => kinds::ALL.iter().map(|kind| world.count_of_kind(kind.kind())).sum(),
        ObjectType::Type => Some(ObjectType::ALL.len()),
        ObjectType::Directory | ObjectType::SymbolicLink | ObjectType::Section => None,
    }
}

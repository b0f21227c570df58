//! The system directory through the calls.

use super::{LISTED_RIGHTS, SYSTEM_DIRECTORY_RIGHTS};
use crate::account::Resource;
use crate::call::{Call, CallAnswer, CallError, Entry, What};
use crate::guests::Boot;
use crate::image::{HostImage, Identity, Time};
use crate::manager::{Core, Limits};
use crate::user_type::ObjectType;
use kobj_abi::{AskedRights, Era, ErrorCode, HostKind, Koid, ObjectType as BuiltIn, RawHandle, Rights, TypeNumber};
use kobj_memory::RegisterError;
use std::string::{String, ToString};
use std::vec::Vec;

const SAME: AskedRights = AskedRights::Same;

/// A type from outside.
struct Own;

impl ObjectType for Own {
    const TAG: [u8; 4] = *b"OWN_";
    const NAME: &'static str = "own";
    const DEFAULT_RIGHTS: Rights = Rights::INSPECT;
    type State = ();
}

/// One whose name is a built-in type's.
struct Namesake;

impl ObjectType for Namesake {
    const TAG: [u8; 4] = *b"SAME";
    const NAME: &'static str = "job";
    const DEFAULT_RIGHTS: Rights = Rights::INSPECT;
    type State = ();
}

struct Scene {
    core: Core,
    boot: Boot,
    /// A handle as an embedder gives it.
    system: RawHandle,
}

impl Scene {
    fn new() -> Self {
        let mut core = Core::with_limits(Era(7), Limits { seed: 1, ..Limits::default() });
        let boot = core.boot(Time(0)).unwrap();
        let koid = core.system_directory(Time(1)).unwrap();
        let system = core.grant(boot.process, koid, AskedRights::Exactly(SYSTEM_DIRECTORY_RIGHTS)).unwrap();
        Self { core, boot, system }
    }

    fn call(&mut self, call: Call<'_>) -> Result<CallAnswer, CallError> {
        let answer = self.core.call(Time(2), self.boot.process, call);
        self.core.audit().unwrap_or_else(|imbalance| panic!("{call:?}: {imbalance}"));
        answer
    }

    fn handle(&mut self, call: Call<'_>) -> Result<RawHandle, CallError> {
        match self.call(call)? {
            CallAnswer::Handle(handle) => Ok(handle),
            other => panic!("{call:?}: {other:?}"),
        }
    }

    /// Without an audit, of which many take their time.
    fn call_alone(&mut self, call: Call<'_>) {
        self.core.call(Time(2), self.boot.process, call).unwrap();
    }

    fn open_as(&mut self, path: &str, rights: AskedRights) -> Result<RawHandle, CallError> {
        let path = path.as_bytes();
        self.handle(Call::Open { directory: self.system, path, rights, expected: None, follow: true })
    }

    fn open(&mut self, path: &str) -> Result<RawHandle, CallError> {
        self.open_as(path, SAME)
    }

    fn info(&mut self, handle: RawHandle) -> (Koid, TypeNumber, Rights) {
        match self.call(Call::HandleInfo { handle }) {
            Ok(CallAnswer::Info(info)) => (info.koid, info.object_type, info.rights),
            other => panic!("{other:?}"),
        }
    }

    fn list(&mut self, directory: RawHandle) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        while let CallAnswer::Entry(Some(entry)) =
            self.call(Call::Enumerate { directory, cursor: entries.last().map_or(0, |entry| entry.cursor) }).unwrap()
        {
            entries.push(*entry);
        }
        entries
    }

    fn names(&mut self, path: &str) -> Vec<String> {
        let directory = self.open(path).unwrap();
        let list = self.list(directory);
        self.call(Call::Close { handle: directory }).unwrap();
        list.iter().map(|entry| String::from_utf8(entry.name.as_bytes().to_vec()).unwrap()).collect()
    }

    fn job_in(&mut self, job: RawHandle) -> (RawHandle, Koid) {
        let handle = self.handle(Call::CreateJob { job }).unwrap();
        (handle, self.info(handle).0)
    }

    fn end(mut self) {
        self.core.shut_down();
        assert!(self.core.finish().unwrap().is_zero());
    }
}

#[test]
fn it_is_made_once_and_costs_nothing_before() {
    let mut core = Core::new(Era(7));
    core.boot(Time(0)).unwrap();
    let before = core.live();
    let system = core.system_directory(Time(1)).unwrap();
    assert_eq!(core.live(), before + 4 + (HostKind::ALL.len() + BuiltIn::ALL.len()) as u32);
    assert_eq!(core.system_directory(Time(2)), Ok(system));
    core.audit().unwrap();
    core.shut_down();
    assert!(core.system_directory(Time(3)).is_err(), "the root job is no more");
    assert!(core.finish().unwrap().is_zero());
}

#[test]
fn each_type_has_an_object_and_an_entry() {
    let mut scene = Scene::new();
    let built_in = ["job", "process", "host-object", "directory", "symbolic-link", "section", "type"];
    assert_eq!(scene.names("types"), built_in);
    scene.core.register::<Own>().unwrap();
    scene.core.register::<Namesake>().unwrap();
    let all = scene.names("types");
    assert_eq!(all[7..], ["own", "#65"], "a name that is taken gives way to the number");
    for (name, number) in all.iter().zip((1..=7).chain([64, 65])) {
        let handle = scene.open(&std::format!("types/{name}")).unwrap();
        let (koid, object_type, rights) = scene.info(handle);
        assert_eq!((object_type, rights), (BuiltIn::Type.number(), LISTED_RIGHTS));
        let info = scene.core.type_object(scene.boot.process, handle).unwrap();
        assert_eq!((info.number, scene.core.find(koid).is_ok()), (TypeNumber(number), true));
    }
    let section = scene.open("types/section").unwrap();
    let tally = scene.core.type_object(scene.boot.process, section).unwrap().tally;
    assert_eq!((tally.created, tally.live, tally.peak), (0, 0, 0));
    assert_eq!(scene.names("host").len(), HostKind::ALL.len());
    let types = scene.open("types/type").unwrap();
    assert_eq!(scene.core.type_object(scene.boot.process, types).unwrap().tally.live, 9);
    scene.end();
}

#[test]
fn living_jobs_are_listed_and_inner_ones_below_theirs() {
    let mut scene = Scene::new();
    let (first, first_koid) = scene.job_in(scene.boot.job);
    let (second, second_koid) = scene.job_in(scene.boot.job);
    let (inner, inner_koid) = scene.job_in(first);
    assert_eq!(scene.names("jobs"), [first_koid.to_string(), second_koid.to_string()]);
    let opened = scene.open(&std::format!("jobs/{first_koid}/{inner_koid}")).unwrap();
    assert_eq!(scene.info(opened), (inner_koid, BuiltIn::Job.number(), LISTED_RIGHTS));
    assert_eq!(scene.call(Call::Kill { handle: opened }).unwrap_err().code(), ErrorCode::AccessDenied);
    for path in [
        std::format!("jobs/{inner_koid}"),
        std::format!("jobs/{second_koid}/{inner_koid}"),
        std::format!("jobs/{first_koid}/{inner_koid}/{first_koid}"),
        std::format!("jobs/{}", first_koid.to_string().replace(':', "-")),
        std::format!("jobs/+{first_koid}"),
        std::format!("jobs/{}", scene.boot.root_job),
        std::format!("jobs/{}", scene.boot.process),
        "jobs/x".into(),
    ] {
        assert_eq!(scene.open(&path).unwrap_err().code(), ErrorCode::NotFound, "{path}");
    }
    // It goes with its last handle as ever: being listed keeps nothing.
    for handle in [inner, opened] {
        scene.call(Call::Close { handle }).unwrap();
    }
    let path = std::format!("jobs/{first_koid}/{inner_koid}");
    assert_eq!(scene.open(&path).unwrap_err().code(), ErrorCode::NotFound);
    scene.call(Call::Close { handle: first }).unwrap();
    assert_eq!(scene.names("jobs"), [second_koid.to_string()]);
    scene.call(Call::Kill { handle: second }).unwrap();
    assert!(scene.names("jobs").is_empty());
    scene.end();
}

#[test]
fn a_job_lists_its_inner_jobs_and_processes_in_the_order_of_their_making() {
    let mut scene = Scene::new();
    let (outer, outer_koid) = scene.job_in(scene.boot.job);
    let guest_in = |scene: &mut Scene, job| match scene.call(Call::CreateGuest { job, inherit: false }) {
        Ok(CallAnswer::Guest { handle, process }) => (handle, process),
        other => panic!("{other:?}"),
    };
    let (first, inner) = (guest_in(&mut scene, outer), scene.job_in(outer));
    let (second, other) = (guest_in(&mut scene, outer), scene.job_in(scene.boot.job));
    let koids = |scene: &mut Scene, job| scene.list(job).iter().map(|entry| entry.koid).collect::<Vec<_>>();
    assert_eq!(koids(&mut scene, outer), [first.1, inner.1, second.1]);
    assert_eq!(koids(&mut scene, inner.0), []);
    let root = scene.boot.job;
    assert_eq!(koids(&mut scene, root), [scene.boot.process, outer_koid, other.1]);
    // What is listed is opened by a path through the job, with what the list says, and the koid is the cursor.
    for entry in scene.list(outer) {
        assert_eq!((entry.name.as_bytes(), entry.cursor), (entry.koid.to_string().as_bytes(), entry.koid.raw()));
        let opened = scene.open(&std::format!("jobs/{outer_koid}/{}", entry.koid)).unwrap();
        assert_eq!(scene.info(opened), (entry.koid, entry.object_type, entry.most));
        scene.call(Call::Close { handle: opened }).unwrap();
    }
    let path = std::format!("jobs/{outer_koid}/{}", second.1);
    let below = std::format!("{path}/{}", first.1);
    assert_eq!(scene.open(&below).unwrap_err().code(), ErrorCode::WrongType, "a process is no directory");
    let mute = scene.open_as(&std::format!("jobs/{outer_koid}"), AskedRights::Exactly(Rights::INSPECT)).unwrap();
    let enumerate = Call::Enumerate { directory: mute, cursor: 0 };
    assert_eq!(scene.call(enumerate).unwrap_err().code(), ErrorCode::AccessDenied);
    // What ends is listed no longer, though somebody has a handle to it; a cursor goes on where it was given.
    for handle in [first.0, inner.0] {
        scene.call(Call::Kill { handle }).unwrap();
    }
    assert_eq!(koids(&mut scene, outer), [second.1]);
    assert_eq!(scene.open(&std::format!("jobs/{outer_koid}/{}", first.1)).unwrap_err().code(), ErrorCode::NotFound);
    let after = Call::Enumerate { directory: outer, cursor: inner.1.raw() };
    let Ok(CallAnswer::Entry(Some(next))) = scene.call(after) else { panic!("one is there") };
    assert_eq!(next.koid, second.1);
    scene.call(Call::Close { handle: second.0 }).unwrap();
    assert_eq!(koids(&mut scene, outer), [second.1], "a guest lives without a handle");
    scene.end();
}

#[test]
fn host_objects_are_listed_by_their_kinds_whichever_job_they_are_in() {
    let mut scene = Scene::new();
    let (job, koid) = scene.job_in(scene.boot.job);
    let image = |kind, id: i64| HostImage::new(kind, b"4".to_vec(), Identity::Ipc { id, key: 0, uid: 0 });
    let make =
        |scene: &mut Scene, job, kind, id| scene.core.create_host_object(Time(2), job, image(kind, id), None).unwrap();
    let root_job = scene.boot.root_job;
    let first = make(&mut scene, koid, HostKind::SysvSegment, 1);
    let other = make(&mut scene, root_job, HostKind::SysvQueue, 2);
    let second = make(&mut scene, root_job, HostKind::SysvSegment, 3);
    assert_eq!(scene.names("host/sysv-segments"), [first.to_string(), second.to_string()]);
    assert_eq!(scene.names("host/sysv-queues"), [other.to_string()]);
    assert!(scene.names("host/processes").is_empty());
    let opened = scene.open(&std::format!("host/sysv-segments/{first}")).unwrap();
    let looks = Rights::INSPECT.union(Rights::DUPLICATE).union(Rights::TRANSFER);
    assert_eq!(scene.info(opened), (first, BuiltIn::HostObject.number(), looks), "of what its type can do");
    let more = AskedRights::Exactly(looks.union(Rights::MANAGE));
    let path = std::format!("host/sysv-segments/{first}");
    assert_eq!(scene.open_as(&path, more).unwrap_err().code(), ErrorCode::AccessDenied);
    assert_eq!(scene.open(&std::format!("{path}/{first}")).unwrap_err().code(), ErrorCode::WrongType);
    for path in [std::format!("host/sysv-segments/{other}"), std::format!("host/{first}"), "host/segments/4".into()] {
        assert_eq!(scene.open(&path).unwrap_err().code(), ErrorCode::NotFound, "{path}");
    }
    // The handle keeps it: its job ends, and it goes to the job around.
    scene.call(Call::Kill { handle: job }).unwrap();
    while scene.core.go_on() {}
    assert_eq!(scene.names("host/sysv-segments"), [first.to_string(), second.to_string()]);
    scene.call(Call::Close { handle: opened }).unwrap();
    while scene.core.go_on() {}
    assert_eq!(scene.names("host/sysv-segments"), [second.to_string()]);
    let Ok(_) = scene.core.close(second) else { panic!("it is its job's alone") };
    while scene.core.go_on() {}
    assert!(scene.names("host/sysv-segments").is_empty());
    scene.end();
}

/// Neither many objects of other kinds nor many jobs elsewhere are passed: each entry is some looks away.
#[test]
fn a_listing_takes_no_longer_for_what_it_does_not_list() {
    let mut scene = Scene::new();
    let (first, _) = scene.job_in(scene.boot.job);
    for _ in 0..2000 {
        scene.call_alone(Call::CreateJob { job: first });
        scene.call_alone(Call::Create { what: What::Directory });
    }
    let (_, last) = scene.job_in(scene.boot.job);
    let jobs = scene.open("jobs").unwrap();
    let cursor = scene.info(first).0.raw();
    scene.core.listing.looks.set(0);
    scene.call_alone(Call::Enumerate { directory: jobs, cursor });
    let looks = scene.core.listing.looks.get();
    assert!((1..100).contains(&looks), "{looks} looks past 4,000 objects");
    assert_eq!(scene.list(jobs).last().map(|entry| entry.koid), Some(last));
    assert_eq!(scene.list(first).len(), 2000);
    scene.end();
}

#[test]
fn a_job_that_nobody_had_ends_with_the_last_handle_that_was_opened() {
    let mut scene = Scene::new();
    let (job, koid) = scene.job_in(scene.boot.job);
    let guest = match scene.call(Call::CreateGuest { job, inherit: false }) {
        Ok(CallAnswer::Guest { handle, .. }) => handle,
        other => panic!("{other:?}"),
    };
    scene.call(Call::Close { handle: job }).unwrap();
    let opened = scene.open(&std::format!("jobs/{koid}")).unwrap();
    scene.call(Call::Kill { handle: guest }).unwrap();
    scene.call(Call::Close { handle: guest }).unwrap();
    while scene.core.go_on() {}
    assert_eq!(scene.info(opened).0, koid, "it has a handle");
    // It takes new ones, and is no job that ends by itself.
    let all = scene.core.grant(scene.boot.process, koid, SAME).unwrap();
    let (inner, _) = scene.job_in(all);
    for handle in [inner, all] {
        scene.call(Call::Close { handle }).unwrap();
    }
    assert_eq!(scene.names("jobs"), [koid.to_string()]);
    scene.call(Call::Close { handle: opened }).unwrap();
    assert!(scene.names("jobs").is_empty());
    scene.end();
}

#[test]
fn nothing_is_named_in_what_looks_up_its_names() {
    let mut scene = Scene::new();
    let own = scene.handle(Call::Create { what: What::Directory }).unwrap();
    for name in ["types", "jobs", "host/fifos"] {
        let opened = scene.open(name).unwrap();
        let (koid, _, rights) = scene.info(opened);
        assert_eq!(rights, SYSTEM_DIRECTORY_RIGHTS);
        // Past all rights.
        let directory = scene.core.grant(scene.boot.process, koid, SAME).unwrap();
        for call in [
            Call::Link { directory, name: b"job", handle: own, most: SAME, permanent: false },
            Call::Link { directory, name: b"", handle: own, most: SAME, permanent: true },
            Call::Unlink { directory, name: b"job" },
            Call::Rename { directory, from: b"job", to: b"x" },
            Call::OpenOrCreate { directory, name: b"job", what: What::Directory, rights: SAME, exclusive: false },
            Call::OpenOrCreate { directory, name: b"x", what: What::Directory, rights: SAME, exclusive: true },
        ] {
            let refused = scene.call(call).unwrap_err();
            assert_eq!(refused.code(), ErrorCode::AccessDenied, "{call:?}: {refused}");
        }
    }
    let system = scene.system;
    let link = Call::Link { directory: system, name: b"x", handle: own, most: SAME, permanent: false };
    assert_eq!(scene.call(link).unwrap_err().code(), ErrorCode::AccessDenied);
    assert_eq!(scene.open("types/job/x").unwrap_err().code(), ErrorCode::WrongType);
    assert_eq!(scene.open("types/none").unwrap_err().code(), ErrorCode::NotFound);
    let more = AskedRights::Exactly(Rights::INSPECT.union(Rights::DESTROY));
    assert_eq!(scene.open_as("types/job", more).unwrap_err().code(), ErrorCode::AccessDenied);
    assert!(scene.core.type_object(scene.boot.process, own).is_err(), "it is no type");
    let blind = scene.open_as("types/job", AskedRights::Exactly(Rights::NONE)).unwrap();
    assert_eq!(scene.core.type_object(scene.boot.process, blind).unwrap_err().code(), ErrorCode::AccessDenied);
    scene.end();
}

#[test]
fn a_quota_that_leaves_no_room_leaves_nothing_half_made() {
    let mut core = Core::with_limits(Era(7), Limits { seed: 1, ..Limits::default() });
    let boot = core.boot(Time(0)).unwrap();
    let (handle, resource) = (boot.job, Resource::Objects);
    let used = core.usage(boot.root_job, resource).unwrap().used;
    for more in 0..60 {
        core.call(Time(0), boot.process, Call::SetQuota { handle, resource, limit: used + more }).unwrap();
        let before = core.live();
        let made = core.system_directory(Time(1));
        core.audit().unwrap();
        if made.is_ok() {
            assert_eq!(more, (4 + HostKind::ALL.len() + BuiltIn::ALL.len()) as u64);
            assert_eq!(core.register::<Own>().err(), Some(RegisterError::NoMemory), "its object has no room");
            core.call(Time(0), boot.process, Call::SetQuota { handle, resource, limit: u64::MAX }).unwrap();
            core.register::<Own>().unwrap();
            core.audit().unwrap();
            core.shut_down();
            return assert!(core.finish().unwrap().is_zero());
        }
        assert_eq!(made.unwrap_err().code(), ErrorCode::Quota);
        assert_eq!(core.live(), before, "with room for {more}");
    }
    panic!("some forty objects do");
}

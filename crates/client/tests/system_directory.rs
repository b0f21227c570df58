//! The system directory of an embedded manager.

use kobj::{Directory, Error, Job, Link, Manager, ObjectType, Open, Rights, Type, TypeNumber};

/// A type of one's own.
struct Timeline;

impl ObjectType for Timeline {
    const TAG: [u8; 4] = *b"TIML";
    const NAME: &'static str = "timeline";
    const DEFAULT_RIGHTS: Rights = Rights::INSPECT;
    type State = u64;
}

fn names(directory: &Directory) -> Vec<String> {
    directory.entries().map(|entry| String::from_utf8(entry.unwrap().name).unwrap()).collect()
}

#[test]
fn types_say_how_many_objects_there_are_and_were() {
    let manager = Manager::embedded().unwrap();
    let before = manager.live::<kobj::types::Type>();
    let system = manager.system_directory().unwrap();
    let timelines = manager.register::<Timeline>().unwrap();
    assert_eq!((before, manager.live::<kobj::types::Type>()), (0, 8));
    assert_eq!(names(&system), ["types", "jobs", "host"]);
    let made: Vec<_> = (0..3).map(|state| manager.caller().create(&timelines, state).unwrap()).collect();
    drop(made);
    let timeline: Type = system.open("types/timeline", Open::new()).unwrap();
    let info = timeline.books().unwrap();
    assert_eq!((info.number, info.name, info.rights), (timelines.number(), "timeline", Rights::INSPECT));
    assert_eq!((info.tally.created, info.tally.live, info.tally.peak), (3, 0, 3));
    let blind: Type = system.open("types/timeline", Open::new().rights(Rights::NONE)).unwrap();
    assert!(matches!(blind.books(), Err(Error::AccessDenied { .. })));
    manager.audit().unwrap();
}

#[test]
fn jobs_are_found_by_their_koids_and_looked_at_alone() {
    let manager = Manager::embedded().unwrap();
    let system = manager.system_directory().unwrap();
    let job = manager.root_job().create_job().unwrap();
    let inner = job.create_job().unwrap();
    let (outer_koid, inner_koid) = (job.info().unwrap().koid, inner.info().unwrap().koid);
    let jobs: Directory = system.open("jobs", Open::new()).unwrap();
    assert_eq!(names(&jobs), [outer_koid.to_string()]);
    let found: Job = jobs.open(format!("{outer_koid}/{inner_koid}"), Open::new()).unwrap();
    assert_eq!(found.info().unwrap().koid, inner_koid);
    let guest = job.create_guest().unwrap();
    let inside: Vec<_> = job.entries().map(|entry| entry.unwrap()).collect();
    let found_out: Vec<_> = inside.iter().map(|entry| (entry.koid, entry.object_type)).collect();
    assert_eq!(found_out, [(inner_koid, TypeNumber(1)), (guest.koid(), TypeNumber(2))]);
    let process: kobj::Process = jobs.open(format!("{outer_koid}/{}", guest.koid()), Open::new()).unwrap();
    assert!(matches!(process.kill(), Err(Error::AccessDenied { .. })));
    let blind = job.duplicate(Rights::INSPECT).unwrap();
    assert!(matches!(blind.entries().next(), Some(Err(Error::AccessDenied { .. }))));
    assert!(matches!(found.kill(), Err(Error::AccessDenied { .. })));
    assert!(matches!(jobs.link("mine", &job, Link::new()), Err(Error::AccessDenied { .. })));
    drop((found, inner));
    assert!(matches!(
        jobs.open::<kobj::types::Job>(format!("{outer_koid}/{inner_koid}"), Open::new()),
        Err(Error::NotFound { .. })
    ));
    job.kill().unwrap();
    assert!(names(&jobs).is_empty());
    manager.audit().unwrap();
}

#[test]
fn what_is_made_for_it_is_no_leftover() {
    let manager = Manager::embedded().unwrap();
    let before = manager.census().unwrap();
    drop(manager.system_directory().unwrap());
    manager.register::<Timeline>().unwrap();
    kobj::assert_balanced!(before);
}

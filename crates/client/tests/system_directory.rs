//! The system directory of an embedded manager.

use kobj::{Directory, Error, Job, Link, Manager, ObjectType, Open, Rights, Type};

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
    assert_eq!(names(&system), ["types", "jobs"]);
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

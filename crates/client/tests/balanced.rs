//! A test suite that leaves nothing over: what `assert_balanced!` says, and what it lets pass.

use kobj::{Access, AskedRights, Error, Link, Manager, Rights, Tracing, assert_balanced, types};
use std::time::Duration;

fn traced() -> Manager {
    Manager::builder().tracing(Tracing::Place).build().unwrap()
}

#[test]
fn what_is_left_is_named_with_the_line_that_made_it() -> Result<(), Error> {
    let manager = traced();
    let before = manager.census()?;
    let guest = manager.root_job().create_guest()?;
    let line = line!() + 1;
    let directory = guest.caller().create_directory()?;
    let copy = directory.duplicate(AskedRights::Same)?;
    let complaint = before.complaint().expect("two objects are left");
    assert!(complaint.starts_with("2 objects are left"), "{complaint}");
    assert!(complaint.contains(&format!("directory {}, made at {}:{line}:", copy.koid()?, file!())), "{complaint}");
    assert!(complaint.contains(&format!("duplicated at {}:{}:", file!(), line + 1)), "{complaint}");
    assert!(complaint.contains("Drop or close the handles"), "{complaint}");
    guest.kill()?;
    drop((guest, directory, copy));
    assert_balanced!(before);
    Ok(())
}

#[test]
fn what_was_there_is_young_or_is_excused_passes() -> Result<(), Error> {
    let manager = traced();
    let _old = manager.caller().create_directory()?;
    let before = manager.census()?;
    let cache = manager.caller().create_directory()?;
    let complaint = before.complaint().expect("one is left");
    assert!(complaint.starts_with("1 object is left that was not there before:"), "{complaint}");
    assert!(before.clone().minimum_age(Duration::from_secs(3600)).complaint().is_none());
    cache.not_a_leak()?;
    assert_balanced!(before);
    Ok(())
}

#[test]
#[should_panic(expected = "permanent name in directory")]
fn a_permanent_name_is_a_leak_too() {
    let manager = Manager::embedded().unwrap();
    let before = manager.census().unwrap();
    let directory = manager.caller().create_directory().unwrap();
    manager.root_directory().link("kept", &directory, Link::new().permanent()).unwrap();
    drop(directory);
    assert_balanced!(before);
}

/// What a thread's maker makes is noted as all else is.
#[test]
fn what_a_maker_leaves_is_named_with_its_line() -> Result<(), Error> {
    struct Thing;
    impl kobj::ObjectType for Thing {
        const TAG: [u8; 4] = *b"THNG";
        const NAME: &'static str = "thing";
        const DEFAULT_RIGHTS: kobj::Rights = kobj::Rights::GENERIC;
        type State = u64;
    }
    let manager = traced();
    let key = manager.register::<Thing>().unwrap();
    let before = manager.census()?;
    let caller = manager.caller();
    let mut maker = caller.maker(&key)?;
    let line = line!() + 1;
    let handle = maker.create(7)?;
    let left = before.left()?;
    assert!(left[0].made.as_ref().unwrap().contains(&format!("balanced.rs:{line}:")), "{left:?}");
    maker.close(handle)?;
    assert_balanced!(before);
    Ok(())
}

/// A place that is used again is not taken for what stood there before.
#[test]
fn a_trace_goes_with_its_object() -> Result<(), Error> {
    let manager = traced();
    let before = manager.census()?;
    drop(manager.caller().create_directory()?);
    let line = line!() + 1;
    let _second = manager.caller().create_directory()?;
    let left = before.left()?;
    assert_eq!(left.len(), 1);
    assert!(left[0].made.as_ref().unwrap().contains(&format!(":{line}:")), "{left:?}");
    Ok(())
}

#[inline(never)]
fn a_function_on_the_way(manager: &Manager) -> kobj::Directory {
    manager.caller().create_directory().unwrap()
}

#[test]
fn with_every_frame_the_way_is_named() -> Result<(), Error> {
    let manager = Manager::builder().tracing(Tracing::Full).build()?;
    let before = manager.census()?;
    let directory = a_function_on_the_way(&manager);
    let complaint = before.complaint().unwrap();
    assert!(complaint.contains("a_function_on_the_way"), "{complaint}");
    let first_frame =
        complaint.lines().find(|line| line.trim_start().split(": ").next().unwrap().parse::<u32>().is_ok());
    assert!(first_frame.unwrap().contains("a_function_on_the_way"), "the crate's own frames are left out: {complaint}");
    drop(directory);
    assert_balanced!(before);
    Ok(())
}

#[inline(never)]
fn a_guest_on_the_way(manager: &Manager) -> kobj::Guest {
    manager.root_job().create_guest().unwrap()
}

#[test]
fn guests_have_frames_too() -> Result<(), Error> {
    let manager = Manager::builder().tracing(Tracing::Full).build()?;
    let before = manager.census()?;
    let guest = a_guest_on_the_way(&manager);
    let left = before.left()?;
    assert!(left[0].frames.is_some());
    assert!(left[0].to_string().contains("a_guest_on_the_way"), "{}", left[0]);
    guest.kill()
}

#[test]
fn a_guest_or_job_that_was_let_go_lives_until_it_is_killed() -> Result<(), Error> {
    let manager = traced();
    let before = manager.census()?;
    let job = manager.root_job().create_job()?;
    let (job_koid, guest) = (job.koid()?, job.create_guest()?);
    let guest_koid = guest.koid();
    drop((guest, job));
    let complaint = before.complaint().expect("both live");
    assert!(complaint.contains(&format!("process {guest_koid}, made at ")), "{complaint}");
    assert!(complaint.contains(&format!("job {job_koid}, in which it stands")), "{complaint}");
    assert!(complaint.contains("lives until it is killed: Guest::kill, Job::kill"), "{complaint}");
    assert!(!complaint.contains("permanent name") && !complaint.contains("handles that are named"), "{complaint}");
    // Nobody has a handle to them: their embedder gets one by the id.
    assert!(matches!(manager.open::<types::Section>(job_koid), Err(Error::UnexpectedType { .. })));
    manager.open::<types::Job>(job_koid)?.kill()?;
    assert!(matches!(manager.open::<types::Process>(guest_koid), Err(Error::Dying { .. })));
    assert_balanced!(before);
    manager.audit().unwrap();
    Ok(())
}

#[test]
fn a_view_is_named_with_the_line_that_mapped_it() -> Result<(), Error> {
    for (manager, is_traced) in [(traced(), true), (Manager::embedded()?, false)] {
        let before = manager.census()?;
        let section = manager.caller().create_section(4096)?;
        let line = line!() + 1;
        let view = section.map(0..4096, Access::Read)?;
        drop(section);
        let complaint = before.complaint().expect("the section is left");
        let place = format!("view of process {}, mapped at {}:{line}:", manager.caller().koid(), file!());
        assert_eq!(complaint.contains(&place), is_traced, "{complaint}");
        assert_eq!(complaint.contains("1 of its views"), !is_traced, "{complaint}");
        assert!(complaint.contains("Drop the views."), "{complaint}");
        drop(view);
        assert_balanced!(before);
    }
    Ok(())
}

#[test]
fn handles_that_came_to_what_was_there_are_told() -> Result<(), Error> {
    for (manager, is_traced) in [(traced(), true), (Manager::embedded()?, false)] {
        let old = manager.caller().create_directory()?;
        let guest = manager.root_job().create_guest()?;
        let before = manager.census()?;
        let line = line!() + 1;
        let copy = old.duplicate(Rights::LOOKUP)?;
        let raw = guest.give(&old, Rights::LOOKUP)?.into_raw();
        let left = before.left()?;
        assert_eq!((left.len(), left[0].koid, left[0].handles_before), (1, old.koid()?, Some(1)));
        assert_eq!(left[0].handles.len(), if is_traced { 2 } else { 3 }, "{left:?}");
        let complaint = before.complaint().unwrap();
        assert!(complaint.starts_with("1 object that was there before has more handles:"), "{complaint}");
        assert_eq!(complaint.contains(&format!("duplicated at {}:{line}:", file!())), is_traced, "{complaint}");
        assert!(before.clone().minimum_age(Duration::from_secs(3600)).complaint().is_none());
        guest.caller().call(kobj::Call::Close { handle: raw })?;
        drop(copy);
        assert_balanced!(before);
    }
    Ok(())
}

#[test]
#[should_panic(expected = "after request 7: 1 object is left")]
fn a_message_may_follow() {
    let manager = Manager::embedded().unwrap();
    let before = manager.census().unwrap();
    assert_balanced!(before, "nothing is left after {}", 6);
    let _directory = manager.caller().create_directory().unwrap();
    assert_balanced!(before, "after request {}", 7);
}

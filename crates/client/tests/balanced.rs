//! A test suite that leaves nothing over: what `assert_balanced!` says, and what it lets pass.

use kobj::{AskedRights, Error, Link, Manager, Tracing, assert_balanced};
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
#[should_panic(expected = "no handle: a permanent name")]
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
    drop(directory);
    assert_balanced!(before);
    Ok(())
}

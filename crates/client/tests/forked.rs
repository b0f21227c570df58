//! A forked child has no part in its parent's manager: it is told so, and waits for nothing.

use kobj::{
    Access, AskedRights, ErrorCode, Manager, ObjectType, Open, RegisterError, Rights, SectionOptions, ViewError, types,
};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

struct Own;

impl ObjectType for Own {
    const TAG: [u8; 4] = *b"OWN_";
    const NAME: &'static str = "own";
    const DEFAULT_RIGHTS: Rights = Rights::INSPECT;
    type State = ();
}

/// The test forks by a program of its own: this test binary again, told to fork at once, so that no other test runs beside.
#[test]
fn a_forked_child_is_refused_everything_and_its_parent_nothing() {
    let me = std::env::current_exe().unwrap();
    let child = Command::new(me)
        .args(["--exact", "the_forking_program", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(
        text.contains("child: refused 13 of 13; parent: served, 1"),
        "{text} {}",
        String::from_utf8_lossy(&child.stderr)
    );
}

#[test]
#[ignore = "a program that the test above runs"]
fn the_forking_program() {
    let manager = Manager::embedded().unwrap();
    let me = manager.caller();
    let directory = me.create_directory().unwrap();
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    let view = me.create_section(8).unwrap().map(0..8, Access::ReadWrite).unwrap();
    view.write(0, &[1]).unwrap();
    let books = manager.system_directory().unwrap().open::<types::Type>("types/job", Open::new()).unwrap();
    let forked = kobj_platform::fork::in_a_child(|| {
        let refused = [
            me.create_directory().err(),
            directory.info().err(),
            directory.duplicate(AskedRights::Same).err(),
            manager.root_job().create_guest().err(),
            manager.root_directory().open::<types::Any>("x", Open::new()).err(),
            me.create_section(SectionOptions::new(4096)).err(),
            manager.census().err(),
            manager.system_directory().err(),
            books.books().err(),
        ];
        let refused = refused.iter().flatten().filter(|error| error.code() == ErrorCode::Forked).count()
            + usize::from(manager.register::<Own>().err() == Some(RegisterError::Forked));
        let of_the_view = [view.write(0, &[2]).err(), view.read(0, &mut [0]).err(), view.words().err()];
        let refused = refused + of_the_view.iter().filter(|error| **error == Some(ViewError::Forked)).count();
        _ = theirs.write_all(&[refused as u8]);
    });
    forked.unwrap();
    let mut refused = [0];
    ours.read_exact(&mut refused).unwrap();
    drop(directory);
    let parent = manager.register::<Own>().map_err(Box::<dyn std::error::Error>::from).is_ok();
    let served = if parent && me.create_directory().is_ok() { "served" } else { "refused" };
    let mut byte = [0];
    view.read(0, &mut byte).unwrap();
    println!("child: refused {} of 13; parent: {served}, {}", refused[0], byte[0]);
}

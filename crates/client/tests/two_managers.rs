//! Two managers of one program share nothing: what is of one is refused by the other, and nothing has changed then.

use kobj::{AskedRights, Error, ErrorCode, Guest, Link, Manager, ObjectType, Rights};

/// Two managers whose tables would give out the same numbers.
fn twins() -> (Manager, Manager) {
    (Manager::builder().seed(7).build().unwrap(), Manager::builder().seed(7).build().unwrap())
}

fn guest(manager: &Manager) -> Guest {
    manager.root_job().create_guest().unwrap()
}

#[test]
fn no_two_managers_give_out_the_same_ids() -> Result<(), Error> {
    let (one, other) = twins();
    for (one, other) in [(guest(&one), guest(&other)), (guest(&one), guest(&other))] {
        assert_ne!(one.koid(), other.koid());
        assert_ne!(one.caller().create_directory()?.koid()?, other.caller().create_directory()?.koid()?);
    }
    Ok(())
}

#[test]
fn a_guest_of_another_manager_gets_nothing_and_the_sender_keeps_its_handle() -> Result<(), Error> {
    let (one, other) = twins();
    let (mine, stranger) = (guest(&one), guest(&other));
    let before = (one.census()?, other.census()?);
    let directory = mine.caller().create_directory()?;
    let refused = mine.caller().transfer(directory.raw(), &stranger, AskedRights::Same).unwrap_err();
    assert_eq!(refused, Error::OtherManager { process: mine.koid(), other: stranger.koid() });
    assert!(matches!(stranger.give(&directory, Rights::LOOKUP), Err(Error::OtherManager { .. })));
    assert_eq!(directory.holders()?.len(), 1, "nobody else has it");
    assert_eq!(directory.holders()?[0].handles, 1);
    drop(directory);
    assert!(before.0.complaint().is_none() && before.1.complaint().is_none());
    Ok(())
}

#[test]
fn two_handles_of_a_call_are_of_one_process() -> Result<(), Error> {
    let (one, other) = twins();
    let (mine, theirs) = (one.caller().create_section(4096)?, other.caller().create_directory()?);
    assert_eq!(mine.raw(), theirs.raw(), "the same number, of two things");
    let root = one.root_directory();
    assert!(matches!(root.link("x", &theirs, Link::new()), Err(Error::OtherManager { .. })));
    assert_eq!(root.entries().count(), 0, "the section was not named in its place");

    let guest = guest(&one);
    let of_the_guest = guest.caller().create_directory()?;
    let refused = root.link("x", &of_the_guest, Link::new()).unwrap_err();
    let process = one.caller().koid();
    assert_eq!(refused, Error::OtherProcess { process, other: guest.koid() });
    assert_eq!(refused.code(), ErrorCode::BadArgument);

    let (root_job, job) = (one.root_job(), one.root_job().create_job()?);
    for error in [
        job.recharge(&theirs, &root_job).unwrap_err(),
        job.recharge(&mine, &other.root_job()).unwrap_err(),
        job.recharge(&of_the_guest, &root_job).unwrap_err(),
    ] {
        assert!(matches!(error, Error::OtherManager { .. } | Error::OtherProcess { .. }), "{error}");
    }
    job.recharge(&mine, &root_job)
}

#[test]
fn a_type_of_another_manager_is_not_registered() -> Result<(), Error> {
    #[derive(Debug)]
    struct Own;
    impl ObjectType for Own {
        const TAG: [u8; 4] = *b"OWN_";
        const NAME: &'static str = "own";
        const DEFAULT_RIGHTS: Rights = Rights::INSPECT;
        type State = ();
    }
    let (one, other) = twins();
    let (key, foreign) = (one.register::<Own>().unwrap(), other.register::<Own>().unwrap());
    let refused = one.caller().create(&foreign, ()).unwrap_err();
    assert_eq!(refused, Error::NotRegistered { letters: Own::TAG });
    let caller = one.caller();
    assert_eq!(caller.maker(&foreign).unwrap_err(), Error::NotRegistered { letters: Own::TAG });
    one.caller().create(&key, ()).map(drop)
}

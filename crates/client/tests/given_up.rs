//! Handles that are dropped after they have gone: nobody's mistake. And handles that are given back, since they were refused.

use kobj::{AskedRights, BadHandlePolicy, Call, Directory, Error, Guest, Manager, Resource, Rights, types};

/// A guest that was lent a handle, and whose job ends whoever names a bad one.
fn lent(manager: &Manager, policy: BadHandlePolicy) -> Result<(Guest, Directory, Directory), Error> {
    let job = manager.root_job().create_job()?;
    job.set_bad_handle_policy(policy)?;
    let guest = job.create_guest()?;
    let mine = manager.caller().create_directory()?;
    let lent = mine.derive(AskedRights::Same)?.transfer(&guest)?;
    Ok((guest, mine, lent))
}

#[test]
fn a_handle_that_was_taken_back_is_dropped_and_its_guest_lives() -> Result<(), Error> {
    for policy in [BadHandlePolicy::Kill, BadHandlePolicy::Trace] {
        let manager = Manager::embedded()?;
        let (guest, mine, lent) = lent(&manager, policy)?;
        mine.revoke()?;
        drop(lent);
        assert_eq!(manager.next_event(), None, "{policy:?}");
        guest.caller().create_directory()?;
    }
    Ok(())
}

#[test]
fn a_handle_that_its_guest_closed_by_its_number_is_dropped_and_the_guest_lives() -> Result<(), Error> {
    let manager = Manager::embedded()?;
    let (guest, _mine, lent) = lent(&manager, BadHandlePolicy::Kill)?;
    guest.caller().call(Call::Close { handle: lent.raw() })?;
    let raw = lent.raw();
    drop(lent);
    assert_eq!(manager.next_event(), None);
    guest.caller().create_directory()?;
    // The guest itself is not forgiven.
    assert!(guest.caller().call(Call::Close { handle: raw }).is_err());
    assert!(matches!(manager.next_event(), Some(kobj::Event::BadHandle { .. })));
    assert!(matches!(guest.caller().create_directory(), Err(Error::Dying { .. } | Error::NoProcess { .. })));
    Ok(())
}

#[test]
fn what_was_not_moved_is_given_back() -> Result<(), Error> {
    let manager = Manager::embedded()?;
    let receiver = manager.root_job().create_guest()?;
    receiver.process().set_quota(Resource::Handles, 0)?;
    let directory = manager.caller().create_directory()?;
    let koid = directory.koid()?;
    let refused = directory.transfer(&receiver).unwrap_err();
    assert!(matches!(refused.error, Error::Quota { .. }), "{refused}");
    assert_eq!(refused.handle.koid()?, koid);
    receiver.process().set_quota(Resource::Handles, 1)?;
    assert_eq!(refused.handle.transfer(&receiver)?.koid()?, koid);
    manager.audit().unwrap();
    Ok(())
}

#[test]
fn what_is_of_another_type_is_given_back_and_named() -> Result<(), Error> {
    let manager = Manager::embedded()?;
    let section = manager.caller().create_section(1)?;
    let koid = section.koid()?;
    let words = format!("object {koid} is of type section, not of type job as expected");
    let refused = section.into_any().into_typed::<types::Job>().unwrap_err();
    assert!(refused.to_string().contains(&words), "{refused}");
    let section = refused.handle.into_typed::<types::Section>()?;
    let adopted = manager.caller().adopt::<types::Job>(section.raw()).unwrap_err();
    assert!(adopted.to_string().contains(&words), "{adopted}");
    assert!(matches!(adopted, Error::UnexpectedType { .. }));
    section.info().map(drop)
}

#[test]
fn a_borrowed_number_is_used_and_stays_open() -> Result<(), Error> {
    let manager = Manager::embedded()?;
    let guest = manager.root_job().create_guest()?;
    let raw = guest.caller().create_section(4096)?.into_raw();
    {
        let section = guest.caller().borrow::<types::Section>(raw)?;
        section.map(0..4096, kobj::Access::ReadWrite)?.write(0, b"x").unwrap();
        assert!(section.rights()?.contains(Rights::MAP_WRITE));
    }
    assert!(matches!(guest.caller().borrow::<types::Directory>(raw), Err(Error::UnexpectedType { .. })));
    guest.caller().call(Call::Close { handle: raw }).map(drop)
}

//! Moving a handle between guests is one step: it needs no room at the sender's, and refused it leaves the handle.

use kobj::{AskedRights, Error, ErrorCode, Manager, Resource, Rights};

#[test]
fn a_sender_whose_quota_is_used_up_can_give_what_it_has() -> Result<(), Error> {
    let manager = Manager::embedded()?;
    let (sender, receiver) = (manager.root_job().create_guest()?, manager.root_job().create_guest()?);
    sender.process().set_quota(Resource::Handles, 1)?;
    let directory = sender.caller().create_directory()?;
    let koid = directory.koid()?;
    assert_eq!(sender.caller().create_directory().unwrap_err().code(), ErrorCode::Quota, "it has no room");
    let theirs = directory.transfer(&receiver)?;
    assert_eq!((theirs.koid()?, theirs.caller().koid()), (koid, receiver.koid()));
    drop(sender.caller().create_directory()?);
    manager.audit().unwrap();
    Ok(())
}

#[test]
fn a_handle_that_was_not_moved_is_as_it_was() -> Result<(), Error> {
    let manager = Manager::embedded()?;
    let (sender, receiver) = (manager.root_job().create_guest()?, manager.root_job().create_guest()?);
    let directory = sender.caller().create_directory()?;
    let refused = |rights| sender.caller().transfer(directory.raw(), &receiver, rights).unwrap_err().code();
    assert_eq!(refused(AskedRights::Exactly(Rights::MAP_WRITE | Rights::DESTROY)), ErrorCode::AccessDenied);
    assert_eq!(refused(AskedRights::Exactly(Rights::from_bits(1 << 15))), ErrorCode::BadArgument);
    receiver.process().set_quota(Resource::Handles, 0)?;
    assert_eq!(refused(AskedRights::Same), ErrorCode::Quota);
    receiver.kill()?;
    assert_eq!(refused(AskedRights::Same), ErrorCode::Dying);
    directory.info()?;
    manager.audit().unwrap();
    Ok(())
}

#[test]
fn to_oneself_a_handle_moves_without_room() -> Result<(), Error> {
    let manager = Manager::embedded()?;
    let guest = manager.root_job().create_guest()?;
    let directory = guest.caller().create_directory()?;
    let process = guest.give(guest.process(), Rights::WRITE)?;
    guest.process().set_quota(Resource::Handles, 2)?;
    assert_eq!(guest.caller().create_directory().unwrap_err().code(), ErrorCode::Quota, "it has no room");
    // By its embedder, and by a call of its own.
    let directory = directory.transfer(&guest)?;
    let call = kobj::Call::Transfer { handle: directory.raw(), process: process.raw(), rights: AskedRights::Same };
    guest.caller().call(call)?;
    assert!(directory.info().is_err(), "the number is another one");
    manager.audit().unwrap();
    Ok(())
}

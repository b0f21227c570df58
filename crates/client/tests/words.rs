//! Refusals say what is wrong in words that lead on.

use kobj::{AskedRights, Error, Manager, Open, Resource, TypeNumber, types};

#[test]
fn a_refusal_says_what_is_wrong() -> Result<(), Error> {
    let manager = Manager::embedded()?;
    let (me, root) = (manager.caller(), manager.root_directory());
    let error = root.open::<types::Any>("/inbox", Open::new()).unwrap_err().to_string();
    assert!(error.contains("none before the first or after the last"), "{error}");
    let error = root.unlink("/inbox").unwrap_err().to_string();
    assert!(error.contains("no '/' (also not at its beginning)"), "{error}");

    let mine = me.create_directory()?;
    let lent = mine.derive(AskedRights::Same)?;
    mine.revoke()?;
    let error = lent.rights().unwrap_err().to_string();
    assert!(error.contains("it was closed or taken back"), "{error}");

    let job = manager.root_job().create_job()?;
    let number = TypeNumber(999);
    assert_eq!(job.set_quota(Resource::ObjectsOf(number), 1), Err(Error::UnknownType { number }));

    let guest = job.create_guest()?;
    guest.process().set_quota(Resource::Bytes, 4096)?;
    let error = guest.caller().create_section(1 << 20).unwrap_err().to_string();
    assert!(error.contains("may have 4096 bytes") && error.contains("needs more than is left"), "{error}");
    Ok(())
}

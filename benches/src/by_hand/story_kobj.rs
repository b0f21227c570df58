//! The story of two guests, with kobj.

use super::Steps;
use kobj::{Error, Link, Manager, Open, Resource, Rights, types};

pub(super) fn story() -> Result<Steps, Error> {
    let manager = Manager::embedded()?;
    let before = manager.census()?;
    let job = manager.root_job().create_job()?;
    job.set_quota(Resource::Objects, 8)?;
    let (writer, reader) = (job.create_guest()?, job.create_guest()?);
    let theirs = writer.give(&manager.root_directory(), Rights::LOOKUP | Rights::CREATE | Rights::ENUMERATE)?;
    let looks = reader.give(&manager.root_directory(), Rights::LOOKUP)?;
    let mut steps = Steps::new();

    let inbox = writer.caller().create_directory()?;
    theirs.link("inbox", &inbox, Link::new().most(Rights::LOOKUP | Rights::ENUMERATE))?;
    let opened = looks.open::<types::Directory>("inbox", Open::new())?;
    steps.push(("refused to unlink", opened.unlink("anything").is_err()));
    let more = looks.open::<types::Directory>("inbox", Open::new().rights(Rights::REMOVE));
    steps.push(("refused to open for more", more.is_err()));

    let lent = inbox.derive(Rights::LOOKUP | Rights::TRANSFER)?.transfer(&reader)?;
    steps.push(("lent", lent.rights().is_ok()));
    inbox.revoke()?;
    steps.push(("revoked", lent.rights().is_err() && inbox.rights().is_ok()));

    let made: Vec<_> = std::iter::from_fn(|| writer.caller().create_directory().ok()).collect();
    steps.push(("five more find room", made.len() == 5));
    writer.kill()?;
    steps.push(("killed", inbox.rights().is_err() && opened.rights().is_ok()));
    drop(opened);
    let again = looks.open::<types::Directory>("inbox", Open::new());
    steps.push(("gone with its last handle", again.is_err()));

    job.kill()?;
    drop((writer, reader, job));
    steps.push(("balance 0", before.left()?.is_empty()));
    Ok(steps)
}

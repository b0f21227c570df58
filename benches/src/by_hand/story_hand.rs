//! The story of two guests, with what was written by hand.

use super::Steps;
use super::hand::{CREATE, ENUMERATE, Host, LOOKUP, REMOVE, Refused, TRANSFER};

pub(super) fn story() -> Result<Steps, Refused> {
    let host = Host::new()?;
    let job = Host::job(8);
    let (writer, theirs) = host.guest(&job, LOOKUP | CREATE | ENUMERATE)?;
    let (reader, looks) = host.guest(&job, LOOKUP)?;
    let mut steps = Steps::new();

    let inbox = writer.create_directory()?;
    writer.link(theirs, b"inbox", inbox, LOOKUP | ENUMERATE)?;
    let opened = reader.open(looks, b"inbox", None)?;
    steps.push(("refused to unlink", reader.unlink(opened, b"anything").is_err()));
    steps.push(("refused to open for more", reader.open(looks, b"inbox", Some(REMOVE)).is_err()));

    let derived = writer.derive(inbox, LOOKUP | TRANSFER)?;
    let lent = host.transfer(&writer, derived, &reader)?;
    steps.push(("lent", reader.get(lent, LOOKUP).is_ok()));
    host.revoke(&writer, inbox)?;
    steps.push(("revoked", reader.get(lent, LOOKUP).is_err() && writer.get(inbox, LOOKUP).is_ok()));

    let made = std::iter::from_fn(|| writer.create_directory().ok()).count();
    steps.push(("five more find room", made == 5));
    writer.kill();
    steps.push(("killed", writer.get(inbox, 0).is_err() && reader.get(opened, LOOKUP).is_ok()));
    reader.close(opened)?;
    steps.push(("gone with its last handle", reader.open(looks, b"inbox", None).is_err()));

    reader.kill();
    drop((writer, reader));
    steps.push(("balance 0", job.used() == 0));
    Ok(steps)
}

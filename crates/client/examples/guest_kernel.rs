//! A small kernel for guests: two processes, a handle passed with fewer rights, a quota refused, a revoke, a kill.
//!
//! `cargo run -p kobj --example guest_kernel`

use kobj::{Error, Link, Manager, Open, Resource, Rights, types};

fn main() -> Result<(), Error> {
    let manager = Manager::embedded()?;
    let live = || (manager.live::<types::Directory>(), manager.live::<types::Process>(), manager.live::<types::Job>());
    let before = live();

    // A job with a quota, and two guests in it. Neither can name, see or end anything that it was not given.
    let job = manager.root_job().create_job()?;
    job.set_quota(Resource::Objects, 8)?;
    let (writer, reader) = (job.create_guest()?, job.create_guest()?);
    println!("job {} with guests {} and {}", job.koid()?, writer.koid(), reader.koid());

    // The writer gets the root directory to work in, the reader may only look things up.
    let root = manager.root_directory();
    let theirs = writer.give(&root, Rights::LOOKUP | Rights::CREATE | Rights::ENUMERATE)?;
    let looks = reader.give(&root, Rights::LOOKUP)?;

    // The writer makes a directory and names it; whoever opens it may look up and list, and nothing more.
    let inbox = writer.caller().create_directory()?;
    theirs.link("inbox", &inbox, Link::new().most(Rights::LOOKUP | Rights::ENUMERATE))?;
    let opened = looks.open::<types::Directory>("inbox", Open::new())?;
    println!("the reader opened inbox with rights {}", opened.info()?.named_rights());
    let refused = opened.unlink("anything").unwrap_err();
    println!("refused: {refused}");
    let refused = looks.open::<types::Directory>("inbox", Open::new().rights(Rights::REMOVE)).unwrap_err();
    println!("refused: {refused}");

    // A handle passed on with fewer rights, to be taken back at will.
    let lent = inbox.derive(Rights::LOOKUP | Rights::TRANSFER)?.transfer(&reader)?;
    println!("the reader was lent {} with rights {}", lent.koid()?, lent.info()?.named_rights());
    inbox.revoke()?;
    println!("after the revoke: {}", lent.rights().unwrap_err());
    assert!(inbox.rights().is_ok(), "the writer's own handle stays");

    // The quota is exact: three objects live in the job (two guests and the inbox), five more find room.
    let made: Vec<_> = std::iter::from_fn(|| writer.caller().create_directory().ok()).collect();
    println!("the writer made {} more, then: {}", made.len(), writer.caller().create_directory().unwrap_err());
    assert_eq!(made.len(), 5);

    // The writer ends in the middle of it all. Its handles, its objects and its name are gone with it.
    writer.kill()?;
    println!("{:?}", manager.next_event().expect("the embedder is told"));
    println!("the reader still has the inbox: {}", opened.info()?.named_rights());
    drop((opened, lent, looks, inbox, theirs, made));
    println!("and then nobody: {}", root.open::<types::Directory>("inbox", Open::new()).unwrap_err());

    job.kill()?;
    drop((writer, reader, job));
    manager.settle();
    assert_eq!(before, live());
    manager.audit().expect("the books agree with what is there");
    println!("balance 0");
    Ok(())
}

//! Guests in WebAssembly whose resource table is kobj: one traps, one loops on stale handles, one leaks.
//!
//! `cargo run --manifest-path examples/wasm-host/Cargo.toml`
#![forbid(unsafe_code)]

mod host;

use host::{Host, Instance};
use kobj::{BadHandlePolicy, Event, KillReason, Manager, RawHandle, Resource, Rights, Tracing, assert_balanced};
use std::error::Error;
use std::rc::Rc;
use wasmi::TrapCode;

/// What a guest may do with the root directory, its start.
const START: Rights = Rights::LOOKUP.union(Rights::CREATE).union(Rights::REMOVE);

fn main() -> Result<(), Box<dyn Error>> {
    let manager = Manager::builder().tracing(Tracing::Place).build()?;
    let before = manager.census()?;
    let host = Host::new(manager.clone());
    let job = manager.root_job().create_job()?;
    job.set_quota(Resource::Objects, 16)?;

    a_trap(&host, &job)?;
    stale_handles(&host, &job)?;
    a_leak(&host, &job)?;

    job.kill()?;
    drop(job);
    assert_balanced!(before);
    manager.audit().map_err(|imbalance| format!("{imbalance:?}"))?;
    println!("balance {}", before.left()?.len());
    Ok(())
}

/// The root directory, in a guest's own table.
fn start(host: &Rc<Host>, guest: &Instance) -> Result<RawHandle, kobj::Error> {
    Ok(guest.process.give(&host.manager.root_directory(), START)?.into_raw())
}

fn trap_of(error: &(dyn Error + 'static)) -> Option<TrapCode> {
    error.downcast_ref::<wasmi::Error>()?.as_trap_code()
}

/// The writer traps with four handles open. What it lent lives on as long as the reader has it; all else goes with it.
fn a_trap(host: &Rc<Host>, job: &kobj::Job) -> Result<(), Box<dyn Error>> {
    let before = host.manager.census()?;
    let reader = Instance::new(host, job, "reader", None)?;
    let writer = Instance::new(host, job, "writer", Some(&reader))?;
    let error = writer.run(include_str!("../guests/writer.wat"), start(host, &writer)?).unwrap_err();
    println!("writer: {error}");
    assert_eq!(trap_of(&*error), Some(TrapCode::UnreachableCodeReached));
    // Two processes, the inbox, what the writer was about to use, and its handle to the root directory.
    assert_eq!(before.left()?.len(), 5);
    writer.process.kill()?;
    assert_eq!(before.left()?.len(), 3, "the inbox is the reader's, too; what nobody else has is gone");
    let answer = reader.run(include_str!("../guests/reader.wat"), start(host, &reader)?)?;
    assert_eq!(answer, 0, "the reader was refused what it may not do, and could do what it may");
    println!("reader: was lent the inbox, refused more than to look, and has closed it");
    reader.process.kill()?;
    drop((reader, writer));
    assert_balanced!(before);
    Ok(())
}

/// The same guest under both policies: ended by kobj at its first stale handle, or told about until its fuel is used up.
fn stale_handles(host: &Rc<Host>, job: &kobj::Job) -> Result<(), Box<dyn Error>> {
    let before = host.manager.census()?;
    for policy in [BadHandlePolicy::Kill, BadHandlePolicy::Trace] {
        let own = job.create_job()?;
        own.set_bad_handle_policy(policy)?;
        let guest = Instance::new(host, &own, "stale", None)?;
        let error = guest.run(include_str!("../guests/stale.wat"), start(host, &guest)?).unwrap_err();
        let koid = guest.process.koid();
        let told = host.count(|event| matches!(event, Event::BadHandle { process, .. } if *process == koid));
        let ended = Event::Killed { process: koid, reason: KillReason::BadHandle };
        let by_kobj = host.count(|event| *event == ended);
        println!("stale, policy {policy:?}: {error}; {told} bad handles");
        match policy {
            BadHandlePolicy::Kill => assert_eq!((told, by_kobj), (1, 1)),
            _ => assert!(by_kobj == 0 && told > 100 && trap_of(&*error) == Some(TrapCode::OutOfFuel)),
        }
        own.kill()?;
    }
    assert_balanced!(before);
    Ok(())
}

/// The leaker returns as if all were well. What it has left is named by the calls that made it, and goes when it is killed.
fn a_leak(host: &Rc<Host>, job: &kobj::Job) -> Result<(), Box<dyn Error>> {
    let guest = Instance::new(host, job, "leaker", None)?;
    let start = start(host, &guest)?;
    let before = host.manager.census()?;
    assert_eq!(guest.run(include_str!("../guests/leaker.wat"), start)?, 0);
    let left = before.left()?;
    println!("leaker: returned 0 and left {} objects:", left.len());
    let calls: Vec<Vec<String>> = left.iter().map(|object| guest.calls(object.koid)).collect();
    for (object, calls) in left.iter().zip(&calls) {
        println!(
            "  {} {}, handles: {}; made by {}",
            object.type_name,
            object.koid,
            object.handles.len(),
            calls.join("; ")
        );
    }
    assert_eq!(calls, [vec!["leaker, call 1: create"], vec!["leaker, call 4: create", "leaker, call 5: duplicate"]]);
    guest.process.kill()?;
    assert_balanced!(before);
    println!("leaker: killed, nothing of it is left");
    Ok(())
}

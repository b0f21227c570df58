//! Two steps to an end: reserved and asked for, then committed or undone by what became of it.

use super::{NOW, Row, core, ends, gone, host, job, left, living, nothing_left, outsider, segment, stranger};
use kobj_abi::{Koid, LinkKind, ObjectType};
use kobj_core::types::process;
use kobj_core::{Answer, CloseError, Core, DoneError, Effect, EndError, Outcome, ScrubError, Ticket, WrongType};

fn object(core: &mut Core) -> [Koid; 2] {
    let job = job(core);
    [job, host(core, job, 1)]
}

pub(super) const ROWS: &[Row] = &[
    ("a scrub asks for an effect with the image", |_| {
        let mut core = core();
        let [_, koid] = object(&mut core);
        let ticket = core.begin_scrub(koid).unwrap();
        let effects = core.take_effects();
        assert_eq!(effects.list, [Effect::Scrub { ticket, koid, image: segment(1).into() }]);
        assert!(core.take_effects().list.is_empty(), "each effect is given once");
        left(core, 2);
    }),
    ("a scrub that was done destroys", |_| {
        let mut core = core();
        let [_, koid] = object(&mut core);
        let ticket = core.begin_scrub(koid).unwrap();
        assert_eq!(core.done(ticket, Outcome::Destroyed), Ok(Answer::Destroyed(ends(&[]))));
        assert!(core.query(koid).is_err());
        left(core, 1);
    }),
    ("a scrub that was not done is undone", |_| {
        let mut core = core();
        let [_, koid] = object(&mut core);
        let ticket = core.begin_scrub(koid).unwrap();
        assert_eq!(core.done(ticket, Outcome::Left), Ok(Answer::Left));
        assert!(core.begin_scrub(koid).is_ok(), "it is as it was");
        left(core, 2);
    }),
    ("a scrub is begun once", |_| {
        let mut core = core();
        let [_, koid] = object(&mut core);
        let ticket = core.begin_scrub(koid).unwrap();
        assert_eq!(core.begin_scrub(koid), Err(ScrubError::Reserved { koid, ticket }));
        left(core, 2);
    }),
    ("what is reserved is not closed", |_| {
        let mut core = core();
        let [_, koid] = object(&mut core);
        let ticket = core.begin_scrub(koid).unwrap();
        assert_eq!(core.close(koid), Err(CloseError::Reserved { koid, ticket }));
        left(core, 2);
    }),
    ("a job is not scrubbed", |_| {
        let mut core = core();
        let [job, _] = object(&mut core);
        let wrong = WrongType { koid: job, found: ObjectType::Job, wanted: ObjectType::HostObject };
        assert_eq!(core.begin_scrub(job), Err(ScrubError::WrongType(wrong)));
        left(core, 2);
    }),
    ("a scrub names who still held the object", |_| {
        let mut core = core();
        let [_, koid] = object(&mut core);
        let holder = outsider(&mut core, 9);
        core.link(holder, LinkKind::Holds, koid).unwrap();
        let ticket = core.begin_scrub(koid).unwrap();
        let wanted = Answer::Destroyed(ends(&[(holder, LinkKind::Holds)]));
        assert_eq!(core.done(ticket, Outcome::Destroyed), Ok(wanted));
        left(core, 2);
    }),
    ("a ticket is settled once", |_| {
        let mut core = core();
        let [_, koid] = object(&mut core);
        let ticket = core.begin_scrub(koid).unwrap();
        core.done(ticket, Outcome::Left).unwrap();
        assert_eq!(core.done(ticket, Outcome::Left), Err(DoneError::NoTicket { ticket }));
        left(core, 2);
    }),
    ("a ticket that was never given is refused", |_| {
        let mut core = core();
        let ticket = Ticket(1);
        assert_eq!(core.done(ticket, Outcome::Destroyed), Err(DoneError::NoTicket { ticket }));
        nothing_left(core);
    }),
    ("a held object that is scrubbed is gone, its memory later", |_| {
        let mut core = core();
        let [_, koid] = object(&mut core);
        core.reference(koid).unwrap();
        let ticket = core.begin_scrub(koid).unwrap();
        core.done(ticket, Outcome::Destroyed).unwrap();
        assert!(core.query(koid).is_err());
        core.release(koid).unwrap();
        assert!(core.release(koid).is_err());
        left(core, 1);
    }),
    ("a process's end asks for an effect with pid and start", |_| {
        let mut core = core();
        let koid = outsider(&mut core, 9);
        let ticket = core.end_process(koid).unwrap();
        assert_eq!(core.take_effects().list, [Effect::EndProcess { ticket, koid, pid: 9, started: 77 }]);
        left(core, 1);
    }),
    ("a process is asked to end once", |_| {
        let mut core = core();
        let koid = outsider(&mut core, 9);
        let ticket = core.end_process(koid).unwrap();
        assert_eq!(core.end_process(koid), Err(EndError::Reserved { koid, ticket }));
        left(core, 1);
    }),
    ("a process that has ended is not ended", |_| {
        let mut core = core();
        let ended = process::Request { ended: true, ..living(2) };
        let koid = core.create_process(NOW, None, ended, None).unwrap();
        assert_eq!(core.end_process(koid), Err(EndError::Ended { koid }));
        left(core, 1);
    }),
    ("a process that ends lets go of what it held", |_| {
        let mut core = core();
        let [_, koid] = object(&mut core);
        let holder = outsider(&mut core, 9);
        core.link(holder, LinkKind::Holds, koid).unwrap();
        core.close(koid).unwrap();
        assert_eq!(core.process_ended(holder), Ok(ends(&[])));
        assert!(core.query(koid).is_err());
        left(core, 1);
    }),
    ("a process that was seen to end settles the effect under way", |_| {
        let mut core = core();
        let koid = outsider(&mut core, 9);
        let ticket = core.end_process(koid).unwrap();
        core.process_ended(koid).unwrap();
        assert_eq!(core.done(ticket, Outcome::Destroyed), Ok(Answer::Settled));
        assert_eq!(core.process_ended(koid), Err(EndError::NoObject(gone(koid))));
        nothing_left(core);
    }),
    ("only a process is ended", |_| {
        let mut core = core();
        let [job, _] = object(&mut core);
        assert!(matches!(core.end_process(job), Err(EndError::WrongType(wrong)) if wrong.koid == job));
        assert!(matches!(core.process_ended(stranger()), Err(EndError::NoObject(_))));
        left(core, 2);
    }),
    ("an object under way at the end is left, and named", |_| {
        let mut core = core();
        let [job, koid] = object(&mut core);
        core.begin_scrub(koid).unwrap();
        let ending = core.finish().unwrap();
        assert_eq!([ending.left[0].tag.koid, ending.left[1].tag.koid], [job, koid]);
    }),
];

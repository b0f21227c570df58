//! Links: between whom, what each kind keeps, what they answer to "why".

use super::{Row, core, drain, gone, host, job, left, living, never, nothing_left, outsider, stranger};
use crate::rows::NOW;
use kobj_abi::{Koid, LinkKind};
use kobj_core::types::process;
use kobj_core::{Core, LinkError, LinkId, QueryError, UnlinkError};

/// A job with two objects in it.
fn two(core: &mut Core) -> [Koid; 3] {
    let job = job(core);
    [job, host(core, job, 1), host(core, job, 2)]
}

/// Whether the second object lives on by that link from the first alone, and goes when the link is cut.
fn target_lives_by(kind: LinkKind, from_process: bool) -> bool {
    let mut core = core();
    let [_, first, target] = two(&mut core);
    let source = if from_process { outsider(&mut core, 9) } else { first };
    let link = core.link(source, kind, target).unwrap();
    core.close(target).unwrap();
    let lives = core.query(target).is_ok();
    if lives {
        core.unlink(link).unwrap();
        assert!(core.query(target).is_err(), "kept though the link is cut");
    }
    drain(&mut core);
    lives
}

pub(super) const ROWS: &[Row] = &[
    ("what a process holds lives", |_| assert!(target_lives_by(LinkKind::Holds, true))),
    ("what a process waits on lives", |_| assert!(target_lives_by(LinkKind::WaitsOn, true))),
    ("what an object exports lives", |_| assert!(target_lives_by(LinkKind::Exports, false))),
    ("what an object is derived from lives", |_| assert!(target_lives_by(LinkKind::DerivedFrom, false))),
    ("having made an object keeps it not", |_| assert!(!target_lives_by(LinkKind::Owns, true))),
    ("what an object backs does not live by that", |_| assert!(!target_lives_by(LinkKind::Backs, false))),
    ("a store lives by what it backs", |_| {
        let mut core = core();
        let [_, store, mount] = two(&mut core);
        core.link(store, LinkKind::Backs, mount).unwrap();
        core.close(store).unwrap();
        assert!(core.query(store).is_ok());
        core.close(mount).unwrap();
        assert!(core.query(store).is_err());
        left(core, 1);
    }),
    ("containment is made by creating alone", |_| {
        let mut core = core();
        let [job, object, _] = two(&mut core);
        let refused = core.link(job, LinkKind::Contains, object);
        assert_eq!(refused, Err(LinkError::Containment { target: object }));
        left(core, 3);
    }),
    ("containment is ended by closing alone", |_| {
        let mut core = core();
        two(&mut core);
        let home = LinkId::from_words(0, 1).unwrap();
        assert_eq!(core.unlink(home), Err(UnlinkError::Containment { link: home }));
        left(core, 3);
    }),
    ("nothing is linked to itself", |_| {
        let mut core = core();
        let [_, object, _] = two(&mut core);
        let refused = core.link(object, LinkKind::Backs, object);
        assert_eq!(refused, Err(LinkError::Itself { koid: object }));
        left(core, 3);
    }),
    ("types that do not go with a link are refused", |_| {
        let mut core = core();
        let [_, source, target] = two(&mut core);
        let kind = LinkKind::Holds;
        assert_eq!(core.link(source, kind, target), Err(LinkError::NotAllowed { source, kind, target }));
        left(core, 3);
    }),
    ("what never was is not linked", |_| {
        let mut core = core();
        let [_, object, _] = two(&mut core);
        let refused = core.link(object, LinkKind::Backs, stranger());
        assert_eq!(refused, Err(LinkError::NoObject(never(stranger()))));
        left(core, 3);
    }),
    ("a process that has ended holds nothing", |_| {
        let mut core = core();
        let [job, object, _] = two(&mut core);
        let ended = process::Request { ended: true, ..living(2) };
        let ended = core.create_process(NOW, Some(job), ended, None).unwrap();
        assert_eq!(core.link(ended, LinkKind::Holds, object), Err(LinkError::Ended { koid: ended }));
        left(core, 4);
    }),
    ("a link is cut once", |_| {
        let mut core = core();
        let [_, source, target] = two(&mut core);
        let link = core.link(source, LinkKind::Backs, target).unwrap();
        core.unlink(link).unwrap();
        assert_eq!(core.unlink(link), Err(UnlinkError::NoLink { link }));
        left(core, 3);
    }),
    ("a cut link's id is not the next one's", |_| {
        let mut core = core();
        let [_, source, target] = two(&mut core);
        let link = core.link(source, LinkKind::Backs, target).unwrap();
        core.unlink(link).unwrap();
        let next = core.link(source, LinkKind::Backs, target).unwrap();
        assert_eq!(link.to_words().0, next.to_words().0, "the place is used again");
        assert_eq!(core.unlink(link), Err(UnlinkError::NoLink { link }));
        core.unlink(next).unwrap();
        left(core, 3);
    }),
    ("why: a job keeps what it contains", |_| {
        let mut core = core();
        let [job, object, _] = two(&mut core);
        assert_eq!(core.why(object).unwrap().chain, [(job, LinkKind::Contains)]);
        left(core, 3);
    }),
    ("why: a root is kept by nothing", |_| {
        let mut core = core();
        let process = outsider(&mut core, 9);
        let why = core.why(process).unwrap();
        assert!(why.rooted && why.chain.is_empty());
        left(core, 1);
    }),
    ("why: the chain leads from a living process", |_| {
        let mut core = core();
        let [_, disk, mount] = two(&mut core);
        let holder = outsider(&mut core, 9);
        core.link(disk, LinkKind::Backs, mount).unwrap();
        core.link(holder, LinkKind::Holds, mount).unwrap();
        [disk, mount].into_iter().for_each(|object| core.close(object).unwrap());
        let chain = [(holder, LinkKind::Holds), (mount, LinkKind::Backs)];
        assert_eq!(core.why(disk).unwrap().chain, chain);
        left(core, 4);
    }),
    ("why: the shorter of two chains", |_| {
        let mut core = core();
        let [job, disk, mount] = two(&mut core);
        let holder = outsider(&mut core, 9);
        core.link(disk, LinkKind::Backs, mount).unwrap();
        core.link(holder, LinkKind::Holds, mount).unwrap();
        assert_eq!(core.why(disk).unwrap().chain, [(job, LinkKind::Contains)]);
        left(core, 4);
    }),
    ("why: a circle has no root", |_| {
        let mut core = core();
        let [job, one, other] = two(&mut core);
        core.link(one, LinkKind::DerivedFrom, other).unwrap();
        core.link(other, LinkKind::DerivedFrom, one).unwrap();
        [one, other].into_iter().for_each(|object| core.close(object).unwrap());
        let why = core.why(one).unwrap();
        assert!(!why.rooted && why.chain.is_empty());
        core.kill_job(job).unwrap();
        drain(&mut core);
        assert!(core.query(one).is_err(), "a job's end ends circles too");
        nothing_left(core);
    }),
    ("why: what is gone has no answer", |_| {
        let mut core = core();
        let [_, object, _] = two(&mut core);
        core.close(object).unwrap();
        assert_eq!(core.why(object), Err(QueryError::NoObject(gone(object))));
        left(core, 2);
    }),
];

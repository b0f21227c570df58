//! What keeps an object: its job, callers that hold it, links. What keeps it no longer ends it.

use super::{
    NOW, Row, core, drain, gone, host, job, left, living, never, nothing_left, outsider, small_steps, stranger,
};
use alloc::vec::Vec;
use kobj_abi::{Koid, LinkKind, ObjectType};
use kobj_core::{CloseError, CreateError, QueryError, ReferenceError, ReleaseError};

pub(super) const ROWS: &[Row] = &[
    ("a closed object that nothing keeps is gone", |_| {
        let mut core = core();
        let job = job(&mut core);
        let object = host(&mut core, job, 1);
        core.close(object).unwrap();
        assert_eq!(core.query(object), Err(QueryError::NoObject(gone(object))));
        left(core, 1);
    }),
    ("a held object outlives its job's hold", |_| {
        let mut core = core();
        let job = job(&mut core);
        let object = host(&mut core, job, 1);
        core.reference(object).unwrap();
        core.close(object).unwrap();
        assert_eq!(core.query(object).unwrap().references, 1);
        core.release(object).unwrap();
        assert!(core.query(object).is_err());
        left(core, 1);
    }),
    ("an object is closed once", |_| {
        let mut core = core();
        let job = job(&mut core);
        let object = host(&mut core, job, 1);
        core.reference(object).unwrap();
        core.close(object).unwrap();
        assert_eq!(core.close(object), Err(CloseError::Closed { koid: object }));
        left(core, 2);
    }),
    ("what is gone is not closed", |_| {
        let mut core = core();
        let job = job(&mut core);
        core.close(job).unwrap();
        assert_eq!(core.close(job), Err(CloseError::NoObject(gone(job))));
        nothing_left(core);
    }),
    ("each hold is given back by itself", |_| {
        let mut core = core();
        let job = job(&mut core);
        (0..3).for_each(|_| core.reference(job).unwrap());
        assert_eq!(core.query(job).unwrap().held, 3);
        (0..3).for_each(|_| core.release(job).unwrap());
        assert_eq!(core.query(job).unwrap().references, 1);
        left(core, 1);
    }),
    ("what is not held is not given back", |_| {
        let mut core = core();
        let job = job(&mut core);
        assert_eq!(core.release(job), Err(ReleaseError::NotHeld { koid: job }));
        left(core, 1);
    }),
    ("what never was is not held", |_| {
        let mut core = core();
        assert_eq!(core.reference(stranger()), Err(ReferenceError::NoObject(never(stranger()))));
        nothing_left(core);
    }),
    ("a job is closed when it is empty", |_| {
        let mut core = core();
        let job = job(&mut core);
        let object = host(&mut core, job, 1);
        assert_eq!(core.close(job), Err(CloseError::NotEmpty { koid: job, live: 1 }));
        core.close(object).unwrap();
        core.close(job).unwrap();
        nothing_left(core);
    }),
    ("a closed job that is held takes nothing new", |_| {
        let mut core = core();
        let job = job(&mut core);
        core.reference(job).unwrap();
        core.close(job).unwrap();
        assert_eq!(core.create_job(NOW, Some(job), None), Err(CreateError::JobDying { job }));
        core.release(job).unwrap();
        nothing_left(core);
    }),
    ("what lost its last reference is gone before its turn comes", |_| {
        let mut core = small_steps();
        let job = job(&mut core);
        let objects: Vec<Koid> = (0..8).map(|id| host(&mut core, job, id)).collect();
        for object in objects {
            core.close(object).unwrap();
            assert!(core.query(object).is_err());
        }
        drain(&mut core);
        left(core, 1);
    }),
    ("created less destroyed is live, at every moment", |_| {
        let mut core = core();
        let outer = job(&mut core);
        let inner = core.create_job(NOW, Some(outer), None).unwrap();
        for id in 0..100 {
            let object = host(&mut core, if id % 2 == 0 { outer } else { inner }, id);
            if id % 5 == 0 {
                core.close(object).unwrap();
            }
            core.audit().unwrap();
        }
        let books = core.balance().of(ObjectType::HostObject);
        assert_eq!((books.created, books.destroyed, books.live, books.peak), (100, 20, 80, 80));
        left(core, 82);
    }),
    ("a job's books are its own, not its inner job's", |_| {
        let mut core = core();
        let outer = job(&mut core);
        let inner = core.create_job(NOW, Some(outer), None).unwrap();
        host(&mut core, inner, 1);
        assert_eq!(core.job_balance(outer).unwrap().of(ObjectType::HostObject).live, 0);
        assert_eq!(core.job_balance(inner).unwrap().of(ObjectType::HostObject).live, 1);
        left(core, 3);
    }),
    ("only a job has books", |_| {
        let mut core = core();
        let process = outsider(&mut core, 7);
        assert!(matches!(core.job_balance(process), Err(QueryError::WrongType(wrong)) if wrong.koid == process));
        left(core, 1);
    }),
    ("what is left at the end is named, with what keeps it", |_| {
        let mut core = core();
        let job = job(&mut core);
        let object = host(&mut core, job, 1);
        let ending = core.finish().unwrap();
        assert_eq!(ending.left[1].tag.koid, object);
        assert_eq!(ending.left[1].why.chain, [(job, LinkKind::Contains)]);
    }),
    ("an object with a hundred holders is buried in bounded steps, and gone at once", |_| {
        let mut core = small_steps();
        let job = job(&mut core);
        let object = host(&mut core, job, 1);
        for pid in 1..=100 {
            let holder = core.create_process(NOW, None, living(pid), None).unwrap();
            core.link(holder, LinkKind::Holds, object).unwrap();
        }
        let ticket = core.begin_scrub(object).unwrap();
        core.done(ticket, kobj_core::Outcome::Destroyed).unwrap();
        assert!(core.query(object).is_err());
        assert!(drain(&mut core) >= 100);
        left(core, 101);
    }),
    ("a chain of ten thousand ends in bounded steps", |_| {
        let mut core = small_steps();
        let job = job(&mut core);
        let first = host(&mut core, job, 0);
        let mut last = first;
        for id in 1..10_000 {
            let next = host(&mut core, job, id);
            core.link(last, LinkKind::DerivedFrom, next).unwrap();
            core.close(next).unwrap();
            last = next;
        }
        drain(&mut core);
        core.close(first).unwrap();
        assert!(drain(&mut core) >= 10_000 - 1);
        left(core, 1);
    }),
];

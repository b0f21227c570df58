//! What is made, under which identity, and what is refused.

use super::{NOW, Row, core, gone, host, job, left, living, never, nothing_left, outsider, segment, stranger};
use alloc::string::ToString;
use alloc::vec::Vec;
use kobj_abi::{Era, Koid, ObjectType};
use kobj_core::types::{Detail, Image, Request, host_object, process};
use kobj_core::{
    Answer, Command, Core, CreateError, EraError, Limits, Missing, QueryError, ReferenceError, Refusal, WrongType,
};

pub(super) const ROWS: &[Row] = &[
    ("a first job needs no other job", |_| {
        let mut core = core();
        let job = job(&mut core);
        assert_eq!(core.query(job).unwrap().owner, None);
        left(core, 1);
    }),
    ("koids count up from 1 in their era", |_| {
        let mut core = core();
        assert_eq!(job(&mut core), Koid::new(Era(0x6924_e0a1), 1).unwrap());
        assert_eq!(job(&mut core), Koid::new(Era(0x6924_e0a1), 2).unwrap());
        left(core, 2);
    }),
    ("a tag says type and koid", |_| {
        let mut core = core();
        let job = job(&mut core);
        let object = host(&mut core, job, 1);
        assert_eq!(core.query(object).unwrap().tag.to_string(), "HOST-6924e0a1:00000002");
        left(core, 2);
    }),
    ("a koid is never used again, though its slot is", |_| {
        let mut core = core();
        let job = job(&mut core);
        let mut last = job;
        for id in 0..3000 {
            let object = host(&mut core, job, id);
            assert!(object > last);
            core.close(object).unwrap();
            assert_eq!(core.query(object), Err(QueryError::NoObject(gone(object))));
            last = object;
        }
        assert_eq!(core.live(), 1);
        left(core, 1);
    }),
    ("a refused creation uses up no koid", |_| {
        let mut core = core();
        let first = job(&mut core);
        assert!(core.create_process(NOW, None, living(0), None).is_err());
        assert_eq!(job(&mut core).to_string(), "6924e0a1:00000002", "after {first}");
        left(core, 2);
    }),
    ("an exhausted era refuses", |_| {
        let mut core = Core::with_limits(Era(5), Limits { koids_per_era: 1, ..Limits::default() });
        job(&mut core);
        assert_eq!(core.create_job(NOW, None, None), Err(CreateError::EraExhausted { era: Era(5) }));
        left(core, 1);
    }),
    ("a newer era goes on, and older koids stay good", |_| {
        let mut core = Core::with_limits(Era(5), Limits { koids_per_era: 1, ..Limits::default() });
        let old = job(&mut core);
        core.open_era(Era(9)).unwrap();
        assert_eq!(host(&mut core, old, 2), Koid::new(Era(9), 1).unwrap());
        assert!(core.query(old).is_ok());
        left(core, 2);
    }),
    ("an era is not opened twice, nor an older one", |_| {
        let mut core = Core::new(Era(5));
        assert_eq!(core.open_era(Era(5)), Err(EraError::NotNewer { era: Era(5), present: Era(5) }));
        assert_eq!(core.open_era(Era(4)), Err(EraError::NotNewer { era: Era(4), present: Era(5) }));
        nothing_left(core);
    }),
    ("a host object needs a job", |_| {
        let mut core = core();
        let request = Request::HostObject(host_object::Request { image: segment(1).into() });
        let (reply, _) = core.step(NOW, Command::Create { job: None, creator: None, name: None, request });
        let wanted = CreateError::NeedsJob { object_type: ObjectType::HostObject };
        assert_eq!(reply, Err(Refusal::Create(wanted)));
        nothing_left(core);
    }),
    ("a process may stand outside of all jobs", |_| {
        let mut core = core();
        let process = outsider(&mut core, 7);
        assert_eq!(core.query(process).unwrap().owner, None);
        left(core, 1);
    }),
    ("nothing is made in what is no job", |_| {
        let mut core = core();
        let process = outsider(&mut core, 7);
        let wrong = WrongType { koid: process, found: ObjectType::Process, wanted: ObjectType::Job };
        assert_eq!(core.create_job(NOW, Some(process), None), Err(CreateError::WrongType(wrong)));
        left(core, 1);
    }),
    ("nothing is made in a job that never was", |_| {
        let mut core = core();
        let refused = core.create_job(NOW, Some(stranger()), None);
        assert_eq!(refused, Err(CreateError::NoObject(never(stranger()))));
        nothing_left(core);
    }),
    ("nothing is made in a job that is gone", |_| {
        let mut core = core();
        let job = job(&mut core);
        core.close(job).unwrap();
        assert_eq!(core.create_job(NOW, Some(job), None), Err(CreateError::NoObject(gone(job))));
        nothing_left(core);
    }),
    ("jobs nest 32 levels deep, not one more", |_| {
        let mut core = core();
        let mut inner = job(&mut core);
        for _ in 0..32 {
            inner = core.create_job(NOW, Some(inner), None).unwrap();
        }
        let refused = core.create_job(NOW, Some(inner), None);
        assert_eq!(refused, Err(CreateError::TooDeep { job: inner, most: 32 }));
        left(core, 33);
    }),
    ("process id 0 is nobody's", |_| {
        let mut core = core();
        let refused = core.create_process(NOW, None, living(0), None);
        assert_eq!(refused, Err(CreateError::NoSuchPid { pid: 0 }));
        nothing_left(core);
    }),
    ("a name of the greatest length is kept whole", |_| {
        let mut core = Core::with_limits(Era(1), Limits { name_bytes: 100, ..Limits::default() });
        let job = core.create_job(NOW, None, Some(&[b'x'; 100])).unwrap();
        assert_eq!(core.query(job).unwrap().name.unwrap(), [b'x'; 100]);
        left(core, 1);
    }),
    ("a longer name is refused", |_| {
        let mut core = Core::with_limits(Era(1), Limits { name_bytes: 100, ..Limits::default() });
        let refused = core.create_job(NOW, None, Some(&[b'x'; 101]));
        assert_eq!(refused, Err(CreateError::NameTooLong { bytes: 101, most: 100 }));
        nothing_left(core);
    }),
    ("only a process is a maker", |_| {
        let mut core = core();
        let job = job(&mut core);
        let wrong = WrongType { koid: job, found: ObjectType::Job, wanted: ObjectType::Process };
        let refused = core.create_host_object(NOW, job, segment(1), Some(job));
        assert_eq!(refused, Err(CreateError::WrongType(wrong)));
        left(core, 1);
    }),
    ("a maker is remembered", |_| {
        let mut core = core();
        let job = job(&mut core);
        let maker = outsider(&mut core, 7);
        let object = core.create_host_object(NOW, job, segment(1), Some(maker)).unwrap();
        assert_eq!(core.query(object).unwrap().creator, Some(maker));
        left(core, 3);
    }),
    ("an image is given back as it was seen", |_| {
        let mut core = core();
        let job = job(&mut core);
        let object = host(&mut core, job, 7);
        assert_eq!(core.image(object), Ok(Image::HostObject(segment(7).into())));
        left(core, 2);
    }),
    ("a process is given back as it was seen", |_| {
        let mut core = core();
        let process = outsider(&mut core, 7);
        let wanted = process::Detail { pid: 7, started: 77, life: process::Life::Living };
        assert_eq!(core.query(process).unwrap().detail, Detail::Process(wanted));
        left(core, 1);
    }),
    ("the time of making is kept", |_| {
        let mut core = core();
        let job = job(&mut core);
        assert_eq!(core.query(job).unwrap().created, NOW);
        left(core, 1);
    }),
    ("a charge counts slot, state and name", |_| {
        let mut core = core();
        let [plain, named] = [None, Some(&b"four"[..])].map(|name| core.create_job(NOW, None, name).unwrap());
        let [plain, named] = [plain, named].map(|koid| core.query(koid).unwrap().charge_bytes);
        assert_eq!(named, plain + 4);
        assert_eq!(core.balance().charge_bytes, u64::from(plain + named));
        left(core, 2);
    }),
    ("what never was is told from what is gone", |_| {
        let mut core = core();
        let job = job(&mut core);
        core.close(job).unwrap();
        assert_eq!(core.reference(job), Err(ReferenceError::NoObject(Missing { koid: job, gone: true })));
        let missing = Missing { koid: stranger(), gone: false };
        assert_eq!(core.reference(stranger()), Err(ReferenceError::NoObject(missing)));
        nothing_left(core);
    }),
    ("the same commands give the same replies", |_| {
        let play = || {
            let mut core = core();
            let mut replies = Vec::new();
            let job = job(&mut core);
            for id in 0..20 {
                let koid = host(&mut core, job, id);
                let command = if id % 3 == 0 { Command::Close { koid } } else { Command::Query { koid } };
                replies.push(core.step(NOW, command));
            }
            assert!(matches!(replies[0].0, Ok(Answer::Closed)));
            left(core, 14);
            replies
        };
        assert_eq!(play(), play());
    }),
];

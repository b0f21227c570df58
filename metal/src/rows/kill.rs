//! A job's end: all in it, the inner first, in bounded steps, as often as asked.

use super::{NOW, Row, core, drain, host, job, left, living, nothing_left, small_steps, stranger};
use alloc::vec::Vec;
use kobj_abi::{Koid, ObjectType};
use kobj_core::{Answer, CreateError, Effect, KillError, Outcome};

/// The processes that are asked to end, in their order, with their tickets.
fn asked(effects: &[Effect]) -> Vec<(Koid, kobj_core::Ticket)> {
    let process = |effect: &Effect| match effect {
        Effect::EndProcess { koid, ticket, .. } => Some((*koid, *ticket)),
        Effect::Scrub { .. } | Effect::Killed { .. } | Effect::BadHandle { .. } => None,
    };
    effects.iter().filter_map(process).collect()
}

pub(super) const ROWS: &[Row] = &[
    ("a kill ends all that the job contains, and the job", |_| {
        let mut core = core();
        let outer = job(&mut core);
        let inner = core.create_job(NOW, Some(outer), None).unwrap();
        for id in 0..100 {
            host(&mut core, if id % 2 == 0 { outer } else { inner }, id);
        }
        core.kill_job(outer).unwrap();
        drain(&mut core);
        assert_eq!(core.balance().charge_bytes, 0);
        nothing_left(core);
    }),
    ("a dying job takes nothing new, nor do those in it", |_| {
        let mut core = small_steps();
        let outer = job(&mut core);
        let inner = core.create_job(NOW, Some(outer), None).unwrap();
        (0..9).map(|id| host(&mut core, inner, id)).for_each(drop);
        core.kill_job(outer).unwrap();
        assert_eq!(core.create_job(NOW, Some(outer), None), Err(CreateError::JobDying { job: outer }));
        assert_eq!(core.create_job(NOW, Some(inner), None), Err(CreateError::JobDying { job: inner }));
        drain(&mut core);
        nothing_left(core);
    }),
    ("a kill asks inner processes first, each once", |_| {
        let mut core = core();
        let outer = job(&mut core);
        let inner = core.create_job(NOW, Some(outer), None).unwrap();
        let above = core.create_process(NOW, Some(outer), living(1), None).unwrap();
        let below = core.create_process(NOW, Some(inner), living(2), None).unwrap();
        core.kill_job(outer).unwrap();
        core.kill_job(outer).unwrap();
        drain(&mut core);
        let asked: Vec<Koid> = asked(&core.take_effects().list).into_iter().map(|(koid, _)| koid).collect();
        assert_eq!(asked, [below, above]);
        left(core, 4);
    }),
    ("a process that would not end keeps its job dying", |_| {
        let mut core = core();
        let outer = job(&mut core);
        core.create_process(NOW, Some(outer), living(1), None).unwrap();
        core.kill_job(outer).unwrap();
        drain(&mut core);
        let (_, ticket) = asked(&core.take_effects().list)[0];
        core.done(ticket, Outcome::Left).unwrap();
        assert_eq!(core.create_job(NOW, Some(outer), None), Err(CreateError::JobDying { job: outer }));
        left(core, 2);
    }),
    ("a second kill tries again what is left", |_| {
        let mut core = core();
        let outer = job(&mut core);
        core.create_process(NOW, Some(outer), living(1), None).unwrap();
        for outcome in [Outcome::Left, Outcome::Destroyed] {
            core.kill_job(outer).unwrap();
            drain(&mut core);
            let (_, ticket) = asked(&core.take_effects().list)[0];
            core.done(ticket, outcome).unwrap();
        }
        drain(&mut core);
        nothing_left(core);
    }),
    ("a kill meets a scrub under way", |_| {
        let mut core = core();
        let outer = job(&mut core);
        let object = host(&mut core, outer, 1);
        let ticket = core.begin_scrub(object).unwrap();
        core.kill_job(outer).unwrap();
        drain(&mut core);
        assert_eq!(core.live(), 0);
        assert_eq!(core.done(ticket, Outcome::Left), Ok(Answer::Settled));
        nothing_left(core);
    }),
    ("a kill goes in bounded steps", |_| {
        let mut core = small_steps();
        let outer = job(&mut core);
        (0..500).map(|id| host(&mut core, outer, id)).for_each(drop);
        core.kill_job(outer).unwrap();
        assert!(drain(&mut core) >= 500);
        nothing_left(core);
    }),
    ("a kill touches no bystander", |_| {
        let mut core = core();
        let [doomed, other] = [(); 2].map(|()| job(&mut core));
        host(&mut core, doomed, 1);
        host(&mut core, other, 2);
        core.kill_job(doomed).unwrap();
        drain(&mut core);
        assert_eq!(core.job_balance(other).unwrap().of(ObjectType::HostObject).live, 1);
        left(core, 2);
    }),
    ("only a job is killed", |_| {
        let mut core = core();
        let outer = job(&mut core);
        let object = host(&mut core, outer, 1);
        assert!(matches!(core.kill_job(object), Err(KillError::WrongType(wrong)) if wrong.koid == object));
        assert!(matches!(core.kill_job(stranger()), Err(KillError::NoObject(_))));
        left(core, 2);
    }),
];

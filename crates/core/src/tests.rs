//! Tests of the manager as a whole: one for each invariant, and the paths that its users take.

use crate::image::{HostImage, Identity, Time};
use crate::types::{Detail, Image, process};
use crate::{
    Answer, CloseError, Command, Core, CreateError, DoneError, Effect, EndError, EraError, Imbalance, Limits,
    LinkError, LooseEnds, Missing, Outcome, QueryError, ReferenceError, Refusal, ReleaseError, ScrubError, Ticket,
    UnlinkError, WrongType,
};
use crate::{Keeps, LinkId};
use kobj_abi::{Era, HostKind, Koid, LinkKind, ObjectType};
use std::string::ToString;
use std::vec::Vec;

const NOW: Time = Time(1_000_000);

fn core() -> Core {
    Core::new(Era(0x6924_e0a1))
}

fn small_steps() -> Core {
    Core::with_limits(Era(1), Limits { work_per_step: 2, ..Limits::default() })
}

fn living(pid: u32) -> process::Request {
    process::Request { pid, started: 77, ended: false }
}

fn segment(id: i64) -> HostImage {
    HostImage::new(HostKind::SysvSegment, id.to_string().into_bytes(), Identity::Ipc { id, key: 0, uid: 0 })
}

fn host(core: &mut Core, job: Koid, id: i64) -> Koid {
    core.create_host_object(NOW, job, segment(id), None).unwrap()
}

fn drain(core: &mut Core) {
    while core.go_on() {}
    core.audit().unwrap();
}

fn gone(koid: Koid) -> Missing {
    Missing { koid, gone: true }
}

fn ends(keepers: &[(Koid, LinkKind)]) -> LooseEnds {
    LooseEnds { keepers: keepers.iter().copied().collect(), more: false }
}

/// The path of a job's end: what `kobj run` does.
#[test]
fn a_jobs_end_scrubs_what_it_may_and_names_what_is_left() {
    let mut core = core();
    let job = core.create_job(NOW, None, Some(b"train")).unwrap();
    let ended = process::Request { ended: true, ..living(4702) };
    let maker = core.create_process(NOW, Some(job), ended, Some(b"train.py")).unwrap();
    let stranger = core.create_process(NOW, None, living(5102), Some(b"other.py")).unwrap();
    let unused = core.create_host_object(NOW, job, segment(1), Some(maker)).unwrap();
    let used = core.create_host_object(NOW, job, segment(2), Some(maker)).unwrap();
    core.link(stranger, LinkKind::Holds, used).unwrap();
    assert_eq!(core.query(unused).unwrap().tag.to_string(), "HOST-6924e0a1:00000004");

    let ticket = core.begin_scrub(unused).unwrap();
    let effects = core.take_effects();
    assert_eq!(effects.list, [Effect::Scrub { ticket, koid: unused, image: segment(1).into() }]);
    assert_eq!(core.done(ticket, Outcome::Destroyed), Ok(Answer::Destroyed(ends(&[]))));
    let ticket = core.begin_scrub(used).unwrap();
    assert_eq!(core.done(ticket, Outcome::Left), Ok(Answer::Left));

    assert_eq!(core.query(unused), Err(QueryError::NoObject(gone(unused))));
    assert_eq!(core.why(used).unwrap().chain, [(stranger, LinkKind::Holds)]);
    let books = core.balance().of(ObjectType::HostObject);
    assert_eq!((books.created, books.destroyed, books.live, books.peak), (2, 1, 1, 2));
    assert_eq!(core.job_balance(job).unwrap().of(ObjectType::HostObject).live, 1);
    let ending = core.finish().unwrap();
    let left: Vec<Koid> = ending.left.iter().map(|left| left.tag.koid).collect();
    assert_eq!(left, [job, maker, stranger, used]);
    assert!(matches!(&ending.left[3].detail, Detail::HostObject(host) if host.name == b"2"));
}

/// Invariant 1: created - destroyed = live, for every type and job, at every moment, and zero at the end.
#[test]
fn the_balance_is_zero_when_all_has_ended() {
    let mut core = core();
    let outer = core.create_job(NOW, None, None).unwrap();
    let inner = core.create_job(NOW, Some(outer), None).unwrap();
    for id in 0..100 {
        host(&mut core, if id % 2 == 0 { outer } else { inner }, id);
        core.audit().unwrap();
    }
    assert!(core.job_balance(inner).unwrap().charge_bytes > 50 * 128);
    core.kill_job(outer).unwrap();
    drain(&mut core);
    let ending = core.finish().unwrap();
    assert!(ending.is_zero(), "{:?}", ending.left);
    let books = ending.balance.of(ObjectType::HostObject);
    assert_eq!((books.created, books.destroyed, books.live, books.peak), (100, 100, 0, 100));
    assert_eq!(ending.balance.charge_bytes, 0);
}

/// Invariant 2: a koid is never reused, though its slot is.
#[test]
fn a_koid_is_never_reused() {
    let mut core = core();
    let job = core.create_job(NOW, None, None).unwrap();
    let mut last = job;
    for id in 0..3000 {
        let object = host(&mut core, job, id);
        assert!(object > last);
        core.close(object).unwrap();
        assert_eq!(core.query(object), Err(QueryError::NoObject(gone(object))));
        assert_eq!(core.reference(object), Err(ReferenceError::NoObject(gone(object))));
        last = object;
    }
    assert_eq!(core.slab.live(), 1);
    assert_eq!(core.slab.iter().count(), 1, "slots are used again");
}

#[test]
fn an_exhausted_era_asks_for_a_newer_one() {
    let mut core = Core::with_limits(Era(5), Limits { koids_per_era: 2, ..Limits::default() });
    let job = core.create_job(NOW, None, None).unwrap();
    host(&mut core, job, 1);
    assert_eq!(core.create_job(NOW, None, None), Err(CreateError::EraExhausted { era: Era(5) }));
    assert_eq!(core.open_era(Era(5)), Err(EraError::NotNewer { era: Era(5), present: Era(5) }));
    core.open_era(Era(9)).unwrap();
    assert_eq!(host(&mut core, job, 2), Koid::new(Era(9), 1).unwrap());
    assert!(core.query(job).is_ok(), "older koids stay good");
}

/// Invariant 3: no memory is freed while referenced.
#[test]
fn what_is_held_outlives_its_jobs_hold_and_its_memory_outlives_its_end() {
    let mut core = core();
    let job = core.create_job(NOW, None, None).unwrap();
    let object = host(&mut core, job, 1);
    core.reference(object).unwrap();
    core.close(object).unwrap();
    assert_eq!(core.query(object).unwrap().references, 1);
    assert_eq!(core.close(object), Err(CloseError::Closed { koid: object }));
    let ticket = core.begin_scrub(object).unwrap();
    let answer = core.done(ticket, Outcome::Destroyed);
    assert_eq!(answer, Ok(Answer::Destroyed(LooseEnds { more: true, ..LooseEnds::default() })));
    assert_eq!(core.slab.dead(), 1, "the tag is gone, the memory is not");
    assert_eq!(core.query(object), Err(QueryError::NoObject(gone(object))));
    core.release(object).unwrap();
    assert_eq!(core.slab.dead(), 0);
    assert_eq!(core.release(object), Err(ReleaseError::NoObject(gone(object))));
    core.audit().unwrap();
}

/// An object is gone for every command when its last reference goes, though its tag is taken when its turn comes.
#[test]
fn what_lost_its_last_reference_is_gone_before_its_turn_comes() {
    let mut core = Core::with_limits(Era(1), Limits { work_per_step: 1, ..Limits::default() });
    let job = core.create_job(NOW, None, None).unwrap();
    let objects: Vec<Koid> = (0..8).map(|id| host(&mut core, job, id)).collect();
    let mut waiting = 0;
    for (closed, object) in (1..).zip(&objects) {
        core.close(*object).unwrap();
        for gone_by_now in &objects[..closed] {
            assert_eq!(core.query(*gone_by_now), Err(QueryError::NoObject(gone(*gone_by_now))));
            let missing = Err(ReferenceError::NoObject(gone(*gone_by_now)));
            assert_eq!(core.do_reference(*gone_by_now), missing);
        }
        let untouched = core.slab.iter().filter(|object| core.alive(object.place()).is_none()).count();
        waiting = waiting.max(untouched);
    }
    assert!(waiting > 0, "none had to wait: this proves nothing");
    drain(&mut core);
    assert_eq!(core.live(), 1);
}

/// Invariant 4: a chain of 10^6 is destroyed iteratively, a bounded piece in each step.
#[test]
fn a_chain_of_a_million_is_destroyed_in_bounded_steps() {
    // valgrind runs this a hundred times slower and has the same code to look at in a shorter chain.
    let under_valgrind = std::env::var("LD_PRELOAD").is_ok_and(|libraries| libraries.contains("vgpreload"));
    let length = if under_valgrind { 10_000 } else { 1_000_000 };
    let mut core = core();
    let job = core.create_job(NOW, None, None).unwrap();
    let mut head = host(&mut core, job, 0);
    for id in 1..length {
        let next = host(&mut core, job, id);
        core.link(next, LinkKind::DerivedFrom, head).unwrap();
        core.close(head).unwrap();
        head = next;
    }
    assert_eq!(core.live(), length as u32 + 1);
    core.close(head).unwrap();
    let mut steps = 0_u32;
    let mut before = core.live();
    loop {
        let (_, effects) = core.step(NOW, Command::Continue);
        assert!(before - core.live() <= core.limits.work_per_step);
        before = core.live();
        steps += 1;
        if !effects.more {
            break;
        }
    }
    assert!(steps >= length as u32 * 2 / core.limits.work_per_step, "{steps} steps");
    assert_eq!((core.live(), core.slab.dead()), (1, 0));
    core.audit().unwrap();
}

#[test]
fn an_object_with_many_links_is_buried_in_bounded_steps_and_gone_at_once() {
    let mut core = small_steps();
    let job = core.create_job(NOW, None, None).unwrap();
    let object = host(&mut core, job, 1);
    for pid in 1..=100 {
        let holder = core.create_process(NOW, None, living(pid), None).unwrap();
        core.link(holder, LinkKind::Holds, object).unwrap();
    }
    let ticket = core.begin_scrub(object).unwrap();
    let Ok(Answer::Destroyed(loose)) = core.done(ticket, Outcome::Destroyed) else { panic!("not destroyed") };
    assert_eq!((loose.keepers.len(), loose.more), (LooseEnds::MOST, true));
    assert_eq!(core.query(object), Err(QueryError::NoObject(gone(object))));
    assert_eq!(core.balance().of(ObjectType::HostObject).live, 0);
    let mut steps = 0;
    while core.go_on() {
        steps += 1;
    }
    assert!((45..=60).contains(&steps), "{steps}");
    core.audit().unwrap();
}

#[test]
fn a_kill_goes_bottom_up_asks_once_for_each_process_and_takes_no_new_children() {
    let mut core = small_steps();
    let outer = core.create_job(NOW, None, None).unwrap();
    let inner = core.create_job(NOW, Some(outer), None).unwrap();
    let above = core.create_process(NOW, Some(outer), living(1), None).unwrap();
    let below = core.create_process(NOW, Some(inner), living(2), None).unwrap();
    host(&mut core, inner, 1);
    core.kill_job(outer).unwrap();
    let refused = core.create_job(NOW, Some(inner), None);
    assert_eq!(refused, Err(CreateError::JobDying { job: inner }), "before the killer came down to it");
    core.kill_job(outer).unwrap();
    drain(&mut core);
    let asked: Vec<_> = core.take_effects().list;
    let [Effect::EndProcess { koid: first, ticket: one, .. }, Effect::EndProcess { koid: second, ticket: two, .. }] =
        asked[..]
    else {
        panic!("{asked:?}")
    };
    assert_eq!((first, second), (below, above), "the inner first, each once");
    assert_eq!(core.done(two, Outcome::Left), Ok(Answer::Left));
    core.done(one, Outcome::Destroyed).unwrap();
    drain(&mut core);
    assert!(core.query(inner).is_err(), "an empty dying job is over");
    assert!(core.query(outer).is_ok(), "a process is left in it");
    core.kill_job(outer).unwrap();
    drain(&mut core);
    let [Effect::EndProcess { koid, ticket, .. }] = core.take_effects().list[..] else { panic!("not tried again") };
    assert_eq!(koid, above);
    assert_eq!(core.process_ended(above), Ok(ends(&[])));
    drain(&mut core);
    assert_eq!(core.done(ticket, Outcome::Destroyed), Ok(Answer::Settled));
    assert_eq!(core.done(ticket, Outcome::Destroyed), Err(DoneError::NoTicket { ticket }));
    assert!(core.finish().unwrap().is_zero());
}

#[test]
fn a_kill_meets_a_scrub_under_way() {
    let mut core = core();
    let job = core.create_job(NOW, None, None).unwrap();
    let object = host(&mut core, job, 1);
    let ticket = core.begin_scrub(object).unwrap();
    assert_eq!(core.begin_scrub(object), Err(ScrubError::Reserved { koid: object, ticket }));
    assert_eq!(core.close(object), Err(CloseError::Reserved { koid: object, ticket }));
    core.kill_job(job).unwrap();
    drain(&mut core);
    assert_eq!((core.live(), core.slab.dead()), (0, 1));
    assert_eq!(core.done(ticket, Outcome::Left), Ok(Answer::Settled));
    assert_eq!(core.slab.dead(), 0);
}

/// What keeps a living process must not go before the process was asked to end: with it the process would be forgotten.
#[test]
fn a_kill_asks_a_process_that_only_a_doomed_object_keeps() {
    let mut core = core();
    let job = core.create_job(NOW, None, None).unwrap();
    let process = core.create_process(NOW, Some(job), living(7), None).unwrap();
    let keeper = host(&mut core, job, 1);
    core.link(keeper, LinkKind::DerivedFrom, process).unwrap();
    core.close(process).unwrap();
    core.kill_job(job).unwrap();
    drain(&mut core);
    let effects = core.take_effects().list;
    assert!(matches!(effects[..], [Effect::EndProcess { koid, .. }] if koid == process), "{effects:?}");
}

#[test]
fn asking_again_for_a_kill_that_waits_makes_no_work() {
    let mut core = Core::with_limits(Era(1), Limits { work_per_step: 1, ..Limits::default() });
    let [busy, waiting] = [(); 2].map(|()| core.create_job(NOW, None, None).unwrap());
    for id in 0..200 {
        host(&mut core, busy, id);
    }
    core.kill_job(busy).unwrap();
    (0..100).for_each(|_| core.kill_job(waiting).unwrap());
    assert_eq!(core.waiting_to_be_killed(), 1);
    drain(&mut core);
    assert_eq!(core.live(), 0);
}

/// Whatever goes while the killer stands on it, and whoever gets its place in the pool of links, the kill goes on.
#[test]
fn a_kill_goes_on_though_what_it_stands_on_is_destroyed() {
    for steps in 0..40 {
        let mut core = Core::with_limits(Era(1), Limits { work_per_step: 1, ..Limits::default() });
        let job = core.create_job(NOW, None, None).unwrap();
        let other = core.create_job(NOW, None, None).unwrap();
        let objects: Vec<Koid> = (0..5).map(|id| host(&mut core, job, id)).collect();
        core.kill_job(job).unwrap();
        for _ in 0..steps {
            core.go_on();
        }
        for object in objects {
            if let Ok(ticket) = core.begin_scrub(object) {
                core.done(ticket, Outcome::Destroyed).unwrap();
                // Burials come before killing: soon its link is somebody else's.
                (0..3).for_each(|_| drop(core.step(NOW, Command::Continue)));
                host(&mut core, other, 9);
            }
        }
        let bystanders = core.job_balance(other).unwrap().of(ObjectType::HostObject).live;
        drain(&mut core);
        assert!(core.query(job).is_err(), "after {steps} steps the kill lost its way");
        assert_eq!(core.job_balance(other).unwrap().of(ObjectType::HostObject).live, bystanders, "{steps} steps");
    }
}

#[test]
fn a_closed_job_that_somebody_holds_takes_no_new_objects() {
    let mut core = core();
    let job = core.create_job(NOW, None, None).unwrap();
    core.reference(job).unwrap();
    core.close(job).unwrap();
    let refused = core.create_host_object(NOW, job, segment(1), None);
    assert_eq!(refused, Err(CreateError::JobDying { job }));
    core.release(job).unwrap();
    assert!(core.finish().unwrap().is_zero());
}

#[test]
fn jobs_nest_to_a_limit_and_close_when_empty() {
    let mut core = core();
    let first = core.create_job(NOW, None, None).unwrap();
    let mut job = first;
    while let Ok(inner) = core.create_job(NOW, Some(job), None) {
        job = inner;
    }
    assert_eq!(core.live(), 33);
    assert!(matches!(core.create_job(NOW, Some(job), None), Err(CreateError::TooDeep { most: 32, .. })));
    assert_eq!(core.close(first), Err(CloseError::NotEmpty { koid: first, live: 1 }));
    core.close(job).unwrap();
    core.kill_job(first).unwrap();
    drain(&mut core);
    assert!(core.finish().unwrap().is_zero());
}

#[test]
fn why_gives_the_shortest_chain_and_knows_circles() {
    let mut core = core();
    let job = core.create_job(NOW, None, None).unwrap();
    let holder = core.create_process(NOW, None, living(9), None).unwrap();
    let [disk, loop_device, mount] = [1, 2, 3].map(|id| host(&mut core, job, id));
    let keep = |core: &mut Core| {
        core.link(disk, LinkKind::Backs, loop_device).unwrap();
        core.link(loop_device, LinkKind::Backs, mount).unwrap();
        core.link(holder, LinkKind::Holds, mount).unwrap()
    };
    let held = keep(&mut core);
    assert_eq!(core.why(disk).unwrap().chain, [(job, LinkKind::Contains)]);
    for object in [disk, loop_device, mount] {
        core.close(object).unwrap();
    }
    let chain = [(holder, LinkKind::Holds), (mount, LinkKind::Backs), (loop_device, LinkKind::Backs)];
    assert_eq!(core.why(disk).unwrap().chain, chain);
    let root = core.why(holder).unwrap();
    assert!(root.rooted && root.chain.is_empty());
    core.link(mount, LinkKind::Backs, disk).unwrap();
    core.unlink(held).unwrap();
    assert_eq!(core.unlink(held), Err(UnlinkError::NoLink { link: held }));
    let circle = core.why(disk).unwrap();
    assert!(!circle.rooted && circle.chain.is_empty());
    core.kill_job(job).unwrap();
    drain(&mut core);
    assert!(core.query(disk).is_err(), "a job's end ends circles too");
}

/// Each kind of link, between types that allow it: who lives on by it alone, and goes when it is cut.
#[test]
fn each_kind_of_link_keeps_what_it_says() {
    for kind in LinkKind::ALL {
        let mut core = core();
        let job = core.create_job(NOW, None, None).unwrap();
        let from_process = matches!(kind, LinkKind::Holds | LinkKind::Owns | LinkKind::WaitsOn);
        // A living process outside is a root; a host object is kept by a caller here.
        let source = match kind {
            LinkKind::Contains => job,
            _ if from_process => core.create_process(NOW, None, living(9), None).unwrap(),
            _ => host(&mut core, job, 1),
        };
        let target = host(&mut core, job, 2);
        if kind == LinkKind::Contains {
            assert_eq!(core.why(target).unwrap().chain, [(job, LinkKind::Contains)]);
            continue;
        }
        let link = core.link(source, kind, target).unwrap();
        let (keeper, kept) = match Keeps::of(kind) {
            Keeps::Source => (target, source),
            Keeps::Target | Keeps::Neither => (source, target),
        };
        core.reference(keeper).unwrap();
        core.close(kept).unwrap();
        assert_eq!(core.query(kept).is_ok(), Keeps::of(kind) != Keeps::Neither, "{}", kind.name());
        if core.unlink(link).is_ok() {
            assert!(core.query(kept).is_err(), "{} keeps though it is cut", kind.name());
        }
        core.release(keeper).unwrap();
        core.audit().unwrap();
    }
}

#[test]
fn a_process_that_ends_lets_go_of_what_it_held() {
    let mut core = core();
    let job = core.create_job(NOW, None, None).unwrap();
    let holder = core.create_process(NOW, None, living(9), None).unwrap();
    let object = host(&mut core, job, 1);
    core.link(holder, LinkKind::Holds, object).unwrap();
    core.close(object).unwrap();
    assert!(core.query(object).is_ok());
    let ticket = core.end_process(holder).unwrap();
    assert_eq!(core.end_process(holder), Err(EndError::Reserved { koid: holder, ticket }));
    core.done(ticket, Outcome::Destroyed).unwrap();
    assert!(core.query(object).is_err());
    core.audit().unwrap();
}

#[test]
fn wrong_commands_are_refused_by_name_and_change_nothing() {
    let mut core = core();
    let job = core.create_job(NOW, None, None).unwrap();
    let process = core.create_process(NOW, Some(job), living(1), Some(b"sh")).unwrap();
    let object = host(&mut core, job, 1);
    let never = Koid::new(Era(3), 3).unwrap();
    let missing = Missing { koid: never, gone: false };
    let before = *core.balance();
    let wrong = |found| WrongType { koid: job, found, wanted: ObjectType::HostObject };
    assert_eq!(core.begin_scrub(job), Err(ScrubError::WrongType(wrong(ObjectType::Job))));
    assert_eq!(core.begin_scrub(never), Err(ScrubError::NoObject(missing)));
    assert_eq!(core.link(job, LinkKind::Contains, object), Err(LinkError::Containment { target: object }));
    assert_eq!(core.link(object, LinkKind::Backs, object), Err(LinkError::Itself { koid: object }));
    let not_allowed = LinkError::NotAllowed { source: object, kind: LinkKind::Holds, target: process };
    assert_eq!(core.link(object, LinkKind::Holds, process), Err(not_allowed));
    assert_eq!(core.release(object), Err(ReleaseError::NotHeld { koid: object }));
    let home = LinkId::from_words(0, 1).unwrap();
    assert_eq!(core.unlink(home), Err(UnlinkError::Containment { link: home }));
    assert_eq!(
        core.create_job(NOW, Some(object), None).map_err(|error| error.to_string()).unwrap_err(),
        "object 6924e0a1:00000003 is a host-object, not a job; name a job"
    );
    assert_eq!(core.done(Ticket(1), Outcome::Left), Err(DoneError::NoTicket { ticket: Ticket(1) }));
    let long = [b'x'; 4097];
    assert_eq!(core.create_job(NOW, None, Some(&long)), Err(CreateError::NameTooLong { bytes: 4097, most: 4096 }));
    let ended = process::Request { ended: true, ..living(2) };
    let ended = core.create_process(NOW, Some(job), ended, None).unwrap();
    assert_eq!(core.link(ended, LinkKind::Holds, object), Err(LinkError::Ended { koid: ended }));
    assert_eq!(core.end_process(ended), Err(EndError::Ended { koid: ended }));
    core.close(ended).unwrap();
    assert_eq!(core.balance().live(), before.live());
    core.audit().unwrap();
    let (reply, effects) = core.step(NOW, Command::BeginScrub { koid: never });
    let refusal = reply.unwrap_err();
    assert_eq!(refusal, Refusal::Scrub(ScrubError::NoObject(missing)));
    assert_eq!(refusal.to_string(), "object 00000003:00000003 was never made here; check the id");
    assert_eq!((effects.list.len(), effects.more), (0, false));
}

/// The audit that all other tests rely on.
#[test]
fn the_audit_sees_books_and_counts_that_are_wrong() {
    let setup = || {
        let mut core = core();
        let job = core.create_job(NOW, None, None).unwrap();
        let object = host(&mut core, job, 1);
        core.audit().unwrap();
        (core, job, object)
    };
    // A manager's end looks too: each ends by `finish`, since one that is merely dropped panics in a debug build.
    let (mut core, _, object) = setup();
    let reference = core.find(object).unwrap();
    core.slab.acquire(reference).unwrap();
    let wrong = Imbalance::References { koid: object, count: 2, found: 1 };
    assert_eq!((core.audit(), core.finish().err()), (Err(wrong), Some(wrong)));
    let (mut core, _, _) = setup();
    core.balance.create(ObjectType::Process, 0);
    assert!(matches!(core.finish(), Err(Imbalance::Type { object_type: ObjectType::Process, counted: 0, .. })));
    let (mut core, job, _) = setup();
    let reference = core.find(job).unwrap();
    core.job_mut(reference).unwrap().balance.destroy(ObjectType::HostObject, 0);
    assert!(matches!(core.finish(), Err(Imbalance::Job { job: of, .. }) if of == job));
    let (mut core, ..) = setup();
    core.balance.charge_bytes += 1;
    assert!(matches!(core.finish(), Err(Imbalance::Charge { job: None, .. })));
}

/// What a state keeps of one object does not make up for what another has too many. In a release build nobody counts it so.
#[cfg(debug_assertions)]
#[test]
fn the_audit_compares_what_states_keep_object_by_object() {
    use kobj_abi::Rights;
    use kobj_memory::Kept;

    struct Thing;

    impl crate::user_type::ObjectType for Thing {
        const TAG: [u8; 4] = *b"THNG";
        const NAME: &'static str = "thing";
        const DEFAULT_RIGHTS: Rights = Rights::GENERIC;
        type State = u64;
    }

    let mut core = core();
    let boot = core.boot(NOW).unwrap();
    let key = core.register::<Thing>().unwrap();
    core.create_own(NOW, boot.process, &key, 1).unwrap();
    let thing = core.slab.iter().find(|object| core.type_number(*object) == key.number()).unwrap();
    let job = core.find(boot.root_job).unwrap();
    let kept = Kept::new(&core.slab.shared(), thing).unwrap();
    core.audit().unwrap();
    for wrong in [job, thing] {
        core.slab.acquire(wrong).unwrap();
        assert!(matches!(core.audit(), Err(Imbalance::References { koid, .. }) if koid == wrong.koid()));
        core.slab.release(wrong.place());
        core.audit().unwrap();
    }
    let shared = core.slab.shared();
    let held = shared.hold(job).unwrap();
    core.audit().unwrap();
    drop(held);
    core.audit().unwrap();
    drop(kept);
    core.shut_down();
    core.finish().unwrap();
}

#[test]
fn an_image_is_what_was_seen() {
    let mut core = core();
    let job = core.create_job(NOW, None, Some(b"train")).unwrap();
    let object = host(&mut core, job, 7);
    assert_eq!(core.image(object), Ok(Image::HostObject(segment(7).into())));
    let info = core.query(job).unwrap();
    assert_eq!((info.name.as_deref(), info.created, info.owner), (Some(&b"train"[..]), NOW, None));
    assert_eq!(core.query(object).unwrap().owner, Some(job));
}

//! Group `by-hand`: what one writes without kobj, with slotmap and `Arc`, for the same two guests: lines and nanoseconds.
//!
//! `by-hand/lines` counts lines with code. Ours is the story alone; the rival is the story and what it needs that kobj brings.
//! Both stories must tell the same steps. The other figures are one thread's processor time of one operation: an object of a
//! user's type made and its handle closed, a handle looked up with a right, and a handle passed (a duplicate with fewer rights
//! moved to the other guest, who closes it). Ours is the typed surface, as a program uses it.

mod hand;
mod story_hand;
mod story_kobj;

use crate::figure::{Figure, Options, Report, Samples};
use hand::{Body, Host};
use kobj::{Manager, ObjectType, Rights};
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

const GROUP: &str = "by-hand";
const ROUNDS: usize = 101;
const CALLS_PER_ROUND: u32 = 10_000;

/// What happened in a story, and whether it was as it had to be.
type Steps = Vec<(&'static str, bool)>;

pub(crate) fn run(options: &Options, report: &mut Report) {
    if options.wants(GROUP, "by-hand/lines") {
        lines(report);
    }
    if let Err(error) = measure(options, report) {
        println!("skipped: {GROUP}: {error}");
    }
}

/// Lines that are neither empty nor a comment.
fn code_lines(source: &str) -> usize {
    source.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

fn lines(report: &mut Report) {
    let ours = story_kobj::story().expect("quotas and rights of the story allow what it does");
    let theirs = story_hand::story().expect("quotas and rights of the story allow what it does");
    let holds = ours == theirs && ours.iter().all(|(_, as_told)| *as_told);
    let count = |sources: &[&str]| {
        let mut samples = Samples::default();
        samples.push(sources.iter().map(|source| code_lines(source)).sum::<usize>() as f64);
        samples
    };
    let by_hand = [include_str!("by_hand/story_hand.rs"), include_str!("by_hand/hand.rs")];
    report.print(&Figure {
        name: "by-hand/lines",
        group: GROUP,
        unit: "lines",
        ours: count(&[include_str!("by_hand/story_kobj.rs")]),
        rivals: vec![("slotmap + Arc", count(&by_hand)), ("its story alone", count(&by_hand[..1]))],
        bar: Some(("the same steps in both", holds)),
    });
}

/// An object of a user's: a number.
struct Number;

impl ObjectType for Number {
    const TAG: [u8; 4] = *b"NMBR";
    const NAME: &'static str = "number";
    const DEFAULT_RIGHTS: Rights = Rights::GENERIC;
    type State = AtomicU64;
}

/// Processor time of this thread: what others do meanwhile is not in it.
fn now_ns() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Prints one operation of both sides, in turn.
fn alternate(report: &mut Report, name: &str, mut ours: impl FnMut(), mut theirs: impl FnMut()) {
    let (mut of_ours, mut of_theirs) = (Samples::default(), Samples::default());
    let round = |side: &mut dyn FnMut(), samples: &mut Samples| {
        let began = now_ns();
        (0..CALLS_PER_ROUND).for_each(|_| side());
        samples.push((now_ns() - began) / f64::from(CALLS_PER_ROUND));
    };
    for _ in 0..ROUNDS {
        round(&mut ours, &mut of_ours);
        round(&mut theirs, &mut of_theirs);
    }
    let rivals = vec![("slotmap + Arc", of_theirs)];
    report.print(&Figure { name, group: GROUP, unit: "ns", ours: of_ours, rivals, bar: None });
}

fn measure(options: &Options, report: &mut Report) -> Result<(), Box<dyn std::error::Error>> {
    let manager = Manager::embedded()?;
    let key = manager.register::<Number>().map_err(|error| format!("{error:?}"))?;
    let job = manager.root_job().create_job()?;
    let (one, other) = (job.create_guest()?, job.create_guest()?);
    let number = one.caller().create(&key, AtomicU64::new(7))?;

    let host = Host::new().map_err(|refused| format!("{refused:?}"))?;
    let by_hand = Host::job(usize::MAX);
    let guest = |rights| host.guest(&by_hand, rights).map_err(|refused| format!("{refused:?}"));
    let ((hand_one, _), (hand_other, _)) = (guest(hand::LOOKUP)?, guest(hand::LOOKUP)?);
    let body = || Body::Number(AtomicU64::new(7));
    let hand_number = hand_one.create(body()).map_err(|refused| format!("{refused:?}"))?;

    if options.wants(GROUP, "by-hand/create-close") {
        let ours = || drop(one.caller().create(&key, AtomicU64::new(7)).expect("no quota"));
        let theirs = || hand_one.close(hand_one.create(body()).expect("no quota")).expect("just made");
        alternate(report, "by-hand/create-close", ours, theirs);
    }
    if options.wants(GROUP, "by-hand/lookup") {
        let ours = || {
            let state = number.state(Rights::READ).expect("all rights");
            black_box(state.get().map(|number| number.load(Ordering::Relaxed)));
        };
        let theirs = || match &hand_one.get(hand_number, hand::READ).expect("all rights").body {
            Body::Number(number) => {
                black_box(number.load(Ordering::Relaxed));
            }
            Body::Directory(_) => {}
        };
        alternate(report, "by-hand/lookup", ours, theirs);
    }
    if options.wants(GROUP, "by-hand/pass") {
        let rights = Rights::READ | Rights::TRANSFER;
        let ours = || drop(number.duplicate(rights).and_then(|copy| Ok(copy.transfer(&other)?)).expect("no quota"));
        let theirs = || {
            let copy = hand_one.duplicate(hand_number, hand::READ | hand::TRANSFER).expect("all rights");
            let passed = host.transfer(&hand_one, copy, &hand_other).expect("may be moved");
            hand_other.close(passed).expect("just moved");
        };
        alternate(report, "by-hand/pass", ours, theirs);
    }
    Ok(())
}

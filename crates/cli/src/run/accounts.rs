//! The accounts of a job: what is new, whose it is, what is done about it, and whether the numbers add up.

use super::attribution::{Attributed, attribute};
use super::ending::{Keeper, Leftover};
use super::keep::{Keep, allow_descriptors};
use super::looks::{Before, News};
use super::outputs::{self, Meant};
use super::settle::{Policy, Settled, Settlement};
use crate::exit_code::CommandEnd;
use crate::options::run::RunOptions;
use crate::report::schema::{Action, BalanceRow, Containment as ContainmentRow, Exit, NotVisible, Report, Straggler};
use crate::report::time;
use kobj_abi::{Era, HostKind, Layer, Strength};
use kobj_core::image::{HostImage, Identity};
use kobj_host::containment::Containment;
use kobj_host::hands::Hands;
use kobj_host::makers::Group;
use std::collections::{BTreeMap, HashSet};

/// What is known of the run itself: how the command ended, what held it, which layers watched.
pub(crate) fn describe(report: &mut Report, keep: &Keep<'_>, command: CommandEnd) {
    report.job.exit = Some(exit_of(command));
    let is_isolated = keep.control.is_isolated();
    report.job.containment = match keep.containment {
        _ if is_isolated => ContainmentRow::Isolate,
        Containment::Cgroup(_) => ContainmentRow::Cgroup,
        Containment::Subreaper(_) => ContainmentRow::Subreaper,
    };
    let mut layers = vec![Layer::Census, Layer::Ancestry];
    if matches!(keep.containment, Containment::Subreaper(_)) && keep.watches.living().is_none() {
        layers.push(Layer::Cookie);
    }
    layers.extend(keep.watches.layers());
    if keep.watches.living().is_some() && !is_isolated {
        layers.push(Layer::SysvCreator);
    }
    report.job.tracing = layers;
    if let Containment::Subreaper(why) = &keep.containment {
        report.job.limits.push(format!("control group: {why}"));
    }
    if is_isolated {
        report.job.limits.push(super::isolate::LIMIT.to_owned());
    }
    report.job.limits.extend_from_slice(keep.watches.absent());
    let asked = keep.watches.family().daemon_clients();
    report.job.limits.extend(asked.map(|client| {
        format!("the job ran {client}: what another daemon makes on its request escapes any job and is not seen")
    }));
}

fn exit_of(command: CommandEnd) -> Exit {
    let (signal, code) = match command {
        CommandEnd::Exited(code) => (None, i32::from(code)),
        CommandEnd::Signalled(signal) => (Some(signal), 128 + signal),
        CommandEnd::TimedOut { killed: false } => (None, 124),
        CommandEnd::TimedOut { killed: true } => (None, 137),
    };
    Exit { signal, code, timed_out: matches!(command, CommandEnd::TimedOut { .. }) }
}

/// Finds what is new, says whose it is, does what is asked, and balances the books.
///
/// # Errors
/// The books could not be opened.
pub(crate) fn settle(
    report: &mut Report,
    keep: &mut Keep<'_>,
    options: &RunOptions,
    before: &Before,
    leftovers: Vec<Leftover>,
    era: Era,
) -> Result<(), String> {
    keep.drain();
    let counted = Counted::of(keep);
    // Nobody is held to be left, and yet there is somebody: /proc is missing, or no descriptor was free.
    let unseen = !keep.had_children && leftovers.iter().all(Leftover::is_gone) && keep.is_anybody_left();
    let members: HashSet<u32> = leftovers.iter().filter(|left| !left.is_gone()).map(Leftover::pid).collect();
    let News { candidates, not_visible } = before.news(keep.view, &members);
    // Whatever made them was heard before they were seen.
    keep.drain();
    let Attributed { own, unattributed } = sort(report, keep, options, candidates, &members);
    let mut settled = Settled::default();
    if !(leftovers.is_empty() && own.is_empty() && unattributed.is_empty()) {
        keep.publish();
        let name = options.name.as_ref().map(|name| name.as_bytes());
        let mut books = Settlement::new(Policy::of_run(options), keep.view, time::now(), era, name)?;
        leftovers.into_iter().for_each(|leftover| books.add_process(leftover));
        let Keep { watches, record, .. } = &mut *keep;
        watches.stop_watching_files();
        let mut note = |note| record.say(|record| record.note(note));
        let is_own = |inner: &Identity| watches.maker(inner).is_some_and(|made| made.strength == Strength::Proof);
        // Files wait for their last look together, each held open.
        allow_descriptors();
        let mut hands = Hands::new(&mut note);
        hands.is_own = Some(&is_own);
        books.add_own(own, &mut hands);
        hands.finish();
        unattributed.into_iter().for_each(|image| books.add_unattributed(image));
        books.name_holders();
        settled = books.close_books();
    }
    for reason in keep.watches.lost().iter().chain(&settled.faults) {
        report.job.mark_incomplete(reason.clone());
    }
    report.job.not_recoverable = keep.record.not_recoverable().map(str::to_owned);
    report.balance = balance(&counted, &settled.stragglers);
    for row in report.balance.iter().filter(|row| !row.holds()) {
        let why = format!("the counts of {} do not add up: an event was missed or came late", row.kind.name());
        report.job.mark_incomplete(why);
    }
    report.stragglers = settled.stragglers;
    report.unattributed = settled.unattributed;
    report.not_visible = not_visible.into_iter().map(|(kind, why)| NotVisible { kind, why }).collect();
    if unseen {
        let why = "processes of the job are left that cannot be looked at from here".to_owned();
        report.job.mark_incomplete(why.clone());
        report.not_visible.push(NotVisible { kind: HostKind::Process, why });
    }
    Ok(())
}

/// Says whose each candidate is, what the job left elsewhere added; what it was meant to leave is counted and taken out.
fn sort(
    report: &mut Report,
    keep: &mut Keep<'_>,
    options: &RunOptions,
    mut candidates: Vec<HostImage>,
    members: &HashSet<u32>,
) -> Attributed {
    if candidates.is_empty() && keep.watches.makers().live().next().is_none() {
        report.outputs = outputs::none(keep);
        return Attributed::default();
    }
    let mut meant = Meant::new(options, keep.view);
    let elsewhere = meant.made_elsewhere(keep, &candidates);
    candidates.extend(elsewhere);
    let Attributed { own, unattributed } = attribute(candidates, &keep.watches, keep.view, members);
    let (own, unattributed) = (meant.take(own, true), meant.take(unattributed, false));
    report.outputs = meant.row(keep);
    Attributed { own, unattributed }
}

/// Creations and destructions, each counted by its own events, before anything is scrubbed.
struct Counted {
    by_kind: BTreeMap<HostKind, (u64, u64)>,
}

impl Counted {
    fn of(keep: &Keep<'_>) -> Self {
        let mut by_kind = BTreeMap::new();
        if let Some(counts) = keep.watches.process_counts() {
            by_kind.insert(HostKind::Process, counts);
        }
        for (kind, group) in [(HostKind::Segment, Group::Segment), (HostKind::PosixSemaphore, Group::Semaphore)] {
            if let Some(count) = keep.watches.count(group) {
                by_kind.insert(kind, (count.created, count.destroyed));
            }
        }
        Self { by_kind }
    }
}

/// One row for each kind that was counted or of which something was found.
fn balance(counted: &Counted, stragglers: &[Straggler]) -> Vec<BalanceRow> {
    let mut rows: BTreeMap<HostKind, BalanceRow> = BTreeMap::new();
    for (kind, (created, destroyed)) in &counted.by_kind {
        let (created, destroyed) = (Some(*created), Some(*destroyed));
        rows.insert(*kind, BalanceRow { kind: *kind, exact: true, created, destroyed, scrubbed: 0, left: 0 });
    }
    for straggler in stragglers {
        let row = rows.entry(straggler.kind).or_insert_with(|| BalanceRow {
            kind: straggler.kind,
            exact: false,
            created: None,
            destroyed: None,
            scrubbed: 0,
            left: 0,
        });
        if straggler.action.is_gone() {
            row.scrubbed += 1;
        } else {
            row.left += 1;
        }
        // A process that kobj ended is heard to end like any other; it is counted once, as scrubbed.
        let by_kobj = matches!(straggler.action, Action::Terminated | Action::Killed);
        if let (true, Some(destroyed)) = (by_kobj, &mut row.destroyed) {
            *destroyed = destroyed.saturating_sub(1);
        }
    }
    rows.into_values().filter(|row| row.created != Some(0) || row.scrubbed + row.left > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kobj_abi::{Era as E, Koid, ObjectType, Tag};

    fn row(kind: HostKind, action: Action) -> Straggler {
        let tag = Tag { letters: ObjectType::HostObject.letters(), koid: Koid::new(E(1), 2).unwrap() };
        let image = HostImage::new(kind, b"x".to_vec(), Identity::Ipc { id: 1, key: 0, uid: 0 });
        Straggler::new(&image, tag, action, String::new())
    }

    fn counted(kind: HostKind, created: u64, destroyed: u64) -> Counted {
        Counted { by_kind: BTreeMap::from([(kind, (created, destroyed))]) }
    }

    #[test]
    fn a_process_that_kobj_ended_is_counted_once() {
        let rows = balance(
            &counted(HostKind::Process, 5, 4),
            &[row(HostKind::Process, Action::Terminated), row(HostKind::Process, Action::InUse)],
        );
        let [books] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((books.created, books.destroyed, books.scrubbed, books.left), (Some(5), Some(3), 1, 1));
        assert!(books.holds());
    }

    #[test]
    fn books_that_do_not_add_up_are_seen() {
        let rows = balance(&counted(HostKind::Segment, 3, 1), &[row(HostKind::Segment, Action::Scrubbed)]);
        assert!(!rows[0].holds(), "one segment is neither destroyed nor scrubbed nor left");
    }

    #[test]
    fn kinds_without_events_claim_nothing() {
        let rows = balance(&counted(HostKind::Segment, 0, 0), &[row(HostKind::SysvSegment, Action::Reported)]);
        let [books] = rows.as_slice() else { panic!("an empty exact row says nothing: {rows:?}") };
        assert_eq!((books.kind, books.exact, books.created, books.left), (HostKind::SysvSegment, false, None, 1));
    }
}

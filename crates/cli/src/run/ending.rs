//! The end of a job: what is left of its processes is asked to end, then made to, until nothing is left.
//!
//! Processes that serve somebody outside the job are left, and named with whom they serve.

use crate::baseline::Baseline;
use crate::patterns::{Pattern, any_matches};
use crate::report::schema::Action;
use kobj_abi::HostKind;
use kobj_core::image::{Creator, Holder, HostImage, Identity};
use kobj_host::members::Member;
use rustix::process::Signal;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

/// How long processes that are about to end by themselves are waited for: trackers, pipelines, children of a pool.
const SETTLE: Duration = Duration::from_millis(60);
/// How long at most, while one of them is running and so may be on its way out.
const SETTLE_WHILE_RUNNING: Duration = Duration::from_millis(400);
/// How long processes that survive SIGKILL (in the kernel, uninterruptible) are waited for.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Who sees the job's processes while they are ended: the kobj of the run, or one that goes on from its record.
pub(crate) trait Keeper {
    /// The job's living processes.
    fn members(&mut self) -> Vec<Member>;

    /// Whether anybody is left whom no list may show: in a storm of forks each process ends before it can be looked at.
    fn is_anybody_left(&mut self) -> bool;

    /// Waits until one of `members` has ended or `until` has come; it may come back earlier.
    fn wait_for_any(&mut self, members: &[Member], until: Instant);

    /// Which of the job's processes serve somebody outside it, and whom.
    fn serving(&self, job: &HashSet<u32>) -> HashMap<u32, Vec<Holder>>;

    /// Ends the whole control group at once, where there is one.
    fn kill_group(&self);

    /// Who forked a process of the job, where that is known.
    fn parent_of(&self, _pid: u32) -> Option<Creator> {
        None
    }

    /// Whether this kobj runs below that process of the job, so that it must stay whatever is asked for.
    fn is_above_us(&self, _pid: u32) -> bool {
        false
    }
}

/// What became of a leftover process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing was done to it: it was only to be reported, and why.
    Reported(String),
    /// Named by `--keep`.
    Kept,
    /// It would have been ended (a dry run).
    Planned,
    /// It serves these, outside the job.
    Serving(Vec<Holder>),
    /// This very kobj was started by it or by what it started.
    AboveUs,
    /// It ended after the first signal.
    Terminated,
    /// It ended after SIGKILL.
    Killed,
    /// It is still there; why.
    Failed(String),
}

/// What may be done to leftover processes.
pub(crate) struct Mercy<'a> {
    /// Signal nobody (`--report-only`, `--dry-run`), and which of the two it is.
    pub(crate) only_look: Option<Fate>,
    /// End those too that serve somebody outside.
    pub(crate) kill_all: bool,
    /// From the first signal to SIGKILL.
    pub(crate) kill_after: Duration,
    /// The first signal.
    pub(crate) signal: i32,
    /// Processes to be left alone, by name.
    pub(crate) keep: &'a [Pattern],
    /// Likewise; not even reported.
    pub(crate) ignore: &'a [Pattern],
    /// Likewise, where an earlier report names them.
    pub(crate) baseline: Option<&'a Baseline>,
}

impl Mercy<'_> {
    /// Whether a process is to be left alone for what it is called.
    pub(crate) fn is_named(&self, keep: &impl Keeper, image: &HostImage, pid: u32) -> bool {
        let matches = |patterns| any_matches(patterns, HostKind::Process, &image.name);
        let command = || keep.parent_of(pid).map(|parent| parent.command);
        let is_known = |known: &Baseline| known.knows_process(&image.name, command().as_deref());
        matches(self.keep) || matches(self.ignore) || self.baseline.is_some_and(is_known)
    }
}

/// A leftover process and its fate.
#[derive(Debug)]
pub(crate) struct Leftover {
    pub(crate) image: HostImage,
    pub(crate) fate: Fate,
}

impl Leftover {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        match self.image.identity {
            Identity::Process { pid, .. } => pid,
            _ => 0,
        }
    }

    /// What a report says of it: whom it serves is in the image then.
    pub(crate) fn into_row(self) -> (HostImage, Action, String) {
        let Self { mut image, fate } = self;
        let (action, why) = match fate {
            Fate::Reported(why) => (Action::Reported, why),
            Fate::Kept => (Action::Kept, "it is to be kept (--keep)".to_owned()),
            Fate::Planned => (Action::Planned, "it outlived the job and would be ended".to_owned()),
            Fate::Serving(holders) => {
                let whom = holders.first().map_or_else(String::new, |holder| {
                    let command = String::from_utf8_lossy(&holder.command);
                    match holder.pid {
                        0 => format!(": {command}"),
                        pid => format!(": pid {pid} ({command})"),
                    }
                });
                image.holders = holders;
                (Action::InUse, format!("it serves somebody outside the job{whom}; --kill-all ends it all the same"))
            }
            Fate::AboveUs => (Action::InUse, "this command itself runs in the job, below it".to_owned()),
            Fate::Terminated => (Action::Terminated, "it outlived the job and ended on the first signal".to_owned()),
            Fate::Killed => (Action::Killed, "it outlived the job and ended only by SIGKILL".to_owned()),
            Fate::Failed(why) => (Action::Failed, why),
        };
        (image, action, why)
    }

    /// Whether it is no more.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.fate, Fate::Terminated | Fate::Killed)
    }
}

type Key = (u32, u64);

fn key(member: &Member) -> Key {
    (member.pid, member.started)
}

/// Ends what is left of the job's processes, as far as `mercy` allows; says what became of each.
pub(crate) fn end_leftovers(keep: &mut impl Keeper, mercy: &Mercy<'_>) -> Vec<Leftover> {
    let members = settle(keep);
    let parents: HashMap<u32, Option<Creator>> = members.iter().map(|m| (m.pid, keep.parent_of(m.pid))).collect();
    let mut leftovers = end(keep, mercy, members);
    for leftover in &mut leftovers {
        leftover.image.creator = parents.get(&leftover.pid()).cloned().flatten();
    }
    leftovers
}

fn end(keep: &mut impl Keeper, mercy: &Mercy<'_>, members: Vec<Member>) -> Vec<Leftover> {
    let mut left: BTreeMap<Key, Leftover> = BTreeMap::new();
    if members.is_empty() && !keep.is_anybody_left() {
        return Vec::new();
    }
    if let Some(fate) = &mercy.only_look {
        // A plan says whom it would spare.
        if *fate == Fate::Planned {
            spare(keep, mercy, &members, &mut left);
        }
        for member in &members {
            left.entry(key(member)).or_insert_with(|| Leftover { image: member.image(), fate: fate.clone() });
        }
        return left.into_values().collect();
    }
    let mut members = members;
    loop {
        let mut spared = spare(keep, mercy, &members, &mut left);
        ask_to_end(keep, members, mercy, &mut spared, &mut left);
        make_end(keep, mercy, &mut spared, &mut left);
        // A peer that was dying at the first look is nobody's by now: who served only it is not spared any longer.
        members = keep.members();
        members.retain(|member| spared.contains(&key(member)));
        if members.is_empty() || spare(keep, mercy, &members, &mut left).len() == members.len() {
            return left.into_values().collect();
        }
    }
}

/// Waits a little for processes that end by themselves; returns those that did not.
fn settle(keep: &mut impl Keeper) -> Vec<Member> {
    let began = Instant::now();
    loop {
        let members = keep.members();
        if members.is_empty() && !keep.is_anybody_left() {
            return members;
        }
        let running = members.is_empty() || members.iter().any(|member| matches!(member.state, b'R' | b'D'));
        let patience = if running { SETTLE_WHILE_RUNNING } else { SETTLE };
        let elapsed = began.elapsed();
        if elapsed >= patience {
            return members;
        }
        keep.wait_for_any(&members, began + if elapsed < SETTLE { SETTLE } else { patience });
    }
}

/// Who is left alone: kept by name, or serving somebody outside. Their fates are written down.
fn spare(
    keep: &impl Keeper,
    mercy: &Mercy<'_>,
    members: &[Member],
    left: &mut BTreeMap<Key, Leftover>,
) -> HashSet<Key> {
    let serving: HashMap<u32, Vec<Holder>> =
        if mercy.kill_all { HashMap::new() } else { keep.serving(&members.iter().map(|m| m.pid).collect()) };
    let mut spared = HashSet::new();
    for member in members {
        let image = member.image();
        let fate = if keep.is_above_us(member.pid) {
            Fate::AboveUs
        } else if mercy.is_named(keep, &image, member.pid) {
            Fate::Kept
        } else if let Some(holders) = serving.get(&member.pid) {
            Fate::Serving(holders.clone())
        } else {
            continue;
        };
        spared.insert(key(member));
        left.insert(key(member), Leftover { image, fate });
    }
    spared
}

/// A server that is spared may fork for its next client at any moment: who is new beside the spared is judged before
/// anything is done to it. With nobody spared there is no such server, and a storm of forks is not to be waited for.
fn spare_the_new(
    keep: &impl Keeper,
    mercy: &Mercy<'_>,
    members: &[Member],
    is_judged: impl Fn(&Member) -> bool,
    spared: &mut HashSet<Key>,
    left: &mut BTreeMap<Key, Leftover>,
) {
    let is_new = |member: &Member| !spared.contains(&key(member)) && !is_judged(member);
    if !spared.is_empty() && members.iter().any(is_new) {
        let more = spare(keep, mercy, members, left);
        spared.extend(more);
    }
}

/// The first signal to all that are not spared, those born meanwhile too, until they are gone or `deadline` has come.
fn ask_to_end(
    keep: &mut impl Keeper,
    mut members: Vec<Member>,
    mercy: &Mercy<'_>,
    spared: &mut HashSet<Key>,
    left: &mut BTreeMap<Key, Leftover>,
) {
    let deadline = Instant::now().checked_add(mercy.kill_after);
    let mut asked = HashSet::new();
    loop {
        spare_the_new(keep, mercy, &members, |member| asked.contains(&key(member)), spared, left);
        members.retain(|member| !spared.contains(&key(member)));
        if members.is_empty() && (!spared.is_empty() || !keep.is_anybody_left()) {
            return;
        }
        for member in &members {
            if asked.insert(key(member)) {
                let fate = match member.send(mercy.signal) {
                    // A stopped process gets SIGTERM only when it goes on.
                    Ok(()) => member.signal(Signal::CONT).map_or(Fate::Terminated, |()| Fate::Terminated),
                    // It went by itself before it could be asked.
                    Err(_) if member.has_ended() => continue,
                    Err(error) => Fate::Failed(format!("cannot signal it: {error}")),
                };
                left.insert(key(member), Leftover { image: member.image(), fate });
            }
        }
        let now = Instant::now();
        if deadline.is_some_and(|deadline| now >= deadline) {
            return;
        }
        // Nobody can be held (descriptors are scarce, forks too fast): that is to be looked at again, not to be waited for.
        let until = deadline.filter(|_| !members.is_empty()).unwrap_or(now + SETTLE);
        keep.wait_for_any(&members, until);
        members = keep.members();
    }
}

/// SIGKILL to all that are not spared, again and again until none is left.
fn make_end(keep: &mut impl Keeper, mercy: &Mercy<'_>, spared: &mut HashSet<Key>, left: &mut BTreeMap<Key, Leftover>) {
    let patience = Instant::now() + KILL_PATIENCE;
    let mut judged: HashSet<Key> = left.keys().copied().collect();
    loop {
        let mut members = keep.members();
        spare_the_new(keep, mercy, &members, |member| judged.contains(&key(member)), spared, left);
        judged.extend(members.iter().map(key));
        members.retain(|member| !spared.contains(&key(member)));
        if members.is_empty() && (!spared.is_empty() || !keep.is_anybody_left()) {
            return;
        }
        // With nobody to spare the group is killed at once, which no fork can outrun.
        if spared.is_empty() {
            keep.kill_group();
        }
        for member in &members {
            let fate = match member.signal(Signal::KILL) {
                Ok(()) => Fate::Killed,
                Err(_) if member.has_ended() => Fate::Killed,
                Err(error) => Fate::Failed(format!("cannot signal it: {error}")),
            };
            left.insert(key(member), Leftover { image: member.image(), fate });
        }
        let now = Instant::now();
        if now >= patience {
            for member in &members {
                if let Some(leftover) = left.get_mut(&key(member)) {
                    leftover.fate = Fate::Failed("it does not end by SIGKILL: it hangs in the kernel".to_owned());
                }
            }
            return;
        }
        // A storm is met by looking again at once.
        let pause = if members.is_empty() { Duration::ZERO } else { Duration::from_millis(50) };
        keep.wait_for_any(&members, patience.min(now + pause));
    }
}

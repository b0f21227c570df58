//! `kobj scrub --dead-jobs`: goes on from the record of a run whose kobj died: ends what is left of its processes,
//! scrubs what it is proved to have made, and says what nobody can know any more.

use super::objects::{Ages, Census};
use super::records;
use super::scrub::{Row, destroy, given_to, kill_after, look, own_ancestors};
use crate::report::schema::{Action, BalanceRow, Containment, JobRow, Report, Straggler};
use crate::report::text::{self, Style};
use crate::report::{escape, time};
use crate::run::attribution::{Attributed, attribute, has_a_maker};
use crate::run::ending::{Fate, Keeper, Leftover, Mercy, end_leftovers};
use crate::run::inner;
use crate::run::keep::allow_descriptors;
use crate::state;
use kobj_abi::{Class, EvidenceKind, HostKind, Koid, ObjectType, Tag};
use kobj_core::image::{Holder, HostImage, Time};
use kobj_host::containment::{Group, dissolve_group};
use kobj_host::hands::{Hands, restore_room};
use kobj_host::holders::Holders;
use kobj_host::members::{Member, Sources};
use kobj_host::outside::serves_outside;
use kobj_host::record::{Beginning, Contents, Record, RuntimeFolder};
use kobj_host::view::View;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long nobody looks whether processes were born meanwhile.
const MOMENT: Duration = Duration::from_millis(50);

/// What was asked for.
pub(crate) struct Asked<'a> {
    /// One job; without, every dead one.
    pub(crate) job: Option<&'a str>,
    /// Touch nothing.
    pub(crate) dry_run: bool,
    /// Reports as JSON.
    pub(crate) json: bool,
}

/// A record of this command's own: an era for its koids, and a place to note private folders.
pub(crate) fn own_record() -> Result<Record, String> {
    Record::create(RuntimeFolder::open()?, &Beginning { name: b"kobj scrub", ..Beginning::default() })
}

/// Goes on from each dead job's record; whether all that is proved to be theirs is gone.
pub(crate) fn run(view: &View, asked: &Asked<'_>) -> Result<bool, String> {
    let jobs = records::list();
    let jobs = match asked.job {
        Some(text) => vec![records::find(jobs, text)?],
        // What a settled one left was in use, is reported, and is ended only by name.
        None => jobs.into_iter().filter(|job| !job.is_living() && !job.is_settled()).collect(),
    };
    if let Some(living) = jobs.iter().find(|job| job.is_living()) {
        let name = escape::for_terminal(&living.label());
        return Err(format!("job {} ({name}) still runs under its kobj, which ends it; stop that one", living.number));
    }
    if jobs.is_empty() {
        if asked.json {
            crate::say("{ \"reports\": [] }\n")?;
        }
        return Ok(true);
    }
    let mut record = own_record()?;
    let mut koids = Koids { era: record.era(), next: 2 };
    let mut reports = Vec::new();
    for job in jobs {
        let Some(held) = job.record.take()? else { continue };
        let contents = match &held.contents {
            Ok(contents) => contents,
            Err(why) => {
                let path = job.record.path.display();
                crate::tell(&format!(
                    "kobj: the record {path} {why}: nothing can be known from it; remove it yourself\n"
                ));
                continue;
            }
        };
        let mut report = go_on(view, contents, asked.dry_run, &mut koids, &mut record)?;
        if !asked.dry_run {
            inner::name_inner_jobs(&mut report, inner::take_words(contents.koid.era()));
            let group = Path::new(OsStr::from_bytes(&contents.group));
            let is_over = contents.group.is_empty() || dissolve_group(group);
            let done = if is_over { held.remove() } else { held.settle() };
            done.map_err(|e| format!("cannot put away the record {}: {e}", job.record.path.display()))?;
        }
        reports.push(report);
    }
    record.remove()?;
    publish(&reports, asked)?;
    let is_left = |row: &Straggler| !row.action.is_gone() && row.action != Action::Planned;
    Ok(!reports.iter().any(|report| report.stragglers.iter().any(is_left)))
}

fn publish(reports: &[Report], asked: &Asked<'_>) -> Result<(), String> {
    if !asked.dry_run
        && let Some(newest) = reports.iter().rfind(|report| report.has_news())
        && let Err(why) = state::save_last(newest)
    {
        crate::tell(&format!("kobj: {}\n", escape::for_terminal(why.as_bytes())));
    }
    if asked.json {
        return crate::say(&format!("{:#}\n", serde_json::json!({ "reports": reports })));
    }
    let style = Style::of(std::io::stdout(), false, false);
    crate::say(&reports.iter().map(|report| text::render(report, style)).collect::<String>())
}

/// Counts koids out of this command's era.
struct Koids {
    era: kobj_abi::Era,
    next: u32,
}

impl Koids {
    fn tag(&mut self, kind: HostKind) -> Result<Tag, String> {
        let object_type = if kind == HostKind::Process { ObjectType::Process } else { ObjectType::HostObject };
        let koid = Koid::new(self.era, self.next).ok_or("all koids of this era are taken")?;
        self.next = self.next.wrapping_add(1);
        Ok(Tag { letters: object_type.letters(), koid })
    }
}

/// What one job left, dealt with.
fn go_on(
    view: &View,
    contents: &Contents,
    dry_run: bool,
    koids: &mut Koids,
    record: &mut Record,
) -> Result<Report, String> {
    let mut report = Report::new(job_row(contents));
    let group = (!contents.group.is_empty()).then(|| PathBuf::from(OsString::from_vec(contents.group.clone())));
    let group = group.and_then(|path| Group::open(path).ok());
    let mut rows = end_processes(view, contents, group.as_ref(), dry_run)?;
    let mut note = |note| record.note(note);
    let mut hands = Hands::new(&mut note);
    if !dry_run {
        for path in &contents.notes {
            // What goes home is proved and judged there like all else.
            restore_room(path).into_iter().for_each(|sentence| report.job.mark_incomplete(sentence));
        }
    }
    // What a settled run left is in its report.
    let (own, doubtful) = if contents.settled { Default::default() } else { made_by(view, contents) };
    let (mut runtime, temporary): (Vec<_>, Vec<_>) = own.into_iter().partition(|image| image.class == Class::Runtime);
    if !dry_run {
        rows.extend(destroy(view, std::mem::take(&mut runtime), &mut hands));
    }
    for image in runtime.into_iter().chain(temporary) {
        let whole = image.clone();
        let mut row = match image.class {
            Class::Runtime => look(view, image),
            _ => Row::new(image, Action::Reported, "temporary: only what is named is scrubbed of a dead job"),
        };
        row.image.evidence = whole.evidence;
        rows.push(row);
    }
    hands.finish();
    drop(hands);
    name_holders(view, &mut rows);
    for row in rows {
        let tag = koids.tag(row.image.kind)?;
        report.stragglers.push(Straggler::new(&row.image, tag, row.action, row.why));
    }
    for image in doubtful {
        let tag = koids.tag(image.kind)?;
        let why = "nothing proves that the job made it, so it is left".to_owned();
        report.unattributed.push(Straggler::new(&image, tag, Action::Reported, why));
    }
    report.balance = balance(&report.stragglers);
    Ok(report)
}

fn job_row(contents: &Contents) -> JobRow {
    let tag = Tag { letters: ObjectType::Job.letters(), koid: contents.koid };
    let name = (!contents.name.is_empty()).then(|| String::from_utf8_lossy(&contents.name).into_owned());
    let command: Vec<OsString> = contents.command_line.iter().cloned().map(OsString::from_vec).collect();
    let mut job = JobRow::new(tag, name, &command, contents.started);
    job.ended = contents.ended;
    job.containment = if contents.group.is_empty() { Containment::Subreaper } else { Containment::Cgroup };
    job.tracing.clone_from(&contents.layers);
    if contents.settled {
        return job;
    }
    let last = time::print(contents.last_event);
    job.mark_incomplete(format!("its kobj was killed; nothing is known of what was made after {last}"));
    if contents.lost {
        job.mark_incomplete("events were lost before that, or did not fit in the record".into());
    }
    if contents.not_followed > 0 {
        job.mark_incomplete(format!("{} living files were too many to follow", contents.not_followed));
    }
    job
}

/// The processes of a job whose kobj is dead.
struct Orphans<'a> {
    view: &'a View,
    group: Option<&'a Group>,
    cookie: Option<&'a [u8]>,
    /// This process and its parents.
    line: HashSet<u32>,
    /// This process runs in the job's group: the group is never without anybody, and not to be killed as a whole.
    is_inside: bool,
}

impl<'a> Orphans<'a> {
    fn of(view: &'a View, contents: &'a Contents, group: Option<&'a Group>) -> Self {
        let cookie = (!contents.cookie.is_empty()).then_some(contents.cookie.as_slice());
        let own = std::process::id();
        let is_inside = group.is_some_and(|group| group.members().is_ok_and(|members| members.contains(&own)));
        Self { view, group, cookie, line: own_ancestors(view), is_inside }
    }
}

impl Keeper for Orphans<'_> {
    fn members(&mut self) -> Vec<Member> {
        Sources { group: self.group, family: None, reaper: None, cookie: self.cookie }.members(self.view)
    }

    fn is_anybody_left(&mut self) -> bool {
        !self.is_inside && self.group.is_some_and(Group::is_populated)
    }

    fn wait_for_any(&mut self, members: &[Member], until: Instant) {
        let mut descriptors: Vec<PollFd<'_>> =
            members.iter().map(|member| PollFd::new(member, PollFlags::IN)).collect();
        // No longer than a moment, in which others may be born.
        let moment = until.saturating_duration_since(Instant::now()).min(MOMENT);
        let moment = Timespec { tv_sec: 0, tv_nsec: i64::from(moment.subsec_nanos()) };
        // An interrupted wait is a short one.
        let _ = poll(&mut descriptors, Some(&moment));
    }

    fn serving(&self, job: &HashSet<u32>) -> HashMap<u32, Vec<Holder>> {
        if job.is_empty() {
            return HashMap::new();
        }
        // Whom no descriptor was free to hold is of the job all the same, and no outsider.
        let in_group = self.group.and_then(|group| group.members().ok()).unwrap_or_default();
        let job: HashSet<u32> = job.iter().copied().chain(in_group).collect();
        let pids: Vec<u32> = job.iter().copied().collect();
        serves_outside(self.view, &job, &given_to(self.view, &pids))
    }

    fn kill_group(&self) {
        if let Some(group) = self.group.filter(|_| !self.is_inside) {
            // Older kernels lack it; each process is killed by itself as well.
            let _ = group.kill();
        }
    }

    fn is_above_us(&self, pid: u32) -> bool {
        self.line.contains(&pid)
    }
}

/// The job's living processes: ended as a run ends them, but for those that serve somebody outside, and this command's
/// own line.
fn end_processes(view: &View, contents: &Contents, group: Option<&Group>, dry_run: bool) -> Result<Vec<Row>, String> {
    let mercy = Mercy {
        only_look: dry_run.then_some(Fate::Planned),
        kill_all: contents.settings[1] & 1 == 1,
        kill_after: kill_after()?,
        signal: Signal::TERM.as_raw(),
        keep: &[],
        ignore: &[],
        baseline: None,
    };
    // Each process is held by a descriptor.
    allow_descriptors();
    let leftovers = end_leftovers(&mut Orphans::of(view, contents, group), &mercy);
    let row = |leftover: Leftover| {
        let (image, action, why) = leftover.into_row();
        Row::new(image, action, why)
    };
    Ok(leftovers.into_iter().map(row).collect())
}

/// What the record proves the job made, and what it only hints at.
fn made_by(view: &View, contents: &Contents) -> (Vec<HostImage>, Vec<HostImage>) {
    let mut candidates = Census::of(view, has_a_witness).found;
    let ages = Ages::read(view);
    candidates.retain(|image| match image.kind {
        HostKind::SysvSegment => is_in_time(contents, &ages, image),
        _ => image.class != Class::Output && contents.of(&image.identity).is_some(),
    });
    let Attributed { own, mut unattributed } = attribute(candidates, contents, view, &HashSet::new());
    for image in &mut unattributed {
        // What was there before the job is not in its record.
        image.evidence.retain(|evidence| evidence.kind != EvidenceKind::Difference);
    }
    (own, unattributed)
}

fn has_a_witness(kind: HostKind) -> bool {
    has_a_maker(kind) || kind == HostKind::SysvSegment
}

/// Whether a segment whose creator's number was the job's changed last while the job was watched: then it was made by
/// that number's life in the job. Before and after, the number may have been somebody else's. The kernel keeps whole
/// seconds, so the second of the last event does not count: part of it came after.
fn is_in_time(contents: &Contents, ages: &Ages, image: &HostImage) -> bool {
    let second = |at: Time| at.0.div_euclid(1_000_000);
    let watched = second(contents.started)..second(contents.last_event);
    records::is_of_this_namespace(contents)
        && image.maker_pid.is_some_and(|pid| contents.made_by_pid(pid).is_some())
        && ages.changed_s(image).is_some_and(|changed| watched.contains(&changed))
        && (contents.uid == 0 || image.uid == Some(contents.uid))
}

/// Names who uses what is left.
fn name_holders(view: &View, rows: &mut [Row]) {
    let left: Vec<usize> =
        (0..rows.len()).filter(|at| !rows[*at].action.is_gone() && rows[*at].image.holders.is_empty()).collect();
    let images: Vec<HostImage> = left.iter().map(|at| rows[*at].image.clone()).collect();
    let holders = Holders::of(view, &images);
    for (index, at) in left.into_iter().enumerate() {
        rows[at].image.holders = holders.of_object(index).to_vec();
    }
}

/// Scrubbed and left by kind; nothing was counted whole, so created and destroyed stay unknown.
fn balance(stragglers: &[Straggler]) -> Vec<BalanceRow> {
    let mut kinds: BTreeMap<HostKind, (u64, u64)> = BTreeMap::new();
    for row in stragglers {
        let (scrubbed, left) = kinds.entry(row.kind).or_default();
        *if row.action.is_gone() { scrubbed } else { left } += 1;
    }
    let row =
        |(kind, (scrubbed, left))| BalanceRow { kind, exact: false, created: None, destroyed: None, scrubbed, left };
    kinds.into_iter().map(row).collect()
}

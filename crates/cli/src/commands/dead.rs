//! `kobj scrub --dead-jobs`: goes on from the record of a run whose kobj died: ends what is left of its processes,
//! scrubs what it is proved to have made, and says what nobody can know any more.

use super::objects::{Ages, Census, view_with};
use super::records;
use super::scrub::{kill_after, own_ancestors};
use crate::baseline::Baseline;
use crate::options::run::Scrub;
use crate::patterns::Pattern;
use crate::report::schema::{Action, BalanceRow, Containment, JobRow, Report, Straggler};
use crate::report::text::{self, Style};
use crate::report::{escape, time};
use crate::run::attribution::{Attributed, attribute, has_a_maker};
use crate::run::ending::{Fate, Keeper, Mercy, end_leftovers};
use crate::run::inner;
use crate::run::keep::allow_descriptors;
use crate::run::recording::Settings;
use crate::run::settle::{Policy, Settlement};
use crate::run::told::Told;
use crate::state;
use kobj_abi::{Class, EvidenceKind, HostKind, ObjectType, Strength, Tag};
use kobj_core::image::{Holder, HostImage, Identity, Time};
use kobj_host::containment::{Group, dissolve_group};
use kobj_host::hands::{Hands, restore_room, restore_rooms};
use kobj_host::kinds::sysv_segment;
use kobj_host::members::{Member, Sources};
use kobj_host::output::Outputs;
use kobj_host::outside::serves_outside;
use kobj_host::record::{self, Beginning, Contents, Record, RuntimeFolder};
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

/// The name of a record of this command's own.
const OWN_NAME: &[u8] = b"kobj scrub";

/// A record of this command's own: an era for its koids, and a place to note what it is in the middle of.
pub(crate) fn own_record() -> Result<Record, String> {
    Record::create(RuntimeFolder::open()?, &Beginning { name: OWN_NAME, ..Beginning::default() })
}

/// Whether that is a record of a `kobj scrub` and not of a job.
fn is_own(contents: &Contents) -> bool {
    contents.name == OWN_NAME && contents.command_line.is_empty() && contents.cookie.is_empty()
}

/// Goes on from each dead job's record; whether all that is proved to be theirs is gone.
pub(crate) fn run(asked: &Asked<'_>) -> Result<bool, String> {
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
    let mut reports = Vec::new();
    let mut is_left = false;
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
        let mut record = own_record()?;
        let went_on = go_on(contents, asked.dry_run, &mut record);
        record.remove()?;
        let mut report = went_on?;
        is_left |= report.stragglers.iter().any(|row| is_left_over(row, contents));
        if !asked.dry_run {
            inner::name_inner_jobs(&mut report, inner::take_words(contents.koid.era()));
            let group = Path::new(OsStr::from_bytes(&contents.group));
            let is_over = contents.group.is_empty() || dissolve_group(group);
            let done = if is_over { held.remove() } else { held.settle() };
            done.map_err(|e| format!("cannot put away the record {}: {e}", job.record.path.display()))?;
        }
        reports.push(report);
    }
    publish(&reports, asked)?;
    Ok(!is_left)
}

/// Whether something is left that was to go: what the run was told to leave was not.
fn is_left_over(row: &Straggler, contents: &Contents) -> bool {
    let was_asked = row.class == Class::Runtime || Settings::read(contents.settings).scrubs_all;
    match row.action {
        Action::Planned | Action::Kept | Action::Ignored => false,
        action => !action.is_gone() && was_asked,
    }
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

/// What the run wanted done about what is left.
struct Wishes {
    settings: Settings,
    /// `None` if it did not fit in the record.
    told: Option<Told>,
    baseline: Baseline,
    /// Why nothing can be touched though the run would have.
    blind: Option<String>,
}

impl Wishes {
    fn of(contents: &Contents) -> Self {
        let settings = Settings::read(contents.settings);
        let told = contents.told.as_deref().and_then(Told::decode);
        let mut blind = (told.is_none() && settings.has_spared).then(|| {
            "what the run was to leave alone (--keep, --ignore, --baseline) did not fit in its record".to_owned()
        });
        let file = told.as_ref().and_then(|told| told.baseline.as_deref());
        let baseline = file.map(Baseline::read).unwrap_or_else(|| Ok(Baseline::default())).unwrap_or_else(|why| {
            blind = Some(why);
            Baseline::default()
        });
        Self { settings, told, baseline, blind }
    }

    fn is_report_only(&self) -> bool {
        self.settings.report_only || self.blind.is_some()
    }

    fn keep(&self) -> &[Pattern] {
        self.told.as_ref().map_or(&[], |told| &told.keep)
    }

    fn ignore(&self) -> &[Pattern] {
        self.told.as_ref().map_or(&[], |told| &told.ignore)
    }

    fn mercy(&self, dry_run: bool) -> Result<Mercy<'_>, String> {
        let only_look = if self.is_report_only() {
            let why = self.blind.clone().unwrap_or_else(|| "nothing is touched (--report-only)".to_owned());
            Some(Fate::Reported(why))
        } else {
            (dry_run || self.settings.dry_run).then_some(Fate::Planned)
        };
        Ok(Mercy {
            only_look,
            kill_all: self.settings.kill_all,
            kill_after: kill_after()?,
            signal: Signal::TERM.as_raw(),
            keep: self.keep(),
            ignore: self.ignore(),
            baseline: Some(&self.baseline),
        })
    }

    /// Runtime objects are scrubbed, asked for or not: nobody else will. Temporary ones if the run was to scrub them, and
    /// if it is known what of them is output.
    fn policy(&self, dry_run: bool) -> Policy<'_> {
        let scrub = if self.settings.scrubs_all && self.told.is_some() { Scrub::All } else { Scrub::Runtime };
        Policy {
            scrub,
            keep: self.keep(),
            ignore: self.ignore(),
            baseline: &self.baseline,
            report_only: self.is_report_only(),
            dry_run: dry_run || self.settings.dry_run,
        }
    }
}

/// What one job left, dealt with. `record` is this command's own.
fn go_on(contents: &Contents, dry_run: bool, record: &mut Record) -> Result<Report, String> {
    let wishes = Wishes::of(contents);
    // Its temporary files are where its own environment said.
    let tmpdir = wishes.told.as_ref().and_then(|told| told.variable("TMPDIR"));
    let view = &view_with(tmpdir.map(PathBuf::from))?;
    let mut report = Report::new(job_row(contents));
    let group = (!contents.group.is_empty()).then(|| PathBuf::from(OsString::from_vec(contents.group.clone())));
    let group = group.and_then(|path| Group::open(path).ok());
    // Each process is held by a descriptor, and so is each file that waits for its last look.
    allow_descriptors();
    let mut orphans = Orphans::of(view, contents, group.as_ref());
    let leftovers = end_leftovers(&mut orphans, &wishes.mercy(dry_run)?);
    if !dry_run {
        // What goes home is proved and judged there like all else.
        restore_notes(contents).into_iter().for_each(|sentence| report.job.mark_incomplete(sentence));
    }
    // What a settled run left is in its report.
    let (mut own, mut doubtful) = if contents.settled { Default::default() } else { made_by(view, contents) };
    match &wishes.told {
        Some(told) => {
            let (command, known) = (told.command(), (own.len(), doubtful.len()));
            if known != (0, 0) {
                let rules = Outputs::new(view, &command);
                own.retain(|image| !rules.is_output(image));
                doubtful.retain(|image| !rules.is_output(image));
            }
        }
        None if wishes.settings.scrubs_all => report.job.limits.push(
            "what the command was told did not fit in the record: temporary files may be its output and stay".into(),
        ),
        None => {}
    }
    report.job.limits.extend(wishes.blind.clone());
    let name = (!contents.name.is_empty()).then_some(contents.name.as_slice());
    let mut books = Settlement::new(wishes.policy(dry_run), view, time::now(), record.era(), name)?;
    leftovers.into_iter().for_each(|leftover| books.add_process(leftover));
    let mut note = |note| record.note(note);
    let is_own = |inner: &Identity| contents.of(inner).is_some_and(|made| made.strength == Strength::Proof);
    let mut hands = Hands::new(&mut note);
    hands.is_own = Some(&is_own);
    books.add_own(own, &mut hands);
    hands.finish();
    doubtful.into_iter().for_each(|image| books.add_unattributed(image));
    books.name_holders();
    let settled = books.close_books();
    settled.faults.into_iter().for_each(|fault| report.job.mark_incomplete(fault));
    report.stragglers = settled.stragglers;
    report.unattributed = settled.unattributed;
    report.balance = balance(&report.stragglers);
    Ok(report)
}

/// Undoes what a scrub of that record's was in the middle of; a sentence for each thing that could not be undone.
fn restore_notes(contents: &Contents) -> Vec<String> {
    let mut sentences: Vec<String> = contents.notes.iter().flat_map(|room| restore_room(room)).collect();
    if let Some((segment, namespace)) = contents.closed_segment
        && record::ipc_namespace() == Some(namespace)
    {
        sentences.extend(sysv_segment::reopen(&segment));
    }
    sentences
}

/// Undoes what scrubs that were killed were in the middle of, so that the next one finds all in its place; says what could
/// not be undone. Records that were kept for nothing else are removed.
pub(crate) fn restore_all(view: &View) {
    let mut sentences = restore_rooms(view);
    for job in records::list_silently() {
        let is_of_use = |contents: &Contents| !contents.notes.is_empty() || contents.closed_segment.is_some();
        let is_noted = job.record.contents.as_ref().is_ok_and(|contents| is_of_use(contents) || is_own(contents));
        if job.is_living() || !is_noted {
            continue;
        }
        // Another kobj that takes care of it does the same.
        let Ok(Some(held)) = job.record.take() else { continue };
        let Ok(contents) = &held.contents else { continue };
        sentences.extend(restore_notes(contents));
        if is_own(contents) {
            // What cannot be removed is seen again next time.
            let _ = held.remove();
        }
    }
    for sentence in sentences {
        crate::tell(&format!("kobj: {}\n", escape::for_terminal(sentence.as_bytes())));
    }
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
    /// What the command had from whoever started it, which connects nobody.
    given: HashSet<(u64, u64)>,
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
        let given = contents.inherited.iter().copied().collect();
        Self { view, group, cookie, given, line: own_ancestors(view), is_inside }
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
        serves_outside(self.view, &job, &self.given)
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

/// What the record proves the job made, and what it only hints at.
fn made_by(view: &View, contents: &Contents) -> (Vec<HostImage>, Vec<HostImage>) {
    made_among(view, contents, Census::of(view, has_a_witness).found, &Ages::read(view))
}

/// The same of these objects.
pub(crate) fn made_among(
    view: &View,
    contents: &Contents,
    mut candidates: Vec<HostImage>,
    ages: &Ages,
) -> (Vec<HostImage>, Vec<HostImage>) {
    candidates.retain(|image| match image.kind {
        HostKind::SysvSegment => is_in_time(contents, ages, image),
        _ => image.class != Class::Output && contents.of(&image.identity).is_some(),
    });
    let Attributed { own, mut unattributed } = attribute(candidates, contents, view, &HashSet::new());
    for image in &mut unattributed {
        // What was there before the job is not in its record.
        image.evidence.retain(|evidence| evidence.kind != EvidenceKind::Difference);
    }
    (own, unattributed)
}

/// Whether a record may say who made an object of that kind.
pub(crate) fn has_a_witness(kind: HostKind) -> bool {
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

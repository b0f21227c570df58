//! `kobj scrub`: the mess that is already there. A person who names an object, or confirms the printed plan, stands in
//! for the proof of whose it is; never for the judge of its use, who is asked again at the moment of deletion.

use super::census::{judge, judge_with, parse_kind};
use super::dead;
use super::listing::{Cell, Listing, ListingFlags};
use super::objects::{
    Ages, Census, Wanted, file_at, is_infrastructure, is_named_by_path, is_system_mount, unused_is_left_over, view,
};
use crate::config::Config;
use crate::durations::parse_duration;
use crate::report::escape;
use crate::report::files;
use crate::report::identity::IdentityText;
use crate::report::schema::{Action, Straggler};
use crate::report::text::shown_name;
use crate::run::keep::allow_descriptors;
use crate::state;
use clap::Args;
use kobj_abi::{Class, EvidenceKind, HostKind, Strength};
use kobj_core::image::{Evidence, Holder, HostImage, Identity};
use kobj_host::hands::Hands;
use kobj_host::holders::Holders;
use kobj_host::kind::{Outcome, Verdict};
use kobj_host::kinds;
use kobj_host::kinds::process;
use kobj_host::outside::{inherited, serves_outside};
use kobj_host::proc::Proc;
use kobj_host::view::View;
use rustix::process::Signal;
use std::collections::HashSet;
use std::ffi::OsString;
use std::io::{BufRead as _, IsTerminal as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Something that was asked for is left.
const LEFT: u8 = 3;

/// Flags of `kobj scrub`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["names", "from", "unused", "job", "dead_jobs"]))]
pub(crate) struct ScrubFlags {
    /// A path, a process id, a System V id, ADDRESS:PORT, @abstract, or KIND:NAME
    #[arg(value_name = "NAME")]
    names: Vec<OsString>,
    /// Only if NAME is still this very object, as a report's fix line says
    #[arg(long, value_name = "ID", requires = "names", value_parser = IdentityText::parse)]
    identity: Option<IdentityText>,
    /// A job whose kobj died: its name, number in kobj jobs, or command's process id
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    /// Every job whose kobj died: end its processes, scrub its unused runtime objects
    #[arg(long)]
    dead_jobs: bool,
    /// The stragglers of an earlier report.json, or of the newest report: last
    #[arg(long, value_name = "REPORT")]
    from: Option<PathBuf>,
    /// What the kernel says nobody uses; prints the plan and asks
    #[arg(long, requires_all = ["kind", "older_than"])]
    unused: bool,
    /// With --unused: only this kind; repeatable
    #[arg(long, value_name = "KIND", value_parser = parse_kind, requires = "unused")]
    kind: Vec<HostKind>,
    /// With --unused: only what is at least this old: 30m, 1h, 2d
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "unused")]
    older_than: Option<Duration>,
    /// Touch nothing; print the plan
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// As JSON
    #[arg(short = 'J', long)]
    json: bool,
}

/// One object of the plan, and what came of it.
struct Row {
    image: HostImage,
    action: Action,
    why: String,
}

impl Row {
    fn new(image: HostImage, action: Action, why: impl Into<String>) -> Self {
        Self { image, action, why: why.into() }
    }
}

/// Scrubs; exit 0 if all that was asked for is gone, 3 if something is left.
pub(crate) fn run(flags: &ScrubFlags) -> Result<ExitCode, String> {
    let view = view()?;
    if !flags.dry_run {
        dead::restore_all(&view);
    }
    if flags.dead_jobs || flags.job.is_some() {
        let asked = dead::Asked { job: flags.job.as_deref(), dry_run: flags.dry_run, json: flags.json };
        let all_gone = dead::run(&asked)?;
        return Ok(if all_gone { ExitCode::SUCCESS } else { ExitCode::from(LEFT) });
    }
    let (mut plan, gone) = match &flags.from {
        Some(path) => of_report(&view, path)?,
        None if flags.unused => (of_unused(&view, flags)?, 0),
        None => of_names(&view, flags)?,
    };
    if flags.unused && !flags.dry_run && !plan.is_empty() && !flags.yes && !is_confirmed(&view, &plan)? {
        crate::tell("kobj: nothing was scrubbed\n");
        return Ok(ExitCode::from(LEFT));
    }
    plan.iter_mut().for_each(named_by_a_person);
    let mut rows: Vec<Row> =
        if flags.dry_run { plan.into_iter().map(|image| look(&view, image)).collect() } else { act(&view, plan)? };
    name_holders(&view, &mut rows);
    if gone > 0 && !flags.json {
        crate::tell(&format!("kobj: {gone} of them {} gone already\n", if gone == 1 { "is" } else { "are" }));
    }
    if !rows.is_empty() || flags.json {
        crate::say(&render(&rows, flags.json)?)?;
    }
    let left = rows.iter().any(|row| !row.action.is_gone() && row.action != Action::Planned);
    Ok(if left { ExitCode::from(LEFT) } else { ExitCode::SUCCESS })
}

/// A person who names an object, or confirms a plan, stands in for the proof of whose it is; never for the judge.
fn named_by_a_person(image: &mut HostImage) {
    let detail = "a person named it to kobj scrub".to_owned();
    image.evidence.push(Evidence { kind: EvidenceKind::Person, strength: Strength::Proof, detail });
}

/// Who uses what is in use, where its judge named nobody: one pass over all processes for everything.
fn name_holders(view: &View, rows: &mut [Row]) {
    let mut unnamed: Vec<&mut Row> = rows
        .iter_mut()
        .filter(|row| {
            row.action == Action::InUse && row.image.holders.is_empty() && row.image.kind != HostKind::Process
        })
        .collect();
    let images: Vec<HostImage> = unnamed.iter().map(|row| row.image.clone()).collect();
    let holders = Holders::of_trees(view, &images);
    for (index, row) in unnamed.iter_mut().enumerate() {
        row.image.holders = holders.of_object(index).to_vec();
    }
}

/// The named objects, each name one object; with how many of them are gone.
fn of_names(view: &View, flags: &ScrubFlags) -> Result<(Vec<HostImage>, usize), String> {
    if flags.identity.is_some() && flags.names.len() != 1 {
        return Err("--identity is for one NAME".into());
    }
    let mut plan: Vec<HostImage> = Vec::new();
    for name in &flags.names {
        let wanted = Wanted::parse(name);
        let mut found = wanted.find(view);
        if let Some(identity) = &flags.identity {
            if found.is_empty() {
                return Ok((Vec::new(), 1));
            }
            found.retain(|image| identity.is(&image.identity));
            if found.is_empty() {
                return Err(format!(
                    "'{}' is another object now, not {identity}; nothing was scrubbed",
                    wanted.shown()
                ));
            }
        }
        match found.len() {
            0 => {
                return Err(format!(
                    "'{}' names nothing that can be seen from here; kobj census lists what is",
                    wanted.shown()
                ));
            }
            1 => plan.extend(found.into_iter().filter(|image| !plan.contains(image)).collect::<Vec<_>>()),
            _ => return Err(ambiguous(&wanted, &found)),
        }
    }
    Ok((plan, 0))
}

fn ambiguous(wanted: &Wanted, found: &[HostImage]) -> String {
    let one = |image: &HostImage| format!("{}:{}", image.kind.name(), shown_name(image.kind, &image.name));
    let all: Vec<String> = found.iter().map(one).collect();
    format!("'{}' names {} objects ({}); write KIND:NAME", wanted.shown(), found.len(), all.join(", "))
}

/// The stragglers of a report that are still there, each the very object that the report means.
fn of_report(view: &View, path: &Path) -> Result<(Vec<HostImage>, usize), String> {
    let report = match path.as_os_str().as_bytes() {
        b"last" => state::load_last()?.ok_or("no report was kept yet; give --from a report.json")?,
        _ => files::read(path).map_err(|e| {
            format!("cannot read '{}': {e}; give a file that kobj run --report FILE.json wrote", path.display())
        })?,
    };
    let is_asked = |row: &&Straggler| {
        !row.action.is_gone() && !matches!(row.action, Action::Kept | Action::Ignored) && row.class != Class::Output
    };
    let asked: Vec<&Straggler> = report.stragglers.iter().filter(is_asked).collect();
    let is_file = |kind, name: &[u8]| name.starts_with(b"/") && !is_named_by_path(kind);
    let by_number: HashSet<HostKind> = asked
        .iter()
        .map(|row| (row.kind, row.name.bytes()))
        .filter(|(kind, name)| !is_file(*kind, name))
        .map(|(kind, _)| kind)
        .collect();
    let census = Census::of(view, |kind| by_number.contains(&kind)).found;
    let mut plan = Vec::new();
    for row in &asked {
        let identity = IdentityText::parse(&row.identity.to_string())
            .map_err(|e| format!("'{}': the identity of '{}': {e}", path.display(), row.name.name))?;
        let name = row.name.bytes();
        let found = match is_file(row.kind, &name) {
            true => file_at(view, Path::new(std::ffi::OsStr::from_bytes(&name))),
            false => census.iter().find(|image| image.kind == row.kind && identity.is(&image.identity)).cloned(),
        };
        plan.extend(found.filter(|image| image.kind == row.kind && identity.is(&image.identity)));
    }
    let gone = asked.len() - plan.len();
    Ok((plan, gone))
}

/// What nobody uses, of the wanted kinds and old enough; of other users only as root.
fn of_unused(view: &View, flags: &ScrubFlags) -> Result<Vec<HostImage>, String> {
    if let Some(kind) = flags.kind.iter().find(|kind| !unused_is_left_over(**kind)) {
        let kind = kind.name();
        return Err(format!("that nobody uses a {kind} now does not make it a leftover; name those that are to go"));
    }
    let census = Census::of(view, |kind| flags.kind.contains(&kind));
    census.tell_not_visible();
    let ages = Ages::read(view);
    let old_enough = flags.older_than.unwrap_or(Duration::MAX).as_secs();
    let mut plan = census.found;
    let mut note = |_| {};
    let mut hands = Hands::new(&mut note);
    plan.retain(|image| {
        (view.uid == 0 || image.uid == Some(view.uid))
            && image.class != Class::Output
            && !is_infrastructure(image)
            && ages.of(image).is_some_and(|age| age >= old_enough)
            && matches!(judge_with(view, image, &mut hands), Verdict::Unused(_))
    });
    Ok(plan)
}

/// Prints the plan to standard error and asks; without a terminal there is nobody to ask.
fn is_confirmed(view: &View, plan: &[HostImage]) -> Result<bool, String> {
    let rows: Vec<Row> = plan.iter().cloned().map(|image| look(view, image)).collect();
    crate::tell(&render(&rows, false)?);
    if !std::io::stdin().is_terminal() {
        crate::tell("kobj: add --yes to scrub these without being asked\n");
        return Ok(false);
    }
    crate::tell(&format!("kobj: scrub {} objects? [y/N] ", plan.len()));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|e| format!("cannot read the answer: {e}"))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// What would be done, nothing touched.
fn look(view: &View, image: HostImage) -> Row {
    if let Some(refusal) = refusal(&image) {
        return Row::new(image, Action::Reported, refusal);
    }
    if image.kind == HostKind::Process {
        return match who_is_served(view, &image) {
            None => Row::new(image, Action::Planned, "serves nobody outside it; would get SIGTERM"),
            Some(why) => Row::new(image, Action::InUse, why),
        };
    }
    let verdict = judge(view, &image);
    match verdict {
        Verdict::Unused(words) => Row::new(image, Action::Planned, words),
        other => of_verdict(image, other),
    }
}

/// Why kobj does not even try.
fn refusal(image: &HostImage) -> Option<String> {
    if image.class == Class::Output {
        return Some(
            "an ordinary file or folder, not a leftover of a kind that kobj scrubs; remove it yourself".into(),
        );
    }
    if is_system_mount(image) {
        return Some("a mount of the system's own set-up, not a leftover; unmount it yourself".into());
    }
    kinds::of(image.kind).is_none().then(|| format!("this kobj cannot scrub objects of kind {}", image.kind.name()))
}

fn of_verdict(mut image: HostImage, verdict: Verdict) -> Row {
    match verdict {
        Verdict::InUse(holders, words) => {
            image.holders = holders;
            Row::new(image, Action::InUse, words)
        }
        Verdict::Gone => Row::new(image, Action::Scrubbed, "gone already"),
        Verdict::Replaced => Row::new(image, Action::Reported, "its name leads to another object now"),
        Verdict::Unknown(words) => Row::new(image, Action::Reported, format!("no exact judge: {words}")),
        Verdict::Unused(words) => Row::new(image, Action::Reported, words),
    }
}

/// How long a process has between SIGTERM and SIGKILL.
pub(super) fn kill_after() -> Result<Duration, String> {
    Ok(Config::load(&|name| std::env::var_os(name))?.kill_after.unwrap_or(Duration::from_secs(2)))
}

/// Does the plan, processes first: what they hold is free afterwards.
fn act(view: &View, plan: Vec<HostImage>) -> Result<Vec<Row>, String> {
    let (processes, others): (Vec<_>, Vec<_>) = plan.into_iter().partition(|image| image.kind == HostKind::Process);
    let kill_after = kill_after()?;
    let mut rows: Vec<Row> = processes.into_iter().map(|image| end(view, image, kill_after)).collect();
    if others.is_empty() {
        return Ok(rows);
    }
    // A record of our own, so that a private folder is found again should we be killed.
    let mut record = dead::own_record();
    let mut note = |note| {
        if let Ok(record) = &mut record {
            record.note(note);
        }
    };
    let mut hands = Hands::new(&mut note);
    rows.extend(destroy(view, others, &mut hands));
    hands.finish();
    drop(hands);
    if let Ok(record) = record {
        record.remove()?;
    }
    Ok(rows)
}

/// Destroys each object, in their order, if the kernel says that nobody uses it.
fn destroy(view: &View, images: Vec<HostImage>, hands: &mut Hands<'_>) -> Vec<Row> {
    // Files wait for their last look together, each held open.
    allow_descriptors();
    let allowed: Vec<&HostImage> = images.iter().filter(|image| refusal(image).is_none()).collect();
    let mut outcomes = kinds::scrub_all(view, &allowed, hands).into_iter();
    let row = |image: HostImage| match refusal(&image) {
        Some(why) => Row::new(image, Action::Reported, why),
        None => match outcomes.next().unwrap_or(Outcome::Left(Verdict::Gone)) {
            Outcome::Scrubbed(words) => Row::new(image, Action::Scrubbed, words),
            Outcome::Left(verdict) => of_verdict(image, verdict),
            Outcome::Failed(words) => Row::new(image, Action::Failed, words),
        },
    };
    images.into_iter().map(row).collect()
}

/// Ends one process, if it serves nobody.
fn end(view: &View, image: HostImage, kill_after: Duration) -> Row {
    if let Some(why) = who_is_served(view, &image) {
        return Row::new(image, Action::InUse, why);
    }
    let held = match process::signal(view, &image, Signal::TERM) {
        Ok(held) => held,
        Err(verdict) => return of_verdict(image, verdict),
    };
    if held.wait(kill_after) {
        return Row::new(image, Action::Terminated, "ended on SIGTERM");
    }
    match held.signal(Signal::KILL) {
        Ok(()) if held.wait(Duration::from_secs(10)) => Row::new(image, Action::Killed, "did not end on SIGTERM"),
        Ok(()) => Row::new(image, Action::Failed, "got SIGKILL and has not ended; the kernel waits for something"),
        Err(rustix::io::Errno::SRCH) => Row::new(image, Action::Terminated, "ended on SIGTERM"),
        Err(e) => Row::new(image, Action::Failed, format!("cannot be killed: {e}")),
    }
}

/// Whom the process serves, in words: an outsider, or kobj itself, which descends from it.
fn who_is_served(view: &View, image: &HostImage) -> Option<String> {
    let Identity::Process { pid, .. } = image.identity else { return None };
    if own_ancestors(view).contains(&pid) {
        return Some("kobj itself, or what started it, is or descends from this process".into());
    }
    let served = serves_outside(view, &HashSet::from([pid]), &given_to(view, &[pid]));
    let holders: &Vec<Holder> = served.get(&pid).filter(|holders| !holders.is_empty())?;
    let one = |holder: &Holder| match holder.pid {
        0 => escape::for_terminal(&holder.command),
        pid => format!("{} ({pid})", escape::for_terminal(&holder.command)),
    };
    let names: Vec<String> = holders.iter().map(one).collect();
    Some(format!("serves {}", names.join(", ")))
}

/// What processes have from whoever started them and kobj, which connects nobody: kobj's own descriptors, and their
/// standard streams.
fn given_to(view: &View, pids: &[u32]) -> HashSet<(u64, u64)> {
    let mut given = inherited(view);
    let Ok(proc) = Proc::open(&view.proc) else { return given };
    for life in pids.iter().filter_map(|pid| proc.life(*pid).ok()) {
        let streams = ["fd/0", "fd/1", "fd/2"].iter().filter_map(|name| life.leads_to(name).ok());
        given.extend(streams.map(|look| (kobj_host::proc::device_of(&look), look.stx_ino)));
    }
    given
}

/// This process and its parents up to the first.
pub(super) fn own_ancestors(view: &View) -> HashSet<u32> {
    let mut line = HashSet::new();
    let Ok(proc) = Proc::open(&view.proc) else { return line };
    let mut pid = std::process::id();
    while pid != 0 && line.insert(pid) {
        pid = proc.life(pid).ok().and_then(|life| life.stat()).map_or(0, |stat| stat.parent);
    }
    line
}

const COLUMNS: [&str; 7] = ["KIND", "NAME", "SIZE", "HOLDERS", "ACTION", "WHY", "IDENTITY"];

fn render(rows: &[Row], json: bool) -> Result<String, String> {
    let flags = ListingFlags { json, ..ListingFlags::default() };
    let usual: &[&str] = if json { &COLUMNS } else { &["KIND", "NAME", "SIZE", "ACTION", "WHY"] };
    let cells: Vec<Vec<Cell>> = rows
        .iter()
        .map(|row| {
            vec![
                Cell::text(row.image.kind.name()),
                Cell::Text(row.image.name.clone()),
                row.image.size.map_or(Cell::Nothing, Cell::Size),
                super::census::holders_cell(&row.image.holders),
                Cell::text(row.action.name()),
                Cell::text(&row.why),
                Cell::text(&row.image.identity.to_string()),
            ]
        })
        .collect();
    Ok(Listing::new(&flags, "objects", &COLUMNS, usual)?.render(&cells))
}

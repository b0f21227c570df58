//! `kobj run`: runs a command as a job and says what it left.
//!
//! The order is the one of ARCHITECTURE.md: record, containment, watches, census, spawn; the loop; the end of leftover
//! processes; census again, attribution, plan, effects, report; end as the command ended.

mod accounts;
pub(crate) mod attribution;
pub(crate) mod ending;
pub(crate) mod inner;
pub(crate) mod isolate;
mod job_control;
pub(crate) mod keep;
mod looks;
mod outputs;
pub(crate) mod recording;
pub(crate) mod settle;
pub(crate) mod told;

use crate::exit_code::{self, CommandEnd, Finish, RunEnd};
use crate::options::run::{COOKIE, RunOptions, refuse};
use crate::report::schema::{JobRow, Report};
use crate::report::{escape, files, text, time};
use ending::Keeper;
use isolate::Isolated;
use job_control::{End, JobControl, is_init};
use keep::Keep;
use kobj_abi::{Era, Koid, ObjectType, Tag};
use kobj_core::image::Time;
use kobj_host::containment::{Containment, Group};
use kobj_host::members::Member;
use kobj_host::record::{Beginning, Record, RuntimeFolder};
use kobj_host::view::View;
use kobj_host::watch::{Choice, Watches};
use kobj_platform::late_close::close_late;
use kobj_platform::signals::{Signals, die_by};
use kobj_platform::spawn::{Child, Launch, SpawnError};
use kobj_platform::startup::inherited_objects;
use looks::Before;
use recording::Recording;
use rustix::fd::BorrowedFd;
use rustix::process::Signal;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::time::Instant;

/// Runs `kobj run` with the words behind it; ends as the command ended.
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    let options = match RunOptions::load(arguments) {
        Ok(options) => options,
        Err(refusal) => return ExitCode::from(refuse(refusal)),
    };
    match keep_job(&options) {
        Ok(Finish::Exit(code)) => ExitCode::from(code),
        Ok(Finish::DieBy(signal)) => {
            die_by(signal);
            // Only a signal whose default action does not end a process comes here.
            ExitCode::from((128 + signal).clamp(1, 255) as u8)
        }
        Err(sentence) => {
            crate::tell(&format!("kobj: {sentence}\n"));
            ExitCode::from(exit_code::OWN_FAILURE)
        }
    }
}

fn keep_job(options: &RunOptions) -> Result<Finish, String> {
    let signals = Signals::take().map_err(|e| format!("cannot take over the signals: {e}"))?;
    let tmpdir = std::env::var_os("TMPDIR").map(Into::into);
    let view = View::of_this_process(&options.segment_folders, &options.temporary_folders, tmpdir);
    let had_children = job_control::has_children();
    // Orphans of the job come to us and not to init, so that none is lost and each is reaped.
    rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1))
        .map_err(|e| format!("cannot become the reaper of the job's orphans: {e}"))?;
    // From here on nothing returns but by `put_away`.
    let mut environment = isolate::environment_without(COOKIE);
    let (mut record, koid) = begin_record(options, &environment)?;
    let cookie = cookie_of(koid);
    let line = cookie_line(&cookie);
    environment.push((COOKIE.into(), cookie));
    // Both are written down before they are used: the end of kobj at any instant leaves none that is not known.
    record.say(|record| record.set_cookie(&line));
    let mut containment = Containment::choose(&view, koid, |path| record.say(|record| record.set_group(path)));
    if containment.group().is_none() {
        record.say(|record| record.set_group("".as_ref()));
    }
    let mut watches = Watches::open(&view, Some(std::process::id()), Choice::default());
    let before = Before::take(&view, &mut watches);
    let started = time::now();
    let (child, isolated) = match start(options, &mut containment, &environment) {
        Ok(child) => child,
        Err(error) => {
            put_away(&containment, watches, before, record);
            return not_started(&options.command[0], error);
        }
    };
    watches.set_root(child.pid);
    record.say(|record| record.set_command(child.pid));
    let control = JobControl::new(signals, child, isolated);
    let mut keep = Keep {
        view: &view,
        control,
        containment,
        watches,
        record,
        cookie: line,
        had_children,
        unpublished: false,
        is_over: false,
    };
    let ended = see_through(&mut keep, options, &before, koid, started);
    let Keep { containment, watches, record, .. } = keep;
    put_away(&containment, watches, before, record);
    Ok(ended?.finish())
}

/// Keeps the job to its end, ends what is left of it, and says what it left.
///
/// # Errors
/// A sentence: kobj itself failed. The job was ended as far as the options allow, and is not reported.
fn see_through(
    keep: &mut Keep<'_>,
    options: &RunOptions,
    before: &Before,
    koid: Koid,
    started: Time,
) -> Result<RunEnd, String> {
    let awaited = await_end(keep, options);
    if awaited.is_ok() {
        keep.record.say(Record::set_ended);
    }
    let leftovers = ending::end_leftovers(keep, &mercy(options));
    keep.end_isolation();
    keep.drain();
    keep.control.take_foreground_back();
    let command = awaited?;
    let tag = Tag { letters: ObjectType::Job.letters(), koid };
    let mut report = Report::new(JobRow::new(tag, options.name.clone(), &options.command, started));
    accounts::describe(&mut report, keep, command);
    accounts::settle(&mut report, keep, options, before, leftovers, koid.era())?;
    if keep.watches.process_counts().is_none_or(|(started, _)| started > 1) {
        inner::name_inner_jobs(&mut report, inner::take_words(koid.era()));
    }
    report.job.ended = Some(time::now());
    if let Some(outer) = outer_koid() {
        inner::leave_word(outer, &report, koid);
    }
    let report_failed = publish(options, &report);
    let stragglers = report.has_proved_stragglers();
    let fail_on_stragglers = options.fail_on_stragglers;
    Ok(RunEnd { command, report_failed, stragglers, fail_on_stragglers, is_init: is_init() })
}

/// Claims the job's koid by making its record. Without a record the run goes on, and cannot be recovered.
fn begin_record(options: &RunOptions, environment: &[(OsString, OsString)]) -> Result<(Recording, Koid), String> {
    let parent = outer_koid();
    let command_line: Vec<Vec<u8>> = options.command.iter().map(|word| word.as_bytes().to_vec()).collect();
    let name = options.name.as_ref().map_or(&b""[..], |name| name.as_bytes());
    // A working folder that was removed leaves nothing that could lie in it.
    let folder = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let (inherited, told) = (inherited_objects(), told::encode(options, environment, &folder));
    let (settings, inherited) = (recording::settings(options), &inherited);
    let beginning =
        Beginning { parent, name, cookie: b"", command_line: &command_line, settings, inherited, told: &told };
    match RuntimeFolder::open().and_then(|folder| Record::create(folder, &beginning)) {
        Ok(record) => {
            let koid = record.koid();
            Ok((Recording::Kept(Box::new(record)), koid))
        }
        Err(why) => {
            // Nothing guards this era, and nothing is stored under it: the report says that the run has no record.
            let seconds = u32::try_from(time::now().0 / 1_000_000).unwrap_or(u32::MAX);
            let koid = Koid::new(Era(seconds), 1).ok_or_else(|| format!("cannot number the job: {why}"))?;
            Ok((Recording::Impossible(why), koid))
        }
    }
}

/// `NAME=VALUE` as it stands in the environment.
fn cookie_line(cookie: &OsStr) -> Vec<u8> {
    let mut line = COOKIE.as_bytes().to_vec();
    line.push(b'=');
    line.extend_from_slice(cookie.as_bytes());
    line
}

/// The job that this kobj runs in.
fn outer_koid() -> Option<Koid> {
    std::env::var_os(COOKIE).and_then(|outer| koid_of_cookie(outer.as_bytes()))
}

/// The koid of the innermost job that a cookie names.
fn koid_of_cookie(value: &[u8]) -> Option<Koid> {
    let last = std::str::from_utf8(value.rsplit(|byte| *byte == b'/').next()?).ok()?;
    let (koid, _) = last.split_once('-')?;
    let digits = koid.len() == 16 && koid.bytes().all(|byte| byte.is_ascii_hexdigit());
    Koid::from_raw(digits.then(|| u64::from_str_radix(koid, 16).ok())??)
}

/// Removes the group and the record, and closes what takes the kernel its time to close, without waiting for it. A group
/// with processes in use stays, and so does the record, which knows of it.
fn put_away(containment: &Containment, watches: Watches, before: Before, record: Recording) {
    let mut descriptors = watches.into_descriptors();
    descriptors.extend(before.into_descriptors());
    if containment.group().is_none_or(Group::dissolve) {
        descriptors.extend(record.remove());
    } else {
        record.settle();
    }
    close_late(descriptors);
}

fn mercy(options: &RunOptions) -> ending::Mercy<'_> {
    let only_look = if options.report_only {
        Some(ending::Fate::Reported("nothing is touched (--report-only)".to_owned()))
    } else {
        options.dry_run.then_some(ending::Fate::Planned)
    };
    let (kill_after, signal) = (options.kill_after, options.signal);
    if options.isolate {
        // Nothing inside outlives the namespaces, so nobody can be spared.
        let (keep, ignore) = (&[][..], &[][..]);
        return ending::Mercy { only_look: None, kill_all: true, kill_after, signal, keep, ignore, baseline: None };
    }
    let RunOptions { keep, ignore, baseline, kill_all, .. } = options;
    let baseline = Some(baseline);
    ending::Mercy { only_look, kill_all: *kill_all, kill_after, signal, keep, ignore, baseline }
}

/// Writes the report where it was asked for, and to standard error; whether a file could not be written.
fn publish(options: &RunOptions, report: &Report) -> bool {
    let failures = files::write_all(&options.reports, report);
    for failure in &failures {
        crate::tell(&format!("kobj: {}\n", escape::for_terminal(failure.as_bytes())));
    }
    if options.json {
        crate::tell(&report.to_json());
    } else if !options.quiet {
        crate::tell(&text::render(report, text::Style::of(std::io::stderr(), options.explain, options.verbose)));
    }
    if report.has_news()
        && let Err(why) = crate::state::save_last(report)
        && options.verbose
    {
        crate::tell(&format!("kobj: {}\n", escape::for_terminal(why.as_bytes())));
    }
    !failures.is_empty()
}

/// The cookie's value: the koid, and the keeper's pid, which tells it from a cookie that a person made up; behind the
/// outer job's, for an inner job.
fn cookie_of(koid: Koid) -> OsString {
    cookie_of_job(std::env::var_os(COOKIE), koid)
}

fn cookie_of_job(outer: Option<OsString>, koid: Koid) -> OsString {
    let own = format!("{:016x}-{:x}", koid.raw(), std::process::id());
    match outer {
        Some(outer) => {
            let mut value = outer;
            value.push("/");
            value.push(own);
            value
        }
        None => own.into(),
    }
}

/// Starts the command; falls back to parenthood where the control group refuses it.
fn start(
    options: &RunOptions,
    containment: &mut Containment,
    environment: &[(OsString, OsString)],
) -> Result<(Child, Option<Isolated>), SpawnError> {
    let path = std::env::var_os("PATH");
    let begin = |group: Option<BorrowedFd<'_>>| {
        let (command, environment) = (&options.command, environment.to_vec());
        if options.isolate {
            return isolate::start(command, environment, group).map(|(child, isolated)| (child, Some(isolated)));
        }
        let launch = Launch::new(command, path.as_deref(), environment).map_err(SpawnError::NotExecutable)?;
        Ok((launch.start(group)?, None))
    };
    match begin(containment.group().map(rustix::fd::AsFd::as_fd)) {
        Err(SpawnError::GroupRefused(error)) => {
            let why = format!("the control group refused the command: {error}");
            if let Some(group) = containment.group() {
                let _ = group.remove();
            }
            *containment = Containment::Subreaper(why);
            begin(None)
        }
        other => other,
    }
}

fn not_started(program: &OsStr, error: SpawnError) -> Result<Finish, String> {
    let name = crate::report::escape::for_terminal(program.as_bytes());
    let (code, sentence) = match error {
        SpawnError::NotFound(e) => {
            (exit_code::NOT_FOUND, format!("cannot run '{name}': {e}; check its name, its interpreter and PATH"))
        }
        SpawnError::NotExecutable(e) => (exit_code::NOT_EXECUTABLE, format!("cannot run '{name}': {e}")),
        SpawnError::NotIsolated { step, error } => (exit_code::OWN_FAILURE, isolate::refusal(step, &error, &name)),
        SpawnError::GroupRefused(e) | SpawnError::Refused(e) => {
            (exit_code::OWN_FAILURE, format!("cannot start a process for '{name}': {e}"))
        }
    };
    crate::tell(&format!("kobj: {sentence}\n"));
    Ok(Finish::Exit(code))
}

/// Whether `--timeout` may end a process: the command always, others unless they are not to be touched.
fn may_be_timed_out(member: &Member, keep: &Keep<'_>, mercy: &ending::Mercy<'_>) -> bool {
    let is_exempt = mercy.only_look.is_some() || mercy.is_named(keep, &member.image(), member.pid);
    member.pid == keep.control.command_pid() || !is_exempt
}

/// Keeps the job until its command has ended, or until `--timeout` ended it.
fn await_end(keep: &mut Keep<'_>, options: &RunOptions) -> Result<CommandEnd, String> {
    let deadline = options.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut patience = deadline;
    let mut timed_out = false;
    let mut killed = false;
    loop {
        if let Some(end) = keep.control.end() {
            return Ok(match end {
                _ if timed_out => CommandEnd::TimedOut { killed },
                End::Code(code) => CommandEnd::Exited(code as u8),
                End::Signal(signal) => CommandEnd::Signalled(signal),
            });
        }
        let now = Instant::now();
        if patience.is_some_and(|at| now >= at) {
            killed = timed_out;
            let signal = if timed_out { Signal::KILL.as_raw() } else { options.signal };
            let members = keep.members();
            for member in members.iter().filter(|member| may_be_timed_out(member, keep, &mercy(options))) {
                // A stopped process sees the signal only when it goes on.
                let _ = member.send(signal).and_then(|()| member.signal(Signal::CONT));
            }
            patience = if timed_out { None } else { now.checked_add(options.kill_after) };
            timed_out = true;
        }
        keep.turn(&[], patience).map_err(|e| format!("cannot wait for the command: {e}"))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_names_its_innermost_job() {
        let koid = Koid::new(Era(0x6b05_333c), 1).unwrap();
        let own = cookie_of_job(None, koid);
        assert_eq!(koid_of_cookie(own.as_bytes()), Some(koid));
        let inner = Koid::new(Era(0x6b05_333d), 1).unwrap();
        let both = cookie_of_job(Some(own.clone()), inner);
        assert_eq!(koid_of_cookie(both.as_bytes()), Some(inner));
        assert!(both.as_bytes().starts_with(own.as_bytes()));
        for wrong in [&b""[..], b"/", b"x", b"0-1", b"\xff-1", b"00000000000000000000000000000001-1"] {
            assert_eq!(koid_of_cookie(wrong), None, "{wrong:?}");
        }
    }
}

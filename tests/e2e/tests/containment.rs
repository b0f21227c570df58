//! Nothing gets away: late forks, double forks, sessions, storms; PID 1; jobs inside jobs; servers with guests.

use kobj_e2e::mode::Mode;
use kobj_e2e::place::{Place, Room, one_room};
use kobj_e2e::process;
use kobj_e2e::report::Report;
use kobj_e2e::running::{Ended, Running, Spec};
use std::fs;
use std::path::Path;

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn run(mode: Mode, room: &Room, kobj: &Path, flags: &[&str], argv: &[&str]) -> Ended {
    let spec = Spec { argv: words(argv), ..Spec::default() };
    let mut running = Running::start(mode, room, &spec, Some((kobj, flags)));
    running.wait_report()
}

/// Pids of processes whose arguments have `tag` in them.
fn with_tag(tag: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mine = std::process::id().to_string();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && *name != mine)
        .filter(|pid| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).contains(tag)
        })
        .collect()
}

fn storm(mode: Mode, kind: &str) {
    let (place, room, kobj) = one_room(mode.uid());
    let script = place.root.join("storm.py").display().to_string();
    let argv = ["/usr/bin/python3", "-B", &script, kind, &room.tag];
    let ended = run(mode, &room, &kobj, &["--kill-after", "0.2"], &argv);
    assert_eq!(with_tag(&room.tag), Vec::<String>::new(), "{kind}: got away\n{}", ended.output);
    assert!(ended.status.success(), "{}", ended.output);
    if kind == "chain" {
        // Each of these ends by itself before anybody can look at it: none needs to be named.
        return;
    }
    let ended_by_kobj = |action: &str| matches!(action, "terminated" | "killed");
    let processes: Vec<_> = ended.report.stragglers.iter().filter(|item| item.kind == "process").collect();
    assert!(!processes.is_empty(), "{kind}: unnamed\n{}", ended.report.summary());
    assert!(processes.iter().all(|item| ended_by_kobj(&item.action)), "{}", ended.report.summary());
    assert!(processes.len() >= 16, "{kind}: {} of 16 named\n{}", processes.len(), ended.report.summary());
}

#[test]
fn a_fork_storm_is_ended_as_root() {
    storm(Mode::Root, "chain");
}

#[test]
fn a_fork_storm_is_ended_as_a_user() {
    storm(Mode::User, "chain");
}

#[test]
fn a_fork_storm_is_ended_in_a_container() {
    storm(Mode::Contained, "chain");
}

#[test]
fn double_forks_into_sessions_are_ended() {
    storm(Mode::Root, "session");
    storm(Mode::User, "session");
    storm(Mode::Contained, "session");
}

#[test]
fn forks_in_answer_to_the_first_signal_are_ended() {
    storm(Mode::Root, "late");
    storm(Mode::User, "late");
    storm(Mode::Contained, "late");
}

#[test]
fn as_the_first_process_it_reaps_and_exits_with_128_and_the_signal() {
    let (place, room, kobj) = one_room(0);
    let script = place.root.join("orphans.py").display().to_string();
    let ended = run(Mode::Contained, &room, &kobj, &[], &["/usr/bin/python3", "-B", &script]);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
    assert!(ended.output.contains("reaped 40"), "{}", ended.output);
    assert!(ended.report.stragglers.is_empty(), "{}", ended.report.summary());
    let ended = run(Mode::Contained, &room, &kobj, &[], &["/bin/sh", "-c", "kill -TERM $$"]);
    assert_eq!(ended.status.code(), Some(143), "{}", ended.output);
    let ended = run(Mode::Contained, &room, &kobj, &[], &["/bin/sh", "-c", "exit 7"]);
    assert_eq!(ended.status.code(), Some(7), "{}", ended.output);
}

#[test]
fn as_the_first_process_it_forwards_signals() {
    let (place, room, kobj) = one_room(0);
    let script = place.root.join("count.py").display().to_string();
    let spec = Spec { argv: words(&["/usr/bin/python3", "-B", &script]), ready: "ready".into(), ..Spec::default() };
    let mut running = Running::start(Mode::Contained, &room, &spec, Some((&kobj, &[])));
    running.ready("ready").unwrap_or_else(|output| panic!("{output}"));
    assert!(process::send(running.kobj_pid(), rustix::process::Signal::TERM));
    assert!(running.line("counted SIGTERM 1").is_some(), "{}", running.output());
    running.tear_down();
    assert!(running.wait().success());
}

/// How often a segment is named in the stragglers of a report and of all jobs inside it.
fn named(report: &Report, name: &str) -> usize {
    fn inner(value: &serde_json::Value, name: &str) -> usize {
        let own = value["stragglers"].as_array().into_iter().flatten().filter(|item| item["name"] == name).count();
        let jobs = value["jobs"].as_array().or_else(|| value["job"]["jobs"].as_array());
        own + jobs.into_iter().flatten().map(|job| inner(job, name)).sum::<usize>()
    }
    let own = report.stragglers.iter().filter(|item| item.name == name).count();
    own + report.job.jobs.iter().map(|job| inner(job, name)).sum::<usize>()
}

/// An inner job leaves a segment; the outer one names it once, and its flags decide.
fn nested(outer: &[&str], left: bool) {
    let (_place, room, kobj) = one_room(0);
    let segment = format!("/dev/shm/{}", room.tag);
    let script = format!("{} run --report-only --name inner -- sh -c 'echo x >{segment}'", kobj.display());
    let ended = run(Mode::Root, &room, &kobj, outer, &["/bin/sh", "-c", &script]);
    assert_eq!(named(&ended.report, &segment), 1, "{}\n{}", ended.report.summary(), ended.output);
    let inner: Vec<_> = ended.report.job.jobs.iter().map(|job| job["name"].clone()).collect();
    assert_eq!(inner, ["inner"], "the inner job's name");
    assert_eq!(Path::new(&segment).exists(), left, "{}", ended.report.summary());
}

#[test]
fn what_an_inner_job_left_is_the_outer_jobs_to_scrub() {
    nested(&["--scrub"], false);
}

#[test]
fn what_an_inner_job_left_stays_if_the_outer_job_only_reports() {
    nested(&["--report-only"], true);
}

#[test]
fn a_hundred_inner_runs_leave_nothing_to_report() {
    let (_place, room, kobj) = one_room(0);
    let script = format!("i=0; while [ $i -lt 100 ]; do {} run -- true || exit 1; i=$((i+1)); done", kobj.display());
    let ended = run(Mode::Root, &room, &kobj, &[], &["/bin/sh", "-c", &script]);
    assert!(ended.status.success(), "{}", ended.output);
    assert!(ended.report.stragglers.is_empty(), "{}", ended.report.summary());
    let ours = |name: &str| name.contains("kobj-0") || name.contains(&room.tag) || name.contains("/run/kobj");
    let strange: Vec<_> = ended.report.unattributed.iter().filter(|item| ours(&item.name)).collect();
    assert!(strange.is_empty(), "kobj's own debris: {strange:?}");
    assert!(ended.report.job.complete, "{:?}", ended.report.job.incomplete_because);
}

/// A tmux server that the job started, with a client from outside the job.
fn guest(flags: &[&str]) -> (Place, Running, Running, Ended, u32) {
    let (place, room, kobj) = one_room(0);
    let tmux = format!("tmux -L {} -f /dev/null", room.tag);
    let script =
        format!("{tmux} new-session -d cat && echo ready $({tmux} display-message -p 'server=#{{pid}}'); read end");
    let environment = vec![("TMUX_TMPDIR".into(), room.tmp.display().to_string()), ("SHELL".into(), "/bin/sh".into())];
    let spec = Spec { argv: words(&["/bin/sh", "-c", &script]), environment, ready: "ready".into(), ..Spec::default() };
    let mut job = Running::start(Mode::Root, &room, &spec, Some((&kobj, flags)));
    job.ready("ready").unwrap_or_else(|output| panic!("{output}"));
    let server: u32 = job.variables["server"].parse().expect("a pid");
    let mut line = words(&["tmux", "-L", &room.tag, "-f", "/dev/null", "-C", "attach"]);
    let mut client = Running::spawn(&room, &spec, &std::mem::take(&mut line), 0, false);
    client.ready("%session-changed").unwrap_or_else(|output| panic!("{output}"));
    job.tear_down();
    let ended = job.wait_report();
    (place, job, client, ended, server)
}

#[test]
fn a_server_with_a_guest_from_outside_is_left() {
    let (_place, _job, mut client, ended, server) = guest(&[]);
    assert!(process::alive(server), "the server was ended under its guest\n{}", ended.report.summary());
    let named = |pid: u32| ended.report.stragglers.iter().find(|item| item.name.contains(&pid.to_string()));
    let item = named(server).unwrap_or_else(|| panic!("unnamed\n{}", ended.report.summary()));
    assert_eq!(item.action, "in-use", "{}", ended.report.summary());
    client.write("kill-server\n");
    client.wait();
}

#[test]
fn kill_all_ends_a_server_with_a_guest_too() {
    let (_place, _job, mut client, ended, server) = guest(&["--kill-all"]);
    assert!(!process::alive(server), "the server is still there\n{}", ended.report.summary());
    client.wait();
}

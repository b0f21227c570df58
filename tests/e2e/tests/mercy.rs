//! What is left alone, and when: at a time-out, beside a server that is spared, and under whatever umask kobj stands.

use kobj_e2e::mode::Mode;
use kobj_e2e::place::{Room, one_room, own};
use kobj_e2e::process;
use kobj_e2e::report::Report;
use kobj_e2e::running::{Running, Spec};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

/// Processes that a test left on purpose: they go with it, whatever becomes of it.
struct Left(Vec<u32>);

impl Drop for Left {
    fn drop(&mut self) {
        for pid in &self.0 {
            process::send(*pid, Signal::KILL);
        }
    }
}

/// The action of the process `pid` in a report.
fn fate(report: &Report, pid: u32) -> Option<String> {
    let is_it = |name: &str| name.split(' ').next() == Some(&pid.to_string());
    let row = report.stragglers.iter().find(|item| item.kind == "process" && is_it(&item.name));
    row.map(|item| item.action.clone())
}

/// A command that runs into its time-out, with a child that stays until it is signalled.
fn timed_out(flags: &[&str]) -> (Option<String>, bool) {
    let (_place, room, kobj) = one_room(0);
    // Its name is the script's; nothing ever comes from a fresh terminal.
    let child = room.home.join("stayer");
    fs::write(&child, "#!/bin/sh\necho ready child=$$\nexec >/dev/null 2>&1\nread x </dev/ptmx\n").expect("a script");
    fs::set_permissions(&child, fs::Permissions::from_mode(0o755)).expect("made executable");
    let script = format!("{} & read x </dev/ptmx", child.display());
    let spec = Spec { argv: words(&["/bin/sh", "-c", &script]), ready: "ready".into(), ..Spec::default() };
    let flags = [&["--timeout", "2", "--kill-after", "0.1"], flags].concat();
    let mut job = Running::start(Mode::Root, &room, &spec, Some((&kobj, &flags)));
    job.ready("ready").unwrap_or_else(|output| panic!("{output}"));
    let pid: u32 = job.variables["child"].parse().expect("a pid");
    let _left = Left(vec![pid]);
    let ended = job.wait_report();
    assert_eq!(ended.status.code(), Some(124), "{}", ended.output);
    (fate(&ended.report, pid), process::alive(pid))
}

#[test]
fn a_time_out_ends_the_whole_job_but_what_is_not_to_be_touched() {
    let (fate, lives) = timed_out(&["--keep", "process:*stayer"]);
    assert_eq!((fate.as_deref(), lives), (Some("kept"), true), "--keep");
    let (fate, lives) = timed_out(&["--ignore", "process:*stayer"]);
    assert_eq!((fate.as_deref(), lives), (Some("ignored"), true), "--ignore");
    let (fate, lives) = timed_out(&["--report-only"]);
    assert_eq!((fate.as_deref(), lives), (Some("reported"), true), "--report-only");
    // Of another name, it goes with the rest.
    let (_, lives) = timed_out(&["--keep", "process:*other"]);
    assert!(!lives, "it outlived the time-out");
}

/// A server that serves the test, and another process of the job; the first signal to that makes the server fork for its
/// client. The new process is neither to be asked nor to be killed.
const SERVER: &str = "
import os, signal, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
# Not by a pipe that both hold: who shares one with a server that is spared is spared too.
word = sys.argv[1] + '.word'
os.mkfifo(word)
def away():
    null = os.open('/dev/null', os.O_RDWR)
    for number in range(3): os.dup2(null, number)
server = os.fork()
if server == 0:
    os.setsid()
    print('listens', flush=True)
    client = listener.accept()[0]
    print('has a client', flush=True)
    away()
    open(word).read()
    newborn = os.fork()
    if newborn: open(sys.argv[1] + '.newborn', 'w').write(str(newborn))
    while True: signal.pause()
other = os.fork()
if other == 0:
    listener.close()
    signal.signal(signal.SIGTERM, lambda *_: open(word, 'w').close())
    print(f'ready server={server} other={os.getpid()}', flush=True)
    away()
    while True: signal.pause()
sys.stdin.read()
";

#[test]
fn a_newborn_beside_a_server_that_is_spared_is_judged_before_it_is_touched() {
    let (_place, room, kobj) = one_room(0);
    let path = room.home.join("socket");
    let argv = words(&["/usr/bin/python3", "-B", "-c", SERVER, path.to_str().expect("plain")]);
    let spec = Spec { argv, ready: "ready".into(), ..Spec::default() };
    // Time for the newborn to be seen between the first signal and the last.
    let mut job = Running::start(Mode::Root, &room, &spec, Some((&kobj, &["--kill-after", "1"])));
    job.ready("ready").unwrap_or_else(|output| panic!("{output}"));
    let pid = |name: &str| -> u32 { job.variables[name].parse().expect("a pid") };
    let (server, other) = (pid("server"), pid("other"));
    let mut left = Left(vec![server, other]);
    assert!(job.line("listens").is_some(), "{}", job.output());
    let _client = UnixStream::connect(&path).expect("connected");
    assert!(job.line("has a client").is_some(), "{}", job.output());
    job.tear_down();
    let ended = job.wait_report();
    let about = ended.report.summary();
    let newborn = fs::read_to_string(room.home.join("socket.newborn"));
    let newborn = newborn.unwrap_or_else(|error| panic!("the server has not forked: {error}\n{about}"));
    let newborn: u32 = newborn.parse().expect("a pid");
    left.0.push(newborn);
    assert_eq!(fate(&ended.report, other).as_deref(), Some("killed"), "{about}");
    for (name, pid) in [("server", server), ("newborn", newborn)] {
        assert_eq!(fate(&ended.report, pid).as_deref(), Some("in-use"), "{name}: {about}");
        assert!(process::alive(pid), "the {name} was ended under its client\n{about}");
    }
}

/// Whatever begins with `.kobj-` and that number: the private folders through which files pass.
fn rooms_of(kobj: u32, folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(&format!(".kobj-{kobj}-"))).collect()
}

/// Runs words as `mode` under that umask, in `room`.
fn under_umask(mode: Mode, umask: &str, room: &Room, arguments: &[&str]) -> (Running, u32) {
    let script = format!("umask {umask}; exec \"$0\" \"$@\"");
    let mut all = mode.prefix();
    all.extend(words(&["/bin/sh", "-c", &script]));
    all.extend(words(arguments));
    let running = Running::spawn(room, &Spec::default(), &all, 0, true);
    let kobj = running.leader();
    (running, kobj)
}

#[test]
fn a_narrow_umask_hinders_neither_record_nor_scrub_and_reaches_the_command() {
    for umask in ["0077", "0777"] {
        let (_place, room, kobj) = one_room(0);
        let (tag, tmp) = (&room.tag, room.tmp.display());
        // Folders of the job's that others cannot enter, and that it has closed to itself.
        let script = format!(
            "umask; umask 022; : >/dev/shm/{tag}-segment; mkdir -m 700 {tmp}/private {tmp}/private/inner; \
             : >{tmp}/private/inner/file; chmod 0 {tmp}/private/inner/file {tmp}/private/inner"
        );
        let report = room.desk.join("report.json");
        let kobj = kobj.display().to_string();
        let report = report.to_str().expect("plain");
        let flags = [&kobj, "run", "--report", report, "--scrub=all", "--", "/bin/sh", "-c", &script];
        let (mut running, pid) = under_umask(Mode::Root, umask, &room, &flags);
        let ended = running.wait_report();
        assert!(ended.status.success() && ended.output.contains(umask), "{umask}: {}", ended.output);
        let about = format!("umask {umask}: {}\n{}", ended.report.summary(), ended.output);
        assert!(ended.report.job.complete, "{about}");
        let actions: Vec<_> = ended.report.stragglers.iter().map(|item| (&*item.kind, &*item.action)).collect();
        assert_eq!(actions.len(), 2, "{about}");
        assert!(actions.contains(&("segment", "scrubbed")), "{about}");
        assert!(actions.contains(&("temporary-folder", "scrubbed")), "{about}");
        assert!(!room.tmp.join("private").exists() && !Path::new(&format!("/dev/shm/{tag}-segment")).exists());
        for folder in [Path::new("/dev/shm"), &room.tmp] {
            assert_eq!(rooms_of(pid, folder), Vec::<String>::new(), "{about}");
        }
    }
}

#[test]
fn a_user_with_the_narrowest_umask_scrubs_what_he_names() {
    for umask in ["0077", "0777"] {
        let (_place, room, kobj) = one_room(Mode::User.uid());
        let path = format!("/dev/shm/{}-named", room.tag);
        fs::write(&path, "content").expect("a segment");
        own(Path::new(&path), Mode::User.uid()).expect("given away");
        let kobj = kobj.display().to_string();
        let (mut running, pid) = under_umask(Mode::User, umask, &room, &[&kobj, "scrub", "--yes", &path]);
        let status = running.wait();
        assert!(status.success(), "umask {umask}: {status}\n{}", running.output());
        assert!(!Path::new(&path).exists(), "umask {umask}: {}", running.output());
        assert_eq!(rooms_of(pid, Path::new("/dev/shm")), Vec::<String>::new());
    }
}

//! `kobj run --isolate` through the binary, as root and as a user without rights.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A copy of the binary in a folder that everybody may read, and somebody who runs it.
struct Somebody {
    folder: PathBuf,
    is_root: bool,
}

const BECOME_NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

impl Somebody {
    fn new(test: &str, is_root: bool) -> Self {
        let who = if is_root { "root" } else { "nobody" };
        let folder = std::env::temp_dir().join(format!("kobj-isolate-{test}-{who}-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o777)).unwrap();
        // By another process: a descriptor open for writing here would be inherited by what other tests start meanwhile,
        // and the copy be "busy".
        let copied = Command::new("install").args(["-m", "755", env!("CARGO_BIN_EXE_kobj")]).arg(&folder).status();
        assert!(copied.unwrap().success());
        let runtime = folder.join("runtime");
        std::fs::create_dir(&runtime).unwrap();
        std::fs::set_permissions(&runtime, PermissionsExt::from_mode(0o700)).unwrap();
        if !is_root && rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&runtime, Some(65534), Some(65534)).unwrap();
        }
        Self { folder, is_root }
    }

    /// `words` as this somebody, with standard output and error piped.
    fn command(&self, words: &[&OsStr]) -> Command {
        let drops = !self.is_root && rustix::process::geteuid().is_root();
        let before = if drops { &BECOME_NOBODY[..] } else { &[] };
        let all: Vec<&OsStr> = before.iter().map(OsStr::new).chain(words.iter().copied()).collect();
        let mut command = Command::new(all[0]);
        command.args(&all[1..]).env_remove("KOBJ_JOB").env("XDG_RUNTIME_DIR", self.folder.join("runtime"));
        // Folders that a user may not search would make a missing program "not to be executed".
        command.env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent").env("XDG_CONFIG_HOME", "/nonexistent");
        command.env("XDG_STATE_HOME", self.folder.join("runtime"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// A name for a job of its own.
    fn job_name(&self) -> String {
        text(self.folder.file_name().unwrap().as_encoded_bytes())
    }

    fn isolated(&self, flags: &[&str], command: &[&str]) -> Command {
        let kobj = self.folder.join("kobj");
        let mut words = vec![kobj.as_os_str(), OsStr::new("run"), OsStr::new("--isolate")];
        words.extend(flags.iter().map(OsStr::new));
        words.push(OsStr::new("--"));
        words.extend(command.iter().map(OsStr::new));
        self.command(&words)
    }

    fn run(&self, flags: &[&str], script: &str) -> Output {
        self.isolated(flags, &["sh", "-c", script]).output().unwrap()
    }
}

impl Drop for Somebody {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Whether this machine lets a user, and root, make the namespaces: asked of another program than kobj.
fn namespaces(is_root: bool) -> bool {
    static OF_USER: OnceLock<bool> = OnceLock::new();
    static OF_ROOT: OnceLock<bool> = OnceLock::new();
    let cell = if is_root { &OF_ROOT } else { &OF_USER };
    *cell.get_or_init(|| {
        let drops = !is_root && rustix::process::geteuid().is_root();
        let unshare = if is_root { "-pimf" } else { "-Upimfr" };
        let before = if drops { &BECOME_NOBODY[..] } else { &[] };
        let words: Vec<&str> = before.iter().copied().chain(["unshare", unshare, "--mount-proc", "true"]).collect();
        let status = Command::new(words[0]).args(&words[1..]).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    })
}

/// Runs `check` as root and as a user, where that can be had.
fn as_both(test: &str, check: impl Fn(&Somebody)) {
    for is_root in [true, false] {
        if is_root && !rustix::process::geteuid().is_root() {
            println!("skipped: {test} as root: not root");
        } else if !namespaces(is_root) {
            let who = if is_root { "root" } else { "a user" };
            println!("skipped: {test} as {who}: namespaces are refused here");
        } else {
            check(&Somebody::new(test, is_root));
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn it_ends_as_the_command_ended() {
    as_both("it_ends_as_the_command_ended", |somebody| {
        assert_eq!(somebody.run(&[], "exit 7").status.code(), Some(7));
        assert_eq!(somebody.run(&[], "exit 255").status.code(), Some(255));
        assert_eq!(somebody.run(&[], "exit 137").status.code(), Some(137));
        for signal in [9, 15, 10] {
            let output = somebody.run(&[], &format!("kill -{signal} $$"));
            assert_eq!(output.status.signal(), Some(signal), "{output:?}");
        }
        let missing = somebody.isolated(&[], &["no-such-program"]).output().unwrap();
        assert_eq!(missing.status.code(), Some(127));
        assert!(text(&missing.stderr).contains("cannot run 'no-such-program': No such file"), "{missing:?}");
        let folder = somebody.isolated(&[], &["/etc/passwd"]).output().unwrap();
        assert_eq!(folder.status.code(), Some(126), "{folder:?}");
        let late = somebody.run(&["--timeout", "0.2", "--quiet"], "exec cat /dev/zero >/dev/null");
        assert_eq!(late.status.code(), Some(124), "{late:?}");
    });
}

#[test]
fn the_command_keeps_its_user_and_is_not_the_first_process() {
    as_both("the_command_keeps_its_user_and_is_not_the_first_process", |somebody| {
        let output = somebody.run(&[], "echo $$ $(id -u) $(id -g); cat /proc/1/comm; grep CapEff /proc/self/status");
        let said = text(&output.stdout);
        let user = if somebody.is_root { rustix::process::geteuid().as_raw() } else { 65534 };
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[..2], [&format!("2 {user} {user}")[..], "kobj-init"], "{output:?}");
        if !somebody.is_root {
            assert!(lines[2].ends_with("\t0000000000000000"), "rights were given: {output:?}");
        }
    });
}

#[test]
fn shared_memory_and_queues_are_private_and_tmp_is_not() {
    as_both("shared_memory_and_queues_are_private_and_tmp_is_not", |somebody| {
        let name = format!("kobj-isolate-{}-{}", somebody.is_root, std::process::id());
        let outside = Path::new("/dev/shm").join(format!("{name}-outside"));
        std::fs::write(&outside, "x").unwrap();
        let made = somebody.folder.join("made");
        let script = format!(
            "ls -A /dev/shm; echo x >/dev/shm/{name} || exit 3; echo id $(ipcmk -Q); echo x >{}; \
             readlink /proc/self/ns/ipc",
            made.display()
        );
        let output = somebody.run(&[], &script);
        // It is gone already if all is well.
        let inside_is_outside = std::fs::remove_file(Path::new("/dev/shm").join(&name)).is_ok();
        std::fs::remove_file(&outside).unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let said = text(&output.stdout);
        assert!(said.starts_with("id Message queue id: 0\n"), "outer segments or numbers are seen: {said}");
        assert!(!inside_is_outside, "the segment is outside");
        let own = std::fs::read_link("/proc/self/ns/ipc").unwrap();
        assert_ne!(said.lines().last(), own.to_str(), "the same IPC namespace");
        assert_eq!(std::fs::read_to_string(&made).unwrap(), "x\n", "temporary folders are shared");
    });
}

#[test]
fn what_it_leaves_running_is_named_and_gone() {
    as_both("what_it_leaves_running_is_named_and_gone", |somebody| {
        let report = somebody.folder.join("runtime/report.json");
        // The fifo's last writer is the process that was left: its end is heard when it is gone.
        let pipe = somebody.folder.join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o666.into()).unwrap();
        std::fs::set_permissions(&pipe, PermissionsExt::from_mode(0o666)).unwrap();
        let script = format!("setsid sh -c 'exec 9>{}; echo up >&9; exec sleep 1000' & exit 0", pipe.display());
        let flags = ["--report", report.to_str().unwrap(), "--quiet"];
        let mut run = somebody.isolated(&flags, &["sh", "-c", &script]).spawn().unwrap();
        let mut heard = String::new();
        std::fs::File::open(&pipe).unwrap().read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "up\n");
        assert_eq!(run.wait().unwrap().code(), Some(0));
        let value: serde_json::Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
        let job = &value["job"];
        assert_eq!((&job["containment"], &job["complete"]), (&"isolate".into(), &true.into()), "{value}");
        let limits = job["limits"].as_array().unwrap();
        assert!(limits.iter().any(|limit| limit.as_str().unwrap().starts_with("isolate: segments")), "{value}");
        let left = value["stragglers"].as_array().unwrap();
        assert_eq!(left.len(), 1, "{value}");
        assert_eq!((&left[0]["kind"], &left[0]["action"]), (&"process".into(), &"terminated".into()), "{value}");
    });
}

#[test]
fn the_init_is_not_waited_for_as_if_it_were_left() {
    as_both("the_init_is_not_waited_for_as_if_it_were_left", |somebody| {
        let begun = Instant::now();
        let output = somebody.run(&["--kill-after", "60s"], "exit 0");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(begun.elapsed() < Duration::from_secs(50), "the patience for leftover processes passed");
    });
}

#[test]
fn standard_streams_pass_through_and_no_descriptor_of_kobj_does() {
    as_both("standard_streams_pass_through_and_no_descriptor_of_kobj_does", |somebody| {
        let list = ["sh", "-c", "cat; echo err >&2; exec ls /proc/self/fd"];
        let feed = |mut command: Command| {
            let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
            child.wait_with_output().unwrap()
        };
        let bare: Vec<&OsStr> = list.iter().map(OsStr::new).collect();
        let (isolated, bare) = (feed(somebody.isolated(&["--quiet"], &list)), feed(somebody.command(&bare)));
        assert_eq!(text(&isolated.stdout), text(&bare.stdout));
        assert_eq!(text(&isolated.stderr), "err\n");
        assert!(text(&isolated.stdout).starts_with("hello\n"));
    });
}

#[test]
fn the_signal_mask_and_the_ignored_signals_are_the_callers() {
    as_both("the_signal_mask_and_the_ignored_signals_are_the_callers", |somebody| {
        let kobj = somebody.folder.join("kobj");
        let show = "grep -E 'Sig(Blk|Ign)' /proc/self/status";
        let under = |run: &str| {
            let script = format!("trap '' INT HUP PIPE USR1; {run}{show}");
            let words = ["sh", "-c", &script].map(OsStr::new);
            text(&somebody.command(&words).output().unwrap().stdout)
        };
        let bare = under("");
        assert!(bare.contains("SigIgn"), "{bare}");
        assert_eq!(under(&format!("{} run --isolate -- ", kobj.display())), bare);
    });
}

#[test]
fn signals_reach_the_command_with_its_own_actions() {
    as_both("signals_reach_the_command_with_its_own_actions", |somebody| {
        for (signal, name) in [(Signal::INT, "INT"), (Signal::TERM, "TERM"), (Signal::USR1, "USR1")] {
            for handled in [true, false] {
                let trap = if handled { format!("trap 'exit 5' {name}; ") } else { String::new() };
                let script = format!("{trap}echo up; while :; do sleep 0.05; done");
                let (mut run, _lines) = up(somebody, &script);
                rustix::process::kill_process(Pid::from_child(&run), signal).unwrap();
                let status = run.wait().unwrap();
                let expected = if handled { (Some(5), None) } else { (None, Some(signal.as_raw())) };
                assert_eq!((status.code(), status.signal()), expected, "{name}, handled: {handled}");
            }
        }
    });
}

/// The init of the run's namespaces: kobj's only child.
fn init_of(run: &Child) -> Pid {
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", run.id())).unwrap();
    Pid::from_raw(children.trim().parse().unwrap()).unwrap()
}

/// A run whose command has said "up".
fn up(somebody: &Somebody, script: &str) -> (Child, BufReader<ChildStdout>) {
    let name = somebody.job_name();
    let flags = ["--quiet", "--name", &name];
    let mut run = somebody.isolated(&flags, &["sh", "-c", script]).stdin(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(run.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");
    (run, lines)
}

#[test]
fn without_its_kobj_the_command_goes_on_and_the_rest_ends_with_it() {
    as_both("without_its_kobj_the_command_goes_on_and_the_rest_ends_with_it", |somebody| {
        let (mut run, mut lines) = up(somebody, "echo up; read x; setsid sleep 1000 & echo got $x");
        let init = pidfd_open(init_of(&run), PidfdFlags::empty()).unwrap();
        let mut stdin = run.stdin.take().unwrap();
        run.kill().unwrap();
        run.wait().unwrap();
        stdin.write_all(b"it\n").unwrap();
        // The sleeping process holds the pipe, so that its end is the end of all that is inside.
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "got it\n");
        let mut polled = [PollFd::new(&init, PollFlags::IN)];
        assert_eq!(poll(&mut polled, Some(&Timespec { tv_sec: 20, tv_nsec: 0 })), Ok(1), "the init stays");
        // The record says which control group is to be removed.
        let (kobj, name) = (somebody.folder.join("kobj"), somebody.job_name());
        let words = [kobj.as_os_str(), OsStr::new("scrub"), OsStr::new("--job"), OsStr::new(&name)];
        let output = somebody.command(&words).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    });
}

#[test]
fn whoever_kills_the_init_kills_the_command() {
    as_both("whoever_kills_the_init_kills_the_command", |somebody| {
        let script = "trap 'echo told' USR1; echo up; while :; do sleep 0.05; done";
        let (run, mut lines) = up(somebody, script);
        // kobj passes a signal on only when it knows of the command, which the init tells it.
        rustix::process::kill_process(Pid::from_child(&run), Signal::USR1).unwrap();
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "told\n");
        rustix::process::kill_process(init_of(&run), Signal::KILL).unwrap();
        let output = run.wait_with_output().unwrap();
        assert_eq!(output.status.signal(), Some(9), "{output:?}");
    });
}

#[test]
fn refused_namespaces_are_told_with_what_to_do() {
    let test = "refused_namespaces_are_told_with_what_to_do";
    if !namespaces(false) {
        println!("skipped: {test}: no user namespace to refuse further ones in");
        return;
    }
    let somebody = Somebody::new(test, false);
    let marker = somebody.folder.join("runtime/ran");
    let script = format!(
        "echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all {} run --isolate -- touch {}",
        somebody.folder.join("kobj").display(),
        marker.display()
    );
    let output = somebody.command(&["unshare", "-Ur", "sh", "-c", &script].map(OsStr::new)).output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains("cannot isolate 'touch'") && said.contains("max_user_namespaces"), "{said}");
    assert!(!marker.exists(), "the command ran without its namespaces");
}

#[test]
fn what_cannot_hold_inside_is_refused() {
    let somebody = Somebody::new("what_cannot_hold_inside_is_refused", true);
    for flag in ["--report-only", "--dry-run"] {
        let output = somebody.run(&[flag], "exit 0");
        assert_eq!(output.status.code(), Some(125), "{output:?}");
        assert!(text(&output.stderr).contains(flag), "{output:?}");
    }
    let kobj = somebody.folder.join("kobj");
    let words = [kobj.as_os_str(), OsStr::new("isolated-init"), OsStr::new("2"), OsStr::new("true")];
    let output = somebody.command(&words).output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{output:?}");
}

//! `kobj jobs`, `kobj balance` through the binary, on records made here.

use kobj_abi::Koid;
use kobj_host::hands::QuarantineNote;
use kobj_host::record::{Beginning, Record, RuntimeFolder};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A runtime folder of this test's own.
struct Runtime(PathBuf);

impl Runtime {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kobj-jobs-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn record(&self, name: &str) -> Record {
        let folder = RuntimeFolder::open_at(&self.0.join("kobj")).unwrap();
        let command_line = [b"/bin/\xff\x1b[2Jcat".to_vec(), b"x".to_vec()];
        // Whatever the test was given by its runner, the processes that it starts have too.
        let inherited = &kobj_platform::startup::inherited_objects();
        let name = name.as_bytes();
        let beginning = Beginning { name, command_line: &command_line, inherited, ..Beginning::default() };
        Record::create(folder, &beginning).unwrap()
    }

    fn kobj(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kobj"));
        command.args(arguments).env("XDG_RUNTIME_DIR", &self.0).env("XDG_CONFIG_HOME", "/nonexistent").output().unwrap()
    }

    /// What is in this folder.
    fn records(&self) -> Vec<kobj_host::record::Found> {
        kobj_host::record::list(&RuntimeFolder::open_at(&self.0.join("kobj")).unwrap()).unwrap().found
    }

    /// The rows of that job; others' may be listed beside it.
    fn rows(&self, list: &str, arguments: &[&str], koid: Koid) -> Vec<serde_json::Value> {
        let output = self.kobj(arguments);
        let value: serde_json::Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
        let rows = value[list].as_array().unwrap().clone();
        rows.into_iter().filter(|row| row["koid"] == koid.to_string()).collect()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn jobs_lists_the_living_and_the_dead() {
    let runtime = Runtime::new("list");
    let mut record = runtime.record("train");
    record.set_command(std::process::id());
    let koid = record.koid();
    let jobs = ["jobs", "-J", "-o", "JOB,STATE,NAME,PID,COMMAND,KOID"];
    let rows = runtime.rows("jobs", &jobs, koid);
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0]["state"].as_str(), rows[0]["name"].as_str()), (Some("running"), Some("train")));
    assert_eq!(rows[0]["pid"], std::process::id());
    let text = runtime.kobj(&["jobs"]);
    assert!(!text.stdout.contains(&0x1b) && String::from_utf8_lossy(&text.stdout).contains("\\xff\\x1b[2Jcat x"));
    drop(record);
    assert_eq!(runtime.rows("jobs", &jobs, koid)[0]["state"], "dead, command runs");
    let said = runtime.kobj(&["jobs"]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("kobj scrub --dead-jobs"), "{said:?}");
}

#[test]
fn a_run_whose_command_is_not_recorded_yet_is_starting() {
    let runtime = Runtime::new("starting");
    let record = runtime.record("young");
    let rows = runtime.rows("jobs", &["jobs", "-J", "-o", "STATE,KOID"], record.koid());
    assert_eq!(rows[0]["state"], "starting", "{rows:?}");
}

#[test]
fn a_name_in_a_refusal_is_escaped_once() {
    let runtime = Runtime::new("escaped");
    let output = runtime.kobj(&["scrub", "/dev/shm/kobj-no\\such", "--dry-run"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("kobj-no\\\\such'") && !text.contains("no\\\\\\"), "{text}");
}

#[test]
fn an_unreadable_record_is_listed_with_the_reason() {
    let runtime = Runtime::new("damaged");
    let record = runtime.record("x");
    let path = record.path();
    drop(record);
    std::fs::write(&path, "not a record").unwrap();
    let output = runtime.kobj(&["jobs", "-Q", "STATE == unreadable"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("is not a record of kobj"), "{output:?}");
}

#[test]
fn balance_takes_a_name_and_counts_each_kind() {
    let runtime = Runtime::new("balance");
    let name = format!("balance-{}", std::process::id());
    let mut record = runtime.record(&name);
    record.set_command(std::process::id());
    let output = runtime.kobj(&["balance", &name, "-J"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let kinds: Vec<_> = value["balance"].as_array().unwrap().iter().map(|row| row["kind"].clone()).collect();
    assert_eq!(kinds, ["process", "segment", "posix-semaphore", "folder", "other file"]);
    assert_eq!(value["balance"][1]["live"], 0);
    let output = runtime.kobj(&["balance", "no-such-job"]);
    assert_eq!(output.status.code(), Some(2));
    record.remove().unwrap();
}

/// A process that carries a cookie and ends with this value.
struct Bearer(std::process::Child);

impl Bearer {
    fn new(cookie: &str) -> Self {
        // Nothing of it leads to anybody outside.
        let mut command = Command::new("tail");
        command.args(["-f", "/dev/null"]).env("KOBJ_JOB", cookie);
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Bearer {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn a_dead_jobs_processes_are_ended_and_nobody_elses() {
    let runtime = Runtime::new("dead");
    let cookie = format!("{:016x}", u64::from(std::process::id()));
    let mut own = [Bearer::new(&cookie), Bearer::new(&format!("{cookie}/inner"))];
    let mut other = Bearer::new(&format!("{cookie}x"));
    let name = format!("dead-{}", std::process::id());
    let mut record = runtime.record(&name);
    record.set_cookie(format!("KOBJ_JOB={cookie}").as_bytes());
    record.set_command(own[0].0.id());
    let path = record.path();
    let living = runtime.kobj(&["scrub", "--job", &name]);
    assert_eq!(living.status.code(), Some(2), "{living:?}");
    assert!(String::from_utf8_lossy(&living.stderr).contains("still runs under its kobj"), "{living:?}");
    drop(record);

    let plan = runtime.kobj(&["scrub", "--job", &name, "--dry-run", "-J"]);
    let value: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap_or_else(|e| panic!("{e}: {plan:?}"));
    let rows = value["reports"][0]["stragglers"].as_array().unwrap();
    assert_eq!(rows.iter().filter(|row| row["action"] == "planned").count(), 2, "{plan:?}");
    assert!(path.exists() && !own[0].has_ended());

    let output = runtime.kobj(&["scrub", "--job", &name, "-J"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let report = &value["reports"][0];
    assert_eq!(report["schema"], "kobj.report/1");
    assert_eq!(report["job"]["complete"], false);
    assert!(report["job"]["incomplete_because"][0].as_str().unwrap().contains("its kobj was killed"), "{report}");
    let ended: Vec<_> = report["stragglers"].as_array().unwrap().iter().map(|row| row["action"].clone()).collect();
    assert_eq!(ended, ["terminated", "terminated"], "{report}");
    assert!(own.iter_mut().all(|bearer| !bearer.0.wait().unwrap().success()));
    assert!(!other.has_ended(), "a process of another cookie was ended");
    assert!(!path.exists(), "the record stays");
    let left = std::fs::read_dir(runtime.0.join("kobj")).unwrap().count();
    assert_eq!(left, 0, "a record of the scrub's own stays");
    assert_eq!(runtime.kobj(&["scrub", "--job", &name]).status.code(), Some(2), "it is no job any more");
}

/// Ends who is left in a job's control group, where it has one.
fn kill_group(group: &Path) {
    if group.is_absolute() {
        _ = std::fs::write(group.join("cgroup.kill"), "1");
    }
}

/// Python in the job of that cookie, its standard streams closed to everybody; ended with this value.
fn python(cookie: &str, code: &str, arguments: &[&str]) -> Bearer {
    let mut command = Command::new("python3");
    command.args(["-c", code]).args(arguments).env("KOBJ_JOB", cookie);
    Bearer(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// Asks until the answer comes; 20 s are for a machine that has much to do.
fn await_some<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = std::time::Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{what}");
        std::thread::yield_now();
    }
}

/// Serves one client; at SIGUSR1 it forks for the next, and the child serves that one alone.
const SERVER: &str = r#"
import os, signal, socket, sys
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
listening.listen(4)
def next_client(*_):
    client, _ = listening.accept()
    if os.fork() == 0:
        listening.close()
        first.close()
        client.send(b'2')
        while client.recv(1): client.send(b'y')
        os._exit(0)
    client.close()
first, _ = listening.accept()
signal.signal(signal.SIGUSR1, next_client)
first.send(b'1')
while True: signal.pause()
"#;

/// At SIGTERM it has the server fork, and goes on.
const STUBBORN: &str = r#"
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: os.kill(int(sys.argv[1]), signal.SIGUSR1))
open(sys.argv[2], 'w').close()
while True: signal.pause()
"#;

/// A server that is spared may fork for its next client while others of the job are being ended: the child is judged too.
#[test]
fn who_is_born_while_a_dead_job_is_ended_is_spared_if_it_serves_somebody() {
    let runtime = Runtime::new("born");
    let (name, cookie) = (format!("born-{}", std::process::id()), format!("b{:015x}", std::process::id()));
    let (path, ready) = (runtime.0.join("socket"), runtime.0.join("ready"));
    let server = python(&cookie, SERVER, &[path.to_str().unwrap()]);
    let connect = || std::os::unix::net::UnixStream::connect(&path).ok();
    let [mut first, mut second] = ["first", "second"].map(|client| await_some(client, connect));
    let mut byte = [0];
    first.read_exact(&mut byte).unwrap();
    let mut stubborn = python(&cookie, STUBBORN, &[&server.0.id().to_string(), ready.to_str().unwrap()]);
    await_some("the stubborn", || ready.exists().then_some(()));
    let mut record = runtime.record(&name);
    record.set_cookie(format!("KOBJ_JOB={cookie}").as_bytes());
    record.set_command(stubborn.0.id());
    drop(record);

    let output = runtime.kobj(&["scrub", "--job", &name, "-J"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = value["reports"][0]["stragglers"].as_array().unwrap().clone();
    let mut actions: Vec<_> = rows.iter().map(|row| row["action"].as_str().unwrap()).collect();
    actions.sort_unstable();
    assert_eq!(actions, ["in-use", "in-use", "killed"], "{value}");
    assert!(!stubborn.0.wait().unwrap().success());
    second.write_all(b"x").unwrap();
    let mut heard = [0; 2];
    second.read_exact(&mut heard).unwrap_or_else(|error| panic!("its server was ended: {error}"));
    assert_eq!(&heard, b"2y");
}

/// A shell of the dead job may be the one in which somebody types `kobj scrub`.
#[test]
fn whoever_started_the_scrub_stays() {
    let runtime = Runtime::new("above");
    let (name, cookie) = (format!("above-{}", std::process::id()), format!("c{:015x}", std::process::id()));
    let mut other = Bearer::new(&cookie);
    let mut record = runtime.record(&name);
    record.set_cookie(format!("KOBJ_JOB={cookie}").as_bytes());
    record.set_command(other.0.id());
    drop(record);
    let script = "\"$@\"; echo shell goes on >&2";
    let output = Command::new("sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_kobj"), "scrub", "--job", &name, "-J"])
        .env("KOBJ_JOB", &cookie)
        .env("XDG_RUNTIME_DIR", &runtime.0)
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("shell goes on"), "{output:?}");
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let rows = value["reports"][0]["stragglers"].as_array().unwrap();
    let above = rows.iter().find(|row| row["why"].as_str().unwrap().contains("this command itself runs in the job"));
    assert_eq!(above.map(|row| &row["action"]), Some(&"in-use".into()), "{value}");
    assert_eq!(rows.iter().filter(|row| row["action"] == "terminated").count(), 1, "{value}");
    assert!(!other.0.wait().unwrap().success());
}

/// A run whose command started SERVER beside itself; the client is connected, and the run has ended.
struct Served {
    runtime: Runtime,
    name: String,
    client: Option<std::os::unix::net::UnixStream>,
    group: PathBuf,
}

impl Served {
    /// `None` where no control group can be made.
    fn new(name: &str) -> Option<Self> {
        let runtime = Runtime::new(name);
        let (name, path) = (format!("{name}-{}", std::process::id()), runtime.0.join("socket"));
        // Its sockets get the numbers of the standard streams, as under inetd.
        let script = "setsid python3 -c \"$0\" \"$1\" <&- >&- 2>&- & read wait";
        let mut run = Command::new(env!("CARGO_BIN_EXE_kobj"))
            .args(["run", "--name", &name, "--", "sh", "-c", script, SERVER, path.to_str().unwrap()])
            .env("XDG_RUNTIME_DIR", &runtime.0)
            .env("XDG_CONFIG_HOME", "/nonexistent")
            .env_remove("KOBJ_JOB")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut client = await_some("the server", || std::os::unix::net::UnixStream::connect(&path).ok());
        client.read_exact(&mut [0]).unwrap();
        let record = runtime.records().remove(0).contents.unwrap();
        let group = PathBuf::from(std::ffi::OsString::from_vec(record.group));
        if !group.as_os_str().is_empty() {
            // A group that the job made itself: nobody may move what is in there.
            let inner = group.join("inner");
            std::fs::create_dir(&inner).unwrap();
            let members = std::fs::read_to_string(group.join("cgroup.procs")).unwrap();
            let is_server = |pid: &&str| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() == "python3\n";
            std::fs::write(inner.join("cgroup.procs"), members.lines().find(is_server).unwrap()).unwrap();
        }
        drop(run.stdin.take());
        let output = run.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains("in-use"), "{output:?}");
        let own = Self { runtime, name, client: Some(client), group };
        (!own.group.as_os_str().is_empty()).then_some(own)
    }

    fn state(&self) -> Option<String> {
        let output = self.runtime.kobj(&["jobs", "-J"]);
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let rows = value["jobs"].as_array().unwrap().clone();
        let row = rows.into_iter().find(|row| row["name"] == self.name.as_str())?;
        Some(row["state"].as_str().unwrap().to_owned())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        kill_group(&self.group);
        _ = kobj_host::containment::remove_group(&self.group);
    }
}

/// The group of a run that left somebody alive must not be forgotten: its record stays, as that of no crash.
#[test]
fn a_run_that_spared_a_process_is_remembered_until_its_group_can_go() {
    let Some(mut served) = Served::new("spared") else {
        return println!("skipped: a_run_that_spared_a_process: no control group can be made here");
    };
    assert_eq!(served.state().as_deref(), Some("ended, processes left"));
    assert!(served.group.exists() && served.runtime.records().len() == 1);
    // It is no dead job, and who serves somebody is spared again when it is named.
    let plan = served.runtime.kobj(&["scrub", "--dead-jobs", "--dry-run", "-J"]);
    assert!(!String::from_utf8_lossy(&plan.stdout).contains(&served.name), "{plan:?}");
    let output = served.runtime.kobj(&["scrub", "--job", &served.name, "-J"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["reports"][0]["job"]["complete"], true, "{value}");
    assert_eq!(value["reports"][0]["stragglers"][0]["action"], "in-use", "{value}");
    assert_eq!(served.state().as_deref(), Some("ended, processes left"));
    served.client = None;
    let output = served.runtime.kobj(&["scrub", "--job", &served.name, "-J"]);
    assert_eq!(output.status.code(), Some(0), "it serves nobody any more: {output:?}");
    assert!(!served.group.exists() && served.runtime.records().is_empty(), "{output:?}");
}

/// When the process ends by itself, whatever looks at the records next takes group and record away.
#[test]
fn the_record_of_a_spared_process_goes_with_it() {
    let Some(served) = Served::new("gone") else {
        return println!("skipped: the_record_of_a_spared_process: no control group can be made here");
    };
    std::fs::write(served.group.join("cgroup.kill"), "1").unwrap();
    await_some("its end", || served.state().is_none().then_some(()));
    assert!(!served.group.exists(), "the group stays");
    assert_eq!(served.runtime.records().len(), 0);
    assert_eq!(std::fs::read_dir(served.runtime.0.join("kobj")).unwrap().count(), 0);
}

/// What goes wrong after the start leaves neither the job nor a trace of it.
#[test]
fn a_run_that_fails_after_its_start_leaves_nothing() {
    let runtime = Runtime::new("fails");
    let mut run = Command::new(env!("CARGO_BIN_EXE_kobj"))
        .args(["run", "--", "sh", "-c", "trap '' USR1; echo up; read wait; read wait"])
        .env("XDG_RUNTIME_DIR", &runtime.0)
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env_remove("KOBJ_JOB")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(run.stdout.take().unwrap());
    lines.read_line(&mut String::new()).unwrap();
    let record = runtime.records().remove(0).contents.unwrap();
    // A poll of more descriptors than a process may have is refused.
    let kobj = rustix::process::Pid::from_child(&run);
    let limit = rustix::process::prlimit(Some(kobj), rustix::process::Resource::Nofile, {
        let maximum = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        rustix::process::Rlimit { current: Some(1), maximum }
    });
    limit.unwrap();
    rustix::process::kill_process(kobj, rustix::process::Signal::USR1).unwrap();
    // Its end closes this: the command is dead, though its input is open.
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot wait for the command"), "{output:?}");
    assert_eq!(std::fs::read_dir(runtime.0.join("kobj")).unwrap().count(), 0, "{output:?}");
    let group = PathBuf::from(std::ffi::OsString::from_vec(record.group));
    assert!(group.as_os_str().is_empty() || !group.exists(), "{output:?}");
}

/// Each process ends before anybody can look at it twice: only the control group knows that somebody is left.
#[test]
fn a_storm_of_forks_of_a_dead_job_ends() {
    let runtime = Runtime::new("storm");
    let name = format!("storm-{}", std::process::id());
    let storm = "echo made; exec <&- >&- 2>&-; f() { f & }; f & f & f";
    let mut run = Command::new(env!("CARGO_BIN_EXE_kobj"))
        .args(["run", "--quiet", "--name", &name, "--", "sh", "-c", storm])
        .env("XDG_RUNTIME_DIR", &runtime.0)
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env_remove("KOBJ_JOB")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(run.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "made\n");
    let input = run.stdin.take();
    run.kill().unwrap();
    run.wait().unwrap();
    let group = runtime.records()[0].contents.as_ref().unwrap().group.clone();
    let output = runtime.kobj(&["scrub", "--job", &name, "-J"]);
    drop(input);
    if group.is_empty() {
        println!("skipped: a_storm_of_forks_of_a_dead_job_ends: no control group can be made here");
        return;
    }
    let group = PathBuf::from(std::ffi::OsString::from_vec(group));
    let is_gone = !group.exists();
    kill_group(&group);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(is_gone, "somebody is left: {output:?}");
}

#[test]
fn what_a_broken_off_scrub_was_moving_goes_home() {
    let runtime = Runtime::new("room");
    let name = format!("room-{}", std::process::id());
    let mut record = runtime.record(&name);
    let room = PathBuf::from(format!("/dev/shm/.kobj-{}-{:016x}", std::process::id(), 7));
    std::fs::create_dir(&room).unwrap();
    std::fs::set_permissions(&room, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let file = format!("kobj-jobs-moved-{}", std::process::id());
    std::fs::write(room.join(format!("of-{file}")), "moved here").unwrap();
    record.note(QuarantineNote::Opened(room.clone()));
    drop(record);
    let output = runtime.kobj(&["scrub", "--job", &name]);
    let home = PathBuf::from("/dev/shm").join(file);
    let (gone, content) = (!room.exists(), std::fs::read_to_string(&home));
    _ = std::fs::remove_dir_all(&room);
    _ = std::fs::remove_file(&home);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(gone, "{output:?}");
    assert_eq!(content.unwrap(), "moved here", "it was not the job's by proof, so it is only put back");
}

/// A run that was killed when its record knew of so many other files; its command goes on until this is dropped.
struct KilledRun {
    runtime: Runtime,
    name: String,
    group: Vec<u8>,
    _input: std::process::ChildStdin,
}

impl Drop for KilledRun {
    fn drop(&mut self) {
        let group = PathBuf::from(std::ffi::OsString::from_vec(std::mem::take(&mut self.group)));
        kill_group(&group);
    }
}

impl KilledRun {
    /// `script` is a shell's, and prints a line when it has made `made` files.
    fn new(name: &str, flags: &[&str], script: &str, arguments: &[&str], made: usize) -> Self {
        let runtime = Runtime::new(name);
        let name = format!("{name}-{}", std::process::id());
        let mut run = Command::new(env!("CARGO_BIN_EXE_kobj"))
            .args(["run", "--quiet", "--name", &name])
            .args(flags)
            .args(["--", "sh", "-c", &format!("{script}; exec cat"), "sh"])
            .args(arguments)
            .env("XDG_RUNTIME_DIR", &runtime.0)
            .env("XDG_CONFIG_HOME", "/nonexistent")
            .env_remove("KOBJ_JOB")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        BufReader::new(run.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let written = || {
            let contents = runtime.records().remove(0).contents.unwrap();
            (contents.creations.len() >= made).then_some(())
        };
        await_some("the events of its files", written);
        let group = runtime.records().remove(0).contents.unwrap().group;
        let input = run.stdin.take().unwrap();
        run.kill().unwrap();
        run.wait().unwrap();
        Self { runtime, name, group, _input: input }
    }

    fn scrub(&self) -> (Option<i32>, Vec<serde_json::Value>) {
        let output = self.runtime.kobj(&["scrub", "--job", &self.name, "-J"]);
        let value: serde_json::Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
        (output.status.code(), value["reports"][0]["stragglers"].as_array().unwrap().clone())
    }
}

fn action_of(rows: &[serde_json::Value], name: &str) -> Option<String> {
    let row = rows.iter().find(|row| row["name"].as_str().is_some_and(|other| other.contains(name)))?;
    Some(row["action"].as_str().unwrap().to_owned())
}

/// What the command was told is in the record: so its temporary files can be told from its output after its kobj's death.
#[test]
fn a_dead_jobs_temporary_files_go_if_the_run_wanted_that_and_its_output_stays() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: a_dead_jobs_temporary_files_go: needs root for exact file events");
        return;
    }
    let unique = std::process::id();
    let (scratch, output) = (format!("/tmp/kobj-dead-scratch-{unique}"), format!("/tmp/kobj-dead-output-{unique}"));
    let segment = format!("/dev/shm/kobj-dead-keep-{unique}");
    let script = format!("mkdir {scratch}; echo x >{scratch}/in; echo x >\"$1\"; echo x >{segment}; echo made");
    let remove = || {
        _ = std::fs::remove_dir_all(&scratch);
        _ = std::fs::remove_file(&output);
        _ = std::fs::remove_file(&segment);
    };
    for (flag, is_scrubbed) in [("--scrub=all", true), ("--scrub", false)] {
        let flags = [flag, "--keep", "segment:*/kobj-dead-keep-*"];
        let run = KilledRun::new("temporary", &flags, &script, &[&output], 4);
        let (code, rows) = run.scrub();
        let there = [&scratch, &output, &segment].map(|path| PathBuf::from(path).exists());
        remove();
        let wanted = if is_scrubbed { "scrubbed" } else { "reported" };
        assert_eq!(action_of(&rows, "kobj-dead-scratch").as_deref(), Some(wanted), "{flag}: {rows:?}");
        assert_eq!(action_of(&rows, "kobj-dead-output"), None, "{flag}: {rows:?}");
        assert_eq!(action_of(&rows, "kobj-dead-keep").as_deref(), Some("kept"), "{flag}: {rows:?}");
        assert_eq!(there, [!is_scrubbed, true, true], "{flag}: {rows:?}");
        assert_eq!(code, Some(0), "{flag}: {rows:?}");
    }
}

/// `--keep` and `--report-only` of the run hold after its kobj's death too.
#[test]
fn what_a_dead_run_was_told_to_leave_is_left() {
    let script = "tail -f /dev/null </dev/null >/dev/null 2>&1 & echo made";
    let run = KilledRun::new("keeps", &["--keep", "process:*tail"], script, &[], 0);
    let (_, rows) = run.scrub();
    assert_eq!(action_of(&rows, " tail").as_deref(), Some("kept"), "{rows:?}");
    assert_eq!(action_of(&rows, " cat").as_deref(), Some("terminated"), "{rows:?}");
    let tail = rows.iter().find(|row| row["name"].as_str().unwrap().contains(" tail")).unwrap();
    let tail = rustix::process::Pid::from_raw(tail["identity"]["pid"].as_i64().unwrap() as i32).unwrap();
    rustix::process::kill_process(tail, rustix::process::Signal::KILL).unwrap();
    let run = KilledRun::new("reports", &["--report-only"], "echo made", &[], 0);
    let (_, rows) = run.scrub();
    assert_eq!(action_of(&rows, " cat").as_deref(), Some("reported"), "{rows:?}");
}

/// A scrub that is killed between closing a segment and removing it leaves it closed: the next one opens it again.
#[test]
fn a_segment_that_a_killed_scrub_had_closed_is_opened_by_the_next() {
    let runtime = Runtime::new("segment");
    let id = kobj_platform::sysv::shm_create(0, 4096, 0o640).unwrap();
    let before = kobj_platform::sysv::shm(id).unwrap().permission;
    let folder = RuntimeFolder::open_at(&runtime.0.join("kobj")).unwrap();
    let mut record = Record::create(folder, &Beginning { name: b"kobj scrub", ..Beginning::default() }).unwrap();
    record.note(QuarantineNote::SegmentClosed(kobj_host::hands::ClosedSegment {
        id,
        mode: 0o640,
        key: before.key,
        creator_uid: before.creator_uid,
    }));
    kobj_platform::sysv::shm_set_mode(id, 0).unwrap();
    drop(record);
    let dry = runtime.kobj(&["scrub", "--dry-run", "/dev/shm/kobj-no-such-segment"]);
    let mode = || kobj_platform::sysv::shm(id).map(|state| state.permission.mode & 0o777);
    let closed = mode();
    let output = runtime.kobj(&["scrub", "/dev/shm/kobj-no-such-segment"]);
    let opened = mode();
    _ = kobj_platform::sysv::shm_remove(id);
    assert_eq!(closed, Ok(0), "a dry run touches nothing: {dry:?}");
    assert_eq!(opened, Ok(0o640), "{output:?}");
    assert!(runtime.records().is_empty(), "the record of a scrub is of no further use: {output:?}");
    // What is wrong with a runtime folder is news where jobs are asked for, and said once.
    std::fs::set_permissions(runtime.0.join("kobj"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let said = |arguments: &[&str]| {
        let output = runtime.kobj(arguments);
        String::from_utf8_lossy(&output.stderr).matches("has mode 0755").count()
    };
    assert_eq!(said(&["scrub", "/dev/shm/kobj-no-such-segment"]), 0);
    assert_eq!(said(&["scrub", "--job", "kobj-no-such-job"]), 1);
}

/// A user of its own, whose runtime folders no other test shares.
#[test]
fn dead_jobs_takes_in_every_dead_job_and_no_living_one() {
    let unprivileged = 1_000_000 + std::process::id();
    let become_user =
        [format!("--reuid={unprivileged}"), format!("--regid={unprivileged}"), "--clear-groups".to_owned()];
    let able = Command::new("setpriv").args(&become_user).arg("true").output().is_ok_and(|o| o.status.success());
    if !able {
        return println!("skipped: dead_jobs_takes_in_every_dead_job: cannot become another user here");
    }
    let runtime = Runtime::new("every");
    std::os::unix::fs::chown(&runtime.0, Some(unprivileged), Some(unprivileged)).unwrap();
    std::fs::set_permissions(&runtime.0, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    // The build's own folder may be closed to that user.
    let binary = runtime.0.join("binary");
    std::fs::copy(env!("CARGO_BIN_EXE_kobj"), &binary).unwrap();
    let as_user = |program: &str| {
        let mut command = Command::new("setpriv");
        command.args(&become_user).arg(program).current_dir("/").env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("XDG_RUNTIME_DIR", &runtime.0);
        command.env("XDG_CONFIG_HOME", "/nonexistent").env("XDG_STATE_HOME", &runtime.0);
        command
    };
    let start = |name: &str| {
        let mut command = as_user(binary.to_str().unwrap());
        command.args(["run", "--name", name, "--", "sh", "-c", "echo up; exec cat"]);
        let mut run = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut output = BufReader::new(run.stdout.take().unwrap());
        output.read_line(&mut String::new()).unwrap();
        (run, output)
    };
    let mut runs = ["first", "second", "living"].map(start);
    let inputs: Vec<_> = runs.iter_mut().map(|(run, _)| run.stdin.take()).collect();
    for (run, _) in &mut runs[..2] {
        run.kill().unwrap();
        run.wait().unwrap();
    }
    let scrub = |flags: &[&str]| {
        let output =
            as_user(binary.to_str().unwrap()).args(["scrub", "--dead-jobs", "-J"]).args(flags).output().unwrap();
        let value: serde_json::Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
        let row = |report: &serde_json::Value| {
            let actions = report["stragglers"].as_array().unwrap().iter().map(|row| row["action"].clone());
            (report["job"]["name"].as_str().unwrap().to_owned(), actions.collect::<Vec<_>>())
        };
        (output.status.code(), value["reports"].as_array().unwrap().iter().map(row).collect::<Vec<_>>())
    };
    let both = |action: &str| ["first", "second"].map(|name| (name.to_owned(), vec![action.into()])).to_vec();
    assert_eq!(scrub(&["--dry-run"]), (Some(0), both("planned")));
    assert_eq!(scrub(&[]), (Some(0), both("terminated")));
    for (_, output) in &mut runs[..2] {
        // Their ends close it, though their input is open.
        output.read_to_string(&mut String::new()).unwrap();
    }
    assert_eq!(scrub(&[]), (Some(0), vec![]));
    assert!(runs[2].0.try_wait().unwrap().is_none(), "a living job was ended");
    drop(inputs);
    assert!(runs[2].0.wait().unwrap().success());
}

/// What the record of a run proves survives the SIGKILL of its kobj, and nothing else is touched.
#[test]
fn a_killed_kobjs_segments_are_scrubbed_from_its_record() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: a_killed_kobjs_segments_are_scrubbed_from_its_record: needs root for exact file events");
        return;
    }
    let runtime = Runtime::new("killed");
    let unique = std::process::id();
    let (own, foreign) = (format!("/dev/shm/kobj-own-{unique}"), format!("/dev/shm/kobj-foreign-{unique}"));
    let script = format!("echo x >{own}; echo made; exec cat");
    let mut run = Command::new(env!("CARGO_BIN_EXE_kobj"))
        .args(["run", "--name", "killed", "--", "sh", "-c", &script])
        .env("XDG_RUNTIME_DIR", &runtime.0)
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env_remove("KOBJ_JOB")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(run.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "made\n");
    std::fs::write(&foreign, "made meanwhile by somebody else").unwrap();
    // The event is read when the loop next turns; `kobj balance` shows when it is in the record.
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_secs(20) {
        let output = runtime.kobj(&["balance", "killed", "-n", "-r", "-o", "CREATED", "-Q", "KIND == segment"]);
        if String::from_utf8_lossy(&output.stdout).trim() == "1" {
            break;
        }
    }
    // Held open: the command runs on after its kobj.
    let input = run.stdin.take();
    run.kill().unwrap();
    run.wait().unwrap();
    let output = runtime.kobj(&["scrub", "--job", "killed", "-J"]);
    drop(input);
    let (own_is_gone, foreign_is_there) = (!PathBuf::from(&own).exists(), PathBuf::from(&foreign).exists());
    _ = std::fs::remove_file(&own);
    _ = std::fs::remove_file(&foreign);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let rows = value["reports"][0]["stragglers"].as_array().unwrap();
    let action = |kind: &str| rows.iter().find(|row| row["kind"] == kind).map(|row| row["action"].clone());
    assert_eq!(action("process"), Some("terminated".into()), "the command itself is ended: {value}");
    assert_eq!(action("segment"), Some("scrubbed".into()), "{value}");
    assert!(own_is_gone && foreign_is_there, "{value}");
    assert!(!rows.iter().any(|row| row["name"] == foreign.as_str()), "{value}");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

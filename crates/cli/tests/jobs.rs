//! `kobj jobs`, `kobj balance` through the binary, on records made here.

use kobj_abi::Koid;
use kobj_host::hands::QuarantineNote;
use kobj_host::record::{Beginning, Record, RuntimeFolder};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
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
        let beginning = Beginning { name: name.as_bytes(), command_line: &command_line, ..Beginning::default() };
        Record::create(folder, &beginning).unwrap()
    }

    fn kobj(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kobj"));
        command.args(arguments).env("XDG_RUNTIME_DIR", &self.0).env("XDG_CONFIG_HOME", "/nonexistent").output().unwrap()
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
        let child = Command::new("cat").env("KOBJ_JOB", cookie).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        Self(child.unwrap())
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

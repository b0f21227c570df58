//! `kobj tree`, `ls` and `show` through the binary, on runs that go on and on objects made here.

use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};

/// A run that goes on until this is dropped; its command has made a segment and holds it.
struct Running {
    runtime: PathBuf,
    segment: PathBuf,
    name: String,
    run: Child,
    input: Option<ChildStdin>,
}

impl Running {
    fn new(name: &str, before: &[&str]) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let runtime = std::env::temp_dir().join(format!("kobj-tree-{name}"));
        std::fs::create_dir_all(&runtime).unwrap();
        let segment = PathBuf::from(format!("/dev/shm/kobj-tree-{name}"));
        let script = "exec 9>\"$1\"; echo 0123456789 >&9; echo made; exec cat >/dev/null";
        let mut run = Command::new(env!("CARGO_BIN_EXE_kobj"))
            .args(["run", "--quiet", "--name", &name, "--"])
            .args(before)
            .args(["sh", "-c", script, "sh"])
            .arg(&segment)
            .env("XDG_RUNTIME_DIR", &runtime)
            .env("XDG_STATE_HOME", &runtime)
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
        Self { runtime, segment, name, run, input }
    }

    fn kobj<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kobj"));
        command.args(arguments).env("XDG_RUNTIME_DIR", &self.runtime).env("XDG_STATE_HOME", &self.runtime);
        command.env("XDG_CONFIG_HOME", "/nonexistent").output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.kobj(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {output:?}"))
    }

    fn entries(&self, path: &str) -> Vec<Value> {
        self.json(&["ls", "-J", "-o", "NAME,TYPE,COUNT,SIZE,LABEL,STATE,CREATOR,HOW,LINK,KOID,PATH,HOLDERS", path])["entries"]
            .as_array()
            .unwrap()
            .clone()
    }

    /// What the job itself is in /jobs: its number is not 1 where other runs of this user go on. Its command's process id
    /// is written down a moment after the command has begun.
    fn job(&self) -> Value {
        await_some("the command's process id", || {
            let job = self.json(&["show", "-J", &format!("/jobs/{}", self.name)])["objects"][0].clone();
            job["pid"].is_u64().then_some(job)
        })
    }

    fn end(&mut self) {
        drop(self.input.take());
        _ = self.run.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
        _ = std::fs::remove_file(&self.segment);
        _ = std::fs::remove_dir_all(&self.runtime);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn named<'a>(rows: &'a [Value], name: &str) -> &'a Value {
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {rows:?}"))
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

#[test]
fn a_run_is_a_directory_of_its_processes_and_objects() {
    let running = Running::new("run", &[]);
    let job = running.job();
    let path = format!("/jobs/{}", job["number"]);
    assert_eq!((job["path"].as_str(), job["type"].as_str()), (Some(path.as_str()), Some("job")));
    assert_eq!((job["state"].as_str(), job["name"].as_str()), (Some("running"), Some(running.name.as_str())));
    let jobs = running.entries("/jobs");
    let row = named(&jobs, &job["number"].to_string());
    assert_eq!((&row["label"], &row["koid"]), (&job["name"], &job["koid"]));

    let names: Vec<Value> = running.entries(&path).into_iter().map(|row| row["name"].clone()).collect();
    assert_eq!(names, ["processes", "objects", "jobs"]);
    let processes = running.entries(&format!("{path}/processes"));
    let pid = job["pid"].to_string();
    assert_eq!(named(&processes, &pid)["type"], "process");
    let segment = format!("segment:{}", running.segment.display());
    let link = format!("/host/segments{}", running.segment.display());
    let held = running.entries(&format!("{path}/processes/{pid}"));
    let row = named(&held, &segment);
    assert_eq!((&row["how"], &row["size"], &row["link"]), (&"descriptor".into(), &11.into(), &link.clone().into()));
    // The process by name, then by its koid: the same directory.
    for other in [running.name.as_str(), job["koid"].as_str().unwrap()] {
        assert_eq!(running.entries(&format!("/jobs/{other}/processes/{pid}")), held);
    }
}

#[test]
fn show_says_of_an_object_who_made_and_who_holds_it() {
    let running = Running::new("show", &[]);
    let (job, path) = (running.job(), format!("/host/segments{}", running.segment.display()));
    let shown = |argument: &str| running.json(&["show", "-J", argument])["objects"][0].clone();
    let object = await_some("the event of the file", || {
        let object = shown(&path);
        (object["creator"] != Value::Null || !rustix::process::geteuid().is_root()).then_some(object)
    });
    assert_eq!(object["name"], running.segment.to_str().unwrap());
    assert_eq!((&object["type"], &object["size"]), (&"segment".into(), &11.into()));
    let holder = &object["holders"]["processes"][0];
    assert_eq!((&holder["pid"], &holder["how"]), (&job["pid"], &"descriptor".into()), "{object}");
    let link = format!("/jobs/{}/processes/{}", job["number"], job["pid"]);
    assert_eq!(object["links"], serde_json::json!([link]));
    let process = shown(&link);
    assert_eq!((&process["pid"], &process["type"]), (&job["pid"], &"process".into()));
    assert_eq!(process["holds"], serde_json::json!([path]));
    assert_eq!(process["evidence"][0]["strength"], "proof");
    // A kind by one name is the same as by many; the object's whole name is understood too.
    for other in [format!("host/segment/{}", running.segment.display()), format!("/host/segments/{}/", &path[15..])] {
        assert_eq!(shown(&other)["identity"], object["identity"], "{other}");
    }
    assert_eq!(shown(job["koid"].as_str().unwrap())["koid"], job["koid"]);
    assert_eq!(shown(job["tag"].as_str().unwrap())["koid"], job["koid"]);
    let said = text(&running.kobj(["show", &path]).stdout);
    assert!(said.contains("holders ") && said.contains(&format!("{} cat (descriptor)", job["pid"])), "{said}");
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: the maker in show_says_of_an_object: needs root for exact file events");
    }
    assert_eq!(object["creator"]["pid"], job["pid"]);
    assert_eq!(object["made_in"], serde_json::json!([job["path"]]));
    assert_eq!(object["evidence"][0]["kind"], "fanotify");
    let made = running.entries(&format!("/jobs/{}/objects", running.name));
    assert_eq!(named(&made, &format!("segment:{}", running.segment.display()))["creator"], job["pid"]);
}

#[test]
fn a_run_inside_a_run_stands_inside_it() {
    let running = Running::new("inner", &[env!("CARGO_BIN_EXE_kobj"), "run", "--quiet", "--name", "within", "--"]);
    let outer = running.job();
    let inner = running.entries(&format!("/jobs/{}/jobs", running.name));
    assert_eq!(inner.len(), 1, "{inner:?}");
    assert_eq!((&inner[0]["label"], &inner[0]["state"]), (&"within".into(), &"running".into()));
    let jobs = running.entries("/jobs");
    assert!(jobs.iter().all(|row| row["koid"] != inner[0]["koid"]), "it stands beside its outer run: {jobs:?}");
    let shown = running.json(&["show", "-J", inner[0]["path"].as_str().unwrap()])["objects"][0].clone();
    assert_eq!(shown["inside"], serde_json::json!([outer["path"]]));
    let path = format!("/jobs/{}", shown["number"]);
    assert_eq!(running.job()["inner_jobs"], serde_json::json!([path]));
}

#[test]
fn the_tree_is_drawn_as_deep_as_asked() {
    let running = Running::new("tree", &[]);
    let (job, text_of) = (running.job(), |arguments: &[&str]| text(&running.kobj(arguments).stdout));
    assert_eq!(text_of(&["tree", "-L", "1"]).lines().count(), 4);
    let path = format!("/jobs/{}", running.name);
    let drawn = text_of(&["tree", &path]);
    let first = format!("/jobs/{} ({}, running)", job["number"], running.name);
    assert_eq!(drawn.lines().next(), Some(first.as_str()), "{drawn}");
    assert!(drawn.contains(&format!("│   └── {} (cat)\n", job["pid"])), "{drawn}");
    assert!(
        drawn.contains(&format!("│       └── segment:{} (descriptor, 11 B)\n", running.segment.display())),
        "{drawn}"
    );
    let value = running.json(&["tree", "-J", "-L", "2", "/"]);
    let tree = &value["trees"][0];
    let folders: Vec<&Value> = tree["entries"].as_array().unwrap().iter().map(|node| &node["name"]).collect();
    assert_eq!(folders, ["jobs", "host", "types"]);
    let kinds = tree["entries"][1]["entries"].as_array().unwrap();
    assert!(named(kinds, "segments")["count"].as_u64().unwrap() >= 1, "{kinds:?}");
    assert_eq!(named(kinds, "segments")["entries"], serde_json::json!([]), "two levels were asked for");
    assert_eq!(running.kobj(["tree", "-L", "0"]).status.code(), Some(2));
}

#[test]
fn types_count_what_can_be_seen_and_say_what_cannot() {
    let running = Running::new("types", &[]);
    let types = running.entries("/types");
    assert!(
        named(&types, "job")["count"].as_u64().unwrap() >= 1
            && named(&types, "process")["count"].as_u64().unwrap() >= 1
    );
    assert_eq!(named(&types, "section")["count"], Value::Null);
    let kinds = running.entries("/types/host-object");
    assert!(named(&kinds, "segment")["count"].as_u64().unwrap() >= 1, "{kinds:?}");
    let shown = running.json(&["show", "-J", "/types/section"])["objects"][0].clone();
    assert_eq!((&shown["letters"], &shown["count"]), (&"SECT".into(), &Value::Null));
    let said = text(&running.kobj(["show", "/types/section"]).stdout);
    assert!(said.contains("cannot be seen"), "{said}");
}

#[test]
fn what_is_not_there_is_1_and_says_what_to_do() {
    let mut running = Running::new("absent", &[]);
    for (path, directory) in [
        ("/nope", "kobj ls / "),
        ("/jobs/no-such-job", "kobj ls /jobs "),
        ("/host/segments/dev/shm/no-such-segment", "kobj ls /host/segments "),
        ("/host/nopes", "kobj ls /host "),
        ("/types/job/x", "is a type and no directory; kobj show /types/job "),
        ("/jobs//", "kobj ls /jobs "),
    ] {
        for command in ["ls", "tree", "show"] {
            let output = running.kobj([command, path]);
            assert_eq!(output.status.code(), Some(1), "{command} {path}: {output:?}");
            assert!(text(&output.stderr).contains(directory), "{command} {path}: {output:?}");
            assert!(output.stdout.is_empty(), "{command} {path}: {output:?}");
        }
    }
    let output = running.kobj(["show", "00000001:00000002"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("kobj jobs -o +KOID"), "{output:?}");
    assert_eq!(running.kobj(["ls", "-o", "NOPE"]).status.code(), Some(2));
    assert_eq!(running.kobj(["ls", "-Q", "NOPE == 1"]).status.code(), Some(2));
    assert_eq!(running.kobj(["show"]).status.code(), Some(2));
    // It was there, and is gone.
    let path = format!("/jobs/{}", running.name);
    assert_eq!(running.kobj(["show", &path]).status.code(), Some(0));
    running.end();
    assert_eq!(running.kobj(["show", &path]).status.code(), Some(1));
}

#[test]
fn a_hostile_name_is_escaped_and_can_be_typed_as_it_is_shown() {
    let running = Running::new("hostile", &[]);
    let mut name = format!("/dev/shm/kobj-tree-{}-", std::process::id()).into_bytes();
    name.extend_from_slice(b"a\n\x1b[2J\xff\\");
    let file = PathBuf::from(OsString::from_vec(name.clone()));
    std::fs::write(&file, "x").unwrap();
    let path = OsString::from_vec([&b"/host/segments"[..], &name].concat());
    let raw = running.kobj([OsStr::new("show"), &path]);
    let listed = running.kobj(["ls", "-n", "-r", "-o", "PATH", "/host/segments"]);
    let found = text(&listed.stdout).lines().find(|line| line.contains("[2J")).map(str::to_owned);
    let typed = running.kobj(["show", &found.clone().unwrap_or_default()]);
    let json = running.kobj([OsStr::new("show"), OsStr::new("-J"), &path]);
    let drawn = running.kobj(["tree", "--all", "/host/segments"]);
    _ = std::fs::remove_file(&file);
    let shown = format!("/host/segments/dev/shm/kobj-tree-{}-a\\n\\x1b[2J\\xff\\\\", std::process::id());
    assert_eq!(found.as_deref(), Some(shown.as_str()), "{listed:?}");
    for output in [&raw, &typed, &listed, &drawn] {
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(!output.stdout.contains(&0x1b), "{output:?}");
    }
    assert!(text(&raw.stdout).starts_with(&format!("path      {shown}\n")), "{raw:?}");
    let first = |output: &Output| text(&output.stdout).lines().take(4).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(first(&raw), first(&typed));
    let value: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(
        value["objects"][0]["path_bytes"].is_string() && value["objects"][0]["name"]["bytes"].is_string(),
        "{value}"
    );
    // Bytes that no name has.
    let strange = running.kobj([OsStr::new("ls"), OsStr::from_bytes(b"/jobs/\xff\x1b[2J")]);
    assert_eq!(strange.status.code(), Some(1));
    assert!(!strange.stderr.contains(&0x1b), "{strange:?}");
}

#[test]
fn a_record_that_cannot_be_read_is_a_job_all_the_same() {
    let running = Running::new("damaged", &[]);
    let path = running.runtime.join("kobj/1");
    std::fs::write(&path, "not a record").unwrap();
    let jobs = running.entries("/jobs");
    let row = jobs.iter().find(|row| row["state"] == "unreadable").unwrap_or_else(|| panic!("{jobs:?}"));
    let path = row["path"].as_str().unwrap();
    assert!(running.entries(&format!("{path}/processes")).is_empty());
    assert!(running.json(&["show", "-J", path])["objects"][0]["unreadable"].as_str().unwrap().contains("not a record"));
    assert_eq!(running.kobj(["tree"]).status.code(), Some(0));
}

/// Another user sees the host's objects, no job of ours, and is told that holders are not known.
#[test]
fn an_ordinary_user_is_told_what_cannot_be_seen() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: an_ordinary_user_is_told: needs root to become another user");
    }
    let running = Running::new("other", &[]);
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", env!("CARGO_BIN_EXE_kobj")]);
        let command = command.args(arguments).env("XDG_RUNTIME_DIR", &running.runtime);
        command.env("XDG_CONFIG_HOME", "/nonexistent").env_remove("HOME").output().unwrap()
    };
    if as_nobody(&["--version"]).status.code() != Some(0) {
        return println!("skipped: an_ordinary_user_is_told: another user may not execute the program from here");
    }
    let path = format!("/host/segments{}", running.segment.display());
    let output = as_nobody(&["show", "-J", &path]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let object = &value["objects"][0];
    assert!(object["holders"]["unreadable"].as_u64().unwrap() >= 1, "{object}");
    assert_eq!((&object["creator"], &object["links"]), (&Value::Null, &Value::Null), "{object}");
    let jobs = as_nobody(&["ls", "-J", "/jobs"]);
    assert!(!text(&jobs.stdout).contains(&running.name), "{jobs:?}");
    assert_eq!(as_nobody(&["show", &format!("/jobs/{}", running.name)]).status.code(), Some(1));
    assert_eq!(as_nobody(&["tree"]).status.code(), Some(0));
}

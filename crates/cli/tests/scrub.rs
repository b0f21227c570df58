//! `kobj scrub` through the binary: named things go only while nobody uses them, and only the very thing that was named.

use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

fn kobj(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kobj"));
    command.args(arguments).env_remove("KOBJ_JOB").env("XDG_CONFIG_HOME", "/nonexistent");
    command.stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn objects(output: &Output) -> Vec<serde_json::Value> {
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    value["objects"].as_array().unwrap().clone()
}

/// A segment, removed at the end if it is still there.
struct Segment(PathBuf);

impl Segment {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(format!("/dev/shm/kobj-scrub-{name}-{}", std::process::id()));
        std::fs::write(&path, [7; 4096]).unwrap();
        Self(path)
    }

    fn name(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.0);
    }
}

/// A Python program that said "up"; ended with this value.
struct Python(Child);

impl Python {
    fn new(code: &str, argument: &Path) -> Self {
        let program = format!("import sys,os,signal\n{code}\nprint('up',flush=True)\nsys.stdin.read()");
        let mut child = Command::new("python3")
            .args(["-c", &program])
            .arg(argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        Self(child)
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn a_named_segment_goes_only_while_nobody_uses_it() {
    let segment = Segment::new("named");
    let holder =
        Python::new("import mmap;f=open(sys.argv[1],'r+b');m=mmap.mmap(f.fileno(),4096);f.close()", &segment.0);
    let output = kobj(&["scrub", "-J", segment.name()]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(objects(&output)[0]["action"], "in-use");
    assert!(segment.0.exists(), "a mapped segment was deleted");
    drop(holder);
    let output = kobj(&["scrub", "-J", segment.name()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(objects(&output)[0]["action"], "scrubbed");
    assert!(!segment.0.exists());
}

#[test]
fn a_dry_run_shows_the_same_plan_and_touches_nothing() {
    let segment = Segment::new("dry");
    let output = kobj(&["scrub", "--dry-run", "-J", segment.name()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(objects(&output)[0]["action"], "planned");
    assert!(segment.0.exists());
}

/// What a scrub that was killed had set aside lies in a private folder under a name that says where it came from.
#[test]
fn what_a_killed_scrub_had_set_aside_is_there_again_for_the_next() {
    let segment = Segment::new("aside");
    let beside = segment.0.with_extension("beside");
    let beside = Segment(beside);
    // No process has this number: it is above the kernel's limit.
    let room = PathBuf::from(format!("/dev/shm/.kobj-4194997-{:016x}", std::process::id()));
    std::fs::create_dir(&room).unwrap();
    std::fs::set_permissions(&room, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let inside = |path: &Path| room.join(format!("of-{}", path.file_name().unwrap().to_str().unwrap()));
    std::fs::rename(&segment.0, inside(&segment.0)).unwrap();
    std::fs::write(inside(&beside.0), "of the same batch").unwrap();
    let output = kobj(&["scrub", "-J", segment.name()]);
    let (is_gone, home) = (!room.exists(), std::fs::read_to_string(&beside.0));
    _ = std::fs::remove_dir_all(&room);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(objects(&output)[0]["action"], "scrubbed");
    assert!(is_gone, "{output:?}");
    assert_eq!(home.unwrap(), "of the same batch");
}

#[test]
fn an_identity_binds_the_very_object() {
    let segment = Segment::new("identity");
    let identity = objects(&kobj(&["scrub", "--dry-run", "-J", segment.name()]))[0]["identity"].clone();
    let identity = identity.as_str().unwrap();
    std::fs::rename(&segment.0, segment.0.with_extension("old")).unwrap();
    let old = Segment(segment.0.with_extension("old"));
    std::fs::write(&segment.0, "another object of that name").unwrap();
    let output = kobj(&["scrub", segment.name(), "--identity", identity]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains("another object now"), "{output:?}");
    assert!(segment.0.exists() && old.0.exists());
    let output = kobj(&["scrub", old.name(), "--identity", identity]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(!old.0.exists() && segment.0.exists());
    assert_eq!(
        kobj(&["scrub", old.name(), "--identity", identity]).status.code(),
        Some(0),
        "gone already is no failure"
    );
    assert_eq!(kobj(&["scrub", segment.name(), "--identity", "nonsense"]).status.code(), Some(2));
}

#[test]
fn an_ordinary_file_is_never_scrubbed() {
    let folder = std::env::temp_dir().join(format!("kobj-scrub-file-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let output = kobj(&["scrub", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(path.exists());
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_leftover_process_is_ended_and_one_that_ignores_the_signal_is_killed() {
    let mut willing = Python::new("", Path::new("-"));
    let mut stubborn = Python::new("signal.signal(signal.SIGTERM,signal.SIG_IGN)", Path::new("-"));
    let (one, other) = (willing.0.id().to_string(), stubborn.0.id().to_string());
    let output = kobj(&["scrub", "-J", &format!("process:{one}"), &format!("process:{other}")]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let actions: Vec<_> = objects(&output).iter().map(|row| row["action"].clone()).collect();
    assert_eq!(actions, ["terminated", "killed"]);
    assert!(!willing.0.wait().unwrap().success() && !stubborn.0.wait().unwrap().success());
}

#[test]
fn a_process_that_serves_others_and_our_own_ancestors_stay() {
    // A socket pair whose other end a child outside the named process holds.
    let code =
        "import socket\na,b=socket.socketpair()\nif os.fork()==0:\n a.close();print(b.recv(1));os._exit(0)\nb.close()";
    let server = Python::new(code, Path::new("-"));
    let output = kobj(&["scrub", "-J", &format!("process:{}", server.0.id())]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(objects(&output)[0]["action"], "in-use");
    let output = kobj(&["scrub", "-J", &format!("process:{}", std::process::id())]);
    assert_eq!(objects(&output)[0]["action"], "in-use", "a test's own process");
}

#[test]
fn sysv_objects_go_by_kind_and_id() {
    let output = Command::new("ipcmk").args(["-M", "4096"]).output().unwrap();
    let id = text(&output.stdout).trim().rsplit(' ').next().unwrap().to_string();
    let output = kobj(&["scrub", "-J", &format!("sysv-segment:{id}")]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(objects(&output)[0]["action"], "scrubbed");
    let output = kobj(&["scrub", &format!("sysv-segment:{id}")]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

/// Queues and semaphores have no exact judge: it takes a person who names them, and the fix line of a report is that.
#[test]
fn a_person_who_names_a_queue_or_semaphore_stands_in_for_a_proof() {
    for (flags, kind) in [(["-Q", "-p", "0600"].as_slice(), "sysv-queue"), (&["-S", "1"], "sysv-semaphore")] {
        let made = text(&Command::new("ipcmk").args(flags).output().unwrap().stdout);
        let id = made.trim().rsplit(' ').next().unwrap().to_owned();
        let output = kobj(&["scrub", "--json", &format!("{kind}:{id}")]);
        assert!(output.status.success(), "{kind} {id}: {output:?}");
        assert_eq!(objects(&output)[0]["action"], "scrubbed");
    }
}

#[test]
fn an_earlier_reports_stragglers_go_if_they_are_still_the_same() {
    let (same, other) = (Segment::new("from-same"), Segment::new("from-other"));
    let folder = std::env::temp_dir().join(format!("kobj-scrub-from-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/train.json");
    let mut report: serde_json::Value = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
    let identity = objects(&kobj(&["scrub", "--dry-run", "-J", same.name()]))[0]["identity"].clone();
    let parts: Vec<String> = identity.as_str().unwrap().split('-').map(String::from).collect();
    let number = |part: &str| u64::from_str_radix(part, 16).unwrap();
    let row = |name: &str, inode: u64| {
        let mut row = report["stragglers"][3].clone();
        row["name"] = name.into();
        row["action"] = "reported".into();
        let born = kobj_time(number(&parts[4]) as i64);
        row["identity"] =
            serde_json::json!({ "device": number(&parts[1]), "inode": inode, "generation": parts[3], "born": born });
        row
    };
    let rows = vec![row(same.name(), number(&parts[2])), row(other.name(), number(&parts[2]) + 1_000_000)];
    report["stragglers"] = rows.into();
    let path = folder.join("r.json");
    std::fs::write(&path, report.to_string()).unwrap();
    let output = kobj(&["scrub", "--from", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(!same.0.exists(), "{output:?}");
    assert!(other.0.exists(), "another object of that name was deleted");
    std::fs::write(&path, "{}").unwrap();
    assert_eq!(kobj(&["scrub", "--from", path.to_str().unwrap()]).status.code(), Some(2));
    std::fs::remove_dir_all(&folder).unwrap();
}

/// RFC 3339 of those microseconds, by date(1).
fn kobj_time(micros: i64) -> String {
    let output = Command::new("date")
        .args(["-u", "-d", &format!("@{}", micros / 1_000_000), "+%Y-%m-%dT%H:%M:%S"])
        .output()
        .unwrap();
    format!("{}.{:06}Z", text(&output.stdout).trim(), micros % 1_000_000)
}

/// What they are and how they go, `unused.rs` tests in a /dev/shm of its own: to ask about everybody's here would look like
/// use to whoever is scrubbing at that moment.
#[test]
fn the_unused_want_a_kind_and_an_age() {
    let scrub = |more: &[&str]| kobj(&[&["scrub", "--unused"][..], more].concat());
    // Old enough by years: other tests' and programs' segments must not be asked for here.
    let output = scrub(&["--kind", "segment", "--older-than", "100000d", "--dry-run", "-J"]);
    assert_eq!((output.status.code(), objects(&output).len()), (Some(0), 0), "{output:?}");
    assert_eq!(scrub(&[]).status.code(), Some(2), "kind and age are wanted");
    for kind in ["mount", "process"] {
        let output = scrub(&["--kind", kind, "--older-than", "0s", "--dry-run"]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}

#[test]
fn names_that_are_not_utf8_are_scrubbed() {
    let mut name = format!("/dev/shm/kobj-scrub-{}-", std::process::id()).into_bytes();
    name.extend_from_slice(b"\xff\n\x1b[2J");
    let path = PathBuf::from(std::ffi::OsString::from_vec(name));
    std::fs::write(&path, "x").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_kobj")).arg("scrub").arg(&path).output().unwrap();
    let gone = !path.exists();
    _ = std::fs::remove_file(&path);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(gone);
    assert!(!output.stdout.contains(&0x1b));
}

#[test]
fn nothing_named_is_wrong() {
    for wrong in [&["scrub"][..], &["scrub", "/nonexistent/x"], &["scrub", "--from", "/nonexistent.json"]] {
        assert_eq!(kobj(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn an_unprivileged_user_cannot_harm_anothers_and_can_scrub_its_own() {
    if !rustix::process::geteuid().is_root() {
        println!(
            "skipped: an_unprivileged_user_cannot_harm_anothers_and_can_scrub_its_own: needs root to become others"
        );
        return;
    }
    let folder = PathBuf::from(format!("/tmp/kobj-scrub-user-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let program = folder.join("kobj");
    // By another process: what other tests start meanwhile would inherit a descriptor that is open for writing here.
    assert!(Command::new("install").arg(env!("CARGO_BIN_EXE_kobj")).arg(&folder).status().unwrap().success());
    for path in [&folder, &program] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let as_nobody = |arguments: &[&std::ffi::OsStr]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).args(arguments);
        command.env("HOME", "/nonexistent").env_remove("XDG_RUNTIME_DIR").stdin(Stdio::null()).output().unwrap()
    };
    let roots = Segment::new("roots");
    std::fs::set_permissions(&roots.0, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let output = as_nobody(&[program.as_os_str(), "scrub".as_ref(), roots.0.as_os_str()]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(roots.0.exists(), "another user's segment was deleted");

    let own = Segment(PathBuf::from(format!("/dev/shm/kobj-scrub-own-{}", std::process::id())));
    let made = as_nobody(&["touch".as_ref(), own.0.as_os_str()]);
    assert!(made.status.success(), "{made:?}");
    let output = as_nobody(&[program.as_os_str(), "scrub".as_ref(), "-J".as_ref(), own.0.as_os_str()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(!own.0.exists());

    // What root's processes hold cannot be seen; that is said, and is not "nobody".
    let output = as_nobody(&[program.as_os_str(), "who".as_ref(), roots.0.as_os_str()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("could not be looked into"), "{output:?}");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A POSIX queue's name looks like a path and is none: it is found by name, by kind and name, and by a report.
#[test]
fn a_posix_queue_is_found_by_its_name_though_that_looks_like_a_path() {
    let name = format!("/kobj-scrub-queue-{}", std::process::id());
    let make = "import ctypes\nmq_open=ctypes.CDLL('librt.so.1',use_errno=True).mq_open\n\
        assert mq_open(os.fsencode(sys.argv[1]),os.O_CREAT|os.O_RDWR,0o600,None)>=0";
    let seen = kobj(&["census", "-J", "--kind", "posix-queue"]);
    if text(&seen.stderr).contains("not visible") {
        println!("skipped: posix queues: {}", text(&seen.stderr).trim());
        return;
    }
    let typed = [name.clone(), format!("posix-queue:{name}")];
    for typed in &typed {
        drop(Python::new(make, Path::new(&name)));
        let output = kobj(&["scrub", "-J", typed]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(objects(&output)[0]["action"], "scrubbed", "{typed}");
    }
    drop(Python::new(make, Path::new(&name)));
    let why = objects(&kobj(&["why", "-J", &name]));
    let identity = why[0]["identity"].as_str().expect("an identity").to_owned();
    let other = kobj(&["scrub", "-J", &typed[1], "--identity", &identity.replacen("file-", "file-f", 1)]);
    assert_ne!(other.status.code(), Some(0), "another identity is another object");
    let output = kobj(&["scrub", "-J", &typed[1], "--identity", &identity]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(kobj(&["scrub", &typed[1]]).status.code(), Some(2), "it is gone");
}

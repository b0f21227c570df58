//! What a command is handed passes through `kobj run` untouched, and its end passes back.

use kobj_e2e::mode::{Mode, USER};
use kobj_e2e::place::{Place, Room, one_room, own};
use kobj_e2e::running::{PATH, Running, Spec};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The probe's facts, outside and inside, must differ in the cookie alone.
fn compare(outside: &Path, inside: &Path) {
    let read = |path: &Path| -> Value {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let (mut outside, mut inside) = (read(outside), read(inside));
    let cookies: Vec<String> = inside["environment"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.clone())
        .filter(|key| outside["environment"].get(key).is_none())
        .collect();
    assert_eq!(cookies.len(), 1, "one cookie, not {cookies:?}");
    assert!(cookies[0].starts_with("KOBJ"), "{cookies:?}");
    if let Some(environment) = inside["environment"].as_object_mut() {
        environment.remove(&cookies[0]);
    }
    let (Some(outside), Some(inside)) = (outside.as_object_mut(), inside.as_object_mut()) else { panic!("no facts") };
    for (key, value) in outside.iter() {
        if let (Value::Object(outside), Some(Value::Object(inside))) = (value, inside.get(key)) {
            let both: std::collections::BTreeSet<&String> = outside.keys().chain(inside.keys()).collect();
            for name in both {
                let (outside, inside) = (outside.get(name), inside.get(name));
                assert_eq!(outside, inside, "{key}, {name} differs: outside (left), inside (right)");
            }
        }
        assert_eq!(Some(value), inside.get(key), "{key} differs: outside (left), inside (right)");
    }
}

/// A command line: dressed.py puts everything on, then comes `middle`, then the probe.
fn dressed(place: &Place, pipe: &str, middle: &[String], facts: &Path) -> Vec<String> {
    let script = |name: &str| place.root.join(name).display().to_string();
    let mut words: Vec<String> = ["/usr/bin/python3", "-B"].map(String::from).to_vec();
    words.extend([script("dressed.py"), pipe.into()]);
    words.extend_from_slice(middle);
    words.extend(["/usr/bin/python3", "-B"].map(String::from));
    words.extend([script("probe.py"), facts.display().to_string()]);
    words.extend(["", "--x", "$y", "a b"].map(String::from));
    words
}

fn kobj_run(kobj: &Path) -> Vec<String> {
    // Quiet: what others on the machine make meanwhile may be listed as nobody's.
    vec![kobj.display().to_string(), "run".into(), "--quiet".into(), "--".into()]
}

fn on_files(mode: Mode, pipe: &str) {
    let (place, room, kobj) = one_room(mode.uid());
    let prefix = if mode == Mode::User { mode.prefix() } else { Vec::new() };
    let files: Vec<File> = ["in", "out", "err"]
        .iter()
        .map(|name| {
            let path = place.root.join(name);
            let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            opened.and_then(|file| own(&path, mode.uid()).map(|()| file)).unwrap_or_else(|error| panic!("{error}"))
        })
        .collect();
    let run = |middle: &[String], facts: &Path| {
        let words: Vec<String> = prefix.iter().cloned().chain(dressed(&place, pipe, middle, facts)).collect();
        let stream = |at: usize| Stdio::from(files[at].try_clone().unwrap_or_else(|error| panic!("{error}")));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().env("PATH", PATH).env("HOME", &room.home).env("TMPDIR", &room.tmp);
        command.stdin(stream(0)).stdout(stream(1)).stderr(stream(2)).current_dir(&room.tmp).process_group(0);
        let status = command.status().unwrap_or_else(|error| panic!("{error}"));
        let printed = fs::read_to_string(place.root.join("err")).unwrap_or_default();
        assert!(status.success(), "{words:?}: {status}: {printed}");
    };
    let (outside, inside) = (room.desk.join("outside.json"), room.desk.join("inside.json"));
    run(&[], &outside);
    run(&kobj_run(&kobj), &inside);
    // Each is the leader of its own process group, and kobj is the command's.
    let strip = |path: &Path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let mut facts: Value = serde_json::from_str(&text).unwrap_or_default();
        if let Some(object) = facts.as_object_mut() {
            object.remove("group");
        }
        let _ = fs::write(path, facts.to_string());
    };
    strip(&outside);
    strip(&inside);
    compare(&outside, &inside);
    let printed = fs::read_to_string(place.root.join("err")).unwrap_or_default();
    assert_eq!(printed, "", "kobj printed though nothing was left");
}

#[test]
fn everything_passes_as_root_with_default_sigpipe() {
    on_files(Mode::Root, "default");
}

#[test]
fn everything_passes_as_root_with_ignored_sigpipe() {
    on_files(Mode::Root, "ignored");
}

#[test]
fn everything_passes_as_a_user_as_under_sudo() {
    on_files(Mode::User, "default");
}

/// Runs words in a room and gives exit code, signal and all output.
fn run(room: &Room, words: &[String]) -> (Option<i32>, Option<i32>, String) {
    let mut running = Running::spawn(room, &Spec::default(), words, 0, false);
    let status = running.wait();
    (status.code(), status.signal(), running.output())
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

#[test]
fn everything_passes_on_a_terminal() {
    let (place, room, kobj) = one_room(0);
    let (outside, inside) = (room.desk.join("outside.json"), room.desk.join("inside.json"));
    let quoted = |words: &[String]| -> String { words.iter().map(|word| format!("'{word}' ")).collect() };
    // A shell without job control: both commands are of its process group, which has the foreground.
    let script = format!(
        "{} && {}",
        quoted(&dressed(&place, "default", &[], &outside)),
        quoted(&dressed(&place, "default", &kobj_run(&kobj), &inside))
    );
    let terminal = place.root.join("terminal.py").display().to_string();
    let (code, _, output) = run(&room, &words(&["/usr/bin/python3", "-B", &terminal, "/bin/sh", "-c", &script]));
    assert_eq!(code, Some(0), "{output}");
    assert!(fs::read_to_string(&inside).is_ok_and(|text| text.contains("\"foreground\": true")), "no terminal");
    compare(&outside, &inside);
}

#[test]
fn closed_standard_streams_stay_closed() {
    let (place, room, kobj) = one_room(0);
    let (outside, inside) = (room.desk.join("outside.json"), room.desk.join("inside.json"));
    let probe = place.root.join("probe.py").display().to_string();
    let report = room.desk.join("report.json");
    let script = format!(
        "/usr/bin/python3 -B {probe} {} <&- >&- 2>&-; {} run --report {} -- /usr/bin/python3 -B {probe} {} <&- >&- 2>&-",
        outside.display(),
        kobj.display(),
        report.display(),
        inside.display()
    );
    let (code, _, output) = run(&room, &words(&["/bin/sh", "-c", &script]));
    assert_eq!(code, Some(0), "{output}");
    let text = fs::read_to_string(&outside).unwrap_or_default();
    let facts: Value = serde_json::from_str(&text).unwrap_or_default();
    assert!(facts["descriptors"].as_object().is_some_and(|map| !map.contains_key("0")), "the streams were not closed");
    compare(&outside, &inside);
    assert!(kobj_e2e::report::Report::read(&report).is_ok(), "no report");
}

#[test]
fn without_a_terminal_in_a_session_of_its_own() {
    let (place, room, kobj) = one_room(0);
    let facts = room.desk.join("facts.json");
    let mut line = words(&["setsid", "--wait"]);
    line.extend(kobj_run(&kobj));
    line.extend(words(&["/usr/bin/python3", "-B"]));
    line.extend([place.root.join("probe.py").display().to_string(), facts.display().to_string()]);
    let (code, _, output) = run(&room, &line);
    assert_eq!((code, output.as_str()), (Some(0), ""));
    let text = fs::read_to_string(&facts).unwrap_or_default();
    let facts: Value = serde_json::from_str(&text).unwrap_or_default();
    assert_eq!(facts["terminal"], 6, "ENXIO: no controlling terminal");
}

#[test]
fn the_wait_status_passes_back_without_a_core() {
    let (_place, room, kobj) = one_room(0);
    let under = |script: &str| {
        let mut line = kobj_run(&kobj);
        line.extend(words(&["/bin/sh", "-c", script]));
        line
    };
    for code in [0, 1, 7, 122, 126, 255] {
        assert_eq!(run(&room, &under(&format!("exit {code}"))).0, Some(code));
    }
    // HUP, INT, QUIT, ABRT, KILL, USR1, SEGV, PIPE, ALRM, TERM, XCPU and a real-time signal.
    for signal in [1, 2, 3, 6, 9, 10, 11, 13, 14, 15, 24, 40] {
        let script = format!("ulimit -c 0; kill -{signal} $$");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "ulimit -c unlimited; exec \"$@\"", "sh"]).args(under(&script));
        command.current_dir(&room.tmp).env_clear().env("PATH", PATH).env("HOME", &room.home).process_group(0);
        let status = command.output().unwrap_or_else(|error| panic!("{error}")).status;
        assert_eq!(status.signal(), Some(signal), "{status}");
        assert!(!status.core_dumped(), "kobj dumped a core for signal {signal}");
    }
}

#[test]
fn the_jobserver_of_make_works_inside() {
    let (_place, room, kobj) = one_room(0);
    if !kobj_e2e::installed("make") {
        return kobj_e2e::skip("the_jobserver_of_make_works_inside", "make is not installed");
    }
    // Two inner targets that can only end together: each waits for the other in a fifo.
    let folder: PathBuf = room.tmp.clone();
    let inner = "both: left right\nleft:\n\techo >one; read x <two\nright:\n\tread x <one; echo >two\n";
    let outer = format!("all:\n\tmkfifo one two\n\t+{} run -- timeout 60 $(MAKE) -f inner both\n", kobj.display());
    fs::write(folder.join("inner"), inner).and_then(|()| fs::write(folder.join("outer"), outer)).expect("makefiles");
    let line = words(&["make", "-C", &folder.display().to_string(), "-j2", "-f", "outer"]);
    let (code, _, output) = run(&room, &line);
    assert_eq!(code, Some(0), "{output}");
    assert!(!output.contains("jobserver unavailable"), "{output}");
}

#[test]
fn the_user_of_a_job_is_the_user_of_kobj() {
    let (_place, room, kobj) = one_room(USER);
    let mut line = Mode::User.prefix();
    line.extend(kobj_run(&kobj));
    line.extend(words(&["id", "-u"]));
    assert_eq!(run(&room, &line), (Some(0), None, format!("{USER}\n")));
}

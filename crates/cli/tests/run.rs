//! `kobj run` through the binary: how it ends, what each flag does and does not touch, what it says and where.

use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Long enough for a loaded machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder for one test's reports and state, and a word that no other name on the machine has in it. What carries the
/// word in /dev/shm goes in the end.
struct Desk {
    folder: PathBuf,
    word: String,
}

impl Desk {
    fn new(name: &str) -> Self {
        let word = format!("kobj-run-{name}-{}", std::process::id());
        // Not below /tmp itself: a folder made there is a leftover, one that was there before is not.
        let folder = std::env::temp_dir().join(&word);
        std::fs::create_dir_all(&folder).unwrap();
        Self { folder, word }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    /// The path of a segment with that ending.
    fn segment(&self, end: &str) -> String {
        format!("/dev/shm/{}-{end}", self.word)
    }

    fn command(&self, flags: &[&str], script: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kobj"));
        command.arg("run").args(flags).args(["--", "sh", "-c", script, &self.word]);
        self.dress(&mut command);
        command
    }

    fn dress(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KOBJ_")) {
            command.env_remove(name);
        }
        command.env("XDG_CONFIG_HOME", self.path("config")).env("XDG_STATE_HOME", self.path("state"));
        command.stdin(Stdio::null());
    }

    /// Runs `script` in a shell under `kobj run`.
    fn run(&self, flags: &[&str], script: &str) -> Output {
        self.command(flags, script).output().unwrap()
    }

    /// The same, with the report as data.
    fn report(&self, flags: &[&str], script: &str) -> (Output, Report) {
        let path = self.path("report.json");
        let output = self.run(&[flags, &["--report", &path]].concat(), script);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        (output, Report(serde_json::from_str(&text).unwrap()))
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        for entry in std::fs::read_dir("/dev/shm").unwrap().flatten() {
            let name = entry.file_name().into_vec();
            if name.windows(self.word.len()).any(|part| part == self.word.as_bytes()) {
                _ = std::fs::remove_file(entry.path());
            }
        }
        for pid in processes(&self.word) {
            kill(pid, "KILL");
        }
        for end in ["temporary", "made"] {
            let path = format!("/tmp/{}-{end}", self.word);
            _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
        }
        _ = std::fs::remove_dir_all(&self.folder);
    }
}

struct Report(serde_json::Value);

impl Report {
    /// What was done about the straggler whose name contains that.
    fn action(&self, name: &str) -> Option<&str> {
        let rows = self.0["stragglers"].as_array().unwrap();
        let row = rows.iter().find(|row| row["name"].as_str().unwrap().contains(name))?;
        row["action"].as_str()
    }

    /// What was done about the processes that are left.
    fn processes(&self) -> Vec<&str> {
        let rows = self.0["stragglers"].as_array().unwrap().iter().filter(|row| row["kind"] == "process");
        rows.map(|row| row["action"].as_str().unwrap()).collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is_root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("skipped: {test}: needs root for exact file events or mounts of its own");
    }
    is_root
}

/// Living processes with that word among their arguments.
fn processes(word: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let carries = |pid: &u32| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes())
    };
    pids.filter(|pid| *pid != std::process::id()).filter(carries).collect()
}

fn kill(pid: u32, signal: &str) {
    _ = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).stderr(Stdio::null()).status();
}

/// A child in the background that carries the word and keeps nothing of the test's: started when this returns.
const CHILD: &str = "sh -c 'read x; read x' \"$0\" <>/dev/ptmx >/dev/null 2>&1 & ";

#[test]
fn it_ends_as_the_table_says() {
    let desk = Desk::new("ends");
    let started = desk.path("started");
    let kobj = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kobj"));
        command.arg("run").args(words);
        desk.dress(&mut command);
        // What others make meanwhile would be told too: only kobj's own errors are looked for.
        command.env("KOBJ_QUIET", "1").output().unwrap()
    };
    for (words, code) in [
        (&["--", "true"][..], 0),
        (&["--", "sh", "-c", "exit 7"], 7),
        (&["true", "--help"], 0),
        (&["--no-such-flag", "--", "true"], 125),
        (&["--quiet"], 125),
        (&["--report", "r.yaml", "--", "touch", &started], 125),
        (&["--report", "r.json", "--report", "r", "--", "touch", &started], 125),
        (&["--", "/nonexistent/program"], 127),
        (&["--", "no-such-program-anywhere"], 127),
        (&["--", "/etc/passwd"], 126),
        (&["--", "/"], 126),
        (&["--timeout", "0.1", "--", "sh", "-c", "read x </dev/ptmx"], 124),
        (&["--timeout=0.1", "-k", "0.1", "--", "sh", "-c", "trap '' TERM; read x </dev/ptmx"], 137),
    ] {
        let output = kobj(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {output:?}");
        assert_eq!(output.stderr.is_empty(), code < 125 || code == 137, "{words:?}: {output:?}");
    }
    assert!(!Path::new(&started).exists(), "the command was started before its flags were checked");
    let killed = kobj(&["--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.status.signal(), Some(9), "{killed:?}");
}

#[test]
fn stragglers_fail_a_success_where_asked_but_not_kept_ignored_or_foreign_ones() {
    let test = "stragglers_fail_a_success_where_asked_but_not_kept_ignored_or_foreign_ones";
    if !is_root(test) {
        return;
    }
    let desk = Desk::new("fails");
    let make = format!(": >{}", desk.segment("a"));
    let pattern = format!("segment:{}", desk.segment("*"));
    for (flags, script, code) in [
        (&["--fail-on-stragglers"][..], &*make, 123),
        (&["--fail-on-stragglers=9", "--scrub"], &make, 9),
        (&["--scrub"], &make, 0),
        (&["--fail-on-stragglers", "--keep", &pattern], &make, 0),
        (&["--fail-on-stragglers", "--ignore", &pattern], &make, 0),
        (&["--fail-on-stragglers"], &format!("{make}; exit 3"), 3),
        (&["--fail-on-stragglers"], "true", 0),
        // A System V semaphore has no creator: nothing proves whose it is.
        (&["--fail-on-stragglers"], "id=$(ipcmk -S 1); echo ${id##* }", 0),
    ] {
        let output = desk.run(flags, script);
        if let Ok(id) = text(&output.stdout).trim().parse::<u32>() {
            _ = Command::new("ipcrm").args(["-s", &id.to_string()]).status();
        }
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {output:?}");
        _ = std::fs::remove_file(desk.segment("a"));
    }
}

#[test]
fn kept_things_are_named_and_ignored_ones_hidden_and_neither_is_touched() {
    if !is_root("kept_things_are_named_and_ignored_ones_hidden_and_neither_is_touched") {
        return;
    }
    let desk = Desk::new("keep");
    let path = desk.segment("a");
    for (flag, action) in [("--keep", "kept"), ("--ignore", "ignored")] {
        let (output, report) = desk.report(
            &["--scrub=all", flag, &path, flag, "process:*sh", "--timeout", "60"],
            &format!("{CHILD} : >{path}"),
        );
        assert!(output.status.success(), "{output:?}");
        assert!(Path::new(&path).exists(), "{flag}: {output:?}");
        assert_eq!(report.action(&path), Some(action));
        assert_eq!(report.processes(), [action], "{flag}");
        let left = processes(&desk.word);
        assert_eq!(left.len(), 1, "{flag}: its process was ended");
        assert_eq!(text(&output.stderr).contains(&path), action == "kept", "{output:?}");
        assert!(report.0["job"]["complete"].as_bool().unwrap(), "{flag}: {}", report.0["job"]);
        left.into_iter().for_each(|pid| kill(pid, "KILL"));
        std::fs::remove_file(&path).unwrap();
    }
}

/// The names differ in their digits from run to run; the rest is new.
#[test]
fn what_a_baseline_names_is_hidden_and_left_and_the_rest_is_news() {
    if !is_root("what_a_baseline_names_is_hidden_and_left_and_the_rest_is_news") {
        return;
    }
    let desk = Desk::new("baseline");
    let known = desk.path("known.json");
    let make = |number: u32| format!("{CHILD} : >{}", desk.segment(&format!("{number}")));
    let first = desk.run(&["--report", &known], &make(11));
    assert!(first.status.success(), "{first:?}");
    let flags = ["--baseline", &known, "--fail-on-stragglers", "--scrub=all"];
    let (output, report) = desk.report(&flags, &make(2222));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    assert_eq!(report.action(&desk.segment("2222")), Some("ignored"));
    assert_eq!(report.processes(), ["ignored"]);
    assert!(Path::new(&desk.segment("2222")).exists(), "a known segment was deleted");
    let left = processes(&desk.word);
    assert_eq!(left.len(), 1, "a known process was ended");
    left.into_iter().for_each(|pid| kill(pid, "KILL"));
    let (output, report) = desk.report(&flags, &format!(": >{}", desk.segment("other")));
    assert_eq!(output.status.code(), Some(123), "{output:?}");
    assert_eq!(report.action(&desk.segment("other")), Some("scrubbed"));
    std::fs::write(&known, "no report").unwrap();
    let output = desk.run(&["--baseline", &known], "echo started");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(125), 0), "{output:?}");
}

#[test]
fn a_dry_run_and_report_only_touch_nothing_and_the_plan_is_what_scrub_does() {
    if !is_root("a_dry_run_and_report_only_touch_nothing_and_the_plan_is_what_scrub_does") {
        return;
    }
    let desk = Desk::new("dry");
    let (path, temporary) = (desk.segment("a"), format!("/tmp/{}-temporary", desk.word));
    let script = format!("{CHILD} : >{path}; p={temporary}; : >${{p}}");
    for (flags, wanted) in [
        (&["--scrub=all", "--dry-run"][..], "planned"),
        (&["--scrub=all", "--report-only"], "reported"),
        (&["--scrub=all", "--report-only", "--dry-run"], "reported"),
    ] {
        let (output, report) = desk.report(flags, &script);
        assert!(output.status.success(), "{output:?}");
        assert!(Path::new(&path).exists() && Path::new(&temporary).exists(), "{flags:?}: {output:?}");
        assert_eq!((report.action(&path), report.action(&temporary)), (Some(wanted), Some(wanted)), "{flags:?}");
        assert_eq!(report.processes(), [wanted], "{flags:?}");
        let left = processes(&desk.word);
        assert_eq!(left.len(), 1, "{flags:?}: its process was ended");
        left.into_iter().for_each(|pid| kill(pid, "KILL"));
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(&temporary).unwrap();
    }
    // A dry run says what --scrub would do, even where nobody asked for it.
    let (_, report) = desk.report(&["--dry-run"], &script);
    processes(&desk.word).into_iter().for_each(|pid| kill(pid, "KILL"));
    assert_eq!((report.action(&path), report.action(&temporary)), (Some("planned"), Some("reported")));
    assert_eq!(report.processes(), ["planned"]);
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(&temporary).unwrap();
    // Without "all" the temporary one stays, and is named.
    let (_, report) = desk.report(&["--scrub"], &script);
    let stays = Path::new(&temporary).exists();
    _ = std::fs::remove_file(&temporary);
    assert_eq!((report.action(&path), report.action(&temporary)), (Some("scrubbed"), Some("reported")));
    assert!(stays && !Path::new(&path).exists());
    assert_eq!(report.processes(), ["terminated"]);
    let (_, report) = desk.report(&["--scrub=all"], &script);
    assert_eq!((report.action(&path), report.action(&temporary)), (Some("scrubbed"), Some("scrubbed")));
    assert!(!Path::new(&temporary).exists());
}

#[test]
fn the_first_signal_and_the_time_to_the_second_are_as_asked() {
    let desk = Desk::new("signal");
    let told = desk.path("told");
    // The command ends when its child says that it is ready.
    let script = |signals: &str| {
        format!(
            "f={told}.fifo; rm -f $f; mkfifo $f; sh -c 'trap \"echo got >>{told}\" {signals}; echo up >'$f'; \
             while :; do read x </dev/ptmx; done' \"$0\" >/dev/null 2>&1 & read up <$f; rm $f"
        )
    };
    let begun = Instant::now();
    let (output, report) = desk.report(&["-s", "USR1", "--kill-after", "0.3"], &script("USR1 TERM"));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(report.processes(), ["killed"], "{output:?}");
    assert_eq!(std::fs::read_to_string(&told).unwrap(), "got\n", "SIGUSR1 and nothing else before SIGKILL");
    assert!(begun.elapsed() < PATIENCE);
    std::fs::remove_file(&told).unwrap();
    // At once: no first signal is waited for.
    let (_, report) = desk.report(&["-k", "0"], &script("TERM"));
    assert_eq!(report.processes(), ["killed"]);
    for wrong in [&["-k", "soon"][..], &["-s", "NOSUCH"], &["--timeout", "-1"], &["--timeout", "1 2"]] {
        let output = desk.run(wrong, "echo started");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(125), 0), "{wrong:?}: {output:?}");
    }
}

#[test]
fn what_is_said_is_what_was_asked_for() {
    if !is_root("what_is_said_is_what_was_asked_for") {
        return;
    }
    let desk = Desk::new("says");
    let path = desk.segment("a");
    let make = format!(": >{path}");
    let said = |flags: &[&str], script: &str| {
        let output = desk.run(flags, script);
        _ = std::fs::remove_file(&path);
        assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
        text(&output.stderr)
    };
    assert_eq!(said(&[], "true"), "", "nothing is left, nothing is said");
    assert_eq!(said(&["--quiet"], &make), "");
    let usual = said(&[], &make);
    assert!(usual.starts_with("kobj: job \"sh\" left 1 object") && usual.contains(&path), "{usual}");
    assert!(usual.contains(" KIND ") && usual.contains(" ACTION\n") && !usual.contains("proof:"), "{usual}");
    assert!(!usual.contains('\x1b') && !usual.contains("containment"), "{usual}");
    assert!(said(&["--name", "train"], &make).contains("job \"train\""));
    let explained = said(&["--explain"], &make);
    assert!(explained.contains("proof: made by pid") && explained.contains("fix: kobj scrub "), "{explained}");
    let verbose = said(&["-v"], "true");
    assert!(verbose.contains("containment ") && verbose.contains("layers census"), "{verbose}");
    for script in ["true", &make] {
        let json: serde_json::Value = serde_json::from_str(&said(&["--json"], script)).unwrap();
        assert_eq!(json["schema"], "kobj.report/1");
        assert_eq!(json["stragglers"].as_array().unwrap().len(), usize::from(script != "true"));
    }
}

/// On a terminal the actions are coloured, unless NO_COLOR or the terminal's name says otherwise.
#[test]
fn colour_is_for_terminals_alone() {
    let test = "colour_is_for_terminals_alone";
    if !is_root(test) {
        return;
    }
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        return println!("skipped: {test}: no script here");
    }
    let desk = Desk::new("colour");
    let path = desk.segment("a");
    let on_terminal = |variables: &[(&str, &str)]| {
        let inner = format!("'{}' run -- sh -c ': >{path}'", env!("CARGO_BIN_EXE_kobj"));
        let mut command = Command::new("script");
        command.args(["-qec", &inner, "/dev/null"]).env("TERM", "xterm").env_remove("NO_COLOR");
        desk.dress(&mut command);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        _ = std::fs::remove_file(&path);
        let said = text(&output.stdout);
        assert!(said.contains("reported"), "{output:?}");
        said
    };
    assert!(on_terminal(&[]).contains("\x1b[33mreported\x1b[0m"));
    for quieter in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        assert!(!on_terminal(&[quieter]).contains('\x1b'), "{quieter:?}");
    }
}

/// The line that a report gives is the exact command: a shell runs it, and it binds the very object.
#[test]
fn the_fix_line_scrubs_that_object_and_no_other_of_its_name() {
    if !is_root("the_fix_line_scrubs_that_object_and_no_other_of_its_name") {
        return;
    }
    let desk = Desk::new("fix");
    let path = PathBuf::from(std::ffi::OsString::from_vec([desk.segment("'").as_bytes(), b"\n$(id)\xff"].concat()));
    let script = format!("p=$(printf \"{}\\n\\$(id)\\377.\"); : >\"${{p%.}}\"", desk.segment("'"));
    let (output, report) = desk.report(&[], &script);
    assert!(path.exists(), "{output:?}");
    let fix = report.0["stragglers"][0]["fix"].as_str().unwrap().to_owned();
    let again = || {
        let folder = Path::new(env!("CARGO_BIN_EXE_kobj")).parent().unwrap();
        let mut command = Command::new("bash");
        desk.dress(&mut command);
        command.args(["-c", &fix]).env("PATH", format!("{}:/usr/bin:/bin", folder.display())).output().unwrap()
    };
    let other = desk.segment("kept-aside");
    std::fs::rename(&path, &other).unwrap();
    std::fs::write(&path, "another object of that name").unwrap();
    let refused = again();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(path.exists(), "another object was deleted: {fix}");
    std::fs::rename(&other, &path).unwrap();
    let done = again();
    assert_eq!(done.status.code(), Some(0), "{fix}: {done:?}");
    assert!(!path.exists(), "{fix}: {done:?}");
}

#[test]
fn hostile_names_reach_text_json_and_junit_whole_and_harmless() {
    if !is_root("hostile_names_reach_text_json_and_junit_whole_and_harmless") {
        return;
    }
    let desk = Desk::new("names");
    let name = [desk.segment("").as_bytes(), b"a\nkobj: all is well\x1b[31m<&]]>\xff\xe2\x80\xae"].concat();
    let script = format!(
        "p=$(printf '{}a\\nkobj: all is well\\033[31m<&]]>\\377\\342\\200\\256.'); : >\"${{p%.}}\"",
        desk.segment("")
    );
    let reports = ["r.txt", "r.json", "r.xml"].map(|name| desk.path(name));
    let flags: Vec<&str> = reports.iter().flat_map(|path| ["--report", path]).chain(["--scrub", "--explain"]).collect();
    let output = desk.run(&flags, &script);
    assert!(output.status.success(), "{output:?}");
    let read = |path: &String| std::fs::read_to_string(path).unwrap();
    let [plain, json, junit] = [&reports[0], &reports[1], &reports[2]].map(read);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let row = &json["stragglers"][0];
    assert_eq!(row["action"], "scrubbed", "{json}");
    let encoded = row["path_bytes"].as_str().unwrap().to_owned();
    let decoded = Command::new("sh").args(["-c", "printf %s \"$0\" | base64 -d", &encoded]).output().unwrap().stdout;
    assert_eq!(decoded, name, "JSON keeps the very bytes");
    let shown = "a\\nkobj: all is well\\x1b[31m";
    for said in [&text(&output.stderr), &plain, &junit] {
        assert!(said.contains(shown), "{said}");
        assert!(!said.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}'), "{said}");
        assert!(!said.lines().any(|line| line.starts_with("kobj: all is well")), "{said}");
    }
    let well_formed = "import sys,xml.dom.minidom as x\nx.parse(sys.argv[1])";
    let parsed = Command::new("python3").args(["-c", well_formed, &reports[2]]).output().unwrap();
    assert!(parsed.status.success(), "{parsed:?}\n{junit}");
}

#[test]
fn variables_and_the_configuration_stand_for_flags() {
    if !is_root("variables_and_the_configuration_stand_for_flags") {
        return;
    }
    let desk = Desk::new("settings");
    let path = desk.segment("a");
    let make = format!(": >{path}");
    let scrubs = |flags: &[&str], variables: &[(&str, &str)]| {
        let mut command = desk.command(flags, &make);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let gone = !Path::new(&path).exists();
        _ = std::fs::remove_file(&path);
        gone
    };
    assert!(!scrubs(&[], &[]));
    assert!(scrubs(&[], &[("KOBJ_SCRUB", "1")]));
    assert!(!scrubs(&["--scrub=none"], &[("KOBJ_SCRUB", "1")]), "a flag stands before its variable");
    assert!(!scrubs(&[], &[("KOBJ_SCRUB", "1"), ("KOBJ_JOB", "0000000000000000-1")]), "the outer run decides");
    std::fs::create_dir_all(desk.path("config/kobj")).unwrap();
    std::fs::write(desk.path("config/kobj/kobj.toml"), "scrub = true\n").unwrap();
    assert!(scrubs(&[], &[]));
    assert!(!scrubs(&[], &[("KOBJ_SCRUB", "none")]), "a variable stands before the configuration");
    std::fs::write(desk.path("config/kobj/kobj.toml"), "scrubb = true\n").unwrap();
    let output = desk.run(&[], "echo started");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(125), 0), "{output:?}");
    assert!(text(&output.stderr).contains("scrubb"), "{output:?}");
}

/// Folders that the configuration names are like /dev/shm and like /tmp.
#[test]
fn configured_folders_hold_segments_and_temporary_files() {
    if !is_root("configured_folders_hold_segments_and_temporary_files") {
        return;
    }
    let desk = Desk::new("folders");
    let (segments, temporary) = (desk.path("segments"), desk.path("temporary"));
    for folder in [&segments, &temporary, &desk.path("config/kobj")] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let script = format!(": >{segments}/a; d={temporary}; : >$d/b; mkdir $d/c; : >$d/c/in");
    let (_, report) = desk.report(&["--scrub=all"], &script);
    assert!(report.0["stragglers"].as_array().unwrap().is_empty(), "ordinary folders: {}", report.0);
    for path in ["segments/a", "temporary/b", "temporary/c/in"] {
        std::fs::remove_file(desk.path(path)).unwrap();
    }
    std::fs::remove_dir(desk.path("temporary/c")).unwrap();
    let text = format!("segment_folders = [{segments:?}]\ntemporary_folders = [{temporary:?}]\n");
    std::fs::write(desk.path("config/kobj/kobj.toml"), text).unwrap();
    let (_, report) = desk.report(&["--scrub"], &script);
    assert_eq!(report.action("segments/a"), Some("scrubbed"), "{}", report.0);
    assert_eq!((report.action("temporary/b"), report.action("temporary/c")), (Some("reported"), Some("reported")));
    let folder = &report.0["stragglers"].as_array().unwrap().iter().find(|row| row["kind"] == "temporary-folder");
    assert_eq!(folder.unwrap()["entries"], 1, "a folder is one straggler with its tree counted");
    std::fs::remove_file(desk.path("temporary/b")).unwrap();
    std::fs::remove_dir_all(desk.path("temporary/c")).unwrap();
    let (_, report) = desk.report(&["--scrub=all"], &script);
    assert_eq!((report.action("temporary/b"), report.action("temporary/c")), (Some("scrubbed"), Some("scrubbed")));
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
}

/// One file in use leaves it and its parents, and the row says who uses it; the rest of the tree goes.
#[test]
fn a_folder_with_a_file_in_use_stays_and_names_who_uses_it() {
    if !is_root("a_folder_with_a_file_in_use_stays_and_names_who_uses_it") {
        return;
    }
    let desk = Desk::new("tree");
    let (go, path) = (desk.path("go"), desk.path("r.json"));
    let folder = PathBuf::from(format!("/tmp/{}-made", desk.word));
    let script = format!(
        "f=/tmp/$0-made; mkdir -p $f/a $f/b && : >$f/a/used && : >$f/b/free && : >$f/whole && \
         while [ ! -e {go} ]; do :; done"
    );
    let mut job = desk.command(&["--scrub=all", "--report", &path], &script).spawn().unwrap();
    let begun = Instant::now();
    while !folder.join("whole").exists() {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    let used = std::fs::File::open(folder.join("a/used")).unwrap();
    std::fs::write(&go, "").unwrap();
    assert!(job.wait().unwrap().success());
    let report = Report(serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap());
    let left = folder.join("a/used").exists() && !folder.join("b").exists() && !folder.join("whole").exists();
    drop(used);
    std::fs::remove_dir_all(&folder).unwrap();
    let row = &report.0["stragglers"][0];
    assert_eq!(row["action"], "in-use", "{row}");
    assert!(left, "{row}");
    assert!(row["why"].as_str().unwrap().contains("a/used"), "{row}");
    assert_eq!(row["holders"][0]["pid"], std::process::id(), "{row}");
}

#[test]
fn the_folder_that_a_report_goes_to_is_output() {
    if !is_root("the_folder_that_a_report_goes_to_is_output") {
        return;
    }
    let desk = Desk::new("report-folder");
    let folder = PathBuf::from(format!("/tmp/{}-made", desk.word));
    let report = folder.join("r.json");
    let output =
        desk.run(&["--scrub=all", "--report", report.to_str().unwrap()], "mkdir /tmp/$0-made; : >/tmp/$0-made/log");
    let kept = report.exists() && folder.join("log").exists();
    _ = std::fs::remove_dir_all(&folder);
    assert!(output.status.success() && kept, "{output:?}");
}

#[test]
fn with_closed_standard_streams_the_report_is_written_and_the_job_scrubbed() {
    if !is_root("with_closed_standard_streams_the_report_is_written_and_the_job_scrubbed") {
        return;
    }
    let desk = Desk::new("closed");
    let (path, report) = (desk.segment("a"), desk.path("r.json"));
    let script = "k=$1; shift; exec \"$k\" run --scrub --report \"$1\" -- sh -c \": >$2; exit 4\" <&- >&- 2>&-";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_kobj"), &report, &path]);
    desk.dress(&mut command);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let read = Report(serde_json::from_str(&std::fs::read_to_string(&report).unwrap()).unwrap());
    assert_eq!(read.action(&path), Some("scrubbed"));
    assert!(!Path::new(&path).exists());
}

/// A group that a spared process keeps would stay for ever: nobody would be there to remove it when that has ended.
#[test]
fn a_spared_process_does_not_keep_the_jobs_group() {
    let desk = Desk::new("spared-group");
    let script = "sleep 1000 > /dev/null 2>&1 & echo $!; cat /proc/self/cgroup";
    let output = desk.run(&["--quiet", "--report-only"], script);
    let said = String::from_utf8(output.stdout).unwrap();
    let (pid, inside) = said.split_once('\n').unwrap();
    let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
    let after = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_pid()));
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    if !inside.contains("/kobj-") {
        return println!("skipped: a_spared_process_does_not_keep_the_jobs_group: no control group here");
    }
    assert!(!after.unwrap().contains("/kobj-"), "it is in the job's group still");
    let group = inside.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    for hierarchy in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        assert!(!Path::new(hierarchy).join(group).exists(), "{group} stays");
    }
}

/// Root may leave the job's group: the group is one layer, and the others do not need it.
#[test]
fn a_job_that_leaves_its_group_is_ended_all_the_same() {
    let test = "a_job_that_leaves_its_group_is_ended_all_the_same";
    if !is_root(test) {
        return;
    }
    let desk = Desk::new("leaves-group");
    let leave = "for g in /sys/fs/cgroup /sys/fs/cgroup/unified; do echo $$ >$g/cgroup.procs; done 2>/dev/null";
    let (output, report) = desk.report(&["--quiet"], &format!("{leave}; cat /proc/self/cgroup; {CHILD}"));
    if report.0["job"]["containment"] != "cgroup" || text(&output.stdout).contains("/kobj-") {
        return println!("skipped: {test}: no control group here, or none that can be left");
    }
    assert_eq!(report.processes(), ["terminated"], "{}", report.0);
    assert_eq!(processes(&desk.word), Vec::<u32>::new());
}

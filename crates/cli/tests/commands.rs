//! The commands that look at what is there, through the binary.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn kobj(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kobj"));
    command.args(arguments).env_remove("KOBJ_JOB").env("XDG_CONFIG_HOME", "/nonexistent").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kobj-commands-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        File::create(&path).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process that holds a path by one means, and ends with this value.
struct Holder(std::process::Child);

impl Holder {
    fn new(code: &str, path: &Path) -> Self {
        let text = format!("import sys,os,mmap,fcntl\n{code}\nprint('up',flush=True)\nsys.stdin.read()");
        let mut child = Command::new("python3")
            .args(["-c", &text])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn who_names_each_holder_and_how() {
    let folder = Folder::new("who");
    let path = folder.file("held");
    std::fs::write(&path, [0; 4096]).unwrap();
    let open = Holder::new("f=open(sys.argv[1])", &path);
    let map = Holder::new("f=open(sys.argv[1],'r+b');m=mmap.mmap(f.fileno(),4096);f.close()", &path);
    let output = kobj(&["who", "-J", "-o", "PID,HOW", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    let holders = json(&output)["holders"].as_array().unwrap().clone();
    for (pid, how) in [(open.0.id(), "descriptor"), (map.0.id(), "map")] {
        assert!(holders.contains(&serde_json::json!({ "pid": pid, "how": how })), "{holders:?}");
    }
}

#[test]
fn who_of_what_nobody_holds_is_1_and_of_nothing_is_2() {
    let folder = Folder::new("nobody");
    let path = folder.file("free");
    assert_eq!(kobj(&["who", path.to_str().unwrap()]).status.code(), Some(1));
    assert_eq!(kobj(&["who", "-J", path.to_str().unwrap()]).status.code(), Some(1));
    let output = kobj(&["who", folder.0.join("absent").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("names nothing"), "{}", text(&output.stderr));
    assert_eq!(kobj(&["who"]).status.code(), Some(2));
}

#[test]
fn why_shows_the_chain_to_the_first_process() {
    let folder = Folder::new("why");
    let path = folder.file("held");
    let open = Holder::new("f=open(sys.argv[1])", &path);
    let output = kobj(&["why", path.to_str().unwrap()]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    assert!(said.contains(&format!("  held by {} python3 (descriptor)\n", open.0.id())), "{said}");
    assert!(said.contains(&format!("    child of {} ", std::process::id())), "{said}");
    drop(open);
    let output = kobj(&["why", "-J", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json(&output)["objects"][0]["chains"], serde_json::json!([]));
}

#[test]
fn a_hostile_name_does_not_drive_the_terminal() {
    let folder = Folder::new("hostile");
    let name = std::ffi::OsString::from_vec(b"a\n\x1b[2J\xff".to_vec());
    let path = folder.0.join(name);
    File::create(&path).unwrap();
    let _open = Holder::new("f=open(sys.argv[1])", &path);
    let output = Command::new(env!("CARGO_BIN_EXE_kobj")).arg("why").arg(&path).output().unwrap();
    assert!(text(&output.stdout).contains("a\\n\\x1b[2J\\xff"), "{}", text(&output.stdout));
    assert!(!output.stdout.contains(&0x1b));
}

#[test]
fn the_census_lists_filters_and_names_columns() {
    let own = std::process::id().to_string();
    let filter = format!("NAME =~ '^{own} '");
    let output = kobj(&["census", "--kind", "process", "-J", "-o", "KIND,NAME,AGE,UID", "-Q", &filter]);
    let objects = json(&output)["objects"].clone();
    assert_eq!(objects.as_array().unwrap().len(), 1, "{objects}");
    assert_eq!(objects[0]["kind"], "process");
    assert!(objects[0]["age"].as_u64().unwrap() < 100_000, "{objects}");
    for wrong in [&["census", "-o", "NOPE"][..], &["census", "-Q", "NOPE == 1"], &["census", "--kind", "nope"]] {
        let output = kobj(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(text(&output.stderr).contains("there are"), "{}", text(&output.stderr));
    }
}

#[test]
fn a_configuration_with_an_unknown_key_stops_what_reads_it() {
    let folder = Folder::new("config");
    std::fs::create_dir(folder.0.join("kobj")).unwrap();
    let mut file = File::create(folder.0.join("kobj/kobj.toml")).unwrap();
    file.write_all(b"segment_folder = [\"/srv\"]\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kobj"));
    let output = command.args(["census"]).env("XDG_CONFIG_HOME", &folder.0).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("kobj.toml line 1") && said.contains("segment_folders"), "{said}");
}

#[test]
fn last_without_a_report_is_1() {
    let folder = Folder::new("last");
    let mut command = Command::new(env!("CARGO_BIN_EXE_kobj"));
    let output = command.arg("last").env("XDG_STATE_HOME", &folder.0).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no report was kept"), "{}", text(&output.stderr));
}

#[test]
fn last_shows_what_was_kept_as_text_and_json() {
    let folder = Folder::new("last-kept");
    let state = folder.0.join("kobj");
    std::fs::create_dir(&state).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    std::fs::copy(golden.join("train.json"), state.join("last.json")).unwrap();
    std::fs::set_permissions(state.join("last.json"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let last = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kobj"));
        let output = command.arg("last").args(arguments).env("XDG_STATE_HOME", &folder.0).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    assert_eq!(last(&[]), std::fs::read_to_string(golden.join("train.txt")).unwrap());
    assert_eq!(last(&["--json"]), std::fs::read_to_string(golden.join("train.json")).unwrap());
    let listed = last(&["-n", "-r", "-o", "NAME,SIZE", "-Q", "ACTION == scrubbed and SIZE > 1M"]);
    assert_eq!(listed, "/dev/shm/psm_1a2b 1073741824\n");
}

#[test]
fn completions_and_man_pages_come_from_the_code() {
    for shell in ["bash", "zsh", "fish"] {
        let output = kobj(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("census"), "{shell}");
    }
    let folder = Folder::new("man");
    assert_eq!(kobj(&["man", "--output", folder.0.to_str().unwrap()]).status.code(), Some(0));
    for (page, word) in [("kobj.1", "census"), ("kobj-who.1", "NAME"), ("kobj.toml.5", "segment_folders")] {
        let page = std::fs::read_to_string(folder.0.join(page)).unwrap();
        assert!(page.contains(".TH") && page.contains(word), "{page}");
    }
}

#[test]
fn unknown_words_are_2_and_help_is_0() {
    assert_eq!(kobj(&["no-such-command"]).status.code(), Some(2));
    assert_eq!(kobj(&[]).status.code(), Some(2));
    assert_eq!(kobj(&["--help"]).status.code(), Some(0));
    assert_eq!(kobj(&["--version"]).status.code(), Some(0));
}

/// A container's entry point that starts a server and then executes kobj: the server was there before the job.
#[test]
fn children_from_before_the_job_are_not_the_job_s() {
    let script = "sleep 1000 >/dev/null 2>&1 & echo $!; exec \"$0\" run --quiet -- true";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_kobj")]).env_remove("KOBJ_JOB").stdin(Stdio::null());
    let begun = std::time::Instant::now();
    let output = command.output().unwrap();
    let took = begun.elapsed();
    assert!(output.status.success(), "{output:?}");
    // Its parent is gone, so nobody takes its status: it is ended if it is no more or a zombie.
    let server = text(&output.stdout).trim().to_owned();
    let stat = std::fs::read_to_string(format!("/proc/{server}/stat")).unwrap_or_default();
    Command::new("kill").arg(&server).stderr(Stdio::null()).status().unwrap();
    assert!(stat.contains(") S "), "the server was ended with a job that it had nothing to do with: {stat:?}");
    assert!(took < std::time::Duration::from_secs(5), "kobj waited {took:?} for a process that is none of its job's");
}

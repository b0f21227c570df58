//! What the tests of this room share: a view of this machine, folders that go away, children that wait to be told.

use crate::view::View;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// This machine as it is.
pub(crate) fn view() -> View {
    View {
        proc: PathBuf::from("/proc"),
        segment_folders: vec![PathBuf::from("/dev/shm")],
        temporary_folders: vec![std::env::temp_dir()],
        uid: rustix::process::geteuid().as_raw(),
    }
}

/// A name that no other test uses.
pub(crate) fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("kobj-test-{what}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A folder of our own, removed with what is in it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(what: &str) -> Self {
        let path = std::env::temp_dir().join(unique(what));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A Python child: it runs a text, prints lines, and lives until it is dropped.
pub(crate) struct Python {
    pub(crate) child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Python {
    /// Starts `text`, which should print a line when it is ready and then read its standard input.
    pub(crate) fn start(text: &str, arguments: &[&str]) -> Self {
        Self::start_by(Command::new("python3"), text, arguments)
    }

    /// The same under another command's name and settings; `command` ends where Python's arguments begin.
    pub(crate) fn start_by(mut command: Command, text: &str, arguments: &[&str]) -> Self {
        command.arg("-c").arg(text).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3 starts");
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("piped"));
        Self { child, input, output: BufReader::new(output) }
    }

    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Sends a line to it.
    pub(crate) fn say(&mut self, line: &str) {
        use std::io::Write;
        let input = self.input.as_mut().expect("it has not been closed");
        input.write_all(format!("{line}\n").as_bytes()).expect("it listens");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs an ignored test of this program again as another user; says why if that cannot be.
pub(crate) fn as_another_user(test: &str) {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: {test}: needs root to act as another user");
    }
    let me = std::env::current_exe().unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65533", "--regid=65533", "--clear-groups", "--"])
        .arg(&me)
        .args([test, "--exact", "--ignored", "--quiet", "--nocapture"])
        .output();
    let Ok(output) = output else { return println!("skipped: {test}: no setpriv here") };
    if String::from_utf8_lossy(&output.stderr).contains("Permission denied") {
        return println!("skipped: {test}: another user cannot read the test program");
    }
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

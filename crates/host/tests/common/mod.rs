//! What the tests of files share: a place of their own, a view of it, other processes that use its files.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use kobj_core::image::HostImage;
use kobj_host::hands::Hands;
use kobj_host::kind::Outcome;
use kobj_host::view::View;
use kobj_host::{classify, kinds};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A folder that goes with the test.
pub struct Scene {
    pub path: PathBuf,
}

impl Scene {
    /// A fresh folder in `parent`.
    pub fn new(parent: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(parent).join(format!("kobj-test-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("a test folder can be made");
        Self { path }
    }

    /// The scene as the only segment folder.
    pub fn as_segments(&self) -> View {
        View { segment_folders: vec![self.path.clone()], temporary_folders: Vec::new(), ..view() }
    }

    /// The scene as the only temporary folder.
    pub fn as_temporary(&self) -> View {
        View { temporary_folders: vec![self.path.clone()], segment_folders: Vec::new(), ..view() }
    }

    /// Makes a file with some content.
    pub fn file(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        std::fs::write(&path, b"content").expect("a test file can be written");
        path
    }

    /// Names of what lies there now, sorted.
    pub fn names(&self) -> Vec<String> {
        let read = std::fs::read_dir(&self.path).expect("the scene can be listed");
        let mut names: Vec<_> =
            read.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A view that watches nothing.
pub fn view() -> View {
    View {
        proc: PathBuf::from("/proc"),
        segment_folders: Vec::new(),
        temporary_folders: Vec::new(),
        uid: rustix::process::geteuid().as_raw(),
    }
}

/// What lies at that path.
pub fn image(view: &View, path: &Path) -> HostImage {
    classify::classify(view, path).expect("it can be looked at").expect("it is there")
}

/// Scrubs one object with hands of its own.
pub fn scrub(view: &View, image: &HostImage) -> Outcome {
    let mut ignore = |_| {};
    let mut hands = Hands::new(&mut ignore);
    kinds::of(image.kind).expect("the kind is known").scrub(view, image, &mut hands)
}

/// Another process, running a Python script that prints `ready` and then waits for its input to end.
pub struct Other {
    child: Child,
}

impl Other {
    /// Starts it and waits until it is ready; `None`, said by name, where there is no Python.
    pub fn python(test: &str, script: &str, arguments: &[&Path]) -> Option<Self> {
        let script = format!("import sys\n{script}\nprint('ready', flush=True)\nsys.stdin.read()\n");
        let child = Command::new("python3")
            .arg("-c")
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(child) = child else {
            println!("skipped: {test}: no python3 here");
            return None;
        };
        let mut other = Self { child };
        let mut line = String::new();
        let out = other.child.stdout.as_mut().expect("its output is a pipe");
        BufReader::new(out).read_line(&mut line).expect("its output can be read");
        assert_eq!(line, "ready\n", "the other process did not get ready");
        Some(other)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it go on and end.
    pub fn end(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        if let Some(mut input) = self.child.stdin.take() {
            let _ = input.flush();
        }
        self.stop();
    }
}

/// This test binary again, to run one test in a process of its own, told by `key=value` what to do.
pub fn again(test: &str, key: &str, value: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("we know our own path"));
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(key, value);
    command
}

/// A racer in a process of its own, that ends with the test at the latest.
pub struct Racer(Child);

impl Racer {
    /// Starts it.
    pub fn start(mut command: Command) -> Self {
        Self(command.spawn().expect("started"))
    }

    /// Waits until it has ended by itself; whether all was well with it.
    pub fn ended_well(mut self) -> bool {
        self.0.wait().expect("ended").success()
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

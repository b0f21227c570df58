//! A program that a test started, alone or under `kobj run`: its output, its processes, its end.

use crate::PATIENCE;
use crate::mode::Mode;
use crate::place::Room;
use crate::process;
use crate::report::Report;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The PATH of all programs under test.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How to start a program and how it ends.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Variables besides PATH, HOME, TMPDIR and LANG.
    pub environment: Vec<(String, String)>,
    /// It is ready when a line of its output has this in it; `key=value` words of that line become variables. With
    /// `path P`: when that path is there.
    pub ready: String,
    /// Variables that are known before it starts.
    pub variables: Vec<(String, String)>,
    /// Its own tear-down.
    pub end: End,
}

/// A program's own tear-down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// It ends and tidies up when its input closes.
    #[default]
    Input,
    /// It ends and tidies up on SIGTERM.
    Terminate,
}

/// Everything that a program has written so far.
#[derive(Debug, Default)]
struct Output {
    text: Mutex<(String, u32)>,
    more: Condvar,
}

impl Output {
    fn collect(self: &Arc<Self>, mut from: impl Read + Send + 'static) {
        let to = Arc::clone(self);
        to.text.lock().unwrap_or_else(PoisonError::into_inner).1 += 1;
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            loop {
                let count = from.read(&mut bytes).unwrap_or(0);
                let mut guard = to.text.lock().unwrap_or_else(PoisonError::into_inner);
                if count == 0 {
                    guard.1 -= 1;
                } else {
                    guard.0.push_str(&String::from_utf8_lossy(&bytes[..count]));
                }
                to.more.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
    }

    /// Waits for a whole line that has `needle` in it; `None` when all writers have gone or patience has.
    fn line(&self, needle: &str) -> Option<String> {
        let end = Instant::now() + PATIENCE;
        let mut guard = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let whole = guard.0.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            if let Some(line) = whole.map(str::trim_end).find(|line| line.contains(needle)) {
                return Some(line.to_string());
            }
            let left = end.saturating_duration_since(Instant::now());
            if guard.1 == 0 || left.is_zero() {
                return None;
            }
            guard = self.more.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until there is more output than `seen` bytes; how much there is then, `None` at the end or out of patience.
    fn beyond(&self, seen: usize) -> Option<usize> {
        let end = Instant::now() + PATIENCE;
        let mut guard = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        while guard.0.len() <= seen {
            let left = end.saturating_duration_since(Instant::now());
            if guard.1 == 0 || left.is_zero() {
                return None;
            }
            guard = self.more.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(guard.0.len())
    }

    fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

/// A started program. Dropping it kills what is left of it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    input: Option<ChildStdin>,
    output: Arc<Output>,
    forks: usize,
    under_kobj: bool,
    report: PathBuf,
    end: End,
    /// What is known about this start: `tag`, `tmp`, `home`, what the ready line said.
    pub variables: BTreeMap<String, String>,
    /// Daemons that the ready line named, with their start times.
    daemons: Vec<(u32, Option<u64>)>,
    status: Option<ExitStatus>,
}

/// How a job ended: kobj's exit and its report.
#[derive(Debug)]
pub struct Ended {
    /// How kobj (or what it was wrapped in) ended.
    pub status: ExitStatus,
    /// The report.
    pub report: Report,
    /// All output, kobj's text report included.
    pub output: String,
}

impl Running {
    /// Starts `spec` in `room`; with `kobj` given as (binary, flags), under `kobj run --report`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(mode: Mode, room: &Room, spec: &Spec, kobj: Option<(&Path, &[&str])>) -> Self {
        let mut words = if kobj.is_some() { mode.prefix() } else { mode.bystander_prefix() };
        let forks = if words.is_empty() { 0 } else { mode.forks() };
        if let Some((binary, flags)) = kobj {
            let report = room.desk.join("report.json").display().to_string();
            words.extend([binary.display().to_string(), "run".into(), "--report".into(), report]);
            words.extend(flags.iter().map(ToString::to_string));
            words.push("--".into());
        }
        words.extend(spec.argv.iter().cloned());
        Self::spawn(room, spec, &words, forks, kobj.is_some())
    }

    /// Starts `words` in `room`, with all else from `spec`, as the leader of a process group of its own.
    ///
    /// The program (or kobj, if `under_kobj`) is reached from the first process over `forks` children.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn spawn(room: &Room, spec: &Spec, words: &[String], forks: usize, under_kobj: bool) -> Self {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().env("PATH", PATH).env("LANG", "C.UTF-8");
        command.env("HOME", &room.home).env("TMPDIR", &room.tmp).current_dir("/").process_group(0);
        command.envs(spec.environment.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {words:?}: {error}"));
        let output = Arc::new(Output::default());
        if let Some(pipe) = child.stdout.take() {
            output.collect(pipe);
        }
        if let Some(pipe) = child.stderr.take() {
            output.collect(pipe);
        }
        let mut variables: BTreeMap<String, String> = spec.variables.iter().cloned().collect();
        for (key, value) in [("tmp", &room.tmp), ("home", &room.home)] {
            variables.insert(key.into(), value.display().to_string());
        }
        variables.insert("tag".into(), room.tag.clone());
        let input = child.stdin.take();
        let report = room.desk.join("report.json");
        let (end, daemons, status) = (spec.end, Vec::new(), None);
        Self { child, input, output, forks, under_kobj, report, end, variables, daemons, status }
    }

    /// Waits for the ready line and takes its variables; `Err` says what came instead.
    ///
    /// # Errors
    /// All output, if the line did not come.
    pub fn ready(&mut self, needle: &str) -> Result<(), String> {
        if let Some(path) = needle.strip_prefix("path ") {
            let there = appears(Path::new(path), PATIENCE).map_err(|error| format!("{path}: {error}"))?;
            if !there {
                return Err(format!("no {path}:\n{}", self.output.text()));
            }
            return self.catches_term();
        }
        let line = self.output.line(needle).ok_or_else(|| format!("not ready:\n{}", self.output.text()))?;
        for (key, value) in line.split_ascii_whitespace().filter_map(|word| word.split_once('=')) {
            self.variables.insert(key.into(), value.into());
        }
        let daemon = self.variables.get("daemon").and_then(|pid| pid.parse().ok());
        self.daemons.extend(daemon.filter(|_| !self.under_kobj).map(|pid| (pid, process::started(pid))));
        Ok(())
    }

    /// Waits until the command catches SIGTERM: a server may make its socket before it can tear itself down.
    fn catches_term(&self) -> Result<(), String> {
        let end = std::time::Instant::now() + PATIENCE;
        let bit = 1 << (Signal::TERM.as_raw() - 1);
        let caught = |pid| {
            let mask = process::status_field(pid, "SigCgt").unwrap_or_default();
            u64::from_str_radix(&mask, 16).unwrap_or(0) & bit != 0
        };
        while !caught(self.command_pid()) {
            if std::time::Instant::now() > end {
                return Err(format!("SIGTERM is not caught:\n{}", self.output.text()));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// The process behind the mode's prefix: kobj's, or the program's own.
    fn inner(&self) -> Option<u32> {
        (0..self.forks).try_fold(self.child.id(), |pid, _| process::children(pid).first().copied())
    }

    /// The pid of kobj, as the test sees it.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn kobj_pid(&self) -> u32 {
        assert!(self.under_kobj, "not under kobj");
        self.inner().unwrap_or_else(|| panic!("kobj is gone:\n{}", self.output.text()))
    }

    /// The pid of the command, as the test sees it.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn command_pid(&self) -> u32 {
        let inner = self.inner();
        let found = if self.under_kobj { inner.and_then(|pid| process::children(pid).first().copied()) } else { inner };
        found.unwrap_or_else(|| panic!("the command is gone:\n{}", self.output.text()))
    }

    /// Kills the command alone.
    pub fn kill_main(&self) {
        assert!(process::send(self.command_pid(), Signal::KILL), "nobody to kill");
    }

    /// Kills the command and all its descendants at once.
    pub fn kill_tree(&self) {
        process::kill_tree(self.kobj_pid());
    }

    /// Lets the program end with its own tear-down.
    pub fn tear_down(&mut self) {
        match self.end {
            End::Input => drop(self.input.take()),
            End::Terminate => drop(process::send(self.command_pid(), Signal::TERM)),
        }
    }

    /// Writes to the program's input.
    ///
    /// # Panics
    /// If the input is closed.
    pub fn write(&mut self, text: &str) {
        let input = self.input.as_mut().unwrap_or_else(|| panic!("the input is closed"));
        input.write_all(text.as_bytes()).unwrap_or_else(|error| panic!("cannot write: {error}"));
    }

    /// All output so far.
    #[must_use]
    pub fn output(&self) -> String {
        self.output.text()
    }

    /// Waits until there is more output than `seen` bytes; how much there is then, `None` at the end or out of patience.
    #[must_use]
    pub fn beyond(&self, seen: usize) -> Option<usize> {
        self.output.beyond(seen)
    }

    /// The pid of the first process, the leader of the process group.
    #[must_use]
    pub fn leader(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of output.
    #[must_use]
    pub fn line(&self, needle: &str) -> Option<String> {
        self.output.line(needle)
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// If it does not come.
    pub fn wait(&mut self) -> ExitStatus {
        let status = self.wait_up_to(PATIENCE);
        status.unwrap_or_else(|| panic!("does not end:\n{}", self.output.text()))
    }

    fn wait_up_to(&mut self, patience: Duration) -> Option<ExitStatus> {
        if self.status.is_none() && ended(self.child.id(), patience) {
            self.status = self.child.wait().ok();
        }
        self.status
    }

    /// Waits for the end of a job and reads its report.
    ///
    /// # Panics
    /// If either cannot be had.
    pub fn wait_report(&mut self) -> Ended {
        let status = self.wait();
        let report = Report::read(&self.report)
            .unwrap_or_else(|error| panic!("{error}\nended by {status}, output:\n{}", self.output.text()));
        Ended { status, report, output: self.output.text() }
    }
}

impl Ended {
    /// Whether kobj says that the command was killed by that signal, by dying of it or by 128 + n.
    #[must_use]
    pub fn died_of(&self, signal: i32) -> bool {
        self.status.signal() == Some(signal) || self.status.code() == Some(128 + signal)
    }
}

/// Waits until a path is there; whether it came in time.
fn appears(path: &Path, patience: Duration) -> std::io::Result<bool> {
    use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
    let events = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    add_watch(&events, path.parent().unwrap_or(Path::new("/")), WatchFlags::CREATE | WatchFlags::MOVED_TO)?;
    let end = Instant::now() + patience;
    while std::fs::symlink_metadata(path).is_err() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let limit = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        poll(&mut [PollFd::new(&events, PollFlags::IN)], Some(&limit))?;
        let mut space = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&events, &mut space);
        while reader.next().is_ok() {}
    }
    Ok(true)
}

/// Waits until a child process has ended (it stays a zombie); whether it did in time.
#[must_use]
pub fn ended(pid: u32, patience: Duration) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return true };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    let limit = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: i64::from(patience.subsec_nanos()) };
    let mut waiting = [PollFd::new(&handle, PollFlags::IN)];
    poll(&mut waiting, Some(&limit)).is_ok_and(|count| count > 0)
}

impl Running {
    /// Lets the program tidy up if it has not ended yet, and waits for that a while.
    pub fn tear_down_if_running(&mut self) {
        if self.status.is_none() && self.inner().is_some() {
            self.tear_down();
            let _ = self.wait_up_to(Duration::from_secs(10));
        }
    }

    /// Ends what is left of it.
    pub fn kill(&mut self) {
        drop(self.input.take());
        if self.status.is_none() {
            if let Some(inner) = self.inner() {
                process::kill_tree(inner);
                if !self.under_kobj {
                    process::send(inner, Signal::KILL);
                }
            }
            if self.wait_up_to(Duration::from_secs(20)).is_none() {
                process::send(self.child.id(), Signal::KILL);
                self.status = self.child.wait().ok();
            }
        }
        // A bare daemon has left the tree of what was started.
        for (pid, started) in &self.daemons {
            if started.is_some() && process::started(*pid) == *started {
                process::send(*pid, Signal::KILL);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

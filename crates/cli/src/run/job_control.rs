//! Standing between a shell and the command without either noticing: signals, stops, the terminal, the wait status.

use super::isolate::{Isolated, Word};
use kobj_platform::signals::{Received, Signals, raise_default, send_to};
use kobj_platform::spawn::Child;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus};
use std::io;
use std::time::{Duration, Instant};

/// How long a signal from a person waits before it is passed on, when the same one may have reached the command already.
const FORWARD_DELAY: Duration = Duration::from_millis(20);

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// The signals and waits of one run.
#[derive(Debug)]
pub(crate) struct JobControl {
    signals: Signals,
    command: Child,
    /// Where the command runs in namespaces of its own: its parent there, which tells of it.
    isolated: Option<Isolated>,
    delayed: Vec<(Received, Instant)>,
    end: Option<End>,
    terminal: Option<OwnedFd>,
    foreground_group: Option<Pid>,
}

impl JobControl {
    /// Takes over the signals that `signals` delivers, on behalf of `command`.
    pub(crate) fn new(signals: Signals, command: Child, isolated: Option<Isolated>) -> Self {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        let terminal = rustix::fs::open("/dev/tty", flags, Mode::empty()).ok();
        let group = group_of("self").and_then(Pid::from_raw);
        let foreground = |terminal: &OwnedFd| rustix::termios::tcgetpgrp(terminal).ok();
        let foreground_group = group.filter(|group| terminal.as_ref().and_then(foreground) == Some(*group));
        Self { signals, command, isolated, delayed: Vec::new(), end: None, terminal, foreground_group }
    }

    /// The command's pid.
    pub(crate) fn command_pid(&self) -> u32 {
        self.command.pid
    }

    /// What to poll for input.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }

    /// What to poll besides, for [`Self::hear_words`].
    pub(crate) fn line(&self) -> Option<BorrowedFd<'_>> {
        self.isolated.as_ref()?.line()
    }

    /// Whether the command runs in namespaces of its own.
    pub(crate) fn is_isolated(&self) -> bool {
        self.isolated.is_some()
    }

    /// The init of the job's namespaces.
    pub(crate) fn init_pid(&self) -> Option<u32> {
        self.isolated.as_ref().map(Isolated::pid)
    }

    /// A descriptor of the init, until it was reaped.
    pub(crate) fn living_init(&self) -> Option<OwnedFd> {
        let isolated = self.isolated.as_ref().filter(|isolated| !isolated.has_ended())?;
        isolated.init().try_clone_to_owned().ok()
    }

    /// Lets the init end.
    pub(crate) fn let_go(&mut self) {
        if let Some(isolated) = &mut self.isolated {
            isolated.let_go();
        }
    }

    /// Takes in what the init has said.
    pub(crate) fn hear_words(&mut self) {
        while let Some(word) = self.isolated.as_mut().and_then(Isolated::next) {
            match word {
                Word::Stopped(signal) => self.stop_too(signal),
                Word::Exited(code) => self.end = Some(End::Code(code)),
                Word::Signalled(signal) => self.end = Some(End::Signal(signal)),
                // Said before the command runs, and read there.
                Word::Started | Word::NotFound(_) | Word::NotExecutable(_) | Word::Refused(_) => {}
            }
        }
    }

    /// The init was reaped: its last words stand; without any it was killed from outside, and the command with it.
    fn init_ended(&mut self, status: WaitStatus) {
        self.hear_words();
        if let Some(isolated) = &mut self.isolated {
            isolated.set_ended();
        }
        if self.end.is_none() {
            self.end = Some(End::Signal(status.terminating_signal().unwrap_or(Signal::KILL.as_raw())));
        }
    }

    /// How the command ended, once it has.
    pub(crate) fn end(&self) -> Option<End> {
        self.end
    }

    /// How long until a delayed signal is due, if one waits.
    pub(crate) fn next_forward(&self, now: Instant) -> Option<Duration> {
        self.delayed.iter().map(|(_, at)| at.saturating_duration_since(now)).min()
    }

    /// Reads what arrived: reaps, stops when the command stopped, passes on what only we were sent.
    ///
    /// # Errors
    /// The signal descriptor could not be read.
    pub(crate) fn handle_signals(&mut self, now: Instant) -> io::Result<()> {
        while let Some(received) = self.signals.next()? {
            if received.signal == Signal::CHILD.as_raw() {
                self.reap();
            } else if !received.is_from_kernel() && self.end.is_none() {
                self.consider(received, now);
            }
        }
        self.forward_due(now);
        Ok(())
    }

    /// Passes on the signals whose delay is over.
    pub(crate) fn forward_due(&mut self, now: Instant) {
        if self.end.is_some() {
            self.delayed.clear();
        }
        let (due, later) = self.delayed.drain(..).partition(|(_, at)| *at <= now);
        self.delayed = later;
        let due: Vec<(Received, Instant)> = due;
        for (received, _) in due {
            self.send(received.signal);
        }
    }

    /// Sends `signal` to the command; one that has ended gets nothing.
    pub(crate) fn send(&self, signal: i32) {
        if self.end.is_none() {
            // It can only fail because the command has just ended, which the next wait tells.
            let _ = send_to(self.command.pidfd.as_fd(), signal);
        }
    }

    /// Collects every child that ended or stopped: the command, and the orphans that were handed to us.
    ///
    /// Returns whether any child is left.
    pub(crate) fn reap(&mut self) -> bool {
        let options = WaitOptions::NOHANG | WaitOptions::UNTRACED | WaitOptions::CONTINUED;
        loop {
            match rustix::process::wait(options) {
                Ok(Some((pid, status))) if pid.as_raw_nonzero().get() as u32 == self.command.pid => {
                    self.command_changed(status);
                }
                Ok(Some((pid, status))) if self.init_pid() == u32::try_from(pid.as_raw_nonzero().get()).ok() => {
                    if status.exited() || status.signaled() {
                        self.init_ended(status);
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(error) => return error != rustix::io::Errno::CHILD,
            }
        }
    }

    fn command_changed(&mut self, status: WaitStatus) {
        if let Some(signal) = status.stopping_signal() {
            self.stop_too(signal);
        } else if let Some(code) = status.exit_status() {
            self.end = Some(End::Code(code));
        } else if let Some(signal) = status.terminating_signal() {
            self.end = Some(End::Signal(signal));
        }
    }

    /// Stops as the command stopped, so that the shell sees its job stopped. The kernel itself ignores the three stop
    /// signals of a terminal in an orphaned group, which is exactly when we must not stop.
    fn stop_too(&mut self, signal: i32) {
        let from_terminal = [Signal::TSTP, Signal::TTIN, Signal::TTOU].iter().any(|s| s.as_raw() == signal);
        if !from_terminal || is_init() || self.terminal.is_none() {
            return;
        }
        if raise_default(signal).is_ok() && self.command_is_stopped() {
            // Whoever continued us continued us alone.
            self.send(Signal::CONT.as_raw());
        }
    }

    fn consider(&mut self, received: Received, now: Instant) {
        if received.signal == Signal::CONT.as_raw() {
            if self.command_is_stopped() {
                self.send(received.signal);
            }
            return;
        }
        if !self.command_shares_our_group() {
            self.send(received.signal);
        } else if !self.command_has_pending(received.signal) {
            // A killpg reached the command as well; if it ends by it, nothing is to be passed on.
            self.delayed.push((received, now + FORWARD_DELAY));
        }
    }

    fn command_shares_our_group(&self) -> bool {
        group_of(&self.command.pid.to_string()).is_some_and(|group| Some(group) == group_of("self"))
    }

    fn command_has_pending(&self, signal: i32) -> bool {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", self.command.pid)) else { return false };
        status.lines().any(|line| {
            let mask = line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:"));
            let mask = mask.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
            mask.is_some_and(|mask| (1..=64).contains(&signal) && mask & (1 << (signal - 1)) != 0)
        })
    }

    fn command_is_stopped(&self) -> bool {
        stat_fields(&self.command.pid.to_string()).is_some_and(|fields| fields.starts_with('T'))
    }

    /// Takes the terminal's foreground back if we had it and a group without processes holds it now.
    pub(crate) fn take_foreground_back(&self) {
        let (Some(terminal), Some(group)) = (&self.terminal, self.foreground_group) else { return };
        let Ok(holder) = rustix::termios::tcgetpgrp(terminal) else { return };
        if holder != group && rustix::process::test_kill_process_group(holder) == Err(rustix::io::Errno::SRCH) {
            let _ = rustix::termios::tcsetpgrp(terminal, group);
        }
    }
}

/// The process group of `/proc/NAME`; 0 for a group outside of our PID namespace.
///
/// Not by getpgid(2): rustix takes the answer for a pid, and as the first process of a container we get 0.
fn group_of(name: &str) -> Option<i32> {
    stat_fields(name)?.split_ascii_whitespace().nth(2)?.parse().ok()
}

/// `/proc/NAME/stat` from the state letter on.
fn stat_fields(name: &str) -> Option<String> {
    let stat = kobj_host::proc::read(format!("/proc/{name}/stat").as_ref(), 4096).ok()?;
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    Some(String::from_utf8_lossy(stat.get(close + 2..)?).into_owned())
}

/// Whether this process has children now, whose ends it was never to know of.
pub(crate) fn has_children() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(rustix::process::waitid(WaitId::All, options), Err(rustix::io::Errno::CHILD))
}

/// Whether this process is the first of its PID namespace.
pub(crate) fn is_init() -> bool {
    std::process::id() == 1
}

//! `--isolate`: the command in PID, IPC and mount namespaces of its own, and a user namespace where that is needed.
//!
//! The first process of a PID namespace ignores every signal that it does not handle, which the command would notice. So
//! kobj starts itself there under a hidden first word: this init starts the command, reaps, and says over a line (a
//! socket) how the command stopped and ended. It is told the command's process descriptor too, so signals go straight to
//! the command. The init stays until the line is closed from outside; with it ends all that is inside.

use crate::exit_code;
use kobj_platform::isolation::{Isolation, take_line};
use kobj_platform::signals::Signals;
use kobj_platform::spawn::{Child, Launch, SpawnError};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use std::ffi::OsString;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::process::ExitCode;

/// The first word by which kobj knows that it is to be the init of a namespace; for nobody to type.
pub(crate) const FIRST_WORD: &str = "isolated-init";
/// What every report of an isolated job says.
pub(crate) const LIMIT: &str = "isolate: segments, semaphores, queues and System V objects inside the job's own namespaces \
                                are not listed; the kernel removes them with the namespaces";

/// What the init says over the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// The command runs; its descriptor comes along.
    Started,
    /// It stopped by this signal.
    Stopped(i32),
    /// It exited with this code.
    Exited(i32),
    /// This signal ended it.
    Signalled(i32),
    /// It was not found: the error's number.
    NotFound(i32),
    /// It could not be executed: the error's number.
    NotExecutable(i32),
    /// The init could not start a process: the error's number.
    Refused(i32),
}

const WORD_BYTES: usize = 5;

impl Word {
    fn bytes(self) -> [u8; WORD_BYTES] {
        let (letter, number) = match self {
            Self::Started => (b'S', 0),
            Self::Stopped(signal) => (b'T', signal),
            Self::Exited(code) => (b'E', code),
            Self::Signalled(signal) => (b'K', signal),
            Self::NotFound(error) => (b'N', error),
            Self::NotExecutable(error) => (b'X', error),
            Self::Refused(error) => (b'R', error),
        };
        let [a, b, c, d] = number.to_le_bytes();
        [letter, a, b, c, d]
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let [letter, number @ ..] = <[u8; WORD_BYTES]>::try_from(bytes).ok()?;
        let number = i32::from_le_bytes(number);
        Some(match letter {
            b'S' => Self::Started,
            b'T' => Self::Stopped(number),
            b'E' => Self::Exited(number),
            b'K' => Self::Signalled(number),
            b'N' => Self::NotFound(number),
            b'X' => Self::NotExecutable(number),
            b'R' => Self::Refused(number),
            _ => return None,
        })
    }

    fn of_status(status: WaitStatus) -> Option<Self> {
        let ended = status.exit_status().map(Self::Exited).or(status.terminating_signal().map(Self::Signalled));
        ended.or(status.stopping_signal().map(Self::Stopped))
    }
}

/// The init of a job's namespaces, seen from outside.
#[derive(Debug)]
pub(crate) struct Isolated {
    init: Child,
    line: Option<OwnedFd>,
    has_ended: bool,
}

impl Isolated {
    /// The init's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.init.pid
    }

    /// Readable when the init has ended.
    pub(crate) fn init(&self) -> BorrowedFd<'_> {
        self.init.pidfd.as_fd()
    }

    /// What to poll for words.
    pub(crate) fn line(&self) -> Option<BorrowedFd<'_>> {
        self.line.as_ref().map(AsFd::as_fd)
    }

    /// The next word, if one is there. A line that ended is let go.
    pub(crate) fn next(&mut self) -> Option<Word> {
        let mut bytes = [0; WORD_BYTES];
        match rustix::net::recv(self.line.as_ref()?, &mut bytes, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN | Errno::INTR) => None,
            Ok((_, 0)) | Err(_) => {
                self.line = None;
                None
            }
            Ok((_, length)) => Word::parse(bytes.get(..length)?),
        }
    }

    /// Closes the line: once the command has ended, the init ends too, and the kernel ends all that is inside.
    pub(crate) fn let_go(&mut self) {
        self.line = None;
    }

    /// The init was reaped.
    pub(crate) fn set_ended(&mut self) {
        self.has_ended = true;
    }

    /// Whether the init was reaped: by then nothing inside lives.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }
}

/// Starts `command` inside namespaces of its own. The command is the answer's first part; only the init is our child.
///
/// # Errors
/// As for a start without isolation. Where a process was started it has ended and is reaped.
pub(crate) fn start(
    command: &[OsString],
    environment: Vec<(OsString, OsString)>,
    group: Option<BorrowedFd<'_>>,
) -> Result<(Child, Isolated), SpawnError> {
    let refused = |error: Errno| SpawnError::Refused(error.into());
    let (line, inner) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(refused)?;
    let mut words: Vec<OsString> = vec!["/proc/self/exe".into(), FIRST_WORD.into()];
    words.push(inner.as_raw_fd().to_string().into());
    words.extend_from_slice(command);
    let launch = Launch::new(&words, None, environment).map_err(SpawnError::NotExecutable)?.called(c"kobj");
    let init = match start_init(&launch, group, &inner) {
        // That kobj itself cannot be executed says nothing about the command.
        Err(SpawnError::NotFound(error) | SpawnError::NotExecutable(error)) => {
            return Err(SpawnError::NotIsolated { step: "start kobj again inside the namespaces", error });
        }
        other => other?,
    };
    drop(inner);
    match hear_start(&line) {
        Ok(child) => Ok((child, Isolated { init, line: Some(line), has_ended: false })),
        Err(error) => {
            _ = kobj_platform::signals::send_to(init.pidfd.as_fd(), Signal::KILL.as_raw());
            let pid = i32::try_from(init.pid).ok().and_then(Pid::from_raw);
            while matches!(rustix::process::waitpid(pid, WaitOptions::empty()), Err(Errno::INTR)) {}
            Err(error)
        }
    }
}

/// Root makes namespaces without a user namespace, and so keeps its rights; who may not, gets one.
fn start_init(launch: &Launch, group: Option<BorrowedFd<'_>>, inner: &OwnedFd) -> Result<Child, SpawnError> {
    if rustix::process::geteuid().is_root() {
        match launch.start_isolated(group, &Isolation::new(inner.as_fd(), false)) {
            Err(SpawnError::NotIsolated { error, .. }) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
            other => return other,
        }
    }
    launch.start_isolated(group, &Isolation::new(inner.as_fd(), true))
}

/// Waits for the init's first word, and for the command that comes with it.
fn hear_start(line: &OwnedFd) -> Result<Child, SpawnError> {
    let lost = || {
        SpawnError::Refused(std::io::Error::other(
            "the init of its namespaces was killed meanwhile, and the command with it",
        ))
    };
    let mut bytes = [0; WORD_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let length = loop {
        let flags = RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(line, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(SpawnError::Refused(error.into())),
            Ok(received) => break received.bytes,
        }
    };
    let os = std::io::Error::from_raw_os_error;
    match bytes.get(..length).and_then(Word::parse) {
        Some(Word::Started) => {}
        Some(Word::NotFound(error)) => return Err(SpawnError::NotFound(os(error))),
        Some(Word::NotExecutable(error)) => return Err(SpawnError::NotExecutable(os(error))),
        Some(Word::Refused(error)) => return Err(SpawnError::Refused(os(error))),
        _ => return Err(lost()),
    }
    let handed = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let pidfd = handed.ok_or_else(lost)?;
    let pid = pid_of(&pidfd).ok_or_else(|| {
        SpawnError::Refused(std::io::Error::other(
            "/proc/self/fdinfo does not tell the command's pid (is /proc mounted?)",
        ))
    })?;
    // Until now the init did not reap, so that the number was the command's.
    rustix::net::send(line, b"!", SendFlags::NOSIGNAL).map_err(|_| lost())?;
    Ok(Child { pid, pidfd })
}

/// The process id that a process descriptor has in our own PID namespace.
fn pid_of(pidfd: &OwnedFd) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
}

/// Is the init: starts the command in `words` (the line's number before it), reaps, and ends as the command ended.
pub(crate) fn be_init(words: &[OsString]) -> ExitCode {
    let line = words.first().and_then(|word| word.to_str()?.parse().ok()).ok_or_else(|| "no line".to_owned());
    let line = match line.and_then(|number| take_line(number).map_err(|error| error.to_string())) {
        Ok(line) => line,
        Err(why) => {
            crate::tell(&format!("kobj: {FIRST_WORD} is for kobj run --isolate alone: {why}\n"));
            return ExitCode::from(exit_code::OWN_FAILURE);
        }
    };
    // Only its name in listings.
    _ = std::fs::write("/proc/self/comm", "kobj-init");
    let (word, code) = match start_command(words.get(1..).unwrap_or_default()) {
        Ok((signals, child)) => return ExitCode::from(keep_inside(&line, &signals, &child)),
        Err(SpawnError::NotFound(error)) => (Word::NotFound(number(&error)), exit_code::NOT_FOUND),
        Err(SpawnError::NotExecutable(error)) => (Word::NotExecutable(number(&error)), exit_code::NOT_EXECUTABLE),
        Err(SpawnError::GroupRefused(error) | SpawnError::Refused(error) | SpawnError::NotIsolated { error, .. }) => {
            (Word::Refused(number(&error)), exit_code::OWN_FAILURE)
        }
    };
    say(&line, word);
    ExitCode::from(code)
}

fn number(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(Errno::INVAL.raw_os_error())
}

fn start_command(command: &[OsString]) -> Result<(Signals, Child), SpawnError> {
    // Blocked and thrown away: all that is meant for the command is sent to the command.
    let signals = Signals::take().map_err(SpawnError::Refused)?;
    let path = std::env::var_os("PATH");
    let launch = Launch::new(command, path.as_deref(), std::env::vars_os()).map_err(SpawnError::NotExecutable)?;
    let child = launch.start(None)?;
    Ok((signals, child))
}

/// A kobj that was killed meanwhile hears nothing; the command goes on as it would without isolation.
fn say(line: &OwnedFd, word: Word) {
    while rustix::net::send(line, &word.bytes(), SendFlags::NOSIGNAL) == Err(Errno::INTR) {}
}

/// Hands the command out and waits until it is known outside.
fn hand_out(line: &OwnedFd, child: &Child) -> bool {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let command = [child.pidfd.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&command));
    let bytes = Word::Started.bytes();
    let sent = rustix::net::sendmsg(line, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL);
    sent.is_ok() && matches!(rustix::net::recv(line, &mut [0; 1], RecvFlags::empty()), Ok((_, 1)))
}

/// Reaps until the command has ended and the line was closed; the exit code that stands for the command's end.
fn keep_inside(line: &OwnedFd, signals: &Signals, child: &Child) -> u8 {
    let mut is_watched = hand_out(line, child);
    let mut end = None;
    loop {
        end = reap(line, child.pid).or(end);
        if let (Some(code), false) = (end, is_watched) {
            return code;
        }
        let mut polled = vec![PollFd::new(signals, PollFlags::IN)];
        if is_watched {
            polled.push(PollFd::new(line, PollFlags::IN));
        }
        _ = poll(&mut polled, None);
        let spoken = polled.get(1).is_some_and(|line| !line.revents().is_empty());
        drop(polled);
        while let Ok(Some(_)) = signals.next() {}
        // Nothing is said to us any more: only its end is worth reading.
        is_watched = is_watched
            && (!spoken || matches!(rustix::net::recv(line, &mut [0; 1], RecvFlags::DONTWAIT), Ok((_, 1..))));
    }
}

/// Collects whoever ended or stopped, says what became of the command; its exit code once it has ended.
fn reap(line: &OwnedFd, command: u32) -> Option<u8> {
    let mut end = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
        if u32::try_from(pid.as_raw_nonzero().get()) != Ok(command) {
            continue;
        }
        let Some(word) = Word::of_status(status) else { continue };
        say(line, word);
        match word {
            Word::Exited(code) => end = Some(code.clamp(0, 255) as u8),
            Word::Signalled(signal) => end = Some((128 + signal).clamp(0, 255) as u8),
            _ => {}
        }
    }
    end
}

/// What to do where the namespaces were refused.
pub(crate) fn refusal(step: &str, error: &std::io::Error, program: &str) -> String {
    format!(
        "cannot isolate '{program}': cannot {step}: {error}; leave out --isolate, run kobj as root, or let users make user \
         namespaces (see /proc/sys/user/max_user_namespaces, and kernel.unprivileged_userns_clone or \
         kernel.apparmor_restrict_unprivileged_userns where they exist)"
    )
}

/// Our environment without the variable `name`, which is the command's own.
pub(crate) fn environment_without(name: &str) -> Vec<(OsString, OsString)> {
    std::env::vars_os().filter(|(other, _)| other != name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_and_others_are_none() {
        let words = [Word::Started, Word::Stopped(20), Word::Exited(7), Word::Signalled(9), Word::NotFound(2)];
        for word in words.into_iter().chain([Word::NotExecutable(13), Word::Refused(-1)]) {
            assert_eq!(Word::parse(&word.bytes()), Some(word));
        }
        for wrong in [&b""[..], b"S", b"S\0\0\0\0\0", b"?\0\0\0\0"] {
            assert_eq!(Word::parse(wrong), None);
        }
    }
}

//! Who belongs to a job now: the union of what each layer of containment says, with a hold on each process.

use crate::containment::Group;
use crate::proc::{Proc, environ};
use crate::view::View;
use kobj_abi::{EvidenceKind, HostKind, Strength};
use kobj_core::image::{Evidence, HostImage, Identity};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;

/// Where to look for a job's processes. Sources that are absent say nothing; none of them lies.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The job's control group.
    pub group: Option<&'a Group>,
    /// The living of the exact family tree, from the process connector.
    pub family: Option<&'a dyn Fn() -> Vec<u32>>,
    /// The reaper of the job's orphans (kobj itself), whose descendants are the job's.
    pub reaper: Option<u32>,
    /// `NAME=VALUE` as it stands in the environment of the job's processes; a longer value belongs to an inner job.
    ///
    /// Looked for only without a group and without a family tree: it reads every process's environment.
    pub cookie: Option<&'a [u8]>,
}

/// A process of the job, held: its descriptor refers to it even when the number is used again.
#[derive(Debug)]
pub struct Member {
    /// Its process id.
    pub pid: u32,
    /// Its start time in clock ticks since boot.
    pub started: u64,
    /// Its state letter in `/proc/PID/stat` when it was found.
    pub state: u8,
    /// Its command name.
    pub command: Vec<u8>,
    /// Why it is the job's.
    pub evidence: Vec<Evidence>,
    pidfd: OwnedFd,
}

impl Member {
    /// Sends a signal to this very process.
    ///
    /// # Errors
    /// It has ended (`ESRCH`) or may not be signalled (`EPERM`).
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// The same with a number, real-time signals included.
    ///
    /// # Errors
    /// As [`Self::signal`]; `EINVAL` if the number is no signal.
    pub fn send(&self, signal: i32) -> io::Result<()> {
        kobj_platform::signals::send_to(self.pidfd.as_fd(), signal)
    }

    /// Whether it has ended (a zombie has).
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let mut one = [PollFd::new(&self.pidfd, PollFlags::IN)];
        matches!(poll(&mut one, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1))
    }

    /// What a report says of it.
    #[must_use]
    pub fn image(&self) -> HostImage {
        let mut name = self.pid.to_string().into_bytes();
        name.push(b' ');
        name.extend_from_slice(&self.command);
        let identity = Identity::Process { pid: self.pid, started: self.started };
        let mut image = HostImage::new(HostKind::Process, name, identity);
        image.evidence.clone_from(&self.evidence);
        image
    }
}

impl AsFd for Member {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Sources<'_> {
    /// Every living process of the job, each proved and held.
    ///
    /// The sources are asked, each process is opened, then the sources are asked again: only who is named both times is a
    /// member, so a number that went to a stranger in between is not taken for the job's. A child of the reaper needs no
    /// second look: its number is its own until the reaper, which calls this, takes its status. That catches lines of
    /// processes that fork and end faster than anybody can look twice.
    #[must_use]
    pub fn members(&self, view: &View) -> Vec<Member> {
        let Ok(proc) = Proc::open(&view.proc) else { return Vec::new() };
        let is_ours = |reaper: &u32| *reaper == std::process::id();
        let adopted: HashSet<u32> =
            self.reaper.filter(is_ours).map(|reaper| children(view, reaper).into_iter().collect()).unwrap_or_default();
        let first = self.ask(view);
        if first.is_empty() {
            return Vec::new();
        }
        let opened = open_all(first.keys().copied());
        let second = self.ask(view);
        opened
            .into_iter()
            .filter_map(|(pid, pidfd)| {
                let looked_once = || adopted.contains(&pid).then(|| first.get(&pid)).flatten();
                let evidence = second.get(&pid).or_else(looked_once)?.clone();
                let stat = proc.life(pid).ok()?.stat()?;
                let member =
                    Member { pid, started: stat.started, state: stat.state, command: stat.command, evidence, pidfd };
                (!member.has_ended()).then_some(member)
            })
            .collect()
    }

    fn ask(&self, view: &View) -> BTreeMap<u32, Vec<Evidence>> {
        let mut found: BTreeMap<u32, Vec<Evidence>> = BTreeMap::new();
        let mut say = |pid: u32, kind, detail: &str| {
            found.entry(pid).or_default().push(Evidence { kind, strength: Strength::Proof, detail: detail.to_owned() });
        };
        if let Some(group) = self.group {
            let path = group.path().display().to_string();
            for pid in group.members().unwrap_or_default() {
                say(pid, EvidenceKind::Cgroup, &format!("is in the job's control group {path}"));
            }
        }
        if let Some(family) = self.family {
            for pid in family() {
                say(pid, EvidenceKind::Family, "descends from the job's command by forks that were all seen");
            }
        }
        // Parenthood stands back where membership is exact: kobj may have had children before it was executed.
        if let (None, None, Some(reaper)) = (self.group, self.family, self.reaper) {
            for pid in descendants(view, reaper) {
                say(pid, EvidenceKind::Ancestry, "is a descendant of this kobj, its child or an orphan it adopted");
            }
        }
        if let (None, None, Some(cookie)) = (self.group, self.family, self.cookie) {
            for pid in bearers(view, cookie) {
                say(pid, EvidenceKind::Cookie, "carries the job's cookie in its environment");
            }
        }
        let own = std::process::id();
        found.remove(&own);
        found
    }
}

/// Holds as many processes as there is room for; the rest has its turn when these have ended.
///
/// What is done about the held needs descriptors too, the second question to the sources first of all. So their room is
/// taken before and given back after: it is there even where the last process took the last descriptor without an error.
fn open_all(pids: impl Iterator<Item = u32>) -> Vec<(u32, OwnedFd)> {
    /// Descriptors that are left free for what is done about the held.
    const SPARE: usize = 16;
    let mut opened = Vec::new();
    let mut spare: Vec<OwnedFd> = Vec::with_capacity(SPARE);
    for pid in pids {
        let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { continue };
        match pidfd_open(raw, PidfdFlags::empty()) {
            Ok(held) => {
                let room = |_| held.try_clone().ok();
                if spare.is_empty() {
                    spare.extend((0..SPARE).map_while(room));
                }
                opened.push((pid, held));
            }
            Err(Errno::MFILE | Errno::NFILE) => break,
            Err(_) => {}
        }
    }
    opened
}

/// Every descendant of `root`, itself not included.
fn descendants(view: &View, root: u32) -> Vec<u32> {
    let mut seen = HashSet::from([root]);
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        for child in children(view, pid) {
            if seen.insert(child) {
                found.push(child);
                next.push(child);
            }
        }
    }
    found
}

fn children(view: &View, pid: u32) -> Vec<u32> {
    let tasks = view.proc.join(pid.to_string()).join("task");
    let Ok(entries) = fs::read_dir(&tasks) else { return Vec::new() };
    let lists = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Every process whose environment holds `cookie`, alone or as the beginning of an inner job's.
fn bearers(view: &View, cookie: &[u8]) -> Vec<u32> {
    let Ok(proc) = Proc::open(&view.proc) else { return Vec::new() };
    let pids = proc.pids().unwrap_or_default();
    pids.into_iter().filter(|pid| carries(&proc, *pid, cookie).unwrap_or(false)).collect()
}

fn carries(proc: &Proc, pid: u32, cookie: &[u8]) -> io::Result<bool> {
    let environment = proc.life(pid)?.read("environ", environ::LONGEST)?;
    Ok(environ::entries(&environment)
        .filter_map(|line| line.strip_prefix(cookie))
        .any(|rest| rest.is_empty() || rest.first() == Some(&b'/')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    fn view() -> View {
        View { proc: "/proc".into(), segment_folders: Vec::new(), temporary_folders: Vec::new(), uid: 0 }
    }

    const NONE: Sources<'static> = Sources { group: None, family: None, reaper: None, cookie: None };

    fn sleeper(cookie: &str) -> Child {
        // `cat` waits for its input to close: nothing to time, and it ends with the test.
        Command::new("cat").env("KOBJ_TEST_COOKIE", cookie).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn without_a_source_nobody_belongs_to_the_job() {
        assert!(NONE.members(&view()).is_empty());
    }

    #[test]
    fn descendants_are_found_by_parenthood_and_ended_ones_are_not() {
        let mut child = sleeper("x");
        let sources = Sources { reaper: Some(std::process::id()), ..NONE };
        let found = sources.members(&view());
        let member = found.iter().find(|member| member.pid == child.id()).expect("a child of ours");
        assert_eq!(member.command, b"cat");
        assert_eq!(member.evidence[0].kind, EvidenceKind::Ancestry);
        assert!(!member.has_ended());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(member.has_ended());
        assert!(member.signal(Signal::TERM).is_err());
        assert!(sources.members(&view()).iter().all(|member| member.pid != child.id()));
    }

    #[test]
    fn a_cookie_is_matched_whole_or_as_an_outer_job_s() {
        let value = format!("{}-cookie", std::process::id());
        let mut children = [sleeper(&value), sleeper(&format!("{value}/inner")), sleeper(&format!("{value}x"))];
        let cookie = format!("KOBJ_TEST_COOKIE={value}");
        let found = Sources { cookie: Some(cookie.as_bytes()), ..NONE }.members(&view());
        let has = |child: &Child| found.iter().any(|member| member.pid == child.id());
        let answers = [has(&children[0]), has(&children[1]), has(&children[2])];
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(answers, [true, true, false]);
    }

    /// The story: twenty processes and twenty-one descriptors. Each was held, nothing was left to ask a second time with,
    /// and a job with twenty processes had none.
    #[test]
    fn room_is_left_for_the_second_question() {
        let pids = || std::iter::repeat_n(std::process::id(), 4096);
        let before = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let free = |limit: u64| {
            let low = rustix::process::Rlimit { current: Some(limit), ..before };
            rustix::process::setrlimit(rustix::process::Resource::Nofile, low).unwrap();
            let held = open_all(pids().take(40));
            let more = (0..16).map_while(|_| held.first()?.1.try_clone().ok()).count();
            (held.len(), more)
        };
        // Other tests of this process open descriptors too: each limit around the number that just fits is tried.
        let answers: Vec<_> = (30..90).map(free).collect();
        rustix::process::setrlimit(rustix::process::Resource::Nofile, before).unwrap();
        assert!(answers.iter().all(|(held, more)| *held > 0 && *more >= 8), "{answers:?}");
    }

    #[test]
    fn only_who_is_named_twice_is_a_member() {
        let mut child = sleeper("y");
        let calls = std::cell::Cell::new(0);
        let pid = child.id();
        let fickle = || {
            calls.set(calls.get() + 1);
            if calls.get() == 1 { vec![pid] } else { Vec::new() }
        };
        let found = Sources { family: Some(&fickle), ..NONE }.members(&view());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.is_empty());
    }
}

//! Processes, each with its threads.

use crate::hands::Hands;
use crate::kind::{Facts, Kind, Maker, NewIn, Outcome, Verdict, Visibility};
use crate::outside;
use crate::proc::{self, Proc, mountinfo, stat::Stat};
use crate::view::View;
use kobj_abi::HostKind;
use kobj_core::image::{HostImage, Identity};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long a scrub waits for the process to end after the signal. A longer grace is the caller's business.
const BRIEFLY: Duration = Duration::from_millis(50);

/// The kind.
pub struct Process;

/// The image of one process: `PID COMMAND`.
#[must_use]
pub fn image(stat: &Stat, uid: Option<u32>) -> HostImage {
    let mut name = stat.pid.to_string().into_bytes();
    name.push(b' ');
    name.extend_from_slice(&stat.command);
    let identity = Identity::Process { pid: stat.pid, started: stat.started };
    let mut image = HostImage::new(HostKind::Process, name, identity);
    image.uid = uid;
    image
}

/// Why processes of others may be hidden from us, if they are (`hidepid`).
#[must_use]
pub fn hidden(view: &View) -> Option<String> {
    let table = proc::read(&view.proc.join("self/mountinfo"), proc::TABLE).ok()?;
    let wanted = view.proc.as_os_str().as_encoded_bytes();
    let mount = mountinfo::parse(&table).filter(|m| m.filesystem == b"proc" && m.point == wanted).last()?;
    let option = mount.options.split(|byte| *byte == b',').find_map(|option| option.strip_prefix(b"hidepid="))?;
    if matches!(option, b"0" | b"off") {
        return None;
    }
    // The option does not bind root, nor a group that the mount names: the first process tells.
    if proc::read(&view.proc.join("1/stat"), proc::SMALL).is_ok() && view.proc.join("1/fd").read_dir().is_ok() {
        return None;
    }
    Some(format!("processes of other users are hidden ({} has hidepid={})", view.proc.display(), option.escape_ascii()))
}

/// A process, held: the descriptor refers to it even when its number is used again.
#[derive(Debug)]
pub struct Held {
    pidfd: OwnedFd,
    /// Its process id.
    pub pid: u32,
}

/// Takes hold of the process that `image` is about, and of no other that has its number now.
///
/// # Errors
/// [`Verdict::Gone`] (a zombie is gone), [`Verdict::Replaced`], or [`Verdict::Unknown`] with the reason.
pub fn hold(view: &View, image: &HostImage) -> Result<Held, Verdict> {
    let Identity::Process { pid, started } = image.identity else { return Err(Verdict::Replaced) };
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Err(Verdict::Gone) };
    let pidfd = pidfd_open(raw, PidfdFlags::empty()).map_err(|error| match error {
        Errno::SRCH => Verdict::Gone,
        other => Verdict::Unknown(format!("pidfd_open of {pid}: {other}")),
    })?;
    // Read after the descriptor was opened: a process with this start time and number is the one behind it.
    let stat = Proc::open(&view.proc).and_then(|proc| proc.life(pid)).ok().and_then(|life| life.stat());
    match stat {
        Some(stat) if stat.started != started => Err(Verdict::Replaced),
        Some(stat) if stat.is_dead() => Err(Verdict::Gone),
        Some(_) => Ok(Held { pidfd, pid }),
        None if has_ended(&pidfd) => Err(Verdict::Gone),
        None => Err(Verdict::Unknown(format!("/proc/{pid}/stat cannot be read"))),
    }
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    wait(pidfd, Duration::ZERO)
}

fn wait(pidfd: &OwnedFd, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return ready > 0,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

impl Held {
    /// Sends a signal to this very process.
    ///
    /// # Errors
    /// `SRCH`: it has ended. `PERM`: it may not be signalled.
    pub fn signal(&self, signal: Signal) -> rustix::io::Result<()> {
        pidfd_send_signal(&self.pidfd, signal)
    }

    /// Waits until it has ended, at most for `limit`; whether it has. A zombie has ended.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> bool {
        wait(&self.pidfd, limit)
    }
}

/// Sends `signal` to the process that `image` is about.
///
/// # Errors
/// As [`hold`]; [`Verdict::Unknown`] if it may not be signalled.
pub fn signal(view: &View, image: &HostImage, signal: Signal) -> Result<Held, Verdict> {
    let held = hold(view, image)?;
    match held.signal(signal) {
        Ok(()) => Ok(held),
        Err(Errno::SRCH) => Err(Verdict::Gone),
        Err(error) => Err(Verdict::Unknown(format!("process {} cannot be signalled: {error}", held.pid))),
    }
}

impl Kind for Process {
    fn kind(&self) -> HostKind {
        HostKind::Process
    }

    fn facts(&self) -> Facts {
        Facts {
            maker: Maker::Family,
            new_in: NewIn::Containment,
            unused_is_left_over: false,
            is_named_by_path: false,
            end: "it lives until it ends",
        }
    }

    fn census(&self, view: &View, found: &mut Vec<HostImage>) -> Visibility {
        let listed = Proc::open(&view.proc).and_then(|proc| proc.pids().map(|pids| (proc, pids)));
        let (proc, pids) = match listed {
            Ok(listed) => listed,
            Err(error) => return Visibility::NotVisible(format!("{} cannot be listed: {error}", view.proc.display())),
        };
        let mut unreadable = 0_usize;
        for pid in pids {
            let Ok(life) = proc.life(pid) else { continue };
            match life.read("stat", proc::SMALL) {
                Ok(text) => {
                    if let Some(stat) = proc::stat::parse(&text).filter(|s| !s.is_kernel_thread() && !s.is_dead()) {
                        found.push(image(&stat, rustix::fs::fstat(life.folder()).ok().map(|s| s.st_uid)));
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => unreadable += 1,
                Err(_) => {}
            }
        }
        match hidden(view) {
            Some(why) => Visibility::NotVisible(why),
            None if unreadable > 0 => Visibility::NotVisible(format!("{unreadable} processes cannot be read")),
            None => Visibility::Whole,
        }
    }

    /// Unused is one that serves nobody but itself: its own standard streams do not count.
    fn judge(&self, view: &View, image: &HostImage, _hands: &mut Hands<'_>) -> Verdict {
        let held = match hold(view, image) {
            Ok(held) => held,
            Err(verdict) => return verdict,
        };
        let given = streams(view, held.pid);
        match outside::serves_outside(view, &HashSet::from([held.pid]), &given).remove(&held.pid) {
            Some(served) => Verdict::InUse(served, "it is connected to a process outside it".into()),
            None => Verdict::Unused("it serves no other process".into()),
        }
    }

    /// Asks the process to end (SIGTERM). Several that serve each other end together by other means: [`outside`] looks at
    /// the whole set, [`signal`] ends each; so does SIGKILL, after the grace that the caller promised.
    fn scrub(&self, view: &View, image: &HostImage, hands: &mut Hands<'_>) -> Outcome {
        match self.judge(view, image, hands) {
            Verdict::Unused(_) => {}
            verdict => return Outcome::Left(verdict),
        }
        match signal(view, image, Signal::TERM) {
            Ok(held) if held.wait(BRIEFLY) => {
                Outcome::Scrubbed("it served no other process and ended on SIGTERM".into())
            }
            Ok(_) => Outcome::Left(Verdict::Unknown("it got SIGTERM and has not ended yet".into())),
            Err(verdict) => Outcome::Left(verdict),
        }
    }
}

/// The objects behind its standard streams.
fn streams(view: &View, pid: u32) -> HashSet<(u64, u64)> {
    let Ok(life) = Proc::open(&view.proc).and_then(|proc| proc.life(pid)) else { return HashSet::new() };
    let streams = ["fd/0", "fd/1", "fd/2"].into_iter();
    streams.filter_map(|name| life.leads_to(name).ok()).map(|look| (proc::device_of(&look), look.stx_ino)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Python};

    fn find(view: &View, pid: u32) -> Option<HostImage> {
        let mut all = Vec::new();
        Process.census(view, &mut all);
        all.into_iter().find(|image| matches!(image.identity, Identity::Process { pid: p, .. } if p == pid))
    }

    #[test]
    fn a_process_with_an_odd_name_is_found_and_ended() {
        let text =
            "import ctypes,sys\nctypes.CDLL(None).prctl(15,b') S (\\n\\xff')\nprint('up',flush=True)\nsys.stdin.read()";
        let mut child = Python::start(text, &[]);
        child.line();
        let view = testing::view();
        let image = find(&view, child.pid()).unwrap();
        assert_eq!(image.name, [child.pid().to_string().as_bytes(), b" ) S (\n\xff"].concat());
        let held = signal(&view, &image, Signal::TERM).unwrap();
        assert!(held.wait(Duration::from_secs(10)));
        assert_eq!(hold(&view, &image).unwrap_err(), Verdict::Gone, "a zombie is gone");
        child.child.wait().unwrap();
        assert_eq!(Process.judge(&view, &image, &mut Hands::new(&mut |_| {})), Verdict::Gone);
        assert_eq!(find(&view, child.pid()), None);
    }

    #[test]
    fn a_number_that_was_given_again_is_never_signalled() {
        let mut child = Python::start("import sys\nprint('up',flush=True)\nsys.stdin.read()", &[]);
        child.line();
        let view = testing::view();
        let mut image = find(&view, child.pid()).unwrap();
        let Identity::Process { pid, started } = image.identity else { panic!() };
        image.identity = Identity::Process { pid, started: started - 1 };
        assert_eq!(signal(&view, &image, Signal::KILL).unwrap_err(), Verdict::Replaced);
        assert!(child.child.try_wait().unwrap().is_none());
    }

    #[test]
    fn one_that_serves_another_is_left() {
        let text = "import sys, socket\ns = socket.socket(1, 1)\nif sys.argv[2] == 's': s.bind('\\0' + sys.argv[1]); s.listen()\n\
                    else: s.connect('\\0' + sys.argv[1])\nprint('up', flush=True)\nsys.stdin.read()";
        let name = testing::unique("judged");
        let start = |role: &str| {
            let mut child = Python::start(text, &[&name, role]);
            assert_eq!(child.line(), "up");
            child
        };
        let (mut server, client) = (start("s"), start("c"));
        let view = testing::view();
        let image = find(&view, server.pid()).unwrap();
        let Outcome::Left(Verdict::InUse(served, _)) = Process.scrub(&view, &image, &mut Hands::new(&mut |_| {}))
        else {
            panic!("not left in use")
        };
        assert!(served.iter().any(|holder| holder.pid == client.pid()), "{served:?}");
        assert!(server.child.try_wait().unwrap().is_none());
    }

    #[test]
    fn hidden_processes_are_said() {
        let folder = testing::Folder::new("hidepid");
        std::fs::create_dir(folder.path().join("self")).unwrap();
        let line = format!("20 19 0:5 / {} rw - proc proc rw,hidepid=invisible\n", folder.path().display());
        std::fs::write(folder.path().join("self/mountinfo"), line).unwrap();
        let view = View { proc: folder.path().to_path_buf(), ..testing::view() };
        let Visibility::NotVisible(why) = Process.census(&view, &mut Vec::new()) else { panic!("said to be whole") };
        assert!(why.contains("hidepid=invisible"), "{why}");
    }
}

//! The loop of a run: one thread, one poll over signals, watches and the processes that are waited for.

use super::ending::Keeper;
use super::job_control::JobControl;
use super::recording::Recording;
use kobj_core::image::{Creator, Holder};
use kobj_host::containment::Containment;
use kobj_host::members::{Member, Sources};
use kobj_host::outside::serves_outside;
use kobj_host::view::View;
use kobj_host::watch::Watches;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// How long the end of an isolated job's namespaces is waited for: processes may hang in the kernel.
const NAMESPACE_PATIENCE: Duration = Duration::from_secs(5);

/// Everything that lives as long as the job.
pub(crate) struct Keep<'a> {
    pub(crate) view: &'a View,
    pub(crate) control: JobControl,
    pub(crate) containment: Containment,
    pub(crate) watches: Watches,
    pub(crate) record: Recording,
    /// `NAME=VALUE` of the cookie.
    pub(crate) cookie: Vec<u8>,
    /// This process had children before it was kobj: parenthood proves nothing then.
    pub(crate) had_children: bool,
    /// Something was heard that is not in the record yet.
    pub(crate) unpublished: bool,
    /// Nobody of the job is left, by every layer.
    pub(crate) is_over: bool,
}

impl Keep<'_> {
    /// One turn: waits until something happens or `until` has come, and deals with it.
    ///
    /// # Errors
    /// Polling or reading signals failed, which only a lack of memory explains.
    pub(crate) fn turn(&mut self, extra: &[BorrowedFd<'_>], until: Option<Instant>) -> io::Result<()> {
        self.publish();
        let now = Instant::now();
        let until = until.map(|until| until.saturating_duration_since(now));
        let timeout = [until, self.control.next_forward(now), self.watches.next_look(now)].into_iter().flatten().min();
        let watched = self.watches.poll_set();
        let mut polled: Vec<PollFd<'_>> = Vec::with_capacity(2 + watched.len() + extra.len());
        polled.push(PollFd::from_borrowed_fd(self.control.descriptor(), PollFlags::IN));
        polled.extend(watched.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        polled.extend(extra.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        polled.extend(self.control.line().iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        match poll(&mut polled, timeout.map(to_timespec).as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let seen = polled[1..=watched.len()].iter().any(|fd| !fd.revents().is_empty());
        let signalled = !polled[0].revents().is_empty();
        drop(polled);
        let now = Instant::now();
        if signalled {
            self.control.handle_signals(now)?;
        } else {
            self.control.forward_due(now);
        }
        self.control.hear_words();
        if seen || self.watches.next_look(now).is_some_and(|left| left.is_zero()) {
            self.drain();
        }
        Ok(())
    }

    /// Takes in all that the watches have heard up to now.
    pub(crate) fn drain(&mut self) {
        let Self { view, containment, watches, cookie, had_children, .. } = self;
        let sources = Sources {
            group: containment.group(),
            family: None,
            reaper: self_or_none(*had_children),
            cookie: Some(cookie),
        };
        let mut members = || sources.members(view).iter().map(|member| member.pid).collect();
        self.unpublished |= watches.drain(Instant::now(), &mut members);
        // Once the command has ended this waits until it is known that anything is left: usually nothing is.
        if self.control.end().is_none() {
            self.publish();
        }
    }

    /// Writes down what was heard and not written yet: before each wait, and before anything is done about what is left.
    pub(crate) fn publish(&mut self) {
        if std::mem::take(&mut self.unpublished) {
            let Self { watches, record, .. } = self;
            record.say(|record| record.publish(watches));
        }
    }

    /// Ends the namespaces of an isolated job, and with them whatever was born inside meanwhile.
    pub(crate) fn end_isolation(&mut self) {
        let until = Instant::now() + NAMESPACE_PATIENCE;
        self.control.let_go();
        while let Some(init) = self.control.living_init().filter(|_| Instant::now() < until) {
            if self.turn(&[init.as_fd()], Some(until)).is_err() {
                return;
            }
            self.control.reap();
        }
    }

    fn all_members(&mut self) -> Vec<Member> {
        if self.is_over {
            return Vec::new();
        }
        let has_children = self.control.reap();
        self.drain();
        // The usual end, in two reads: no child of ours, nobody in the group or in the family.
        let group_is_empty = self.containment.group().is_none_or(|group| !group.is_populated());
        if !has_children && group_is_empty && self.watches.living().is_some_and(|living| living.is_empty()) {
            // Where nobody is, nobody is born.
            self.is_over = true;
            return Vec::new();
        }
        // Each process is held by a descriptor; the command has its own limits, set when it was started.
        allow_descriptors();
        let has_family = self.watches.living().is_some();
        let Self { view, containment, watches, cookie, had_children, .. } = self;
        let watches = RefCell::new(watches);
        let family = || {
            let mut watches = watches.borrow_mut();
            watches.drain(Instant::now(), &mut Vec::new);
            watches.living().unwrap_or_default()
        };
        let family: Option<&dyn Fn() -> Vec<u32>> = if has_family { Some(&family) } else { None };
        Sources { group: containment.group(), family, reaper: self_or_none(*had_children), cookie: Some(cookie) }
            .members(view)
    }
}

impl Keeper for Keep<'_> {
    /// The job's living processes, the command included while it lives. The init of an isolated job is none of them.
    fn members(&mut self) -> Vec<Member> {
        let init = self.control.init_pid();
        let mut members = self.all_members();
        members.retain(|member| Some(member.pid) != init);
        members
    }

    fn is_anybody_left(&mut self) -> bool {
        if self.is_over {
            return false;
        }
        let has_children = self.control.reap();
        // The init of an isolated job stays until it is let go; what no list shows ends with it, which no fork outruns.
        let has_init = self.control.living_init().is_some();
        // Children from before the job never were its own, and may live for ever.
        let has_children = has_children && !self.had_children;
        !has_init && (has_children || self.containment.group().is_some_and(|group| group.is_populated()))
    }

    fn wait_for_any(&mut self, members: &[Member], until: Instant) {
        let descriptors: Vec<BorrowedFd<'_>> = members.iter().map(AsFd::as_fd).collect();
        while Instant::now() < until && !members.iter().any(Member::has_ended) {
            if self.turn(&descriptors, Some(until)).is_err() {
                return;
            }
        }
    }

    fn serving(&self, job: &HashSet<u32>) -> HashMap<u32, Vec<Holder>> {
        // Whom no descriptor was free to hold is of the job all the same, and no outsider.
        let in_group = self.containment.group().and_then(|group| group.members().ok()).unwrap_or_default();
        let mut job: HashSet<u32> = job.iter().copied().chain(in_group).collect();
        job.extend(self.watches.living().unwrap_or_default());
        job.remove(&std::process::id());
        serves_outside(self.view, &job, &own_descriptors())
    }

    fn kill_group(&self) {
        if let Some(group) = self.containment.group() {
            // Older kernels lack it; each process is killed by itself as well.
            let _ = group.kill();
        }
    }

    fn parent_of(&self, pid: u32) -> Option<Creator> {
        let family = self.watches.family();
        let parent = family.life(pid)?.parent;
        let command = family.name_of(parent)?.to_vec();
        Some(Creator { pid: parent, command, at: None })
    }
}

/// Raises the number of descriptors that this process may have open to what the machine allows it.
pub(crate) fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // A refusal leaves what there is, which is then used in turns.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}

/// Orphans of the job are handed to us; but so are those of children that we had before the job, if we had any.
fn self_or_none(had_children: bool) -> Option<u32> {
    (!had_children).then(std::process::id)
}

/// Device and inode of all that this process has open, and so of all that the command inherited.
fn own_descriptors() -> HashSet<(u64, u64)> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return HashSet::new() };
    let stats = entries.filter_map(|entry| std::fs::metadata(entry.ok()?.path()).ok());
    stats.map(|stat| (stat.dev(), stat.ino())).collect()
}

fn to_timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX), tv_nsec: duration.subsec_nanos().into() }
}

//! The watches of a run: process connector, file events, and where those may not be had, inotify with a look.
//!
//! Made before the first census, so that nothing falls between. One loop polls [`Watches::poll_set`] for at most
//! [`Watches::next_look`] and calls [`Watches::drain`]. To be woken costs whoever raises the event 13 microseconds, so
//! after a drain that found something the descriptors rest for a moment: a busy job pays for few wake-ups.

mod look;
mod pace;
mod places;
#[cfg(test)]
mod tests;

use crate::family::Family;
use crate::kinds::posix_queue::{self, Opened};
use crate::makers::{Count, Creation, Group, Made, Makers, Window, by_family};
use crate::view::View;
use kobj_abi::{Layer, Strength};
use kobj_core::image::{Identity, Time};
use kobj_platform::connector::{Connector, ProcessEvent};
use kobj_platform::fanotify::Fanotify;
use kobj_platform::late_close::close_late;
use look::{Look, Looked};
use pace::{LookPace, Pace};
use places::Places;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most reads of file events in one drain, so that the caller comes to its signals.
const READS_IN_ONE_DRAIN: usize = 64;
/// Which layers to try; all by default. Tests and `--report-only` machines leave some out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The process connector.
    pub connector: bool,
    /// File events with their maker's pid.
    pub fanotify: bool,
    /// Inotify and an immediate look: used where one of the other two cannot be had.
    pub inotify: bool,
}

impl Default for Choice {
    fn default() -> Self {
        Self { connector: true, fanotify: true, inotify: true }
    }
}

/// The watches of a run.
pub struct Watches {
    connector: Option<Connector>,
    fanotify: Option<Fanotify>,
    /// The queues' file system, which wants a group of its own. None without the other.
    queues: Option<Fanotify>,
    /// The folder of queues, for whoever lists them.
    queue_folder: Option<Opened>,
    look: Option<Look>,
    family: Family,
    makers: Makers,
    places: Places,
    absent: Vec<String>,
    lost: Vec<String>,
    /// Numbers that the caller named as the job's at any drain (without a connector).
    named: HashSet<u32>,
    window_start: Time,
    read_until: Time,
    buffer: Vec<u8>,
    pace: Pace,
    look_pace: LookPace,
}

impl Watches {
    /// Opens what can be had. Whatever `keeper` (kobj's pid) forks from now on is the job's.
    #[must_use]
    pub fn open(view: &View, keeper: Option<u32>, choice: Choice) -> Self {
        let mut absent = Vec::new();
        let mut layer = |wanted: bool, name: &str| {
            if !wanted {
                absent.push(format!("{name}: not asked for"));
            }
            wanted
        };
        let (connector, fanotify) = (layer(choice.connector, "process connector"), layer(choice.fanotify, "fanotify"));
        let mut keep = |result: Result<Connector, String>| result.map_err(|why| absent.push(why)).ok();
        let connector = if connector { keep(Connector::open()) } else { None };
        let folders = || view.segment_folders.iter().chain(&view.temporary_folders).map(PathBuf::as_path);
        let fanotify = if fanotify { Fanotify::open(folders()).map_err(|why| absent.push(why)).ok() } else { None };
        if let Some(fanotify) = &fanotify {
            absent.extend_from_slice(fanotify.unwatched());
        }
        let mut places = Places::default();
        folders().for_each(|folder| places.learn(folder));
        let wanted = choice.inotify && (connector.is_none() || fanotify.is_none());
        let look = if wanted { Look::open(view, &mut absent) } else { None };
        let segment_folders = view.segment_folders.iter().filter_map(|folder| places.key_of(folder)).collect();
        let mut makers = Makers::new(segment_folders);
        let (queues, queue_folder) =
            if fanotify.is_some() { watch_queues(view, &mut makers, &mut absent) } else { (None, None) };
        Self {
            buffer: if fanotify.is_some() { Fanotify::buffer() } else { Vec::new() },
            connector,
            fanotify,
            queues,
            queue_folder,
            look,
            family: Family::new(&view.proc, keeper),
            makers,
            places,
            absent,
            lost: Vec::new(),
            named: HashSet::new(),
            window_start: coarse_time(),
            read_until: coarse_time(),
            pace: Pace::default(),
            look_pace: LookPace::new(Instant::now()),
        }
    }

    /// Names the job's first process: right after it was started, before the next drain.
    pub fn set_root(&mut self, pid: u32) {
        if self.connector.is_some() {
            self.family.set_root(pid);
        } else {
            self.named.insert(pid);
        }
        // Its own start is no news worth a wake-up: a short command ends before the first look.
        self.pace.after(true, Instant::now(), self.queue_bytes());
    }

    /// How many bytes of process events the kernel keeps for us.
    fn queue_bytes(&self) -> usize {
        self.connector.as_ref().map_or(usize::MAX, Connector::buffer_bytes)
    }

    /// The layers in use.
    #[must_use]
    pub fn layers(&self) -> Vec<Layer> {
        let mut layers = Vec::new();
        layers.extend(self.connector.as_ref().map(|_| Layer::Connector));
        layers.extend(self.fanotify.as_ref().map(|_| Layer::Fanotify));
        layers.extend(self.look.as_ref().map(|_| Layer::Inotify));
        layers
    }

    /// Why layers, or parts of them, are not in use; one sentence each.
    #[must_use]
    pub fn absent(&self) -> &[String] {
        &self.absent
    }

    /// What was lost, one sentence each, each once. After a loss everything said by number is a hint.
    #[must_use]
    pub fn lost(&self) -> &[String] {
        &self.lost
    }

    /// The descriptors to poll for reading now: those that do not rest.
    pub fn poll_set(&self) -> Vec<BorrowedFd<'_>> {
        let now = Instant::now();
        let mut set = Vec::new();
        if self.pace.left(now).is_none() {
            set.extend(self.connector.as_ref().map(Connector::fd));
            set.extend(self.file_groups().map(Fanotify::fd));
        }
        if self.look_pace.left(now).is_none() {
            set.extend(self.look.as_ref().map(Look::fd));
        }
        set
    }

    /// How long to poll at most before the next [`Watches::drain`]; `None`: until something is there.
    #[must_use]
    pub fn next_look(&self, now: Instant) -> Option<Duration> {
        [self.pace.left(now), self.look_pace.next(now)].into_iter().flatten().min()
    }

    /// Reads and judges all that is there. Returns whether there was anything.
    ///
    /// `members` names the job's living processes; it is asked only where there is no connector.
    pub fn drain(&mut self, now: Instant, members: &mut dyn FnMut() -> Vec<u32>) -> bool {
        let begun = coarse_time();
        let mut found = self.hear();
        if self.connector.is_none() && (self.fanotify.is_some() || self.look.is_some()) {
            // Only a number that was once a member's can be a hint later.
            self.named.extend(members());
        }
        found |= self.read_files(members);
        if self.fanotify.is_none() {
            self.family.forget_ended();
        }
        self.pace.after(found, now, self.queue_bytes());
        let looked = if self.look_pace.is_due(now) { self.look_now(now, members) } else { Looked::default() };
        // What came after this moment may still be unread.
        self.read_until = begun;
        found || looked.found || looked.pending
    }

    /// Up to when events were read and judged; wall time.
    #[must_use]
    pub fn read_until(&self) -> Time {
        self.read_until
    }

    /// The job's family tree; empty without the connector.
    #[must_use]
    pub fn family(&self) -> &Family {
        &self.family
    }

    /// The same, to publish its sets.
    pub fn family_mut(&mut self) -> &mut Family {
        &mut self.family
    }

    /// The living of the family tree; `None` without the connector or after a loss.
    #[must_use]
    pub fn living(&self) -> Option<Vec<u32>> {
        (self.connector.is_some() && !self.family.has_lost()).then(|| self.family.living())
    }

    /// Whether the process `pid`, which the kernel keeps as an object's creator, was the job's.
    #[must_use]
    pub fn made_by_pid(&self, pid: u32) -> Option<Strength> {
        self.connector.as_ref().and_then(|_| self.family.judge_ever(pid))
    }

    /// How many processes began and ended in the job; `None` where that is not exact.
    #[must_use]
    pub fn process_counts(&self) -> Option<(u64, u64)> {
        (self.connector.is_some() && !self.family.has_lost()).then(|| self.family.counts())
    }

    /// Who made the object of that identity.
    #[must_use]
    pub fn maker(&self, identity: &Identity) -> Option<Made> {
        self.makers.of(identity)
    }

    /// The living creations.
    #[must_use]
    pub fn makers(&self) -> &Makers {
        &self.makers
    }

    /// The same, to publish its slots.
    pub fn makers_mut(&mut self) -> &mut Makers {
        &mut self.makers
    }

    /// Whether every process, and every creation in every watched folder, is seen with its maker from the start.
    #[must_use]
    pub fn sees_everything(&self) -> bool {
        self.living().is_some() && self.fanotify.as_ref().is_some_and(|fanotify| fanotify.unwatched().is_empty())
    }

    /// Whether every creation on that device was seen with its maker, so that an object without one is not the job's.
    #[must_use]
    pub fn sees_all_makers(&self, device: u64) -> bool {
        let marked = self.file_groups().any(|group| group.marks().iter().any(|mark| mark.device == device));
        let whole = self.living().is_some() && self.lost.is_empty() && self.makers.not_followed() == 0;
        whole && marked
    }

    /// What was made and destroyed of a group; `None` where that is not exact.
    #[must_use]
    pub fn count(&self, group: Group) -> Option<Count> {
        let exact = self.connector.is_some() && self.fanotify.is_some() && self.lost.is_empty();
        if exact { self.makers.count(group) } else { None }
    }

    /// Where a creation is now, if its folder can be found: known folders always, others as root.
    pub fn path_of(&mut self, creation: &Creation) -> Option<PathBuf> {
        self.places.path_of(creation.device, &creation.folder, &creation.name)
    }

    /// Watches files no longer; what was heard stays known. For whoever is about to move and delete files himself: each
    /// would be an event.
    pub fn stop_watching_files(&mut self) {
        let groups = self.fanotify.take().into_iter().chain(self.queues.take()).map(Fanotify::into_fd);
        close_late(groups.chain(self.look.take().map(Look::into_fd)).collect());
    }

    /// The folder of POSIX queues, once, for whoever lists them: to mount it twice would cost twice.
    pub fn take_queues(&mut self) -> Option<Opened> {
        self.queue_folder.take()
    }

    fn file_groups(&self) -> impl Iterator<Item = &Fanotify> {
        self.fanotify.iter().chain(&self.queues)
    }

    /// Ends the watches without waiting for the kernel.
    pub fn close(self) {
        close_late(self.into_descriptors());
    }

    /// Ends the watches; what is left to close is better closed late.
    #[must_use]
    pub fn into_descriptors(self) -> Vec<OwnedFd> {
        let mut descriptors = Vec::new();
        descriptors.extend(self.fanotify.into_iter().chain(self.queues).map(Fanotify::into_fd));
        if let Some((folder, mount)) = self.queue_folder {
            descriptors.extend(std::iter::once(folder).chain(mount));
        }
        descriptors.extend(self.look.map(Look::into_fd));
        descriptors
    }

    /// Applies all process events that were there when it was called.
    ///
    /// A fork that is younger ends it: in a storm of forks the queue is never empty, and the caller has signals to see to.
    fn hear(&mut self) -> bool {
        let mut found = false;
        let called_at = clock_gettime(ClockId::Monotonic);
        let called_at_ns = called_at.tv_sec as u64 * 1_000_000_000 + called_at.tv_nsec as u64;
        while let Some(connector) = &self.connector {
            match connector.next() {
                Ok(Some(event)) => {
                    found = true;
                    if event == ProcessEvent::Lost {
                        say_once(&mut self.lost, "process connector: the kernel had no room for some events");
                    }
                    self.family.apply(event);
                    if matches!(event, ProcessEvent::Fork { at_ns, .. } if at_ns > called_at_ns) {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    say_once(&mut self.lost, &format!("process connector: {error}; no longer heard"));
                    self.family.apply(ProcessEvent::Lost);
                    self.connector = None;
                }
            }
        }
        found
    }

    /// Reads and judges file events until there are none.
    fn read_files(&mut self, members: &mut dyn FnMut() -> Vec<u32>) -> bool {
        for round in 0..READS_IN_ONE_DRAIN {
            // The clock that stamps inodes, read before the queue is found empty: no later event is older.
            let before = coarse_time();
            let mut buffer = std::mem::take(&mut self.buffer);
            let outcome = self.read_once(&mut buffer, members);
            self.buffer = buffer;
            match outcome {
                Some(true) => {}
                Some(false) => {
                    self.window_start = before;
                    self.makers.end_window(before);
                    self.family.forget_ended();
                    return round > 0;
                }
                None => return round > 0,
            }
        }
        true
    }

    /// Reads once and judges it: whether there was anything; `None` if there is nobody to ask.
    fn read_once(&mut self, buffer: &mut [u8], members: &mut dyn FnMut() -> Vec<u32>) -> Option<bool> {
        self.fanotify.as_ref()?;
        // Only when both are empty has a window ended: processes are forgotten then.
        let read = self.file_groups().enumerate().find_map(|(index, group)| match group.read(buffer) {
            Ok(None) => None,
            Ok(Some(bytes)) => Some(Ok((index, bytes.len()))),
            Err(error) => Some(Err(error)),
        });
        let (index, length) = match read {
            None => return Some(false),
            Some(Ok(read)) => read,
            Some(Err(error)) => {
                say_once(&mut self.lost, &format!("fanotify: {error}; no longer read"));
                let groups = self.fanotify.take().into_iter().chain(self.queues.take());
                close_late(groups.map(Fanotify::into_fd).collect());
                return None;
            }
        };
        let window = Window { start: self.window_start, end: now() };
        // Every fork that came before these events is in the connector's queue by now.
        self.hear();
        if self.connector.is_none() {
            self.named.extend(members());
        }
        let group = [self.fanotify.as_ref(), self.queues.as_ref()].get(index).copied().flatten()?;
        let by_tree = by_family(&self.family);
        let by_name = |pid: u32| self.named.contains(&pid).then(|| (Strength::Hint, Arc::from(&b""[..])));
        let judge: &dyn Fn(u32) -> _ = if self.connector.is_some() { &by_tree } else { &by_name };
        for event in group.events(buffer.get(..length)?) {
            if !self.makers.apply(&event, group.marks(), window, judge) {
                say_once(&mut self.lost, "fanotify: the kernel had no room for some events");
            }
        }
        self.makers.end_read();
        Some(true)
    }

    fn look_now(&mut self, now: Instant, members: &mut dyn FnMut() -> Vec<u32>) -> Looked {
        let Some(look) = &mut self.look else { return Looked::default() };
        let begun = Instant::now();
        if self.look_pace.is_deaf() {
            look.listen(true);
        }
        let family = self.connector.as_ref().map(|_| &self.family);
        let mut ask = || family.map_or_else(&mut *members, Family::living);
        let looked = look.drain(&mut self.makers, &mut ask, &mut self.lost);
        if self.look_pace.after(looked, begun.elapsed(), now) {
            look.listen(false);
        }
        self.makers.end_read();
        looked
    }
}

/// Watches the queues of this IPC namespace; says in `absent` why not. The folder is for whoever lists them.
fn watch_queues(view: &View, makers: &mut Makers, absent: &mut Vec<String>) -> (Option<Fanotify>, Option<Opened>) {
    let Ok((folder, mount)) = posix_queue::queues_and_mount(view) else { return (None, None) };
    match Fanotify::open_folder(folder.as_fd()) {
        Ok(group) => {
            group.marks().iter().for_each(|mark| makers.set_queues(mark.device));
            (Some(group), Some((folder, mount)))
        }
        Err(why) => {
            absent.push(format!("POSIX queues: {why}"));
            (None, Some((folder, mount)))
        }
    }
}

fn say_once(list: &mut Vec<String>, sentence: &str) {
    if list.iter().all(|said| said != sentence) {
        list.push(sentence.to_owned());
    }
}

fn time_of(clock: ClockId) -> Time {
    let time = clock_gettime(clock);
    Time(time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1000))
}

/// Wall time.
fn now() -> Time {
    time_of(ClockId::Realtime)
}

/// Wall time as the kernel stamps inodes: that of the last tick.
fn coarse_time() -> Time {
    time_of(ClockId::RealtimeCoarse)
}

/// The device and handle of an open folder.
fn key_of_open(folder: BorrowedFd<'_>) -> Option<crate::makers::FolderKey> {
    let device = rustix::fs::fstat(folder).ok()?.st_dev;
    let handle = kobj_platform::file_handle::handle_at(folder, c"").ok()?;
    Some((device, kobj_core::image::FileHandle::new(handle.kind, handle.bytes())?))
}

fn open_folder(path: &Path) -> std::io::Result<rustix::fd::OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

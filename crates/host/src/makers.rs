//! Who made which file: the living creations of a job, fed by file events.
//!
//! An inode is followed from the event that made it to the one that takes its last name away. It is the job's by proof
//! only if the process that made it was the job's alone during the window between the two reads that enclose the event,
//! and if the inode was born in that window: a hard link to a stranger's old file raises the same event.

use crate::family::Family;
use kobj_abi::{Layer, Strength};
use kobj_core::image::{FileHandle, Identity, Time};
use kobj_platform::fanotify::{CREATE, DELETE, FileEvent, Handle, Mark, ON_FOLDER, OVERFLOW, Place, RENAME};
use std::collections::hash_map::{Entry as Slot, RandomState};
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;

/// The most living creations that are followed. More are counted, and said, but not followed.
pub const FOLLOWED_MAX: usize = 1 << 17;
/// How long strangers' creations are remembered beyond the window they were seen in, in microseconds.
const STRANGERS_KEPT_US: i64 = 25_000;
/// How far a birth time may lie outside the window: the clock that stamps inodes ticks every 1 to 10 ms.
const BIRTH_SLACK_US: i64 = 10_000;
/// The longest name that is kept; no file system has longer ones.
const NAME_BYTES_MAX: usize = 255;

/// What can be told of a new file by its place alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Group {
    /// A file directly in a segment folder. Counted exactly.
    Segment = 0,
    /// The same, named `sem.NAME`: a POSIX semaphore. Counted exactly, its maker's temporary name included in the one.
    Semaphore = 1,
    /// A folder, wherever it is. Counted exactly.
    Folder = 2,
    /// Any other file: temporary, lock or pid file, socket, fifo, link, or output. Which of them, the events do not say.
    Other = 3,
}

/// How many inodes of a group the job made and lost, each counted by its own event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Made by the job.
    pub created: u64,
    /// Made by the job, and their last name taken away by anyone but kobj.
    pub destroyed: u64,
}

/// Who made an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The process.
    pub pid: u32,
    /// Its command's name then.
    pub command: Arc<[u8]>,
    /// Not before; wall time.
    pub window_start: Time,
    /// Not after; wall time.
    pub window_end: Time,
    /// Proof, or a hint (the number was others' too, an event was lost, the inode is older than the event).
    pub strength: Strength,
    /// The layer that saw it: [`Layer::Fanotify`] or [`Layer::Inotify`].
    pub layer: Layer,
    /// The event was the object's birth, whatever its birth time: on its file system nothing else raises one.
    pub is_birth: bool,
}

impl Made {
    /// The strength for an inode born at `born`: without a birth inside the window nothing is proved.
    #[must_use]
    pub fn strength_if_born(&self, born: Option<Time>) -> Strength {
        if self.is_birth {
            return self.strength;
        }
        let inside = born.is_some_and(|born| {
            born.0 >= self.window_start.0 - BIRTH_SLACK_US && born.0 <= self.window_end.0 + BIRTH_SLACK_US
        });
        if inside { self.strength } else { Strength::Hint }
    }
}

/// A followed creation.
#[derive(Clone, Debug)]
pub struct Creation {
    /// The mount's device number.
    pub device: u64,
    /// The inode's handle.
    pub handle: FileHandle,
    /// The folder where it was last seen.
    pub folder: FileHandle,
    /// The name it was last seen under there.
    pub name: Box<[u8]>,
    /// Who made it.
    pub made: Made,
    group: Group,
    links: i32,
    changed: bool,
    /// Its last name was taken away by kobj itself: scrubbed, not destroyed by the job.
    by_us: bool,
}

/// A folder whose direct entries have a meaning of their own.
pub type FolderKey = (u64, FileHandle);

/// The living creations of a job.
#[derive(Default)]
pub struct Makers {
    creations: Vec<Option<Creation>>,
    free: Vec<u32>,
    by_inode: HashMap<u64, u32>,
    by_place: HashMap<u64, u32>,
    keys: RandomState,
    strangers: VecDeque<(i64, HashSet<u64>)>,
    changed: Vec<u32>,
    touched: Vec<u32>,
    segment_folders: Vec<FolderKey>,
    queues: Option<u64>,
    counts: [Count; 4],
    not_followed: u64,
    doubtful: bool,
}

/// The time between the last empty read and now, which encloses every event read since. Wall time.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// The last moment at which nothing was left to read.
    pub start: Time,
    /// When the events had been read.
    pub end: Time,
}

impl Creation {
    /// A creation as a record's tests make them up.
    #[cfg(test)]
    pub(crate) fn example(device: u64, handle: FileHandle, made: Made) -> Self {
        let (folder, group) = (handle, Group::Segment);
        Self { device, handle, folder, name: Box::default(), made, group, links: 1, changed: false, by_us: false }
    }
}

impl Makers {
    /// Nothing made yet. Files directly in one of `segment_folders` are counted as segments and semaphores.
    #[must_use]
    pub fn new(segment_folders: Vec<FolderKey>) -> Self {
        Self { segment_folders, ..Self::default() }
    }

    /// The device of POSIX message queues, if file events are heard of it. A queue has one name for life, no link and no
    /// birth time; its number is given again only after four thousand million others, and its end is heard. So a name made
    /// there is a queue's birth.
    pub fn set_queues(&mut self, device: u64) {
        self.queues = Some(device);
    }

    /// Takes one file event in, in the kernel's order, after all process events up to its reading were applied.
    ///
    /// Returns false if it tells of a loss.
    pub fn apply(
        &mut self,
        event: &FileEvent<'_>,
        marks: &[Mark],
        window: Window,
        judge: &dyn Fn(u32) -> Option<(Strength, Arc<[u8]>)>,
    ) -> bool {
        if event.mask & OVERFLOW != 0 {
            self.doubtful = true;
            return false;
        }
        let device = event.mark.and_then(|mark| marks.get(mark)).map(|mark| mark.device);
        let (Some(device), Some(target), Some(place)) = (device, event.target.and_then(kept), event.place) else {
            return true;
        };
        if event.mask & RENAME != 0 {
            if let Some(new) = event.new_place {
                self.renamed(device, &target, &place, &new);
            }
            return true;
        }
        let inode = self.hash(device, &target, b"");
        if event.mask & CREATE != 0 {
            let known = self.find(inode, device, &target);
            match (known, judge(event.pid)) {
                (Some(index), _) => self.named(index, &place, 1),
                (None, Some((strength, command))) if !self.is_strangers(inode) => {
                    let made = Made {
                        pid: event.pid,
                        command,
                        window_start: window.start,
                        window_end: window.end,
                        strength,
                        layer: Layer::Fanotify,
                        is_birth: self.queues == Some(device),
                    };
                    self.begin(device, target, &place, made, event.mask & ON_FOLDER != 0);
                }
                (None, Some(_)) => {}
                (None, None) => self.remember_stranger(inode, window.end),
            }
        }
        if event.mask & DELETE != 0
            && let Some(index) = self.find(inode, device, &target)
        {
            self.unnamed(index);
            if let Some(Some(creation)) = self.creations.get_mut(index as usize) {
                creation.by_us = event.pid == std::process::id();
            }
        }
        true
    }

    /// Ends a read: inodes without a name are let go. Not before, since a merged event says "made and deleted" of a name
    /// whose inode may have got another one.
    pub fn end_read(&mut self) {
        for index in std::mem::take(&mut self.touched) {
            let gone = self.creations.get(index as usize).and_then(Option::as_ref).is_some_and(|c| c.links <= 0);
            if gone {
                self.end(index);
            }
        }
    }

    /// Ends a window that was empty at `now`: what strangers made long enough before is forgotten.
    pub fn end_window(&mut self, now: Time) {
        while self.strangers.len() > 1 && self.strangers.front().is_some_and(|(at, _)| *at < now.0 - STRANGERS_KEPT_US)
        {
            self.strangers.pop_front();
        }
        if self.strangers.back().is_some_and(|(_, set)| !set.is_empty()) {
            self.strangers.push_back((now.0, HashSet::new()));
        }
    }

    /// Takes in what another layer found out by looking. A proof stands above a hint, never the other way round.
    pub fn found(&mut self, device: u64, handle: FileHandle, folder: FileHandle, name: &[u8], made: Made) {
        let inode = self.hash(device, &handle, b"");
        let raw = folder;
        let place = Place { folder: Handle { kind: raw.kind, bytes: raw.bytes() }, name };
        match self.find(inode, device, &handle) {
            None => self.begin(device, handle, &place, made, false),
            Some(index) => {
                self.mark_changed(index);
                if let Some(Some(creation)) = self.creations.get_mut(index as usize)
                    && creation.made.strength == Strength::Hint
                    && made.strength == Strength::Proof
                {
                    creation.made = made;
                }
            }
        }
    }

    /// Lets go of what is known at a place whose name was taken away (layers without handles).
    pub fn gone(&mut self, device: u64, folder: &FileHandle, name: &[u8]) {
        if let Some(index) = self.by_place.get(&self.hash(device, folder, name)).copied() {
            self.unnamed(index);
        }
    }

    /// Who made the object of that identity. The strength already takes its birth time into account.
    #[must_use]
    pub fn of(&self, identity: &Identity) -> Option<Made> {
        let Identity::File { device, handle: Some(handle), born, .. } = identity else { return None };
        let index = self.find(self.hash(*device, handle, b""), *device, handle)?;
        let mut made = self.creations.get(index as usize)?.as_ref()?.made.clone();
        made.strength = made.strength_if_born(*born);
        Some(made)
    }

    /// Every creation that has a name, with the number of its slot.
    pub fn live(&self) -> impl Iterator<Item = (u32, &Creation)> {
        (0..).zip(&self.creations).filter_map(|(index, creation)| Some((index, creation.as_ref()?)))
    }

    /// Calls `publish` for each slot that changed since the last call, with what is in it now.
    pub fn take_changes(&mut self, mut publish: impl FnMut(u32, Option<&Creation>)) {
        for index in std::mem::take(&mut self.changed) {
            if let Some(slot) = self.creations.get_mut(index as usize) {
                if let Some(creation) = slot {
                    creation.changed = false;
                }
                publish(index, slot.as_ref());
            }
        }
    }

    /// What was counted of a group; `None` if it is not exact (an event lost, a maker in doubt, too many to follow).
    #[must_use]
    pub fn count(&self, group: Group) -> Option<Count> {
        (!self.doubtful && self.not_followed == 0).then(|| self.counts[group as usize])
    }

    /// How many creations were not followed because too many lived at once.
    #[must_use]
    pub fn not_followed(&self) -> u64 {
        self.not_followed
    }

    fn begin(&mut self, device: u64, handle: FileHandle, place: &Place<'_>, made: Made, is_folder: bool) {
        let Some(folder) = kept(place.folder) else { return };
        let group = self.group(device, &folder, place.name, is_folder);
        self.doubtful |= made.strength == Strength::Hint;
        self.counts[group as usize].created += 1;
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.creations.len() < FOLLOWED_MAX => {
                self.creations.push(None);
                self.creations.len() as u32 - 1
            }
            None => {
                self.not_followed += 1;
                return;
            }
        };
        let Slot::Vacant(vacant) = self.by_inode.entry(self.keys.hash_one((device, &handle, &b""[..]))) else {
            // Two inodes of one hash: the second is not followed.
            self.free.push(index);
            self.not_followed += 1;
            return;
        };
        vacant.insert(index);
        let name = Box::default();
        self.creations[index as usize] =
            Some(Creation { device, handle, folder, name, made, group, links: 0, changed: false, by_us: false });
        self.named(index, place, 1);
    }

    fn group(&self, device: u64, folder: &FileHandle, name: &[u8], is_folder: bool) -> Group {
        if is_folder {
            Group::Folder
        } else if !self.segment_folders.iter().any(|(d, f)| *d == device && f == folder) {
            Group::Other
        } else if name.starts_with(b"sem.") {
            Group::Semaphore
        } else {
            Group::Segment
        }
    }

    /// The inode has (also) this name now; `more` names than before.
    fn named(&mut self, index: u32, place: &Place<'_>, more: i32) {
        let Some(folder) = kept(place.folder) else { return };
        let name = &place.name[..place.name.len().min(NAME_BYTES_MAX)];
        let Some(Some(creation)) = self.creations.get_mut(index as usize) else { return };
        creation.links = creation.links.saturating_add(more).max(1);
        let old = self.keys.hash_one((creation.device, &creation.folder, &*creation.name));
        let new = self.keys.hash_one((creation.device, &folder, name));
        creation.folder = folder;
        creation.name = name.into();
        if self.by_place.get(&old) == Some(&index) {
            self.by_place.remove(&old);
        }
        self.by_place.insert(new, index);
        self.mark_changed(index);
    }

    fn unnamed(&mut self, index: u32) {
        if let Some(Some(creation)) = self.creations.get_mut(index as usize) {
            creation.links -= 1;
            self.touched.push(index);
        }
    }

    fn renamed(&mut self, device: u64, target: &FileHandle, old: &Place<'_>, new: &Place<'_>) {
        let Some(folder) = kept(new.folder) else { return };
        let moved = self.find(self.hash(device, target, b""), device, target);
        if let Some(over) = self.by_place.get(&self.hash(device, &folder, new.name)).copied()
            && Some(over) != moved
        {
            // What had that name has lost it. (If the two were exchanged, the second event gives it the other.)
            self.unnamed(over);
        }
        if let Some(index) = moved {
            self.named(index, new, 0);
        } else if let Some(stale) = kept(old.folder).map(|folder| self.hash(device, &folder, old.name)) {
            self.by_place.remove(&stale);
        }
    }

    fn end(&mut self, index: u32) {
        let Some(creation) = self.creations.get_mut(index as usize).and_then(Option::take) else { return };
        self.counts[creation.group as usize].destroyed += u64::from(!creation.by_us);
        self.by_inode.remove(&self.hash(creation.device, &creation.handle, b""));
        let place = self.hash(creation.device, &creation.folder, &creation.name);
        if self.by_place.get(&place) == Some(&index) {
            self.by_place.remove(&place);
        }
        if !creation.changed {
            self.changed.push(index);
        }
        self.free.push(index);
    }

    fn mark_changed(&mut self, index: u32) {
        if let Some(Some(creation)) = self.creations.get_mut(index as usize)
            && !creation.changed
        {
            creation.changed = true;
            self.changed.push(index);
        }
    }

    fn find(&self, inode: u64, device: u64, handle: &FileHandle) -> Option<u32> {
        let index = *self.by_inode.get(&inode)?;
        let creation = self.creations.get(index as usize)?.as_ref()?;
        (creation.device == device && creation.handle == *handle).then_some(index)
    }

    fn hash(&self, device: u64, handle: &FileHandle, name: &[u8]) -> u64 {
        self.keys.hash_one((device, handle, name))
    }

    fn is_strangers(&self, inode: u64) -> bool {
        self.strangers.iter().any(|(_, set)| set.contains(&inode))
    }

    fn remember_stranger(&mut self, inode: u64, now: Time) {
        if self.strangers.is_empty() {
            self.strangers.push_back((now.0, HashSet::new()));
        }
        if let Some((at, set)) = self.strangers.back_mut() {
            *at = now.0;
            set.insert(inode);
        }
    }
}

/// A handle of an event, as images keep it.
fn kept(handle: Handle<'_>) -> Option<FileHandle> {
    FileHandle::new(handle.kind, handle.bytes)
}

/// The judge of makers that the exact family tree is.
pub(crate) fn by_family(family: &Family) -> impl Fn(u32) -> Option<(Strength, Arc<[u8]>)> + '_ {
    |pid| family.judge_recent(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { start: Time(1_000_000), end: Time(1_002_000) };

    fn judge(pid: u32) -> Option<(Strength, Arc<[u8]>)> {
        (pid == 7).then(|| (Strength::Proof, Arc::from(&b"job"[..])))
    }

    struct Trial {
        makers: Makers,
        mark: Vec<Mark>,
    }

    impl Trial {
        fn new() -> Self {
            let folder = FileHandle::new(1, b"shm").expect("short");
            Self { makers: Makers::new(vec![(9, folder)]), mark: vec![Mark::example(9)] }
        }

        fn event(&mut self, mask: u64, pid: u32, name: &str, inode: u32, new_name: Option<&str>) {
            let bytes = inode.to_le_bytes();
            let folder = Handle { kind: 1, bytes: b"shm" };
            let event = FileEvent {
                mask,
                pid,
                mark: Some(0),
                place: Some(Place { folder, name: name.as_bytes() }),
                new_place: new_name.map(|name| Place { folder, name: name.as_bytes() }),
                target: Some(Handle { kind: 1, bytes: &bytes }),
            };
            assert!(self.makers.apply(&event, &self.mark, WINDOW, &judge));
        }

        fn of(&self, inode: u32) -> Option<Strength> {
            let handle = FileHandle::new(1, &inode.to_le_bytes());
            let identity = Identity::File { device: 9, inode: 1, handle, born: Some(Time(1_001_000)) };
            self.makers.of(&identity).map(|made| made.strength)
        }

        fn names(&self) -> Vec<String> {
            let names = self.makers.live().map(|(_, c)| String::from_utf8_lossy(&c.name).into_owned());
            let mut names: Vec<String> = names.collect();
            names.sort();
            names
        }
    }

    #[test]
    fn a_stranger_s_inode_of_this_window_stays_a_stranger_s() {
        let mut trial = Trial::new();
        trial.event(CREATE, 8, "a", 1, None);
        trial.makers.end_read();
        trial.makers.end_window(WINDOW.end);
        trial.event(CREATE, 7, "b", 1, None);
        assert_eq!(trial.of(1), None);
        // Long after, only its birth tells: outside of the window.
        for n in 1..=3 {
            trial.makers.end_window(Time(WINDOW.end.0 + n * STRANGERS_KEPT_US));
        }
        assert!(trial.makers.strangers.iter().all(|(_, set)| set.is_empty()), "forgotten in time");
    }

    #[test]
    fn exchanged_and_overwritten_names_lead_to_the_right_inodes() {
        let mut trial = Trial::new();
        for (name, inode) in [("a", 1), ("b", 2), ("c", 3)] {
            trial.event(CREATE, 7, name, inode, None);
        }
        // An exchange is told as two renames.
        trial.event(RENAME, 7, "a", 1, Some("b"));
        trial.event(RENAME, 7, "b", 2, Some("a"));
        trial.makers.end_read();
        assert_eq!(trial.names(), ["a", "b", "c"]);
        // A stranger moves a file of its own over one of the job's.
        trial.event(RENAME, 8, "x", 50, Some("c"));
        trial.makers.end_read();
        assert_eq!((trial.names(), trial.of(3)), (vec!["a".into(), "b".into()], None));
        let count = trial.makers.count(Group::Segment);
        assert_eq!(count, Some(Count { created: 3, destroyed: 1 }));
        // What kobj deletes is scrubbed, which the job's balance counts elsewhere.
        trial.event(DELETE, std::process::id(), "a", 2, None);
        trial.makers.end_read();
        assert_eq!(trial.makers.count(Group::Segment), count);
        assert_eq!(trial.names(), ["b"]);
    }

    #[test]
    fn a_merged_event_of_a_name_made_and_deleted_keeps_an_inode_with_another_name() {
        let mut trial = Trial::new();
        trial.event(CREATE | DELETE, 7, "sem.tmp", 1, None);
        trial.event(CREATE, 7, "sem.real", 1, None);
        trial.event(CREATE | DELETE, 7, "gone", 2, None);
        trial.makers.end_read();
        assert_eq!(trial.names(), ["sem.real"]);
        assert_eq!(trial.of(1), Some(Strength::Proof));
        assert_eq!(trial.makers.count(Group::Semaphore), Some(Count { created: 1, destroyed: 0 }));
        assert_eq!(trial.makers.count(Group::Segment), Some(Count { created: 1, destroyed: 1 }));
    }

    #[test]
    fn too_many_at_once_are_counted_and_said_and_slots_are_used_again() {
        let mut trial = Trial::new();
        for inode in 0..FOLLOWED_MAX as u32 + 5 {
            trial.event(CREATE, 7, &inode.to_string(), inode, None);
        }
        assert_eq!(trial.makers.not_followed(), 5);
        assert_eq!(trial.makers.count(Group::Segment), None);
        assert_eq!(trial.of(FOLLOWED_MAX as u32), None);
        for inode in 0..FOLLOWED_MAX as u32 {
            trial.event(DELETE, 8, &inode.to_string(), inode, None);
        }
        trial.makers.end_read();
        let mut changes = 0;
        trial.makers.take_changes(|_, creation| {
            assert!(creation.is_none());
            changes += 1;
        });
        assert_eq!(changes, FOLLOWED_MAX);
        trial.event(CREATE, 7, "again", 1, None);
        assert_eq!(trial.makers.creations.len(), FOLLOWED_MAX);
        assert!(trial.makers.by_place.len() == 1 && trial.makers.by_inode.len() == 1);
    }
}

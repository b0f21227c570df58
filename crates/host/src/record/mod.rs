//! The record of a run: what survives kobj's own death.
//!
//! One file per run, named by its era, in a folder that is ours alone. Its words are written through a mapping, without
//! a call each, in an order in which a reader never takes half an entry for a whole one; after SIGKILL the kernel keeps
//! what was written. While kobj lives it holds a lock on the file; a record whose lock is free is a dead run's. Room is
//! reserved before it is touched: without room the run goes on, and says that it cannot be recovered.

mod decode;
mod folder;
mod found;
mod layout;
#[cfg(test)]
mod tests;

pub use decode::{Contents, decode};
pub use folder::RuntimeFolder;
pub use found::{DeadRecord, Found, Records, State, list};

use crate::hands::QuarantineNote;
use crate::makers::{Creation, Group};
use crate::watch::Watches;
use kobj_abi::{Era, Koid, Strength};
use kobj_platform::mapped::Mapped;
use layout::{Text, word};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FlockOperation};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// What a record says from the start.
#[derive(Clone, Debug, Default)]
pub struct Beginning<'a> {
    /// The job around this one.
    pub parent: Option<Koid>,
    /// The job's name; empty if none is given. Cut to 128 bytes.
    pub name: &'a [u8],
    /// The cookie in its processes' environment, `NAME=VALUE`, with this job's koid already in it or to be set later by
    /// [`Record::set_cookie`].
    pub cookie: &'a [u8],
    /// The command and its arguments. Cut to 2 KiB.
    pub command_line: &'a [Vec<u8>],
    /// Two words of the command's own.
    pub settings: [u64; 2],
    /// Device and inode of what the command inherits. Cut to 16.
    pub inherited: &'a [(u64, u64)],
    /// What the command was told, in a form of the caller's own. Longer than 12,280 bytes it is left out.
    pub told: &'a [u8],
}

/// The record of the run in progress. Dropped without [`Record::remove`], the file stays and tells of a dead run.
pub struct Record {
    folder: RuntimeFolder,
    era: Era,
    koid: Koid,
    mapped: Mapped,
    slots: usize,
    commands: HashMap<Arc<[u8]>, u64>,
    notes: Vec<Option<PathBuf>>,
    ipc_namespace: Option<u64>,
    unrecoverable: Option<String>,
}

impl Record {
    /// Claims an era and writes the record's beginning.
    ///
    /// # Errors
    /// A sentence; nothing is left behind. The run may go on without a record, "not recoverable".
    pub fn create(folder: RuntimeFolder, beginning: &Beginning<'_>) -> Result<Self, String> {
        let locked = folder.lock(FlockOperation::NonBlockingLockExclusive)?;
        let (era, file) = locked.claim()?;
        let begun = Self::begin(era, file, beginning);
        drop(locked);
        match begun {
            Ok((koid, mapped)) => Ok(Self {
                folder,
                era,
                koid,
                mapped,
                slots: 0,
                commands: HashMap::new(),
                notes: vec![None; layout::NOTES],
                ipc_namespace: None,
                unrecoverable: None,
            }),
            Err(error) => {
                let _ = rustix::fs::unlinkat(&folder, era.0.to_string().as_str(), AtFlags::empty());
                Err(format!("{}/{}: {error}", folder.path().display(), era.0))
            }
        }
    }

    fn begin(era: Era, file: OwnedFd, beginning: &Beginning<'_>) -> Result<(Koid, Mapped), String> {
        let say = |error: Errno| std::io::Error::from(error).to_string();
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(say)?;
        let koid = Koid::new(era, 1).ok_or("no koid")?;
        let mut mapped = Mapped::new(file, layout::END).map_err(|error| format!("cannot be mapped: {error}"))?;
        mapped.reserve(0, layout::COMMANDS_AT).map_err(|error| format!("no room can be reserved: {error}"))?;
        let header = Header(mapped.words(0, layout::PAGE / 8).ok_or("no header")?);
        let now = now();
        let boot = boot_id()?;
        let keeper = std::process::id();
        for (place, value) in [
            (word::MAGIC, layout::MAGIC),
            (word::VERSION, layout::VERSION),
            (word::LAYOUT, layout::checksum()),
            (word::KOID, koid.raw()),
            (word::PARENT, beginning.parent.map_or(0, Koid::raw)),
            (word::KEEPER_PID, u64::from(keeper)),
            (word::KEEPER_STARTED, start_of(keeper).unwrap_or(0)),
            (word::BOOT, boot[0]),
            (word::BOOT + 1, boot[1]),
            (word::PID_NAMESPACE, pid_namespace().unwrap_or(0)),
            (word::USER, u64::from(rustix::process::geteuid().as_raw())),
            (word::SETTINGS, beginning.settings[0]),
            (word::SETTINGS + 1, beginning.settings[1]),
            (word::STARTED, now),
            (word::LAST_EVENT, now),
        ] {
            header.set(place, value);
        }
        header.text(layout::NAME, beginning.name);
        header.text(layout::COOKIE, beginning.cookie);
        header.text(layout::COMMAND_LINE, &beginning.command_line.join(&0));
        let inherited = beginning.inherited.iter().take(layout::INHERITED_MAX);
        header.set(layout::INHERITED, inherited.len() as u64);
        for (index, (device, inode)) in inherited.enumerate() {
            header.set(layout::INHERITED + 1 + index * 2, *device);
            header.set(layout::INHERITED + 2 + index * 2, *inode);
        }
        if beginning.told.len() <= layout::TOLD.bytes && !beginning.told.is_empty() {
            let words = mapped.words(layout::TOLD_AT, (layout::COMMANDS_AT - layout::TOLD_AT) / 8);
            Header(words.ok_or("no room for what the command was told")?).text(layout::TOLD, beginning.told);
        }
        header.set(word::VALID, 1);
        Ok((koid, mapped))
    }

    /// The job's id: the first of its era.
    #[must_use]
    pub fn koid(&self) -> Koid {
        self.koid
    }

    /// The era that this run claimed; its koids are counted from 2.
    #[must_use]
    pub fn era(&self) -> Era {
        self.era
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join(self.era.0.to_string())
    }

    /// Why not all can be recovered, once that is so.
    #[must_use]
    pub fn unrecoverable(&self) -> Option<&str> {
        self.unrecoverable.as_deref()
    }

    /// Says where the job is contained. An empty or too long path (1 KiB) says nothing.
    pub fn set_group(&mut self, group: &Path) {
        let path = group.as_os_str().as_bytes();
        if path.len() <= layout::GROUP.bytes {
            self.header().text(layout::GROUP, path);
        }
    }

    /// Says the cookie, `NAME=VALUE`. A longer one than 256 bytes says nothing.
    pub fn set_cookie(&mut self, cookie: &[u8]) {
        if cookie.len() <= layout::COOKIE.bytes {
            self.header().text(layout::COOKIE, cookie);
        }
    }

    /// Says which process the command is.
    pub fn set_command(&mut self, pid: u32) {
        let header = self.header();
        header.set(word::COMMAND_STARTED, start_of(pid).unwrap_or(0));
        header.set(word::COMMAND_PID, u64::from(pid));
    }

    /// Says that the command has ended.
    pub fn set_ended(&mut self) {
        self.header().set(word::ENDED, now());
    }

    /// Writes down all that the watches found out since the last call. After each [`Watches::drain`].
    pub fn publish(&mut self, watches: &mut Watches) {
        // A number is the job's alone only if the other set does not have it: that set goes first.
        let (ours, foreign) = watches.family_mut().sets();
        foreign.take_changes(|place, bits| self.store(layout::FOREIGN_AT + place * 8, bits));
        ours.take_changes(|place, bits| self.store(layout::OURS_AT + place * 8, bits));
        watches.makers_mut().take_changes(|slot, creation| self.publish_creation(slot, creation));
        let lost = !watches.lost().is_empty() || self.unrecoverable.is_some();
        let layers = watches.layers().iter().fold(0, |bits, layer| bits | 1 << (*layer as u8));
        let header = self.header();
        header.set(word::LOST, u64::from(lost));
        header.set(word::LAYERS, layers);
        header.set(word::NOT_FOLLOWED, watches.makers().not_followed());
        if let Some((started, over)) = watches.process_counts() {
            header.set(word::PROCESSES, started);
            header.set(word::PROCESSES + 1, over);
        }
        for group in [Group::Segment, Group::Semaphore, Group::Folder, Group::Other] {
            let count = watches.count(group).unwrap_or_default();
            header.set(word::COUNTS + group as usize * 2, count.created);
            header.set(word::COUNTS + group as usize * 2 + 1, count.destroyed);
        }
        header.set(word::LAST_EVENT, u64::try_from(watches.read_until().0).unwrap_or(0));
    }

    /// Writes down, before it happens, that a private folder is about to hold files, or no longer will; that a segment is
    /// about to be closed to everybody, or is open again.
    pub fn note(&mut self, note: QuarantineNote) {
        match note {
            QuarantineNote::Opened(path) => {
                let free = self.notes.iter().position(Option::is_none);
                let bytes = path.as_os_str().as_bytes();
                let Some(index) = free.filter(|_| bytes.len() <= layout::PAGE - 8) else {
                    return self.give_up("more private folders than the record has room for");
                };
                self.note_page(index).text(Text { word: 0, bytes: layout::PAGE - 8 }, bytes);
                self.notes[index] = Some(path);
            }
            QuarantineNote::Closed(path) => {
                if let Some(index) = self.notes.iter().position(|noted| noted.as_ref() == Some(&path)) {
                    self.note_page(index).set(0, 0);
                    self.notes[index] = None;
                }
            }
            QuarantineNote::SegmentClosed(segment) => {
                let namespace = *self.ipc_namespace.get_or_insert_with(|| ipc_namespace().unwrap_or(0));
                let header = self.header();
                header.set(word::SEGMENT, 0);
                header.set(word::SEGMENT + 1, u64::from(segment.key as u32) | u64::from(segment.creator_uid) << 32);
                header.set(word::SEGMENT + 2, namespace);
                let first = layout::SEGMENT_CLOSED | u64::from(segment.mode) << 32 | u64::from(segment.id as u32);
                header.set(word::SEGMENT, first);
            }
            QuarantineNote::SegmentOpen => self.header().set(word::SEGMENT, 0),
        }
    }

    /// Removes the record: the run has ended, and nothing is left to do.
    ///
    /// Returns the file, which has no name any more. Closing it frees its blocks, which takes a disk its time: whoever is
    /// in a hurry closes it late (see [`kobj_platform::late_close`]).
    ///
    /// # Errors
    /// A sentence: it could not be removed.
    pub fn remove(self) -> Result<OwnedFd, String> {
        let say = |error: Errno| format!("{}: {}", self.path().display(), std::io::Error::from(error));
        rustix::fs::unlinkat(&self.folder, self.era.0.to_string().as_str(), AtFlags::empty()).map_err(say)?;
        rustix::io::fcntl_dupfd_cloexec(self.mapped.file(), 0).map_err(say)
    }

    /// Leaves the record behind: the run has ended and is reported, but its control group could not be removed. Whoever
    /// lists records later removes both when the group is empty.
    ///
    /// # Errors
    /// A sentence: it stays as one of a dead run.
    pub fn settle(self) -> Result<(), String> {
        let say = |error: Errno| format!("{}: {}", self.path().display(), std::io::Error::from(error));
        self.header().set(word::SETTLED, 1);
        // What was made is reported: only the beginning is of use. Nothing beyond it is touched any more.
        rustix::fs::ftruncate(self.mapped.file(), layout::COMMANDS_AT as u64).map_err(say)?;
        rustix::fs::flock(self.mapped.file(), FlockOperation::Unlock).map_err(say)
    }

    fn header(&self) -> Header<'_> {
        Header(self.mapped.words(0, layout::PAGE / 8).unwrap_or(&[]))
    }

    fn note_page(&self, index: usize) -> Header<'_> {
        Header(self.mapped.words(layout::NOTES_AT + index * layout::PAGE, layout::PAGE / 8).unwrap_or(&[]))
    }

    /// Stores one word, reserving its room first.
    fn store(&mut self, offset: usize, value: u64) {
        if let Err(error) = self.mapped.reserve(offset, 8) {
            return self.give_up(&error.to_string());
        }
        if let Some([place]) = self.mapped.words(offset, 1) {
            place.store(value.to_le(), Ordering::Release);
        }
    }

    fn publish_creation(&mut self, slot: u32, creation: Option<&Creation>) {
        let index = slot as usize;
        let at = layout::SLOTS_AT + index * layout::SLOT_BYTES;
        if index >= layout::SLOTS || creation.is_none() && index >= self.slots {
            return;
        }
        if let Err(error) = self.mapped.reserve(at, layout::SLOT_BYTES) {
            return self.give_up(&error.to_string());
        }
        if index >= self.slots {
            self.slots = index + 1;
            self.header().set(word::SLOTS, self.slots as u64);
        }
        let command = creation.map_or(0, |creation| self.command(&creation.made.command));
        let Some(words) = self.mapped.words(at, layout::SLOT_BYTES / 8) else { return };
        match creation {
            None => words[0].store(layout::FREE, Ordering::Release),
            Some(creation) => {
                if !fill(words, creation, command) {
                    self.give_up("a file handle that does not fit");
                }
            }
        }
    }

    /// The entry of a command's name; 0 (nameless) once there are too many.
    fn command(&mut self, name: &Arc<[u8]>) -> u64 {
        if let Some(known) = self.commands.get(name) {
            return *known;
        }
        let index = self.commands.len() + 1;
        let at = layout::COMMANDS_AT + index * layout::COMMAND_BYTES;
        if name.is_empty() || index >= layout::COMMANDS || self.mapped.reserve(at, layout::COMMAND_BYTES).is_err() {
            return 0;
        }
        let entry = Header(self.mapped.words(at, layout::COMMAND_BYTES / 8).unwrap_or(&[]));
        entry.text(Text { word: 0, bytes: layout::COMMAND_BYTES - 8 }, name);
        self.commands.insert(Arc::clone(name), index as u64);
        index as u64
    }

    fn give_up(&mut self, why: &str) {
        self.header().set(word::LOST, 1);
        if self.unrecoverable.is_none() {
            self.unrecoverable = Some(format!("{}: {why}", self.path().display()));
        }
    }
}

/// Writes a creation into its slot: emptied first, the state last. False if it does not fit; the slot is empty then.
fn fill(words: &[AtomicU64], creation: &Creation, command: u64) -> bool {
    let [state, device, handle @ .., start, last] = words else { return false };
    state.store(layout::FREE, Ordering::Relaxed);
    // What follows is not to be seen with the old state.
    fence(Ordering::Release);
    let made = &creation.made;
    let bytes = creation.handle.bytes();
    let (Ok(kind), Ok(begin)) = (u16::try_from(creation.handle.kind), u64::try_from(made.window_start.0)) else {
        return false;
    };
    let put = |place: &AtomicU64, value: u64| place.store(value.to_le(), Ordering::Relaxed);
    put(device, creation.device);
    for (place, chunk) in handle.iter().zip(bytes.chunks(8)) {
        put(place, word_of(chunk));
    }
    put(start, begin);
    let duration = (made.window_end.0 - made.window_start.0).clamp(0, i64::from(u32::MAX)) as u64;
    put(last, duration | command << 32 | u64::from(made.layer as u8) << 48);
    let strength = if made.strength == Strength::Proof { layout::PROOF } else { layout::HINT };
    let first = strength | (bytes.len() as u64) << 8 | u64::from(kind) << 16 | u64::from(made.pid) << 32;
    state.store(first.to_le(), Ordering::Release);
    true
}

/// Up to 8 bytes as they stand in a little-endian word.
fn word_of(chunk: &[u8]) -> u64 {
    let mut eight = [0; 8];
    eight.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
    u64::from_le_bytes(eight)
}

/// Words that are written one by one or as a text with its length.
struct Header<'a>(&'a [AtomicU64]);

impl Header<'_> {
    /// Stores a word; all stored before it is seen before it.
    fn set(&self, place: usize, value: u64) {
        if let Some(word) = self.0.get(place) {
            word.store(value.to_le(), Ordering::Release);
        }
    }

    /// Stores a text, cut to its place: emptied first, the length last.
    fn text(&self, text: Text, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(text.bytes)];
        self.set(text.word, 0);
        fence(Ordering::Release);
        for (place, chunk) in (text.word + 1..).zip(bytes.chunks(8)) {
            self.set(place, word_of(chunk));
        }
        self.set(text.word, bytes.len() as u64);
    }
}

/// Wall time in microseconds, as stored.
fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    u64::try_from(time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1000)).unwrap_or(0)
}

/// This boot's id.
///
/// # Errors
/// A sentence: it cannot be read.
pub fn boot_id() -> Result<[u64; 2], String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = crate::proc::read(Path::new(path), crate::proc::SMALL).map_err(|error| format!("{path}: {error}"))?;
    let digits: Vec<u8> = text.into_iter().filter(u8::is_ascii_hexdigit).collect();
    let half = |range| digits.get(range).and_then(crate::proc::hexadecimal);
    match (digits.len(), half(0..16), half(16..32)) {
        (32, Some(first), Some(second)) => Ok([first, second]),
        _ => Err(format!("{path}: is no id")),
    }
}

/// The inode of our PID namespace, in which process ids have their meaning.
#[must_use]
pub fn pid_namespace() -> Option<u64> {
    rustix::fs::stat("/proc/self/ns/pid").ok().map(|found| found.st_ino)
}

/// The inode of our IPC namespace, in which ids of System V objects have their meaning.
#[must_use]
pub fn ipc_namespace() -> Option<u64> {
    rustix::fs::stat("/proc/self/ns/ipc").ok().map(|found| found.st_ino)
}

/// The start time of a process, in clock ticks since boot.
fn start_of(pid: u32) -> Option<u64> {
    crate::proc::Proc::open(Path::new("/proc")).ok()?.life(pid).ok()?.stat().map(|stat| stat.started)
}

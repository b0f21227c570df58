//! Inotify with an immediate look at who holds what has just appeared: for users who may not read file events.
//!
//! Inotify says what happened to a name, never who did it, and equal events in a row are merged into one. So a look
//! proves the maker only if, by the queue read again after the look, the file was made, opened once and not closed, and
//! exactly one process of all that could have it holds it, and that one is the job's. Otherwise it gives a hint.

use super::{coarse_time, key_of_open, now, open_folder, say_once};
use crate::makers::{FolderKey, Made, Makers};
use crate::proc::{self, Life, Proc, numbered_entries};
use crate::view::View;
use kobj_abi::{Layer, Strength};
use kobj_core::image::{FileHandle, Time};
use kobj_platform::file_handle::handle_at;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{AtFlags, Statx, StatxFlags, statx};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::CString;
use std::mem::MaybeUninit;

/// The most new names that one look takes care of; more at once are not looked at.
const NAMES_IN_ONE_LOOK: usize = 256;
/// How many looks one drain takes, each at what appeared during the one before.
const LOOKS_IN_ONE_DRAIN: usize = 8;
/// The most events that one reading takes.
const EVENTS_IN_ONE_READING: usize = 16_384;
/// The longest memory map that is searched, in bytes.
const MAPS_BYTES: usize = 4 << 20;

struct Folder {
    opened: OwnedFd,
    key: FolderKey,
}

/// What was read about one name since it was made.
#[derive(Clone, Copy, Default)]
struct Story {
    made: u32,
    opened: u32,
    closed: u32,
    gone: bool,
}

type Key = (i32, CString);
type Stories = BTreeMap<Key, Story>;

/// A new file, looked at.
struct Seen {
    folder: FolderKey,
    name: CString,
    handle: FileHandle,
    inode: (u64, u64),
    uid: u32,
    links: u32,
    /// Processes with a descriptor of it.
    holders: HashSet<u32>,
    /// A member that has it mapped.
    mapped_by: Option<u32>,
}

/// The watch on volatile folders.
pub(super) struct Look {
    group: OwnedFd,
    folders: HashMap<i32, Folder>,
    proc: Proc,
    uid: u32,
    window_start: Time,
}

impl Look {
    /// Watches the segment folders and the top of the temporary ones. `None`, and why in `absent`, if it cannot.
    pub(super) fn open(view: &View, absent: &mut Vec<String>) -> Option<Self> {
        let mut say = |what: &str, error: std::io::Error| absent.push(format!("inotify: {what}: {error}"));
        let group = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let group = group.map_err(|error| say("no watch", error.into())).ok()?;
        let proc = Proc::open(&view.proc).map_err(|error| say("no procfs to look at", error)).ok()?;
        let mut folders = HashMap::new();
        for path in view.segment_folders.iter().chain(&view.temporary_folders) {
            let events = WatchFlags::CREATE | WatchFlags::OPEN | WatchFlags::CLOSE | WatchFlags::DELETE;
            let flags = events | WatchFlags::MOVE | WatchFlags::ONLYDIR;
            let opened = match open_folder(path) {
                Ok(opened) => opened,
                Err(error) => {
                    say(&path.display().to_string(), error);
                    continue;
                }
            };
            match (inotify::add_watch(&group, path, flags), key_of_open(opened.as_fd())) {
                (Ok(watch), Some(key)) => drop(folders.insert(watch, Folder { opened, key })),
                (Err(error), _) => say(&path.display().to_string(), error.into()),
                (_, None) => say(&path.display().to_string(), std::io::ErrorKind::Unsupported.into()),
            }
        }
        let window_start = coarse_time();
        (!folders.is_empty()).then_some(Self { group, folders, proc, uid: view.uid, window_start })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.group
    }

    /// Reads, looks, reads again, judges. Returns whether anything was there.
    pub(super) fn drain(
        &mut self,
        makers: &mut Makers,
        members: &mut dyn FnMut() -> Vec<u32>,
        lost: &mut Vec<String>,
    ) -> bool {
        let start = self.window_start;
        let before = coarse_time();
        let mut stories = Stories::new();
        if self.read(&mut stories, makers, lost) {
            self.window_start = before;
        }
        let found = !stories.is_empty();
        for _ in 0..LOOKS_IN_ONE_DRAIN {
            if stories.values().all(|story| story.made == 0 || story.gone) {
                break;
            }
            stories = self.look_once(&stories, start, makers, members, lost);
        }
        found
    }

    /// One look at the new names of `stories`. Returns the stories of names that appeared meanwhile.
    fn look_once(
        &mut self,
        stories: &Stories,
        start: Time,
        makers: &mut Makers,
        members: &mut dyn FnMut() -> Vec<u32>,
        lost: &mut Vec<String>,
    ) -> Stories {
        let fresh = stories.iter().filter(|(_, story)| story.made > 0 && !story.gone).take(NAMES_IN_ONE_LOOK);
        let mut seen: Vec<(Key, Seen)> =
            fresh.filter_map(|(key, _)| Some((key.clone(), self.see(key.0, &key.1)?))).collect();
        if seen.is_empty() {
            return Stories::new();
        }
        let members: HashSet<u32> = members().into_iter().collect();
        self.look_at_members(&members, &mut seen);
        let worth_it = seen.iter().any(|(_, file)| file.holders.len() == 1);
        let whole_look = !worth_it || self.look_at_others(&members, &mut seen);
        // What happened during the look changes the stories.
        let before = coarse_time();
        let mut later = Stories::new();
        let whole = self.read(&mut later, makers, lost);
        if whole {
            self.window_start = before;
        }
        let window = (start, now());
        for (key, file) in seen {
            let story = merged(stories.get(&key), later.get(&key));
            self.judge(&file, story, whole && whole_look, &members, window, makers);
        }
        later.retain(|key, _| !stories.contains_key(key));
        later
    }

    fn judge(
        &self,
        file: &Seen,
        story: Story,
        whole: bool,
        members: &HashSet<u32>,
        window: (Time, Time),
        makers: &mut Makers,
    ) {
        let Some(holder) = file.holders.iter().copied().find(|pid| members.contains(pid)).or(file.mapped_by) else {
            return;
        };
        if story.gone {
            return;
        }
        let once = story.made == 1 && story.opened == 1 && story.closed == 0;
        let alone = file.holders.len() == 1 && members.contains(&holder) && file.links == 1;
        let proved = whole && once && alone && file.uid == self.uid;
        let command = self.proc.life(holder).map(|life| life.command()).unwrap_or_default();
        let made = Made {
            pid: holder,
            command: command.into(),
            window_start: window.0,
            window_end: window.1,
            strength: if proved { Strength::Proof } else { Strength::Hint },
            layer: Layer::Inotify,
        };
        makers.found(file.folder.0, file.handle, file.folder.1, file.name.as_bytes(), made);
    }

    /// Reads the queue until it is empty. False if it did not become so.
    fn read(&self, stories: &mut Stories, makers: &mut Makers, lost: &mut Vec<String>) -> bool {
        let mut space = [MaybeUninit::<u8>::uninit(); 64 << 10];
        let mut reader = inotify::Reader::new(&self.group, &mut space);
        let mut whole = true;
        for _ in 0..EVENTS_IN_ONE_READING {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return whole,
                Err(Errno::INTR) => continue,
                Err(error) => {
                    say_once(lost, &format!("inotify: {}", std::io::Error::from(error)));
                    return false;
                }
            };
            let events = event.events();
            if events.contains(ReadFlags::QUEUE_OVERFLOW) {
                say_once(lost, "inotify: the kernel had no room for some events");
                whole = false;
            }
            let (Some(name), Some(folder)) = (event.file_name(), self.folders.get(&event.wd())) else { continue };
            if events.contains(ReadFlags::ISDIR) {
                continue;
            }
            let left = events.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO);
            if left {
                makers.gone(folder.key.0, &folder.key.1, name.to_bytes());
            }
            let story = stories.entry((event.wd(), name.to_owned())).or_default();
            if events.contains(ReadFlags::CREATE) {
                // A name made anew begins a new story, which says that it is not the first.
                *story = Story { made: story.made + 1, ..Story::default() };
            }
            story.opened += u32::from(events.contains(ReadFlags::OPEN));
            story.closed += u32::from(events.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::CLOSE_NOWRITE));
            story.gone |= left;
        }
        false
    }

    fn see(&self, watch: i32, name: &CString) -> Option<Seen> {
        let folder = self.folders.get(&watch)?;
        let found = statx(&folder.opened, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS).ok()?;
        let handle = handle_at(folder.opened.as_fd(), name).ok()?;
        Some(Seen {
            folder: folder.key,
            name: name.clone(),
            handle: FileHandle::new(handle.kind, handle.bytes())?,
            inode: inode_of(&found),
            uid: found.stx_uid,
            links: found.stx_nlink,
            holders: HashSet::new(),
            mapped_by: None,
        })
    }

    fn look_at_members(&self, members: &HashSet<u32>, seen: &mut [(Key, Seen)]) {
        for pid in members {
            let Ok(life) = self.proc.life(*pid) else { continue };
            look_at_descriptors(&life, seen);
            for (_, file) in seen.iter_mut().filter(|(_, file)| file.holders.is_empty() && file.mapped_by.is_none()) {
                let maps = life.read("maps", MAPS_BYTES).unwrap_or_default();
                let has = proc::maps::parse(&maps).any(|map| map.inode == file.inode.1);
                file.mapped_by = has.then_some(*pid);
            }
        }
    }

    /// Looks at everyone else who could have the file. False if somebody of our user could not be looked at.
    ///
    /// The maker of a file has its owner's user id, so processes of other users need no look.
    fn look_at_others(&self, members: &HashSet<u32>, seen: &mut [(Key, Seen)]) -> bool {
        let Ok(pids) = self.proc.pids() else { return false };
        let mut whole = true;
        for pid in pids.into_iter().filter(|pid| !members.contains(pid)) {
            let Ok(life) = self.proc.life(pid) else { continue };
            if look_at_descriptors(&life, seen) {
                continue;
            }
            let status = life.read("status", proc::SMALL).map(|text| proc::status::parse(&text));
            // Gone in the meantime, or not ours: no matter. One of ours that hides: it may be the maker.
            whole &= status.map_or(true, |status| !has_user(&status, self.uid));
        }
        whole
    }
}

fn merged(first: Option<&Story>, second: Option<&Story>) -> Story {
    let (a, b) = (first.copied().unwrap_or_default(), second.copied().unwrap_or_default());
    Story { made: a.made + b.made, opened: a.opened + b.opened, closed: a.closed + b.closed, gone: a.gone || b.gone }
}

fn inode_of(found: &Statx) -> (u64, u64) {
    (proc::device_of(found), found.stx_ino)
}

/// Enters the process as holder of each file it has open. False if its descriptors cannot be listed.
fn look_at_descriptors(life: &Life, seen: &mut [(Key, Seen)]) -> bool {
    let Ok(descriptors) = life.subfolder("fd") else { return false };
    let listed = numbered_entries(&descriptors, |number| {
        let Ok(found) = proc::look(&descriptors, number.to_string().as_str()) else { return };
        for (_, file) in seen.iter_mut().filter(|(_, file)| file.inode == inode_of(&found)) {
            file.holders.insert(life.pid);
        }
    });
    listed.is_ok()
}

fn has_user(status: &proc::status::Status, uid: u32) -> bool {
    [status.uid, status.real_uid].iter().any(|user| user.is_none_or(|user| user == uid))
}

//! Inotify with an immediate look at who holds what has just appeared: for users who may not read file events.
//!
//! Inotify says what happened to a name, never who did it, and equal events in a row are merged into one. So a look
//! proves the maker only if, by the queue read again after the look, the file was made, opened once and not closed, and
//! exactly one process of all that could have it holds it, by a descriptor or a mapping, and that one is the job's.
//! Otherwise it gives a hint: also where a process cannot be looked at that could have the file. That is any of the
//! file's owner, who alone can be its maker, and any other that its mode lets in; but for root, who may open everything and
//! whom no user may look at.
//!
//! The first look is immediate and at the job's processes alone, which is cheap. The second, at everyone, follows a moment
//! later, for files that are still as they were made: most files of a busy job are gone by then.

use super::{coarse_time, key_of_open, now, open_folder, say_once};
use crate::makers::{FolderKey, Made, Makers};
use crate::proc::{self, Life, Proc, numbered_entries};
use crate::view::View;
use kobj_abi::{Layer, Strength};
use kobj_core::image::{FileHandle, Time};
use kobj_platform::file_handle::handle_at;
use kobj_platform::late_close::patiently;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{AtFlags, Statx, StatxFlags, statx};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::CString;
use std::mem::MaybeUninit;
use std::path::PathBuf;

/// The most new names that one look takes care of; more at once are not looked at.
const NAMES_IN_ONE_LOOK: usize = 256;
/// The most of those that were closed already.
const CLOSED_IN_ONE_LOOK: usize = 16;
/// The most events that one reading takes.
const EVENTS_IN_ONE_READING: usize = 16_384;
/// The longest memory map that is searched, in bytes.
const MAPS_BYTES: usize = 4 << 20;

struct Folder {
    path: PathBuf,
    opened: OwnedFd,
    key: FolderKey,
}

fn listening() -> WatchFlags {
    let events = WatchFlags::CREATE | WatchFlags::OPEN | WatchFlags::CLOSE | WatchFlags::DELETE;
    events | WatchFlags::MOVE | WatchFlags::ONLYDIR
}

/// What one drain found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Looked {
    /// Whether there was anything.
    pub(super) found: bool,
    /// How many names were new.
    pub(super) made: usize,
    /// How many of those were still there, and not closed.
    pub(super) open: usize,
    /// Whether some await their first or second look.
    pub(super) pending: bool,
}

/// What was read about one name since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Story {
    made: u32,
    opened: u32,
    closed: u32,
    gone: bool,
}

type Key = (i32, CString);
type Stories = BTreeMap<Key, Story>;

impl Story {
    /// Made, opened once, and still as it was: all that its maker alone leaves behind.
    fn is_once(self) -> bool {
        self.made == 1 && self.opened == 1 && self.closed == 0 && !self.gone
    }
}

/// A new file, looked at.
struct Seen {
    key: Key,
    story: Story,
    /// The queue was last empty then, before it was made.
    window_start: Time,
    folder: FolderKey,
    handle: FileHandle,
    inode: (u64, u64),
    uid: u32,
    links: u32,
    /// Type and permissions.
    mode: u32,
    /// Somebody could have it who cannot be looked at.
    is_hidden: bool,
    /// Processes with a descriptor of it.
    holders: HashSet<u32>,
    /// Processes with a mapping of a file of that number, on whatever file system.
    mappers: HashSet<u32>,
}

impl Seen {
    /// Whether what was read and seen leaves one maker only: a member that has held it since, alone.
    fn is_proved(&self, members: &HashSet<u32>) -> bool {
        let alone = self.holders.len() == 1 && self.holders.is_subset(members) && self.mappers.is_subset(&self.holders);
        alone && !self.is_hidden && self.links == 1 && self.story.is_once()
    }

    fn is_unheld(&self) -> bool {
        self.holders.is_empty() && self.mappers.is_empty()
    }

    /// Whether a process of these users could have it open.
    fn lets_in(&self, users: &[Option<u32>]) -> bool {
        let is_root = users.iter().all(|user| *user == Some(0));
        users.iter().any(|user| user.is_none_or(|user| user == self.uid)) || !is_root && self.mode & 0o077 != 0
    }
}

/// The watch on volatile folders.
pub(super) struct Look {
    group: OwnedFd,
    folders: HashMap<i32, Folder>,
    proc: Proc,
    uid: u32,
    window_start: Time,
    /// Seen once, and held by one member: looked at again when they have stayed for a moment.
    pending: Vec<Seen>,
    /// Stories of names that were made during a look: they have their own in the next drain.
    carried: Stories,
}

impl Look {
    /// Watches the segment folders and the top of the temporary ones. `None`, and why in `absent`, if it cannot.
    pub(super) fn open(view: &View, absent: &mut Vec<String>) -> Option<Self> {
        let mut say = |what: &str, error: std::io::Error| absent.push(format!("inotify: {what}: {error}"));
        let group = patiently(|| Ok(inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?));
        let group = group.map_err(|error| say("no watch", error)).ok()?;
        let proc = Proc::open(&view.proc).map_err(|error| say("no procfs to look at", error)).ok()?;
        let mut folders = HashMap::new();
        for path in view.segment_folders.iter().chain(&view.temporary_folders) {
            let opened = match open_folder(path) {
                Ok(opened) => opened,
                Err(error) => {
                    say(&path.display().to_string(), error);
                    continue;
                }
            };
            match (inotify::add_watch(&group, path, listening()), key_of_open(opened.as_fd())) {
                (Ok(watch), Some(key)) => drop(folders.insert(watch, Folder { path: path.clone(), opened, key })),
                (Err(error), _) => say(&path.display().to_string(), error.into()),
                (_, None) => say(&path.display().to_string(), std::io::ErrorKind::Unsupported.into()),
            }
        }
        let window_start = coarse_time();
        let (pending, carried) = (Vec::new(), Stories::new());
        (!folders.is_empty()).then_some(Self { group, folders, proc, uid: view.uid, window_start, pending, carried })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.group
    }

    /// Hears file events, or only the end of a watched folder: in a storm hearing costs the job too much.
    ///
    /// What is made while nobody listens is not attributed, and nothing wrong is said of it: a story begins with its
    /// making, and ends with the drain it was read in.
    pub(super) fn listen(&mut self, listens: bool) {
        let flags = if listens { listening() } else { WatchFlags::DELETE_SELF | WatchFlags::ONLYDIR };
        for (watch, folder) in &self.folders {
            // The same folder keeps its watch; another one at its path gets a watch of its own, which says nothing here.
            if let Ok(other) = inotify::add_watch(&self.group, &folder.path, flags)
                && other != *watch
            {
                let _ = inotify::remove_watch(&self.group, other);
            }
        }
        // What nobody heard of since cannot be told of them.
        self.pending.clear();
        self.carried.clear();
        self.window_start = coarse_time();
    }

    /// Reads, looks, reads again, judges.
    pub(super) fn drain(
        &mut self,
        makers: &mut Makers,
        members: &mut dyn FnMut() -> Vec<u32>,
        lost: &mut Vec<String>,
    ) -> Looked {
        let start = self.window_start;
        let before = coarse_time();
        let mut stories = std::mem::take(&mut self.carried);
        if self.read(&mut stories, makers, lost) {
            self.window_start = before;
        }
        let is_new = |story: &&Story| story.made > 0;
        let is_open = |story: &&Story| story.made > 0 && !story.gone && story.closed == 0;
        let looked = Looked {
            found: !stories.is_empty(),
            made: stories.values().filter(is_new).count(),
            open: stories.values().filter(is_open).count(),
            pending: false,
        };
        let members: HashSet<u32> =
            if looked.made > 0 || !self.pending.is_empty() { members().into_iter().collect() } else { HashSet::new() };
        self.look_again(&stories, &members, makers, lost);
        self.look_first(stories, start, &members, makers, lost);
        Looked { pending: !self.pending.is_empty() || !self.carried.is_empty(), ..looked }
    }

    /// The first look at new names, at the job's processes alone: who is not seen holding it now may never be.
    fn look_first(
        &mut self,
        stories: Stories,
        start: Time,
        members: &HashSet<u32>,
        makers: &mut Makers,
        lost: &mut Vec<String>,
    ) {
        // Those that are open first: of the others a look can give no more than a hint.
        let open = stories.iter().filter(|(_, story)| story.made > 0 && !story.gone && story.closed == 0);
        let closed = stories.iter().filter(|(_, story)| story.made > 0 && !story.gone && story.closed > 0);
        let fresh = open.take(NAMES_IN_ONE_LOOK).chain(closed.take(CLOSED_IN_ONE_LOOK));
        let mut seen: Vec<Seen> = fresh.filter_map(|(key, story)| self.see(key, *story, start)).collect();
        if seen.is_empty() {
            return;
        }
        self.look_at_members(members, &mut seen, false);
        let later = self.read_later(&mut seen, makers, lost);
        for file in seen {
            if later && file.story.is_once() && file.holders.len() == 1 && self.pending.len() < NAMES_IN_ONE_LOOK {
                self.pending.push(file);
            } else {
                self.judge(&file, false, members, makers);
            }
        }
    }

    /// The second look at names that were made, and are still as then: at everyone who could hold them.
    fn look_again(&mut self, stories: &Stories, members: &HashSet<u32>, makers: &mut Makers, lost: &mut Vec<String>) {
        let mut seen = std::mem::take(&mut self.pending);
        for file in &mut seen {
            file.story = merged(file.story, stories.get(&file.key));
        }
        let (mut seen, other): (Vec<Seen>, Vec<Seen>) = seen.into_iter().partition(|file| file.story.is_once());
        for file in other {
            self.judge(&file, false, members, makers);
        }
        if seen.is_empty() {
            return;
        }
        for file in &mut seen {
            file.holders.clear();
            file.mappers.clear();
            file.is_hidden = false;
        }
        self.look_at_members(members, &mut seen, true);
        let whole = self.look_at_others(members, &mut seen);
        let later = self.read_later(&mut seen, makers, lost);
        for file in seen {
            self.judge(&file, whole && later, members, makers);
        }
    }

    /// Reads what happened during a look into the stories. False if the queue did not become empty.
    fn read_later(&mut self, seen: &mut [Seen], makers: &mut Makers, lost: &mut Vec<String>) -> bool {
        let before = coarse_time();
        let mut later = Stories::new();
        let emptied = self.read(&mut later, makers, lost);
        for file in seen.iter_mut().chain(&mut self.pending) {
            file.story = merged(file.story, later.get(&file.key));
        }
        let known = |key: &Key| seen.iter().chain(&self.pending).any(|file| file.key == *key);
        later.retain(|key, _| !known(key));
        self.carried.append(&mut later);
        if emptied && self.carried.is_empty() {
            self.window_start = before;
        }
        emptied
    }

    fn judge(&self, file: &Seen, whole: bool, members: &HashSet<u32>, makers: &mut Makers) {
        let story = file.story;
        let Some(holder) = file.holders.iter().chain(&file.mappers).copied().find(|pid| members.contains(pid)) else {
            return;
        };
        if story.gone {
            return;
        }
        let proved = whole && file.is_proved(members) && file.uid == self.uid;
        let command = self.proc.life(holder).map(|life| life.command()).unwrap_or_default();
        let made = Made {
            pid: holder,
            command: command.into(),
            window_start: file.window_start,
            window_end: now(),
            strength: if proved { Strength::Proof } else { Strength::Hint },
            layer: Layer::Inotify,
            is_birth: false,
        };
        makers.found(file.folder.0, file.handle, file.folder.1, file.key.1.as_bytes(), made);
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

    fn see(&self, key: &Key, story: Story, window_start: Time) -> Option<Seen> {
        let (watch, name) = key;
        let folder = self.folders.get(watch)?;
        let found = statx(&folder.opened, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS).ok()?;
        let handle = handle_at(folder.opened.as_fd(), name).ok()?;
        Some(Seen {
            folder: folder.key,
            key: key.clone(),
            story,
            window_start,
            handle: FileHandle::new(handle.kind, handle.bytes())?,
            inode: inode_of(&found),
            uid: found.stx_uid,
            links: found.stx_nlink,
            mode: u32::from(found.stx_mode),
            is_hidden: false,
            holders: HashSet::new(),
            mappers: HashSet::new(),
        })
    }

    /// Looks at the job's processes: at all maps, or only at those that may hold what no descriptor does.
    fn look_at_members(&self, members: &HashSet<u32>, seen: &mut [Seen], all_maps: bool) {
        for pid in members {
            let Ok(life) = self.proc.life(*pid) else { continue };
            look_at_descriptors(&life, seen);
            if all_maps || seen.iter().any(Seen::is_unheld) {
                look_at_maps(&life, seen);
            }
        }
    }

    /// Looks at everyone else who could have the files. Marks in `seen` what somebody could have who hides.
    fn look_at_others(&self, members: &HashSet<u32>, seen: &mut [Seen]) -> bool {
        let Ok(pids) = self.proc.pids() else { return false };
        // Where others' processes are not even listed (hidepid), they all hide; our own never do.
        if pids.first() != Some(&1) {
            seen.iter_mut().filter(|file| file.lets_in(&[Some(u32::MAX)])).for_each(|file| file.is_hidden = true);
        }
        for pid in pids.into_iter().filter(|pid| !members.contains(pid)) {
            let Ok(life) = self.proc.life(pid) else { continue };
            if look_at_descriptors(&life, seen) && look_at_maps(&life, seen) {
                continue;
            }
            // Gone in the meantime: what it had was closed, which is an event.
            let Ok(status) = life.read("status", proc::SMALL).map(|text| proc::status::parse(&text)) else { continue };
            if life.stat().is_some_and(|stat| stat.is_dead() && stat.threads <= 1) {
                continue;
            }
            seen.iter_mut().filter(|file| file.lets_in(&status.users)).for_each(|file| file.is_hidden = true);
        }
        true
    }
}

fn merged(a: Story, later: Option<&Story>) -> Story {
    let b = later.copied().unwrap_or_default();
    Story { made: a.made + b.made, opened: a.opened + b.opened, closed: a.closed + b.closed, gone: a.gone || b.gone }
}

fn inode_of(found: &Statx) -> (u64, u64) {
    (proc::device_of(found), found.stx_ino)
}

/// Enters the process as holder of each file it has open. False if its descriptors cannot be listed.
fn look_at_descriptors(life: &Life, seen: &mut [Seen]) -> bool {
    let Ok(descriptors) = life.subfolder("fd") else { return false };
    let mut whole = true;
    let listed = numbered_entries(&descriptors, |number| {
        let found = match proc::look(&descriptors, number.to_string().as_str()) {
            Ok(found) => found,
            // Closed meanwhile, or seen closing: that is an event.
            Err(Errno::NOENT) => return,
            Err(_) => return whole = false,
        };
        for file in seen.iter_mut().filter(|file| file.inode == inode_of(&found)) {
            file.holders.insert(life.pid);
        }
    });
    whole && listed.is_ok()
}

/// Enters the process as mapper of each file of which it may have a mapping. False if its maps cannot be read whole.
fn look_at_maps(life: &Life, seen: &mut [Seen]) -> bool {
    let maps = match life.read("maps", MAPS_BYTES) {
        Ok(maps) => maps,
        // It has no memory: a thread of the kernel's, or dead.
        Err(error) => return error.raw_os_error() == Some(Errno::SRCH.raw_os_error()),
    };
    for map in proc::maps::parse(&maps) {
        // Not by the device, which the kernel prints otherwise on some file systems: one too many makes a hint, no proof.
        for file in seen.iter_mut().filter(|file| file.inode.1 == map.inode) {
            file.mappers.insert(life.pid);
        }
    }
    maps.len() < MAPS_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_that_another_could_have_done_is_no_proof() {
        let once = Story { made: 1, opened: 1, closed: 0, gone: false };
        let handle = FileHandle::new(1, b"12345678").expect("short");
        let seen = |story, holders: &[u32], links| Seen {
            key: (1, c"name".to_owned()),
            story,
            window_start: Time(0),
            folder: (1, handle),
            handle,
            inode: (1, 2),
            uid: 0,
            links,
            mode: 0o100_600,
            is_hidden: false,
            holders: holders.iter().copied().collect(),
            mappers: HashSet::new(),
        };
        let members = HashSet::from([7, 8]);
        assert!(seen(once, &[7], 1).is_proved(&members));
        for story in [
            Story { opened: 0, ..once },
            Story { opened: 2, ..once },
            Story { closed: 1, ..once },
            Story { made: 2, ..once },
            Story { made: 0, ..once },
            Story { gone: true, ..once },
        ] {
            assert!(!seen(story, &[7], 1).is_proved(&members));
            // The same when it is read only after the look.
            let rest = Story { made: 0, ..story };
            let later = merged(once, Some(&rest));
            assert!(!later.is_once() || rest == Story::default(), "{rest:?}");
        }
        for holders in [&[][..], &[7, 8], &[9], &[7, 9]] {
            assert!(!seen(once, holders, 1).is_proved(&members), "{holders:?}");
        }
        assert!(!seen(once, &[7], 2).is_proved(&members), "linked: made under another name");
        let mapped = |mappers: &[u32]| Seen { mappers: mappers.iter().copied().collect(), ..seen(once, &[7], 1) };
        assert!(mapped(&[7]).is_proved(&members));
        for mappers in [&[8][..], &[7, 8], &[9], &[7, 9]] {
            assert!(!mapped(mappers).is_proved(&members), "{mappers:?}");
        }
        assert!(!Seen { is_hidden: true, ..seen(once, &[7], 1) }.is_proved(&members));
    }

    #[test]
    fn who_hides_matters_only_if_the_file_lets_him_in() {
        let handle = FileHandle::new(1, b"12345678").expect("short");
        let file = |mode| Seen {
            key: (1, c"name".to_owned()),
            story: Story::default(),
            window_start: Time(0),
            folder: (1, handle),
            handle,
            inode: (1, 2),
            uid: 1000,
            links: 1,
            mode,
            is_hidden: false,
            holders: HashSet::new(),
            mappers: HashSet::new(),
        };
        let (shut, open) = (file(0o100_600), file(0o100_604));
        for own in [[1000; 4], [0, 0, 0, 1000], [1001, 1001, 1000, 1001]] {
            assert!(shut.lets_in(&own.map(Some)), "the owner's, or can become so: {own:?}");
        }
        assert!(!shut.lets_in(&[Some(1001); 4]) && open.lets_in(&[Some(1001); 4]));
        assert!(!open.lets_in(&[Some(0); 4]), "root");
        assert!(open.lets_in(&[Some(0), Some(1001), Some(0), Some(1001)]), "a set-uid program of another user");
        assert!(shut.lets_in(&[None]) && open.lets_in(&[None]), "nothing is known of him");
    }
}

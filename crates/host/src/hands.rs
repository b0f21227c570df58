//! What a scrub works with and keeps between objects, so that ten thousand of them cost ten thousand deletions and not
//! ten thousand set-ups.

use crate::identity;
use crate::identity::Stat;
use crate::pins::Pins;
use crate::places;
use crate::view::View;
use kobj_core::image::{Identity, Time};
use rustix::fs::{AtFlags, Mode, OFlags};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// That a private folder is about to hold a file for a moment, or no longer will.
///
/// Written down before it happens: if kobj is killed in between, the next scrub finds the file and puts it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuarantineNote {
    /// A folder for one file system was made (mode 0700, ours); files pass through it from now on.
    Opened(PathBuf),
    /// The folder was removed, empty.
    Closed(PathBuf),
}

/// How the name of a private folder begins; the maker's pid and random letters follow.
pub const ROOM_PREFIX: &str = ".kobj-";

/// One private folder on one mount.
struct Room {
    /// The mount it serves.
    mount: (u64, u64),
    /// The folder itself.
    folder: OwnedFd,
    /// Where it lies, for its removal.
    parent: Rc<OwnedFd>,
    name: OsString,
    path: PathBuf,
    /// Something that is not ours could not be put back: the folder stays.
    stuck: bool,
}

/// The hands that destroy objects: made once for a whole plan, given to every [`crate::kind::Kind::scrub`].
///
/// Dropping them removes their private folders.
pub struct Hands<'a> {
    note: &'a mut dyn FnMut(QuarantineNote),
    /// Whether the caller knows that every process which could ever open the objects at hand (the job's) is dead.
    ///
    /// The only way in which a fifo, that has no judge, may go.
    pub openers_are_dead: bool,
    /// Says of an entry inside a folder that goes as a whole whether it is the folder's owner's own, by its identity.
    ///
    /// Without it an entry is taken for the owner's own if it belongs to the same user and was there when the hands were
    /// made; with it, the caller's word takes the place of the user's id.
    pub is_own: Option<&'a dyn Fn(&Identity) -> bool>,
    /// When the plan was ready, by the clock that stamps files.
    since: Time,
    rooms: Vec<Room>,
    /// The folder used last: objects come in runs from one folder.
    last_folder: Option<(PathBuf, Rc<OwnedFd>)>,
    /// `/proc/self/fd`, through which a descriptor is opened again.
    descriptors: Option<OwnedFd>,
    /// What mounts hold, as last read.
    pins: Option<Pins>,
    /// How many files have passed: the next one's name in a room.
    passed: u64,
}

impl fmt::Debug for Hands<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rooms: Vec<_> = self.rooms.iter().map(|room| &room.path).collect();
        f.debug_struct("Hands").field("openers_are_dead", &self.openers_are_dead).field("rooms", &rooms).finish()
    }
}

impl<'a> Hands<'a> {
    /// Hands that write down, by `note`, each private folder when it is made, before anything passes through it.
    pub fn new(note: &'a mut dyn FnMut(QuarantineNote)) -> Self {
        Self {
            note,
            openers_are_dead: false,
            is_own: None,
            since: places::file_clock(rustix::time::ClockId::Realtime),
            rooms: Vec::new(),
            last_folder: None,
            descriptors: None,
            pins: None,
            passed: 0,
        }
    }

    /// The folder of that path, held open; the last one is remembered.
    pub(crate) fn folder(&mut self, path: &Path) -> io::Result<Rc<OwnedFd>> {
        if let Some((known, folder)) = &self.last_folder
            && known == path
        {
            return Ok(Rc::clone(folder));
        }
        let folder = Rc::new(open_folder(path)?);
        self.last_folder = Some((path.to_path_buf(), Rc::clone(&folder)));
        Ok(folder)
    }

    /// What mounts hold, no older than a moment.
    pub(crate) fn pins(&mut self, view: &View) -> &Pins {
        let known = self.pins.take().filter(|pins| !pins.is_stale());
        self.pins.insert(known.unwrap_or_else(|| Pins::read(view)))
    }

    /// Why an entry inside a folder is not that folder's owner's, if so.
    pub(crate) fn foreign(&self, stat: &Stat, identity: &Identity, owner: u32) -> Option<String> {
        if stat.born.is_some_and(|born| born > self.since) {
            return Some("it was made after the job had ended".to_owned());
        }
        match self.is_own {
            Some(is_own) => (!is_own(identity)).then(|| "it is not proved to be the job's own".to_owned()),
            None => (stat.uid != owner).then(|| format!("it belongs to user {}, not {owner}", stat.uid)),
        }
    }

    /// Opens for reading the very file that `file` points at, without going by a name.
    pub(crate) fn reopen(&mut self, file: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        use std::os::fd::AsRawFd;
        let descriptors = match self.descriptors.take() {
            Some(known) => known,
            None => open_folder(Path::new("/proc/self/fd"))?,
        };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let result = rustix::fs::openat(&descriptors, file.as_raw_fd().to_string(), flags, Mode::empty());
        self.descriptors = Some(descriptors);
        Ok(result?)
    }

    /// A name that nothing in our private folders has had.
    pub(crate) fn fresh_name(&mut self) -> String {
        self.passed += 1;
        self.passed.to_string()
    }

    /// Whether a private folder serves that mount already.
    pub(crate) fn has_room(&self, mount: (u64, u64)) -> bool {
        self.room(mount).is_some()
    }

    /// The index of the newest private folder that serves a mount (device and mount id).
    pub(crate) fn room(&self, mount: (u64, u64)) -> Option<usize> {
        self.rooms.iter().rposition(|room| room.mount == mount && !room.stuck)
    }

    /// Makes a private folder in `folder`, which lies at `path` on `mount`; its index.
    pub(crate) fn make_room(&mut self, folder: &Rc<OwnedFd>, path: &Path, mount: (u64, u64)) -> io::Result<usize> {
        let name = OsString::from(format!("{ROOM_PREFIX}{}-{:016x}", std::process::id(), random()?));
        let place = path.join(&name);
        (self.note)(QuarantineNote::Opened(place.clone()));
        if let Err(error) = rustix::fs::mkdirat(folder, &name, Mode::RWXU) {
            (self.note)(QuarantineNote::Closed(place));
            return Err(error.into());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(folder, &name, flags, Mode::empty())?;
        let stat = identity::stat_descriptor(made.as_fd())?;
        // A set-group-id parent hands that bit down; nobody else may enter all the same.
        if stat.uid != rustix::process::geteuid().as_raw() || stat.mode & 0o777 != 0o700 {
            return Err(io::Error::other(format!("{} is not the folder that was just made", place.display())));
        }
        self.rooms.push(Room { mount, folder: made, parent: Rc::clone(folder), name, path: place, stuck: false });
        Ok(self.rooms.len() - 1)
    }

    /// The private folder of that index.
    pub(crate) fn room_folder(&self, index: usize) -> BorrowedFd<'_> {
        self.rooms[index].folder.as_fd()
    }

    /// Where a file that could not be put back lies now; its room is used no more and stays.
    pub(crate) fn abandon(&mut self, index: usize, name: &str) -> PathBuf {
        let room = &mut self.rooms[index];
        room.stuck = true;
        room.path.join(name)
    }

    /// Removes the private folders. Done by dropping too.
    pub fn finish(&mut self) {
        self.last_folder = None;
        for room in self.rooms.drain(..) {
            // rmdir refuses a folder with anything in it, so at worst a note stays for the next scrub.
            if rustix::fs::unlinkat(&*room.parent, &room.name, AtFlags::REMOVEDIR).is_ok() {
                (self.note)(QuarantineNote::Closed(room.path));
            }
        }
    }
}

impl Drop for Hands<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Opens a folder as a place to act in.
pub(crate) fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
}

/// If `name` is that of a private folder of kobj's: its maker's pid.
#[must_use]
pub fn room_maker(name: &OsStr) -> Option<u32> {
    let rest = name.as_bytes().strip_prefix(ROOM_PREFIX.as_bytes())?;
    let rest = std::str::from_utf8(rest).ok()?;
    let (pid, random) = rest.split_once('-')?;
    (random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| pid.parse().ok())?
}

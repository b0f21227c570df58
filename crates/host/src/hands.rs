//! What a scrub works with and keeps between objects, so that ten thousand of them cost ten thousand deletions and not
//! ten thousand set-ups.

use crate::identity;
use crate::identity::Stat;
use crate::listing;
use crate::pins::{self, Pins};
use crate::places;
use crate::view::View;
use kobj_core::image::{Identity, Time};
use kobj_platform::lease::SigioBlocked;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};

/// That a private folder is about to hold a file for a moment, or no longer will; the same of a segment's mode.
///
/// Written down before it happens: if kobj is killed in between, the next scrub finds the file and puts it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuarantineNote {
    /// A folder for one file system was made (mode 0700, ours); files pass through it from now on.
    Opened(PathBuf),
    /// The folder was removed, empty.
    Closed(PathBuf),
    /// A System V segment is about to be closed to new attachments; one at a time.
    SegmentClosed(ClosedSegment),
    /// It is gone, or has its mode back.
    SegmentOpen,
}

/// A System V segment, and the mode that it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedSegment {
    /// Its id, which contains the sequence number.
    pub id: i32,
    /// Its low nine permission bits.
    pub mode: u16,
    /// Its key.
    pub key: i32,
    /// Its creator's user id.
    pub creator_uid: u32,
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
    /// What is known for as long as the pins are: where the last folder really lies, and which file systems are mounted.
    real_path: Option<(Weak<OwnedFd>, PathBuf)>,
    file_systems: Vec<((u64, u64), i64)>,
    /// How many files have passed: the next one's name in a room.
    passed: u64,
    /// From the first lease on: breaking one sends SIGIO, whose default is death.
    sigio_blocked: Option<Rc<SigioBlocked>>,
}

impl fmt::Debug for Hands<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rooms: Vec<_> = self.rooms.iter().map(|room| &room.path).collect();
        f.debug_struct("Hands").field("rooms", &rooms).finish()
    }
}

impl<'a> Hands<'a> {
    /// Hands that write down, by `note`, each private folder when it is made, before anything passes through it.
    pub fn new(note: &'a mut dyn FnMut(QuarantineNote)) -> Self {
        Self {
            note,
            is_own: None,
            since: places::file_clock(rustix::time::ClockId::Realtime),
            rooms: Vec::new(),
            last_folder: None,
            descriptors: None,
            pins: None,
            real_path: None,
            file_systems: Vec::new(),
            passed: 0,
            sigio_blocked: None,
        }
    }

    /// Writes something down before it happens.
    pub(crate) fn note(&mut self, note: QuarantineNote) {
        (self.note)(note);
    }

    /// SIGIO blocked, in this thread, for as long as the answer or these hands live.
    pub(crate) fn sigio_blocked(&mut self) -> Rc<SigioBlocked> {
        Rc::clone(self.sigio_blocked.get_or_insert_with(|| Rc::new(SigioBlocked::new())))
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
        if known.is_none() {
            self.real_path = None;
            self.file_systems.clear();
        }
        self.pins.insert(known.unwrap_or_else(|| Pins::read(view)))
    }

    /// Where an open folder really lies, links resolved, as it was no longer ago than the pins were read.
    pub(crate) fn real_path(&mut self, folder: &Rc<OwnedFd>) -> Option<&Path> {
        // Not held open by this: an open folder is in use.
        let known = self.real_path.take().filter(|(known, _)| Weak::as_ptr(known) == Rc::as_ptr(folder));
        let (_, path) = self.real_path.insert(match known {
            Some(known) => known,
            None => (Rc::downgrade(folder), pins::path_of_descriptor(folder.as_fd())?),
        });
        Some(path)
    }

    /// The magic number of the file system that `file`, which lies on `mount`, is on.
    pub(crate) fn file_system(&mut self, file: BorrowedFd<'_>, mount: (u64, u64)) -> io::Result<i64> {
        if let Some((_, magic)) = self.file_systems.iter().find(|(known, _)| *known == mount) {
            return Ok(*magic);
        }
        #[allow(clippy::useless_conversion, reason = "f_type is 32 bits wide on some machines")]
        let magic = i64::from(rustix::fs::fstatfs(file)?.f_type);
        self.file_systems.push((mount, magic));
        Ok(magic)
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

    /// The name that the file at `path` gets while it lies in a private folder: one that says where it came from.
    pub(crate) fn name_in_room(&mut self, room: usize, path: &Path) -> OsString {
        let beside = self.rooms[room].path.parent().unwrap_or(Path::new("/"));
        let inner = path.strip_prefix(beside).ok().map(|inner| encode(inner.as_os_str().as_bytes()));
        inner.filter(|name| name.len() <= NAME_BYTES_MAX).unwrap_or_else(|| {
            self.passed += 1;
            OsString::from(self.passed.to_string())
        })
    }

    /// The index of the newest private folder that serves `folder` on a mount (device and mount id): one that lies in it
    /// or in a folder above it, so that the way back can be told.
    pub(crate) fn room(&self, mount: (u64, u64), folder: &Path) -> Option<usize> {
        let serves = |room: &Room| {
            room.mount == mount && !room.stuck && room.path.parent().is_some_and(|beside| folder.starts_with(beside))
        };
        self.rooms.iter().rposition(serves)
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
        let enter = || -> io::Result<OwnedFd> {
            let made = match rustix::fs::openat(folder, &name, flags, Mode::empty()) {
                // The umask took even our own rights away: given back to this very folder, whatever its name leads to now.
                Err(Errno::ACCESS) => {
                    let made = rustix::fs::openat(folder, &name, flags | OFlags::PATH, Mode::empty())?;
                    rustix::fs::chmod(format!("/proc/self/fd/{}", made.as_raw_fd()), Mode::RWXU)?;
                    rustix::fs::openat(&made, ".", flags, Mode::empty())?
                }
                other => other?,
            };
            // A narrow umask takes from the mode that was asked for.
            rustix::fs::fchmod(&made, Mode::RWXU)?;
            // Held for as long as we live, in whatever namespace: nobody takes it for a dead kobj's. A file system without
            // locks has the maker's number in the name.
            let _ = rustix::fs::flock(&made, FlockOperation::NonBlockingLockExclusive);
            let stat = identity::stat_descriptor(made.as_fd())?;
            // A set-group-id parent hands that bit down; nobody else may enter all the same.
            if stat.uid != rustix::process::geteuid().as_raw() || stat.mode & 0o777 != 0o700 {
                return Err(io::Error::other(format!("{} is not the folder that was just made", place.display())));
            }
            Ok(made)
        };
        let made = match enter() {
            Ok(made) => made,
            Err(error) => {
                // Only an empty folder goes, and only then is there nothing to remember.
                if rustix::fs::unlinkat(&**folder, &name, AtFlags::REMOVEDIR).is_ok() {
                    (self.note)(QuarantineNote::Closed(place));
                }
                return Err(error);
            }
        };
        self.rooms.push(Room { mount, folder: made, parent: Rc::clone(folder), name, path: place, stuck: false });
        Ok(self.rooms.len() - 1)
    }

    /// The private folder of that index.
    pub(crate) fn room_folder(&self, index: usize) -> BorrowedFd<'_> {
        self.rooms[index].folder.as_fd()
    }

    /// Where a file that could not be put back lies now; its room is used no more and stays.
    pub(crate) fn abandon(&mut self, index: usize, name: &OsStr) -> PathBuf {
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

/// The longest name of a file that Linux has, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// What the name of a file in a private folder begins with if the rest says where it came from.
const ORIGIN: &[u8] = b"of-";

/// A path below the folder that a private folder lies in, as one name.
fn encode(inner: &[u8]) -> OsString {
    let mut name = ORIGIN.to_vec();
    for byte in inner {
        match byte {
            b'/' => name.extend_from_slice(b"%2F"),
            b'%' => name.extend_from_slice(b"%25"),
            other => name.push(*other),
        }
    }
    OsString::from_vec(name)
}

/// The other way; `None` for a name that was not made by `encode` or that leads out of the folder.
fn decode(name: &OsStr) -> Option<PathBuf> {
    let mut rest = name.as_bytes().strip_prefix(ORIGIN)?;
    let mut inner = Vec::with_capacity(rest.len());
    while let Some((first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'%', [b'2', b'F', after @ ..]) => {
                inner.push(b'/');
                after
            }
            (b'%', [b'2', b'5', after @ ..]) => {
                inner.push(b'%');
                after
            }
            (b'%', _) => return None,
            (other, after) => {
                inner.push(*other);
                after
            }
        };
    }
    let path = PathBuf::from(OsString::from_vec(inner));
    let plain = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    (plain && path.file_name().is_some()).then_some(path)
}

/// Puts what a kobj that was killed left in its private folder at `path` back where it came from, and removes the folder.
///
/// Each file is then what it was before that scrub, to be judged anew. Returns a sentence for each thing that could not be
/// put back; nothing is ever deleted or replaced. A folder that is not one of kobj's, not ours or open to others, or whose
/// maker holds it, is left alone. Where folders cannot be locked the caller knows that its maker is dead.
pub fn restore_room(path: &Path) -> Vec<String> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    if room_maker(name).is_none() {
        return Vec::new();
    }
    let Ok(beside) = open_folder(parent) else { return Vec::new() };
    let Ok(room) = listing::open_at(beside.as_fd(), name) else { return Vec::new() };
    let is_ours = identity::stat_descriptor(room.as_fd())
        .is_ok_and(|stat| stat.uid == rustix::process::geteuid().as_raw() && stat.mode & 0o077 == 0);
    // Held until this ends: of two scrubs at a time one restores.
    let is_held = rustix::fs::flock(&room, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK);
    if !is_ours || is_held {
        return Vec::new();
    }
    let mut names = Vec::new();
    let _ = listing::each(&room, |entry| {
        names.push(entry.name.to_os_string());
        ControlFlow::Continue(())
    });
    let mut sentences = Vec::new();
    for name in names {
        if let Err(why) = restore(&beside, &room, &name) {
            let place = path.join(&name);
            sentences.push(format!("a file of a broken-off scrub lies at {}: {why}", place.display()));
        }
    }
    let _ = rustix::fs::unlinkat(&beside, name, AtFlags::REMOVEDIR);
    sentences
}

/// Restores every private folder of a dead kobj's that lies directly in a watched folder, as [`restore_room`] does.
pub fn restore_rooms(view: &View) -> Vec<String> {
    let mut sentences = Vec::new();
    for folder in view.segment_folders.iter().chain(&view.temporary_folders) {
        let mut rooms = Vec::new();
        let _ = listing::open(folder).and_then(|opened| {
            listing::each(&opened, |entry| {
                // A number that another process has now keeps the folder a little longer.
                if room_maker(entry.name).is_some_and(|maker| !view.proc.join(maker.to_string()).exists()) {
                    rooms.push(folder.join(entry.name));
                }
                ControlFlow::Continue(())
            })
        });
        rooms.iter().for_each(|room| sentences.extend(restore_room(room)));
    }
    sentences
}

fn restore(beside: &OwnedFd, room: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let inner = decode(name).ok_or_else(|| io::Error::other("where it came from is not known"))?;
    let (Some(folder), Some(last)) = (inner.parent(), inner.file_name()) else {
        return Err(io::Error::other("where it came from is not known"));
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let way = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let home = rustix::fs::openat2(beside, folder, flags, Mode::empty(), way)?;
    Ok(rustix::fs::renameat_with(room, name, &home, last, RenameFlags::NOREPLACE)?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_name_in_a_room_says_where_it_came_from() {
        for path in [&b"file"[..], b"a/b", b"100%", b"%2F", b"new\nline/\xff", b" "] {
            let decoded = decode(&encode(path)).expect("our own");
            assert_eq!(decoded.as_os_str().as_bytes(), path);
        }
        for hostile in [&b"of-..%2Fetc"[..], b"of-%2Fetc", b"of-", b"of-a%2F..%2F..%2Fb", b"of-%zz", b"1", b"of-."] {
            assert_eq!(decode(OsStr::from_bytes(hostile)), None, "{hostile:?}");
        }
    }

    #[test]
    fn what_a_killed_kobj_left_in_its_room_goes_home() {
        let scene = Folder::new("room");
        fs::create_dir(scene.path().join("deep")).unwrap();
        // No process has this number: it is above the kernel's limit.
        let room = scene.path().join(format!("{ROOM_PREFIX}4194999-{:016x}", 7));
        fs::create_dir(&room).unwrap();
        fs::set_permissions(&room, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(room.join("of-plain"), "1").unwrap();
        fs::write(room.join("of-deep%2Ffile"), "2").unwrap();
        fs::write(room.join("of-taken"), "3").unwrap();
        fs::write(scene.path().join("taken"), "another").unwrap();
        let mut view = crate::testing::view();
        view.temporary_folders = vec![scene.path().to_path_buf()];
        // In another PID namespace its maker may live all the same: then it holds the folder.
        let held = fs::File::open(&room).unwrap();
        rustix::fs::flock(&held, FlockOperation::LockExclusive).unwrap();
        assert!(restore_rooms(&view).is_empty() && room.join("of-plain").exists());
        drop(held);
        let sentences = restore_rooms(&view);
        assert_eq!(sentences.len(), 1, "{sentences:?}");
        assert_eq!(fs::read(scene.path().join("plain")).unwrap(), b"1");
        assert_eq!(fs::read(scene.path().join("deep/file")).unwrap(), b"2");
        assert_eq!(fs::read(scene.path().join("taken")).unwrap(), b"another", "nothing is replaced");
        assert_eq!(fs::read(room.join("of-taken")).unwrap(), b"3");
        fs::remove_file(scene.path().join("taken")).unwrap();
        assert!(restore_rooms(&view).is_empty());
        assert!(!room.exists());
    }
}

//! Deleting a file so that the kernel is the judge: a write lease, taken, moved out of everybody's reach, checked again.
//!
//! A write lease is refused while anybody, in any container, has the file open or mapped. Between "granted" and "deleted"
//! somebody may still open the name: the kernel then stops that open and breaks the lease. So the file is first moved
//! into a private folder, where no name leads to it any more, and only if the lease stands there unbroken is it unlinked;
//! else it goes back to its name and the open goes on, with the file it asked for. One file at a time, for microseconds.
//!
//! Invariants: no file with another identity than the asked one is unlinked; a file put back never replaces another; an
//! opener never gets a file that has lost its name.

use crate::hands::Hands;
use crate::identity::{self, Stat};
use crate::kind::{Outcome, Verdict};
use crate::pins;
use crate::view::View;
use kobj_core::image::Identity;
use kobj_platform::lease::{self, SigioBlocked};
use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

/// The file system of POSIX message queues.
const MQUEUE: i64 = 0x1980_0202;

/// What the judge says when it grants.
pub(crate) const GRANTED: &str = "write lease granted: nobody has it open or mapped";
/// What a refusal means.
const REFUSED: &str = "write lease refused: somebody has it open or mapped";

/// The file systems on which a granted write lease was tested to mean what it says.
fn lease_counts(magic: i64) -> bool {
    const TMPFS: i64 = 0x0102_1994;
    const EXT4: i64 = 0xEF53;
    const XFS: i64 = 0x5846_5342;
    const BTRFS: i64 = 0x9123_683E;
    const HUGETLBFS: i64 = 0x9584_58F6;
    matches!(magic, TMPFS | EXT4 | XFS | BTRFS | HUGETLBFS | MQUEUE)
}

/// The judge's objection to one attempt, or a call that failed.
#[derive(Debug)]
pub(crate) enum Refusal {
    Verdict(Verdict),
    Failed(String),
}

impl From<Verdict> for Refusal {
    fn from(verdict: Verdict) -> Self {
        Self::Verdict(verdict)
    }
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Verdict(verdict) => Self::Left(verdict),
            Refusal::Failed(why) => Self::Failed(why),
        }
    }
}

/// A file in a folder that is held open.
pub(crate) struct Place<'p> {
    /// The folder.
    pub(crate) folder: Rc<OwnedFd>,
    /// The folder's path, for messages and private folders.
    pub(crate) path: &'p Path,
    /// The file's name in it.
    pub(crate) name: &'p OsStr,
}

impl Place<'_> {
    pub(crate) fn full(&self) -> String {
        self.path.join(self.name).display().to_string()
    }

    fn failed(&self, what: &str, error: &io::Error) -> Refusal {
        Refusal::Failed(format!("cannot {what} {}: {error}", self.full()))
    }
}

/// The folder and last name of a path, the folder held open.
pub(crate) fn place<'p>(hands: &mut Hands<'_>, path: &'p Path) -> Result<Place<'p>, Verdict> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Verdict::Unknown(format!("{} is not the name of a file", path.display())));
    };
    match hands.folder(parent) {
        Ok(folder) => Ok(Place { folder, path: parent, name }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Verdict::Gone),
        Err(error) => Err(Verdict::Unknown(format!("cannot reach {}: {error}", parent.display()))),
    }
}

/// Points at the file of that name and makes sure that it is the asked one.
pub(crate) fn point(place: &Place<'_>, identity: &Identity) -> Result<(OwnedFd, Stat), Verdict> {
    let file = match identity::point_at(place.folder.as_fd(), place.name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Verdict::Gone),
        Err(error) => return Err(Verdict::Unknown(format!("cannot look at {}: {error}", place.full()))),
    };
    match identity::of_descriptor(file.as_fd()) {
        Ok((stat, found)) if identity::same(&found, identity) => Ok((file, stat)),
        Ok(_) => Err(Verdict::Replaced),
        Err(error) => Err(Verdict::Unknown(format!("cannot look at {}: {error}", place.full()))),
    }
}

/// A file whose write lease is held: as long as this lives, nobody else has it open, and whoever tries waits.
///
/// Fields drop in order: the lease goes with the descriptor while SIGIO is still blocked.
pub(crate) struct Leased {
    file: OwnedFd,
    stat: Stat,
    _blocked: SigioBlocked,
}

impl Leased {
    /// The file, open for reading.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// What it looked like when the lease was taken.
    pub(crate) fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Whether nobody has tried to open it since.
    pub(crate) fn stands(&self) -> bool {
        lease::write_lease_stands(self.file.as_fd()).unwrap_or(false)
    }
}

/// That no mount holds what lies at `place` or below it: deleting it would take the mount away.
pub(crate) fn unmounted(view: &View, hands: &mut Hands<'_>, place: &Place<'_>) -> Result<(), Verdict> {
    let Some(folder) = pins::path_of_descriptor(place.folder.as_fd()) else {
        return Err(Verdict::Unknown(format!("cannot tell where {} lies, so not what mounts hold", place.full())));
    };
    match hands.pins(view).hold(&folder.join(place.name)) {
        Some(false) => Ok(()),
        Some(true) => {
            Err(Verdict::InUse(Vec::new(), "a mount holds it, here or in another mount namespace".to_owned()))
        }
        None => Err(Verdict::Unknown(format!("cannot tell on which mount {} lies", place.full()))),
    }
}

/// Takes the write lease of the asked file, or says why not.
pub(crate) fn take(
    view: &View,
    hands: &mut Hands<'_>,
    place: &Place<'_>,
    identity: &Identity,
) -> Result<Leased, Verdict> {
    let unknown = |what: &str, error: io::Error| Verdict::Unknown(format!("cannot {what} {}: {error}", place.full()));
    let (pointer, stat) = point(place, identity)?;
    if !stat.is_regular() {
        return Err(Verdict::Unknown(format!("{} is not a regular file", place.full())));
    }
    let magic = rustix::fs::fstatfs(&pointer).map_err(|error| unknown("ask the file system of", error.into()))?.f_type;
    #[allow(clippy::useless_conversion, reason = "f_type is 32 bits wide on some machines")]
    if !lease_counts(i64::from(magic)) {
        let why = format!("no judge: write leases are not to be trusted on this file system (type {magic:#x})");
        return Err(Verdict::Unknown(why));
    }
    // Nothing is mounted on or from queues; their mount may lie nowhere.
    if magic != MQUEUE {
        unmounted(view, hands, place)?;
    }
    let file = hands.reopen(pointer.as_fd()).map_err(|error| unknown("open", error))?;
    // Old kernels count every pointer to the name, ours too.
    drop(pointer);
    let blocked = SigioBlocked::new();
    let mut result = lease::take_write_lease(file.as_fd(), &blocked);
    if result.as_ref().is_err_and(|error| error.raw_os_error() == Some(Errno::ACCESS.raw_os_error())) {
        // Root without CAP_LEASE may do so as the owner; for anybody else this changes nothing.
        result = lease::as_file_system_user(stat.uid, || lease::take_write_lease(file.as_fd(), &blocked));
    }
    match result {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(Verdict::InUse(Vec::new(), REFUSED.to_owned()));
        }
        Err(error) => return Err(unknown("lease", error)),
    }
    let stat = identity::stat_descriptor(file.as_fd()).map_err(|error| unknown("look at", error))?;
    if stat.names != 1 {
        return Err(Verdict::Unknown(format!(
            "it has {} names; deleting one would hide what the others are",
            stat.names
        )));
    }
    Ok(Leased { file, stat, _blocked: blocked })
}

/// Asks whether anybody has the file at `path` open or mapped. Changes nothing; an open that comes at the same instant
/// waits for microseconds (or, if non-blocking, is told to come again).
pub fn judge_file(view: &View, hands: &mut Hands<'_>, path: &Path, identity: &Identity) -> Verdict {
    let place = match place(hands, path) {
        Ok(place) => place,
        Err(verdict) => return verdict,
    };
    ask(view, hands, &place, identity).map_or_else(|verdict| verdict, |()| Verdict::Unused(GRANTED.to_owned()))
}

/// Deletes the regular file at `path` if it is the asked one and the kernel says, when it goes, that nobody uses it.
pub fn scrub_file(view: &View, hands: &mut Hands<'_>, path: &Path, identity: &Identity) -> Outcome {
    let place = match place(hands, path) {
        Ok(place) => place,
        Err(verdict) => return Outcome::Left(verdict),
    };
    match delete(view, hands, &place, identity) {
        Ok(()) => Outcome::Scrubbed(GRANTED.to_owned()),
        Err(refusal) => refusal.into(),
    }
}

/// As [`scrub_file`], in a folder that is held open. A refusal is tried once more: a look that passes by is no use.
pub(crate) fn delete(
    view: &View,
    hands: &mut Hands<'_>,
    place: &Place<'_>,
    identity: &Identity,
) -> Result<(), Refusal> {
    match attempt(view, hands, place, identity) {
        Err(Refusal::Verdict(Verdict::InUse(..))) => attempt(view, hands, place, identity),
        other => other,
    }
}

/// Asks the judge of a file in a folder that is held open.
pub(crate) fn ask(view: &View, hands: &mut Hands<'_>, place: &Place<'_>, identity: &Identity) -> Result<(), Verdict> {
    match take(view, hands, place, identity) {
        Err(Verdict::InUse(..)) => take(view, hands, place, identity).map(drop),
        other => other.map(drop),
    }
}

/// Makes sure that there is a private folder for the mount of what lies at `place`, made beside it.
pub(crate) fn prepare(hands: &mut Hands<'_>, place: &Place<'_>, stat: &Stat) -> Result<(), Refusal> {
    match hands.room(mount_of(stat), place.path) {
        Some(_) => Ok(()),
        None => make_room(hands, place, stat).map(drop),
    }
}

/// An open that looked the name up before the move is still on its way to the lease, which stops it: it gets the time for
/// those few instructions, and the processor if it was put aside. (An open that is held up for longer than this between
/// the two may end with a file that has no name: the kernel offers no exact wait for it.)
fn let_opens_arrive() {
    const ON_THE_WAY: std::time::Duration = std::time::Duration::from_micros(25);
    let moved_at = std::time::Instant::now();
    while moved_at.elapsed() < ON_THE_WAY {
        std::thread::yield_now();
    }
}

fn attempt(view: &View, hands: &mut Hands<'_>, place: &Place<'_>, identity: &Identity) -> Result<(), Refusal> {
    let mut leased = take(view, hands, place, identity)?;
    if hands.room(mount_of(&leased.stat), place.path).is_none() {
        // Nobody is to wait for a mkdir: the lease is given back meanwhile.
        let stat = leased.stat.clone();
        drop(leased);
        make_room(hands, place, &stat)?;
        leased = take(view, hands, place, identity)?;
    }
    let moved = move_in(hands, place, &leased.stat)?;
    let_opens_arrive();
    if !leased.stands() {
        put_back(hands, place, &moved)?;
        return Err(Verdict::InUse(Vec::new(), "somebody opened it meanwhile".to_owned()).into());
    }
    unlink(hands, place, &moved)
}

fn mount_of(stat: &Stat) -> (u64, u64) {
    (stat.device, stat.mount.unwrap_or(0))
}

fn make_room(hands: &mut Hands<'_>, place: &Place<'_>, stat: &Stat) -> Result<usize, Refusal> {
    hands.make_room(&place.folder, place.path, mount_of(stat)).map_err(|error| {
        let folder = place.path.display();
        Refusal::Failed(format!("cannot make a private folder in {folder} to move {} through: {error}", place.full()))
    })
}

/// Something that lies in a private folder for a moment.
pub(crate) struct Moved {
    room: usize,
    name: OsString,
}

/// Moves what lies at `place` into a private folder of its mount and makes sure that it is what `stat` saw; else it is
/// put back. The caller holds a descriptor of it, so the inode cannot be another's meanwhile.
pub(crate) fn move_in(hands: &mut Hands<'_>, place: &Place<'_>, stat: &Stat) -> Result<Moved, Refusal> {
    let known = hands.room(mount_of(stat), place.path);
    let room = known.map_or_else(|| make_room(hands, place, stat), Ok)?;
    let mut moved = Moved { room, name: hands.name_in_room(room, &place.path.join(place.name)) };
    let mut result = rename_in(hands, place, &moved);
    if result == Err(Errno::XDEV) {
        // One mount, but the file system keeps the two folders apart (project quotas, encryption).
        moved.room = make_room(hands, place, stat)?;
        moved.name = hands.name_in_room(moved.room, &place.path.join(place.name));
        result = rename_in(hands, place, &moved);
    }
    match result {
        Ok(()) => {}
        Err(Errno::NOENT) => return Err(Verdict::Gone.into()),
        Err(error) => return Err(place.failed("move away", &error.into())),
    }
    match identity::stat(hands.room_folder(moved.room), &moved.name) {
        Ok(now) if now.device == stat.device && now.inode == stat.inode => Ok(moved),
        _ => {
            put_back(hands, place, &moved)?;
            Err(Verdict::Replaced.into())
        }
    }
}

fn rename_in(hands: &Hands<'_>, place: &Place<'_>, moved: &Moved) -> rustix::io::Result<()> {
    let room = hands.room_folder(moved.room);
    rustix::fs::renameat_with(&place.folder, place.name, room, &moved.name, RenameFlags::NOREPLACE)
}

/// Gives what was moved its name back, unless that has been taken meanwhile: then it stays where it is, and this says so.
pub(crate) fn put_back(hands: &mut Hands<'_>, place: &Place<'_>, moved: &Moved) -> Result<(), Refusal> {
    let room = hands.room_folder(moved.room);
    let back = rustix::fs::renameat_with(room, &moved.name, &place.folder, place.name, RenameFlags::NOREPLACE);
    back.map_err(|error| {
        let now = hands.abandon(moved.room, &moved.name);
        let (name, now) = (place.full(), now.display());
        Refusal::Failed(format!(
            "could not give {name} its name back ({error}): it lies at {now}; move it back by hand"
        ))
    })
}

/// Deletes what was moved.
pub(crate) fn unlink(hands: &mut Hands<'_>, place: &Place<'_>, moved: &Moved) -> Result<(), Refusal> {
    let gone = rustix::fs::unlinkat(hands.room_folder(moved.room), &moved.name, AtFlags::empty());
    gone.map_err(|error| match put_back(hands, place, moved) {
        Ok(()) => place.failed("unlink", &error.into()),
        Err(refusal) => refusal,
    })
}

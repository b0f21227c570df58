//! Deleting a file so that the kernel is the judge: a write lease, taken, moved out of everybody's reach, checked again.
//!
//! A write lease is refused while anybody, in any container, has the file open or mapped. Between "granted" and "deleted"
//! somebody may still open the name: the kernel then stops that open and breaks the lease. So the file is first moved
//! into a private folder, where no name leads to it any more, and only if the lease stands there unbroken is it unlinked;
//! else it goes back to its name and the open goes on, with the file it asked for.
//!
//! An open that found the name before the move may be held up inside the kernel before it comes to the lease. So between
//! the move and the last look kobj waits until calls under way have arrived (`kobj_platform::arrival`). The wait takes
//! some milliseconds, so files are set aside by the hundred, wait together, and are looked at and deleted one by one. An
//! opener that comes to the lease meanwhile waits as long; one that comes for the name finds it gone already.
//!
//! Invariants: no file with another identity than the asked one is unlinked; a file put back never replaces another; an
//! opener never gets a file that has lost its name.

use crate::classify::path_of;
use crate::hands::Hands;
use crate::identity::{self, Stat};
use crate::kind::{Outcome, Verdict};
use crate::view::View;
use kobj_core::image::{HostImage, Identity};
use kobj_platform::arrival;
use kobj_platform::lease::{self, SigioBlocked};
use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;
use rustix::process::Resource;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
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
    _blocked: Rc<SigioBlocked>,
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
        // An open is counted a little before it breaks the lease.
        as_owner(self.stat.uid, || lease::confirm_write_lease(self.file())).is_ok()
            && lease::write_lease_stands(self.file()).unwrap_or(false)
    }
}

/// Root without CAP_LEASE may lease a file as its owner alone; for anybody else the second attempt changes nothing.
fn as_owner(uid: u32, attempt: impl Fn() -> io::Result<()>) -> io::Result<()> {
    match attempt() {
        Err(error) if error.raw_os_error() == Some(Errno::ACCESS.raw_os_error()) => {
            lease::as_file_system_user(uid, attempt)
        }
        other => other,
    }
}

/// That no mount holds what lies at `place` or below it: deleting it would take the mount away.
pub(crate) fn unmounted(view: &View, hands: &mut Hands<'_>, place: &Place<'_>) -> Result<(), Verdict> {
    // Read first, so that the path is no older.
    hands.pins(view);
    let Some(path) = hands.real_path(&place.folder).map(|folder| folder.join(place.name)) else {
        return Err(Verdict::Unknown(format!("cannot tell where {} lies, so not what mounts hold", place.full())));
    };
    match hands.pins(view).hold(&path) {
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
    let magic = hands
        .file_system(pointer.as_fd(), mount_of(&stat))
        .map_err(|error| unknown("ask the file system of", error))?;
    if !lease_counts(magic) {
        let why = format!("no judge: write leases are not to be trusted on this file system (type {magic:#x})");
        return Err(Verdict::Unknown(why));
    }
    // Nothing is mounted on or from queues; their mount may lie nowhere.
    if magic != MQUEUE {
        unmounted(view, hands, place)?;
    }
    if stat.names != 1 {
        return Err(Verdict::Unknown(format!(
            "it has {} names; deleting one would hide what the others are",
            stat.names
        )));
    }
    let file = hands.reopen(pointer.as_fd()).map_err(|error| unknown("open", error))?;
    // Old kernels count every pointer to the name, ours too.
    drop(pointer);
    let blocked = hands.sigio_blocked();
    match as_owner(stat.uid, || lease::take_write_lease(file.as_fd(), &blocked)) {
        Ok(()) => Ok(Leased { file, stat, _blocked: blocked }),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Verdict::InUse(Vec::new(), REFUSED.to_owned())),
        Err(error) => Err(unknown("lease", error)),
    }
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

/// Deletes each of the regular files if it is the asked one, `objection` has nothing against it, and the kernel says, when
/// it goes, that nobody uses it. One outcome for each image, in their order.
///
/// A refusal is tried once more: a look that passes by is no use.
pub fn scrub_files(
    view: &View,
    hands: &mut Hands<'_>,
    images: &[&HostImage],
    objection: impl Fn(&View, &HostImage) -> Result<(), Verdict>,
) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = images.iter().map(|_| Outcome::Left(Verdict::Gone)).collect();
    let mut asked: Vec<usize> = (0..images.len()).collect();
    for is_last in [false, true] {
        let mut again = Vec::new();
        for group in asked.chunks(at_once()) {
            let mut batch = Batch::default();
            for &index in group {
                let image = images[index];
                let begun = objection(view, image).and_then(|()| place(hands, path_of(image))).map_err(Refusal::from);
                if let Err(refusal) =
                    begun.and_then(|place| batch.set_aside(view, hands, &place, &image.identity, index))
                {
                    outcomes[index] = refusal.into();
                }
            }
            for (index, result) in batch.finish(hands) {
                match result {
                    Err(Refusal::Verdict(Verdict::InUse(..))) if !is_last => again.push(index),
                    Err(refusal) => outcomes[index] = refusal.into(),
                    Ok(()) => outcomes[index] = Outcome::Scrubbed(GRANTED.to_owned()),
                }
            }
        }
        asked = again;
    }
    outcomes
}

/// How many files may be set aside at once: each is held open meanwhile.
pub(crate) fn at_once() -> usize {
    const MOST: u64 = 2048;
    // Half of what is allowed: the other half is for whatever else is open.
    let allowed = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 2;
    usize::try_from(allowed.clamp(1, MOST)).unwrap_or(1)
}

/// A file that lies under our lease in a private folder, until it is deleted or put back.
struct Aside {
    leased: Leased,
    moved: Moved,
    folder: Rc<OwnedFd>,
    path: PathBuf,
    name: OsString,
}

/// Files that were set aside and wait together for the last look, each with the caller's mark.
///
/// Every batch must be finished: a dropped one leaves its files in the private folder.
pub(crate) struct Batch<T> {
    aside: Vec<(T, Aside)>,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { aside: Vec::new() }
    }
}

impl<T> Batch<T> {
    /// How many files are set aside.
    pub(crate) fn len(&self) -> usize {
        self.aside.len()
    }

    /// Leases a file and moves it out of everybody's reach, or says why not; then nothing has changed.
    pub(crate) fn set_aside(
        &mut self,
        view: &View,
        hands: &mut Hands<'_>,
        place: &Place<'_>,
        identity: &Identity,
        mark: T,
    ) -> Result<(), Refusal> {
        let aside = match set_aside(view, hands, place, identity) {
            Err(Refusal::Verdict(Verdict::InUse(..))) => set_aside(view, hands, place, identity)?,
            other => other?,
        };
        self.aside.push((mark, aside));
        Ok(())
    }

    /// Waits until opens under way have come to the leases, then deletes what nobody opened and puts back the rest.
    pub(crate) fn finish(&mut self, hands: &mut Hands<'_>) -> Vec<(T, Result<(), Refusal>)> {
        if self.aside.is_empty() {
            return Vec::new();
        }
        arrival::wait_for_calls_under_way();
        let all = std::mem::take(&mut self.aside);
        all.into_iter().map(|(mark, aside)| (mark, delete_or_put_back(hands, &aside))).collect()
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

fn set_aside(view: &View, hands: &mut Hands<'_>, place: &Place<'_>, identity: &Identity) -> Result<Aside, Refusal> {
    let mut leased = take(view, hands, place, identity)?;
    if hands.room(mount_of(&leased.stat), place.path).is_none() {
        // Nobody is to wait for a mkdir: the lease is given back meanwhile.
        let stat = leased.stat.clone();
        drop(leased);
        make_room(hands, place, &stat)?;
        leased = take(view, hands, place, identity)?;
    }
    let moved = move_in(hands, place, &leased.stat)?;
    let (folder, path, name) = (Rc::clone(&place.folder), place.path.to_path_buf(), place.name.to_os_string());
    Ok(Aside { leased, moved, folder, path, name })
}

fn delete_or_put_back(hands: &mut Hands<'_>, aside: &Aside) -> Result<(), Refusal> {
    let place = Place { folder: Rc::clone(&aside.folder), path: &aside.path, name: &aside.name };
    if !aside.leased.stands() {
        put_back(hands, &place, &aside.moved)?;
        return Err(Verdict::InUse(Vec::new(), "somebody opened it meanwhile".to_owned()).into());
    }
    unlink(hands, &place, &aside.moved)
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
        Ok(now) if (now.device, now.inode, now.names) == (stat.device, stat.inode, stat.names) => Ok(moved),
        Ok(now) if (now.device, now.inode) == (stat.device, stat.inode) => {
            put_back(hands, place, &moved)?;
            Err(Verdict::Unknown("another name was given to it meanwhile".to_owned()).into())
        }
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

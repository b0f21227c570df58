//! The records in a folder: whose kobj lives, whose is dead, and how one takes care of a dead run's.

use super::decode::{self, Contents, decode};
use super::folder::RuntimeFolder;
use super::layout::word;
use super::{boot_id, layout, pid_namespace};
use crate::containment::remove_group;
use crate::hands::restore_room;
use kobj_abi::Era;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a record may be looked at by others, who do so for a moment, before we give up.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the run of a record goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its kobj lives (or another kobj is taking care of it right now).
    Living,
    /// Its kobj is dead.
    Dead,
}

/// A record found in a folder, as it was at that moment.
#[derive(Debug)]
pub struct Found {
    /// Its era, which is its name.
    pub era: Era,
    /// Where it is.
    pub path: PathBuf,
    /// Whether the run goes on.
    pub state: State,
    /// What it says, or what is wrong with it.
    pub contents: Result<Contents, String>,
    unfinished: bool,
    folder: Rc<OwnedFd>,
}

impl Found {
    /// Whether nothing is left that this record could be of use for. Removes the group of a run that was settled.
    fn is_over(&self, boot: [u64; 2]) -> bool {
        let Ok(contents) = &self.contents else { return self.unfinished };
        let group = Path::new(OsStr::from_bytes(&contents.group));
        // Another namespace may not show the group that is there.
        let is_visible = pid_namespace() == Some(contents.pid_namespace);
        contents.boot != boot || contents.settled && is_visible && remove_group(group)
    }

    /// Takes care of the record of a dead run, against all others. `None` if its kobj lives, or if somebody else takes
    /// care of it or has removed it meanwhile.
    ///
    /// # Errors
    /// A sentence: it could not be opened, or is looked at by others without end.
    pub fn take(&self) -> Result<Option<DeadRecord>, String> {
        let say = |error: Errno| format!("{}: {}", self.path.display(), std::io::Error::from(error));
        let held = match open(self.folder.as_fd(), self.era, OFlags::RDWR) {
            Ok(Some(file)) => file,
            Ok(None) | Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(say(error)),
        };
        let begun = Instant::now();
        loop {
            match rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) if is_dead(held.as_fd()) => {
                    // A listing looks at it, which takes a moment. Our own look is over: two takers never keep each
                    // other from it.
                    let _ = rustix::fs::flock(&held, FlockOperation::Unlock);
                    if begun.elapsed() > PATIENCE {
                        return Err(say(Errno::WOULDBLOCK));
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(say(error)),
            }
        }
        if rustix::fs::fstat(&held).map_err(say)?.st_nlink == 0 {
            return Ok(None);
        }
        let contents = read_whole(held.as_fd()).and_then(|bytes| decode(&bytes));
        Ok(Some(DeadRecord { contents, folder: Rc::clone(&self.folder), era: self.era, held }))
    }
}

/// The record of a dead run, held against others until dropped.
#[derive(Debug)]
pub struct DeadRecord {
    /// What it says, or what is wrong with it.
    pub contents: Result<Contents, String>,
    folder: Rc<OwnedFd>,
    era: Era,
    held: OwnedFd,
}

impl DeadRecord {
    /// Removes it: nothing is left to do.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn remove(self) -> std::io::Result<()> {
        Ok(rustix::fs::unlinkat(&*self.folder, self.era.0.to_string().as_str(), AtFlags::empty())?)
    }

    /// Keeps it for its control group alone, in which processes are in use: all else is dealt with and reported.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn settle(self) -> std::io::Result<()> {
        rustix::io::pwrite(&self.held, &1_u64.to_le_bytes(), (word::SETTLED * 8) as u64)?;
        Ok(rustix::fs::ftruncate(&self.held, layout::COMMANDS_AT as u64)?)
    }
}

/// What is in a folder.
#[derive(Debug, Default)]
pub struct Records {
    /// Every record that is still of use, oldest first.
    pub found: Vec<Found>,
    /// A sentence for each file of a dropped run's broken-off scrub that could not be put back.
    pub unrestored: Vec<String>,
}

/// Every record in `folder` that is still of use; the others are removed:
/// - those of dead runs of another boot, after the files that a scrub of theirs was moving are put back;
/// - those of runs that were settled, once their control group is empty and so removed;
/// - those whose kobj died before the beginning was whole, so before it did anything.
///
/// # Errors
/// A sentence: the folder could not be read.
pub fn list(folder: &RuntimeFolder) -> Result<Records, String> {
    let boot = boot_id()?;
    let own = rustix::io::fcntl_dupfd_cloexec(folder, 0)
        .map_err(|error| format!("{}: {}", folder.path().display(), std::io::Error::from(error)))?;
    let own = Rc::new(own);
    // Between making and locking its file a new run holds the folder.
    let locked = folder.lock(FlockOperation::NonBlockingLockShared)?;
    let mut all = Vec::new();
    for era in folder.eras()? {
        let Ok(Some(found)) = look(folder, &own, era) else { continue };
        all.push(found);
    }
    drop(locked);
    let mut records = Records::default();
    for found in all {
        if found.state == State::Living || !found.is_over(boot) {
            records.found.push(found);
        } else if let Ok(Some(dead)) = found.take() {
            let notes = dead.contents.as_ref().map_or(&[][..], |contents| &contents.notes);
            notes.iter().for_each(|room| records.unrestored.extend(restore_room(room)));
            // What cannot be removed is seen again next time.
            let _ = dead.remove();
        }
    }
    Ok(records)
}

fn open(folder: BorrowedFd<'_>, era: Era, how: OFlags) -> rustix::io::Result<Option<OwnedFd>> {
    let flags = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, era.0.to_string().as_str(), flags, Mode::empty())?;
    let is_file = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) == FileType::RegularFile;
    Ok(is_file.then_some(file))
}

/// Whether nobody holds the record. The look itself is shared: it keeps no other look away, and a taker for a moment only.
fn is_dead(file: BorrowedFd<'_>) -> bool {
    rustix::fs::flock(file, FlockOperation::NonBlockingLockShared).is_ok()
}

/// Looks at one record; `None` if it is no regular file of ours.
fn look(folder: &RuntimeFolder, own: &Rc<OwnedFd>, era: Era) -> rustix::io::Result<Option<Found>> {
    let Some(file) = open(folder.as_fd(), era, OFlags::RDONLY)? else { return Ok(None) };
    let state = if is_dead(file.as_fd()) { State::Dead } else { State::Living };
    let bytes = read_whole(file.as_fd());
    let unfinished = bytes.as_ref().is_ok_and(|bytes| decode::is_unfinished(bytes));
    let contents = bytes.and_then(|bytes| decode(&bytes));
    let path = folder.path().join(era.0.to_string());
    Ok(Some(Found { era, path, state, contents, unfinished, folder: Rc::clone(own) }))
}

/// Reads a record file to its end; it may grow or shrink meanwhile.
fn read_whole(file: BorrowedFd<'_>) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        match rustix::io::pread(file, &mut chunk, bytes.len() as u64) {
            Ok(0) => return Ok(bytes),
            Ok(_) if bytes.len() > layout::END => return Err("is longer than any record".to_owned()),
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(Errno::INTR) => {}
            Err(error) => return Err(format!("cannot be read: {}", std::io::Error::from(error))),
        }
    }
}

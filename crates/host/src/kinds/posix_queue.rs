//! POSIX message queues of this IPC namespace.
//!
//! Seen through a mount of their file system that is attached nowhere and goes with its descriptor; where that is not
//! allowed, through one that is mounted already. Judge: the write lease. Queues cannot be renamed, so there is no
//! quarantine: while the lease is held the queue's mode is taken away, which turns new openers back, and the queue is
//! unlinked only if nobody came before that. Root alone is not turned back: for it a window of microseconds remains.

use crate::hands::Hands;
use crate::identity;
use crate::kind::{Kind, Outcome, Verdict, Visibility};
use crate::quarantine::{self, Place, Refusal};
use crate::view::View;
use crate::{listing, proc};
use kobj_abi::HostKind;
use kobj_core::image::{HostImage, Identity};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

/// This kind.
#[derive(Debug)]
pub struct PosixQueue;

/// The file system's folder of queues, and how it was reached.
///
/// # Errors
/// Neither may we mount it, nor is it mounted anywhere.
pub fn queues(view: &View) -> io::Result<OwnedFd> {
    match detached() {
        Ok(folder) => Ok(folder),
        Err(error) => mounted(view).ok_or(error),
    }
}

/// A mount of our own that is attached nowhere: it goes when its descriptor is closed, however we end.
fn detached() -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("mqueue", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(&mount, ".", flags, Mode::empty())?)
}

fn mounted(view: &View) -> Option<OwnedFd> {
    let table = proc::read(&view.proc.join("self/mountinfo"), proc::TABLE).ok()?;
    let mount = proc::mountinfo::parse(&table).find(|mount| mount.filesystem == b"mqueue" && mount.root == b"/")?;
    listing::open(Path::new(OsStr::from_bytes(&mount.point))).ok()
}

impl Kind for PosixQueue {
    fn kind(&self) -> HostKind {
        HostKind::PosixQueue
    }

    fn census(&self, view: &View, found: &mut Vec<HostImage>) -> Visibility {
        let listed = queues(view).and_then(|folder| {
            listing::each(folder.as_fd(), |entry| {
                if let Ok(image) = image(&folder, entry.name) {
                    found.push(image);
                }
                ControlFlow::Continue(())
            })
        });
        match listed {
            Ok(_) => Visibility::Whole,
            Err(error) => Visibility::NotVisible(format!("the mqueue file system cannot be mounted: {error}")),
        }
    }

    fn judge(&self, view: &View, image: &HostImage, hands: &mut Hands<'_>) -> Verdict {
        let asked = place(view, image).and_then(|place| quarantine::ask(view, hands, &place, &image.identity));
        asked.map_or_else(|verdict| verdict, |()| Verdict::Unused(quarantine::GRANTED.to_owned()))
    }

    fn scrub(&self, view: &View, image: &HostImage, hands: &mut Hands<'_>) -> Outcome {
        let place = match place(view, image) {
            Ok(place) => place,
            Err(verdict) => return Outcome::Left(verdict),
        };
        let mut result = delete(view, hands, &place, &image.identity);
        if matches!(result, Err(Refusal::Verdict(Verdict::InUse(..)))) {
            result = delete(view, hands, &place, &image.identity);
        }
        match result {
            Ok(()) => Outcome::Scrubbed(quarantine::GRANTED.to_owned()),
            Err(refusal) => refusal.into(),
        }
    }
}

/// The image of the queue of that file name.
pub(crate) fn image(folder: &OwnedFd, name: &OsStr) -> io::Result<HostImage> {
    let (stat, identity) = identity::of(folder.as_fd(), name)?;
    let mut image = HostImage::new(HostKind::PosixQueue, [b"/", name.as_bytes()].concat(), identity);
    image.uid = Some(stat.uid);
    Ok(image)
}

fn place<'i>(view: &View, image: &'i HostImage) -> Result<Place<'i>, Verdict> {
    let name = image.name.strip_prefix(b"/").filter(|name| !name.is_empty() && !name.contains(&b'/'));
    let Some(name) = name else {
        return Err(Verdict::Unknown("that is not the name of a queue, which is one slash and a word".to_owned()));
    };
    match queues(view) {
        Ok(folder) => Ok(Place { folder: Rc::new(folder), path: Path::new("/"), name: OsStr::from_bytes(name) }),
        Err(error) => Err(Verdict::Unknown(format!("the mqueue file system cannot be mounted: {error}"))),
    }
}

fn delete(view: &View, hands: &mut Hands<'_>, place: &Place<'_>, identity: &Identity) -> Result<(), Refusal> {
    let leased = quarantine::take(view, hands, place, identity)?;
    let file = leased.file();
    let mode = Mode::from_raw_mode(leased.stat().mode & 0o7777);
    let failed = |what: &str, error: rustix::io::Errno| {
        Refusal::Failed(format!("cannot {what} the queue {}: {}", place.full(), io::Error::from(error)))
    };
    rustix::fs::fchmod(file, Mode::empty()).map_err(|error| failed("close", error))?;
    let open_again = || rustix::fs::fchmod(file, mode).map_err(|error| failed("open again", error));
    // Names cannot be moved here, but may be deleted and made again.
    let is_same = identity::stat(place.folder.as_fd(), place.name).is_ok_and(|now| now.inode == leased.stat().inode);
    if !is_same {
        open_again()?;
        return Err(Verdict::Replaced.into());
    }
    if !leased.stands() {
        open_again()?;
        return Err(Verdict::InUse(Vec::new(), "somebody opened it meanwhile".to_owned()).into());
    }
    rustix::fs::unlinkat(&*place.folder, place.name, AtFlags::empty()).map_err(|error| {
        let _ = open_again();
        failed("unlink", error)
    })
}

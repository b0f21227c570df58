//! POSIX message queues of this IPC namespace.
//!
//! Seen through a mount of their file system that is attached nowhere and goes with its descriptor; where that is not
//! allowed, through one that is mounted already. Judge: the write lease. Queues cannot be renamed, so there is no
//! quarantine: while the lease is held the queue's mode is taken away, which turns new openers back, opens under way get
//! the time to come to the lease, and the queue is unlinked only if nobody did. Root alone is not turned back: for it a
//! window of microseconds remains between the last look and the unlinking.

use crate::hands::Hands;
use crate::identity;
use crate::kind::{Facts, Kind, Maker, NewIn, Outcome, Verdict, Visibility};
use crate::quarantine::{self, Leased, Place, Refusal};
use crate::view::View;
use crate::{listing, proc};
use kobj_abi::HostKind;
use kobj_core::image::{FileHandle, HostImage, Identity};
use kobj_platform::{arrival, file_handle};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
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
    Ok(queues_and_mount(view)?.0)
}

/// An open folder of queues, and the mount it lies on if that is our own.
pub type Opened = (OwnedFd, Option<OwnedFd>);

/// As [`queues`], with the mount itself if it is our own: to close it waits for the kernel, so it may be closed late.
///
/// # Errors
/// As [`queues`].
pub(crate) fn queues_and_mount(view: &View) -> io::Result<Opened> {
    match detached() {
        Ok((folder, mount)) => Ok((folder, Some(mount))),
        Err(error) => mounted(view).map(|folder| (folder, None)).ok_or(error),
    }
}

/// A mount of our own that is attached nowhere: it goes when its descriptor is closed, however we end.
fn detached() -> io::Result<(OwnedFd, OwnedFd)> {
    let context = rustix::mount::fsopen("mqueue", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok((rustix::fs::openat(&mount, ".", flags, Mode::empty())?, mount))
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

    fn facts(&self) -> Facts {
        Facts {
            maker: Maker::FileEvent,
            new_in: NewIn::Folders,
            unused_is_left_over: true,
            is_named_by_path: true,
            end: "it stays until somebody unlinks its name or the machine restarts",
        }
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
        self.scrub_all(view, &[image], hands).pop().unwrap_or(Outcome::Left(Verdict::Gone))
    }

    fn scrub_all(&self, view: &View, images: &[&HostImage], hands: &mut Hands<'_>) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = images.iter().map(|_| Outcome::Left(Verdict::Gone)).collect();
        let mut asked: Vec<usize> = (0..images.len()).collect();
        // A refusal is tried once more: a look that passes by is no use.
        for is_last in [false, true] {
            let mut again = Vec::new();
            for group in asked.chunks(quarantine::at_once()) {
                let mut shut = Vec::new();
                for &index in group {
                    match Shut::take(view, hands, images[index]) {
                        Ok(queue) => shut.push((index, queue)),
                        Err(Refusal::Verdict(Verdict::InUse(..))) if !is_last => again.push(index),
                        Err(refusal) => outcomes[index] = refusal.into(),
                    }
                }
                if !shut.is_empty() {
                    arrival::wait_for_calls_under_way();
                }
                for (index, queue) in shut {
                    match queue.unlink() {
                        Ok(()) => outcomes[index] = Outcome::Scrubbed(quarantine::GRANTED.to_owned()),
                        Err(Refusal::Verdict(Verdict::InUse(..))) if !is_last => again.push(index),
                        Err(refusal) => outcomes[index] = refusal.into(),
                    }
                }
            }
            asked = again;
        }
        outcomes
    }
}

/// The image of the queue of that file name.
pub(crate) fn image(folder: &OwnedFd, name: &OsStr) -> io::Result<HostImage> {
    let point = identity::point_at(folder.as_fd(), name)?;
    let (stat, mut identity) = identity::of_descriptor(point.as_fd())?;
    if let Identity::File { handle, .. } = &mut identity {
        // Its file system has handles for events alone.
        let raw = file_handle::event_handle_at(point.as_fd(), c"");
        *handle = raw.ok().and_then(|raw| FileHandle::new(raw.kind, raw.bytes()));
    }
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

/// A queue under our lease whose mode was taken away.
struct Shut<'i> {
    place: Place<'i>,
    leased: Leased,
}

impl<'i> Shut<'i> {
    fn take(view: &View, hands: &mut Hands<'_>, image: &'i HostImage) -> Result<Self, Refusal> {
        let place = place(view, image)?;
        let leased = quarantine::take(view, hands, &place, &image.identity)?;
        let queue = Self { place, leased };
        rustix::fs::fchmod(queue.leased.file(), Mode::empty()).map_err(|error| queue.failed("close", error))?;
        Ok(queue)
    }

    fn failed(&self, what: &str, error: Errno) -> Refusal {
        Refusal::Failed(format!("cannot {what} the queue {}: {}", self.place.full(), io::Error::from(error)))
    }

    fn open_again(&self) -> Result<(), Refusal> {
        let mode = Mode::from_raw_mode(self.leased.stat().mode & 0o7777);
        rustix::fs::fchmod(self.leased.file(), mode).map_err(|error| self.failed("open again", error))
    }

    /// Unlinks it if nobody came, else opens it again.
    fn unlink(self) -> Result<(), Refusal> {
        let (folder, name) = (self.place.folder.as_fd(), self.place.name);
        // Names cannot be moved here, but may be deleted and made again.
        if !identity::stat(folder, name).is_ok_and(|now| now.inode == self.leased.stat().inode) {
            self.open_again()?;
            return Err(Verdict::Replaced.into());
        }
        if !self.leased.stands() {
            self.open_again()?;
            return Err(Verdict::InUse(Vec::new(), "somebody opened it meanwhile".to_owned()).into());
        }
        rustix::fs::unlinkat(folder, name, AtFlags::empty()).map_err(|error| {
            let _ = self.open_again();
            self.failed("unlink", error)
        })
    }
}

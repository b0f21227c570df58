//! Mounts of our mount namespace, but those that keep a namespace alive (see [`super::namespace`]).

use crate::hands::Hands;
use crate::holders::Holders;
use crate::kind::{Facts, Kind, Maker, NewIn, Outcome, Verdict, Visibility};
use crate::proc::{self, mountinfo};
use crate::view::View;
use kobj_abi::HostKind;
use kobj_core::image::{Holder, HostImage, Identity};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How often an unmount is tried again after somebody only passed by.
const TRIES: u32 = 3;

/// The kind.
pub struct Mount;

/// The path of a mount point.
pub(crate) fn path_of(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}

/// Whether the mount only keeps a namespace alive.
#[must_use]
pub fn is_namespace(mount: &mountinfo::Mount) -> bool {
    mount.filesystem == b"nsfs"
}

/// Whether it is the mount that `ip netns` puts on `/run/netns` once and for good.
#[must_use]
pub fn is_infrastructure(mount: &mountinfo::Mount) -> bool {
    mount.root.ends_with(b"/netns") && matches!(&mount.point[..], b"/run/netns" | b"/var/run/netns")
}

/// The id of the mount on top at `point`: one that is never given again (Linux 6.8), else mountinfo's.
///
/// `expected` is mountinfo's id of the mount that should be there; `None` if another one is.
fn top_id(point: &[u8], expected: u64) -> Option<u64> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW;
    let plain = statx(CWD, path_of(point), flags, StatxFlags::MNT_ID).ok()?;
    if plain.stx_mnt_id != expected {
        return None;
    }
    let asked = StatxFlags::from_bits_retain(proc::MOUNT_UNIQUE);
    let unique = statx(CWD, path_of(point), flags, asked).ok()?;
    let known = unique.stx_mask & proc::MOUNT_UNIQUE != 0;
    Some(if known { unique.stx_mnt_id } else { expected })
}

/// The image of one mount. One that lies under another mount on the same point has no lasting id to be had.
#[must_use]
pub fn image(mount: &mountinfo::Mount) -> HostImage {
    let id = top_id(&mount.point, mount.id).unwrap_or(mount.id);
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let identity = Identity::Ipc { id: number(id), key: number(mount.device), uid: 0 };
    HostImage::new(HostKind::Mount, mount.point.clone(), identity)
}

fn table(view: &View) -> Result<Vec<u8>, String> {
    proc::table_of(view, "self/mountinfo")
}

/// The mount that is on top at `point`, by the table.
fn on_top(table: &[u8], point: &[u8]) -> Option<mountinfo::Mount> {
    // A later line of the same point lies over the earlier ones.
    mountinfo::parse(table).filter(|mount| mount.point == point).last()
}

/// What is left of the mount that `image` is about, with the table that shows it.
fn find(view: &View, wanted: &HostImage) -> Result<(mountinfo::Mount, Vec<u8>), Verdict> {
    let table = table(view).map_err(Verdict::Unknown)?;
    let Some(mount) = on_top(&table, &wanted.name) else { return Err(Verdict::Gone) };
    if image(&mount).identity != wanted.identity {
        return Err(Verdict::Replaced);
    }
    Ok((mount, table))
}

/// Why an idle unmount was not done.
pub(crate) enum Refusal {
    /// The kernel says that it is in use.
    Busy,
    /// Another mount is there now.
    Replaced,
    /// The call failed otherwise.
    Failed(Errno),
}

/// Unmounts what is on top at `point` if `is_it` confirms it and nobody uses it, without detaching it from users.
///
/// Two calls with `MNT_EXPIRE`: the first marks the mount, any use takes the mark away, and the second unmounts only
/// what bears it. `is_it` is asked between the two and must not touch the mount. So what goes is what was looked at.
pub(crate) fn unmount_idle(point: &Path, is_it: impl Fn() -> bool) -> Result<(), Refusal> {
    let flags = UnmountFlags::EXPIRE | UnmountFlags::NOFOLLOW;
    let mut marked = false;
    for _ in 0..=TRIES {
        if marked && !is_it() {
            return Err(Refusal::Replaced);
        }
        match unmount(point, flags) {
            // Without a mark of ours it bore one of somebody else's, who wants it gone when idle, as we do.
            Ok(()) => return Ok(()),
            Err(Errno::AGAIN) => marked = true,
            Err(Errno::BUSY) => return Err(Refusal::Busy),
            Err(error) => return Err(Refusal::Failed(error)),
        }
    }
    Err(Refusal::Busy)
}

fn users(view: &View, wanted: &HostImage) -> Vec<Holder> {
    Holders::of(view, std::slice::from_ref(wanted)).of_object(0).to_vec()
}

impl Kind for Mount {
    fn kind(&self) -> HostKind {
        HostKind::Mount
    }

    fn facts(&self) -> Facts {
        Facts {
            maker: Maker::Nothing,
            new_in: NewIn::Tables,
            unused_is_left_over: false,
            is_named_by_path: true,
            end: "it stays until somebody unmounts it",
        }
    }

    /// Mounts of other mount namespaces are other objects of other jobs: a container's are its engine's business.
    fn census(&self, view: &View, found: &mut Vec<HostImage>) -> Visibility {
        match table(view) {
            Ok(table) => {
                let mounts = mountinfo::parse(&table).filter(|mount| !is_namespace(mount) && !is_infrastructure(mount));
                found.extend(mounts.map(|mount| image(&mount)));
                Visibility::Whole
            }
            Err(why) => Visibility::NotVisible(why),
        }
    }

    /// By looking: the kernel's own answer would leave a mark on the mount.
    fn judge(&self, view: &View, image: &HostImage, _hands: &mut Hands<'_>) -> Verdict {
        let (mount, table) = match find(view, image) {
            Ok(found) => found,
            Err(verdict) => return verdict,
        };
        if let Some(inner) = mountinfo::parse(&table).find(|other| other.parent == mount.id) {
            return Verdict::InUse(Vec::new(), format!("{} is mounted in it", inner.point.escape_ascii()));
        }
        match users(view, image) {
            users if users.is_empty() => Verdict::Unused("no process is seen in it; the unmount decides".into()),
            users => Verdict::InUse(users, "processes are in it".into()),
        }
    }

    fn scrub(&self, view: &View, wanted: &HostImage, _hands: &mut Hands<'_>) -> Outcome {
        let mount = match find(view, wanted) {
            Ok((mount, _)) => mount,
            Err(verdict) => return Outcome::Left(verdict),
        };
        let is_it =
            || table(view).is_ok_and(|table| on_top(&table, &mount.point).is_some_and(|top| top.id == mount.id));
        match unmount_idle(path_of(&mount.point), is_it) {
            Ok(()) => Outcome::Scrubbed("umount2 MNT_EXPIRE: nobody used it".into()),
            Err(Refusal::Busy) => {
                Outcome::Left(Verdict::InUse(users(view, wanted), "umount2: in use, or mounts are in it".into()))
            }
            Err(Refusal::Replaced) => Outcome::Left(Verdict::Replaced),
            Err(Refusal::Failed(error)) => {
                Outcome::Failed(format!("umount2 of {}: {error}", mount.point.escape_ascii()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use rustix::mount::{MountFlags, mount};

    /// A tmpfs on a folder of ours, taken away at the end.
    struct Mounted(testing::Folder);

    impl Mounted {
        fn new(what: &str) -> Option<Self> {
            let folder = testing::Folder::new(what);
            match mount("kobj-test", folder.path(), c"tmpfs", MountFlags::empty(), c"size=64k") {
                Ok(()) => Some(Self(folder)),
                Err(error) => {
                    println!("skipped: {what}: tmpfs cannot be mounted: {error}");
                    None
                }
            }
        }

        fn image(&self) -> Option<HostImage> {
            let mut found = Vec::new();
            assert_eq!(Mount.census(&testing::view(), &mut found), Visibility::Whole);
            found.into_iter().rfind(|image| image.name == self.0.path().as_os_str().as_bytes())
        }
    }

    impl Drop for Mounted {
        fn drop(&mut self) {
            while unmount(self.0.path(), UnmountFlags::DETACH).is_ok() {}
        }
    }

    fn scrub(image: &HostImage) -> Outcome {
        Mount.scrub(&testing::view(), image, &mut Hands::new(&mut |_| {}))
    }

    #[test]
    fn a_mount_in_use_stays_and_an_idle_one_goes() {
        let Some(mounted) = Mounted::new("mount") else { return };
        let image = mounted.image().unwrap();
        let file = std::fs::File::create(mounted.0.path().join("a")).unwrap();
        let Verdict::InUse(holders, _) = Mount.judge(&testing::view(), &image, &mut Hands::new(&mut |_| {})) else {
            panic!("not in use")
        };
        assert!(holders.iter().any(|holder| holder.pid == std::process::id()), "{holders:?}");
        assert!(matches!(scrub(&image), Outcome::Left(Verdict::InUse(..))));
        drop(file);
        assert!(matches!(Mount.judge(&testing::view(), &image, &mut Hands::new(&mut |_| {})), Verdict::Unused(_)));
        assert!(
            matches!(Mount.judge(&testing::view(), &image, &mut Hands::new(&mut |_| {})), Verdict::Unused(_)),
            "judging twice changes nothing"
        );
        assert!(matches!(scrub(&image), Outcome::Scrubbed(_)));
        assert_eq!(mounted.image(), None);
        assert_eq!(scrub(&image), Outcome::Left(Verdict::Gone));
    }

    #[test]
    fn another_mount_on_the_same_point_is_left() {
        let Some(mounted) = Mounted::new("remount") else { return };
        let image = mounted.image().unwrap();
        mount("kobj-test", mounted.0.path(), c"tmpfs", MountFlags::empty(), c"size=64k").unwrap();
        assert_eq!(scrub(&image), Outcome::Left(Verdict::Replaced), "covered");
        unmount(mounted.0.path(), UnmountFlags::empty()).unwrap();
        unmount(mounted.0.path(), UnmountFlags::empty()).unwrap();
        mount("kobj-test", mounted.0.path(), c"tmpfs", MountFlags::empty(), c"size=64k").unwrap();
        assert_eq!(scrub(&image), Outcome::Left(Verdict::Replaced));
        assert!(mounted.image().is_some());
    }

    #[test]
    fn one_that_is_put_there_between_look_and_unmount_is_left() {
        let Some(mounted) = Mounted::new("between") else { return };
        let point = mounted.0.path();
        let over = || {
            mount("kobj-test", point, c"tmpfs", MountFlags::empty(), c"size=64k").unwrap();
            true
        };
        // Each question of `is_it` puts a fresh mount on top, which bears no mark: none may ever go.
        assert!(matches!(unmount_idle(point, over), Err(Refusal::Busy)));
        let table = table(&testing::view()).unwrap();
        let count = mountinfo::parse(&table).filter(|m| m.point == point.as_os_str().as_bytes()).count();
        assert_eq!(count, 1 + TRIES as usize);
    }

    #[test]
    fn an_inner_mount_keeps_the_outer() {
        let Some(mounted) = Mounted::new("outer") else { return };
        let inner = mounted.0.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        mount("kobj-test", &inner, c"tmpfs", MountFlags::empty(), c"size=64k").unwrap();
        let image = mounted.image().unwrap();
        assert!(matches!(Mount.judge(&testing::view(), &image, &mut Hands::new(&mut |_| {})), Verdict::InUse(..)));
        assert!(matches!(scrub(&image), Outcome::Left(Verdict::InUse(..))));
        unmount(&inner, UnmountFlags::empty()).unwrap();
        assert!(matches!(scrub(&image), Outcome::Scrubbed(_)));
    }
}

//! Owner, mode, extended attributes and times of what was restored, in this order: each may spoil those before it.

use super::place::Spot;
use crate::tree::{Node, NodeKind};
use rustix::fs::{self, AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::os::fd::AsRawFd;

/// Attributes that kobj makes in a vault to remember things by. No restored file has them.
const OURS: &[u8] = b"user.kobj.";

/// Gives an entry its metadata. `fail` hears what could not be set; the rest is set all the same.
pub(crate) fn apply(spot: &Spot<'_>, node: &Node, fail: &mut dyn FnMut(String)) {
    let owned = owner(spot, node, fail);
    if node.kind != NodeKind::Link {
        // Somebody else's program must not run as us.
        let permissions = if owned { node.permissions() } else { node.permissions() & 0o1777 };
        if let Err(error) = mode(spot, permissions) {
            fail(format!("its mode cannot be set: {error}"));
        }
    }
    for attribute in node.attributes.iter().filter(|attribute| !attribute.name.as_bytes().starts_with(OURS)) {
        let (name, value) = (attribute.name.as_bytes(), attribute.value.as_deref().unwrap_or(&[]));
        if let Err(error) = set_attribute(spot, name, value) {
            fail(format!("its attribute {} cannot be set: {error}", String::from_utf8_lossy(name)));
        }
    }
    if let Err(error) = times(spot, node) {
        fail(format!("its times cannot be set: {error}"));
    }
}

/// Whether the owner is now the right one. Who is not root is not told that only root may give files away.
fn owner(spot: &Spot<'_>, node: &Node, fail: &mut dyn FnMut(String)) -> bool {
    let (uid, gid) = (Uid::from_raw_unchecked(node.uid), Gid::from_raw_unchecked(node.gid));
    match fs::chownat(&spot.folder, spot.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(()) => true,
        Err(Errno::PERM) if !rustix::process::geteuid().is_root() => false,
        Err(error) => {
            fail(format!("its owner cannot be set: {error}"));
            false
        }
    }
}

/// By a descriptor that was opened without following, so that no link can have taken the place.
fn mode(spot: &Spot<'_>, permissions: u32) -> Result<(), Errno> {
    let pinned = spot.open(OFlags::PATH)?;
    if fs::fstat(&pinned)?.st_mode & 0o170_000 == 0o120_000 {
        return Err(Errno::LOOP);
    }
    fs::chmodat(
        CWD,
        format!("/proc/self/fd/{}", pinned.as_raw_fd()),
        Mode::from_raw_mode(permissions),
        AtFlags::empty(),
    )
}

/// Through the open folder; the last name is not followed.
fn set_attribute(spot: &Spot<'_>, name: &[u8], value: &[u8]) -> Result<(), Errno> {
    let mut path = format!("/proc/self/fd/{}/", spot.folder.as_raw_fd()).into_bytes();
    path.extend_from_slice(spot.name);
    fs::lsetxattr(&path[..], name, value, XattrFlags::empty())
}

fn times(spot: &Spot<'_>, node: &Node) -> Result<(), Errno> {
    let time = |time: &crate::tree::Time| {
        let (seconds, nanoseconds) = time.instant();
        Timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds) }
    };
    let times = Timestamps { last_access: time(&node.accessed), last_modification: time(&node.modified) };
    fs::utimensat(&spot.folder, spot.name, &times, AtFlags::SYMLINK_NOFOLLOW)
}

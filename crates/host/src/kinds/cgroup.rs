//! Control groups of the unified hierarchy, wherever it is mounted.

use crate::hands::Hands;
use crate::holders::Holders;
use crate::kind::{Facts, Kind, Maker, NewIn, Outcome, Verdict, Visibility};
use crate::proc::{self, mountinfo};
use crate::view::View;
use kobj_abi::HostKind;
use kobj_core::image::{HostImage, Identity};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, openat, unlinkat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The most groups that a census lists.
const MOST: usize = 100_000;

/// The kind.
pub struct Cgroup;

fn image(path: &Path) -> Option<HostImage> {
    let stat = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_dir)?;
    let identity = Identity::File { device: stat.dev(), inode: stat.ino(), handle: None, born: None };
    let mut image = HostImage::new(HostKind::Cgroup, path.as_os_str().as_bytes().to_vec(), identity);
    image.uid = Some(stat.uid());
    Some(image)
}

/// Where the unified hierarchy is mounted.
fn root(view: &View) -> Result<PathBuf, String> {
    let table = proc::table_of(view, "self/mountinfo")?;
    let mount = mountinfo::parse(&table).find(|mount| mount.filesystem == b"cgroup2");
    mount.map(|mount| PathBuf::from(OsStr::from_bytes(&mount.point))).ok_or("no cgroup2 is mounted".into())
}

/// The group that `image` is about, held open, and the folder it is in.
fn open(image: &HostImage) -> Result<(OwnedFd, OwnedFd), Verdict> {
    let path = Path::new(OsStr::from_bytes(&image.name));
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Verdict::Gone) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let refused = |error: Errno| match error {
        Errno::NOENT | Errno::NOTDIR => Verdict::Gone,
        error => Verdict::Unknown(format!("{} cannot be opened: {error}", path.display())),
    };
    let parent = openat(CWD, parent, flags, Mode::empty()).map_err(refused)?;
    let group = openat(&parent, name, flags, Mode::empty()).map_err(refused)?;
    let stat = fstat(&group).map_err(refused)?;
    match image.identity {
        Identity::File { device, inode, .. } if (device, inode) == (stat.st_dev, stat.st_ino) => Ok((group, parent)),
        _ => Err(Verdict::Replaced),
    }
}

/// Whether no process is in the group or below, no group below it, and nobody holds its folder.
fn idle(view: &View, image: &HostImage) -> Result<OwnedFd, Verdict> {
    let (group, parent) = open(image)?;
    let events = proc::read_at(&group, "cgroup.events", proc::SMALL)
        .map_err(|error| Verdict::Unknown(format!("cgroup.events cannot be read: {error}")))?;
    if !proc::lines(&events).any(|line| line == b"populated 0") {
        return Err(Verdict::InUse(Vec::new(), "cgroup.events: processes are in it".into()));
    }
    drop(group);
    let inner = std::fs::read_dir(Path::new(OsStr::from_bytes(&image.name)))
        .map_err(|error| Verdict::Unknown(format!("it cannot be listed: {error}")))?
        .any(|entry| entry.is_ok_and(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())));
    if inner {
        return Err(Verdict::InUse(Vec::new(), "groups are below it".into()));
    }
    let holders = Holders::of(view, std::slice::from_ref(image)).of_object(0).to_vec();
    if !holders.is_empty() {
        return Err(Verdict::InUse(holders, "processes have its folder open".into()));
    }
    Ok(parent)
}

impl Kind for Cgroup {
    fn kind(&self) -> HostKind {
        HostKind::Cgroup
    }

    fn facts(&self) -> Facts {
        Facts {
            maker: Maker::Nothing,
            new_in: NewIn::Containment,
            unused_is_left_over: false,
            is_named_by_path: true,
            end: "it stays until somebody removes it",
        }
    }

    fn census(&self, view: &View, found: &mut Vec<HostImage>) -> Visibility {
        let root = match root(view) {
            Ok(root) => root,
            Err(why) => return Visibility::NotVisible(why),
        };
        let (mut folders, mut left, mut unreadable) = (vec![root], MOST, 0_usize);
        while let Some(folder) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(&folder) else {
                unreadable += 1;
                continue;
            };
            for entry in entries.filter_map(Result::ok) {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                if left == 0 {
                    return Visibility::NotVisible(format!("there are more than {MOST} groups"));
                }
                left -= 1;
                found.extend(image(&entry.path()));
                folders.push(entry.path());
            }
        }
        match unreadable {
            0 => Visibility::Whole,
            count => Visibility::NotVisible(format!("{count} groups cannot be listed")),
        }
    }

    fn judge(&self, view: &View, image: &HostImage, _hands: &mut Hands<'_>) -> Verdict {
        match idle(view, image) {
            Ok(_) => Verdict::Unused("cgroup.events: populated 0, no group below it".into()),
            Err(verdict) => verdict,
        }
    }

    /// rmdir refuses a group with processes or groups in it; a group that was put in its place since is as empty.
    fn scrub(&self, view: &View, image: &HostImage, _hands: &mut Hands<'_>) -> Outcome {
        let parent = match idle(view, image) {
            Ok(parent) => parent,
            Err(verdict) => return Outcome::Left(verdict),
        };
        let name = Path::new(OsStr::from_bytes(&image.name)).file_name().unwrap_or_default();
        match unlinkat(&parent, name, AtFlags::REMOVEDIR) {
            Ok(()) => Outcome::Scrubbed("rmdir: no process and no group was in it".into()),
            Err(Errno::NOENT) => Outcome::Left(Verdict::Gone),
            Err(Errno::BUSY | Errno::NOTEMPTY) => {
                Outcome::Left(Verdict::InUse(Vec::new(), "rmdir: processes or groups are in it".into()))
            }
            Err(error) => Outcome::Failed(format!("rmdir of {}: {error}", image.name.escape_ascii())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Python};

    fn scrub(image: &HostImage) -> Outcome {
        Cgroup.scrub(&testing::view(), image, &mut Hands::new(&mut |_| {}))
    }

    #[test]
    fn a_populated_group_stays_and_an_empty_one_goes() {
        let view = testing::view();
        let made = root(&view).map(|root| root.join(testing::unique("group")));
        let path = match made.map(|path| (std::fs::create_dir(&path), path)) {
            Ok((Ok(()), path)) => path,
            other => return println!("skipped: cgroup: no group can be made: {other:?}"),
        };
        let mut child = Python::start("import sys\nprint('up', flush=True)\nsys.stdin.read()", &[]);
        child.line();
        std::fs::write(path.join("cgroup.procs"), child.pid().to_string()).unwrap();
        let mut found = Vec::new();
        Cgroup.census(&view, &mut found);
        let image = found.into_iter().find(|image| image.name == path.as_os_str().as_bytes()).unwrap();
        assert!(matches!(scrub(&image), Outcome::Left(Verdict::InUse(..))));
        drop(child);
        // Its end is told to the group a moment after it was reaped.
        while matches!(Cgroup.judge(&view, &image, &mut Hands::new(&mut |_| {})), Verdict::InUse(holders, _) if holders.is_empty())
        {
            std::thread::yield_now();
        }
        let held = std::fs::File::open(&path).unwrap();
        let Outcome::Left(Verdict::InUse(holders, _)) = scrub(&image) else { panic!("not left in use") };
        assert!(holders.iter().any(|holder| holder.pid == std::process::id()));
        drop(held);
        let inner = path.join("inner");
        std::fs::create_dir(&inner).unwrap();
        assert!(matches!(scrub(&image), Outcome::Left(Verdict::InUse(..))));
        std::fs::remove_dir(&inner).unwrap();
        assert!(matches!(scrub(&image), Outcome::Scrubbed(_)));
        assert_eq!(scrub(&image), Outcome::Left(Verdict::Gone));
        std::fs::create_dir(&path).unwrap();
        let outcome = scrub(&image);
        std::fs::remove_dir(&path).unwrap();
        assert_eq!(outcome, Outcome::Left(Verdict::Replaced));
    }
}

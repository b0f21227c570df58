//! Namespaces that a mount keeps alive: `ip netns add`, `unshare --net=FILE`. Those that only processes keep alive go
//! with them.

use super::mount::{Refusal, is_namespace, path_of, unmount_idle};
use crate::hands::Hands;
use crate::holders::Holders;
use crate::kind::{Facts, Kind, Maker, NewIn, Outcome, Verdict, Visibility};
use crate::proc::{self, mountinfo};
use crate::view::View;
use kobj_abi::HostKind;
use kobj_core::image::{HostImage, Identity};
use rustix::fs::CWD;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The kind.
pub struct Namespace;

/// The image of a namespace's mount, by the path that keeps it; none for another mount.
#[must_use]
pub fn image(mount: &mountinfo::Mount) -> Option<HostImage> {
    if !is_namespace(mount) {
        return None;
    }
    let (_, inode) = named(&mount.root)?;
    let identity = Identity::File { device: mount.device, inode, handle: None, born: None };
    Some(HostImage::new(HostKind::Namespace, mount.point.clone(), identity))
}

/// `net:[4026532206]`: its type and number.
fn named(root: &[u8]) -> Option<(&[u8], u64)> {
    let colon = root.iter().position(|byte| *byte == b':')?;
    let number = root[colon + 1..].strip_prefix(b"[")?.strip_suffix(b"]")?;
    Some((&root[..colon], proc::decimal(number)?))
}

fn table(view: &View) -> Result<Vec<u8>, String> {
    proc::table_of(view, "self/mountinfo")
}

/// What is on top at the image's path, if it is still that namespace.
fn find(table: &[u8], wanted: &HostImage) -> Result<mountinfo::Mount, Verdict> {
    let top = mountinfo::parse(table).filter(|mount| mount.point == wanted.name).last().ok_or(Verdict::Gone)?;
    match image(&top) {
        Some(image) if image.identity == wanted.identity => Ok(top),
        _ => Err(Verdict::Replaced),
    }
}

fn inhabited(view: &View, image: &HostImage) -> Result<String, Verdict> {
    let holders = Holders::of(view, std::slice::from_ref(image));
    if !holders.of_object(0).is_empty() {
        return Err(Verdict::InUse(holders.of_object(0).to_vec(), "processes are in it".into()));
    }
    Ok(match holders.unreadable {
        0 => "no process is in it".into(),
        // They keep it alive by themselves if they are in it: only its name would go.
        unseen => format!("no process is seen in it ({unseen} could not be seen)"),
    })
}

impl Kind for Namespace {
    fn kind(&self) -> HostKind {
        HostKind::Namespace
    }

    fn facts(&self) -> Facts {
        Facts {
            maker: Maker::Nothing,
            new_in: NewIn::Tables,
            unused_is_left_over: false,
            is_named_by_path: true,
            end: "it stays until somebody removes it",
        }
    }

    fn census(&self, view: &View, found: &mut Vec<HostImage>) -> Visibility {
        let all = |table: Vec<u8>| mountinfo::parse(&table).filter_map(|mount| image(&mount)).collect::<Vec<_>>();
        Visibility::of(table(view).map(all), found)
    }

    fn judge(&self, view: &View, image: &HostImage, _hands: &mut Hands<'_>) -> Verdict {
        match table(view).map_err(Verdict::Unknown).and_then(|table| find(&table, image)) {
            Ok(_) => inhabited(view, image).map_or_else(|verdict| verdict, Verdict::Unused),
            Err(verdict) => verdict,
        }
    }

    fn scrub(&self, view: &View, image: &HostImage, _hands: &mut Hands<'_>) -> Outcome {
        let mount = match table(view).map_err(Verdict::Unknown).and_then(|table| find(&table, image)) {
            Ok(mount) => mount,
            Err(verdict) => return Outcome::Left(verdict),
        };
        let words = match inhabited(view, image) {
            Ok(words) => words,
            Err(verdict) => return Outcome::Left(verdict),
        };
        let point = path_of(&mount.point);
        let is_it = || table(view).is_ok_and(|table| find(&table, image).is_ok_and(|top| top.id == mount.id));
        match unmount_idle(point, is_it) {
            Ok(()) => {
                remove_name(point);
                Outcome::Scrubbed(format!("{words}; umount2 MNT_EXPIRE: nobody had it open"))
            }
            Err(Refusal::Busy) => Outcome::Left(Verdict::InUse(Vec::new(), "umount2: somebody has it open".into())),
            Err(Refusal::Replaced) => Outcome::Left(Verdict::Replaced),
            Err(Refusal::Failed(error)) => Outcome::Failed(format!("umount2 of {}: {error}", point.display())),
        }
    }
}

/// Removes the empty file that `ip netns` mounts a namespace on. Elsewhere the file is somebody's own.
fn remove_name(point: &Path) {
    let of_ip = point.parent().is_some_and(|parent| {
        let parent = parent.as_os_str().as_encoded_bytes();
        matches!(parent, b"/run/netns" | b"/var/run/netns")
    });
    let empty = |stat: &std::fs::Metadata| stat.is_file() && stat.len() == 0 && stat.nlink() == 1;
    if of_ip && std::fs::symlink_metadata(point).is_ok_and(|stat| empty(&stat)) {
        let _ = rustix::fs::unlinkat(CWD, point, rustix::fs::AtFlags::empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Python};
    use rustix::mount::{UnmountFlags, unmount};
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;

    #[test]
    fn numbers_are_read_from_roots() {
        assert_eq!(named(b"net:[4026532206]"), Some((&b"net"[..], 4_026_532_206)));
        for odd in [&b"/"[..], b"net:", b"net:[", b"net:[x]", b"\xff:[1"] {
            assert_eq!(named(odd), None);
        }
    }

    #[test]
    fn a_kept_namespace_goes_when_nobody_is_in_it() {
        let view = testing::view();
        let folder = testing::Folder::new("namespace");
        let file = folder.path().join("net");
        std::fs::write(&file, "").unwrap();
        let made = Command::new("unshare").arg(format!("--uts={}", file.display())).arg("true").output();
        if !made.as_ref().is_ok_and(|output| output.status.success()) {
            println!("skipped: namespace: unshare may not keep one: {made:?}");
            return;
        }
        let find = || {
            let mut found = Vec::new();
            assert_eq!(Namespace.census(&view, &mut found), Visibility::Whole);
            found.into_iter().find(|image| image.name == file.as_os_str().as_bytes())
        };
        let image = find().unwrap();
        let mut inside = Command::new("nsenter");
        inside.arg(format!("--uts={}", file.display())).args(["--", "python3"]);
        let mut child = Python::start_by(inside, "import sys\nprint('up', flush=True)\nsys.stdin.read()", &[]);
        assert_eq!(child.line(), "up");
        let mut hands = |_| {};
        let Outcome::Left(Verdict::InUse(holders, _)) = Namespace.scrub(&view, &image, &mut Hands::new(&mut hands))
        else {
            panic!("not left in use")
        };
        assert!(holders.iter().any(|holder| holder.pid == child.pid()), "{holders:?}");
        drop(child);
        assert!(matches!(Namespace.judge(&view, &image, &mut Hands::new(&mut |_| {})), Verdict::Unused(_)));
        let outcome = Namespace.scrub(&view, &image, &mut Hands::new(&mut hands));
        let _ = unmount(&file, UnmountFlags::DETACH);
        assert!(matches!(outcome, Outcome::Scrubbed(_)), "{outcome:?}");
        assert_eq!(find(), None);
        assert!(file.exists(), "a file outside ip's folder is not ours to remove");
        assert_eq!(Namespace.judge(&view, &image, &mut Hands::new(&mut |_| {})), Verdict::Gone);
    }
}

//! What mounts hold: files and folders that are mounted somewhere else, or have something mounted on them, in any mount
//! namespace that can be read.
//!
//! The kernel does not object when such a name is deleted; it detaches the mount. So this is looked up first. Paths are
//! compared inside their file system, since each namespace has names of its own for them.

use crate::kinds::process;
use crate::proc::mountinfo::Mount;
use crate::proc::{self, Proc, mountinfo};
use crate::view::View;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A look at all mounts is good for this long: a plan of thousands of deletions needs a few.
const GOOD_FOR: Duration = Duration::from_millis(100);

/// The mounts of all readable namespaces, as paths that they hold.
pub(crate) struct Pins {
    at: Instant,
    /// Our own mounts, to find out where a path of ours lies.
    ours: Vec<Mount>,
    /// Device of a file system and path in it.
    held: BTreeSet<(u64, Vec<u8>)>,
    /// Why this may not be all.
    pub(crate) partial: Option<String>,
}

impl Pins {
    /// Reads the mounts of every process's namespace, each namespace once.
    pub(crate) fn read(view: &View) -> Self {
        let mut pins = Self { at: Instant::now(), ours: Vec::new(), held: BTreeSet::new(), partial: None };
        if let Err(error) = pins.fill(view) {
            pins.partial = Some(format!("the mounts of other namespaces cannot be read: {error}"));
        }
        if let Some(why) = process::hidden(view) {
            pins.partial = Some(why);
        }
        pins
    }

    /// Whether it is time to read them again.
    pub(crate) fn is_stale(&self) -> bool {
        self.at.elapsed() > GOOD_FOR
    }

    fn fill(&mut self, view: &View) -> std::io::Result<()> {
        self.ours = mountinfo::parse(&proc::read(&view.proc.join("self/mountinfo"), proc::TABLE)?).collect();
        let proc = Proc::open(&view.proc)?;
        let (mut namespaces, mut roots) = (HashSet::new(), HashSet::new());
        for pid in proc.pids()? {
            let Ok(life) = proc.life(pid) else { continue };
            match life.leads_to("ns/mnt") {
                Ok(look) => {
                    if !namespaces.insert(look.stx_ino) {
                        continue;
                    }
                }
                // A process that we may not look into still shows its mounts; the first one's id tells namespaces apart.
                Err(_) => {
                    let Ok(head) = life.read("mountinfo", 24) else { continue };
                    let Some(id) = head.split(|byte| *byte == b' ').next().and_then(proc::decimal) else { continue };
                    if !roots.insert(id) {
                        continue;
                    }
                }
            }
            match life.read("mountinfo", proc::TABLE) {
                Ok(table) => self.add(&mountinfo::parse(&table).collect::<Vec<_>>()),
                // One that has ended, or a kernel thread.
                Err(error) if matches!(error.raw_os_error(), Some(2 | 3 | 22)) => {}
                Err(error) => self.partial = Some(format!("the mounts of process {pid} cannot be read: {error}")),
            }
        }
        Ok(())
    }

    fn add(&mut self, table: &[Mount]) {
        let by_id: HashMap<u64, &Mount> = table.iter().map(|mount| (mount.id, mount)).collect();
        for mount in table {
            if mount.root != b"/" {
                self.held.insert((mount.device, mount.root.clone()));
            }
            if let Some(parent) = by_id.get(&mount.parent)
                && let Some(inner) = inner(parent, &mount.point)
            {
                self.held.insert((parent.device, inner));
            }
        }
    }

    /// Whether a mount holds what lies at `path`, which must be free of links, or anything below it. `None`: it cannot
    /// be told where in its file system the path lies.
    pub(crate) fn hold(&self, path: &Path) -> Option<bool> {
        // The name in its folder is what would be deleted, not what is mounted on it.
        let (folder, name) = (path.parent()?.as_os_str().as_bytes(), path.file_name()?.as_bytes());
        // Of several mounts on one point the last is the one that is seen.
        let on = self.ours.iter().enumerate().filter(|(_, mount)| inner(mount, folder).is_some());
        let mount = on.max_by_key(|(index, mount)| (mount.point.len(), *index))?.1;
        let mut within = inner(mount, folder)?;
        if within.last() != Some(&b'/') {
            within.push(b'/');
        }
        within.extend_from_slice(name);
        let start = (mount.device, within);
        let from = self.held.range((Bound::Included(&start), Bound::Unbounded));
        // Whatever begins with the path sorts directly behind it, but so do `path!` and the like: skip those.
        let mut near = from.take_while(|(device, held)| *device == start.0 && held.starts_with(&start.1));
        Some(near.any(|(_, held)| held.len() == start.1.len() || held[start.1.len()] == b'/'))
    }
}

/// Where in `mount`'s file system `path` lies, if it lies under that mount's point.
fn inner(mount: &Mount, path: &[u8]) -> Option<Vec<u8>> {
    let point: &[u8] = if mount.point == b"/" { b"" } else { &mount.point };
    let rest = path.strip_prefix(point)?;
    let rest = if rest == b"/" { b"" } else { rest };
    if !rest.is_empty() && rest[0] != b'/' {
        return None;
    }
    let root: &[u8] = if mount.root == b"/" { b"" } else { &mount.root };
    Some([root, rest].concat())
}

/// The path of an open folder as the kernel sees it now, links resolved.
pub(crate) fn path_of_descriptor(folder: BorrowedFd<'_>) -> Option<PathBuf> {
    let path = std::fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd())).ok()?;
    path.is_absolute().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(id: u64, parent: u64, device: u64, root: &str, point: &str) -> Mount {
        Mount {
            id,
            parent,
            device,
            root: root.into(),
            point: point.into(),
            filesystem: b"x".to_vec(),
            source: Vec::new(),
            options: Vec::new(),
        }
    }

    #[test]
    fn mounts_from_and_on_a_path_hold_it_whatever_they_call_it() {
        let ours = vec![mount(1, 0, 7, "/", "/"), mount(2, 1, 8, "/", "/tmp")];
        let mut pins = Pins { at: Instant::now(), ours, held: BTreeSet::new(), partial: None };
        // A container: its root is a folder of our disk, its /data a folder of our /tmp, and a mount on a file there.
        pins.add(&[
            mount(10, 1, 7, "/var/box", "/"),
            mount(11, 10, 8, "/work", "/data"),
            mount(12, 11, 9, "/", "/data/sub"),
            mount(13, 11, 9, "/x", "/data/sub2/file"),
        ]);
        let held = |path: &str| pins.hold(Path::new(path));
        assert_eq!(held("/tmp/work"), Some(true), "mounted elsewhere");
        assert_eq!(held("/tmp/work/sub"), Some(true), "mounted on, there");
        assert_eq!(held("/tmp/work/sub2/file"), Some(true), "a file mounted on");
        assert_eq!(held("/tmp/work/sub2"), Some(true), "above one");
        assert_eq!(held("/tmp/work/sub/deeper"), Some(false));
        assert_eq!(held("/tmp/wor"), Some(false));
        assert_eq!(held("/tmp/work!"), Some(false));
        assert_eq!(held("/var/box"), Some(true));
        assert_eq!(held("/var/box/data"), Some(true), "the mount point of another namespace");
        assert_eq!(held("/var/other"), Some(false));
    }

    #[test]
    fn our_own_mounts_are_known() {
        let pins = Pins::read(&crate::testing::view());
        assert_eq!(pins.hold(Path::new("/proc")), Some(true));
        assert_eq!(pins.hold(Path::new("/proc/1/kobj-none")), Some(false));
    }
}

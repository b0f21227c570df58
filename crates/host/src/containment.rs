//! Keeping a job's processes together: an own cgroup v2 group where one can be made, else parenthood alone.

use crate::view::View;
use kobj_abi::Koid;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The deepest tree of groups that is walked; a job that makes deeper ones is told to be incomplete.
const DEPTH_MAX: usize = 32;
/// The magic number of cgroup v2.
const CGROUP2_MAGIC: rustix::fs::FsWord = 0x6367_7270;
/// The most bytes read of one group's list of processes (about 10^6 pids).
const PROCS_BYTES_MAX: u64 = 8 << 20;

/// What holds the job's processes together.
#[derive(Debug)]
pub enum Containment {
    /// An own control group: membership of the living is exact, and none escapes by forking.
    Cgroup(Group),
    /// No group could be made (why): the child subreaper, the family tree and the cookie tell who belongs to the job.
    Subreaper(String),
}

/// A control group made for one job.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    folder: OwnedFd,
}

impl Containment {
    /// The best containment that can be had from here.
    ///
    /// `announce` is given the group's path before it is made: who writes it down there can remove the group after any
    /// death. The path is nobody else's, whether the group comes to be or not.
    #[must_use]
    pub fn choose(view: &View, koid: Koid, announce: impl FnOnce(&Path)) -> Self {
        match Group::create(view, koid, announce) {
            Ok(group) => Self::Cgroup(group),
            Err(why) => Self::Subreaper(why),
        }
    }

    /// The name in the report.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cgroup(_) => "cgroup",
            Self::Subreaper(_) => "subreaper",
        }
    }

    /// The group, where there is one.
    #[must_use]
    pub fn group(&self) -> Option<&Group> {
        match self {
            Self::Cgroup(group) => Some(group),
            Self::Subreaper(_) => None,
        }
    }
}

/// How often those who were spared are moved, at most.
const DISSOLVE_MAX: usize = 8;

impl Group {
    /// Makes a group for the job below this process's own, named `kobj-ERA-COUNTER-NANOSECONDS`: users and runtime
    /// folders count their eras apart, so the era alone is not unique. `announce` as in [`Containment::choose`].
    ///
    /// # Errors
    /// A sentence that says why there is none: no cgroup v2, or not ours to write.
    pub fn create(view: &View, koid: Koid, announce: impl FnOnce(&Path)) -> Result<Self, String> {
        let own = own_group(&view.proc)?;
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let nanoseconds = now.tv_sec.wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec);
        let path = own.join(format!("kobj-{:08x}-{:08x}-{nanoseconds:x}", koid.era().0, koid.counter()));
        announce(&path);
        fs::create_dir(&path).map_err(|error| format!("cannot make the control group {}: {error}", path.display()))?;
        Self::open(path.clone()).inspect_err(|_| {
            let _ = fs::remove_dir(&path);
        })
    }

    /// Opens the group at `path` (as a record names it).
    ///
    /// # Errors
    /// A sentence that says why it cannot be opened.
    pub fn open(path: PathBuf) -> Result<Self, String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(folder) => Ok(Self { path, folder }),
            Err(error) => Err(format!("cannot open the control group {}: {error}", path.display())),
        }
    }

    /// The group's folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every process in the group and the groups below it, in no order.
    ///
    /// # Errors
    /// The list could not be read.
    pub fn members(&self) -> io::Result<Vec<u32>> {
        let mut members = Vec::new();
        let mut groups = vec![(self.path.clone(), 0)];
        while let Some((group, depth)) = groups.pop() {
            read_members(&group, &mut members)?;
            if depth < DEPTH_MAX {
                groups.extend(inner_groups(&group).into_iter().map(|inner| (inner, depth + 1)));
            }
        }
        Ok(members)
    }

    /// Whether any process is left in the group or below it; true when that cannot be read.
    #[must_use]
    pub fn is_populated(&self) -> bool {
        let mut text = [0; 64];
        let opened =
            rustix::fs::openat(&self.folder, c"cgroup.events", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let length = opened.and_then(|events| rustix::io::read(&events, &mut text)).unwrap_or(0);
        !text[..length].starts_with(b"populated 0\n")
    }

    /// Ends every process in the group and below it at once (`cgroup.kill`, Linux 5.14).
    ///
    /// # Errors
    /// The kernel refused, or is older.
    pub fn kill(&self) -> io::Result<()> {
        fs::OpenOptions::new().write(true).open(self.path.join("cgroup.kill"))?.write_all(b"1")
    }

    /// Removes the group and the empty groups below it. A group with processes stays, and the answer is false.
    #[must_use]
    pub fn remove(&self) -> bool {
        // The usual case first: one call, no listing.
        match rustix::fs::rmdir(&self.path) {
            Ok(()) | Err(Errno::NOENT) => return true,
            Err(_) => {}
        }
        let mut found = vec![self.path.clone()];
        let mut next = 0;
        while let Some(group) = found.get(next).cloned() {
            found.extend(inner_groups(&group));
            next += 1;
        }
        found.iter().rev().all(|group| matches!(rustix::fs::rmdir(group), Ok(()) | Err(Errno::NOENT)))
    }
}

impl Group {
    /// Removes the group though processes were spared: those go on in the group around it, where kobj itself was. Else the
    /// group would stay for ever once they have ended, since nobody would be there to remove it.
    ///
    /// Groups that the job made inside, with processes in them, are somebody's and stay, and so does this one; the answer
    /// is then false.
    #[must_use]
    pub fn dissolve(&self) -> bool {
        let Some(around) = self.path.parent().map(|parent| parent.join("cgroup.procs")) else { return false };
        // Who forks meanwhile is moved the next time.
        for _ in 0..DISSOLVE_MAX {
            if self.remove() {
                return true;
            }
            let mut members = Vec::new();
            let listed = read_members(&self.path, &mut members);
            if listed.is_err() || members.is_empty() {
                return false;
            }
            for pid in members {
                let moved = fs::OpenOptions::new().write(true).open(&around);
                // One that has ended since is no longer to be moved.
                let _ = moved.and_then(|mut procs| procs.write_all(pid.to_string().as_bytes()));
            }
        }
        self.remove()
    }
}

/// Removes the group at `path`, as a record names it, with the empty groups below it; whether it is gone.
#[must_use]
pub fn remove_group(path: &Path) -> bool {
    at(path, Group::remove)
}

/// The same by [`Group::dissolve`].
#[must_use]
pub fn dissolve_group(path: &Path) -> bool {
    at(path, Group::dissolve)
}

fn at(path: &Path, remove: impl FnOnce(&Group) -> bool) -> bool {
    let is_absent = || matches!(rustix::fs::lstat(path), Err(Errno::NOENT));
    Group::open(path.to_path_buf()).map_or_else(|_| is_absent(), |group| remove(&group))
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

fn read_members(group: &Path, members: &mut Vec<u32>) -> io::Result<()> {
    let mut text = String::new();
    let file = match fs::File::open(group.join("cgroup.procs")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    match file.take(PROCS_BYTES_MAX).read_to_string(&mut text) {
        Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => return Ok(()),
        // A threaded inner group lists threads elsewhere; its processes are listed by the group that owns them.
        Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => return Ok(()),
        other => other?,
    };
    members.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0));
    Ok(())
}

fn inner_groups(group: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(group) else { return Vec::new() };
    let folders = entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}

/// The folder of this process's own cgroup v2 group, through whichever mount shows it.
fn own_group(proc: &Path) -> Result<PathBuf, String> {
    let read = |name: &str| {
        let path = proc.join("self").join(name);
        crate::proc::read(&path, crate::proc::TABLE).map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    let groups = read("cgroup")?;
    let own = groups
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"0::"))
        .ok_or("this process is in no cgroup v2 group")?;
    if let Some(group) = WELL_KNOWN.iter().find_map(|mount| below_well_known(Path::new(mount), own)) {
        return Ok(group);
    }
    let mounts = read("mountinfo")?;
    mounts
        .split(|byte| *byte == b'\n')
        .find_map(|line| through_mount(line, own))
        .ok_or_else(|| "no writable cgroup v2 hierarchy is mounted here".to_owned())
}

/// Where the hierarchy is mounted nearly everywhere: alone, and beside the older one.
const WELL_KNOWN: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// The group `own` in the hierarchy at `mount`, if that shows it whole: one look instead of a pass over all mounts.
fn below_well_known(mount: &Path, own: &[u8]) -> Option<PathBuf> {
    let below = own.strip_prefix(b"/")?;
    // The root of the hierarchy has no `cgroup.events`: a mount of an inner group would be told by it.
    if rustix::fs::statfs(mount).ok()?.f_type != CGROUP2_MAGIC || mount.join("cgroup.events").exists() {
        return None;
    }
    if below.is_empty() {
        return Some(mount.to_path_buf());
    }
    let group = mount.join(OsStr::from_bytes(below));
    group.is_dir().then_some(group)
}

/// Where the group `own` is seen through the mount that this mountinfo line describes, if it is a cgroup v2 one.
fn through_mount(line: &[u8], own: &[u8]) -> Option<PathBuf> {
    let dash = line.windows(3).position(|part| part == b" - ")?;
    if !line[dash + 3..].starts_with(b"cgroup2 ") {
        return None;
    }
    let mut fields = line[..dash].split(|byte| *byte == b' ');
    let root = fields.nth(3)?;
    let point = fields.next()?;
    if fields.next()?.split(|byte| *byte == b',').any(|option| option == b"ro") || point.contains(&b'\\') {
        return None;
    }
    let below = if root == b"/" { own } else { own.strip_prefix(root)? };
    let below = below.strip_prefix(b"/").unwrap_or(below);
    Some(Path::new(OsStr::from_bytes(point)).join(OsStr::from_bytes(below)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_through_whole_and_partial_mounts() {
        let whole = b"30 20 0:26 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(through_mount(whole, b"/a/b"), Some(PathBuf::from("/sys/fs/cgroup/unified/a/b")));
        assert_eq!(through_mount(whole, b"/"), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        let part = b"30 20 0:26 /a /mnt/c rw - cgroup2 none rw";
        assert_eq!(through_mount(part, b"/a/b"), Some(PathBuf::from("/mnt/c/b")));
        assert_eq!(through_mount(part, b"/other"), None);
        assert_eq!(through_mount(b"30 20 0:26 / /mnt/c ro - cgroup2 none rw", b"/a"), None);
        assert_eq!(through_mount(b"30 20 0:26 / /mnt/c rw - tmpfs none rw", b"/a"), None);
        for cut in 0..whole.len() {
            let _ = through_mount(&whole[..cut], b"/a");
        }
    }

    #[test]
    fn a_hidden_or_missing_proc_is_an_answer_and_not_a_panic() {
        assert!(own_group(Path::new("/nonexistent")).unwrap_err().contains("/nonexistent/self/cgroup"));
    }
}

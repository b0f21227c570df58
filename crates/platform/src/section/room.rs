//! How much memory a section may take: what the system and the control groups around this process say is left.
//!
//! A memfd has no file system that would refuse it: a section of a pebibyte "works", and brings the out-of-memory killer when
//! it is touched. So its size is compared before anything is allocated with
//!
//! - `MemAvailable` of `/proc/meminfo`, less a margin: a sixteenth of all memory, at least 64 MiB and at most 1 GiB. The kernel's
//!   number is an estimate, and near its end every allocation of every program waits for memory to be cleaned;
//! - what each control group of memory around this process may have (`memory.max`, version 2; `memory.limit_in_bytes`, version
//!   1) less what it has. Its page cache counts as free, since it is given back before anything is refused;
//! - the largest file that this process may make (`RLIMIT_FSIZE`): beyond it `ftruncate` would be answered by a signal.
//!
//! To read all this takes longer than to make a small section. What was read is used again for a tenth of a second, less all
//! that was taken meanwhile, for sections of at most a 64th of it.

use rustix::process::Resource;
use rustix::time::ClockId;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// There is too little memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomError {
    /// What was wanted, in bytes.
    pub wanted_bytes: u64,
    /// What there is, in bytes.
    pub left_bytes: u64,
}

impl fmt::Display for RoomError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted_bytes, left_bytes } = self;
        write!(f, "{wanted_bytes} bytes of memory were wanted, {left_bytes} can be had; make a smaller section")
    }
}

impl std::error::Error for RoomError {}

const MARGIN_LEAST_BYTES: u64 = 64 << 20;
const MARGIN_MOST_BYTES: u64 = 1 << 30;
/// What was read is used again for so long.
const FRESH: Duration = Duration::from_millis(100);
/// And for sections of at most this part of it.
const SMALL_PART: u64 = 64;

/// What is left, as read a moment ago.
#[derive(Debug)]
struct Reading {
    at: Duration,
    left_bytes: u64,
}

/// The memory that sections may take.
#[derive(Debug)]
pub struct Room {
    last: Mutex<Option<Reading>>,
    /// What the machine had when this began.
    all_bytes: u64,
    proc: PathBuf,
    cgroup: PathBuf,
}

impl Default for Room {
    fn default() -> Self {
        Self::under(Path::new("/proc"), Path::new("/sys/fs/cgroup"))
    }
}

impl Room {
    /// Reads below other folders than `/proc` and `/sys/fs/cgroup`.
    #[must_use]
    pub fn under(proc: &Path, cgroup: &Path) -> Self {
        let system = rustix::system::sysinfo();
        let all_bytes = system.totalram.saturating_mul(system.mem_unit.into());
        Self { last: Mutex::new(None), all_bytes, proc: proc.into(), cgroup: cgroup.into() }
    }

    /// Counts so many bytes as taken, if they can be had. Allocates nothing of that size.
    ///
    /// # Errors
    /// [`RoomError`]; then nothing is counted.
    pub fn take(&self, wanted_bytes: u64) -> Result<(), RoomError> {
        if wanted_bytes > self.all_bytes {
            // More than there is at all: refused without a look at any file, and so without any memory.
            return Err(RoomError { wanted_bytes, left_bytes: self.all_bytes });
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = coarse_time();
        let fresh = last.as_mut().filter(|last| now.saturating_sub(last.at) < FRESH);
        if let Some(fresh) = fresh.filter(|fresh| wanted_bytes <= fresh.left_bytes / SMALL_PART) {
            fresh.left_bytes -= wanted_bytes;
            return Ok(());
        }
        let left_bytes = self.read();
        let rest = left_bytes.checked_sub(wanted_bytes);
        *last = Some(Reading { at: now, left_bytes: rest.unwrap_or(left_bytes) });
        rest.map(drop).ok_or(RoomError { wanted_bytes, left_bytes })
    }

    /// What can be had now, in bytes.
    #[must_use]
    pub fn read(&self) -> u64 {
        let largest_file = rustix::process::getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
        self.available().min(self.left_in_groups()).min(largest_file)
    }

    fn available(&self) -> u64 {
        let meminfo = fs::read_to_string(self.proc.join("meminfo")).unwrap_or_default();
        let of = |name| field(&meminfo, name).and_then(|kib| kib.checked_mul(1024));
        let (total, available) = match (of("MemTotal:"), of("MemAvailable:")) {
            (Some(total), Some(available)) => (total, available),
            // Without /proc: what nobody uses at all, which is less.
            _ => {
                let system = rustix::system::sysinfo();
                let unit = u64::from(system.mem_unit);
                (system.totalram.saturating_mul(unit), system.freeram.saturating_mul(unit))
            }
        };
        available.saturating_sub((total / 16).clamp(MARGIN_LEAST_BYTES, MARGIN_MOST_BYTES))
    }

    /// What the control groups around this process leave it; all there is if there are none.
    fn left_in_groups(&self) -> u64 {
        let groups = fs::read_to_string(self.proc.join("self/cgroup")).unwrap_or_default();
        let mut left = u64::MAX;
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':');
            let (_, Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
            let (mounts, files): (&[&str], _) = match controllers {
                "" => (&["", "unified"], ["memory.max", "memory.current"]),
                "memory" => (&["memory"], ["memory.limit_in_bytes", "memory.usage_in_bytes"]),
                _ => continue,
            };
            for mount in mounts {
                left = left.min(left_below(&self.cgroup.join(mount), path, files));
            }
        }
        left
    }
}

/// What a group and all around it leave. A path that is not there (another namespace's) has no limit but its mount's.
fn left_below(mount: &Path, path: &str, [limit, usage]: [&str; 2]) -> u64 {
    let inner = mount.join(path.trim_start_matches('/'));
    let mut left = u64::MAX;
    for group in inner.ancestors().take_while(|group| group.starts_with(mount)) {
        let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
        // No limit is spelled "max" in version 2, and as a number larger than any memory in version 1.
        let Some(most) = number(limit) else { continue };
        let rest = most.saturating_sub(number(usage).unwrap_or(0));
        if rest < left {
            left = rest.saturating_add(page_cache(group));
        }
    }
    left
}

/// Pages of files, which a group gives back before it refuses anything. Those of shared memory are not among them.
fn page_cache(group: &Path) -> u64 {
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let of = |name| field(&stat, name).unwrap_or(0);
    of("inactive_file").saturating_add(of("active_file"))
}

/// The number behind a name at the beginning of a line.
/// The time since boot as of the last tick, some milliseconds ago: near enough, and it is not asked of any device.
fn coarse_time() -> Duration {
    let now = rustix::time::clock_gettime(ClockId::MonotonicCoarse);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(name)).then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Folders as the kernel shows them, removed at the end.
    struct Folders(PathBuf);

    impl Folders {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("kobj-room-{name}-{}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(root)
        }

        fn room(&self) -> Room {
            Room::under(&self.0.join("proc"), &self.0.join("cgroup"))
        }
    }

    impl Drop for Folders {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const MIB: u64 = 1 << 20;
    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal: 4194304 kB\nMemFree: 7 kB\nMemAvailable: 2097152 kB\n");

    #[test]
    fn the_margin_is_kept_free() {
        let folders = Folders::new("margin", &[MEMINFO]);
        assert_eq!(folders.room().read(), 2048 * MIB - 256 * MIB);
        let error = folders.room().take(2048 * MIB).unwrap_err();
        assert_eq!(error, RoomError { wanted_bytes: 2048 * MIB, left_bytes: 1792 * MIB });
        assert!(error.to_string().contains("smaller"));
        assert_eq!(folders.room().take(1792 * MIB), Ok(()));
    }

    #[test]
    fn every_group_around_counts_less_what_it_has_and_its_page_cache_is_free() {
        let files = [
            MEMINFO,
            ("proc/self/cgroup", "0::/outer/inner\n"),
            ("cgroup/outer/memory.max", "104857600\n"),
            ("cgroup/outer/memory.current", "62914560\n"),
            ("cgroup/outer/memory.stat", "anon 5\ninactive_file 1048576\nactive_file 2097152\nshmem 9\n"),
            ("cgroup/outer/inner/memory.max", "max\n"),
            ("cgroup/outer/inner/memory.current", "62914560\n"),
            ("cgroup/memory.max", "1073741824\n"),
        ];
        assert_eq!(Folders::new("groups", &files).room().read(), 43 * MIB);
    }

    #[test]
    fn version_1_and_hybrid_systems_are_read_too() {
        let files = [
            MEMINFO,
            ("proc/self/cgroup", "3:cpu,cpuacct:/\n4:memory:/box\n0::/other\n"),
            ("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("cgroup/memory/memory.usage_in_bytes", "4096\n"),
            ("cgroup/memory/box/memory.limit_in_bytes", "31457280\n"),
            ("cgroup/memory/box/memory.usage_in_bytes", "10485760\n"),
            ("cgroup/unified/other/memory.max", "max\n"),
        ];
        assert_eq!(Folders::new("hybrid", &files).room().read(), 20 * MIB);
    }

    #[test]
    fn many_small_ones_take_as_much_as_one_large_one() {
        let folders = Folders::new("small", &[MEMINFO]);
        let room = folders.room();
        let left = || room.last.lock().unwrap().as_ref().unwrap().left_bytes;
        room.take(MIB).unwrap();
        assert_eq!(left(), 1791 * MIB);
        room.take(MIB).unwrap();
        // Read again, if this thread slept for a tenth of a second.
        assert!([1790, 1791].map(|mib| mib * MIB).contains(&left()));
        // The files say less now: a large one is never compared with what was read before.
        fs::write(folders.0.join("proc/meminfo"), "MemTotal: 4194304 kB\nMemAvailable: 300000 kB\n").unwrap();
        assert!(room.take(1024 * MIB).is_err());
    }

    #[test]
    fn more_than_there_is_at_all_is_refused_without_a_look() {
        let room = Folders::new("all", &[MEMINFO]).room();
        let error = room.take(1 << 50).unwrap_err();
        assert!(error.left_bytes < 1 << 50 && room.last.lock().unwrap().is_none());
    }

    #[test]
    fn without_the_files_what_nobody_uses_is_left() {
        let left = Folders::new("none", &[]).room().read();
        assert!(left < 1 << 50, "{left}");
    }
}

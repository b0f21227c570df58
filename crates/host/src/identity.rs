//! Who a file is, whatever it is called: device, inode, generation, birth time.

use kobj_core::image::{FileHandle, Identity, Time};
use kobj_platform::file_handle;
use rustix::fs::{AtFlags, Mode, OFlags, Statx, StatxFlags, StatxTimestamp};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a look at a file gives.
#[derive(Clone, Debug)]
pub struct Stat {
    /// Type and permissions, as `st_mode`.
    pub mode: u32,
    /// How many names it has.
    pub names: u32,
    /// Its owner.
    pub uid: u32,
    /// Size in bytes.
    pub size: u64,
    /// The mount's device, as `st_dev`.
    pub device: u64,
    /// The inode number.
    pub inode: u64,
    /// Birth time, where the file system has it.
    pub born: Option<Time>,
    /// When its inode last changed.
    pub changed: Time,
    /// The id of the mount it was reached by, where the kernel says.
    pub mount: Option<u64>,
}

/// The type bits of `st_mode`.
const TYPE: u32 = 0o170_000;

impl Stat {
    /// A regular file.
    #[must_use]
    pub fn is_regular(&self) -> bool {
        self.mode & TYPE == 0o100_000
    }

    /// A folder.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        self.mode & TYPE == 0o040_000
    }

    /// A symbolic link.
    #[must_use]
    pub fn is_link(&self) -> bool {
        self.mode & TYPE == 0o120_000
    }

    /// A socket.
    #[must_use]
    pub fn is_socket(&self) -> bool {
        self.mode & TYPE == 0o140_000
    }

    /// A named pipe.
    #[must_use]
    pub fn is_fifo(&self) -> bool {
        self.mode & TYPE == 0o010_000
    }

    /// A block or character device node.
    #[must_use]
    pub fn is_device(&self) -> bool {
        matches!(self.mode & TYPE, 0o060_000 | 0o020_000)
    }
}

fn time(stamp: StatxTimestamp) -> Time {
    Time(stamp.tv_sec.saturating_mul(1_000_000).saturating_add(i64::from(stamp.tv_nsec / 1_000)))
}

fn stat_of(raw: &Statx) -> Stat {
    Stat {
        mode: u32::from(raw.stx_mode),
        names: raw.stx_nlink,
        uid: raw.stx_uid,
        size: raw.stx_size,
        device: rustix::fs::makedev(raw.stx_dev_major, raw.stx_dev_minor),
        inode: raw.stx_ino,
        born: (raw.stx_mask & StatxFlags::BTIME.bits() != 0).then(|| time(raw.stx_btime)),
        changed: time(raw.stx_ctime),
        mount: (raw.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(raw.stx_mnt_id),
    }
}

fn wanted() -> StatxFlags {
    StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID
}

/// Looks at `name` in `folder` without following a link and without its generation: one call.
pub fn stat(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<Stat> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    Ok(stat_of(&rustix::fs::statx(folder, name, flags, wanted())?))
}

/// Looks at what a descriptor refers to (`O_PATH` ones too).
pub fn stat_descriptor(file: BorrowedFd<'_>) -> io::Result<Stat> {
    Ok(stat_of(&rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, wanted())?))
}

/// The generation of what a descriptor refers to, if its file system has one that is worth keeping.
#[must_use]
pub fn handle(file: BorrowedFd<'_>) -> Option<FileHandle> {
    let raw = file_handle::handle_at(file, c"").ok()?;
    FileHandle::new(raw.kind, raw.bytes())
}

/// A descriptor that names `name` in `folder` itself, whatever it is: opening it this way disturbs nobody.
///
/// Links are not followed; fifos, sockets and devices are not opened.
pub fn point_at(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// Look and identity of what a descriptor refers to.
pub fn of_descriptor(file: BorrowedFd<'_>) -> io::Result<(Stat, Identity)> {
    let stat = stat_descriptor(file)?;
    let identity = Identity::File { device: stat.device, inode: stat.inode, handle: handle(file), born: stat.born };
    Ok((stat, identity))
}

/// Look and identity of `name` in `folder`, without following links; both of the same file, however names move.
pub fn of(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<(Stat, Identity)> {
    of_descriptor(point_at(folder, name)?.as_fd())
}

/// Whether two identities are one file: device and inode, and generation and birth time where both have them.
///
/// A birth time is compared only where a generation is missing: two looks by different means may round it differently.
#[must_use]
pub fn same(one: &Identity, other: &Identity) -> bool {
    match (one, other) {
        (
            Identity::File { device: d1, inode: i1, handle: h1, born: b1 },
            Identity::File { device: d2, inode: i2, handle: h2, born: b2 },
        ) => {
            d1 == d2
                && i1 == i2
                && match (h1, h2) {
                    (Some(one), Some(other)) => one == other,
                    _ => b1.is_none() || b2.is_none() || b1 == b2,
                }
        }
        _ => one == other,
    }
}

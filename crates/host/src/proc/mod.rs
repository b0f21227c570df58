//! Reading procfs: bounded reads of its files, and parsers that take bytes and never panic.
//!
//! Everything here may have been written by somebody hostile (command names, socket names, mount points). A parser
//! skips a line that it does not understand; it never guesses a number.

use crate::view::View;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, Statx, StatxFlags, openat, readlinkat, statx};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

pub mod environ;
pub mod fdinfo;
pub mod inet;
pub mod locks;
pub mod maps;
pub mod mountinfo;
pub mod net_dev;
pub mod partitions;
pub mod stat;
pub mod status;
pub mod sysvipc;
pub mod unix;

/// The longest small file that is read (`stat`, `status`, `fdinfo`), in bytes.
pub const SMALL: usize = 64 << 10;
/// The longest table that is read (`maps`, `net/unix`, `sysvipc/shm`), in bytes: a million lines.
pub const TABLE: usize = 256 << 20;

/// Reads `name` under `folder` to its end or to `limit` bytes, whichever comes first.
///
/// # Errors
/// What opening or reading said. A file that is longer than `limit` is cut, without an error.
pub fn read_at(folder: impl AsFd, name: impl rustix::path::Arg, limit: usize) -> std::io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = File::from(openat(folder, name, flags, Mode::empty())?);
    let mut content = Vec::with_capacity(limit.min(4096));
    file.take(limit as u64).read_to_end(&mut content)?;
    Ok(content)
}

/// Reads the file at `path` in the same way.
///
/// # Errors
/// As [`read_at`].
pub fn read(path: &Path, limit: usize) -> std::io::Result<Vec<u8>> {
    read_at(CWD, path, limit)
}

/// A whole table of the kernel's, or a sentence that says why not.
pub(crate) fn table_of(view: &View, name: &str) -> Result<Vec<u8>, String> {
    read(&view.proc.join(name), TABLE).map_err(|error| format!("/proc/{name} cannot be read: {error}"))
}

/// A procfs, held open.
pub struct Proc {
    folder: OwnedFd,
}

impl Proc {
    /// Opens the procfs at `path`.
    ///
    /// # Errors
    /// What opening said; or it numbers the processes of another PID namespace, so that what it says of a number is not
    /// said of ours.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let folder = open_folder(CWD, path)?;
        let own = std::process::id().to_string();
        match rustix::fs::readlinkat(&folder, "self", Vec::new()) {
            Ok(shown) if shown.as_bytes() != own.as_bytes() => {
                Err(std::io::Error::other("it shows another PID namespace; mount one of this namespace's own"))
            }
            _ => Ok(Self { folder }),
        }
    }

    /// Reads one of its tables.
    ///
    /// # Errors
    /// As [`read_at`].
    pub fn table(&self, name: &str) -> std::io::Result<Vec<u8>> {
        read_at(&self.folder, name, TABLE)
    }

    /// Every process id that is listed, ascending.
    ///
    /// # Errors
    /// What listing said.
    pub fn pids(&self) -> std::io::Result<Vec<u32>> {
        // A descriptor of its own: a listing moves the position that a shared one would share.
        let own = open_folder(&self.folder, ".")?;
        let mut pids = Vec::new();
        numbered_entries(&own, |number| pids.push(number))?;
        pids.sort_unstable();
        Ok(pids)
    }

    /// The folder of a process.
    ///
    /// # Errors
    /// What opening said; `NotFound` if there is none.
    pub fn life(&self, pid: u32) -> std::io::Result<Life> {
        Ok(Life { folder: open_path(&self.folder, pid.to_string().as_str())?, pid })
    }
}

/// The folder of one life of a process id, held open.
///
/// The kernel ties an open folder to the process and not to its number: after the process is gone, every read through
/// it fails, even if the number was given to another process. So what is read through one `Life` is of one process.
pub struct Life {
    folder: OwnedFd,
    /// The process id.
    pub pid: u32,
}

impl Life {
    /// Reads one of its files.
    ///
    /// # Errors
    /// As [`read_at`]; also when the process is gone.
    pub fn read(&self, name: impl rustix::path::Arg, limit: usize) -> std::io::Result<Vec<u8>> {
        read_at(&self.folder, name, limit)
    }

    /// Its `stat`.
    #[must_use]
    pub fn stat(&self) -> Option<stat::Stat> {
        stat::parse(&self.read("stat", SMALL).ok()?)
    }

    /// Its command name; empty if it is gone.
    #[must_use]
    pub fn command(&self) -> Vec<u8> {
        let mut name = self.read("comm", 4096).unwrap_or_default();
        if name.last() == Some(&b'\n') {
            name.pop();
        }
        name
    }

    /// Opens one of its folders (`fd`, `ns`, `map_files`, `task`) for listing.
    ///
    /// # Errors
    /// What opening said.
    pub fn subfolder(&self, name: &str) -> std::io::Result<OwnedFd> {
        open_folder(&self.folder, name)
    }

    /// What `name` (`cwd`, `root`, `ns/net`, `fd/3`) leads to.
    ///
    /// # Errors
    /// What the call said.
    pub fn leads_to(&self, name: &str) -> rustix::io::Result<Statx> {
        look(&self.folder, name)
    }

    /// The text of the link `name`.
    ///
    /// # Errors
    /// What the call said.
    pub fn link(&self, name: impl rustix::path::Arg) -> rustix::io::Result<Vec<u8>> {
        Ok(readlinkat(&self.folder, name, Vec::new())?.into_bytes())
    }

    /// The open folder itself.
    #[must_use]
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

/// The least that tells an object from others: device, inode, type, mount, device number. Never waits for a server.
///
/// # Errors
/// What the call said.
pub fn look(folder: impl AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<Statx> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    statx(folder, name, flags, StatxFlags::INO | StatxFlags::TYPE | StatxFlags::from_bits_retain(MOUNT_UNIQUE))
}

/// `STATX_MNT_ID_UNIQUE` (Linux 6.8): a mount id that is never used again. Older kernels leave the field empty.
pub const MOUNT_UNIQUE: u32 = 0x4000;

/// The device number of a look, in the form of `st_dev`.
#[must_use]
pub fn device_of(look: &Statx) -> u64 {
    rustix::fs::makedev(look.stx_dev_major, look.stx_dev_minor)
}

/// The device that a device node stands for, in the form of `st_rdev`.
#[must_use]
pub fn node_of(look: &Statx) -> u64 {
    rustix::fs::makedev(look.stx_rdev_major, look.stx_rdev_minor)
}

fn open_folder(at: impl AsFd, name: impl rustix::path::Arg) -> std::io::Result<OwnedFd> {
    Ok(openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn open_path(at: impl AsFd, name: impl rustix::path::Arg) -> std::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(openat(at, name, flags, Mode::empty())?)
}

/// Calls `visit` for each entry of an open folder whose name is a number.
///
/// # Errors
/// What listing said.
pub fn numbered_entries(folder: impl AsFd, mut visit: impl FnMut(u32)) -> std::io::Result<()> {
    let mut space = [MaybeUninit::<u8>::uninit(); 32 << 10];
    let mut entries = RawDir::new(folder, &mut space);
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) => {
                if let Some(number) = decimal(entry.file_name().to_bytes()).and_then(|n| u32::try_from(n).ok()) {
                    visit(number);
                }
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// An unsigned decimal number, all of `text`; no sign, no space, no overflow.
#[must_use]
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// A decimal number with an optional minus.
#[must_use]
pub fn signed(text: &[u8]) -> Option<i64> {
    match text.strip_prefix(b"-") {
        Some(rest) => i64::try_from(decimal(rest)?).ok().map(|n| -n),
        None => i64::try_from(decimal(text)?).ok(),
    }
}

/// An unsigned hexadecimal number, all of `text`, without a prefix.
#[must_use]
pub fn hexadecimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 16 {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, byte| {
        let digit = (*byte as char).to_digit(16)?;
        Some(sum << 4 | u64::from(digit))
    })
}

/// An octal number, all of `text`.
#[must_use]
pub fn octal(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 10 {
        return None;
    }
    text.iter().try_fold(0_u32, |sum, byte| (b'0'..=b'7').contains(byte).then(|| sum << 3 | u32::from(byte - b'0')))
}

/// The words of a line, whatever the number of spaces and tabs between them.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b' ' || *byte == b'\t').filter(|word| !word.is_empty())
}

/// The lines of a text, without their ends.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// Undoes procfs's `\ooo` for bytes that would break a line (space, tab, newline, backslash).
#[must_use]
pub fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        if *first == b'\\'
            && let Some(digits) = after.get(..3)
            && let Some(value) = octal(digits).and_then(|value| u8::try_from(value).ok())
        {
            plain.push(value);
            rest = &after[3..];
        } else {
            plain.push(*first);
            rest = after;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn numbers_are_taken_whole_or_not_at_all() {
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for wrong in [&b"18446744073709551616"[..], b"", b"+1", b"-1", b"1 ", b"0x1", b"\xff", b"999999999999999999999"]
        {
            assert_eq!(decimal(wrong), None);
        }
        assert_eq!(signed(b"-1"), Some(-1));
        assert_eq!(signed(b"--1"), None);
        assert_eq!(hexadecimal(b"ffffffffffffffff"), Some(u64::MAX));
        assert_eq!(hexadecimal(b"fffffffffffffffff"), None);
        assert_eq!(octal(b"1600"), Some(0o1600));
        assert_eq!(octal(b"8"), None);
    }

    #[test]
    fn escapes_are_undone_and_loose_backslashes_kept() {
        assert_eq!(unescape(b"/a\\040b\\012c"), b"/a b\nc");
        assert_eq!(unescape(b"\\04"), b"\\04");
        assert_eq!(unescape(b"\\777"), b"\\777");
        assert_eq!(unescape(b"\\"), b"\\");
    }

    #[test]
    fn an_open_folder_never_shows_another_life_of_its_number() {
        let proc = Proc::open(Path::new("/proc")).unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let life = proc.life(child.id()).unwrap();
        assert_eq!(life.stat().unwrap().pid, child.id());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(life.stat(), None);
        assert!(life.subfolder("fd").is_err());
        assert!(proc.life(u32::MAX).is_err());
    }

    #[test]
    fn a_read_stops_at_its_limit() {
        assert_eq!(read(Path::new("/proc/self/maps"), 10).unwrap().len(), 10);
    }

    /// Every parser, fed with `text`.
    fn parse_all(text: &[u8]) -> usize {
        let info = fdinfo::parse(text);
        let status = status::parse(text);
        environ::entries(text).count()
            + inet::parse(text).count()
            + locks::parse(text).count()
            + locks::of_descriptor(text).count()
            + maps::parse(text).count()
            + mountinfo::parse(text).count()
            + net_dev::names(text).count()
            + partitions::parse(text).count()
            + sysvipc::shm(text).count()
            + sysvipc::sem(text).count()
            + sysvipc::msg(text).count()
            + unix::parse(text).count()
            + usize::from(stat::parse(text).is_some())
            + usize::from(info.mount.is_some())
            + usize::from(status.uid.is_some())
    }

    #[test]
    fn no_bytes_make_a_parser_panic() {
        let names = [
            "self/stat",
            "self/status",
            "self/maps",
            "self/mountinfo",
            "self/fdinfo/0",
            "self/environ",
            "locks",
            "partitions",
            "net/unix",
            "net/udp",
            "net/dev",
            "sysvipc/shm",
            "sysvipc/sem",
            "sysvipc/msg",
        ];
        let odd = [0, b' ', b'\n', b'\t', b'(', b')', b':', b'-', b'\\', b'9', b'f', 0x7f, 0x80, 0xff];
        // A small generator of its own: the same numbers at each run.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below.max(1)
        };
        let mut parsed = 0;
        for name in names {
            let whole = read(&Path::new("/proc").join(name), 16 << 10).unwrap_or_default();
            for _ in 0..200 {
                let mut text = whole.clone();
                text.truncate(next(text.len() + 1));
                for _ in 0..next(30) {
                    if let Some(byte) = text.get_mut(next(whole.len())) {
                        *byte = odd[next(odd.len())];
                    }
                }
                parsed += parse_all(&text);
            }
        }
        assert!(parsed > 0);
    }
}

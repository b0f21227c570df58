//! `/proc/locks`: the advisory locks on files.

use super::{decimal, hexadecimal, lines, signed, words};

/// The family of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockFamily {
    /// `fcntl` of a process.
    Posix,
    /// `fcntl` of an open file description; has no process.
    Description,
    /// `flock`.
    Flock,
}

impl LockFamily {
    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Posix => "fcntl",
            Self::Description => "fcntl OFD",
            Self::Flock => "flock",
        }
    }
}

/// A lock that somebody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lock {
    /// Its family.
    pub family: LockFamily,
    /// Whether it excludes all others.
    pub exclusive: bool,
    /// The process; `None` for a description's lock and for a process of another PID namespace.
    pub pid: Option<u32>,
    /// The file system's device number (not on file systems that give each subvolume one).
    pub device: u64,
    /// The file's inode.
    pub inode: u64,
}

/// The locks in the table: advisory ones that are held. Waiters (`->`), leases and watches are no locks.
pub fn parse(text: &[u8]) -> impl Iterator<Item = Lock> + '_ {
    lines(text).filter_map(line)
}

/// The locks of one descriptor, as its fdinfo lists them (`lock:\t1: FLOCK ...`).
pub fn of_descriptor(fdinfo: &[u8]) -> impl Iterator<Item = Lock> + '_ {
    lines(fdinfo).filter_map(|text| line(text.strip_prefix(b"lock:")?))
}

fn line(line: &[u8]) -> Option<Lock> {
    let mut fields = words(line);
    decimal(fields.next()?.strip_suffix(b":")?)?;
    let family = match fields.next()? {
        b"POSIX" => LockFamily::Posix,
        b"OFDLCK" => LockFamily::Description,
        b"FLOCK" => LockFamily::Flock,
        _ => return None,
    };
    fields.next()?;
    let exclusive = fields.next()? == b"WRITE";
    let pid = u32::try_from(signed(fields.next()?)?).ok().filter(|pid| *pid != 0);
    let mut file = fields.next()?.split(|byte| *byte == b':');
    let major = u32::try_from(hexadecimal(file.next()?)?).ok()?;
    let minor = u32::try_from(hexadecimal(file.next()?)?).ok()?;
    let inode = decimal(file.next()?)?;
    Some(Lock { family, exclusive, pid, device: rustix::fs::makedev(major, minor), inode })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_locks_are_read_and_waiters_are_not() {
        let text =
            b"1: POSIX  ADVISORY  WRITE 1234 fe:00:247030 0 EOF\n1: -> POSIX  ADVISORY  WRITE 9 fe:00:247030 0 EOF\n\
            2: OFDLCK ADVISORY  READ -1 00:17:12 0 EOF\n3: FLOCK  ADVISORY  WRITE 5 00:17:13 0 EOF\n\
            4: LEASE  ACTIVE    READ 5 00:17:13 0 EOF\n5: FLOCK\n6: FLOCK ADVISORY WRITE 5 zz:17:13\n";
        let all: Vec<_> = parse(text).collect();
        assert_eq!(all.len(), 3);
        assert_eq!((all[0].family, all[0].exclusive, all[0].pid), (LockFamily::Posix, true, Some(1234)));
        assert_eq!((all[0].device, all[0].inode), (rustix::fs::makedev(0xfe, 0), 247_030));
        assert_eq!((all[1].family, all[1].exclusive, all[1].pid), (LockFamily::Description, false, None));
        assert_eq!(all[2].family, LockFamily::Flock);
        assert_eq!(of_descriptor(b"pos:\t0\nlock:\t1: FLOCK  ADVISORY  WRITE 5 00:17:13 0 EOF\n").count(), 1);
    }
}

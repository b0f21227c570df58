//! What a node says of an inode: kind, permissions, owner with its names, times, attributes.

use crate::tree::node::{
    MODE_CHARACTERS, MODE_DEVICE, MODE_FOLDER, MODE_LINK, MODE_PIPE, MODE_SET_GROUP, MODE_SET_USER, MODE_SOCKET,
    MODE_STICKY,
};
use crate::tree::{Attribute, Name, Node, NodeKind, Text, Time, Zone};
use rustix::fs::{FileType, Stat, lgetxattr, llistxattr};
use rustix::io::Errno;
use std::collections::HashMap;
use std::io;

/// No file system of Linux keeps a longer value or list.
const LONGEST_ATTRIBUTE: usize = 64 * 1024;

/// The names of users and groups, from `/etc/passwd` and `/etc/group`, as restic's static builds find them.
#[derive(Debug, Default)]
pub struct Owners {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Owners {
    /// The names of this machine. A file that cannot be read names nobody.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let read = |path| std::fs::read(path).map(|bytes| table(&bytes)).unwrap_or_default();
        Self { users: read("/etc/passwd"), groups: read("/etc/group") }
    }

    /// A user's name, empty if there is none.
    #[must_use]
    pub fn user(&self, number: u32) -> &str {
        self.users.get(&number).map_or("", String::as_str)
    }

    /// A group's name, empty if there is none.
    #[must_use]
    pub fn group(&self, number: u32) -> &str {
        self.groups.get(&number).map_or("", String::as_str)
    }
}

/// Number to name, of lines `name:x:number:...`. The first name of a number counts.
fn table(bytes: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in String::from_utf8_lossy(bytes).lines() {
        let mut fields = line.split(':');
        let (Some(name), _, Some(number)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if let (false, Ok(number)) = (name.is_empty() || name.starts_with(['#', '+', '-']), number.parse()) {
            names.entry(number).or_insert_with(|| name.to_string());
        }
    }
    names
}

/// The mode as Go has it; the kernel's bits of permission are the same, all others stand elsewhere.
#[must_use]
pub fn go_mode(mode: u32) -> u32 {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => MODE_FOLDER,
        FileType::Symlink => MODE_LINK,
        FileType::BlockDevice => MODE_DEVICE,
        FileType::CharacterDevice => MODE_DEVICE | MODE_CHARACTERS,
        FileType::Fifo => MODE_PIPE,
        FileType::Socket => MODE_SOCKET,
        _ => 0,
    };
    let bit = |unix: u32, go: u32| if mode & unix != 0 { go } else { 0 };
    kind | (mode & 0o777) | bit(0o4000, MODE_SET_USER) | bit(0o2000, MODE_SET_GROUP) | bit(0o1000, MODE_STICKY)
}

/// The node of an inode, without content, subtree, link target and attributes. None for what restic does not keep: sockets.
#[must_use]
pub fn node(name: &[u8], stat: &Stat, owners: &Owners, zone: &Zone, with_access_time: bool) -> Option<Node> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => NodeKind::File,
        FileType::Directory => NodeKind::Folder,
        FileType::Symlink => NodeKind::Link,
        FileType::BlockDevice => NodeKind::BlockDevice,
        FileType::CharacterDevice => NodeKind::CharacterDevice,
        FileType::Fifo => NodeKind::Pipe,
        _ => return None,
    };
    let time = |seconds: i64, nanoseconds: u64| Time::new(seconds, u32::try_from(nanoseconds).unwrap_or(0), zone);
    let modified = time(stat.st_mtime, stat.st_mtime_nsec);
    let is_device = matches!(kind, NodeKind::BlockDevice | NodeKind::CharacterDevice);
    Some(Node {
        name: Name::new(name),
        mode: go_mode(stat.st_mode),
        modified,
        accessed: if with_access_time { time(stat.st_atime, stat.st_atime_nsec) } else { modified },
        changed: time(stat.st_ctime, stat.st_ctime_nsec),
        uid: stat.st_uid,
        gid: stat.st_gid,
        user: owners.user(stat.st_uid).to_string(),
        group: owners.group(stat.st_gid).to_string(),
        inode: stat.st_ino,
        device_id: stat.st_dev,
        size: if kind == NodeKind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
        links: if matches!(kind, NodeKind::Folder | NodeKind::Pipe) { 0 } else { stat.st_nlink },
        device: if is_device { stat.st_rdev } else { 0 },
        kind,
        ..Node::default()
    })
}

/// The extended attributes of a path, whose last part is not followed, in the kernel's order. None where there are no such.
///
/// # Errors
/// What the system says. An attribute that vanishes meanwhile is no error.
pub fn attributes(path: &[u8]) -> io::Result<Vec<Attribute>> {
    let mut names = Vec::with_capacity(256);
    let length = loop {
        names.resize(names.capacity(), 0);
        match llistxattr(path, &mut names[..]) {
            Ok(length) => break length,
            Err(Errno::RANGE) if names.len() < LONGEST_ATTRIBUTE => names.reserve(LONGEST_ATTRIBUTE),
            Err(Errno::OPNOTSUPP | Errno::PERM) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
    };
    let mut found = Vec::new();
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 256];
        let length = loop {
            match lgetxattr(path, name, &mut value[..]) {
                Ok(length) => break Some(length),
                Err(Errno::RANGE) if value.len() < LONGEST_ATTRIBUTE => value.resize(LONGEST_ATTRIBUTE, 0),
                Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => break None,
                Err(error) => return Err(error.into()),
            }
        };
        if let Some(length) = length {
            value.truncate(length);
            found.push(Attribute { name: Text::new(name.to_vec()), value: Some(value) });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        for (unix, go) in [
            (0o100_644, 420),
            (0o104_755, 8_389_101),
            (0o102_755, 4_194_797),
            (0o107_777, 13_631_999),
            (0o041_777, 2_148_532_735),
            (0o120_777, 134_218_239),
            (0o060_644, 67_109_284),
            (0o020_644, 69_206_436),
            (0o010_644, 33_554_852),
        ] {
            assert_eq!(go_mode(unix), go, "{unix:o}: what restic wrote");
        }
    }

    #[test]
    fn owners_are_read_and_nonsense_is_passed_over() {
        let names =
            table(b"root:x:0:0::/root:/bin/sh\n# comment\n+::::::\nbroken\ntoor:x:0:0\nb\xffd:x:7:7\nx:x:none:1\n");
        assert_eq!((names.get(&0).map(String::as_str), names.len()), (Some("root"), 2));
    }
}

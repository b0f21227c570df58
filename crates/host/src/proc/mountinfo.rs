//! `/proc/PID/mountinfo`.

use super::{decimal, lines, unescape};

/// A line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The mount's id; given again after an unmount.
    pub id: u64,
    /// The id of the mount it stands on.
    pub parent: u64,
    /// The file system's device number, as `st_dev` (not on file systems that give each subvolume one).
    pub device: u64,
    /// The folder of the file system that is mounted; `net:[4026532000]` for a namespace.
    pub root: Vec<u8>,
    /// Where, seen from the process's root.
    pub point: Vec<u8>,
    /// The file system's type.
    pub filesystem: Vec<u8>,
    /// What was mounted.
    pub source: Vec<u8>,
    /// The file system's own options.
    pub options: Vec<u8>,
}

/// The mounts in the table, those that stand on others after them.
pub fn parse(text: &[u8]) -> impl Iterator<Item = Mount> + '_ {
    lines(text).filter_map(line)
}

fn line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = decimal(fields.next()?)?;
    let parent = decimal(fields.next()?)?;
    let numbers = fields.next()?;
    let colon = numbers.iter().position(|byte| *byte == b':')?;
    let major = u32::try_from(decimal(&numbers[..colon])?).ok()?;
    let minor = u32::try_from(decimal(&numbers[colon + 1..])?).ok()?;
    let root = unescape(fields.next()?);
    let point = unescape(fields.next()?);
    fields.next()?;
    fields.by_ref().find(|field| *field == b"-")?;
    let filesystem = unescape(fields.next()?);
    let source = unescape(fields.next().unwrap_or_default());
    let options = fields.next().unwrap_or_default().to_vec();
    Some(Mount { id, parent, device: rustix::fs::makedev(major, minor), root, point, filesystem, source, options })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_fields_escapes_and_odd_sources_are_understood() {
        let text = b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n\
            37 35 0:4 net:[4026532206] /run/netns/a\\012b rw - nsfs nsfs rw\n\
            38 35 0:5 / /x rw - tmpfs  rw\n\
            39 35 0:5 / /x rw\n40 35 zero / /x rw - a b c\n";
        let all: Vec<_> = parse(text).collect();
        assert_eq!(all.len(), 3);
        assert_eq!((all[0].id, all[0].parent, all[0].device), (36, 35, rustix::fs::makedev(98, 0)));
        assert_eq!(
            (&all[0].point[..], &all[0].filesystem[..], &all[0].source[..]),
            (&b"/mnt 2"[..], &b"ext3"[..], &b"/dev/root"[..])
        );
        assert_eq!((&all[1].root[..], &all[1].point[..]), (&b"net:[4026532206]"[..], &b"/run/netns/a\nb"[..]));
        assert_eq!((&all[2].source[..], &all[2].options[..]), (&b""[..], &b"rw"[..]));
    }

    #[test]
    fn our_own_mounts_are_read_whole() {
        let text = crate::proc::read(std::path::Path::new("/proc/self/mountinfo"), crate::proc::TABLE).unwrap();
        assert_eq!(parse(&text).count(), super::lines(&text).count());
    }
}

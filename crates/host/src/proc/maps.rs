//! `/proc/PID/maps`.

use super::{decimal, hexadecimal, lines};

/// A mapping with something behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map<'a> {
    /// The addresses as the line spells them, which is also the name in `map_files`.
    pub range: &'a [u8],
    /// Whether writes are seen by others (`s`).
    pub shared: bool,
    /// Whether it may be written now.
    pub writable: bool,
    /// The file system's device number: not always that of `stat`.
    pub device: u64,
    /// The inode; for a System V segment its id.
    pub inode: u64,
    /// The path as printed, with ` (deleted)` where the name is gone.
    pub path: &'a [u8],
}

/// The mappings of files, segments and memfds; anonymous ones are left out.
pub fn parse(text: &[u8]) -> impl Iterator<Item = Map<'_>> {
    lines(text).filter_map(line)
}

fn line(line: &[u8]) -> Option<Map<'_>> {
    let mut fields = line.splitn(5, |byte| *byte == b' ');
    let range = fields.next()?;
    let dash = range.iter().position(|byte| *byte == b'-')?;
    hexadecimal(&range[..dash])?;
    hexadecimal(&range[dash + 1..])?;
    let &[_, write, _, share] = fields.next()? else { return None };
    fields.next()?;
    let numbers = fields.next()?;
    let colon = numbers.iter().position(|byte| *byte == b':')?;
    let major = u32::try_from(hexadecimal(&numbers[..colon])?).ok()?;
    let minor = u32::try_from(hexadecimal(&numbers[colon + 1..])?).ok()?;
    let rest = fields.next()?;
    let space = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
    let inode = decimal(&rest[..space])?;
    if inode == 0 && major == 0 && minor == 0 {
        return None;
    }
    let path = rest[space..].trim_ascii_start();
    Some(Map {
        range,
        shared: share == b's',
        writable: write == b'w',
        device: rustix::fs::makedev(major, minor),
        inode,
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_segments_are_found() {
        let text = b"558df52ae000-558df52b0000 r--p 00000000 fe:00 247030                     /usr/bin/a  b\n\
            7f0000000000-7f0000001000 rw-s 00000000 00:01 32769                      /SYSV00000000 (deleted)\n\
            7f0000002000-7f0000003000 rw-s 00000000 00:01 0                          /SYSV00000000 (deleted)\n\
            7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]\n\
            7f0000004000-7f0000005000 rw-p 00000000 00:00 0 \nzz-1 rw-p 0 00:01 1 x\n1-2 rw 0 00:01 1\n1-2\n";
        let all: Vec<_> = parse(text).collect();
        assert_eq!(all.len(), 3);
        assert_eq!((all[0].path, all[0].inode, all[0].shared), (&b"/usr/bin/a  b"[..], 247_030, false));
        assert_eq!(
            (all[1].path, all[1].inode, all[1].shared, all[1].writable),
            (&b"/SYSV00000000 (deleted)"[..], 32769, true, true)
        );
        assert_eq!((all[2].inode, all[2].device), (0, rustix::fs::makedev(0, 1)), "id 0 is an id");
        assert_eq!(all[0].range, b"558df52ae000-558df52b0000");
    }
}

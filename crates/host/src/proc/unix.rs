//! `/proc/net/unix`.
//!
//! The kernel prints names as they are, but NUL as `@`. A name with a newline in it breaks its line, and may imitate
//! one: what is read here is good for reports; nothing is decided by it. `sock_diag` gives exact names.

use super::{decimal, hexadecimal, lines, words};

/// The socket layer's state of a connected socket.
const CONNECTED: u64 = 3;

/// A line of `/proc/net/unix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unix {
    /// The socket's inode in sockfs.
    pub inode: u64,
    /// 1 stream, 2 datagram, 5 sequenced packets.
    pub kind: u16,
    /// Whether it listens.
    pub listens: bool,
    /// Whether it is connected to another.
    pub connected: bool,
    /// Its bound name; an abstract one begins with `@`. Empty if it is not bound.
    pub name: Vec<u8>,
}

/// The sockets in the table.
pub fn parse(text: &[u8]) -> impl Iterator<Item = Unix> + '_ {
    lines(text).filter_map(line)
}

fn line(line: &[u8]) -> Option<Unix> {
    let mut fields = words(line);
    let address = fields.next()?.strip_suffix(b":")?;
    hexadecimal(address)?;
    hexadecimal(fields.next()?)?;
    hexadecimal(fields.next()?)?;
    let flags = hexadecimal(fields.next()?)?;
    let kind = u16::try_from(hexadecimal(fields.next()?)?).ok()?;
    let connected = hexadecimal(fields.next()?)? == CONNECTED;
    let word = fields.next()?;
    let inode = decimal(word)?;
    // The name is all that follows the one space after the inode.
    let end = word.as_ptr_range().end as usize - line.as_ptr() as usize;
    let name = line.get(end + 1..).unwrap_or_default().to_vec();
    Some(Unix { inode, kind, listens: flags & 0x10000 != 0, connected, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_spaces_and_broken_lines_are_skipped() {
        let text = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
            00000000ff54d3ec: 00000003 00000000 00000000 0001 03  1623\n\
            00000000ff54d3ed: 00000002 00000000 00010000 0001 01  1700 @/tmp/a  b \xff\n\
            rest of a name\n\
            00000000ff54d3ee: 00000002 00000000 00000000 0002 01 x\n";
        let all: Vec<_> = parse(text).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0], Unix { inode: 1623, kind: 1, listens: false, connected: true, name: Vec::new() });
        assert_eq!(
            all[1],
            Unix { inode: 1700, kind: 1, listens: true, connected: false, name: b"@/tmp/a  b \xff".to_vec() }
        );
    }
}

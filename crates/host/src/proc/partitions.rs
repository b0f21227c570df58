//! `/proc/partitions`: the block devices that have something behind them.

use super::{decimal, lines, words};

/// A line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device<'a> {
    /// Its device number, as `st_rdev`.
    pub node: u64,
    /// Its size in bytes, rounded down to KiB.
    pub size: u64,
    /// Its name under `/dev`, with `!` for `/`.
    pub name: &'a [u8],
}

/// The devices in the table.
pub fn parse(text: &[u8]) -> impl Iterator<Item = Device<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = words(line);
        let major = u32::try_from(decimal(fields.next()?)?).ok()?;
        let minor = u32::try_from(decimal(fields.next()?)?).ok()?;
        let size = decimal(fields.next()?)?.checked_mul(1024)?;
        Some(Device { node: rustix::fs::makedev(major, minor), size, name: fields.next()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_and_heads_skipped() {
        let text = b"major minor  #blocks  name\n\n 254        0  134217728 vda\n   7       12       1024 loop12\n 7 x 1 a\n7 1 2\n";
        let all: Vec<_> = parse(text).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[1].node, all[1].size, all[1].name), (rustix::fs::makedev(7, 12), 1 << 20, &b"loop12"[..]));
    }
}

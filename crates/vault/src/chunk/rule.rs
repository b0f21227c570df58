//! Which rule a file is cut by: what the parent snapshot did, else what the file is.

use super::fixed;

/// How a file is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Where its contents say so, as restic does it.
    Contents,
    /// At multiples of this many bytes.
    Fixed(u32),
}

/// What was asked for on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Wish {
    /// What suits the file.
    #[default]
    Suitable,
    /// This for all files that are more than one chunk.
    All(Rule),
}

/// Bytes from the start of a file that must be seen to tell what it is.
pub const HEAD_BYTES: usize = 4096;
/// Files below are one blob or a few: they are never cut at fixed sizes.
const SMALL_BYTES: u64 = 512 * 1024;
const IMAGE_SUFFIXES: [&[u8]; 9] =
    [b".qcow2", b".qcow", b".vmdk", b".vdi", b".vhdx", b".vhd", b".raw", b".img", b".sqlite"];

/// What is known of a file before it is cut.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'file> {
    /// Its name in the folder.
    pub name: &'file [u8],
    /// Its size.
    pub size_bytes: u64,
    /// A block device.
    pub is_device: bool,
    /// Its first bytes, up to [`HEAD_BYTES`].
    pub head: &'file [u8],
    /// How the parent's file was cut, if it can be told: see [`Rule::of_parent`].
    pub parent: Option<Rule>,
}

impl Rule {
    /// The rule by which a file of this size became so many blobs, the first of this length. None if it was one blob or fewer: any
    /// rule could have done it.
    #[must_use]
    pub fn of_parent(size_bytes: u64, blobs: usize, first_length: u32) -> Option<Self> {
        if blobs < 2 {
            return None;
        }
        let fixed = fixed::is_size(first_length) && size_bytes.div_ceil(u64::from(first_length)) == blobs as u64;
        Some(if fixed { Self::Fixed(first_length) } else { Self::Contents })
    }

    /// The rule for a file. With `rechunk` the parent's is not kept.
    #[must_use]
    pub fn choose(file: &Facts, wish: Wish, rechunk: bool) -> Self {
        if !file.is_device && file.size_bytes <= SMALL_BYTES {
            return Self::Contents;
        }
        if let (Some(parent), false) = (file.parent, rechunk) {
            return parent;
        }
        if let Wish::All(rule) = wish {
            return rule;
        }
        if is_database(file.head) {
            Self::Fixed(64 * 1024)
        } else if file.is_device || is_image(file.head) || has_image_suffix(file.name) {
            Self::Fixed(size_for(file.size_bytes))
        } else {
            Self::Contents
        }
    }
}

/// Small chunks store less of what changed; the list of a file's chunks, 67 bytes each, is stored anew with each snapshot.
fn size_for(size_bytes: u64) -> u32 {
    const GIB: u64 = 1 << 30;
    if size_bytes <= 8 * GIB {
        64 * 1024
    } else if size_bytes <= 64 * GIB {
        256 * 1024
    } else {
        1024 * 1024
    }
}

fn is_database(head: &[u8]) -> bool {
    head.starts_with(b"SQLite format 3\0")
}

fn is_image(head: &[u8]) -> bool {
    let at = |place: usize, magic: &[u8]| head.get(place..).is_some_and(|rest| rest.starts_with(magic));
    at(0, b"QFI\xfb")
        || at(0, b"KDMV")
        || at(0, b"# Disk DescriptorFile")
        || at(64, b"\x7f\x10\xda\xbe")
        || at(0, b"vhdxfile")
        || at(0, b"conectix")
        || at(0, b"XFSB")
        || at(512, b"EFI PART")
        || at(4096 - 512, b"EFI PART")
        || at(1080, b"\x53\xef")
        || is_partitioned(head)
}

/// A master boot record: its mark, and four entries that are each empty or of a known state and a length.
fn is_partitioned(head: &[u8]) -> bool {
    let Some(sector) = head.first_chunk::<512>() else {
        return false;
    };
    let mut used = 0;
    let sound = sector[446..510].chunks_exact(16).all(|entry| {
        used += usize::from(entry[4] != 0);
        matches!(entry[0], 0 | 0x80) && (entry[4] == 0) == (entry[12..16] == [0; 4])
    });
    sector[510..] == [0x55, 0xaa] && sound && used > 0
}

fn has_image_suffix(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    IMAGE_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn file<'a>(name: &'a [u8], size_bytes: u64, head: &'a [u8]) -> Facts<'a> {
        Facts { name, size_bytes, is_device: false, head, parent: None }
    }

    fn chosen(file: &Facts) -> Rule {
        Rule::choose(file, Wish::Suitable, false)
    }

    #[test]
    fn a_file_is_cut_by_what_it_is() {
        let mut ext4 = vec![0; HEAD_BYTES];
        ext4[1080..1082].copy_from_slice(b"\x53\xef");
        let mut table = vec![0; HEAD_BYTES];
        table[510..512].copy_from_slice(b"\x55\xaa");
        assert_eq!(chosen(&file(b"a", MIB, &table)), Rule::Contents, "no partition");
        table[446 + 4] = 0x83;
        table[446 + 12] = 1;
        for head in [&ext4[..], &table, b"QFI\xfb", b"KDMV", b"vhdxfile", b"XFSB", b"SQLite format 3\0"] {
            assert_eq!(chosen(&file(b"a", MIB, head)), Rule::Fixed(65_536));
            assert_eq!(chosen(&file(b"a", 1000, head)), Rule::Contents, "too small to matter");
        }
        assert_eq!(chosen(&file(b"a.txt", MIB, b"text")), Rule::Contents);
        assert_eq!(chosen(&file(b"a.QCOW2", MIB, b"")), Rule::Fixed(65_536));
        assert_eq!(chosen(&file(b"a.vdi", 9 << 30, b"")), Rule::Fixed(256 * 1024));
        assert_eq!(chosen(&Facts { is_device: true, ..file(b"sda", 1 << 40, b"") }), Rule::Fixed(1 << 20));
    }

    #[test]
    fn the_parents_rule_is_kept_until_it_is_chunked_anew() {
        let grown = Facts { parent: Rule::of_parent(9 << 30, 147_456, 65_536), ..file(b"a.vdi", 100 << 30, b"") };
        assert_eq!(chosen(&grown), Rule::Fixed(65_536));
        assert_eq!(Rule::choose(&grown, Wish::Suitable, true), Rule::Fixed(1 << 20));
        assert_eq!(Rule::choose(&grown, Wish::All(Rule::Contents), false), Rule::Fixed(65_536));
        assert_eq!(Rule::choose(&file(b"a", MIB, b""), Wish::All(Rule::Fixed(65_536)), false), Rule::Fixed(65_536));
        let restics = Facts { parent: Rule::of_parent(20 * MIB, 11, 1_234_567), ..file(b"a.vdi", 20 * MIB, b"") };
        assert_eq!(chosen(&restics), Rule::Contents);
    }

    #[test]
    fn a_parents_rule_is_told_by_its_chunks() {
        assert_eq!(Rule::of_parent(1000, 1, 1000), None);
        assert_eq!(Rule::of_parent(3 * MIB, 48, 65_536), Some(Rule::Fixed(65_536)));
        assert_eq!(Rule::of_parent(3 * MIB, 47, 65_536), Some(Rule::Contents));
        assert_eq!(Rule::of_parent(3 * MIB, 6, 512 * 1024), Some(Rule::Contents), "holes of an ordinary file");
    }
}

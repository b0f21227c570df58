//! Names, paths and what a symbolic link leads to: bytes that came from outside, checked once, before anything is done.

use core::fmt;

/// The most bytes of one name.
pub const NAME_BYTES_MOST: usize = 255;
/// The most bytes of a path, or of what a symbolic link leads to.
pub const PATH_BYTES_MOST: usize = 4096;

/// What stands between names in a path. Any other byte but NUL may stand in a name.
pub const SEPARATOR: u8 = b'/';

/// Why bytes are no name, no path or nothing that a link can lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadName {
    /// There is nothing, or nothing between two separators, before the first or after the last.
    Empty,
    /// More bytes than there may be.
    TooLong {
        /// How many there are.
        bytes: usize,
        /// How many there may be: of a name or of a path.
        most: usize,
    },
    /// A separator where one name was asked for.
    Separator,
    /// A NUL byte.
    Nul,
    /// `.` or `..`, which are no names. What a link leads to may begin with `..`, and have it nowhere else.
    Dots,
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a name is empty; paths neither begin nor end with '/', nor have two in a row"),
            Self::TooLong { bytes, most } => write!(f, "there are {bytes} bytes, {most} are the most; shorten it"),
            Self::Separator => f.write_str("a name contains '/'; name one directory at a time here"),
            Self::Nul => f.write_str("a name contains a NUL byte; leave it out"),
            Self::Dots => f.write_str("'.' and '..' are no names; begin at the directory that is meant"),
        }
    }
}

impl core::error::Error for BadName {}

/// One name: 1 to [`NAME_BYTES_MOST`] bytes, no separator, no NUL, not `.` or `..`. Compared by byte.
///
/// NT: an object name without `\`, compared without case if asked to. Zircon's names are labels, and several objects
/// may have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// Checks bytes.
    ///
    /// # Errors
    /// [`BadName`].
    pub const fn new(bytes: &'a [u8]) -> Result<Self, BadName> {
        if bytes.len() > NAME_BYTES_MOST {
            return Err(BadName::TooLong { bytes: bytes.len(), most: NAME_BYTES_MOST });
        }
        if let [] | [b'.'] | [b'.', b'.'] = bytes {
            return Err(if bytes.is_empty() { BadName::Empty } else { BadName::Dots });
        }
        let mut at = 0;
        while at < bytes.len() {
            match bytes[at] {
                SEPARATOR => return Err(BadName::Separator),
                0 => return Err(BadName::Nul),
                _ => at += 1,
            }
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.0
    }
}

/// Whether bytes have a separator or a NUL among them, eight at a time.
#[inline]
fn has_separator_or_nul(bytes: &[u8]) -> bool {
    const ONES: u64 = u64::MAX / 255;
    // Of bytes that are 0 the highest bit is set, of others only above such a one: whether there is any is exact.
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    let found = |word: [u8; 8]| {
        let word = u64::from_le_bytes(word);
        has_zero(word) | has_zero(word ^ (ONES * SEPARATOR as u64))
    };
    // The last eight overlap those before.
    let Some(last) = bytes.last_chunk::<8>() else {
        return bytes.iter().any(|byte| [SEPARATOR, 0].contains(byte));
    };
    bytes.as_chunks::<8>().0.iter().fold(found(*last), |any, word| any | found(*word)) != 0
}

/// Names with [`SEPARATOR`] between them, at least one: from a directory down. At most [`PATH_BYTES_MOST`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path<'a>(&'a [u8]);

impl<'a> Path<'a> {
    /// Checks bytes, each name of them.
    ///
    /// # Errors
    /// [`BadName`], of the first name that is none.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Self, BadName> {
        // Mostly it is one name: then it is gone through once, eight bytes at a time.
        let is_name = (3..=NAME_BYTES_MOST).contains(&bytes.len()) && !has_separator_or_nul(bytes);
        if is_name { Ok(Self(bytes)) } else { Self::of_several(bytes) }
    }

    fn of_several(bytes: &'a [u8]) -> Result<Self, BadName> {
        if bytes.len() > PATH_BYTES_MOST {
            return Err(BadName::TooLong { bytes: bytes.len(), most: PATH_BYTES_MOST });
        }
        bytes.split(|byte| *byte == SEPARATOR).try_for_each(|name| Name::new(name).map(drop))?;
        Ok(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The first name, and the path that is left after it.
    #[inline]
    #[must_use]
    pub fn split_first(self) -> (Name<'a>, Option<Self>) {
        // Nowhere in it is a NUL.
        if !has_separator_or_nul(self.0) {
            return (Name(self.0), None);
        }
        match self.0.iter().position(|byte| *byte == SEPARATOR) {
            Some(at) => (Name(&self.0[..at]), Some(Self(&self.0[at + 1..]))),
            None => (Name(self.0), None),
        }
    }

    /// The path of the directory that the last name stands in (none: where one starts), and that name.
    #[must_use]
    pub fn split_last(self) -> (Option<Self>, Name<'a>) {
        match self.0.iter().rposition(|byte| *byte == SEPARATOR) {
            Some(at) => (Some(Self(&self.0[..at])), Name(&self.0[at + 1..])),
            None => (None, Name(self.0)),
        }
    }
}

/// What a symbolic link leads to: so many directories up from the one the link stands in, then a path down.
///
/// Written as a path that may begin with `..`, once or more often. Elsewhere `..` would say nothing that cannot be said
/// shorter, and following a link would take as many steps as its maker likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkTarget<'a> {
    /// How many directories up.
    pub up: usize,
    /// The path down from there; none if the directory itself is meant.
    pub down: Option<Path<'a>>,
}

impl<'a> LinkTarget<'a> {
    /// Checks bytes.
    ///
    /// # Errors
    /// [`BadName`].
    pub fn new(bytes: &'a [u8]) -> Result<Self, BadName> {
        if bytes.len() > PATH_BYTES_MOST {
            return Err(BadName::TooLong { bytes: bytes.len(), most: PATH_BYTES_MOST });
        }
        let mut rest = bytes;
        let mut up = 0;
        loop {
            match rest {
                [b'.', b'.', SEPARATOR, after @ ..] => {
                    up += 1;
                    rest = after;
                }
                [b'.', b'.'] => return Ok(Self { up: up + 1, down: None }),
                _ => return Ok(Self { up, down: Some(Path::new(rest)?) }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_name_is_any_bytes_but_separator_and_nul() {
        for good in [&b"a"[..], b"...", b".a", b"..a", b"\xff\x01 \\", &[b'n'; 255]] {
            assert_eq!(Name::new(good).map(Name::bytes), Ok(good));
        }
        assert_eq!(Name::new(b""), Err(BadName::Empty));
        assert_eq!(Name::new(b"."), Err(BadName::Dots));
        assert_eq!(Name::new(b".."), Err(BadName::Dots));
        assert_eq!(Name::new(b"a/b"), Err(BadName::Separator));
        assert_eq!(Name::new(b"a\0"), Err(BadName::Nul));
        assert_eq!(Name::new(&[b'n'; 256]), Err(BadName::TooLong { bytes: 256, most: 255 }));
    }

    #[test]
    fn a_path_is_names_with_separators_between_them() {
        let mut rest = Some(Path::new(b"one/two/three").unwrap());
        let mut names = Vec::new();
        while let Some(path) = rest {
            let (name, after) = path.split_first();
            names.push(name.bytes());
            rest = after;
        }
        assert_eq!(names, [&b"one"[..], b"two", b"three"]);
        let (above, last) = Path::new(b"one/two/three").unwrap().split_last();
        assert_eq!((above.map(Path::bytes), last.bytes()), (Some(&b"one/two"[..]), &b"three"[..]));
        for (bad, why) in [
            (&b""[..], BadName::Empty),
            (b"/", BadName::Empty),
            (b"/a", BadName::Empty),
            (b"a/", BadName::Empty),
            (b"a//b", BadName::Empty),
            (b"a/./b", BadName::Dots),
            (b"../b", BadName::Dots),
            (b"a/b\0", BadName::Nul),
        ] {
            assert_eq!(Path::new(bad), Err(why), "{bad:?}");
        }
        let long = b"n/".repeat(2048);
        assert!(Path::new(&long[..4095]).is_ok());
        assert_eq!(Path::new(&b"n/".repeat(2049)), Err(BadName::TooLong { bytes: 4098, most: 4096 }));
    }

    #[test]
    fn a_separator_or_a_nul_is_found_wherever_it_stands() {
        for length in 0..40 {
            // Neighbours in value of both, and what has the highest bit.
            for other in [1, b'.', b'0', 0x80, 0xaf, 0xff] {
                let mut bytes = std::vec![other; length];
                assert!(!has_separator_or_nul(&bytes), "{bytes:?}");
                for at in 0..length {
                    for found in [0, SEPARATOR] {
                        bytes[at] = found;
                        assert!(has_separator_or_nul(&bytes), "{bytes:?}");
                        bytes[at] = other;
                    }
                }
            }
        }
    }

    #[test]
    fn a_link_leads_up_first_and_then_down() {
        let read = |bytes| LinkTarget::new(bytes).map(|target| (target.up, target.down.map(Path::bytes)));
        assert_eq!(read(b"a/b"), Ok((0, Some(&b"a/b"[..]))));
        assert_eq!(read(b"../../a"), Ok((2, Some(&b"a"[..]))));
        assert_eq!(read(b"../.."), Ok((2, None)));
        assert_eq!(read(b"..a"), Ok((0, Some(&b"..a"[..]))));
        assert_eq!(read(b"../"), Err(BadName::Empty));
        assert_eq!(read(b""), Err(BadName::Empty));
        assert_eq!(read(b"/a"), Err(BadName::Empty));
        assert_eq!(read(b"a/../b"), Err(BadName::Dots));
        assert_eq!(read(b"./a"), Err(BadName::Dots));
    }
}

//! Rights: what a handle allows. Bits 0 to 15 mean the same for every type, bits 16 to 31 are each type's own.

use crate::{ObjectType, TypeNumber};
use core::fmt;

/// A set of rights. Handles lose rights and never gain any.
///
/// NT: `ACCESS_MASK`, with the type's own rights in the lower half. Zircon: `zx_rights_t`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Rights(u32);

impl Rights {
    /// No right. Such a handle keeps its object alive, and can be closed and asked what it is.
    pub const NONE: Self = Self(0);
    /// Make an equal or a derived handle, name the object in a directory, and take back what was derived.
    pub const DUPLICATE: Self = Self(1 << 0);
    /// Move the handle to another process.
    pub const TRANSFER: Self = Self(1 << 1);
    /// Read what the object holds.
    pub const READ: Self = Self(1 << 2);
    /// Change what the object holds; of a process: give it a handle.
    pub const WRITE: Self = Self(1 << 3);
    /// Wait for it.
    pub const WAIT: Self = Self(1 << 4);
    /// Signal it.
    pub const SIGNAL: Self = Self(1 << 5);
    /// Ask about it: what it is, who holds it, why it lives.
    pub const INSPECT: Self = Self(1 << 6);
    /// List what it contains.
    pub const ENUMERATE: Self = Self(1 << 7);
    /// Quotas, policies, renaming, permanence.
    pub const MANAGE: Self = Self(1 << 8);
    /// End it, whoever else uses it: kill a job or a process.
    pub const DESTROY: Self = Self(1 << 9);

    /// Directory: open what it names.
    pub const LOOKUP: Self = Self(1 << 16);
    /// Directory: name an object in it.
    pub const CREATE: Self = Self(1 << 17);
    /// Directory: take a name away.
    pub const REMOVE: Self = Self(1 << 18);
    /// Section: map it to be read.
    pub const MAP_READ: Self = Self(1 << 16);
    /// Section: map it to be written.
    pub const MAP_WRITE: Self = Self(1 << 17);
    /// Job: make inner jobs and processes in it.
    pub const CREATE_CHILD: Self = Self(1 << 16);

    /// The rights that mean the same for every type and have a meaning yet.
    pub const GENERIC: Self = Self((1 << 10) - 1);
    /// Bits without a meaning: whoever asks for one is refused, so that they can get a meaning later.
    pub const RESERVED: Self = Self(0xffff & !Self::GENERIC.0);
    /// The half that each type defines.
    pub const OWN: Self = Self(0xffff_0000);

    /// The set with exactly these bits; any 32 bits are a set, and reserved ones are refused where they are used.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The 32 bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether every right of `other` is in this set.
    #[inline]
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The rights of either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The rights of both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The rights that are here and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there is no right.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The same as rights to an object of that type, to be printed.
    #[must_use]
    pub fn of(self, object_type: TypeNumber) -> RightsOf {
        RightsOf { rights: self, own: object_type.built_in().map_or(&[], ObjectType::own_rights) }
    }

    /// The names of the rights in the set that mean the same for every type; own ones are named by their type.
    pub fn generic_names(self) -> impl Iterator<Item = &'static str> {
        const NAMES: [&str; 10] =
            ["duplicate", "transfer", "read", "write", "wait", "signal", "inspect", "enumerate", "manage", "destroy"];
        NAMES.into_iter().enumerate().filter(move |(bit, _)| self.0 & (1 << bit) != 0).map(|(_, name)| name)
    }
}

impl core::ops::BitOr for Rights {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

/// `DUPLICATE|READ`: a type's own rights by their bits (`BIT16`), which mean another thing to each type; [`Rights::of`] names
/// them. `none` for no right.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&RightsOf { rights: *self, own: &[] }, f)
    }
}

/// Rights as those to an object of a known type: its own are printed by their names.
#[derive(Clone, Copy, Debug)]
pub struct RightsOf {
    rights: Rights,
    own: &'static [(Rights, &'static str)],
}

impl fmt::Display for RightsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rights.is_empty() {
            return f.write_str("none");
        }
        let mut between = "";
        for bit in (0..u32::BITS).map(|bit| Rights(1 << bit)).filter(|bit| self.rights.contains(*bit)) {
            f.write_str(core::mem::replace(&mut between, "|"))?;
            let own = self.own.iter().find(|(own, _)| *own == bit).map(|(_, name)| *name);
            match (bit.generic_names().next(), own) {
                (Some(generic), _) => {
                    generic.chars().try_for_each(|letter| write!(f, "{}", letter.to_ascii_uppercase()))?
                }
                (None, Some(own)) => f.write_str(own)?,
                (None, None) => write!(f, "BIT{}", bit.0.trailing_zeros())?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rights({self})")
    }
}

/// The rights that a new handle is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedRights {
    /// All that can be given: the handle's, or the directory entry's.
    Same,
    /// These. More than can be given is refused, never silently less.
    Exactly(Rights),
}

impl AskedRights {
    /// What is given where at most `most` can be given; `None` if more is asked for, or a bit without a meaning.
    ///
    /// The one place where rights are handed on: what it gives is always a part of `most`.
    #[inline]
    #[must_use]
    pub const fn within(self, most: Rights) -> Option<Rights> {
        match self {
            Self::Same => Some(most),
            Self::Exactly(asked) if most.contains(asked) => Some(asked),
            Self::Exactly(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_handed_on_within_what_there_is() {
        let most = Rights::READ | Rights::WRITE;
        assert_eq!(AskedRights::Same.within(most), Some(most));
        assert_eq!(AskedRights::Exactly(Rights::READ).within(most), Some(Rights::READ));
        assert_eq!(AskedRights::Exactly(Rights::NONE).within(most), Some(Rights::NONE));
        assert_eq!(AskedRights::Exactly(Rights::READ | Rights::WAIT).within(most), None);
        assert_eq!(AskedRights::Exactly(Rights::from_bits(1 << 12)).within(most), None);
    }

    #[test]
    fn the_halves_and_the_reserved_bits_do_not_overlap() {
        let parts = [Rights::GENERIC, Rights::RESERVED, Rights::OWN];
        assert_eq!(parts.iter().fold(0, |sum, part| sum ^ part.bits()), u32::MAX);
        assert!(Rights::RESERVED.contains(Rights::from_bits(1 << 15)) && !Rights::RESERVED.contains(Rights::DESTROY));
    }

    /// The numbers are on the wire and in records: each is written down here once more.
    #[test]
    fn each_right_has_its_bit_for_ever() {
        let generic = [
            Rights::DUPLICATE,
            Rights::TRANSFER,
            Rights::READ,
            Rights::WRITE,
            Rights::WAIT,
            Rights::SIGNAL,
            Rights::INSPECT,
            Rights::ENUMERATE,
            Rights::MANAGE,
            Rights::DESTROY,
        ];
        assert_eq!(generic.map(Rights::bits), [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
        let own =
            [Rights::LOOKUP, Rights::CREATE, Rights::REMOVE, Rights::MAP_READ, Rights::MAP_WRITE, Rights::CREATE_CHILD];
        assert_eq!(own.map(Rights::bits), [0x1_0000, 0x2_0000, 0x4_0000, 0x1_0000, 0x2_0000, 0x1_0000]);
    }

    #[test]
    fn sets_are_joined_cut_and_printed() {
        extern crate std;
        let (both, one) = (Rights::READ | Rights::WRITE, Rights::READ);
        assert_eq!((both.union(one), both.intersection(one), both.without(one)), (both, one, Rights::WRITE));
        assert_eq!((Rights::NONE.is_empty(), both.is_empty()), (true, false));
        assert_eq!(std::format!("{both} {both:?} {}", Rights::NONE), "READ|WRITE Rights(READ|WRITE) none");
        let own = Rights::MAP_WRITE | Rights::INSPECT | Rights::from_bits(1 << 12 | 1 << 31);
        let printed = |object_type: ObjectType| std::format!("{}", own.of(object_type.number()));
        assert_eq!(std::format!("{own}"), "INSPECT|BIT12|BIT17|BIT31");
        assert_eq!(printed(ObjectType::Section), "INSPECT|BIT12|MAP_WRITE|BIT31");
        assert_eq!(printed(ObjectType::Directory), "INSPECT|BIT12|CREATE|BIT31");
        assert_eq!(printed(ObjectType::Process), "INSPECT|BIT12|BIT17|BIT31");
    }

    #[test]
    fn names_stand_for_bits() {
        extern crate std;
        let names: std::vec::Vec<_> = (Rights::DUPLICATE | Rights::DESTROY).generic_names().collect();
        assert_eq!(names, ["duplicate", "destroy"]);
    }
}

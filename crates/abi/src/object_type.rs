//! Object types and the tag stamped into each object's header.

use crate::{Koid, Rights};
use core::fmt;

/// The built-in object types. Later issues add theirs; a number once given is never given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ObjectType {
    /// A tree of processes with quotas and policies.
    Job = 1,
    /// An operating-system process.
    Process = 2,
    /// An object of the Linux kernel that kobj watches over.
    HostObject = 3,
    /// Names for objects.
    Directory = 4,
    /// A name that leads to another name.
    SymbolicLink = 5,
    /// Memory that can be mapped by many.
    Section = 6,
    /// An object type, as an object.
    Type = 7,
}

impl ObjectType {
    /// Every type, in the order of its number.
    pub const ALL: [Self; 7] =
        [Self::Job, Self::Process, Self::HostObject, Self::Directory, Self::SymbolicLink, Self::Section, Self::Type];

    /// The four letters stamped into headers of this type.
    #[must_use]
    pub const fn letters(self) -> [u8; 4] {
        match self {
            Self::Job => *b"JOB_",
            Self::Process => *b"PROC",
            Self::HostObject => *b"HOST",
            Self::Directory => *b"DIR_",
            Self::SymbolicLink => *b"SYML",
            Self::Section => *b"SECT",
            Self::Type => *b"TYPE",
        }
    }

    /// The name people read, lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Process => "process",
            Self::HostObject => "host-object",
            Self::Directory => "directory",
            Self::SymbolicLink => "symbolic-link",
            Self::Section => "section",
            Self::Type => "type",
        }
    }

    /// The type's number.
    #[must_use]
    pub const fn number(self) -> TypeNumber {
        TypeNumber(self as u16)
    }

    /// The rights of its own, with their names.
    #[must_use]
    pub const fn own_rights(self) -> &'static [(Rights, &'static str)] {
        match self {
            Self::Job => &[(Rights::CREATE_CHILD, "CREATE_CHILD")],
            Self::Directory => &[(Rights::LOOKUP, "LOOKUP"), (Rights::CREATE, "CREATE"), (Rights::REMOVE, "REMOVE")],
            Self::Section => &[(Rights::MAP_READ, "MAP_READ"), (Rights::MAP_WRITE, "MAP_WRITE")],
            Self::Process | Self::HostObject | Self::SymbolicLink | Self::Type => &[],
        }
    }

    /// What the handle of whoever makes such an object allows: all that the type can do.
    #[must_use]
    pub const fn default_rights(self) -> Rights {
        let common = Rights::DUPLICATE.union(Rights::TRANSFER).union(Rights::INSPECT).union(Rights::MANAGE);
        common.union(match self {
            Self::Job => Rights::CREATE_CHILD.union(Rights::ENUMERATE).union(Rights::WAIT).union(Rights::DESTROY),
            Self::Process => Rights::WRITE.union(Rights::WAIT).union(Rights::DESTROY),
            Self::HostObject => Rights::NONE,
            Self::Directory => Rights::LOOKUP.union(Rights::CREATE).union(Rights::REMOVE).union(Rights::ENUMERATE),
            Self::SymbolicLink => Rights::READ,
            Self::Section => Rights::MAP_READ.union(Rights::MAP_WRITE),
            Self::Type => Rights::ENUMERATE,
        })
    }
}

/// The number of an object type in its manager: a built-in type's own, or a user's from [`TypeNumber::FIRST_OWN`] on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeNumber(pub u16);

impl TypeNumber {
    /// The first number that a user's type gets; numbers below are for the built-in ones.
    pub const FIRST_OWN: Self = Self(64);

    /// The built-in type of that number.
    #[inline]
    #[must_use]
    pub const fn built_in(self) -> Option<ObjectType> {
        match self.0 {
            number if number >= 1 && number as usize <= ObjectType::ALL.len() => {
                Some(ObjectType::ALL[number as usize - 1])
            }
            _ => None,
        }
    }
}

const _: () = {
    let mut index = 0;
    while index < ObjectType::ALL.len() {
        assert!(ObjectType::ALL[index] as usize == index + 1, "types are numbered from 1, in the order of ALL");
        let built_in = TypeNumber(index as u16 + 1).built_in();
        assert!(matches!(built_in, Some(found) if found as usize == index + 1), "each type is found by its number");
        index += 1;
    }
    assert!(TypeNumber(0).built_in().is_none() && TypeNumber(index as u16 + 1).built_in().is_none());
};

/// What is stamped in an object's header when it is created: the type's letters and the koid.
///
/// Destroying an object replaces the tag by a dead stamp, so that a stale reference is caught and not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag {
    /// The type's four letters.
    pub letters: [u8; 4],
    /// The object's id.
    pub koid: Koid,
}

/// `LETT-era:counter`.
impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.letters {
            write!(f, "{}", letter as char)?;
        }
        write!(f, "-{}", self.koid)
    }
}

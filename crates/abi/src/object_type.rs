//! Object types and the tag stamped into each object's header.

use crate::Koid;
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
}

impl ObjectType {
    /// Every type, in the order of its number.
    pub const ALL: [Self; 3] = [Self::Job, Self::Process, Self::HostObject];

    /// The four letters stamped into headers of this type.
    #[must_use]
    pub const fn letters(self) -> [u8; 4] {
        match self {
            Self::Job => *b"JOB_",
            Self::Process => *b"PROC",
            Self::HostObject => *b"HOST",
        }
    }

    /// The name people read, lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Process => "process",
            Self::HostObject => "host-object",
        }
    }
}

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

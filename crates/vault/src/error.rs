//! What can go wrong with a vault, said so that a person can act, and what a process ends with because of it.

use crate::id::Id;
use crate::storage::Name;
use std::fmt;
use std::io;

/// What an operation on a vault returns.
pub type Result<T> = std::result::Result<T, Error>;

/// What the exit code of a command says of an error. The numbers are restic's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Nothing, or not all that was asked, was done: 1.
    Failure,
    /// Done, but not with all sources (a file could not be read): 3.
    Incomplete,
    /// There is no vault in that place: 10.
    NoVault,
    /// Somebody holds a lock that excludes this: 11.
    Locked,
    /// No key of the vault opens with this password: 12.
    WrongPassword,
}

impl ErrorKind {
    /// The exit code of a command that ends with this.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failure => 1,
            Self::Incomplete => 3,
            Self::NoVault => 10,
            Self::Locked => 11,
            Self::WrongPassword => 12,
        }
    }
}

/// One thing that went wrong: what happened, to which object, and what to do.
#[derive(Debug)]
pub enum Error {
    /// The operating system refused: what was tried (`read`, `create`, ...), on what.
    Io {
        /// The call that failed, as a verb: "read", "create".
        action: &'static str,
        /// The file or folder.
        object: String,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing that could be a vault stands in this place.
    NoVault {
        /// The place.
        place: String,
        /// What was looked for and not found, and what to do.
        why: String,
    },
    /// The vault is of a kind that this version cannot read or write.
    Unsupported {
        /// The file or place that says so.
        object: String,
        /// What is not supported, and what to do.
        why: String,
    },
    /// No key file opens with this password.
    WrongPassword {
        /// How many key files were tried.
        keys_tried: usize,
        /// Key files that could not be used at all, and why.
        unusable: Vec<String>,
    },
    /// Somebody holds a lock.
    Locked {
        /// Who, since when, and what to do.
        holder: String,
    },
    /// A file of the vault that something refers to is not there.
    Missing {
        /// The file.
        name: Name,
    },
    /// A file of this name is there already; nothing was replaced.
    Exists {
        /// The file.
        name: Name,
    },
    /// Bytes that are not what they must be: changed, cut, of another vault, or hostile.
    Damaged {
        /// The file, blob or field.
        object: String,
        /// What was found.
        why: String,
    },
    /// No index names this blob.
    UnknownBlob {
        /// Data or tree.
        kind: &'static str,
        /// The blob.
        id: Id,
    },
    /// What was asked makes no sense or is refused for safety; nothing was done.
    Refused {
        /// What was asked.
        object: String,
        /// Why not, and what to do.
        why: String,
    },
    /// Done, but not with everything; what is missing was reported by name.
    Incomplete {
        /// What is missing.
        what: String,
    },
}

impl Error {
    /// A failed system call.
    pub fn io(action: &'static str, object: impl fmt::Display, source: impl Into<io::Error>) -> Self {
        Self::Io { action, object: object.to_string(), source: source.into() }
    }

    /// Bytes that are not what they must be.
    pub fn damaged(object: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self::Damaged { object: object.to_string(), why: why.to_string() }
    }

    /// What is refused, with nothing done.
    pub fn refused(object: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self::Refused { object: object.to_string(), why: why.to_string() }
    }

    /// What this version cannot do.
    pub fn unsupported(object: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self::Unsupported { object: object.to_string(), why: why.to_string() }
    }

    /// What the exit code says of it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NoVault { .. } => ErrorKind::NoVault,
            Self::Locked { .. } => ErrorKind::Locked,
            Self::WrongPassword { .. } => ErrorKind::WrongPassword,
            Self::Incomplete { .. } => ErrorKind::Incomplete,
            _ => ErrorKind::Failure,
        }
    }

    /// Whether reading again from elsewhere may help: the file or its bytes are bad, not the request.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Damaged { .. } | Self::UnknownBlob { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { action, object, source } => write!(to, "cannot {action} {object}: {source}"),
            Self::NoVault { place, why } => write!(to, "no vault in {place}: {why}"),
            Self::Unsupported { object, why } => write!(to, "{object}: {why}"),
            Self::WrongPassword { keys_tried, unusable } => {
                write!(to, "wrong password: none of the vault's {keys_tried} keys opens with it; give another one")?;
                unusable.iter().try_for_each(|key| write!(to, "; {key}"))
            }
            Self::Locked { holder } => write!(to, "the vault is locked: {holder}"),
            Self::Missing { name } => write!(
                to,
                "{name} is not in the vault: it was removed, perhaps by a prune that ran meanwhile; `kobj vault verify` says \
                 what needs it"
            ),
            Self::Exists { name } => write!(to, "{name} is there already and was not replaced"),
            Self::Damaged { object, why } => {
                write!(to, "{object} is damaged: {why}; `kobj vault verify --read-data` says what it costs")
            }
            Self::UnknownBlob { kind, id } => {
                write!(to, "{kind} blob {id} is in no index: `kobj vault verify` says which snapshots need it")
            }
            Self::Refused { object, why } => write!(to, "{object}: {why}"),
            Self::Incomplete { what } => write!(to, "not everything was done: {what}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_restics() {
        let no_vault = Error::NoVault { place: "/nowhere".into(), why: "no config".into() };
        assert_eq!(no_vault.kind().exit_code(), 10);
        assert_eq!(Error::Locked { holder: String::new() }.kind().exit_code(), 11);
        assert_eq!(Error::WrongPassword { keys_tried: 1, unusable: vec![] }.kind().exit_code(), 12);
        assert_eq!(Error::Incomplete { what: String::new() }.kind().exit_code(), 3);
        assert_eq!(Error::damaged("x", "y").kind().exit_code(), 1);
    }
}

//! Identities as people type them (`--identity`) and as the report writes them.

use super::time;
use kobj_core::image::{FileHandle, Identity, Time};
use serde::{Deserialize, Serialize};
use std::fmt;

/// An [`Identity`] without what only a live look has: enough to tell one object from any other of the same name.
///
/// In JSON an untagged object: the fields tell the forms apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum IdentityRow {
    /// A file, or what has an inode.
    File {
        /// The mount's device number.
        device: u64,
        /// Inode number.
        inode: u64,
        /// Digest of the file handle, in hexadecimal; null where the file system gives none.
        generation: Option<String>,
        /// Birth time; null where the file system has none.
        born: Option<String>,
    },
    /// What the kernel numbers.
    Ipc {
        /// The kernel's id.
        id: i64,
        /// The System V key, else 0.
        key: i64,
        /// The creator's user id.
        uid: u32,
    },
    /// A process.
    Process {
        /// Process id.
        pid: u32,
        /// Start, in clock ticks since boot.
        started: u64,
    },
}

impl From<&Identity> for IdentityRow {
    fn from(identity: &Identity) -> Self {
        match identity {
            Identity::File { device, inode, handle, born } => Self::File {
                device: *device,
                inode: *inode,
                generation: handle.as_ref().map(|handle| format!("{:x}", FileHandle::digest(handle))),
                born: born.map(time::print),
            },
            Identity::Ipc { id, key, uid } => Self::Ipc { id: *id, key: *key, uid: *uid },
            Identity::Process { pid, started } => Self::Process { pid: *pid, started: *started },
        }
    }
}

/// The same spelling as [`Identity`]'s own.
impl fmt::Display for IdentityRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { device, inode, generation, born } => {
                let born = born.as_deref().and_then(time::parse).unwrap_or(Time(0));
                write!(f, "file-{device:x}-{inode:x}-{}-{:x}", generation.as_deref().unwrap_or("0"), born.0)
            }
            Self::Ipc { id, key, uid } => write!(f, "id-{id:x}-{key:x}-{uid:x}"),
            Self::Process { pid, started } => write!(f, "pid-{pid:x}-{started:x}"),
        }
    }
}

/// An identity as a person gave it: checked for form, compared as text with what a look finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdentityText(String);

impl IdentityText {
    /// Reads `file-...`, `id-...` or `pid-...` as a report's `fix` writes it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "'{text}' is not an identity; copy it from a report's fix line: \
                 file-DEVICE-INODE-GENERATION-BORN, id-ID-KEY-UID or pid-PID-STARTED"
            )
        };
        let mut parts = text.split('-');
        let wanted = match parts.next() {
            Some("file") => 4,
            Some("id") => 3,
            Some("pid") => 2,
            _ => return Err(wrong()),
        };
        let numbers: Vec<&str> = parts.collect();
        let is_number = |part: &&str| {
            (1..=16).contains(&part.len()) && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        if numbers.len() != wanted || !numbers.iter().all(is_number) {
            return Err(wrong());
        }
        Ok(Self(text.into()))
    }

    /// Whether what was found is that very object.
    pub(crate) fn is(&self, found: &Identity) -> bool {
        found.to_string() == self.0
    }
}

impl fmt::Display for IdentityText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> [Identity; 4] {
        [
            Identity::File {
                device: 0x1d,
                inode: 0xffff_ffff_ffff,
                handle: FileHandle::new(1, &[1, 2, 3]),
                born: Some(Time(1_795_500_318_000_001)),
            },
            Identity::File { device: 1, inode: 2, handle: None, born: None },
            Identity::Ipc { id: 32_769, key: -1, uid: 65_534 },
            Identity::Process { pid: 4_711, started: 123_456 },
        ]
    }

    #[test]
    fn the_reports_spelling_is_the_images() {
        for identity in samples() {
            let row = IdentityRow::from(&identity);
            assert_eq!(row.to_string(), identity.to_string());
            let json = serde_json::to_string(&row).unwrap();
            assert_eq!(serde_json::from_str::<IdentityRow>(&json).unwrap(), row, "{json}");
        }
    }

    #[test]
    fn a_typed_identity_means_one_object() {
        for (index, identity) in samples().iter().enumerate() {
            let typed = IdentityText::parse(&identity.to_string()).unwrap();
            for (other, found) in samples().iter().enumerate() {
                assert_eq!(typed.is(found), index == other);
            }
        }
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        for wrong in
            ["", "file", "file-1-2-3", "pid-1-2-3", "pid-1-", "pid-1-G", "inode-1", "id--1-2-3", "file-1-2-3-4 "]
        {
            assert!(IdentityText::parse(wrong).is_err(), "{wrong}");
        }
    }
}

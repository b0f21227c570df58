//! Where the files of a vault are kept, and what is asked of any such place: list, read, write whole, remove.
//!
//! A storage knows nothing of what is in the files. What it promises: a write is whole and durable when it returns, or
//! has left nothing under the name; nothing is ever replaced.

pub mod local;
pub mod memory;
#[cfg(test)]
pub(crate) mod recording;

use crate::error::{Error, Result};
use crate::id::Id;
use std::fmt;
use std::ops::Range;

/// The six kinds of files in a vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// The one file `config`.
    Config,
    /// What a password opens to give the master key.
    Key,
    /// Who is using the vault.
    Lock,
    /// One snapshot.
    Snapshot,
    /// Which blob is where in which pack.
    Index,
    /// Blobs, one behind the other.
    Pack,
}

impl FileKind {
    /// All kinds.
    pub const ALL: [Self; 6] = [Self::Config, Self::Key, Self::Lock, Self::Snapshot, Self::Index, Self::Pack];

    /// The folder of the default layout that holds files of this kind.
    #[must_use]
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Config => "",
            Self::Key => "keys",
            Self::Lock => "locks",
            Self::Snapshot => "snapshots",
            Self::Index => "index",
            Self::Pack => "data",
        }
    }

    /// What one is called in messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Key => "key",
            Self::Lock => "lock",
            Self::Snapshot => "snapshot",
            Self::Index => "index",
            Self::Pack => "pack",
        }
    }
}

/// A file of a vault. The config has no id; its name carries zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Which kind of file.
    pub kind: FileKind,
    /// The SHA-256 of its bytes.
    pub id: Id,
}

impl Name {
    /// The file `config`.
    pub const CONFIG: Self = Self { kind: FileKind::Config, id: Id::from_bytes([0; Id::LENGTH]) };

    /// The file of this kind and id.
    #[must_use]
    pub const fn new(kind: FileKind, id: Id) -> Self {
        Self { kind, id }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            FileKind::Config => to.write_str("config"),
            kind => write!(to, "{} {}", kind.word(), self.id),
        }
    }
}

/// A file that a listing found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: Id,
    /// Bytes it holds.
    pub size_bytes: u64,
}

/// A place that keeps the files of a vault.
///
/// Another process may add and remove files at any time. Methods may be called from several threads at once.
pub trait Storage: Send + Sync {
    /// The place, for messages.
    fn place(&self) -> String;

    /// Makes the empty places that a new vault needs. What is there already stays.
    ///
    /// # Errors
    /// Those of the operating system.
    fn prepare(&self) -> Result<()>;

    /// Hands each file of this kind to `each`, in no order, and stops with the first error of either. Files whose names are
    /// no ids (left by an interrupted write) are passed over. The config is not listed: ask for its size.
    ///
    /// # Errors
    /// Those of the operating system, and what `each` returned.
    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()>;

    /// How many bytes a file holds.
    ///
    /// # Errors
    /// [`Error::Missing`], and those of the operating system.
    fn size(&self, name: &Name) -> Result<u64>;

    /// Reads exactly these bytes of a file behind what `into` holds. On an error, `into` is as it was.
    ///
    /// # Errors
    /// [`Error::Missing`]; [`Error::Damaged`] when the file ends before the range does; those of the operating system.
    fn read(&self, name: &Name, range: Range<u64>, into: &mut Vec<u8>) -> Result<()>;

    /// Stores a file, whole and durable before it returns.
    ///
    /// # Errors
    /// [`Error::Exists`], and those of the operating system. Nothing stands under the name then that did not before.
    fn write(&self, name: &Name, bytes: &[u8]) -> Result<()>;

    /// Removes a file, durably.
    ///
    /// # Errors
    /// [`Error::Missing`], and those of the operating system.
    fn remove(&self, name: &Name) -> Result<()>;

    /// Reads a whole file of at most `most_bytes`.
    ///
    /// # Errors
    /// Those of [`Storage::size`] and [`Storage::read`]; [`Error::Damaged`] when it is larger.
    fn read_whole(&self, name: &Name, most_bytes: u64) -> Result<Vec<u8>> {
        let size_bytes = self.size(name)?;
        if size_bytes > most_bytes {
            return Err(Error::damaged(name, format_args!("it has {size_bytes} bytes; at most {most_bytes} are read")));
        }
        let mut bytes = Vec::new();
        self.read(name, 0..size_bytes, &mut bytes)?;
        Ok(bytes)
    }

    /// All files of a kind, sorted by id. For kinds of which a vault has few enough to hold their ids.
    ///
    /// # Errors
    /// Those of [`Storage::list`].
    fn list_all(&self, kind: FileKind) -> Result<Vec<Listed>> {
        let mut found = Vec::new();
        self.list(kind, &mut |file| {
            found.push(file);
            Ok(())
        })?;
        found.sort_unstable_by_key(|file| file.id);
        Ok(found)
    }
}

/// The length of a range, and its ends as what a vector can hold; `None` when it is upside down or too long.
pub(crate) fn length_of(range: &Range<u64>) -> Option<usize> {
    usize::try_from(range.end.checked_sub(range.start)?).ok()
}

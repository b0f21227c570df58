//! What can be kept in a vault: whatever lists entries, folder by folder, and opens their contents.
//!
//! [`files::Walk`] is the file system. Others list what they like: an exported machine, objects of a manager.

pub mod exclude;
pub mod files;
pub mod holes;
pub mod metadata;

use crate::tree::Node;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// One step of a listing. Entries of a folder come in ascending order of their names' bytes.
#[derive(Debug)]
pub enum Step {
    /// A folder begins; its entries follow, then [`Step::Leave`]. The node has no subtree yet.
    Enter(Box<Node>),
    /// Something that is no folder. A file has no content yet: [`Source::open`] reads it.
    Entry(Box<Node>),
    /// The folder that was entered last ends.
    Leave,
    /// Something could not be read and is left out whole.
    Failed(Failure),
}

/// What could not be read.
#[derive(Debug)]
pub struct Failure {
    /// Where it is.
    pub path: PathBuf,
    /// What was tried, as a verb.
    pub action: &'static str,
    /// What the system said.
    pub source: io::Error,
    /// It was asked for by name: without it there is no snapshot.
    pub asked_for: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "cannot {} {}: {}", self.action, self.path.display(), self.source)
    }
}

/// What is the same as long as a file did not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Bytes.
    pub size: u64,
    /// When its contents changed: seconds and nanoseconds.
    pub modified: (i64, u32),
    /// When its inode changed.
    pub changed: (i64, u32),
    /// The inode.
    pub inode: u64,
}

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Bytes up to this place must be read.
    Data(u64),
    /// Zeros up to this place, which nobody needs to read.
    Hole(u64),
}

/// The contents of one file.
pub trait Contents: Send {
    /// Reads at a place; 0 at the end.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// What lies at a place below `size`; its end is above the place and at most `size`.
    ///
    /// # Errors
    /// What the system says.
    fn extent(&self, offset: u64, size: u64) -> io::Result<Extent> {
        let _ = offset;
        Ok(Extent::Data(size))
    }

    /// What the file looks like now: compared before and after it was read.
    ///
    /// # Errors
    /// What the system says.
    fn fingerprint(&self) -> io::Result<Fingerprint>;

    /// The ranges that may differ from the parent snapshot's file, ascending, if somebody keeps such a list. None: all.
    fn changed_ranges(&self) -> Option<&[(u64, u64)]> {
        None
    }
}

/// What lists entries.
pub trait Source {
    /// The next step; none at the end.
    fn next_step(&mut self) -> Option<Step>;

    /// Opens the file of the last [`Step::Entry`].
    ///
    /// # Errors
    /// What the system says, or that the file was replaced meanwhile.
    fn open(&mut self) -> io::Result<Box<dyn Contents>>;

    /// The metadata of the last [`Step::Entry`] again, after it changed while it was read.
    ///
    /// # Errors
    /// What the system says.
    fn look_again(&mut self) -> io::Result<Node>;

    /// The path of the last step, for people.
    fn path(&self) -> PathBuf;

    /// Whether the last step is one of those that were asked for by name.
    fn asked_for(&self) -> bool;
}

//! What the manager needs of the ground that it stands on, and is given: memory for sections, and who catches a hook's panic.
//!
//! On Linux that is memory files, on bare metal the heap. Nothing of it is called under the manager's lock, and whatever can
//! fail is called between two steps of the core: one that makes everything else ready, and one that completes it or undoes it.

mod heap;

pub use heap::{Heap, HeapView};

use core::fmt;
use core::num::NonZeroU32;
use kobj_abi::Koid;
use kobj_abi::section::{Access, Part, ViewError};

/// Why the platform did not do something. Nothing was done then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlatformError {
    /// There is too little memory.
    NoMemory,
    /// There are too many open files or mappings for this process.
    TooMany,
}

impl fmt::Display for PlatformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoMemory => "there is too little memory; free some and try again",
            Self::TooMany => "this process has too many open files or mappings; close some, or raise its limit",
        })
    }
}

impl core::error::Error for PlatformError {}

/// A view, as long as it is there. Never meant for another view later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewId {
    pub(crate) serial: u64,
    pub(crate) record: NonZeroU32,
}

impl ViewId {
    /// A number that no other view of the same manager ever has.
    #[must_use]
    pub const fn serial(self) -> u64 {
        self.serial
    }
}

/// A mapped part of a section. Others change the same bytes at any time; see [`kobj_abi::section`].
pub trait View: Send + Sync {
    /// Its length in bytes.
    fn size_bytes(&self) -> u64;

    /// Copies bytes out of it, from an offset on.
    ///
    /// # Errors
    /// [`ViewError`]; then `into` is as it was.
    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> Result<(), ViewError>;

    /// Copies bytes into it, from an offset on.
    ///
    /// # Errors
    /// [`ViewError`]; then nothing is written.
    fn write(&self, offset_bytes: u64, from: &[u8]) -> Result<(), ViewError>;
}

/// What the manager stands on: memory for sections, each known by its object's koid, and how hooks are run.
pub trait Platform: Send + Sync {
    /// How a mapped part is got at.
    type View: View;

    /// Counts so many bytes as taken, if they can be had, whether their pages come at once or lazily. Allocates nothing.
    ///
    /// # Errors
    /// [`PlatformError`].
    fn take_room(&self, size_bytes: u64) -> Result<(), PlatformError>;

    /// Makes the memory of a section, all of it 0. With `lazy` its pages may come when they are touched.
    ///
    /// # Errors
    /// [`PlatformError`]; then there is none.
    fn create_memory(&self, section: Koid, size_bytes: u64, lazy: bool) -> Result<(), PlatformError>;

    /// Maps a part that was found to be within a section.
    ///
    /// # Errors
    /// [`PlatformError`]; then there is no view.
    fn map(&self, section: Koid, view: ViewId, part: Part, access: Access) -> Result<Self::View, PlatformError>;

    /// Ends a view: every access to it is refused from now on. One that is not there has ended already. Cannot fail.
    fn unmap(&self, view: ViewId);

    /// Gives up the memory of a section, which goes when its last view does. Cannot fail.
    fn destroy_memory(&self, section: Koid);

    /// Runs a hook of a user's type, or the drop of a state, for whoever comes by. If it panics, that is counted before it is
    /// seen here. Where panics can be caught they are caught here: else the panic unwinds through somebody whose call had
    /// nothing to do with it, and who loses its answer.
    fn run_hook(&self, hook: &mut dyn FnMut()) {
        hook();
    }
}

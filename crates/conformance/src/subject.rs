//! What is looked at: an implementation of the object manager.

use alloc::string::String;
use alloc::vec::Vec;
use kobj_abi::section::{Access, Part, ViewError};
use kobj_abi::{Koid, RawHandle, TypeNumber};
use kobj_core::{Call, CallAnswer, CallError, Resource};

/// What a manager begins with.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The root job.
    pub root_job: Koid,
    /// The first guest, in the root job.
    pub process: Koid,
    /// The first guest's handle to the root job, with all rights.
    pub job: RawHandle,
    /// The first guest's handle to the root directory, with all rights.
    pub directory: RawHandle,
}

/// What a user's type was told of one of its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Its last handle is gone.
    LastClose,
    /// It has ended.
    Destroy,
    /// Its state was dropped.
    Dropped,
}

/// An implementation of the object manager.
pub trait Subject: Sized {
    /// What to say about one before it begins.
    type Options: Copy;

    /// A mapped part of a section.
    type View;

    /// One that has just begun.
    ///
    /// # Errors
    /// Why it does not begin.
    fn start(options: Self::Options) -> Result<(Self, Start), CallError>;

    /// Does a call, and all that it leaves to be done.
    ///
    /// # Errors
    /// [`CallError`]: then nothing may have changed.
    fn call(&mut self, process: Koid, call: Call<'_>) -> Result<CallAnswer, CallError>;

    /// Closes a handle as the wrapper in the embedder's program does that has it, which may be gone. Whether it was there.
    fn give_up(&mut self, process: Koid, handle: RawHandle) -> bool;

    /// How many objects live, of all types.
    fn live(&self) -> u64;

    /// How many handles a process has; none if there is no such guest, or no longer.
    fn handles(&self, process: Koid) -> u64;

    /// Limits what a job or a process may have, as its embedder does.
    fn limit(&mut self, owner: Koid, resource: Resource, limit: u64);

    /// Makes a section without a name, and the first handle to it. There is memory for a mebibyte, and not for a gibibyte.
    ///
    /// # Errors
    /// [`CallError`]: then nothing may have changed.
    fn create_section(&mut self, process: Koid, size_bytes: u64) -> Result<RawHandle, CallError>;

    /// Opens the section that has a name, with all that the name grants, or makes one under it: says with the handle whether it is
    /// new. With `exclusive` a name that is taken is refused.
    ///
    /// # Errors
    /// [`CallError`]: then nothing may have changed.
    fn open_or_create_section(
        &mut self,
        process: Koid,
        directory: RawHandle,
        name: &[u8],
        size_bytes: u64,
        exclusive: bool,
    ) -> Result<(RawHandle, bool), CallError>;

    /// Maps a part of a section.
    ///
    /// # Errors
    /// [`CallError`]: then nothing may have changed.
    fn map(&mut self, process: Koid, handle: RawHandle, part: Part, access: Access) -> Result<Self::View, CallError>;

    /// Ends a view; one that has ended is not ended again.
    fn unmap(&mut self, view: &Self::View);

    /// Copies bytes out of a view.
    ///
    /// # Errors
    /// [`ViewError`].
    fn read(&self, view: &Self::View, offset_bytes: u64, into: &mut [u8]) -> Result<(), ViewError>;

    /// Copies bytes into a view.
    ///
    /// # Errors
    /// [`ViewError`]: then nothing was copied.
    fn write(&self, view: &Self::View, offset_bytes: u64, from: &[u8]) -> Result<(), ViewError>;

    /// Makes an object of a user's type, which allows DUPLICATE, TRANSFER, READ, INSPECT, MANAGE and its own bit 16. The
    /// type's create hook refuses the number 0.
    ///
    /// # Errors
    /// [`CallError`]: then nothing may have changed, and the state was dropped.
    fn create_own(&mut self, process: Koid, number: u64) -> Result<RawHandle, CallError>;

    /// Gives a process a handle to the system directory, as its embedder does: it can be looked at, listed and passed on.
    ///
    /// # Errors
    /// [`CallError`].
    fn system_directory(&mut self, process: Koid) -> Result<RawHandle, CallError>;

    /// The number of that type.
    fn own_type(&self) -> TypeNumber;

    /// What that type was told since it was last asked, in that order, with the object's number.
    fn hooks(&mut self) -> Vec<(Hook, u64)>;

    /// For how many sections there is memory, and how many views there are.
    fn memories(&self) -> (usize, usize);

    /// Of which bad handles the embedder was told since it was last asked, and by whom they were named.
    fn bad_handles(&mut self) -> Vec<(Koid, RawHandle)>;

    /// Of which processes the embedder was told that they were ended, since it was last asked, in that order.
    fn killed(&mut self) -> Vec<Koid>;

    /// Ends it as a whole, whatever lives: then its books must be even and nothing left.
    ///
    /// # Errors
    /// What is left or does not add up, in words.
    fn end(self) -> Result<(), String>;
}

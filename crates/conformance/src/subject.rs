//! What is looked at: an implementation of the object manager.

use alloc::string::String;
use alloc::vec::Vec;
use kobj_abi::{Koid, RawHandle};
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

/// An implementation of the object manager.
pub trait Subject: Sized {
    /// What to say about one before it begins.
    type Options: Copy;

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

    /// How many objects live, of all types.
    fn live(&self) -> u64;

    /// How many handles a process has; none if there is no such guest, or no longer.
    fn handles(&self, process: Koid) -> u64;

    /// Limits what a job or a process may have, as its embedder does.
    fn limit(&mut self, owner: Koid, resource: Resource, limit: u64);

    /// Of which processes the embedder was told that they were ended, since it was last asked, in that order.
    fn killed(&mut self) -> Vec<Koid>;

    /// Ends it as a whole, whatever lives: then its books must be even and nothing left.
    ///
    /// # Errors
    /// What is left or does not add up, in words.
    fn end(self) -> Result<(), String>;
}

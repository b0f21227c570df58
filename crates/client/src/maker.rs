//! Making many objects: one thread's share of the manager.

use crate::handle::Asked;
use crate::process::Caller;
use crate::{Error, Handle, Koid, ObjectType, RawHandle};
use kobj_core::embed::Thread;
use kobj_core::image::Time;

/// What one thread makes, duplicates and ends objects of one type with, without waiting for others: a tenth of what
/// [`Caller::create`] costs. Handles are numbers here, and closing them is the caller's; [`Maker::typed`] makes one that closes
/// itself. `Send`, and used by one thread at a time.
///
/// Everything holds as elsewhere: rights, quotas (never passed, and never refusing while another maker has credit that
/// lies idle), names, hooks. Dropped, it gives back what it has left.
#[derive(Debug)]
pub struct Maker<'a, T: ObjectType> {
    caller: &'a Caller,
    thread: Thread<'a, crate::Hosted, crate::Linux, T>,
}

/// The time of the kernel's last tick: exact to some milliseconds, and five times cheaper to ask than the time.
fn tick() -> Time {
    kobj_platform::clock::tick_us().map_or_else(crate::manager::now, Time)
}

impl<'a, T: ObjectType> Maker<'a, T> {
    pub(crate) fn new(caller: &'a Caller, thread: Thread<'a, crate::Hosted, crate::Linux, T>) -> Self {
        Self { caller, thread }
    }

    /// The process in whose name it makes objects.
    #[must_use]
    pub fn koid(&self) -> Koid {
        self.thread.process()
    }

    /// Makes an unnamed object; the handle can do all that the type can.
    ///
    /// # Errors
    /// As [`Caller::create`].
    #[inline]
    #[track_caller]
    pub fn create(&mut self, state: T::State) -> Result<RawHandle, Error> {
        self.caller.inner.is_own_process()?;
        self.thread.create(tick(), state)
    }

    /// An equal handle, as [`Handle::duplicate`].
    ///
    /// # Errors
    /// As [`Handle::duplicate`].
    #[inline]
    #[track_caller]
    pub fn duplicate(&mut self, handle: RawHandle, rights: impl Into<Asked>) -> Result<RawHandle, Error> {
        self.caller.inner.is_own_process()?;
        self.thread.duplicate(tick(), handle, rights.into().0)
    }

    /// Closes a handle of the process, whatever it means.
    ///
    /// # Errors
    /// [`Error::BadHandle`].
    #[inline]
    pub fn close(&mut self, handle: RawHandle) -> Result<(), Error> {
        self.caller.inner.is_own_process()?;
        self.thread.close(tick(), handle)
    }

    /// A handle that closes itself, of one that was made here.
    ///
    /// # Errors
    /// [`Error::BadHandle`], [`Error::WrongType`].
    pub fn typed(&self, handle: RawHandle) -> Result<Handle<T>, Error> {
        self.caller.adopt(handle)
    }
}

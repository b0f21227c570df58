//! Processes: who acts in a manager.

use crate::handle::Typed;
use crate::maker::Maker;
use crate::manager::Inner;
use crate::{
    AskedRights, Call, CallAnswer, Directory, Error, Handle, Koid, Process, RawHandle, Resource, Rights, SymbolicLink,
};
use kobj_core::{ObjectType, TypeKey, What};
use kobj_memory::{Held, Kept, Shared, Table};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

/// A process of a manager, to act as. Clones act as the same one. `Send` and `Sync`.
#[derive(Clone)]
pub struct Caller {
    pub(crate) inner: Arc<Inner>,
    pub(crate) process: Koid,
    /// Its handle table, in which things are looked up without a lock.
    table: Shared<Table>,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({})", self.process)
    }
}

impl Caller {
    #[track_caller]
    pub(crate) fn new(inner: Arc<Inner>, process: Koid) -> Result<Self, Error> {
        let table = inner.table(process)?;
        Ok(Self { inner, process, table })
    }

    pub(crate) fn with_table(inner: Arc<Inner>, process: Koid, table: Shared<Table>) -> Self {
        Self { inner, process, table }
    }

    /// Holds what a handle means, if it allows that much.
    #[track_caller]
    pub(crate) fn look(&self, handle: RawHandle, needed: Rights) -> Result<Held<'_>, Error> {
        self.inner.look(self.process, &self.table, handle, needed)
    }

    /// One thread's share of the manager, to make many objects of a type with.
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::Dying`].
    pub fn maker<T: ObjectType>(&self, key: &TypeKey<T>) -> Result<Maker<'_, T>, Error> {
        Ok(Maker::new(self, self.inner.thread(self.process, key)?))
    }

    /// Refuses what is of another manager: ids and numbers mean nothing across.
    #[inline]
    pub(crate) fn is_in_one_manager_with(&self, other: &Self) -> Result<(), Error> {
        if Arc::ptr_eq(&self.inner, &other.inner) {
            return Ok(());
        }
        Err(Error::OtherManager { process: self.process, other: other.process })
    }

    /// Refuses a handle in another table than this process's: its number means nothing here, or something else.
    #[inline]
    pub(crate) fn has_in_its_table<T>(&self, handle: &Handle<T>) -> Result<(), Error> {
        let other = handle.caller();
        self.is_in_one_manager_with(other)?;
        if self.process == other.process {
            return Ok(());
        }
        Err(Error::OtherProcess { process: self.process, other: other.process })
    }

    pub(crate) fn keep(&self, handle: RawHandle) -> Result<Kept, Error> {
        self.inner.keep(self.process, &self.table, handle)
    }

    /// Makes an unnamed object of a user's type, charged to the process and so to its job; the handle can do all that the type can.
    ///
    /// # Errors
    /// [`Error::Refused`] by the type's create hook, [`Error::Quota`], [`Error::NoMemory`], [`Error::Dying`]; the state is
    /// dropped then.
    #[track_caller]
    pub fn create<T: ObjectType>(&self, key: &TypeKey<T>, state: T::State) -> Result<Handle<T>, Error> {
        Ok(Handle::owned(self.clone(), self.inner.create_own(self.process, key, state)?))
    }

    /// The process's id.
    #[must_use]
    pub fn koid(&self) -> Koid {
        self.process
    }

    /// Does any call, handles as numbers: what a host gives its guests, whose numbers nobody has checked.
    ///
    /// # Errors
    /// [`Error`]; then nothing changed.
    #[track_caller]
    pub fn call(&self, call: Call<'_>) -> Result<CallAnswer, Error> {
        self.inner.call(self.process, call)
    }

    /// A call whose answer is a handle.
    #[track_caller]
    pub(crate) fn handle(&self, call: Call<'_>) -> Result<RawHandle, Error> {
        match self.call(call)? {
            CallAnswer::Handle(handle) | CallAnswer::Opened { handle, .. } => Ok(handle),
            _ => Err(Error::NoProcess { process: self.process }),
        }
    }

    /// Makes a directory without a name. Charged to the process's job. NT: `NtCreateDirectoryObject`.
    ///
    /// # Errors
    /// [`Error::Quota`], [`Error::NoMemory`], [`Error::Dying`].
    #[track_caller]
    pub fn create_directory(&self) -> Result<Directory, Error> {
        Ok(Handle::owned(self.clone(), self.handle(Call::Create { what: What::Directory })?))
    }

    /// Makes a symbolic link without a name; it leads to `target` from the directory that it will stand in. NT:
    /// `NtCreateSymbolicLinkObject`.
    ///
    /// # Errors
    /// [`Error::BadPath`], and as [`Caller::create_directory`].
    #[track_caller]
    pub fn create_symbolic_link(&self, target: impl AsRef<[u8]>) -> Result<SymbolicLink, Error> {
        let what = What::SymbolicLink { target: target.as_ref() };
        Ok(Handle::owned(self.clone(), self.handle(Call::Create { what })?))
    }

    /// Takes a number of this process's table as a handle of a type, and with it the duty to close it.
    ///
    /// # Errors
    /// [`Error::BadHandle`], [`Error::UnexpectedType`], [`Error::NotRegistered`]: then the number is as it was.
    #[track_caller]
    pub fn adopt<T: Typed>(&self, raw: RawHandle) -> Result<Handle<T>, Error> {
        self.means::<T>(raw)?;
        Ok(Handle::owned(self.clone(), raw))
    }

    /// Takes a number of this process's table as a handle of a type, for one use: a drop of it closes nothing, and the number
    /// stays whose it was. So a host does for a guest what has a method and no [`Call`]: map a section, look at a state.
    ///
    /// # Errors
    /// As [`Caller::adopt`].
    #[track_caller]
    pub fn borrow<T: Typed>(&self, raw: RawHandle) -> Result<Borrowed<'_, T>, Error> {
        self.means::<T>(raw)?;
        Ok(Borrowed { handle: Handle::borrowed(self.clone(), raw), caller: PhantomData })
    }

    /// Refuses a number that means no object of a type.
    #[track_caller]
    pub(crate) fn means<T: Typed>(&self, handle: RawHandle) -> Result<(), Error> {
        let CallAnswer::Info(info) = self.call(Call::HandleInfo { handle })? else {
            return Err(Error::BadHandle { handle });
        };
        match self.inner.expected::<T>()? {
            Some(expected) if expected != info.object_type => {
                Err(Error::UnexpectedType { koid: info.koid, found: info.object_type, expected })
            }
            _ => Ok(()),
        }
    }

    /// Moves a handle of this process, by its number, to a guest; gives the number that it has there.
    ///
    /// # Errors
    /// As [`Handle::transfer`]; then the sender's handle is as it was. [`Error::OtherManager`] for a guest of another one.
    #[track_caller]
    pub fn transfer(&self, handle: RawHandle, receiver: &Guest, rights: AskedRights) -> Result<RawHandle, Error> {
        self.is_in_one_manager_with(receiver.caller())?;
        self.inner.transfer(self.process, handle, receiver.koid(), rights)
    }
}

/// A handle that is somebody else's to close, as a [`Handle`] for as long as this is there. See [`Caller::borrow`].
#[derive(Debug)]
pub struct Borrowed<'a, T> {
    handle: Handle<T>,
    caller: PhantomData<&'a Caller>,
}

impl<T> Deref for Borrowed<'_, T> {
    type Target = Handle<T>;

    fn deref(&self) -> &Handle<T> {
        &self.handle
    }
}

/// A guest: a process that the program made, and its handle to it. Dropped, the guest goes on; [`Guest::kill`] ends it, and so
/// does the end of its job.
#[derive(Debug)]
pub struct Guest {
    caller: Caller,
    process: Process,
}

impl Guest {
    pub(crate) fn new(caller: Caller, process: Process) -> Self {
        Self { caller, process }
    }

    /// The guest, to act as.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The program's handle to the guest.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The guest's id.
    #[must_use]
    pub fn koid(&self) -> Koid {
        self.caller.process
    }

    /// Ends the guest: no new handles from now on, its table closed, its charges returned. Again: nothing. Zircon:
    /// `zx_task_kill`.
    ///
    /// # Errors
    /// None for a guest; the program itself is [`Error::NotAGuest`].
    #[track_caller]
    pub fn kill(&self) -> Result<(), Error> {
        self.process.kill()
    }

    /// Gives the guest a handle to what the program has one to, with these rights.
    ///
    /// # Errors
    /// [`Error::TooManyRights`], [`Error::Quota`], [`Error::Dying`], [`Error::OtherManager`]. Nothing was given then.
    #[track_caller]
    pub fn give<T>(&self, handle: &Handle<T>, rights: Rights) -> Result<Handle<T>, Error> {
        handle.caller().is_in_one_manager_with(self.caller())?;
        let copy = handle.duplicate(rights | Rights::TRANSFER)?;
        let raw = copy.caller().transfer(copy.raw(), self, AskedRights::Exactly(rights))?;
        let _moved = copy.into_raw();
        Ok(Handle::owned(self.caller.clone(), raw))
    }
}

impl Process {
    /// Limits what the process may have, from now on: its handles, and the objects and bytes of what it makes. What is there
    /// beyond a lower limit stays, and nothing is added. Needs MANAGE. Linux: `setrlimit`.
    ///
    /// # Errors
    /// [`Error::AccessDenied`], [`Error::UnknownType`], [`Error::Dying`], [`Error::NoMemory`]; [`Error::NotAGuest`] for one of
    /// the operating system's.
    #[track_caller]
    pub fn set_quota(&self, resource: Resource, limit: u64) -> Result<(), Error> {
        self.call(Call::SetQuota { handle: self.raw(), resource, limit }).map(drop)
    }

    /// Ends the process. Needs DESTROY. NT: `NtTerminateProcess`; Zircon: `zx_task_kill`.
    ///
    /// # Errors
    /// [`Error::AccessDenied`]; [`Error::NotAGuest`] for one of the operating system's.
    #[track_caller]
    pub fn kill(&self) -> Result<(), Error> {
        self.call(Call::Kill { handle: self.raw() })?;
        self.caller().inner.settle();
        Ok(())
    }
}

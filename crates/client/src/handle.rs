//! Handles with the type of what they mean: closed when they are dropped.

use crate::process::{Caller, Guest};
use crate::{AskedRights, Call, CallAnswer, Error, HandleInfo, Holder, Keeper, Kept, Koid, RawHandle, Rights, Why};
use kobj_abi::Operation;
use kobj_core::ObjectType;
use std::fmt;
use std::marker::PhantomData;

/// The types that handles can have, as markers. Users' own types are markers of themselves.
pub mod types {
    pub use kobj_core::built_in::{Directory, HostObject, Job, Process, Section, SymbolicLink, Type};

    /// An object of any type: what is not known yet.
    #[derive(Clone, Copy, Debug)]
    pub enum Any {}

    impl super::Typed for Any {
        const LETTERS: Option<[u8; 4]> = None;
    }
}

/// The type of what a handle means: every [`ObjectType`], and [`types::Any`].
pub trait Typed {
    /// The letters of its tag; `None` if any is right.
    const LETTERS: Option<[u8; 4]>;
}

impl<T: ObjectType> Typed for T {
    const LETTERS: Option<[u8; 4]> = Some(T::TAG);
}

/// A handle in the table of one process, to an object of type `T`. `Send` and `Sync`; dropped, it is closed.
///
/// What it may do is its [rights](Handle::rights). A handle outlives neither its process nor the manager: when its process is
/// killed, all it is asked gives [`Error::Dying`] or [`Error::NoProcess`].
pub struct Handle<T> {
    caller: Caller,
    raw: RawHandle,
    /// Whether dropping closes it.
    owned: bool,
    means: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({} of process {})", self.raw, self.caller.process)
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        if self.owned {
            // It may be gone: with its process, taken back, or closed by its number.
            self.caller.inner.give_up(self.caller.process, self.raw);
        }
    }
}

impl<T> Handle<T> {
    pub(crate) fn owned(caller: Caller, raw: RawHandle) -> Self {
        Self { caller, raw, owned: true, means: PhantomData }
    }

    pub(crate) fn borrowed(caller: Caller, raw: RawHandle) -> Self {
        Self { caller, raw, owned: false, means: PhantomData }
    }

    /// The process in whose table it is.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Its number, which stays this handle's: for a look. To hand the handle itself on, see [`Handle::into_raw`].
    #[must_use]
    pub fn raw(&self) -> RawHandle {
        self.raw
    }

    /// Gives its number, and closing it, to the caller: for what crosses to where Rust's types end.
    #[must_use]
    pub fn into_raw(mut self) -> RawHandle {
        self.owned = false;
        self.raw
    }

    #[track_caller]
    pub(crate) fn call(&self, call: Call<'_>) -> Result<CallAnswer, Error> {
        self.caller.call(call)
    }

    /// What the handle means. Needs no right. NT: `NtQueryObject`; Zircon: `ZX_INFO_HANDLE_BASIC`.
    ///
    /// # Errors
    /// [`Error::BadHandle`] after somebody closed it by its number; [`Error::Dying`] after its process ended.
    #[track_caller]
    pub fn info(&self) -> Result<HandleInfo, Error> {
        match self.call(Call::HandleInfo { handle: self.raw })? {
            CallAnswer::Info(info) => Ok(info),
            _ => Err(Error::BadHandle { handle: self.raw }),
        }
    }

    /// What the handle allows.
    ///
    /// # Errors
    /// As [`Handle::info`].
    #[track_caller]
    pub fn rights(&self) -> Result<Rights, Error> {
        Ok(self.info()?.rights)
    }

    /// The object's id, which no other object ever has.
    ///
    /// # Errors
    /// As [`Handle::info`].
    #[track_caller]
    pub fn koid(&self) -> Result<Koid, Error> {
        Ok(self.info()?.koid)
    }

    /// An equal handle with these rights, in the same table. Needs DUPLICATE. NT: `NtDuplicateObject`; Zircon:
    /// `zx_handle_duplicate`.
    ///
    /// # Errors
    /// [`Error::AccessDenied`], [`Error::TooManyRights`], [`Error::Quota`], [`Error::NoMemory`].
    #[track_caller]
    pub fn duplicate(&self, rights: impl Into<Asked>) -> Result<Self, Error> {
        self.new_handle(Call::Duplicate { handle: self.raw, rights: rights.into().0 })
    }

    /// A handle that [`Handle::revoke`] takes back. Needs DUPLICATE. seL4: `CNode_Mint`.
    ///
    /// # Errors
    /// As [`Handle::duplicate`]; [`Error::Revoked`] while this one's own is being taken back.
    #[track_caller]
    pub fn derive(&self, rights: impl Into<Asked>) -> Result<Self, Error> {
        self.new_handle(Call::Derive { handle: self.raw, rights: rights.into().0 })
    }

    /// Takes back all that was derived from this handle, wherever it is; this one and its equals stay. Needs DUPLICATE.
    /// seL4: `CNode_Revoke`.
    ///
    /// # Errors
    /// [`Error::AccessDenied`].
    #[track_caller]
    pub fn revoke(&self) -> Result<(), Error> {
        self.call(Call::Revoke { handle: self.raw }).map(drop)?;
        self.caller.inner.settle();
        Ok(())
    }

    /// Exchanges the handle for one with these rights, all its own or fewer. Needs no right. Zircon: `zx_handle_replace`.
    ///
    /// # Errors
    /// [`Error::TooManyRights`]: then the handle is as it was, and is given back with the error.
    #[track_caller]
    pub fn replace(mut self, rights: impl Into<Asked>) -> Result<Self, GivenBack<T>> {
        match self.call(Call::Replace { handle: self.raw, rights: rights.into().0 }) {
            Ok(CallAnswer::Handle(raw)) => {
                self.raw = raw;
                Ok(self)
            }
            Ok(_) => {
                let error = Error::BadHandle { handle: self.raw };
                Err(GivenBack { handle: self, error })
            }
            Err(error) => Err(GivenBack { handle: self, error }),
        }
    }

    /// Moves the handle to a guest, all its rights with it. Needs TRANSFER. NT: `NtDuplicateObject` into another process;
    /// Zircon: a channel write.
    ///
    /// # Errors
    /// [`Error::AccessDenied`], [`Error::Quota`] of the receiver, [`Error::Dying`], [`Error::OtherManager`]: then nothing has
    /// moved, and the handle is given back with the error. `?` takes the error alone and closes the handle.
    #[track_caller]
    pub fn transfer(mut self, receiver: &Guest) -> Result<Self, GivenBack<T>> {
        match self.caller.transfer(self.raw, receiver, AskedRights::Same) {
            Ok(raw) => {
                self.owned = false;
                Ok(Self::owned(receiver.caller().clone(), raw))
            }
            Err(error) => Err(GivenBack { handle: self, error }),
        }
    }

    /// Whether guests that are made with `inherit` get an equal.
    ///
    /// # Errors
    /// As [`Handle::info`].
    #[track_caller]
    pub fn set_inheritable(&self, inheritable: bool) -> Result<(), Error> {
        self.call(Call::SetInheritable { handle: self.raw, inheritable }).map(drop)
    }

    /// What keeps the object alive: the shortest chain from a living process, each keeping the next. Needs INSPECT.
    ///
    /// # Errors
    /// [`Error::AccessDenied`], [`Error::NoMemory`], and as [`Handle::info`].
    #[track_caller]
    pub fn why(&self) -> Result<Why, Error> {
        match self.call(Call::Why { handle: self.raw })? {
            CallAnswer::Why(why) => Ok(why),
            _ => Err(Error::BadHandle { handle: self.raw }),
        }
    }

    /// Which processes have handles to the object. Needs INSPECT. Linux: what `lsof` guesses.
    ///
    /// # Errors
    /// As [`Handle::why`].
    #[track_caller]
    pub fn holders(&self) -> Result<Vec<Holder>, Error> {
        match self.call(Call::Holders { handle: self.raw })? {
            CallAnswer::Holders(holders) => Ok(holders),
            _ => Err(Error::BadHandle { handle: self.raw }),
        }
    }

    /// Who keeps the object, directly: processes, a permanent name, its job, links. Needs INSPECT.
    ///
    /// # Errors
    /// As [`Handle::why`].
    #[track_caller]
    pub fn kept_by(&self) -> Result<Vec<Keeper>, Error> {
        match self.call(Call::KeptBy { handle: self.raw })? {
            CallAnswer::KeptBy(keepers) => Ok(keepers),
            _ => Err(Error::BadHandle { handle: self.raw }),
        }
    }

    /// From which processes the handle came by derivation, the nearest first: they can take it back. Needs INSPECT.
    ///
    /// # Errors
    /// As [`Handle::why`].
    #[track_caller]
    pub fn derived_from(&self) -> Result<Vec<Koid>, Error> {
        match self.call(Call::DerivedFrom { handle: self.raw })? {
            CallAnswer::DerivedFrom(processes) => Ok(processes),
            _ => Err(Error::BadHandle { handle: self.raw }),
        }
    }

    /// A reference for the state of another object to keep this one by: no handle, so it allows nothing, and nobody takes it
    /// back. Say what a state keeps by [`ObjectType::links`].
    ///
    /// # Errors
    /// [`Error::TooManyReferences`], and as [`Handle::info`].
    #[track_caller]
    pub fn keep(&self) -> Result<Kept, Error> {
        self.caller.keep(self.raw)
    }

    #[track_caller]
    fn new_handle(&self, call: Call<'_>) -> Result<Self, Error> {
        Ok(Self::owned(self.caller.clone(), self.caller.handle(call)?))
    }

    /// Forgets which type it is.
    #[must_use]
    pub fn into_any(mut self) -> Handle<types::Any> {
        let any = Handle { caller: self.caller.clone(), raw: self.raw, owned: self.owned, means: PhantomData };
        self.owned = false;
        any
    }
}

impl<T: ObjectType> Handle<T> {
    /// What the object consists of, for as long as the guard is there. Needs the rights that are named: the type says which
    /// ones what it is used for needs. Takes no lock.
    ///
    /// # Errors
    /// [`Error::AccessDenied`], [`Error::BadHandle`]; [`Error::WrongType`] for a built-in type, whose state is the manager's.
    #[track_caller]
    pub fn state(&self, needed: Rights) -> Result<State<'_, T>, Error> {
        let held = self.caller.look(self.raw, needed)?;
        if held.state_as::<T::State>().is_none() {
            let info = self.info()?;
            let operation = Operation::HandleInfo;
            return Err(Error::WrongType { koid: info.koid, found: info.object_type, operation });
        }
        Ok(State { held, means: PhantomData })
    }
}

/// The state of an object of a user's type. The object does not end while this is there.
pub struct State<'a, T: ObjectType> {
    held: kobj_memory::Held<'a>,
    means: PhantomData<fn() -> T>,
}

impl<T: ObjectType> State<'_, T> {
    /// The state.
    ///
    /// `None` never comes: it was looked at before this was made, and an object keeps its type.
    #[must_use]
    pub fn get(&self) -> Option<&T::State> {
        self.held.state_as()
    }
}

impl<T: ObjectType> fmt::Debug for State<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.held.fmt(f)
    }
}

impl Handle<types::Any> {
    /// The handle with its type.
    ///
    /// # Errors
    /// [`Error::UnexpectedType`] if the object is of another one, [`Error::NotRegistered`], and as [`Handle::info`]: then the
    /// handle is as it was, and is given back with the error.
    #[track_caller]
    pub fn into_typed<T: Typed>(mut self) -> Result<Handle<T>, GivenBack<types::Any>> {
        if let Err(error) = self.caller.means::<T>(self.raw) {
            return Err(GivenBack { handle: self, error });
        }
        let typed = Handle { caller: self.caller.clone(), raw: self.raw, owned: self.owned, means: PhantomData };
        self.owned = false;
        Ok(typed)
    }
}

/// A handle that is as it was, since what was to become of it was refused. `?` turns it into the error alone; the handle is
/// closed then, as every one that is dropped.
pub struct GivenBack<T> {
    /// The handle.
    pub handle: Handle<T>,
    /// Why it was refused.
    pub error: Error,
}

impl<T> fmt::Debug for GivenBack<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GivenBack").field("handle", &self.handle).field("error", &self.error).finish()
    }
}

impl<T> fmt::Display for GivenBack<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> std::error::Error for GivenBack<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl<T> From<GivenBack<T>> for Error {
    fn from(given_back: GivenBack<T>) -> Self {
        given_back.error
    }
}

/// The rights that are asked for: [`Rights`], or [`AskedRights::Same`] for all that can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked(pub(crate) AskedRights);

impl From<Rights> for Asked {
    fn from(rights: Rights) -> Self {
        Self(AskedRights::Exactly(rights))
    }
}

impl From<AskedRights> for Asked {
    fn from(rights: AskedRights) -> Self {
        Self(rights)
    }
}

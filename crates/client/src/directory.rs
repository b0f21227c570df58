//! Directories: naming, opening, listing.

use crate::handle::{Asked, Typed};
use crate::process::Caller;
use crate::{
    AskedRights, Call, CallAnswer, Directory, Error, Handle, Koid, RawHandle, Rights, Section, SectionOptions,
    SymbolicLink, TypeNumber,
};
use kobj_core::{SectionName, What};

/// How an object is named.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    most: AskedRights,
    permanent: bool,
}

impl Default for Link {
    fn default() -> Self {
        Self { most: AskedRights::Same, permanent: false }
    }
}

impl Link {
    /// All the handle's rights for whoever opens it, and only as long as somebody has a handle.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The most rights that are granted to whoever opens it.
    #[must_use]
    pub fn most(mut self, rights: impl Into<Asked>) -> Self {
        self.most = rights.into().0;
        self
    }

    /// The name keeps the object though nobody has a handle. Needs MANAGE. NT: `OBJ_PERMANENT`.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.permanent = true;
        self
    }
}

/// How a name is opened.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    rights: AskedRights,
    follow: bool,
}

impl Default for Open {
    fn default() -> Self {
        Self { rights: AskedRights::Same, follow: true }
    }
}

impl Open {
    /// With all rights that the name grants, following symbolic links.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With these rights. More than the name grants is refused.
    #[must_use]
    pub fn rights(mut self, rights: impl Into<Asked>) -> Self {
        self.rights = rights.into().0;
        self
    }

    /// A symbolic link at the path's end is opened itself. NT: `OBJ_OPENLINK`; Linux: `O_NOFOLLOW`.
    #[must_use]
    pub fn no_follow(mut self) -> Self {
        self.follow = false;
        self
    }
}

/// How an object is made under a name.
#[derive(Clone, Copy, Debug)]
pub struct Create {
    rights: AskedRights,
    exclusive: bool,
}

impl Default for Create {
    fn default() -> Self {
        Self { rights: AskedRights::Same, exclusive: false }
    }
}

impl Create {
    /// Opens what has the name, or makes it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A name that is taken is refused. Linux: `O_EXCL`.
    #[must_use]
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    /// With these rights.
    #[must_use]
    pub fn rights(mut self, rights: impl Into<Asked>) -> Self {
        self.rights = rights.into().0;
        self
    }
}

/// What a directory says of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: Vec<u8>,
    /// What it names.
    pub koid: Koid,
    /// The object's type.
    pub object_type: TypeNumber,
    /// The most that it grants.
    pub most: Rights,
    /// Whether it keeps the object though nobody has a handle.
    pub permanent: bool,
}

/// The names of a directory, in the order in which they were linked, or what is in a job. What is there throughout is met once,
/// whatever changes.
#[derive(Debug)]
pub struct Entries<'a> {
    caller: &'a Caller,
    listed: RawHandle,
    cursor: Option<u64>,
}

impl<'a> Entries<'a> {
    pub(crate) fn of<T>(listed: &'a Handle<T>) -> Self {
        Self { caller: listed.caller(), listed: listed.raw(), cursor: Some(0) }
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let cursor = self.cursor?;
        match self.caller.call(Call::Enumerate { directory: self.listed, cursor }) {
            Ok(CallAnswer::Entry(Some(entry))) => {
                self.cursor = Some(entry.cursor);
                let name = entry.name.as_bytes().to_vec();
                let kobj_core::Entry { koid, object_type, most, permanent, .. } = *entry;
                Some(Ok(Entry { name, koid, object_type, most, permanent }))
            }
            Ok(_) => {
                self.cursor = None;
                None
            }
            Err(error) => {
                self.cursor = None;
                Some(Err(error))
            }
        }
    }
}

impl Directory {
    /// Names an object. Needs CREATE here, and DUPLICATE on the object's handle, which is of the same process. NT:
    /// `ObInsertObject`; Linux: `link`.
    ///
    /// # Errors
    /// [`Error::NameExists`], [`Error::AlreadyNamed`], [`Error::BadName`], [`Error::Cycle`], [`Error::TooDeep`],
    /// [`Error::TooManyRights`], [`Error::AccessDenied`], [`Error::NoMemory`]; [`Error::OtherProcess`] or
    /// [`Error::OtherManager`] for a handle in another table.
    #[track_caller]
    pub fn link<T>(&self, name: impl AsRef<[u8]>, object: &Handle<T>, how: Link) -> Result<(), Error> {
        self.caller().has_in_its_table(object)?;
        let Link { most, permanent } = how;
        let name = name.as_ref();
        let call = Call::Link { directory: self.raw(), name, handle: object.raw(), most, permanent };
        self.call(call).map(drop)
    }

    /// Takes a name away; the object lives on as long as it has handles. Needs REMOVE. Linux: `unlink`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::BadName`], [`Error::AccessDenied`].
    #[track_caller]
    pub fn unlink(&self, name: impl AsRef<[u8]>) -> Result<(), Error> {
        self.call(Call::Unlink { directory: self.raw(), name: name.as_ref() }).map(drop)
    }

    /// Gives what has a name another one; its place in the list stays. Needs MANAGE.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NameExists`], [`Error::BadName`], [`Error::AccessDenied`].
    #[track_caller]
    pub fn rename(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<(), Error> {
        self.call(Call::Rename { directory: self.raw(), from: from.as_ref(), to: to.as_ref() }).map(drop)
    }

    /// A handle to what has a name. Needs LOOKUP, here and in the name of each directory on the way. NT: `NtOpenObject`;
    /// Linux: `openat2` with `RESOLVE_BENEATH`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::UnexpectedType`], [`Error::TooManyRights`], [`Error::LinkLoop`], [`Error::AboveStart`],
    /// [`Error::BadPath`], [`Error::AccessDenied`], [`Error::Quota`], [`Error::NoMemory`].
    #[track_caller]
    pub fn open<T: Typed>(&self, path: impl AsRef<[u8]>, how: Open) -> Result<Handle<T>, Error> {
        let Open { rights, follow } = how;
        let path = path.as_ref();
        let expected = self.caller().inner.expected::<T>()?;
        let call = Call::Open { directory: self.raw(), path, rights, expected, follow };
        Ok(Handle::owned(self.caller().clone(), self.caller().handle(call)?))
    }

    /// A directory under a name: what is there, or a new one, in one step; says which it was. Needs LOOKUP and CREATE. NT:
    /// `OBJ_OPENIF`.
    ///
    /// # Errors
    /// [`Error::NameExists`] if it has to be new; [`Error::UnexpectedType`]; and as [`Directory::open`].
    #[track_caller]
    pub fn create_directory(&self, name: impl AsRef<[u8]>, how: Create) -> Result<(Self, bool), Error> {
        self.open_or_create(name.as_ref(), What::Directory, how)
    }

    /// A symbolic link under a name, as [`Directory::create_directory`].
    ///
    /// # Errors
    /// As [`Directory::create_directory`].
    #[track_caller]
    pub fn create_symbolic_link(
        &self,
        name: impl AsRef<[u8]>,
        target: impl AsRef<[u8]>,
        how: Create,
    ) -> Result<(SymbolicLink, bool), Error> {
        self.open_or_create(name.as_ref(), What::SymbolicLink { target: target.as_ref() }, how)
    }

    /// A section under a name, as [`Directory::create_directory`]: what is there, of whatever size, or a new one of this. Of two
    /// who make one at once the second opens the first one's. NT: `NtCreateSection` with `OBJ_OPENIF`; Linux: `shm_open` with
    /// `O_CREAT`.
    ///
    /// # Errors
    /// As [`Directory::create_directory`] and [`Caller::create_section`].
    #[track_caller]
    pub fn create_section(
        &self,
        name: impl AsRef<[u8]>,
        options: impl Into<SectionOptions>,
        how: Create,
    ) -> Result<(Section, bool), Error> {
        let Create { rights, exclusive } = how;
        let name = SectionName { directory: self.raw(), name: name.as_ref(), rights, exclusive };
        let caller = self.caller();
        let made = caller.inner.open_or_create_section(caller.koid(), name, options.into().request())?;
        Ok((Handle::owned(caller.clone(), made.0), made.1))
    }

    #[track_caller]
    fn open_or_create<T>(&self, name: &[u8], what: What<'_>, how: Create) -> Result<(Handle<T>, bool), Error> {
        let Create { rights, exclusive } = how;
        match self.call(Call::OpenOrCreate { directory: self.raw(), name, what, rights, exclusive })? {
            CallAnswer::Opened { handle, created } => Ok((Handle::owned(self.caller().clone(), handle), created)),
            _ => Err(Error::BadHandle { handle: self.raw() }),
        }
    }

    /// The names, in the order in which they were linked. Needs ENUMERATE. NT: `NtQueryDirectoryObject`.
    #[must_use]
    pub fn entries(&self) -> Entries<'_> {
        Entries::of(self)
    }
}

impl<T> Handle<T> {
    /// Makes the object's name keep it though nobody has a handle, or not. Needs MANAGE. NT: `NtMakePermanentObject`,
    /// `NtMakeTemporaryObject`.
    ///
    /// # Errors
    /// [`Error::NotNamed`], [`Error::AccessDenied`], [`Error::Quota`].
    #[track_caller]
    pub fn set_permanent(&self, permanent: bool) -> Result<(), Error> {
        self.call(Call::SetPermanent { handle: self.raw(), permanent }).map(drop)
    }
}

//! Calls: what a process asks of the manager by its handles, and what it is told.
//!
//! `docs/semantics.md` has the same calls as a table. In all of them: the caller's own state is looked at first, then the
//! handles in the order of the arguments, each wholly (bad handle, wrong type, access denied), then the other arguments,
//! then the state of what is named, then quotas, then memory. A refusal leaves everything as it was.

use crate::command::Why;
use crate::holders::{Holder, Keeper};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use kobj_abi::section::Part;
use kobj_abi::{AskedRights, ErrorCode, Koid, ObjectType, Operation, RawHandle, Rights, RightsOf, TypeNumber};

/// What to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// A directory.
    Directory,
    /// A symbolic link.
    SymbolicLink {
        /// Where it leads: a path, relative to the directory that the link will stand in.
        target: &'a [u8],
    },
}

/// One thing that a process asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call<'a> {
    /// Give a handle up. NT: `NtClose`; Zircon: `zx_handle_close`.
    Close {
        /// Which.
        handle: RawHandle,
    },
    /// Make an equal handle. NT: `NtDuplicateObject`; Zircon: `zx_handle_duplicate`.
    Duplicate {
        /// Of which.
        handle: RawHandle,
        /// With which rights.
        rights: AskedRights,
    },
    /// Exchange a handle for one with the same or fewer rights; refused, the old one stays valid (Zircon closes it).
    /// NT: `NtDuplicateObject` with `DUPLICATE_CLOSE_SOURCE`; Zircon: `zx_handle_replace`.
    Replace {
        /// Which.
        handle: RawHandle,
        /// With which rights.
        rights: AskedRights,
    },
    /// Make a handle that [`Call::Revoke`] takes back. seL4: `CNode_Mint`; NT and Zircon have none.
    Derive {
        /// From which.
        handle: RawHandle,
        /// With which rights.
        rights: AskedRights,
    },
    /// Take back all that was derived from a handle, directly or not, wherever it is. seL4: `CNode_Revoke`.
    Revoke {
        /// From which.
        handle: RawHandle,
    },
    /// Move a handle to another process. NT: `NtDuplicateObject` into another process; Zircon: a channel write.
    Transfer {
        /// Which.
        handle: RawHandle,
        /// The handle of the receiving process.
        process: RawHandle,
        /// With which rights.
        rights: AskedRights,
    },
    /// Ask what a handle means. NT: `NtQueryObject`; Zircon: `ZX_INFO_HANDLE_BASIC`.
    HandleInfo {
        /// Which.
        handle: RawHandle,
    },
    /// Say whether processes made with `inherit` get an equal of this handle. NT: `OBJ_INHERIT`.
    SetInheritable {
        /// Which.
        handle: RawHandle,
        /// Whether.
        inheritable: bool,
    },
    /// Make an object without a name.
    Create {
        /// What.
        what: What<'a>,
    },
    /// Make a job in a job. NT: `NtCreateJobObject`; Zircon: `zx_job_create`.
    CreateJob {
        /// In which.
        job: RawHandle,
    },
    /// Make a guest process in a job. Zircon: `zx_process_create`.
    CreateGuest {
        /// In which.
        job: RawHandle,
        /// Whether it gets equals of the caller's inheritable handles.
        inherit: bool,
    },
    /// Limit what a job or process may have, with all in it. What is there beyond a lower limit stays. NT: job limits; Linux:
    /// `setrlimit`, cgroups.
    SetQuota {
        /// The job or process.
        handle: RawHandle,
        /// Of what.
        resource: Resource,
        /// How much; [`crate::UNLIMITED`] ends a limit.
        limit: u64,
    },
    /// Say what follows when a process in a job names a handle that it does not have. Zircon: `ZX_POL_BAD_HANDLE`; NT:
    /// `PROCESS_MITIGATION_STRICT_HANDLE_CHECK_POLICY`.
    SetBadHandlePolicy {
        /// The job.
        job: RawHandle,
        /// What.
        policy: BadHandlePolicy,
    },
    /// Let another job pay for an object, which then stands in that job. NT, Zircon, Linux: none.
    Recharge {
        /// Which object.
        handle: RawHandle,
        /// The job that pays for it.
        from: RawHandle,
        /// The job that is to.
        to: RawHandle,
    },
    /// End a job with all in it, or a guest process. NT: `NtTerminateJobObject`, `NtTerminateProcess`; Zircon:
    /// `zx_task_kill`.
    Kill {
        /// Which.
        handle: RawHandle,
    },
    /// Name an object in a directory. NT: `ObInsertObject`; Linux: `link`.
    Link {
        /// The directory.
        directory: RawHandle,
        /// The name.
        name: &'a [u8],
        /// The object.
        handle: RawHandle,
        /// The most that is granted to whoever opens it.
        most: AskedRights,
        /// Whether the name keeps the object though nobody has a handle.
        permanent: bool,
    },
    /// Take a name away. Linux: `unlink`.
    Unlink {
        /// The directory.
        directory: RawHandle,
        /// The name.
        name: &'a [u8],
    },
    /// Give what has a name another one in the same directory; its place in the list stays.
    Rename {
        /// The directory.
        directory: RawHandle,
        /// The name that it has.
        from: &'a [u8],
        /// The name that it is to have.
        to: &'a [u8],
    },
    /// Make a handle to what has a name. NT: `NtOpenObject`; Linux: `openat2` with `RESOLVE_BENEATH`.
    Open {
        /// Where the path starts, and above which it never leads.
        directory: RawHandle,
        /// Names with separators between them.
        path: &'a [u8],
        /// With which rights, of those that the entry grants.
        rights: AskedRights,
        /// The type that is expected, if only one is right.
        expected: Option<TypeNumber>,
        /// Whether a symbolic link at the end is followed, too.
        follow: bool,
    },
    /// Make an object under a name, or open what has the name, in one step. NT: `OBJ_OPENIF`.
    OpenOrCreate {
        /// The directory.
        directory: RawHandle,
        /// The name.
        name: &'a [u8],
        /// What to make.
        what: What<'a>,
        /// With which rights.
        rights: AskedRights,
        /// Whether a name that is taken is refused.
        exclusive: bool,
    },
    /// One entry of a directory, in the order in which they were linked. NT: `NtQueryDirectoryObject`.
    Enumerate {
        /// The directory.
        directory: RawHandle,
        /// 0 to begin, then what the last answer said.
        cursor: u64,
    },
    /// Make a named object's name permanent or temporary. NT: `NtMakePermanentObject`, `NtMakeTemporaryObject`.
    SetPermanent {
        /// Which object.
        handle: RawHandle,
        /// Whether.
        permanent: bool,
    },
    /// What keeps an object alive: the shortest chain from a living process. NT, Zircon, Linux: none.
    Why {
        /// Which.
        handle: RawHandle,
    },
    /// Which processes have handles to an object. NT: `NtQuerySystemInformation` with `SystemHandleInformation`; Linux: lsof.
    Holders {
        /// Which.
        handle: RawHandle,
    },
    /// Who keeps an object, directly: processes, permanent names, jobs, links.
    KeptBy {
        /// Which.
        handle: RawHandle,
    },
    /// From which processes a handle came by derivation, the nearest first.
    DerivedFrom {
        /// Which.
        handle: RawHandle,
    },
    /// Where a symbolic link leads. NT: `NtQuerySymbolicLinkObject`.
    ReadLink {
        /// Which.
        handle: RawHandle,
    },
}

impl Call<'_> {
    /// Whether it makes an object, which notes the time: for all others the time is of no account.
    #[must_use]
    pub const fn makes_an_object(&self) -> bool {
        matches!(
            self,
            Self::Create { .. } | Self::CreateJob { .. } | Self::CreateGuest { .. } | Self::OpenOrCreate { .. }
        )
    }
}

/// What a handle means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandleInfo {
    /// The object.
    pub koid: Koid,
    /// Its type.
    pub object_type: TypeNumber,
    /// What the handle allows.
    pub rights: Rights,
    /// Whether processes made with `inherit` get an equal.
    pub inheritable: bool,
    /// Whether it was derived, or is an equal of one that was: somebody can take it back.
    pub derived: bool,
}

impl HandleInfo {
    /// What the handle allows, printed with the names that the type gives its own rights.
    #[must_use]
    pub fn named_rights(&self) -> RightsOf {
        self.rights.of(self.object_type)
    }
}

/// What a call gives: small, since it is handed on several times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallAnswer {
    /// It was done.
    Done,
    /// A piece of it was done: call again, until the answer is another one. Of [`Call::Revoke`] alone.
    GoOn,
    /// A new handle in the caller's table; in the receiver's for [`Call::Transfer`].
    Handle(RawHandle),
    /// A new handle, and whether the object was made by this call.
    Opened {
        /// The handle.
        handle: RawHandle,
        /// Whether it is new.
        created: bool,
    },
    /// A new guest.
    Guest {
        /// The caller's handle to it.
        handle: RawHandle,
        /// By which it makes calls of its own.
        process: Koid,
    },
    /// What the handle means.
    Info(HandleInfo),
    /// The next entry of a directory; `None` at the end.
    Entry(Option<Box<Entry>>),
    /// Where a symbolic link leads.
    Target(Vec<u8>),
    /// What keeps an object.
    Why(Why),
    /// Who has handles to it.
    Holders(Vec<Holder>),
    /// Who keeps it, directly.
    KeptBy(Vec<Keeper>),
    /// From which processes it came.
    DerivedFrom(Vec<Koid>),
}

const _: () = assert!(size_of::<CallAnswer>() <= 40);

/// An entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: EntryName,
    /// What it names.
    pub koid: Koid,
    /// The object's type.
    pub object_type: TypeNumber,
    /// The most that it grants.
    pub most: Rights,
    /// Whether it keeps the object though nobody has a handle.
    pub permanent: bool,
    /// For the next [`Call::Enumerate`].
    pub cursor: u64,
}

/// The bytes of a name, 1 to 255.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EntryName {
    length: u8,
    bytes: [u8; 255],
}

impl EntryName {
    /// The name of these bytes; `None` if they can be no name.
    #[must_use]
    pub fn new(name: &[u8]) -> Option<Self> {
        let is_name = !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0);
        let mut bytes = [0; 255];
        bytes.get_mut(..name.len()).filter(|_| is_name)?.copy_from_slice(name);
        Some(Self { length: name.len() as u8, bytes })
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

impl fmt::Debug for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

/// A type in a message: built-in ones by their names, registered ones by their numbers.
struct Named(TypeNumber);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ObjectType::ALL.into_iter().find(|built_in| built_in.number() == self.0) {
            Some(built_in) => f.write_str(built_in.name()),
            None => self.0.0.fmt(f),
        }
    }
}

macro_rules! call_errors {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* } $code:ident
        => $format:literal $(, $argument:expr)*;)*) => {
        /// Why a call was refused. Nothing has changed then.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum CallError {
            $($(#[$doc])* $name { $($(#[$field_doc])* $field: $type),* },)*
        }

        impl CallError {
            /// Which kind of refusal it is.
            #[must_use]
            pub const fn code(self) -> ErrorCode {
                match self {
                    $(Self::$name { .. } => ErrorCode::$code,)*
                }
            }
        }

        impl fmt::Display for CallError {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name { $($field),* } => write!(f, $format $(, $argument)*),)*
                }
            }
        }
    };
}

impl core::error::Error for CallError {}

call_errors! {
    /// The caller is no living guest of this manager.
    NoProcess { /** Who calls. */ process: Koid } Dying
        => "process {process} has no handle table here, or no longer; make a guest first";
    /// The job or process takes nothing new any more.
    Dying { /** Which. */ koid: Koid } Dying
        => "object {koid} is being ended and takes nothing new; use another one";
    /// Not a handle of this table.
    BadHandle { /** The value. */ handle: RawHandle } BadHandle
        => "{handle} is none of this process: it was closed or taken back, or is another process's; open the object again, or ask its giver";
    /// The type has no such operation.
    WrongType { /** Which object. */ koid: Koid, /** Its type. */ found: TypeNumber, /** What was asked. */ operation: Operation }
        WrongType
        => "object {koid} is of type {} and has no operation {}; use a handle of the right type", Named(*found), operation.name();
    /// Another type was expected under that name.
    UnexpectedType { /** Which object. */ koid: Koid, /** Its type. */ found: TypeNumber, /** What was expected. */ expected: TypeNumber }
        WrongType
        => "object {koid} is of type {}, not of type {} as expected; check the path or handle", Named(*found), Named(*expected);
    /// The handle does not allow the operation.
    AccessDenied { /** Which object. */ koid: Koid, /** What was asked. */ operation: Operation, /** What the handle lacks. */ missing: Rights }
        AccessDenied
        => "the handle to object {koid} lacks the rights {} that {} needs; ask its giver for them", operation.named(*missing), operation.name();
    /// More rights were asked for than there are to give.
    TooManyRights { /** Which object. */ koid: Koid, /** To what type of object. */ object_type: TypeNumber, /** What was asked for. */ asked: Rights, /** The most. */ most: Rights }
        AccessDenied
        => "rights {} were asked for, at most {} can be given to object {koid}; ask for fewer", asked.of(*object_type), most.of(*object_type);
    /// Bits that mean nothing.
    ReservedRights { /** What was asked for. */ asked: Rights } BadArgument
        => "rights {asked} have bits without a meaning; leave them out";
    /// A name that can never be one.
    BadName { /** Its length in bytes. */ bytes: usize } BadArgument
        => "a name has 1 to 255 bytes, no '/' (also not at its beginning) and no NUL, and is not . or ..; this one has {bytes} bytes";
    /// A path that can never lead anywhere.
    BadPath { /** Its length in bytes. */ bytes: usize } BadArgument
        => "a path has 1 to 4096 bytes: names with one '/' between them, none before the first or after the last, and no . or ..; this one has {bytes} bytes";
    /// The path leads above the directory where it starts.
    AboveStart { /** Where it starts. */ directory: Koid } BadArgument
        => "the path leads above directory {directory}, where it starts; use a handle to a directory further out";
    /// A section of no size.
    EmptySection {} BadArgument
        => "a section has at least 1 byte; ask for a size";
    /// A part that is not within the section.
    BadRange { /** Which section. */ koid: Koid, /** What was asked for. */ part: Part, /** The section's size. */ size_bytes: u64 }
        BadArgument
        => "{} bytes from {} on are no part of section {koid}, which has {size_bytes} bytes; ask for what is within, and not for 0", part.size_bytes, part.offset_bytes;
    /// Nothing has that name.
    NotFound { /** The directory in which it is missing. */ directory: Koid } NotFound
        => "directory {directory} has no such name; list it, or create the object";
    /// The name is taken.
    NameExists { /** By which object. */ koid: Koid } NameExists
        => "the name is object {koid}'s; open it, or choose another name";
    /// An object has one name.
    AlreadyNamed { /** Which object. */ koid: Koid } WrongName
        => "object {koid} has a name already; take that one away first";
    /// The object has no name.
    NotNamed { /** Which object. */ koid: Koid } WrongName
        => "object {koid} has no name; link it first";
    /// Too many symbolic links.
    LinkLoop { /** Where the path starts. */ directory: Koid } LinkLoop
        => "more than 32 symbolic links lead on from directory {directory}; look for one that leads to itself";
    /// The directory would contain itself.
    Cycle { /** Which directory. */ koid: Koid } Cycle
        => "directory {koid} contains the one it was to be named in; name it elsewhere";
    /// Nested too deeply.
    TooDeep { /** Where. */ koid: Koid, /** The most levels. */ most: u8 } TooDeep
        => "below object {koid} there would be more than {most} levels; use one further out";
    /// What the handle was derived from is being taken back.
    Revoked { /** Which object. */ koid: Koid } Revoked
        => "the handle to object {koid} is being taken back by whom it was derived from; ask for a new one";
    /// A quota would be exceeded.
    Quota { /** The job or process whose quota it is. */ koid: Koid, /** Of what. */ resource: Resource, /** The limit. */ limit: u64, /** What is in use. */ used: u64 }
        Quota
        => "{koid} may have {limit} {}, {used} are in use, and this needs more than is left; close some, or raise the quota", resource.name();
    /// A limit for objects of a type that there is not.
    UnknownType { /** Its number. */ number: TypeNumber } BadArgument
        => "no type has the number {}; register the type first", number.0;
    /// Two managers share no objects.
    OtherManager { /** Who acts. */ process: Koid, /** Whose the other one is, in its own manager. */ other: Koid } BadArgument
        => "processes {process} and {other} are of two managers, which share nothing; use handles and guests of one manager";
    /// Both handles of a call are in one table.
    OtherProcess { /** Who acts. */ process: Koid, /** In whose table the other handle is. */ other: Koid } BadArgument
        => "the handle is in the table of process {other}, but process {process} acts; transfer it there, or use one of its own";
    /// A forked child has no part in the manager of its parent.
    Forked {} Forked
        => "this process was forked off the manager's and has no part in it; make a manager of its own, or execute another program";
    /// No such type is registered with this manager.
    NotRegistered { /** Its letters. */ letters: [u8; 4] } WrongType
        => "no type with the letters \"{}\" is registered with this manager; register it first", letters.escape_ascii();
    /// The type's own create hook refused.
    Refused { /** The type. */ number: TypeNumber } BadArgument
        => "type {} refuses to be made of that state; its documents say why", number.0;
    /// No memory.
    NoMemory {} NoMemory
        => "there is not enough memory; nothing was done, so free some and try again";
    /// Too many open files or mappings.
    TooManyFiles {} Exhausted
        => "this process has too many open files or mappings for another section or view; close some, or raise its limit";
    /// Too many references or pins.
    TooManyReferences { /** Which object. */ koid: Koid } Exhausted
        => "object {koid} has as many references as can be counted; close some";
    /// Every slot of the table is used, or used up.
    TableFull { /** Whose table. */ process: Koid } Exhausted
        => "the handle table of process {process} is full; close some handles, or use another process";
    /// Every koid of the era is given out.
    EraExhausted {} Exhausted
        => "all ids of this era are given out; open a newer era";
    /// The root job ends with its manager.
    RootJob { /** Which. */ koid: Koid } BadState
        => "job {koid} is the root job and ends with its manager; kill the jobs in it";
    /// The root directory is above all others, so that nobody's names in it become too deep.
    RootDirectory { /** Which. */ koid: Koid } BadState
        => "directory {koid} is the root directory and stands in no other; name a directory of your own, or give out a handle to this one";
    /// A process of the operating system is not the manager's to end.
    NotAGuest { /** Which. */ koid: Koid } BadState
        => "process {koid} is no guest of this manager; end it by the operating system";
    /// Jobs and processes are charged where they stand.
    StandsInItsJob { /** Which. */ koid: Koid } BadState
        => "object {koid} is a job or a process and is charged to the job that it stands in; recharge what it made";
    /// The object is charged to another job.
    ChargedElsewhere { /** Which object. */ koid: Koid } BadState
        => "object {koid} is not charged to the job that was named; inspect it to see to which";
}

/// What follows when a process names a handle that it does not have. The call is refused in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHandlePolicy {
    /// Nothing more.
    Error,
    /// The embedder is told ([`crate::Effect::BadHandle`]).
    Trace,
    /// The embedder is told, and the process is ended if it is a guest; the embedder's own never is.
    Kill,
}

/// What a quota limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// Objects of any type.
    Objects,
    /// Objects of one type.
    ObjectsOf(TypeNumber),
    /// Handles.
    Handles,
    /// Bytes.
    Bytes,
}

impl Resource {
    /// The word that people read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Objects => "objects",
            Self::ObjectsOf(_) => "objects of that type",
            Self::Handles => "handles",
            Self::Bytes => "bytes",
        }
    }
}

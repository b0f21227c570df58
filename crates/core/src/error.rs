//! Errors: one plain enum for each operation. Each says what happened, to which object, and what to do.

use crate::command::{LinkId, Ticket};
use core::fmt;
use kobj_abi::{Era, Koid, LinkKind, ObjectType};

/// There is no such object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Which was asked for.
    pub koid: Koid,
    /// Whether it once was, and is destroyed.
    pub gone: bool,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.gone {
            write!(f, "object {} was destroyed; its id is never used again, so forget it", self.koid)
        } else {
            write!(f, "object {} was never made here; check the id", self.koid)
        }
    }
}

/// The object is of another type than the operation wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongType {
    /// Which object.
    pub koid: Koid,
    /// What it is.
    pub found: ObjectType,
    /// What was wanted.
    pub wanted: ObjectType,
}

impl fmt::Display for WrongType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { koid, found, wanted } = self;
        write!(f, "object {koid} is a {}, not a {}; name a {}", found.name(), wanted.name(), wanted.name())
    }
}

/// Defines an operation's enum of errors with its messages and, for `Missing` and `WrongType`, the conversions.
macro_rules! errors {
    ($(#[$about:meta])* $name:ident, $missing:ident $(, $wrong:ident)?;
     $($(#[$doc:meta])* $variant:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* } => $format:literal $(, $argument:expr)*;)*) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            /// There is no such object.
            $missing(Missing),
            $(
                /// An object is of the wrong type.
                $wrong(WrongType),
            )?
            $($(#[$doc])* $variant { $($(#[$field_doc])* $field: $type),* },)*
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::$missing(missing) => missing.fmt(f),
                    $(Self::$wrong(wrong) => wrong.fmt(f),)?
                    $(Self::$variant { $($field),* } => write!(f, $format $(, $argument)*),)*
                }
            }
        }

        impl core::error::Error for $name {}

        impl From<Missing> for $name {
            fn from(missing: Missing) -> Self {
                Self::$missing(missing)
            }
        }

        $(
            impl From<WrongType> for $name {
                fn from(wrong: WrongType) -> Self {
                    Self::$wrong(wrong)
                }
            }
        )?
    };
}

/// Why no era was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EraError {
    /// An era is used once, and they only count up.
    NotNewer {
        /// Asked for.
        era: Era,
        /// In use.
        present: Era,
    },
    /// No memory.
    NoMemory,
}

impl fmt::Display for EraError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNewer { era, present } => {
                write!(f, "era {:08x} is not newer than the present one, {:08x}; claim a later one", era.0, present.0)
            }
            Self::NoMemory => f.write_str("there is not enough memory for another era; free some and try again"),
        }
    }
}

impl core::error::Error for EraError {}

errors! {
    /// Why no object was made.
    CreateError, NoObject, WrongType;
    /// The job, or one around it, is being killed.
    JobDying { /** The job that was to contain it. */ job: Koid }
        => "job {job} is dying and takes no new objects; use another job";
    /// Only first jobs and outside processes need no job.
    NeedsJob { /** What was to be made. */ object_type: ObjectType }
        => "a {} needs a job that contains it; name one", object_type.name();
    /// Jobs are nested too deeply.
    TooDeep { /** The job that was to contain it. */ job: Koid, /** The most levels. */ most: u8 }
        => "job {job} is nested {most} levels deep already, the most there is; use a job further out";
    /// The name is too long.
    NameTooLong { /** Its length. */ bytes: usize, /** The most. */ most: usize }
        => "the name has {bytes} bytes, {most} are the most; shorten it";
    /// A section's memory is made by the platform, between two steps.
    NeedsPlatform {} => "a section is made in two steps, with its memory in between; use Core::begin_section";
    /// No process has id 0.
    NoSuchPid { /** The id. */ pid: u32 }
        => "process id {pid} is nobody's; read the id again";
    /// Every koid of this era was given out.
    EraExhausted { /** Which. */ era: Era }
        => "all ids of era {:08x} are given out; open a newer era", era.0;
    /// There is no memory, or no slot is left.
    NoMemory { /** The job that was to contain it. */ job: Option<Koid> }
        => "no memory is left for an object in job {}; end some first", Named(*job);
}

errors! {
    /// Why no link was made.
    LinkError, NoObject;
    /// The types do not go with the link.
    NotAllowed { /** From. */ source: Koid, /** The link. */ kind: LinkKind, /** To. */ target: Koid }
        => "object {source} cannot be linked to {target} by {:?}: their types do not allow it; choose another link",
           kind.name();
    /// Containment is made by creating and ended by closing.
    Containment { /** To. */ target: Koid }
        => "object {target} is contained in a job from its creation; create it in the job that shall contain it";
    /// Nothing keeps itself.
    Itself { /** Which. */ koid: Koid }
        => "object {koid} cannot be linked to itself; name two objects";
    /// A process that has ended holds nothing.
    Ended { /** Which. */ koid: Koid }
        => "process {koid} has ended and can hold nothing; link from a living one";
    /// The object has too many references, or the pool of links is full.
    Full { /** Which. */ koid: Koid }
        => "object {koid} has as many links as there can be; take some away first";
    /// No memory.
    NoMemory { /** Where it was to start. */ source: Koid }
        => "no memory is left for a link from object {source}; take some away first";
}

/// Why no link was taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnlinkError {
    /// It is gone, or never was.
    NoLink {
        /// Which.
        link: LinkId,
    },
    /// Containment ends by closing.
    Containment {
        /// Which.
        link: LinkId,
    },
}

impl fmt::Display for UnlinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLink { link } => write!(f, "link {} is gone, or never was; forget it", link.serial),
            Self::Containment { link } => {
                write!(f, "link {} says which job contains the object; close the object instead", link.serial)
            }
        }
    }
}

impl core::error::Error for UnlinkError {}

errors! {
    /// Why an object was not held.
    ReferenceError, NoObject;
    /// It has too many references.
    Full { /** Which. */ koid: Koid }
        => "object {koid} has as many references as there can be; release some first";
}

errors! {
    /// Why an object was not given back.
    ReleaseError, NoObject;
    /// Nobody holds it by koid.
    NotHeld { /** Which. */ koid: Koid }
        => "object {koid} is not held by any caller; release only what was referenced, once";
}

errors! {
    /// Why a question was not answered.
    QueryError, NoObject, WrongType;
    /// No memory for the answer.
    NoMemory { /** About which. */ koid: Koid }
        => "no memory is left for an answer about object {koid}; free some and ask again";
}

errors! {
    /// Why no scrub was begun.
    ScrubError, NoObject, WrongType;
    /// One is under way.
    Reserved { /** Which. */ koid: Koid, /** The effect. */ ticket: Ticket }
        => "object {koid} is being scrubbed under ticket {}; report that one first", ticket.0;
    /// It has too many references.
    Full { /** Which. */ koid: Koid }
        => "object {koid} has as many references as there can be; release some first";
    /// No memory.
    NoMemory { /** Which. */ koid: Koid }
        => "no memory is left to scrub object {koid}; free some and try again";
}

errors! {
    /// Why a process was not ended.
    EndError, NoObject, WrongType;
    /// One is under way.
    Reserved { /** Which. */ koid: Koid, /** The effect. */ ticket: Ticket }
        => "process {koid} is being ended under ticket {}; report that one first", ticket.0;
    /// It is a guest, whose end is a step of its own: its table is closed first.
    Guest { /** Which. */ koid: Koid }
        => "process {koid} is a guest, which the keeper of host processes does not end; kill it by a handle to it";
    /// It was made as one that had ended.
    Ended { /** Which. */ koid: Koid }
        => "process {koid} has ended already; close it";
    /// It has too many references.
    Full { /** Which. */ koid: Koid }
        => "process {koid} has as many references as there can be; release some first";
    /// No memory.
    NoMemory { /** Which. */ koid: Koid }
        => "no memory is left to end process {koid}; free some and try again";
}

/// Why a result was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoneError {
    /// The ticket was settled, or never given.
    NoTicket {
        /// Which.
        ticket: Ticket,
    },
}

impl fmt::Display for DoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::NoTicket { ticket } = self;
        write!(f, "ticket {} is settled, or was never given; report each effect once", ticket.0)
    }
}

impl core::error::Error for DoneError {}

errors! {
    /// Why a job was not killed.
    KillError, NoObject, WrongType;
}

errors! {
    /// Why an object was not closed.
    CloseError, NoObject;
    /// A job is closed when it is empty.
    NotEmpty { /** Which. */ koid: Koid, /** What it contains. */ live: u64 }
        => "job {koid} still contains {live} objects; close them first or kill the job";
    /// A guest ends by being killed: its table is closed first.
    Guest { /** Which. */ koid: Koid }
        => "process {koid} is a guest and not closed by its keeper; kill it by a handle to it";
    /// Its job let go before.
    Closed { /** Which. */ koid: Koid }
        => "object {koid} was closed before; something else keeps it, ask why";
    /// An effect on it is under way.
    Reserved { /** Which. */ koid: Koid, /** The effect. */ ticket: Ticket }
        => "object {koid} is reserved under ticket {}; report that one first", ticket.0;
}

/// A koid or "none", for messages.
struct Named(Option<Koid>);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(koid) => koid.fmt(f),
            None => f.write_str("none"),
        }
    }
}

//! Kernel objects for programs: typed objects with rights, names, links and quotas, destroyed when the last user is gone.
//!
//! A [`Manager`] keeps the objects of one program. Who acts in it is a *process*: the program itself
//! ([`Manager::caller`]), or a *guest* that the program made ([`Job::create_guest`](Handle::create_guest)), such as a plug-in, a sandboxed
//! module, a simulated machine. Each process has a handle table of its own, and a handle is what it may do with one object:
//!
//! ```
//! use kobj::{Manager, Rights};
//!
//! let manager = Manager::embedded()?;
//! let job = manager.root_job().create_job()?;
//! let (sender, receiver) = (job.create_guest()?, job.create_guest()?);
//!
//! // The sender makes a directory, and the receiver gets a handle that can look things up and nothing else.
//! let inbox = sender.caller().create_directory()?;
//! let theirs = inbox.duplicate(Rights::LOOKUP | Rights::TRANSFER)?.transfer(&receiver)?;
//! assert_eq!(theirs.rights()?, Rights::LOOKUP | Rights::TRANSFER);
//!
//! // A guest ends, and nothing of it is left.
//! sender.kill()?;
//! assert!(inbox.rights().is_err());
//! # Ok::<(), kobj::Error>(())
//! ```
//!
//! Handles are typed ([`Handle`], [`Directory`], [`Job`], ...) and close themselves when they are dropped. What crosses a
//! boundary where Rust's types end (a WebAssembly import, a message) is a [`RawHandle`]: a number that means something in one
//! table alone. A wrong one is an error, whatever it is.
//!
//! Nothing here panics, and whatever is refused has changed nothing.
#![forbid(unsafe_code)]

mod census;
mod directory;
mod handle;
mod job;
mod lock;
mod maker;
mod manager;
mod platform;
mod process;
mod section;
mod symbolic_link;
mod type_object;

pub use census::{Census, Left, Tracing};
pub use directory::{Create, Entries, Entry, Link, Open};
pub use handle::{GivenBack, Handle, State, Typed, types};
pub use kobj_abi::section::{Access, ViewError};
pub use kobj_abi::{AskedRights, ErrorCode, Koid, Operation, RawHandle, Rights, RightsOf, TypeNumber};
pub use kobj_core::{
    BadHandlePolicy, Call, CallAnswer, CallError as Error, HandleInfo, Holder, Keeper, KillReason, Notice, ObjectType,
    Refused, Resource, TypeInfo, TypeKey, Unreachable, What, Why,
};
pub use kobj_memory::{Kept, RegisterError};
pub use kobj_platform::section::Words;
pub use lock::Hosted;
pub use maker::Maker;
pub use manager::{Builder, Event, Manager};
pub use platform::{Linux, LinuxView};
pub use process::{Borrowed, Caller, Guest};
pub use section::{SectionOptions, View};

/// A directory: names for objects. NT: a directory object; Zircon has none.
pub type Directory = Handle<types::Directory>;
/// A symbolic link: a name that leads to another name. NT: a symbolic link object.
pub type SymbolicLink = Handle<types::SymbolicLink>;
/// A job: a tree of processes with quotas. NT: a job object; Zircon: `zx_job`.
pub type Job = Handle<types::Job>;
/// A section: memory of a fixed size that many can map. NT: a section object; Zircon: `zx_vmo`.
pub type Section = Handle<types::Section>;
/// A type, as an object: see [`Manager::system_directory`]. NT: an object type; Zircon has none.
pub type Type = Handle<types::Type>;
/// A process. NT: a process object; Zircon: `zx_process`.
pub type Process = Handle<types::Process>;

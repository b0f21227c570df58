//! The object manager: a pure state machine over typed objects.
//!
//! [`Core::step`] takes the time and a [`Command`] and returns a [`Reply`] and [`Effects`]. It looks at no clock, takes
//! no lock, starts no thread and does nothing to the outside: what is to be done there is an [`Effect`], which the caller
//! performs and reports by [`Command::Done`]. The same commands give the same replies, always.
//!
//! Each step does a bounded amount of work; what is left over is said by [`Effects::more`] and done by
//! [`Command::Continue`]. The exceptions look at as much as there is: [`Command::Why`] and [`Call::Why`] at whatever may keep
//! the object, [`Core::kept_by`] at all handle tables; and by [`Core::call`], which is for who has the core alone,
//! [`Call::Holders`] and [`Call::KeptBy`] at all tables, [`Call::DerivedFrom`] at all generations, [`Call::CreateGuest`] at all
//! that is inherited. [`embed::Manager::call`] does those four in pieces, between which other threads have their turn.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod account;
mod call;
mod command;
mod create;
pub mod derivation;
mod derive;
mod destroy;
mod effects;
pub mod embed;
mod error;
mod facade;
mod finish;
mod guests;
mod handles;
mod holders;
pub mod image;
mod index;
mod kill;
mod leases;
mod ledger;
mod link;
mod listing;
mod manager;
mod named_section;
pub mod names;
mod namespace;
mod notices;
pub mod platform;
mod pool;
mod query;
mod quota;
mod secret;
mod section;
mod system;
#[cfg(test)]
mod tests;
mod ticket;
mod trace;
pub mod types;
mod unreachable;
mod user_type;
mod why;

pub use account::{LeftBehind, UNLIMITED, Usage};
pub use call::{BadHandlePolicy, Call, CallAnswer, CallError, Entry, EntryName, HandleInfo, Resource, What};
pub use command::{
    Answer, Command, Effect, Effects, Info, Keepers, KillReason, LinkId, LooseEnds, Outcome, Refusal, Reply, Ticket,
    Why,
};
pub use error::{
    CloseError, CreateError, DoneError, EndError, EraError, KillError, LinkError, Missing, QueryError, ReferenceError,
    ReleaseError, ScrubError, UnlinkError, WrongType,
};
pub use finish::{Ending, Imbalance, Left};
pub use guests::Boot;
pub use holders::{Holder, Keeper};
pub use kobj_memory::NoMemory;
pub use leases::Leased;
pub use ledger::{Balance, Tally};
pub use link::Keeps;
pub use manager::{Core, Limits};
pub use named_section::{NamedOpening, SectionName};
pub use notices::{Change, CloseReason, Notice, OpenReason};
pub use section::{Mapping, Opening, Release};
pub use system::{LISTED_RIGHTS, SYSTEM_DIRECTORY_RIGHTS};
pub use trace::{Counted, CountedHandle, How, Trace};
pub use types::section::Request as SectionRequest;
pub use unreachable::{Search, Unreachable};
pub use user_type::{ObjectType, Refused, TypeInfo, TypeKey, built_in};

//! What every room agrees on: object ids, tags, kinds of host objects, links. `no_std`, no dependencies.
//!
//! This is the only definition of these values; whatever is written to disk or sent to a peer is spelled here.
#![no_std]
#![forbid(unsafe_code)]

mod error_code;
mod handle;
mod host_kind;
mod koid;
mod link;
mod object_type;
mod operation;
mod rights;
pub mod section;

pub use error_code::ErrorCode;
pub use handle::RawHandle;
pub use host_kind::{Class, EvidenceKind, HoldHow, HostKind, Layer, Strength};
pub use koid::{Era, Koid};
pub use link::LinkKind;
pub use object_type::{ObjectType, Tag, TypeNumber};
pub use operation::{Denied, Operation, check, rights_needed};
pub use rights::{AskedRights, Rights, RightsOf};

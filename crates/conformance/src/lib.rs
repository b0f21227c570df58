//! What every implementation of the object manager must do, row by row; `docs/semantics.md` says the same in words.
//!
//! A row is a small program of calls with what each must answer, generic over the [`Subject`] that is looked at: the
//! embedded manager, the one on bare metal, later the daemon. Its first line says the rule, and in brackets the public
//! source: the counterpart that does the same, or that ours differs from on purpose. [`rows`] gives them all; each wants a
//! subject of its own that was just started. [`broken`] has implementations with one mistake each: every one must fail.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod broken;
pub mod calls;
pub mod embedded;
mod families;
pub mod rights;
mod row;
mod subject;
pub mod threads;
mod world;

pub use families::rows;
pub use row::{Family, Nature, Row};
pub use subject::{Hook, Start, Subject};
pub use world::{Failure, Guest, Outcome, World};

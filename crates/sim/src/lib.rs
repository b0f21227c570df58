//! Reference model and seeded simulation of the core.
//!
//! [`Script`] turns arbitrary bytes into commands, most of them meaningful. [`Model`] says what each command must answer,
//! from plain maps, and shares no code with the core: only its values. The tests drive both; the fuzz target drives the
//! core by bytes of its own. That is of the keeper's commands; [`calls`] does the same for the calls of the object manager.
#![forbid(unsafe_code)]

pub mod calls;
mod model;
mod script;

pub use model::Model;
pub use script::Script;

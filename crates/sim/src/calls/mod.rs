//! The calls of the object manager against a model of their own.
//!
//! [`World`] drives a manager and the [`Model`] by the steps of a script and compares everything after each. A
//! [`Generator`] makes scripts up, of which about a third is refused; [`shrink`] cuts one that fails down to what it takes.

mod accounts;
mod driven;
mod generator;
mod graph;
mod memory;
mod model;
mod namespace;
mod script;
mod view;
mod world;

pub use accounts::Used;
pub use driven::Driven;
pub use generator::Generator;
pub use memory::refuse;
pub use model::Model;
pub use script::{Ask, Asked, Cursor, Make, Policy, Ref, Step, Text, repeat, short, step, text};
pub use world::{Bounds, Manager, Seen, SeenName, Start, World, replay, shrink};

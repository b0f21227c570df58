//! The rows, a file for each family.

mod bad_input;
mod charges;
mod derivation;
mod enumeration;
mod events;
mod handles;
mod jobs;
mod names;
mod order;
mod paths;
mod permanence;
mod policies;
mod providers;
mod questions;
mod quotas;
pub(crate) mod rights;
mod sections;
mod transfer;
mod types;

use crate::row::Row;
use crate::subject::Subject;
use alloc::vec::Vec;

/// Every row of the suite, family by family.
#[must_use]
pub fn rows<S: Subject>() -> Vec<Row<S>> {
    let mut rows = Vec::new();
    handles::rows(&mut rows);
    rights::rows(&mut rows);
    order::rows(&mut rows);
    transfer::rows(&mut rows);
    derivation::rows(&mut rows);
    names::rows(&mut rows);
    paths::rows(&mut rows);
    enumeration::rows(&mut rows);
    providers::rows(&mut rows);
    permanence::rows(&mut rows);
    jobs::rows(&mut rows);
    quotas::rows(&mut rows);
    charges::rows(&mut rows);
    policies::rows(&mut rows);
    sections::rows(&mut rows);
    questions::rows(&mut rows);
    types::rows(&mut rows);
    bad_input::rows(&mut rows);
    events::rows(&mut rows);
    rows
}

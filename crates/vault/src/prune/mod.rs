//! Taking away what no snapshot needs: a look at what is needed, a plan that can be shown, then its execution.
//!
//! All three under one exclusive lock: [`survey()`], [`plan::plan`], [`execute()`].

mod execute;
pub mod plan;
mod survey;

pub use execute::{Report, execute};
pub use survey::{Survey, survey};

#[cfg(test)]
#[path = "prune_tests.rs"]
mod tests;

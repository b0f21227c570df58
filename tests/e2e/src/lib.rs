//! The harness of the end-to-end tests: real programs under `kobj run`, their reports against `table.toml`.
//!
//! A test makes a [`place::Place`] (private folders, removed at the end), starts [`running::Running`] programs in a
//! [`mode::Mode`], waits for their own ready line, kills them, and lets [`table::Table`] judge the report.
#![forbid(unsafe_code)]

pub mod build;
pub mod glob;
pub mod mode;
pub mod object;
pub mod place;
pub mod process;
pub mod program;
pub mod report;
pub mod running;
pub mod scenario;
pub mod table;

use std::time::Duration;

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Says that a test cannot run on this machine, and why.
pub fn skip(name: &str, why: &str) {
    println!("skipped: {name}: {why}");
}

/// Whether `program` can be found in the PATH that tests give to programs.
#[must_use]
pub fn installed(program: &str) -> bool {
    running::PATH.split(':').any(|folder| std::path::Path::new(folder).join(program).exists())
}

//! The report of a job: its stable form ([`schema`]), and its writers: JSON, text, JUnit.

pub(crate) mod base64;
pub(crate) mod escape;
pub(crate) mod files;
pub(crate) mod identity;
pub(crate) mod junit;
#[cfg(test)]
pub(crate) mod samples;
pub(crate) mod schema;
#[cfg(test)]
mod tests;
pub(crate) mod text;
pub(crate) mod time;

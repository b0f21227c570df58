//! One file a command. Each takes its flags and returns its exit code, or one sentence about what went wrong.

pub(crate) mod completions;
pub(crate) mod last;
pub(crate) mod man;

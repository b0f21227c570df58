//! The `kobj` command.
#![forbid(unsafe_code)]

fn main() {}

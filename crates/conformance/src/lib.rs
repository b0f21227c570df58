//! What every implementation of the object manager must do, row by row; `docs/semantics.md` says the same in words.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod rights;

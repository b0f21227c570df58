//! The object manager: a pure state machine over typed objects.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod image;

//! The Linux kernel's own objects: kinds, census, watches, attribution, judges, containment, record.
//!
//! This room returns *facts* and performs *effects*. It holds no manager and decides no policy: what to keep, ignore or
//! scrub is the caller's business; whether a deletion is safe is decided here, at the moment it happens.
#![forbid(unsafe_code)]

pub mod classify;
pub mod containment;
pub mod family;
pub mod hands;
pub mod holders;
pub mod identity;
pub mod kind;
pub mod kinds;
mod listing;
pub mod makers;
pub mod members;
mod openers;
pub mod output;
pub mod outside;
mod owner;
mod pins;
pub mod places;
pub mod proc;
pub mod quarantine;
pub mod record;
pub mod tables;
#[cfg(test)]
mod testing;
pub mod tree;
pub mod view;
pub mod watch;

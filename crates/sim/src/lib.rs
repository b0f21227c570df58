//! Reference model and seeded simulation of the core.
#![forbid(unsafe_code)]

//! Where a file is cut into blobs: where its contents say so (restic's rule, for ordinary files) or at a fixed size (images).

pub mod fixed;
pub mod polynomial;
pub mod rabin;
pub mod rule;

pub use polynomial::Polynomial;
pub use rabin::{Cutter, Rabin};
pub use rule::{Rule, Wish};

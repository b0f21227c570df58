//! The lock of a hosted manager: one that sleeps.

use kobj_memory::{Lock, Locked};
use parking_lot::Mutex;

/// The kind of lock that lets a waiting thread sleep.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hosted;

impl Lock for Hosted {
    type Around<T: Send> = Sleeping<T>;
}

/// A value under a lock that sleeps. A panic inside does not poison it: the core's steps do not panic, and what a step has
/// done is whole.
#[derive(Debug)]
pub struct Sleeping<T>(Mutex<T>);

impl<T: Send> Locked<T> for Sleeping<T> {
    fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    fn with<R>(&self, action: impl FnOnce(&mut T) -> R) -> R {
        action(&mut self.0.lock())
    }
}

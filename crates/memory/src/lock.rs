//! The lock around the core is a parameter: whoever embeds it chooses one. Here is the one for bare metal.
//!
//! A hosted embedder implements [`Locked`] for its own lock in three lines and without `unsafe`:
//!
//! ```
//! struct Hosted;
//! struct Around<T>(std::sync::Mutex<T>);
//!
//! impl kobj_memory::Lock for Hosted {
//!     type Around<T: Send> = Around<T>;
//! }
//!
//! impl<T: Send> kobj_memory::Locked<T> for Around<T> {
//!     fn new(value: T) -> Self {
//!         Self(std::sync::Mutex::new(value))
//!     }
//!     fn with<R>(&self, action: impl FnOnce(&mut T) -> R) -> R {
//!         action(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
//!     }
//! }
//!
//! fn count<L: kobj_memory::Lock>(from: u32) -> u32 {
//!     use kobj_memory::Locked;
//!     let counter = L::Around::new(from);
//!     counter.with(|count| *count += 1);
//!     counter.with(|count| *count)
//! }
//! assert_eq!(count::<Hosted>(1), 2);
//! assert_eq!(count::<kobj_memory::Spin>(1), 2);
//! ```

use crate::sync::{AtomicU32, Ordering, load_32, pause, store_32};
use core::cell::UnsafeCell;
use core::fmt;

/// A kind of lock, for whatever is put inside.
pub trait Lock {
    /// The lock around a value.
    type Around<T: Send>: Locked<T>;
}

/// A value that one thread at a time gets at.
pub trait Locked<T: Send>: Send + Sync {
    /// The value, not locked.
    fn new(value: T) -> Self;

    /// Waits until nobody else is inside, and does something with the value. Calling it again inside does not return, or
    /// panics. When `action` panics the lock is free again; what `action` left half done is its own affair.
    fn with<R>(&self, action: impl FnOnce(&mut T) -> R) -> R;
}

/// The kind of lock that waits by spinning: for bare metal, where nothing can put a thread to sleep.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spin;

impl Lock for Spin {
    type Around<T: Send> = SpinLock<T>;
}

/// A value under a spinning lock.
pub struct SpinLock<T> {
    /// 1 while somebody is inside.
    taken: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: threads that share it must not get at the value at once, and it may move from one to another: `with` lets one in
// at a time, and T is Send. A way to the value past `taken` would break it.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> fmt::Debug for SpinLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpinLock").finish_non_exhaustive()
    }
}

/// Opens the lock when dropped, also by a panic.
struct Inside<'a>(&'a AtomicU32);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // Release hands what was done inside to the next one's acquire.
        store_32(self.0, 0, Ordering::Release);
    }
}

impl<T: Send> Locked<T> for SpinLock<T> {
    fn new(value: T) -> Self {
        Self { taken: AtomicU32::new(0), value: UnsafeCell::new(value) }
    }

    fn with<R>(&self, action: impl FnOnce(&mut T) -> R) -> R {
        while self.taken.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            // Looks while it waits, so that the line is not fought for.
            while load_32(&self.taken, Ordering::Relaxed) != 0 {
                pause();
            }
        }
        let inside = Inside(&self.taken);
        // SAFETY: nobody else may have a reference to the value: only who changed `taken` from 0 to 1 comes here, and it
        // stays 1 until `inside` is dropped. Dropping `inside` before `action` ends would break it.
        let value = unsafe { &mut *self.value.get() };
        let result = action(value);
        drop(inside);
        result
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn one_thread_at_a_time_is_inside() {
        const EACH: u64 = if cfg!(miri) { 100 } else { 20_000 };
        let lock: <Spin as Lock>::Around<u64> = Locked::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..EACH).for_each(|_| lock.with(|count| *count += 1)));
            }
        });
        assert_eq!(lock.with(|count| *count), 4 * EACH);
    }

    #[test]
    fn a_panic_inside_leaves_the_lock_open() {
        let lock = SpinLock::new(7);
        let action = || lock.with(|_| -> u32 { panic!("inside") });
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(action)).is_err());
        assert_eq!(lock.with(|value| *value), 7);
    }
}

//! A pointer that threads share, whose making can fail: what `alloc::sync::Arc` is where memory never ends.

use crate::NoMemory;
use crate::fallible::try_box;
use crate::sync::{AtomicU64, Ordering};
use alloc::boxed::Box;
use core::ops::Deref;
use core::ptr::NonNull;
use core::{fmt, marker::PhantomData};

/// From this count on the value is never dropped: so many clones can only have been forgotten, and one more must not wrap.
const FOR_EVER: u64 = u64::MAX / 4;

struct Counted<T> {
    count: AtomicU64,
    value: T,
}

/// A value with many owners: the last one drops it.
pub struct Shared<T> {
    counted: NonNull<Counted<T>>,
    owns: PhantomData<Counted<T>>,
}

// SAFETY: whoever holds it looks at the value (`T: Sync`) and may be the one that drops it (`T: Send`), as with `Arc`.
// A bound less would break it.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as above; a shared one can be cloned by another thread. A bound less would break it.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Puts a value where it can be shared.
    ///
    /// # Errors
    /// [`NoMemory`]; the value is dropped.
    pub fn try_new(value: T) -> Result<Self, NoMemory> {
        let counted = Box::into_raw(try_box(Counted { count: AtomicU64::new(1), value })?);
        Ok(Self { counted: NonNull::new(counted).ok_or(NoMemory)?, owns: PhantomData })
    }

    /// Whether both are owners of the same value.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.counted == other.counted
    }

    fn counted(&self) -> &Counted<T> {
        // SAFETY: the value must be there: this owner is counted, and it is dropped when none is. Giving up the count
        // before the last look would break it.
        unsafe { self.counted.as_ref() }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        // Relaxed: whoever hands the clone to another thread orders it; the count alone has to be right.
        let before = self.counted().count.fetch_add(1, Ordering::Relaxed);
        if before >= FOR_EVER {
            // The room above is never used up, so the count neither wraps nor falls to 0.
            self.counted().count.fetch_sub(1, Ordering::Relaxed);
        }
        Self { counted: self.counted, owns: PhantomData }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.counted().value
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // Relaxed: a count that is lost stays lost, and no other is near.
        if self.counted().count.load(Ordering::Relaxed) >= FOR_EVER {
            return;
        }
        // Release: what this owner did to the value comes before its end. Acquire: the last one sees what all others did.
        if self.counted().count.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: nobody else may know the pointer, and it must come from a box: the count fell to 0, so there is no
            // other owner, and `try_new` made it from one. Counting twice down for one owner would break it.
            drop(unsafe { Box::from_raw(self.counted.as_ptr()) });
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn the_last_owner_drops_the_value() {
        let witness = alloc::sync::Arc::new(());
        let shared = Shared::try_new(witness.clone()).unwrap();
        let threads: std::vec::Vec<_> = (0..4)
            .map(|_| {
                let shared = shared.clone();
                std::thread::spawn(move || assert!(shared.is_same(&shared.clone())))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(alloc::sync::Arc::strong_count(&witness), 2);
        drop(shared);
        assert_eq!(alloc::sync::Arc::strong_count(&witness), 1);
    }

    #[test]
    fn a_count_that_was_lost_leaks_the_value_instead_of_dropping_it_early() {
        let shared = Shared::try_new(7).unwrap();
        shared.counted().count.store(FOR_EVER, Ordering::Relaxed);
        for _ in 0..3 {
            drop(shared.clone());
        }
        assert_eq!((*shared, shared.counted().count.load(Ordering::Relaxed)), (7, FOR_EVER));
        shared.counted().count.store(1, Ordering::Relaxed);
    }
}

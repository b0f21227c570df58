//! Atomics, or loom's or shuttle's model of them.
//!
//! loom 0.7 keeps one last access per atomic, so in a model another thread's "load, then exchange" can hide an earlier
//! load. Under `--cfg loom` loads are therefore `fetch_add(0)` and stores are `swap`: every sequentially consistent
//! interleaving is explored. Weaker orderings are argued in comments where they are used. shuttle models every access as
//! sequentially consistent and has no such fault.

#[cfg(not(any(loom, shuttle)))]
pub(crate) use core::sync::atomic::{AtomicPtr, AtomicU16, AtomicU32, AtomicU64, Ordering};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU16, AtomicU32, AtomicU64, Ordering};
#[cfg(shuttle)]
pub(crate) use shuttle::sync::atomic::{AtomicPtr, AtomicU16, AtomicU32, AtomicU64, Ordering};

macro_rules! accesses {
    ($load:ident, $store:ident, $atomic:ty, $value:ty) => {
        #[cfg(not(loom))]
        #[inline]
        pub(crate) fn $load(word: &$atomic, ordering: Ordering) -> $value {
            word.load(ordering)
        }

        #[cfg(loom)]
        pub(crate) fn $load(word: &$atomic, _: Ordering) -> $value {
            word.fetch_add(0, Ordering::AcqRel)
        }

        #[cfg(not(loom))]
        #[inline]
        pub(crate) fn $store(word: &$atomic, value: $value, ordering: Ordering) {
            word.store(value, ordering);
        }

        #[cfg(loom)]
        pub(crate) fn $store(word: &$atomic, value: $value, _: Ordering) {
            word.swap(value, Ordering::AcqRel);
        }
    };
}

accesses!(load_16, store_16, AtomicU16, u16);
accesses!(load_32, store_32, AtomicU32, u32);
accesses!(load_64, store_64, AtomicU64, u64);

/// Lets others go on while this thread waits for one of them.
#[cfg(not(any(loom, shuttle)))]
pub(crate) fn pause() {
    core::hint::spin_loop();
}

#[cfg(loom)]
pub(crate) use loom::thread::yield_now as pause;
#[cfg(shuttle)]
pub(crate) use shuttle::thread::yield_now as pause;

//! An allocator for tests: it says that there is no memory when it is told to.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;

/// An allocator in front of another, which asks before each allocation whether to refuse it.
///
/// A test makes it its global allocator: `static ALLOCATOR: RefusingAllocator<System> = RefusingAllocator::new(System,
/// refuse)`, `refuse` counting in a thread's own cell, so that tests beside are left alone. `refuse` must neither
/// allocate nor panic.
#[derive(Debug)]
pub struct RefusingAllocator<A> {
    inner: A,
    refuse: fn(Layout) -> bool,
}

impl<A> RefusingAllocator<A> {
    /// In front of `inner`, refusing what `refuse` says.
    pub const fn new(inner: A, refuse: fn(Layout) -> bool) -> Self {
        Self { inner, refuse }
    }
}

// SAFETY: what is given out must be memory of that layout, and stay so until it is given back: it comes from `inner`,
// which promises this, and goes back there with the same layout. Giving out anything else than `inner`'s or null would
// break it.
unsafe impl<A: GlobalAlloc> GlobalAlloc for RefusingAllocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if (self.refuse)(layout) {
            return ptr::null_mut();
        }
        // SAFETY: the layout must not be empty: the caller's duty. Changing the layout here would break it.
        unsafe { self.inner.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if (self.refuse)(layout) {
            return ptr::null_mut();
        }
        // SAFETY: the layout must not be empty: the caller's duty. Changing the layout here would break it.
        unsafe { self.inner.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: it must be memory of `inner` of that layout: all that was given out is. A second allocator behind it
        // would break this.
        unsafe { self.inner.dealloc(memory, layout) };
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        if (self.refuse)(layout) {
            return ptr::null_mut();
        }
        // SAFETY: as in `dealloc`, and the new size must be good for the layout, by the caller's duty: changing it
        // would break this.
        unsafe { self.inner.realloc(memory, layout, bytes) }
    }
}

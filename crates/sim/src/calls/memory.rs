//! Memory that is refused: a call is made with so many allocations, and no more.

use std::alloc::Layout;
use std::cell::Cell;

thread_local! {
    /// How many allocations are given until one is refused; none: all are given.
    static GIVEN: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Whether the next allocation of this thread is refused: for a test's global allocator. Neither allocates nor panics.
pub fn refuse(_: Layout) -> bool {
    let given = GIVEN.get();
    GIVEN.set(given.and_then(|given| given.checked_sub(1)));
    given == Some(0)
}

/// Does something during which the allocation after so many is refused, and no other.
pub(super) fn with_given<T>(given: u32, of: impl FnOnce() -> T) -> T {
    struct All;
    impl Drop for All {
        fn drop(&mut self) {
            GIVEN.set(None);
        }
    }
    let _all_from_then_on = All;
    GIVEN.set(Some(given));
    of()
}

//! The heap: free lists by size over one range of memory, with every living byte counted.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use core::ptr::{NonNull, null_mut};

/// Sizes are multiples of this...
const STEP: usize = 16;
/// ...up to here, and powers of two above.
const STEPS_END: usize = 1024;
const CLASSES: usize = STEPS_END / STEP + 1 + usize::BITS as usize;
/// Nothing here asks for more.
const ALIGN_MOST: usize = 4096;

/// A block that nobody has: its first word leads to the next of its class.
struct Free {
    next: Option<NonNull<Free>>,
}

/// The heap of the one processor.
pub(crate) struct Heap {
    /// What was never given out.
    next: Cell<usize>,
    end: Cell<usize>,
    free: [Cell<Option<NonNull<Free>>>; CLASSES],
    live_bytes: Cell<usize>,
    peak_bytes: Cell<usize>,
    /// Allocations that are still given out; `None`: there is no such end.
    left: Cell<Option<u64>>,
}

// SAFETY: no two threads may use the cells at once. One processor runs, with interrupts off, and `alloc` calls nothing
// that allocates. A second processor or an interrupt handler that allocates would break it.
unsafe impl Sync for Heap {}

impl Heap {
    /// An empty heap.
    pub(crate) const fn new() -> Self {
        Self {
            next: Cell::new(0),
            end: Cell::new(0),
            free: [const { Cell::new(None) }; CLASSES],
            live_bytes: Cell::new(0),
            peak_bytes: Cell::new(0),
            left: Cell::new(None),
        }
    }

    /// Gives the heap its memory.
    ///
    /// # Safety
    /// The range must be memory that nobody else uses, mapped one to one, for ever.
    pub(crate) unsafe fn give(&self, start: usize, end: usize) {
        self.next.set(start);
        self.end.set(end);
    }

    /// Bytes that were asked for and not given back.
    pub(crate) fn live_bytes(&self) -> usize {
        self.live_bytes.get()
    }

    /// The most that ever lived at once, in bytes.
    pub(crate) fn peak_bytes(&self) -> usize {
        self.peak_bytes.get()
    }

    /// Refuses every allocation after so many; `None` ends that.
    pub(crate) fn refuse_after(&self, count: Option<u64>) {
        self.left.set(count);
    }

    /// A block's size and its class; `None` if there is no such block.
    fn class(layout: Layout) -> Option<(usize, usize)> {
        let step = STEP.max(layout.align());
        let size = layout.size().max(1).checked_next_multiple_of(step)?;
        if layout.align() > ALIGN_MOST {
            None
        } else if size <= STEPS_END {
            Some((size, size / STEP))
        } else {
            let size = size.checked_next_power_of_two()?;
            Some((size, STEPS_END / STEP + 1 + size.trailing_zeros() as usize))
        }
    }

    /// A block that was never given out. Its alignment is the largest power of two that divides its size, so that each
    /// block of a class is as good as another.
    fn fresh(&self, size: usize) -> Option<NonNull<u8>> {
        let align = (1 << size.trailing_zeros()).min(ALIGN_MOST);
        let start = self.next.get().checked_next_multiple_of(align)?;
        let end = start.checked_add(size).filter(|end| *end <= self.end.get())?;
        self.next.set(end);
        NonNull::new(core::ptr::with_exposed_provenance_mut(start))
    }

    fn take(&self, layout: Layout) -> Option<NonNull<u8>> {
        if let Some(left) = self.left.get() {
            self.left.set(Some(left.checked_sub(1)?));
        }
        let (size, class) = Self::class(layout)?;
        let list = &self.free[class];
        let block = match list.get() {
            Some(block) => {
                // SAFETY: the block must hold a `Free` that nobody changes: `dealloc` wrote it there, and its owner
                // gave it back for good. A caller that writes to what it freed would break it.
                list.set(unsafe { block.read() }.next);
                block.cast()
            }
            None => self.fresh(size)?,
        };
        let live_bytes = self.live_bytes.get() + layout.size();
        self.live_bytes.set(live_bytes);
        self.peak_bytes.set(self.peak_bytes.get().max(live_bytes));
        Some(block)
    }
}

// SAFETY: blocks must be as large and as aligned as asked, and nobody else's. `class` rounds up to both, and a block
// stands either on a list or with one owner. A block that is freed twice or with another layout would break it.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.take(layout).map_or(null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let (Some((_, class)), Some(block)) = (Self::class(layout), NonNull::new(block.cast::<Free>())) else { return };
        let list = &self.free[class];
        // SAFETY: the block must be ours to write, large and aligned enough for a `Free`: the caller gives it up, and
        // the smallest class is 16 bytes. A class smaller than a pointer would break it.
        unsafe { block.write(Free { next: list.get() }) };
        list.set(Some(block));
        self.live_bytes.set(self.live_bytes.get() - layout.size());
    }
}

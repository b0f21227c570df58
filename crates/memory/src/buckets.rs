//! Entries in buckets of geometric size (32, 64, 128, ...) that grow without a lock and never move what they hold.

use crate::sync::{AtomicPtr, Ordering};
use core::fmt;
use core::marker::PhantomData;
use core::ptr;

/// The first bucket holds two to the power of this many entries, each further one twice as many as the one before.
/// Models have few threads and need few entries.
const FIRST_LOG2: u32 = if cfg!(any(loom, shuttle)) { 1 } else { 5 };

/// A type whose value may be made by zeroing memory.
///
/// # Safety
/// All bytes zero are a valid value of the type, and the type needs no drop (buckets are given back, entries not dropped).
pub(crate) unsafe trait Zeroed: Sized {
    /// The same value for loom and shuttle, whose atomics are more than their bytes.
    #[cfg(any(loom, shuttle))]
    fn zeroed() -> Self;
}

/// The allocator had no memory; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

impl fmt::Display for NoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no memory: the allocator refused; free some, then try again")
    }
}

/// Entries by index. Whoever shares it may grow it: of several who bring the same bucket one wins, the others give theirs back.
///
/// The longest step is one zeroed allocation; a bucket lives as long as the whole.
pub(crate) struct Buckets<T: Zeroed> {
    /// The bucket of 2^n entries stands at n: the first few stay null.
    pointers: [AtomicPtr<T>; 32],
    owns: PhantomData<T>,
}

impl<T: Zeroed> Default for Buckets<T> {
    fn default() -> Self {
        Self { pointers: core::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())), owns: PhantomData }
    }
}

impl<T: Zeroed> fmt::Debug for Buckets<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buckets").field("capacity", &self.capacity()).finish()
    }
}

/// Bucket and offset of an index; `None` for the last 2^[`FIRST_LOG2`] numbers, which have no bucket.
#[inline]
fn split(index: u32) -> Option<(u32, usize)> {
    let number = index.checked_add(1 << FIRST_LOG2)?;
    let bucket = number.ilog2();
    Some((bucket, (number ^ (1 << bucket)) as usize))
}

impl<T: Zeroed> Buckets<T> {
    /// The most entries there can be.
    pub(crate) const MOST: u32 = u32::MAX - (1 << FIRST_LOG2) + 1;

    #[inline]
    fn pointer(&self, bucket: u32) -> &AtomicPtr<T> {
        // The mask changes nothing; it spares the bounds check.
        &self.pointers[(bucket & 31) as usize]
    }

    /// The entry at an index, if its bucket was brought.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let (bucket, offset) = split(index)?;
        // Acquire pairs with the release in `grow_to`: who sees the bucket sees its zeroes.
        let first = self.pointer(bucket).load(Ordering::Acquire);
        if first.is_null() {
            return None;
        }
        // SAFETY: the offset must lie in the allocation; it is below 2^bucket by `split`, and `grow_to` puts only buckets
        // of 2^bucket entries here. Another size of bucket would break it.
        let entry = unsafe { first.add(offset) };
        // SAFETY: the entry must be a valid T as long as `self` is borrowed: it was zeroed, zeroes are a T by `Zeroed`, and
        // buckets go only in `drop`. Giving a bucket back earlier, or handing out `&mut`, would break it.
        Some(unsafe { &*entry })
    }

    /// Brings the bucket of an index, if it is not there; others' entries stay where they are.
    ///
    /// # Errors
    /// [`NoMemory`], also for an index past [`Buckets::MOST`].
    pub(crate) fn grow_to(&self, index: u32) -> Result<(), NoMemory> {
        let (bucket, _) = split(index).ok_or(NoMemory)?;
        let pointer = self.pointer(bucket);
        if !pointer.load(Ordering::Relaxed).is_null() {
            return Ok(());
        }
        let made = memory::allocate(bucket)?;
        // Release hands the zeroes to whoever finds the bucket. On failure another's bucket is there already.
        let won = pointer.compare_exchange(ptr::null_mut(), made, Ordering::Release, Ordering::Relaxed);
        if won.is_err() {
            // SAFETY: it must be a bucket of this size that nobody else knows: it was made above and lost the exchange.
            // Giving back the winner's would break it.
            unsafe { memory::give_back(made, bucket) };
        }
        Ok(())
    }

    /// How many entries the buckets hold that are there.
    pub(crate) fn capacity(&self) -> u64 {
        let held = |(bucket, pointer): (usize, &AtomicPtr<T>)| {
            if pointer.load(Ordering::Relaxed).is_null() { 0 } else { 1_u64 << bucket }
        };
        self.pointers.iter().enumerate().map(held).sum()
    }
}

impl<T: Zeroed> Drop for Buckets<T> {
    fn drop(&mut self) {
        for (bucket, pointer) in (0..).zip(&self.pointers) {
            let first = pointer.load(Ordering::Relaxed);
            if !first.is_null() {
                // SAFETY: it must be a bucket of this size that nobody uses: it stands at its size's number, and `&mut self`
                // means that no entry is borrowed. Dropping twice would break it.
                unsafe { memory::give_back(first, bucket) };
            }
        }
    }
}

/// Zeroed memory from the allocator.
#[cfg(not(any(loom, shuttle)))]
mod memory {
    use super::{NoMemory, Zeroed};
    use alloc::alloc::{alloc_zeroed, dealloc};
    use core::alloc::Layout;

    /// The alignment that is asked for at most: allocators zero memory of a larger one themselves, at once, where the kernel
    /// would zero each page when it is touched. A bucket of millions would stop its thread for tens of milliseconds.
    const ALIGN_MOST: usize = 16;

    /// Bytes in front of the first entry, at most, so that it can be aligned here: none, or from [`ALIGN_MOST`] up.
    const fn slack<T>() -> usize {
        if align_of::<T>() > ALIGN_MOST { align_of::<T>() } else { 0 }
    }

    fn layout<T: Zeroed>(bucket: u32) -> Result<Layout, NoMemory> {
        const { assert!(size_of::<T>() > 0, "entries have a size") };
        const { assert!(!core::mem::needs_drop::<T>(), "entries are not dropped") };
        const { assert!(align_of::<T>() <= 128, "the bytes in front of the first entry are kept as one byte") };
        let entries = Layout::array::<T>(1 << bucket).map_err(|_| NoMemory)?;
        let bytes = entries.size().checked_add(slack::<T>()).ok_or(NoMemory)?;
        Layout::from_size_align(bytes, entries.align().min(ALIGN_MOST)).map_err(|_| NoMemory)
    }

    pub(super) fn allocate<T: Zeroed>(bucket: u32) -> Result<*mut T, NoMemory> {
        let layout = layout::<T>(bucket)?;
        // SAFETY: the layout must not be empty: entries have a size, and there is one at least. Empty entries would break it.
        let made = unsafe { alloc_zeroed(layout) };
        if made.is_null() || slack::<T>() == 0 {
            return if made.is_null() { Err(NoMemory) } else { Ok(made.cast()) };
        }
        let offset = align_of::<T>() - made.addr() % align_of::<T>();
        // SAFETY: the result must lie in the allocation: the offset is at most the slack that `layout` added. A smaller
        // slack would break it.
        let first = unsafe { made.add(offset) };
        // SAFETY: the byte in front must be in the allocation: the offset is 16 at least, as `made` is aligned to 16. A
        // smaller ALIGN_MOST than 1 would break it.
        let note = unsafe { first.sub(1) };
        // SAFETY: it must be nobody's: it stands in front of the entries. Entries that begin before `first` would break
        // it.
        unsafe { note.write(offset as u8) };
        Ok(first.cast())
    }

    /// # Safety
    /// `first` came from [`allocate`] with the same `bucket`, and nobody uses it any more.
    pub(super) unsafe fn give_back<T: Zeroed>(first: *mut T, bucket: u32) {
        let Ok(layout) = layout::<T>(bucket) else { return };
        let mut made: *mut u8 = first.cast();
        if slack::<T>() > 0 {
            // SAFETY: the byte in front must be in the allocation: `allocate` left room there, and `first` is its. A
            // slack of 0 would break it.
            let note = unsafe { made.sub(1) };
            // SAFETY: it must be written: `allocate` did, and nobody else writes in front of the entries. A second note
            // there would break it.
            let offset = unsafe { note.read() };
            // SAFETY: the result must lie in the allocation: it is where `allocate` began to count. A note of another
            // allocation would break it.
            made = unsafe { made.sub(usize::from(offset)) };
        }
        // SAFETY: pointer and layout must be those of one allocation: the caller's duty, and the layout follows from T and
        // bucket alone. A layout that changes between the two would break it.
        unsafe { dealloc(made, layout) };
    }
}

/// Boxes of modelled entries: what loom and shuttle watch has to be made and dropped one by one.
#[cfg(any(loom, shuttle))]
mod memory {
    use super::{NoMemory, Zeroed};
    use alloc::boxed::Box;

    pub(super) fn allocate<T: Zeroed>(bucket: u32) -> Result<*mut T, NoMemory> {
        let entries: Box<[T]> = (0..1 << bucket).map(|_| T::zeroed()).collect();
        Ok(Box::into_raw(entries).cast())
    }

    /// # Safety
    /// `first` came from [`allocate`] with the same `bucket`, and nobody uses it any more.
    pub(super) unsafe fn give_back<T: Zeroed>(first: *mut T, bucket: u32) {
        let entries = core::ptr::slice_from_raw_parts_mut(first, 1 << bucket);
        // SAFETY: it must be a box's pointer with its length: the caller's duty. Another length would break it.
        drop(unsafe { Box::from_raw(entries) });
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;
    use std::vec::Vec;

    // SAFETY: zeroes must be a value: they are the number 0. A niche would break it.
    unsafe impl Zeroed for AtomicU64 {}

    #[test]
    fn each_index_has_an_entry_of_its_own_that_begins_as_zero_and_never_moves() {
        let buckets: Buckets<AtomicU64> = Buckets::default();
        assert_eq!(buckets.capacity(), 0);
        let mut places = Vec::new();
        for index in 0..5_000_u32 {
            assert!(index % 32 != 0 || index >= 32 || buckets.get(index).is_none());
            buckets.grow_to(index).unwrap();
            let entry = buckets.get(index).unwrap();
            assert_eq!(entry.swap(u64::from(index) + 1, Ordering::Relaxed), 0);
            places.push(core::ptr::from_ref(entry));
        }
        for (index, place) in (0..).zip(places) {
            let entry = buckets.get(index).unwrap();
            assert!(core::ptr::eq(entry, place));
            assert_eq!(entry.load(Ordering::Relaxed), u64::from(index) + 1);
        }
        assert_eq!(buckets.capacity(), 32 * ((1 << 8) - 1));
    }

    #[test]
    fn entries_of_a_large_alignment_are_aligned() {
        #[repr(align(128))]
        struct Line(AtomicU64);
        // SAFETY: zeroes must be a value: they are the number 0, and padding. A niche would break it.
        unsafe impl Zeroed for Line {}
        let buckets: Buckets<Line> = Buckets::default();
        for index in (0..3_000).step_by(31) {
            buckets.grow_to(index).unwrap();
            let entry = buckets.get(index).unwrap();
            assert_eq!(core::ptr::from_ref(entry).addr() % 128, 0);
            assert_eq!(entry.0.swap(!0, Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn only_the_bucket_of_the_index_is_brought() {
        let buckets: Buckets<AtomicU64> = Buckets::default();
        buckets.grow_to(32 + 64).unwrap();
        assert_eq!(buckets.capacity(), 128);
        for (index, there) in [(0, false), (95, false), (96, true), (96 + 127, true), (96 + 128, false)] {
            assert_eq!(buckets.get(index).is_some(), there, "{index}");
        }
    }

    #[test]
    fn an_index_past_the_last_bucket_has_no_entry() {
        let buckets: Buckets<AtomicU64> = Buckets::default();
        for index in [u32::MAX, u32::MAX - 31] {
            assert!(buckets.get(index).is_none());
            assert_eq!(buckets.grow_to(index), Err(NoMemory));
        }
        assert_eq!(split(Buckets::<AtomicU64>::MOST - 1), Some((31, (1 << 31) - 1)));
        assert_eq!(split(Buckets::<AtomicU64>::MOST), None);
        assert!(buckets.get(Buckets::<AtomicU64>::MOST - 1).is_none());
    }

    #[test]
    fn many_who_grow_at_once_share_one_bucket() {
        let buckets: Buckets<AtomicU64> = Buckets::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for index in 0..2_000 {
                        buckets.grow_to(index).unwrap();
                        buckets.get(index).unwrap().fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert!((0..2_000).all(|index| buckets.get(index).unwrap().load(Ordering::Relaxed) == 4));
    }
}

//! Owned values whose making can fail: boxes, byte strings, and pushing. What the standard ones abort on is an error here.

use crate::NoMemory;
use alloc::alloc::{alloc, alloc_zeroed};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::ops::Deref;
use core::sync::atomic::AtomicU64;
use core::{fmt, ptr};

/// Memory of a layout from the allocator, dangling where there are no bytes.
fn allocate(layout: Layout) -> Result<*mut u8, NoMemory> {
    if layout.size() == 0 {
        return Ok(ptr::without_provenance_mut(layout.align()));
    }
    // SAFETY: the layout must not be empty: it was just looked at. Asking for no bytes would break it.
    let made = unsafe { alloc(layout) };
    if made.is_null() { Err(NoMemory) } else { Ok(made) }
}

/// A box with a value in it.
///
/// # Errors
/// [`NoMemory`]; the value is dropped.
pub fn try_box<T>(value: T) -> Result<Box<T>, NoMemory> {
    let made: *mut T = allocate(Layout::new::<T>())?.cast();
    // SAFETY: the pointer must be good for one T: it was allocated with T's layout, or T has no bytes. The layout of
    // another type would break it.
    unsafe { made.write(value) };
    // SAFETY: the pointer must be one that a box may free: it comes from the global allocator with T's layout, and nobody
    // else knows it. Another allocator would break it.
    Ok(unsafe { Box::from_raw(made) })
}

/// Words that are all 0, for memory that is shared: large ones cost no more than the allocator's zeroed pages.
///
/// # Errors
/// [`NoMemory`].
pub fn try_zeroed_words(count: usize) -> Result<Box<[AtomicU64]>, NoMemory> {
    let layout = Layout::array::<AtomicU64>(count).map_err(|_| NoMemory)?;
    let made = if layout.size() == 0 {
        ptr::without_provenance_mut(layout.align())
    } else {
        // SAFETY: the layout must not be empty: it was just looked at. An empty one would break it.
        unsafe { alloc_zeroed(layout) }
    };
    if made.is_null() {
        return Err(NoMemory);
    }
    let whole = ptr::slice_from_raw_parts_mut(made.cast::<AtomicU64>(), count);
    // SAFETY: as in `try_box`, with the layout of an array of that length, and all its words must be initialised: zeroed
    // bytes are words of 0. A type for which zeroed bytes are no value would break it.
    Ok(unsafe { Box::from_raw(whole) })
}

/// An owned byte string: a name, a target. The empty one takes no memory.
#[derive(Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(Box<[u8]>);

impl Bytes {
    /// A copy of some bytes.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn try_from_slice(bytes: &[u8]) -> Result<Self, NoMemory> {
        let made = allocate(Layout::array::<u8>(bytes.len()).map_err(|_| NoMemory)?)?;
        // SAFETY: both must be good for that many bytes and not overlap: one is borrowed, one was just allocated. A
        // length that is not the allocation's would break it.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), made, bytes.len()) };
        let whole = ptr::slice_from_raw_parts_mut(made, bytes.len());
        // SAFETY: as in `try_box`, with the layout of an array of that length; the bytes were just written. Another
        // length would break it.
        Ok(Self(unsafe { Box::from_raw(whole) }))
    }

    /// A copy.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn try_clone(&self) -> Result<Self, NoMemory> {
        Self::try_from_slice(self)
    }

    /// The same bytes as a box.
    #[must_use]
    pub fn into_box(self) -> Box<[u8]> {
        self.0
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// Pushing with an error where there is no memory.
pub trait TryPush<T> {
    /// Puts a value at the end.
    ///
    /// # Errors
    /// [`NoMemory`]; nothing changed, and the value is dropped.
    fn try_push(&mut self, value: T) -> Result<(), NoMemory>;
}

impl<T> TryPush<T> for Vec<T> {
    fn try_push(&mut self, value: T) -> Result<(), NoMemory> {
        self.try_reserve(1).map_err(|_| NoMemory)?;
        self.push(value);
        Ok(())
    }
}

impl<T> TryPush<T> for VecDeque<T> {
    fn try_push(&mut self, value: T) -> Result<(), NoMemory> {
        self.try_reserve(1).map_err(|_| NoMemory)?;
        self.push_back(value);
        Ok(())
    }
}

/// Collecting with an error where there is no memory.
///
/// # Errors
/// [`NoMemory`]; what was collected is dropped.
pub fn try_collect<T>(values: impl Iterator<Item = T>) -> Result<Vec<T>, NoMemory> {
    let mut all = Vec::new();
    all.try_reserve(values.size_hint().0).map_err(|_| NoMemory)?;
    for value in values {
        all.try_push(value)?;
    }
    Ok(all)
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn boxes_bytes_and_lists_hold_what_was_put_in() {
        assert_eq!(*try_box([7_u64; 3]).unwrap(), [7; 3]);
        assert_eq!(*try_box(()).unwrap(), ());
        let name = Bytes::try_from_slice(b"a\0b").unwrap();
        assert_eq!((&*name, &*name.try_clone().unwrap()), (&b"a\0b"[..], &b"a\0b"[..]));
        assert_eq!(Bytes::try_from_slice(b"").unwrap(), Bytes::default());
        assert_eq!(std::format!("{name:?}"), "\"a\\x00b\"");
        assert_eq!(*name.into_box(), *b"a\0b");
        let mut list = try_collect(1..=3).unwrap();
        list.try_push(4).unwrap();
        assert_eq!(list, [1, 2, 3, 4]);
        let mut queue = VecDeque::new();
        queue.try_push(1).unwrap();
        assert_eq!(queue, [1]);
    }

    #[test]
    fn words_begin_as_nothing() {
        use core::sync::atomic::Ordering;
        let words = try_zeroed_words(1000).unwrap();
        assert!(words.len() == 1000 && words.iter().all(|word| word.load(Ordering::Relaxed) == 0));
        words[999].store(7, Ordering::Relaxed);
        assert_eq!(try_zeroed_words(0).unwrap().len(), 0);
        assert!(try_zeroed_words(usize::MAX / 8).is_err() && try_zeroed_words(usize::MAX).is_err());
    }

    #[test]
    fn what_cannot_be_had_is_an_error() {
        let huge = core::iter::repeat_n((), usize::MAX).map(|()| 7_u64);
        assert_eq!(try_collect(huge), Err(NoMemory));
    }
}

//! An array that grows without moving what it holds, and a pool of places over it: one owner, every allocation fallible.

#[cfg(any(loom, shuttle))]
use crate::TryPush;
#[cfg(not(any(loom, shuttle)))]
use crate::buckets::Buckets;
use crate::buckets::Zeroed;
use crate::{NoMemory, Place};
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::{fmt, iter};

/// Room for one entry, written when the array grows over it.
#[repr(transparent)]
struct Cell<T>(UnsafeCell<MaybeUninit<T>>);

// SAFETY: zeroes must be a value, without a drop: any bytes are a `MaybeUninit`, which is never dropped. Another field
// would break it.
unsafe impl<T> Zeroed for Cell<T> {
    #[cfg(any(loom, shuttle))]
    fn zeroed() -> Self {
        Self(UnsafeCell::new(MaybeUninit::uninit()))
    }
}

/// What one owner has is no threads' meeting place: models spare themselves the steps of buckets that grow under others' eyes.
#[cfg(any(loom, shuttle))]
struct Buckets<T>(alloc::vec::Vec<alloc::boxed::Box<T>>);

#[cfg(any(loom, shuttle))]
impl<T> Default for Buckets<T> {
    fn default() -> Self {
        Self(alloc::vec::Vec::new())
    }
}

#[cfg(any(loom, shuttle))]
impl<T: Zeroed> Buckets<T> {
    fn get(&self, index: u32) -> Option<&T> {
        self.0.get(index as usize).map(|entry| &**entry)
    }

    fn grow_to(&mut self, index: u32) -> Result<(), NoMemory> {
        while self.0.len() <= index as usize {
            self.0.try_push(crate::fallible::try_box(T::zeroed())?)?;
        }
        Ok(())
    }
}

/// Entries of `T` by place, the first at index 0. Growing never copies an entry, so the longest step is one allocation,
/// whose memory the kernel zeroes when it is touched.
pub struct Array<T> {
    cells: Buckets<Cell<T>>,
    /// Entries below are written.
    len: u32,
}

// SAFETY: `&Array` must give no more than `&T`: `get` alone looks into a cell, and writing needs `&mut Array`. Handing out a
// cell would break it.
unsafe impl<T: Sync> Sync for Array<T> {}

impl<T> Default for Array<T> {
    fn default() -> Self {
        Self { cells: Buckets::default(), len: 0 }
    }
}

impl<T: fmt::Debug> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(_, entry)| entry)).finish()
    }
}

impl<T> Array<T> {
    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Brings room for one entry more, so that the next [`Array::push`] cannot fail.
    ///
    /// # Errors
    /// [`NoMemory`]; nothing changed.
    pub fn reserve(&mut self) -> Result<(), NoMemory> {
        self.cells.grow_to(self.len)
    }

    /// Puts an entry behind the last one.
    ///
    /// # Errors
    /// [`NoMemory`]; nothing changed, and the entry is dropped.
    pub fn push(&mut self, entry: T) -> Result<Place, NoMemory> {
        self.reserve()?;
        let place = Place::new(self.len).ok_or(NoMemory)?;
        let cell = self.cells.get(self.len).ok_or(NoMemory)?;
        // SAFETY: nobody may look at the cell: the array is borrowed uniquely. A second way to a cell would break it.
        let room = unsafe { &mut *cell.0.get() };
        room.write(entry);
        self.len += 1;
        Ok(place)
    }

    fn cell(&self, place: Place) -> Option<&Cell<T>> {
        (place.index() < self.len).then(|| self.cells.get(place.index())).flatten()
    }

    /// The entry at a place.
    #[inline]
    #[must_use]
    pub fn get(&self, place: Place) -> Option<&T> {
        let cell = self.cell(place)?;
        // SAFETY: nobody may write the cell: writing needs `&mut Array`, and this borrows `&Array`. A method that writes
        // through `&self` would break it.
        let room = unsafe { &*cell.0.get() };
        // SAFETY: the entry must be written: `push` wrote all below `len`, and `cell` looks below it alone. Counting an
        // entry before it is written would break it.
        Some(unsafe { room.assume_init_ref() })
    }

    /// The entry at a place, to change.
    #[inline]
    #[must_use]
    pub fn get_mut(&mut self, place: Place) -> Option<&mut T> {
        let cell = self.cell(place)?;
        // SAFETY: nobody else may look at the cell: the array is borrowed uniquely for as long as the result. A look
        // that outlives the borrow would break it.
        let room = unsafe { &mut *cell.0.get() };
        // SAFETY: the entry must be written: as in `get`. Counting before writing would break it.
        Some(unsafe { room.assume_init_mut() })
    }

    /// Each entry with its place.
    pub fn iter(&self) -> impl Iterator<Item = (Place, &T)> + '_ {
        (0..self.len).filter_map(|index| {
            let place = Place::new(index)?;
            Some((place, self.get(place)?))
        })
    }
}

impl<T> Drop for Array<T> {
    fn drop(&mut self) {
        if !core::mem::needs_drop::<T>() {
            return;
        }
        while let Some(index) = self.len.checked_sub(1) {
            // Counted down first: an entry whose drop panics is not dropped again.
            self.len = index;
            let Some(cell) = self.cells.get(index) else { continue };
            // SAFETY: nobody else may look at the cell: the array is borrowed uniquely. A look that outlives the borrow
            // would break it.
            let room = unsafe { &mut *cell.0.get() };
            // SAFETY: the entry must be written and not be used again: it was below `len`, and is no more. Dropping
            // before counting down would break it, where a drop panics.
            unsafe { room.assume_init_drop() };
        }
    }
}

/// A place of a pool.
#[derive(Debug)]
enum Entry<T> {
    Used(T),
    /// The next free place.
    Free(Option<Place>),
}

/// Values by place: a place that was removed is given out again, the last one first.
#[derive(Debug)]
pub struct Pool<T> {
    entries: Array<Entry<T>>,
    free: Option<Place>,
    used: u32,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { entries: Array::default(), free: None, used: 0 }
    }
}

impl<T> Pool<T> {
    /// Bytes that one value takes: its size, if the type has a bit pattern to spare.
    pub const SLOT_BYTES: usize = size_of::<Entry<T>>();

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.used
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Brings room for one value more, so that the next [`Pool::insert`] cannot fail.
    ///
    /// # Errors
    /// [`NoMemory`]; nothing changed.
    pub fn reserve(&mut self) -> Result<(), NoMemory> {
        if self.free.is_some() { Ok(()) } else { self.entries.reserve() }
    }

    /// Puts a value in a free place.
    ///
    /// # Errors
    /// [`NoMemory`]; nothing changed, and the value is dropped.
    pub fn insert(&mut self, value: T) -> Result<Place, NoMemory> {
        let place = match self.free {
            Some(place) => {
                let entry = self.entries.get_mut(place).ok_or(NoMemory)?;
                if let Entry::Free(next) = core::mem::replace(entry, Entry::Used(value)) {
                    self.free = next;
                }
                place
            }
            None => self.entries.push(Entry::Used(value))?,
        };
        self.used += 1;
        Ok(place)
    }

    /// The value at a place.
    #[inline]
    #[must_use]
    pub fn get(&self, place: Place) -> Option<&T> {
        match self.entries.get(place)? {
            Entry::Used(value) => Some(value),
            Entry::Free(_) => None,
        }
    }

    /// The value at a place, to change.
    #[inline]
    #[must_use]
    pub fn get_mut(&mut self, place: Place) -> Option<&mut T> {
        match self.entries.get_mut(place)? {
            Entry::Used(value) => Some(value),
            Entry::Free(_) => None,
        }
    }

    /// Takes the value out of a place, which is free then. Allocates nothing.
    pub fn remove(&mut self, place: Place) -> Option<T> {
        let entry = self.entries.get_mut(place).filter(|entry| matches!(entry, Entry::Used(_)))?;
        let taken = core::mem::replace(entry, Entry::Free(self.free));
        self.free = Some(place);
        self.used -= 1;
        match taken {
            Entry::Used(value) => Some(value),
            Entry::Free(_) => None,
        }
    }

    /// How many places were ever used: each value's index is below.
    #[must_use]
    pub fn places(&self) -> u32 {
        self.entries.len()
    }

    /// The first value whose place is not before `from`, with its place: a cursor that bears changes in between.
    #[must_use]
    pub fn next_from(&self, from: Place) -> Option<(Place, &T)> {
        (from.index()..self.entries.len()).find_map(|index| {
            let place = Place::new(index)?;
            Some((place, self.get(place)?))
        })
    }

    /// Each value with its place, in the order of places.
    pub fn iter(&self) -> impl Iterator<Item = (Place, &T)> + '_ {
        iter::successors(Place::new(0).and_then(|first| self.next_from(first)), |(place, _)| {
            self.next_from(Place::new(place.index().checked_add(1)?)?)
        })
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use alloc::rc::Rc;
    use std::vec::Vec;

    #[test]
    fn growing_moves_nothing_and_what_is_left_is_dropped_once() {
        let witness = Rc::new(());
        let mut array = Array::default();
        let first = array.push(witness.clone()).unwrap();
        let stands: *const Rc<()> = array.get(first).unwrap();
        for _ in 0..5_000 {
            array.push(witness.clone()).unwrap();
        }
        assert_eq!(stands, array.get(first).unwrap() as *const Rc<()>);
        assert!(array.get(Place::new(array.len()).unwrap()).is_none(), "what is not written is not there");
        assert_eq!((Rc::strong_count(&witness), array.iter().count()), (5_002, 5_001));
        drop(array);
        assert_eq!(Rc::strong_count(&witness), 1);
    }

    #[test]
    fn a_pools_places_are_used_again_and_its_cursor_passes_over_gaps() {
        let mut pool = Pool::default();
        let places: Vec<Place> = (0..100).map(|value| pool.insert(value).unwrap()).collect();
        assert_eq!(pool.remove(places[3]), Some(3));
        assert_eq!(pool.remove(places[3]), None);
        assert_eq!((pool.get(places[3]), pool.len()), (None, 99));
        assert_eq!(pool.iter().nth(3), Some((places[4], &4)));
        assert_eq!(pool.insert(7), Ok(places[3]));
        *pool.get_mut(places[3]).unwrap() += 1;
        assert_eq!(pool.iter().map(|(_, value)| *value).sum::<i32>(), (0..100).sum::<i32>() + 5);
    }
}

//! Sections on the heap: for bare metal, and for whoever wants no memory of the operating system's.

use super::{Platform, PlatformError, View, ViewId};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::AtomicU64;
use kobj_abi::Koid;
use kobj_abi::section::{Access, Part, ViewError, copy_in, copy_out, within};
use kobj_memory::{Locked, NoMemory, Shared, SpinLock, TryPush, try_zeroed_words};

type Words = Shared<Box<[AtomicU64]>>;

impl From<NoMemory> for PlatformError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

/// Sections on the heap, all together up to a size.
pub struct Heap {
    tables: SpinLock<Tables>,
    most_bytes: u64,
}

/// Both are in the order of their numbers, which grow: what is new comes at the end or close to it.
#[derive(Default)]
struct Tables {
    memories: Vec<Memory>,
    views: Vec<(ViewId, HeapView)>,
}

struct Memory {
    section: Koid,
    size_bytes: u64,
    words: Words,
}

impl fmt::Debug for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap").field("most_bytes", &self.most_bytes).finish_non_exhaustive()
    }
}

/// No memory for sections.
impl Default for Heap {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Heap {
    /// Memory for sections, at most so many bytes at once: the heap itself may give more than there is.
    #[must_use]
    pub fn new(most_bytes: u64) -> Self {
        Self { tables: SpinLock::new(Tables::default()), most_bytes }
    }

    /// How many sections and views there are.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        self.tables.with(|tables| (tables.memories.len(), tables.views.len()))
    }
}

impl Tables {
    fn has_room(&self, size_bytes: u64, most_bytes: u64) -> Result<(), PlatformError> {
        let used: u64 = self.memories.iter().map(|memory| memory.size_bytes).sum();
        let sum = used.checked_add(size_bytes).filter(|sum| *sum <= most_bytes);
        sum.map(drop).ok_or(PlatformError::NoMemory)
    }

    fn memory(&self, section: Koid) -> Result<usize, usize> {
        self.memories.binary_search_by_key(&section, |memory| memory.section)
    }

    fn view(&self, view: ViewId) -> Result<usize, usize> {
        self.views.binary_search_by_key(&view, |(id, _)| *id)
    }
}

/// Puts a value at its place. Nothing changes without memory.
fn try_insert<T>(list: &mut Vec<T>, at: usize, value: T) -> Result<(), NoMemory> {
    list.try_push(value)?;
    if let Some(moved) = list.get_mut(at..) {
        moved.rotate_right(1);
    }
    Ok(())
}

impl Platform for Heap {
    type View = HeapView;

    fn take_room(&self, size_bytes: u64) -> Result<(), PlatformError> {
        self.tables.with(|tables| tables.has_room(size_bytes, self.most_bytes))
    }

    fn create_memory(&self, section: Koid, size_bytes: u64, _lazy: bool) -> Result<(), PlatformError> {
        let count = usize::try_from(size_bytes.div_ceil(8)).map_err(|_| PlatformError::NoMemory)?;
        let words = Shared::try_new(try_zeroed_words(count)?)?;
        self.tables.with(|tables| {
            // Of those who found room at the same time not all may find it: what counts is what there is now.
            tables.has_room(size_bytes, self.most_bytes)?;
            let (Ok(at) | Err(at)) = tables.memory(section);
            Ok(try_insert(&mut tables.memories, at, Memory { section, size_bytes, words })?)
        })
    }

    fn map(&self, section: Koid, view: ViewId, part: Part, access: Access) -> Result<HeapView, PlatformError> {
        self.tables.with(|tables| {
            let memory = tables.memory(section).ok().and_then(|at| tables.memories.get(at));
            let memory = memory.filter(|memory| part.is_inside(memory.size_bytes)).ok_or(PlatformError::NoMemory)?;
            let words = Shared::try_new(SpinLock::new(Some(memory.words.clone())))?;
            let skip = usize::try_from(part.offset_bytes).map_err(|_| PlatformError::NoMemory)?;
            let made = HeapView { words, skip, size_bytes: part.size_bytes, access };
            let (Ok(at) | Err(at)) = tables.view(view);
            try_insert(&mut tables.views, at, (view, made.clone()))?;
            Ok(made)
        })
    }

    fn unmap(&self, view: ViewId) {
        let ended = self.tables.with(|tables| tables.view(view).ok().map(|at| tables.views.remove(at)));
        if let Some((_, view)) = ended {
            drop(view.words.with(Option::take));
        }
    }

    fn destroy_memory(&self, section: Koid) {
        let memory = self.tables.with(|tables| tables.memory(section).ok().map(|at| tables.memories.remove(at)));
        drop(memory);
    }
}

/// A part of a section on the heap. Clones are the same view.
#[derive(Clone)]
pub struct HeapView {
    /// Taken out when the view ends.
    words: Shared<SpinLock<Option<Words>>>,
    skip: usize,
    size_bytes: u64,
    access: Access,
}

impl fmt::Debug for HeapView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeapView").field("size_bytes", &self.size_bytes).finish_non_exhaustive()
    }
}

impl HeapView {
    /// The memory, kept while somebody is at it.
    fn words(&self) -> Result<Words, ViewError> {
        self.words.with(|words| words.clone()).ok_or(ViewError::Unmapped)
    }
}

impl View for HeapView {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> Result<(), ViewError> {
        let offset = within(offset_bytes, into.len(), self.size_bytes)?;
        copy_out(&self.words()?, self.skip + offset, into);
        Ok(())
    }

    fn write(&self, offset_bytes: u64, from: &[u8]) -> Result<(), ViewError> {
        if self.access == Access::Read {
            return Err(ViewError::ReadOnly);
        }
        let offset = within(offset_bytes, from.len(), self.size_bytes)?;
        copy_in(&self.words()?, self.skip + offset, from);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kobj_abi::Era;

    #[test]
    fn of_two_who_found_room_at_once_one_has_it() {
        let heap = Heap::new(100);
        let section = |counter| Koid::new(Era(7), counter).unwrap();
        heap.take_room(80).unwrap();
        heap.take_room(80).unwrap();
        heap.create_memory(section(1), 80, false).unwrap();
        assert_eq!(heap.create_memory(section(2), 80, false), Err(PlatformError::NoMemory));
        assert_eq!(heap.counts(), (1, 0));
        heap.destroy_memory(section(1));
        heap.create_memory(section(2), 80, false).unwrap();
    }
}

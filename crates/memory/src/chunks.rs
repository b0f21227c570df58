//! An array that grows by whole chunks and never moves what it holds.

use crate::Place;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Entries in a chunk: growth costs one allocation of this many, whatever the size already reached.
pub(crate) const PER_CHUNK: usize = 1024;

/// Entries of `T` in fixed chunks. Growing never copies an entry, so the longest step does not depend on the size.
#[derive(Debug)]
pub struct Chunks<T> {
    chunks: Vec<Box<[T]>>,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T> Chunks<T> {
    /// How many entries there are.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.chunks.len() * PER_CHUNK
    }

    /// Adds one chunk, each entry made by `make`.
    pub fn grow(&mut self, make: impl Fn() -> T) {
        self.chunks.push((0..PER_CHUNK).map(|_| make()).collect());
    }

    /// The entry at a place.
    #[inline]
    #[must_use]
    pub fn get(&self, place: Place) -> Option<&T> {
        let index = place.index() as usize;
        self.chunks.get(index / PER_CHUNK)?.get(index % PER_CHUNK)
    }

    /// The entry at a place, to change.
    #[inline]
    #[must_use]
    pub fn get_mut(&mut self, place: Place) -> Option<&mut T> {
        let index = place.index() as usize;
        self.chunks.get_mut(index / PER_CHUNK)?.get_mut(index % PER_CHUNK)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn growing_moves_nothing() {
        let mut chunks = Chunks::default();
        chunks.grow(|| 7_u64);
        let first: *const u64 = chunks.get(Place::new(0).unwrap()).unwrap();
        for _ in 0..100 {
            chunks.grow(|| 0);
        }
        assert_eq!(first, chunks.get(Place::new(0).unwrap()).unwrap() as *const u64);
        assert_eq!(chunks.get(Place::new(chunks.capacity() as u32).unwrap()), None);
    }
}

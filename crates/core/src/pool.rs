//! A pool of small records: places that never move, growth that can fail, freeing that cannot.
//!
//! Blocks double in size, so the list of blocks stays short; a block is reserved and not filled, so that growing costs
//! one allocation whatever its size.

use alloc::vec::Vec;
use core::num::NonZeroU32;
use kobj_memory::NoMemory;

/// Records in the first block.
const FIRST: usize = 32;

#[derive(Debug)]
enum Slot<T> {
    /// Free, and the next free one.
    Free(Option<NonZeroU32>),
    Used(T),
}

/// Records of `T`, known by numbers from 1. A number is given again after its record was removed.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    blocks: Vec<Vec<Slot<T>>>,
    free: Option<NonZeroU32>,
    /// Slots ever used.
    used: u32,
    live: u32,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { blocks: Vec::new(), free: None, used: 0, live: 0 }
    }
}

/// Block and place in it.
#[inline]
const fn split(id: NonZeroU32) -> (usize, usize) {
    // Mostly there are few: then the processor need not wait for the logarithm to know the block.
    if id.get() as usize <= FIRST {
        return (0, id.get() as usize - 1);
    }
    let index = id.get() as usize - 1 + FIRST;
    let block = (index / FIRST).ilog2();
    (block as usize, index - (FIRST << block))
}

impl<T> Pool<T> {
    /// How many records there are.
    pub(crate) fn live(&self) -> u32 {
        self.live
    }

    /// Adds a record.
    pub(crate) fn insert(&mut self, value: T) -> Result<NonZeroU32, NoMemory> {
        if let Some(id) = self.free {
            let slot = self.slot_mut(id).ok_or(NoMemory)?;
            let Slot::Free(next) = *slot else { return Err(NoMemory) };
            *slot = Slot::Used(value);
            self.free = next;
            self.live += 1;
            return Ok(id);
        }
        let id = self.used.checked_add(1).and_then(NonZeroU32::new).ok_or(NoMemory)?;
        let (block, _) = split(id);
        if block == self.blocks.len() {
            let mut slots = Vec::new();
            slots.try_reserve_exact(FIRST << block).map_err(|_| NoMemory)?;
            self.blocks.try_reserve(1).map_err(|_| NoMemory)?;
            self.blocks.push(slots);
        }
        let slots = self.blocks.get_mut(block).filter(|slots| slots.len() < slots.capacity()).ok_or(NoMemory)?;
        slots.push(Slot::Used(value));
        self.used += 1;
        self.live += 1;
        Ok(id)
    }

    /// Takes a record out.
    pub(crate) fn remove(&mut self, id: NonZeroU32) -> Option<T> {
        let next = self.free;
        let slot = self.slot_mut(id).filter(|slot| matches!(slot, Slot::Used(_)))?;
        let Slot::Used(value) = core::mem::replace(slot, Slot::Free(next)) else { return None };
        self.free = Some(id);
        self.live -= 1;
        Some(value)
    }

    #[inline]
    pub(crate) fn get(&self, id: NonZeroU32) -> Option<&T> {
        let (block, place) = split(id);
        match self.blocks.get(block)?.get(place)? {
            Slot::Used(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: NonZeroU32) -> Option<&mut T> {
        match self.slot_mut(id)? {
            Slot::Used(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    #[inline]
    fn slot_mut(&mut self, id: NonZeroU32) -> Option<&mut Slot<T>> {
        let (block, place) = split(id);
        self.blocks.get_mut(block)?.get_mut(place)
    }

    /// The first record from number `from` on.
    pub(crate) fn next_from(&self, from: u32) -> Option<(NonZeroU32, &T)> {
        (from.max(1)..=self.used).find_map(|id| {
            let id = NonZeroU32::new(id)?;
            Some((id, self.get(id)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_double_and_numbers_are_without_gaps() {
        let at = |id| split(NonZeroU32::new(id).unwrap());
        assert_eq!((at(1), at(32), at(33), at(96), at(97)), ((0, 0), (0, 31), (1, 0), (1, 63), (2, 0)));
        assert_eq!(at(u32::MAX).0, 27);
    }

    #[test]
    fn what_is_inserted_stays_where_it_is_and_a_removed_number_is_given_again() {
        let mut pool = Pool::default();
        let first = pool.insert(0).unwrap();
        let stands: *const u32 = pool.get(first).unwrap();
        let ids: Vec<_> = (1..1000).map(|value| pool.insert(value).unwrap()).collect();
        assert_eq!(stands, pool.get(first).unwrap() as *const u32);
        assert!(ids.iter().zip(1..).all(|(id, value)| pool.get(*id) == Some(&value)));
        assert_eq!((pool.remove(ids[7]), pool.remove(ids[7]), pool.get(ids[7])), (Some(8), None, None));
        assert_eq!(pool.next_from(ids[7].get()).map(|(id, value)| (id, *value)), Some((ids[8], 9)));
        assert_eq!((pool.live(), pool.insert(4711).unwrap(), pool.live()), (999, ids[7], 1000));
    }
}

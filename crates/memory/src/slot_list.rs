//! A list of slots that any thread pushes to and pops from: the table's free slots, and those that wait to be taken out.

use crate::sync::{AtomicU32, AtomicU64, Ordering, load_32, load_64, store_32};

/// A stack of slot indices, threaded through a word of each slot. All zero is empty.
///
/// The head is [pops so far, modulo 2^32 | index + 1]. The count is what keeps the list whole: between a popper's look and
/// its exchange others may pop the first slot and push it again with another one behind it, and then the head is no more
/// the one that was looked at.
#[derive(Debug, Default)]
pub(crate) struct SlotList {
    head: AtomicU64,
}

const POP: u64 = 1 << 32;

impl SlotList {
    /// Puts a slot in front; `next` is the slot's own link word. The slot must be in no list.
    ///
    /// Release hands what the pusher wrote to the slot to the popper's acquire.
    pub(crate) fn push(&self, index: u32, next: &AtomicU32) {
        let mut head = load_64(&self.head, Ordering::Relaxed);
        loop {
            store_32(next, head as u32, Ordering::Relaxed);
            let with = (head & !(POP - 1)) | (u64::from(index) + 1);
            match self.head.compare_exchange(head, with, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Takes the slot in front; `next` finds a slot's link word.
    ///
    /// The link may be read of a slot that others have popped meanwhile: slots are never given back, and the exchange
    /// fails then. Acquire on the look as well, since the link is read through it.
    pub(crate) fn pop<'a>(&self, next: impl Fn(u32) -> Option<&'a AtomicU32>) -> Option<u32> {
        let mut head = load_64(&self.head, Ordering::Acquire);
        loop {
            let index = (head as u32).checked_sub(1)?;
            let behind = load_32(next(index)?, Ordering::Relaxed);
            let without = (head & !(POP - 1)).wrapping_add(POP) | u64::from(behind);
            match self.head.compare_exchange(head, without, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(index),
                Err(now) => head = now,
            }
        }
    }

    /// Whether there is none: a look, out of date when it returns.
    pub(crate) fn is_empty(&self) -> bool {
        load_64(&self.head, Ordering::Relaxed) as u32 == 0
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn the_last_pushed_comes_first_and_the_count_of_pops_wraps() {
        let links: [AtomicU32; 4] = Default::default();
        let list = SlotList { head: AtomicU64::new(u64::MAX << 32) };
        assert!(list.is_empty());
        assert_eq!(list.pop(|index| links.get(index as usize)), None);
        for index in 0..4 {
            list.push(index, &links[index as usize]);
        }
        assert!(!list.is_empty());
        for index in (0..4).rev() {
            assert_eq!(list.pop(|index| links.get(index as usize)), Some(index));
        }
        assert!(list.is_empty());
        assert_eq!(list.head.load(Ordering::Relaxed) >> 32, 3, "four pops from the last count");
    }
}

//! The reaper list: what has lost its last reference and waits to be buried.

use crate::Place;
use crate::sync::{AtomicU32, Ordering, load_32, store_32};

/// A list of slots, threaded through a word of each. Any thread pushes; one consumer takes the whole list.
///
/// The consumer takes all at once, so a slot that returns to the list between a pusher's look and its exchange does no
/// harm: the pusher only ever puts the head it saw behind itself, and that head is still the list's head.
#[derive(Debug, Default)]
pub struct Reaper {
    head: AtomicU32,
}

impl Reaper {
    /// Puts a slot on the list; `next` is the slot's own link word. `true` for who finds the list empty: it queues the work.
    ///
    /// Release ordering hands what the pusher wrote (the link too) to the consumer's acquire.
    pub fn push(&self, place: Place, next: &AtomicU32) -> bool {
        let mut head = load_32(&self.head, Ordering::Relaxed);
        loop {
            store_32(next, head, Ordering::Relaxed);
            match self.head.compare_exchange(head, place.raw(), Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return head == 0,
                Err(now) => head = now,
            }
        }
    }

    /// Takes the whole list, the last pushed first.
    #[must_use]
    pub fn take(&self) -> Option<Place> {
        if load_32(&self.head, Ordering::Relaxed) == 0 {
            return None;
        }
        Place::from_raw(self.head.swap(0, Ordering::Acquire))
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        load_32(&self.head, Ordering::Relaxed) == 0
    }
}

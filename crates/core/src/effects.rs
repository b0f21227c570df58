//! The list of what the embedder is to do or to know, until he takes it.

use crate::command::Effect;
use alloc::collections::VecDeque;
use kobj_abi::Koid;
use kobj_memory::NoMemory;

/// Effects in their order, each with a number that no later one has.
#[derive(Default)]
pub(crate) struct Pending {
    list: VecDeque<Effect>,
    /// How many were taken: the number of the last of them.
    taken: u64,
}

impl Pending {
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Room for so many more.
    pub(crate) fn reserve(&mut self, more: usize) -> Result<(), NoMemory> {
        self.list.try_reserve(more).map_err(|_| NoMemory)
    }

    /// The last one, for which there is room. Says its number, from 1.
    pub(crate) fn push_back(&mut self, effect: Effect) -> u64 {
        self.list.push_back(effect);
        self.taken.saturating_add(self.list.len() as u64)
    }

    pub(crate) fn pop_front(&mut self) -> Option<Effect> {
        let effect = self.list.pop_front()?;
        self.taken += 1;
        Some(effect)
    }

    /// Counts one bad handle more where a process's last ones are told of, if that was not taken yet.
    pub(crate) fn count_bad_handle(&mut self, process: Koid, number: u64) -> bool {
        let at = number.checked_sub(self.taken).and_then(|at| usize::try_from(at.checked_sub(1)?).ok());
        match at.and_then(|at| self.list.get_mut(at)) {
            Some(Effect::BadHandle { process: whose, times, .. }) if *whose == process => {
                *times = times.saturating_add(1);
                true
            }
            _ => false,
        }
    }
}

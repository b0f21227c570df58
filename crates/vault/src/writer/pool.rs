//! Buffers that are used again, and how many bytes may be on their way at once.

use std::sync::{Condvar, Mutex, PoisonError};

/// Buffers that are kept; more are freed.
const KEPT: usize = 64;
/// Larger ones come with large chunks only and are kept as long as their sum is below the bound.
pub(super) struct Pool {
    most_bytes: usize,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    on_their_way: usize,
    kept: Vec<Vec<u8>>,
    kept_bytes: usize,
}

impl Pool {
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { most_bytes, state: Mutex::default(), freed: Condvar::new() }
    }

    /// An empty buffer with room for so many bytes.
    pub(super) fn take(&self, bytes: usize) -> Vec<u8> {
        let found = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let at = state
                .kept
                .iter()
                .rposition(|buffer| buffer.capacity() >= bytes && buffer.capacity() / 4 <= bytes.max(4096));
            at.map(|at| state.kept.swap_remove(at)).inspect(|buffer| state.kept_bytes -= buffer.capacity())
        };
        found.unwrap_or_else(|| Vec::with_capacity(bytes))
    }

    /// Waits until so many bytes may set out. One blob may always, however large.
    pub(super) fn admit(&self, bytes: usize) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |state: &mut State| state.on_their_way > 0 && state.on_their_way + bytes > self.most_bytes;
        let mut state = self.freed.wait_while(state, full).unwrap_or_else(PoisonError::into_inner);
        state.on_their_way += bytes;
    }

    /// A blob of so many bytes arrived; its buffer can be used again.
    pub(super) fn give_back(&self, mut buffer: Vec<u8>, bytes: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.on_their_way -= bytes;
        if state.kept.len() < KEPT && state.kept_bytes + buffer.capacity() <= self.most_bytes {
            buffer.clear();
            state.kept_bytes += buffer.capacity();
            state.kept.push(buffer);
        }
        drop(state);
        self.freed.notify_one();
    }
}

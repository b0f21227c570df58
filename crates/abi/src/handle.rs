//! Handles: a process's right to an object, as a number.

use core::fmt;
use core::num::NonZeroU64;

/// A handle as its process knows it: slot (32 bits) and generation (32 bits) under the random mask of the process's table.
///
/// 0 is never a handle. The value means something in its own table alone: in another one it is refused except with
/// probability about n/2^64, n being the handles that one has. The mask finds mistakes and is no secret: what a caller may
/// do depends on which table it has, not on which numbers it can guess. A closed value is never valid again in its table.
///
/// NT: `HANDLE`, whose values are used again at once. Zircon: `zx_handle_t`, 32 bits, used again after a while.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawHandle(NonZeroU64);

impl RawHandle {
    /// The handle of a number that came from outside; `None` for 0.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Option<Self> {
        match NonZeroU64::new(raw) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }

    /// The number, never 0.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0.get()
    }
}

/// `handle` and sixteen hexadecimal digits.
impl fmt::Display for RawHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "handle {:016x}", self.raw())
    }
}

impl fmt::Debug for RawHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawHandle({:016x})", self.raw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_no_handle() {
        assert_eq!(RawHandle::from_raw(0), None);
        assert_eq!(RawHandle::from_raw(7).map(RawHandle::raw), Some(7));
    }
}

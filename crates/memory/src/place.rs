//! A place in a pool: what objects and links are threaded with.

use core::fmt;
use core::num::NonZeroU32;

/// The number of a slot in a pool. `Option<Place>` is four bytes, and four zero bytes are `None`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(NonZeroU32);

impl Place {
    /// The most slots a pool can have.
    pub const MAX: u32 = u32::MAX;

    /// The last place of the largest pool.
    pub(crate) const LAST: Self = Self(NonZeroU32::MAX);

    /// The place of slot `index`, counted from 0; `None` past [`Place::MAX`].
    #[must_use]
    pub const fn new(index: u32) -> Option<Self> {
        match index.checked_add(1) {
            Some(raw) => Self::from_raw(raw),
            None => None,
        }
    }

    /// The slot's index, from 0.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0.get() - 1
    }

    /// A place as it is kept in an atomic word: 0 is none.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        match NonZeroU32::new(raw) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }

    /// The word that is kept for this place; never 0.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({})", self.index())
    }
}

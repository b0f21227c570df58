//! The states of users' own types: values of up to 64 bytes that stand in the slots themselves.

use crate::buckets::{Buckets, Zeroed};
use crate::sync::{AtomicPtr, AtomicU32, Ordering, load_32, store_32};
use crate::{NoMemory, gate};
use core::any::TypeId;
use core::fmt;
use core::marker::PhantomData;
use core::ptr;
use kobj_abi::{Koid, Tag, TypeNumber};

/// The most bytes of a state, and the largest alignment: what fits behind a header.
pub(crate) const STATE_BYTES: usize = 64;
/// The largest alignment of a state.
pub(crate) const STATE_ALIGN: usize = 16;

/// What is known of a registered type.
pub(crate) struct StateTable {
    /// Drops a state in its place; none where that does nothing.
    pub(crate) drop: Option<unsafe fn(*mut u8)>,
    /// Which type of Rust the states have.
    pub(crate) state: TypeId,
}

/// Drops an S.
///
/// # Safety
/// `state` is good for an S, which is not used again.
unsafe fn drop_state<S>(state: *mut u8) {
    // SAFETY: the caller's duty. A table under another type's number would break it.
    unsafe { state.cast::<S>().drop_in_place() };
}

/// The table of S, for every manager.
struct TableOf<S>(PhantomData<S>);

impl<S: 'static> TableOf<S> {
    const TABLE: &'static StateTable = &StateTable {
        drop: if core::mem::needs_drop::<S>() { Some(drop_state::<S>) } else { None },
        state: TypeId::of::<S>(),
    };
}

/// Says that a type with states S is registered under a number of one slab. Whoever has it can make and read such states.
///
/// It is of S exactly: a state that was put in as a subtype's or supertype's must not be read as S.
///
/// ```compile_fail
/// # use kobj_memory::StateKey;
/// fn for_less(key: StateKey<for<'a> fn(&'a str)>) -> StateKey<fn(&'static str)> {
///     key
/// }
/// ```
pub struct StateKey<S> {
    number: TypeNumber,
    letters: [u8; 4],
    /// The slab that gave it: a number that no other slab of this program has or had.
    pub(crate) slab: u64,
    /// Invariant: what one key puts in, another one for the same number reads.
    state: PhantomData<fn(S) -> S>,
}

impl<S> StateKey<S> {
    /// The type's number.
    #[must_use]
    pub const fn number(&self) -> TypeNumber {
        self.number
    }

    /// The tag of an object of the type.
    #[must_use]
    pub const fn tag(&self, koid: Koid) -> Tag {
        Tag { letters: self.letters, koid }
    }
}

impl<S> Clone for StateKey<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for StateKey<S> {}

impl<S> fmt::Debug for StateKey<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateKey").field("number", &self.number).finish_non_exhaustive()
    }
}

/// Why a type was not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterError {
    /// The letters are those of the dead stamp, or zeroes.
    Letters([u8; 4]),
    /// Every number is given.
    Full,
    /// The allocator refused.
    NoMemory,
    /// This process was forked off the one whose manager it is. Who embeds a manager says so, not the memory.
    Forked,
}

impl core::error::Error for RegisterError {}

impl From<NoMemory> for RegisterError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Letters(letters) => {
                write!(f, "the letters \"{}\" mark what is no object; choose others", letters.escape_ascii())
            }
            Self::Full => f.write_str("every type number is given; register fewer types"),
            Self::NoMemory => NoMemory.fmt(f),
            Self::Forked => f.write_str(
                "this process was forked off the manager's and has no part in it; make a manager of its own, or execute another program",
            ),
        }
    }
}

/// A registered type's table, null where none is.
#[derive(Debug)]
struct Entry(AtomicPtr<StateTable>);

// SAFETY: zeroes must be a value, without a drop: they are the null pointer, and what it points at is static. A pointer
// to what is not static would break it.
unsafe impl Zeroed for Entry {
    #[cfg(any(loom, shuttle))]
    fn zeroed() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }
}

/// The registered types, by number.
#[derive(Debug, Default)]
pub(crate) struct Types {
    entries: Buckets<Entry>,
    count: AtomicU32,
}

impl Types {
    /// Registers a type; the slab's owner alone calls this.
    pub(crate) fn register<S: Send + Sync + 'static>(
        &self,
        slab: u64,
        letters: [u8; 4],
    ) -> Result<StateKey<S>, RegisterError> {
        const { assert!(size_of::<S>() <= STATE_BYTES, "a state has at most 64 bytes: put the rest in a box") };
        const { assert!(align_of::<S>() <= STATE_ALIGN, "a state is aligned to 16 bytes at most") };
        if letters == gate::DEAD.to_le_bytes() || letters == [0; 4] {
            return Err(RegisterError::Letters(letters));
        }
        let count = load_32(&self.count, Ordering::Relaxed);
        let number = u16::try_from(count).ok().and_then(|count| count.checked_add(TypeNumber::FIRST_OWN.0));
        let number = number.filter(|number| *number <= crate::header::NUMBER).ok_or(RegisterError::Full)?;
        self.entries.grow_to(count)?;
        let entry = self.entries.get(count).ok_or(NoMemory)?;
        // Release hands the table to who finds an object of the type; static memory needs no more than the pointer itself.
        entry.0.store(ptr::from_ref(TableOf::<S>::TABLE).cast_mut(), Ordering::Release);
        store_32(&self.count, count + 1, Ordering::Release);
        Ok(StateKey { number: TypeNumber(number), letters, slab, state: PhantomData })
    }

    /// The table of a registered type.
    pub(crate) fn get(&self, number: TypeNumber) -> Option<&'static StateTable> {
        let entry = self.entries.get(u32::from(number.0.checked_sub(TypeNumber::FIRST_OWN.0)?))?;
        // SAFETY: it must be null or good for ever: `register` stores pointers to statics alone. A pointer to a table
        // on the stack would break it.
        unsafe { entry.0.load(Ordering::Acquire).as_ref() }
    }
}

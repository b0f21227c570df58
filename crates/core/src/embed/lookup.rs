//! Looking a handle up without the lock: pinned, its object's tag and type checked, its rights checked.

use super::Manager;
use crate::call::CallError;
use crate::manager::Core;
use crate::platform::Platform;
use kobj_abi::{Koid, Operation, RawHandle, Rights, TypeNumber};
use kobj_memory::{Held, Kept, Lock, Locked, Pin, PinError, Reference, Released, Shared, Stamp, Table};

/// A handle that was looked up: what it means cannot end while this is there, whoever closes the handle.
///
/// Dropped, it may be the last to leave a handle that was closed meanwhile: it hands that over then, and the next call runs
/// the hooks.
#[must_use = "dropped at once, it protects nothing"]
pub struct Guard<'a, L: Lock, P: Platform> {
    manager: &'a Manager<L, P>,
    process: Koid,
    table: &'a Table,
    /// Taken by the drop.
    pin: Option<Pin<'a>>,
    object: Reference,
    rights: Rights,
    object_type: TypeNumber,
}

impl<L: Lock, P: Platform> core::fmt::Debug for Guard<'_, L, P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Guard").field("object", &self.object).field("rights", &self.rights).finish_non_exhaustive()
    }
}

impl<'a, L: Lock, P: Platform> Guard<'a, L, P> {
    /// The object's id.
    #[must_use]
    pub fn koid(&self) -> Koid {
        self.object.koid()
    }

    /// The object's type.
    #[must_use]
    pub fn object_type(&self) -> TypeNumber {
        self.object_type
    }

    /// What the handle allows.
    #[must_use]
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// Keeps the object by a reference that a state can have: no handle, which nobody counts and nobody takes back.
    ///
    /// # Errors
    /// [`CallError::TooManyReferences`].
    pub fn keep(&self) -> Result<Kept, CallError> {
        let kept = Kept::new(&self.manager.objects, self.object);
        kept.map_err(|_| CallError::TooManyReferences { koid: self.object.koid() })
    }

    /// Holds the object beyond this look.
    ///
    /// # Errors
    /// [`CallError::TooManyReferences`].
    pub fn hold(&self) -> Result<Held<'a>, CallError> {
        let held = self.manager.objects.hold(self.object);
        held.map_err(|_| CallError::TooManyReferences { koid: self.object.koid() })
    }
}

impl<L: Lock, P: Platform> Drop for Guard<'_, L, P> {
    #[inline]
    fn drop(&mut self) {
        let Some(pin) = self.pin.take() else { return };
        if pin.release() == Released::LastOfClosing {
            self.manager.hand_over(self.process, self.table);
        }
    }
}

impl<L: Lock, P: Platform> Manager<L, P> {
    /// The handle table of a guest, to look up in.
    ///
    /// # Errors
    /// [`CallError::NoProcess`], [`CallError::Dying`].
    pub fn table(&self, process: Koid) -> Result<Shared<Table>, CallError> {
        self.core.with(|core| core.caller(process).map(|caller| caller.table))
    }

    /// Looks a handle up in its process's table, for whoever needs these rights to an object of that type (`None`: any).
    /// Takes no lock.
    ///
    /// # Errors
    /// Bad handle, wrong type, access denied, in that order.
    #[inline]
    pub fn lookup<'a>(
        &'a self,
        process: Koid,
        table: &'a Table,
        handle: RawHandle,
        expected: Option<TypeNumber>,
        needed: Rights,
    ) -> Result<Guard<'a, L, P>, CallError> {
        let pin = match table.pin(handle) {
            Ok(pin) => pin,
            Err(error) => return Err(self.not_pinned(process, table, handle, error)),
        };
        let rights = pin.rights();
        let place = pin.object();
        let Ok((object, header)) = self.objects.look_at(place) else {
            // Destroyed whoever had handles to it. A handle is a reference: its koid stands there as long as it is pinned.
            let koid = match self.objects.stamp(place) {
                Stamp::Live(tag) => Some(tag.koid),
                Stamp::Dead(koid) => Some(koid),
                Stamp::Free => None,
            };
            self.leave(process, table, pin);
            return Err(koid.map_or(CallError::BadHandle { handle }, |koid| CallError::Dying { koid }));
        };
        let object_type = header.type_number();
        let guard = Guard { manager: self, process, table, pin: Some(pin), object, rights, object_type };
        if let Some(expected) = expected.filter(|expected| *expected != object_type) {
            return Err(CallError::UnexpectedType { koid: object.koid(), found: object_type, expected });
        }
        if !rights.contains(needed) {
            let missing = needed.without(rights);
            let operation = Operation::HandleInfo;
            return Err(CallError::AccessDenied { koid: object.koid(), operation, missing });
        }
        Ok(guard)
    }

    #[cold]
    fn not_pinned(&self, process: Koid, table: &Table, handle: RawHandle, error: PinError) -> CallError {
        // The look that failed may have been the last at a handle that was closed.
        if table.has_closed() {
            self.hand_over(process, table);
        }
        match error {
            PinError::BadHandle => {
                // The policy hears of it as of one that was named in a call.
                self.core.with(|core| core.looked_at_bad_handle(process, handle));
                CallError::BadHandle { handle }
            }
            PinError::TooManyPins => CallError::TooManyReferences { koid: process },
        }
    }

    /// Ends a look. It may have been the last at a handle that was closed meanwhile.
    #[inline]
    pub(super) fn leave(&self, process: Koid, table: &Table, pin: Pin<'_>) {
        if pin.release() == Released::LastOfClosing {
            self.hand_over(process, table);
        }
    }

    /// Takes in what the last looks at the closed handles of a table handed over.
    #[cold]
    fn hand_over(&self, process: Koid, table: &Table) {
        self.core.with(|core: &mut Core| core.take_in_of(process, table));
    }
}

//! Types, as objects.

use crate::{Error, Type, TypeInfo};

impl Type {
    /// The type's number, letters, name and rights, and its books: how many objects were made, live, and lived at most. Needs
    /// INSPECT. NT: `NtQueryObject` with `ObjectTypeInformation`; Zircon: `ZX_INFO_KMEM_STATS` counts a few.
    ///
    /// # Errors
    /// [`Error::AccessDenied`].
    #[track_caller]
    pub fn books(&self) -> Result<TypeInfo, Error> {
        let caller = self.caller();
        caller.inner.type_object(caller.koid(), self.raw())
    }
}

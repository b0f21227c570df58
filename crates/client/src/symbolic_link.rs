//! Symbolic links.

use crate::{Call, CallAnswer, Error, SymbolicLink};

impl SymbolicLink {
    /// Where it leads. Needs READ. NT: `NtQuerySymbolicLinkObject`; Linux: `readlink`.
    ///
    /// # Errors
    /// [`Error::AccessDenied`], [`Error::NoMemory`].
    #[track_caller]
    pub fn target(&self) -> Result<Vec<u8>, Error> {
        match self.call(Call::ReadLink { handle: self.raw() })? {
            CallAnswer::Target(target) => Ok(target),
            _ => Err(Error::BadHandle { handle: self.raw() }),
        }
    }
}

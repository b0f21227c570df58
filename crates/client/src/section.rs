//! Sections: memory that many can map.

use crate::platform::LinuxView;
use crate::{Access, Caller, Error, Handle, Section, Words};
use kobj_abi::section::{Part, ViewError};
use kobj_core::SectionRequest;
use kobj_core::embed::Mapped;
use kobj_core::platform::View as _;
use std::fmt;
use std::ops::Range;

/// How a section is made. A size alone is enough: `caller.create_section(4096)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionOptions {
    request: SectionRequest,
}

impl SectionOptions {
    /// So many bytes, their pages taken when the section is made.
    #[must_use]
    pub const fn new(size_bytes: u64) -> Self {
        Self { request: SectionRequest { size_bytes, lazy: false } }
    }

    /// Whether its pages are taken only when they are touched. If there is none left then, the process that touches one dies
    /// by SIGBUS or the system ends some other; so this is for those who know that they touch few.
    #[must_use]
    pub const fn lazy(self, lazy: bool) -> Self {
        Self { request: SectionRequest { lazy, ..self.request } }
    }

    pub(crate) const fn request(self) -> SectionRequest {
        self.request
    }
}

impl From<u64> for SectionOptions {
    fn from(size_bytes: u64) -> Self {
        Self::new(size_bytes)
    }
}

impl Caller {
    /// Makes a section without a name, all of it 0. Its size, which never changes, is charged to the caller. NT:
    /// `NtCreateSection`; Zircon: `zx_vmo_create`.
    ///
    /// # Errors
    /// [`Error::EmptySection`], [`Error::Dying`], [`Error::Quota`]; [`Error::NoMemory`] if it is larger than what the system
    /// and the control groups around this process leave, lazy or not; [`Error::TooManyFiles`].
    #[track_caller]
    pub fn create_section(&self, options: impl Into<SectionOptions>) -> Result<Section, Error> {
        let raw = self.inner.create_section(self.process, options.into().request)?;
        Ok(Handle::owned(self.clone(), raw))
    }
}

impl Section {
    /// Maps a part of it, in bytes from its beginning; any part, not only whole pages. Needs MAP_READ, and MAP_WRITE to
    /// write. NT: `NtMapViewOfSection`; Zircon: `zx_vmar_map`.
    ///
    /// The view keeps the section, also after this handle is closed. It ends when it is dropped, and with the process.
    ///
    /// # Errors
    /// [`Error::AccessDenied`]; [`Error::BadRange`] for what is past the end, or nothing; [`Error::Quota`],
    /// [`Error::NoMemory`], [`Error::TooManyFiles`].
    #[track_caller]
    pub fn map(&self, part: Range<u64>, access: Access) -> Result<View, Error> {
        let part = Part { offset_bytes: part.start, size_bytes: part.end.saturating_sub(part.start) };
        let caller = self.caller();
        let mapped = caller.inner.map(caller.process, self.raw(), part, access)?;
        caller.inner.note_view(caller.process, self.raw(), mapped.id);
        Ok(View { caller: caller.clone(), mapped })
    }
}

/// A mapped part of a section. `Send` and `Sync`; dropped, it is unmapped.
///
/// Others change the same bytes at any time. So they are copied in and out, each 64-bit word of them whole and without any
/// order among them, or borrowed as atomic words.
///
/// A forked child is refused them. The mapping itself is inherited, as every shared one is: words that were borrowed before
/// the fork are the parent's memory in the child, too.
pub struct View {
    caller: Caller,
    mapped: Mapped<LinuxView>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({} bytes of process {})", self.size_bytes(), self.caller.process)
    }
}

impl View {
    #[inline]
    fn is_own_process(&self) -> Result<(), ViewError> {
        self.caller.inner.is_own_process().map_err(|_| ViewError::Forked)
    }

    /// Its length in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.mapped.view.size_bytes()
    }

    /// Copies bytes out of it, from an offset in the view on.
    ///
    /// # Errors
    /// [`ViewError::OutOfRange`]; [`ViewError::Unmapped`] after its process ended; [`ViewError::Forked`]. Nothing is copied
    /// then.
    #[track_caller]
    pub fn read(&self, offset_bytes: u64, into: &mut [u8]) -> Result<(), ViewError> {
        self.is_own_process()?;
        self.mapped.view.read(offset_bytes, into)
    }

    /// Copies bytes into it, from an offset in the view on.
    ///
    /// # Errors
    /// As [`View::read`]; [`ViewError::ReadOnly`].
    #[track_caller]
    pub fn write(&self, offset_bytes: u64, from: &[u8]) -> Result<(), ViewError> {
        self.is_own_process()?;
        self.mapped.view.write(offset_bytes, from)
    }

    /// The whole words of a view that is to be written too, and begins at a multiple of 8. They stay mapped until they are
    /// given back, also when the process ends meanwhile.
    ///
    /// # Errors
    /// [`ViewError::ReadOnly`], [`ViewError::Unmapped`], [`ViewError::Forked`].
    #[track_caller]
    pub fn words(&self) -> Result<Words<'_>, ViewError> {
        self.is_own_process()?;
        self.mapped.view.0.words()
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.caller.inner.unmap(self.mapped.id);
    }
}

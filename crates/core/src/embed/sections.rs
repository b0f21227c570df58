//! Sections through the manager: each step under the lock, and the platform's part between them without it.

use super::Manager;
use crate::call::CallError;
use crate::image::Time;
use crate::manager::Core;
use crate::named_section::{NamedOpening, SectionName};
use crate::platform::{Platform, ViewId};
use crate::section::Release;
use crate::trace::{How, Trace};
use crate::types::section::Request;
use core::panic::Location;
use kobj_abi::section::{Access, Part};
use kobj_abi::{Koid, RawHandle};
use kobj_memory::{Lock, Locked};

/// A mapped part of a section. It stays, and is one reference to the section, until [`Manager::unmap`] or the end of the
/// process that mapped it.
#[derive(Clone, Debug)]
pub struct Mapped<V> {
    /// How the bytes are got at.
    pub view: V,
    /// By which it is unmapped.
    pub id: ViewId,
}

impl<L: Lock, P: Platform> Manager<L, P> {
    /// What was given to it for its sections.
    #[must_use]
    pub fn platform(&self) -> &P {
        &self.platform
    }

    /// Makes a section without a name, and the first handle to it, with all rights. Its size is charged to the caller's job
    /// with it. NT: `NtCreateSection`; Zircon: `zx_vmo_create`.
    ///
    /// # Errors
    /// [`CallError::EmptySection`], [`CallError::Dying`], [`CallError::Quota`]; [`CallError::NoMemory`] if it is larger than
    /// what there is, before anything is allocated; [`CallError::TooManyFiles`]. Nothing changed then.
    #[inline]
    #[track_caller]
    pub fn create_section(&self, now: Time, process: Koid, request: Request) -> Result<RawHandle, CallError> {
        let place = Location::caller();
        let room = self.platform.take_room(request.size_bytes);
        let opening = self.with(|core| core.begin_section(now, process, request, room))?;
        let koid = opening.koid();
        let made = self.platform.create_memory(koid, request.size_bytes, request.lazy);
        let finished = self.with(|core| {
            let handle = core.finish_section(opening, made)?;
            core.note(process, handle, Trace { place, at: now, how: How::Created });
            Ok(handle)
        });
        if made.is_ok() && finished.is_err() {
            self.platform.destroy_memory(koid);
        }
        finished
    }

    /// Opens the section that has a name, or makes one under it, in one step for all others: says with the handle whether it is
    /// new. Of two who make one at once the second opens the first one's. NT: `NtCreateSection` with `OBJ_OPENIF`; Linux:
    /// `shm_open` with `O_CREAT`.
    ///
    /// # Errors
    /// As of any open-or-create: [`CallError::NameExists`] if it must be new, [`CallError::UnexpectedType`],
    /// [`CallError::TooManyRights`], ...; and as [`Manager::create_section`]. Nothing changed then.
    #[track_caller]
    pub fn open_or_create_section(
        &self,
        now: Time,
        process: Koid,
        name: SectionName<'_>,
        request: Request,
    ) -> Result<(RawHandle, bool), CallError> {
        let place = Location::caller();
        let room = self.platform.take_room(request.size_bytes);
        let begun = self.with(|core| {
            let begun = core.begin_named_section(now, process, name, request, room)?;
            if let NamedOpening::Found(handle) = &begun {
                core.note(process, *handle, Trace { place, at: now, how: How::Opened });
            }
            Ok::<_, CallError>(begun)
        })?;
        let opening = match begun {
            NamedOpening::Found(handle) => return Ok((handle, false)),
            NamedOpening::Making(opening) => opening,
        };
        let koid = opening.koid();
        let made = self.platform.create_memory(koid, request.size_bytes, request.lazy);
        let finished = self.with(|core| {
            let (handle, is_new) = core.finish_named_section(opening, name, request, made)?;
            let how = if is_new { How::Created } else { How::Opened };
            core.note(process, handle, Trace { place, at: now, how });
            Ok((handle, is_new))
        });
        if made.is_ok() && !matches!(finished, Ok((_, true))) {
            self.platform.destroy_memory(koid);
        }
        finished
    }

    /// Maps a part of a section. Needs MAP_READ, and MAP_WRITE to write. NT: `NtMapViewOfSection`; Zircon: `zx_vmar_map`.
    ///
    /// # Errors
    /// [`CallError::BadRange`] for what is past the end, or nothing; [`CallError::Quota`], [`CallError::NoMemory`],
    /// [`CallError::TooManyFiles`]. Nothing changed then.
    #[inline]
    pub fn map(
        &self,
        process: Koid,
        handle: RawHandle,
        part: Part,
        access: Access,
    ) -> Result<Mapped<P::View>, CallError> {
        let mapping = self.with(|core| core.begin_map(process, handle, part, access))?;
        let id = mapping.view();
        let view = self.platform.map(mapping.section(), id, part, access);
        let mapped = view.as_ref().map(drop).map_err(|error| *error);
        let finished = self.with(|core| core.finish_map(mapping, mapped));
        match (view, finished) {
            (Ok(view), Ok(id)) => Ok(Mapped { view, id }),
            (Ok(_), Err(error)) => {
                self.platform.unmap(id);
                Err(error)
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    /// Ends a view: no access to it is let in from now on. One that has ended is not ended again. NT:
    /// `NtUnmapViewOfSection`; Zircon: `zx_vmar_unmap`.
    #[inline]
    pub fn unmap(&self, view: ViewId) {
        self.platform.unmap(view);
        self.with(|core| core.end_view(view));
    }

    /// Gives back to the platform what objects and processes that have ended had of it; unless there was more than the first,
    /// nobody is asked for more. What comes later is taken by whoever brings it about.
    pub(super) fn release(&self, first: Option<Release>, are_there_more: bool) {
        let mut next = first;
        while let Some(release) = next {
            match release {
                Release::Unmap(view) => self.platform.unmap(view),
                Release::Destroy(section) => self.platform.destroy_memory(section),
            }
            next = if are_there_more { self.core.with(Core::next_release) } else { None };
        }
    }
}

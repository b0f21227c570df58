//! Sections under a name: what has the name is opened, or a section is made and named, in one step for everybody else.
//!
//! The platform makes the memory between two steps of the core, as of a section without a name. The first step looks at the
//! name, opens what has it, or begins a section. The second looks again: if the name is free still, the section is named and
//! the handle given out at that moment; if somebody was quicker, that section is opened and this one taken back, or refused
//! if it had to be new. Nobody ever finds a section whose memory is not made.

use crate::call::CallError;
use crate::handles::{Caller, HANDLE};
use crate::image::Time;
use crate::manager::Core;
use crate::names::{InsertError, Named};
use crate::namespace::{checked_name, without_reserved};
use crate::notices::OpenReason;
use crate::platform::PlatformError;
use crate::section::Opening;
use crate::types::State;
use crate::types::section::Request;
use kobj_abi::{AskedRights, Koid, ObjectType, Operation, RawHandle, Rights};
use kobj_memory::{Content, Place, Reference};

/// Under which name a section is opened or made.
#[derive(Clone, Copy, Debug)]
pub struct SectionName<'a> {
    /// The directory.
    pub directory: RawHandle,
    /// The name.
    pub name: &'a [u8],
    /// With which rights.
    pub rights: AskedRights,
    /// Whether a name that is taken is refused.
    pub exclusive: bool,
}

/// What the first step came to.
#[derive(Debug)]
#[must_use = "what is neither finished nor refused stays charged for ever"]
pub enum NamedOpening {
    /// A section has the name: this is a handle to it.
    Found(RawHandle),
    /// None has: the platform is to make the memory of one.
    Making(Opening),
}

/// What stands under a name.
enum Looked {
    Taken { directory: Reference, target: Place, most: Rights },
    Free { directory: Reference, rights: Rights },
}

impl Core {
    /// Opens the section under a name, or begins to make one there. `room` says whether the platform has so much memory.
    ///
    /// # Errors
    /// [`CallError`]; then nothing changed.
    pub fn begin_named_section(
        &mut self,
        now: Time,
        process: Koid,
        name: SectionName<'_>,
        request: Request,
        room: Result<(), PlatformError>,
    ) -> Result<NamedOpening, CallError> {
        let caller = self.caller(process)?;
        self.opening = OpenReason::Opened;
        let begun = match self.look_at_name(&caller, name, request) {
            Ok(Looked::Taken { directory, target, most }) => {
                self.open_section_found(&caller, directory, target, name.rights, most).map(NamedOpening::Found)
            }
            Ok(Looked::Free { .. }) => self.open_section(now, &caller, request, room).map(NamedOpening::Making),
            Err(error) => Err(error),
        };
        self.after_call(&caller, &begun);
        begun
    }

    /// Names a section whose memory was made, and gives out the first handle; or opens what has got the name meanwhile, or
    /// takes back what was begun. Says with the handle whether it is to the new section.
    ///
    /// # Errors
    /// What the platform said, and all that [`Core::begin_named_section`] says. If it is not to the new section and the
    /// platform has made its memory, that is to be destroyed.
    pub fn finish_named_section(
        &mut self,
        opening: Opening,
        name: SectionName<'_>,
        request: Request,
        made: Result<(), PlatformError>,
    ) -> Result<(RawHandle, bool), CallError> {
        let Opening { object, process, table, reserved, charged } = opening;
        self.opening = OpenReason::Opened;
        let looked = made
            .map_err(CallError::from)
            .and_then(|()| self.caller(process))
            .map(|caller| (self.look_at_name(&caller, name, request), caller));
        let named = match &looked {
            Ok((Ok(Looked::Free { directory, rights }), _)) => {
                self.name_section(*directory, name, object, *rights).map(|()| *rights)
            }
            Ok((Ok(Looked::Taken { .. }), _)) => Err(CallError::NameExists { koid: object.koid() }),
            Ok((Err(error), _)) | Err(error) => Err(*error),
        };
        let finished = match named {
            Ok(rights) => {
                let content = Content { object: object.place(), rights, node: None, inheritable: false };
                Ok((table.commit(reserved, content), true))
            }
            Err(error) => {
                table.give_back(reserved);
                self.refund(charged, HANDLE);
                Err(error)
            }
        };
        // The first reference was the opening's own.
        let _last_is_queued = self.slab.release(object.place());
        let Ok((looked, caller)) = looked else {
            self.work();
            return finished;
        };
        let finished = match looked {
            Ok(Looked::Taken { directory, target, most }) => {
                // What was begun is charged until it is buried, and the handle to come may need that room.
                self.work();
                self.open_section_found(&caller, directory, target, name.rights, most).map(|handle| (handle, false))
            }
            _ => finished,
        };
        self.after_call(&caller, &finished);
        finished
    }

    fn look_at_name(&mut self, caller: &Caller, of: SectionName<'_>, request: Request) -> Result<Looked, CallError> {
        let operation = if of.exclusive { Operation::CreateNew } else { Operation::OpenOrCreate };
        let directory = self.naming_in(caller, of.directory, operation)?.object;
        let name = checked_name(of.name)?;
        if request.size_bytes == 0 {
            return Err(CallError::EmptySection {});
        }
        without_reserved(of.rights)?;
        if let Some(Named { target, most, .. }) = self.names.find(directory.place(), name) {
            if of.exclusive {
                return Err(self.not_named(InsertError::NameExists, directory, name, directory));
            }
            return Ok(Looked::Taken { directory, target, most });
        }
        let section = ObjectType::Section;
        let rights = Self::within(directory, section.number(), of.rights, section.default_rights())?;
        self.job_of(caller.process)?;
        self.drop_dead_name(directory.place());
        let may = self.names.check(directory.place(), name, None, false);
        may.map_err(|error| self.not_named(error, directory, name, directory))?;
        Ok(Looked::Free { directory, rights })
    }

    fn open_section_found(
        &mut self,
        caller: &Caller,
        directory: Reference,
        target: Place,
        rights: AskedRights,
        most: Rights,
    ) -> Result<RawHandle, CallError> {
        self.open_found(caller, directory, target, rights, most, Some(ObjectType::Section.number()))
    }

    /// Names a section that nobody has yet, and counts its first handle.
    fn name_section(
        &mut self,
        directory: Reference,
        of: SectionName<'_>,
        object: Reference,
        rights: Rights,
    ) -> Result<(), CallError> {
        let name = checked_name(of.name)?;
        self.give_name(directory, name, object, rights, false)?;
        self.count_handle(object)?;
        if let Some(State::Section(state)) = self.state_mut(object) {
            state.is_made = true;
        }
        Ok(())
    }
}

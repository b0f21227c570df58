//! What Linux gives the manager: memory files for sections.

use kobj_abi::Koid;
use kobj_abi::section::{Access, Part, ViewError};
use kobj_core::platform::{Platform, PlatformError, View, ViewId};
use kobj_platform::section::{self, Room, SectionError, Sections};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Linux as the manager's platform: each section is a sealed memfd, its size compared with what the system and the control
/// groups around this process leave.
#[derive(Debug, Default)]
pub struct Linux {
    sections: Sections,
    room: Room,
}

impl Linux {
    /// How many sections and views there are.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        self.sections.counts()
    }
}

fn error_of(error: SectionError) -> PlatformError {
    match error {
        SectionError::TooMany => PlatformError::TooMany,
        // A section that is not there, or a part that is not within, was refused by the core.
        SectionError::NoMemory | SectionError::Unknown => PlatformError::NoMemory,
    }
}

/// A mapped part of a memory file. Clones are the same view.
#[derive(Clone, Debug)]
pub struct LinuxView(pub(crate) Arc<section::View>);

impl View for LinuxView {
    fn size_bytes(&self) -> u64 {
        self.0.size_bytes()
    }

    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> Result<(), ViewError> {
        self.0.read(offset_bytes, into)
    }

    fn write(&self, offset_bytes: u64, from: &[u8]) -> Result<(), ViewError> {
        self.0.write(offset_bytes, from)
    }
}

impl Platform for Linux {
    type View = LinuxView;

    fn take_room(&self, size_bytes: u64) -> Result<(), PlatformError> {
        self.room.take(size_bytes).map_err(|_| PlatformError::NoMemory)
    }

    fn create_memory(&self, section: Koid, size_bytes: u64, lazy: bool) -> Result<(), PlatformError> {
        self.sections.create(section, size_bytes, lazy).map_err(error_of)
    }

    fn map(&self, section: Koid, view: ViewId, part: Part, access: Access) -> Result<LinuxView, PlatformError> {
        self.sections.map(section, view.serial(), part, access).map(LinuxView).map_err(error_of)
    }

    fn unmap(&self, view: ViewId) {
        self.sections.unmap(view.serial());
    }

    fn destroy_memory(&self, section: Koid) {
        self.sections.destroy(section);
    }

    fn run_hook(&self, hook: &mut dyn FnMut()) {
        // The manager has counted it. What a panic carries may panic in its own drop.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(hook))
            && let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic)))
        {
            std::mem::forget(again);
        }
    }
}

//! Section: memory of a fixed size that many processes can map.

use super::Type;
use crate::error::CreateError;
use kobj_abi::LinkKind;
use kobj_memory::NoMemory;

// What is asked for

/// A new section. Its memory is the platform's; it is reserved before the section is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its size, in bytes; more than 0.
    pub size_bytes: u64,
    /// Whether pages are taken when they are touched, and not when the section is made.
    pub lazy: bool,
}

// What a question is answered with

/// A section, as asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// Its size, in bytes.
    pub size_bytes: u64,
    /// Whether pages are taken when they are touched.
    pub lazy: bool,
    /// Views of it that are open.
    pub views: u32,
}

// What is stored

/// A section, as stored; what stands in its memory is stored apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its size, in bytes.
    pub size_bytes: u64,
    /// Whether pages are taken when they are touched.
    pub lazy: bool,
}

// State

/// A section's state.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) size_bytes: u64,
    pub(crate) lazy: bool,
    /// The platform has made its memory.
    pub(crate) is_made: bool,
    /// Open views: each is one reference.
    pub(crate) views: u32,
}

const _: () = assert!(size_of::<State>() <= 16);

// Procedures

impl Type for State {
    type Request = Request;
    type Detail = Detail;
    type Image = Image;

    const NEEDS_JOB: bool = false;
    const SOURCE_OF: &'static [LinkKind] = &[];
    const TARGET_OF: &'static [LinkKind] =
        &[LinkKind::Contains, LinkKind::Holds, LinkKind::Owns, LinkKind::DerivedFrom];

    fn create(_: Request) -> Result<Self, CreateError> {
        Err(CreateError::NeedsPlatform {})
    }

    fn delete(self) {}

    fn query(&self) -> Result<Detail, NoMemory> {
        Ok(Detail { size_bytes: self.size_bytes, lazy: self.lazy, views: self.views })
    }

    fn image(&self) -> Result<Image, NoMemory> {
        Ok(Image { size_bytes: self.size_bytes, lazy: self.lazy })
    }

    fn charge_bytes(&self) -> u32 {
        0
    }
}

// Operations

impl State {
    /// One whose memory the platform is to make.
    pub(crate) fn begin(request: Request) -> Self {
        Self { size_bytes: request.size_bytes, lazy: request.lazy, is_made: false, views: 0 }
    }
}

// Tests

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_made_with_its_memory_alone() {
        let request = Request { size_bytes: 4096, lazy: true };
        assert_eq!(State::create(request).unwrap_err(), CreateError::NeedsPlatform {});
        let section = State::begin(request);
        assert!(!section.is_made);
        assert_eq!(section.query(), Ok(Detail { size_bytes: 4096, lazy: true, views: 0 }));
        assert_eq!(section.image(), Ok(Image { size_bytes: 4096, lazy: true }));
    }
}

//! Directory: names for objects. What it names stands in the namespace, which knows places and no objects.

use super::Type;
use crate::error::CreateError;
use kobj_abi::{HostKind, LinkKind};
use kobj_memory::NoMemory;

// What is asked for

/// A new directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {}

// What a question is answered with

/// A directory, as asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {}

// What is stored

/// A directory, as stored; its entries are stored with what they name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {}

// State

/// How a directory comes by its names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Provider {
    /// They were given.
    #[default]
    Names,
    /// It lists each type.
    Types,
    /// It lists the living jobs in its own job.
    Jobs,
    /// It lists the host objects of a kind.
    Host(HostKind),
}

/// A directory's state.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) provider: Provider,
    /// It is the manager's first one, and stands in no other.
    pub(crate) is_root: bool,
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

    fn create(request: Request) -> Result<Self, CreateError> {
        let Request {} = request;
        Ok(Self::of(Provider::Names))
    }

    fn delete(self) {}

    fn query(&self) -> Result<Detail, NoMemory> {
        Ok(Detail {})
    }

    fn image(&self) -> Result<Image, NoMemory> {
        Ok(Image {})
    }

    fn charge_bytes(&self) -> u32 {
        0
    }
}

// Operations

impl State {
    /// One that comes so by its names.
    pub(crate) const fn of(provider: Provider) -> Self {
        Self { provider, is_root: false }
    }
}

// Tests

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_without_names() {
        assert_eq!(State::create(Request {}).unwrap().query(), Ok(Detail {}));
    }
}

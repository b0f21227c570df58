//! Symbolic link: a name that leads to another name, looked up when it is opened.

use super::Type;
use crate::error::CreateError;
use alloc::boxed::Box;
use kobj_abi::LinkKind;
use kobj_memory::{Bytes, NoMemory};

// What is asked for

/// A new symbolic link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where it leads: a path, relative to the directory that the link stands in.
    pub target: Box<[u8]>,
}

// What a question is answered with

/// A symbolic link, as asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    /// Where it leads.
    pub target: Box<[u8]>,
}

// What is stored

/// A symbolic link, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Where it leads.
    pub target: Box<[u8]>,
}

// State

/// A symbolic link's state.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) target: Box<[u8]>,
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
        Ok(Self { target: request.target })
    }

    fn delete(self) {}

    fn query(&self) -> Result<Detail, NoMemory> {
        Ok(Detail { target: Bytes::try_from_slice(&self.target)?.into_box() })
    }

    fn image(&self) -> Result<Image, NoMemory> {
        Ok(Image { target: Bytes::try_from_slice(&self.target)?.into_box() })
    }

    fn charge_bytes(&self) -> u32 {
        self.target.len() as u32
    }
}

// Tests

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbolic_link_keeps_its_target_byte_for_byte() {
        let link = State::create(Request { target: (*b"a/\xff").into() }).unwrap();
        assert_eq!(*link.query().unwrap().target, *b"a/\xff");
        assert_eq!(link.charge_bytes(), 3);
    }
}

//! Type: an object type, as an object: what it is called, what lives of it.

use super::Type;
use crate::error::CreateError;
use kobj_abi::{LinkKind, TypeNumber};
use kobj_memory::NoMemory;

// What is asked for

/// The object of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which type.
    pub number: TypeNumber,
}

// What a question is answered with

/// A type, as asked about; its books are the manager's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// Which type.
    pub number: TypeNumber,
}

// What is stored

/// A type, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Which type.
    pub number: TypeNumber,
}

// State

/// A type's state.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) number: TypeNumber,
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
        Ok(Self { number: request.number })
    }

    fn delete(self) {}

    fn query(&self) -> Result<Detail, NoMemory> {
        Ok(Detail { number: self.number })
    }

    fn image(&self) -> Result<Image, NoMemory> {
        Ok(Image { number: self.number })
    }

    fn charge_bytes(&self) -> u32 {
        0
    }
}

// Tests

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_object_says_which_type_it_is() {
        let section = State::create(Request { number: kobj_abi::ObjectType::Section.number() }).unwrap();
        assert_eq!(section.query().unwrap().number, TypeNumber(6));
    }
}

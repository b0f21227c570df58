//! HostObject: an object of the Linux kernel that kobj watches over. The reference type: copy its shape.
//!
//! The kernel's object is outside; what stands here is its image (plain data, see [`crate::image`]) with a tag, a place in
//! the graph and in the books. Destroying it is two steps: it is reserved and an effect goes out; the effect's result
//! commits (the object is destroyed) or undoes (it is as it was).

use super::Type;
use crate::command::Ticket;
use crate::error::CreateError;
use crate::image::{HostImage, Identity};
use alloc::boxed::Box;
use alloc::vec::Vec;
use kobj_abi::{Class, HostKind, LinkKind};
use kobj_memory::{NoMemory, try_box, try_collect};

// What is asked for

/// A kernel object that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// As it was seen.
    pub image: Box<HostImage>,
}

// What a question is answered with

/// A host object, as asked about.
#[derive(Clone, Debug, PartialEq)]
pub struct Detail {
    /// What it is.
    pub kind: HostKind,
    /// What a person calls it.
    pub name: Vec<u8>,
    /// What survives reuse of the name.
    pub identity: Identity,
    /// What it is to its job.
    pub class: Class,
    /// Size in bytes where it has one.
    pub size: Option<u64>,
    /// The scrub that is under way.
    pub scrub: Option<Ticket>,
}

// What is stored

/// A host object, as stored.
pub type Image = Box<HostImage>;

// State

/// A host object's state.
#[derive(Debug)]
pub(crate) struct State {
    image: Box<HostImage>,
    scrub: Option<Ticket>,
}

const _: () = assert!(size_of::<State>() <= 32);

// Procedures

impl Type for State {
    type Request = Request;
    type Detail = Detail;
    type Image = Image;

    const NEEDS_JOB: bool = true;
    const SOURCE_OF: &'static [LinkKind] = &[LinkKind::Backs, LinkKind::Exports, LinkKind::DerivedFrom];
    const TARGET_OF: &'static [LinkKind] = &[
        LinkKind::Contains,
        LinkKind::Holds,
        LinkKind::Owns,
        LinkKind::WaitsOn,
        LinkKind::Backs,
        LinkKind::Exports,
        LinkKind::DerivedFrom,
    ];

    fn create(request: Request) -> Result<Self, CreateError> {
        Ok(Self { image: request.image, scrub: None })
    }

    fn delete(self) {}

    fn query(&self) -> Result<Detail, NoMemory> {
        let image = &*self.image;
        Ok(Detail {
            kind: image.kind,
            name: try_collect(image.name.iter().copied())?,
            identity: image.identity,
            class: image.class,
            size: image.size,
            scrub: self.scrub,
        })
    }

    fn image(&self) -> Result<Image, NoMemory> {
        try_box(self.image.try_clone()?)
    }

    fn charge_bytes(&self) -> u32 {
        let lists = self.image.name.len()
            + self.image.holders.iter().map(|holder| size_of_val(holder) + holder.command.len()).sum::<usize>()
            + self.image.evidence.iter().map(|evidence| size_of_val(evidence) + evidence.detail.len()).sum::<usize>();
        u32::try_from(size_of::<HostImage>() + lists).unwrap_or(u32::MAX)
    }

    fn ticket(&self) -> Option<Ticket> {
        self.scrub
    }

    fn restore(&mut self) {
        self.scrub = None;
    }
}

// Operations

impl State {
    /// What it is.
    pub(crate) fn kind(&self) -> HostKind {
        self.image.kind
    }

    /// Reserves it for the effect that destroys it, which has its image.
    pub(crate) fn reserve(&mut self, ticket: Ticket) {
        self.scrub = Some(ticket);
    }
}

// Tests

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> State {
        let identity = Identity::Ipc { id: 4, key: 0, uid: 0 };
        let image = Box::new(HostImage::new(HostKind::SysvSegment, b"4".to_vec(), identity));
        State::create(Request { image }).unwrap()
    }

    #[test]
    fn a_reservation_shows_and_is_undone() {
        let mut object = segment();
        let image = object.image();
        object.reserve(Ticket(5));
        assert_eq!(image, object.image());
        assert_eq!(object.query().unwrap().scrub, Some(Ticket(5)));
        object.restore();
        assert_eq!((object.ticket(), object.query().unwrap().scrub), (None, None));
    }

    #[test]
    fn the_charge_counts_what_is_out_of_line() {
        let object = segment();
        assert_eq!(object.charge_bytes() as usize, size_of::<HostImage>() + 1);
    }
}

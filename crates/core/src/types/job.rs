//! Job: a tree of processes and of what they made. It contains, is charged, and ends all that it contains.

use super::Type;
use crate::account::AccountId;
use crate::call::BadHandlePolicy;
use crate::error::CreateError;
use crate::ledger::Balance;
use alloc::boxed::Box;
use kobj_abi::LinkKind;
use kobj_memory::{NoMemory, Place, try_box};

// What is asked for

/// A new job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {}

// What a question is answered with

/// A job, as asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    /// Jobs around it.
    pub depth: u8,
    /// Whether it is being killed, or was closed: it takes no new objects.
    pub dying: bool,
    /// What it itself contains and contained; inner jobs keep their own.
    pub balance: Balance,
}

// What is stored

/// A job, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Whether it was being killed.
    pub dying: bool,
}

// State

/// A job's place among those that wait to be killed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Turn {
    pub(crate) waits: bool,
    pub(crate) previous: Option<Place>,
    pub(crate) next: Option<Place>,
}

/// A job's state.
#[derive(Debug)]
pub(crate) struct State {
    /// Jobs around it: 0 for a first one.
    pub(crate) depth: u8,
    /// Takes no new objects, for ever.
    pub(crate) dying: bool,
    /// It ends with its manager and by nothing else.
    pub(crate) is_root: bool,
    /// It was made by a handle and has none any more: it ends when it is empty.
    pub(crate) unattended: bool,
    /// Its place among those that wait to be killed.
    pub(crate) turn: Turn,
    /// What follows when a process in it names a bad handle; none: what the job around it says.
    pub(crate) bad_handle: Option<BadHandlePolicy>,
    /// What is charged for what it contains; jobs of the operating system's processes have none.
    pub(crate) account: Option<AccountId>,
    /// What it contains.
    pub(crate) balance: Box<Balance>,
}

const _: () = assert!(size_of::<State>() <= 32);

/// Jobs around a job, at most: what walks up or down the tree is bounded by it.
pub(crate) const DEPTH_MOST: u8 = 32;

/// What a job is charged besides its slot.
pub(crate) const CHARGE_BYTES: u32 = size_of::<Balance>() as u32;

// Procedures

impl Type for State {
    type Request = Request;
    type Detail = Detail;
    type Image = Image;

    const NEEDS_JOB: bool = false;
    const SOURCE_OF: &'static [LinkKind] = &[LinkKind::Contains];
    const TARGET_OF: &'static [LinkKind] = &[LinkKind::Contains, LinkKind::Holds, LinkKind::WaitsOn];

    fn create(_: Request) -> Result<Self, CreateError> {
        Ok(Self {
            depth: 0,
            dying: false,
            is_root: false,
            unattended: false,
            turn: Turn::default(),
            bad_handle: None,
            account: None,
            balance: try_box(Balance::default()).map_err(|NoMemory| CreateError::NoMemory { job: None })?,
        })
    }

    fn delete(self) {
        debug_assert!(self.balance.live() == 0, "a job ends when it is empty");
    }

    fn query(&self) -> Result<Detail, NoMemory> {
        Ok(Detail { depth: self.depth, dying: self.dying, balance: *self.balance })
    }

    fn image(&self) -> Result<Image, NoMemory> {
        Ok(Image { dying: self.dying })
    }

    fn charge_bytes(&self) -> u32 {
        CHARGE_BYTES
    }
}

// Operations

impl State {
    /// From now on nothing new; idempotent.
    pub(crate) fn die(&mut self) {
        self.dying = true;
    }

    /// Whether it is dying or left alone, and contains nothing any more: the moment of its end.
    pub(crate) fn is_over(&self) -> bool {
        (self.dying || self.unattended) && self.balance.live() == 0
    }
}

// Tests

#[cfg(test)]
mod tests {
    use super::*;
    use kobj_abi::ObjectType;

    #[test]
    fn a_job_is_over_when_it_is_dying_and_empty() {
        let mut job = State::create(Request {}).unwrap();
        assert!(!job.is_over());
        job.balance.create(ObjectType::Process, 1);
        job.die();
        job.die();
        assert!(!job.is_over());
        job.balance.destroy(ObjectType::Process, 1);
        assert!(job.is_over());
    }
}

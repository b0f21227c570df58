//! Process: an operating-system process, a maker and a holder of objects.

use super::Type;
use crate::account::AccountId;
use crate::command::{KillReason, Ticket};
use crate::error::CreateError;
use crate::trace::Notes;
use alloc::boxed::Box;
use core::num::NonZeroU32;
use kobj_abi::LinkKind;
use kobj_memory::{NoMemory, Place, Shared, Table, try_box};

// What is asked for

/// A process that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its process id.
    pub pid: u32,
    /// Its start time in clock ticks since boot, as `/proc/PID/stat` says.
    pub started: u64,
    /// Whether it has ended: it stands here as a maker only, and holds nothing.
    pub ended: bool,
}

// What a question is answered with

/// A process, as asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// Its process id.
    pub pid: u32,
    /// Its start time in clock ticks since boot.
    pub started: u64,
    /// How it is.
    pub life: Life,
}

// What is stored

/// A process, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its process id.
    pub pid: u32,
    /// Its start time in clock ticks since boot.
    pub started: u64,
    /// Whether it had ended.
    pub ended: bool,
}

// State

/// Whether a process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It lives.
    Living,
    /// The effect that ends it is under way.
    Ending(Ticket),
    /// It had ended when it was entered.
    Ended,
}

/// A process's state.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) pid: u32,
    pub(crate) started: u64,
    pub(crate) life: Life,
    /// What makes it a guest: the embedder's process, and not the operating system's.
    pub(crate) guest: Option<Box<Guest>>,
}

const _: () = assert!(size_of::<State>() <= 40);

/// What a guest has besides.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) table: Shared<Table>,
    /// What is charged for its handles.
    pub(crate) account: Option<AccountId>,
    /// The embedder's own process, which no policy ends.
    pub(crate) is_host: bool,
    /// Takes no new handles, for ever.
    pub(crate) dying: bool,
    /// It is being made in pieces, and nobody knows of it yet: of its end nobody is told.
    pub(crate) is_unseen: bool,
    /// Why it ends; without a reason the embedder is not told.
    pub(crate) reason: Option<KillReason>,
    /// The number of the effect by which the embedder is told of its bad handles: in the list, or taken.
    pub(crate) bad_handle: u64,
    /// The next guest that is being ended.
    pub(crate) next: Option<Place>,
    /// The slot of its table that is closed next.
    pub(crate) cursor: u32,
    /// Where it stands in the manager's list of guests.
    pub(crate) seat: usize,
    /// Where its handles were made.
    pub(crate) notes: Notes,
    /// Its views of sections.
    pub(crate) first_view: Option<NonZeroU32>,
}

// Procedures

impl Type for State {
    type Request = Request;
    type Detail = Detail;
    type Image = Image;

    const NEEDS_JOB: bool = false;
    const SOURCE_OF: &'static [LinkKind] =
        &[LinkKind::Holds, LinkKind::Owns, LinkKind::WaitsOn, LinkKind::Exports, LinkKind::DerivedFrom];
    const TARGET_OF: &'static [LinkKind] =
        &[LinkKind::Contains, LinkKind::Holds, LinkKind::Owns, LinkKind::WaitsOn, LinkKind::DerivedFrom];

    fn create(request: Request) -> Result<Self, CreateError> {
        if request.pid == 0 {
            return Err(CreateError::NoSuchPid { pid: request.pid });
        }
        let life = if request.ended { Life::Ended } else { Life::Living };
        Ok(Self { pid: request.pid, started: request.started, life, guest: None })
    }

    fn delete(self) {}

    fn query(&self) -> Result<Detail, NoMemory> {
        Ok(Detail { pid: self.pid, started: self.started, life: self.life })
    }

    fn image(&self) -> Result<Image, NoMemory> {
        Ok(Image { pid: self.pid, started: self.started, ended: self.life == Life::Ended })
    }

    fn charge_bytes(&self) -> u32 {
        0
    }

    fn ticket(&self) -> Option<Ticket> {
        match self.life {
            Life::Ending(ticket) => Some(ticket),
            Life::Living | Life::Ended => None,
        }
    }

    fn restore(&mut self) {
        if self.ticket().is_some() {
            self.life = Life::Living;
        }
    }
}

// Operations

impl State {
    /// A guest with that table.
    pub(crate) fn guest(table: Shared<Table>) -> Result<Self, NoMemory> {
        let guest = try_box(Guest {
            table,
            account: None,
            is_host: false,
            dying: false,
            is_unseen: false,
            reason: None,
            bad_handle: 0,
            next: None,
            cursor: 0,
            seat: 0,
            notes: Notes::default(),
            first_view: None,
        })?;
        Ok(Self { pid: 0, started: 0, life: Life::Living, guest: Some(guest) })
    }

    /// Whether it can hold things, and is a root of what it keeps.
    pub(crate) fn is_living(&self) -> bool {
        self.life != Life::Ended
    }

    /// Reserves it for the effect that ends it.
    pub(crate) fn reserve(&mut self, ticket: Ticket) {
        if self.life == Life::Living {
            self.life = Life::Ending(ticket);
        }
    }
}

// Tests

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_process_is_never_reserved_and_pid_0_is_nobody() {
        let mut ended = State::create(Request { pid: 7, started: 1, ended: true }).unwrap();
        ended.reserve(Ticket(1));
        assert_eq!((ended.ticket(), ended.is_living()), (None, false));
        ended.restore();
        assert!(!ended.is_living());
        let error = State::create(Request { pid: 0, started: 1, ended: false }).err();
        assert_eq!(error, Some(CreateError::NoSuchPid { pid: 0 }));
    }

    #[test]
    fn what_is_left_lives_as_before() {
        let mut process = State::create(Request { pid: 7, started: 1, ended: false }).unwrap();
        process.reserve(Ticket(3));
        assert_eq!((process.ticket(), process.is_living()), (Some(Ticket(3)), true));
        process.restore();
        assert_eq!(process.life, Life::Living);
    }
}

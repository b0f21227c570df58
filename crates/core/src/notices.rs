//! Open and close notices: what a user's type is told of each handle, by reason and with counts.
//!
//! A type that asks for it ([`crate::ObjectType::HAS_OPEN_HOOKS`]) hears of every handle that comes and goes, in that order,
//! outside every lock. Room for the notice of a handle's end is taken when the handle is made, so closing, revoking and
//! killing allocate nothing. NT: the open and close procedures of an object type.

use crate::call::{Call, CallError};
use crate::listing::Group;
use crate::manager::Core;
use kobj_abi::{Koid, TypeNumber};
use kobj_memory::{Content, Reference};

/// Why there is one handle more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OpenReason {
    /// It came with the object.
    Created,
    /// By a name.
    Opened,
    /// From another handle: an equal, or one that can be taken back.
    #[default]
    Duplicated,
    /// In the place of another one, of the same process or another.
    Moved,
    /// With a new process.
    Inherited,
    /// By the embedder.
    Granted,
}

/// Why there is one handle less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CloseReason {
    /// It was closed.
    #[default]
    Closed,
    /// Another one took its place.
    Moved,
    /// It was taken back.
    Revoked,
    /// Its process has ended.
    Ended,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// One handle more.
    Opened(OpenReason),
    /// One handle less.
    Closed(CloseReason),
}

/// What a type is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What happened.
    pub change: Change,
    /// In whose table.
    pub process: Koid,
    /// Handles to the object that the process has since.
    pub process_handles: u32,
    /// Handles to the object that all processes have since.
    pub handles: u32,
    pub(crate) object: Reference,
    number: TypeNumber,
}

impl Notice {
    pub(crate) fn number(&self) -> TypeNumber {
        self.number
    }

    /// Which object.
    #[must_use]
    pub fn koid(&self) -> Koid {
        self.object.koid()
    }
}

impl OpenReason {
    /// Why a call makes a handle.
    pub(crate) const fn of(call: &Call<'_>) -> Self {
        match call {
            Call::Open { .. } | Call::OpenOrCreate { .. } => Self::Opened,
            Call::Replace { .. } | Call::Transfer { .. } => Self::Moved,
            Call::CreateGuest { .. } => Self::Inherited,
            _ => Self::Duplicated,
        }
    }
}

impl Core {
    #[inline]
    pub(crate) fn is_noticed(&self, object: Reference) -> bool {
        self.has_open_hooks(self.type_number(object))
    }

    /// Takes the room for what is said of a handle to come, now and at its end.
    #[inline]
    pub(crate) fn reserve_notice(&mut self, is_noticed: bool) -> Result<(), CallError> {
        if !is_noticed {
            return Ok(());
        }
        self.told.reserve().map_err(|_| CallError::NoMemory {})?;
        let room = self.noticed_handles.saturating_add(2);
        self.notices.try_reserve(room).map_err(|_| CallError::NoMemory {})
    }

    /// The same for a handle to an object that is there.
    #[inline]
    pub(crate) fn reserve_notice_of(&mut self, object: Reference) -> Result<(), CallError> {
        let is_noticed = self.is_noticed(object);
        self.reserve_notice(is_noticed)
    }

    /// One handle more.
    pub(crate) fn notice_opened(&mut self, process: Reference, object: Reference, reason: OpenReason) {
        if self.is_noticed(object) {
            self.noticed_handles += 1;
            // Counted, and not looked for in the table: that would take as long as the table is.
            let process_handles = self.told.count_in(Group::Told(process.koid()), object.koid());
            self.notice(process.koid(), process_handles, object, Change::Opened(reason));
        }
    }

    /// One handle less, of an object that is still referenced.
    pub(crate) fn notice_closed(&mut self, process: Koid, object: Reference, reason: CloseReason) {
        if self.is_noticed(object) {
            self.noticed_handles = self.noticed_handles.saturating_sub(1);
            let process_handles = self.told.count_off(Group::Told(process), object.koid());
            self.notice(process, process_handles, object, Change::Closed(reason));
        }
    }

    /// Why a handle was closed that the last look at it hands over: whoever closed it has gone on.
    pub(crate) fn reason_of_late(&mut self, process: Koid, object: Reference, content: Content) -> CloseReason {
        if self.moved == Some((process, object, content)) {
            self.moved = None;
            return CloseReason::Moved;
        }
        if content.node.is_some_and(|node| self.nodes.is_revoked(node)) {
            return CloseReason::Revoked;
        }
        let guest = self.find(process).ok().and_then(|process| self.guest(process));
        if guest.is_none_or(|guest| guest.dying) { CloseReason::Ended } else { CloseReason::Closed }
    }

    fn notice(&mut self, process: Koid, process_handles: u32, object: Reference, change: Change) {
        // The object stays until it was told; one with as many references as can be counted is not told of more.
        if self.slab.acquire(object).is_err() {
            return;
        }
        let handles = self.handles_to(object);
        let number = self.type_number(object);
        // Its room was taken when the handle was made.
        let notices = &mut self.notices;
        notices.push_back(Notice { change, process, process_handles, handles, object, number });
    }

    /// The references by which notices keep an object.
    pub(crate) fn notices_of(&self, object: Reference) -> u32 {
        let count = self.notices.iter().filter(|notice| notice.object == object).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    pub(crate) fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    /// The next thing that a type is to be told; [`Core::told`] follows.
    pub(crate) fn next_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// A notice is in good hands: whoever tells it holds the object.
    pub(crate) fn told(&mut self, notice: &Notice) {
        let _last_is_queued = self.slab.release(notice.object.place());
    }
}

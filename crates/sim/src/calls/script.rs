//! Scripts of calls: each step says who asks for what, naming handles by the steps that gave them.
//!
//! So a script means the same in every manager, whatever values its handles have there, and still means something when
//! steps were left out. What `Debug` prints of a step is Rust that makes it.

use kobj_abi::{AskedRights, RawHandle, Rights, TypeNumber};
use kobj_core::{BadHandlePolicy, Call, Resource, What};
use std::fmt;

/// One call of a script.
#[derive(Clone, PartialEq, Eq)]
pub struct Step {
    /// By which later steps name what this one gave; 0 gave the first guest's handle to the first job.
    pub id: u32,
    /// The step that made the calling guest; 0 for the first one.
    pub who: u32,
    /// The call.
    pub ask: Ask,
    /// How many allocations it is given before one is refused, if it would be done with memory; none: all.
    pub given: Option<u32>,
}

/// A step, as scripts write it.
#[must_use]
pub fn step(id: u32, who: u32, ask: Ask) -> Step {
    Step { id, who, ask, given: None }
}

/// The step with so few allocations.
#[must_use]
pub fn short(given: u32, step: Step) -> Step {
    Step { given: Some(given), ..step }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, who, ask, given } = self;
        match given {
            Some(given) => write!(f, "short({given}, step({id}, {who}, {ask:?}))"),
            None => write!(f, "step({id}, {who}, {ask:?})"),
        }
    }
}

/// A handle in a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ref {
    /// What that step gave, in whichever table that is, and whether or not it lives still.
    Of(u32),
    /// The handle at this place, from 0, among those that the guest made by that step inherited.
    Inherited(u32, u32),
    /// The first guest's handle to the first directory.
    Top,
    /// The first guest's handle to a process of the operating system.
    Outsider,
    /// The first guest's handle to its own process.
    Myself,
    /// What that step gave, with some bits flipped.
    Near(u32, u64),
    /// A number from nowhere.
    MadeUp(u64),
}

/// Rights in a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// All that there are to give.
    Same,
    /// These bits.
    Bits(u32),
}

impl From<Asked> for AskedRights {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Same => Self::Same,
            Asked::Bits(bits) => Self::Exactly(Rights::from_bits(bits)),
        }
    }
}

/// Bytes of a name or a path.
#[derive(Clone, PartialEq, Eq)]
pub struct Text(pub Vec<u8>);

/// These bytes.
#[must_use]
pub fn text(bytes: &[u8]) -> Text {
    Text(bytes.to_vec())
}

/// These bytes, so many times.
#[must_use]
pub fn repeat(bytes: &[u8], times: usize) -> Text {
    Text(bytes.repeat(times))
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for period in 1..=2 {
            if self.0.len() > 20
                && self.0.len().is_multiple_of(period)
                && self.0[period..] == self.0[..self.0.len() - period]
            {
                return write!(f, "repeat(b\"{}\", {})", self.0[..period].escape_ascii(), self.0.len() / period);
            }
        }
        write!(f, "text(b\"{}\")", self.0.escape_ascii())
    }
}

/// What to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Make {
    /// A directory.
    Directory,
    /// A symbolic link that leads there.
    SymbolicLink(Text),
}

impl Make {
    fn what(&self) -> What<'_> {
        match self {
            Self::Directory => What::Directory,
            Self::SymbolicLink(target) => What::SymbolicLink { target: &target.0 },
        }
    }
}

/// What follows a bad handle: see [`BadHandlePolicy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Nothing more than the refusal.
    Nothing,
    /// The embedder is told.
    Told,
    /// The process is ended.
    Ended,
}

/// Where a listing goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// With the first entry.
    First,
    /// After the entry that this step gave.
    After(u32),
    /// A number from nowhere.
    Number(u64),
}

/// A call of a script: a [`Call`] with its arguments in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// See [`Call::Close`].
    Close(Ref),
    /// See [`Call::Duplicate`].
    Duplicate(Ref, Asked),
    /// See [`Call::Replace`].
    Replace(Ref, Asked),
    /// See [`Call::Derive`].
    Derive(Ref, Asked),
    /// See [`Call::Revoke`].
    Revoke(Ref),
    /// See [`Call::Transfer`].
    Transfer(Ref, Ref, Asked),
    /// See [`Call::HandleInfo`].
    HandleInfo(Ref),
    /// See [`Call::SetInheritable`].
    SetInheritable(Ref, bool),
    /// See [`Call::Create`].
    Create(Make),
    /// See [`Call::CreateJob`].
    CreateJob(Ref),
    /// See [`Call::CreateGuest`].
    CreateGuest(Ref, bool),
    /// See [`Call::SetQuota`].
    SetQuota(Ref, Resource, u64),
    /// See [`Call::SetBadHandlePolicy`].
    SetBadHandlePolicy(Ref, Policy),
    /// See [`Call::Recharge`].
    Recharge(Ref, Ref, Ref),
    /// See [`Call::Kill`].
    Kill(Ref),
    /// See [`Call::Link`].
    Link(Ref, Text, Ref, Asked, bool),
    /// See [`Call::Unlink`].
    Unlink(Ref, Text),
    /// See [`Call::Rename`].
    Rename(Ref, Text, Text),
    /// See [`Call::Open`].
    Open(Ref, Text, Asked, Option<u16>, bool),
    /// See [`Call::OpenOrCreate`].
    OpenOrCreate(Ref, Text, Make, Asked, bool),
    /// See [`Call::Enumerate`].
    Enumerate(Ref, Cursor),
    /// See [`Call::SetPermanent`].
    SetPermanent(Ref, bool),
    /// See [`Call::Why`].
    Why(Ref),
    /// See [`Call::Holders`].
    Holders(Ref),
    /// See [`Call::KeptBy`].
    KeptBy(Ref),
    /// See [`Call::DerivedFrom`].
    DerivedFrom(Ref),
    /// See [`Call::ReadLink`].
    ReadLink(Ref),
}

impl Ask {
    /// The handles that it names.
    fn refs(&mut self) -> Vec<&mut Ref> {
        match self {
            Self::Create(_) => Vec::new(),
            Self::Transfer(handle, other, _) | Self::Link(handle, _, other, _, _) => vec![handle, other],
            Self::Recharge(handle, from, to) => vec![handle, from, to],
            Self::Close(handle)
            | Self::SetQuota(handle, _, _)
            | Self::SetBadHandlePolicy(handle, _)
            | Self::Duplicate(handle, _)
            | Self::Replace(handle, _)
            | Self::Derive(handle, _)
            | Self::Revoke(handle)
            | Self::HandleInfo(handle)
            | Self::SetInheritable(handle, _)
            | Self::CreateJob(handle)
            | Self::CreateGuest(handle, _)
            | Self::Kill(handle)
            | Self::Unlink(handle, _)
            | Self::Rename(handle, _, _)
            | Self::Open(handle, _, _, _, _)
            | Self::OpenOrCreate(handle, _, _, _, _)
            | Self::Enumerate(handle, _)
            | Self::SetPermanent(handle, _)
            | Self::Why(handle)
            | Self::Holders(handle)
            | Self::KeptBy(handle)
            | Self::DerivedFrom(handle)
            | Self::ReadLink(handle) => vec![handle],
        }
    }

    /// The handle that it copies or moves, if it does.
    pub(super) fn copied(&self) -> Option<Ref> {
        match self {
            Self::Duplicate(from, _) | Self::Replace(from, _) | Self::Derive(from, _) | Self::Transfer(from, _, _) => {
                Some(*from)
            }
            _ => None,
        }
    }

    /// Names another handle where it named what that step gave.
    pub(super) fn rename(&mut self, step: u32, to: Ref) {
        self.refs().into_iter().filter(|of| **of == Ref::Of(step)).for_each(|of| *of = to);
    }

    /// The call, with the values that handles and cursors have in one manager.
    #[must_use]
    pub fn call(&self, value: impl Fn(Ref) -> RawHandle, cursor: impl Fn(Cursor) -> u64) -> Call<'_> {
        match self {
            Self::Close(handle) => Call::Close { handle: value(*handle) },
            Self::Duplicate(handle, rights) => Call::Duplicate { handle: value(*handle), rights: (*rights).into() },
            Self::Replace(handle, rights) => Call::Replace { handle: value(*handle), rights: (*rights).into() },
            Self::Derive(handle, rights) => Call::Derive { handle: value(*handle), rights: (*rights).into() },
            Self::Revoke(handle) => Call::Revoke { handle: value(*handle) },
            Self::Transfer(handle, process, rights) => {
                Call::Transfer { handle: value(*handle), process: value(*process), rights: (*rights).into() }
            }
            Self::HandleInfo(handle) => Call::HandleInfo { handle: value(*handle) },
            Self::SetInheritable(handle, inheritable) => {
                Call::SetInheritable { handle: value(*handle), inheritable: *inheritable }
            }
            Self::Create(make) => Call::Create { what: make.what() },
            Self::CreateJob(job) => Call::CreateJob { job: value(*job) },
            Self::CreateGuest(job, inherit) => Call::CreateGuest { job: value(*job), inherit: *inherit },
            Self::SetQuota(handle, resource, limit) => {
                Call::SetQuota { handle: value(*handle), resource: *resource, limit: *limit }
            }
            Self::SetBadHandlePolicy(job, policy) => Call::SetBadHandlePolicy {
                job: value(*job),
                policy: match policy {
                    Policy::Nothing => BadHandlePolicy::Error,
                    Policy::Told => BadHandlePolicy::Trace,
                    Policy::Ended => BadHandlePolicy::Kill,
                },
            },
            Self::Recharge(handle, from, to) => {
                Call::Recharge { handle: value(*handle), from: value(*from), to: value(*to) }
            }
            Self::Kill(handle) => Call::Kill { handle: value(*handle) },
            Self::Link(directory, name, handle, most, permanent) => Call::Link {
                directory: value(*directory),
                name: &name.0,
                handle: value(*handle),
                most: (*most).into(),
                permanent: *permanent,
            },
            Self::Unlink(directory, name) => Call::Unlink { directory: value(*directory), name: &name.0 },
            Self::Rename(directory, from, to) => {
                Call::Rename { directory: value(*directory), from: &from.0, to: &to.0 }
            }
            Self::Open(directory, path, rights, expected, follow) => Call::Open {
                directory: value(*directory),
                path: &path.0,
                rights: (*rights).into(),
                expected: expected.map(TypeNumber),
                follow: *follow,
            },
            Self::OpenOrCreate(directory, name, make, rights, exclusive) => Call::OpenOrCreate {
                directory: value(*directory),
                name: &name.0,
                what: make.what(),
                rights: (*rights).into(),
                exclusive: *exclusive,
            },
            Self::Enumerate(directory, at) => Call::Enumerate { directory: value(*directory), cursor: cursor(*at) },
            Self::SetPermanent(handle, permanent) => {
                Call::SetPermanent { handle: value(*handle), permanent: *permanent }
            }
            Self::Why(handle) => Call::Why { handle: value(*handle) },
            Self::Holders(handle) => Call::Holders { handle: value(*handle) },
            Self::KeptBy(handle) => Call::KeptBy { handle: value(*handle) },
            Self::DerivedFrom(handle) => Call::DerivedFrom { handle: value(*handle) },
            Self::ReadLink(handle) => Call::ReadLink { handle: value(*handle) },
        }
    }
}

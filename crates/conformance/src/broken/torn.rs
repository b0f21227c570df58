//! Implementations whose steps come apart: both of two threads win, or one's work is lost.

use super::faults;
use crate::calls;
use crate::subject::Start;
use crate::threads::Threads;
use alloc::string::String;
use kobj_abi::{Koid, RawHandle};
use kobj_core::{Call, CallAnswer, CallError, Resource};

faults! {
    /// A mistake that only two threads bring about, or that looks like one.
    Tear:
    /// Both close.
    BothClose "races::closing_twice",
    /// Both replace: the second one gets another object's handle.
    BothReplace "races::replacing_twice",
    /// It arrives at both.
    BothReceive "races::transferring_to_two",
    /// Both say that they made it.
    BothMake "races::creating_or_opening_twice",
    /// Both make it new.
    BothMakeNew "races::creating_new_twice",
    /// Both get the name.
    BothGetTheName "races::linking_two_under_one_name",
    /// It gets both names.
    BothNames "races::linking_one_under_two_names",
    /// Each contains the other.
    EachContainsTheOther "races::linking_in_a_circle",
    /// Both are renamed.
    BothAreRenamed "races::renaming_two_to_one",
    /// Both take the name away.
    BothUnlink "races::unlinking_twice",
    /// The name stays after the last close.
    NameStays "races::opening_against_the_last_close",
    /// A revoke comes too early for what is derived meanwhile.
    RevokeMissesTheDerived "races::revoking_against_deriving",
    /// Or for an equal that is made meanwhile.
    RevokeMissesTheEqual "races::revoking_against_duplicating",
    /// Or for what moves meanwhile.
    RevokeMissesTheMoved "races::revoking_against_transferring",
    /// What the dying makes stays.
    DyingStillMakes "races::killing_against_creating",
    /// The embedder is told by both.
    BothTell "races::killing_twice",
    /// Both fit where there is room for one.
    BothFit "races::creating_at_the_limit",
    /// The name stays permanent.
    PermanenceStays "races::permanence_against_closing",
    /// The rights come back.
    RightsComeBack "races::replacing_against_duplicating",
}

/// A subject with one such mistake.
pub struct Torn<T> {
    inner: T,
    tear: Tear,
    first: Koid,
}

impl<T: Threads> Threads for Torn<T> {
    type Options = (Tear, T::Options);

    fn start((tear, options): Self::Options) -> Result<(Self, Start), CallError> {
        let (inner, start) = T::start(options)?;
        Ok((Self { inner, tear, first: start.process }, start))
    }

    fn call(&self, process: Koid, call: Call<'_>) -> Result<CallAnswer, CallError> {
        let result = self.torn(process, call);
        match (self.tear, call, result) {
            (Tear::BothClose, Call::Close { .. }, Err(CallError::BadHandle { .. }))
            | (Tear::BothGetTheName, Call::Link { .. }, Err(CallError::NameExists { .. }))
            | (Tear::BothNames, Call::Link { .. }, Err(CallError::AlreadyNamed { .. }))
            | (Tear::EachContainsTheOther, Call::Link { .. }, Err(CallError::Cycle { .. }))
            | (Tear::BothAreRenamed, Call::Rename { .. }, Err(CallError::NameExists { .. }))
            | (Tear::BothUnlink, Call::Unlink { .. }, Err(CallError::NotFound { .. })) => Ok(CallAnswer::Done),
            (Tear::BothReplace, Call::Replace { .. }, Err(CallError::BadHandle { .. })) => {
                self.inner.call(process, calls::DIRECTORY)
            }
            (
                Tear::DyingStillMakes,
                Call::Create { .. },
                Err(CallError::Dying { .. } | CallError::NoProcess { .. }),
            ) => self.inner.call(self.first, call),
            (Tear::BothMake, _, Ok(CallAnswer::Opened { handle, .. })) => {
                Ok(CallAnswer::Opened { handle, created: true })
            }
            (_, _, result) => result,
        }
    }

    fn settle(&self) {
        self.inner.settle();
    }

    fn live(&self) -> u64 {
        self.inner.live()
    }

    fn handles(&self, process: Koid) -> u64 {
        self.inner.handles(process)
    }

    fn limit(&self, owner: Koid, resource: Resource, limit: u64) {
        let more = u64::from(self.tear == Tear::BothFit);
        self.inner.limit(owner, resource, limit + more);
    }

    fn killed(&self) -> usize {
        let told = self.inner.killed();
        if self.tear == Tear::BothTell { told * 2 } else { told }
    }

    fn both<R: Send>(&self, one: impl FnOnce() -> R + Send, two: impl FnOnce() -> R + Send) -> (R, R) {
        self.inner.both(one, two)
    }

    fn end(self) -> Result<(), String> {
        self.inner.end()
    }
}

impl<T: Threads> Torn<T> {
    /// What is done instead.
    fn torn(&self, process: Koid, call: Call<'_>) -> Result<CallAnswer, CallError> {
        let mut call = call;
        match (self.tear, &mut call) {
            (Tear::BothReceive, Call::Transfer { handle, .. }) => {
                let copy = self.inner.call(process, calls::duplicate(*handle, calls::SAME))?;
                if let CallAnswer::Handle(copy) = copy {
                    *handle = copy;
                }
            }
            (Tear::BothMakeNew, Call::OpenOrCreate { exclusive, .. }) => *exclusive = false,
            (Tear::NameStays, Call::Link { permanent, .. }) => *permanent = true,
            (Tear::PermanenceStays, Call::SetPermanent { permanent, .. }) => *permanent = true,
            (Tear::RightsComeBack, Call::Replace { rights, .. }) => *rights = calls::SAME,
            // What is derived below the root is none of what a revoke finds.
            (Tear::RevokeMissesTheDerived, Call::Derive { handle, .. }) if !self.is_root(process, *handle) => {
                return self.inner.call(process, calls::DIRECTORY);
            }
            (Tear::RevokeMissesTheEqual | Tear::RevokeMissesTheMoved, Call::Revoke { .. }) => {
                return Ok(CallAnswer::Done);
            }
            _ => {}
        }
        self.inner.call(process, call)
    }

    fn is_root(&self, process: Koid, handle: RawHandle) -> bool {
        matches!(self.inner.call(process, calls::info(handle)), Ok(CallAnswer::Info(info)) if !info.derived)
    }
}

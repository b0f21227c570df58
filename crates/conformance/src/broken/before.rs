//! Mistakes in what is done: another call is made than was asked for.

use super::{Broken, Derived, Fault};
use crate::calls;
use crate::subject::Subject;
use alloc::vec::Vec;
use kobj_abi::{AskedRights, Koid, RawHandle, Rights, TypeNumber};
use kobj_core::{Call, CallAnswer, CallError};

type Result = core::result::Result<CallAnswer, CallError>;

impl<S: Subject> Broken<S> {
    /// Does the call, or what the fault makes of it.
    pub(super) fn before(&mut self, process: Koid, call: Call<'_>) -> Result {
        match (self.fault, call) {
            (Fault::IgnoresReservedBits, call) => self.inner.call(process, without_reserved(call)),
            (Fault::FoldsCase, call) => self.renamed(process, call, |name| name.to_ascii_lowercase()),
            (Fault::CutsLongNames, call) => {
                self.renamed(process, call, |name| name.iter().take(255).copied().collect())
            }
            (Fault::NameEndsAtNul, call) => {
                self.renamed(process, call, |name| name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec())
            }
            (Fault::IgnoresEmptyNames, Call::Open { directory, path, rights, expected, follow }) => {
                let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
                let path = names.join(&b'/');
                self.inner.call(process, Call::Open { directory, path: &path, rights, expected, follow })
            }
            (Fault::TransferKeeps, Call::Transfer { handle, process: to, rights }) => {
                let copy = self.inner.call(process, calls::duplicate(handle, calls::SAME))?;
                let CallAnswer::Handle(copy) = copy else { return Ok(copy) };
                self.inner.call(process, calls::transfer(copy, to, rights))
            }
            (Fault::RechargeForgets, Call::Recharge { .. })
            | (Fault::PolicyIsForgotten, Call::SetBadHandlePolicy { .. }) => Ok(CallAnswer::Done),
            (Fault::RenameMovesToEnd, Call::Rename { directory, from, to }) => {
                self.renamed_by_linking(process, directory, from, to)
            }
            (Fault::RevokeMissesGrandchildren | Fault::RevokeMissesOtherTables, call) => self.revoking(process, call),
            (Fault::UnlinkedNameStaysTaken, call) => self.taking(process, call),
            (_, call) => {
                let call = self.changed(call);
                self.inner.call(process, call)
            }
        }
    }

    /// The call with one argument changed.
    fn changed<'a>(&self, call: Call<'a>) -> Call<'a> {
        let mut call = call;
        match (self.fault, &mut call) {
            (Fault::GrantsMoreThanAsked, Call::Duplicate { rights, .. })
            | (Fault::TransferGrantsAll, Call::Transfer { rights, .. })
            | (Fault::NameGrantsAll, Call::Link { most: rights, .. }) => *rights = AskedRights::Same,
            (Fault::InheritsUnasked, Call::CreateGuest { inherit, .. }) => *inherit = true,
            (Fault::InheritableStays, Call::SetInheritable { inheritable, .. }) => *inheritable = true,
            (Fault::NameSurvives, Call::Link { permanent, .. }) => *permanent = true,
            (Fault::ForgetsPermanence, Call::Link { permanent, .. } | Call::SetPermanent { permanent, .. }) => {
                *permanent = false;
            }
            (Fault::ExclusiveOpens, Call::OpenOrCreate { exclusive, .. }) => *exclusive = false,
            (Fault::IgnoresTheType, Call::Open { expected, .. }) => *expected = None,
            (Fault::UnknownTypeMatches, Call::Open { expected, .. }) => {
                *expected = expected.filter(|number: &TypeNumber| number.built_in().is_some());
            }
            (Fault::FollowsAlways, Call::Open { follow, .. }) => *follow = true,
            (Fault::DeriveIsDuplicate, Call::Derive { handle, rights }) => call = calls::duplicate(*handle, *rights),
            (Fault::ReplaceKeepsTheOld, Call::Replace { handle, rights }) => call = calls::duplicate(*handle, *rights),
            _ => {}
        }
        call
    }

    /// The call with its names changed.
    fn renamed(&mut self, process: Koid, call: Call<'_>, f: impl Fn(&[u8]) -> Vec<u8>) -> Result {
        match call {
            Call::Link { directory, name, handle, most, permanent } => {
                self.inner.call(process, Call::Link { directory, name: &f(name), handle, most, permanent })
            }
            Call::Unlink { directory, name } => self.inner.call(process, Call::Unlink { directory, name: &f(name) }),
            Call::Rename { directory, from, to } => {
                self.inner.call(process, Call::Rename { directory, from: &f(from), to: &f(to) })
            }
            Call::OpenOrCreate { directory, name, what, rights, exclusive } => {
                self.inner.call(process, Call::OpenOrCreate { directory, name: &f(name), what, rights, exclusive })
            }
            Call::Open { directory, path, rights, expected, follow } => {
                self.inner.call(process, Call::Open { directory, path: &f(path), rights, expected, follow })
            }
            call => self.inner.call(process, call),
        }
    }

    /// A new name by unlinking and linking again.
    fn renamed_by_linking(&mut self, process: Koid, directory: RawHandle, from: &[u8], to: &[u8]) -> Result {
        let rename = Call::Rename { directory, from, to };
        if from == to || self.inner.call(process, calls::open_link(directory, to)).is_ok() {
            return self.inner.call(process, rename);
        }
        let Ok(CallAnswer::Handle(held)) = self.inner.call(process, calls::open_link(directory, from)) else {
            return self.inner.call(process, rename);
        };
        self.inner.call(process, calls::unlink(directory, from))?;
        let linked = self.inner.call(process, calls::link(directory, to, held));
        self.inner.call(process, calls::close(held))?;
        linked
    }

    /// Notes what is derived and where it goes; what a revoke took is given again.
    fn revoking(&mut self, process: Koid, call: Call<'_>) -> Result {
        let from = match call {
            Call::Derive { handle, .. } | Call::Transfer { handle, .. } => self.info(process, handle),
            _ => None,
        };
        let answer = self.inner.call(process, call)?;
        match (call, &answer, from) {
            (Call::Derive { .. }, CallAnswer::Handle(handle), Some(from)) => {
                let rights = from.rights;
                self.derived.push(Derived { process, handle: *handle, rights, deep: from.derived, moved_by: None });
            }
            (Call::Transfer { handle, process: to, .. }, CallAnswer::Handle(there), Some(from)) if from.derived => {
                if let Some(receiver) = self.koid(process, to) {
                    self.derived.retain(|derived| (derived.process, derived.handle) != (process, handle));
                    let rights = from.rights;
                    let moved_by = Some(to);
                    self.derived.push(Derived { process: receiver, handle: *there, rights, deep: true, moved_by });
                }
            }
            (Call::Revoke { handle }, _, _) => self.undo_revoke(process, handle),
            _ => {}
        }
        Ok(answer)
    }

    fn undo_revoke(&mut self, process: Koid, root: RawHandle) {
        for derived in core::mem::take(&mut self.derived) {
            let moved = self.fault == Fault::RevokeMissesOtherTables;
            if !derived.deep
                || derived.moved_by.is_some() != moved
                || self.koid(derived.process, derived.handle).is_some()
            {
                continue;
            }
            let copy = self.inner.call(process, calls::duplicate(root, calls::only(derived.rights)));
            let Ok(CallAnswer::Handle(copy)) = copy else { continue };
            let real = match derived.moved_by {
                Some(to) => self.inner.call(process, calls::transfer(copy, to, calls::SAME)),
                None => Ok(CallAnswer::Handle(copy)),
            };
            if let Ok(CallAnswer::Handle(real)) = real {
                self.aliases.push((derived.process, derived.handle, real));
            }
        }
    }

    /// A name that was taken away is refused as one that is there.
    fn taking(&mut self, process: Koid, call: Call<'_>) -> Result {
        match call {
            Call::Unlink { directory, name } => {
                let of = self.koid(process, directory);
                let answer = self.inner.call(process, call)?;
                self.taken.extend(of.map(|of| (of, name.to_vec())));
                Ok(answer)
            }
            Call::Link { directory, name, .. } => match self.koid(process, directory) {
                Some(koid) if self.taken.iter().any(|(of, taken)| *of == koid && taken == name) => {
                    Err(CallError::NameExists { koid })
                }
                _ => self.inner.call(process, call),
            },
            call => self.inner.call(process, call),
        }
    }
}

/// The call without the bits that mean nothing.
fn without_reserved(call: Call<'_>) -> Call<'_> {
    let mut call = call;
    match &mut call {
        Call::Duplicate { rights, .. }
        | Call::Replace { rights, .. }
        | Call::Derive { rights, .. }
        | Call::Transfer { rights, .. }
        | Call::Link { most: rights, .. }
        | Call::Open { rights, .. }
        | Call::OpenOrCreate { rights, .. } => {
            if let AskedRights::Exactly(asked) = rights {
                *asked = asked.without(Rights::RESERVED);
            }
        }
        _ => {}
    }
    call
}

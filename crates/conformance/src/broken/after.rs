//! Mistakes in what is said: the call was done, or refused, and something else comes of it.

use super::{Broken, Fault};
use crate::calls;
use crate::subject::Subject;
use kobj_abi::{AskedRights, Koid, LinkKind, ObjectType, Operation, RawHandle, Rights, TypeNumber};
use kobj_core::{Call, CallAnswer, CallError, Entry, EntryName, Keeper, Resource};

type Result = core::result::Result<CallAnswer, CallError>;

impl<S: Subject> Broken<S> {
    /// What is said of a call that ended so.
    pub(super) fn after(&mut self, process: Koid, call: Call<'_>, result: Result) -> Result {
        match result {
            Ok(answer) => self.after_success(process, call, answer),
            Err(error) => self.after_refusal(process, call, error),
        }
    }

    fn after_success(&mut self, process: Koid, call: Call<'_>, answer: CallAnswer) -> Result {
        match (self.fault, call, answer) {
            (Fault::ReusesClosedValues, Call::Close { handle }, answer) => {
                self.closed.push((process, handle));
                Ok(answer)
            }
            (Fault::ReusesClosedValues, Call::Create { .. }, CallAnswer::Handle(real)) => {
                let Some(at) = self.closed.iter().position(|(of, _)| *of == process) else {
                    return Ok(CallAnswer::Handle(real));
                };
                let (_, old) = self.closed.remove(at);
                self.aliases.push((process, old, real));
                Ok(CallAnswer::Handle(old))
            }
            (Fault::DoubleCloseHurts, Call::Create { .. }, CallAnswer::Handle(handle)) => {
                self.newest.push((process, handle));
                Ok(CallAnswer::Handle(handle))
            }
            (Fault::InfoNeedsARight, _, CallAnswer::Info(info)) if !info.rights.contains(Rights::INSPECT) => {
                let (koid, operation, missing) = (info.koid, Operation::HandleInfo, Rights::INSPECT);
                Err(CallError::AccessDenied { koid, operation, missing })
            }
            (Fault::OwnTypeIsAnother, _, CallAnswer::Info(mut info)) => {
                info.object_type = TypeNumber::FIRST_OWN.max(TypeNumber(info.object_type.0 + 1));
                Ok(CallAnswer::Info(info))
            }
            (Fault::UnlinkNeedsMore, Call::Unlink { directory, .. }, answer) => self.denied(process, directory, answer),
            (Fault::RevokeTakesItself, Call::Revoke { handle }, answer) => {
                self.inner.call(process, calls::close(handle))?;
                Ok(answer)
            }
            (Fault::SaysAllIsNew, _, CallAnswer::Opened { handle, .. }) => {
                Ok(CallAnswer::Opened { handle, created: true })
            }
            (Fault::ChargesStay, Call::Close { .. }, answer) => {
                self.charge_for_ever(process);
                Ok(answer)
            }
            (Fault::SkipsAfterRemoval, Call::Unlink { directory, .. }, answer) => {
                let of = self.koid(process, directory);
                self.removed.extend(of);
                Ok(answer)
            }
            (Fault::RestartsAfterLink, Call::Link { directory, .. }, answer) => {
                let of = self.koid(process, directory);
                self.linked.extend(of);
                Ok(answer)
            }
            (Fault::HolderIsMissing, _, CallAnswer::Holders(mut holders)) => {
                holders.pop();
                Ok(CallAnswer::Holders(holders))
            }
            (Fault::TemporaryNameKeeps, Call::KeptBy { handle }, CallAnswer::KeptBy(mut keepers)) => {
                let koid = self.koid(process, handle).unwrap_or(process);
                keepers.push(Keeper { koid, kind: LinkKind::Contains });
                Ok(CallAnswer::KeptBy(keepers))
            }
            (Fault::DerivedFromStops, _, CallAnswer::DerivedFrom(mut chain)) => {
                chain.truncate(1);
                Ok(CallAnswer::DerivedFrom(chain))
            }
            (_, Call::Enumerate { directory, cursor }, answer) => self.listed(process, directory, cursor, answer),
            (_, _, answer) => Ok(answer),
        }
    }

    /// A directory's handle without MANAGE is refused after all.
    fn denied(&mut self, process: Koid, directory: RawHandle, answer: CallAnswer) -> Result {
        let lacking = self.info(process, directory).filter(|info| !info.rights.contains(Rights::MANAGE));
        lacking.map_or(Ok(answer), |info| {
            let (koid, operation, missing) = (info.koid, Operation::Unlink, Rights::MANAGE);
            Err(CallError::AccessDenied { koid, operation, missing })
        })
    }

    /// What was closed is charged by a lower limit.
    fn charge_for_ever(&mut self, process: Koid) {
        let lower = self.limits.iter_mut().find(|(of, what, _)| (*of, *what) == (process, Resource::Handles));
        if let Some((_, _, limit)) = lower {
            *limit = limit.saturating_sub(1);
            let limit = *limit;
            self.inner.limit(process, Resource::Handles, limit);
        }
    }

    fn listed(&mut self, process: Koid, directory: RawHandle, cursor: u64, answer: CallAnswer) -> Result {
        let is_type = |entry: &Entry| entry.object_type == ObjectType::Type.number();
        let answer = match (self.fault, answer) {
            (Fault::FirstTypeIsMissing, CallAnswer::Entry(Some(entry))) if cursor == 0 && is_type(&entry) => {
                return self.inner.call(process, calls::enumerate(directory, entry.cursor));
            }
            (Fault::ListedIsNamed, CallAnswer::Entry(Some(mut entry))) if is_type(&entry) => {
                entry.permanent = true;
                CallAnswer::Entry(Some(entry))
            }
            (_, answer) => answer,
        };
        let Some(of) = self.koid(process, directory).filter(|_| cursor != 0) else { return Ok(answer) };
        if let (Some(at), CallAnswer::Entry(Some(entry))) = (self.removed.iter().position(|koid| *koid == of), &answer)
        {
            self.removed.remove(at);
            return self.inner.call(process, calls::enumerate(directory, entry.cursor));
        }
        if let Some(at) = self.linked.iter().position(|koid| *koid == of) {
            self.linked.remove(at);
            return self.inner.call(process, calls::enumerate(directory, 0));
        }
        Ok(answer)
    }

    fn after_refusal(&mut self, process: Koid, call: Call<'_>, error: CallError) -> Result {
        let first = self.start.process;
        match (self.fault, call, error) {
            (Fault::ClosesTwice, Call::Close { .. }, CallError::BadHandle { .. })
            | (Fault::NamelessIsPermanent, _, CallError::NotNamed { .. })
            | (Fault::RechargeTakesJobs, _, CallError::StandsInItsJob { .. })
            | (Fault::KillsTheRoot, _, CallError::RootJob { .. }) => Ok(CallAnswer::Done),
            (Fault::KnowsForeignValues, Call::HandleInfo { .. }, CallError::BadHandle { .. }) => {
                self.inner.call(first, call)
            }
            (Fault::DeadMakeObjects, Call::Create { .. }, CallError::Dying { .. } | CallError::NoProcess { .. }) => {
                self.inner.call(first, call)
            }
            (Fault::DoubleCloseHurts, Call::Close { .. }, CallError::BadHandle { .. }) => {
                if let Some((process, handle)) = self.newest.pop() {
                    self.inner.call(process, calls::close(handle))?;
                }
                Err(error)
            }
            (Fault::RefusedReplaceCloses, Call::Replace { handle, .. }, _)
            | (Fault::RefusedTransferLoses, Call::Transfer { handle, .. }, _) => {
                self.inner.call(process, calls::close(handle))?;
                Err(error)
            }
            (Fault::GrantsSilentlyLess, _, CallError::TooManyRights { asked, most, .. }) => {
                let less = AskedRights::Exactly(asked.intersection(most));
                self.inner.call(process, with_rights(call, less))
            }
            (Fault::ListedJobIsGranted, Call::Open { .. }, CallError::TooManyRights { .. }) => {
                let same = match call {
                    Call::Open { directory, path, .. } => calls::open(directory, path),
                    other => other,
                };
                self.inner.call(process, same)
            }
            (Fault::RenamesWithoutRight, Call::Rename { .. }, CallError::AccessDenied { .. }) => Ok(CallAnswer::Done),
            (Fault::RenameReplaces, Call::Rename { directory, to, .. }, CallError::NameExists { .. }) => {
                self.inner.call(process, calls::unlink(directory, to))?;
                self.inner.call(process, call)
            }
            (Fault::FollowsAbove, Call::Open { directory, rights, .. }, CallError::AboveStart { .. }) => {
                self.inner.call(process, calls::duplicate(directory, rights))
            }
            (Fault::NestsForEver, Call::CreateJob { .. }, CallError::TooDeep { .. }) => {
                self.inner.call(process, calls::create_job(self.start.job))
            }
            (Fault::RefusalLeaks, Call::Create { .. }, CallError::Quota { .. }) => {
                self.inner.call(first, call)?;
                Err(error)
            }
            (Fault::LoopIsNotFound, _, CallError::LinkLoop { directory }) => Err(CallError::NotFound { directory }),
            (_, call, error) => Err(self.other_error(process, call, error)),
        }
    }

    /// Another of the reasons that there are.
    fn other_error(&mut self, process: Koid, call: Call<'_>, error: CallError) -> CallError {
        match (self.fault, call, error) {
            (Fault::AccessBeforeType, _, CallError::WrongType { koid, operation, .. }) => {
                let missing = Rights::LOOKUP;
                CallError::AccessDenied { koid, operation, missing }
            }
            (
                Fault::NameBeforeAccess,
                Call::Link { name, .. } | Call::Unlink { name, .. } | Call::OpenOrCreate { name, .. },
                CallError::AccessDenied { .. },
            ) if EntryName::new(name).is_none() => CallError::BadName { bytes: name.len() },
            (Fault::SecondHandleFirst, Call::Link { handle, .. } | Call::Transfer { process: handle, .. }, _)
                if self.koid(process, handle).is_none() =>
            {
                CallError::BadHandle { handle }
            }
            (Fault::QuotaBeforeState, Call::Open { .. }, CallError::NotFound { .. }) => {
                let used = self.inner.handles(process);
                let limit = self.limits.iter().find(|(of, _, limit)| *of == process && used >= *limit);
                limit.map_or(error, |(koid, resource, limit)| CallError::Quota {
                    koid: *koid,
                    resource: *resource,
                    limit: *limit,
                    used,
                })
            }
            _ => error,
        }
    }
}

/// The call with other rights.
fn with_rights(call: Call<'_>, asked: AskedRights) -> Call<'_> {
    let mut call = call;
    match &mut call {
        Call::Duplicate { rights, .. } | Call::Replace { rights, .. } | Call::Derive { rights, .. } => *rights = asked,
        _ => {}
    }
    call
}

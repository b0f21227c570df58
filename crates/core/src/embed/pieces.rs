//! Calls that take the longer the more there is: done in pieces, each a turn at the lock, so that nobody waits for a whole one.

use super::Manager;
use crate::call::{Call, CallAnswer, CallError};
use crate::holders::Holder;
use crate::image::Time;
use crate::platform::Platform;
use crate::trace::{How, Trace};
use alloc::vec::Vec;
use core::panic::Location;
use kobj_abi::{Koid, Operation, RawHandle};
use kobj_memory::{Lock, Reference};

/// Slots of handle tables, and generations of handles, that are looked at in one piece.
const PER_PIECE: u32 = 4096;

impl<L: Lock, P: Platform> Manager<L, P> {
    /// Does one of them; what is asked for by a bad handle is refused in one step, as always.
    pub(super) fn call_in_pieces(
        &self,
        now: Time,
        process: Koid,
        call: &Call<'_>,
        place: &'static Location<'static>,
    ) -> Result<CallAnswer, CallError> {
        let at_once = || self.with(|core| core.call_by(now, process, call, place));
        let handle = match *call {
            Call::Revoke { .. } => loop {
                let answer = at_once();
                if !matches!(answer, Ok(CallAnswer::GoOn)) {
                    return answer;
                }
            },
            Call::CreateGuest { job, .. } => return self.create_guest(now, process, call, job, place),
            Call::Holders { handle } | Call::KeptBy { handle } | Call::DerivedFrom { handle } => handle,
            _ => return at_once(),
        };
        let table = self.table(process)?;
        // Between two pieces the handle may be closed, and is there nevertheless.
        let Ok(pin) = table.pin(handle) else { return at_once() };
        let answer = match call {
            Call::Holders { .. } => {
                self.holders(process, call, handle, Operation::Holders).map(|(_, found)| CallAnswer::Holders(found))
            }
            Call::KeptBy { .. } => {
                self.holders(process, call, handle, Operation::KeptBy).and_then(|(object, found)| {
                    self.with(|core| core.keepers_beside(object, found)).map(CallAnswer::KeptBy)
                })
            }
            _ => self.ancestry(process, call, handle).map(CallAnswer::DerivedFrom),
        };
        self.leave(process, &table, pin);
        answer
    }

    fn holders(
        &self,
        process: Koid,
        call: &Call<'_>,
        handle: RawHandle,
        operation: Operation,
    ) -> Result<(Reference, Vec<Holder>), CallError> {
        let begun = self.with(|core| {
            core.piece(process, call, |core, caller| {
                let object = core.meant(caller, handle, operation)?.object;
                let mut look = core.look_for_holders(object);
                let is_over = core.look_on(&mut look, PER_PIECE)?;
                Ok((object, look, is_over))
            })
        });
        let (object, mut look, mut is_over) = begun?;
        while !is_over {
            is_over = self.with(|core| core.look_on(&mut look, PER_PIECE))?;
        }
        Ok((object, look.into_found()))
    }

    fn ancestry(&self, process: Koid, call: &Call<'_>, handle: RawHandle) -> Result<Vec<Koid>, CallError> {
        let begun = self.with(|core| core.piece(process, call, |core, caller| core.ancestry_of(caller, handle)));
        let mut ancestry = begun?;
        while !self.with(|core| core.ancestry_on(&mut ancestry, PER_PIECE))? {}
        Ok(ancestry.found)
    }

    fn create_guest(
        &self,
        now: Time,
        process: Koid,
        call: &Call<'_>,
        job: RawHandle,
        place: &'static Location<'static>,
    ) -> Result<CallAnswer, CallError> {
        let begun = self.with(|core| core.piece(process, call, |core, caller| core.begin_guest(now, caller, job)));
        let mut making = begun?;
        let made = loop {
            let has_all = self
                .with(|core| core.piece(process, call, |core, caller| core.inherit_on(caller, &mut making, PER_PIECE)));
            match has_all {
                Ok(false) => {}
                Ok(true) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let answer = made.and_then(|()| {
            self.with(|core| {
                let answer = core.piece(process, call, |core, caller| core.hand_out_guest(caller, &making))?;
                if let CallAnswer::Guest { handle, .. } = answer {
                    core.note(process, handle, Trace { place, at: now, how: How::Created });
                }
                Ok(answer)
            })
        });
        if answer.is_err() {
            // Also when its maker was ended between two pieces.
            self.with(|core| {
                core.abandon_guest(&making);
                core.work();
            });
        }
        answer
    }
}

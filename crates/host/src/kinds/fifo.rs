//! Named pipes.
//!
//! No judge: a pipe has no lease, a process that waits in opening one shows no descriptor, and a probing open would wake
//! it and lose its write. So a pipe is never opened; it goes only if the caller knows that every process which could open
//! it was the job's and is dead, and nobody holds it open now.

use crate::classify::path_of;
use crate::hands::Hands;
use crate::holders::Holders;
use crate::kind::{Facts, Kind, Maker, NewIn, Outcome, Verdict, Visibility};
use crate::places;
use crate::quarantine::{self, Place, Refusal};
use crate::view::View;
use kobj_abi::HostKind;
use kobj_core::image::HostImage;
use std::slice;

/// This kind.
#[derive(Debug)]
pub struct Fifo;

/// Why the kernel cannot be asked.
const NO_JUDGE: &str = "no judge: who waits to open a pipe cannot be seen";
/// Why one goes all the same.
const ALL_DEAD: &str = "every process that could open it was the job's and is dead";

impl Kind for Fifo {
    fn kind(&self) -> HostKind {
        HostKind::Fifo
    }

    fn facts(&self) -> Facts {
        Facts {
            maker: Maker::FileEvent,
            new_in: NewIn::Folders,
            unused_is_left_over: false,
            is_named_by_path: false,
            end: "it stays until somebody deletes it",
        }
    }

    fn census(&self, view: &View, found: &mut Vec<HostImage>) -> Visibility {
        places::census(view, self.kind(), found)
    }

    fn judge(&self, view: &View, image: &HostImage, _hands: &mut Hands<'_>) -> Verdict {
        held(view, image).unwrap_or_else(|| Verdict::Unknown(NO_JUDGE.to_owned()))
    }

    fn scrub(&self, view: &View, image: &HostImage, hands: &mut Hands<'_>) -> Outcome {
        let place = match quarantine::place(hands, path_of(image)) {
            Ok(place) => place,
            Err(verdict) => return Outcome::Left(verdict),
        };
        match scrub_at(view, hands, &place, image) {
            Ok(()) => Outcome::Scrubbed(ALL_DEAD.to_owned()),
            Err(refusal) => refusal.into(),
        }
    }
}

/// Who holds it open, if anybody is seen to.
fn held(view: &View, image: &HostImage) -> Option<Verdict> {
    let holders = Holders::of(view, slice::from_ref(image)).found.pop().unwrap_or_default();
    (!holders.is_empty()).then(|| Verdict::InUse(holders, "somebody has it open".to_owned()))
}

/// Whether a pipe may go.
pub(crate) fn ask(view: &View, hands: &Hands<'_>, image: &HostImage) -> Result<(), Verdict> {
    if !hands.openers_are_dead {
        return Err(Verdict::Unknown(NO_JUDGE.to_owned()));
    }
    held(view, image).map_or(Ok(()), Err)
}

/// Deletes a pipe whose possible openers are dead.
pub(crate) fn scrub_at(
    view: &View,
    hands: &mut Hands<'_>,
    place: &Place<'_>,
    image: &HostImage,
) -> Result<(), Refusal> {
    // Asked before we point at it ourselves, which would be seen as a holder.
    ask(view, hands, image)?;
    let (pointer, stat) = quarantine::point(place, &image.identity)?;
    if !stat.is_fifo() {
        return Err(Verdict::Replaced.into());
    }
    quarantine::unmounted(view, hands, place)?;
    let moved = quarantine::move_in(hands, place, &stat)?;
    quarantine::unlink(hands, place, &moved)?;
    drop(pointer);
    Ok(())
}

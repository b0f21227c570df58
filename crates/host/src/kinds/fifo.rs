//! Named pipes.
//!
//! No judge: a pipe has no lease, a process that waits in opening one shows no descriptor, and a probing open would wake
//! it and lose its write. So a pipe is never opened; it goes only if every process that could open it is dead
//! (the module `openers`) and nobody is seen to hold it, asked again when it has no name any more.

use crate::classify::path_of;
use crate::hands::Hands;
use crate::holders::Holders;
use crate::identity::Stat;
use crate::kind::{Facts, Kind, Maker, NewIn, Outcome, Verdict, Visibility};
use crate::openers;
use crate::places;
use crate::quarantine::{self, Place, Refusal};
use crate::view::View;
use kobj_abi::HostKind;
use kobj_core::image::HostImage;
use kobj_platform::arrival;
use std::slice;

/// This kind.
#[derive(Debug)]
pub struct Fifo;

/// Why one goes.
const ALL_DEAD: &str = "every process that could open it is dead, and nobody holds it";

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

    fn judge(&self, view: &View, image: &HostImage, hands: &mut Hands<'_>) -> Verdict {
        let asked = quarantine::place(hands, path_of(image)).and_then(|place| ask(view, &place, image));
        asked.map_or_else(|verdict| verdict, |()| Verdict::Unused(ALL_DEAD.to_owned()))
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

/// Refuses if anybody is seen to hold it, or could be opening it.
fn nobody_can(view: &View, image: &HostImage, stat: &Stat) -> Result<(), Verdict> {
    let mut holders = Holders::of(view, slice::from_ref(image)).found.pop().unwrap_or_default();
    // We ourselves only point at it.
    holders.retain(|holder| holder.pid != std::process::id());
    if !holders.is_empty() {
        return Err(Verdict::InUse(holders, "somebody has it open".to_owned()));
    }
    openers::none_is_left(view, stat).map_err(|why| Verdict::Unknown(format!("no judge: {why}")))
}

/// Whether a pipe may go.
pub(crate) fn ask(view: &View, place: &Place<'_>, image: &HostImage) -> Result<(), Verdict> {
    let (_pointer, stat) = quarantine::point(place, &image.identity)?;
    if stat.is_fifo() { nobody_can(view, image, &stat) } else { Err(Verdict::Replaced) }
}

/// Deletes a pipe whose possible openers are dead.
pub(crate) fn scrub_at(
    view: &View,
    hands: &mut Hands<'_>,
    place: &Place<'_>,
    image: &HostImage,
) -> Result<(), Refusal> {
    let (pointer, stat) = quarantine::point(place, &image.identity)?;
    if !stat.is_fifo() {
        return Err(Verdict::Replaced.into());
    }
    nobody_can(view, image, &stat)?;
    quarantine::unmounted(view, hands, place)?;
    let moved = quarantine::move_in(hands, place, &stat)?;
    // Who had found it by its name before has come to wait at it by now.
    arrival::wait_for_calls_under_way();
    if let Err(verdict) = nobody_can(view, image, &stat) {
        quarantine::put_back(hands, place, &moved)?;
        return Err(verdict.into());
    }
    quarantine::unlink(hands, place, &moved)?;
    drop(pointer);
    Ok(())
}

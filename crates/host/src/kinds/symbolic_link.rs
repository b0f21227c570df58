//! Symbolic links in a temporary folder.
//!
//! A link has no users to ask about, so one that stands alone is reported and stays. Inside a folder that the job made it
//! goes with the folder: moved away first, and deleted only if what was moved is that very link.

use crate::hands::Hands;
use crate::kind::{Facts, Kind, Maker, NewIn, Outcome, Verdict, Visibility};
use crate::places;
use crate::quarantine::{self, Place, Refusal};
use crate::view::View;
use kobj_abi::HostKind;
use kobj_core::image::{HostImage, Identity};

/// This kind.
#[derive(Debug)]
pub struct SymbolicLink;

/// Why one that stands alone is never deleted.
const NO_JUDGE: &str = "no judge: nothing tells whether anybody still goes by a link";

impl Kind for SymbolicLink {
    fn kind(&self) -> HostKind {
        HostKind::SymbolicLink
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

    fn judge(&self, _view: &View, _image: &HostImage, _hands: &mut Hands<'_>) -> Verdict {
        Verdict::Unknown(NO_JUDGE.to_owned())
    }

    fn scrub(&self, view: &View, image: &HostImage, hands: &mut Hands<'_>) -> Outcome {
        Outcome::Left(self.judge(view, image, hands))
    }
}

/// Deletes a link inside a folder that goes as a whole, if it is that very link.
pub(crate) fn scrub_inner(hands: &mut Hands<'_>, place: &Place<'_>, identity: &Identity) -> Result<(), Refusal> {
    let (pointer, stat) = quarantine::point(place, identity)?;
    if !stat.is_link() {
        return Err(Verdict::Replaced.into());
    }
    let moved = quarantine::move_in(hands, place, &stat)?;
    quarantine::unlink(hands, place, &moved)?;
    // Until here the pointer has kept the inode from being given to another file.
    drop(pointer);
    Ok(())
}

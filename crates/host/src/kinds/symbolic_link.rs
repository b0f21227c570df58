//! Symbolic links in a temporary folder.
//!
//! A link has no users to ask about, so one that stands alone is reported and stays. Inside a folder that the job made it
//! goes with the folder: moved away first, and deleted only if what was moved is that very link.

use crate::hands::Hands;
use crate::kind::Verdict;
use crate::kinds::unjudged_file::UnjudgedFile;
use crate::quarantine::{self, Place, Refusal};
use kobj_abi::HostKind;
use kobj_core::image::Identity;

/// This kind.
pub static SYMBOLIC_LINK: UnjudgedFile =
    UnjudgedFile { kind: HostKind::SymbolicLink, why: "no judge: nothing tells whether anybody still goes by a link" };

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

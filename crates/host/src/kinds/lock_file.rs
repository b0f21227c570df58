//! Lock files: files with the name of one, or with an advisory lock on them.
//!
//! Judges: the process named in it, with its start time; and the write lease. A lock of any family needs an open file, so
//! who is granted the lease knows that nobody has a lock; trying the lock itself would make a program that starts at that
//! instant believe that it runs already.

use crate::classify::path_of;
use crate::hands::Hands;
use crate::kind::{Kind, Outcome, Verdict, Visibility};
use crate::view::View;
use crate::{owner, places, quarantine};
use kobj_abi::HostKind;
use kobj_core::image::HostImage;

/// This kind.
#[derive(Debug)]
pub struct LockFile;

impl Kind for LockFile {
    fn kind(&self) -> HostKind {
        HostKind::LockFile
    }

    fn census(&self, view: &View, found: &mut Vec<HostImage>) -> Visibility {
        places::census(view, self.kind(), found)
    }

    fn judge(&self, view: &View, image: &HostImage, hands: &mut Hands<'_>) -> Verdict {
        match owner::named_owner_is_gone(view, image) {
            Ok(()) => quarantine::judge_file(view, hands, path_of(image), &image.identity),
            Err(verdict) => verdict,
        }
    }

    fn scrub(&self, view: &View, image: &HostImage, hands: &mut Hands<'_>) -> Outcome {
        match owner::named_owner_is_gone(view, image) {
            Ok(()) => quarantine::scrub_file(view, hands, path_of(image), &image.identity),
            Err(verdict) => Outcome::Left(verdict),
        }
    }
}

//! Pid files: small files that hold the number of a process.
//!
//! Judges: the process of that number, unless it started after the file was last changed; and the write lease.

use crate::classify::path_of;
use crate::hands::Hands;
use crate::kind::{Kind, Outcome, Verdict, Visibility};
use crate::view::View;
use crate::{owner, places, quarantine};
use kobj_abi::HostKind;
use kobj_core::image::HostImage;

/// This kind.
#[derive(Debug)]
pub struct PidFile;

impl Kind for PidFile {
    fn kind(&self) -> HostKind {
        HostKind::PidFile
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

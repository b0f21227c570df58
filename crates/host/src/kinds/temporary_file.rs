//! Temporary files: regular files made directly in a temporary folder.
//!
//! Judge: the write lease.

use crate::classify::path_of;
use crate::hands::Hands;
use crate::kind::{Kind, Outcome, Verdict, Visibility};
use crate::view::View;
use crate::{places, quarantine};
use kobj_abi::HostKind;
use kobj_core::image::HostImage;

/// This kind.
#[derive(Debug)]
pub struct TemporaryFile;

impl Kind for TemporaryFile {
    fn kind(&self) -> HostKind {
        HostKind::TemporaryFile
    }

    fn census(&self, view: &View, found: &mut Vec<HostImage>) -> Visibility {
        places::census(view, self.kind(), found)
    }

    fn judge(&self, view: &View, image: &HostImage, hands: &mut Hands<'_>) -> Verdict {
        quarantine::judge_file(view, hands, path_of(image), &image.identity)
    }

    fn scrub(&self, view: &View, image: &HostImage, hands: &mut Hands<'_>) -> Outcome {
        quarantine::scrub_file(view, hands, path_of(image), &image.identity)
    }
}

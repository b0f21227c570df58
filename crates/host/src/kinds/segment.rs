//! Shared-memory segments: regular files in the segment folders.
//!
//! Judge: the write lease, which counts mappings whose descriptors were closed.

use crate::classify::path_of;
use crate::hands::Hands;
use crate::kind::{Kind, Outcome, Verdict, Visibility};
use crate::view::View;
use crate::{places, quarantine};
use kobj_abi::HostKind;
use kobj_core::image::HostImage;

/// This kind.
#[derive(Debug)]
pub struct Segment;

impl Kind for Segment {
    fn kind(&self) -> HostKind {
        HostKind::Segment
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

//! Named POSIX semaphores: `sem.NAME` in a segment folder, kept mapped by whoever uses them.
//!
//! Judge: the write lease, as for segments. A semaphore that a live process will open again, but has not open now, is
//! unused by this judge; that it was the job's own is proved before.

use crate::classify::path_of;
use crate::hands::Hands;
use crate::kind::{Kind, Outcome, Verdict, Visibility};
use crate::view::View;
use crate::{places, quarantine};
use kobj_abi::HostKind;
use kobj_core::image::HostImage;

/// This kind.
#[derive(Debug)]
pub struct PosixSemaphore;

impl Kind for PosixSemaphore {
    fn kind(&self) -> HostKind {
        HostKind::PosixSemaphore
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

//! Device nodes that somebody made in a temporary folder.
//!
//! No judge: opening a device to probe it may do anything. Reported, never deleted.

use crate::hands::Hands;
use crate::kind::{Facts, Kind, Maker, NewIn, Outcome, Verdict, Visibility};
use crate::places;
use crate::view::View;
use kobj_abi::HostKind;
use kobj_core::image::HostImage;

/// This kind.
#[derive(Debug)]
pub struct DeviceNode;

/// Why it is never deleted.
const NO_JUDGE: &str = "no judge: a device is not opened to find out who uses it";

impl Kind for DeviceNode {
    fn kind(&self) -> HostKind {
        HostKind::DeviceNode
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

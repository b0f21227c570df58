//! What the kinds of files without a judge share: found by their places, reported, never deleted by themselves.

use crate::hands::Hands;
use crate::kind::{Facts, Kind, Maker, NewIn, Outcome, Verdict, Visibility};
use crate::places;
use crate::view::View;
use kobj_abi::HostKind;
use kobj_core::image::HostImage;

/// A kind of file that nobody can be asked about.
#[derive(Debug)]
pub struct UnjudgedFile {
    /// Which.
    pub kind: HostKind,
    /// Why the kernel cannot be asked, as a sentence.
    pub why: &'static str,
}

impl Kind for UnjudgedFile {
    fn kind(&self) -> HostKind {
        self.kind
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
        places::census(view, self.kind, found)
    }

    fn judge(&self, _view: &View, _image: &HostImage, _hands: &mut Hands<'_>) -> Verdict {
        Verdict::Unknown(self.why.to_owned())
    }

    fn scrub(&self, view: &View, image: &HostImage, hands: &mut Hands<'_>) -> Outcome {
        Outcome::Left(self.judge(view, image, hands))
    }
}

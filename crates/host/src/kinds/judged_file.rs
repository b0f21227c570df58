//! What the kinds of regular files share: found by their places, judged by the write lease.

use crate::classify::path_of;
use crate::hands::Hands;
use crate::kind::{Facts, Kind, Maker, NewIn, Outcome, Verdict, Visibility};
use crate::view::View;
use crate::{places, quarantine};
use kobj_abi::HostKind;
use kobj_core::image::HostImage;

/// A kind of regular file.
#[derive(Debug)]
pub struct JudgedFile {
    /// Which.
    pub kind: HostKind,
    /// What speaks against calling one unused, besides the lease; asked first.
    pub objection: fn(&View, &HostImage) -> Result<(), Verdict>,
    /// What makes one go away where nobody holds it, as a sentence.
    pub end: &'static str,
}

/// Nothing but the lease.
pub(crate) fn no_objection(_view: &View, _image: &HostImage) -> Result<(), Verdict> {
    Ok(())
}

impl Kind for JudgedFile {
    fn kind(&self) -> HostKind {
        self.kind
    }

    fn facts(&self) -> Facts {
        Facts {
            maker: Maker::FileEvent,
            new_in: NewIn::Folders,
            unused_is_left_over: true,
            is_named_by_path: false,
            end: self.end,
        }
    }

    fn census(&self, view: &View, found: &mut Vec<HostImage>) -> Visibility {
        places::census(view, self.kind, found)
    }

    fn judge(&self, view: &View, image: &HostImage, hands: &mut Hands<'_>) -> Verdict {
        match (self.objection)(view, image) {
            Ok(()) => quarantine::judge_file(view, hands, path_of(image), &image.identity),
            Err(verdict) => verdict,
        }
    }

    fn scrub(&self, view: &View, image: &HostImage, hands: &mut Hands<'_>) -> Outcome {
        self.scrub_all(view, &[image], hands).pop().unwrap_or(Outcome::Left(Verdict::Gone))
    }

    fn scrub_all(&self, view: &View, images: &[&HostImage], hands: &mut Hands<'_>) -> Vec<Outcome> {
        quarantine::scrub_files(view, hands, images, self.objection)
    }
}

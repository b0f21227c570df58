//! The shape of a kind: one file per kind under `kinds/`, each with the same sections (census, judge, scrub, tests).
//!
//! `docs/add-a-kind.md` shows how to add one.

use crate::hands::Hands;
use crate::view::View;
use kobj_abi::HostKind;
use kobj_core::image::{Holder, HostImage};

/// Whether this process can see a kind at all. "Nothing there" and "cannot look" are never the same answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// The census is whole.
    Whole,
    /// Part or all of the kind cannot be seen; the sentence says what and why.
    NotVisible(String),
}

impl Visibility {
    /// Appends what could be listed; what could not is not visible.
    pub(crate) fn of(listed: Result<impl IntoIterator<Item = HostImage>, String>, found: &mut Vec<HostImage>) -> Self {
        match listed {
            Ok(images) => {
                found.extend(images);
                Self::Whole
            }
            Err(why) => Self::NotVisible(why),
        }
    }
}

/// What the judge says about the use of an object, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The kernel says that nobody uses it.
    Unused(String),
    /// Somebody uses it; the holders that could be named, and the judge's words.
    InUse(Vec<Holder>, String),
    /// The name leads nowhere now.
    Gone,
    /// The name leads to another object now.
    Replaced,
    /// No exact answer can be had; why. Such an object is reported, never deleted.
    Unknown(String),
}

/// What came of an attempt to destroy an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Destroyed; the judge's words at that moment.
    Scrubbed(String),
    /// Left as it was, because the judge did not say "unused" at that moment.
    Left(Verdict),
    /// A call failed: which, on what, and what to do.
    Failed(String),
}

/// What can prove who made an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// A file event that names its maker.
    FileEvent,
    /// The process id that the kernel keeps as the object's creator.
    CreatorPid,
    /// Who has it open: it lives exactly as long as they do.
    Holders,
    /// The job's family tree: the object is a process.
    Family,
    /// Nothing yet: new ones are reported as unattributed.
    Nothing,
}

/// Where a run looks for new objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewIn {
    /// In the folders that are watched ([`crate::places`]).
    Folders,
    /// In a table of the kernel's that is compared as bytes first ([`crate::tables`]).
    Tables,
    /// In the kind's census, taken before and after ([`crate::tables`]): right for every kind that is listed fast.
    Census,
    /// Nowhere: the containment knows them.
    Containment,
}

/// What holds for each object of a kind. There are no defaults: who adds a kind answers every question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What can prove who made one.
    pub maker: Maker,
    /// Where a run looks for new ones.
    pub new_in: NewIn,
    /// Whether "nobody uses it" says that it is a leftover. A mount, a namespace or a folder of the system's may well be
    /// unused for a while; such things are scrubbed by name alone.
    pub unused_is_left_over: bool,
    /// Whether it is called by what is, or looks like, the path of another object, a file or folder.
    pub is_named_by_path: bool,
    /// What makes it go away where nobody holds it, as a sentence.
    pub end: &'static str,
}

/// One kind of host object.
pub trait Kind: Sync {
    /// Which kind this file is about.
    fn kind(&self) -> HostKind;

    /// What holds for each object of this kind.
    fn facts(&self) -> Facts;

    /// Appends every object of this kind that can be seen from `view`.
    ///
    /// Never fails as a whole: what cannot be read is said by [`Visibility::NotVisible`].
    fn census(&self, view: &View, found: &mut Vec<HostImage>) -> Visibility;

    /// Asks the kernel whether `image` is unused, changing nothing.
    fn judge(&self, view: &View, image: &HostImage, hands: &mut Hands<'_>) -> Verdict;

    /// Destroys `image` if, at the moment of deletion, it is still that object and the judge says that nobody uses it.
    ///
    /// The caller has proved whose it is. Never waits for long, never harms a holder, leaves nothing half done: on
    /// [`Outcome::Left`] and [`Outcome::Failed`] the object has its old name and content.
    ///
    /// `hands` is what is kept between the objects of one plan (see [`Hands`]); kinds that need nothing ignore it.
    fn scrub(&self, view: &View, image: &HostImage, hands: &mut Hands<'_>) -> Outcome;

    /// As [`Kind::scrub`] for each of `images`, one outcome each in their order, for kinds that do many together faster.
    fn scrub_all(&self, view: &View, images: &[&HostImage], hands: &mut Hands<'_>) -> Vec<Outcome> {
        images.iter().map(|image| self.scrub(view, image, hands)).collect()
    }
}

//! What goes into a step and what comes out of it.

use crate::error::{
    CloseError, CreateError, DoneError, EndError, EraError, KillError, LinkError, QueryError, ReferenceError,
    ReleaseError, ScrubError, UnlinkError,
};
use crate::image::{HostImage, Time};
use crate::types::{Detail, Image, Request};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use kobj_abi::{Era, Koid, LinkKind, ObjectType, RawHandle, Tag};
use kobj_memory::Place;

/// A link, as long as it is there. Never meant for another link later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId {
    pub(crate) serial: u64,
    pub(crate) place: Place,
}

impl LinkId {
    /// The id as two words, to store or to send: place and serial number.
    #[must_use]
    pub const fn to_words(self) -> (u32, u64) {
        (self.place.index(), self.serial)
    }

    /// The id of those two words; made-up ones are refused when used.
    #[must_use]
    pub const fn from_words(place: u32, serial: u64) -> Option<Self> {
        match Place::new(place) {
            Some(place) => Some(Self { serial, place }),
            None => None,
        }
    }
}

impl fmt::Debug for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkId({}, {})", self.place.index(), self.serial)
    }
}

/// What an effect under way is known by. Never given twice by one manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// How an effect ended in the outside world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The thing is gone: the object is destroyed.
    Destroyed,
    /// It is still there: the reservation is undone.
    Left,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Start giving out koids of a newer era.
    OpenEra {
        /// Claimed by the caller; greater than the present one.
        era: Era,
    },
    /// Make an object.
    Create {
        /// The job that contains it and is charged; `None` for a first job, or a process outside of all jobs.
        job: Option<Koid>,
        /// The process that made it, an object here; it is linked as owner.
        creator: Option<Koid>,
        /// A name of at most [`crate::Limits::name_bytes`] bytes.
        name: Option<Vec<u8>>,
        /// What to make.
        request: Request,
    },
    /// Link two objects: "source kind target".
    Link {
        /// Where the link starts.
        source: Koid,
        /// What it says.
        kind: LinkKind,
        /// Where it ends.
        target: Koid,
    },
    /// Take a link away.
    Unlink {
        /// As [`Answer::Linked`] gave it.
        link: LinkId,
    },
    /// Hold an object: its memory stays until [`Command::Release`], and it lives on when its job lets go of it.
    Reference {
        /// Which.
        koid: Koid,
    },
    /// Give a held object back.
    Release {
        /// Which.
        koid: Koid,
    },
    /// Ask about an object.
    Query {
        /// Which.
        koid: Koid,
    },
    /// Ask for what is stored of an object.
    Image {
        /// Which.
        koid: Koid,
    },
    /// Ask what keeps an object alive.
    Why {
        /// Which.
        koid: Koid,
    },
    /// Reserve a host object and ask for the effect that destroys it.
    BeginScrub {
        /// Which host object.
        koid: Koid,
    },
    /// Reserve a process and ask for the effect that ends it.
    EndProcess {
        /// Which process.
        koid: Koid,
    },
    /// A process was seen to be gone.
    ProcessEnded {
        /// Which process.
        koid: Koid,
    },
    /// An effect was performed.
    Done {
        /// As the effect bore it.
        ticket: Ticket,
        /// How it went.
        outcome: Outcome,
    },
    /// End a job with all that it contains, the inner first. Again: what is left is tried again.
    KillJob {
        /// Which job.
        koid: Koid,
    },
    /// The job lets go of an object: it lives only as long as something else keeps it.
    Close {
        /// Which.
        koid: Koid,
    },
    /// Go on with work that was left over.
    Continue,
}

/// Something to do in the outside world.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Judge and destroy the kernel's object, then say [`Command::Done`].
    Scrub {
        /// To be given back.
        ticket: Ticket,
        /// Whose.
        koid: Koid,
        /// What is to be destroyed.
        image: Box<HostImage>,
    },
    /// End the process, then say [`Command::Done`].
    EndProcess {
        /// To be given back.
        ticket: Ticket,
        /// Whose.
        koid: Koid,
        /// Its process id.
        pid: u32,
        /// Its start time in clock ticks since boot: with another one it is another process, and not to be touched.
        started: u64,
    },
    /// A process named a handle that it does not have, and its job's policy is to tell.
    BadHandle {
        /// Which process.
        process: Koid,
        /// What it named first.
        handle: RawHandle,
        /// How often it named such a handle since the embedder last took this effect of it, at least 1.
        times: u32,
    },
    /// A guest has ended: its handles are closed and its charges returned. What it ran is the embedder's to stop.
    Killed {
        /// Which process.
        koid: Koid,
        /// Why.
        reason: KillReason,
    },
}

/// Why a guest was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    /// By a call, or by the embedder, who says that it died.
    Killed,
    /// Its job was killed.
    JobKilled,
    /// It used a bad handle, and its job's policy is to kill.
    BadHandle,
}

/// What a step wants done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// In the order in which to do it.
    pub list: Vec<Effect>,
    /// Whether work is left over for [`Command::Continue`].
    pub more: bool,
}

/// What a step says.
pub type Reply = Result<Answer, Refusal>;

/// A command that was done.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "destroying allocates nothing: what was cut stands inline")]
pub enum Answer {
    /// Koids are of the new era from now on.
    EraOpened,
    /// The new object.
    Created(Koid),
    /// The new link.
    Linked(LinkId),
    /// The link is gone.
    Unlinked,
    /// It is held.
    Referenced,
    /// It was given back.
    Released,
    /// What is known of it.
    Info(Box<Info>),
    /// What is stored of it.
    Image(Box<Image>),
    /// What keeps it.
    Why(Why),
    /// Reserved; the effect bears this ticket.
    Reserved(Ticket),
    /// Destroyed; these kept it and were cut.
    Destroyed(LooseEnds),
    /// As it was before the reservation.
    Left,
    /// It had been destroyed meanwhile; the ticket is settled.
    Settled,
    /// The job takes no more children; what it contains is being ended.
    Killing,
    /// The job let go.
    Closed,
    /// Work was done.
    Continued,
}

/// A command that was refused, with nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// By [`Command::OpenEra`].
    Era(EraError),
    /// By [`Command::Create`].
    Create(CreateError),
    /// By [`Command::Link`].
    Link(LinkError),
    /// By [`Command::Unlink`].
    Unlink(UnlinkError),
    /// By [`Command::Reference`].
    Reference(ReferenceError),
    /// By [`Command::Release`].
    Release(ReleaseError),
    /// By [`Command::Query`], [`Command::Image`] and [`Command::Why`].
    Query(QueryError),
    /// By [`Command::BeginScrub`].
    Scrub(ScrubError),
    /// By [`Command::EndProcess`] and [`Command::ProcessEnded`].
    End(EndError),
    /// By [`Command::Done`].
    Done(DoneError),
    /// By [`Command::KillJob`].
    Kill(KillError),
    /// By [`Command::Close`].
    Close(CloseError),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Era(error) => error.fmt(f),
            Self::Create(error) => error.fmt(f),
            Self::Link(error) => error.fmt(f),
            Self::Unlink(error) => error.fmt(f),
            Self::Reference(error) => error.fmt(f),
            Self::Release(error) => error.fmt(f),
            Self::Query(error) => error.fmt(f),
            Self::Scrub(error) => error.fmt(f),
            Self::End(error) => error.fmt(f),
            Self::Done(error) => error.fmt(f),
            Self::Kill(error) => error.fmt(f),
            Self::Close(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for Refusal {}

/// What is known of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Info {
    /// What is stamped on it; prints as `HOST-6924e0a1:00000003`.
    pub tag: Tag,
    /// What it is.
    pub object_type: ObjectType,
    /// Its name, if it was given one.
    pub name: Option<Vec<u8>>,
    /// References: its job's hold, links that keep it, callers that hold it, effects under way.
    pub references: u32,
    /// Of these, callers that hold it.
    pub held: u32,
    /// The process that made it, where known.
    pub creator: Option<Koid>,
    /// When the object was made here.
    pub created: Time,
    /// The job that contains it and is charged.
    pub owner: Option<Koid>,
    /// What its job is charged, in bytes.
    pub charge_bytes: u32,
    /// What its type says.
    pub detail: Detail,
}

/// What keeps an object alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// From a root (a living process or a first job) to the object: each keeps the next one by that kind of link, the
    /// last keeps the object itself. Empty if it is a root, or if no root reaches it.
    pub chain: Vec<(Koid, LinkKind)>,
    /// Whether it is a root, or a root reaches it. If not, callers hold it, or a circle of links does.
    pub rooted: bool,
}

/// What still kept an object when it was destroyed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LooseEnds {
    /// Who kept it and by which link: the first [`LooseEnds::MOST`] of them, its job not counted.
    pub keepers: Keepers,
    /// Whether there were more, or others than can be named.
    pub more: bool,
}

/// A few who kept an object. It stands in the answer itself, because an end takes no memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keepers {
    list: [Option<(Koid, LinkKind)>; LooseEnds::MOST],
}

impl Keepers {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether nobody kept it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Each, with the kind of link by which it kept the object.
    pub fn iter(&self) -> impl Iterator<Item = (Koid, LinkKind)> + '_ {
        self.list.iter().map_while(|keeper| *keeper)
    }

    /// One more; `false` if there are [`LooseEnds::MOST`].
    pub(crate) fn add(&mut self, keeper: (Koid, LinkKind)) -> bool {
        match self.list.iter_mut().find(|free| free.is_none()) {
            Some(free) => {
                *free = Some(keeper);
                true
            }
            None => false,
        }
    }
}

/// The first [`LooseEnds::MOST`] of them.
impl FromIterator<(Koid, LinkKind)> for Keepers {
    fn from_iter<I: IntoIterator<Item = (Koid, LinkKind)>>(keepers: I) -> Self {
        let mut all = Self::default();
        let _all_or_too_many = keepers.into_iter().all(|keeper| all.add(keeper));
        all
    }
}

impl LooseEnds {
    /// How many are named.
    pub const MOST: usize = 16;
}

//! The link graph: typed edges, walked in both directions, each taken away in constant time.

use crate::command::LinkId;
use crate::error::{LinkError, UnlinkError};
use crate::manager::{Body, Core};
use crate::types::{State, procedures};
use kobj_abi::{Koid, LinkKind};
use kobj_memory::{AcquireError, Array, NoMemory, Place, Slab};

/// Which end of a link it keeps alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// The source keeps the target.
    Target,
    /// The target keeps the source.
    Source,
    /// Neither: it only says something.
    Neither,
}

impl Keeps {
    /// What a link of that kind keeps.
    ///
    /// A store is kept by what it backs. Having made something keeps nothing: makers die and their objects stay.
    #[must_use]
    pub const fn of(kind: LinkKind) -> Self {
        match kind {
            LinkKind::Contains | LinkKind::Holds | LinkKind::WaitsOn | LinkKind::Exports | LinkKind::DerivedFrom => {
                Self::Target
            }
            LinkKind::Backs => Self::Source,
            LinkKind::Owns => Self::Neither,
        }
    }
}

/// One link. Free records have no serial number.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Record {
    /// Serial number above, kind in the low byte; 0 is a free record.
    word: u64,
    pub(crate) source: Option<Place>,
    pub(crate) target: Option<Place>,
    pub(crate) next_out: Option<Place>,
    previous_out: Option<Place>,
    pub(crate) next_in: Option<Place>,
    previous_in: Option<Place>,
}

const _: () = assert!(size_of::<Record>() == 32, "two links in a cache line");

impl Record {
    pub(crate) fn kind(&self) -> Option<LinkKind> {
        LinkKind::ALL.get((self.word as u8).wrapping_sub(1) as usize).copied()
    }

    /// Who is kept alive by it, if it keeps anybody.
    pub(crate) fn kept(&self) -> Option<Place> {
        match Keeps::of(self.kind()?) {
            Keeps::Target => self.target,
            Keeps::Source => self.source,
            Keeps::Neither => None,
        }
    }

    /// The other end of who is kept.
    pub(crate) fn keeper(&self) -> Option<Place> {
        match Keeps::of(self.kind()?) {
            Keeps::Target => self.source,
            Keeps::Source => self.target,
            Keeps::Neither => None,
        }
    }
}

/// All links.
#[derive(Default)]
pub(crate) struct Links {
    records: Array<Record>,
    free: Option<Place>,
    serial: u64,
}

impl Links {
    pub(crate) fn get(&self, place: Place) -> Option<&Record> {
        self.records.get(place).filter(|record| record.word != 0)
    }

    fn find(&self, link: LinkId) -> Option<&Record> {
        self.get(link.place).filter(|record| record.word >> 8 == link.serial)
    }

    /// Brings room for that many links more, at most a few: making them cannot fail then.
    pub(crate) fn reserve(&mut self, more: u32) -> Result<(), NoMemory> {
        let mut last = None;
        let mut next = self.free;
        for _ in 0..more {
            let place = match next {
                Some(place) => place,
                None => {
                    let new = self.records.push(Record::default())?;
                    // Behind the others, so that low places come first.
                    match last.and_then(|last| self.records.get_mut(last)) {
                        Some(record) => record.next_out = Some(new),
                        None => self.free = Some(new),
                    }
                    new
                }
            };
            last = Some(place);
            next = self.records.get(place).and_then(|record| record.next_out);
        }
        Ok(())
    }

    /// Makes a link between two occupied places; counts no reference.
    pub(crate) fn insert(
        &mut self,
        slab: &mut Slab<Body>,
        source: Place,
        kind: LinkKind,
        target: Place,
    ) -> Option<LinkId> {
        let place = self.take()?;
        self.serial += 1;
        let next_out = slab.any_header_mut(source)?.set_first_out(Some(place));
        let next_in = slab.any_header_mut(target)?.set_first_in(Some(place));
        *self.records.get_mut(place)? = Record {
            word: self.serial << 8 | kind as u64,
            source: Some(source),
            target: Some(target),
            next_out,
            previous_out: None,
            next_in,
            previous_in: None,
        };
        if let Some(next) = next_out.and_then(|next| self.records.get_mut(next)) {
            next.previous_out = Some(place);
        }
        if let Some(next) = next_in.and_then(|next| self.records.get_mut(next)) {
            next.previous_in = Some(place);
        }
        Some(LinkId { serial: self.serial, place })
    }

    fn take(&mut self) -> Option<Place> {
        self.reserve(1).ok()?;
        let place = self.free?;
        self.free = self.records.get(place)?.next_out;
        Some(place)
    }

    /// Lets a link start elsewhere; counts no reference.
    pub(crate) fn change_source(&mut self, slab: &mut Slab<Body>, place: Place, source: Place) -> Option<()> {
        let record = *self.get(place)?;
        match record.previous_out {
            Some(previous) => self.records.get_mut(previous)?.next_out = record.next_out,
            None => {
                slab.any_header_mut(record.source?)?.set_first_out(record.next_out);
            }
        }
        if let Some(next) = record.next_out.and_then(|next| self.records.get_mut(next)) {
            next.previous_out = record.previous_out;
        }
        let next_out = slab.any_header_mut(source)?.set_first_out(Some(place));
        if let Some(next) = next_out.and_then(|next| self.records.get_mut(next)) {
            next.previous_out = Some(place);
        }
        let moved = self.records.get_mut(place)?;
        moved.source = Some(source);
        moved.next_out = next_out;
        moved.previous_out = None;
        Some(())
    }

    /// Takes a link away; gives up no reference.
    pub(crate) fn remove(&mut self, slab: &mut Slab<Body>, place: Place) -> Option<Record> {
        let record = *self.get(place)?;
        match record.previous_out {
            Some(previous) => self.records.get_mut(previous)?.next_out = record.next_out,
            None => {
                slab.any_header_mut(record.source?)?.set_first_out(record.next_out);
            }
        }
        match record.previous_in {
            Some(previous) => self.records.get_mut(previous)?.next_in = record.next_in,
            None => {
                slab.any_header_mut(record.target?)?.set_first_in(record.next_in);
            }
        }
        if let Some(next) = record.next_out.and_then(|next| self.records.get_mut(next)) {
            next.previous_out = record.previous_out;
        }
        if let Some(next) = record.next_in.and_then(|next| self.records.get_mut(next)) {
            next.previous_in = record.previous_in;
        }
        *self.records.get_mut(place)? = Record { next_out: self.free, ..Record::default() };
        self.free = Some(place);
        Some(record)
    }
}

impl Core {
    pub(crate) fn do_link(&mut self, source: Koid, kind: LinkKind, target: Koid) -> Result<LinkId, LinkError> {
        let from = self.find(source)?;
        let to = self.find(target)?;
        if source == target {
            return Err(LinkError::Itself { koid: source });
        }
        if kind == LinkKind::Contains {
            return Err(LinkError::Containment { target });
        }
        if self.body(from).is_none() || self.body(to).is_none() {
            // Users' objects say by themselves what they refer to.
            return Err(LinkError::NotAllowed { source, kind, target });
        }
        let (from_type, to_type) = (self.type_of(from), self.type_of(to));
        if !procedures(from_type).source_of.contains(&kind) || !procedures(to_type).target_of.contains(&kind) {
            return Err(LinkError::NotAllowed { source, kind, target });
        }
        let ended = matches!(self.state(from), Some(State::Process(process)) if !process.is_living());
        if ended && Keeps::of(kind) == Keeps::Target {
            return Err(LinkError::Ended { koid: source });
        }
        self.links.reserve(1).map_err(|NoMemory| LinkError::NoMemory { source })?;
        let kept = match Keeps::of(kind) {
            Keeps::Target => Some(to),
            Keeps::Source => Some(from),
            Keeps::Neither => None,
        };
        if let Some(kept) = kept {
            self.slab.acquire(kept).map_err(|error| match error {
                AcquireError::Stale => LinkError::NoObject(self.missing(kept.koid())),
                AcquireError::Full => LinkError::Full { koid: kept.koid() },
            })?;
        }
        let link = self.links.insert(&mut self.slab, from.place(), kind, to.place());
        link.ok_or(LinkError::Full { koid: source })
    }

    pub(crate) fn do_unlink(&mut self, link: LinkId) -> Result<(), UnlinkError> {
        let record = self.links.find(link).ok_or(UnlinkError::NoLink { link })?;
        // A link of what is destroyed and not yet buried is gone for its users.
        let ends = [record.source, record.target];
        if ends.into_iter().flatten().any(|end| self.alive(end).is_none()) {
            return Err(UnlinkError::NoLink { link });
        }
        if record.kind() == Some(LinkKind::Contains) {
            return Err(UnlinkError::Containment { link });
        }
        self.cut(link.place);
        Ok(())
    }

    /// Takes a link away and gives up the reference that it kept.
    pub(crate) fn cut(&mut self, place: Place) {
        self.kill.passes(place, &self.links);
        let Some(record) = self.links.remove(&mut self.slab, place) else { return };
        let Some(kept) = record.kept() else { return };
        if record.kind() == Some(LinkKind::Contains) {
            // A job's hold is apart from the link: it was given up when the object was closed or lost its tag.
            let Ok(reference) = self.slab.at(kept) else { return };
            let Ok(body) = self.slab.body_mut(reference) else {
                // A user's object, which is in the job for its name's sake alone: the job's end takes that.
                if record.source.is_some_and(|job| self.alive(job).is_none()) {
                    self.lose_name(kept);
                }
                return;
            };
            body.home = None;
            if !core::mem::replace(&mut body.hold, false) {
                return;
            }
        }
        let _last_is_queued = self.slab.release(kept);
    }
}

//! What nobody can reach: objects that live by each other's references alone.
//!
//! A mark begins at what somebody has (handles and pins, which are handles; what a job, the manager or an effect holds, the
//! root directory among it; references that no state says to be its own) and goes along permanent names, links and what
//! states keep, in bounded steps between which others go on. What it did not come to and was there when it began is looked at once more, alone and in one
//! step: only what nobody can reach then is listed.

use crate::command::Why;
use crate::link::Keeps;
use crate::manager::Core;
use alloc::vec::Vec;
use kobj_abi::{Koid, LinkKind};
use kobj_memory::{NoMemory, Place, Reference, TryPush, try_collect};

/// An object that nobody can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreachable {
    /// Which object.
    pub koid: Koid,
    /// What keeps it: from an object that refers to it, round to the object itself if it is in a circle.
    pub path: Vec<Koid>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// How many states keep each object.
    Count,
    /// What somebody has.
    Roots,
    /// What follows from that.
    Spread,
    /// What was not come to.
    Sweep,
    Done,
}

/// A search under way. It takes memory for nine bytes for each slot.
#[derive(Debug)]
pub struct Search {
    phase: Phase,
    at: u32,
    /// Slots when it began: what is made later is not looked at.
    slots: u32,
    /// The last koid that was given out when it began.
    last: Koid,
    is_prepared: bool,
    kept_by_states: Vec<u32>,
    marked: Vec<bool>,
    work: Vec<Place>,
    found: Vec<Unreachable>,
}

impl Search {
    /// What it found; of meaning when it is done.
    #[must_use]
    pub fn found(&self) -> &[Unreachable] {
        &self.found
    }

    /// Takes the memory that it needs, which the core is not needed for. Else [`Core::search`] does so.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn prepare(&mut self) -> Result<(), NoMemory> {
        if !self.is_prepared {
            self.kept_by_states = try_collect((0..self.slots).map(|_| 0))?;
            self.marked = try_collect((0..self.slots).map(|_| false))?;
            self.work.try_reserve_exact(self.slots as usize).map_err(|_| NoMemory)?;
            self.is_prepared = true;
        }
        Ok(())
    }

    fn mark(&mut self, place: Place) -> Result<(), NoMemory> {
        let Some(marked) = self.marked.get_mut(place.index() as usize) else { return Ok(()) };
        if !core::mem::replace(marked, true) {
            self.work.try_push(place)?;
        }
        Ok(())
    }
}

/// The longest path that is named.
const PATH_MOST: usize = 64;

impl Core {
    /// Begins a search for what nobody can reach. [`Search::prepare`] may follow, where others wait for the core.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn begin_search(&self) -> Result<Search, NoMemory> {
        let slots = self.slab.shared().used();
        let last = Koid::new(self.era, self.issued.max(1)).ok_or(NoMemory)?;
        Ok(Search {
            phase: Phase::Count,
            at: 0,
            slots,
            last,
            is_prepared: false,
            kept_by_states: Vec::new(),
            marked: Vec::new(),
            work: Vec::new(),
            found: Vec::new(),
        })
    }

    /// Goes on with it for so many units, an object each; `true` when it is done.
    ///
    /// # Errors
    /// [`NoMemory`]: it can be gone on with when there is some.
    pub fn search(&mut self, search: &mut Search, units: u32) -> Result<bool, NoMemory> {
        search.prepare()?;
        for _ in 0..units {
            match search.phase {
                Phase::Done => return Ok(true),
                Phase::Spread => match search.work.pop() {
                    Some(place) => self.spread(search, place)?,
                    None => search.phase = Phase::Sweep,
                },
                phase if search.at >= search.slots => {
                    search.at = 0;
                    search.phase = match phase {
                        Phase::Count => Phase::Roots,
                        Phase::Roots => Phase::Spread,
                        Phase::Spread | Phase::Sweep | Phase::Done => Phase::Done,
                    };
                }
                phase => {
                    let object = Place::new(search.at).and_then(|place| self.alive(place));
                    if let Some(object) = object {
                        self.search_one(search, phase, object)?;
                    }
                    search.at += 1;
                }
            }
        }
        Ok(search.phase == Phase::Done)
    }

    fn search_one(&mut self, search: &mut Search, phase: Phase, object: Reference) -> Result<(), NoMemory> {
        match phase {
            Phase::Count => {
                let counts = &mut search.kept_by_states;
                self.kept_by_state(object, &mut |target| {
                    if let Some(count) = counts.get_mut(target.index() as usize) {
                        *count += 1;
                    }
                });
                Ok(())
            }
            Phase::Roots if self.is_root(search, object) => search.mark(object.place()),
            Phase::Sweep if self.is_lost(search, object)? => {
                let path = self.circle(object)?;
                search.found.try_push(Unreachable { koid: object.koid(), path })
            }
            _ => Ok(()),
        }
    }

    /// Whether somebody has an object, other than objects that keep it.
    fn is_root(&self, search: &Search, object: Reference) -> bool {
        if self.handles_to(object) > 0 {
            return true;
        }
        let Ok(header) = self.slab.header(object) else { return false };
        let states = search.kept_by_states.get(object.place().index() as usize).copied().unwrap_or(0);
        // A permanent name keeps what it names as long as somebody can reach the directory.
        let named = u32::from(self.kept_by_name(object.place()).is_some());
        header.references() > states.saturating_add(self.kept_by_links(object)).saturating_add(named)
    }

    /// Marks what an object keeps.
    fn spread(&self, search: &mut Search, place: Place) -> Result<(), NoMemory> {
        let Some(object) = self.alive(place) else { return Ok(()) };
        let mut result = Ok(());
        self.each_kept(object, &mut |target| {
            if result.is_ok() {
                result = search.mark(target);
            }
        });
        result
    }

    /// The last look: one step.
    fn is_lost(&mut self, search: &Search, object: Reference) -> Result<bool, NoMemory> {
        let was_marked = search.marked.get(object.place().index() as usize).copied().unwrap_or(true);
        if was_marked || object.koid() > search.last || self.is_root(search, object) {
            return Ok(false);
        }
        let Why { chain, rooted } = self.search_why(object)?;
        Ok(!rooted && chain.is_empty())
    }

    /// Whatever an object keeps alive: by its state, by links, by permanent names in it.
    fn each_kept(&self, object: Reference, visit: &mut dyn FnMut(Place)) {
        self.kept_by_state(object, visit);
        let mut cursor = 0;
        while let Some(named) = self.names.after(object.place(), cursor) {
            cursor = named.cursor;
            if named.permanent {
                visit(named.target);
            }
        }
        let Ok(header) = self.slab.header(object) else { return };
        let mut outgoing = header.first_out();
        while let Some(record) = outgoing.and_then(|place| self.links.get(place)) {
            outgoing = record.next_out;
            let Some(target) = record.target.filter(|_| record.kind().map(Keeps::of) == Some(Keeps::Target)) else {
                continue;
            };
            // A job contains what it is charged for, and keeps what it holds.
            let held = self.slab.at(target).is_ok_and(|target| self.body(target).is_some_and(|body| body.hold));
            if record.kind() != Some(LinkKind::Contains) || held {
                visit(target);
            }
        }
        let mut incoming = header.first_in();
        while let Some(record) = incoming.and_then(|place| self.links.get(place)) {
            incoming = record.next_in;
            if let (Some(Keeps::Source), Some(source)) = (record.kind().map(Keeps::of), record.source) {
                visit(source);
            }
        }
    }

    /// What the state of a user's object keeps.
    fn kept_by_state(&self, object: Reference, visit: &mut dyn FnMut(Place)) {
        let Some(hooks) = self.hooks_of(self.type_number(object)) else { return };
        let objects = self.slab.shared();
        if let Some(held) = objects.hold_at(object.place()) {
            (hooks.links)(&held, &mut |koid| {
                if let Ok(target) = self.find(koid) {
                    visit(target.place());
                }
            });
        }
    }

    /// From an object along what keeps what, back to it: empty if no circle of at most [`PATH_MOST`] is found.
    fn circle(&self, object: Reference) -> Result<Vec<Koid>, NoMemory> {
        let mut seen: Vec<(Place, Option<usize>)> = Vec::new();
        seen.try_push((object.place(), None))?;
        let mut at = 0;
        while let Some((place, _)) = seen.get(at).copied() {
            let mut next: Vec<Place> = Vec::new();
            let mut result = Ok(());
            if let Some(here) = self.alive(place) {
                self.each_kept(here, &mut |target| {
                    if result.is_ok() {
                        result = next.try_push(target);
                    }
                });
            }
            result?;
            if next.contains(&object.place()) {
                let mut path = Vec::new();
                let mut back = Some(at);
                while let Some((place, from)) = back.and_then(|at| seen.get(at)).copied() {
                    if let Some(koid) = self.koid_at(place) {
                        path.try_push(koid)?;
                    }
                    back = from;
                }
                path.reverse();
                return Ok(path);
            }
            for target in next {
                if seen.len() < PATH_MOST && !seen.iter().any(|(place, _)| *place == target) {
                    seen.try_push((target, Some(at)))?;
                }
            }
            at += 1;
        }
        Ok(Vec::new())
    }
}

//! Why an object is alive: the shortest chain of links from a root to it, as a garbage collector gives a root's path.

use crate::command::Why;
use crate::error::QueryError;
use crate::manager::Core;
use crate::types::State;
use alloc::vec::Vec;
use kobj_abi::{Koid, LinkKind};
use kobj_memory::{NoMemory, Place, Reference, TryPush};

/// A step backwards: who was reached, over which kind of link, from which entry of the search.
struct Reached {
    object: Reference,
    kind: LinkKind,
    from: Option<usize>,
}

impl Core {
    /// Breadth-first, from the object back to who keeps it.
    pub(crate) fn do_why(&mut self, koid: Koid) -> Result<Why, QueryError> {
        let object = self.find(koid)?;
        self.search(object).map_err(|NoMemory| QueryError::NoMemory { koid })
    }

    fn search(&mut self, object: Reference) -> Result<Why, NoMemory> {
        self.next_mark();
        self.visit(object);
        let mut reached = Vec::new();
        self.look_back(object, None, &mut reached)?;
        let mut at = 0;
        let mut level_end = reached.len();
        // Of the roots at the same distance a living process says more than a job.
        let mut first_job = None;
        while at < reached.len() {
            let here = reached[at].object;
            match self.state(here) {
                Some(State::Process(process)) if process.is_living() => return Self::chain(&reached, at),
                Some(State::Job(_)) if self.is_held_by_manager(here) => first_job = first_job.or(Some(at)),
                _ => self.look_back(here, Some(at), &mut reached)?,
            }
            at += 1;
            if at == level_end {
                if let Some(job) = first_job {
                    return Self::chain(&reached, job);
                }
                level_end = reached.len();
            }
        }
        Ok(Why { chain: Vec::new(), rooted: self.is_held_by_manager(object) })
    }

    /// A first job or an outside process that was not closed.
    fn is_held_by_manager(&self, object: Reference) -> bool {
        self.body(object).is_some_and(|body| body.hold && body.home.is_none())
    }

    fn chain(reached: &[Reached], root: usize) -> Result<Why, NoMemory> {
        let mut chain = Vec::new();
        let mut at = Some(root);
        while let Some(here) = at.and_then(|at| reached.get(at)) {
            chain.try_push((here.object.koid(), here.kind))?;
            at = here.from;
        }
        Ok(Why { chain, rooted: true })
    }

    /// Adds each living keeper of `object` that was not reached before.
    fn look_back(
        &mut self,
        object: Reference,
        from: Option<usize>,
        reached: &mut Vec<Reached>,
    ) -> Result<(), NoMemory> {
        let Ok(header) = self.slab.header(object) else { return Ok(()) };
        let mut incoming = header.first_in();
        let mut outgoing = self.first_that_may_keep(object);
        let held_by_job = self.body(object).is_some_and(|body| body.hold);
        while let Some(record) = incoming.and_then(|place| self.links.get(place)).copied() {
            incoming = record.next_in;
            if record.kind() != Some(LinkKind::Contains) || held_by_job {
                self.reach(record.kept(), record.keeper(), record.kind(), object, from, reached)?;
            }
        }
        while let Some(record) = outgoing.and_then(|place| self.links.get(place)).copied() {
            outgoing = record.next_out;
            self.reach(record.kept(), record.keeper(), record.kind(), object, from, reached)?;
        }
        Ok(())
    }

    fn reach(
        &mut self,
        kept: Option<Place>,
        keeper: Option<Place>,
        kind: Option<LinkKind>,
        object: Reference,
        from: Option<usize>,
        reached: &mut Vec<Reached>,
    ) -> Result<(), NoMemory> {
        let (Some(kind), true) = (kind, kept == Some(object.place())) else { return Ok(()) };
        let Some(keeper) = keeper.and_then(|keeper| self.alive(keeper)) else { return Ok(()) };
        if self.visit(keeper) {
            reached.try_push(Reached { object: keeper, kind, from })?;
        }
        Ok(())
    }

    fn next_mark(&mut self) {
        self.mark = self.mark.wrapping_add(1);
        if self.mark == 0 {
            // Once in 2^32 searches: forget the marks of the last round.
            for index in 0..self.slab.used() {
                let object = Place::new(index).and_then(|place| self.slab.at(place).ok());
                if let Some(header) = object.and_then(|object| self.slab.header_mut(object).ok()) {
                    header.set_mark(0);
                }
            }
            self.mark = 1;
        }
    }

    /// Whether this search comes by for the first time.
    fn visit(&mut self, object: Reference) -> bool {
        let mark = self.mark;
        self.slab.header_mut(object).is_ok_and(|header| header.set_mark(mark) != mark)
    }
}

//! Why an object is alive: the shortest chain of links from a root to it, as a garbage collector gives a root's path.

use crate::command::Why;
use crate::error::QueryError;
use crate::manager::Core;
use alloc::vec::Vec;
use kobj_abi::{Koid, LinkKind};
use kobj_memory::{NoMemory, Place, Reference, TryPush, try_collect};

/// A step backwards: who was reached, over which kind of link, from which entry of the search.
struct Reached {
    object: Reference,
    kind: LinkKind,
    from: Option<usize>,
}

/// What refers to what by users' own states, the referred first: made once for a search, and empty where no type has links.
type OwnLinks = Vec<(Place, Place)>;

/// An object of a level, and its entry in the search; the object that is asked about has none.
type Here = (Reference, Option<usize>);

impl Core {
    /// Breadth-first, from the object back to who keeps it, a level at a time.
    ///
    /// Of the roots at the same distance a process that has a handle comes first, then one that is linked, then a job.
    pub(crate) fn do_why(&mut self, koid: Koid) -> Result<Why, QueryError> {
        let object = self.find(koid)?;
        self.search_why(object).map_err(|NoMemory| QueryError::NoMemory { koid })
    }

    pub(crate) fn search_why(&mut self, object: Reference) -> Result<Why, NoMemory> {
        let own_links = self.own_links()?;
        self.next_mark();
        self.visit(object);
        let mut reached = Vec::new();
        let mut level: Vec<Here> = try_collect(core::iter::once((object, None)))?;
        while !level.is_empty() {
            if let Some(why) = self.why_by_handle(&reached, &level)? {
                return Ok(why);
            }
            let from = reached.len();
            for (here, at) in &level {
                self.look_back(*here, *at, &own_links, &mut reached)?;
            }
            let next = (from..reached.len()).filter_map(|at| Some((reached.get(at)?.object, Some(at))));
            level = try_collect(next)?;
            let is_first_job = |here: Reference| self.job(here).is_some() && self.is_held_by_manager(here);
            let root = level.iter().find(|(here, _)| self.is_living(*here));
            let root = root.or_else(|| level.iter().find(|(here, _)| is_first_job(*here)));
            if let Some((_, Some(root))) = root {
                return Self::chain(&reached, *root);
            }
        }
        Ok(Why { chain: Vec::new(), rooted: self.is_held_by_manager(object) || self.is_living(object) })
    }

    /// Whether a living process has a handle to one of a level, and the chain from there.
    fn why_by_handle(&self, reached: &[Reached], level: &[Here]) -> Result<Option<Why>, NoMemory> {
        let mut with_handles = try_collect(level.iter().filter(|(object, _)| self.handles_to(*object) > 0))?;
        with_handles.sort_unstable_by_key(|(object, _)| object.place());
        let find = |place| with_handles.binary_search_by_key(&place, |(object, _)| object.place()).ok();
        let found = match with_handles.as_slice() {
            [] => None,
            // Most often it is one: then its place is all that is compared.
            [(only, _)] => self.holder_among(|place| place == only.place()),
            _ => self.holder_among(|place| find(place).is_some()),
        };
        let Some((process, place)) = found else { return Ok(None) };
        let Some((_, at)) = find(place).and_then(|found| with_handles.get(found)) else { return Ok(None) };
        let mut chain = Vec::new();
        chain.try_push((process.koid(), LinkKind::Holds))?;
        for step in at.map(|at| Self::chain(reached, at)).transpose()?.map(|why| why.chain).unwrap_or_default() {
            chain.try_push(step)?;
        }
        Ok(Some(Why { chain, rooted: true }))
    }

    /// What the states of users' objects refer to, sorted.
    fn own_links(&self) -> Result<OwnLinks, NoMemory> {
        let mut all = OwnLinks::new();
        let mut result = Ok(());
        if !self.own_types.iter().any(|row| row.has_links) {
            return Ok(all);
        }
        for source in self.slab.shared().iter() {
            let Some(hooks) = self.hooks_of(source.header().type_number()) else { continue };
            (hooks.links)(&source, &mut |koid| {
                if let (Ok(target), true) = (self.find(koid), result.is_ok()) {
                    result = all.try_push((target.place(), source.place()));
                }
            });
        }
        result?;
        all.sort_unstable();
        Ok(all)
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
        own_links: &OwnLinks,
        reached: &mut Vec<Reached>,
    ) -> Result<(), NoMemory> {
        let Ok(header) = self.slab.header(object) else { return Ok(()) };
        let mut incoming = header.first_in();
        let mut outgoing = self.first_that_may_keep(object);
        let held_by_job = self.body(object).is_some_and(|body| body.hold);
        let place = object.place();
        if let Some(directory) = self.kept_by_name(place) {
            self.reach(Some(place), Some(directory), Some(LinkKind::Contains), object, from, reached)?;
        }
        let first = own_links.partition_point(|(target, _)| *target < place);
        for (_, source) in own_links.iter().skip(first).take_while(|(target, _)| *target == place) {
            self.reach(Some(place), Some(*source), Some(LinkKind::Holds), object, from, reached)?;
        }
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

//! How the model is compared, and what it shows so that calls can be made up that mean something.

use super::model::{Expected, Model, Object, Told};
use super::world::{Manager, RESOURCES, Seen, SeenName};
use kobj_abi::{Koid, LinkKind, ObjectType, RawHandle, Rights};
use kobj_core::{Call, CallAnswer, Effect, EntryName, Keeper, Tally, Why};
use std::collections::BTreeMap;

/// A handle, as far as the calls that are made up go by it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) koid: Koid,
    pub(super) rights: Rights,
    /// The number of its derivation node; 0 if it has none.
    pub(super) node: u32,
}

impl Model {
    /// Does a call and compares what the manager said to it.
    ///
    /// # Errors
    /// What differs, in words.
    pub fn check(
        &mut self,
        process: Koid,
        call: &Call<'_>,
        reply: &Expected,
        inherited: (Vec<RawHandle>, Vec<RawHandle>),
    ) -> Result<(), String> {
        let handle = match reply {
            Ok(CallAnswer::Handle(handle) | CallAnswer::Opened { handle, .. } | CallAnswer::Guest { handle, .. }) => {
                Some(*handle)
            }
            _ => None,
        };
        let entry = match reply {
            Ok(CallAnswer::Entry(Some(entry))) => Some((entry.koid, entry.cursor)),
            _ => None,
        };
        let why = match reply {
            Ok(CallAnswer::Why(why)) => Some(why.clone()),
            _ => None,
        };
        self.told = Told { handle, entry, why, inherited };
        let reply = &reply.clone().map(in_order);
        let expected = self.answer(process, call).map(in_order);
        match self.complaint.take() {
            Some(complaint) => Err(format!("{call:?} of {process}: {complaint}")),
            None if expected == *reply => Ok(()),
            None => Err(format!("{call:?} of {process}: expected {expected:?}, got {reply:?}")),
        }
    }

    /// Takes note of a call that was refused for want of memory, and would have been done else. Nothing is to have changed
    /// but what cannot be taken back: an id may be spent on what was made and went again, and charges that were taken back
    /// may show in the peaks, up to where the whole call would have brought them.
    ///
    /// # Errors
    /// What changed beyond that.
    pub(super) fn no_memory(&mut self, process: Koid, call: &Call<'_>, seen: &impl Manager) -> Result<(), String> {
        let mut done = self.clone();
        done.told = Told::default();
        let _as_it_would_be = done.answer(process, call);
        for object_type in ObjectType::ALL {
            if seen.tally(object_type).created > self.tally(object_type).created {
                let koid = self.new_object(object_type, None, None);
                self.objects.get_mut(&koid).unwrap().held = false;
                self.settle(koid);
            }
        }
        for koid in self.owners() {
            for resource in RESOURCES {
                let peak = seen.usage(koid, resource).map_or(0, |usage| usage.peak);
                let meter = self.meter(koid, resource);
                if !(meter.peak..=done.meter(koid, resource).peak).contains(&peak) {
                    return Err(format!("{call:?} of {process}: the peak of {resource:?} of {koid} is {peak}"));
                }
                meter.peak = peak;
            }
        }
        Ok(())
    }

    /// Whether that chain keeps the object, and is as short as any.
    pub(super) fn is_shortest(&self, koid: Koid, why: &Why) -> bool {
        let ours = self.shortest(koid);
        let kept = why.chain.iter().skip(1).map(|(koid, _)| *koid).chain([koid]);
        let is_step = |((keeper, kind), kept): (&(Koid, LinkKind), Koid)| {
            self.keepers_of(kept).contains(&Keeper { koid: *keeper, kind: *kind })
        };
        let root = |why: &Why| why.chain.first().map(|(koid, _)| (self.is_root(*koid), self.type_of(*koid)));
        let same = why.rooted == ours.rooted && why.chain.len() == ours.chain.len() && root(why) == root(&ours);
        same && why.chain.iter().zip(kept).all(is_step)
    }

    /// What each object must look like.
    #[must_use]
    pub fn seen(&self) -> BTreeMap<Koid, Seen> {
        let see = |(koid, object): (&Koid, &Object)| {
            let seen = Seen {
                object_type: object.object_type,
                owner: object.owner,
                handles: 0,
                references: u32::from(object.held),
                name: None,
            };
            (*koid, seen)
        };
        let mut seen: BTreeMap<Koid, Seen> = self.objects.iter().map(see).collect();
        for handle in self.tables.values().flat_map(|table| table.handles.values()) {
            let object = seen.get_mut(&handle.koid).unwrap();
            object.handles += 1;
            object.references += 1;
        }
        for name in &self.names {
            let object = seen.get_mut(&name.koid).unwrap();
            object.name = Some(SeenName {
                directory: name.directory,
                name: EntryName::new(&name.name).unwrap(),
                most: name.most,
                permanent: name.permanent,
            });
            object.references += u32::from(name.permanent);
        }
        seen
    }

    /// How many objects of which type each living job is charged for.
    #[must_use]
    pub fn charged(&self) -> BTreeMap<Koid, BTreeMap<ObjectType, u64>> {
        let jobs = self.objects.iter().filter(|(_, object)| object.object_type == ObjectType::Job && !object.dead);
        let mut charged: BTreeMap<Koid, BTreeMap<ObjectType, u64>> =
            jobs.map(|(job, _)| (*job, BTreeMap::new())).collect();
        for object in self.objects.values() {
            if let Some(job) = object.owner.and_then(|owner| charged.get_mut(&owner)) {
                *job.entry(object.object_type).or_default() += 1;
            }
        }
        charged
    }

    /// What the embedder is to be told since this was asked last.
    pub fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The handles of a living process.
    #[must_use]
    pub fn handles(&self, process: Koid) -> Vec<RawHandle> {
        self.tables.get(&process).map(|table| table.handles.keys().copied().collect()).unwrap_or_default()
    }

    /// Each living process with its handles.
    pub(super) fn all_handles(&self) -> Vec<(Koid, Vec<RawHandle>)> {
        self.tables.keys().map(|process| (*process, self.handles(*process))).collect()
    }

    /// Whether a process can make calls.
    pub(super) fn calls(&self, process: Koid) -> bool {
        self.tables.contains_key(&process)
    }

    pub(super) fn handles_of(&self, process: Koid) -> impl Iterator<Item = (RawHandle, Held)> + '_ {
        self.tables.get(&process).into_iter().flat_map(|table| table.handles.iter()).map(|(value, handle)| {
            (*value, Held { koid: handle.koid, rights: handle.rights, node: handle.path.last().map_or(0, |it| it.0) })
        })
    }

    pub(super) fn type_of(&self, koid: Koid) -> ObjectType {
        self.objects[&koid].object_type
    }

    /// All objects that live.
    pub(super) fn all(&self) -> Vec<Koid> {
        self.objects.keys().copied().collect()
    }

    /// The books of a type.
    #[must_use]
    pub fn tally(&self, object_type: ObjectType) -> Tally {
        self.books.get(&object_type).copied().unwrap_or_default()
    }

    pub(super) fn is_unnamed(&self, koid: Koid) -> bool {
        self.name_of(koid).is_none()
    }

    /// The names in a directory, with what they name.
    pub(super) fn names_in(&self, directory: Koid) -> Vec<(Vec<u8>, Koid)> {
        let inside = self.names.iter().filter(|entry| entry.directory == directory);
        inside.map(|entry| (entry.name.clone(), entry.koid)).collect()
    }

    /// A directory and those above it.
    pub(super) fn directories_from(&self, directory: Koid) -> Vec<Koid> {
        [vec![directory], self.above(directory)].concat()
    }

    /// How many derivation nodes there are.
    #[must_use]
    pub fn node_count(&self) -> u32 {
        self.nodes().len() as u32
    }

    /// The jobs and processes that live.
    pub(super) fn owners(&self) -> Vec<Koid> {
        let lives = |koid: &&Koid| self.objects.get(koid).is_some_and(|object| !object.dead);
        self.accounts.keys().filter(lives).copied().collect()
    }

    /// How many jobs, or directories, are around an object.
    pub(super) fn depth(&self, koid: Koid) -> usize {
        match self.type_of(koid) {
            ObjectType::Job => self.around(koid).count(),
            _ => self.above(koid).len(),
        }
    }

    /// The job that an object is in.
    pub(super) fn owner_of(&self, koid: Koid) -> Option<Koid> {
        self.objects[&koid].owner
    }
}

/// What is told in no order, in order.
pub(super) fn in_order(mut answer: CallAnswer) -> CallAnswer {
    match &mut answer {
        CallAnswer::Holders(holders) => holders.sort_unstable_by_key(|holder| holder.process),
        CallAnswer::KeptBy(keepers) => keepers.sort_unstable_by_key(|keeper| (keeper.koid, keeper.kind)),
        _ => {}
    }
    answer
}

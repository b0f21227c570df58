//! What the model says of who keeps and who holds what: the graph of handles, names and jobs.

use super::model::{Expected, Model};
use kobj_abi::{Koid, LinkKind, ObjectType, Operation, RawHandle, Rights};
use kobj_core::{CallAnswer, Holder, Keeper, Why};
use std::collections::BTreeSet;

impl Model {
    pub(super) fn holders_of(&self, koid: Koid) -> Vec<Holder> {
        let hold = |(process, table): (&Koid, &super::model::Table)| {
            let rights: Vec<Rights> =
                table.handles.values().filter(|handle| handle.koid == koid).map(|handle| handle.rights).collect();
            let together = rights.iter().fold(Rights::NONE, |sum, rights| sum | *rights);
            (!rights.is_empty()).then_some(Holder { process: *process, handles: rights.len() as u32, rights: together })
        };
        self.tables.iter().filter_map(hold).collect()
    }

    pub(super) fn keepers_of(&self, koid: Koid) -> Vec<Keeper> {
        let holders = self.holders_of(koid).into_iter();
        let mut keepers: Vec<Keeper> =
            holders.map(|holder| Keeper { koid: holder.process, kind: LinkKind::Holds }).collect();
        let name = self.name_of(koid).filter(|name| name.permanent).map(|name| name.directory);
        let job = self.objects[&koid].owner.filter(|_| self.objects[&koid].held);
        keepers.extend(name.into_iter().chain(job).map(|koid| Keeper { koid, kind: LinkKind::Contains }));
        keepers
    }

    /// What a chain can begin with: a living process, or the first job.
    pub(super) fn is_root(&self, koid: Koid) -> bool {
        let object = &self.objects[&koid];
        (object.object_type == ObjectType::Process && !object.dead) || object.owner.is_none()
    }

    /// A shortest chain to an object; of several one that begins with a process, if there is one.
    #[must_use]
    pub fn shortest(&self, koid: Koid) -> Why {
        let mut seen = BTreeSet::from([koid]);
        let mut level: Vec<(Koid, Vec<(Koid, LinkKind)>)> = vec![(koid, Vec::new())];
        while !level.is_empty() {
            let mut next = Vec::new();
            for (kept, chain) in &level {
                // A process may have a handle to itself.
                let is_new = |keeper: &Keeper| seen.insert(keeper.koid) || keeper.kind == LinkKind::Holds;
                let keepers = self.keepers_of(*kept).into_iter().filter(is_new);
                next.extend(keepers.map(|it| (it.koid, [&[(it.koid, it.kind)], chain.as_slice()].concat())));
            }
            let roots = next.iter().filter(|(koid, _)| self.is_root(*koid));
            if let Some((_, chain)) = roots.max_by_key(|(koid, _)| self.type_of(*koid) == ObjectType::Process) {
                return Why { chain: chain.clone(), rooted: true };
            }
            level = next;
        }
        Why { chain: Vec::new(), rooted: self.is_root(koid) }
    }

    /// Some shortest chain is as good as another: what was told is expected, if it is one.
    pub(super) fn why(&self, handle: RawHandle) -> Expected {
        let koid = self.look(handle, Operation::Why)?.koid;
        let told = self.told.why.clone().filter(|told| self.is_shortest(koid, told));
        Ok(CallAnswer::Why(told.unwrap_or_else(|| self.shortest(koid))))
    }
}

//! The model's quotas: who pays for what, counted anew whenever it is asked.

use super::model::{Model, Refusable, need};
use kobj_abi::{Koid, ObjectType, Operation, RawHandle};
use kobj_core::{BadHandlePolicy, CallError, Effect, KillReason, Resource, UNLIMITED, Usage};
use std::collections::BTreeMap;
use std::iter::successors;

/// Bytes of a handle, of a derivation node, of a permanent name.
const HANDLE_BYTES: u64 = 24;
pub(super) const NODE_BYTES: u64 = 32;
pub(super) const NAME_BYTES: u64 = 64 + 256;

const NO_LIMIT: Usage = Usage { used: 0, limit: UNLIMITED, peak: 0, refused: 0 };

/// What is charged at once, in the order in which limits are looked at.
pub(super) type Bill = Vec<(Resource, u64)>;

pub(super) fn handle_bill() -> Bill {
    vec![(Resource::Handles, 1), (Resource::Bytes, HANDLE_BYTES)]
}

pub(super) fn bytes_bill(bytes: u64) -> Bill {
    vec![(Resource::Bytes, bytes)]
}

/// How much each account has of each resource, with all inside it.
pub type Used = BTreeMap<Koid, BTreeMap<Resource, u64>>;

fn add(used: &mut Used, account: Koid, amounts: impl IntoIterator<Item = (Resource, u64)>) {
    let used = used.entry(account).or_default();
    amounts.into_iter().for_each(|(resource, more)| *used.entry(resource).or_default() += more);
}

impl Model {
    pub(super) fn object_bill(&self, object_type: ObjectType, target: &[u8]) -> Bill {
        let bytes = self.start().sizes.get(&object_type).copied().unwrap_or(0) + target.len() as u64;
        vec![(Resource::Objects, 1), (Resource::ObjectsOf(object_type.number()), 1), (Resource::Bytes, bytes)]
    }

    /// What each account has, those of ended jobs and processes among them.
    #[must_use]
    pub fn used(&self) -> Used {
        let objects =
            self.objects.values().filter_map(|it| Some((it.payer?, self.object_bill(it.object_type, &it.target))));
        let kept = self.names.iter().filter(|name| name.permanent);
        let names = kept.filter_map(|name| Some((self.objects[&name.directory].payer?, bytes_bill(NAME_BYTES))));
        let nodes = self.nodes().into_iter().map(|(_, payer)| (payer, bytes_bill(NODE_BYTES)));
        let handles = self.every_handle().map(|(process, ..)| (process, handle_bill()));
        let mut used = Used::new();
        for (payer, bill) in objects.chain(names).chain(nodes).chain(handles) {
            add(&mut used, payer, bill);
        }
        // What is inside is younger than what is around it.
        for (koid, around) in self.accounts.iter().rev() {
            if let (Some(around), Some(inner)) = (*around, used.get(koid).cloned()) {
                add(&mut used, around, inner);
            }
        }
        used
    }

    /// What must be said of a resource of a job or process that has so much.
    #[must_use]
    pub fn usage(&self, used: &Used, koid: Koid, resource: Resource) -> Usage {
        let used = used.get(&koid).and_then(|used| used.get(&resource)).copied().unwrap_or(0);
        Usage { used, ..self.meters.get(&(koid, resource)).copied().unwrap_or(NO_LIMIT) }
    }

    pub(super) fn meter(&mut self, koid: Koid, resource: Resource) -> &mut Usage {
        self.meters.entry((koid, resource)).or_insert(NO_LIMIT)
    }

    pub(super) fn around(&self, account: Koid) -> impl Iterator<Item = Koid> + '_ {
        successors(Some(account), |account| self.accounts[account])
    }

    /// Charges all this, one after the other, and nothing of what follows one that is refused. What is made of it is the
    /// caller's: here only the most that there was stays, and that a limit refused.
    pub(super) fn afford(&mut self, bills: &[(Koid, Bill)]) -> Refusable<()> {
        let mut used = self.used();
        for (payer, bill) in bills {
            let levels: Vec<Koid> = self.around(*payer).collect();
            self.charge(&mut used, &levels, bill)?;
        }
        Ok(())
    }

    fn charge(&mut self, used: &mut Used, levels: &[Koid], bill: &Bill) -> Refusable<()> {
        for koid in levels.iter().copied() {
            for (resource, more) in bill.iter().copied() {
                let Usage { used, limit, .. } = self.usage(used, koid, resource);
                if used + more > limit {
                    self.meter(koid, resource).refused += 1;
                    return Err(CallError::Quota { koid, resource, limit, used });
                }
            }
        }
        for koid in levels.iter().copied() {
            add(used, koid, bill.clone());
            for (resource, _) in bill.iter().copied() {
                let now = self.usage(used, koid, resource).used;
                let meter = self.meter(koid, resource);
                meter.peak = meter.peak.max(now);
            }
        }
        Ok(())
    }

    /// Notes that there is what there is.
    pub(super) fn note_peaks(&mut self) {
        for (koid, amounts) in self.used() {
            amounts.into_iter().for_each(|(resource, now)| self.meter(koid, resource).peak = now);
        }
    }

    /// Who pays for a permanent name in that directory: its payer or, if that has ended, who is around it.
    pub(super) fn payer_of_names(&self, directory: Koid) -> Koid {
        let payer = self.objects[&directory].payer.unwrap();
        let lives = |koid: &Koid| self.objects.get(koid).is_some_and(|object| !object.dead);
        self.around(payer).find(lives).unwrap()
    }

    pub(super) fn set_quota(&mut self, handle: RawHandle, resource: Resource, limit: u64) -> Refusable<()> {
        let koid = self.look(handle, Operation::SetQuota)?.koid;
        self.is_alive(koid)?;
        if self.objects[&koid].object_type == ObjectType::Process {
            self.is_living_guest(koid)?;
        }
        self.meter(koid, resource).limit = limit;
        Ok(())
    }

    pub(super) fn recharge(&mut self, handle: RawHandle, from: RawHandle, to: RawHandle) -> Refusable<()> {
        let koid = self.look(handle, Operation::Recharge)?.koid;
        let from = self.look(from, Operation::MoveCharge)?.koid;
        let to = self.look(to, Operation::MoveCharge)?.koid;
        let object = &self.objects[&koid];
        let moves = !matches!(object.object_type, ObjectType::Job | ObjectType::Process);
        need(moves, CallError::StandsInItsJob { koid })?;
        need(object.owner == Some(from), CallError::ChargedElsewhere { koid })?;
        self.is_alive(to)?;
        let payers: Vec<Koid> = self.around(object.payer.unwrap()).collect();
        let levels: Vec<Koid> = self.around(to).take_while(|level| !payers.contains(level)).collect();
        let names = self.names.iter().filter(|name| name.directory == koid && name.permanent).count() as u64;
        let mut bill = self.object_bill(object.object_type, &object.target);
        bill[2].1 += names * NAME_BYTES;
        self.charge(&mut self.used(), &levels, &bill)?;
        let object = self.objects.get_mut(&koid).unwrap();
        (object.payer, object.owner) = (Some(to), Some(to));
        Ok(())
    }

    /// What follows a bad handle, as the innermost job says that says anything.
    pub(super) fn used_bad_handle(&mut self, process: Koid, handle: RawHandle) {
        let policy = self.around(process).find_map(|koid| self.policies.get(&koid).copied());
        let policy = policy.unwrap_or(BadHandlePolicy::Error);
        if policy != BadHandlePolicy::Error {
            self.effects.push(Effect::BadHandle { process, handle, times: 1 });
        }
        if policy == BadHandlePolicy::Kill && process != self.start().guest {
            self.kill_process(process, Some(KillReason::BadHandle));
        }
    }
}

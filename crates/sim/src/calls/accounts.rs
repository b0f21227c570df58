//! The model's quotas: who pays for what, counted anew whenever it is asked.

use super::model::{Expected, Model, Refusable};
use kobj_abi::{Koid, ObjectType, Operation, RawHandle};
use kobj_core::{BadHandlePolicy, CallAnswer, CallError, Effect, KillReason, Resource, UNLIMITED};
use std::collections::BTreeMap;

/// Bytes of a handle, of a derivation node, of a permanent name.
const HANDLE_BYTES: u64 = 24;
const NODE_BYTES: u64 = 32;
const NAME_BYTES: u64 = 64 + 256;

/// The account of a job or process; it stays when that has ended, for what is still charged to it.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) around: Option<Koid>,
    pub(super) limits: BTreeMap<Resource, u64>,
}

/// What is charged at once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bill {
    object: Option<ObjectType>,
    handles: u64,
    bytes: u64,
}

impl Bill {
    pub(super) const HANDLE: Self = Self { object: None, handles: 1, bytes: HANDLE_BYTES };
    pub(super) const NAME: Self = Self { object: None, handles: 0, bytes: NAME_BYTES };

    pub(super) const fn nodes(count: u64) -> Self {
        Self { object: None, handles: 0, bytes: NODE_BYTES * count }
    }

    fn amounts(self) -> impl Iterator<Item = (Resource, u64)> {
        let objects = self.object.map(|of| [(Resource::Objects, 1), (Resource::ObjectsOf(of.number()), 1)]);
        let rest = [(Resource::Handles, self.handles), (Resource::Bytes, self.bytes)];
        objects.into_iter().flatten().chain(rest).filter(|(_, more)| *more > 0)
    }
}

/// How much each account has of each resource, with all inside it.
pub type Used = BTreeMap<Koid, BTreeMap<Resource, u64>>;

fn add(used: &mut Used, account: Koid, amounts: impl Iterator<Item = (Resource, u64)>) {
    let used = used.entry(account).or_default();
    amounts.for_each(|(resource, more)| *used.entry(resource).or_default() += more);
}

impl Model {
    pub(super) fn object_bill(&self, object_type: ObjectType, target: &[u8]) -> Bill {
        let bytes = self.start().sizes.get(&object_type).copied().unwrap_or(0) + target.len() as u64;
        Bill { object: Some(object_type), handles: 0, bytes }
    }

    /// What each account has, those of ended jobs and processes among them.
    #[must_use]
    pub fn used(&self) -> Used {
        let objects =
            self.objects.values().filter_map(|it| Some((it.payer?, self.object_bill(it.object_type, &it.target))));
        let kept = self.names.iter().filter(|name| name.permanent);
        let names = kept.filter_map(|name| Some((self.objects[&name.directory].payer?, Bill::NAME)));
        let nodes = self.nodes.values().map(|node| (node.payer, Bill::nodes(1)));
        let handles =
            self.tables.iter().flat_map(|(process, table)| table.handles.iter().map(|_| (*process, Bill::HANDLE)));
        let mut used = Used::new();
        for (payer, bill) in objects.chain(names).chain(nodes).chain(handles) {
            add(&mut used, payer, bill.amounts());
        }
        // What is inside is younger than what is around it.
        for (koid, account) in self.accounts.iter().rev() {
            if let (Some(around), Some(inner)) = (account.around, used.get(koid).cloned()) {
                add(&mut used, around, inner.into_iter());
            }
        }
        used
    }

    /// How much an account has of one resource.
    #[must_use]
    pub fn used_of(used: &Used, koid: Koid, resource: Resource) -> u64 {
        used.get(&koid).and_then(|used| used.get(&resource)).copied().unwrap_or(0)
    }

    pub(super) fn around(&self, account: Koid) -> impl Iterator<Item = Koid> + '_ {
        std::iter::successors(Some(account), |account| self.accounts[account].around)
    }

    /// Whether all this can be charged, one after the other; which of them cannot, and why.
    pub(super) fn afford_all(&self, bills: &[(Koid, Bill)]) -> Result<(), (usize, CallError)> {
        let is_limited =
            |(payer, _): &(Koid, Bill)| self.around(*payer).any(|it| !self.accounts[&it].limits.is_empty());
        if !bills.iter().any(is_limited) {
            return Ok(());
        }
        let mut used = self.used();
        for (at, (payer, bill)) in bills.iter().enumerate() {
            for koid in self.around(*payer) {
                self.has_room(koid, &used, *bill).map_err(|error| (at, error))?;
            }
            self.around(*payer).for_each(|koid| add(&mut used, koid, bill.amounts()));
        }
        Ok(())
    }

    pub(super) fn afford(&self, bills: &[(Koid, Bill)]) -> Refusable<()> {
        self.afford_all(bills).map_err(|(_, error)| error)
    }

    fn has_room(&self, koid: Koid, used: &Used, bill: Bill) -> Refusable<()> {
        for (resource, more) in bill.amounts() {
            let Some(limit) = self.accounts[&koid].limits.get(&resource).copied() else { continue };
            let used = Self::used_of(used, koid, resource);
            if used + more > limit {
                return Err(CallError::Quota { koid, resource, limit, used });
            }
        }
        Ok(())
    }

    /// Who pays for a permanent name in that directory: its payer or, if that has ended, who is around it.
    pub(super) fn payer_of_names(&self, directory: Koid) -> Koid {
        let payer = self.objects[&directory].payer.unwrap();
        let lives = |koid: &Koid| self.objects.get(koid).is_some_and(|object| !object.dead);
        self.around(payer).find(lives).unwrap()
    }

    pub(super) fn set_quota(&mut self, process: Koid, handle: RawHandle, resource: Resource, limit: u64) -> Expected {
        let koid = self.look(process, handle, Operation::SetQuota)?.koid;
        self.is_alive(koid)?;
        if self.objects[&koid].object_type == ObjectType::Process {
            self.is_living_guest(koid)?;
        }
        let limits = &mut self.accounts.get_mut(&koid).unwrap().limits;
        limits.insert(resource, limit);
        limits.retain(|_, limit| *limit != UNLIMITED);
        Ok(CallAnswer::Done)
    }

    pub(super) fn recharge(&mut self, process: Koid, handle: RawHandle, from: RawHandle, to: RawHandle) -> Expected {
        let koid = self.look(process, handle, Operation::Recharge)?.koid;
        let from = self.look(process, from, Operation::MoveCharge)?.koid;
        let to = self.look(process, to, Operation::MoveCharge)?.koid;
        let object = &self.objects[&koid];
        if matches!(object.object_type, ObjectType::Job | ObjectType::Process) {
            return Err(CallError::StandsInItsJob { koid });
        }
        if object.owner != Some(from) {
            return Err(CallError::ChargedElsewhere { koid });
        }
        self.is_alive(to)?;
        let payers: Vec<Koid> = self.around(object.payer.unwrap()).collect();
        let names = self.names.iter().filter(|name| name.directory == koid && name.permanent).count() as u64;
        let mut bill = self.object_bill(object.object_type, &object.target);
        bill.bytes += names * NAME_BYTES;
        let used = self.used();
        for level in self.around(to).take_while(|level| !payers.contains(level)) {
            self.has_room(level, &used, bill)?;
        }
        let object = self.objects.get_mut(&koid).unwrap();
        (object.payer, object.owner) = (Some(to), Some(to));
        Ok(CallAnswer::Done)
    }

    pub(super) fn set_policy(&mut self, process: Koid, job: RawHandle, policy: BadHandlePolicy) -> Expected {
        let koid = self.look(process, job, Operation::SetPolicy)?.koid;
        self.is_alive(koid)?;
        self.policies.insert(koid, policy);
        Ok(CallAnswer::Done)
    }

    /// What follows a bad handle, as the innermost job says that says anything.
    pub(super) fn used_bad_handle(&mut self, process: Koid, handle: RawHandle) {
        let policy = self.around(process).find_map(|koid| self.policies.get(&koid).copied());
        let policy = policy.unwrap_or(BadHandlePolicy::Error);
        if policy != BadHandlePolicy::Error {
            self.effects.push(Effect::BadHandle { process, handle });
        }
        if policy == BadHandlePolicy::Kill && process != self.start().guest {
            self.kill_process(process, Some(KillReason::BadHandle));
        }
    }
}

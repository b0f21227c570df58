//! Leases: credit that a thread takes in blocks, so that it need not come here for each object and handle.
//!
//! What is lent is charged at once. A thread uses its credit up and gives it back without anybody else knowing; how much
//! lies idle only its own counter says ([`Credits`]). The books therefore call it back by that counter, and never guess.

use super::{AccountId, Accounts, Charge, ChargeError, Resource};
use core::num::NonZeroU32;
use kobj_abi::TypeNumber;

/// A lease, as long as it is not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub(super) NonZeroU32);

/// Where the credit of leases lies: counters that threads change while the books are looked at.
pub trait Credits {
    /// Takes all unused object credit of a lease, so that its thread has none. Says how many that were.
    fn recall_objects(&mut self, lease: LeaseId) -> u32;
    /// Takes all unused handle credit of a lease. Says how many that were.
    fn recall_handles(&mut self, lease: LeaseId) -> u32;
    /// How much object credit of a lease is unused now.
    fn unused_objects(&self, lease: LeaseId) -> u32;
    /// How much handle credit of a lease is unused now.
    fn unused_handles(&self, lease: LeaseId) -> u32;
}

/// For books in which nothing is lent.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLeases;

impl Credits for NoLeases {
    fn recall_objects(&mut self, _: LeaseId) -> u32 {
        0
    }

    fn recall_handles(&mut self, _: LeaseId) -> u32 {
        0
    }

    fn unused_objects(&self, _: LeaseId) -> u32 {
        0
    }

    fn unused_handles(&self, _: LeaseId) -> u32 {
        0
    }
}

/// What a lease is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who is charged for its objects.
    pub objects: AccountId,
    /// Who is charged for its handles.
    pub handles: AccountId,
    /// Its objects' type.
    pub object_type: TypeNumber,
    /// What one of its objects takes, in bytes.
    pub object_bytes: u32,
    /// What one of its handles takes, in bytes.
    pub handle_bytes: u32,
}

impl Lease {
    pub(super) fn charge_of_objects(&self, objects: u32) -> Charge {
        let bytes = u64::from(objects) * u64::from(self.object_bytes);
        Charge { object_type: self.object_type, objects, handles: 0, bytes }
    }

    pub(super) fn charge_of_handles(&self, handles: u32) -> Charge {
        let bytes = u64::from(handles) * u64::from(self.handle_bytes);
        Charge { object_type: TypeNumber(0), objects: 0, handles, bytes }
    }
}

#[derive(Debug)]
pub(super) struct Leased {
    lease: Lease,
}

impl Accounts {
    /// Begins a lease, without credit.
    ///
    /// # Errors
    /// [`ChargeError::Closed`], [`ChargeError::NoMemory`].
    pub fn begin_lease(&mut self, lease: Lease) -> Result<LeaseId, ChargeError> {
        if !self.takes_charges(lease.objects) || !self.takes_charges(lease.handles) {
            return Err(ChargeError::Closed);
        }
        let id = self.leases.insert(Leased { lease })?;
        for account in [lease.objects, lease.handles] {
            if let Some(account) = self.get_mut(account) {
                account.referred += 1;
            }
        }
        Ok(LeaseId(id))
    }

    /// Ends a lease and takes its unused credit back. Allocates nothing.
    pub fn end_lease(&mut self, id: LeaseId, credits: &mut impl Credits) {
        self.take_objects(id, credits);
        self.take_handles(id, credits);
        let Some(Leased { lease }) = self.leases.remove(id.0) else { return };
        for account in [lease.objects, lease.handles] {
            if let Some(account) = self.get_mut(account) {
                account.referred -= 1;
            }
            self.settle(account);
        }
    }

    /// Lends object credit: as much as is wanted and no limit forbids, at least one. It is charged from now on.
    ///
    /// # Errors
    /// [`ChargeError`]: not even one, though all idle credit below the refusing level was called back.
    pub fn lend_objects(&mut self, id: LeaseId, wanted: u32, credits: &mut impl Credits) -> Result<u32, ChargeError> {
        let lease = self.leases.get(id.0).ok_or(ChargeError::Closed)?.lease;
        let number = Resource::ObjectsOf(lease.object_type);
        let room = [(Resource::Objects, 1), (number, 1), (Resource::Bytes, lease.object_bytes)];
        let lent = self.room(lease.objects, room).min(u64::from(wanted)).max(1) as u32;
        self.charge(lease.objects, lease.charge_of_objects(lent), credits)?;
        Ok(lent)
    }

    /// Lends handle credit, likewise.
    ///
    /// # Errors
    /// [`ChargeError`]: not even one, though all idle credit below the refusing level was called back.
    pub fn lend_handles(&mut self, id: LeaseId, wanted: u32, credits: &mut impl Credits) -> Result<u32, ChargeError> {
        let lease = self.leases.get(id.0).ok_or(ChargeError::Closed)?.lease;
        let room = [(Resource::Handles, 1), (Resource::Bytes, lease.handle_bytes)];
        let lent = self.room(lease.handles, room).min(u64::from(wanted)).max(1) as u32;
        self.charge(lease.handles, lease.charge_of_handles(lent), credits)?;
        Ok(lent)
    }

    /// Takes object credit back that its thread has given up.
    pub fn return_objects(&mut self, id: LeaseId, objects: u32) {
        if let Some(Leased { lease }) = self.leases.get(id.0) {
            let (account, charge) = (lease.objects, lease.charge_of_objects(objects));
            self.refund(account, charge);
        }
    }

    /// Takes handle credit back that its thread has given up.
    pub fn return_handles(&mut self, id: LeaseId, handles: u32) {
        if let Some(Leased { lease }) = self.leases.get(id.0) {
            let (account, charge) = (lease.handles, lease.charge_of_handles(handles));
            self.refund(account, charge);
        }
    }

    /// How many, of which one takes so much of each resource, find room at an account and all around it.
    fn room<const N: usize>(&self, id: AccountId, each: [(Resource, u32); N]) -> u64 {
        let mut most = u64::MAX;
        for (level, _) in self.levels(id) {
            for (resource, takes) in each {
                let room = self.meter(level, resource).map_or(0, |meter| meter.room());
                most = most.min(room.checked_div(takes.into()).unwrap_or(u64::MAX));
            }
        }
        most
    }

    /// The first lease from `from` on that is charged for such a resource at that level.
    fn lease_below(&self, level: AccountId, resource: Resource, from: u32) -> Option<(LeaseId, Lease)> {
        let mut from = from;
        while let Some((id, Leased { lease })) = self.leases.next_from(from) {
            let (objects, handles) = Self::concerns(lease, resource);
            if (objects && self.is_inside(lease.objects, level)) || (handles && self.is_inside(lease.handles, level)) {
                return Some((LeaseId(id), *lease));
            }
            from = id.get().checked_add(1)?;
        }
        None
    }

    /// Whether a lease's object credit and its handle credit take of a resource.
    fn concerns(lease: &Lease, resource: Resource) -> (bool, bool) {
        match resource {
            Resource::Objects => (true, false),
            Resource::ObjectsOf(number) => (number == lease.object_type, false),
            Resource::Handles => (false, true),
            Resource::Bytes => (lease.object_bytes > 0, lease.handle_bytes > 0),
        }
    }

    /// Calls back the idle credit of one lease below a level; `false` if none lies idle there.
    pub(super) fn call_back(&mut self, level: AccountId, resource: Resource, credits: &mut impl Credits) -> bool {
        let mut from = 0;
        while let Some((id, lease)) = self.lease_below(level, resource, from) {
            let (objects, handles) = Self::concerns(&lease, resource);
            let mut taken = 0;
            if objects && self.is_inside(lease.objects, level) {
                taken += self.take_objects(id, credits);
            }
            if handles && self.is_inside(lease.handles, level) {
                taken += self.take_handles(id, credits);
            }
            if taken > 0 {
                return true;
            }
            let Some(next) = id.0.get().checked_add(1) else { return false };
            from = next;
        }
        false
    }

    fn take_objects(&mut self, id: LeaseId, credits: &mut impl Credits) -> u64 {
        let taken = credits.recall_objects(id);
        self.return_objects(id, taken);
        taken.into()
    }

    fn take_handles(&mut self, id: LeaseId, credits: &mut impl Credits) -> u64 {
        let taken = credits.recall_handles(id);
        self.return_handles(id, taken);
        taken.into()
    }

    /// What of an account's charges is idle credit of leases.
    pub(super) fn idle(&self, level: AccountId, resource: Resource, credits: &impl Credits) -> u64 {
        let mut idle = 0_u64;
        let mut from = 0;
        while let Some((id, lease)) = self.lease_below(level, resource, from) {
            let (objects, handles) = Self::concerns(&lease, resource);
            let each = |bytes: u32| if resource == Resource::Bytes { u64::from(bytes) } else { 1 };
            if objects && self.is_inside(lease.objects, level) {
                idle += u64::from(credits.unused_objects(id)) * each(lease.object_bytes);
            }
            if handles && self.is_inside(lease.handles, level) {
                idle += u64::from(credits.unused_handles(id)) * each(lease.handle_bytes);
            }
            let Some(next) = id.0.get().checked_add(1) else { break };
            from = next;
        }
        idle
    }
}

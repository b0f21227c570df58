//! Leases: how threads make and end users' objects without a step of the core.
//!
//! One step gives a thread a block of credit, places, koids and handle slots; what it does with them is seen by nobody until
//! somebody asks for totals. Credit that lies idle is called back before any charge is refused, so a quota is never passed
//! and never refuses while credit lies idle.

use crate::account::{AccountId, Charge, Credits, Lease as Lent, LeaseId};
use crate::call::CallError;
use crate::handles::HANDLE;
use crate::manager::Core;
use crate::user_type::{ObjectType, TypeKey, own_charge};
use alloc::vec::Vec;
use kobj_abi::{Era, Koid, TypeNumber};
use kobj_memory::{
    KoidRange, LEASED_OBJECT_BYTES, Lease, LeaseBook, LeasePlace, Place, Reference, Shared, Slots, Table, TableError,
    Totals, TryPush,
};

/// How much of everything a thread gets at once.
const BLOCK: u32 = 64;

/// A lease as the books and the memory know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    id: LeaseId,
    place: LeasePlace,
    account: AccountId,
}

/// Spans of koids that are remembered: beyond, two are joined.
const RANGES_MOST: usize = 64;

/// Koids that were given to leases, in the order in which they were given: they are in no index. Others may lie between, which
/// costs a look for one of those that is no more a pass over the slots, as it costs for one that was given to a lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    era: Era,
    first: u32,
    count: u32,
}

/// The leases of a manager.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    open: Vec<Open>,
    ranges: Vec<Range>,
}

impl Leases {
    /// Joins the two ranges of one era between which the fewest koids lie, if there are too many: what was made and ended
    /// long ago takes no more and more memory, and no more and more looks.
    fn join_nearest(&mut self) {
        if self.ranges.len() < RANGES_MOST {
            return;
        }
        let gap = |pair: &[Range]| match pair {
            [one, next] if one.era == next.era => Some(next.first.saturating_sub(one.first.saturating_add(one.count))),
            _ => None,
        };
        let gaps = self.ranges.windows(2).enumerate().filter_map(|(at, pair)| Some((gap(pair)?, at)));
        let Some((_, at)) = gaps.min() else { return };
        let next = self.ranges.remove(at + 1);
        if let Some(range) = self.ranges.get_mut(at) {
            range.count = next.first.saturating_sub(range.first).saturating_add(next.count);
        }
    }

    fn place(&self, id: LeaseId) -> Option<LeasePlace> {
        self.open.iter().find(|open| open.id == id).map(|open| open.place)
    }
}

/// Where the books find the credit of leases.
pub(crate) struct Credit<'a> {
    pub(crate) book: &'a mut LeaseBook,
    pub(crate) leases: &'a Leases,
}

impl Credits for Credit<'_> {
    fn recall_objects(&mut self, lease: LeaseId) -> u32 {
        self.leases.place(lease).map_or(0, |place| self.book.recall_objects(place))
    }

    fn recall_handles(&mut self, lease: LeaseId) -> u32 {
        self.leases.place(lease).map_or(0, |place| self.book.recall_handles(place))
    }

    fn unused_objects(&self, lease: LeaseId) -> u32 {
        self.leases.place(lease).map_or(0, |place| self.book.unused(place).objects)
    }

    fn unused_handles(&self, lease: LeaseId) -> u32 {
        self.leases.place(lease).map_or(0, |place| self.book.unused(place).handles)
    }
}

/// The same for who only looks.
pub(crate) struct Idle<'a> {
    pub(crate) book: &'a LeaseBook,
    pub(crate) leases: &'a Leases,
}

impl Credits for Idle<'_> {
    fn recall_objects(&mut self, _: LeaseId) -> u32 {
        0
    }

    fn recall_handles(&mut self, _: LeaseId) -> u32 {
        0
    }

    fn unused_objects(&self, lease: LeaseId) -> u32 {
        self.leases.place(lease).map_or(0, |place| self.book.unused(place).objects)
    }

    fn unused_handles(&self, lease: LeaseId) -> u32 {
        self.leases.place(lease).map_or(0, |place| self.book.unused(place).handles)
    }
}

/// The credit of a core's leases, for its books: two fields of it, so that a third can be borrowed beside.
macro_rules! credit {
    ($core:expr) => {
        $crate::leases::Credit { book: $core.slab.leases_mut(), leases: &$core.leases }
    };
}
pub(crate) use credit;

/// What a thread has of the manager's: its lease, its handle slots, and in whose name.
#[derive(Debug)]
pub struct Leased {
    pub(crate) process: Koid,
    pub(crate) table: Shared<Table>,
    pub(crate) lease: Lease,
    pub(crate) slots: Slots,
    id: LeaseId,
    place: LeasePlace,
}

impl Drop for Leased {
    fn drop(&mut self) {
        self.table.give_back_all(core::mem::take(&mut self.slots));
    }
}

impl Core {
    /// Opens a lease with which one thread makes objects of a user's type for a process. It has nothing yet.
    ///
    /// # Errors
    /// [`CallError`]; nothing changed.
    pub(crate) fn lease_for<T: ObjectType>(&mut self, process: Koid, key: &TypeKey<T>) -> Result<Leased, CallError> {
        self.caller(process)?;
        self.has_registered(key)?;
        self.open_lease(process, key.number())
    }

    fn open_lease(&mut self, process: Koid, number: TypeNumber) -> Result<Leased, CallError> {
        self.end_dropped_leases();
        let caller = self.caller(process)?;
        self.job_of(caller.process)?;
        let account = self.guest(caller.process).and_then(|guest| guest.account);
        let account = account.ok_or(CallError::Dying { koid: process })?;
        self.leases.open.try_reserve(1).map_err(|_| CallError::NoMemory {})?;
        let handle_bytes = u32::try_from(HANDLE.bytes).unwrap_or(u32::MAX);
        // What it makes is charged to the process, and so to its job, as what a step makes.
        let lent = Lent {
            objects: account,
            handles: account,
            object_type: number,
            object_bytes: LEASED_OBJECT_BYTES,
            handle_bytes,
        };
        let id = self.accounts.begin_lease(lent).map_err(|error| self.charge_refused(account, process, error))?;
        let Ok((place, lease)) = self.slab.open_lease(number, Place::from_raw(account.to_raw())) else {
            self.accounts.end_lease(id, &mut credit!(self));
            return Err(CallError::NoMemory {});
        };
        // Reserved above.
        self.leases.open.push(Open { id, place, account });
        Ok(Leased { process, table: caller.table, lease, slots: Slots::default(), id, place })
    }

    /// Fills up what a thread lacks: credit for an object and a handle at least, places, koids, handle slots.
    ///
    /// # Errors
    /// [`CallError`]; the thread keeps what it got until then.
    pub(crate) fn refill(&mut self, leased: &mut Leased) -> Result<(), CallError> {
        let caller = self.caller(leased.process)?;
        self.job_of(caller.process)?;
        self.lend_objects(leased, BLOCK)?;
        self.lend_handles(leased, BLOCK)?;
        if self.slab.leases().unused(leased.place).objects == 0 {
            self.lend_one_of_each(leased)?;
        }
        let (places, koids) = leased.lease.left();
        if places == 0 {
            self.slab.refill(&mut leased.lease, BLOCK).map_err(|_| CallError::NoMemory {})?;
        }
        if koids == 0 {
            leased.lease.set_koids(self.give_koids()?);
        }
        while leased.slots.len() < BLOCK {
            match leased.table.reserve() {
                Ok(reserved) => leased.table.keep(&mut leased.slots, reserved),
                Err(_) if !leased.slots.is_empty() => break,
                Err(TableError::NoMemory) => return Err(CallError::NoMemory {}),
                Err(TableError::Full) => return Err(CallError::TableFull { process: leased.process }),
            }
        }
        Ok(())
    }

    fn lend_objects(&mut self, leased: &Leased, wanted: u32) -> Result<(), CallError> {
        let (id, place) = (leased.id, leased.place);
        if self.slab.leases().unused(place).objects > 0 {
            return Ok(());
        }
        let lent = self.accounts.lend_objects(id, wanted, &mut credit!(self));
        let lent = lent.map_err(|error| self.lend_refused(id, leased.process, error))?;
        if self.slab.leases_mut().grant_objects(place, lent) {
            return Ok(());
        }
        self.accounts.return_objects(id, lent);
        Err(CallError::Dying { koid: leased.process })
    }

    fn lend_handles(&mut self, leased: &Leased, wanted: u32) -> Result<(), CallError> {
        let (id, place) = (leased.id, leased.place);
        if self.slab.leases().unused(place).handles > 0 {
            return Ok(());
        }
        let lent = self.accounts.lend_handles(id, wanted, &mut credit!(self));
        let lent = lent.map_err(|error| self.lend_refused(id, leased.process, error))?;
        if self.slab.leases_mut().grant_handles(place, lent) {
            return Ok(());
        }
        self.accounts.return_handles(id, lent);
        Err(CallError::Dying { koid: leased.process })
    }

    /// Bytes are so scarce that the one credit was called back for the other: there is room for one object and a handle to it,
    /// or the thread is refused. It would else ask for ever.
    #[cold]
    fn lend_one_of_each(&mut self, leased: &Leased) -> Result<(), CallError> {
        let number = leased.lease.type_number();
        let both = Charge {
            handles: HANDLE.handles,
            bytes: u64::from(LEASED_OBJECT_BYTES) + HANDLE.bytes,
            ..own_charge(number)
        };
        if let Some(account) = self.leases.open.iter().find(|open| open.id == leased.id).map(|open| open.account) {
            let room = self.accounts.check(account, both, &mut credit!(self));
            room.map_err(|error| self.charge_refused(account, leased.process, error))?;
        }
        self.lend_objects(leased, 1)?;
        self.lend_handles(leased, 1)
    }

    fn lend_refused(&self, id: LeaseId, process: Koid, error: crate::account::ChargeError) -> CallError {
        let open = self.leases.open.iter().find(|open| open.id == id);
        open.map_or(CallError::Dying { koid: process }, |open| self.charge_refused(open.account, process, error))
    }

    /// A block of koids.
    fn give_koids(&mut self) -> Result<KoidRange, CallError> {
        let left = self.limits.koids_per_era.saturating_sub(self.issued);
        let count = left.min(BLOCK);
        let first = self.issued.checked_add(1).filter(|_| count > 0).ok_or(CallError::EraExhausted {})?;
        let joins = self
            .leases
            .ranges
            .last()
            .is_some_and(|range| range.era == self.era && range.first.checked_add(range.count) == Some(first));
        match self.leases.ranges.last_mut().filter(|_| joins) {
            Some(range) => range.count += count,
            None => {
                self.leases.join_nearest();
                let range = Range { era: self.era, first, count };
                self.leases.ranges.try_push(range).map_err(|_| CallError::NoMemory {})?;
            }
        }
        self.issued += count;
        self.index.pass(self.era, self.issued);
        Ok(KoidRange { era: self.era, first, count })
    }

    /// The living object of a koid that was given to a lease: one pass over the slots, since those are in no index.
    pub(crate) fn find_leased(&self, koid: Koid) -> Option<Reference> {
        let inside = |range: &Range| {
            range.era == koid.era() && koid.counter().checked_sub(range.first).is_some_and(|at| at < range.count)
        };
        if !self.leases.ranges.iter().any(inside) {
            return None;
        }
        self.slab.iter().find(|object| object.koid() == koid).and_then(|object| self.alive(object.place()))
    }

    /// What the leases of a type counted.
    pub(crate) fn leased_totals(&self, number: TypeNumber) -> Totals {
        self.slab.leases().totals(Some(number))
    }

    /// Nobody makes anything in the name of an ended job, whoever is in it, or of an ended guest any more; its idle credit comes back.
    pub(crate) fn close_leases(&mut self, account: AccountId) {
        for at in 0..self.leases.open.len() {
            let Some(Open { id, place, account: charged }) = self.leases.open.get(at).copied() else { return };
            if self.accounts.is_inside(charged, account) {
                let unused = self.slab.leases_mut().close(place);
                self.accounts.return_objects(id, unused.objects);
                self.accounts.return_handles(id, unused.handles);
            }
        }
    }

    /// Takes leases out of the books whose threads have dropped them. Allocates nothing.
    pub(crate) fn end_dropped_leases(&mut self) {
        let Some(first) = Place::new(0) else { return };
        while let Some((place, unused)) = self.slab.leases_mut().take_dropped(first) {
            let Some(at) = self.leases.open.iter().position(|open| open.place == place) else { continue };
            let open = self.leases.open.swap_remove(at);
            self.accounts.return_objects(open.id, unused.objects);
            self.accounts.return_handles(open.id, unused.handles);
            self.accounts.end_lease(open.id, &mut credit!(self));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::Limits;

    #[test]
    fn koids_given_to_leases_are_remembered_in_a_bounded_list() {
        let mut core = Core::with_limits(Era(7), Limits::default());
        let mut given = std::vec::Vec::new();
        for round in 0..1000_u32 {
            if round == 500 {
                core.step(crate::image::Time(0), crate::Command::OpenEra { era: Era(9) }).0.unwrap();
            }
            given.push(core.give_koids().unwrap());
            // What the core makes by itself between.
            core.issued += 1 + round % 3;
        }
        assert!(core.leases.ranges.len() <= RANGES_MOST, "{}", core.leases.ranges.len());
        let is_remembered = |koids: &KoidRange| {
            core.leases.ranges.iter().any(|range| {
                range.era == koids.era
                    && range.first <= koids.first
                    && koids.first + koids.count <= range.first + range.count
            })
        };
        assert!(given.iter().all(is_remembered));
        assert_eq!(core.leases.ranges.iter().map(|range| range.era.0).min(), Some(7));
        assert!(
            core.leases
                .ranges
                .iter()
                .all(|range| range.first >= 1 && range.first + range.count <= core.issued + 70_000)
        );
    }
}

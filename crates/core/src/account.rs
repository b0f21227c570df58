//! Accounts: who is charged how much, and who may have how much more.
//!
//! A job has an account inside its parent's, a process one inside its job's. What is charged to an account counts at it
//! and at every level around it, and is refused where it would pass a limit: at all levels or at none. When a job or
//! process ends, its account is closed: what outlives it stays charged as it is, so the outer totals do not change, and
//! counts as left behind at the account around it. A closed account takes nothing new, and goes with its last charge.
//!
//! Threads take blocks of credit in advance ([`Lease`]). Unused credit is charged like what is used, so no limit is ever
//! passed; before a charge is refused, idle credit below the refusing level is called back, so that none is refused while
//! credit lies idle.

mod lease;
#[cfg(test)]
mod tests;

pub use crate::call::Resource;
pub use lease::{Credits, Lease, LeaseId, NoLeases};

use crate::pool::Pool;
use core::fmt;
use core::num::NonZeroU32;
use kobj_abi::{Koid, TypeNumber};
use kobj_memory::NoMemory;
use lease::Leased;

/// Levels at most: a first job's account is at level 0, jobs nest 32 deep, and a process stands in the innermost.
pub const LEVELS_MOST: u8 = 34;

/// No limit.
pub const UNLIMITED: u64 = u64::MAX;

/// An account, as long as it is open or charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(NonZeroU32);

impl AccountId {
    /// The number of the account with which an object's header or a table remembers it; never 0.
    #[must_use]
    pub const fn to_raw(self) -> u32 {
        self.0.get()
    }

    /// The account of that number; `None` for 0.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        match NonZeroU32::new(raw) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }
}

/// What is charged at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The objects' type; of no meaning without objects.
    pub object_type: TypeNumber,
    /// How many objects.
    pub objects: u32,
    /// How many handles.
    pub handles: u32,
    /// How many bytes.
    pub bytes: u64,
}

impl Charge {
    /// Nothing.
    pub const NONE: Self = Self { object_type: TypeNumber(0), objects: 0, handles: 0, bytes: 0 };

    /// One object of a type that takes that many bytes.
    #[must_use]
    pub const fn object(object_type: TypeNumber, bytes: u64) -> Self {
        Self { object_type, objects: 1, handles: 0, bytes }
    }

    /// One handle that takes that many bytes.
    #[must_use]
    pub const fn handle(bytes: u64) -> Self {
        Self { object_type: TypeNumber(0), objects: 0, handles: 1, bytes }
    }
}

/// A limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaError {
    /// At which account.
    pub level: AccountId,
    /// Whose account that is: a job or a process.
    pub owner: Koid,
    /// Of what there may be no more.
    pub resource: Resource,
    /// How much there may be.
    pub limit: u64,
    /// How much there is.
    pub used: u64,
}

impl fmt::Display for QuotaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, resource, limit, used, .. } = self;
        write!(f, "{owner} may have {limit} {} and has {used}; close some, or raise its quota", resource.name())
    }
}

impl core::error::Error for QuotaError {}

/// Why nothing was charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChargeError {
    /// A limit would be passed.
    Quota(QuotaError),
    /// The account, or one around it, is closed: its job or process has ended.
    Closed,
    /// There is no memory for the books.
    NoMemory,
}

impl fmt::Display for ChargeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quota(error) => error.fmt(f),
            Self::Closed => f.write_str("the account's job or process has ended; charge another one"),
            Self::NoMemory => NoMemory.fmt(f),
        }
    }
}

impl core::error::Error for ChargeError {}

impl From<QuotaError> for ChargeError {
    fn from(error: QuotaError) -> Self {
        Self::Quota(error)
    }
}

impl From<NoMemory> for ChargeError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

/// How much of a resource an account has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What there is; credit that a lease has not used is not in it.
    pub used: u64,
    /// What there may be; [`UNLIMITED`] if there is no limit.
    pub limit: u64,
    /// The most that was charged at once, lent credit included.
    pub peak: u64,
    /// How many charges this limit has refused.
    pub refused: u64,
}

#[derive(Clone, Copy, Debug)]
struct Meter {
    used: u64,
    limit: u64,
    peak: u64,
    refused: u64,
}

impl Default for Meter {
    fn default() -> Self {
        Self { used: 0, limit: UNLIMITED, peak: 0, refused: 0 }
    }
}

impl Meter {
    /// Whether that much more may be had; nothing more may always.
    #[inline]
    fn has_room(&self, more: u64) -> bool {
        more == 0 || self.used.checked_add(more).is_some_and(|sum| sum <= self.limit)
    }

    fn room(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    #[inline]
    fn add(&mut self, more: u64) {
        if more == 0 {
            return;
        }
        self.used = self.used.saturating_add(more);
        self.peak = self.peak.max(self.used);
    }

    #[inline]
    fn subtract(&mut self, less: u64) {
        if less == 0 {
            return;
        }
        debug_assert!(self.used >= less, "more is refunded than was charged");
        self.used = self.used.saturating_sub(less);
    }
}

/// The books of one type at one account.
#[derive(Debug)]
struct TypeRow {
    object_type: TypeNumber,
    meter: Meter,
    next: Option<NonZeroU32>,
}

#[derive(Debug)]
struct Account {
    owner: Koid,
    around: Option<AccountId>,
    level: u8,
    open: bool,
    /// Accounts inside and leases: they refer to it, so its record stays.
    referred: u32,
    types: Option<NonZeroU32>,
    objects: Meter,
    handles: Meter,
    bytes: Meter,
    /// Objects that were left to this account by those that ended inside it, and still live.
    inherited: u64,
    /// Objects that were ever left to it.
    left_behind: u64,
}

impl Account {
    fn is_empty(&self) -> bool {
        self.objects.used == 0 && self.handles.used == 0 && self.bytes.used == 0
    }
}

/// What the end of jobs and processes left to the account around them, in objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftBehind {
    /// Ever.
    pub ever: u64,
    /// Of them, still alive.
    pub live: u64,
}

/// All accounts of a manager.
#[derive(Debug, Default)]
pub struct Accounts {
    accounts: Pool<Account>,
    rows: Pool<TypeRow>,
    leases: Pool<Leased>,
}

impl Accounts {
    /// Opens an account inside another one (`None`: a first one), without limits.
    ///
    /// # Errors
    /// [`ChargeError::Closed`] if an account around it is closed; [`ChargeError::NoMemory`], also when more than
    /// [`LEVELS_MOST`] levels would be nested, which jobs refuse first.
    pub fn open(&mut self, around: Option<AccountId>, owner: Koid) -> Result<AccountId, ChargeError> {
        let level = match around {
            Some(around) if !self.takes_charges(around) => return Err(ChargeError::Closed),
            Some(around) => self.get(around).map_or(0, |account| account.level + 1),
            None => 0,
        };
        if level >= LEVELS_MOST {
            return Err(ChargeError::NoMemory);
        }
        let id = self.accounts.insert(Account {
            owner,
            around,
            level,
            open: true,
            referred: 0,
            types: None,
            objects: Meter::default(),
            handles: Meter::default(),
            bytes: Meter::default(),
            inherited: 0,
            left_behind: 0,
        })?;
        if let Some(around) = around.and_then(|around| self.get_mut(around)) {
            around.referred += 1;
        }
        Ok(AccountId(id))
    }

    /// Closes the account of a job or process that has ended: nothing new is charged to it or inside it. Idle credit below
    /// it is called back; what is still charged counts as left behind to the account around it, and later refunds go on
    /// through. Allocates nothing.
    pub fn close(&mut self, id: AccountId, credits: &mut impl Credits) {
        if !self.get(id).is_some_and(|account| account.open) {
            return;
        }
        while self.call_back(id, Resource::Objects, credits) || self.call_back(id, Resource::Handles, credits) {}
        let Some(account) = self.get_mut(id) else { return };
        account.open = false;
        let (left, around) = (account.objects.used, account.around);
        if let Some(around) = around.and_then(|around| self.get_mut(around)) {
            around.inherited = around.inherited.saturating_add(left);
            around.left_behind = around.left_behind.saturating_add(left);
        }
        self.settle(id);
    }

    /// Charges an account and all around it: all of it at every level, or nothing anywhere.
    ///
    /// # Errors
    /// [`ChargeError`]; a limit refuses only after the idle credit below it was called back.
    pub fn charge(&mut self, id: AccountId, charge: Charge, credits: &mut impl Credits) -> Result<(), ChargeError> {
        if self.charge_if_room(id, charge) {
            return Ok(());
        }
        if !self.has_room(id, charge) {
            if !self.takes_charges(id) {
                return Err(ChargeError::Closed);
            }
            self.prepare(id, None, charge)?;
            self.make_room(id, None, charge, credits)?;
        }
        self.add(id, None, charge);
        Ok(())
    }

    /// Charges an account and all around it for handles and bytes, if they have room as it is: no credit is called back, and
    /// nothing is counted as refused. `false`, and nothing changed, also for a charge of objects.
    #[inline]
    pub(crate) fn charge_if_room(&mut self, id: AccountId, charge: Charge) -> bool {
        let (handles, bytes) = (u64::from(charge.handles), charge.bytes);
        let mut next = Some(id);
        while let Some(level) = next {
            let Some(account) = self.get(level).filter(|account| account.open && charge.objects == 0) else {
                return false;
            };
            if !account.handles.has_room(handles) || !account.bytes.has_room(bytes) {
                return false;
            }
            next = account.around;
        }
        next = Some(id);
        while let Some(account) = next.and_then(|level| self.get_mut(level)) {
            account.handles.add(handles);
            account.bytes.add(bytes);
            next = account.around;
        }
        true
    }

    /// Whether all levels are open, have what rows the charge needs, and room for it: one look at each, as it mostly is.
    fn has_room(&self, id: AccountId, charge: Charge) -> bool {
        let objects = u64::from(charge.objects);
        self.get(id).is_some()
            && self.levels(id).all(|(_, account)| {
                account.open
                    && account.objects.has_room(objects)
                    && account.handles.has_room(charge.handles.into())
                    && account.bytes.has_room(charge.bytes)
                    && (objects == 0
                        || self
                            .row_of(account, charge.object_type)
                            .and_then(|row| self.rows.get(row))
                            .is_some_and(|row| row.meter.has_room(objects)))
            })
    }

    /// Whether [`Accounts::charge`] would be refused by a limit or the end of an account. Charges and allocates nothing; a
    /// refusal is counted as one.
    ///
    /// # Errors
    /// [`ChargeError`].
    pub fn check(&mut self, id: AccountId, charge: Charge, credits: &mut impl Credits) -> Result<(), ChargeError> {
        if !self.takes_charges(id) {
            return Err(ChargeError::Closed);
        }
        Ok(self.make_room(id, None, charge, credits)?)
    }

    /// Takes a charge back from an account and all around it. Cannot fail and allocates nothing.
    pub fn refund(&mut self, id: AccountId, charge: Charge) {
        if charge.objects > 0 {
            self.subtract(id, None, charge);
            self.settle(id);
            return;
        }
        let (mut next, mut is_open) = (Some(id), true);
        while let Some(account) = next.and_then(|level| self.get_mut(level)) {
            account.handles.subtract(charge.handles.into());
            account.bytes.subtract(charge.bytes);
            is_open &= account.open;
            next = account.around;
        }
        if !is_open {
            self.settle(id);
        }
    }

    /// Charges once more what is charged already and is to be refunded within the same step: what takes a thing's place
    /// needs no room. No limit refuses it and no peak shows it.
    pub(crate) fn charge_in_place(&mut self, id: AccountId, handles: u32, bytes: u64) {
        let mut next = Some(id);
        while let Some(account) = next.and_then(|level| self.get_mut(level)) {
            account.handles.used = account.handles.used.saturating_add(handles.into());
            account.bytes.used = account.bytes.used.saturating_add(bytes);
            next = account.around;
        }
    }

    /// Moves a charge to another account. Levels that both have in common are untouched: they can neither refuse it nor
    /// count it twice.
    ///
    /// # Errors
    /// [`ChargeError`]: then it is charged where it was.
    pub fn recharge(
        &mut self,
        from: AccountId,
        to: AccountId,
        charge: Charge,
        credits: &mut impl Credits,
    ) -> Result<(), ChargeError> {
        if !self.takes_charges(to) {
            return Err(ChargeError::Closed);
        }
        let common = self.common(from, to);
        self.prepare(to, common, charge)?;
        self.make_room(to, common, charge, credits)?;
        self.add(to, common, charge);
        self.subtract(from, common, charge);
        self.settle(from);
        Ok(())
    }

    /// Limits a resource from now on; what is there beyond a lower limit stays, and nothing is added. [`UNLIMITED`] ends it.
    ///
    /// # Errors
    /// [`ChargeError::Closed`], [`ChargeError::NoMemory`]: then the limit is as it was.
    pub fn set_limit(&mut self, id: AccountId, resource: Resource, limit: u64) -> Result<(), ChargeError> {
        if !self.get(id).is_some_and(|account| account.open) {
            return Err(ChargeError::Closed);
        }
        if let Resource::ObjectsOf(object_type) = resource {
            self.ensure_row(id, object_type)?;
        }
        self.meter_mut(id, resource).ok_or(ChargeError::NoMemory)?.limit = limit;
        Ok(())
    }

    /// How much of a resource an account has, those inside it included.
    #[must_use]
    pub fn usage(&self, id: AccountId, resource: Resource, credits: &impl Credits) -> Option<Usage> {
        let Meter { used, limit, peak, refused } = self.meter(id, resource)?;
        let used = used.saturating_sub(self.idle(id, resource, credits));
        Some(Usage { used, limit, peak, refused })
    }

    /// The types of which the account has had or limits objects, the newest first.
    pub fn types(&self, id: AccountId) -> impl Iterator<Item = TypeNumber> + '_ {
        let mut next = self.get(id).and_then(|account| account.types);
        core::iter::from_fn(move || {
            let row = self.rows.get(next?)?;
            next = row.next;
            Some(row.object_type)
        })
    }

    /// What was left to an account by those that ended inside it.
    #[must_use]
    pub fn left_behind(&self, id: AccountId) -> LeftBehind {
        self.get(id).map_or_else(LeftBehind::default, |a| LeftBehind { ever: a.left_behind, live: a.inherited })
    }

    /// The innermost account that is open: the account itself or, if it is closed, who has inherited from it.
    #[must_use]
    pub fn heir(&self, id: AccountId) -> Option<AccountId> {
        self.levels(id).find(|(_, account)| account.open).map(|(id, _)| id)
    }

    /// Whose account it is.
    #[must_use]
    pub fn owner(&self, id: AccountId) -> Option<Koid> {
        self.get(id).map(|account| account.owner)
    }

    /// Whose account it is, and whose those around it are, the innermost first.
    pub(crate) fn owners(&self, id: AccountId) -> impl Iterator<Item = Koid> + '_ {
        self.levels(id).map(|(_, account)| account.owner)
    }

    /// Whether it and all around it are open.
    #[must_use]
    pub fn takes_charges(&self, id: AccountId) -> bool {
        self.get(id).is_some() && self.levels(id).all(|(_, account)| account.open)
    }

    /// Accounts that are open or still charged.
    #[must_use]
    pub fn live(&self) -> u32 {
        self.accounts.live()
    }

    #[inline]
    fn get(&self, id: AccountId) -> Option<&Account> {
        self.accounts.get(id.0)
    }

    #[inline]
    fn get_mut(&mut self, id: AccountId) -> Option<&mut Account> {
        self.accounts.get_mut(id.0)
    }

    /// The account and those around it, the innermost first: no more than [`LEVELS_MOST`].
    fn levels(&self, id: AccountId) -> impl Iterator<Item = (AccountId, &Account)> + '_ {
        let mut next = Some(id);
        core::iter::from_fn(move || {
            let id = next?;
            let account = self.get(id)?;
            next = account.around;
            Some((id, account))
        })
    }

    /// Whether `id` is `outer` or inside it.
    pub(crate) fn is_inside(&self, id: AccountId, outer: AccountId) -> bool {
        self.levels(id).any(|(level, _)| level == outer)
    }

    /// The innermost level that both have.
    fn common(&self, one: AccountId, other: AccountId) -> Option<AccountId> {
        self.levels(one).map(|(id, _)| id).find(|level| self.is_inside(other, *level))
    }

    fn row(&self, id: AccountId, object_type: TypeNumber) -> Option<NonZeroU32> {
        self.row_of(self.get(id)?, object_type)
    }

    fn row_of(&self, account: &Account, object_type: TypeNumber) -> Option<NonZeroU32> {
        let mut next = account.types;
        while let Some(place) = next {
            let row = self.rows.get(place)?;
            if row.object_type == object_type {
                return next;
            }
            next = row.next;
        }
        None
    }

    fn ensure_row(&mut self, id: AccountId, object_type: TypeNumber) -> Result<(), NoMemory> {
        if self.row(id, object_type).is_none() {
            let next = self.get(id).and_then(|account| account.types);
            let row = self.rows.insert(TypeRow { object_type, meter: Meter::default(), next })?;
            self.get_mut(id).ok_or(NoMemory)?.types = Some(row);
        }
        Ok(())
    }

    /// Makes the rows that the charge needs, from `id` up to below `end`. An empty row says nothing, so a charge that
    /// fails after it has changed nothing.
    fn prepare(&mut self, id: AccountId, end: Option<AccountId>, charge: Charge) -> Result<(), NoMemory> {
        let mut next = Some(id).filter(|_| charge.objects > 0);
        while let Some(level) = next.filter(|level| Some(*level) != end) {
            self.ensure_row(level, charge.object_type)?;
            next = self.get(level).and_then(|account| account.around);
        }
        Ok(())
    }

    fn meter(&self, id: AccountId, resource: Resource) -> Option<Meter> {
        let account = self.get(id)?;
        Some(match resource {
            Resource::Objects => account.objects,
            Resource::Handles => account.handles,
            Resource::Bytes => account.bytes,
            Resource::ObjectsOf(number) => {
                self.row(id, number).and_then(|row| self.rows.get(row)).map(|row| row.meter).unwrap_or_default()
            }
        })
    }

    fn meter_mut(&mut self, id: AccountId, resource: Resource) -> Option<&mut Meter> {
        if let Resource::ObjectsOf(number) = resource {
            let row = self.row(id, number)?;
            return self.rows.get_mut(row).map(|row| &mut row.meter);
        }
        let account = self.get_mut(id)?;
        Some(match resource {
            Resource::Handles => &mut account.handles,
            Resource::Bytes => &mut account.bytes,
            Resource::Objects | Resource::ObjectsOf(_) => &mut account.objects,
        })
    }

    /// The limit at a level that the charge would pass.
    fn refusal_at(&self, level: AccountId, charge: Charge) -> Option<QuotaError> {
        let account = self.get(level)?;
        let objects = u64::from(charge.objects);
        let wanted = [
            (Resource::Objects, objects),
            (Resource::ObjectsOf(charge.object_type), objects),
            (Resource::Handles, charge.handles.into()),
            (Resource::Bytes, charge.bytes),
        ];
        let (resource, meter) = wanted.into_iter().filter(|(_, more)| *more > 0).find_map(|(resource, more)| {
            let meter = self.meter(level, resource)?;
            (!meter.has_room(more)).then_some((resource, meter))
        })?;
        Some(QuotaError { level, owner: account.owner, resource, limit: meter.limit, used: meter.used })
    }

    /// Calls idle credit back until the charge passes no limit from `id` up to below `end`.
    fn make_room(
        &mut self,
        id: AccountId,
        end: Option<AccountId>,
        charge: Charge,
        credits: &mut impl Credits,
    ) -> Result<(), QuotaError> {
        let mut next = Some(id);
        while let Some(level) = next.filter(|level| Some(*level) != end) {
            while let Some(refusal) = self.refusal_at(level, charge) {
                if self.call_back(level, refusal.resource, credits) {
                    continue;
                }
                if let Some(meter) = self.meter_mut(level, refusal.resource) {
                    meter.refused += 1;
                }
                return Err(refusal);
            }
            next = self.get(level).and_then(|account| account.around);
        }
        Ok(())
    }

    fn add(&mut self, id: AccountId, end: Option<AccountId>, charge: Charge) {
        let mut next = Some(id);
        while let Some(level) = next.filter(|level| Some(*level) != end) {
            if charge.objects > 0
                && let Some(meter) = self.meter_mut(level, Resource::ObjectsOf(charge.object_type))
            {
                meter.add(charge.objects.into());
            }
            let Some(account) = self.get_mut(level) else { return };
            account.objects.add(charge.objects.into());
            account.handles.add(charge.handles.into());
            account.bytes.add(charge.bytes);
            next = account.around;
        }
    }

    fn subtract(&mut self, id: AccountId, end: Option<AccountId>, charge: Charge) {
        let mut next = Some(id);
        let mut from_closed = false;
        while let Some(level) = next {
            let Some(account) = self.get_mut(level) else { return };
            if from_closed {
                // It was left to this level, common or not.
                account.inherited = account.inherited.saturating_sub(charge.objects.into());
            }
            if Some(level) == end {
                return;
            }
            account.objects.subtract(charge.objects.into());
            account.handles.subtract(charge.handles.into());
            account.bytes.subtract(charge.bytes);
            from_closed = !account.open;
            next = account.around;
            if charge.objects > 0
                && let Some(meter) = self.meter_mut(level, Resource::ObjectsOf(charge.object_type))
            {
                meter.subtract(charge.objects.into());
            }
        }
    }

    /// Lets a closed account go when nothing is charged to it and nobody refers to it; then perhaps the one around it.
    fn settle(&mut self, id: AccountId) {
        let mut next = Some(id);
        while let Some(id) = next {
            let idle = |account: &&Account| !account.open && account.referred == 0 && account.is_empty();
            let Some((mut row, around)) = self.get(id).filter(idle).map(|account| (account.types, account.around))
            else {
                return;
            };
            while let Some(gone) = row.and_then(|row| self.rows.remove(row)) {
                row = gone.next;
            }
            self.accounts.remove(id.0);
            if let Some(around) = around.and_then(|around| self.get_mut(around)) {
                around.referred -= 1;
            }
            next = around;
        }
    }
}

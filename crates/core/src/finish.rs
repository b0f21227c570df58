//! The end of a manager: the books are checked against what is there, and what is left is named.

use crate::command::Why;
use crate::ledger::{Balance, Tally};
use crate::manager::Core;
use crate::types::{Detail, procedures};
use crate::user_type::TypeInfo;
use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use kobj_abi::{Koid, LinkKind, ObjectType, Tag, TypeNumber};
use kobj_memory::{Place, Reference};

/// How a manager ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// The books.
    pub balance: Balance,
    /// What was still alive, in the order of its slot.
    pub left: Vec<Left>,
    /// Likewise of users' types: each type of which something was alive, with its books.
    pub left_own: Vec<TypeInfo>,
}

impl Ending {
    /// Whether everything that was created was destroyed.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.left.is_empty() && self.left_own.is_empty()
    }
}

/// An object that was still alive at its manager's end.
#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    /// What is stamped on it.
    pub tag: Tag,
    /// What it is.
    pub object_type: ObjectType,
    /// Its name, if it was given one.
    pub name: Option<Vec<u8>>,
    /// The job that contains it.
    pub owner: Option<Koid>,
    /// What its type says.
    pub detail: Detail,
    /// What kept it.
    pub why: Why,
}

/// The books and what is there disagree: a mistake in the manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imbalance {
    /// `created - destroyed` is not `live`, or not what was counted.
    Type {
        /// Of which type.
        object_type: ObjectType,
        /// The books.
        books: Tally,
        /// What is there.
        counted: u64,
    },
    /// `created - destroyed` of a user's type is not `live`, or not what was counted.
    OwnType {
        /// Of which type.
        number: TypeNumber,
        /// The books.
        books: Tally,
        /// What is there.
        counted: u64,
    },
    /// A job's books disagree with what it contains.
    Job {
        /// Which job.
        job: Koid,
        /// Of which type.
        object_type: ObjectType,
        /// The books.
        books: Tally,
        /// What is there.
        counted: u64,
    },
    /// Charges disagree.
    Charge {
        /// Which job; `None` for the manager.
        job: Option<Koid>,
        /// The books, in bytes.
        books: u64,
        /// What is there, in bytes.
        counted: u64,
    },
    /// An object's job is no more.
    Orphan {
        /// Which object.
        koid: Koid,
    },
    /// The handles that objects count are not the handles in the tables.
    Handles {
        /// What the objects count.
        counted: u64,
        /// What is in the tables.
        found: u64,
    },
    /// A temporary name is there though nobody has a handle to its object.
    Name {
        /// Which object.
        koid: Koid,
    },
    /// An object's reference count is not the number of those who refer to it.
    References {
        /// Which object.
        koid: Koid,
        /// The count.
        count: u32,
        /// Those who refer to it.
        found: u32,
    },
}

impl fmt::Display for Imbalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |tally: &Tally| (tally.created, tally.destroyed, tally.live);
        match self {
            Self::Type { object_type, books, counted } => {
                let (created, destroyed, live) = sum(books);
                let name = object_type.name();
                write!(f, "{name}: {created} created - {destroyed} destroyed, {live} live, but {counted} are there")
            }
            Self::OwnType { number, books, counted } => {
                let (created, destroyed, live) = sum(books);
                let number = number.0;
                write!(
                    f,
                    "type {number}: {created} created - {destroyed} destroyed, {live} live, but {counted} are there"
                )
            }
            Self::Job { job, object_type, books, counted } => {
                let (created, destroyed, live) = sum(books);
                let name = object_type.name();
                write!(
                    f,
                    "job {job}, {name}: {created} created - {destroyed} destroyed, {live} live, but {counted} are there"
                )
            }
            Self::Charge { job: Some(job), books, counted } => {
                write!(f, "job {job} is charged {books} bytes, but {counted} are there")
            }
            Self::Charge { job: None, books, counted } => {
                write!(f, "{books} bytes are charged, but {counted} are there")
            }
            Self::Orphan { koid } => write!(f, "object {koid} outlived its job"),
            Self::Handles { counted, found } => {
                write!(f, "objects count {counted} handles, but {found} are in the tables")
            }
            Self::Name { koid } => write!(f, "object {koid} has a temporary name and no handle"),
            Self::References { koid, count, found } => {
                write!(f, "object {koid} has {count} references counted, but {found} are there")
            }
        }?;
        f.write_str("; this is a mistake in the manager: please report it")
    }
}

impl core::error::Error for Imbalance {}

#[derive(Default)]
struct Census {
    live: [u64; ObjectType::ALL.len()],
    charge_bytes: u64,
}

impl Core {
    /// Compares the books with what is there: one pass over all objects and their links.
    ///
    /// Reference counts are compared when no work is left over.
    ///
    /// # Errors
    /// The first [`Imbalance`] found: always a mistake in the manager.
    pub fn audit(&self) -> Result<(), Imbalance> {
        let mut all = Census::default();
        let mut jobs: BTreeMap<Place, Census> = BTreeMap::new();
        for object in self.slab.iter() {
            let Ok(header) = self.slab.header(object) else { continue };
            if self.body(object).is_none() {
                continue;
            }
            if header.owner().is_some() && self.owner(object).is_none() {
                return Err(Imbalance::Orphan { koid: object.koid() });
            }
            let owner = header.owner().map(|owner| jobs.entry(owner).or_default());
            for census in owner.into_iter().chain([&mut all]) {
                census.live[self.type_of(object) as usize - 1] += 1;
                census.charge_bytes += u64::from(header.charge_bytes());
            }
        }
        Self::compare(None, &self.balance, &all)?;
        for object in self.slab.iter() {
            if let Some(job) = self.job(object) {
                let census = jobs.remove(&object.place()).unwrap_or_default();
                Self::compare(Some(object.koid()), &job.balance, &census)?;
            }
        }
        self.audit_own_types()?;
        if self.has_work() {
            return Ok(());
        }
        self.audit_handles()?;
        self.audit_references()
    }

    fn compare(job: Option<Koid>, balance: &Balance, census: &Census) -> Result<(), Imbalance> {
        for ((object_type, books), counted) in balance.rows().zip(census.live) {
            if !books.is_even() || books.live != counted {
                return Err(match job {
                    Some(job) => Imbalance::Job { job, object_type, books, counted },
                    None => Imbalance::Type { object_type, books, counted },
                });
            }
        }
        let (books, counted) = (balance.charge_bytes, census.charge_bytes);
        if books == counted { Ok(()) } else { Err(Imbalance::Charge { job, books, counted }) }
    }

    fn audit_own_types(&self) -> Result<(), Imbalance> {
        for TypeInfo { number, tally, .. } in self.types().filter(|info| info.number >= TypeNumber::FIRST_OWN) {
            let counted = self.slab.iter().filter(|object| self.type_number(*object) == number).count() as u64;
            if !tally.is_even() || tally.live != counted {
                return Err(Imbalance::OwnType { number, books: tally, counted });
            }
        }
        Ok(())
    }

    fn audit_handles(&self) -> Result<(), Imbalance> {
        let (mut counted, mut found) = (0, 0);
        for object in self.slab.iter() {
            counted += u64::from(self.handles_to(object));
            found += self.guest(object).map_or(0, |guest| u64::from(guest.table.live()));
        }
        if counted == found { Ok(()) } else { Err(Imbalance::Handles { counted, found }) }
    }

    fn audit_references(&self) -> Result<(), Imbalance> {
        let mut pending: BTreeMap<Place, u32> = BTreeMap::new();
        for effect in self.tickets.values() {
            *pending.entry(effect.object.place()).or_default() += 1;
        }
        for object in self.slab.iter() {
            let (Ok(header), Some(body)) = (self.slab.header(object), self.body(object)) else { continue };
            let named = self.names.name_of(object.place()).map(|named| named.permanent);
            if named == Some(false) && self.handles_to(object) == 0 {
                return Err(Imbalance::Name { koid: object.koid() });
            }
            let found = u32::from(header.held())
                + self.handles_to(object)
                + self.views_of(object)
                + u32::from(self.is_being_made(object))
                + u32::from(named == Some(true))
                + u32::from(body.hold)
                + pending.get(&object.place()).copied().unwrap_or(0)
                + self.count_keepers(object.place(), header.first_in(), |record| record.next_in)
                + self.count_keepers(object.place(), header.first_out(), |record| record.next_out);
            let count = header.references();
            if count != found {
                return Err(Imbalance::References { koid: object.koid(), count, found });
            }
        }
        Ok(())
    }

    fn count_keepers(
        &self,
        kept: Place,
        first: Option<Place>,
        next: impl Fn(&crate::link::Record) -> Option<Place>,
    ) -> u32 {
        let mut at = first;
        let mut found = 0;
        while let Some(record) = at.and_then(|place| self.links.get(place)) {
            found += u32::from(record.kind() != Some(LinkKind::Contains) && record.kept() == Some(kept));
            at = next(record);
        }
        found
    }

    /// Ends the root job with all in it: what an embedded manager does before [`Core::finish`]. Ask for a census before, if
    /// you want to know what was left.
    pub fn shut_down(&mut self) {
        let root = self.slab.iter().find(|object| self.job(*object).is_some_and(|job| job.is_root));
        let Some(root) = root else { return };
        let _begun = self.do_kill_job(root.koid());
        while self.has_work() {
            self.work();
        }
    }

    /// Ends the manager: does all work that is left over, checks the books, names what is left.
    ///
    /// # Errors
    /// [`Imbalance`] if the books disagree with what is there: a mistake in the manager, never in its use.
    pub fn finish(mut self) -> Result<Ending, Imbalance> {
        self.finished = true;
        while self.has_work() {
            self.work();
        }
        self.run_hooks();
        self.audit()?;
        let all: Vec<Reference> = self.slab.iter().collect();
        let left = all.into_iter().filter_map(|object| self.left(object)).collect();
        let own = |info: &TypeInfo| info.number >= TypeNumber::FIRST_OWN && info.tally.live > 0;
        let left_own = self.types().filter(own).collect();
        Ok(Ending { balance: self.balance.clone(), left, left_own })
    }

    fn left(&mut self, object: Reference) -> Option<Left> {
        let why = self.do_why(object.koid()).ok()?;
        let state = self.state(object)?;
        let object_type = state.object_type();
        Some(Left {
            tag: object.tag(),
            object_type,
            name: self.slab.name(object).ok()?.map(ToOwned::to_owned),
            owner: self.owner(object).map(Reference::koid),
            detail: (procedures(object_type).query)(state)?,
            why,
        })
    }
}

impl Drop for Core {
    /// Debug builds check the books at every manager's end, also of one that was not finished.
    fn drop(&mut self) {
        let own = self.own_types.iter().map(|row| row.tally.live).sum::<u64>();
        debug_assert!(
            self.finished || (self.balance.is_even() && self.balance.live() + own == u64::from(self.slab.live())),
            "the books disagree at the manager's end: {:?}",
            self.balance
        );
    }
}

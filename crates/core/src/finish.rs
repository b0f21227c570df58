//! The end of a manager: the books are checked against what is there, and what is left is named.

use crate::command::{Info, Why};
use crate::error::QueryError;
use crate::ledger::{Balance, Tally};
use crate::manager::Core;
use crate::namespace::Naming;
use crate::types::{Detail, State};
use crate::user_type::TypeInfo;
use alloc::vec::Vec;
use core::fmt;
use kobj_abi::{Koid, LinkKind, ObjectType, Tag, TypeNumber};
use kobj_memory::{NoMemory, Place, Reference, TryPush, try_collect};

/// How a manager ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// The books.
    pub balance: Balance,
    /// What was still alive, in the order of its slot.
    pub left: Vec<Left>,
    /// Likewise of users' types: each type of which something was alive, with its books.
    pub left_own: Vec<TypeInfo>,
    /// Whether there was more, and no memory to name it.
    pub more: bool,
}

impl Ending {
    /// Whether everything that was created was destroyed.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.left.is_empty() && self.left_own.is_empty() && !self.more
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
    /// A temporary name is there though nobody has a handle to its object, or object and names disagree.
    Name {
        /// Which object.
        koid: Koid,
    },
    /// Nothing lives, and accounts are charged or derivation nodes are there.
    LeftOver {
        /// Accounts that are not closed, or still charged.
        accounts: u32,
        /// Derivation nodes.
        nodes: u32,
    },
    /// So many objects are listed by looking up, or this one is not where it should be.
    Listing {
        /// One that lives and is not listed; none if more are listed than live.
        koid: Option<Koid>,
        /// How many are listed.
        listed: u32,
        /// How many should be.
        found: u32,
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
            Self::LeftOver { accounts, nodes } => {
                write!(f, "nothing lives, but {accounts} accounts and {nodes} derivation nodes are there")
            }
            Self::Orphan { koid } => write!(f, "object {koid} outlived its job"),
            Self::Handles { counted, found } => {
                write!(f, "objects count {counted} handles, but {found} are in the tables")
            }
            Self::Name { koid } => {
                write!(f, "object {koid} has a temporary name and no handle, or the names and it disagree")
            }
            Self::Listing { koid: Some(koid), .. } => write!(f, "object {koid} lives and is not listed"),
            Self::Listing { koid: None, listed, found } => {
                write!(f, "{listed} objects are listed, but {found} are there")
            }
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

impl Census {
    fn count(&mut self, object_type: ObjectType, charge_bytes: u32) {
        self.live[object_type as usize - 1] += 1;
        self.charge_bytes += u64::from(charge_bytes);
    }
}

impl Core {
    /// What is listed is what lives.
    fn audit_listing(&self) -> Result<(), Imbalance> {
        let (listed, mut found) = (self.listing.len(), 0);
        for object in self.slab.iter() {
            let Some(group) = self.listed_in(object) else { continue };
            found += 1;
            if !self.listing.contains(group, object.koid()) {
                return Err(Imbalance::Listing { koid: Some(object.koid()), listed, found });
            }
        }
        if listed == found { Ok(()) } else { Err(Imbalance::Listing { koid: None, listed, found }) }
    }

    /// Compares the books with what is there: one pass over all objects and their links.
    ///
    /// Reference counts are compared when no work is left over.
    ///
    /// # Errors
    /// The first [`Imbalance`] found: always a mistake in the manager.
    pub fn audit(&self) -> Result<(), Imbalance> {
        let mut all = Census::default();
        for object in self.slab.iter() {
            let Ok(header) = self.slab.header(object) else { continue };
            if self.body(object).is_none() {
                continue;
            }
            let home = self.body(object).and_then(|body| self.links.get(body.home?)).map(|record| record.source);
            if header.owner().is_some() && (self.owner(object).is_none() || home != Some(header.owner())) {
                return Err(Imbalance::Orphan { koid: object.koid() });
            }
            all.count(self.type_of(object), header.charge_bytes());
        }
        Self::compare(None, &self.balance, &all)?;
        for object in self.slab.iter() {
            if let Some(job) = self.job(object) {
                Self::compare(Some(object.koid()), &job.balance, &self.census_of(object))?;
            }
        }
        self.audit_own_types()?;
        self.audit_listing()?;
        if self.has_work() {
            return Ok(());
        }
        self.audit_handles()?;
        self.audit_references()
    }

    /// What a job contains, by its links.
    fn census_of(&self, job: Reference) -> Census {
        let mut census = Census::default();
        let mut next = self.slab.header(job).ok().and_then(|header| header.first_out());
        while let Some(record) = next.and_then(|place| self.links.get(place)) {
            next = record.next_out;
            let contained = record.target.filter(|_| record.kind() == Some(LinkKind::Contains));
            let Some(object) = contained.and_then(|place| self.slab.at(place).ok()) else { continue };
            if self.body(object).is_none() {
                continue;
            }
            let charge_bytes = self.slab.header(object).map_or(0, |header| header.charge_bytes());
            census.count(self.type_of(object), charge_bytes);
        }
        census
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
        let objects = self.slab.shared();
        let mut kept = objects.kept();
        for object in self.slab.iter() {
            let Ok(header) = self.slab.header(object) else { continue };
            // What states and threads keep it by; where nobody counts that object by object, as a whole.
            let keepers = objects.keepers(object.place());
            let found = self.explained(object) + self.notices_of(object) + keepers.unwrap_or(0);
            let count = header.references();
            let wrong = Err(Imbalance::References { koid: object.koid(), count, found });
            match (count.checked_sub(found), keepers) {
                (None, _) | (Some(1..), Some(_)) => return wrong,
                (Some(more), None) if self.body(object).is_some() => match kept.checked_sub(more.into()) {
                    Some(left) => kept = left,
                    None => return wrong,
                },
                (Some(_), _) => {}
            }
            let Some(body) = self.body(object) else { continue };
            let named = self.names.name_of(object.place()).map(|named| named.permanent);
            let noted = match named {
                None => Naming::None,
                Some(false) => Naming::Temporary,
                Some(true) => Naming::Permanent,
            };
            if body.naming != noted || named == Some(false) && self.handles_to(object) == 0 {
                return Err(Imbalance::Name { koid: object.koid() });
            }
        }
        Ok(())
    }

    /// The references to an object of which the core knows whose they are.
    pub(crate) fn explained(&self, object: Reference) -> u32 {
        let Ok(header) = self.slab.header(object) else { return 0 };
        let named = self.names.name_of(object.place()).is_some_and(|named| named.permanent);
        u32::from(header.held())
            + self.handles_to(object)
            + self.views_of(object)
            + u32::from(self.is_being_made(object))
            + u32::from(named)
            + u32::from(self.body(object).is_some_and(|body| body.hold))
            + u32::from(self.has_effect_under_way(object))
            + self.count_keepers(object.place(), header.first_in(), |record| record.next_in)
            + self.count_keepers(object.place(), header.first_out(), |record| record.next_out)
    }

    /// The references to an object that links keep.
    pub(crate) fn kept_by_links(&self, object: Reference) -> u32 {
        let Ok(header) = self.slab.header(object) else { return 0 };
        self.count_keepers(object.place(), header.first_in(), |record| record.next_in)
            + self.count_keepers(object.place(), header.first_out(), |record| record.next_out)
    }

    fn has_effect_under_way(&self, object: Reference) -> bool {
        let ticket = self.state(object).and_then(State::ticket);
        ticket.and_then(|ticket| self.tickets.object(ticket)) == Some(object)
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
        let (accounts, nodes) = (self.accounts.live(), self.nodes.live());
        if self.slab.live() == 0 && accounts + nodes > 0 {
            return Err(Imbalance::LeftOver { accounts, nodes });
        }
        let own = |info: &TypeInfo| info.number >= TypeNumber::FIRST_OWN && info.tally.live > 0;
        let left_own = try_collect(self.types().filter(own));
        let more = left_own.is_err();
        let (left, left_own) = (Vec::new(), left_own.unwrap_or_default());
        let mut ending = Ending { balance: self.balance, left, left_own, more };
        for index in 0..self.slab.used() {
            let Some(object) = Place::new(index).and_then(|place| self.slab.at(place).ok()) else { continue };
            let left = self.left(object).and_then(|left| left.map_or(Ok(()), |left| ending.left.try_push(left)));
            ending.more |= left.is_err();
        }
        Ok(ending)
    }

    fn left(&mut self, object: Reference) -> Result<Option<Left>, NoMemory> {
        let why = match self.do_why(object.koid()) {
            Ok(why) => why,
            Err(QueryError::NoMemory { .. }) => return Err(NoMemory),
            Err(_) => return Ok(None),
        };
        let info = match self.do_query(object.koid()) {
            Ok(info) => info,
            Err(QueryError::NoMemory { .. }) => return Err(NoMemory),
            Err(_) => return Ok(None),
        };
        let Info { tag, object_type, name, owner, detail, .. } = info;
        Ok(Some(Left { tag, object_type, name, owner, detail, why }))
    }
}

impl Drop for Core {
    /// Debug builds check the books at every manager's end, also of one that was not finished.
    fn drop(&mut self) {
        let own = self.types().filter(|info| info.number >= TypeNumber::FIRST_OWN).map(|info| info.tally.live);
        let own = own.sum::<u64>();
        debug_assert!(
            self.finished || (self.balance.is_even() && self.balance.live() + own == u64::from(self.slab.live())),
            "the books disagree at the manager's end: {:?}",
            self.balance
        );
    }
}

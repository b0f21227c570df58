//! Questions about one object.

use crate::command::Info;
use crate::error::QueryError;
use crate::image::Time;
use crate::ledger::Balance;
use crate::manager::Core;
use crate::types::{Image, procedures};
use alloc::borrow::ToOwned;
use kobj_abi::{Koid, ObjectType, RawHandle};
use kobj_memory::{Next, Reference};

impl Core {
    pub(crate) fn do_query(&self, koid: Koid) -> Result<Info, QueryError> {
        let object = self.find(koid)?;
        self.info(object).ok_or(QueryError::NoObject(self.missing(koid)))
    }

    fn info(&self, object: Reference) -> Option<Info> {
        let header = self.slab.header(object).ok()?;
        let state = self.state(object)?;
        let object_type = state.object_type();
        Some(Info {
            tag: object.tag(),
            object_type,
            name: self.slab.name(object).ok()?.map(ToOwned::to_owned),
            references: header.references(),
            held: header.held().into(),
            creator: self.slab.creator(object).ok()?,
            created: Time(header.created_us()),
            owner: self.owner(object).map(Reference::koid),
            charge_bytes: header.charge_bytes(),
            detail: (procedures(object_type).query)(state)?,
        })
    }

    pub(crate) fn do_image(&self, koid: Koid) -> Result<Image, QueryError> {
        let object = self.find(koid)?;
        let state = self.state(object);
        state
            .and_then(|state| (procedures(state.object_type()).image)(state))
            .ok_or(QueryError::NoObject(self.missing(koid)))
    }

    /// The books of the whole manager.
    #[must_use]
    pub fn balance(&self) -> &Balance {
        &self.balance
    }

    /// The books of one job: what it itself contains and contained. Inner jobs keep their own.
    ///
    /// # Errors
    /// [`QueryError`] if there is no such job.
    pub fn job_balance(&self, koid: Koid) -> Result<&Balance, QueryError> {
        let object = self.find(koid)?;
        match self.job(object) {
            Some(job) => Ok(&job.balance),
            None => Err(self.wrong_type(object, ObjectType::Job).into()),
        }
    }

    /// How many handles to an object there are, in the tables of all guests.
    ///
    /// # Errors
    /// [`QueryError`] if there is no such object.
    pub fn handle_count(&self, koid: Koid) -> Result<u32, QueryError> {
        Ok(self.handles_to(self.find(koid)?))
    }

    /// The first handle of a guest in the slots of its table from `from` on, and the slot after it; `None` at the end, and
    /// of a process that has no table. So an embedder lists a table, and learns what a new guest inherited: that stands
    /// there in the order in which it stands in the maker's table.
    #[must_use]
    pub fn handle_from(&self, process: Koid, from: u32) -> Option<(RawHandle, u32)> {
        let guest = self.guest(self.find(process).ok()?)?;
        let mut from = from;
        loop {
            match guest.table.next_from(from, u32::MAX) {
                Next::Found(pin) => return Some((pin.handle()?, pin.index() + 1)),
                Next::GoOn(index) => from = index,
                Next::End => return None,
            }
        }
    }

    /// How many objects live.
    #[must_use]
    pub fn live(&self) -> u32 {
        self.slab.live()
    }
}

//! Questions about one object.

use crate::command::Info;
use crate::error::QueryError;
use crate::image::Time;
use crate::ledger::Balance;
use crate::manager::Core;
use crate::types::{Image, procedures};
use alloc::boxed::Box;
use kobj_abi::{Koid, ObjectType, RawHandle};
use kobj_memory::{Next, NoMemory, Reference, try_box, try_collect};

impl Core {
    pub(crate) fn do_query(&self, koid: Koid) -> Result<Info, QueryError> {
        let object = self.find(koid)?;
        let info = self.info(object).map_err(|NoMemory| QueryError::NoMemory { koid })?;
        info.ok_or(QueryError::NoObject(self.missing(koid)))
    }

    pub(crate) fn do_query_boxed(&self, koid: Koid) -> Result<Box<Info>, QueryError> {
        try_box(self.do_query(koid)?).map_err(|NoMemory| QueryError::NoMemory { koid })
    }

    fn info(&self, object: Reference) -> Result<Option<Info>, NoMemory> {
        let (Ok(header), Some(state)) = (self.slab.header(object), self.state(object)) else { return Ok(None) };
        let object_type = state.object_type();
        let Some(detail) = (procedures(object_type).query)(state)? else { return Ok(None) };
        let name = self.slab.name(object).ok().flatten();
        Ok(Some(Info {
            tag: object.tag(),
            object_type,
            name: name.map(|name| try_collect(name.iter().copied())).transpose()?,
            references: header.references(),
            held: header.held().into(),
            creator: self.slab.creator(object).ok().flatten(),
            created: Time(header.created_us()),
            owner: self.owner(object).map(Reference::koid),
            charge_bytes: header.charge_bytes(),
            detail,
        }))
    }

    pub(crate) fn do_image(&self, koid: Koid) -> Result<Image, QueryError> {
        let object = self.find(koid)?;
        let state = self.state(object).ok_or(self.missing(koid))?;
        let image = (procedures(state.object_type()).image)(state).map_err(|NoMemory| QueryError::NoMemory { koid })?;
        image.ok_or(QueryError::NoObject(self.missing(koid)))
    }

    pub(crate) fn do_image_boxed(&self, koid: Koid) -> Result<Box<Image>, QueryError> {
        try_box(self.do_image(koid)?).map_err(|NoMemory| QueryError::NoMemory { koid })
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

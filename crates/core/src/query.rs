//! Questions about one object.

use crate::command::Info;
use crate::error::QueryError;
use crate::image::Time;
use crate::ledger::Balance;
use crate::manager::Core;
use crate::types::{Image, procedures};
use alloc::borrow::ToOwned;
use kobj_abi::{Koid, ObjectType};
use kobj_memory::Reference;

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

    /// How many objects live.
    #[must_use]
    pub fn live(&self) -> u32 {
        self.slab.live()
    }
}

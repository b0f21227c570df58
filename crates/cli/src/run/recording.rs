//! The record of a run, or why there is none: the run goes on without, and says that it cannot be recovered.

use kobj_host::record::Record;
use rustix::fd::OwnedFd;

/// A record that may be impossible.
pub(crate) enum Recording {
    /// It is kept.
    Kept(Box<Record>),
    /// It could not be made: why.
    Impossible(String),
}

impl Recording {
    /// Writes something down, where there is a record.
    pub(crate) fn say(&mut self, write: impl FnOnce(&mut Record)) {
        if let Self::Kept(record) = self {
            write(record);
        }
    }

    /// Why this run could not be taken up again after a SIGKILL of kobj, where that is so.
    pub(crate) fn not_recoverable(&self) -> Option<&str> {
        match self {
            Self::Kept(record) => record.unrecoverable(),
            Self::Impossible(why) => Some(why),
        }
    }

    /// Leaves the record behind for the job's control group, which could not be removed.
    pub(crate) fn settle(self) {
        if let Self::Kept(record) = self
            && let Err(why) = record.settle()
        {
            crate::tell(&format!("kobj: the record of this run stays: {why}\n"));
        }
    }

    /// Removes the record: nothing is left to do. What is left to close is better closed late.
    pub(crate) fn remove(self) -> Option<OwnedFd> {
        let Self::Kept(record) = self else { return None };
        let removed = record.remove();
        removed.inspect_err(|why| crate::tell(&format!("kobj: the record of this run stays: {why}\n"))).ok()
    }
}

//! The record of a run, or why there is none: the run goes on without, and says that it cannot be recovered.

use crate::options::run::{RunOptions, Scrub};
use kobj_host::record::Record;
use rustix::fd::OwnedFd;

/// Bits of the second word of a record's settings.
const KILL_ALL: u64 = 1;
const REPORT_ONLY: u64 = 1 << 1;
const DRY_RUN: u64 = 1 << 2;
/// Something is to be left alone by its name: what, is among what the command was told.
const HAS_SPARED: u64 = 1 << 3;

/// What a run was to do about what is left, as two words in its record.
pub(crate) fn settings(options: &RunOptions) -> [u64; 2] {
    let has_spared = !options.keep.is_empty() || !options.ignore.is_empty() || options.baseline_file.is_some();
    let bits = [
        (options.kill_all, KILL_ALL),
        (options.report_only, REPORT_ONLY),
        (options.dry_run, DRY_RUN),
        (has_spared, HAS_SPARED),
    ];
    [options.scrub as u64, bits.iter().filter(|(is_set, _)| *is_set).map(|(_, bit)| bit).sum()]
}

/// The same, read back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Temporary files were to be scrubbed too.
    pub(crate) scrubs_all: bool,
    /// End processes that serve others, too.
    pub(crate) kill_all: bool,
    /// Touch nothing.
    pub(crate) report_only: bool,
    /// Plan only.
    pub(crate) dry_run: bool,
    /// Something is to be left alone by its name.
    pub(crate) has_spared: bool,
}

impl Settings {
    pub(crate) fn read(words: [u64; 2]) -> Self {
        let has = |bit| words[1] & bit != 0;
        Self {
            scrubs_all: words[0] == Scrub::All as u64,
            kill_all: has(KILL_ALL),
            report_only: has(REPORT_ONLY),
            dry_run: has(DRY_RUN),
            has_spared: has(HAS_SPARED),
        }
    }
}

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

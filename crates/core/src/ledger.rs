//! The ledger: what was created, what was destroyed, what lives, for each type and for each job.

use kobj_abi::ObjectType;

/// The books of one type. `created - destroyed = live` after every step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Objects ever made.
    pub created: u64,
    /// Objects ever destroyed: their tag was taken.
    pub destroyed: u64,
    /// Objects that live; counted by itself, not derived.
    pub live: u64,
    /// The most that ever lived at once.
    pub peak: u64,
    /// Of a job: objects that outlived an inner job, or were charged to another one, and came here.
    pub taken_over: u64,
    /// Of a job: objects that outlived it and went to the job around it, or that another one was charged for.
    pub left_behind: u64,
}

impl Tally {
    pub(crate) fn create(&mut self) {
        self.created += 1;
        self.live += 1;
        self.peak = self.peak.max(self.live);
    }

    pub(crate) fn destroy(&mut self) {
        self.destroyed += 1;
        self.live -= 1;
    }

    /// Whether the books agree with themselves.
    #[must_use]
    pub const fn is_even(&self) -> bool {
        self.created + self.taken_over - self.destroyed - self.left_behind == self.live
    }
}

/// The books of a manager or of one job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    tallies: [Tally; ObjectType::ALL.len()],
    /// What lives is charged, in bytes.
    pub charge_bytes: u64,
}

impl Balance {
    /// The books of one type.
    #[must_use]
    pub fn of(&self, object_type: ObjectType) -> Tally {
        self.tallies[Self::row(object_type)]
    }

    /// Each type with its books, in the order of the types' numbers.
    pub fn rows(&self) -> impl Iterator<Item = (ObjectType, Tally)> + '_ {
        ObjectType::ALL.into_iter().zip(self.tallies)
    }

    /// How many objects of any type live.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.live).sum()
    }

    /// Whether `created - destroyed = live` for every type.
    #[must_use]
    pub fn is_even(&self) -> bool {
        self.tallies.iter().all(Tally::is_even)
    }

    pub(crate) fn create(&mut self, object_type: ObjectType, charge_bytes: u32) {
        self.tallies[Self::row(object_type)].create();
        self.charge_bytes += u64::from(charge_bytes);
    }

    pub(crate) fn destroy(&mut self, object_type: ObjectType, charge_bytes: u32) {
        self.tallies[Self::row(object_type)].destroy();
        self.charge_bytes -= u64::from(charge_bytes);
    }

    /// An object goes to the books of the job around.
    pub(crate) fn leave(&mut self, object_type: ObjectType, charge_bytes: u32) {
        let tally = &mut self.tallies[Self::row(object_type)];
        tally.left_behind += 1;
        tally.live -= 1;
        self.charge_bytes -= u64::from(charge_bytes);
    }

    /// An object comes from the books of an inner job.
    pub(crate) fn take_over(&mut self, object_type: ObjectType, charge_bytes: u32) {
        let tally = &mut self.tallies[Self::row(object_type)];
        tally.taken_over += 1;
        tally.live += 1;
        tally.peak = tally.peak.max(tally.live);
        self.charge_bytes += u64::from(charge_bytes);
    }

    /// Types are numbered from 1, without gaps (checked below).
    const fn row(object_type: ObjectType) -> usize {
        object_type as usize - 1
    }
}

const _: () = {
    let mut row = 0;
    while row < ObjectType::ALL.len() {
        assert!(Balance::row(ObjectType::ALL[row]) == row, "ObjectType::ALL is in the order of its numbers");
        row += 1;
    }
};

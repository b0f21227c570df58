//! The index: from a directory and a name to the entry, over all directories at once.
//!
//! Linear hashing: there is one bucket more for each quarter of an entry, and the new bucket takes its part of one other
//! bucket alone. So growing has no great moment, unlike a table that is doubled. The hash is keyed by a seed that is no
//! one's to know: names cannot be chosen so that they share a bucket.

use super::entry::Entries;
use crate::secret::sip;
use kobj_memory::{Array, NoMemory, Place};

/// Buckets at most: more would not be told apart by an index of 32 bits.
const BUCKETS_MOST: u32 = 1 << 31;
/// Buckets for each entry: more cost memory (4 bytes each), fewer cost a look at a foreign entry, which is a cache line that
/// nobody else wants. Of 10^6 names one in eight is found behind another, of half as many buckets one in four.
const BUCKETS_PER_ENTRY: u32 = 4;

/// Where each name stands.
pub(super) struct Index {
    /// The first entry of each bucket; the others hang on its chain.
    heads: Array<Option<Place>>,
    entries: u32,
    seed: [u64; 2],
}

impl Index {
    pub(super) fn new(seed: [u64; 2]) -> Self {
        Self { heads: Array::default(), entries: 0, seed }
    }

    /// How many names there are.
    pub(super) fn entries(&self) -> u32 {
        self.entries
    }

    fn bucket(&self, directory: Place, name: &[u8]) -> u32 {
        let hash = sip::<1, 3>(self.seed, u64::from(directory.raw()), name) as u32;
        let buckets = self.heads.len();
        let mask = buckets.next_power_of_two() - 1;
        let bucket = hash & mask;
        // Past the last one: that bucket is still a part of the one below.
        if bucket < buckets { bucket } else { bucket & (mask >> 1) }
    }

    fn head(&mut self, bucket: u32) -> Option<&mut Option<Place>> {
        self.heads.get_mut(Place::new(bucket)?)
    }

    pub(super) fn find(&self, entries: &Entries, directory: Place, name: &[u8]) -> Option<Place> {
        if self.heads.is_empty() {
            return None;
        }
        let mut at = *self.heads.get(Place::new(self.bucket(directory, name))?)?;
        while let Some(place) = at {
            let entry = entries.get(place)?;
            if entry.directory == directory && entries.name(entry) == name {
                return Some(place);
            }
            at = entry.chain;
        }
        None
    }

    /// Makes room for one name more: splits [`BUCKETS_PER_ENTRY`] buckets at most. Taking names away frees nothing.
    pub(super) fn reserve(&mut self, entries: &mut Entries) -> Result<(), NoMemory> {
        let wanted = self.entries.saturating_add(1).saturating_mul(BUCKETS_PER_ENTRY).min(BUCKETS_MOST);
        while self.heads.len() < wanted {
            self.heads.push(None)?;
            self.split(entries);
        }
        Ok(())
    }

    /// Moves to the newest bucket what is its own now.
    fn split(&mut self, entries: &mut Entries) {
        let buckets = self.heads.len();
        // The newest one's number without its highest bit.
        let old = (buckets - 1) & (buckets.next_power_of_two() / 2).wrapping_sub(1);
        let Some(mut at) = self.head(old).map(Option::take) else { return };
        while let Some(place) = at {
            let Some(entry) = entries.get(place) else { return };
            at = entry.chain;
            let bucket = self.bucket(entry.directory, entries.name(entry));
            self.push(entries, bucket, place);
        }
    }

    fn push(&mut self, entries: &mut Entries, bucket: u32, place: Place) {
        let (Some(head), Some(entry)) = (self.head(bucket), entries.get_mut(place)) else { return };
        entry.chain = head.replace(place);
    }

    /// Enters an entry; [`Index::reserve`] came before.
    pub(super) fn insert(&mut self, entries: &mut Entries, place: Place) {
        let Some(entry) = entries.get(place) else { return };
        let bucket = self.bucket(entry.directory, entries.name(entry));
        self.push(entries, bucket, place);
        self.entries += 1;
    }

    /// Takes an entry out, before its name changes or goes.
    pub(super) fn remove(&mut self, entries: &mut Entries, place: Place) {
        let Some(entry) = entries.get(place) else { return };
        let (after, bucket) = (entry.chain, self.bucket(entry.directory, entries.name(entry)));
        let Some(head) = self.head(bucket) else { return };
        if *head == Some(place) {
            *head = after;
            self.entries -= 1;
            return;
        }
        let mut at = *head;
        while let Some(entry) = at.and_then(|at| entries.get_mut(at)) {
            if entry.chain == Some(place) {
                entry.chain = after;
                self.entries -= 1;
                return;
            }
            at = entry.chain;
        }
    }
}

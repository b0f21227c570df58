//! The index: from a directory and a name to the entry, over all directories at once.
//!
//! Linear hashing: there is one bucket more for each quarter of an entry, and the new bucket takes its part of one other
//! bucket alone. So growing has no great moment, unlike a table that is doubled. The hash is keyed by a seed that is no
//! one's to know: names cannot be chosen so that they share a bucket.

use super::entry::Entries;
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
        let hash = sip_1_3(self.seed, u64::from(directory.raw()), name) as u32;
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

/// SipHash with one round a word and three at the end, of a word and bytes.
fn sip_1_3(seed: [u64; 2], first: u64, bytes: &[u8]) -> u64 {
    let mut state = [
        seed[0] ^ 0x736f_6d65_7073_6575,
        seed[1] ^ 0x646f_7261_6e64_6f6d,
        seed[0] ^ 0x6c79_6765_6e65_7261,
        seed[1] ^ 0x7465_6462_7974_6573,
    ];
    absorb(&mut state, first);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        absorb(&mut state, u64::from_le_bytes(*word));
    }
    // What is left of a word stands at the end of the last eight bytes. Copied into a word byte by byte it would have to be
    // written before it could be read.
    let last = match bytes.last_chunk::<8>() {
        Some(_) if rest.is_empty() => 0,
        Some(last) => u64::from_le_bytes(*last) >> (64 - 8 * rest.len()),
        None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    absorb(&mut state, last | (bytes.len() as u64 + 8) << 56);
    state[2] ^= 0xff;
    (0..3).for_each(|_| round(&mut state));
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

fn absorb(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    round(state);
    state[0] ^= word;
}

fn round(state: &mut [u64; 4]) {
    let [a, b, c, d] = state;
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::hash::Hasher;

    #[test]
    fn the_hash_is_the_one_of_the_standard_library() {
        for length in 0..40 {
            let bytes: std::vec::Vec<u8> = (0..length).map(|byte: u8| byte.wrapping_mul(77)).collect();
            let mut theirs = std::hash::DefaultHasher::new();
            theirs.write(&5_u64.to_le_bytes());
            theirs.write(&bytes);
            assert_eq!(sip_1_3([0, 0], 5, &bytes), theirs.finish(), "{length} bytes");
        }
        assert_ne!(sip_1_3([0, 0], 5, b"a"), sip_1_3([0, 1], 5, b"a"));
    }
}

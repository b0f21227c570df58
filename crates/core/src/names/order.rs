//! The order of a directory's names: that in which they were linked.
//!
//! A search tree by serial number with a random priority for each (a treap), threaded through the entries: it needs no
//! memory of its own, and "the first name after serial number N" is found in about 2 ln n looks whether N is still
//! there or not. A list would do for the first but not for the second: whoever stands on a name that goes away would
//! have to begin again. New names have the highest serial number, so they are put in at the right end. Priorities come
//! from the serial number and the seed: nobody outside can choose a bad shape.
//!
//! Each entry knows also the most levels of directories in its part of the tree, so that a directory's height, which
//! bounds the depth of the namespace, is known at its root.

use super::entry::Entries;
use kobj_memory::Place;

/// One directory's order: the tree's root.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Order {
    root: Option<Place>,
}

/// Where a part of a tree hangs.
#[derive(Clone, Copy)]
enum Hook {
    Root,
    Left(Place),
    Right(Place),
}

impl Order {
    /// Levels of directories below this one: 0 if it names none.
    pub(super) fn height(self, entries: &Entries) -> u8 {
        self.root.and_then(|root| entries.get(root)).map_or(0, |entry| entry.levels_below)
    }

    /// The first entry whose serial number is greater than that.
    pub(super) fn after(self, entries: &Entries, serial: u64) -> Option<Place> {
        let mut found = None;
        let mut at = self.root;
        while let Some(entry) = at.and_then(|at| entries.get(at)) {
            if entry.serial > serial {
                found = at;
                at = entry.left;
            } else {
                at = entry.right;
            }
        }
        found
    }

    /// Puts in an entry whose serial number is greater than all here.
    pub(super) fn append(&mut self, entries: &mut Entries, place: Place, seed: u64) {
        let Some(serial) = entries.get(place).map(|entry| entry.serial) else { return };
        let own = priority(serial, seed);
        let mut hook = Hook::Root;
        let mut at = self.root;
        while let Some(above) = at.and_then(|at| entries.get(at)).filter(|entry| priority(entry.serial, seed) >= own) {
            hook = at.map_or(Hook::Root, Hook::Right);
            at = above.right;
        }
        if let Some(entry) = entries.get_mut(place) {
            entry.left = at;
        }
        if let Some(below) = at.and_then(|at| entries.get_mut(at)) {
            below.parent = Some(place);
        }
        self.hang(entries, hook, Some(place));
        self.refresh(entries, place);
    }

    /// Takes an entry out: what hung on it is merged from the top down.
    pub(super) fn remove(&mut self, entries: &mut Entries, place: Place, seed: u64) {
        let Some(entry) = entries.get(place) else { return };
        let (mut left, mut right, counted) = (entry.left, entry.right, entry.levels_below > 0);
        let mut hook = match entry.parent {
            None => Hook::Root,
            Some(above) if entries.get(above).is_some_and(|entry| entry.left == Some(place)) => Hook::Left(above),
            Some(above) => Hook::Right(above),
        };
        loop {
            let both = (left.and_then(|left| entries.get(left)), right.and_then(|right| entries.get(right)));
            let (Some(lower), Some(upper)) = both else {
                self.hang(entries, hook, left.or(right));
                break;
            };
            if priority(lower.serial, seed) >= priority(upper.serial, seed) {
                let next = lower.right;
                self.hang(entries, hook, left);
                hook = left.map_or(Hook::Root, Hook::Right);
                left = next;
            } else {
                let next = upper.left;
                self.hang(entries, hook, right);
                hook = right.map_or(Hook::Root, Hook::Left);
                right = next;
            }
        }
        // Where no directory was named below, none is now.
        if let (true, Hook::Left(lowest) | Hook::Right(lowest)) = (counted, hook) {
            self.refresh_all(entries, lowest);
        }
    }

    /// Says how many levels of directories an entry stands for.
    pub(super) fn set_levels(&mut self, entries: &mut Entries, place: Place, levels: u8) {
        let Some(entry) = entries.get_mut(place) else { return };
        entry.levels = levels;
        self.refresh(entries, place);
    }

    fn hang(&mut self, entries: &mut Entries, hook: Hook, part: Option<Place>) {
        let above = match hook {
            Hook::Root => {
                self.root = part;
                None
            }
            Hook::Left(above) => {
                if let Some(entry) = entries.get_mut(above) {
                    entry.left = part;
                }
                Some(above)
            }
            Hook::Right(above) => {
                if let Some(entry) = entries.get_mut(above) {
                    entry.right = part;
                }
                Some(above)
            }
        };
        if let Some(entry) = part.and_then(|part| entries.get_mut(part)) {
            entry.parent = above;
        }
    }

    /// Counts the levels again from an entry upwards, as far as they change.
    fn refresh(&mut self, entries: &mut Entries, place: Place) {
        let mut at = Some(place);
        while let Some((place, true)) = at.map(|at| (at, recount(entries, at))) {
            at = entries.get(place).and_then(|entry| entry.parent);
        }
    }

    /// Counts the levels again from an entry up to the root.
    fn refresh_all(&mut self, entries: &mut Entries, place: Place) {
        let mut at = Some(place);
        while let Some(place) = at {
            recount(entries, place);
            at = entries.get(place).and_then(|entry| entry.parent);
        }
    }
}

/// Counts the levels of an entry's part of the tree again; whether they changed.
fn recount(entries: &mut Entries, place: Place) -> bool {
    let below = |at: Option<Place>| at.and_then(|at| entries.get(at)).map_or(0, |entry| entry.levels_below);
    let Some(entry) = entries.get(place) else { return false };
    let levels = entry.levels.max(below(entry.left)).max(below(entry.right));
    let Some(entry) = entries.get_mut(place) else { return false };
    core::mem::replace(&mut entry.levels_below, levels) != levels
}

/// The priority of a serial number: its bits, well mixed.
fn priority(serial: u64, seed: u64) -> u64 {
    let mut word = (serial ^ seed).wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

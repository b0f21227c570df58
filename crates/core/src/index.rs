//! The index: from a koid to the place where its object stands.
//!
//! Koids of an era are dense numbers, so a tree of fixed nodes finds one in three looks, grows by one node at a time and
//! gives a node back when its last koid is gone.

use alloc::boxed::Box;
use alloc::vec::Vec;
use kobj_abi::{Era, Koid};
use kobj_memory::{NoMemory, Place, TryPush, try_box};

const LEAF_BITS: u32 = 10;
const MIDDLE_BITS: u32 = 11;
const LEAF: usize = 1 << LEAF_BITS;
const MIDDLE: usize = 1 << MIDDLE_BITS;
const ROOT: usize = 1 << (u32::BITS - MIDDLE_BITS - LEAF_BITS);

struct Leaf {
    places: [Option<Place>; LEAF],
    used: u32,
}

struct Middle {
    leaves: Vec<Option<Box<Leaf>>>,
    used: u32,
}

struct EraIndex {
    era: Era,
    middles: Vec<Option<Box<Middle>>>,
    /// The last counter that was given out.
    issued: u32,
}

/// Where each object stands.
#[derive(Default)]
pub(crate) struct Index {
    /// In the order in which they were opened; the last is the present one.
    eras: Vec<EraIndex>,
}

fn parts(counter: u32) -> (usize, usize, usize) {
    let leaf = counter as usize % LEAF;
    let middle = (counter >> LEAF_BITS) as usize % MIDDLE;
    ((counter >> (LEAF_BITS + MIDDLE_BITS)) as usize, middle, leaf)
}

/// So many nodes that are not there.
fn empty<T>(count: usize) -> Result<Vec<Option<T>>, NoMemory> {
    let mut nodes = Vec::new();
    nodes.try_reserve_exact(count).map_err(|_| NoMemory)?;
    nodes.resize_with(count, || None);
    Ok(nodes)
}

impl Index {
    pub(crate) fn open(&mut self, era: Era) -> Result<(), NoMemory> {
        self.eras.try_push(EraIndex { era, middles: Vec::new(), issued: 0 })
    }

    /// Whether that koid was ever given out here.
    pub(crate) fn was_issued(&self, koid: Koid) -> bool {
        self.eras.iter().any(|index| index.era == koid.era() && koid.counter() <= index.issued)
    }

    pub(crate) fn get(&self, koid: Koid) -> Option<Place> {
        let index = self.eras.iter().rev().find(|index| index.era == koid.era())?;
        let (root, middle, leaf) = parts(koid.counter());
        index.middles.get(root)?.as_ref()?.leaves.get(middle)?.as_ref()?.places[leaf]
    }

    /// Brings the nodes of a koid of the present era: [`Index::insert`] cannot fail then.
    pub(crate) fn reserve(&mut self, koid: Koid) -> Result<(), NoMemory> {
        let Some(index) = self.eras.last_mut().filter(|index| index.era == koid.era()) else { return Ok(()) };
        let (root, middle, _) = parts(koid.counter());
        if index.middles.is_empty() {
            index.middles = empty(ROOT)?;
        }
        let slot = index.middles.get_mut(root).ok_or(NoMemory)?;
        let node = match slot {
            Some(node) => node,
            None => slot.insert(try_box(Middle { leaves: empty(MIDDLE)?, used: 0 })?),
        };
        // A node without leaves, where there was no memory for one, is filled by the next koid.
        if node.leaves[middle].is_none() {
            node.leaves[middle] = Some(try_box(Leaf { places: [None; LEAF], used: 0 })?);
            node.used += 1;
        }
        Ok(())
    }

    /// Koids up to this counter were given out, and stand in no index: see [`crate::leases`].
    pub(crate) fn pass(&mut self, era: Era, issued: u32) {
        let Some(index) = self.eras.last_mut().filter(|index| index.era == era) else { return };
        let before = core::mem::replace(&mut index.issued, issued);
        if before >> LEAF_BITS != issued >> LEAF_BITS {
            index.give_back(before);
        }
    }

    /// Enters a koid of the present era, which is the next in its order; its nodes were brought before.
    pub(crate) fn insert(&mut self, koid: Koid, place: Place) {
        let Some(index) = self.eras.last_mut().filter(|index| index.era == koid.era()) else { return };
        let before = core::mem::replace(&mut index.issued, koid.counter());
        if before >> LEAF_BITS != koid.counter() >> LEAF_BITS {
            index.give_back(before);
        }
        let (root, middle, leaf) = parts(koid.counter());
        let node = index.middles.get_mut(root).and_then(Option::as_mut);
        let entries = node.and_then(|node| node.leaves.get_mut(middle)?.as_mut());
        debug_assert!(entries.is_some(), "nodes are brought before a koid is given out");
        if let Some(entries) = entries
            && entries.places[leaf].replace(place).is_none()
        {
            entries.used += 1;
        }
    }

    pub(crate) fn remove(&mut self, koid: Koid) {
        let Some(index) = self.eras.iter_mut().rev().find(|index| index.era == koid.era()) else { return };
        let (root, middle, leaf) = parts(koid.counter());
        let node = index.middles.get_mut(root).and_then(Option::as_mut);
        let Some(entries) = node.and_then(|node| node.leaves.get_mut(middle)?.as_mut()) else { return };
        if entries.places[leaf].take().is_some() {
            entries.used -= 1;
        }
        // The leaf that is being filled stays: else making and destroying one object would allocate each time.
        if index.issued >> LEAF_BITS != koid.counter() >> LEAF_BITS {
            index.give_back(koid.counter());
        }
    }
}

impl EraIndex {
    /// Gives back the leaf of a koid, if it is empty.
    fn give_back(&mut self, counter: u32) {
        let (root, middle, _) = parts(counter);
        let Some(slot) = self.middles.get_mut(root) else { return };
        let Some(node) = slot else { return };
        if node.leaves[middle].as_ref().is_some_and(|leaf| leaf.used == 0) {
            node.leaves[middle] = None;
            node.used -= 1;
            if node.used == 0 {
                *slot = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn koids_of_two_eras_are_found_and_empty_nodes_given_back() {
        let mut index = Index::default();
        let at = |era, counter| Koid::new(Era(era), counter).unwrap();
        let place = |n| Place::new(n).unwrap();
        index.open(Era(1)).unwrap();
        for counter in 1..=5000 {
            index.reserve(at(1, counter)).unwrap();
            index.insert(at(1, counter), place(counter));
        }
        index.open(Era(2)).unwrap();
        index.reserve(at(2, 1)).unwrap();
        index.insert(at(2, 1), place(9));
        assert_eq!(index.get(at(1, 5000)), Some(place(5000)));
        assert_eq!(index.get(at(2, 1)), Some(place(9)));
        assert_eq!(index.get(at(3, 1)), None);
        assert!(index.was_issued(at(1, 5000)) && !index.was_issued(at(1, 5001)) && !index.was_issued(at(2, 2)));
        for counter in 1..=4095 {
            index.remove(at(1, counter));
        }
        let middle = index.eras[0].middles[0].as_ref().unwrap();
        assert_eq!(middle.used, 1, "only the leaf from 4096 on is left");
        assert_eq!(index.get(at(1, 4096)), Some(place(4096)));
        assert_eq!(index.get(at(1, 4095)), None);
    }

    #[test]
    fn making_and_destroying_one_object_allocates_once() {
        let mut index = Index::default();
        index.open(Era(1)).unwrap();
        let mut leaf: Option<*const Leaf> = None;
        for counter in 1..LEAF as u32 {
            let koid = Koid::new(Era(1), counter).unwrap();
            index.reserve(koid).unwrap();
            index.insert(koid, Place::new(counter).unwrap());
            index.remove(koid);
            let there = index.eras[0].middles[0].as_ref().and_then(|node| node.leaves[0].as_deref());
            let there: *const Leaf = there.expect("the leaf that is being filled stays");
            assert_eq!(*leaf.get_or_insert(there), there);
        }
        for counter in LEAF as u32..LEAF as u32 * 5 {
            let koid = Koid::new(Era(1), counter).unwrap();
            index.reserve(koid).unwrap();
            index.insert(koid, Place::new(counter).unwrap());
            index.remove(koid);
        }
        assert_eq!(
            index.eras[0].middles[0].as_ref().unwrap().used,
            1,
            "leaves that were filled and emptied are given back"
        );
    }
}

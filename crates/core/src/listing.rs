//! What directories and jobs list without naming it: inner jobs and processes by their job, host objects by their kind, each
//! in the order of its koid, which is that in which they were made.
//!
//! One search tree for all, ordered by the group and then by the koid, with a random priority for each (a treap): "the first
//! of a group after koid K" is found in about 2 ln n looks, whether K is still there or not and whatever else lives. Room for
//! an object is taken when it is made, so what ends is taken out without memory. Priorities come of the koid and the seed:
//! nobody outside can choose a bad shape.

use crate::manager::Core;
use crate::types::State;
use kobj_abi::{HostKind, Koid};
use kobj_memory::{NoMemory, Place, Pool, Reference};

/// What is listed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// The living jobs that stand in a job.
    Jobs(Koid),
    /// The living processes in a job.
    Processes(Koid),
    /// The host objects of a kind, in whichever job.
    Host(HostKind),
    /// The users' objects to which a process has handles of which their types are told.
    Told(Koid),
}

type Key = (Group, Koid);

#[derive(Debug)]
struct Node {
    key: Key,
    /// How often it was counted in.
    count: u32,
    left: Option<Place>,
    right: Option<Place>,
}

/// Where a part of the tree hangs.
#[derive(Clone, Copy)]
enum Hook {
    Root,
    Left(Place),
    Right(Place),
}

/// All that is listed.
#[derive(Debug)]
pub(crate) struct Listing {
    nodes: Pool<Node>,
    root: Option<Place>,
    seed: u64,
    /// How many nodes were looked at.
    #[cfg(test)]
    pub(crate) looks: core::cell::Cell<u64>,
}

impl Listing {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            nodes: Pool::default(),
            root: None,
            seed,
            #[cfg(test)]
            looks: core::cell::Cell::default(),
        }
    }

    /// How many objects are listed.
    pub(crate) fn len(&self) -> u32 {
        self.nodes.len()
    }

    /// Brings room for one more: [`Listing::insert`] cannot fail then.
    pub(crate) fn reserve(&mut self) -> Result<(), NoMemory> {
        self.nodes.reserve()
    }

    /// Lists an object, for which room was brought.
    pub(crate) fn insert(&mut self, group: Group, koid: Koid) {
        let key = (group, koid);
        let Ok(new) = self.nodes.insert(Node { key, count: 1, left: None, right: None }) else { return };
        let own = self.priority(key);
        let (mut hook, mut at) = (Hook::Root, self.root);
        while let Some((place, above)) = self.node(at).filter(|(_, above)| self.priority(above.key) >= own) {
            (hook, at) =
                if above.key < key { (Hook::Right(place), above.right) } else { (Hook::Left(place), above.left) };
        }
        self.hang(hook, Some(new));
        self.part(at, key, new);
    }

    /// Hangs what is below and above a key under its node.
    fn part(&mut self, top: Option<Place>, key: Key, node: Place) {
        let (mut lower, mut upper, mut at) = (Hook::Left(node), Hook::Right(node), top);
        while let Some((place, part)) = self.node(at) {
            let (is_lower, left, right) = (part.key < key, part.left, part.right);
            if is_lower {
                self.hang(lower, Some(place));
                (lower, at) = (Hook::Right(place), right);
            } else {
                self.hang(upper, Some(place));
                (upper, at) = (Hook::Left(place), left);
            }
        }
        self.hang(lower, None);
        self.hang(upper, None);
    }

    /// Takes an object out; one that is not listed is not. Allocates nothing.
    pub(crate) fn remove(&mut self, group: Group, koid: Koid) {
        let key = (group, koid);
        let (mut hook, mut at) = (Hook::Root, self.root);
        while let Some((place, part)) = self.node(at) {
            if part.key == key {
                let (left, right) = (part.left, part.right);
                self.nodes.remove(place);
                return self.join(hook, left, right);
            }
            (hook, at) = if part.key < key { (Hook::Right(place), part.right) } else { (Hook::Left(place), part.left) };
        }
    }

    /// Hangs two parts of the tree, all of the one below all of the other, where one was.
    fn join(&mut self, mut hook: Hook, mut left: Option<Place>, mut right: Option<Place>) {
        loop {
            let (Some((lower, below)), Some((upper, above))) = (self.node(left), self.node(right)) else {
                return self.hang(hook, left.or(right));
            };
            let (down, up) = (below.right, above.left);
            if self.priority(below.key) >= self.priority(above.key) {
                self.hang(hook, left);
                (hook, left) = (Hook::Right(lower), down);
            } else {
                self.hang(hook, right);
                (hook, right) = (Hook::Left(upper), up);
            }
        }
    }

    /// Counts a handle to an object in, for which room was brought; gives how many are counted since.
    pub(crate) fn count_in(&mut self, group: Group, koid: Koid) -> u32 {
        if let Some(node) = self.find(group, koid).and_then(|place| self.nodes.get_mut(place)) {
            node.count = node.count.saturating_add(1);
            return node.count;
        }
        self.insert(group, koid);
        1
    }

    /// Counts one off; gives how many are counted since. The last takes the object out. Allocates nothing.
    pub(crate) fn count_off(&mut self, group: Group, koid: Koid) -> u32 {
        match self.find(group, koid).and_then(|place| self.nodes.get_mut(place)) {
            Some(node) if node.count > 1 => {
                node.count -= 1;
                node.count
            }
            Some(_) => {
                self.remove(group, koid);
                0
            }
            None => 0,
        }
    }

    fn find(&self, group: Group, koid: Koid) -> Option<Place> {
        let key = (group, koid);
        let mut at = self.root;
        while let Some((place, part)) = self.node(at) {
            if part.key == key {
                return Some(place);
            }
            at = if part.key < key { part.right } else { part.left };
        }
        None
    }

    /// Whether an object is listed.
    pub(crate) fn contains(&self, group: Group, koid: Koid) -> bool {
        koid.raw().checked_sub(1).and_then(|before| self.after(group, before)) == Some(koid)
    }

    /// The first object of a group whose koid is greater than that number.
    pub(crate) fn after(&self, group: Group, cursor: u64) -> Option<Koid> {
        let mut found = None;
        let mut at = self.root;
        while let Some((_, part)) = self.node(at) {
            let (of, koid) = part.key;
            if of > group || (of == group && koid.raw() > cursor) {
                found = Some(part.key);
                at = part.left;
            } else {
                at = part.right;
            }
        }
        found.filter(|(of, _)| *of == group).map(|(_, koid)| koid)
    }

    fn node(&self, at: Option<Place>) -> Option<(Place, &Node)> {
        #[cfg(test)]
        self.looks.set(self.looks.get() + 1);
        at.and_then(|at| Some((at, self.nodes.get(at)?)))
    }

    fn hang(&mut self, hook: Hook, part: Option<Place>) {
        match hook {
            Hook::Root => self.root = part,
            Hook::Left(above) => {
                if let Some(above) = self.nodes.get_mut(above) {
                    above.left = part;
                }
            }
            Hook::Right(above) => {
                if let Some(above) = self.nodes.get_mut(above) {
                    above.right = part;
                }
            }
        }
    }

    /// The priority of a key: its bits, well mixed. What many processes have must have many priorities.
    fn priority(&self, (group, koid): Key) -> u64 {
        let process = if let Group::Told(process) = group { process.raw().rotate_left(32) } else { 0 };
        let mut word = (koid.raw() ^ process ^ self.seed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

impl Group {
    /// Where an object of that state is listed, as long as it lives.
    pub(crate) fn of(state: &State, owner: Option<Reference>) -> Option<Self> {
        match state {
            State::Job(_) => owner.map(|job| Self::Jobs(job.koid())),
            State::Process(process) if process.is_living() => owner.map(|job| Self::Processes(job.koid())),
            State::HostObject(host) => Some(Self::Host(host.kind())),
            _ => None,
        }
    }
}

impl Core {
    /// An object is ending and listed no longer.
    pub(crate) fn unlist(&mut self, object: Reference) {
        let owner = self.owner(object);
        if let Some(group) = self.state(object).and_then(|state| Group::of(state, owner)) {
            self.listing.remove(group, object.koid());
        }
    }

    /// Where a living object is to be listed; none if it is ending.
    pub(crate) fn listed_in(&self, object: Reference) -> Option<Group> {
        let ending =
            self.job(object).is_some_and(|job| job.dying) || self.guest(object).is_some_and(|guest| guest.dying);
        let group = Group::of(self.state(object)?, self.owner(object));
        group.filter(|_| !ending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kobj_abi::Era;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    fn koid(counter: u32) -> Koid {
        Koid::new(Era(7), counter).unwrap()
    }

    fn all(listing: &Listing, group: Group) -> Vec<Koid> {
        let first = listing.after(group, 0);
        core::iter::successors(first, |koid| listing.after(group, koid.raw())).collect()
    }

    /// How many looks the deepest node takes.
    fn depth(listing: &Listing, at: Option<Place>) -> usize {
        listing.node(at).map_or(0, |(_, node)| 1 + depth(listing, node.left).max(depth(listing, node.right)))
    }

    #[test]
    fn it_agrees_with_an_ordered_set_and_stays_flat() {
        let groups =
            [Group::Jobs(koid(1)), Group::Jobs(koid(2)), Group::Processes(koid(1)), Group::Host(HostKind::Fifo)];
        let (mut listing, mut set) = (Listing::new(3), BTreeSet::new());
        let mut random = 1_u64;
        for counter in 1..=20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let group = groups[(random >> 33) as usize % 4];
            listing.reserve().unwrap();
            listing.insert(group, koid(counter));
            set.insert((group, koid(counter)));
            if random >> 63 == 0 {
                let old = (groups[(random >> 40) as usize % 4], koid((random >> 35) as u32 % counter + 1));
                listing.remove(old.0, old.1);
                set.remove(&old);
            }
        }
        assert_eq!(listing.len() as usize, set.len());
        for group in groups {
            let expected: Vec<Koid> = set.iter().filter(|key| key.0 == group).map(|key| key.1).collect();
            assert!(expected.len() > 1000);
            assert_eq!(all(&listing, group), expected);
            for counter in (1..20_000).step_by(7) {
                let after = expected.iter().find(|koid| koid.counter() > counter).copied();
                assert_eq!(listing.after(group, koid(counter).raw()), after);
                assert_eq!(listing.contains(group, koid(counter)), set.contains(&(group, koid(counter))));
            }
            assert_eq!(listing.after(group, u64::MAX), None);
        }
        // 2 ln n is 20; the deepest of many is some times that.
        assert!(depth(&listing, listing.root) < 60, "{}", depth(&listing, listing.root));
        for (group, koid) in set {
            listing.remove(group, koid);
        }
        assert!((listing.root, listing.len()) == (None, 0));
    }
}

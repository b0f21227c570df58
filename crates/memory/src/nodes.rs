//! Derivation nodes: from which handle a handle was derived, and how many handles each node has.
//!
//! A node stands for the equal handles of one derivation: duplicates count themselves in its word and change nothing else.
//! The tree is the core's, changed under its lock alone; here are its memory, its links and the counts that threads share.

use crate::Place;
use crate::buckets::{Buckets, NoMemory, Zeroed};
use crate::slot_list::SlotList;
use crate::sync::{AtomicU32, Ordering, load_32, store_32};
use core::fmt;

/// Nobody counts itself in any more: all handles of the node are being taken back.
const REVOKED: u32 = 1 << 31;
/// The core knows that the last handle is gone: the node goes with its last child.
const LET_GO: u32 = 1 << 30;
/// How many handles there are.
const HANDLES: u32 = LET_GO - 1;

/// One node: 32 bytes. All zero is free.
#[derive(Debug, Default)]
#[repr(C)]
struct Node {
    /// [revoked | let go | handles 30]; threads share it, and it changes by read-modify-write alone.
    word: AtomicU32,
    parent: AtomicU32,
    first_child: AtomicU32,
    /// Next sibling; of a free node the next free one.
    next: AtomicU32,
    previous: AtomicU32,
    /// Where its last known handle stands: a hint.
    table: AtomicU32,
    index: AtomicU32,
    /// Who is charged for it.
    process: AtomicU32,
}

#[cfg(not(any(loom, shuttle)))]
const _: () = assert!(size_of::<Node>() == 32, "a derivation costs 32 bytes");

// SAFETY: zeroes must be a value that needs no drop: eight atomic numbers. A field with a niche, or one that owns, would
// break it.
unsafe impl Zeroed for Node {
    #[cfg(any(loom, shuttle))]
    fn zeroed() -> Self {
        Self::default()
    }
}

/// Why there is no node; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeError {
    /// The allocator refused.
    NoMemory,
    /// Every place is in use.
    Full,
}

impl From<NoMemory> for NodeError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => NoMemory.fmt(f),
            Self::Full => f.write_str("every derivation node is in use; close derived handles"),
        }
    }
}

/// Why a handle was not counted; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountError {
    /// The node's handles are being taken back, or were.
    Revoked,
    /// It has 2^30 - 1 handles.
    Full,
}

impl fmt::Display for CountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Revoked => "the handle is being revoked; ask whoever gave it for another",
            Self::Full => "the handle has 2^30 - 1 equals already; close some",
        })
    }
}

/// What giving up a count did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncounted {
    /// The node has handles yet.
    Remaining,
    /// It was the last one. Exactly one caller is told so: the core looks whether the node can go.
    Last,
    /// There was none; nothing changed.
    None,
}

/// A node's place in the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeLinks {
    /// From which node it was derived; none for a root.
    pub parent: Option<Place>,
    /// The last one derived from it.
    pub first_child: Option<Place>,
    /// The next that was derived from the same node.
    pub next: Option<Place>,
    /// The one before.
    pub previous: Option<Place>,
}

/// Where a node's handle is, as far as is known: whoever follows it looks whether it is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The table, by whatever number the core gives tables.
    pub table: Place,
    /// The index in it.
    pub index: u32,
}

/// All derivation nodes of a manager.
///
/// `make`, `free`, `count`, `uncount`, `revoke`, `let_go` and the looks may be called by any thread. The links, the hint and the
/// process are the core's: others may read them, and what they read is out of date.
#[derive(Debug, Default)]
pub struct Nodes {
    nodes: Buckets<Node>,
    free: SlotList,
    used: AtomicU32,
    live: AtomicU32,
}

// Relaxed in the links: the core's lock orders them.

fn get(word: &AtomicU32) -> Option<Place> {
    Place::from_raw(load_32(word, Ordering::Relaxed))
}

fn set(word: &AtomicU32, place: Option<Place>) {
    store_32(word, place.map_or(0, Place::raw), Ordering::Relaxed);
}

impl Nodes {
    #[inline]
    fn node(&self, place: Place) -> Option<&Node> {
        self.nodes.get(place.index())
    }

    /// Makes a node with one handle, in no tree yet.
    ///
    /// # Errors
    /// [`NodeError`]; nothing changed.
    pub fn make(&self) -> Result<Place, NodeError> {
        let next = |index| self.nodes.get(index).map(|node| &node.next);
        let index = match self.free.pop(next) {
            Some(index) => index,
            None => self.take_fresh()?,
        };
        let place = Place::new(index).ok_or(NodeError::Full)?;
        if let Some(node) = self.node(place) {
            for word in [&node.parent, &node.first_child, &node.next, &node.previous, &node.table, &node.process] {
                store_32(word, 0, Ordering::Relaxed);
            }
            // Nobody else knows the node: its place is handed on by the entry of its first handle, which releases this.
            store_32(&node.word, 1, Ordering::Relaxed);
        }
        self.live.fetch_add(1, Ordering::Relaxed);
        Ok(place)
    }

    fn take_fresh(&self) -> Result<u32, NodeError> {
        let mut used = load_32(&self.used, Ordering::Relaxed);
        loop {
            if used >= Buckets::<Node>::MOST {
                return Err(NodeError::Full);
            }
            self.nodes.grow_to(used)?;
            match self.used.compare_exchange(used, used + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(used),
                Err(now) => used = now,
            }
        }
    }

    /// Frees a node that no handle, no child and no sibling knows any more.
    pub fn free(&self, place: Place) {
        if let Some(node) = self.node(place) {
            debug_assert!(load_32(&node.word, Ordering::Relaxed) & HANDLES == 0, "a node with handles is not freed");
            self.live.fetch_sub(1, Ordering::Relaxed);
            self.free.push(place.index(), &node.next);
        }
    }

    // ---- counts

    /// Counts one handle more, for who holds one of the node's handles pinned (so that the node is not freed meanwhile).
    ///
    /// # Errors
    /// [`CountError`]; nothing changed.
    #[inline]
    pub fn count(&self, place: Place) -> Result<(), CountError> {
        let node = self.node(place).ok_or(CountError::Revoked)?;
        let mut word = load_32(&node.word, Ordering::Relaxed);
        loop {
            if word & REVOKED != 0 {
                return Err(CountError::Revoked);
            }
            if word & HANDLES == HANDLES {
                return Err(CountError::Full);
            }
            // One exchange from "not revoked" to "counted": a revoke that came first makes it fail, one that comes later sees
            // the count. Relaxed: the count carries nothing but itself.
            match node.word.compare_exchange(word, word + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
    }

    /// Gives up one handle's count.
    #[inline]
    pub fn uncount(&self, place: Place) -> Uncounted {
        let Some(node) = self.node(place) else { return Uncounted::None };
        let mut word = load_32(&node.word, Ordering::Relaxed);
        loop {
            let handles = word & HANDLES;
            if handles == 0 {
                return Uncounted::None;
            }
            // Release and acquire: what others did with their handles happened before the node is freed.
            match node.word.compare_exchange(word, word - 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if handles == 1 => return Uncounted::Last,
                Ok(_) => return Uncounted::Remaining,
                Err(now) => word = now,
            }
        }
    }

    /// How many handles the node has; those counted and not yet open are among them.
    #[must_use]
    pub fn handles(&self, place: Place) -> u32 {
        self.node(place).map_or(0, |node| load_32(&node.word, Ordering::Acquire) & HANDLES)
    }

    /// From now on nobody counts itself in; gives how many handles have to be found. For good.
    pub fn revoke(&self, place: Place) -> u32 {
        self.node(place).map_or(0, |node| node.word.fetch_or(REVOKED, Ordering::AcqRel) & HANDLES)
    }

    /// Whether its handles are being taken back, or were.
    #[must_use]
    pub fn is_revoked(&self, place: Place) -> bool {
        self.node(place).is_some_and(|node| load_32(&node.word, Ordering::Relaxed) & REVOKED != 0)
    }

    /// Notes that whoever counted the last handle off has told the core. Until then the node is not freed, though no handle
    /// is left: a thread is on its way to tell it. `true` the first time.
    pub fn let_go(&self, place: Place) -> bool {
        self.node(place).is_some_and(|node| node.word.fetch_or(LET_GO, Ordering::Relaxed) & LET_GO == 0)
    }

    /// Whether the core knows that no handle is left.
    #[must_use]
    pub fn is_let_go(&self, place: Place) -> bool {
        self.node(place).is_some_and(|node| load_32(&node.word, Ordering::Relaxed) & LET_GO != 0)
    }

    // ---- the tree, under the core's lock

    /// Its place in the tree.
    #[must_use]
    pub fn links(&self, place: Place) -> NodeLinks {
        let links = |node: &Node| NodeLinks {
            parent: get(&node.parent),
            first_child: get(&node.first_child),
            next: get(&node.next),
            previous: get(&node.previous),
        };
        self.node(place).map(links).unwrap_or_default()
    }

    /// Puts a node that is in no tree below another, before its other children.
    pub fn attach(&self, place: Place, parent: Place) {
        let (Some(node), Some(above)) = (self.node(place), self.node(parent)) else { return };
        let first = get(&above.first_child);
        set(&node.parent, Some(parent));
        set(&node.next, first);
        set(&node.previous, None);
        set(&above.first_child, Some(place));
        if let Some(sibling) = first.and_then(|first| self.node(first)) {
            set(&sibling.previous, Some(place));
        }
    }

    /// Takes a node out from below its parent; what is below it stays below it. Gives the parent.
    pub fn detach(&self, place: Place) -> Option<Place> {
        let node = self.node(place)?;
        let (parent, next, previous) = (get(&node.parent), get(&node.next), get(&node.previous));
        if let Some(sibling) = next.and_then(|next| self.node(next)) {
            set(&sibling.previous, previous);
        }
        match (previous.and_then(|previous| self.node(previous)), parent.and_then(|parent| self.node(parent))) {
            (Some(sibling), _) => set(&sibling.next, next),
            (None, Some(above)) => set(&above.first_child, next),
            (None, None) => {}
        }
        for word in [&node.parent, &node.next, &node.previous] {
            set(word, None);
        }
        parent
    }

    /// The last one derived from it: one step down towards a node without children.
    #[must_use]
    pub fn first_below(&self, place: Place) -> Option<Place> {
        get(&self.node(place)?.first_child)
    }

    /// Where its handle is, as far as is known.
    #[must_use]
    pub fn hint(&self, place: Place) -> Option<Hint> {
        let node = self.node(place)?;
        Some(Hint { table: get(&node.table)?, index: load_32(&node.index, Ordering::Relaxed) })
    }

    /// Says where its handle is.
    pub fn set_hint(&self, place: Place, hint: Option<Hint>) {
        if let Some(node) = self.node(place) {
            set(&node.table, hint.map(|hint| hint.table));
            store_32(&node.index, hint.map_or(0, |hint| hint.index), Ordering::Relaxed);
        }
    }

    /// Who is charged for it.
    #[must_use]
    pub fn process(&self, place: Place) -> Option<Place> {
        get(&self.node(place)?.process)
    }

    /// Says who is charged for it.
    pub fn set_process(&self, place: Place, process: Option<Place>) {
        if let Some(node) = self.node(place) {
            set(&node.process, process);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn live(&self) -> u32 {
        load_32(&self.live, Ordering::Relaxed)
    }

    /// Nodes for which there is memory, 32 bytes each.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.nodes.capacity()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn a_node_counts_its_handles_and_tells_the_last() {
        let nodes = Nodes::default();
        let node = nodes.make().unwrap();
        assert_eq!((nodes.handles(node), nodes.live()), (1, 1));
        assert_eq!(nodes.count(node), Ok(()));
        assert_eq!(nodes.uncount(node), Uncounted::Remaining);
        assert_eq!(nodes.uncount(node), Uncounted::Last);
        assert_eq!(nodes.uncount(node), Uncounted::None);
        nodes.set_process(node, Some(node));
        nodes.set_hint(node, Some(Hint { table: node, index: 7 }));
        nodes.free(node);
        assert_eq!(nodes.live(), 0);
        assert_eq!(nodes.make(), Ok(node), "its place is used again, and clean");
        assert_eq!((nodes.process(node), nodes.hint(node), nodes.links(node)), (None, None, NodeLinks::default()));
        assert_eq!(nodes.handles(node), 1);
    }

    #[test]
    fn nobody_counts_itself_on_a_revoked_node() {
        let nodes = Nodes::default();
        let node = nodes.make().unwrap();
        nodes.count(node).unwrap();
        assert_eq!(nodes.revoke(node), 2);
        assert_eq!(nodes.count(node), Err(CountError::Revoked));
        assert!(nodes.is_revoked(node));
        assert_eq!([nodes.uncount(node), nodes.uncount(node)], [Uncounted::Remaining, Uncounted::Last]);
        assert_eq!(nodes.count(node), Err(CountError::Revoked));
    }

    #[test]
    fn a_node_is_let_go_once_and_for_itself_alone() {
        let nodes = Nodes::default();
        let (node, other) = (nodes.make().unwrap(), nodes.make().unwrap());
        assert_eq!(nodes.uncount(node), Uncounted::Last);
        assert!(!nodes.is_let_go(node), "that it was the last is not yet known to the core");
        assert!(nodes.let_go(node) && !nodes.let_go(node));
        assert!(nodes.is_let_go(node) && !nodes.is_revoked(node) && !nodes.is_let_go(other));
        nodes.free(node);
        assert!(!nodes.is_let_go(nodes.make().unwrap()), "a new node is clean");
    }

    #[test]
    fn counts_do_not_reach_the_other_bits() {
        let nodes = Nodes::default();
        let node = nodes.make().unwrap();
        nodes.node(node).unwrap().word.store(HANDLES, Ordering::Relaxed);
        assert_eq!(nodes.count(node), Err(CountError::Full));
        assert_eq!(nodes.uncount(node), Uncounted::Remaining);
        assert_eq!(nodes.count(node), Ok(()));
        let nowhere = Place::new(5_000).unwrap();
        assert_eq!((nodes.count(nowhere), nodes.uncount(nowhere)), (Err(CountError::Revoked), Uncounted::None));
    }

    #[test]
    fn a_tree_is_taken_apart_in_any_order() {
        let nodes = Nodes::default();
        let root = nodes.make().unwrap();
        let children: Vec<_> = (0..5).map(|_| nodes.make().unwrap()).collect();
        let below = nodes.make().unwrap();
        children.iter().for_each(|child| nodes.attach(*child, root));
        nodes.attach(below, children[2]);
        let listed = || {
            let first = nodes.first_below(root);
            core::iter::successors(first, |at| nodes.links(*at).next).collect::<Vec<_>>()
        };
        let kept = |kept: &[usize]| kept.iter().map(|at| children[*at]).collect::<Vec<_>>();
        assert_eq!(listed(), kept(&[4, 3, 2, 1, 0]));
        for (gone, rest) in [(2, vec![4, 3, 1, 0]), (4, vec![3, 1, 0]), (0, vec![3, 1]), (3, vec![1]), (1, vec![])] {
            assert_eq!(nodes.detach(children[gone]), Some(root));
            assert_eq!(listed(), kept(&rest));
        }
        assert_eq!(nodes.links(below).parent, Some(children[2]));
        assert_eq!(nodes.detach(root), None);
    }
}

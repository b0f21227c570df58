//! Derivation: who gave whom a handle that can be taken back.
//!
//! Handles that were derived stand on nodes of a tree; equal handles share one. A node stays while it has handles or
//! children, so what was derived from a closed handle can still be taken back by whoever gave that one.
//!
//! [`Derivations::revoke`] takes back all handles of all nodes below one, and then those nodes. It goes down marking each
//! node, so that nobody gets an equal of a handle below any more, and takes back what stands where the node's hint says. If
//! handles are left (equals, which a hint does not know), one sweep over all tables finds them by their marked nodes. It
//! lets the nodes go on the way up. All of this is done in single units by [`Derivations::work`], keeps its place when
//! nodes go meanwhile, allocates nothing, and neither recurses nor walks back.
//!
//! Nothing here counts handles: a thread may count one more on an unmarked node at any time, and one less as long as one is
//! left. The last one is counted off by the owner of this, who then calls [`Derivations::let_go`].

#[cfg(test)]
mod tests;

use core::fmt;
use kobj_memory::{NoMemory, Place};

/// The links of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeLinks {
    /// From what it was derived.
    pub parent: Option<Place>,
    /// The newest of what was derived from it.
    pub first_child: Option<Place>,
    /// The next older one that was derived from its parent.
    pub next: Option<Place>,
    /// The next newer one.
    pub previous: Option<Place>,
}

/// Where a handle stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The table's number.
    pub table: u32,
    /// The handle's index in it.
    pub index: u32,
}

/// The memory of nodes.
pub trait Nodes {
    /// A node without links or mark, on which one handle is counted. `charged` says who pays for it.
    ///
    /// # Errors
    /// [`NoMemory`].
    fn create(&mut self, charged: u32) -> Result<Place, NoMemory>;
    /// Gives a node's memory back. Cannot fail.
    fn remove(&mut self, node: Place);
    /// Its links.
    fn links(&self, node: Place) -> NodeLinks;
    /// Changes its links.
    fn set_links(&mut self, node: Place, links: NodeLinks);
    /// How many handles are counted on it.
    fn handles(&self, node: Place) -> u32;
    /// Whether it is marked.
    fn is_revoked(&self, node: Place) -> bool;
    /// Marks it: from now on no handle more is counted on it.
    fn mark_revoked(&mut self, node: Place);
    /// Where its handle was last known to stand.
    fn hint(&self, node: Place) -> Position;
    /// Says where its handle stands.
    fn set_hint(&mut self, node: Place, hint: Position);
    /// Who pays for it.
    fn charged(&self, node: Place) -> u32;
}

/// The tables in which handles are taken back.
///
/// A handle that somebody looks through is closed for all others, and counted off its node when that look ends.
pub trait Tables<N: Nodes> {
    /// Closes the handle at a position if it stands on that node; counts it off the node, here also as the last one.
    fn take_back(&mut self, nodes: &mut N, node: Place, at: Position);
    /// Does so for each handle on a marked node among the next few from a position on. Where to go on; `None` at the end.
    fn sweep(&mut self, nodes: &mut N, from: Position) -> Option<Position>;
}

/// Why nothing was derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeriveError {
    /// All that was derived from the handle, or from one that it comes from, is being taken back.
    Revoked,
    /// No memory for the node.
    NoMemory,
}

impl fmt::Display for DeriveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revoked => f.write_str("what is derived from the handle is being taken back; try when that is done"),
            Self::NoMemory => NoMemory.fmt(f),
        }
    }
}

impl core::error::Error for DeriveError {}

/// As many revokes are under way as can be: let one end, by [`Derivations::work`], and try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyRevokes;

/// A revoke under way. Never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RevokeId(u64);

/// What a unit of work was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// There was none.
    None,
    /// Some; nothing to do for the caller.
    Done,
    /// A node has gone: who paid for it gets that back.
    Freed {
        /// As given to [`Derivations::derive`].
        charged: u32,
    },
}

/// Where a revoke stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cursor {
    /// The node is next.
    Enter(Place),
    /// All below the node was visited.
    Leave(Place),
    /// The tables are being swept from there on.
    Sweep(Position),
}

#[derive(Clone, Copy, Debug)]
struct Revoke {
    id: RevokeId,
    top: Place,
    cursor: Cursor,
    /// Handles were left that no hint knew.
    is_sweep_due: bool,
    /// The tables were swept.
    is_swept: bool,
}

/// The tree of derivations: what is under way in it. Its nodes are in a [`Nodes`].
#[derive(Debug)]
pub struct Derivations {
    revokes: [Option<Revoke>; Self::REVOKES_MOST],
    /// Of these, none is used from this one on.
    revokes_end: usize,
    /// Whose turn it is.
    turn: usize,
    last_id: u64,
    /// Nodes without handles and children that are to go, linked by their hints.
    leaving: Option<Place>,
}

impl Default for Derivations {
    fn default() -> Self {
        Self { revokes: [None; Self::REVOKES_MOST], revokes_end: 0, turn: 0, last_id: 0, leaving: None }
    }
}

const FIRST: Position = Position { table: 0, index: 0 };

impl Derivations {
    /// How many revokes can be under way.
    pub const REVOKES_MOST: usize = 32;

    /// How many generations [`Derivations::derive`] looks back for a revoke under way, so that it is bounded. What is
    /// derived deeper than that, below a revoke that has not come down there yet, is taken back by it like all else.
    pub const LOOK_BACK_MOST: u32 = 4096;

    /// A node for a handle that has none yet, because something is to be derived from it for the first time.
    ///
    /// # Errors
    /// [`DeriveError::NoMemory`].
    pub fn root(&self, nodes: &mut impl Nodes, charged: u32) -> Result<Place, DeriveError> {
        nodes.create(charged).map_err(|NoMemory| DeriveError::NoMemory)
    }

    /// A node for a handle that is derived from one on `parent`.
    ///
    /// # Errors
    /// [`DeriveError`]; nothing changed.
    pub fn derive<N: Nodes>(&self, nodes: &mut N, parent: Place, charged: u32) -> Result<Place, DeriveError> {
        if self.is_being_revoked(nodes, parent) {
            return Err(DeriveError::Revoked);
        }
        let node = nodes.create(charged).map_err(|NoMemory| DeriveError::NoMemory)?;
        let above = nodes.links(parent);
        nodes.set_links(node, NodeLinks { parent: Some(parent), next: above.first_child, ..NodeLinks::default() });
        if let Some(next) = above.first_child {
            let links = nodes.links(next);
            nodes.set_links(next, NodeLinks { previous: Some(node), ..links });
        }
        nodes.set_links(parent, NodeLinks { first_child: Some(node), ..above });
        Ok(node)
    }

    /// Whether all below the node is being taken back, by a revoke of it or of what it comes from.
    #[must_use]
    pub fn is_being_revoked<N: Nodes>(&self, nodes: &N, node: Place) -> bool {
        if nodes.is_revoked(node) {
            return true;
        }
        if !self.is_revoking() {
            return false;
        }
        let mut next = Some(node);
        for _ in 0..Self::LOOK_BACK_MOST {
            let Some(node) = next else { return false };
            if nodes.is_revoked(node) || self.active().any(|revoke| revoke.top == node) {
                return true;
            }
            next = nodes.links(node).parent;
        }
        false
    }

    /// Begins to take back all that was derived from handles on `top`. `None` if nothing was; else it is done when
    /// [`Derivations::is_under_way`] says so. Asked again meanwhile, it is the same revoke.
    ///
    /// # Errors
    /// [`TooManyRevokes`]; nothing changed.
    pub fn revoke<N: Nodes>(&mut self, nodes: &N, top: Place) -> Result<Option<RevokeId>, TooManyRevokes> {
        let Some(first) = nodes.links(top).first_child else { return Ok(None) };
        if let Some(revoke) = self.active().find(|revoke| revoke.top == top) {
            return Ok(Some(revoke.id));
        }
        let free = self.revokes.iter().position(Option::is_none).ok_or(TooManyRevokes)?;
        self.last_id += 1;
        let id = RevokeId(self.last_id);
        self.revokes_end = self.revokes_end.max(free + 1);
        self.revokes[free] =
            Some(Revoke { id, top, cursor: Cursor::Enter(first), is_sweep_due: false, is_swept: false });
        Ok(Some(id))
    }

    /// Whether a revoke goes on.
    #[must_use]
    pub fn is_under_way(&self, id: RevokeId) -> bool {
        self.active().any(|revoke| revoke.id == id)
    }

    /// Whether any revoke goes on.
    #[must_use]
    pub fn is_revoking(&self) -> bool {
        self.revokes_end > 0
    }

    fn active(&self) -> impl Iterator<Item = &Revoke> + '_ {
        self.revokes[..self.revokes_end].iter().flatten()
    }

    /// Whether there is work.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.leaving.is_some() || self.is_revoking()
    }

    /// The last handle of a node was counted off: the node goes when nothing derived from it is left.
    pub fn let_go<N: Nodes>(&mut self, nodes: &mut N, node: Place) {
        if !Self::may_go(nodes, node) {
            return;
        }
        // A handle's index cannot tell this from a hint; that no handle is left does.
        let index = self.leaving.map_or(0, Place::raw);
        nodes.set_hint(node, Position { table: 0, index });
        self.leaving = Some(node);
    }

    fn may_go<N: Nodes>(nodes: &N, node: Place) -> bool {
        nodes.handles(node) == 0 && nodes.links(node).first_child.is_none()
    }

    /// One unit of work: a node that goes, a node that a revoke visits, a piece of a sweep.
    pub fn work<N: Nodes>(&mut self, nodes: &mut N, tables: &mut impl Tables<N>) -> Work {
        // These first, so that no revoke ever meets a node that waits here.
        if let Some(node) = self.leaving {
            self.leaving = Place::from_raw(nodes.hint(node).index);
            let parent = nodes.links(node).parent;
            let freed = self.free(nodes, node);
            if let Some(parent) = parent {
                self.let_go(nodes, parent);
            }
            return freed;
        }
        // In turn, so that a small one need not wait for a large one.
        for _ in 0..self.revokes_end {
            self.turn = (self.turn + 1) % self.revokes_end;
            if let Some(revoke) = self.revokes[self.turn] {
                return self.advance(nodes, tables, revoke);
            }
        }
        Work::None
    }

    fn advance<N: Nodes>(&mut self, nodes: &mut N, tables: &mut impl Tables<N>, mut revoke: Revoke) -> Work {
        let mut goes = None;
        match revoke.cursor {
            Cursor::Enter(node) => {
                nodes.mark_revoked(node);
                if !revoke.is_swept && nodes.handles(node) == 1 {
                    tables.take_back(nodes, node, nodes.hint(node));
                }
                revoke.is_sweep_due |= nodes.handles(node) > 0;
                let first = nodes.links(node).first_child;
                revoke.cursor = first.map_or(Cursor::Leave(node), Cursor::Enter);
            }
            Cursor::Leave(node) if node == revoke.top => return self.end_of_visit(nodes, revoke),
            Cursor::Leave(node) => {
                revoke.cursor = Self::after(nodes.links(node)).unwrap_or(Cursor::Leave(revoke.top));
                goes = Some(node).filter(|node| Self::may_go(nodes, *node));
            }
            Cursor::Sweep(from) => match tables.sweep(nodes, from) {
                Some(next) => revoke.cursor = Cursor::Sweep(next),
                None => {
                    revoke.is_swept = true;
                    let first = nodes.links(revoke.top).first_child;
                    revoke.cursor = first.map_or(Cursor::Leave(revoke.top), Cursor::Enter);
                }
            },
        }
        self.revokes[self.turn] = Some(revoke);
        goes.map_or(Work::Done, |node| self.free(nodes, node))
    }

    /// All below the top was visited.
    fn end_of_visit<N: Nodes>(&mut self, nodes: &mut N, revoke: Revoke) -> Work {
        if revoke.is_sweep_due && !revoke.is_swept {
            self.revokes[self.turn] = Some(Revoke { cursor: Cursor::Sweep(FIRST), ..revoke });
            return Work::Done;
        }
        self.revokes[self.turn] = None;
        self.shorten();
        // Its own last handle may have gone meanwhile, and nobody could let it go then.
        self.let_go(nodes, revoke.top);
        Work::Done
    }

    fn shorten(&mut self) {
        while self.revokes_end > 0 && self.revokes[self.revokes_end - 1].is_none() {
            self.revokes_end -= 1;
        }
    }

    /// Where a visit goes on after a node, whether that is still there or not.
    fn after(links: NodeLinks) -> Option<Cursor> {
        links.next.map(Cursor::Enter).or(links.parent.map(Cursor::Leave))
    }

    /// Takes a node without handles and children out of the tree. Revokes that stand on it go on.
    fn free<N: Nodes>(&mut self, nodes: &mut N, node: Place) -> Work {
        let links = nodes.links(node);
        for slot in &mut self.revokes[..self.revokes_end] {
            let Some(revoke) = slot else { continue };
            if revoke.top == node {
                // Nothing is left below it.
                *slot = None;
            } else if [Cursor::Enter(node), Cursor::Leave(node)].contains(&revoke.cursor) {
                revoke.cursor = Self::after(links).unwrap_or(Cursor::Leave(revoke.top));
            }
        }
        self.shorten();
        if let Some(previous) = links.previous {
            let its = nodes.links(previous);
            nodes.set_links(previous, NodeLinks { next: links.next, ..its });
        } else if let Some(parent) = links.parent {
            let its = nodes.links(parent);
            nodes.set_links(parent, NodeLinks { first_child: links.next, ..its });
        }
        if let Some(next) = links.next {
            let its = nodes.links(next);
            nodes.set_links(next, NodeLinks { previous: links.previous, ..its });
        }
        let charged = nodes.charged(node);
        nodes.remove(node);
        Work::Freed { charged }
    }
}

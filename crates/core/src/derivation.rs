//! Derivation: who gave whom a handle that can be taken back.
//!
//! Handles that were derived stand on nodes of a tree; equal handles share one. A node stays while it has handles or
//! children, so what was derived from a closed handle can still be taken back by whoever gave that one.
//!
//! [`Derivations::revoke`] takes back all handles of all nodes below one. It visits them once, marks each as revoked, so that
//! nobody gets an equal of its handles any more, and takes back what stands where the node's hint says. If handles are left
//! (equals, which a hint does not know), one sweep over all tables finds them by their nodes. The nodes go like all others.
//! All of this is done in single units ([`Derivations::work`]), keeps its place when nodes go meanwhile, allocates nothing,
//! and does not recurse. A handle through which somebody looks at the time is closed too; its node stays until that look ends.
//!
//! Nothing here counts handles: any thread may count one more on a node that is not revoked, and one less. Whoever counts the
//! last one off says so ([`Derivations::let_go`]), and no node goes before that was said.

#[cfg(test)]
mod tests;

use crate::account::AccountId;
use core::fmt;
use kobj_memory::{Hint, NodeError, NodeLinks, Nodes, Place};

/// Where a sweep stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The number of a table, as far as who has the tables numbers them.
    pub table: u32,
    /// An index in it.
    pub index: u32,
}

/// Why nothing was derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeriveError {
    /// All that was derived from the handle, or from one that it comes from, is being taken back.
    Revoked,
    /// No memory for the node, or no place.
    NoMemory,
}

impl From<NodeError> for DeriveError {
    fn from(_: NodeError) -> Self {
        Self::NoMemory
    }
}

impl fmt::Display for DeriveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revoked => f.write_str("what is derived from the handle is being taken back; try when that is done"),
            Self::NoMemory => NodeError::NoMemory.fmt(f),
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

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing.
    None,
    /// Nothing by the caller; there is more.
    Done,
    /// A node has gone: who paid for it gets that back.
    Freed {
        /// As given to [`Derivations::derive`].
        charged: Option<AccountId>,
    },
    /// The handle at a place is to be closed, if it stands on that node.
    TakeBack {
        /// The node.
        node: Place,
        /// Where its handle was last known to stand.
        at: Hint,
    },
    /// Of the next few handles from a position on, those on revoked nodes are to be closed; then [`Derivations::swept`].
    Sweep {
        /// Where to go on.
        from: Position,
    },
}

/// Where a revoke stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cursor {
    /// The node is next.
    Enter(Place),
    /// All below the node was visited.
    Leave(Place),
    /// All was visited; the tables are being swept from there on.
    Sweep(Position),
}

#[derive(Clone, Copy, Debug)]
struct Revoke {
    id: RevokeId,
    top: Place,
    cursor: Cursor,
    /// Handles were left that no hint knew.
    is_sweep_due: bool,
}

/// The tree of derivations: what is under way in it. The nodes themselves are in a [`Nodes`].
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

impl Derivations {
    /// How many revokes can be under way.
    pub const REVOKES_MOST: usize = 32;

    /// How many generations [`Derivations::derive`] looks back for a revoke under way, so that it is bounded. What is
    /// derived deeper than that, below a revoke that has not come down there yet, is taken back by it like all else.
    pub const LOOK_BACK_MOST: u32 = 4096;

    /// A node for a handle that has none yet, because something is to be derived from it for the first time. One handle is
    /// counted on it.
    ///
    /// # Errors
    /// [`DeriveError::NoMemory`].
    pub fn root(&self, nodes: &Nodes, charged: Option<AccountId>) -> Result<Place, DeriveError> {
        let node = nodes.make()?;
        nodes.set_process(node, charged.and_then(|charged| Place::from_raw(charged.to_raw())));
        Ok(node)
    }

    /// A node for a handle that is derived from one on `parent`. One handle is counted on it.
    ///
    /// # Errors
    /// [`DeriveError`]; nothing changed.
    pub fn derive(&self, nodes: &Nodes, parent: Place, charged: Option<AccountId>) -> Result<Place, DeriveError> {
        if self.is_being_revoked(nodes, parent) {
            return Err(DeriveError::Revoked);
        }
        let node = self.root(nodes, charged)?;
        nodes.attach(node, parent);
        Ok(node)
    }

    /// Whether all below the node is being taken back, by a revoke of it or of what it comes from.
    #[must_use]
    pub fn is_being_revoked(&self, nodes: &Nodes, node: Place) -> bool {
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
    pub fn revoke(&mut self, nodes: &Nodes, top: Place) -> Result<Option<RevokeId>, TooManyRevokes> {
        let Some(first) = nodes.links(top).first_child else { return Ok(None) };
        if let Some(revoke) = self.active().find(|revoke| revoke.top == top) {
            return Ok(Some(revoke.id));
        }
        let free = self.revokes.iter().position(Option::is_none).ok_or(TooManyRevokes)?;
        self.last_id += 1;
        let id = RevokeId(self.last_id);
        self.revokes_end = self.revokes_end.max(free + 1);
        self.revokes[free] = Some(Revoke { id, top, cursor: Cursor::Enter(first), is_sweep_due: false });
        Ok(Some(id))
    }

    /// Whether the handles on the node are themselves being taken back: no equals are made of them, and none is moved, for a
    /// sweep may have been where it would go.
    #[must_use]
    pub fn is_being_taken_back(&self, nodes: &Nodes, node: Place) -> bool {
        if nodes.is_revoked(node) {
            return true;
        }
        let parent = nodes.links(node).parent.filter(|_| self.is_revoking());
        parent.is_some_and(|parent| self.is_being_revoked(nodes, parent))
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

    /// The last handle of a node was counted off: the node goes when nothing derived from it is left. Told once for a node.
    pub fn let_go(&mut self, nodes: &Nodes, node: Place) {
        nodes.let_go(node);
        self.leave_if_bare(nodes, node);
    }

    /// The same of a node that can go at once: nothing was derived from it, and nothing else is to be done here first. It is
    /// gone then, and who paid for it is given. `None`, and nothing changed, if that is not so.
    pub fn let_go_at_once(&mut self, nodes: &Nodes, node: Place) -> Option<Option<AccountId>> {
        if self.has_work() || nodes.first_below(node).is_some() {
            return None;
        }
        let parent = nodes.links(node).parent;
        let charged = self.free(nodes, node);
        if let Some(parent) = parent {
            self.leave_if_bare(nodes, parent);
        }
        Some(charged)
    }

    fn leave_if_bare(&mut self, nodes: &Nodes, node: Place) {
        if Self::may_go(nodes, node) {
            // No handle is left, so the hint is free for this.
            let index = self.leaving.map_or(0, Place::raw);
            nodes.set_hint(node, Some(Hint { table: node, index }));
            self.leaving = Some(node);
        }
    }

    /// Not as soon as no handle is counted: whoever counted the last one off may still be on the way here.
    fn may_go(nodes: &Nodes, node: Place) -> bool {
        nodes.is_let_go(node) && nodes.links(node).first_child.is_none()
    }

    /// One unit of work: a node that goes, a node that a revoke visits, a piece of a sweep.
    pub fn work(&mut self, nodes: &Nodes) -> Work {
        // These first, so that no revoke ever meets a node that waits here.
        if let Some(node) = self.leaving {
            self.leaving = nodes.hint(node).and_then(|next| Place::from_raw(next.index));
            let parent = nodes.links(node).parent;
            let charged = self.free(nodes, node);
            if let Some(parent) = parent {
                self.leave_if_bare(nodes, parent);
            }
            return Work::Freed { charged };
        }
        // In turn, so that a small one need not wait for a large one.
        for _ in 0..self.revokes_end {
            self.turn = (self.turn + 1) % self.revokes_end;
            if let Some(revoke) = &mut self.revokes[self.turn] {
                return match revoke.cursor {
                    Cursor::Enter(node) => Self::enter(nodes, revoke, node),
                    Cursor::Leave(node) => {
                        let is_over = Self::leave(nodes, revoke, node);
                        self.end_if(is_over)
                    }
                    Cursor::Sweep(from) => Work::Sweep { from },
                };
            }
        }
        Work::None
    }

    fn enter(nodes: &Nodes, revoke: &mut Revoke, node: Place) -> Work {
        let handles = nodes.revoke(node);
        revoke.cursor = nodes.links(node).first_child.map_or(Cursor::Leave(node), Cursor::Enter);
        match nodes.hint(node).filter(|_| handles == 1) {
            Some(at) => Work::TakeBack { node, at },
            None => {
                revoke.is_sweep_due |= handles > 0;
                Work::Done
            }
        }
    }

    /// Whether the revoke is over.
    fn leave(nodes: &Nodes, revoke: &mut Revoke, node: Place) -> bool {
        if node != revoke.top {
            revoke.is_sweep_due |= nodes.handles(node) > 0;
            revoke.cursor = Self::after(nodes.links(node)).unwrap_or(Cursor::Leave(revoke.top));
            return false;
        }
        revoke.cursor = Cursor::Sweep(Position::default());
        !revoke.is_sweep_due
    }

    fn end_if(&mut self, is_over: bool) -> Work {
        if is_over {
            self.revokes[self.turn] = None;
            self.shorten();
        }
        Work::Done
    }

    /// What [`Work::Sweep`] asked for was done; go on from `next`. `None`: the tables have come to their end.
    pub fn swept(&mut self, next: Option<Position>) {
        if let Some(revoke) = &mut self.revokes[self.turn]
            && let Cursor::Sweep(from) = &mut revoke.cursor
        {
            let is_over = next.is_none();
            *from = next.unwrap_or_default();
            let _done = self.end_if(is_over);
        }
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

    /// Takes back a node on which a handle was counted that was not made. Its charge is the caller's to refund.
    pub fn discard(&mut self, nodes: &Nodes, node: Place) {
        nodes.uncount(node);
        self.free(nodes, node);
    }

    /// Takes a node without handles and children out of the tree. Revokes that stand on it go on. Gives who pays for it.
    fn free(&mut self, nodes: &Nodes, node: Place) -> Option<AccountId> {
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
        let charged = nodes.process(node).and_then(|charged| AccountId::from_raw(charged.raw()));
        nodes.detach(node);
        nodes.free(node);
        charged
    }
}

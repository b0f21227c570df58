//! Derive and revoke: handles that can be taken back, and taking them back, through tables and objects.
//!
//! The tree itself is in [`crate::derivation`]; here its nodes are charged and its work is done: a handle that it wants back
//! is closed like any other, so the object, the charge and the node lose what it counted in one place.

use crate::account::{AccountId, Charge};
use crate::call::{CallAnswer, CallError};
use crate::derivation::{DeriveError, Position, TooManyRevokes, Work};
use crate::handles::{Caller, HANDLE, Meant};
use crate::manager::Core;
use crate::notices::{CloseReason, OpenReason};
use kobj_abi::{AskedRights, Operation, RawHandle};
use kobj_memory::{Closed, Content, CountError, Hint, Next, Place, Reference, Reserved, Table, Uncounted};

/// What a derivation node is charged: to the process that derives, until the node goes.
const NODE: Charge = Charge { bytes: 32, ..Charge::NONE };

/// Objects or slots that are looked at in one unit of a sweep.
const SWEEP_PER_UNIT: u32 = 64;

impl Core {
    #[inline(never)]
    pub(crate) fn call_derive(
        &mut self,
        caller: &Caller,
        handle: RawHandle,
        rights: AskedRights,
    ) -> Result<CallAnswer, CallError> {
        let meant = self.meant_here(caller, handle, Operation::Derive)?;
        let rights = Self::within(meant.object, meant.object_type, rights, meant.rights)?;
        if meant.node.is_some_and(|node| self.derivations.is_being_revoked(&self.nodes, node)) {
            return Err(CallError::Revoked { koid: meant.object.koid() });
        }
        let account = self.guest(caller.process).and_then(|guest| guest.account);
        let nodes = Charge { bytes: NODE.bytes * (1 + u64::from(meant.node.is_none())), ..NODE };
        let room = self.reserve_notice_of(meant.object);
        self.quota_first(room, [(account, HANDLE), (account, nodes)])?;
        let reserved = self.reserve_derived(caller, account, nodes)?;
        let made = self.derive_nodes(account, &meant).and_then(|(root, node)| {
            self.count_handle(meant.object).map(|()| (root, node)).inspect_err(|_| {
                [Some(node), root].into_iter().flatten().for_each(|node| self.derivations.discard(&self.nodes, node));
            })
        });
        let (root, node) = match made {
            Ok(nodes) => nodes,
            Err(error) => {
                self.refund(account, nodes);
                self.give_back_handle(caller.process, &caller.table, reserved);
                return Err(error);
            }
        };
        if let Some(root) = root {
            // Nodes are given under the core's lock alone, so the handle has none yet.
            let _first = meant.pin().set_node(root);
            self.hint_at(root, caller.process, meant.pin().index());
        }
        let content = Content { object: meant.object.place(), rights, node: Some(node), inheritable: false };
        let derived = caller.table.commit(reserved, content);
        self.notice_opened(caller.process, meant.object, OpenReason::Duplicated);
        self.hint(node, caller.process, &caller.table, derived);
        Ok(CallAnswer::Handle(derived))
    }

    /// A slot for the handle to come, charged with its nodes. Where there is room for both, which is nearly always, the books
    /// are gone through once; else one after the other, so that it is the limit that is met first which refuses.
    fn reserve_derived(
        &mut self,
        caller: &Caller,
        account: Option<AccountId>,
        nodes: Charge,
    ) -> Result<Reserved, CallError> {
        let (process, table) = (caller.process, &*caller.table);
        let both = Charge { bytes: HANDLE.bytes + nodes.bytes, ..HANDLE };
        if account.is_none_or(|account| self.accounts.charge_if_room(account, both)) {
            return self.reserve_paid_by(account, both, process, table);
        }
        let reserved = self.reserve_handle(process, table)?;
        match self.charge(account, nodes) {
            Ok(()) => Ok(reserved),
            Err(error) => {
                self.give_back_handle(process, table, reserved);
                Err(error)
            }
        }
    }

    /// A node below the handle's, and the handle's own, a root, if it has none yet: both, or neither of them. Their charge is
    /// the caller's.
    fn derive_nodes(
        &mut self,
        account: Option<AccountId>,
        meant: &Meant<'_>,
    ) -> Result<(Option<Place>, Place), CallError> {
        let root = match meant.node {
            Some(_) => Ok(None),
            None => self.derivations.root(&self.nodes, account).map(Some),
        };
        let made = root.and_then(|root| {
            let parent = root.or(meant.node).ok_or(DeriveError::NoMemory)?;
            let node = self.derivations.derive(&self.nodes, parent, account);
            node.map(|node| (root, node)).inspect_err(|_| {
                if let Some(root) = root {
                    self.derivations.discard(&self.nodes, root);
                }
            })
        });
        made.map_err(|error| match error {
            DeriveError::Revoked => CallError::Revoked { koid: meant.object.koid() },
            DeriveError::NoMemory => CallError::NoMemory {},
        })
    }

    /// Begins or goes on with taking back what was derived; asked again until it is done.
    pub(crate) fn call_revoke(&mut self, caller: &Caller, handle: RawHandle) -> Result<CallAnswer, CallError> {
        let node = self.meant(caller, handle, Operation::Revoke)?.node;
        let Some(node) = node else { return Ok(CallAnswer::Done) };
        match self.derivations.revoke(&self.nodes, node) {
            Ok(None) => Ok(CallAnswer::Done),
            Err(TooManyRevokes) => {
                self.work();
                Ok(CallAnswer::GoOn)
            }
            Ok(Some(id)) => {
                self.work();
                Ok(if self.derivations.is_under_way(id) { CallAnswer::GoOn } else { CallAnswer::Done })
            }
        }
    }

    /// Refused while the handles on a node are being taken back: neither equals are made of them nor are they moved.
    pub(crate) fn is_not_taken_back(&self, node: Option<Place>, object: Reference) -> Result<(), CallError> {
        match node.is_some_and(|node| self.derivations.is_being_taken_back(&self.nodes, node)) {
            true => Err(CallError::Revoked { koid: object.koid() }),
            false => Ok(()),
        }
    }

    /// Counts one handle more on its node.
    pub(crate) fn count_on_node(&self, node: Option<Place>, object: Reference) -> Result<(), CallError> {
        let koid = object.koid();
        node.map_or(Ok(()), |node| self.nodes.count(node)).map_err(|error| match error {
            CountError::Revoked => CallError::Revoked { koid },
            CountError::Full => CallError::TooManyReferences { koid },
        })
    }

    /// Counts a handle that is no more off its node.
    pub(crate) fn count_off_node(&mut self, node: Option<Place>) {
        if let Some(node) = node
            && self.nodes.uncount(node) == Uncounted::Last
        {
            self.derivations.let_go(&self.nodes, node);
        }
    }

    /// Gives back what a handle was charged that is no more, and counts it off its node. A node that goes with it at once, as
    /// most do, is given back in the same pass over the books.
    pub(crate) fn refund_handle(&mut self, payer: Option<AccountId>, node: Option<Place>) {
        let mut refund = HANDLE;
        if let Some(node) = node
            && self.nodes.uncount(node) == Uncounted::Last
        {
            match self.derivations.let_go_at_once(&self.nodes, node) {
                Some(charged) if charged == payer => refund.bytes += NODE.bytes,
                Some(charged) => self.refund(charged, NODE),
                None => self.derivations.let_go(&self.nodes, node),
            }
        }
        self.refund(payer, refund);
    }

    /// Notes where the handle of a node stands now; if it was closed meanwhile, the hint is an old one.
    pub(crate) fn hint(&self, node: Place, process: Reference, table: &Table, handle: RawHandle) {
        self.hint_at(node, process, table.index_of(handle));
    }

    fn hint_at(&self, node: Place, process: Reference, index: u32) {
        self.nodes.set_hint(node, Some(Hint { table: process.place(), index }));
    }

    /// One unit of work in the tree of derivations; `false` if there is none.
    pub(crate) fn derive_one(&mut self) -> bool {
        match self.derivations.work(&self.nodes) {
            Work::None => return false,
            Work::Done => {}
            Work::Freed { charged } => self.refund(charged, NODE),
            Work::TakeBack { node, at } => self.take_back(node, at),
            Work::Sweep { from } => {
                let next = self.sweep(from);
                self.derivations.swept(next);
            }
        }
        true
    }

    /// Closes the handle at a place if it stands on that node.
    fn take_back(&mut self, node: Place, at: Hint) {
        let Ok(process) = self.slab.at(at.table) else { return };
        let Some(table) = self.guest(process).map(|guest| guest.table.clone()) else { return };
        // Closed later, somebody looks at it this moment: what the last look hands over is taken in as always.
        if let Some(Closed::Now(content)) = table.close_of(at.index, node) {
            self.gave_up(process, content, Some(CloseReason::Revoked));
        }
    }

    /// Closes the handles on revoked nodes among the next few. A table's number is its process's place.
    fn sweep(&mut self, from: Position) -> Option<Position> {
        let next_table = |place: u32| Position { table: place + 1, index: 0 };
        let end = self.slab.used().min(from.table.saturating_add(SWEEP_PER_UNIT));
        let found = (from.table..end).find_map(|place| {
            let process = self.slab.at(Place::new(place)?).ok()?;
            Some((place, process, self.guest(process)?.table.clone()))
        });
        let Some((place, process, table)) = found else {
            return (end < self.slab.used()).then_some(Position { table: end, index: 0 });
        };
        let index = if place == from.table { from.index } else { 0 };
        let (node, next) = match table.next_from(index, SWEEP_PER_UNIT) {
            Next::Found(pin) => {
                (pin.node().map(|node| (pin.index(), node)), Position { table: place, index: pin.index() + 1 })
            }
            Next::GoOn(index) => (None, Position { table: place, index }),
            Next::End => (None, next_table(place)),
        };
        if let Some((index, node)) = node.filter(|(_, node)| self.nodes.is_revoked(*node))
            && let Some(Closed::Now(content)) = table.close_of(index, node)
        {
            self.gave_up(process, content, Some(CloseReason::Revoked));
        }
        // The look, also one that found nothing, may have been the last at a handle that its process closed meanwhile: nobody
        // else is told of that.
        while let Some(content) = table.take_closed() {
            self.gave_up(process, content, None);
        }
        Some(next)
    }

    /// How many derivation nodes there are.
    #[must_use]
    pub fn derivation_nodes(&self) -> u32 {
        self.nodes.live()
    }
}

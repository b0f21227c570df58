//! Derivation: what was derived can be taken back, all of it and nothing else.

use crate::calls::*;
use crate::row::rows;
use crate::world::{holds, same};
use alloc::vec::Vec;
use kobj_abi::ErrorCode::{AccessDenied, BadArgument, BadHandle};
use kobj_abi::Rights;
use kobj_core::CallError;

rows! { Derivation:
    /// Revoking takes what was derived, and the handle stays. [seL4 CNode_Revoke: all children, not itself]
    refusal fn revoking_takes_what_was_derived(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let derived = w.gives(me, derive(handle, SAME))?;
        same(w.koid(me, derived)?, w.koid(me, handle)?)?;
        w.done(me, revoke(handle))?;
        w.refused_as(me, info(derived), CallError::BadHandle { handle: derived })?;
        w.info(me, handle)?;
    }

    /// A handle says whether it can be taken back; its equals say the same. [seL4: the derivation tree]
    plain fn a_handle_says_whether_it_is_derived(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let derived = w.gives(me, derive(handle, SAME))?;
        let equal = w.gives(me, duplicate(derived, SAME))?;
        holds(!w.info(me, handle)?.derived, "a root is not derived")?;
        holds(w.info(me, derived)?.derived, "what was derived is")?;
        holds(w.info(me, equal)?.derived, "its equal is, too")?;
    }

    /// Revoking reaches the grandchildren. [seL4: recursively]
    refusal fn revoking_reaches_the_grandchildren(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let child = w.gives(me, derive(handle, SAME))?;
        let grandchild = w.gives(me, derive(child, SAME))?;
        w.done(me, revoke(handle))?;
        w.refused(me, info(child), BadHandle)?;
        w.refused(me, info(grandchild), BadHandle)?;
    }

    /// Revoking a child takes the grandchildren, and leaves it and its siblings. [seL4 CNode_Revoke]
    refusal fn revoking_a_child_leaves_its_siblings(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let child = w.gives(me, derive(handle, SAME))?;
        let sibling = w.gives(me, derive(handle, SAME))?;
        let grandchild = w.gives(me, derive(child, SAME))?;
        w.done(me, revoke(child))?;
        w.refused(me, info(grandchild), BadHandle)?;
        for stays in [handle, child, sibling] {
            w.info(me, stays)?;
        }
    }

    /// Revoking reaches every table. [seL4: in all CSpaces]
    refusal fn revoking_reaches_every_table(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let mut there = Vec::new();
        for _ in 0..3 {
            let guest = w.guest()?;
            let derived = w.gives(me, derive(handle, SAME))?;
            there.push((guest, w.gives(me, transfer(derived, guest.handle, SAME))?));
        }
        w.done(me, revoke(handle))?;
        for (guest, derived) in there {
            w.refused(guest.process, info(derived), BadHandle)?;
            same(w.handles(guest.process), 0)?;
        }
    }

    /// An equal of what was derived is taken, too, wherever it went. [seL4: copies of derived ones are siblings]
    refusal fn equals_of_what_was_derived_are_taken(w) {
        let me = w.first;
        let guest = w.guest()?;
        let handle = w.directory(me)?;
        let derived = w.gives(me, derive(handle, SAME))?;
        let equal = w.gives(me, duplicate(derived, SAME))?;
        let moved = w.gives(me, duplicate(derived, SAME))?;
        let moved = w.gives(me, transfer(moved, guest.handle, SAME))?;
        w.done(me, revoke(handle))?;
        w.refused(me, info(derived), BadHandle)?;
        w.refused(me, info(equal), BadHandle)?;
        w.refused(guest.process, info(moved), BadHandle)?;
    }

    /// An equal does not take its equals. [seL4: siblings are not revoked]
    plain fn an_equal_does_not_take_its_equals(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let derived = w.gives(me, derive(handle, SAME))?;
        let equal = w.gives(me, duplicate(derived, SAME))?;
        w.done(me, revoke(equal))?;
        w.info(me, derived)?;
        w.info(me, equal)?;
    }

    /// An equal made after the first derive revokes the same children. [seL4: both are in the tree]
    refusal fn a_later_equal_takes_the_same_children(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let derived = w.gives(me, derive(handle, SAME))?;
        let equal = w.gives(me, duplicate(handle, SAME))?;
        let from_equal = w.gives(me, derive(equal, SAME))?;
        w.done(me, revoke(equal))?;
        w.refused(me, info(derived), BadHandle)?;
        w.refused(me, info(from_equal), BadHandle)?;
        w.info(me, handle)?;
    }

    /// An equal made before the first derive is a root of its own. [docs/semantics.md, derive]
    order fn an_earlier_equal_is_a_root_of_its_own(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let equal = w.gives(me, duplicate(handle, SAME))?;
        let derived = w.gives(me, derive(handle, SAME))?;
        w.done(me, revoke(equal))?;
        w.info(me, derived)?;
        w.done(me, revoke(handle))?;
        w.refused(me, info(derived), BadHandle)?;
        w.info(me, equal)?;
    }

    /// With nothing derived, revoking does nothing. [seL4 CNode_Revoke]
    plain fn revoking_nothing_does_nothing(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let equal = w.gives(me, duplicate(handle, SAME))?;
        let before = (w.live(), w.handles(me));
        w.done(me, revoke(handle))?;
        w.done(me, revoke(handle))?;
        same((w.live(), w.handles(me)), before)?;
        w.info(me, equal)?;
    }

    /// After revoking one can derive and revoke again. [seL4: the capability is as before]
    refusal fn one_can_derive_again(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        for _ in 0..3 {
            let derived = w.gives(me, derive(handle, SAME))?;
            let below = w.gives(me, derive(derived, SAME))?;
            w.done(me, revoke(handle))?;
            w.refused(me, info(derived), BadHandle)?;
            w.refused(me, info(below), BadHandle)?;
        }
    }

    /// A closed handle in the middle does not hide what is below it. [seL4: children move up; here the node stays]
    refusal fn a_closed_middle_hides_nothing(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let child = w.gives(me, derive(handle, SAME))?;
        let grandchild = w.gives(me, derive(child, SAME))?;
        w.done(me, close(child))?;
        w.info(me, grandchild)?;
        w.done(me, revoke(handle))?;
        w.refused(me, info(grandchild), BadHandle)?;
    }

    /// When the root's handles are closed, what was derived lives on. [seL4 CNode_Delete: children stay]
    order fn what_was_derived_outlives_its_root(w) {
        let me = w.first;
        let live = w.live();
        let handle = w.directory(me)?;
        let derived = w.gives(me, derive(handle, SAME))?;
        w.done(me, close(handle))?;
        holds(w.info(me, derived)?.derived, "it is still derived")?;
        same(w.live(), live + 1)?;
        w.done(me, close(derived))?;
        same(w.live(), live)?;
    }

    /// Replacing keeps the node: what was derived is still taken. [seL4 CNode_Move keeps the place in the tree]
    refusal fn replacing_does_not_escape(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let derived = w.gives(me, derive(handle, SAME))?;
        let derived = w.gives(me, replace(derived, only(Rights::LOOKUP)))?;
        holds(w.info(me, derived)?.derived, "it is still derived")?;
        w.done(me, revoke(handle))?;
        w.refused(me, info(derived), BadHandle)?;
    }

    /// A replaced root still takes its children. [seL4 CNode_Move]
    refusal fn a_replaced_root_still_revokes(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let derived = w.gives(me, derive(handle, SAME))?;
        let handle = w.gives(me, replace(handle, SAME))?;
        w.done(me, revoke(handle))?;
        w.refused(me, info(derived), BadHandle)?;
    }

    /// Whoever receives a root can take back what the sender derived. [seL4: authority is the capability]
    refusal fn a_moved_root_revokes_at_its_sender(w) {
        let me = w.first;
        let guest = w.guest()?;
        let handle = w.directory(me)?;
        let derived = w.gives(me, derive(handle, SAME))?;
        let there = w.gives(me, transfer(handle, guest.handle, SAME))?;
        w.done(guest.process, revoke(there))?;
        w.refused(me, info(derived), BadHandle)?;
        w.info(guest.process, there)?;
    }

    /// Transfer keeps the node, also through several tables. [seL4: moved capabilities stay in the tree]
    refusal fn passing_on_does_not_escape(w) {
        let me = w.first;
        let (one, two) = (w.guest()?, w.guest()?);
        let to_two = w.share(two.handle, one)?;
        let handle = w.directory(me)?;
        let derived = w.gives(me, derive(handle, SAME))?;
        let at_one = w.gives(me, transfer(derived, one.handle, SAME))?;
        let at_two = w.gives(one.process, transfer(at_one, to_two, only(Rights::LOOKUP)))?;
        w.done(me, revoke(handle))?;
        w.refused(two.process, info(at_two), BadHandle)?;
    }

    /// What was derived has the rights asked for, within those of its parent. [seL4 CNode_Mint: a subset]
    refusal fn what_is_derived_has_no_more_rights(w) {
        let me = w.first;
        let full = w.directory(me)?;
        let most = Rights::DUPLICATE | Rights::LOOKUP;
        let handle = w.weaker(me, full, most)?;
        let derived = w.gives(me, derive(handle, only(Rights::LOOKUP)))?;
        same(w.rights(me, derived)?, Rights::LOOKUP)?;
        w.refused(me, derive(handle, only(most | Rights::REMOVE)), AccessDenied)?;
        w.refused(me, derive(handle, only(most | Rights::from_bits(1 << 11))), BadArgument)?;
        w.refused(me, derive(derived, SAME), AccessDenied)?;
    }

    /// Without DUPLICATE nothing is taken back. [docs/semantics.md, revoke]
    refusal fn a_weak_equal_takes_nothing(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let derived = w.gives(me, derive(handle, SAME))?;
        let weak = w.weaker(me, handle, Rights::LOOKUP | Rights::MANAGE | Rights::TRANSFER)?;
        w.refused(me, revoke(weak), AccessDenied)?;
        w.info(me, derived)?;
    }

    /// What is opened by name is a root of its own, not taken with what was derived. [docs/semantics.md, open]
    order fn what_is_opened_is_not_taken(w) {
        let (me, root) = (w.first, w.root);
        let handle = w.named(me, root, b"object")?;
        let derived = w.gives(me, derive(handle, SAME))?;
        let opened = w.gives(me, open(root, b"object"))?;
        holds(!w.info(me, opened)?.derived, "what is opened is not derived")?;
        w.done(me, revoke(handle))?;
        w.refused(me, info(derived), BadHandle)?;
        w.info(me, opened)?;
    }

    /// A name given by what was derived stays when that is taken. [docs/semantics.md, link]
    order fn a_name_outlives_the_handle_that_gave_it(w) {
        let (me, root) = (w.first, w.root);
        let handle = w.directory(me)?;
        let derived = w.gives(me, derive(handle, SAME))?;
        w.done(me, link(root, b"object", derived))?;
        w.done(me, revoke(handle))?;
        same(w.names(me, root)?.as_str(), "object")?;
        w.gives(me, open(root, b"object"))?;
    }

    /// Revoking takes a long chain to its end, in bounded steps. [seL4: revoke is preemptible and restartable]
    refusal fn a_long_chain_is_taken(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let before = w.handles(me);
        let mut chain = Vec::from([handle]);
        for at in 0..300 {
            chain.push(w.gives(me, derive(chain[at], SAME))?);
        }
        w.done(me, revoke(chain[100]))?;
        w.info(me, chain[100])?;
        w.refused(me, info(chain[101]), BadHandle)?;
        w.refused(me, info(chain[300]), BadHandle)?;
        w.done(me, revoke(handle))?;
        same(w.handles(me), before)?;
    }

    /// Revoking takes many children, in bounded steps. [seL4: revoke is preemptible and restartable]
    refusal fn many_children_are_taken(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let before = (w.live(), w.handles(me));
        let mut children = Vec::new();
        for _ in 0..300 {
            let child = w.gives(me, derive(handle, SAME))?;
            children.push(w.gives(me, duplicate(child, SAME))?);
        }
        w.done(me, revoke(handle))?;
        for child in children {
            w.refused(me, info(child), BadHandle)?;
        }
        same((w.live(), w.handles(me)), before)?;
    }

    /// A process that ends takes nothing of what was derived from its handles. [seL4: children of a deleted one stay]
    order fn what_was_derived_outlives_its_process(w) {
        let me = w.first;
        let (one, two) = (w.guest()?, w.guest()?);
        let to_two = w.share(two.handle, one)?;
        let handle = w.directory(me)?;
        let child = w.gives(me, derive(handle, SAME))?;
        let child = w.gives(me, transfer(child, one.handle, SAME))?;
        let grandchild = w.gives(one.process, derive(child, SAME))?;
        let grandchild = w.gives(one.process, transfer(grandchild, to_two, SAME))?;
        w.done(me, kill(one.handle))?;
        w.info(two.process, grandchild)?;
        w.done(me, revoke(handle))?;
        w.refused(two.process, info(grandchild), BadHandle)?;
    }

    /// Revoking takes handles, not the object: somebody else's root stays.
    /// [NT ZwDuplicateObject: each handle stands for itself]
    refusal fn revoking_ends_no_object(w) {
        let me = w.first;
        let guest = w.guest()?;
        let handle = w.directory(me)?;
        let other = w.share(handle, guest)?;
        let derived = w.gives(me, derive(handle, SAME))?;
        let live = w.live();
        w.done(me, revoke(handle))?;
        w.done(me, close(handle))?;
        w.refused(me, info(derived), BadHandle)?;
        same(w.live(), live)?;
        w.info(guest.process, other)?;
    }
}

//! Events: what each order of two of them leads to, and that nothing depends on a third.

use crate::calls::*;
use crate::row::rows;
use crate::world::{holds, same};
use alloc::vec::Vec;
use kobj_abi::ErrorCode::{BadHandle, Dying, NameExists, NotFound, WrongName};
use kobj_abi::Rights;

rows! { Events:
    /// Open, then close: the object stays. Close, then open: it is gone.
    /// [NT ZwMakeTemporaryObject: the name goes with the last handle]
    order fn opening_against_the_last_close(w) {
        let (me, root) = (w.first, w.root);
        let handle = w.named(me, root, b"object")?;
        let opened = w.gives(me, open(root, b"object"))?;
        w.done(me, close(handle))?;
        w.info(me, opened)?;
        w.done(me, close(opened))?;
        w.refused(me, open(root, b"object"), NotFound)?;
    }

    /// Of two that create, the first one makes; after the last close the next one makes a new object.
    /// [NT InitializeObjectAttributes: OBJ_OPENIF]
    order fn creating_against_creating(w) {
        let (me, root) = (w.first, w.root);
        let guest = w.guest()?;
        let there = w.share(root, guest)?;
        let (mine, first) = w.opened(me, open_or_create(root, b"object", SAME))?;
        let (theirs, second) = w.opened(guest.process, open_or_create(there, b"object", SAME))?;
        same((first, second), (true, false))?;
        let old = w.koid(me, mine)?;
        w.done(me, close(mine))?;
        w.done(guest.process, close(theirs))?;
        let (new, third) = w.opened(me, open_or_create(root, b"object", SAME))?;
        holds(third && w.koid(me, new)? != old, "it is a new object")?;
    }

    /// Unlink, then close the last handle: the name is free for the first one only once. [Linux unlink(2)]
    order fn unlinking_against_the_last_close(w) {
        let (me, root) = (w.first, w.root);
        let old = w.named(me, root, b"object")?;
        w.done(me, unlink(root, b"object"))?;
        let new = w.named(me, root, b"object")?;
        w.done(me, close(old))?;
        same(w.names(me, root)?.as_str(), "object")?;
        w.done(me, close(new))?;
        same(w.names(me, root)?.as_str(), "")?;
    }

    /// Revoke after transfer takes what moved; transfer after revoke is refused. [seL4]
    order fn revoking_against_transferring(w) {
        let me = w.first;
        let guest = w.guest()?;
        let handle = w.directory(me)?;
        let first = w.gives(me, derive(handle, SAME))?;
        let second = w.gives(me, derive(handle, SAME))?;
        let moved = w.gives(me, transfer(first, guest.handle, SAME))?;
        w.done(me, revoke(handle))?;
        w.refused(guest.process, info(moved), BadHandle)?;
        w.refused(me, transfer(second, guest.handle, SAME), BadHandle)?;
    }

    /// Duplicate before revoke is taken, too; duplicate after it is refused. [seL4]
    order fn revoking_against_duplicating(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let derived = w.gives(me, derive(handle, SAME))?;
        let before = w.gives(me, duplicate(derived, SAME))?;
        w.done(me, revoke(handle))?;
        w.refused(me, info(before), BadHandle)?;
        w.refused(me, duplicate(derived, SAME), BadHandle)?;
        w.refused(me, derive(before, SAME), BadHandle)?;
    }

    /// Kill the sender after a transfer: the receiver keeps it. Kill the receiver: it is gone.
    /// [Zircon zx_channel_write_etc, zx_task_kill]
    order fn transferring_against_killing(w) {
        let me = w.first;
        let (one, two) = (w.guest()?, w.guest()?);
        let there = w.share(two.handle, one)?;
        let live = w.live();
        let handle = w.directory(one.process)?;
        let moved = w.gives(one.process, transfer(handle, there, SAME))?;
        w.done(me, kill(one.handle))?;
        w.info(two.process, moved)?;
        same(w.live(), live + 1)?;
        w.done(me, kill(two.handle))?;
        same(w.live(), live)?;
    }

    /// Close against transfer: whichever is first, the other one is refused.
    /// [Zircon zx_channel_write_etc: the source handle is always closed]
    order fn closing_against_transferring(w) {
        let me = w.first;
        let guest = w.guest()?;
        let (one, two) = (w.directory(me)?, w.directory(me)?);
        w.done(me, close(one))?;
        w.refused(me, transfer(one, guest.handle, SAME), BadHandle)?;
        w.gives(me, transfer(two, guest.handle, SAME))?;
        w.refused(me, close(two), BadHandle)?;
        same(w.handles(guest.process), 1)?;
    }

    /// Close against replace: whichever is first, the other one is refused. [Zircon zx_handle_replace]
    order fn closing_against_replacing(w) {
        let me = w.first;
        let (one, two) = (w.directory(me)?, w.directory(me)?);
        w.done(me, close(one))?;
        w.refused(me, replace(one, SAME), BadHandle)?;
        let new = w.gives(me, replace(two, SAME))?;
        w.refused(me, close(two), BadHandle)?;
        w.done(me, close(new))?;
    }

    /// Two that revoke: the second finds nothing, and that is no error. [seL4 CNode_Revoke]
    order fn revoking_against_revoking(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let derived = w.gives(me, derive(handle, SAME))?;
        let equal = w.gives(me, duplicate(handle, SAME))?;
        w.done(me, revoke(handle))?;
        w.done(me, revoke(equal))?;
        w.refused(me, revoke(derived), BadHandle)?;
    }

    /// Link against link: the name is the first one's, and after its unlink the second one's.
    /// [NT InitializeObjectAttributes: STATUS_OBJECT_NAME_COLLISION]
    order fn linking_against_linking(w) {
        let (me, root) = (w.first, w.root);
        let (one, two) = (w.directory(me)?, w.directory(me)?);
        w.done(me, link(root, b"object", one))?;
        w.refused(me, link(root, b"object", two), NameExists)?;
        w.done(me, unlink(root, b"object"))?;
        w.done(me, link(root, b"object", two))?;
        w.refused(me, link(root, b"object", one), NameExists)?;
    }

    /// Rename against open: the old name before, the new one after. [Linux rename(2): atomic]
    order fn renaming_against_opening(w) {
        let (me, root) = (w.first, w.root);
        let _held = w.named(me, root, b"old")?;
        w.gives(me, open(root, b"old"))?;
        w.refused(me, open(root, b"new"), NotFound)?;
        w.done(me, rename(root, b"old", b"new"))?;
        w.refused(me, open(root, b"old"), NotFound)?;
        w.gives(me, open(root, b"new"))?;
    }

    /// Two names change places by a third. [Linux renameat2(2): RENAME_EXCHANGE]
    order fn two_names_change_places(w) {
        let (me, root) = (w.first, w.root);
        let (one, two) = (w.named(me, root, b"one")?, w.named(me, root, b"two")?);
        for (from, to) in [(&b"one"[..], &b"third"[..]), (b"two", b"one"), (b"third", b"two")] {
            w.done(me, rename(root, from, to))?;
        }
        let (by_one, by_two) = (w.gives(me, open(root, b"one"))?, w.gives(me, open(root, b"two"))?);
        same((w.koid(me, by_one)?, w.koid(me, by_two)?), (w.koid(me, two)?, w.koid(me, one)?))?;
        same(w.names(me, root)?.as_str(), "two one")?;
    }

    /// A directory's handle outlives its name and its parent. [Linux rmdir(2): an open directory lives on]
    order fn closing_the_parent_first(w) {
        let me = w.first;
        let live = w.live();
        let outer = w.directory(me)?;
        let inner = w.named(me, outer, b"inner")?;
        let _leaf = w.named(me, inner, b"leaf")?;
        w.done(me, close(outer))?;
        same(w.live(), live + 2)?;
        w.gives(me, open(inner, b"leaf"))?;
    }

    /// The child's last handle before the parent's: nothing is left either way. [docs/semantics.md: two counts]
    order fn closing_in_either_order_leaves_nothing(w) {
        let me = w.first;
        let live = w.live();
        for parent_first in [true, false] {
            let outer = w.directory(me)?;
            let inner = w.named(me, outer, b"inner")?;
            let order = if parent_first { [outer, inner] } else { [inner, outer] };
            for handle in order {
                w.done(me, close(handle))?;
            }
            same(w.live(), live)?;
        }
    }

    /// Permanent, then the last close, then temporary by an opener: gone with the opener. [NT ZwMakeTemporaryObject]
    order fn permanence_against_the_last_close(w) {
        let (me, root) = (w.first, w.root);
        let live = w.live();
        let handle = w.named(me, root, b"object")?;
        w.done(me, permanent(handle, true))?;
        w.done(me, close(handle))?;
        let opened = w.gives(me, open(root, b"object"))?;
        w.done(me, permanent(opened, false))?;
        same(w.names(me, root)?.as_str(), "object")?;
        w.done(me, close(opened))?;
        same((w.names(me, root)?.as_str(), w.live()), ("", live))?;
    }

    /// Kill against create: before, what was made goes; after, nothing is made.
    /// [Zircon zx_job_create: ZX_ERR_BAD_STATE]
    order fn killing_against_creating(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        let before = w.guest_in(job, false)?;
        let live = w.live();
        w.directory(before.process)?;
        w.done(me, kill(job))?;
        same(w.live(), live)?;
        w.refused(before.process, DIRECTORY, Dying)?;
        w.refused(me, create_guest(job, false), Dying)?;
    }

    /// Kill the guest, then its job, or the job at once: the same is left. [Zircon zx_task_kill]
    order fn killing_one_by_one_or_at_once(w) {
        let me = w.first;
        let mut left = Vec::new();
        for at_once in [true, false] {
            let live = w.live();
            let job = w.gives(me, create_job(w.job))?;
            let guest = w.guest_in(job, false)?;
            w.directory(guest.process)?;
            if !at_once {
                w.done(me, kill(guest.handle))?;
            }
            w.done(me, kill(job))?;
            w.done(me, close(guest.handle))?;
            w.done(me, close(job))?;
            left.push((w.live() - live, w.killed().len()));
        }
        same(left, Vec::from([(0, 1), (0, 1)]))?;
    }

    /// Derive against close of the root: what was derived before lives, nothing is derived after. [seL4]
    order fn deriving_against_closing(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let derived = w.gives(me, derive(handle, SAME))?;
        w.done(me, close(handle))?;
        w.refused(me, derive(handle, SAME), BadHandle)?;
        let below = w.gives(me, derive(derived, SAME))?;
        w.done(me, revoke(derived))?;
        w.refused(me, info(below), BadHandle)?;
    }

    /// Link while a derived handle names it, revoke, unlink, link again: the name follows the object.
    /// [docs/semantics.md, link]
    order fn naming_against_revoking(w) {
        let (me, root) = (w.first, w.root);
        let handle = w.directory(me)?;
        let derived = w.gives(me, derive(handle, SAME))?;
        w.done(me, link_most(root, b"object", derived, only(Rights::LOOKUP)))?;
        w.done(me, revoke(handle))?;
        w.refused(me, link(root, b"again", handle), WrongName)?;
        w.done(me, unlink(root, b"object"))?;
        w.done(me, link(root, b"again", handle))?;
    }

    /// Inheriting happens when the guest is made: later changes are not inherited. [NT CreateProcess]
    order fn inheriting_against_changing(w) {
        let me = w.first;
        let job = w.job;
        let handle = w.directory(me)?;
        w.done(me, inheritable(handle, true))?;
        let early = w.guest_in(job, true)?;
        w.done(me, inheritable(handle, false))?;
        let late = w.guest_in(job, true)?;
        same((w.handles(early.process), w.handles(late.process)), (1, 0))?;
    }

    /// Everything that a row made can be ended, and then nothing is left. [docs/semantics.md: two counts]
    order fn nothing_is_left_over(w) {
        let (me, root) = (w.first, w.root);
        let (live, mine) = (w.live(), w.handles(me));
        let job = w.gives(me, create_job(w.job))?;
        let (one, two) = (w.guest_in(job, false)?, w.guest_in(job, false)?);
        let there = w.share(root, one)?;
        let to_two = w.share(two.handle, one)?;
        for name in [&b"a"[..], b"b", b"c"] {
            let (made, _) = w.opened(one.process, open_or_create(there, name, SAME))?;
            let derived = w.gives(one.process, derive(made, only(Rights::LOOKUP | Rights::TRANSFER)))?;
            w.gives(one.process, transfer(derived, to_two, SAME))?;
            w.done(one.process, permanent(made, true))?;
        }
        w.done(me, kill(job))?;
        for handle in [one.handle, two.handle, job] {
            w.done(me, close(handle))?;
        }
        same((w.live(), w.handles(me), w.names(me, root)?.as_str()), (live, mine, ""))?;
    }
}

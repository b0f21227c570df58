//! Transfer: a handle moves from one table to another, once and wholly.

use crate::calls::*;
use crate::row::rows;
use crate::world::{Guest, differ, holds, same};
use kobj_abi::ErrorCode::{AccessDenied, BadArgument, BadHandle, Dying, Quota, WrongType};
use kobj_abi::{ObjectType, Rights};
use kobj_core::Resource;

rows! { Transfer:
    /// A handle moves: the receiver has it, the sender's value is invalid.
    /// [Zircon zx_channel_write_etc: the source handle is always closed]
    refusal fn a_handle_moves(w) {
        let me = w.first;
        let guest = w.guest()?;
        let handle = w.directory(me)?;
        let (koid, rights) = (w.koid(me, handle)?, w.rights(me, handle)?);
        let there = w.gives(me, transfer(handle, guest.handle, SAME))?;
        w.refused(me, info(handle), BadHandle)?;
        let info = w.info(guest.process, there)?;
        same((info.koid, info.rights), (koid, rights))?;
    }

    /// The value that the receiver has means nothing in the sender's table. [Zircon handles]
    refusal fn the_receivers_value_is_the_receivers(w) {
        let me = w.first;
        let guest = w.guest()?;
        let handle = w.directory(me)?;
        let there = w.gives(me, transfer(handle, guest.handle, SAME))?;
        w.refused(me, info(there), BadHandle)?;
        w.refused(me, close(there), BadHandle)?;
        w.info(guest.process, there)?;
    }

    /// It moves with the rights that were asked for, and they do not grow again.
    /// [Zircon zx_channel_write_etc: rights]
    refusal fn it_moves_with_fewer_rights(w) {
        let me = w.first;
        let guest = w.guest()?;
        let handle = w.directory(me)?;
        let less = Rights::LOOKUP | Rights::DUPLICATE;
        let there = w.gives(me, transfer(handle, guest.handle, only(less)))?;
        same(w.rights(guest.process, there)?, less)?;
        w.refused(guest.process, duplicate(there, only(less | Rights::CREATE)), AccessDenied)?;
    }

    /// More rights than the handle has are refused, and the sender keeps it.
    /// [Zircon zx_channel_write_etc closes it even then]
    refusal fn it_does_not_move_with_more_rights(w) {
        let me = w.first;
        let guest = w.guest()?;
        let full = w.directory(me)?;
        let handle = w.weaker(me, full, Rights::TRANSFER | Rights::LOOKUP)?;
        let more = only(Rights::LOOKUP | Rights::CREATE);
        w.refused(me, transfer(handle, guest.handle, more), AccessDenied)?;
        w.refused(me, transfer(handle, guest.handle, only(Rights::from_bits(1 << 10))), BadArgument)?;
        same(w.rights(me, handle)?, Rights::TRANSFER | Rights::LOOKUP)?;
        same(w.handles(guest.process), 0)?;
    }

    /// Without TRANSFER it stays where it is, for ever. [Zircon rights: ZX_RIGHT_TRANSFER removed on the way]
    refusal fn what_arrived_without_transfer_stays(w) {
        let me = w.first;
        let (one, two) = (w.guest()?, w.guest()?);
        let there = w.share(two.handle, one)?;
        let handle = w.directory(me)?;
        let stays = w.gives(me, transfer(handle, one.handle, only(Rights::LOOKUP | Rights::DUPLICATE)))?;
        w.refused(one.process, transfer(stays, there, SAME), AccessDenied)?;
        let equal = w.gives(one.process, duplicate(stays, SAME))?;
        w.refused(one.process, transfer(equal, there, SAME), AccessDenied)?;
        w.info(one.process, stays)?;
    }

    /// What arrived with TRANSFER can be passed on. [Zircon zx_channel_write_etc]
    plain fn what_arrived_can_be_passed_on(w) {
        let me = w.first;
        let (one, two) = (w.guest()?, w.guest()?);
        let there = w.share(two.handle, one)?;
        let handle = w.directory(me)?;
        let koid = w.koid(me, handle)?;
        let first = w.gives(me, transfer(handle, one.handle, SAME))?;
        let second = w.gives(one.process, transfer(first, there, SAME))?;
        same(w.koid(two.process, second)?, koid)?;
    }

    /// Moving makes no handle more and destroys nothing. [Zircon handles: an object in a channel is not destroyed]
    plain fn the_last_handle_can_move(w) {
        let me = w.first;
        let guest = w.guest()?;
        let handle = w.directory(me)?;
        let (live, mine) = (w.live(), w.handles(me));
        let there = w.gives(me, transfer(handle, guest.handle, SAME))?;
        same((w.live(), w.handles(me), w.handles(guest.process)), (live, mine - 1, 1))?;
        w.done(guest.process, close(there))?;
        same(w.live(), live - 1)?;
    }

    /// What moved is not inheritable there. [NT ZwDuplicateObject: HandleAttributes are the caller's to ask]
    plain fn what_moved_is_not_inheritable(w) {
        let me = w.first;
        let guest = w.guest()?;
        let handle = w.directory(me)?;
        w.done(me, inheritable(handle, true))?;
        let there = w.gives(me, transfer(handle, guest.handle, SAME))?;
        holds(!w.info(guest.process, there)?.inheritable, "it is not inheritable there")?;
    }

    /// To a process that has ended nothing moves, and the sender keeps it.
    /// [Zircon zx_channel_write_etc: ZX_ERR_PEER_CLOSED, and the handle is lost]
    refusal fn nothing_moves_to_the_dead(w) {
        let me = w.first;
        let guest = w.guest()?;
        let handle = w.directory(me)?;
        w.done(me, kill(guest.handle))?;
        w.refused(me, transfer(handle, guest.handle, SAME), Dying)?;
        same(w.info(me, handle)?.object_type, ObjectType::Directory.number())?;
    }

    /// Only a process receives. [Zircon zx_channel_write_etc: ZX_ERR_WRONG_TYPE]
    refusal fn only_a_process_receives(w) {
        let me = w.first;
        let (job, handle, directory) = (w.job, w.directory(me)?, w.directory(me)?);
        w.refused(me, transfer(handle, directory, SAME), WrongType)?;
        w.refused(me, transfer(handle, job, SAME), WrongType)?;
        w.info(me, handle)?;
    }

    /// The receiver is charged first: refused, the sender's handle is as it was. [docs/semantics.md: who pays]
    refusal fn a_full_receiver_refuses(w) {
        let me = w.first;
        let guest = w.guest()?;
        w.limit(guest.process, Resource::Handles, 1);
        w.share(w.root, guest)?;
        let handle = w.directory(me)?;
        let rights = w.rights(me, handle)?;
        w.refused(me, transfer(handle, guest.handle, SAME), Quota)?;
        same(w.rights(me, handle)?, rights)?;
    }

    /// The sender is charged no longer. [docs/semantics.md: who pays]
    refusal fn the_sender_is_charged_no_longer(w) {
        let me = w.first;
        let (one, two) = (w.guest()?, w.guest()?);
        let there = w.share(two.handle, one)?;
        w.limit(one.process, Resource::Handles, 2);
        let handle = w.directory(one.process)?;
        w.refused(one.process, DIRECTORY, Quota)?;
        w.gives(one.process, transfer(handle, there, SAME))?;
        w.directory(one.process)?;
        same(w.handles(me) > 0, true)?;
    }

    /// To oneself: a new value, the old one is invalid. [NT ZwDuplicateObject: DUPLICATE_CLOSE_SOURCE]
    refusal fn to_oneself_gives_a_new_value(w) {
        let guest = w.guest()?;
        let own = w.share(guest.handle, guest)?;
        let handle = w.directory(guest.process)?;
        let before = w.handles(guest.process);
        let again = w.gives(guest.process, transfer(handle, own, SAME))?;
        differ(again, handle)?;
        w.refused(guest.process, info(handle), BadHandle)?;
        w.info(guest.process, again)?;
        same(w.handles(guest.process), before)?;
    }

    /// The receiver's own handle can move to it. [NT ZwDuplicateObject of a process handle]
    refusal fn a_processs_own_handle_can_move_to_it(w) {
        let me = w.first;
        let Guest { handle, process } = w.guest()?;
        let koid = w.koid(me, handle)?;
        let own = w.gives(me, transfer(handle, handle, SAME))?;
        same(w.koid(process, own)?, koid)?;
        w.refused(me, info(handle), BadHandle)?;
    }

    /// Refused for the receiver's handle, the moved one stays. [Zircon zx_channel_write_etc closes it even then]
    refusal fn a_bad_receiver_leaves_the_handle(w) {
        let me = w.first;
        let guest = w.guest()?;
        let handle = w.directory(me)?;
        w.done(me, close(guest.handle))?;
        w.refused(me, transfer(handle, guest.handle, SAME), BadHandle)?;
        w.info(me, handle)?;
    }

    /// A handle moves once. [Zircon zx_channel_write_etc: repeated handles are ZX_ERR_BAD_HANDLE]
    refusal fn a_handle_moves_once(w) {
        let me = w.first;
        let (one, two) = (w.guest()?, w.guest()?);
        let handle = w.directory(me)?;
        w.gives(me, transfer(handle, one.handle, SAME))?;
        w.refused(me, transfer(handle, two.handle, SAME), BadHandle)?;
        same(w.handles(two.process), 0)?;
    }
}

//! The order of refusals: of several reasons the first in the list of `docs/semantics.md` is reported.

use crate::calls::*;
use crate::row::rows;
use crate::subject::Subject;
use crate::world::{Failure, World};
use kobj_abi::ErrorCode::{AccessDenied, BadArgument, BadHandle, Dying, NameExists, NotFound, WrongName, WrongType};
use kobj_abi::{RawHandle, Rights};
use kobj_core::{Call, Resource, What};

/// A value that was closed.
fn closed<S: Subject>(w: &mut World<S>) -> Result<RawHandle, Failure> {
    let me = w.first;
    let handle = w.directory(me)?;
    w.done(me, close(handle))?;
    Ok(handle)
}

/// A directory's handle that allows nothing.
fn powerless<S: Subject>(w: &mut World<S>) -> Result<RawHandle, Failure> {
    let (me, full) = (w.first, w.root);
    w.weaker(me, full, Rights::NONE)
}

/// Bits that mean nothing.
const RESERVED: Rights = Rights::from_bits(1 << 12);

rows! { Order:
    /// Duplicate: a bad handle before reserved bits. [Zircon zx_handle_duplicate: errors as listed]
    refusal fn duplicate_looks_at_the_handle_first(w) {
        let (me, gone) = (w.first, closed(w)?);
        w.refused(me, duplicate(gone, only(RESERVED)), BadHandle)?;
    }

    /// Duplicate: the missing right before reserved bits and before too many rights.
    /// [Zircon zx_handle_duplicate: ZX_ERR_ACCESS_DENIED]
    refusal fn duplicate_looks_at_its_own_right_before_the_asked_ones(w) {
        let (me, weak) = (w.first, powerless(w)?);
        w.refused(me, duplicate(weak, only(RESERVED)), AccessDenied)?;
        w.refused(me, duplicate(weak, only(Rights::LOOKUP)), AccessDenied)?;
    }

    /// Reserved bits before too many rights: they are wrong of every handle. [docs/semantics.md]
    refusal fn reserved_bits_before_too_many_rights(w) {
        let (me, root) = (w.first, w.root);
        let weak = w.weaker(me, root, Rights::DUPLICATE)?;
        w.refused(me, duplicate(weak, only(RESERVED | Rights::LOOKUP)), BadArgument)?;
        w.refused(me, replace(weak, only(RESERVED | Rights::LOOKUP)), BadArgument)?;
        w.refused(me, derive(weak, only(RESERVED | Rights::LOOKUP)), BadArgument)?;
    }

    /// Derive: a bad handle, then the missing right, then the asked ones. [seL4 CNode_Mint: source slot first]
    refusal fn derive_looks_at_the_handle_then_at_the_rights(w) {
        let (me, gone, weak) = (w.first, closed(w)?, powerless(w)?);
        w.refused(me, derive(gone, only(RESERVED)), BadHandle)?;
        w.refused(me, derive(weak, only(RESERVED)), AccessDenied)?;
    }

    /// Transfer: the moved handle is looked at wholly before the receiver's.
    /// [Zircon zx_channel_write_etc: the first failure of the array]
    refusal fn transfer_looks_at_the_moved_handle_first(w) {
        let (me, job, gone, weak) = (w.first, w.job, closed(w)?, powerless(w)?);
        w.refused(me, transfer(gone, job, SAME), BadHandle)?;
        w.refused(me, transfer(weak, gone, SAME), AccessDenied)?;
        w.refused(me, transfer(weak, job, SAME), AccessDenied)?;
    }

    /// Transfer: the receiver's type before the asked rights, its right before its state.
    /// [docs/semantics.md: the order of refusals]
    refusal fn transfer_looks_at_the_receiver_before_the_asked_rights(w) {
        let (me, root) = (w.first, w.root);
        let guest = w.guest()?;
        let deaf = w.weaker(me, guest.handle, Rights::INSPECT)?;
        let handle = w.directory(me)?;
        w.refused(me, transfer(handle, root, only(RESERVED)), WrongType)?;
        w.refused(me, transfer(handle, deaf, only(RESERVED)), AccessDenied)?;
        w.done(me, kill(guest.handle))?;
        w.refused(me, transfer(handle, deaf, SAME), AccessDenied)?;
    }

    /// Transfer: reserved bits before the receiver's state. [docs/semantics.md]
    refusal fn transfer_looks_at_the_asked_rights_before_the_receivers_state(w) {
        let me = w.first;
        let guest = w.guest()?;
        let handle = w.directory(me)?;
        w.done(me, kill(guest.handle))?;
        w.refused(me, transfer(handle, guest.handle, only(RESERVED)), BadArgument)?;
        w.refused(me, transfer(handle, guest.handle, SAME), Dying)?;
    }

    /// A wrong type before missing rights, for every call that has a type.
    /// [Zircon zx_object_get_info: ZX_ERR_WRONG_TYPE before ZX_ERR_ACCESS_DENIED, as listed]
    refusal fn a_wrong_type_before_missing_rights(w) {
        let (me, job) = (w.first, w.job);
        let weak = w.weaker(me, job, Rights::NONE)?;
        let fresh = w.directory(me)?;
        for call in [
            link(weak, b"a", fresh),
            unlink(weak, b"a"),
            rename(weak, b"a", b"b"),
            open(weak, b"a"),
            open_or_create(weak, b"a", SAME),
            read_link(weak),
        ] {
            w.refused(me, call, WrongType)?;
        }
    }

    /// A wrong type before a bad name, path or bit. [docs/semantics.md: the order of refusals]
    refusal fn a_wrong_type_before_a_bad_argument(w) {
        let (me, job) = (w.first, w.job);
        let fresh = w.directory(me)?;
        for call in [
            link(job, b"", fresh),
            unlink(job, b".."),
            rename(job, b"a/b", b""),
            open(job, b"/"),
            create_new(job, b"", SAME),
            open_with(job, b"a", only(RESERVED)),
        ] {
            w.refused(me, call, WrongType)?;
        }
    }

    /// Missing rights before a bad name or path.
    /// [Zircon zx_object_get_info: ZX_ERR_ACCESS_DENIED before ZX_ERR_INVALID_ARGS, as listed]
    refusal fn missing_rights_before_a_bad_name(w) {
        let (me, weak) = (w.first, powerless(w)?);
        let fresh = w.directory(me)?;
        for call in [
            link(weak, b"", fresh),
            unlink(weak, b"a/b"),
            rename(weak, b".", b""),
            open(weak, b"//"),
            open_or_create(weak, b"", SAME),
            create_new(weak, b"\0", SAME),
        ] {
            w.refused(me, call, AccessDenied)?;
        }
    }

    /// Missing rights before anything is said of what there is. [Linux path_resolution(7): EACCES before ENOENT]
    refusal fn missing_rights_before_what_there_is(w) {
        let (me, root) = (w.first, w.root);
        let held = w.named(me, root, b"there")?;
        let weak = powerless(w)?;
        for call in [
            open(weak, b"there"),
            open(weak, b"missing"),
            unlink(weak, b"missing"),
            rename(weak, b"missing", b"there"),
            create_new(weak, b"there", SAME),
            link(weak, b"there", held),
        ] {
            w.refused(me, call, AccessDenied)?;
        }
    }

    /// Link: the directory is looked at wholly before the object. [docs/semantics.md: in the order of the arguments]
    refusal fn link_looks_at_the_directory_first(w) {
        let (me, job, root) = (w.first, w.job, w.root);
        let (gone, weak) = (closed(w)?, powerless(w)?);
        w.refused(me, link(job, b"a", gone), WrongType)?;
        w.refused(me, link(weak, b"a", gone), AccessDenied)?;
        w.refused(me, link(root, b"a", gone), BadHandle)?;
    }

    /// Link: both handles before the name. [docs/semantics.md]
    refusal fn link_looks_at_both_handles_before_the_name(w) {
        let (me, root) = (w.first, w.root);
        let (gone, weak) = (closed(w)?, powerless(w)?);
        w.refused(me, link(root, b"", gone), BadHandle)?;
        w.refused(me, link(root, b"", weak), AccessDenied)?;
    }

    /// Link: a name that is none before what has a name. [docs/semantics.md: the order of refusals]
    refusal fn link_looks_at_the_name_before_the_state(w) {
        let (me, root) = (w.first, w.root);
        let held = w.named(me, root, b"there")?;
        w.refused(me, link(root, b"a/b", held), BadArgument)?;
        w.refused(me, link_most(root, b"there", held, only(RESERVED)), BadArgument)?;
    }

    /// Link: a name that is taken before an object that has one, and that before a cycle. [docs/semantics.md]
    refusal fn link_reports_the_taken_name_first(w) {
        let (me, root) = (w.first, w.root);
        let held = w.named(me, root, b"there")?;
        w.refused(me, link(root, b"there", held), NameExists)?;
        w.refused(me, link(root, b"other", held), WrongName)?;
        w.refused(me, link(held, b"itself", held), WrongName)?;
    }

    /// Rename: both names are looked at before the directory. [Linux rename(2): EINVAL, ENAMETOOLONG]
    refusal fn rename_looks_at_both_names_first(w) {
        let (me, root) = (w.first, w.root);
        w.refused(me, rename(root, b"missing", b""), BadArgument)?;
        w.refused(me, rename(root, b"..", b"missing"), BadArgument)?;
    }

    /// Rename: a missing name before a taken one. [Linux renameat2(2): ENOENT of the old path first]
    refusal fn rename_reports_the_missing_name_first(w) {
        let (me, root) = (w.first, w.root);
        let _held = w.named(me, root, b"there")?;
        w.refused(me, rename(root, b"missing", b"there"), NotFound)?;
    }

    /// Open: a path that is none and a reserved bit before what there is. [docs/semantics.md: the order of refusals]
    refusal fn open_looks_at_its_arguments_before_the_path(w) {
        let (me, root) = (w.first, w.root);
        w.refused(me, open(root, b"missing//"), BadArgument)?;
        w.refused(me, open_with(root, b"missing", only(RESERVED)), BadArgument)?;
    }

    /// Open: the type before the rights. [docs/semantics.md: the order of refusals]
    refusal fn open_looks_at_the_type_before_the_rights(w) {
        let (me, root) = (w.first, w.root);
        let held = w.directory(me)?;
        w.done(me, link_most(root, b"weak", held, NOTHING))?;
        let expected = Some(kobj_abi::ObjectType::SymbolicLink.number());
        let rights = only(Rights::READ);
        let call = Call::Open { directory: root, path: b"weak", rights, expected, follow: true };
        w.refused(me, call, WrongType)?;
        w.refused(me, open_with(root, b"weak", rights), AccessDenied)?;
    }

    /// Open or create: with exclusive a taken name before its type.
    /// [NT InitializeObjectAttributes: STATUS_OBJECT_NAME_COLLISION]
    refusal fn exclusive_reports_the_name_before_the_type(w) {
        let (me, root) = (w.first, w.root);
        let _held = w.linked(me, root, b"there", b"a")?;
        w.refused(me, create_new(root, b"there", SAME), NameExists)?;
        w.refused(me, open_or_create(root, b"there", SAME), WrongType)?;
    }

    /// Open or create: a link's target that is none before what there is. [docs/semantics.md]
    refusal fn create_looks_at_the_target_before_the_name_there(w) {
        let (me, root) = (w.first, w.root);
        let _held = w.named(me, root, b"there")?;
        let what = What::SymbolicLink { target: b"a//b" };
        let call = Call::OpenOrCreate { directory: root, name: b"there", what, rights: SAME, exclusive: true };
        w.refused(me, call, BadArgument)?;
    }

    /// Permanence: the missing right before the missing name. [NT ZwMakeTemporaryObject: DELETE access]
    refusal fn permanence_looks_at_the_right_before_the_name(w) {
        let (me, weak) = (w.first, powerless(w)?);
        w.refused(me, permanent(weak, true), AccessDenied)?;
    }

    /// Making a job: the right before the depth and the end of the job. [Zircon zx_job_create: errors as listed]
    refusal fn create_job_looks_at_the_right_before_the_state(w) {
        let (me, job) = (w.first, w.job);
        let inner = w.gives(me, create_job(job))?;
        let weak = w.weaker(me, inner, Rights::MANAGE)?;
        w.done(me, kill(inner))?;
        w.refused(me, create_job(weak), AccessDenied)?;
        w.refused(me, create_guest(weak, false), AccessDenied)?;
        w.refused(me, create_job(inner), Dying)?;
    }

    /// Killing the root job: the right before the state. [Zircon zx_task_kill: errors as listed]
    refusal fn kill_looks_at_the_right_before_the_state(w) {
        let (me, job) = (w.first, w.job);
        let weak = w.weaker(me, job, Rights::MANAGE)?;
        w.refused(me, kill(weak), AccessDenied)?;
    }

    /// What is wrong anyhow before the quota: a retry after closing something would not help. [docs/semantics.md]
    refusal fn everything_else_before_the_quota(w) {
        let me = w.first;
        let guest = w.guest()?;
        let root = w.share(w.root, guest)?;
        let held = w.named(me, w.root, b"there")?;
        w.limit(guest.process, Resource::Handles, 1);
        let p = guest.process;
        w.refused(p, duplicate(root, only(RESERVED)), BadArgument)?;
        w.refused(p, open(root, b"missing"), NotFound)?;
        w.refused(p, open(root, b"there/below"), NotFound)?;
        w.refused(p, create_new(root, b"there", SAME), NameExists)?;
        w.refused(p, create_new(root, b"a/b", SAME), BadArgument)?;
        w.refused(p, symbolic_link(b""), BadArgument)?;
        w.info(me, held)?;
    }

    /// Whoever is ended gets that for everything, whatever else is wrong.
    /// [Zircon zx_task_kill: most operations no longer succeed]
    refusal fn the_callers_end_before_everything(w) {
        let me = w.first;
        let guest = w.guest()?;
        let handle = w.directory(guest.process)?;
        w.done(me, kill(guest.handle))?;
        let gone = closed(w)?;
        for call in [
            close(handle),
            close(gone),
            info(handle),
            duplicate(handle, only(RESERVED)),
            open(handle, b""),
            enumerate(handle, 0),
            DIRECTORY,
            symbolic_link(b""),
        ] {
            w.refused(guest.process, call, Dying)?;
        }
    }
}

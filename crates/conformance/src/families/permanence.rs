//! Permanence: a permanent name keeps its object, a temporary one does not.

use crate::calls::*;
use crate::row::rows;
use crate::world::same;
use kobj_abi::ErrorCode::{AccessDenied, NotFound, WrongName};
use kobj_abi::{ObjectType, Operation, Rights};
use kobj_core::CallError;

rows! { Permanence:
    /// A permanent name keeps its object without a handle. [NT InitializeObjectAttributes: OBJ_PERMANENT]
    plain fn a_permanent_name_keeps_its_object(w) {
        let (me, root) = (w.first, w.root);
        let handle = w.directory(me)?;
        let koid = w.koid(me, handle)?;
        w.done(me, link_permanently(root, b"object", handle))?;
        let live = w.live();
        w.done(me, close(handle))?;
        same(w.live(), live)?;
        let opened = w.gives(me, open(root, b"object"))?;
        same(w.koid(me, opened)?, koid)?;
    }

    /// What is in a permanent directory is not permanent itself.
    /// [NT InitializeObjectAttributes: OBJ_PERMANENT of each object by itself]
    refusal fn permanence_is_not_handed_down(w) {
        let (me, root) = (w.first, w.root);
        let outer = w.directory(me)?;
        w.done(me, link_permanently(root, b"outer", outer))?;
        let inner = w.named(me, outer, b"inner")?;
        w.done(me, close(inner))?;
        w.refused(me, open(outer, b"inner"), NotFound)?;
    }

    /// A permanent name needs MANAGE, a temporary one does not. [docs/semantics.md, link]
    refusal fn a_permanent_name_needs_manage(w) {
        let (me, root) = (w.first, w.root);
        let full = w.directory(me)?;
        let weak = w.weaker(me, full, Rights::DUPLICATE | Rights::LOOKUP)?;
        let (koid, operation, missing) = (w.koid(me, full)?, Operation::NamePermanently, Rights::MANAGE);
        let error = CallError::AccessDenied { koid, operation, missing };
        w.refused_as(me, link_permanently(root, b"object", weak), error)?;
        w.done(me, link(root, b"object", weak))?;
        w.refused(me, permanent(weak, true), AccessDenied)?;
    }

    /// Unlinking takes a permanent name, and what nothing else keeps is destroyed.
    /// [NT ZwMakeTemporaryObject, then close]
    order fn unlinking_ends_what_only_the_name_kept(w) {
        let (me, root) = (w.first, w.root);
        let live = w.live();
        let handle = w.directory(me)?;
        w.done(me, link_permanently(root, b"object", handle))?;
        w.done(me, close(handle))?;
        w.done(me, unlink(root, b"object"))?;
        same(w.live(), live)?;
    }

    /// Unlinking a permanent name leaves what a handle keeps. [Linux unlink(2)]
    order fn unlinking_leaves_what_a_handle_keeps(w) {
        let (me, root) = (w.first, w.root);
        let handle = w.directory(me)?;
        w.done(me, link_permanently(root, b"object", handle))?;
        let live = w.live();
        w.done(me, unlink(root, b"object"))?;
        same(w.live(), live)?;
        w.done(me, close(handle))?;
        same(w.live(), live - 1)?;
    }

    /// Made temporary, the name goes with the last handle. [NT ZwMakeTemporaryObject]
    refusal fn made_temporary_it_goes_with_the_last_handle(w) {
        let (me, root) = (w.first, w.root);
        let live = w.live();
        let handle = w.directory(me)?;
        w.done(me, link_permanently(root, b"object", handle))?;
        w.done(me, permanent(handle, false))?;
        same(w.names(me, root)?.as_str(), "object")?;
        w.done(me, close(handle))?;
        w.refused(me, open(root, b"object"), NotFound)?;
        same(w.live(), live)?;
    }

    /// Made permanent, it stays without a handle. [NT ZwMakeTemporaryObject: the other way round]
    order fn made_permanent_it_stays(w) {
        let (me, root) = (w.first, w.root);
        let handle = w.named(me, root, b"object")?;
        w.done(me, permanent(handle, true))?;
        let live = w.live();
        w.done(me, close(handle))?;
        same((w.live(), w.list(me, root)?[0].permanent), (live, true))?;
    }

    /// What it is already stays, and is counted once. [NT ZwMakeTemporaryObject: does nothing]
    plain fn saying_it_twice_changes_nothing(w) {
        let (me, root) = (w.first, w.root);
        let live = w.live();
        let handle = w.named(me, root, b"object")?;
        for whether in [false, true, true, true, false, false] {
            w.done(me, permanent(handle, whether))?;
            same(w.list(me, root)?[0].permanent, whether)?;
        }
        w.done(me, close(handle))?;
        same(w.live(), live)?;
    }

    /// What has no name is neither permanent nor temporary. [NT ZwMakeTemporaryObject does nothing; we say so]
    refusal fn what_has_no_name_is_neither(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let koid = w.koid(me, handle)?;
        w.refused_as(me, permanent(handle, true), CallError::NotNamed { koid })?;
        w.refused_as(me, permanent(handle, false), CallError::NotNamed { koid })?;
    }

    /// After the name went it is the same again. [docs/semantics.md, set_permanent]
    refusal fn what_lost_its_name_is_neither(w) {
        let (me, root) = (w.first, w.root);
        let handle = w.directory(me)?;
        w.done(me, link_permanently(root, b"object", handle))?;
        w.done(me, unlink(root, b"object"))?;
        w.refused(me, permanent(handle, true), WrongName)?;
        w.done(me, link(root, b"object", handle))?;
        same(w.list(me, root)?[0].permanent, false)?;
    }

    /// A rename keeps permanence. [docs/semantics.md, rename]
    plain fn a_rename_keeps_permanence(w) {
        let (me, root) = (w.first, w.root);
        let handle = w.directory(me)?;
        w.done(me, link_permanently(root, b"old", handle))?;
        w.done(me, rename(root, b"old", b"new"))?;
        w.done(me, close(handle))?;
        w.gives(me, open(root, b"new"))?;
    }

    /// Opening and closing what is permanent does not end it. [NT InitializeObjectAttributes: OBJ_PERMANENT]
    order fn what_is_permanent_outlives_its_openers(w) {
        let (me, root) = (w.first, w.root);
        let handle = w.directory(me)?;
        w.done(me, link_permanently(root, b"object", handle))?;
        w.done(me, close(handle))?;
        let live = w.live();
        for _ in 0..3 {
            let opened = w.gives(me, open(root, b"object"))?;
            w.done(me, close(opened))?;
        }
        same(w.live(), live)?;
        let entry = w.list(me, root)?[0];
        same(entry.object_type, ObjectType::Directory.number())?;
    }

    /// A permanent name outlives the process that gave it. [NT InitializeObjectAttributes: OBJ_PERMANENT]
    order fn a_permanent_name_outlives_its_process(w) {
        let me = w.first;
        let guest = w.guest()?;
        let there = w.share(w.root, guest)?;
        let (lasting, passing) = (w.directory(guest.process)?, w.directory(guest.process)?);
        w.done(guest.process, link_permanently(there, b"lasting", lasting))?;
        w.done(guest.process, link(there, b"passing", passing))?;
        w.done(me, kill(guest.handle))?;
        let root = w.root;
        same(w.names(me, root)?.as_str(), "lasting")?;
    }

    /// What a permanent directory kept goes when it is unlinked: a whole subtree. [docs/semantics.md, unlink]
    order fn a_permanent_subtree_goes_with_its_top(w) {
        let (me, root) = (w.first, w.root);
        let live = w.live();
        let mut at = root;
        for _ in 0..5 {
            let below = w.directory(me)?;
            w.done(me, link_permanently(at, b"d", below))?;
            if at != root {
                w.done(me, close(at))?;
            }
            at = below;
        }
        w.done(me, close(at))?;
        same(w.live(), live + 5)?;
        w.done(me, unlink(root, b"d"))?;
        same(w.live(), live)?;
    }
}

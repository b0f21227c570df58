//! Users' own types: the same calls, and hooks that run once, in order, whatever ended the object.

use crate::calls::*;
use crate::row::rows;
use crate::subject::Hook::{Destroy, Dropped, LastClose};
use crate::world::{holds, same};
use alloc::vec::Vec;
use kobj_abi::ErrorCode::{AccessDenied, BadArgument, Dying, NotFound, Quota, WrongType};
use kobj_abi::{ObjectType, Rights, TypeNumber};
use kobj_core::{CallError, Resource};

/// What an object with this number tells at its end.
fn end_of(number: u64) -> Vec<(crate::Hook, u64)> {
    Vec::from([(LastClose, number), (Destroy, number), (Dropped, number)])
}

rows! { Types:
    /// An object of a user's type says its type, and its maker's handle has the type's rights. [docs/semantics.md, handle_info]
    plain fn an_own_object_says_its_type(w) {
        let me = w.first;
        let handle = w.own(me, 7)?;
        let (info, own) = (w.info(me, handle)?, w.own_type());
        same(info.object_type, own)?;
        holds(own >= TypeNumber::FIRST_OWN, "users' types are numbered from 64 on")?;
        let bits = Rights::DUPLICATE | Rights::TRANSFER | Rights::READ | Rights::INSPECT | Rights::MANAGE;
        same(info.rights, bits | Rights::from_bits(1 << 16))?;
    }

    /// Last close, then the end, then the state is dropped: each once.
    /// [NT life cycle of an object]
    order fn hooks_run_once_and_in_order(w) {
        let me = w.first;
        let handle = w.own(me, 7)?;
        let equal = w.gives(me, duplicate(handle, SAME))?;
        w.done(me, close(handle))?;
        same(w.hooks(), Vec::new())?;
        w.done(me, close(equal))?;
        same(w.hooks(), end_of(7))?;
    }

    /// A permanent name keeps the object past the last close. [NT life cycle of an object]
    order fn a_permanent_name_parts_close_and_end(w) {
        let (me, root) = (w.first, w.root);
        let handle = w.own(me, 7)?;
        w.done(me, link_permanently(root, b"object", handle))?;
        w.done(me, close(handle))?;
        same(w.hooks(), Vec::from([(LastClose, 7)]))?;
        w.done(me, unlink(root, b"object"))?;
        same(w.hooks(), Vec::from([(Destroy, 7), (Dropped, 7)]))?;
    }

    /// A temporary name goes before the type is told that the object has ended. [NT ZwMakeTemporaryObject]
    refusal fn a_named_own_object_ends_with_its_last_handle(w) {
        let (me, root) = (w.first, w.root);
        let handle = w.own(me, 7)?;
        w.done(me, link(root, b"object", handle))?;
        w.done(me, close(handle))?;
        w.refused(me, open(root, b"object"), NotFound)?;
        same(w.hooks(), end_of(7))?;
    }

    /// A killed guest's objects are told like closed ones. [NT life cycle of an object]
    order fn a_guests_end_runs_the_hooks(w) {
        let me = w.first;
        let guest = w.guest()?;
        w.own(guest.process, 7)?;
        let kept = w.own(guest.process, 8)?;
        let to_me = w.share(w.root, guest)?;
        w.done(guest.process, link(to_me, b"kept", kept))?;
        let held = w.gives(me, open(w.root, b"kept"))?;
        w.done(me, kill(guest.handle))?;
        same(w.hooks(), end_of(7))?;
        w.done(me, close(held))?;
        same(w.hooks(), end_of(8))?;
    }

    /// A handle that moves is not closed, and one that is replaced neither. [Zircon zx_channel_write_etc]
    order fn moving_is_no_last_close(w) {
        let me = w.first;
        let guest = w.guest()?;
        let handle = w.own(me, 7)?;
        let handle = w.gives(me, replace(handle, SAME))?;
        let there = w.gives(me, transfer(handle, guest.handle, SAME))?;
        same(w.hooks(), Vec::new())?;
        w.done(guest.process, close(there))?;
        same(w.hooks(), end_of(7))?;
    }

    /// A revoke that takes the last handle ends the object. [seL4: revoke deletes]
    order fn a_revoke_can_end_the_object(w) {
        let me = w.first;
        let handle = w.own(me, 7)?;
        let derived = w.gives(me, derive(handle, SAME))?;
        let below = w.gives(me, derive(derived, SAME))?;
        w.done(me, close(handle))?;
        w.done(me, revoke(derived))?;
        same(w.hooks(), Vec::new())?;
        let _taken = below;
        w.done(me, close(derived))?;
        same(w.hooks(), end_of(7))?;
    }

    /// The type's create hook can refuse: nothing is made, and the state is dropped. [docs/semantics.md: all or nothing]
    refusal fn the_create_hook_can_refuse(w) {
        let me = w.first;
        w.no_own(me, 0, BadArgument)?;
        same(w.hooks(), Vec::from([(Dropped, 0)]))?;
    }

    /// Refused for a quota, the state is dropped and no hook runs. [docs/semantics.md: all or nothing]
    refusal fn what_is_refused_is_dropped(w) {
        let me = w.first;
        let guest = w.guest()?;
        w.limit(guest.process, Resource::Handles, 0);
        w.no_own(guest.process, 7, Quota)?;
        same(w.hooks(), Vec::from([(Dropped, 7)]))?;
        w.done(me, kill(guest.handle))?;
        w.no_own(guest.process, 8, Dying)?;
        same(w.hooks(), Vec::from([(Dropped, 8)]))?;
    }

    /// A guest's own limits hold for users' objects, whoever has them later. [docs/semantics.md: who pays]
    refusal fn an_own_object_is_charged_to_its_maker(w) {
        let me = w.first;
        let (guest, other, own) = (w.guest()?, w.guest()?, w.own_type());
        w.done(me, set_quota(guest.handle, Resource::Objects, 2))?;
        let first = w.own(guest.process, 7)?;
        w.directory(guest.process)?;
        w.no_own(guest.process, 8, Quota)?;
        w.refused(guest.process, DIRECTORY, Quota)?;
        let to = w.share(other.handle, guest)?;
        let moved = w.gives(guest.process, transfer(first, to, SAME))?;
        w.no_own(guest.process, 8, Quota)?;
        w.done(other.process, close(moved))?;
        w.own(guest.process, 9)?;
        w.done(me, set_quota(guest.handle, Resource::Objects, 9))?;
        w.done(me, set_quota(guest.handle, Resource::ObjectsOf(own), 1))?;
        w.no_own(guest.process, 8, Quota)?;
        w.directory(guest.process)?;
    }

    /// A user's type has a limit of its own. [docs/semantics.md, set_quota]
    refusal fn an_own_type_has_a_limit_of_its_own(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(job, false)?;
        let own = w.own_type();
        w.done(me, set_quota(job, Resource::ObjectsOf(own), 1))?;
        let handle = w.own(guest.process, 7)?;
        w.no_own(guest.process, 8, Quota)?;
        w.directory(guest.process)?;
        w.done(guest.process, close(handle))?;
        w.own(guest.process, 9)?;
    }

    /// A user's type has none of the built-in types' operations. [NT ObReferenceObjectByHandle: STATUS_OBJECT_TYPE_MISMATCH]
    refusal fn an_own_type_has_the_common_operations_alone(w) {
        let me = w.first;
        let handle = w.own(me, 7)?;
        let (fresh, job) = (w.directory(me)?, w.job);
        for call in [
            link(handle, b"a", fresh),
            unlink(handle, b"a"),
            rename(handle, b"a", b"b"),
            open(handle, b"a"),
            open_or_create(handle, b"a", SAME),
            create_new(handle, b"a", SAME),
            enumerate(handle, 0),
            read_link(handle),
            create_job(handle),
            create_guest(handle, false),
            kill(handle),
            set_quota(handle, Resource::Handles, 1),
            transfer(fresh, handle, SAME),
            recharge(fresh, job, handle),
        ] {
            w.refused(me, call, WrongType)?;
        }
    }

    /// The common operations need the same rights as of any type. [Zircon rights]
    refusal fn the_common_rights_mean_the_same(w) {
        let (me, root, job) = (w.first, w.root, w.job);
        let guest = w.guest()?;
        let to = w.gives(me, create_job(job))?;
        let handle = w.own(me, 7)?;
        let all = w.rights(me, handle)?;
        let without = |right| only(all.without(right));
        let deaf = w.gives(me, duplicate(handle, without(Rights::DUPLICATE)))?;
        let tied = w.gives(me, duplicate(handle, without(Rights::TRANSFER)))?;
        let blind = w.gives(me, duplicate(handle, without(Rights::INSPECT)))?;
        let weak = w.gives(me, duplicate(handle, without(Rights::MANAGE)))?;
        for call in [
            duplicate(deaf, SAME),
            derive(deaf, SAME),
            revoke(deaf),
            link(root, b"a", deaf),
            transfer(tied, guest.handle, SAME),
            holders(blind),
            kept_by(blind),
            link_permanently(root, b"a", weak),
            permanent(weak, true),
            recharge(weak, job, to),
        ] {
            w.refused(me, call, AccessDenied)?;
        }
        w.gives(me, duplicate(weak, only(Rights::from_bits(1 << 16))))?;
    }

    /// A name of a user's type is listed with its number, and opened as it alone. [NT NtQueryDirectoryObject: TypeName]
    refusal fn an_own_type_is_expected_by_its_number(w) {
        let (me, root) = (w.first, w.root);
        let handle = w.own(me, 7)?;
        w.done(me, link(root, b"object", handle))?;
        let own = w.own_type();
        same(w.list(me, root)?[0].object_type, own)?;
        let koid = w.koid(me, handle)?;
        let error = CallError::UnexpectedType { koid, found: own, expected: ObjectType::Directory.number() };
        w.refused_as(me, open_typed(root, b"object", ObjectType::Directory), error)?;
        let call = kobj_core::Call::Open {
            directory: root,
            path: b"object",
            rights: SAME,
            expected: Some(own),
            follow: true,
        };
        w.gives(me, call)?;
    }

    /// A killed job's objects are told, those that others hold when these close. [docs/semantics.md, kill]
    order fn a_jobs_end_runs_the_hooks(w) {
        let (me, root) = (w.first, w.root);
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(job, false)?;
        let there = w.share(root, guest)?;
        let lasting = w.own(guest.process, 7)?;
        w.done(guest.process, link_permanently(there, b"lasting", lasting))?;
        w.done(guest.process, close(lasting))?;
        same(w.hooks(), Vec::from([(LastClose, 7)]))?;
        w.done(me, kill(job))?;
        same(w.hooks(), Vec::from([(Destroy, 7), (Dropped, 7)]))?;
    }

    /// What others hold when its job is killed loses its name, and is told when they close. [docs/semantics.md, kill]
    refusal fn what_others_hold_loses_its_name_with_the_job(w) {
        let (me, root) = (w.first, w.root);
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(job, false)?;
        let there = w.share(root, guest)?;
        let made = w.own(guest.process, 7)?;
        w.done(guest.process, link(there, b"object", made))?;
        let held = w.gives(me, open(root, b"object"))?;
        w.done(me, kill(job))?;
        w.done(me, close(job))?;
        w.refused(me, open(root, b"object"), NotFound)?;
        same(w.hooks(), Vec::new())?;
        w.done(me, link(root, b"again", held))?;
        w.done(me, close(held))?;
        same(w.hooks(), end_of(7))?;
    }

    /// A job that ends by itself takes the names of its users' objects as well. [docs/semantics.md, kill]
    order fn a_job_that_ends_by_itself_takes_the_names(w) {
        let (me, root) = (w.first, w.root);
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(job, false)?;
        let there = w.share(root, guest)?;
        let made = w.own(guest.process, 7)?;
        w.done(guest.process, link_permanently(there, b"object", made))?;
        w.done(me, close(job))?;
        w.done(me, kill(guest.handle))?;
        w.done(me, close(guest.handle))?;
        same(w.names(me, root)?.as_str(), "")?;
        same(w.hooks(), end_of(7))?;
    }

    /// Renamed, made temporary and unlinked, it is no concern of its job any longer. [docs/semantics.md, kill]
    order fn a_name_that_was_taken_away_concerns_no_job(w) {
        let (me, root) = (w.first, w.root);
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(job, false)?;
        let there = w.share(root, guest)?;
        let made = w.own(guest.process, 7)?;
        for _ in 0..3 {
            w.done(guest.process, link_permanently(there, b"object", made))?;
            w.done(guest.process, rename(there, b"object", b"moved"))?;
            w.done(guest.process, permanent(made, false))?;
            w.done(guest.process, unlink(there, b"moved"))?;
        }
        w.done(guest.process, close(made))?;
        same(w.hooks(), end_of(7))?;
        w.done(me, kill(job))?;
        same(w.hooks(), Vec::new())?;
    }

    /// A user's object is charged to another job like any other, and its name then goes with that. [docs/semantics.md, recharge]
    refusal fn an_own_objects_charge_moves(w) {
        let (me, root) = (w.first, w.root);
        let (one, two) = (w.gives(me, create_job(w.job))?, w.gives(me, create_job(w.job))?);
        let (guest, other) = (w.guest_in(one, false)?, w.guest_in(two, false)?);
        let own = Resource::ObjectsOf(w.own_type());
        w.done(me, set_quota(one, own, 1))?;
        w.done(me, set_quota(two, own, 1))?;
        let there = w.share(root, guest)?;
        let made = w.own(guest.process, 7)?;
        w.done(guest.process, link_permanently(there, b"object", made))?;
        let held = w.gives(me, open(root, b"object"))?;
        let koid = w.koid(me, held)?;
        w.refused_as(me, recharge(held, two, one), CallError::ChargedElsewhere { koid })?;
        w.done(me, recharge(held, one, two))?;
        w.no_own(other.process, 8, Quota)?;
        let _dropped = w.hooks();
        w.done(me, close(held))?;
        w.done(me, kill(one))?;
        same(w.names(me, root)?.as_str(), "object")?;
        w.done(me, kill(two))?;
        same(w.names(me, root)?.as_str(), "")?;
        same(w.hooks(), end_of(7))?;
    }

    /// Three hundred of them end one by one, each told once. [docs/semantics.md: two counts]
    plain fn many_own_objects_end(w) {
        let me = w.first;
        let live = w.live();
        let guest = w.guest()?;
        for number in 1..=300 {
            w.own(guest.process, number)?;
        }
        w.done(me, kill(guest.handle))?;
        let mut told: Vec<u64> = w.hooks().into_iter().filter(|(hook, _)| *hook == Dropped).map(|(_, n)| n).collect();
        told.sort_unstable();
        same(told, (1..=300).collect())?;
        same(w.live(), live + 1)?;
    }
}

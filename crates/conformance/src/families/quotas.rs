//! Quotas: never passed, given back exactly, and a refusal undoes all that came before it.

use crate::calls::*;
use crate::row::rows;
use crate::world::{holds, same};
use kobj_abi::ErrorCode::{NotFound, Quota};
use kobj_abi::{ObjectType, Rights, TypeNumber};
use kobj_core::{CallError, Resource};

const DIRECTORIES: Resource = Resource::ObjectsOf(ObjectType::Directory.number());

rows! { Quotas:
    /// A limit for objects of a type that there is not is refused: it would limit nothing, or a type to come.
    /// [NT NtSetInformationJobObject: STATUS_INVALID_PARAMETER]
    refusal fn a_type_that_is_not_there_has_no_limit(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        for number in [TypeNumber(0), TypeNumber(63), TypeNumber(u16::MAX)] {
            w.refused_as(me, set_quota(job, Resource::ObjectsOf(number), 1), CallError::UnknownType { number })?;
        }
        w.done(me, set_quota(job, Resource::ObjectsOf(w.own_type()), 1))?;
    }

    /// A process has as many handles as its limit says, and not one more. [Linux setrlimit(2): RLIMIT_NOFILE, EMFILE]
    refusal fn not_one_handle_more(w) {
        let guest = w.guest()?;
        let (p, koid) = (guest.process, guest.process);
        w.limit(p, Resource::Handles, 3);
        for _ in 0..3 {
            w.directory(p)?;
        }
        let (resource, limit, used) = (Resource::Handles, 3, 3);
        w.refused_as(p, DIRECTORY, CallError::Quota { koid, resource, limit, used })?;
        same(w.handles(p), 3)?;
    }

    /// What is closed can be had again. [Linux setrlimit(2): RLIMIT_NOFILE]
    order fn what_is_closed_can_be_had_again(w) {
        let guest = w.guest()?;
        let p = guest.process;
        w.limit(p, Resource::Handles, 1);
        for _ in 0..20 {
            let handle = w.directory(p)?;
            w.refused(p, DIRECTORY, Quota)?;
            w.done(p, close(handle))?;
        }
    }

    /// Every call that gives a handle is refused at the limit. [Linux setrlimit(2): EMFILE of each]
    refusal fn every_call_that_gives_a_handle_is_refused(w) {
        let (me, root) = (w.first, w.root);
        let guest = w.guest()?;
        let p = guest.process;
        let there = w.share(root, guest)?;
        let job = w.share(w.job, guest)?;
        let _held = w.named(me, root, b"object")?;
        w.limit(p, Resource::Handles, 2);
        for call in [
            duplicate(there, SAME),
            derive(there, SAME),
            DIRECTORY,
            symbolic_link(b"a"),
            create_job(job),
            create_guest(job, false),
            open(there, b"object"),
            open_or_create(there, b"object", SAME),
            open_or_create(there, b"new", SAME),
            create_new(there, b"new", SAME),
        ] {
            w.refused(p, call, Quota)?;
        }
        same(w.names(me, root)?.as_str(), "object")?;
    }

    /// Replacing needs no room. [docs/semantics.md, replace]
    plain fn replacing_needs_no_room(w) {
        let guest = w.guest()?;
        let p = guest.process;
        let handle = w.directory(p)?;
        w.limit(p, Resource::Handles, 1);
        let handle = w.gives(p, replace(handle, SAME))?;
        w.gives(p, replace(handle, only(Rights::NONE)))?;
        same(w.handles(p), 1)?;
    }

    /// Moving to oneself needs no room, not even where the limit is below the use. [docs/semantics.md, transfer]
    plain fn moving_to_oneself_needs_no_room(w) {
        let guest = w.guest()?;
        let p = guest.process;
        let own = w.share(guest.handle, guest)?;
        let handle = w.directory(p)?;
        w.limit(p, Resource::Handles, 1);
        let handle = w.gives(p, transfer(handle, own, SAME))?;
        w.refused(p, duplicate(handle, SAME), Quota)?;
        same(w.handles(p), 2)?;
    }

    /// Looking, naming and closing need no room. [Linux: close(2) never needs a descriptor]
    plain fn closing_needs_no_room(w) {
        let guest = w.guest()?;
        let p = guest.process;
        let there = w.share(w.root, guest)?;
        let handle = w.directory(p)?;
        w.limit(p, Resource::Handles, 0);
        w.limit(p, Resource::Objects, 0);
        w.info(p, handle)?;
        w.done(p, link(there, b"object", handle))?;
        w.done(p, unlink(there, b"object"))?;
        w.done(p, revoke(handle))?;
        w.done(p, close(handle))?;
    }

    /// A limit below the use takes nothing away, and gives nothing new until enough was closed. [Linux setrlimit(2)]
    refusal fn a_limit_below_the_use_takes_nothing_away(w) {
        let guest = w.guest()?;
        let p = guest.process;
        let (one, two, three) = (w.directory(p)?, w.directory(p)?, w.directory(p)?);
        w.limit(p, Resource::Handles, 1);
        w.info(p, three)?;
        for handle in [one, two, three] {
            w.refused(p, DIRECTORY, Quota)?;
            w.done(p, close(handle))?;
        }
        w.directory(p)?;
    }

    /// A raised limit is in force at once. [Linux setrlimit(2)]
    order fn a_raised_limit_is_in_force_at_once(w) {
        let guest = w.guest()?;
        let p = guest.process;
        for limit in 1..5 {
            w.limit(p, Resource::Handles, limit);
            w.directory(p)?;
            w.refused(p, DIRECTORY, Quota)?;
        }
    }

    /// A job's limit holds for all its processes together. [NT SetInformationJobObject: limits of all its processes]
    refusal fn a_jobs_limit_holds_for_all_in_it(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        let (one, two) = (w.guest_in(job, false)?, w.guest_in(job, false)?);
        let koid = w.koid(me, job)?;
        w.limit(koid, Resource::Handles, 3);
        let handle = w.directory(one.process)?;
        w.directory(one.process)?;
        w.directory(two.process)?;
        let error = CallError::Quota { koid, resource: Resource::Handles, limit: 3, used: 3 };
        w.refused_as(one.process, DIRECTORY, error)?;
        w.refused_as(two.process, DIRECTORY, error)?;
        w.done(one.process, close(handle))?;
        w.directory(two.process)?;
    }

    /// An outer job's limit holds for the inner ones; the inner one's own is looked at first.
    /// [NT nested jobs: every limit in the chain]
    refusal fn an_outer_limit_holds_within(w) {
        let me = w.first;
        let outer = w.gives(me, create_job(w.job))?;
        let inner = w.gives(me, create_job(outer))?;
        let guest = w.guest_in(inner, false)?;
        let (outer_koid, inner_koid) = (w.koid(me, outer)?, w.koid(me, inner)?);
        w.limit(outer_koid, DIRECTORIES, 2);
        w.directory(guest.process)?;
        w.directory(guest.process)?;
        let error = CallError::Quota { koid: outer_koid, resource: DIRECTORIES, limit: 2, used: 2 };
        w.refused_as(guest.process, DIRECTORY, error)?;
        w.limit(inner_koid, DIRECTORIES, 1);
        let error = CallError::Quota { koid: inner_koid, resource: DIRECTORIES, limit: 1, used: 2 };
        w.refused_as(guest.process, DIRECTORY, error)?;
    }

    /// A job next door is not charged. [NT nested jobs: siblings are apart]
    plain fn a_job_next_door_is_not_charged(w) {
        let me = w.first;
        let (one, two) = (w.gives(me, create_job(w.job))?, w.gives(me, create_job(w.job))?);
        let (in_one, in_two) = (w.guest_in(one, false)?, w.guest_in(two, false)?);
        let koid = w.koid(me, one)?;
        w.limit(koid, Resource::Objects, 1);
        w.refused(in_one.process, DIRECTORY, Quota)?;
        w.directory(in_two.process)?;
    }

    /// A type's limit holds for that type alone. [docs/semantics.md, set_quota]
    refusal fn a_types_limit_is_that_types(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(job, false)?;
        let koid = w.koid(me, job)?;
        w.limit(koid, DIRECTORIES, 1);
        w.directory(guest.process)?;
        w.refused(guest.process, DIRECTORY, Quota)?;
        w.gives(guest.process, symbolic_link(b"a"))?;
    }

    /// An object is charged until it is destroyed, not until its maker closes it. [docs/semantics.md: who pays]
    order fn an_object_is_charged_to_its_maker(w) {
        let (me, root) = (w.first, w.root);
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(job, false)?;
        let there = w.share(root, guest)?;
        let koid = w.koid(me, job)?;
        w.limit(koid, DIRECTORIES, 1);
        let made = w.named(guest.process, there, b"object")?;
        let held = w.gives(me, open(root, b"object"))?;
        w.done(guest.process, close(made))?;
        w.refused(guest.process, DIRECTORY, Quota)?;
        w.done(me, close(held))?;
        w.directory(guest.process)?;
    }

    /// Refused for the handle, no object was made: the object's charge is back. [docs/semantics.md: all or nothing]
    refusal fn refused_for_the_handle_no_object_is_made(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(job, false)?;
        let koid = w.koid(me, job)?;
        w.limit(koid, DIRECTORIES, 1);
        w.limit(guest.process, Resource::Handles, 0);
        for _ in 0..3 {
            w.refused(guest.process, DIRECTORY, Quota)?;
        }
        w.limit(guest.process, Resource::Handles, 1);
        w.directory(guest.process)?;
    }

    /// Refused for the object, no handle was made: the handle's charge is back. [docs/semantics.md: all or nothing]
    refusal fn refused_for_the_object_no_handle_is_made(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(job, false)?;
        let koid = w.koid(me, job)?;
        w.limit(koid, DIRECTORIES, 0);
        w.limit(guest.process, Resource::Handles, 1);
        for _ in 0..3 {
            w.refused(guest.process, DIRECTORY, Quota)?;
        }
        w.gives(guest.process, symbolic_link(b"a"))?;
    }

    /// Open or create that is refused leaves no name. [docs/semantics.md: all or nothing]
    refusal fn open_or_create_refused_leaves_no_name(w) {
        let (me, root) = (w.first, w.root);
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(job, false)?;
        let there = w.share(root, guest)?;
        let koid = w.koid(me, job)?;
        w.limit(koid, DIRECTORIES, 0);
        w.refused(guest.process, open_or_create(there, b"new", SAME), Quota)?;
        w.refused(guest.process, create_new(there, b"new", SAME), Quota)?;
        w.refused(me, open(root, b"new"), NotFound)?;
        let (_made, created) = w.opened(me, open_or_create(root, b"new", SAME))?;
        holds(created, "nothing was left under that name")?;
    }

    /// A guest that cannot inherit all is not made at all. [all or nothing; NT CreateProcess fails as a whole]
    refusal fn a_guest_that_cannot_inherit_is_not_made(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        let koid = w.koid(me, job)?;
        for _ in 0..3 {
            let handle = w.directory(me)?;
            w.done(me, inheritable(handle, true))?;
        }
        w.limit(koid, Resource::Handles, 2);
        w.refused(me, create_guest(job, true), Quota)?;
        same(w.killed().len(), 0)?;
        w.limit(koid, Resource::Handles, 3);
        let heir = w.guest_in(job, true)?;
        same(w.handles(heir.process), 3)?;
    }

    /// Revoking gives the charge back to whoever had the handle. [docs/semantics.md: who pays]
    order fn revoking_gives_the_charge_back(w) {
        let me = w.first;
        let guest = w.guest()?;
        let handle = w.directory(me)?;
        w.limit(guest.process, Resource::Handles, 1);
        for _ in 0..3 {
            let derived = w.gives(me, derive(handle, SAME))?;
            w.gives(me, transfer(derived, guest.handle, SAME))?;
            w.refused(guest.process, DIRECTORY, Quota)?;
            w.done(me, revoke(handle))?;
        }
        w.directory(guest.process)?;
    }

    /// Killing a guest gives its charges back to its job. [docs/semantics.md, kill]
    order fn killing_gives_the_charges_back(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        let koid = w.koid(me, job)?;
        w.limit(koid, Resource::Handles, 5);
        w.limit(koid, DIRECTORIES, 5);
        for _ in 0..3 {
            let guest = w.guest_in(job, false)?;
            for _ in 0..5 {
                w.directory(guest.process)?;
            }
            w.refused(guest.process, DIRECTORY, Quota)?;
            w.done(me, kill(guest.handle))?;
        }
    }

    /// What outlives a killed job is charged to the one around it. [docs/semantics.md, kill]
    order fn what_outlives_a_job_is_charged_around_it(w) {
        let me = w.first;
        let outer = w.gives(me, create_job(w.job))?;
        let inner = w.gives(me, create_job(outer))?;
        let (within, without) = (w.guest_in(inner, false)?, w.guest_in(outer, false)?);
        let made = w.directory(within.process)?;
        let to_without = w.share(without.handle, within)?;
        let held = w.gives(within.process, transfer(made, to_without, SAME))?;
        let koid = w.koid(me, outer)?;
        w.done(me, kill(inner))?;
        w.limit(koid, DIRECTORIES, 1);
        w.refused(without.process, DIRECTORY, Quota)?;
        w.done(without.process, close(held))?;
        w.directory(without.process)?;
    }

    /// Jobs and guests count as objects of the job that they are made in.
    /// [NT SetInformationJobObject: ActiveProcessLimit]
    refusal fn jobs_and_guests_count(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        let koid = w.koid(me, job)?;
        w.limit(koid, Resource::ObjectsOf(ObjectType::Process.number()), 1);
        w.limit(koid, Resource::ObjectsOf(ObjectType::Job.number()), 1);
        w.guest_in(job, false)?;
        w.refused(me, create_guest(job, false), Quota)?;
        w.gives(me, create_job(job))?;
        w.refused(me, create_job(job), Quota)?;
    }

    /// Bytes are limited, too, and are given back exactly. [NT SetInformationJobObject: JobMemoryLimit]
    refusal fn bytes_are_limited(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(job, false)?;
        let koid = w.koid(me, job)?;
        let CallError::Quota { used, .. } = ({
            w.limit(koid, Resource::Bytes, 0);
            w.error(guest.process, DIRECTORY)?
        }) else {
            return holds(false, "no bytes are left");
        };
        w.limit(koid, Resource::Bytes, used + 2000);
        for _ in 0..50 {
            let handle = w.directory(guest.process)?;
            w.done(guest.process, close(handle))?;
        }
        for _ in 0..50 {
            if w.tries(guest.process, DIRECTORY).is_err() {
                return w.refused(guest.process, symbolic_link(&[b'a'; 255]), Quota);
            }
        }
        holds(false, "the bytes came to an end")?;
    }

    /// A permanent name is charged to whoever pays for its directory; a temporary one to nobody. [docs/semantics.md, link]
    refusal fn a_permanent_name_is_charged_to_its_directory(w) {
        let (me, root) = (w.first, w.root);
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(job, false)?;
        let there = w.share(root, guest)?;
        let _made = w.named(guest.process, there, b"theirs")?;
        let theirs = w.gives(me, open(root, b"theirs"))?;
        let (one, two) = (w.directory(me)?, w.directory(me)?);
        w.done(me, set_quota(job, Resource::Bytes, 0))?;
        w.refused(me, link_permanently(theirs, b"one", one), Quota)?;
        w.done(me, link(theirs, b"one", one))?;
        w.refused(me, permanent(one, true), Quota)?;
        w.done(me, set_quota(job, Resource::Bytes, 1 << 20))?;
        w.done(me, permanent(one, true))?;
        w.done(me, set_quota(job, Resource::Bytes, 0))?;
        w.refused(me, link_permanently(theirs, b"two", two), Quota)?;
        w.done(me, permanent(one, false))?;
        w.done(me, link_permanently(root, b"two", two))?;
    }

    /// What is full stays full whatever is tried, and works as before with one more.
    /// [docs/semantics.md: all or nothing]
    refusal fn refusals_use_nothing_up(w) {
        let me = w.first;
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest_in(job, false)?;
        let koid = w.koid(me, job)?;
        w.limit(koid, Resource::Handles, 2);
        let _held = (w.directory(guest.process)?, w.directory(guest.process)?);
        for _ in 0..200 {
            w.refused(guest.process, DIRECTORY, Quota)?;
        }
        w.limit(koid, Resource::Handles, 3);
        w.directory(guest.process)?;
        let error = CallError::Quota { koid, resource: Resource::Handles, limit: 3, used: 3 };
        w.refused_as(guest.process, DIRECTORY, error)?;
    }

    /// The first guest's limits are its own. [docs/semantics.md: an account each]
    plain fn a_processs_limit_is_its_own(w) {
        let me = w.first;
        let (one, two) = (w.guest()?, w.guest()?);
        w.limit(one.process, Resource::Handles, 0);
        w.refused(one.process, DIRECTORY, Quota)?;
        w.directory(two.process)?;
        w.directory(me)?;
    }
}

//! Handles: which values mean something, and what closing, duplicating and replacing them does.

use crate::calls::*;
use crate::row::rows;
use crate::world::{differ, holds, same};
use alloc::vec::Vec;
use kobj_abi::ErrorCode::{AccessDenied, BadArgument, BadHandle};
use kobj_abi::{ObjectType, Rights};
use kobj_core::CallError;

rows! { Handles:
    /// A closed value is refused. [Zircon zx_handle_close: ZX_ERR_BAD_HANDLE]
    refusal fn a_closed_value_is_refused(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        w.done(me, close(handle))?;
        w.refused_as(me, close(handle), CallError::BadHandle { handle })?;
        w.refused_as(me, info(handle), CallError::BadHandle { handle })?;
    }

    /// A closed value never comes back, however many handles are made.
    /// [Zircon handles: values are used again; ours are not]
    refusal fn a_closed_value_never_comes_back(w) {
        let me = w.first;
        let closed = w.directory(me)?;
        w.done(me, close(closed))?;
        let mut before = Vec::new();
        for _ in 0..200 {
            let handle = w.directory(me)?;
            differ(handle, closed)?;
            holds(!before.contains(&handle), "no value is given twice")?;
            before.push(handle);
            w.done(me, close(handle))?;
        }
        w.refused(me, info(closed), BadHandle)?;
    }

    /// A value of another process's table means nothing. [Zircon handles: valid in one process only]
    refusal fn another_tables_value_is_refused(w) {
        let me = w.first;
        let guest = w.guest()?;
        let handle = w.directory(me)?;
        w.refused(guest.process, info(handle), BadHandle)?;
        w.refused(guest.process, close(handle), BadHandle)?;
        w.info(me, handle)?;
    }

    /// Making an object gives a handle with all rights of its type. [NT ZwCreateDirectoryObject: DesiredAccess]
    plain fn the_maker_may_do_all(w) {
        let me = w.first;
        let directory = w.directory(me)?;
        let link = w.gives(me, symbolic_link(b"a"))?;
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest()?.handle;
        for (handle, of) in [
            (directory, ObjectType::Directory),
            (link, ObjectType::SymbolicLink),
            (job, ObjectType::Job),
            (guest, ObjectType::Process),
        ] {
            let info = w.info(me, handle)?;
            same((info.object_type, info.rights), (of.number(), of.default_rights()))?;
        }
    }

    /// An equal is another value for the same object. [Zircon zx_handle_duplicate]
    plain fn an_equal_means_the_same_object(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let equal = w.gives(me, duplicate(handle, SAME))?;
        differ(equal, handle)?;
        same(w.info(me, equal)?, w.info(me, handle)?)?;
    }

    /// Two objects never have the same koid, the second made after the first ended.
    /// [Zircon koids: unique for as long as the system runs]
    plain fn a_koid_is_never_used_again(w) {
        let me = w.first;
        let mut before = Vec::new();
        for _ in 0..100 {
            let handle = w.directory(me)?;
            let koid = w.koid(me, handle)?;
            holds(!before.contains(&koid), "no koid is given twice")?;
            before.push(koid);
            w.done(me, close(handle))?;
        }
    }

    /// An equal has exactly the rights that were asked for. [Zircon zx_handle_duplicate]
    plain fn an_equal_has_the_rights_asked_for(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        for rights in [Rights::LOOKUP, Rights::DUPLICATE | Rights::ENUMERATE, Rights::NONE] {
            let equal = w.weaker(me, handle, rights)?;
            same(w.rights(me, equal)?, rights)?;
        }
    }

    /// Rights only shrink: an equal of an equal cannot get them back. [Zircon zx_handle_duplicate; NT may grant more]
    refusal fn an_equal_cannot_have_more(w) {
        let me = w.first;
        let full = w.directory(me)?;
        let most = Rights::DUPLICATE | Rights::LOOKUP;
        let handle = w.weaker(me, full, most)?;
        let asked = most | Rights::CREATE;
        let (koid, object_type) = (w.koid(me, handle)?, ObjectType::Directory.number());
        w.refused_as(me, duplicate(handle, only(asked)), CallError::TooManyRights { koid, object_type, asked, most })?;
        same(w.rights(me, handle)?, most)?;
    }

    /// More than there is to give is refused, never silently less. [Zircon zx_handle_duplicate: ZX_ERR_INVALID_ARGS]
    refusal fn never_silently_less(w) {
        let me = w.first;
        let link = w.gives(me, symbolic_link(b"a"))?;
        let asked = only(ObjectType::SymbolicLink.default_rights() | Rights::WRITE);
        w.refused(me, duplicate(link, asked), AccessDenied)?;
        w.refused(me, replace(link, asked), AccessDenied)?;
        w.refused(me, derive(link, asked), AccessDenied)?;
    }

    /// A bit without a meaning is refused, whoever asks for it. [Zircon zx_handle_duplicate: ZX_ERR_INVALID_ARGS]
    refusal fn a_reserved_bit_is_refused(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        for bit in 10..16 {
            let asked = Rights::LOOKUP | Rights::from_bits(1 << bit);
            w.refused_as(me, duplicate(handle, only(asked)), CallError::ReservedRights { asked })?;
        }
        w.refused(me, duplicate(handle, only(Rights::from_bits(u32::MAX))), BadArgument)?;
    }

    /// An object lives as long as one handle does. [NT life cycle of an object]
    plain fn the_last_handle_keeps_the_object(w) {
        let me = w.first;
        let live = w.live();
        let handle = w.directory(me)?;
        let equal = w.gives(me, duplicate(handle, SAME))?;
        w.done(me, close(handle))?;
        same(w.live(), live + 1)?;
        w.info(me, equal)?;
        w.done(me, close(equal))?;
        same(w.live(), live)?;
    }

    /// A handle without rights keeps its object and says what it is. [Zircon: zero rights are allowed]
    plain fn a_handle_without_rights_keeps_the_object(w) {
        let me = w.first;
        let live = w.live();
        let full = w.directory(me)?;
        let handle = w.weaker(me, full, Rights::NONE)?;
        w.done(me, close(full))?;
        same(w.live(), live + 1)?;
        same(w.info(me, handle)?.object_type, ObjectType::Directory.number())?;
        w.done(me, close(handle))?;
        same(w.live(), live)?;
    }

    /// Equals are closed one by one. [Zircon zx_handle_close: other handles stay valid]
    refusal fn closing_one_equal_leaves_the_others(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let mut equals = Vec::new();
        for _ in 0..5 {
            equals.push(w.gives(me, duplicate(handle, SAME))?);
        }
        for at in [2, 0, 4, 1, 3] {
            w.done(me, close(equals[at]))?;
            w.refused(me, close(equals[at]), BadHandle)?;
        }
        w.info(me, handle)?;
    }

    /// Replacing gives a new value and the old one is invalid. [Zircon zx_handle_replace]
    refusal fn replacing_invalidates_the_old_value(w) {
        let me = w.first;
        let live = w.live();
        let old = w.directory(me)?;
        let koid = w.koid(me, old)?;
        let new = w.gives(me, replace(old, SAME))?;
        differ(new, old)?;
        same(w.koid(me, new)?, koid)?;
        w.refused(me, info(old), BadHandle)?;
        w.done(me, close(new))?;
        same(w.live(), live)?;
    }

    /// Refused, replacing leaves the old value valid. [Zircon zx_handle_replace: "always invalidated"; ours is not]
    refusal fn a_refused_replace_leaves_the_old_value(w) {
        let me = w.first;
        let full = w.directory(me)?;
        let handle = w.weaker(me, full, Rights::LOOKUP)?;
        w.refused(me, replace(handle, only(Rights::LOOKUP | Rights::CREATE)), AccessDenied)?;
        same(w.rights(me, handle)?, Rights::LOOKUP)?;
        w.refused(me, replace(handle, only(Rights::from_bits(1 << 15))), BadArgument)?;
        same(w.rights(me, handle)?, Rights::LOOKUP)?;
    }

    /// What replacing took away cannot be got back. [Zircon zx_handle_replace: a subset]
    refusal fn replacing_only_shrinks(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let less = w.gives(me, replace(handle, only(Rights::LOOKUP | Rights::ENUMERATE)))?;
        let least = w.gives(me, replace(less, only(Rights::LOOKUP)))?;
        w.refused(me, replace(least, only(Rights::LOOKUP | Rights::ENUMERATE)), AccessDenied)?;
        w.refused(me, enumerate(least, 0), AccessDenied)?;
    }

    /// A handle that cannot be duplicated can be replaced, and there is one still.
    /// [Zircon zx_handle_replace: no right]
    refusal fn replacing_makes_no_second_handle(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let before = w.handles(me);
        let handle = w.gives(me, replace(handle, only(Rights::LOOKUP)))?;
        w.refused(me, duplicate(handle, SAME), AccessDenied)?;
        let handle = w.gives(me, replace(handle, SAME))?;
        same(w.handles(me), before)?;
        same(w.rights(me, handle)?, Rights::LOOKUP)?;
    }

    /// A closed value can be neither duplicated nor replaced nor derived from.
    /// [Zircon zx_handle_duplicate, zx_handle_replace: ZX_ERR_BAD_HANDLE]
    refusal fn a_closed_value_has_no_equal(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        w.done(me, close(handle))?;
        for call in [duplicate(handle, SAME), replace(handle, SAME), derive(handle, SAME), revoke(handle)] {
            w.refused_as(me, call, CallError::BadHandle { handle })?;
        }
    }

    /// Handles begin not inheritable, and equals are not either.
    /// [NT InitializeObjectAttributes: OBJ_INHERIT is asked for each handle]
    plain fn inheriting_is_asked_for_each_handle(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        holds(!w.info(me, handle)?.inheritable, "a new handle is not inheritable")?;
        w.done(me, inheritable(handle, true))?;
        holds(w.info(me, handle)?.inheritable, "it is when it was made so")?;
        let equal = w.gives(me, duplicate(handle, SAME))?;
        holds(!w.info(me, equal)?.inheritable, "its equal is not")?;
        let derived = w.gives(me, derive(handle, SAME))?;
        holds(!w.info(me, derived)?.inheritable, "what is derived from it is not")?;
        w.done(me, inheritable(handle, false))?;
        holds(!w.info(me, handle)?.inheritable, "it is no longer when that was taken back")?;
    }

    /// Replacing keeps whether a handle is inheritable. [NT ZwDuplicateObject: DUPLICATE_SAME_ATTRIBUTES]
    plain fn replacing_keeps_inheritable(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        w.done(me, inheritable(handle, true))?;
        let handle = w.gives(me, replace(handle, only(Rights::LOOKUP)))?;
        holds(w.info(me, handle)?.inheritable, "the new value is inheritable")?;
    }

    /// A guest inherits exactly the inheritable handles, and only if it is asked for.
    /// [NT CreateProcess: bInheritHandles]
    plain fn a_guest_inherits_what_is_inheritable(w) {
        let me = w.first;
        for whether in [true, false, true] {
            let handle = w.directory(me)?;
            w.done(me, inheritable(handle, whether))?;
        }
        let job = w.job;
        let heir = w.guest_in(job, true)?;
        same(w.handles(heir.process), 2)?;
        let other = w.guest_in(job, false)?;
        same(w.handles(other.process), 0)?;
    }

    /// What was inherited keeps its object when the parent's handle is closed. [NT CreateProcess: bInheritHandles]
    plain fn what_is_inherited_is_a_handle_of_its_own(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        w.done(me, inheritable(handle, true))?;
        let job = w.job;
        let heir = w.guest_in(job, true)?;
        let live = w.live();
        w.done(me, close(handle))?;
        same(w.live(), live)?;
        w.done(me, kill(heir.handle))?;
        same(w.live(), live - 1)?;
    }

    /// Asking what a closed handle means is refused, and so is making it inheritable. [NT SetHandleInformation]
    refusal fn a_closed_value_is_not_made_inheritable(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        w.done(me, inheritable(handle, true))?;
        w.done(me, close(handle))?;
        w.refused(me, inheritable(handle, true), BadHandle)?;
        let job = w.job;
        let heir = w.guest_in(job, true)?;
        same(w.handles(heir.process), 0)?;
    }
}

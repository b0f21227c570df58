//! Bad input: values from nowhere and bytes that are no name, each refused by its kind and without an effect.

use crate::calls::*;
use crate::row::rows;
use crate::subject::Subject;
use crate::world::{Outcome, World, holds, same};
use alloc::vec::Vec;
use kobj_abi::ErrorCode::{AccessDenied, BadArgument, BadHandle, Dying, WrongType};
use kobj_abi::{ObjectType, RawHandle, Rights, TypeNumber};
use kobj_core::{Call, CallError, What};

/// Every call that names an object, with this value as the first handle.
fn calls_by(handle: RawHandle, good: RawHandle) -> [Call<'static>; 25] {
    [
        close(handle),
        duplicate(handle, SAME),
        replace(handle, SAME),
        derive(handle, SAME),
        revoke(handle),
        transfer(handle, good, SAME),
        info(handle),
        inheritable(handle, true),
        create_job(handle),
        create_guest(handle, false),
        kill(handle),
        link(handle, b"a", good),
        unlink(handle, b"a"),
        rename(handle, b"a", b"b"),
        open(handle, b"a"),
        open_or_create(handle, b"a", SAME),
        create_new(handle, b"a", SAME),
        enumerate(handle, 0),
        permanent(handle, true),
        permanent(handle, false),
        read_link(handle),
        why(handle),
        holders(handle),
        kept_by(handle),
        derived_from(handle),
    ]
}

/// Every call refuses the value as none of the caller's.
fn every_call_refuses<S: Subject>(w: &mut World<S>, handle: RawHandle) -> Outcome {
    let (me, good) = (w.first, w.root);
    for call in calls_by(handle, good) {
        w.refused_as(me, call, CallError::BadHandle { handle })?;
    }
    Ok(())
}

/// Every call that takes a name refuses these bytes.
fn every_call_refuses_the_name<S: Subject>(w: &mut World<S>, name: &[u8]) -> Outcome {
    let (me, root) = (w.first, w.root);
    let free = w.directory(me)?;
    let _there = w.named(me, root, b"there")?;
    let link_there = What::SymbolicLink { target: b"there" };
    for call in [
        link(root, name, free),
        link_permanently(root, name, free),
        unlink(root, name),
        rename(root, name, b"new"),
        rename(root, b"there", name),
        open_or_create(root, name, SAME),
        create_new(root, name, SAME),
        Call::OpenOrCreate { directory: root, name, what: link_there, rights: SAME, exclusive: false },
    ] {
        w.refused_as(me, call, CallError::BadName { bytes: name.len() })?;
    }
    same(w.names(me, root)?.as_str(), "there")
}

rows! { BadInput:
    /// A closed handle is refused by every call.
    /// [Zircon zx_handle_close: ZX_ERR_BAD_HANDLE; NT ZwClose: STATUS_INVALID_HANDLE; Linux close(2): EBADF]
    refusal fn a_closed_handle_is_refused_by_every_call(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        w.done(me, close(handle))?;
        every_call_refuses(w, handle)?;
    }

    /// A handle of another table is refused by every call. [Zircon handles]
    refusal fn a_foreign_handle_is_refused_by_every_call(w) {
        let guest = w.guest()?;
        let handle = w.directory(guest.process)?;
        every_call_refuses(w, handle)?;
        w.info(guest.process, handle)?;
    }

    /// Made-up values are refused by every call. [Linux close(2): EBADF]
    refusal fn made_up_values_are_refused_by_every_call(w) {
        for raw in [1, 2, 3, 0xffff_ffff, 1 << 32, 1 << 63, u64::MAX, 0xdead_beef_dead_beef] {
            every_call_refuses(w, made_up(raw))?;
        }
    }

    /// A handle that moved is refused by every call of its sender.
    /// [Zircon zx_channel_write_etc: the source handle is always closed]
    refusal fn a_moved_handle_is_refused_by_every_call(w) {
        let me = w.first;
        let guest = w.guest()?;
        let handle = w.directory(me)?;
        w.gives(me, transfer(handle, guest.handle, SAME))?;
        every_call_refuses(w, handle)?;
    }

    /// A handle that was taken back is refused by every call. [seL4: an empty slot]
    refusal fn a_revoked_handle_is_refused_by_every_call(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let derived = w.gives(me, derive(handle, SAME))?;
        w.done(me, revoke(handle))?;
        every_call_refuses(w, derived)?;
    }

    /// A handle with one of its 64 bits flipped is none, or another one of the caller's. [docs/semantics.md: values]
    refusal fn a_flipped_bit_is_refused(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        for bit in 0..64 {
            let other = made_up(handle.raw() ^ (1 << bit));
            // Unless it is another one of the caller's own.
            if other != w.job && other != w.root {
                w.refused(me, info(other), BadHandle)?;
                w.refused(me, close(other), BadHandle)?;
            }
        }
        w.info(me, handle)?;
    }

    /// A bad second handle is refused, too, and the first one is as it was. [docs/semantics.md: in order]
    refusal fn a_bad_second_handle_is_refused(w) {
        let (me, root) = (w.first, w.root);
        let handle = w.directory(me)?;
        let gone = w.directory(me)?;
        w.done(me, close(gone))?;
        for bad in [gone, made_up(7), made_up(u64::MAX)] {
            w.refused_as(me, transfer(handle, bad, SAME), CallError::BadHandle { handle: bad })?;
            w.refused_as(me, link(root, b"a", bad), CallError::BadHandle { handle: bad })?;
        }
        w.info(me, handle)?;
    }

    /// An empty name is none. [Linux path_resolution(7): an empty path is ENOENT]
    refusal fn an_empty_name_is_none(w) {
        every_call_refuses_the_name(w, b"")?;
    }

    /// A dot is no name, though one may begin with it. [Linux path_resolution(7): the directory itself]
    refusal fn a_dot_is_no_name(w) {
        every_call_refuses_the_name(w, b".")?;
        let (me, root) = (w.first, w.root);
        w.named(me, root, b".hidden")?;
    }

    /// Two dots are no name, three are. [Linux path_resolution(7)]
    refusal fn two_dots_are_no_name(w) {
        every_call_refuses_the_name(w, b"..")?;
        let (me, root) = (w.first, w.root);
        w.named(me, root, b"...")?;
    }

    /// A name with a separator is none, wherever it stands. [Linux path_resolution(7): it would be two components]
    refusal fn a_name_with_a_separator_is_none(w) {
        every_call_refuses_the_name(w, b"there/below")?;
        let (me, root) = (w.first, w.root);
        for name in [&b"/"[..], b"/a", b"a/", b"a/b/c"] {
            w.refused(me, create_new(root, name, SAME), BadArgument)?;
        }
    }

    /// A name with a NUL byte is none, wherever it stands. [Linux path_resolution(7): the end of the string]
    refusal fn a_name_with_a_nul_is_none(w) {
        every_call_refuses_the_name(w, b"there\0")?;
        let (me, root) = (w.first, w.root);
        for name in [&b"\0"[..], b"\0a", b"a\0b"] {
            w.refused(me, create_new(root, name, SAME), BadArgument)?;
        }
    }

    /// A name of 256 bytes is none, nor is one of a mebibyte. [Linux open(2): ENAMETOOLONG]
    refusal fn a_name_that_is_too_long_is_none(w) {
        every_call_refuses_the_name(w, &[b'n'; 256])?;
        let (me, root) = (w.first, w.root);
        let long = Vec::from_iter(core::iter::repeat_n(b'n', 1 << 20));
        w.refused_as(me, create_new(root, &long, SAME), CallError::BadName { bytes: 1 << 20 })?;
        w.refused_as(me, open(root, &long), CallError::BadPath { bytes: 1 << 20 })?;
        w.refused_as(me, symbolic_link(&long), CallError::BadPath { bytes: 1 << 20 })?;
    }

    /// Bytes that are not UTF-8 are a name as good as any. [Linux path_resolution(7): bytes]
    plain fn bytes_that_are_no_text_are_a_name(w) {
        let (me, root) = (w.first, w.root);
        let every: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
        let handle = w.named(me, root, &every)?;
        let opened = w.gives(me, open(root, &every))?;
        same(w.koid(me, opened)?, w.koid(me, handle)?)?;
        same(w.list(me, root)?[0].name.as_bytes(), every.as_slice())?;
    }

    /// Each of the six reserved bits is refused wherever rights are asked for. [docs/semantics.md: rights]
    refusal fn reserved_bits_are_refused_everywhere(w) {
        let (me, root) = (w.first, w.root);
        let guest = w.guest()?;
        let handle = w.directory(me)?;
        let _there = w.named(me, root, b"there")?;
        for asked in (10..16).map(|bit| Rights::from_bits(1 << bit)) {
            let rights = only(asked);
            for call in [
                duplicate(handle, rights),
                replace(handle, rights),
                derive(handle, rights),
                transfer(handle, guest.handle, rights),
                link_most(root, b"new", handle, rights),
                open_with(root, b"there", rights),
                open_or_create(root, b"there", rights),
                create_new(root, b"new", rights),
            ] {
                w.refused_as(me, call, CallError::ReservedRights { asked })?;
            }
        }
    }

    /// All 32 bits at once are refused for the reserved ones. [docs/semantics.md: rights]
    refusal fn all_bits_at_once_are_refused(w) {
        let (me, root) = (w.first, w.root);
        let handle = w.directory(me)?;
        let all = only(Rights::from_bits(u32::MAX));
        w.refused(me, duplicate(handle, all), BadArgument)?;
        w.refused(me, open_or_create(root, b"a", all), BadArgument)?;
        w.refused(me, duplicate(handle, only(Rights::GENERIC | Rights::OWN)), AccessDenied)?;
    }

    /// A type that nobody has is not the type of anything.
    /// [NT ObReferenceObjectByHandle: STATUS_OBJECT_TYPE_MISMATCH]
    refusal fn an_unknown_type_is_expected_of_nothing(w) {
        let (me, root) = (w.first, w.root);
        let _there = w.named(me, root, b"there")?;
        for number in [0, 8, 63, 64, u16::MAX] {
            let expected = Some(TypeNumber(number));
            let call = Call::Open { directory: root, path: b"there", rights: SAME, expected, follow: true };
            w.refused(me, call, WrongType)?;
        }
    }

    /// A link's target of many names up ends above the start, not elsewhere. [Linux openat2(2): EXDEV]
    refusal fn many_names_up_end_above_the_start(w) {
        let (me, root) = (w.first, w.root);
        let mut target = b"../".repeat(1360);
        target.extend_from_slice(b"..");
        let _held = w.linked(me, root, b"link", &target)?;
        let directory = w.koid(me, root)?;
        w.refused_as(me, open(root, b"link"), CallError::AboveStart { directory })?;
    }

    /// A path of 2,000 names through one link each step ends at the link's bound. [Linux path_resolution(7): ELOOP]
    refusal fn a_long_path_through_links_ends(w) {
        let (me, root) = (w.first, w.root);
        let a = w.named(me, root, b"a")?;
        let _held = w.linked(me, a, b"a", b"../a")?;
        let mut path = b"a/".repeat(1999);
        path.push(b'a');
        let error = w.error(me, open(root, &path))?;
        holds(matches!(error, CallError::LinkLoop { .. }), "the links are counted over the whole path")?;
    }

    /// The same handle twice in one call is what it says.
    /// [Zircon zx_channel_write_etc: the own handle is ZX_ERR_NOT_SUPPORTED]
    refusal fn the_same_handle_twice_is_looked_at_twice(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let koid = w.koid(me, handle)?;
        w.refused_as(me, link(handle, b"a", handle), CallError::Cycle { koid })?;
        w.refused(me, transfer(handle, handle, SAME), WrongType)?;
        w.info(me, handle)?;
    }

    /// Closing twice what two handles meant does not close the other one. [Linux: a double close(2) may]
    refusal fn a_double_close_hurts_nobody(w) {
        let me = w.first;
        let one = w.directory(me)?;
        w.done(me, close(one))?;
        let two = w.directory(me)?;
        let koid = w.koid(me, two)?;
        w.refused(me, close(one), BadHandle)?;
        same(w.koid(me, two)?, koid)?;
    }

    /// Calls of the dead are refused, all of them. [docs/semantics.md: the caller first]
    refusal fn every_call_of_the_dead_is_refused(w) {
        let me = w.first;
        let guest = w.guest()?;
        let handle = w.directory(guest.process)?;
        w.done(me, kill(guest.handle))?;
        for call in calls_by(handle, handle).into_iter().chain([DIRECTORY, symbolic_link(b"a")]) {
            w.refused(guest.process, call, Dying)?;
        }
    }

    /// A handle's type stays what it is, whatever is asked of it.
    /// [NT ObReferenceObjectByHandle: STATUS_OBJECT_TYPE_MISMATCH]
    refusal fn a_refused_call_leaves_the_handle_as_it_was(w) {
        let me = w.first;
        let handle = w.gives(me, symbolic_link(b"a"))?;
        let before = w.info(me, handle)?;
        let good = w.root;
        for call in calls_by(handle, good) {
            // Those that would end or move it are not refused.
            if matches!(call, Call::Close { .. } | Call::Replace { .. } | Call::Transfer { .. } | Call::Kill { .. }) {
                continue;
            }
            let _either = w.tries(me, call);
        }
        w.done(me, inheritable(handle, false))?;
        same(w.info(me, handle)?, before)?;
        same(before.object_type, ObjectType::SymbolicLink.number())?;
    }
}

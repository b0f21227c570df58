//! Paths and symbolic links: down from the handle's directory, never above it, through what each entry grants.

use crate::calls::*;
use crate::row::rows;
use crate::world::same;
use alloc::format;
use alloc::vec::Vec;
use kobj_abi::ErrorCode::{AccessDenied, BadArgument, LinkLoop, NotFound, WrongType};
use kobj_abi::{ObjectType, Operation, Rights};
use kobj_core::CallError;

rows! { Paths:
    /// A path leads through directories. [Linux path_resolution(7)]
    plain fn a_path_leads_through_directories(w) {
        let (me, root) = (w.first, w.root);
        let a = w.named(me, root, b"a")?;
        let b = w.named(me, a, b"b")?;
        let c = w.named(me, b, b"c")?;
        for (path, handle) in [(&b"a"[..], a), (b"a/b", b), (b"a/b/c", c)] {
            let opened = w.gives(me, open(root, path))?;
            same(w.koid(me, opened)?, w.koid(me, handle)?)?;
        }
        let opened = w.gives(me, open(a, b"b/c"))?;
        same(w.koid(me, opened)?, w.koid(me, c)?)?;
    }

    /// A name that is missing on the way is not found, and the refusal says where. [Linux path_resolution(7): ENOENT]
    refusal fn a_missing_name_on_the_way_is_not_found(w) {
        let (me, root) = (w.first, w.root);
        let a = w.named(me, root, b"a")?;
        let _b = w.named(me, a, b"b")?;
        let (at_root, at_a) = (w.koid(me, root)?, w.koid(me, a)?);
        w.refused_as(me, open(root, b"x/b"), CallError::NotFound { directory: at_root })?;
        w.refused_as(me, open(root, b"a/x/c"), CallError::NotFound { directory: at_a })?;
    }

    /// What is no directory is not passed. [Linux path_resolution(7): ENOTDIR]
    refusal fn what_is_no_directory_is_not_passed(w) {
        let (me, root) = (w.first, w.root);
        let job = w.gives(me, create_job(w.job))?;
        w.done(me, link(root, b"job", job))?;
        let koid = w.koid(me, job)?;
        let error = CallError::WrongType { koid, found: ObjectType::Job.number(), operation: Operation::Open };
        w.refused_as(me, open(root, b"job/inside"), error)?;
    }

    /// A directory is passed if its entry grants LOOKUP. [Linux path_resolution(7): search permission, EACCES]
    refusal fn a_directory_is_passed_by_what_its_entry_grants(w) {
        let (me, root) = (w.first, w.root);
        let dark = w.directory(me)?;
        let _inside = w.named(me, dark, b"inside")?;
        let grants = Rights::ENUMERATE | Rights::CREATE | Rights::MANAGE;
        w.done(me, link_most(root, b"dark", dark, only(grants)))?;
        let (koid, missing) = (w.koid(me, dark)?, Rights::LOOKUP);
        let error = CallError::AccessDenied { koid, operation: Operation::Open, missing };
        w.refused_as(me, open(root, b"dark/inside"), error)?;
        w.refused_as(me, open(root, b"dark/missing"), error)?;
        w.gives(me, open(root, b"dark"))?;
        w.gives(me, open(dark, b"inside"))?;
    }

    /// Only the last entry bounds the rights. [docs/semantics.md, open]
    refusal fn only_the_last_entry_bounds_the_rights(w) {
        let (me, root) = (w.first, w.root);
        let a = w.directory(me)?;
        let b = w.directory(me)?;
        w.done(me, link_most(a, b"b", b, only(Rights::CREATE | Rights::REMOVE)))?;
        w.done(me, link_most(root, b"a", a, only(Rights::LOOKUP)))?;
        let opened = w.gives(me, open(root, b"a/b"))?;
        same(w.rights(me, opened)?, Rights::CREATE | Rights::REMOVE)?;
        w.refused(me, open_with(root, b"a/b", only(Rights::LOOKUP)), AccessDenied)?;
    }

    /// The handle's LOOKUP is enough to begin; nothing else of it is asked. [Linux openat2(2): O_PATH]
    plain fn lookup_alone_is_enough_to_begin(w) {
        let (me, root) = (w.first, w.root);
        let a = w.named(me, root, b"a")?;
        let b = w.named(me, a, b"b")?;
        let weak = w.weaker(me, root, Rights::LOOKUP)?;
        let opened = w.gives(me, open(weak, b"a/b"))?;
        same(w.rights(me, opened)?, w.rights(me, b)?)?;
    }

    /// A path neither begins nor ends with a separator, nor has two in a row.
    /// [Linux path_resolution(7) takes them; ours does not]
    refusal fn a_path_has_one_separator_between_names(w) {
        let (me, root) = (w.first, w.root);
        let a = w.named(me, root, b"a")?;
        let _b = w.named(me, a, b"b")?;
        for bad in [&b""[..], b"/", b"/a", b"a/", b"a//b", b"/a/b", b"a/b/", b"//"] {
            w.refused_as(me, open(root, bad), CallError::BadPath { bytes: bad.len() })?;
        }
    }

    /// A path has no dots: it leads down. [Linux openat2(2): RESOLVE_BENEATH allows some; ours none]
    refusal fn a_path_has_no_dots(w) {
        let (me, root) = (w.first, w.root);
        let a = w.named(me, root, b"a")?;
        let _b = w.named(me, a, b"b")?;
        for bad in [&b"."[..], b"..", b"./a", b"a/.", b"a/..", b"a/../a", b"../a", b"a/./b"] {
            w.refused(me, open(root, bad), BadArgument)?;
        }
    }

    /// A path has up to 4096 bytes, each name up to 255, and no NUL.
    /// [Linux path_resolution(7): PATH_MAX, ENAMETOOLONG]
    refusal fn a_path_has_up_to_4096_bytes(w) {
        let (me, root) = (w.first, w.root);
        let directory = w.koid(me, root)?;
        let mut path: Vec<u8> = b"n/".repeat(2047);
        path.extend_from_slice(b"nn");
        same(path.len(), 4096)?;
        w.refused_as(me, open(root, &path), CallError::NotFound { directory })?;
        path.push(b'n');
        w.refused_as(me, open(root, &path), CallError::BadPath { bytes: 4097 })?;
        let mut long = b"a/".to_vec();
        long.extend_from_slice(&[b'n'; 256]);
        w.refused(me, open(root, &long), BadArgument)?;
        w.refused(me, open(root, b"a/b\0"), BadArgument)?;
    }

    /// A symbolic link at the end is followed if that is asked for. [Linux open(2): O_NOFOLLOW]
    plain fn a_link_at_the_end_is_followed_on_request(w) {
        let (me, root) = (w.first, w.root);
        let target = w.named(me, root, b"target")?;
        let held = w.linked(me, root, b"link", b"target")?;
        let followed = w.gives(me, open(root, b"link"))?;
        let itself = w.gives(me, open_link(root, b"link"))?;
        same(w.koid(me, followed)?, w.koid(me, target)?)?;
        same(w.koid(me, itself)?, w.koid(me, held)?)?;
    }

    /// A symbolic link on the way is always followed. [Linux path_resolution(7)]
    plain fn a_link_on_the_way_is_followed(w) {
        let (me, root) = (w.first, w.root);
        let target = w.named(me, root, b"target")?;
        let inside = w.named(me, target, b"inside")?;
        let _held = w.linked(me, root, b"link", b"target")?;
        for call in [open(root, b"link/inside"), open_link(root, b"link/inside")] {
            let opened = w.gives(me, call)?;
            same(w.koid(me, opened)?, w.koid(me, inside)?)?;
        }
    }

    /// A link leads on from the directory in which it stands. [Linux path_resolution(7): relative to its directory]
    plain fn a_link_leads_on_from_its_directory(w) {
        let (me, root) = (w.first, w.root);
        let a = w.named(me, root, b"a")?;
        let _outer = w.named(me, root, b"target")?;
        let inner = w.named(me, a, b"target")?;
        let _held = w.linked(me, a, b"link", b"target")?;
        let opened = w.gives(me, open(root, b"a/link"))?;
        same(w.koid(me, opened)?, w.koid(me, inner)?)?;
    }

    /// A link can lead up and down again, and to a directory itself. [Linux path_resolution(7): ..]
    plain fn a_link_can_lead_up(w) {
        let (me, root) = (w.first, w.root);
        let a = w.named(me, root, b"a")?;
        let b = w.named(me, a, b"b")?;
        let target = w.named(me, root, b"target")?;
        let (_two_up, _one_up) = (w.linked(me, b, b"up", b"../../target")?, w.linked(me, b, b"above", b"..")?);
        let opened = w.gives(me, open(root, b"a/b/up"))?;
        same(w.koid(me, opened)?, w.koid(me, target)?)?;
        let opened = w.gives(me, open(root, b"a/b/above"))?;
        same(w.koid(me, opened)?, w.koid(me, a)?)?;
    }

    /// No link leads above where one started, though there is a directory. [Linux openat2(2): RESOLVE_BENEATH, EXDEV]
    refusal fn no_link_leads_above_the_start(w) {
        let (me, root) = (w.first, w.root);
        let a = w.named(me, root, b"a")?;
        let _target = w.named(me, root, b"target")?;
        let _held = w.linked(me, a, b"up", b"../target")?;
        w.gives(me, open(root, b"a/up"))?;
        let directory = w.koid(me, a)?;
        w.refused_as(me, open(a, b"up"), CallError::AboveStart { directory })?;
    }

    /// Not even to come back down. [Linux openat2(2): RESOLVE_BENEATH refuses leaving at all]
    refusal fn nor_does_it_come_back(w) {
        let (me, root) = (w.first, w.root);
        let a = w.named(me, root, b"a")?;
        let _inside = w.named(me, a, b"inside")?;
        let _held = w.linked(me, a, b"around", b"../a/inside")?;
        w.gives(me, open(root, b"a/around"))?;
        w.refused(me, open(a, b"around"), BadArgument)?;
    }

    /// A link to itself is refused. [Linux path_resolution(7): ELOOP]
    refusal fn a_link_to_itself_is_refused(w) {
        let (me, root) = (w.first, w.root);
        let _held = w.linked(me, root, b"link", b"link")?;
        let directory = w.koid(me, root)?;
        w.refused_as(me, open(root, b"link"), CallError::LinkLoop { directory })?;
        w.refused(me, open(root, b"link/below"), LinkLoop)?;
        w.gives(me, open_link(root, b"link"))?;
    }

    /// Links that lead to each other are refused. [Linux path_resolution(7): ELOOP]
    refusal fn links_to_each_other_are_refused(w) {
        let (me, root) = (w.first, w.root);
        let (_one, _two) = (w.linked(me, root, b"one", b"two")?, w.linked(me, root, b"two", b"one")?);
        w.refused(me, open(root, b"one"), LinkLoop)?;
        w.refused(me, open(root, b"two"), LinkLoop)?;
    }

    /// 32 links are followed, not 33. [Linux path_resolution(7): 40]
    refusal fn no_more_than_32_links_are_followed(w) {
        let (me, root) = (w.first, w.root);
        let target = w.named(me, root, b"link-0")?;
        let mut links = Vec::new();
        for number in 1..=33 {
            let (name, leads_to) = (format!("link-{number}"), format!("link-{}", number - 1));
            links.push(w.linked(me, root, name.as_bytes(), leads_to.as_bytes())?);
        }
        let opened = w.gives(me, open(root, b"link-32"))?;
        same(w.koid(me, opened)?, w.koid(me, target)?)?;
        w.refused(me, open(root, b"link-33"), LinkLoop)?;
    }

    /// A link that leads nowhere is not found. [Linux path_resolution(7): ENOENT for a dangling link]
    refusal fn a_link_that_leads_nowhere_is_not_found(w) {
        let (me, root) = (w.first, w.root);
        let _held = w.linked(me, root, b"link", b"missing")?;
        w.refused(me, open(root, b"link"), NotFound)?;
        w.gives(me, open_link(root, b"link"))?;
        let _late = w.named(me, root, b"missing")?;
        w.gives(me, open(root, b"link"))?;
    }

    /// A link gives no way through a directory that grants no LOOKUP. [Linux path_resolution(7): EACCES]
    refusal fn a_link_gives_no_way_through_the_dark(w) {
        let (me, root) = (w.first, w.root);
        let dark = w.directory(me)?;
        let _inside = w.named(me, dark, b"inside")?;
        w.done(me, link_most(root, b"dark", dark, only(Rights::ENUMERATE)))?;
        let _held = w.linked(me, root, b"link", b"dark/inside")?;
        w.refused(me, open(root, b"link"), AccessDenied)?;
    }

    /// What the link's own entry grants bounds the link, not what it leads to. [docs/semantics.md, open]
    refusal fn a_link_bounds_nothing_but_itself(w) {
        let (me, root) = (w.first, w.root);
        let target = w.directory(me)?;
        w.done(me, link_most(root, b"target", target, only(Rights::LOOKUP | Rights::CREATE)))?;
        let held = w.gives(me, symbolic_link(b"target"))?;
        w.done(me, link_most(root, b"link", held, NOTHING))?;
        let opened = w.gives(me, open(root, b"link"))?;
        same(w.rights(me, opened)?, Rights::LOOKUP | Rights::CREATE)?;
        w.refused(me, open_with(root, b"link", only(Rights::REMOVE)), AccessDenied)?;
        let itself = w.gives(me, open_link(root, b"link"))?;
        w.refused(me, read_link(itself), AccessDenied)?;
    }

    /// The expected type is that of what a link leads to. [NT ObReferenceObjectByHandle: STATUS_OBJECT_TYPE_MISMATCH]
    refusal fn the_expected_type_is_the_targets(w) {
        let (me, root) = (w.first, w.root);
        let _target = w.named(me, root, b"target")?;
        let _held = w.linked(me, root, b"link", b"target")?;
        w.gives(me, open_typed(root, b"link", ObjectType::Directory))?;
        w.refused(me, open_typed(root, b"link", ObjectType::SymbolicLink), WrongType)?;
    }

    /// A link says where it leads as it was given. [NT ZwQuerySymbolicLinkObject; Linux readlink(2)]
    plain fn a_link_says_where_it_leads(w) {
        let me = w.first;
        for target in [&b"a"[..], b"../../a/b", b"..", b"\xff/\x01", b"..."] {
            let handle = w.gives(me, symbolic_link(target))?;
            same(w.target(me, handle)?.as_slice(), target)?;
        }
    }

    /// A target is a path that may begin with dots: nothing else is taken. [Linux symlink(2) takes anything]
    refusal fn a_target_is_a_path(w) {
        let me = w.first;
        let before = w.live();
        for bad in [&b""[..], b"/", b"/a", b"a/", b"a//b", b".", b"a/..", b"a/../b", b"../", b"../.", b"a\0"] {
            w.refused_as(me, symbolic_link(bad), CallError::BadPath { bytes: bad.len() })?;
        }
        w.refused_as(me, symbolic_link(&b"n/".repeat(2049)), CallError::BadPath { bytes: 4098 })?;
        same(w.live(), before)?;
    }

    /// A renamed directory is passed by its new name; one that lost its name not at all. [Linux rename(2)]
    order fn a_path_uses_the_names_of_the_moment(w) {
        let (me, root) = (w.first, w.root);
        let a = w.named(me, root, b"a")?;
        let b = w.named(me, a, b"b")?;
        w.done(me, rename(root, b"a", b"z"))?;
        w.refused(me, open(root, b"a/b"), NotFound)?;
        let opened = w.gives(me, open(root, b"z/b"))?;
        same(w.koid(me, opened)?, w.koid(me, b)?)?;
        w.done(me, unlink(root, b"z"))?;
        w.refused(me, open(root, b"z/b"), NotFound)?;
        w.gives(me, open(a, b"b"))?;
    }

    /// Up from a directory that has no name any more there is nothing.
    /// [Linux rmdir(2): a removed directory has no parent]
    refusal fn up_from_the_nameless_there_is_nothing(w) {
        let (me, root) = (w.first, w.root);
        let a = w.named(me, root, b"a")?;
        let b = w.named(me, a, b"b")?;
        let _held = w.linked(me, b, b"up", b"../../a")?;
        w.gives(me, open(root, b"a/b/up"))?;
        w.done(me, unlink(root, b"a"))?;
        w.refused(me, open(a, b"b/up"), BadArgument)?;
    }
}

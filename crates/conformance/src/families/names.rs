//! Names: an object has one at most, it grants at most what its linker had, and it goes with the last handle.

use crate::calls::*;
use crate::row::rows;
use crate::world::{differ, holds, same};
use kobj_abi::ErrorCode::{AccessDenied, BadArgument, Cycle, NotFound, TooDeep, WrongName, WrongType};
use kobj_abi::{ObjectType, Rights};
use kobj_core::{Call, CallError, What};

rows! { Names:
    /// What is named can be opened by its name. [NT NtOpenDirectoryObject]
    plain fn what_is_named_can_be_opened(w) {
        let (me, root) = (w.first, w.root);
        let handle = w.named(me, root, b"object")?;
        let opened = w.gives(me, open(root, b"object"))?;
        differ(opened, handle)?;
        same(w.koid(me, opened)?, w.koid(me, handle)?)?;
    }

    /// What has no such name is not found. [NT NtOpenDirectoryObject: STATUS_OBJECT_NAME_NOT_FOUND]
    refusal fn what_has_no_name_is_not_found(w) {
        let (me, root) = (w.first, w.root);
        let directory = w.koid(me, root)?;
        let _held = w.named(me, root, b"object")?;
        for missing in [&b"objec"[..], b"objects", b"Object", b"object ", b"a"] {
            w.refused_as(me, open(root, missing), CallError::NotFound { directory })?;
        }
    }

    /// A name grants at most what it was linked with.
    /// [NT InitializeObjectAttributes: the object's security descriptor]
    refusal fn a_name_grants_what_it_was_linked_with(w) {
        let (me, root) = (w.first, w.root);
        let handle = w.directory(me)?;
        let most = Rights::LOOKUP | Rights::ENUMERATE;
        w.done(me, link_most(root, b"object", handle, only(most)))?;
        let opened = w.gives(me, open(root, b"object"))?;
        same(w.rights(me, opened)?, most)?;
        let koid = w.koid(me, handle)?;
        for asked in [most | Rights::CREATE, Rights::DUPLICATE] {
            let refused = CallError::TooManyRights { koid, object_type: ObjectType::Directory.number(), asked, most };
            w.refused_as(me, open_with(root, b"object", only(asked)), refused)?;
        }
    }

    /// Opening gives exactly the rights that were asked for. [NT NtOpenDirectoryObject: DesiredAccess]
    plain fn opening_gives_the_rights_asked_for(w) {
        let (me, root) = (w.first, w.root);
        let _held = w.named(me, root, b"object")?;
        for rights in [Rights::LOOKUP, Rights::NONE, Rights::DUPLICATE | Rights::MANAGE] {
            let opened = w.gives(me, open_with(root, b"object", only(rights)))?;
            same(w.rights(me, opened)?, rights)?;
        }
    }

    /// Whoever links gives no more than it has. [docs/semantics.md, link]
    refusal fn a_linker_gives_no_more_than_it_has(w) {
        let (me, root) = (w.first, w.root);
        let full = w.directory(me)?;
        let weak = w.weaker(me, full, Rights::DUPLICATE | Rights::LOOKUP)?;
        let more = only(Rights::LOOKUP | Rights::CREATE);
        w.refused(me, link_most(root, b"object", weak, more), AccessDenied)?;
        w.done(me, link(root, b"object", weak))?;
        let opened = w.gives(me, open(root, b"object"))?;
        same(w.rights(me, opened)?, Rights::DUPLICATE | Rights::LOOKUP)?;
    }

    /// Opening with a reserved bit is refused, and so is linking. [docs/semantics.md]
    refusal fn reserved_bits_are_refused_by_name(w) {
        let (me, root) = (w.first, w.root);
        let _held = w.named(me, root, b"object")?;
        let free = w.directory(me)?;
        let asked = only(Rights::from_bits(1 << 14));
        w.refused(me, open_with(root, b"object", asked), BadArgument)?;
        w.refused(me, link_most(root, b"free", free, asked), BadArgument)?;
        w.refused(me, open_or_create(root, b"new", asked), BadArgument)?;
        same(w.names(me, root)?.as_str(), "object")?;
    }

    /// A name that is taken is refused, and the refusal says by what.
    /// [NT STATUS_OBJECT_NAME_COLLISION; Linux link(2)]
    refusal fn a_taken_name_is_refused(w) {
        let (me, root) = (w.first, w.root);
        let held = w.named(me, root, b"object")?;
        let koid = w.koid(me, held)?;
        let other = w.directory(me)?;
        w.refused_as(me, link(root, b"object", other), CallError::NameExists { koid })?;
        w.done(me, link(root, b"other", other))?;
    }

    /// An object has one name. [NT: an object has one name; Linux link(2) gives more]
    refusal fn an_object_has_one_name(w) {
        let (me, root) = (w.first, w.root);
        let inner = w.named(me, root, b"inner")?;
        let held = w.named(me, root, b"object")?;
        let koid = w.koid(me, held)?;
        w.refused_as(me, link(root, b"second", held), CallError::AlreadyNamed { koid })?;
        w.refused_as(me, link(inner, b"object", held), CallError::AlreadyNamed { koid })?;
        w.done(me, unlink(root, b"object"))?;
        w.done(me, link(inner, b"object", held))?;
    }

    /// Names are bytes: case and encoding make a difference.
    /// [NT InitializeObjectAttributes: OBJ_CASE_INSENSITIVE is asked for; Linux path_resolution(7)]
    plain fn names_are_bytes(w) {
        let (me, root) = (w.first, w.root);
        for name in [&b"a"[..], b"A", b"\xc3\xa4", b"a\xcc\x88", b"\xff\xfe", b" ", b"...", b"\\", b"\x01"] {
            let handle = w.named(me, root, name)?;
            let opened = w.gives(me, open(root, name))?;
            same(w.koid(me, opened)?, w.koid(me, handle)?)?;
        }
        same(w.list(me, root)?.len(), 9)?;
    }

    /// A name has 1 to 255 bytes. [Linux path_resolution(7): NAME_MAX, ENAMETOOLONG]
    refusal fn a_name_has_up_to_255_bytes(w) {
        let (me, root) = (w.first, w.root);
        let _longest = w.named(me, root, &[b'n'; 255])?;
        w.gives(me, open(root, &[b'n'; 255]))?;
        let free = w.directory(me)?;
        w.refused_as(me, link(root, &[b'n'; 256], free), CallError::BadName { bytes: 256 })?;
        w.refused_as(me, link(root, b"", free), CallError::BadName { bytes: 0 })?;
        w.done(me, link(root, b"n", free))?;
    }

    /// The same name in two directories names two objects. [NT ZwCreateDirectoryObject]
    plain fn directories_are_apart(w) {
        let (me, root) = (w.first, w.root);
        let (one, two) = (w.named(me, root, b"one")?, w.named(me, root, b"two")?);
        let (in_one, in_two) = (w.named(me, one, b"name")?, w.named(me, two, b"name")?);
        let (by_one, by_two) = (w.gives(me, open(one, b"name"))?, w.gives(me, open(two, b"name"))?);
        same((w.koid(me, by_one)?, w.koid(me, by_two)?), (w.koid(me, in_one)?, w.koid(me, in_two)?))?;
    }

    /// A temporary name goes with the last handle. [NT ZwMakeTemporaryObject: a name only while handles exist]
    refusal fn a_name_goes_with_the_last_handle(w) {
        let (me, root) = (w.first, w.root);
        let live = w.live();
        let handle = w.named(me, root, b"object")?;
        let opened = w.gives(me, open(root, b"object"))?;
        w.done(me, close(handle))?;
        same(w.names(me, root)?.as_str(), "object")?;
        w.done(me, close(opened))?;
        w.refused(me, open(root, b"object"), NotFound)?;
        same((w.names(me, root)?.as_str(), w.live()), ("", live))?;
    }

    /// A handle in another process keeps the name as well.
    /// [NT ZwMakeTemporaryObject: the handle count is the system's]
    plain fn any_process_keeps_the_name(w) {
        let (me, root) = (w.first, w.root);
        let guest = w.guest()?;
        let handle = w.named(me, root, b"object")?;
        let there = w.share(handle, guest)?;
        w.done(me, close(handle))?;
        same(w.names(me, root)?.as_str(), "object")?;
        w.done(guest.process, close(there))?;
        same(w.names(me, root)?.as_str(), "")?;
    }

    /// What lost its name works on through its handles. [Linux unlink(2): open descriptors stay]
    refusal fn what_is_unlinked_works_on(w) {
        let (me, root) = (w.first, w.root);
        let handle = w.named(me, root, b"object")?;
        w.done(me, unlink(root, b"object"))?;
        w.refused(me, open(root, b"object"), NotFound)?;
        let _inside = w.named(me, handle, b"inside")?;
        same(w.names(me, handle)?.as_str(), "inside")?;
        w.refused(me, unlink(root, b"object"), NotFound)?;
    }

    /// A name that was taken away is free. [Linux unlink(2)]
    order fn an_unlinked_name_is_free(w) {
        let (me, root) = (w.first, w.root);
        let old = w.named(me, root, b"object")?;
        w.done(me, unlink(root, b"object"))?;
        let new = w.named(me, root, b"object")?;
        w.done(me, close(old))?;
        let opened = w.gives(me, open(root, b"object"))?;
        same(w.koid(me, opened)?, w.koid(me, new)?)?;
    }

    /// A directory that contains names can be unlinked.
    /// [Linux rmdir(2): ENOTEMPTY; ours keeps working by its handles]
    plain fn a_full_directory_can_be_unlinked(w) {
        let (me, root) = (w.first, w.root);
        let outer = w.named(me, root, b"outer")?;
        let inner = w.named(me, outer, b"inner")?;
        w.done(me, unlink(root, b"outer"))?;
        let opened = w.gives(me, open(outer, b"inner"))?;
        same(w.koid(me, opened)?, w.koid(me, inner)?)?;
    }

    /// When a directory is destroyed, what it named has no name and can get another. [docs/semantics.md, unlink]
    order fn a_destroyed_directory_takes_its_names_away(w) {
        let (me, root) = (w.first, w.root);
        let outer = w.named(me, root, b"outer")?;
        let inner = w.named(me, outer, b"inner")?;
        w.refused(me, link(root, b"inner", inner), WrongName)?;
        w.done(me, close(outer))?;
        w.refused(me, open(root, b"outer/inner"), NotFound)?;
        w.done(me, link(root, b"inner", inner))?;
    }

    /// A directory cannot be named in itself. [Linux rename(2): EINVAL]
    refusal fn a_directory_is_not_named_in_itself(w) {
        let me = w.first;
        let handle = w.directory(me)?;
        let koid = w.koid(me, handle)?;
        w.refused_as(me, link(handle, b"itself", handle), CallError::Cycle { koid })?;
    }

    /// Nor below itself. [Linux rename(2): EINVAL]
    refusal fn a_directory_is_not_named_below_itself(w) {
        let me = w.first;
        let top = w.directory(me)?;
        let middle = w.named(me, top, b"middle")?;
        let bottom = w.named(me, middle, b"bottom")?;
        w.refused(me, link(bottom, b"top", top), Cycle)?;
        w.refused(me, link(middle, b"top", top), Cycle)?;
        w.done(me, unlink(top, b"middle"))?;
        w.done(me, link(bottom, b"top", top))?;
    }

    /// 64 directories stand above one at most. [Zircon zx_job_create: max height; Linux: PATH_MAX]
    refusal fn directories_nest_64_deep(w) {
        let me = w.first;
        let top = w.directory(me)?;
        let mut bottom = top;
        for _ in 0..64 {
            bottom = w.named(me, bottom, b"d")?;
        }
        let koid = w.koid(me, bottom)?;
        let below = w.directory(me)?;
        w.refused_as(me, link(bottom, b"d", below), CallError::TooDeep { koid, most: 64 })?;
        w.refused(me, create_new(bottom, b"d", SAME), TooDeep)?;
        let _link = w.linked(me, bottom, b"link", b"d")?;
    }

    /// The root directory stands in no other: who named it deep would leave others no depth for their names.
    /// [docs/semantics.md, link]
    refusal fn the_root_directory_stands_in_no_other(w) {
        let (me, root) = (w.first, w.root);
        let koid = w.koid(me, root)?;
        let mut bottom = w.directory(me)?;
        for _ in 0..60 {
            bottom = w.named(me, bottom, b"d")?;
        }
        for call in [link(bottom, b"root", root), link_permanently(bottom, b"root", root), link(root, b"root", root)] {
            w.refused_as(me, call, CallError::RootDirectory { koid })?;
        }
        let mut others = root;
        for _ in 0..60 {
            others = w.named(me, others, b"d")?;
        }
    }

    /// Two trees are not joined to a deeper one. [docs/semantics.md, link]
    refusal fn trees_are_not_joined_too_deep(w) {
        let me = w.first;
        let (upper, lower) = (w.directory(me)?, w.directory(me)?);
        let (mut bottom, mut below) = (upper, lower);
        for _ in 0..40 {
            bottom = w.named(me, bottom, b"d")?;
            below = w.named(me, below, b"d")?;
        }
        w.refused(me, link(bottom, b"lower", lower), TooDeep)?;
        w.done(me, link(upper, b"lower", lower))?;
    }

    /// Jobs, guests and symbolic links can be named, too. [NT InitializeObjectAttributes: every named type]
    plain fn every_type_can_be_named(w) {
        let (me, root) = (w.first, w.root);
        let job = w.gives(me, create_job(w.job))?;
        let guest = w.guest()?;
        let target = w.gives(me, symbolic_link(b"a"))?;
        w.done(me, link(root, b"job", job))?;
        w.done(me, link(root, b"guest", guest.handle))?;
        w.done(me, link(root, b"link", target))?;
        for (name, handle) in [(&b"job"[..], job), (b"guest", guest.handle), (b"link", target)] {
            let opened = w.gives(me, open_link(root, name))?;
            same(w.koid(me, opened)?, w.koid(me, handle)?)?;
        }
    }

    /// Another type than the expected one is refused. [NT ObReferenceObjectByHandle: STATUS_OBJECT_TYPE_MISMATCH]
    refusal fn another_type_is_refused(w) {
        let (me, root) = (w.first, w.root);
        let held = w.named(me, root, b"object")?;
        let (found, expected) = (ObjectType::Directory.number(), ObjectType::Job.number());
        let koid = w.koid(me, held)?;
        let error = CallError::UnexpectedType { koid, found, expected };
        w.refused_as(me, open_typed(root, b"object", ObjectType::Job), error)?;
        w.gives(me, open_typed(root, b"object", ObjectType::Directory))?;
    }

    /// A renamed object is found by its new name alone. [Linux rename(2)]
    refusal fn a_renamed_object_has_its_new_name_alone(w) {
        let (me, root) = (w.first, w.root);
        let handle = w.named(me, root, b"old")?;
        w.done(me, rename(root, b"old", b"new"))?;
        w.refused(me, open(root, b"old"), NotFound)?;
        let opened = w.gives(me, open(root, b"new"))?;
        same(w.koid(me, opened)?, w.koid(me, handle)?)?;
        w.refused(me, link(root, b"third", handle), WrongName)?;
    }

    /// Renaming replaces nothing. [Linux renameat2(2): RENAME_NOREPLACE, EEXIST]
    refusal fn renaming_replaces_nothing(w) {
        let (me, root) = (w.first, w.root);
        let (_one, two) = (w.named(me, root, b"one")?, w.named(me, root, b"two")?);
        let koid = w.koid(me, two)?;
        w.refused_as(me, rename(root, b"one", b"two"), CallError::NameExists { koid })?;
        same(w.names(me, root)?.as_str(), "one two")?;
    }

    /// Renaming to the same name does nothing. [Linux rename(2): does nothing and succeeds]
    plain fn renaming_to_the_same_name_does_nothing(w) {
        let (me, root) = (w.first, w.root);
        let (_one, _two) = (w.named(me, root, b"one")?, w.named(me, root, b"two")?);
        w.done(me, rename(root, b"one", b"one"))?;
        same(w.names(me, root)?.as_str(), "one two")?;
    }

    /// What is missing is not renamed. [Linux rename(2): ENOENT]
    refusal fn what_is_missing_is_not_renamed(w) {
        let (me, root) = (w.first, w.root);
        let directory = w.koid(me, root)?;
        w.refused_as(me, rename(root, b"a", b"b"), CallError::NotFound { directory })?;
        w.refused_as(me, rename(root, b"a", b"a"), CallError::NotFound { directory })?;
    }

    /// Renaming changes neither the rights that the name grants nor its permanence. [docs/semantics.md, rename]
    plain fn renaming_keeps_what_the_name_grants(w) {
        let (me, root) = (w.first, w.root);
        let handle = w.directory(me)?;
        w.done(me, link_most(root, b"old", handle, only(Rights::LOOKUP)))?;
        let before = w.list(me, root)?;
        w.done(me, rename(root, b"old", b"new"))?;
        let after = w.list(me, root)?;
        same((after[0].most, after[0].permanent), (before[0].most, before[0].permanent))?;
        same(after[0].most, Rights::LOOKUP)?;
    }

    /// Open or create makes what is missing and says so, and opens it the second time.
    /// [NT InitializeObjectAttributes: OBJ_OPENIF]
    order fn open_or_create_makes_once(w) {
        let (me, root) = (w.first, w.root);
        let live = w.live();
        let (one, created) = w.opened(me, open_or_create(root, b"object", SAME))?;
        holds(created, "the first one makes it")?;
        let (two, created) = w.opened(me, open_or_create(root, b"object", SAME))?;
        holds(!created, "the second one opens it")?;
        same(w.koid(me, one)?, w.koid(me, two)?)?;
        same(w.live(), live + 1)?;
    }

    /// With exclusive a taken name is refused.
    /// [NT InitializeObjectAttributes without OBJ_OPENIF: STATUS_OBJECT_NAME_COLLISION; Linux open(2): O_EXCL]
    refusal fn exclusive_refuses_a_taken_name(w) {
        let (me, root) = (w.first, w.root);
        let (one, created) = w.opened(me, create_new(root, b"object", SAME))?;
        holds(created, "it is new")?;
        let koid = w.koid(me, one)?;
        w.refused_as(me, create_new(root, b"object", SAME), CallError::NameExists { koid })?;
    }

    /// Open or create opens no other type. [NT ObReferenceObjectByHandle: STATUS_OBJECT_TYPE_MISMATCH]
    refusal fn open_or_create_opens_no_other_type(w) {
        let (me, root) = (w.first, w.root);
        let _held = w.named(me, root, b"object")?;
        let what = What::SymbolicLink { target: b"a" };
        let call = Call::OpenOrCreate { directory: root, name: b"object", what, rights: SAME, exclusive: false };
        w.refused(me, call, WrongType)?;
    }

    /// Open or create does not follow a symbolic link: the name is the link's.
    /// [Linux open(2): O_CREAT with O_NOFOLLOW]
    refusal fn open_or_create_follows_nothing(w) {
        let (me, root) = (w.first, w.root);
        let _target = w.named(me, root, b"target")?;
        let held = w.linked(me, root, b"link", b"target")?;
        w.refused(me, open_or_create(root, b"link", SAME), WrongType)?;
        let what = What::SymbolicLink { target: b"elsewhere" };
        let call = Call::OpenOrCreate { directory: root, name: b"link", what, rights: SAME, exclusive: false };
        let (opened, created) = w.opened(me, call)?;
        same((w.koid(me, opened)?, created), (w.koid(me, held)?, false))?;
        same(w.target(me, opened)?.as_slice(), b"target")?;
    }

    /// What is opened so has no more rights than its name grants.
    /// [NT InitializeObjectAttributes: OBJ_OPENIF opens with an access check]
    refusal fn open_or_create_grants_no_more(w) {
        let (me, root) = (w.first, w.root);
        let handle = w.directory(me)?;
        w.done(me, link_most(root, b"object", handle, only(Rights::LOOKUP)))?;
        w.refused(me, open_or_create(root, b"object", only(Rights::CREATE)), AccessDenied)?;
        let (opened, _) = w.opened(me, open_or_create(root, b"object", SAME))?;
        same(w.rights(me, opened)?, Rights::LOOKUP)?;
    }

    /// A type's rights are the most that a new object's maker gets. [docs/semantics.md, open_or_create]
    refusal fn a_new_object_grants_no_more_than_its_type(w) {
        let (me, root) = (w.first, w.root);
        let all = ObjectType::Directory.default_rights();
        w.refused(me, open_or_create(root, b"object", only(all | Rights::SIGNAL)), AccessDenied)?;
        same(w.names(me, root)?.as_str(), "")?;
        let (made, _) = w.opened(me, open_or_create(root, b"object", only(Rights::LOOKUP)))?;
        same(w.rights(me, made)?, Rights::LOOKUP)?;
    }

    /// The name of a new object grants what its maker asked for, and no more to anybody. [docs/semantics.md, open_or_create]
    refusal fn a_new_name_grants_what_its_maker_asked_for(w) {
        let (me, root) = (w.first, w.root);
        let asked = Rights::LOOKUP | Rights::ENUMERATE;
        let (_made, _) = w.opened(me, open_or_create(root, b"object", only(asked)))?;
        same(w.list(me, root)?[0].most, asked)?;
        let opened = w.gives(me, open(root, b"object"))?;
        same(w.rights(me, opened)?, asked)?;
        w.refused(me, open_with(root, b"object", only(asked | Rights::CREATE)), AccessDenied)?;
    }

    /// A name made so is temporary. [NT InitializeObjectAttributes: temporary without OBJ_PERMANENT]
    refusal fn a_name_made_in_one_step_is_temporary(w) {
        let (me, root) = (w.first, w.root);
        let live = w.live();
        let (handle, _) = w.opened(me, open_or_create(root, b"object", SAME))?;
        w.done(me, close(handle))?;
        w.refused(me, open(root, b"object"), NotFound)?;
        same(w.live(), live)?;
    }

    /// Only a directory has names. [NT InitializeObjectAttributes: RootDirectory is a directory object]
    refusal fn only_a_directory_has_names(w) {
        let (me, job) = (w.first, w.job);
        let target = w.gives(me, symbolic_link(b"a"))?;
        let free = w.directory(me)?;
        for handle in [job, target] {
            w.refused(me, link(handle, b"a", free), WrongType)?;
            w.refused(me, open(handle, b"a"), WrongType)?;
        }
        w.refused(me, enumerate(target, 0), WrongType)?;
    }

    /// Many names are each found. [NT ZwCreateDirectoryObject]
    plain fn many_names_are_found(w) {
        let (me, root) = (w.first, w.root);
        let mut koids = alloc::vec::Vec::new();
        for number in 0..500 {
            let handle = w.named(me, root, alloc::format!("name-{number}").as_bytes())?;
            koids.push(w.koid(me, handle)?);
        }
        for (number, koid) in koids.into_iter().enumerate() {
            let opened = w.gives(me, open(root, alloc::format!("name-{number}").as_bytes()))?;
            same(w.koid(me, opened)?, koid)?;
            w.done(me, close(opened))?;
        }
    }
}

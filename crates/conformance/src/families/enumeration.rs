//! Listing: in the order of linking, and what is there throughout is seen exactly once.

use crate::calls::*;
use crate::row::rows;
use crate::world::{same, words};
use alloc::format;
use alloc::vec::Vec;
use kobj_abi::ErrorCode::{AccessDenied, BadHandle};
use kobj_abi::{ObjectType, Rights};

/// The handles to the directories a, b, c and so on in a directory of a row.
macro_rules! letters {
    ($w:ident, $directory:expr, $($name:literal)*) => {
        [$($w.named($w.first, $directory, $name)?),*]
    };
}

rows! { Enumeration:
    /// An empty directory has no entries. [NT NtQueryDirectoryObject]
    plain fn an_empty_directory_has_no_entries(w) {
        let me = w.first;
        let directory = w.directory(me)?;
        same(w.next(me, directory, 0)?, None)?;
        same(w.next(me, directory, 0)?, None)?;
    }

    /// Entries come in the order in which they were linked. [Linux readdir(3) promises none]
    plain fn entries_come_in_the_order_of_linking(w) {
        let me = w.first;
        let d = w.directory(me)?;
        let _held = letters!(w, d, b"m" b"a" b"z" b"b");
        same(w.names(me, d)?.as_str(), "m a z b")?;
    }

    /// An entry says object, type, rights and permanence. [NT NtQueryDirectoryObject: name and type]
    plain fn an_entry_says_what_it_names(w) {
        let me = w.first;
        let d = w.directory(me)?;
        let target = w.gives(me, symbolic_link(b"a"))?;
        w.done(me, link_permanently(d, b"link", target))?;
        let job = w.gives(me, create_job(w.job))?;
        w.done(me, link_most(d, b"job", job, only(Rights::INSPECT)))?;
        let list = w.list(me, d)?;
        let seen: Vec<_> = list.iter().map(|e| (e.koid, e.object_type, e.most, e.permanent)).collect();
        let (link_koid, job_koid) = (w.koid(me, target)?, w.koid(me, job)?);
        let all = ObjectType::SymbolicLink.default_rights();
        same(seen, Vec::from([
            (link_koid, ObjectType::SymbolicLink.number(), all, true),
            (job_koid, ObjectType::Job.number(), Rights::INSPECT, false),
        ]))?;
    }

    /// Cursors differ, and each goes on where it was given, again and again. [NT NtQueryDirectoryObject: Context]
    plain fn a_cursor_goes_on_where_it_was_given(w) {
        let me = w.first;
        let d = w.directory(me)?;
        let _held = letters!(w, d, b"a" b"b" b"c" b"d");
        let list = w.list(me, d)?;
        for (at, entry) in list.iter().enumerate() {
            for _ in 0..2 {
                let rest = w.list_from(me, d, entry.cursor)?;
                same(rest.as_slice(), &list[at + 1..])?;
            }
        }
    }

    /// A new name comes last, and is seen by whoever is under way. [Linux readdir(3): may or may not be]
    order fn a_new_name_comes_last(w) {
        let me = w.first;
        let d = w.directory(me)?;
        let _held = letters!(w, d, b"m" b"n");
        let first = w.list(me, d)?[0].cursor;
        let _late = letters!(w, d, b"a");
        same(words(&w.list_from(me, d, first)?).as_str(), "n a")?;
        same(w.names(me, d)?.as_str(), "m n a")?;
    }

    /// A rename keeps the place: nothing is seen twice, nothing is missed. [Linux readdir(3): may be seen twice]
    order fn a_rename_keeps_its_place(w) {
        let me = w.first;
        let d = w.directory(me)?;
        let _held = letters!(w, d, b"a" b"b" b"c" b"d");
        let second = w.list(me, d)?[1].cursor;
        w.done(me, rename(d, b"a", b"x"))?;
        w.done(me, rename(d, b"d", b"y"))?;
        same(words(&w.list_from(me, d, second)?).as_str(), "c y")?;
        same(w.names(me, d)?.as_str(), "x b c y")?;
    }

    /// What was seen and removed does not move the others. [NT NtQueryDirectoryObject promises nothing under change]
    order fn removing_what_was_seen_skips_nothing(w) {
        let me = w.first;
        let d = w.directory(me)?;
        let _held = letters!(w, d, b"a" b"b" b"c" b"d");
        let second = w.list(me, d)?[1].cursor;
        w.done(me, unlink(d, b"a"))?;
        same(words(&w.list_from(me, d, second)?).as_str(), "c d")?;
    }

    /// The entry of the cursor itself can be removed: the listing goes on behind it.
    /// [Linux readdir(3): may or may not be seen]
    order fn removing_the_last_seen_skips_nothing(w) {
        let me = w.first;
        let d = w.directory(me)?;
        let _held = letters!(w, d, b"a" b"b" b"c" b"d");
        let second = w.list(me, d)?[1].cursor;
        w.done(me, unlink(d, b"b"))?;
        same(words(&w.list_from(me, d, second)?).as_str(), "c d")?;
        w.done(me, unlink(d, b"c"))?;
        same(words(&w.list_from(me, d, second)?).as_str(), "d")?;
        w.done(me, unlink(d, b"d"))?;
        same(words(&w.list_from(me, d, second)?).as_str(), "")?;
    }

    /// What is removed before it was seen is not seen. [Linux readdir(3): may still be]
    order fn what_was_removed_is_not_seen(w) {
        let me = w.first;
        let d = w.directory(me)?;
        let held = letters!(w, d, b"a" b"b" b"c");
        let first = w.list(me, d)?[0].cursor;
        w.done(me, close(held[1]))?;
        same(words(&w.list_from(me, d, first)?).as_str(), "c")?;
    }

    /// A name that is linked again comes last. [docs/semantics.md, enumerate]
    order fn a_name_linked_again_comes_last(w) {
        let me = w.first;
        let d = w.directory(me)?;
        let held = letters!(w, d, b"a" b"b" b"c");
        let first = w.list(me, d)?[0].cursor;
        w.done(me, unlink(d, b"b"))?;
        w.done(me, link(d, b"b", held[1]))?;
        same(words(&w.list_from(me, d, first)?).as_str(), "c b")?;
    }

    /// What is there throughout is seen exactly once, whatever else comes and goes. [docs/semantics.md, enumerate]
    order fn what_stays_is_seen_once(w) {
        let me = w.first;
        let d = w.directory(me)?;
        let mut stays = Vec::new();
        for number in 0..60 {
            stays.push(w.named(me, d, format!("stays-{number}").as_bytes())?);
            let goes = w.named(me, d, format!("goes-{number}").as_bytes())?;
            stays.push(goes);
        }
        let (mut seen, mut cursor, mut step) = (Vec::new(), 0, 0);
        while let Some(entry) = w.next(me, d, cursor)? {
            cursor = entry.cursor;
            let name = entry.name.as_bytes().to_vec();
            if name.starts_with(b"stays-") {
                seen.push(name);
            }
            // One goes before or behind the cursor, one that stays is renamed twice, back to its name.
            let number = (step * 37) % 60;
            let _gone_already = w.tries(me, unlink(d, format!("goes-{number}").as_bytes()));
            let own = format!("stays-{number}");
            w.done(me, rename(d, own.as_bytes(), b"between"))?;
            w.done(me, rename(d, b"between", own.as_bytes()))?;
            step += 1;
        }
        let all: Vec<Vec<u8>> = (0..60).map(|number| format!("stays-{number}").into_bytes()).collect();
        same(seen, all)?;
    }

    /// Two listings do not disturb each other. [NT NtQueryDirectoryObject: the context is the caller's]
    plain fn two_listings_do_not_disturb_each_other(w) {
        let me = w.first;
        let d = w.directory(me)?;
        let _held = letters!(w, d, b"a" b"b" b"c");
        let (mut one, mut two) = (0, 0);
        for letter in [&b"a"[..], b"b", b"c"] {
            for cursor in [&mut one, &mut two] {
                let entry = w.next(me, d, *cursor)?;
                same(entry.map(|entry| entry.name.as_bytes().to_vec()), Some(letter.to_vec()))?;
                *cursor = entry.map_or(0, |entry| entry.cursor);
            }
        }
        same((w.next(me, d, one)?, w.next(me, d, two)?), (None, None))?;
    }

    /// At the end there is nothing, and a later name is seen from there. [docs/semantics.md, enumerate]
    order fn the_end_is_no_end_for_ever(w) {
        let me = w.first;
        let d = w.directory(me)?;
        let _held = letters!(w, d, b"a");
        let last = w.list(me, d)?[0].cursor;
        same(w.next(me, d, last)?, None)?;
        let _late = letters!(w, d, b"b");
        same(words(&w.list_from(me, d, last)?).as_str(), "b")?;
    }

    /// A cursor of another directory, or from nowhere, gives an entry or the end, never anything else.
    /// [docs/semantics.md, enumerate]
    refusal fn a_made_up_cursor_does_no_harm(w) {
        let me = w.first;
        let d = w.directory(me)?;
        let _held = letters!(w, d, b"a" b"b");
        let names = w.names(me, d)?;
        for cursor in [1, 2, 3, u64::MAX, u64::MAX - 1, 1 << 32, 1 << 63] {
            let _any = w.next(me, d, cursor)?;
        }
        same(w.names(me, d)?, names)?;
        same(w.next(me, d, u64::MAX)?, None)?;
    }

    /// Listing shows names though one may not open them, and opening does not need listing.
    /// [Linux path_resolution(7): search permission is not read permission]
    refusal fn listing_and_opening_are_apart(w) {
        let me = w.first;
        let d = w.directory(me)?;
        let _held = letters!(w, d, b"a");
        let lists = w.weaker(me, d, Rights::ENUMERATE)?;
        let opens = w.weaker(me, d, Rights::LOOKUP)?;
        same(w.names(me, lists)?.as_str(), "a")?;
        w.refused(me, open(lists, b"a"), AccessDenied)?;
        w.gives(me, open(opens, b"a"))?;
        w.refused(me, enumerate(opens, 0), AccessDenied)?;
    }

    /// A listing ends with the handle it goes by. [NT NtQueryDirectoryObject: STATUS_INVALID_HANDLE]
    refusal fn a_listing_ends_with_its_handle(w) {
        let me = w.first;
        let d = w.directory(me)?;
        let _held = letters!(w, d, b"a" b"b");
        let cursor = w.list(me, d)?[0].cursor;
        let other = w.gives(me, duplicate(d, SAME))?;
        w.done(me, close(d))?;
        w.refused(me, enumerate(d, cursor), BadHandle)?;
        same(words(&w.list_from(me, other, cursor)?).as_str(), "b")?;
    }
}

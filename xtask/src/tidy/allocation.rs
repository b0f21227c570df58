//! The rule that no allocation in `memory` and `core` aborts: what the standard library aborts on is not called there.

use super::Finding;
use super::tokens::Source;

/// Rooms in which every allocation can be refused.
const ROOMS: [&str; 2] = ["crates/memory/src/", "crates/core/src/"];
/// Types that allocate as they please.
const TYPES: [&str; 10] =
    ["Arc", "Rc", "BTreeMap", "BTreeSet", "HashMap", "HashSet", "BinaryHeap", "LinkedList", "ToOwned", "ToString"];
/// Functions and macros.
const PATHS: [&[&str]; 9] = [
    &["Box", ":", ":", "new", "("],
    &["Box", ":", ":", "default", "("],
    &["Box", ":", ":", "from", "("],
    &["Box", ":", ":", "pin", "("],
    &["String", ":", ":", "from", "("],
    &["Vec", ":", ":", "from", "("],
    &["with_capacity", "("],
    &["vec", "!"],
    &["format", "!"],
];
/// Methods of vectors, queues, strings and iterators. Those of our own types that bear such a name are allowed below.
const METHODS: [&str; 19] = [
    "append",
    "clone",
    "collect",
    "concat",
    "extend",
    "extend_from_slice",
    "insert_str",
    "push",
    "push_back",
    "push_front",
    "push_str",
    "repeat",
    "reserve_exact",
    "resize",
    "resize_with",
    "split_off",
    "to_owned",
    "to_string",
    "to_vec",
];

/// Calls of such a name that cannot abort.
struct Allowed {
    /// How the file's path begins.
    path: &'static str,
    /// On whom it is called; `""` for what is no name.
    receivers: &'static [&'static str],
    method: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "for who reads the list"))]
    why: &'static str,
}

const fn allow(
    path: &'static str,
    receivers: &'static [&'static str],
    method: &'static str,
    why: &'static str,
) -> Allowed {
    Allowed { path, receivers, method, why }
}

const SHARED: &str = "a Shared: one more is counted, nothing is copied";
const RESERVED: &str = "its room is brought before";
const THREADED: &str = "a list through the slots themselves";
const REFUSES: &str = "an Array: it refuses, and `?` passes that on";

const ALLOWED: [Allowed; 32] = [
    allow("crates/core/src/", &["table"], "clone", SHARED),
    allow("crates/core/src/", &["effects"], "push_back", "its room is brought by Core::reserve_effects"),
    allow("crates/core/src/effects.rs", &["list"], "push_back", "its room is brought by Core::reserve_effects"),
    allow("crates/core/src/guests.rs", &["guest_list"], "push", RESERVED),
    allow("crates/core/src/image.rs", &["detail"], "push_str", RESERVED),
    allow("crates/core/src/index.rs", &["nodes"], "resize_with", RESERVED),
    allow("crates/core/src/leases.rs", &["open"], "push", RESERVED),
    allow("crates/core/src/link.rs", &["records"], "push", REFUSES),
    allow("crates/core/src/manager.rs", &["list"], "push", RESERVED),
    allow("crates/core/src/names/index.rs", &["heads"], "push", REFUSES),
    allow("crates/core/src/names/index.rs", &["self"], "push", "a list through the entries themselves"),
    allow("crates/core/src/names/mod.rs", &["order"], "append", "a list through the entries themselves"),
    allow("crates/core/src/names/pages.rs", &["page", "pages"], "resize_with", RESERVED),
    allow("crates/core/src/names/walk.rs", &["rest"], "push", "an array of fixed size"),
    allow("crates/core/src/platform/heap.rs", &["made", "words"], "clone", SHARED),
    allow("crates/core/src/pool.rs", &["blocks", "slots"], "push", RESERVED),
    allow("crates/core/src/section.rs", &["releases"], "extend", "its room is brought by Sections::promise"),
    allow("crates/core/src/ticket.rs", &["slots"], "push", REFUSES),
    allow("crates/core/src/user_type.rs", &["own_types"], "push", RESERVED),
    allow("crates/core/src/notices.rs", &["notices"], "push_back", "its room was taken when the handle was made"),
    allow("crates/core/src/trace.rs", &["notes"], "push", REFUSES),
    allow("crates/memory/src/array.rs", &["entries"], "push", REFUSES),
    allow("crates/memory/src/buckets.rs", &[""], "collect", "under a model checker alone"),
    allow("crates/memory/src/credit.rs", &["blocks"], "clone", "an iterator"),
    allow("crates/memory/src/fallible.rs", &["self"], "push", RESERVED),
    allow("crates/memory/src/fallible.rs", &["self"], "push_back", RESERVED),
    allow("crates/memory/src/handle_table.rs", &["list", "self"], "push", THREADED),
    allow("crates/memory/src/lease.rs", &["ended"], "push", REFUSES),
    allow("crates/memory/src/", &["block", "objects"], "clone", SHARED),
    allow("crates/memory/src/", &["finished", "free", "last_closed", "reaper", "returned"], "push", THREADED),
    allow("crates/memory/src/slab.rs", &[""], "push", THREADED),
    allow("crates/memory/src/slab.rs", &["objects"], "extend", "a Buckets: it refuses, and `?` passes that on"),
];

/// Nothing in these rooms allocates in a way that aborts where there is no memory; tests may.
pub(crate) fn infallible_allocations(source: &Source) -> Vec<Finding> {
    if !ROOMS.iter().any(|room| source.path.starts_with(room)) || source.is_test_file {
        return Vec::new();
    }
    let tests = source.test_lines();
    let mut found = Vec::new();
    let mut add = |at: usize, what: &str| {
        let line = source.tokens[at].line;
        if !tests.iter().any(|range| range.contains(&line)) {
            let why = format!(
                "`{what}` aborts where there is no memory: use kobj_memory's try_box, try_push, try_collect, Bytes, Array or \
                 Pool, or say in xtask/src/tidy/allocation.rs why this one cannot"
            );
            found.push(Finding::new("no-infallible-allocation", &source.path, line, why));
        }
    };
    for name in TYPES {
        source.places(&[name]).for_each(|at| add(at, name));
    }
    for path in PATHS {
        source.places(path).for_each(|at| add(at, &path.concat()));
    }
    for method in METHODS {
        for at in source.places(&[".", method]) {
            let is_call = source.is_at(at + 2, &["("]) || source.is_at(at + 2, &[":", ":"]);
            let receiver = at.checked_sub(1).and_then(|before| source.ident(before)).unwrap_or_default();
            let allows = |it: &Allowed| {
                it.method == method && source.path.starts_with(it.path) && it.receivers.contains(&receiver)
            };
            let is_allowed = ALLOWED.iter().any(allows);
            if is_call && !is_allowed {
                add(at, &format!("{receiver}.{method}"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let mut lines: Vec<usize> =
            infallible_allocations(&Source::read(path, text).unwrap()).into_iter().map(|found| found.line).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn every_way_to_abort_for_want_of_memory_is_seen() {
        let text = "use alloc::sync::Arc;\nfn f() { Box::new(1); }\nfn g() { vec![1] }\nfn h() { format!(\"\") }\n\
            fn i() { list.push(1) }\nfn j() { x.iter().collect::<Vec<_>>() }\nfn k() { x.iter().collect() }\n\
            fn l() { name.to_vec() }\nfn m() { (a + b).clone() }\nuse std::collections::BTreeMap;\n\
            fn n() { Vec::with_capacity(4) }\n";
        assert_eq!(lines("crates/core/src/a.rs", text), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!(lines("crates/memory/src/a.rs", text).len(), 11);
        assert_eq!(lines("crates/host/src/a.rs", text), [0; 0]);
    }

    #[test]
    fn what_can_be_refused_and_what_tests_do_is_not() {
        let text = "fn f() { try_box(1)?; list.try_push(2)?; Box::from_raw(p); let push = 1; }\n\
            #[cfg(test)]\nmod tests { fn f() { vec![1].push(2) } }\n// Box::new(1)\nconst A: &str = \"vec![]\";\n";
        assert_eq!(lines("crates/core/src/a.rs", text), [0; 0]);
        assert_eq!(lines("crates/core/src/tests.rs", "fn f() { Box::new(1); }"), [0; 0]);
    }

    #[test]
    fn an_allowance_has_a_reason_and_is_for_its_names_alone() {
        for Allowed { path, receivers, method, why } in ALLOWED {
            assert!(why.len() > 10, "{path}");
            let call = |receiver: &str| format!("fn f() {{ {receiver}.{method}(1) }}");
            let file = if path.ends_with(".rs") { path.to_string() } else { format!("{path}a.rs") };
            for receiver in receivers {
                let name = if receiver.is_empty() { "g()" } else { receiver };
                assert_eq!(lines(&file, &call(name)), [0; 0], "{path}");
            }
            assert_eq!(lines(&file, &call("something_else")), [1], "{path}");
        }
    }
}

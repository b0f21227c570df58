//! Rules about Rust sources.

use super::tokens::{Kind, Source};
use super::{File, Finding};

/// Rooms in which `unsafe` may stand: two of the workspace, and of the image without an operating system the machine itself
/// (entry, serial line, heap), which nothing else can stand in for.
const UNSAFE_ROOMS: [&str; 3] = ["crates/memory/", "crates/platform/", "metal/machine/"];
/// Macros that must not be committed.
const BANNED_MACROS: [&str; 3] = ["todo", "unimplemented", "dbg"];
/// Calls that wait for time instead of for an event.
const SLEEPS: [&str; 6] = ["sleep", "sleep_ms", "sleep_until", "nanosleep", "clock_nanosleep", "usleep"];
/// Files that may sleep, each with its reason.
const MAY_SLEEP: [(&str, &str); 3] = [
    (
        "crates/host/src/record/folder.rs",
        "flock knows no time limit: another kobj's lock is asked for again each millisecond, at most for PATIENCE",
    ),
    ("crates/host/src/record/found.rs", "the same, for the lock of a record whose kobj is dead"),
    (
        "crates/vault/src/lock.rs",
        "a storage tells of no event: what others wrote is seen at a second look, after 200 ms",
    ),
];
/// Reported above this many lines, tests not counted.
const FILE_LINES: usize = 800;
/// Refused above this many lines, tests counted.
const FILE_LINES_MAX: usize = 1200;
/// Reported above this many lines, tests not counted.
const FUNCTION_LINES: usize = 70;

/// `unsafe` stands in `memory` and `platform` alone, and in the machine below the bare image.
pub(crate) fn unsafe_rooms(source: &Source) -> Vec<Finding> {
    if UNSAFE_ROOMS.iter().any(|room| source.path.starts_with(room)) {
        return Vec::new();
    }
    let found = source.places(&["unsafe"]);
    let why = "`unsafe` outside memory and platform: give platform a safe function for it";
    found.map(|at| Finding::new("unsafe-rooms", &source.path, source.tokens[at].line, why)).collect()
}

/// What a SAFETY comment has to say: after duty and reason, what would break it. That it is there clippy checks.
pub(crate) fn safety_comments(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut lines = source.text.lines().map(str::trim).enumerate().peekable();
    while let Some((index, first)) = lines.next() {
        let Some(words) = first.strip_prefix("// SAFETY:") else { continue };
        let mut comment = words.to_string();
        while let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with("//")) {
            comment.push_str(line.trim_start_matches('/'));
        }
        if !["break", "broke"].iter().any(|word| comment.to_lowercase().contains(word)) {
            let why = "a SAFETY comment says the duty, why it holds, and what would break it: the last is missing";
            found.push(Finding::new("one-operation", &source.path, index + 1, why));
        }
    }
    found
}

/// Every other room's root says so itself, so that the compiler checks it too.
pub(crate) fn unsafe_is_forbidden(source: &Source) -> Option<Finding> {
    let is_root = ["/src/lib.rs", "/src/main.rs"].iter().any(|end| source.path.ends_with(end));
    // Programs that the end-to-end tests run are no rooms; whatever their macros expand to is theirs.
    let is_program = source.path.starts_with("tests/e2e/programs/");
    if !is_root || is_program || UNSAFE_ROOMS.iter().any(|room| source.path.starts_with(room)) {
        return None;
    }
    let says_so = source.places(&["#", "!", "[", "forbid", "(", "unsafe_code", ")", "]"]).next().is_some();
    (!says_so).then(|| Finding::new("unsafe-rooms", &source.path, 1, "add #![forbid(unsafe_code)]"))
}

/// No placeholder and no debugging print.
pub(crate) fn banned_words(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    for word in BANNED_MACROS {
        for at in source.places(&[word, "!"]) {
            let why = format!("`{word}!` is not finished work: build it or leave it out");
            found.push(Finding::new("banned-words", &source.path, source.tokens[at].line, why));
        }
        // A comment that quotes one hides the next real one from whoever searches for it. This tool has to name them.
        let quoted = if source.path.starts_with("xtask/") { "" } else { source.text.as_str() };
        for (index, line) in quoted.lines().enumerate() {
            let is_quote = line.contains(&format!("{word}!")) && !found.iter().any(|it| it.line == index + 1);
            if is_quote {
                let why = format!("the text names `{word}!`: say it in other words");
                found.push(Finding::new("banned-words", &source.path, index + 1, why));
            }
        }
    }
    found
}

/// Nothing sleeps: it waits for the event itself.
pub(crate) fn no_sleep(source: &Source) -> Vec<Finding> {
    if MAY_SLEEP.iter().any(|(path, _)| *path == source.path) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for call in SLEEPS {
        for at in source.places(&[call, "("]) {
            let why = format!("`{call}`: wait for the event itself (a pidfd, a pipe's end, inotify)");
            found.push(Finding::new("no-sleep", &source.path, source.tokens[at].line, why));
        }
    }
    found
}

/// Each file opens by saying what it is.
pub(crate) fn module_comment(source: &Source) -> Option<Finding> {
    let first = source.text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let good = first.starts_with("//!") && first.len() > 4;
    (!good).then(|| Finding::new("module-comment", &source.path, 1, "the file must open with `//!` and a sentence"))
}

/// The host returns facts: of the core it knows the plain data of `image` and nothing else.
pub(crate) fn host_names_only_image(source: &Source) -> Vec<Finding> {
    if !source.path.starts_with("crates/host/src/") {
        return Vec::new();
    }
    let other = |at: &usize| !source.is_at(*at, &["kobj_core", ":", ":", "image"]);
    let why = "host may name kobj_core::image alone; the manager belongs to the caller";
    let found = source.places(&["kobj_core"]).filter(other);
    found.map(|at| Finding::new("import-arrows", &source.path, source.tokens[at].line, why)).collect()
}

/// The names of the core's object types: files and folders of `crates/core/src/types/`.
pub(crate) fn type_names(files: &[File]) -> Vec<String> {
    let mut names: Vec<String> = files.iter().filter_map(|file| type_of(&file.path)).map(Into::into).collect();
    names.sort();
    names.dedup();
    names
}

fn type_of(path: &str) -> Option<&str> {
    let first = path.strip_prefix("crates/core/src/types/")?.split('/').next()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (name != "mod").then_some(name)
}

/// One object type never imports another: what two share stands above both.
pub(crate) fn types_stand_alone(source: &Source, types: &[String]) -> Vec<Finding> {
    let Some(own) = type_of(&source.path) else { return Vec::new() };
    let is_other = |at: usize| source.ident(at).is_some_and(|name| name != own && types.iter().any(|t| t == name));
    let mut found = Vec::new();
    for parent in ["super", "types"] {
        for at in source.places(&[parent, ":", ":"]) {
            let mut places = vec![at + 3];
            if source.is_at(at + 3, &["{"]) {
                let end = source.closing(at + 3);
                let starts = |place: &usize| {
                    matches!(source.tokens[place - 1].kind, Kind::Open('{')) || source.is_at(place - 1, &[","])
                };
                places = (at + 4..end).filter(starts).collect();
            }
            for place in places.into_iter().filter(|place| is_other(*place)) {
                let other = source.ident(place).unwrap_or_default();
                let why = format!("type `{own}` imports type `{other}`: move what both need above them");
                found.push(Finding::new("types-stand-alone", &source.path, source.tokens[place].line, why));
            }
        }
    }
    found
}

/// No file is longer than anybody reads.
pub(crate) fn file_limit(source: &Source) -> Option<Finding> {
    let lines = source.text.lines().count();
    let why = format!("{lines} lines, more than {FILE_LINES_MAX}: which noun is hiding?");
    (lines > FILE_LINES_MAX).then(|| Finding::new("file-length", &source.path, lines, why))
}

/// Calls that panic, in the rooms that meet foreign input; tests may.
pub(crate) fn panicking_calls(source: &Source) -> Vec<Finding> {
    let in_room = source.path.starts_with("crates/") && source.path.contains("/src/");
    if !in_room || source.path.starts_with("crates/sim/") || source.is_test_file {
        return Vec::new();
    }
    let tests = source.test_lines();
    let patterns: [&[&str]; 4] = [&[".", "unwrap", "("], &[".", "expect", "("], &["panic", "!"], &["unreachable", "!"]];
    let mut found = Vec::new();
    for pattern in patterns {
        for line in source.places(pattern).map(|at| source.tokens[at].line) {
            if !tests.iter().any(|range| range.contains(&line)) {
                let why = format!("`{}` can panic: can foreign input reach it?", pattern.concat());
                found.push(Finding::new("no-panic", &source.path, line, why));
            }
        }
    }
    found
}

/// Files that grow long, tests not counted.
pub(crate) fn long_file(source: &Source) -> Option<Finding> {
    if source.is_test_file {
        return None;
    }
    let tests: usize = source.test_lines().iter().map(|range| range.len()).sum();
    let lines = source.text.lines().count().saturating_sub(tests);
    let why = format!("{lines} lines without tests, more than {FILE_LINES}");
    (lines > FILE_LINES).then(|| Finding::new("file-length", &source.path, lines, why))
}

/// Functions that grow long, tests not counted.
pub(crate) fn long_functions(source: &Source) -> Vec<Finding> {
    if source.is_test_file {
        return Vec::new();
    }
    let tests = source.test_lines();
    let mut found = Vec::new();
    for at in source.places(&["fn"]) {
        let (Some(name), Some(open)) = (source.ident(at + 1), body_of(source, at)) else { continue };
        let first = source.tokens[at].line;
        let lines = source.tokens[source.closing(open)].line - first + 1;
        if lines > FUNCTION_LINES && !tests.iter().any(|range| range.contains(&first)) {
            let why = format!("`{name}` has {lines} lines, more than {FUNCTION_LINES}");
            found.push(Finding::new("function-length", &source.path, first, why));
        }
    }
    found
}

/// The opening brace of the function at `at`; `None` for one without a body.
fn body_of(source: &Source, at: usize) -> Option<usize> {
    let mut place = at + 1;
    while let Some(token) = source.tokens.get(place) {
        match token.kind {
            Kind::Open('{') => return Some(place),
            Kind::Open(_) => place = source.closing(place) + 1,
            Kind::Punct(';') | Kind::Close(_) => return None,
            _ => place += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [usize; 0] = [];

    fn read(path: &str, text: &str) -> Source {
        Source::read(path, text).unwrap()
    }

    fn lines(found: impl IntoIterator<Item = Finding>) -> Vec<usize> {
        found.into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn unsafe_is_seen_outside_its_rooms_and_only_as_a_word_of_the_language() {
        let text = "// unsafe\nfn f() { let _ = \"unsafe\"; }\nunsafe fn g() {}\n";
        assert_eq!(lines(unsafe_rooms(&read("crates/host/src/a.rs", text))), [3]);
        assert_eq!(lines(unsafe_rooms(&read("crates/core/tests/a.rs", text))), [3]);
        assert_eq!(lines(unsafe_rooms(&read("metal/src/a.rs", text))), [3]);
        assert_eq!(lines(unsafe_rooms(&read("crates/platform/src/a.rs", text))), NONE);
        assert_eq!(lines(unsafe_rooms(&read("metal/machine/a.rs", text))), NONE);
    }

    #[test]
    fn a_safety_comment_that_does_not_say_what_would_break_it_is_seen() {
        let text =
            "// SAFETY: duty: a.\n// It is one. B would break it.\nf();\n// SAFETY: it is so.\n// Really.\ng();\n";
        assert_eq!(lines(safety_comments(&read("crates/platform/src/a.rs", text))), [4]);
    }

    #[test]
    fn a_root_that_does_not_forbid_unsafe_is_seen() {
        let bare = "//! A room.\n// #![forbid(unsafe_code)]\n";
        assert!(unsafe_is_forbidden(&read("crates/host/src/lib.rs", bare)).is_some());
        assert!(unsafe_is_forbidden(&read("xtask/src/main.rs", bare)).is_some());
        assert!(unsafe_is_forbidden(&read("metal/src/lib.rs", bare)).is_some());
        assert!(unsafe_is_forbidden(&read("crates/host/src/lib.rs", "#![forbid(unsafe_code)]")).is_none());
        assert!(unsafe_is_forbidden(&read("crates/memory/src/lib.rs", bare)).is_none());
        assert!(unsafe_is_forbidden(&read("crates/host/src/kind.rs", bare)).is_none());
    }

    #[test]
    fn placeholders_are_seen_in_code_and_outside_this_tool_in_words_too() {
        let text =
            "// todo!()\nfn f() { todo!() }\nfn g() { unimplemented!(\"x\") }\nfn h() { dbg!(1); let dbg = \"dbg!\"; }";
        assert_eq!(lines(banned_words(&read("xtask/src/a.rs", text))), [2, 3, 4]);
        assert_eq!(lines(banned_words(&read("crates/cli/src/a.rs", text))), [2, 1, 3, 4]);
    }

    #[test]
    fn every_way_to_sleep_is_seen() {
        let text =
            "use std::thread::sleep;\nfn f() { sleep(D) }\nfn g() { std::thread::sleep(D) }\nfn h() { nanosleep(&t) }";
        assert_eq!(lines(no_sleep(&read("crates/cli/src/a.rs", text))), [2, 3, 4]);
        assert_eq!(lines(no_sleep(&read("a.rs", "fn f() { run(\"sleep 10\"); let sleep = 1; }"))), NONE);
    }

    #[test]
    fn a_file_without_its_sentence_is_seen() {
        assert!(module_comment(&read("a.rs", "use std::fmt;\n//! late")).is_some());
        assert!(module_comment(&read("a.rs", "//!\nfn f() {}")).is_some());
        assert!(module_comment(&read("a.rs", "\n//! What it is.\n")).is_none());
    }

    #[test]
    fn the_host_may_name_the_image_and_nothing_else_of_the_core() {
        let text = "use kobj_core::image::HostImage;\nuse kobj_core::Manager;\nuse kobj_core::{image, step};\nuse kobj_core as c;";
        assert_eq!(lines(host_names_only_image(&read("crates/host/src/a.rs", text))), [2, 3, 4]);
        assert_eq!(lines(host_names_only_image(&read("crates/cli/src/a.rs", text))), NONE);
    }

    #[test]
    fn one_type_that_imports_another_is_seen_in_every_spelling() {
        let file = |path: &str| File { path: path.into(), text: String::new() };
        let types = type_names(&[
            file("crates/core/src/types/job.rs"),
            file("crates/core/src/types/process.rs"),
            file("crates/core/src/types/mod.rs"),
            file("crates/core/src/lib.rs"),
        ]);
        assert_eq!(types, ["job", "process"]);
        let text = "use super::process::P;\nuse crate::types::process;\nuse super::{Header, process};\nuse super::job::X;\nuse super::Header;";
        let mut found = lines(types_stand_alone(&read("crates/core/src/types/job.rs", text), &types));
        found.sort_unstable();
        assert_eq!(found, [1, 2, 3]);
        assert_eq!(lines(types_stand_alone(&read("crates/core/src/types/mod.rs", text), &types)), NONE);
    }

    #[test]
    fn long_files_are_refused_or_reported_and_tests_do_not_count_for_the_report() {
        let long = "//! Long.\n".to_string() + &"const A: u8 = 1;\n".repeat(FILE_LINES_MAX);
        assert!(file_limit(&read("a.rs", &long)).is_some());
        assert!(long_file(&read("a.rs", &long)).is_some());
        let middle = "//! Middle.\n".to_string() + &"const A: u8 = 1;\n".repeat(FILE_LINES);
        assert!(file_limit(&read("a.rs", &middle)).is_none());
        assert!(long_file(&read("a.rs", &middle)).is_some());
        let tested = format!("//! T.\n#[cfg(test)]\nmod tests {{\n{}}}\n", "const A: u8 = 1;\n".repeat(FILE_LINES));
        assert!(long_file(&read("a.rs", &tested)).is_none());
    }

    #[test]
    fn long_functions_are_reported_whatever_their_signature() {
        let body = "    work();\n".repeat(FUNCTION_LINES);
        let text =
            format!("fn short() {{}}\nfn long<T>(a: [u8; {{ 3 }}]) -> T where T: Copy {{\n{body}}}\nfn none();\n");
        assert_eq!(lines(long_functions(&read("a.rs", &text))), [2]);
        let tested = format!("#[cfg(test)]\nmod tests {{\nfn long() {{\n{body}}}\n}}\n");
        assert_eq!(lines(long_functions(&read("a.rs", &tested))), NONE);
    }

    #[test]
    fn calls_that_panic_are_reported_outside_tests() {
        let text = "fn f() { a.unwrap(); b.unwrap_or(0); c.expect(\"x\"); }\nfn g() { unreachable!() }\n\
            #[cfg(all(test, unix))]\nmod tests { fn f() { a.unwrap() } }\n";
        assert_eq!(lines(panicking_calls(&read("crates/host/src/a.rs", text))), [1, 1, 2]);
        assert_eq!(lines(panicking_calls(&read("crates/host/tests/a.rs", text))), NONE);
    }

    #[test]
    fn what_is_no_rust_is_a_finding_not_a_panic() {
        assert!(Source::read("a.rs", "fn f( {").is_err());
    }
}

//! `docs/semantics.md` says what the manager does.

use kobj_abi::ErrorCode;
use kobj_conformance::rights;

const PAPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/semantics.md");

fn paper() -> String {
    std::fs::read_to_string(PAPER).expect("docs/semantics.md can be read")
}

/// What stands between the comment that begins with `<!-- WORD:` and `<!-- end of WORD -->`.
fn between<'a>(text: &'a str, word: &str) -> &'a str {
    let start = text.split_once(&format!("<!-- {word}:")).expect("the table's first comment").1;
    let start = start.split_once("-->\n").expect("the comment's end").1;
    start.split_once(&format!("<!-- end of {word} -->")).expect("the table's last comment").0
}

#[test]
fn the_tables_of_rights_are_the_managers() {
    let paper = paper();
    for (word, table) in [("operations", rights::operations_table()), ("defaults", rights::defaults_table())] {
        assert_eq!(between(&paper, word), table, "put this between the comments:\n{table}");
    }
}

#[test]
fn every_code_has_a_line_in_the_table_of_refusals() {
    let paper = paper();
    let table = paper.split_once("## Refusals").expect("the section").1;
    for code in ErrorCode::ALL {
        assert!(table.contains(&format!("\n| {} | ", code.name())), "{} is missing", code.name());
    }
}

const CALLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../core/src/call.rs");

/// The names at the first level of a block: each opens a line, four blanks in.
fn names_in<'a>(text: &'a str, block: &str, end: &str) -> Vec<&'a str> {
    let inside = text.split_once(block).expect("the block").1.split_once(end).expect("its end").0;
    let name = |line: &'a str| line.strip_prefix("    ")?.split(' ').next();
    let is_name = |name: &&str| name.starts_with(|first: char| first.is_ascii_uppercase());
    inside.lines().filter_map(name).filter(is_name).collect()
}

#[test]
fn no_call_and_no_refusal_is_missing() {
    let (paper, code) = (paper(), std::fs::read_to_string(CALLS).expect("the calls can be read"));
    let calls = names_in(&code, "pub enum Call<'a> {\n", "\n}\n");
    let refusals = names_in(&code, "\ncall_errors! {\n", "\n}\n");
    assert!(calls.len() > 20 && refusals.len() > 30, "{calls:?} {refusals:?}");
    for call in calls {
        let words = call.char_indices().fold(String::new(), |mut words, (at, letter)| {
            words.extend((at > 0 && letter.is_ascii_uppercase()).then_some('_'));
            words.push(letter.to_ascii_lowercase());
            words
        });
        assert!(paper.contains(&format!("\n### `{words}(")), "{words} has no section");
    }
    let table = paper.split_once("## Refusals").expect("the section").1;
    for refusal in refusals {
        assert!(table.contains(&format!("`{refusal}`")), "{refusal} has no line");
    }
}

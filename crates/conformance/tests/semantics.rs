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

//! A test for each row, made at run time: what `cargo test` and nextest ask of a test program, without libtest.

use std::process::ExitCode;

/// A test by its name.
pub(crate) type Test = (String, Box<dyn Fn() -> Result<(), String>>);

/// Whether a rule ends with its source in brackets, and `docs/semantics.md` leads to that source or is it.
pub(crate) fn is_sourced(rule: &str) -> bool {
    let paper = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/semantics.md");
    let paper = std::fs::read_to_string(paper).expect("docs/semantics.md can be read");
    let Some((_, source)) = rule.strip_suffix(']').and_then(|rule| rule.rsplit_once(" [")) else { return false };
    let mut linked = paper.split("](https://").filter_map(|before| Some(before.rsplit_once('[')?.1));
    source.contains("docs/semantics.md") || source.contains("seL4") || linked.any(|text| source.contains(text))
}

/// What of libtest's options `cargo test` and nextest use.
#[derive(Default)]
struct Asked {
    list: bool,
    exact: bool,
    ignored: bool,
    words: Vec<String>,
    skipped: Vec<String>,
}

fn asked() -> Asked {
    let mut asked = Asked::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--list" => asked.list = true,
            "--exact" => asked.exact = true,
            "--ignored" => asked.ignored = true,
            "--skip" => asked.skipped.extend(arguments.next()),
            "--format" | "--color" | "--test-threads" | "-Z" => drop(arguments.next()),
            option if option.starts_with('-') => {}
            word => asked.words.push(word.into()),
        }
    }
    asked
}

/// Lists the tests, or runs those that were asked for.
pub(crate) fn run(tests: Vec<Test>) -> ExitCode {
    let asked = asked();
    let matches = |word: &String, name: &str| if asked.exact { word == name } else { name.contains(word.as_str()) };
    let chosen = |name: &str| {
        (asked.words.is_empty() || asked.words.iter().any(|word| matches(word, name)))
            && !asked.skipped.iter().any(|word| matches(word, name))
    };
    let tests: Vec<Test> = tests.into_iter().filter(|(name, _)| !asked.ignored && chosen(name)).collect();
    if asked.list {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let mut failed = Vec::new();
    for (name, test) in &tests {
        if let Err(why) = test() {
            println!("test {name} ... FAILED\n    {why}");
            failed.push(name);
        }
    }
    println!("{} rows ran, {} failed", tests.len(), failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

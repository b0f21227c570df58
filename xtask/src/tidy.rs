//! `cargo xtask tidy`: the house rules. STYLE.md gives each rule's reason; every rule has a test with a sample it catches.

mod allocation;
mod code;
mod graph;
mod text;
mod tokens;

use crate::shell;
use std::collections::BTreeSet;
use std::fmt;

/// One breach of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The rule's name, as in STYLE.md.
    rule: &'static str,
    /// Where: path from the root.
    path: String,
    /// Which line, from 1; 0 for the whole file.
    line: usize,
    /// What is wrong and what to do.
    message: String,
}

impl Finding {
    fn new(rule: &'static str, path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { rule, path: path.into(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: [{}] {}", self.path, self.line, self.rule, self.message)
    }
}

/// A file of the project: its path from the root, and its text.
pub(crate) struct File {
    path: String,
    text: String,
}

/// Breaches, and what is only reported.
#[derive(Default)]
struct Findings {
    breaches: Vec<Finding>,
    reports: Vec<Finding>,
}

/// Checks everything; breaches are an error, long files and functions a report.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    if let Some(extra) = arguments.first() {
        return Err(format!("tidy takes no argument: {extra:?}"));
    }
    let files = tracked_files()?;
    let metadata = shell::output(&mut shell::cargo(&["metadata", "--no-deps", "--format-version", "1"]))?;
    let mut packages = graph::packages(&metadata)?;
    // Workspaces of their own, and rooms like the others: the bare image, the host of WebAssembly guests.
    for manifest in ["metal/Cargo.toml", "examples/wasm-host/Cargo.toml"] {
        let arguments = ["metadata", "--no-deps", "--format-version", "1", "--manifest-path", manifest];
        packages.extend(graph::packages(&shell::output(&mut shell::cargo(&arguments))?)?);
    }
    let mut all = Findings::default();
    all.breaches.extend(graph::import_arrows(&packages));
    all.breaches.extend(graph::dependencies_are_explained(&packages, &text_of(&files, "ARCHITECTURE.md")));
    check_texts(&files, &mut all);
    let sources = check_sources(&files, &mut all);
    for report in &all.reports {
        println!("report: {report}");
    }
    for breach in &all.breaches {
        println!("{breach}");
    }
    match all.breaches.len() {
        0 => {
            println!("tidy: {} files, {sources} sources, {} reports, no breach", files.len(), all.reports.len());
            Ok(())
        }
        count => Err(format!("tidy: {count} breaches; STYLE.md says why each rule stands")),
    }
}

fn check_texts(files: &[File], all: &mut Findings) {
    all.breaches.extend(text::required_files(files));
    all.breaches.extend(text::two_commands(&text_of(files, "README.md"), &text_of(files, ".ci/run")));
    all.breaches.extend(text::changelog_form(&text_of(files, "CHANGELOG.md")));
    all.breaches.extend(text::toolchain_full_form(&text_of(files, "rust-toolchain.toml")));
    for file in files {
        all.breaches.extend(text::foreign_paths(file));
        all.breaches.extend(text::tracked_products(file));
        all.breaches.extend(text::no_sleep_in_programs(file));
        all.breaches.extend(text::links_lead_somewhere(file, |path| shell::root().join(path).exists()));
    }
}

fn check_sources(files: &[File], all: &mut Findings) -> usize {
    let types = code::type_names(files);
    let mut sources = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        match tokens::Source::read(&file.path, &file.text) {
            Ok(source) => sources.push(source),
            Err(finding) => all.breaches.push(finding),
        }
    }
    let test_files: BTreeSet<String> = sources.iter().flat_map(tokens::Source::test_modules).collect();
    for source in &mut sources {
        source.is_test_file |= test_files.contains(&source.path);
        check_source(source, &types, all);
    }
    sources.len()
}

fn check_source(source: &tokens::Source, types: &[String], all: &mut Findings) {
    all.breaches.extend(code::unsafe_rooms(source));
    all.breaches.extend(code::safety_comments(source));
    all.breaches.extend(code::unsafe_is_forbidden(source));
    all.breaches.extend(code::banned_words(source));
    all.breaches.extend(code::no_sleep(source));
    all.breaches.extend(code::module_comment(source));
    all.breaches.extend(code::host_names_only_image(source));
    all.breaches.extend(code::types_stand_alone(source, types));
    all.breaches.extend(allocation::infallible_allocations(source));
    all.breaches.extend(code::file_limit(source));
    all.reports.extend(code::long_file(source));
    all.reports.extend(code::long_functions(source));
    all.reports.extend(code::panicking_calls(source));
}

fn text_of(files: &[File], path: &str) -> String {
    files.iter().find(|file| file.path == path).map(|file| file.text.clone()).unwrap_or_default()
}

/// What git tracks or would track, so that the rules hold before a commit too. Bytes that are no text read as empty.
fn tracked_files() -> Result<Vec<File>, String> {
    let mut list = shell::command("git", &["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let names = shell::output(&mut list)?;
    let mut paths: Vec<&str> = names.split('\0').filter(|name| !name.is_empty()).collect();
    paths.sort_unstable();
    paths.dedup();
    let read = |path: &&str| {
        let bytes = std::fs::read(shell::root().join(path)).ok()?;
        Some(File { path: (*path).into(), text: String::from_utf8(bytes).unwrap_or_default() })
    };
    Ok(paths.iter().filter_map(read).collect())
}

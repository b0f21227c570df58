//! Rules about documents, settings and what git tracks.

use super::{File, Finding};

/// Files without which the project is not whole.
const REQUIRED: [&str; 10] = [
    ".ci/run",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "STYLE.md",
    "deny.toml",
    "examples/leaky.py",
    "rust-toolchain.toml",
];
/// The two commands that do everything in a fresh clone.
const RUN: &str = "cargo run --release -- run -- python3 examples/leaky.py";
const CI: &str = "cargo xtask ci";
/// Folders of one person's or one build's machine, in two halves so that this file does not name them.
const FOREIGN: [(&str, &str); 5] =
    [("/wo", "rk/"), ("/root/", "."), ("/home/run", "ner/"), ("/Use", "rs/"), ("/build/", "kobj")];
/// What a build or a test makes and git must not keep.
const PRODUCTS: [&str; 6] = [".img", ".qcow2", ".vhdx", ".profraw", ".o", ".orig"];
/// The largest file that git may keep, in bytes.
const FILE_BYTES_MAX: usize = 1 << 20;
/// What may stand under a version in the changelog.
const CHANGES: [&str; 6] = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];

/// The project's papers are there and not empty.
pub(crate) fn required_files(files: &[File]) -> Vec<Finding> {
    let there = |path: &str| files.iter().any(|file| file.path == path && !file.text.trim().is_empty());
    let missing = REQUIRED.iter().filter(|path| !there(path));
    missing.map(|path| Finding::new("papers", path, 0, "missing or empty")).collect()
}

/// README names the two commands, and CI runs the second and nothing else.
pub(crate) fn two_commands(readme: &str, ci: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for command in [RUN, CI] {
        if !readme.lines().any(|line| line.trim() == command) {
            let why = format!("a line of its own must be `{command}`");
            found.push(Finding::new("two-commands", "README.md", 0, why));
        }
    }
    let calls: Vec<&str> = ci.lines().filter(|line| line.contains("cargo")).map(str::trim).collect();
    if calls != ["exec cargo xtask ci"] {
        found.push(Finding::new("two-commands", ".ci/run", 0, format!("must call `{CI}` and no other cargo command")));
    }
    found
}

/// CHANGELOG.md keeps the form of keepachangelog.com.
pub(crate) fn changelog_form(text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut breach = |line: usize, why: &str| found.push(Finding::new("changelog-form", "CHANGELOG.md", line, why));
    if text.lines().next() != Some("# Changelog") {
        breach(1, "must open with `# Changelog`");
    }
    let mut versions = 0;
    // The line of a `###` heading that has no entry yet.
    let mut open_heading = None;
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        if let Some(heading) = line.strip_prefix("## ") {
            let good = if versions == 0 { heading == "[Unreleased]" } else { is_release(heading) };
            if !good {
                breach(number, "first `## [Unreleased]`, then `## [1.2.3] - 2026-01-31`");
            }
            versions += 1;
        } else if let Some(heading) = line.strip_prefix("### ") {
            if versions == 0 || !CHANGES.contains(&heading) {
                breach(number, "`###` is one of Added, Changed, Deprecated, Removed, Fixed, Security under a version");
            }
            if let Some(empty) = open_heading.replace(number) {
                breach(empty, "a heading without an entry");
            }
        } else if line.starts_with("- ") {
            open_heading = None;
        } else if versions > 0 && !line.is_empty() && !line.starts_with("  ") && !line.starts_with('[') {
            breach(number, "under a version stand `###` headings, `- ` entries and their indented lines");
        }
    }
    if versions == 0 {
        breach(1, "no `## [Unreleased]`");
    }
    if let Some(empty) = open_heading {
        breach(empty, "a heading without an entry");
    }
    found
}

/// `[1.2.3] - 2026-01-31`.
fn is_release(heading: &str) -> bool {
    let Some((version, date)) = heading.strip_prefix('[').and_then(|rest| rest.split_once("] - ")) else {
        return false;
    };
    let numbers = |text: &str, separator: char, widths: &[usize]| {
        let parts: Vec<&str> = text.split(separator).collect();
        let number = |(part, width): (&&str, &usize)| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) && (*width == 0 || part.len() == *width)
        };
        parts.len() == widths.len() && parts.iter().zip(widths).all(number)
    };
    numbers(version, '.', &[0, 0, 0]) && numbers(date, '-', &[4, 2, 2])
}

/// rust-toolchain.toml names the one toolchain and asks for nothing that cannot be had.
pub(crate) fn toolchain_full_form(text: &str) -> Option<Finding> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let good = lines == ["[toolchain]", "channel = \"1.95.0\""];
    let why = "exactly `[toolchain]` and `channel = \"1.95.0\"`: components and targets would be fetched";
    (!good).then(|| Finding::new("toolchain", "rust-toolchain.toml", 1, why))
}

/// No path of somebody's own machine.
pub(crate) fn foreign_paths(file: &File) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for (head, tail) in FOREIGN {
            let path = format!("{head}{tail}");
            // Not what only ends like it: `a/work/b` is a path of somebody's example.
            let stands_alone = |(at, _): (usize, &str)| {
                !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || "._-*$}".contains(c))
            };
            if line.match_indices(&path).any(stands_alone) {
                let why = format!("`{path}` is one machine's folder: use a relative path");
                found.push(Finding::new("foreign-paths", &file.path, index + 1, why));
            }
        }
    }
    found
}

/// Programs that tests run wait for what they wait for; Rust sources are read by `code::no_sleep`.
pub(crate) fn no_sleep_in_programs(file: &File) -> Vec<Finding> {
    let is_program = [".py", ".c", ".cpp", ".sh"].iter().any(|ending| file.path.ends_with(ending));
    if !is_program || !file.path.split('/').any(|part| part == "tests") {
        return Vec::new();
    }
    let sleeps = |line: &str| {
        let code = line.split(['#', '/']).next().unwrap_or_default();
        ["sleep(", "sleep "].iter().any(|call| code.contains(call))
    };
    let found = file.text.lines().enumerate().filter(|(_, line)| sleeps(line));
    let why = "a test's program sleeps: let it wait for the event itself (a pipe's end, a signal)";
    found.map(|(index, _)| Finding::new("no-sleep", &file.path, index + 1, why)).collect()
}

/// Git keeps sources, not what is made from them.
pub(crate) fn tracked_products(file: &File) -> Option<Finding> {
    let product = file.path.split('/').any(|part| part == "target" || part == "artifacts")
        || PRODUCTS.iter().any(|ending| file.path.ends_with(ending));
    let why = if product {
        "made by a build or test: remove it from git".to_string()
    } else if file.text.len() > FILE_BYTES_MAX {
        format!("{} bytes, more than {FILE_BYTES_MAX}", file.text.len())
    } else {
        return None;
    };
    Some(Finding::new("tracked-products", &file.path, 0, why))
}

/// Relative links in documents lead to files that exist.
pub(crate) fn links_lead_somewhere(file: &File, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    if !file.path.ends_with(".md") {
        return Vec::new();
    }
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut found = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for rest in line.split("](").skip(1) {
            let Some((target, _)) = rest.split_once(')') else { continue };
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            let whole = if folder.is_empty() { path.to_string() } else { format!("{folder}/{path}") };
            if !exists(&whole) {
                found.push(Finding::new("links", &file.path, index + 1, format!("`{target}` leads nowhere")));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.into(), text: text.into() }
    }

    #[test]
    fn a_missing_or_empty_paper_is_seen() {
        let mut files: Vec<File> = REQUIRED.iter().map(|path| file(path, "x")).collect();
        assert_eq!(required_files(&files).len(), 0);
        files[0].text = " \n".into();
        files.pop();
        let found = required_files(&files);
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn the_two_commands_must_stand_alone_on_their_lines() {
        let readme = format!("Try\n```\n{RUN}\n{CI}\n```\n");
        let ci = "#!/usr/bin/env bash\nexec cargo xtask ci\n";
        assert_eq!(two_commands(&readme, ci).len(), 0);
        assert_eq!(two_commands(&format!("Type `{RUN}` and `{CI}`."), ci).len(), 2);
        assert_eq!(two_commands(&readme, "exec cargo xtask ci --install\n").len(), 1);
        assert_eq!(two_commands(&readme, "cargo build\nexec cargo xtask ci\n").len(), 1);
    }

    #[test]
    fn a_changelog_that_loses_its_form_is_seen() {
        let good = "# Changelog\n\nWords.\n\n## [Unreleased]\n\n### Added\n\n- One\n  more.\n\n## [0.1.0] - 2026-01-31\n\n### Fixed\n\n- Two\n";
        assert_eq!(changelog_form(good), []);
        for (from, to) in [
            ("# Changelog", "# Changes"),
            ("## [Unreleased]", "## Unreleased"),
            ("- 2026-01-31", "- 31.01.2026"),
            ("### Fixed", "### Repaired"),
            ("- Two\n", "\n"),
            ("- One\n  more.\n\n", "\n"),
            ("- Two\n", "- Two\nloose\n"),
        ] {
            assert_eq!(changelog_form(&good.replace(from, to)).len(), 1, "{from} -> {to}");
        }
        assert!(!changelog_form("# Changelog\n").is_empty());
    }

    #[test]
    fn a_toolchain_that_would_fetch_something_is_seen() {
        assert_eq!(toolchain_full_form("[toolchain]\nchannel = \"1.95.0\"\n"), None);
        assert!(toolchain_full_form("[toolchain]\nchannel = \"1.95\"\n").is_some());
        assert!(toolchain_full_form("[toolchain]\nchannel = \"1.95.0\"\ntargets = [\"x\"]\n").is_some());
        assert!(toolchain_full_form("1.95.0\n").is_some());
    }

    #[test]
    fn paths_of_one_machine_are_seen() {
        for (head, tail) in FOREIGN {
            assert_eq!(foreign_paths(&file("a.md", &format!("one\nsee {head}{tail}x"))).len(), 1);
        }
        let fine = format!("a network/share, /root, /home/me/x, /tmp{}{}x", FOREIGN[0].0, FOREIGN[0].1);
        assert_eq!(foreign_paths(&file("a.md", &fine)).len(), 0);
    }

    #[test]
    fn programs_of_tests_that_sleep_are_seen() {
        let text = "import time\ntime.sleep(1)  # at last\n# to sleep (perchance)\nwait()\n";
        assert_eq!(no_sleep_in_programs(&file("tests/e2e/programs/a.py", text)).len(), 1);
        assert_eq!(no_sleep_in_programs(&file("examples/a.py", text)).len(), 0);
        assert_eq!(no_sleep_in_programs(&file("tests/e2e/a.sh", "sleep 5\nread x\n")).len(), 1);
    }

    #[test]
    fn products_in_git_are_seen() {
        for path in ["target/debug/a", "fuzz/artifacts/x/crash-1", "disk.img", "a/b.o"] {
            assert!(tracked_products(&file(path, "")).is_some(), "{path}");
        }
        assert!(tracked_products(&file("big.txt", &"x".repeat(FILE_BYTES_MAX + 1))).is_some());
        assert!(tracked_products(&file("src/target.rs", "")).is_none());
    }

    #[test]
    fn links_that_lead_nowhere_are_seen() {
        let text = "[a](b.md) [c](missing.md#part) [d](https://example.com) [e](#here)\n";
        let found = links_lead_somewhere(&file("docs/a.md", text), |path| path == "docs/b.md");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(links_lead_somewhere(&file("a.rs", text), |_| false).len(), 0);
    }
}

//! `table.toml`: what each program leaves, and what kobj must say of it. The README's table is printed from it.

use crate::glob;
use crate::mode::Mode;
use crate::object::fill;
use crate::report::{Item, Report};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The checked-in table.
pub const TEXT: &str = include_str!("../table.toml");

/// The whole table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// One entry a program.
    pub program: Vec<Entry>,
}

/// One program.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// As in [`crate::program::ALL`].
    pub name: String,
    /// For people.
    pub title: String,
    /// Modes in which the program itself is refused what it wants, and why.
    #[serde(default)]
    pub refused: BTreeMap<String, String>,
    /// What it leaves.
    #[serde(default)]
    pub left: Vec<Row>,
}

/// One expected row of a report.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// `main` (the command alone is killed) and `tree`.
    #[serde(default = "both")]
    pub kill: Vec<Kill>,
    /// Kind, a pattern.
    pub kind: String,
    /// Name, a pattern with variables in braces.
    pub name: String,
    /// For people, where the pattern says too little.
    pub what: Option<String>,
    /// How many stragglers match; 0: any number, at least one.
    #[serde(default = "one")]
    pub count: usize,
    /// What kobj may say as root; where timing decides, more than one word.
    pub root: Option<Vec<Word>>,
    /// As a user without rights.
    pub user: Option<Vec<Word>>,
    /// In a container.
    pub contained: Option<Vec<Word>>,
    /// Why, where it is not simply scrubbed.
    pub why: Option<String>,
}

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kill {
    /// The command alone.
    Main,
    /// The command and all its descendants.
    Tree,
    /// Nobody: the program ended with its own tear-down, which leaves this.
    Down,
}

/// What is said of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// Destroyed.
    Scrubbed,
    /// A process that kobj ended.
    Terminated,
    /// Left, as somebody uses it.
    InUse,
    /// The job's own, but no judge can say that it is unused.
    Reported,
    /// Not proved to be anybody's.
    Unattributed,
    /// This mode cannot see the kind, and the report says so.
    NotVisible,
    /// The program's own helper took it away first; why is said in the row.
    Gone,
}

fn both() -> Vec<Kill> {
    vec![Kill::Main, Kill::Tree]
}

const fn one() -> usize {
    1
}

impl Word {
    /// The word in `table.toml`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scrubbed => "scrubbed",
            Self::Terminated => "terminated",
            Self::InUse => "in use",
            Self::Reported => "reported",
            Self::Unattributed => "unattributed",
            Self::NotVisible => "not visible",
            Self::Gone => "gone",
        }
    }

    /// The word for a straggler's action.
    fn of(action: &str) -> Option<Self> {
        match action {
            "scrubbed" => Some(Self::Scrubbed),
            "terminated" | "killed" => Some(Self::Terminated),
            "in-use" => Some(Self::InUse),
            "reported" => Some(Self::Reported),
            _ => None,
        }
    }
}

impl Row {
    /// What is allowed in a mode.
    #[must_use]
    pub fn allowed(&self, mode: Mode) -> Option<&[Word]> {
        match mode {
            Mode::Root => self.root.as_deref(),
            Mode::User => self.user.as_deref(),
            Mode::Contained | Mode::Rootless => self.contained.as_deref(),
        }
    }

    fn matches(&self, item: &Item, variables: &BTreeMap<String, String>) -> bool {
        glob::matches(&self.kind, &item.kind)
            && fill(&self.name, variables).is_some_and(|name| glob::matches(&name, &item.name))
    }
}

impl Table {
    /// The checked-in table.
    ///
    /// # Panics
    /// If it is not well formed.
    #[must_use]
    pub fn checked_in() -> Self {
        toml::from_str(TEXT).unwrap_or_else(|error| panic!("table.toml: {error}"))
    }

    /// The entry of a program.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn entry(&self, name: &str) -> &Entry {
        self.program.iter().find(|entry| entry.name == name).unwrap_or_else(|| panic!("table.toml has no {name}"))
    }

    /// The table as Markdown, for the README.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = String::from(
            "| Program | Killed | Leaves | As root | As a user | In a container |\n|---|---|---|---|---|---|\n",
        );
        for entry in &self.program {
            for row in &entry.left {
                let killed = match row.kill.as_slice() {
                    [Kill::Main] => "main process",
                    [Kill::Tree] => "whole tree",
                    [Kill::Down] => "nobody (its own tear-down)",
                    _ => "either",
                };
                let what = row.what.clone().unwrap_or_else(|| format!("{} `{}`", row.kind, row.name));
                let cells =
                    [("root", &row.root), ("user", &row.user), ("contained", &row.contained)].map(|(mode, words)| {
                        match words {
                            Some(words) => words.iter().map(|word| word.name()).collect::<Vec<_>>().join(" or "),
                            None if entry.refused.contains_key(mode) => "cannot run".to_string(),
                            None => "-".to_string(),
                        }
                    });
                text.push_str(&format!("| {} | {killed} | {what} | {} |\n", entry.title, cells.join(" | ")));
            }
        }
        text
    }
}

impl Entry {
    /// What is wrong with a report after `kill` in `mode`; empty if it says exactly what the table says.
    #[must_use]
    pub fn problems(
        &self,
        mode: Mode,
        kill: Kill,
        variables: &BTreeMap<String, String>,
        report: &Report,
    ) -> Vec<String> {
        let rows: Vec<&Row> =
            self.left.iter().filter(|row| row.kill.contains(&kill) && row.allowed(mode).is_some()).collect();
        let mut problems: Vec<String> =
            rows.iter().filter_map(|row| problem(row, mode, variables, report).err()).collect();
        let strange = |item: &&Item| !rows.iter().any(|row| row.matches(item, variables));
        for item in report.stragglers.iter().filter(strange) {
            problems.push(format!("not in the table: {} {} ({})", item.kind, item.name, item.action));
        }
        for item in report.unattributed.iter().filter(|item| own(item, variables)).filter(strange) {
            problems.push(format!("not in the table: {} {} (unattributed)", item.kind, item.name));
        }
        problems
    }
}

/// Whether an unattributed object is known, from its name, to be of this start and not of other work on the machine.
#[must_use]
pub fn own(item: &Item, variables: &BTreeMap<String, String>) -> bool {
    let sysv = item.kind.starts_with("sysv-");
    variables.iter().any(|(key, value)| match key.as_str() {
        "tag" | "tmp" | "home" | "folder" | "socket" | "segment" | "semaphore" => item.name.contains(value.as_str()),
        "shm" => sysv && item.kind == "sysv-segment" && has_number(&item.name, value),
        "sem" => sysv && item.kind == "sysv-semaphore" && has_number(&item.name, value),
        "msg" => sysv && item.kind == "sysv-queue" && has_number(&item.name, value),
        "loop" => item.name == *value,
        _ => false,
    })
}

fn has_number(name: &str, number: &str) -> bool {
    name.split(|c: char| !c.is_ascii_digit()).any(|word| word == number)
}

fn problem(row: &Row, mode: Mode, variables: &BTreeMap<String, String>, report: &Report) -> Result<(), String> {
    let allowed = row.allowed(mode).unwrap_or_default();
    let name = fill(&row.name, variables).ok_or_else(|| format!("the program did not say {}", row.name))?;
    let found: Vec<&Item> = report.stragglers.iter().filter(|item| row.matches(item, variables)).collect();
    let wrong: BTreeSet<&str> = found
        .iter()
        .filter(|item| !Word::of(&item.action).is_some_and(|word| allowed.contains(&word)))
        .map(|item| item.action.as_str())
        .collect();
    if !wrong.is_empty() {
        return Err(format!("{} {name}: {wrong:?}, expected {allowed:?}", row.kind));
    }
    let gone = allowed.contains(&Word::Gone);
    // Where timing decides, some of a row's objects may be proved and others not.
    let fewer = gone || allowed.contains(&Word::Unattributed);
    if row.count > 0 && found.len() > row.count || !found.is_empty() && found.len() < row.count && !fewer {
        return Err(format!("{} {name}: {} found, expected {}", row.kind, found.len(), row.count));
    }
    if !found.is_empty() {
        return Ok(());
    }
    if report.unattributed.iter().any(|item| row.matches(item, variables)) {
        let said = format!("{} {name}: unattributed, expected {allowed:?}", row.kind);
        return if allowed.contains(&Word::Unattributed) { Ok(()) } else { Err(said) };
    }
    if allowed.contains(&Word::NotVisible) && report.not_visible.iter().any(|kind| glob::matches(&row.kind, &kind.kind))
    {
        return Ok(());
    }
    if gone && (name.contains('*') || !name.starts_with('/') || !Path::new(&name).exists()) {
        return Ok(());
    }
    Err(format!("{} {name}: absent, expected {allowed:?}", row.kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program;

    /// Kinds of which root may say "unattributed": no layer that kobj has tells their maker.
    const WITHOUT_MAKER: [&str; 6] = ["sysv-semaphore", "sysv-queue", "mount", "loop-device", "namespace", "cgroup"];

    #[test]
    fn the_table_has_every_program_and_root_may_not_shrug() {
        let table = Table::checked_in();
        let names: Vec<&str> = table.program.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, program::ALL.map(|program| program.name));
        for entry in &table.program {
            assert!(!entry.left.is_empty(), "{} leaves nothing?", entry.name);
            for row in &entry.left {
                for (mode, words) in [("root", &row.root), ("user", &row.user), ("contained", &row.contained)] {
                    let told = words.as_ref().is_some_and(|words| !words.is_empty());
                    assert_ne!(told, entry.refused.contains_key(mode), "{} {} {mode}", entry.name, row.name);
                }
                if row.root.as_ref().is_some_and(|words| words.contains(&Word::Unattributed)) {
                    assert!(WITHOUT_MAKER.contains(&row.kind.as_str()), "{} {}", entry.name, row.name);
                }
                let words = [&row.root, &row.user, &row.contained].into_iter().flatten().flatten();
                if words.into_iter().any(|word| matches!(word, Word::Gone | Word::Reported | Word::InUse)) {
                    assert!(row.why.is_some(), "{} {}: say why", entry.name, row.name);
                }
            }
        }
    }

    #[test]
    fn the_readme_shows_this_table() {
        let readme = include_str!("../../../README.md");
        let fresh = "print it again: cargo run -p kobj-e2e --bin e2e-table";
        assert!(readme.contains(&Table::checked_in().markdown()), "{fresh}");
    }

    fn report(stragglers: &str, unattributed: &str) -> Report {
        let item = |text: &str| -> Vec<serde_json::Value> {
            text.split_terminator(';')
                .map(|one| {
                    let words: Vec<&str> = one.split(' ').collect();
                    serde_json::json!({"kind": words[0], "name": words[1], "action": words[2], "why": null})
                })
                .collect()
        };
        serde_json::from_value(serde_json::json!({
            "schema": "kobj.report/1",
            "job": {"name": null, "containment": "cgroup", "tracing": [], "complete": true,
                    "incomplete_because": [], "jobs": []},
            "balance": [], "not_visible": [],
            "stragglers": item(stragglers), "unattributed": item(unattributed),
        }))
        .expect("a report")
    }

    #[test]
    fn a_report_is_held_to_its_rows() {
        let entry: Entry = toml::from_str(
            "name = 'x'\ntitle = 'X'\n[[left]]\nkind = 'segment'\nname = '/dev/shm/{tag}-*'\ncount = 2\nroot = ['scrubbed']\n",
        )
        .expect("an entry");
        let variables = BTreeMap::from([("tag".to_string(), "t7".to_string())]);
        let problems = |stragglers: &str, unattributed: &str| {
            entry.problems(Mode::Root, Kill::Main, &variables, &report(stragglers, unattributed)).len()
        };
        let good = "segment /dev/shm/t7-a scrubbed;segment /dev/shm/t7-b scrubbed;";
        assert_eq!(problems(good, "segment /dev/shm/other reported;"), 0, "others' unattributed objects are no news");
        assert_eq!(problems("segment /dev/shm/t7-a scrubbed;", ""), 1, "one of two is missing");
        assert_eq!(problems("", ""), 1, "simply absent");
        assert_eq!(problems("", "segment /dev/shm/t7-a reported;"), 1, "unattributed is not allowed here");
        assert_eq!(problems("segment /dev/shm/t7-a scrubbed;segment /dev/shm/t7-b in-use;", ""), 1, "wrong action");
        assert_eq!(problems(&format!("{good}segment /dev/shm/foreign scrubbed;"), ""), 1, "a foreign object");
        assert_eq!(problems(good, "fifo /tmp/t7-f reported;"), 1, "an own object outside the table");
    }
}

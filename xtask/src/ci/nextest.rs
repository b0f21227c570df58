//! The test runs by cargo-nextest: their closing lines are kept for the end, skips are named, counts are added up.

use super::install::has_tool;
use super::{Context, Outcome};
use crate::shell;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// The package of the end-to-end tests; its folder shows whether it is there.
const E2E: (&str, &str) = ("kobj-e2e", "tests/e2e/Cargo.toml");

/// Closing lines and counts of the runs so far.
#[derive(Default)]
pub(crate) struct Totals {
    lines: Vec<String>,
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Totals {
    /// Prints each run's own closing lines and one line for all.
    pub(crate) fn print(&self) {
        self.lines.iter().for_each(|line| println!("{line}"));
        if !self.lines.is_empty() {
            println!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped);
        }
    }

    /// Takes a run's `Summary` line: `Summary [   1.2s] 12 tests run: 11 passed (1 slow), 1 failed, 0 skipped`.
    ///
    /// Whatever is neither passed nor skipped (failed, timed out, not run, could not start) is counted as failed.
    fn take(&mut self, line: &str) {
        let Some((head, counts)) = line.split_once("run:") else { return };
        let number_before = |text: &str, word: &str| {
            let before = text.split(word).next().filter(|before| before.len() < text.len())?;
            before.split_whitespace().next_back()?.trim_start_matches('(').parse::<u64>().ok()
        };
        let of = |word: &str| counts.split(',').find_map(|part| number_before(part, word)).unwrap_or(0);
        // "7/12 tests" stands where a run was cut short.
        let run = head.split_whitespace().rev().nth(1).and_then(|word| word.rsplit('/').next()?.parse::<u64>().ok());
        let passed = of(" passed");
        self.passed += passed;
        self.skipped += of(" skipped");
        self.failed += run.unwrap_or(passed).saturating_sub(passed);
        self.lines.push(line.to_string());
    }
}

/// Every package but the end-to-end tests.
pub(crate) fn unit(context: &mut Context) -> Result<Outcome, String> {
    let mut arguments = vec!["--workspace"];
    if is_there() {
        arguments.extend(["--exclude", E2E.0]);
    }
    run(context, &arguments)?;
    Ok(Outcome::Held)
}

/// The end-to-end tests with their programs.
pub(crate) fn e2e(context: &mut Context) -> Result<Outcome, String> {
    if !is_there() {
        return Ok(Outcome::Skipped(format!("no {}", E2E.1)));
    }
    run(context, &["--package", E2E.0])?;
    Ok(Outcome::Held)
}

fn is_there() -> bool {
    shell::root().join(E2E.1).is_file()
}

/// Without nextest and without leave to install it: the same tests by cargo's own runner.
fn run_plain(context: &mut Context, packages: &[&str]) -> Result<(), String> {
    println!("skipped: cargo-nextest: not installed; cargo test runs the same tests");
    let mut command = shell::cargo(&["test", "--locked", "--no-fail-fast", "--all-targets"]);
    let (passed, failed, result) = shell::count_tests(command.args(packages));
    context.tests.passed += passed;
    context.tests.failed += failed;
    context.tests.lines.push(format!("cargo test {}: {passed} passed, {failed} failed", packages.join(" ")));
    result
}

/// Runs nextest, shows its output as it comes, keeps its closing lines, then names what the tests skipped.
fn run(context: &mut Context, packages: &[&str]) -> Result<(), String> {
    if !has_tool("cargo-nextest") {
        return run_plain(context, packages);
    }
    let mut command = shell::cargo(&["nextest", "run", "--locked", "--profile", "ci", "--no-tests", "fail"]);
    command.args(packages).stderr(Stdio::piped());
    println!("  $ {}", shell::shown(&command));
    let mut child = command.spawn().map_err(|e| format!("cargo nextest: cannot start: {e}"))?;
    let output = child.stderr.take().ok_or("cargo nextest: no output")?;
    let mut closing = false;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.map_err(|e| format!("cargo nextest: reading its output: {e}"))?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if line.trim_start().starts_with("Summary [") {
            closing = true;
            context.tests.take(line.trim_start());
        } else if closing && !line.trim().is_empty() {
            context.tests.lines.push(line.into_owned());
        }
    }
    let status = child.wait().map_err(|e| format!("cargo nextest: {e}"))?;
    let report = shell::root().join("target/nextest/ci/junit.xml");
    if let Ok(text) = std::fs::read_to_string(&report) {
        skips(&text).iter().for_each(|line| println!("{line}"));
    }
    if status.success() { Ok(()) } else { Err(format!("cargo nextest {}: {status}", packages.join(" "))) }
}

/// What tests said they could not do here: their lines `skipped: NAME: why`, each once.
fn skips(report: &str) -> Vec<String> {
    let unescape = |text: &str| {
        let quotes = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
        quotes.replace("&amp;", "&")
    };
    let mut found: Vec<String> = Vec::new();
    for line in report.lines() {
        let line = line.rsplit("<system-out>").next().unwrap_or(line);
        let line = line.rsplit("<system-err>").next().unwrap_or(line);
        let line = unescape(line.split("</system-").next().unwrap_or(line));
        if line.starts_with("skipped: ") && !found.contains(&line) {
            found.push(line);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_counted_and_whatever_did_not_pass_has_failed() {
        let mut totals = Totals::default();
        totals.take("Summary [   0.013s] 12 tests run: 12 passed, 3 skipped");
        assert_eq!((totals.passed, totals.failed, totals.skipped), (12, 0, 3));
        totals.take("Summary [ 1.2s] 7/12 tests run: 4 passed (1 slow), 1 failed, 1 timed out, 1 skipped");
        assert_eq!((totals.passed, totals.failed, totals.skipped), (16, 8, 4));
        totals.take("Summary [ 1.2s] 1 test run: 0 passed, 1 failed, 0 skipped");
        assert_eq!((totals.passed, totals.failed, totals.skipped), (16, 9, 4));
        totals.take("no closing line");
        assert_eq!(totals.lines.len(), 3);
    }

    #[test]
    fn skips_are_named_once_and_nothing_else_is_taken_for_one() {
        let report = "<testcase>\n<system-out>skipped: a: no &lt;KVM&gt;\nother\nskipped: b: no cgroup</system-out>\n\
            <system-err>skipped: b: no cgroup\nI skipped: it</system-err>";
        assert_eq!(skips(report), ["skipped: a: no <KVM>", "skipped: b: no cgroup"]);
    }
}

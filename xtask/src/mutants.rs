//! `cargo xtask mutants [WORD...]`: plants the mistakes of `mutants.txt` one by one, in a copy, and sees a test fail.

use crate::shell;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const LIST: &str = include_str!("../mutants.txt");
/// The copy, below the root; builds stand beside it.
const COPY: &str = "target/mutants/copy";
/// How long a mutant may run, in seconds: some never come to an end, and are caught by that.
const PATIENCE_S: &str = "180";

/// A mistake to plant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Mutant {
    name: String,
    file: String,
    test: String,
    from: String,
    to: String,
}

/// Reads the list; an error says which line is none of it.
fn read(list: &str) -> Result<Vec<Mutant>, String> {
    let mut mutants: Vec<Mutant> = Vec::new();
    for (index, line) in list.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("== ") {
            mutants.push(Mutant { name: name.into(), ..Mutant::default() });
            continue;
        }
        let wrong = || format!("mutants.txt:{}: {line:?} is no line of a mutant", index + 1);
        let mutant = mutants.last_mut().ok_or_else(wrong)?;
        match (line.strip_prefix('-'), line.strip_prefix('+'), line.split_once(' ')) {
            (Some(text), ..) => mutant.from.extend([text, "\n"]),
            (_, Some(text), _) => mutant.to.extend([text, "\n"]),
            (.., Some(("file", file))) => mutant.file = file.into(),
            (.., Some(("test", test))) => mutant.test = test.into(),
            _ => return Err(wrong()),
        }
    }
    Ok(mutants)
}

/// The text with the mistake in it; an error if its place is not found, or found twice.
fn plant(mutant: &Mutant, text: &str) -> Result<String, String> {
    match text.matches(&mutant.from).count() {
        1 => Ok(text.replacen(&mutant.from, &mutant.to, 1)),
        count => {
            let (name, file) = (&mutant.name, &mutant.file);
            Err(format!("{name}: its lines stand {count} times in {file}; bring xtask/mutants.txt up to date"))
        }
    }
}

/// The test runs of which each must fail.
fn runs(test: &str) -> Result<Vec<Run>, String> {
    let models = ["--release", "--package", "kobj-memory", "--tests"];
    let run = |checker, arguments: &[&'static str]| Run { checker, arguments: arguments.to_vec() };
    Ok(match test {
        "models" => vec![run(Some("loom"), &models), run(Some("shuttle"), &models)],
        "loom" => vec![run(Some("loom"), &models)],
        "manager" => vec![run(Some("loom"), &["--release", "--package", "kobj-core", "--lib", "embed::models"])],
        "memory" => vec![run(None, &["--package", "kobj-memory", "--lib"])],
        "core" => vec![run(None, &["--package", "kobj-core", "--lib"])],
        "calls" => vec![run(None, &["--package", "kobj-core", "--test", "*"])],
        "sim" => vec![run(None, &["--package", "kobj-sim"])],
        other => return Err(format!("mutants.txt: no test {other:?}")),
    })
}

/// One run of tests in the copy.
struct Run {
    checker: Option<&'static str>,
    arguments: Vec<&'static str>,
}

impl Run {
    fn command(&self, more: &[&str]) -> Command {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        // `timeout` ends the whole group, test programs too.
        let mut command =
            shell::command("timeout", &["--kill-after=5", PATIENCE_S, &cargo, "test", "--quiet", "--locked"]);
        let folder = format!("target/mutants/{}", self.checker.unwrap_or("plain"));
        command.args(&self.arguments).args(more).current_dir(shell::root().join(COPY));
        command.env("CARGO_TARGET_DIR", shell::root().join(folder)).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("KOBJ_SIM_COMMANDS", "20000");
        if let Some(checker) = self.checker {
            command.env("RUSTFLAGS", format!("--cfg {checker}")).env("CARGO_PROFILE_RELEASE_LTO", "off");
        }
        command
    }

    fn succeeds(&self, more: &[&str]) -> Result<bool, String> {
        let status = self.command(more).status().map_err(|e| format!("timeout: {e}"))?;
        Ok(status.success())
    }
}

/// Copies what git tracks.
fn copy() -> Result<(), String> {
    let copy = shell::root().join(COPY);
    let wrong = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
    for path in shell::output(&mut shell::command("git", &["ls-files", "-z"]))?.split_terminator('\0') {
        let to = copy.join(path);
        fs::create_dir_all(to.parent().unwrap_or(&copy)).map_err(|e| wrong(&to, e))?;
        fs::copy(shell::root().join(path), &to).map_err(|e| wrong(&to, e))?;
    }
    Ok(())
}

/// Tries each mutant whose name has one of the words, or all; those that no test caught are an error.
pub(crate) fn run(words: &[String]) -> Result<(), String> {
    let mutants = read(LIST)?;
    copy()?;
    let mut missed = Vec::new();
    for mutant in
        mutants.iter().filter(|mutant| words.is_empty() || words.iter().any(|word| mutant.name.contains(word)))
    {
        let path = shell::root().join(COPY).join(&mutant.file);
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        fs::write(&path, plant(mutant, &text)?).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut caught = true;
        for run in runs(&mutant.test)? {
            if !run.succeeds(&["--no-run"])? {
                return Err(format!("{}: it does not build", mutant.name));
            }
            caught &= !run.succeeds(&[])?;
        }
        println!("{} {}", if caught { "caught" } else { "MISSED" }, mutant.name);
        missed.extend((!caught).then_some(mutant.name.as_str()));
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    if missed.is_empty() { Ok(()) } else { Err(format!("no test caught: {}", missed.join("; "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mutant_has_one_place_and_a_test() {
        let mutants = read(LIST).unwrap();
        assert!(mutants.len() > 30);
        for mutant in &mutants {
            let text = fs::read_to_string(shell::root().join(&mutant.file)).unwrap();
            assert_ne!(plant(mutant, &text).unwrap(), text, "{}", mutant.name);
            assert!(runs(&mutant.test).is_ok(), "{}", mutant.name);
        }
    }

    #[test]
    fn a_list_that_is_out_of_date_is_seen() {
        let list = "# about\n\n== a\nfile f\ntest core\n-one\n+two\n";
        let mutant = &read(list).unwrap()[0];
        assert_eq!(plant(mutant, "one\nthree\n"), Ok("two\nthree\n".into()));
        assert!(plant(mutant, "one\none\n").is_err() && plant(mutant, "three\n").is_err());
        assert!(read("file f\n").is_err() && read("== a\nwhat?\n").is_err());
    }
}

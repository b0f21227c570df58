//! Running commands from the project's root and saying which one failed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The project's root folder.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// A command that runs in the root, without standard input.
pub(crate) fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    command
}

/// The cargo that runs us.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()), arguments);
    // What `cargo run` sets for us must not reach the builds we start: it would make their fingerprints differ.
    for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
        command.env_remove(name);
    }
    command
}

/// The command line as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let mut words = vec![file_name(&command.get_program().to_string_lossy())];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

fn file_name(path: &str) -> String {
    Path::new(path).file_name().map_or_else(|| path.into(), |name| name.to_string_lossy().into_owned())
}

/// Prints the command, runs it, and turns anything but success into an error that names it.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    println!("  $ {}", shown(command));
    let status = command.status().map_err(|e| format!("{}: cannot start: {e}", shown(command)))?;
    if status.success() { Ok(()) } else { Err(format!("{}: {status}", shown(command))) }
}

/// Runs a command that runs tests; that none was run is an error too.
pub(crate) fn run_tests(command: &mut Command) -> Result<(), String> {
    let (passed, _, result) = count_tests(command);
    match result {
        Ok(()) if passed == 0 => Err(format!("{}: no test was run", shown(command))),
        other => other,
    }
}

/// Runs a command that runs tests, shows its output, and counts how many passed and failed.
pub(crate) fn count_tests(command: &mut Command) -> (u64, u64, Result<(), String>) {
    println!("  $ {}", shown(command));
    let (mut passed, mut failed) = (0, 0);
    let result = lines_of(command, |line| {
        println!("{line}");
        if let Some(counts) = line.trim_start().strip_prefix("test result: ") {
            passed += number_before(counts, " passed");
            failed += number_before(counts, " failed");
        }
    });
    (passed, failed, result)
}

/// Runs a command and hands on each line of its standard output as it comes.
fn lines_of(command: &mut Command, mut each: impl FnMut(&str)) -> Result<(), String> {
    let name = shown(command);
    let wrong = |e: std::io::Error| format!("{name}: {e}");
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(wrong)?;
    for line in child.stdout.take().into_iter().flat_map(|output| BufReader::new(output).split(b'\n')) {
        each(&String::from_utf8_lossy(&line.map_err(wrong)?));
    }
    let status = child.wait().map_err(wrong)?;
    if status.success() { Ok(()) } else { Err(format!("{name}: {status}")) }
}

/// The number that stands before a word; 0 if none does.
fn number_before(text: &str, word: &str) -> u64 {
    let number = |(before, _): (&str, &str)| before.rsplit(' ').next()?.parse().ok();
    text.split_once(word).and_then(number).unwrap_or(0)
}

/// What a command prints, when it succeeds.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output =
        command.stderr(Stdio::inherit()).output().map_err(|e| format!("{}: cannot start: {e}", shown(command)))?;
    if !output.status.success() {
        return Err(format!("{}: {}", shown(command), output.status));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("{}: output is not UTF-8", shown(command)))
}

/// Whether a program of that name can be found in `PATH` (or in the administrators' folders).
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(administrators).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_run_without_tests_is_an_error() {
        let said = |text: &str| run_tests(&mut command("printf", &[text]));
        assert_eq!(said("test result: ok. 3 passed; 0 failed; 0 ignored\\n"), Ok(()));
        assert!(said("test result: ok. 0 passed; 0 failed; 0 ignored\\n").is_err());
        assert!(said("nothing").is_err());
        let (passed, failed, _) =
            count_tests(&mut command("printf", &["test result: FAILED. 12 passed; 3 failed; 1 x\\n"]));
        assert_eq!((passed, failed), (12, 3));
        assert!(run_tests(&mut command("false", &[])).is_err());
    }

    #[test]
    fn a_failed_command_is_named() {
        assert_eq!(run(&mut command("sh", &["-c", "exit 3"])), Err("sh -c exit 3: exit status: 3".into()));
        assert!(run(&mut command("no-such-program-of-kobj", &[])).unwrap_err().contains("no-such-program-of-kobj"));
    }
}

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
    println!("  $ {}", shown(command));
    let wrong = |e: std::io::Error, what: &str| format!("{what}: {e}");
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|e| wrong(e, &shown(command)))?;
    let output = child.stdout.take().ok_or("no output")?;
    let mut passed = 0;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.map_err(|e| wrong(e, &shown(command)))?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        passed += passed_tests(&line);
    }
    let status = child.wait().map_err(|e| wrong(e, &shown(command)))?;
    match (status.success(), passed) {
        (true, 0) => Err(format!("{}: no test was run", shown(command))),
        (true, _) => Ok(()),
        (false, _) => Err(format!("{}: {status}", shown(command))),
    }
}

/// The count in `test result: ok. 12 passed; 0 failed; ...`, else 0.
fn passed_tests(line: &str) -> u64 {
    let count = |rest: &str| rest.split_once(" passed")?.0.rsplit(' ').next()?.parse().ok();
    line.trim_start().strip_prefix("test result: ").and_then(count).unwrap_or(0)
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
        assert!(run_tests(&mut command("false", &[])).is_err());
    }

    #[test]
    fn a_failed_command_is_named() {
        assert_eq!(run(&mut command("sh", &["-c", "exit 3"])), Err("sh -c exit 3: exit status: 3".into()));
        assert!(run(&mut command("no-such-program-of-kobj", &[])).unwrap_err().contains("no-such-program-of-kobj"));
    }
}

//! The steps that are one cargo command each, or a few.

use super::install::has_tool;
use super::{Context, Outcome};
use crate::{metal as metal_task, miri as miri_task, shell, tidy as tidy_task};
use serde_json::Value;
use std::process::Command;

/// The one target that there is.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Rooms whose unit tests also run under the sanitizers.
const CHECKED: [&str; 5] = ["--package", "kobj-memory", "--package", "kobj-core", "--lib"];
/// How long each fuzz target runs, in seconds.
const FUZZ_S: &str = "20";

fn one(mut command: Command) -> Result<Outcome, String> {
    shell::run(&mut command)?;
    Ok(Outcome::Held)
}

fn tests(mut command: Command) -> Result<Outcome, String> {
    shell::run_tests(&mut command)?;
    Ok(Outcome::Held)
}

pub(crate) fn fmt(_: &mut Context) -> Result<Outcome, String> {
    one(shell::cargo(&["fmt", "--all", "--check"]))
}

pub(crate) fn tidy(_: &mut Context) -> Result<Outcome, String> {
    tidy_task::run(&[])?;
    Ok(Outcome::Held)
}

pub(crate) fn clippy(_: &mut Context) -> Result<Outcome, String> {
    one(shell::cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

pub(crate) fn deny(_: &mut Context) -> Result<Outcome, String> {
    if !has_tool("cargo-deny") {
        return Ok(Outcome::Skipped("cargo-deny is not installed".into()));
    }
    for manifest in ["Cargo.toml", WASM_HOST] {
        let mut command = shell::cargo(&["deny", "--locked", "--manifest-path", manifest, "--config", "deny.toml"]);
        shell::run(command.args(["check", "licenses", "bans", "sources"]))?;
    }
    Ok(Outcome::Held)
}

pub(crate) fn docs(_: &mut Context) -> Result<Outcome, String> {
    let mut command = shell::cargo(&["doc", "--locked", "--workspace", "--no-deps"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    one(command)
}

pub(crate) fn doctests(_: &mut Context) -> Result<Outcome, String> {
    one(shell::cargo(&["test", "--locked", "--workspace", "--doc", "--quiet"]))
}

/// The models of memory's atomics, twice, and those of the manager. Optimised, since each of them is run many thousand times.
pub(crate) fn loom(_: &mut Context) -> Result<Outcome, String> {
    const MEMORY: [&str; 3] = ["--package", "kobj-memory", "--tests"];
    for (checker, what) in [("loom", MEMORY), ("shuttle", MEMORY), ("loom", ["--package", "kobj-core", "--lib"])] {
        let mut command = shell::cargo(&["test", "--locked", "--release", "--target-dir", "target/loom", "--quiet"]);
        command.args(what).args(["--", "models"]).env("RUSTFLAGS", format!("--cfg {checker}"));
        command.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
        shell::run_tests(&mut command)?;
    }
    Ok(Outcome::Held)
}

/// AddressSanitizer is in the stable compiler behind a switch that RUSTC_BOOTSTRAP opens.
pub(crate) fn address(_: &mut Context) -> Result<Outcome, String> {
    let mut command = shell::cargo(&["test", "--locked", "--quiet", "--target", TARGET, "--target-dir"]);
    command.arg("target/address").args(CHECKED);
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address");
    tests(command)
}

/// The same unit tests under valgrind, which also sees reads of bytes that nobody wrote.
pub(crate) fn valgrind(_: &mut Context) -> Result<Outcome, String> {
    if !shell::on_path("valgrind") {
        return Ok(Outcome::Skipped("valgrind is not installed".into()));
    }
    let mut build = shell::cargo(&["test", "--locked", "--no-run", "--message-format", "json-render-diagnostics"]);
    // Optimised a little: valgrind multiplies whatever the tests take.
    build.args(CHECKED).args(["--target-dir", "target/valgrind"]).env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
    let binaries = test_binaries(&shell::output(&mut build)?);
    if binaries.is_empty() {
        return Err("no test binary was built".into());
    }
    for binary in binaries {
        let mut command = shell::command("valgrind", &["--quiet", "--error-exitcode=9", "--leak-check=full"]);
        command.args(["--show-leak-kinds=definite,indirect", "--errors-for-leak-kinds=definite,indirect"]);
        command.args([&binary, "--quiet", "--test-threads=1"]);
        shell::run_tests(&mut command)?;
    }
    Ok(Outcome::Held)
}

/// The test programs that a `cargo test --no-run --message-format json` names.
fn test_binaries(messages: &str) -> Vec<String> {
    let executable = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(Into::into)
    };
    messages.lines().filter_map(executable).collect()
}

/// Every target under fuzz/ for a short time, with AddressSanitizer.
pub(crate) fn fuzz(_: &mut Context) -> Result<Outcome, String> {
    if !shell::root().join("fuzz/Cargo.toml").is_file() {
        return Ok(Outcome::Skipped("no fuzz/Cargo.toml".into()));
    }
    for (found, name) in [(has_tool("cargo-fuzz"), "cargo-fuzz"), (shell::on_path("c++"), "a C++ compiler")] {
        if !found {
            return Ok(Outcome::Skipped(format!("{name} is not installed")));
        }
    }
    let list = shell::output(&mut shell::cargo(&["fuzz", "list"]))?;
    if list.trim().is_empty() {
        return Err("fuzz/ has no target".into());
    }
    for target in list.lines() {
        let mut command = shell::cargo(&["fuzz", "run", "--target", TARGET, "--target-dir", "target/fuzz", target]);
        command.args(["--", &format!("-max_total_time={FUZZ_S}"), "-print_final_stats=0", "-verbosity=0"]);
        shell::run(command.env("RUSTC_BOOTSTRAP", "1"))?;
    }
    Ok(Outcome::Held)
}

pub(crate) fn miri(_: &mut Context) -> Result<Outcome, String> {
    match miri_task::missing() {
        Some(why) => Ok(Outcome::Skipped(why)),
        None => miri_task::run(&[]).map(|()| Outcome::Held),
    }
}

pub(crate) fn metal(_: &mut Context) -> Result<Outcome, String> {
    if !shell::on_path(metal_task::EMULATOR) {
        return Ok(Outcome::Skipped(format!("{} is not installed", metal_task::EMULATOR)));
    }
    metal_task::check().map(|()| Outcome::Held)
}

/// The workspace of the host of WebAssembly guests.
/// A crate outside of the workspace that adds a type of its own, and holds the page that says how.
const OWN_TYPE: &str = "examples/own-type/Cargo.toml";
const WASM_HOST: &str = "examples/wasm-host/Cargo.toml";

/// The programs that README shows, each of which says at its end that nothing is left. The third is a test suite, run by `unit`.
pub(crate) fn examples(_: &mut Context) -> Result<Outcome, String> {
    let target = ["--locked", "--manifest-path", WASM_HOST, "--target-dir", "target/examples"];
    shell::run(&mut shell::cargo(&["fmt", "--manifest-path", WASM_HOST, "--check"]))?;
    shell::run(shell::cargo(&["clippy"]).args(target).args(["--all-targets", "--", "-D", "warnings"]))?;
    let own = ["--locked", "--manifest-path", OWN_TYPE, "--target-dir", "target/examples"];
    shell::run(&mut shell::cargo(&["fmt", "--manifest-path", OWN_TYPE, "--check"]))?;
    shell::run(shell::cargo(&["test", "--quiet"]).args(own))?;
    ends_balanced(&mut shell::cargo(&[
        "run",
        "--locked",
        "--quiet",
        "--package",
        "kobj",
        "--example",
        "guest_kernel",
    ]))?;
    ends_balanced(shell::cargo(&["run", "--quiet"]).args(target))?;
    Ok(Outcome::Held)
}

/// Runs a program whose last line has to be that nothing is left.
fn ends_balanced(command: &mut Command) -> Result<(), String> {
    println!("  $ {}", shell::shown(command));
    let printed = shell::output(command)?;
    print!("{printed}");
    match printed.lines().last() {
        Some("balance 0") => Ok(()),
        other => Err(format!("{}: ends with {other:?}, not with \"balance 0\"", shell::shown(command))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_leaves_something_or_fails_is_seen() {
        assert_eq!(ends_balanced(&mut shell::command("printf", &["one\nbalance 0\n"])), Ok(()));
        for wrong in ["balance 1\n", "balance 0\nmore\n", ""] {
            assert!(ends_balanced(&mut shell::command("printf", &[wrong])).is_err(), "{wrong:?}");
        }
        assert!(ends_balanced(&mut shell::command("sh", &["-c", "echo balance 0; exit 1"])).is_err());
    }

    #[test]
    fn test_programs_are_found_among_cargos_messages() {
        let messages =
            "{\"reason\":\"compiler-artifact\",\"executable\":\"/t/a\"}\nnoise\n{\"reason\":\"x\",\"executable\":null}";
        assert_eq!(test_binaries(messages), ["/t/a"]);
    }
}

//! `cargo xtask bench [NAME or GROUP...] [--json]`: hands everything on to the benchmark program, optimised.

use crate::shell;

const PACKAGE: (&str, &str) = ("kobj-benches", "benches/Cargo.toml");

/// Builds the command that is measured and the benchmarks, then runs those that were named, or all.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    if !shell::root().join(PACKAGE.1).is_file() {
        return Err(format!("no {}", PACKAGE.1));
    }
    let mut build = shell::cargo(&["build", "--release", "--quiet", "--locked", "--bin", "kobj"]);
    // With --json standard output carries JSON alone, so the command is not shown there.
    let status = build.status().map_err(|e| format!("cargo build: {e}"))?;
    if !status.success() {
        return Err(format!("cargo build: {status}"));
    }
    let mut bench = shell::cargo(&["run", "--release", "--quiet", "--locked", "--package", PACKAGE.0, "--"]);
    let status = bench.args(arguments).status().map_err(|e| format!("benchmarks: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("benchmarks: {status}")) }
}

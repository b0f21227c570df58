//! `cargo xtask miri`: for those who have Miri; it comes with nightly toolchains only.

use crate::shell;
use std::process::Stdio;

/// Why Miri cannot run here; `None` if it can.
pub(crate) fn missing() -> Option<String> {
    let mut version = shell::cargo(&["miri", "--version"]);
    let works = version.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    (!works).then(|| "Miri is not installed (it comes with nightly toolchains, by rustup)".into())
}

/// Runs memory's and core's unit tests under Miri, or says by name that they are skipped.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    if let Some(why) = missing() {
        println!("skipped: miri: {why}");
        return Ok(());
    }
    let mut command = shell::cargo(&["miri", "test", "--target-dir", "target/miri"]);
    command.args(["--package", "kobj-memory", "--package", "kobj-core", "--lib"]).args(arguments);
    shell::run(&mut command)
}

//! `cargo xtask metal [--plant-leak] [--install]`: builds the image that runs the core without an operating system, and
//! boots it.

use crate::ci::install;
use crate::shell;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The workspace of the image, below the root.
const FOLDER: &str = "metal";
/// Where it is built, below the root, and what comes out.
const TARGET: &str = "target/metal";
const IMAGE: &str = "x86_64-unknown-linux-gnu/release/kobj-metal";
/// The emulator, which needs neither a kernel module nor rights.
pub(crate) const EMULATOR: &str = "qemu-system-x86_64";
/// How long the image may run, in seconds: it takes a few, on a machine that does much else ten times as many.
const PATIENCE_S: &str = "300";
/// What the emulator ends with when the image says so: see `metal/machine/serial.rs`.
const HELD: i32 = 33;
const FAILED: i32 = 35;

/// How a run of the image ended.
struct Run {
    /// The emulator's own status; `None` if it was killed.
    status: Option<i32>,
    /// What came over the serial line.
    console: String,
}

/// Builds, boots, and takes the image's word for it: anything but "all held" is an error.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let mut plant_leak = false;
    let mut may_install = std::env::var_os("CI").is_some_and(|value| value == "true");
    for argument in arguments {
        match argument.as_str() {
            "--plant-leak" => plant_leak = true,
            "--install" => may_install = true,
            other => return Err(format!("metal takes --plant-leak and --install, not {other:?}")),
        }
    }
    if !shell::on_path(EMULATOR) {
        install::program(EMULATOR, may_install)?;
    }
    verdict(&boot(plant_leak, |_| true)?)
}

/// What CI does: lints, the image, and the image with a planted leak, which it must notice by itself.
pub(crate) fn check() -> Result<(), String> {
    let mut fmt = cargo(&["fmt", "--check"]);
    shell::run(&mut fmt)?;
    let mut clippy = cargo(&["clippy", "--quiet", "--no-deps", "--target-dir"]);
    shell::run(clippy.arg(shell::root().join(TARGET)).args(["--", "-D", "warnings"]))?;
    // A line for each row that held would bury all else.
    let worth_showing = |line: &str| !line.ends_with(" ... ok");
    verdict(&boot(false, worth_showing)?)?;
    let planted = boot(true, worth_showing)?;
    if planted.status == Some(FAILED) && planted.console.lines().any(|line| line.starts_with("left: ")) {
        return Ok(());
    }
    Err(format!("a planted leak goes unnoticed: {}", verdict(&planted).err().unwrap_or("all held".into())))
}

fn verdict(run: &Run) -> Result<(), String> {
    let last = run.console.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing");
    match run.status {
        Some(HELD) if last.starts_with("metal: rows=") && last.ends_with(" live=0") => Ok(()),
        Some(HELD) => Err(format!("the image says that all held, but its last line is {last:?}")),
        Some(FAILED) => Err(format!("the image says that something did not hold: {last}")),
        // A fault that nobody handles resets the machine, which ends the emulator without a word.
        Some(0) => Err(format!("the image stopped without saying why, a fault probably; its last line: {last}")),
        Some(124 | 137) => Err(format!("the image was still running after {PATIENCE_S} s; its last line: {last}")),
        other => Err(format!("{EMULATOR} ended with {other:?}; the last line: {last}")),
    }
}

/// Cargo in the image's folder, where its own settings are read; what is set for other builds is kept from it.
fn cargo(arguments: &[&str]) -> Command {
    let mut command = shell::cargo(arguments);
    command.current_dir(shell::root().join(FOLDER));
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        command.env_remove(name);
    }
    command
}

fn build(plant_leak: bool) -> Result<PathBuf, String> {
    // Both images stand beside each other, so that the one is never taken for the other.
    let folder = shell::root().join(TARGET).join(if plant_leak { "planted" } else { "plain" });
    let mut command = cargo(&["build", "--quiet", "--release", "--target-dir"]);
    command.arg(&folder);
    if plant_leak {
        command.args(["--features", "plant-leak"]);
    }
    shell::run(&mut command)?;
    Ok(folder.join(IMAGE))
}

/// Builds and boots the image, and shows those lines of its console.
fn boot(plant_leak: bool, show: fn(&str) -> bool) -> Result<Run, String> {
    let image = build(plant_leak)?;
    let mut command = shell::command("timeout", &["--kill-after=5", PATIENCE_S, EMULATOR]);
    command.args(["-accel", "tcg", "-m", "512M", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.args(["-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-kernel"]).arg(image);
    println!("  $ {}", shell::shown(&command));
    let wrong = |e: std::io::Error| format!("{EMULATOR}: {e}");
    let output = command.stderr(Stdio::inherit()).output().map_err(wrong)?;
    let console = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    console.lines().filter(|line| show(line)).for_each(|line| println!("{line}"));
    Ok(Run { status: output.status.code(), console })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_images_own_word_and_last_line_count() {
        let said = |status: i32, console: &str| verdict(&Run { status: Some(status), console: console.into() });
        let good = "row: x ... ok\nmetal: rows=60 created=9 destroyed=9 live=0\n";
        assert_eq!(said(HELD, good), Ok(()));
        for status in [0, 1, 124, 137, FAILED] {
            assert!(said(status, good).is_err(), "{status}");
        }
        assert!(said(HELD, "").is_err());
        assert!(said(HELD, "metal: rows=60 created=9 destroyed=8 live=1\n").is_err());
        assert!(said(FAILED, "metal: panicked").unwrap_err().ends_with("metal: panicked"));
    }
}

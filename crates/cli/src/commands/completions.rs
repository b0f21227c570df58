//! `kobj completions SHELL`.

use crate::options::{Cli, CompletionsFlags};
use std::process::ExitCode;

/// Prints the completions of that shell.
pub(crate) fn run(flags: &CompletionsFlags) -> Result<ExitCode, String> {
    let mut script = Vec::new();
    clap_complete::generate(flags.shell, &mut Cli::whole(), "kobj", &mut script);
    crate::say(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

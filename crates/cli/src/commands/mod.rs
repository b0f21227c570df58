//! One file a command. Each takes its flags and returns its exit code, or one sentence about what went wrong.

mod completions;
mod filter;
mod last;
mod listing;
mod man;

use crate::options::Command;
use std::process::ExitCode;

/// Every command but `run`, which `main` hands over before the whole command line is even built.
pub(crate) fn dispatch(command: Command) -> Result<ExitCode, String> {
    match command {
        Command::Last(flags) => last::run(&flags),
        Command::Completions(flags) => completions::run(&flags),
        Command::Man(flags) => man::run(&flags),
    }
}

//! The `kobj` command: parses the command line and hands over.
#![forbid(unsafe_code)]

mod baseline;
mod commands;
mod config;
mod durations;
mod exit_code;
#[cfg(test)]
mod hostile;
mod options;
mod patterns;
mod report;
mod run;
mod space;
mod state;

use options::Cli;
use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    // The main job is parsed by itself: it starts fast, and its words after CMD are not ours to read.
    if words.get(1).is_some_and(|word| word == "run") {
        return run::run(&words[2..]);
    }
    if words.get(1).is_some_and(|word| word == run::isolate::FIRST_WORD) {
        return run::isolate::be_init(&words[2..]);
    }
    let cli = match Cli::parse_words(&words) {
        Ok(cli) => cli,
        Err(e) => {
            _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    commands::dispatch(cli.command)
}

/// Writes to standard error; a closed one is no reason to fail.
pub(crate) fn tell(text: &str) {
    _ = std::io::stderr().write_all(text.as_bytes());
}

/// Writes to standard output; a reader that went away (`| head`) is no error.
pub(crate) fn say(text: &str) -> Result<(), String> {
    match std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(format!("cannot write to standard output: {e}")),
        _ => Ok(()),
    }
}

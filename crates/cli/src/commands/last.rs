//! `kobj last`: the newest report again.

use crate::options::LastFlags;
use crate::report::text::{self, Style};
use crate::state;
use std::process::ExitCode;

/// Prints the newest report to standard output; exit 1 if none was kept.
pub(crate) fn run(flags: &LastFlags) -> Result<ExitCode, String> {
    let Some(report) = state::load_last()? else {
        crate::tell("kobj: no report was kept yet; a run that leaves something keeps one\n");
        return Ok(ExitCode::FAILURE);
    };
    if flags.json {
        crate::say(&report.to_json())?;
    } else {
        crate::say(&text::render(&report, Style::of(std::io::stdout(), flags.explain, flags.verbose)))?;
    }
    Ok(ExitCode::SUCCESS)
}

//! `kobj last`: the newest report again, whole or as a listing of its stragglers.

use super::ListingFlags;
use super::listing::{Cell, Listing};
use crate::report::schema::{Report, Straggler};
use crate::report::text::{self, Style};
use crate::state;
use clap::Args;
use std::process::ExitCode;

/// Flags of `kobj last`.
#[derive(Debug, Args)]
pub(crate) struct LastFlags {
    /// Evidence in words under each row
    #[arg(long)]
    explain: bool,
    /// Layers, limits and outputs too
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    listing: ListingFlags,
}

const COLUMNS: [&str; 13] =
    ["KIND", "NAME", "SIZE", "CREATOR", "HOLDERS", "ACTION", "CLASS", "PROVED", "AT", "WHY", "FIX", "IDENTITY", "KOID"];

/// Prints the newest report to standard output; exit 1 if none was kept.
///
/// `--json` alone is the report as it was written; with `-n`, `-o`, `-r` or `-Q` it becomes a listing.
pub(crate) fn run(flags: &LastFlags) -> Result<ExitCode, String> {
    let usual = ["KIND", "NAME", "SIZE", "CREATOR", "HOLDERS", "ACTION"];
    let listing = Listing::new(&flags.listing, "stragglers", &COLUMNS, &usual)?;
    let Some(report) = state::load_last()? else {
        crate::tell("kobj: no report was kept yet; a run that leaves something keeps one\n");
        return Ok(ExitCode::FAILURE);
    };
    if flags.listing.is_asked() {
        crate::say(&listing.render(&rows(&report)))?;
    } else if flags.listing.json {
        crate::say(&report.to_json())?;
    } else {
        crate::say(&text::render(&report, Style::of(std::io::stdout(), flags.explain, flags.verbose)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(report: &Report) -> Vec<Vec<Cell>> {
    let own = report.stragglers.iter().map(|straggler| row(straggler, true));
    own.chain(report.unattributed.iter().map(|straggler| row(straggler, false))).collect()
}

/// `command(pid)`; words alone for what is no process that could be found.
fn named(command: &str, pid: u32) -> String {
    if pid == 0 { command.to_owned() } else { format!("{command}({pid})") }
}

fn row(straggler: &Straggler, proved: bool) -> Vec<Cell> {
    let creator = straggler.creator.as_ref();
    let holders: Vec<String> = straggler.holders.iter().map(|holder| named(&holder.command, holder.pid)).collect();
    let optional = |text: Option<String>| text.map_or(Cell::Nothing, |text| Cell::text(&text));
    vec![
        Cell::text(straggler.kind.name()),
        Cell::Text(straggler.name.bytes()),
        straggler.size.map_or(Cell::Nothing, Cell::Size),
        optional(creator.map(|creator| format!("{}({})", creator.command, creator.pid))),
        optional((!holders.is_empty()).then(|| holders.join(","))),
        Cell::text(straggler.action.name()),
        Cell::text(straggler.class.name()),
        Cell::Flag(proved),
        creator.and_then(|creator| creator.at).map_or(Cell::Nothing, Cell::At),
        Cell::text(&straggler.why),
        optional(straggler.fix.clone()),
        Cell::text(&straggler.identity.to_string()),
        Cell::text(&straggler.koid),
    ]
}

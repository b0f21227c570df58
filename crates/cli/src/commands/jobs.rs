//! `kobj jobs`: the runs of this user that go on, and those whose kobj died before it could end them.

use super::ListingFlags;
use super::listing::{Cell, Listing};
use super::objects::view;
use super::records::{self, Job};
use clap::Args;
use kobj_host::view::View;
use std::process::ExitCode;

/// Flags of `kobj jobs`.
#[derive(Debug, Args)]
pub(crate) struct JobsFlags {
    #[command(flatten)]
    listing: ListingFlags,
}

const COLUMNS: [&str; 11] =
    ["JOB", "STATE", "NAME", "PID", "STARTED", "COMMAND", "KOID", "KEEPER", "PROCESSES", "COMPLETE", "RECORD"];

/// Prints the listing; exit 0, also where there is none.
pub(crate) fn run(flags: &JobsFlags) -> Result<ExitCode, String> {
    let usual = ["JOB", "STATE", "NAME", "PID", "STARTED", "COMMAND"];
    let listing = Listing::new(&flags.listing, "jobs", &COLUMNS, &usual)?;
    let view = view()?;
    let jobs = records::list();
    let rows: Vec<Vec<Cell>> = jobs.iter().map(|job| row(&view, job)).collect();
    crate::say(&listing.render(&rows))?;
    let dead = jobs.iter().filter(|job| !job.is_living() && !job.is_settled()).count();
    if dead > 0 && !flags.listing.json {
        let is = if dead == 1 { "job's kobj is" } else { "jobs' kobjs are" };
        crate::tell(&format!("kobj: {dead} {is} dead; kobj scrub --dead-jobs goes on from what they knew\n"));
    }
    Ok(ExitCode::SUCCESS)
}

fn row(view: &View, job: &Job) -> Vec<Cell> {
    let number = i64::try_from(job.number).map_or(Cell::Nothing, Cell::Number);
    let record = Cell::Text(job.record.path.as_os_str().as_encoded_bytes().to_vec());
    let contents = match &job.record.contents {
        Ok(contents) => contents,
        Err(why) => {
            let mut row = vec![number, Cell::text(job.state(view))];
            row.resize(COLUMNS.len() - 1, Cell::Nothing);
            row[5] = Cell::text(why);
            row.push(record);
            return row;
        }
    };
    vec![
        number,
        Cell::text(job.state(view)),
        Cell::Text(job.label()),
        contents.command.map_or(Cell::Nothing, |(pid, _)| Cell::Number(pid.into())),
        Cell::At(contents.started),
        Cell::Text(contents.command_line.join(&b' ')),
        Cell::text(&contents.koid.to_string()),
        Cell::Number(contents.keeper.0.into()),
        i64::try_from(contents.processes.0).map_or(Cell::Nothing, Cell::Number),
        Cell::Flag(!contents.lost),
        record,
    ]
}

//! `kobj balance [JOB]`: what a job made and destroyed up to now, as its record counts it.

use super::ListingFlags;
use super::listing::{Cell, Listing};
use super::records::{self, Job};
use clap::Args;
use kobj_host::makers::Group;
use kobj_host::record::Contents;
use std::process::ExitCode;

/// Flags of `kobj balance`.
#[derive(Debug, Args)]
pub(crate) struct BalanceFlags {
    /// Its name, its number in kobj jobs, or its command's process id; without: every job
    #[arg(value_name = "JOB")]
    job: Option<String>,
    #[command(flatten)]
    listing: ListingFlags,
}

const COLUMNS: [&str; 7] = ["JOB", "NAME", "KIND", "CREATED", "DESTROYED", "LIVE", "EXACT"];

/// Prints a row per kind that is counted; exit 0.
pub(crate) fn run(flags: &BalanceFlags) -> Result<ExitCode, String> {
    let usual: &[&str] = match flags.job {
        Some(_) => &["KIND", "CREATED", "DESTROYED", "LIVE", "EXACT"],
        None => &["JOB", "NAME", "KIND", "CREATED", "DESTROYED", "LIVE", "EXACT"],
    };
    let listing = Listing::new(&flags.listing, "balance", &COLUMNS, usual)?;
    let jobs = records::list();
    let jobs = match &flags.job {
        Some(text) => vec![records::find(jobs, text)?],
        None => jobs,
    };
    let mut rows = Vec::new();
    for job in &jobs {
        match &job.record.contents {
            Ok(contents) => rows.extend(rows_of(job, contents)),
            Err(why) => crate::tell(&format!("kobj: the record {}: {why}\n", job.record.path.display())),
        }
    }
    crate::say(&listing.render(&rows))?;
    Ok(ExitCode::SUCCESS)
}

fn rows_of(job: &Job, contents: &Contents) -> Vec<Vec<Cell>> {
    let exact = !contents.lost;
    let number = |count: u64| i64::try_from(count).map_or(Cell::Nothing, Cell::Number);
    let row = |kind: &str, created: u64, destroyed: u64| {
        vec![
            number(job.number as u64),
            Cell::Text(job.label()),
            Cell::text(kind),
            number(created),
            number(destroyed),
            number(created.saturating_sub(destroyed)),
            Cell::Flag(exact),
        ]
    };
    let mut rows = vec![row("process", contents.processes.0, contents.processes.1)];
    for (group, kind) in [
        (Group::Segment, "segment"),
        (Group::Semaphore, "posix-semaphore"),
        (Group::Folder, "folder"),
        (Group::Other, "other file"),
    ] {
        let count = contents.counts[group as usize];
        rows.push(row(kind, count.created, count.destroyed));
    }
    rows
}

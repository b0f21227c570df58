//! `kobj vault list VAULT [KIND]`.

use super::access::AccessFlags;
use super::{FilterFlags, say};
use crate::commands::ListingFlags;
use crate::commands::listing::{Cell, Listing};
use kobj_core::image::Time;
use kobj_vault::error::{Error, Result};
use kobj_vault::lock::Sharing;
use kobj_vault::repository::Repository;
use kobj_vault::snapshots::{self, Stored};
use kobj_vault::storage::FileKind;
use std::ffi::OsString;
use std::process::ExitCode;

/// Flags of `kobj vault list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListFlags {
    /// Folder of the vault
    vault: OsString,
    /// What to list
    #[arg(value_enum, default_value = "snapshots")]
    kind: Kind,
    #[command(flatten)]
    access: AccessFlags,
    #[command(flatten)]
    filter: FilterFlags,
    /// Only the newest so many snapshots of each host and set of paths
    #[arg(long, value_name = "COUNT")]
    latest: Option<usize>,
    #[command(flatten)]
    listing: ListingFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Snapshots,
    Packs,
    Index,
    Keys,
    Locks,
}

const SNAPSHOT_COLUMNS: [&str; 11] =
    ["ID", "TIME", "HOST", "USER", "TAGS", "PATHS", "FILES", "SIZE", "PARENT", "TREE", "PROGRAM"];
const SNAPSHOT_USUAL: [&str; 6] = ["ID", "TIME", "HOST", "TAGS", "PATHS", "SIZE"];
const FILE_COLUMNS: [&str; 2] = ["ID", "SIZE"];

/// Lists; exit 1 if a snapshot could not be read, or one that this host made is gone.
pub(crate) fn run(flags: &ListFlags) -> Result<ExitCode> {
    let opened = flags.access.open(&flags.vault, Sharing::Shared)?;
    let kind = match flags.kind {
        Kind::Snapshots => return list_snapshots(flags, &opened.repository),
        Kind::Packs => FileKind::Pack,
        Kind::Index => FileKind::Index,
        Kind::Keys => FileKind::Key,
        Kind::Locks => FileKind::Lock,
    };
    let listing = listing(flags, "files", &FILE_COLUMNS, &FILE_COLUMNS)?;
    let files = opened.repository.storage().list_all(kind)?;
    let row = |file: &kobj_vault::storage::Listed| vec![Cell::text(&file.id.to_string()), Cell::Size(file.size_bytes)];
    say(&listing.render(&files.iter().map(row).collect::<Vec<_>>()))?;
    Ok(ExitCode::SUCCESS)
}

fn listing<'a>(
    flags: &'a ListFlags,
    name: &'static str,
    columns: &'static [&'static str],
    usual: &[&'static str],
) -> Result<Listing<'a>> {
    Listing::new(&flags.listing, name, columns, usual).map_err(|sentence| Error::refused("the listing", sentence))
}

fn list_snapshots(flags: &ListFlags, repository: &Repository) -> Result<ExitCode> {
    let listing = listing(flags, "snapshots", &SNAPSHOT_COLUMNS, &SNAPSHOT_USUAL)?;
    let mut all = snapshots::load_all(repository, &flags.filter.filter())?;
    if let Some(count) = flags.latest {
        all.snapshots = newest(all.snapshots, count);
    }
    let rows: Vec<Vec<Cell>> = all.snapshots.iter().map(row).collect();
    say(&listing.render(&rows))?;
    for (_, error) in &all.damaged {
        crate::tell(&format!("kobj: {error}\n"));
    }
    let is_less = super::tell_missing(repository)?;
    Ok(if all.damaged.is_empty() && !is_less { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The newest `count` of each host and set of paths, in their order.
fn newest(snapshots: Vec<Stored>, count: usize) -> Vec<Stored> {
    let mut taken: std::collections::BTreeMap<(String, Vec<String>), usize> = std::collections::BTreeMap::new();
    let mut kept: Vec<Stored> = snapshots
        .into_iter()
        .rev()
        .filter(|stored| {
            let group = (stored.snapshot.hostname.clone(), stored.snapshot.paths.clone());
            let taken = taken.entry(group).or_default();
            *taken += 1;
            *taken <= count
        })
        .collect();
    kept.reverse();
    kept
}

/// A time as listings take it.
fn at(instant: (i64, u32)) -> Cell {
    let micros = instant.0.checked_mul(1_000_000).and_then(|micros| micros.checked_add(i64::from(instant.1 / 1_000)));
    micros.map_or(Cell::Nothing, |micros| Cell::At(Time(micros)))
}

fn row(stored: &Stored) -> Vec<Cell> {
    let snapshot = &stored.snapshot;
    let texts = |list: &[String]| match list {
        [] => Cell::Nothing,
        list => Cell::Texts(list.iter().map(|text| text.clone().into_bytes()).collect()),
    };
    let some = |text: &str| if text.is_empty() { Cell::Nothing } else { Cell::text(text) };
    let summary = snapshot.summary.as_ref();
    vec![
        Cell::text(&stored.id.short()),
        at(snapshot.time.instant()),
        some(&snapshot.hostname),
        some(&snapshot.username),
        texts(&snapshot.tags),
        texts(&snapshot.paths),
        summary.map_or(Cell::Nothing, |s| Cell::Number(i64::try_from(s.total_files_processed).unwrap_or(i64::MAX))),
        summary.map_or(Cell::Nothing, |s| Cell::Size(s.total_bytes_processed)),
        snapshot.parent.map_or(Cell::Nothing, |id| Cell::text(&id.short())),
        Cell::text(&snapshot.tree.short()),
        some(&snapshot.program_version),
    ]
}

//! `kobj vault tag VAULT`.

use super::access::AccessFlags;
use super::{FilterFlags, host_log, split_tags};
use kobj_vault::error::{Error, Result};
use kobj_vault::host_log::Event;
use kobj_vault::lock::Sharing;
use kobj_vault::snapshots::{self, Stored};
use kobj_vault::storage::{FileKind, Name};
use std::ffi::OsString;
use std::process::ExitCode;

/// Flags of `kobj vault tag`.
#[derive(Debug, clap::Args)]
pub(crate) struct TagFlags {
    /// Folder of the vault
    vault: OsString,
    /// Snapshots, by id, first digits or `latest`; without any, all that fit
    snapshots: Vec<String>,
    /// Replace all tags by these; '' takes all away; may be given again
    #[arg(long, value_name = "TAG[,TAG...]", conflicts_with_all = ["add", "remove"])]
    set: Vec<String>,
    /// Add these; may be given again
    #[arg(long, value_name = "TAG[,TAG...]")]
    add: Vec<String>,
    /// Take these away; may be given again
    #[arg(long, value_name = "TAG[,TAG...]")]
    remove: Vec<String>,
    #[command(flatten)]
    filter: FilterFlags,
    #[command(flatten)]
    access: AccessFlags,
}

/// Writes each changed snapshot anew, then removes the old file: a snapshot is never changed in place.
pub(crate) fn run(flags: &TagFlags) -> Result<ExitCode> {
    if flags.set.is_empty() && flags.add.is_empty() && flags.remove.is_empty() {
        return Err(Error::refused("tag", "nothing to change: give --set, --add or --remove"));
    }
    let opened = flags.access.open(&flags.vault, Sharing::Exclusive)?;
    let repository = &opened.repository;
    let filter = flags.filter.filter();
    let meant = if flags.snapshots.is_empty() {
        snapshots::load_all(repository, &filter)?.snapshots
    } else {
        flags.snapshots.iter().map(|text| snapshots::resolve(repository, text, &filter)).collect::<Result<_>>()?
    };
    let log = host_log(repository);
    let mut changed = 0;
    for mut stored in meant {
        if !change(flags, &mut stored) {
            continue;
        }
        stored.snapshot.original.get_or_insert(stored.id);
        let text = stored.snapshot.encode().map_err(|e| Error::refused("the snapshot", e))?;
        if let Some(lock) = &opened.lock {
            lock.prove()?;
        }
        let new = repository.save_file(FileKind::Snapshot, &text)?;
        if let Some(log) = &log {
            log.append(&[Event::Made(new), Event::Forgotten(stored.id)])?;
        }
        repository.storage().remove(&Name::new(FileKind::Snapshot, stored.id))?;
        changed += 1;
    }
    super::say(&format!("changed the tags of {changed} snapshots\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Changes the tags as asked; says whether they are others now.
fn change(flags: &TagFlags, stored: &mut Stored) -> bool {
    let before = stored.snapshot.tags.clone();
    let given = |lists: &[String]| lists.iter().flat_map(|list| split_tags(list)).collect::<Vec<_>>();
    let tags = &mut stored.snapshot.tags;
    if flags.set.is_empty() {
        for tag in given(&flags.add) {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        let gone = given(&flags.remove);
        tags.retain(|tag| !gone.contains(tag));
    } else {
        *tags = given(&flags.set);
    }
    *tags != before
}

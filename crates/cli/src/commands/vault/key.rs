//! `kobj vault key list|add|remove VAULT`.

use super::access::{self, AccessFlags};
use crate::commands::ListingFlags;
use crate::commands::listing::{Cell, Listing};
use clap::{Args, Subcommand};
use kobj_vault::error::{Error, Result};
use kobj_vault::key_file::{Cost, Origin};
use kobj_vault::lock::Sharing;
use kobj_vault::repository;
use kobj_vault::snapshots;
use kobj_vault::storage::{FileKind, Name};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Flags of `kobj vault key`.
#[derive(Debug, Args)]
pub(crate) struct KeyFlags {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// List the keys; the one that opened the vault is marked
    List(ListFlags),
    /// Add a password
    Add(AddFlags),
    /// Remove a key: its password opens the vault no more
    Remove(RemoveFlags),
}

#[derive(Debug, Args)]
struct ListFlags {
    /// Folder of the vault
    vault: OsString,
    #[command(flatten)]
    access: AccessFlags,
    #[command(flatten)]
    listing: ListingFlags,
}

#[derive(Debug, Args)]
struct AddFlags {
    /// Folder of the vault
    vault: OsString,
    /// File that holds the new password; without it it is asked for
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
    /// User that the key is said to be of
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Host that the key is said to be of
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    #[command(flatten)]
    access: AccessFlags,
}

#[derive(Debug, Args)]
struct RemoveFlags {
    /// Folder of the vault
    vault: OsString,
    /// The key's id, or its first digits
    id: String,
    #[command(flatten)]
    access: AccessFlags,
}

/// Runs it.
pub(crate) fn run(flags: &KeyFlags) -> Result<ExitCode> {
    match &flags.command {
        KeyCommand::List(flags) => list(flags),
        KeyCommand::Add(flags) => add(flags),
        KeyCommand::Remove(flags) => remove(flags),
    }
}

const COLUMNS: [&str; 5] = ["ID", "OPENED", "USER", "HOST", "CREATED"];

fn list(flags: &ListFlags) -> Result<ExitCode> {
    let opened = flags.access.open(&flags.vault, Sharing::Shared)?;
    let listing = Listing::new(&flags.listing, "keys", &COLUMNS, &COLUMNS)
        .map_err(|sentence| Error::refused("the listing", sentence))?;
    let mut rows = Vec::new();
    for file in opened.repository.storage().list_all(FileKind::Key)? {
        let is_ours = file.id == *opened.repository.key_id();
        let key = match repository::read_key(opened.repository.storage(), &file.id) {
            Ok(key) => key,
            Err(error) => {
                crate::tell(&format!("kobj: {error}\n"));
                continue;
            }
        };
        let some = |text: &str| if text.is_empty() { Cell::Nothing } else { Cell::text(text) };
        let id = Cell::text(&file.id.short());
        rows.push(vec![id, Cell::Flag(is_ours), some(&key.username), some(&key.hostname), some(&key.created)]);
    }
    super::say(&listing.render(&rows))?;
    Ok(ExitCode::SUCCESS)
}

fn add(flags: &AddFlags) -> Result<ExitCode> {
    let opened = flags.access.open(&flags.vault, Sharing::Shared)?;
    let password = match &flags.new_password_file {
        Some(file) => kobj_vault::password::Password::from_file(file)?,
        None => access::ask_twice("New password: ")?,
    };
    let mut origin = Origin::here();
    origin.username = flags.user.clone().unwrap_or(origin.username);
    origin.hostname = flags.host.clone().unwrap_or(origin.hostname);
    let id = opened.repository.add_key(&password, Cost::OURS, &origin)?;
    super::say(&format!("added key {}\n", id.short()))?;
    Ok(ExitCode::SUCCESS)
}

fn remove(flags: &RemoveFlags) -> Result<ExitCode> {
    let opened = flags.access.open(&flags.vault, Sharing::Exclusive)?;
    let repository = &opened.repository;
    let id = snapshots::resolve_id(repository, FileKind::Key, &flags.id)?;
    if id == *repository.key_id() {
        let why = "the vault was opened with it just now: open it with another password to remove this one";
        return Err(Error::refused(Name::new(FileKind::Key, id), why));
    }
    repository.storage().remove(&Name::new(FileKind::Key, id))?;
    super::say(&format!("removed key {}\n", id.short()))?;
    Ok(ExitCode::SUCCESS)
}

//! `kobj vault cat VAULT KIND [ID]`: what a file of the vault says, decrypted.

use super::access::AccessFlags;
use kobj_vault::error::{Error, Result};
use kobj_vault::lock::Sharing;
use kobj_vault::repository::{self, Repository};
use kobj_vault::snapshots;
use kobj_vault::storage::FileKind;
use std::ffi::OsString;
use std::process::ExitCode;

/// Flags of `kobj vault cat`.
#[derive(Debug, clap::Args)]
pub(crate) struct CatFlags {
    /// Folder of the vault
    vault: OsString,
    /// What to print; the master key is printed by no command
    #[arg(value_enum)]
    kind: Kind,
    /// Its id, or the first digits; the config has none
    id: Option<String>,
    #[command(flatten)]
    access: AccessFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Config,
    Key,
    Lock,
    Snapshot,
    Index,
}

/// Prints it.
pub(crate) fn run(flags: &CatFlags) -> Result<ExitCode> {
    let opened = flags.access.open(&flags.vault, Sharing::Shared)?;
    let mut text = match flags.kind {
        Kind::Config => opened.repository.config().encode(),
        kind => print(&opened.repository, kind, flags.id.as_deref())?,
    };
    if !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    super::say(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}

fn print(repository: &Repository, kind: Kind, id: Option<&str>) -> Result<Vec<u8>> {
    let Some(text) = id else {
        return Err(Error::refused("cat", "name the id, or its first digits; `kobj vault list` shows them"));
    };
    let find = |kind| snapshots::resolve_id(repository, kind, text);
    match kind {
        Kind::Key => Ok(repository::read_key(repository.storage(), &find(FileKind::Key)?)?.encode()),
        Kind::Lock => repository.load_file(FileKind::Lock, &find(FileKind::Lock)?),
        Kind::Index => repository.stream_index(&find(FileKind::Index)?, |from| {
            let mut text = Vec::new();
            from.read_to_end(&mut text).map_err(|e| Error::io("read", "the index", e))?;
            Ok(text)
        }),
        Kind::Config | Kind::Snapshot => {
            let id = snapshots::resolve(repository, text, &snapshots::Filter::default())?.id;
            repository.load_file(FileKind::Snapshot, &id)
        }
    }
}

//! `kobj vault ...`: what is done with a vault beside backup and restore. One file a command.

pub(crate) mod access;
mod cat;
mod forget;
mod init;
mod key;
mod list;
mod prune;
mod show;
mod tag;
mod unlock;
mod verify;

use crate::report::escape;
use clap::{Args, Subcommand};
use kobj_vault::error::{Error, Result};
use kobj_vault::host_log::HostLog;
use kobj_vault::repository::Repository;
use kobj_vault::snapshots::Filter;
use std::process::ExitCode;

/// Flags of `kobj vault`.
#[derive(Debug, Args)]
pub(crate) struct VaultFlags {
    #[command(subcommand)]
    command: VaultCommand,
}

#[derive(Debug, Subcommand)]
enum VaultCommand {
    /// Make a new, empty vault
    Init(init::InitFlags),
    /// List snapshots, or the files of another kind
    List(list::ListFlags),
    /// List what is in a snapshot
    Show(show::ShowFlags),
    /// Prove that the vault is whole, or say what damage costs
    Verify(verify::VerifyFlags),
    /// Print what a file or blob holds, decrypted
    Cat(cat::CatFlags),
    /// Forget snapshots by a policy or by name
    Forget(Box<forget::ForgetFlags>),
    /// Remove what no snapshot needs
    Prune(prune::PruneFlags),
    /// Change the tags of snapshots
    Tag(tag::TagFlags),
    /// List, add and remove the passwords that open the vault
    Key(key::KeyFlags),
    /// Remove stale locks
    Unlock(unlock::UnlockFlags),
}

/// Runs it; what goes wrong is said in one sentence and ends with restic's exit code for it.
pub(crate) fn run(flags: &VaultFlags) -> ExitCode {
    let result = match &flags.command {
        VaultCommand::Init(flags) => init::run(flags),
        VaultCommand::List(flags) => list::run(flags),
        VaultCommand::Show(flags) => show::run(flags),
        VaultCommand::Verify(flags) => verify::run(flags),
        VaultCommand::Cat(flags) => cat::run(flags),
        VaultCommand::Forget(flags) => forget::run(flags),
        VaultCommand::Prune(flags) => prune::run(flags),
        VaultCommand::Tag(flags) => tag::run(flags),
        VaultCommand::Key(flags) => key::run(flags),
        VaultCommand::Unlock(flags) => unlock::run(flags),
    };
    end(result)
}

/// How a command on a vault ends.
pub(crate) fn end(result: Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        crate::tell(&format!("kobj: {}\n", escape::for_terminal_if_needed(&error.to_string())));
        ExitCode::from(error.kind().exit_code())
    })
}

/// Prints to standard output.
pub(crate) fn say(text: &str) -> Result<()> {
    crate::say(text).map_err(|sentence| Error::refused("the output", sentence))
}

/// Which snapshots are meant, as restic's flags say it.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct FilterFlags {
    /// Only snapshots of this host; may be given again
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// Only snapshots with all of these tags, separated by commas; '' means without any; may be given again
    #[arg(long = "tag", value_name = "TAG[,TAG...]")]
    tags: Vec<String>,
    /// Only snapshots with this path among theirs; may be given again
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<String>,
}

impl FilterFlags {
    /// As the vault takes it.
    pub(crate) fn filter(&self) -> Filter {
        Filter {
            hosts: self.hosts.clone(),
            tags: self.tags.iter().map(|list| split_tags(list)).collect(),
            paths: self.paths.clone(),
        }
    }
}

/// Tags between commas; an empty text has none.
pub(crate) fn split_tags(list: &str) -> Vec<String> {
    list.split(',').filter(|tag| !tag.is_empty()).map(str::to_string).collect()
}

/// This host's own log of the vault, where this user has a state folder.
pub(crate) fn host_log(repository: &Repository) -> Option<HostLog> {
    let folder = crate::state::folder(&|name| std::env::var_os(name))?;
    Some(HostLog::of(&folder, &repository.config().id))
}

/// Says which snapshots this host made and the vault no longer has: somebody else removed them, or it is an older state.
pub(crate) fn tell_missing(repository: &Repository) -> Result<bool> {
    let Some(log) = host_log(repository) else { return Ok(false) };
    let listed = repository.storage().list_all(kobj_vault::storage::FileKind::Snapshot)?;
    let missing = log.missing(&listed.into_iter().map(|file| file.id).collect())?;
    if missing.is_empty() {
        return Ok(false);
    }
    let ids: Vec<String> = missing.iter().take(8).map(|id| id.short()).collect();
    let more =
        if missing.len() > ids.len() { format!(" and {} more", missing.len() - ids.len()) } else { String::new() };
    crate::tell(&format!(
        "kobj: {} of the snapshots that this host made are not in the vault, and were not forgotten here: {}{more}. Somebody \
         removed them, or the vault was put back to an older state. If that was meant: kobj vault forget \
         --made-here VAULT ID...\n",
        missing.len(),
        ids.join(" ")
    ));
    Ok(true)
}

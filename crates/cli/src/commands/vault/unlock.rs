//! `kobj vault unlock VAULT`.

use super::access::AccessFlags;
use kobj_vault::error::Result;
use kobj_vault::lock::{self, SystemClock};
use std::ffi::OsString;
use std::process::ExitCode;

/// Flags of `kobj vault unlock`.
#[derive(Debug, clap::Args)]
pub(crate) struct UnlockFlags {
    /// Folder of the vault
    vault: OsString,
    /// Remove every lock, even of who may be at work
    #[arg(long)]
    remove_all: bool,
    #[command(flatten)]
    access: AccessFlags,
}

/// Removes stale locks, or all, and says how many.
pub(crate) fn run(flags: &UnlockFlags) -> Result<ExitCode> {
    let repository = flags.access.open_unlocked(&flags.vault)?;
    let removed = lock::unlock(&repository, &SystemClock, flags.remove_all)?;
    super::say(&format!("{} locks removed\n", removed.len()))?;
    Ok(ExitCode::SUCCESS)
}

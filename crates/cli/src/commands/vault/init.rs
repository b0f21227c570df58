//! `kobj vault init VAULT`.

use super::access::{self, AccessFlags};
use kobj_vault::chunk::polynomial::Polynomial;
use kobj_vault::config::Version;
use kobj_vault::error::{Error, Result};
use kobj_vault::key_file::{Cost, Origin};
use kobj_vault::repository::{InitOptions, Repository};
use kobj_vault::storage::local::LocalStorage;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

/// Flags of `kobj vault init`.
#[derive(Debug, clap::Args)]
pub(crate) struct InitFlags {
    /// Folder of the new vault; it is made if it is not there
    vault: OsString,
    #[command(flatten)]
    access: AccessFlags,
    /// Format: 2, or 1 for a restic before 0.14 (nothing is compressed)
    #[arg(long, value_name = "VERSION", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    repository_version: u8,
    /// Cut files as this other vault does, so that copies between the two share blobs; asks for its password
    #[arg(long, value_name = "VAULT")]
    copy_chunker_params: Option<OsString>,
    /// File that holds that other vault's password
    #[arg(long, value_name = "FILE", requires = "copy_chunker_params")]
    from_password_file: Option<std::path::PathBuf>,
}

/// Makes the vault.
pub(crate) fn run(flags: &InitFlags) -> Result<ExitCode> {
    access::keep_secrets_out_of_core_files();
    let chunker_polynomial = match &flags.copy_chunker_params {
        Some(other) => {
            let from = AccessFlags { password_file: flags.from_password_file.clone(), ..AccessFlags::default() };
            from.open_unlocked(other)?.config().chunker_polynomial
        }
        None => Polynomial::random().map_err(|e| Error::refused("a random polynomial", e))?.bits(),
    };
    let folder = access::folder(&flags.vault)?;
    let password = flags.access.new_password("Password of the new vault (without it nothing in it can be read): ")?;
    let options = InitOptions {
        version: if flags.repository_version == 1 { Version::One } else { Version::Two },
        chunker_polynomial,
        cost: Cost::OURS,
        origin: Origin::here(),
    };
    let repository = Repository::init(Arc::new(LocalStorage::create(&folder)?), &password, &options)?;
    super::say(&format!(
        "made vault {} in {}\nKeep the password: without it nothing in the vault can be read.\n",
        repository.config().id.short(),
        repository.storage().place()
    ))?;
    Ok(ExitCode::SUCCESS)
}

//! Opening a vault from the command line: which one, with which password.

use crate::report::escape;
use kobj_vault::error::{Error, Result};
use kobj_vault::index::Cache;
use kobj_vault::lock::{Lock, Sharing, SystemClock};
use kobj_vault::password::Password;
use kobj_vault::repository::Repository;
use kobj_vault::storage::Storage;
use kobj_vault::storage::local::LocalStorage;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Flags of every command that opens a vault.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct AccessFlags {
    /// File that holds the password; without it $KOBJ_PASSWORD, restic's variables, or a question
    #[arg(short, long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Command that prints the password
    #[arg(long, value_name = "COMMAND", conflicts_with = "password_file")]
    pub(crate) password_command: Option<String>,
    /// Take no lock: for a vault that nobody changes, or that cannot be written
    #[arg(long)]
    pub(crate) no_lock: bool,
    /// How long to wait while somebody else's lock excludes this (5m); at once fails with exit code 11
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = crate::durations::parse_duration)]
    pub(crate) retry_lock: Duration,
}

/// Which vault, of the commands whose main argument is something else.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct VaultFlag {
    /// Folder of the vault; without it $KOBJ_VAULT, then $RESTIC_REPOSITORY
    #[arg(long = "vault", visible_alias = "to", value_name = "VAULT")]
    vault: Option<OsString>,
}

impl VaultFlag {
    /// The vault that is meant.
    pub(crate) fn name(&self) -> Result<OsString> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let named = self.vault.clone().or_else(|| variable("KOBJ_VAULT")).or_else(|| variable("RESTIC_REPOSITORY"));
        named.ok_or_else(|| Error::refused("the vault", "none is named: give its folder, or set KOBJ_VAULT"))
    }
}

/// Where the index is kept between commands.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct CacheFlags {
    /// Folder for what is kept of the vault's index on this machine; $XDG_CACHE_HOME/kobj without it
    #[arg(long, value_name = "FOLDER")]
    cache_dir: Option<PathBuf>,
    /// Keep nothing of the index on this machine
    #[arg(long, conflicts_with = "cache_dir")]
    no_cache: bool,
}

impl CacheFlags {
    /// As the vault takes it.
    pub(crate) fn cache(&self) -> Cache {
        match &self.cache_dir {
            _ if self.no_cache => Cache::None,
            Some(folder) => Cache::Folder(folder.clone()),
            None => Cache::usual(),
        }
    }
}

/// The longest password that is typed.
const TYPED_MOST: u64 = 4096;

/// An open vault and what keeps others out.
pub(crate) struct Opened {
    pub(crate) repository: Repository,
    /// Held until the command ends; `None` with `--no-lock`.
    pub(crate) lock: Option<Lock>,
}

impl AccessFlags {
    /// Opens the vault and takes the lock.
    pub(crate) fn open(&self, vault: &OsStr, sharing: Sharing) -> Result<Opened> {
        let repository = self.open_unlocked(vault)?;
        let lock = if self.no_lock {
            if sharing == Sharing::Exclusive {
                return Err(Error::refused("--no-lock", "this removes from the vault: it must keep others out"));
            }
            None
        } else {
            let files = Arc::new(repository.clone());
            Some(Lock::take(files, Arc::new(SystemClock), sharing, self.retry_lock)?)
        };
        Ok(Opened { repository, lock })
    }

    /// Opens the vault without a lock.
    pub(crate) fn open_unlocked(&self, vault: &OsStr) -> Result<Repository> {
        keep_secrets_out_of_core_files();
        let storage = storage(vault)?;
        let password = self.password(&format!("Password of {}: ", escape::for_terminal(vault.as_bytes())))?;
        Repository::open(storage, &password)
    }

    /// The password: from the flags, from kobj's variables, from restic's, or typed.
    pub(crate) fn password(&self, question: &str) -> Result<Password> {
        match self.given_password(&|name| std::env::var_os(name))? {
            Some(password) => Ok(password),
            None => ask(question),
        }
    }

    /// The password for a new vault or key: a typed one is typed twice.
    pub(crate) fn new_password(&self, question: &str) -> Result<Password> {
        match self.given_password(&|name| std::env::var_os(name))? {
            Some(password) => Ok(password),
            None => ask_twice(question),
        }
    }

    fn given_password(&self, get: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<Password>> {
        if let Some(file) = &self.password_file {
            return Password::from_file(file).map(Some);
        }
        if let Some(command) = &self.password_command {
            return Password::from_command(command).map(Some);
        }
        for prefix in ["KOBJ", "RESTIC"] {
            let variable = |name: &str| get(&format!("{prefix}_PASSWORD{name}")).filter(|value| !value.is_empty());
            if let Some(file) = variable("_FILE") {
                return Password::from_file(Path::new(&file)).map(Some);
            }
            if let Some(command) = variable("_COMMAND") {
                let command = command.into_string();
                let not_text = |_| Error::refused(format_args!("{prefix}_PASSWORD_COMMAND"), "it is not UTF-8");
                return Password::from_command(&command.map_err(not_text)?).map(Some);
            }
            if let Some(password) = variable("") {
                return Ok(Some(Password::new(password.as_bytes())));
            }
        }
        Ok(None)
    }
}

/// The storage that `vault` names: a folder, also as restic writes it (`local:FOLDER`).
pub(crate) fn storage(vault: &OsStr) -> Result<Arc<dyn Storage>> {
    Ok(Arc::new(LocalStorage::open(&folder(vault)?)?))
}

/// The folder that `vault` names.
pub(crate) fn folder(vault: &OsStr) -> Result<PathBuf> {
    let bytes = vault.as_bytes();
    if bytes.is_empty() {
        return Err(Error::refused("the vault", "its name is empty: name a folder"));
    }
    if let Some(path) = bytes.strip_prefix(b"local:") {
        return Ok(PathBuf::from(OsStr::from_bytes(path)));
    }
    let remote = ["azure:", "b2:", "gs:", "rclone:", "rest:", "s3:", "sftp:", "swift:"];
    match remote.iter().find(|scheme| bytes.starts_with(scheme.as_bytes())) {
        Some(scheme) => {
            let why = format!(
                "{scheme} is remote storage, and only folders can be vaults yet; a folder of that name: ./NAME"
            );
            Err(Error::unsupported(escape::for_terminal(bytes), why))
        }
        None => Ok(PathBuf::from(vault)),
    }
}

/// A process that holds keys writes no core file and cannot be traced by others of its user.
pub(crate) fn keep_secrets_out_of_core_files() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    // Without it the command works all the same.
    _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// A new password, typed twice.
pub(crate) fn ask_twice(question: &str) -> Result<Password> {
    let first = ask(question)?;
    let again = ask("The same again: ")?;
    if first.as_bytes() == again.as_bytes() {
        return Ok(first);
    }
    Err(Error::refused("the password", "the two that were typed differ; nothing was done"))
}

/// Asks at the terminal, without showing what is typed.
fn ask(question: &str) -> Result<Password> {
    let none = |e: std::io::Error| {
        let why = format!("there is none, and no terminal to ask at ({e}): give --password-file or KOBJ_PASSWORD_FILE");
        Error::refused("the password", why)
    };
    let mut terminal = std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(none)?;
    let before = tcgetattr(&terminal).map_err(|e| none(e.into()))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    silent.local_modes.insert(LocalModes::ECHONL);
    let wrong = |e: std::io::Error| Error::io("ask at", "/dev/tty", e);
    terminal.write_all(question.as_bytes()).map_err(wrong)?;
    tcsetattr(&terminal, OptionalActions::Flush, &silent).map_err(|e| wrong(e.into()))?;
    // Room for all of it from the start: a buffer that grows leaves copies behind.
    let mut line = zeroize::Zeroizing::new(Vec::with_capacity(TYPED_MOST as usize + 1));
    let read = BufReader::with_capacity(1, (&terminal).take(TYPED_MOST)).read_until(b'\n', &mut line);
    let restored = tcsetattr(&terminal, OptionalActions::Flush, &before);
    read.map_err(wrong)?;
    restored.map_err(|e| wrong(e.into()))?;
    let typed = line.strip_suffix(b"\n").unwrap_or(&line);
    if typed.is_empty() {
        return Err(Error::refused("the password", "nothing was typed"));
    }
    Ok(Password::new(typed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kobjs_variables_stand_before_restics_and_flags_before_both() {
        let file = std::env::temp_dir().join(format!("kobj-cli-password-{}", std::process::id()));
        std::fs::write(&file, "from file\n").unwrap();
        let of = |flags: &AccessFlags, variables: &[(&str, &str)]| {
            let get = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
            flags.given_password(&get).unwrap().map(|password| password.as_bytes().to_vec())
        };
        let none = AccessFlags::default();
        let path = file.to_str().unwrap();
        assert_eq!(of(&none, &[]), None);
        assert_eq!(of(&none, &[("RESTIC_PASSWORD", "r")]), Some(b"r".to_vec()));
        assert_eq!(of(&none, &[("RESTIC_PASSWORD", "r"), ("KOBJ_PASSWORD", "k")]), Some(b"k".to_vec()));
        assert_eq!(of(&none, &[("KOBJ_PASSWORD", ""), ("RESTIC_PASSWORD_FILE", path)]), Some(b"from file".to_vec()));
        assert_eq!(of(&none, &[("RESTIC_PASSWORD_COMMAND", "echo said")]), Some(b"said".to_vec()));
        let flags = AccessFlags { password_file: Some(file.clone()), ..AccessFlags::default() };
        assert_eq!(of(&flags, &[("KOBJ_PASSWORD", "k")]), Some(b"from file".to_vec()));
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn a_folder_is_a_vault_and_remote_storage_is_refused_by_name() {
        let folder = |text: &str| folder(OsStr::new(text));
        assert_eq!(folder("/a").unwrap(), Path::new("/a"));
        assert_eq!(folder("local:b/c").unwrap(), Path::new("b/c"));
        assert_eq!(folder("s3").unwrap(), Path::new("s3"));
        for bad in ["", "s3:bucket", "sftp:host:/x", "rest:http://h"] {
            assert!(folder(bad).is_err(), "{bad}");
        }
    }
}

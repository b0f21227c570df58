//! The command line. `kobj run` is parsed by its own small parser, so that it starts fast; all else by [`Cli`].

pub(crate) mod run;

use crate::commands::{
    BackupFlags, BalanceFlags, CensusFlags, JobsFlags, LastFlags, LsFlags, RestoreFlags, ScrubFlags, ShowFlags,
    TreeFlags, VaultFlags, WhoFlags, WhyFlags,
};
use clap::{CommandFactory, FromArgMatches, Parser};
use std::ffi::OsString;

/// Keeps the balance of kernel objects: what a command made, destroyed and left behind.
#[derive(Debug, Parser)]
#[command(name = "kobj", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// The whole command line, `run` first: what help, completions and man pages are made from.
    pub(crate) fn whole() -> clap::Command {
        let run = run::RunFlags::command().name("run").display_name("kobj-run").display_order(0);
        let mut order = 0;
        let in_order = |command: clap::Command| {
            order += 1;
            command.display_order(order)
        };
        Self::command().mut_subcommands(in_order).subcommand(run)
    }

    /// Parses any command but `run`.
    pub(crate) fn parse_words(words: &[OsString]) -> Result<Self, clap::Error> {
        Self::from_arg_matches(&Self::whole().try_get_matches_from(words)?)
    }
}

/// The commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List what exists; with --unused, what nobody uses
    Census(CensusFlags),
    /// Say which processes hold an object
    Who(WhoFlags),
    /// Say why an object is still here
    Why(WhyFlags),
    /// Draw runs, host objects and types as one tree
    Tree(TreeFlags),
    /// List one directory of that tree
    Ls(LsFlags),
    /// Say everything that is known of one object
    Show(ShowFlags),
    /// Destroy what is named and used by nobody
    Scrub(ScrubFlags),
    /// List the runs that go on, and those whose kobj died
    Jobs(JobsFlags),
    /// Show what a job made and destroyed up to now
    Balance(BalanceFlags),
    /// Show the newest report again
    Last(LastFlags),
    /// Keep files and folders in a vault, as of now
    Backup(Box<BackupFlags>),
    /// Bring a snapshot, or a part of one, back into a folder
    Restore(Box<RestoreFlags>),
    /// Make, list and keep vaults: where snapshots of files are
    Vault(VaultFlags),
    /// Write shell completions to standard output
    Completions(CompletionsFlags),
    /// Write the man pages
    Man(ManFlags),
}

/// Flags of `kobj completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsFlags {
    /// bash, zsh, fish, elvish or powershell
    pub(crate) shell: clap_complete::Shell,
}

/// Flags of `kobj man`.
#[derive(Debug, clap::Args)]
pub(crate) struct ManFlags {
    /// Folder to write kobj.1, one page per command and kobj.toml.5 into
    #[arg(long, value_name = "FOLDER")]
    pub(crate) output: std::path::PathBuf,
}

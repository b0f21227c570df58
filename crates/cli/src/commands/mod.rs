//! One file a command. Each takes its flags and returns its exit code, or one sentence about what went wrong.

mod backup;
mod balance;
pub(crate) mod census;
mod completions;
pub(crate) mod dead;
pub(crate) mod filter;
mod jobs;
mod last;
pub(crate) mod listing;
mod ls;
mod man;
pub(crate) mod objects;
pub(crate) mod records;
pub(crate) mod restore;
mod scrub;
mod show;
mod tree;
pub(crate) mod vault;
mod who;
mod why;

pub(crate) use backup::BackupFlags;
pub(crate) use balance::BalanceFlags;
pub(crate) use census::CensusFlags;
pub(crate) use jobs::JobsFlags;
pub(crate) use last::LastFlags;
pub(crate) use listing::ListingFlags;
pub(crate) use ls::LsFlags;
pub(crate) use restore::RestoreFlags;
pub(crate) use scrub::ScrubFlags;
pub(crate) use show::ShowFlags;
pub(crate) use tree::TreeFlags;
pub(crate) use vault::VaultFlags;
pub(crate) use who::WhoFlags;
pub(crate) use who::tell_unreadable;
pub(crate) use why::WhyFlags;

use crate::options::Command;
use crate::report::escape;
use std::process::ExitCode;

/// The exit code of wrong words and of what went wrong, everywhere but in `run`.
pub(crate) const WRONG: u8 = 2;

/// Every command but `run`, which `main` hands over before the whole command line is even built.
pub(crate) fn dispatch(command: Command) -> ExitCode {
    let result = match command {
        Command::Backup(flags) => return backup::run(&flags),
        Command::Balance(flags) => balance::run(&flags),
        Command::Census(flags) => census::run(&flags),
        Command::Completions(flags) => completions::run(&flags),
        Command::Jobs(flags) => jobs::run(&flags),
        Command::Last(flags) => last::run(&flags),
        Command::Ls(flags) => ls::run(&flags),
        Command::Man(flags) => man::run(&flags),
        Command::Restore(flags) => return restore::run(&flags),
        Command::Scrub(flags) => scrub::run(&flags),
        Command::Show(flags) => show::run(&flags),
        Command::Tree(flags) => tree::run(&flags),
        Command::Vault(flags) => return vault::run(&flags),
        Command::Who(flags) => who::run(&flags),
        Command::Why(flags) => why::run(&flags),
    };
    result.unwrap_or_else(|sentence| {
        crate::tell(&format!("kobj: {}\n", escape::for_terminal_if_needed(&sentence)));
        ExitCode::from(WRONG)
    })
}

/// Says that a path or a koid of the tree means nothing.
fn say_not_found(sentence: &str) -> Result<ExitCode, String> {
    crate::tell(&format!("kobj: {sentence}\n"));
    Ok(ExitCode::FAILURE)
}

#[cfg(test)]
mod tests {
    use crate::options::Cli;
    use std::path::Path;

    #[test]
    fn no_two_flags_of_a_command_have_one_name() {
        Cli::whole().debug_assert();
    }

    #[test]
    fn each_command_has_a_page_that_names_each_of_its_flags() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/commands");
        for command in Cli::whole().get_subcommands() {
            let page = folder.join(format!("{}.md", command.get_name()));
            let text = std::fs::read_to_string(&page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
            let mut commands = vec![command];
            while let Some(command) = commands.pop() {
                commands.extend(command.get_subcommands());
                assert!(text.contains(command.get_name()), "{} does not name {}", page.display(), command.get_name());
                for flag in command.get_arguments().filter_map(clap::Arg::get_long).filter(|flag| *flag != "help") {
                    assert!(text.contains(&format!("--{flag}")), "{} does not name --{flag}", page.display());
                }
            }
        }
    }
}

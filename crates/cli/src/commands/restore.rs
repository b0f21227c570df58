//! `kobj restore SNAPSHOT[:PATH] --vault VAULT --target DIR`.

use super::vault::access::{AccessFlags, CacheFlags, VaultFlag};
use super::vault::{FilterFlags, end, say};
use crate::report::escape;
use crate::report::text::human_size;
use kobj_vault::error::{Error, Result};
use kobj_vault::index::Index;
use kobj_vault::lock::Sharing;
use kobj_vault::restore::{Callbacks, Event, Options, Overwrite, Selected, restore};
use kobj_vault::snapshots;
use kobj_vault::source::exclude::Patterns;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Flags of `kobj restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct RestoreFlags {
    /// Snapshot: id, first digits or `latest`; with :PATH only that file or what is in that folder
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: OsString,
    #[command(flatten)]
    vault: VaultFlag,
    /// Folder to restore into; it is made if it is not there, and must be empty without --in-place
    #[arg(short, long, value_name = "DIR")]
    target: PathBuf,
    /// Restore into a folder that has something in it
    #[arg(long)]
    in_place: bool,
    /// What happens to files that are there already
    #[arg(long, value_enum, default_value = "always")]
    overwrite: When,
    /// Remove what the snapshot does not have from the folders that are restored
    #[arg(long, requires = "in_place")]
    delete: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Read all files back afterwards and compare them with the snapshot
    #[arg(long)]
    verify: bool,
    /// Only what fits this pattern; may be given again
    #[arg(short, long, value_name = "PATTERN", conflicts_with = "exclude")]
    include: Vec<OsString>,
    /// All but what fits this pattern; may be given again
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<OsString>,
    /// Say what happens to each entry
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    filter: FilterFlags,
    #[command(flatten)]
    access: AccessFlags,
    #[command(flatten)]
    cache: CacheFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum When {
    /// Their contents are compared, and what differs is written
    Always,
    /// The same, but a file of the same size and time is believed to be the same
    IfChanged,
    /// They stay as they are
    Never,
}

/// Restores; exit 1 where anything could not be restored, each named.
pub(crate) fn run(flags: &RestoreFlags) -> ExitCode {
    end(restore_snapshot(flags))
}

fn restore_snapshot(flags: &RestoreFlags) -> Result<ExitCode> {
    let opened = flags.access.open(&flags.vault.name()?, Sharing::Shared)?;
    let repository = &opened.repository;
    let (snapshot, path) = split(&flags.snapshot)?;
    let stored = snapshots::resolve(repository, &snapshot, &flags.filter.filter())?;
    let index = Index::load(repository, &flags.cache.cache())?;
    let tree = match path {
        None => stored.snapshot.tree,
        Some(path) => {
            let what = || format!("{} in snapshot {}", escape::for_terminal(&path), stored.id.short());
            let node = repository.find_node(&index, &stored.snapshot.tree, &path)?;
            let node =
                node.ok_or_else(|| Error::refused(what(), "there is none; `kobj vault show` lists what there is"))?;
            let why = "it is no folder: restore the folder that it is in, with --include";
            node.subtree.ok_or_else(|| Error::refused(what(), why))?
        }
    };
    let (include, exclude) = (patterns(&flags.include)?, patterns(&flags.exclude)?);
    let options = Options {
        in_place: flags.in_place,
        overwrite: match flags.overwrite {
            When::Always => Overwrite::Always,
            When::IfChanged => Overwrite::IfChanged,
            When::Never => Overwrite::Never,
        },
        delete: flags.delete,
        dry_run: flags.dry_run,
        verify: flags.verify,
    };
    let mut callbacks = Callbacks {
        select: &mut |path, _| select(&include, &exclude, path),
        event: &mut |event| tell(event, flags.verbose || flags.dry_run),
    };
    let report = restore(repository, &index, &tree, &flags.target, options, &mut callbacks)?;
    let mut text = if flags.dry_run { String::from("would restore ") } else { String::from("restored ") };
    _ = write!(text, "{} entries ({}) of snapshot {}", report.restored, human_size(report.bytes), stored.id.short());
    _ = write!(text, " to {}", escape::for_terminal(flags.target.as_os_str().as_bytes()));
    for (count, what) in [(report.kept, "kept"), (report.deleted, "removed"), (report.problems, "not restored")] {
        if count > 0 {
            _ = write!(text, ", {count} {what}");
        }
    }
    say(&format!("{text}\n"))?;
    Ok(if report.problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The snapshot and the path in it.
pub(crate) fn split(text: &std::ffi::OsStr) -> Result<(String, Option<Vec<u8>>)> {
    let bytes = text.as_bytes();
    let (snapshot, path) = match bytes.iter().position(|byte| *byte == b':') {
        Some(colon) => (&bytes[..colon], Some(bytes[colon + 1..].to_vec())),
        None => (bytes, None),
    };
    let not_text = |_| Error::refused(escape::for_terminal(bytes), "a snapshot is an id, its first digits, or latest");
    let path = path.filter(|path| path.iter().any(|byte| *byte != b'/'));
    Ok((String::from_utf8(snapshot.to_vec()).map_err(not_text)?, path))
}

fn patterns(texts: &[OsString]) -> Result<Patterns> {
    let mut patterns = Patterns::default();
    texts.iter().try_for_each(|text| patterns.add(text.as_bytes(), false))?;
    Ok(patterns)
}

/// What is below something included is, and what is above may be gone into.
fn select(include: &Patterns, exclude: &Patterns, path: &[u8]) -> Selected {
    let whole = [b"/", path].concat();
    if !exclude.is_empty() {
        let out = exclude.leaves_out(&whole);
        return Selected { restore: !out, descend: !out };
    }
    let is_in = include.is_empty() || include.leaves_out(&whole);
    Selected { restore: is_in, descend: true }
}

fn tell(event: &Event<'_>, verbose: bool) {
    let line = match event {
        Event::Problem(path, what) => format!("kobj: {}: {what}\n", escape::for_terminal(path)),
        Event::Restore(path, _) if verbose => format!("restore {}\n", escape::for_terminal(path)),
        Event::Keep(path, _) if verbose => format!("keep    {}\n", escape::for_terminal(path)),
        Event::Delete(path) if verbose => format!("remove  {}\n", escape::for_terminal(path)),
        _ => return,
    };
    crate::tell(&line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_and_a_path_are_parted_at_the_first_colon() {
        let parted = |text: &str| split(std::ffi::OsStr::new(text)).unwrap();
        assert_eq!(parted("latest"), ("latest".into(), None));
        assert_eq!(parted("ab12:/home/a:b"), ("ab12".into(), Some(b"/home/a:b".to_vec())));
        assert_eq!((parted("ab12:").1, parted("ab12:/").1), (None, None));
    }

    #[test]
    fn what_is_included_is_found_below_folders_that_are_not() {
        let of = |texts: &[&str]| patterns(&texts.iter().map(OsString::from).collect::<Vec<_>>()).unwrap();
        let none = Patterns::default();
        assert_eq!(select(&none, &none, b"a"), Selected::ALL);
        assert_eq!(select(&of(&["*.c"]), &none, b"src"), Selected { restore: false, descend: true });
        assert_eq!(select(&of(&["*.c"]), &none, b"src/a.c"), Selected::ALL);
        assert_eq!(select(&of(&["src"]), &none, b"src/a/b"), Selected::ALL);
        assert_eq!(select(&none, &of(&["src"]), b"src"), Selected { restore: false, descend: false });
    }
}

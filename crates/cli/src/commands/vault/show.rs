//! `kobj vault show VAULT SNAPSHOT[:PATH]`: what is in a snapshot.

use super::access::{AccessFlags, CacheFlags};
use super::{FilterFlags, say};
use crate::commands::ListingFlags;
use crate::commands::listing::{Cell, Listing};
use crate::report::escape;
use kobj_core::image::Time;
use kobj_vault::error::{Error, Result};
use kobj_vault::index::Index;
use kobj_vault::lock::Sharing;
use kobj_vault::snapshots;
use kobj_vault::tree::{Node, NodeKind};
use kobj_vault::walk::{Descend, Step, walk};
use std::ffi::OsString;
use std::process::ExitCode;

/// Flags of `kobj vault show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowFlags {
    /// Folder of the vault
    vault: OsString,
    /// Snapshot: id, first digits or `latest`; with :PATH only what is in that folder
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: OsString,
    /// Also what is in folders below
    #[arg(short = 'R', long)]
    recursive: bool,
    #[command(flatten)]
    filter: FilterFlags,
    #[command(flatten)]
    listing: ListingFlags,
    #[command(flatten)]
    access: AccessFlags,
    #[command(flatten)]
    cache: CacheFlags,
}

const COLUMNS: [&str; 11] =
    ["PATH", "TYPE", "MODE", "USER", "GROUP", "SIZE", "MODIFIED", "TARGET", "LINKS", "INODE", "BLOBS"];
const USUAL: [&str; 6] = ["MODE", "USER", "GROUP", "SIZE", "MODIFIED", "PATH"];

/// Lists the entries; exit 1 where a folder could not be read.
pub(crate) fn run(flags: &ShowFlags) -> Result<ExitCode> {
    let opened = flags.access.open(&flags.vault, Sharing::Shared)?;
    let repository = &opened.repository;
    let listing = Listing::new(&flags.listing, "entries", &COLUMNS, &USUAL)
        .map_err(|sentence| Error::refused("the listing", sentence))?;
    let (text, path) = crate::commands::restore::split(&flags.snapshot)?;
    let stored = snapshots::resolve(repository, &text, &flags.filter.filter())?;
    let index = Index::load(repository, &flags.cache.cache())?;
    let (mut rows, mut lost) = (Vec::new(), 0);
    let above = path.clone().unwrap_or_default();
    let root = match &path {
        None => stored.snapshot.tree,
        Some(path) => {
            let what = || format!("{} in snapshot {}", escape::for_terminal(path), stored.id.short());
            let found = repository.find_node(&index, &stored.snapshot.tree, path)?;
            let node = found.ok_or_else(|| Error::refused(what(), "there is none"))?;
            let Some(tree) = node.subtree else {
                say(&listing.render(&[row(path, &node)]))?;
                return Ok(ExitCode::SUCCESS);
            };
            tree
        }
    };
    walk(repository, &index, &root, &mut |step| {
        match step {
            Step::Entry(path, node) => rows.push(row(&join(&above, path), node)),
            Step::Leave(..) => {}
            Step::Lost(path, error) => {
                lost += 1;
                crate::tell(&format!("kobj: {}: {error}\n", escape::for_terminal(path)));
            }
        }
        Ok(if flags.recursive { Descend::Into } else { Descend::Over })
    })?;
    say(&listing.render(&rows))?;
    Ok(if lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn join(above: &[u8], path: &[u8]) -> Vec<u8> {
    let above: &[u8] = above.strip_suffix(b"/").unwrap_or(above);
    let above = above.strip_prefix(b"/").unwrap_or(above);
    if above.is_empty() { [b"/", path].concat() } else { [b"/", above, b"/", path].concat() }
}

fn row(path: &[u8], node: &Node) -> Vec<Cell> {
    let number = |number: u64| Cell::Number(i64::try_from(number).unwrap_or(i64::MAX));
    let named = |name: &str, id: u32| if name.is_empty() { number(u64::from(id)) } else { Cell::text(name) };
    let micros = |instant: (i64, u32)| instant.0.checked_mul(1_000_000)?.checked_add(i64::from(instant.1 / 1_000));
    let modified = micros(node.modified.instant());
    let is_file = node.kind == NodeKind::File;
    vec![
        Cell::Text(path.to_vec()),
        Cell::text(node.kind.word()),
        Cell::text(&letters(node)),
        named(&node.user, node.uid),
        named(&node.group, node.gid),
        if is_file { Cell::Size(node.size) } else { Cell::Nothing },
        modified.map_or(Cell::Nothing, |micros| Cell::At(Time(micros))),
        if node.kind == NodeKind::Link { Cell::Text(node.target().into_owned()) } else { Cell::Nothing },
        if node.links > 1 { number(node.links) } else { Cell::Nothing },
        if node.inode > 0 { number(node.inode) } else { Cell::Nothing },
        node.content.as_ref().map_or(Cell::Nothing, |content| number(content.len() as u64)),
    ]
}

/// As `ls -l` writes it.
fn letters(node: &Node) -> String {
    let kind = match node.kind {
        NodeKind::Folder => 'd',
        NodeKind::Link => 'l',
        NodeKind::BlockDevice => 'b',
        NodeKind::CharacterDevice => 'c',
        NodeKind::Pipe => 'p',
        NodeKind::Socket => 's',
        _ => '-',
    };
    let bits = (0..9).rev().map(|bit| if node.mode >> bit & 1 == 1 { ['x', 'w', 'r'][bit % 3] } else { '-' });
    std::iter::once(kind).chain(bits).collect()
}

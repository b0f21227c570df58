//! `kobj ls [PATH]`: one directory of the tree of runs, host objects and types.

use super::ListingFlags;
use super::listing::{Cell, Listing};
use crate::space::{COLUMNS, Entry, Thing, World, resolve, row};
use clap::Args;
use kobj_core::image::HostImage;
use kobj_host::holders::Holders;
use std::ffi::OsString;
use std::process::ExitCode;

/// Flags of `kobj ls`.
#[derive(Debug, Args)]
pub(crate) struct LsFlags {
    /// A path of the tree: /, /jobs/1/processes, /host/segments ...
    #[arg(value_name = "PATH", default_value = "/")]
    path: OsString,
    #[command(flatten)]
    listing: ListingFlags,
}

/// Prints the directory's entries, or the entry itself if it is none; exit 1 where there is no such path.
pub(crate) fn run(flags: &LsFlags) -> Result<ExitCode, String> {
    let world = World::new()?;
    let found = match resolve(&world, &flags.path) {
        Ok(found) => found,
        Err(sentence) => return super::say_not_found(&sentence),
    };
    let usual =
        found.first().and_then(|entry| Some(entry.inside.as_ref()?.columns())).unwrap_or(&["NAME", "TYPE", "PATH"]);
    let listing = Listing::new(&flags.listing, "entries", &COLUMNS, usual)?;
    let entries: Vec<Entry<'_>> = match found.as_slice() {
        [entry] if entry.inside.is_some() => entry.entries(&world),
        _ => found.into_iter().collect(),
    };
    let holders = if listing.needs("HOLDERS") { holders(&world, &entries) } else { Vec::new() };
    let with_count = listing.needs("COUNT");
    let holders = holders.into_iter().chain(std::iter::repeat(Cell::Nothing));
    let rows: Vec<Vec<Cell>> =
        entries.iter().zip(holders).map(|(entry, holders)| row(&world, entry, with_count, holders)).collect();
    crate::say(&listing.render(&rows))?;
    world.tell_unreadable();
    Ok(ExitCode::SUCCESS)
}

/// Who holds each entry that is a host object, in one pass.
fn holders(world: &World, entries: &[Entry<'_>]) -> Vec<Cell> {
    let image = |entry: &Entry<'_>| match entry.thing {
        Thing::Made(image) | Thing::Host(image) => Some(image.clone()),
        Thing::Held(image, _) => Some(image.clone()),
        _ => None,
    };
    let images: Vec<Option<HostImage>> = entries.iter().map(image).collect();
    let wanted: Vec<HostImage> = images.iter().flatten().cloned().collect();
    let found = Holders::of(&world.view, &wanted);
    super::who::tell_unreadable(found.unreadable);
    let mut next = 0..;
    let cell = |image: &Option<HostImage>| match image {
        Some(_) => next.next().map_or(Cell::Nothing, |index| super::census::holders_cell(found.of_object(index))),
        None => Cell::Nothing,
    };
    images.iter().map(cell).collect()
}

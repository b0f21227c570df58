//! `kobj who NAME`: the processes that have an object open, mapped, attached, locked, or as their folder.

use super::ListingFlags;
use super::listing::{Cell, Listing};
use super::objects::{Users, find_some, view};
use clap::Args;
use kobj_abi::HostKind;
use kobj_core::image::{Holder, HostImage};
use kobj_host::holders::Holders;
use kobj_host::view::View;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;

/// Flags of `kobj who`.
#[derive(Debug, Args)]
pub(crate) struct WhoFlags {
    /// A path, a process id, a System V id, ADDRESS:PORT, @abstract, or KIND:NAME
    #[arg(required = true, value_name = "NAME")]
    names: Vec<OsString>,
    #[command(flatten)]
    listing: ListingFlags,
}

const COLUMNS: [&str; 7] = ["PID", "COMMAND", "HOW", "USER", "UID", "KIND", "NAME"];

/// Prints the holders; exit 1 if nobody holds any of the named objects.
pub(crate) fn run(flags: &WhoFlags) -> Result<ExitCode, String> {
    let view = view()?;
    let mut objects = Vec::new();
    for name in &flags.names {
        objects.extend(find_some(&view, name)?);
    }
    let usual: &[&str] = match objects.len() {
        1 => &["PID", "COMMAND", "HOW", "USER"],
        _ => &["PID", "COMMAND", "HOW", "USER", "KIND", "NAME"],
    };
    let listing = Listing::new(&flags.listing, "holders", &COLUMNS, usual)?;
    let holders = Holders::of_trees(&view, &objects);
    let users = Users::read();
    let mut rows = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        rows.extend(holders.of_object(index).iter().map(|holder| row(&view, &users, object, holder)));
    }
    rows.retain(|row| listing.chooses(row));
    tell_unreadable(holders.unreadable);
    if rows.is_empty() && !flags.listing.json {
        let processes = objects.iter().all(|object| object.kind == HostKind::Process);
        let hint = if processes { " (kobj why tells what a process is kept by)" } else { "" };
        crate::tell(&format!("kobj: nobody that can be seen holds it{hint}\n"));
    } else {
        crate::say(&listing.render(&rows))?;
    }
    Ok(if rows.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Says that "nobody" may mean "unknown".
pub(crate) fn tell_unreadable(count: usize) {
    match count {
        0 => {}
        1 => crate::tell("kobj: 1 process could not be looked into; what it holds is not known\n"),
        many => crate::tell(&format!("kobj: {many} processes could not be looked into; what they hold is not known\n")),
    }
}

fn row(view: &View, users: &Users, object: &HostImage, holder: &Holder) -> Vec<Cell> {
    let uid = std::fs::metadata(view.proc.join(holder.pid.to_string())).ok().map(|found| found.uid());
    vec![
        Cell::Number(holder.pid.into()),
        Cell::Text(holder.command.clone()),
        Cell::text(holder.how.name()),
        uid.map_or(Cell::Nothing, |uid| Cell::Text(users.name(uid))),
        uid.map_or(Cell::Nothing, |uid| Cell::Number(uid.into())),
        Cell::text(object.kind.name()),
        Cell::Text(object.name.clone()),
    ]
}

//! `kobj vault verify VAULT`.

use super::access::{AccessFlags, CacheFlags};
use super::say;
use crate::report::escape;
use crate::report::text::human_size;
use kobj_vault::error::Result;
use kobj_vault::lock::Sharing;
use kobj_vault::verify::{Finding, ReadData, verify};
use std::ffi::OsString;
use std::process::ExitCode;

/// Flags of `kobj vault verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyFlags {
    /// Folder of the vault
    vault: OsString,
    /// Read every byte of every pack too, not only indexes and trees
    #[arg(long)]
    read_data: bool,
    /// Read a part of the packs: n/t (part n of t), x% or a size (50M), the last two chosen at random
    #[arg(long, value_name = "SUBSET", conflicts_with = "read_data")]
    read_data_subset: Option<String>,
    /// As JSON, a line each
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: AccessFlags,
    #[command(flatten)]
    cache: CacheFlags,
}

/// Verifies; exit 1 where anything is damaged.
pub(crate) fn run(flags: &VerifyFlags) -> Result<ExitCode> {
    let data = match &flags.read_data_subset {
        Some(subset) => ReadData::parse(subset)?,
        None if flags.read_data => ReadData::All,
        None => ReadData::Nothing,
    };
    let opened = flags.access.open(&flags.vault, Sharing::Shared)?;
    let json = flags.json;
    let report = verify(&opened.repository, data, &mut |finding| {
        // A reader that went away hears no more; the verification goes on for its exit code.
        _ = say(&if json { as_json(&finding) } else { as_text(&finding) });
    })?;
    let is_less = super::tell_missing(&opened.repository)?;
    let read = format!("{} packs read ({})", report.packs_read, human_size(report.bytes_read));
    let text = format!(
        "{} snapshots, {} packs, {} blobs needed, {read}: {}\n",
        report.snapshots,
        report.packs,
        report.blobs_needed,
        match (report.damages, report.costs) {
            (0, _) => "whole".into(),
            (damages, costs) => format!("{damages} damages, which cost {costs} paths of snapshots"),
        }
    );
    if json {
        let line = serde_json::json!({
            "message_type": "summary",
            "snapshots": report.snapshots,
            "packs": report.packs,
            "blobs_needed": report.blobs_needed,
            "packs_read": report.packs_read,
            "bytes_read": report.bytes_read,
            "damages": report.damages,
            "paths_lost": report.costs,
        });
        say(&format!("{line}\n"))?;
    } else {
        say(&text)?;
    }
    Ok(if report.is_whole() && !is_less { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn as_text(finding: &Finding) -> String {
    match finding {
        Finding::Damage { object, what } => format!("damaged: {}: {}\n", plain(object), plain(what)),
        Finding::Note { object, what } => format!("note: {}: {}\n", plain(object), plain(what)),
        Finding::Cost { snapshot, path } if path.is_empty() => format!("lost: snapshot {} wholly\n", snapshot.short()),
        Finding::Cost { snapshot, path } => {
            format!("lost: /{} in snapshot {}\n", escape::for_terminal(path), snapshot.short())
        }
    }
}

fn plain(text: &str) -> std::borrow::Cow<'_, str> {
    escape::for_terminal_if_needed(text)
}

fn as_json(finding: &Finding) -> String {
    let value = match finding {
        Finding::Damage { object, what } => {
            serde_json::json!({ "message_type": "damage", "object": object, "what": what })
        }
        Finding::Note { object, what } => serde_json::json!({ "message_type": "note", "object": object, "what": what }),
        Finding::Cost { snapshot, path } => serde_json::json!({
            "message_type": "lost",
            "snapshot": snapshot.to_string(),
            "path": String::from_utf8_lossy(path),
        }),
    };
    format!("{value}\n")
}

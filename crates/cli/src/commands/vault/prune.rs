//! `kobj vault prune VAULT`.

use super::access::{AccessFlags, CacheFlags, Opened};
use super::say;
use crate::report::text::human_size;
use kobj_vault::config::Version;
use kobj_vault::error::{Error, Result};
use kobj_vault::index::{Cache, Index};
use kobj_vault::lock::Sharing;
use kobj_vault::pack::SIZE_TARGET;
use kobj_vault::prune::plan::{MaxUnused, Options, Plan, Sum, plan};
use kobj_vault::prune::{Report, execute, survey};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Flags of `kobj vault prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct PruneFlags {
    /// Folder of the vault
    vault: OsString,
    /// How much unneeded data may stay in packs that hold needed data too: x% of the whole, a size (50M), or `unlimited`
    #[arg(long, value_name = "LIMIT", default_value = "5%", value_parser = parse_max_unused)]
    max_unused: MaxUnused,
    /// Pack anew at most so much: a size such as 10G
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_repack_size: Option<u64>,
    /// Pack anew small packs too, those below 80 percent of the usual size
    #[arg(long)]
    repack_small: bool,
    /// Pack anew what is not compressed too
    #[arg(long, conflicts_with = "repack_cacheable_only")]
    repack_uncompressed: bool,
    /// Pack anew nothing but trees
    #[arg(long)]
    repack_cacheable_only: bool,
    /// Only say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// As JSON, a line each
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: AccessFlags,
    #[command(flatten)]
    cache: CacheFlags,
}

impl PruneFlags {
    fn options(&self) -> Options {
        Options {
            max_unused: self.max_unused,
            max_repack_bytes: self.max_repack_size.unwrap_or(u64::MAX),
            small_below_bytes: if self.repack_small { SIZE_TARGET as u64 / 5 * 4 } else { 0 },
            repack_uncompressed: self.repack_uncompressed,
            repack_trees_only: self.repack_cacheable_only,
        }
    }
}

fn parse_max_unused(text: &str) -> std::result::Result<MaxUnused, String> {
    if text == "unlimited" {
        return Ok(MaxUnused::Unlimited);
    }
    let Some(percent) = text.strip_suffix('%') else {
        let wrong = |_| format!("'{text}' is no limit: write x%, a size such as 50M, or unlimited");
        return parse_size(text).map(MaxUnused::Bytes).map_err(wrong);
    };
    match percent.parse::<f64>() {
        Ok(number) if (0.0..=100.0).contains(&number) => Ok(MaxUnused::Percent(number)),
        _ => Err(format!("'{text}' is no part of a whole: write 0% to 100%")),
    }
}

fn parse_size(text: &str) -> std::result::Result<u64, String> {
    let (digits, shift) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        Some((at, 't' | 'T')) => (&text[..at], 40),
        _ => (text, 0),
    };
    let number = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let bytes = number.and_then(|digits| digits.parse::<u64>().ok()).and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| format!("'{text}' is no size: write bytes, or a number with K, M, G or T"))
}

/// Prunes; the plan is printed before anything is changed.
pub(crate) fn run(flags: &PruneFlags) -> Result<ExitCode> {
    // As restic: without a lock only what changes nothing.
    let sharing = if flags.dry_run && flags.access.no_lock { Sharing::Shared } else { Sharing::Exclusive };
    let opened = flags.access.open(&flags.vault, sharing)?;
    prune(&opened, &flags.cache.cache(), &flags.options(), flags.dry_run, flags.json)?;
    Ok(ExitCode::SUCCESS)
}

/// Prunes an open vault. The lock is an exclusive one, unless it is a dry run.
pub(crate) fn prune(opened: &Opened, cache: &Cache, options: &Options, dry_run: bool, json: bool) -> Result<()> {
    let repository = &opened.repository;
    if options.repack_uncompressed && repository.config().version < Version::Two {
        let why = "a vault of version 1 holds nothing compressed";
        return Err(Error::refused("--repack-uncompressed", why));
    }
    let index = Index::load(repository, cache)?;
    let survey = survey(repository, &index)?;
    let plan = plan(survey.packs(), options)?;
    say(&if json { plan_as_json(&plan) } else { plan_as_text(&plan) })?;
    if dry_run {
        return if json { Ok(()) } else { say("nothing was changed\n") };
    }
    let prove = || opened.lock.as_ref().map_or(Ok(()), kobj_vault::lock::Lock::prove);
    let report = execute(&survey, &plan, options.repack_uncompressed, &prove)?;
    match (json, plan.is_empty()) {
        (true, _) => say(&report_as_json(&report)),
        (false, true) => say("nothing to do\n"),
        (false, false) => say(&format!(
            "{} packs removed, {} new ones ({}) with {} blobs; {} index files removed, {} new ones\n",
            report.packs_removed,
            report.packs_written,
            human_size(report.bytes_written),
            report.blobs_copied,
            report.index_files_removed,
            report.index_files_written,
        )),
    }
}

fn plan_as_text(plan: &Plan) -> String {
    let mut text = String::new();
    let mut line = |what: &str, sum: Sum| {
        let bytes = human_size(sum.used_bytes + sum.unused_bytes);
        _ = writeln!(text, "{what}{} packs, {bytes}, of it {} unneeded", sum.packs, human_size(sum.unused_bytes));
    };
    line("keep         ", plan.kept);
    line("pack anew    ", plan.repacked);
    line("remove       ", plan.removed);
    let strays = human_size(plan.unreferenced_bytes);
    _ = writeln!(text, "unreferenced {} packs, {strays}, to be removed", plan.unreferenced.len());
    if !plan.forget.is_empty() {
        _ = writeln!(text, "gone         {} packs that the index still names and nothing needs", plan.forget.len());
    }
    _ = writeln!(text, "frees        {}", human_size(plan.freed_bytes()));
    text
}

fn plan_as_json(plan: &Plan) -> String {
    let sum = |sum: &Sum| {
        serde_json::json!({
            "packs": sum.packs,
            "used_blobs": sum.used_blobs,
            "used_bytes": sum.used_bytes,
            "unused_blobs": sum.unused_blobs,
            "unused_bytes": sum.unused_bytes,
        })
    };
    let line = serde_json::json!({
        "message_type": "plan",
        "keep": sum(&plan.kept),
        "repack": sum(&plan.repacked),
        "remove": sum(&plan.removed),
        "unreferenced": { "packs": plan.unreferenced.len(), "bytes": plan.unreferenced_bytes },
        "gone": { "packs": plan.forget.len() },
        "freed_bytes": plan.freed_bytes(),
    });
    format!("{line}\n")
}

fn report_as_json(report: &Report) -> String {
    let line = serde_json::json!({
        "message_type": "summary",
        "packs_removed": report.packs_removed,
        "packs_written": report.packs_written,
        "bytes_written": report.bytes_written,
        "blobs_copied": report.blobs_copied,
        "index_files_removed": report.index_files_removed,
        "index_files_written": report.index_files_written,
    });
    format!("{line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_sizes_are_restics() {
        assert_eq!(parse_max_unused("5%"), Ok(MaxUnused::Percent(5.0)));
        assert_eq!(parse_max_unused("2.5%"), Ok(MaxUnused::Percent(2.5)));
        assert_eq!(parse_max_unused("0"), Ok(MaxUnused::Bytes(0)));
        assert_eq!(parse_max_unused("50M"), Ok(MaxUnused::Bytes(50 << 20)));
        assert_eq!(parse_max_unused("unlimited"), Ok(MaxUnused::Unlimited));
        for bad in ["", "%", "-1%", "101%", "NaN%", "many", "5 %"] {
            assert!(parse_max_unused(bad).is_err(), "{bad}");
        }
        assert_eq!((parse_size("7"), parse_size("1k"), parse_size("2T")), (Ok(7), Ok(1024), Ok(2 << 40)));
        for bad in ["", "K", "-1", "+1", "1.5G", "1é", "99999999999999T"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}

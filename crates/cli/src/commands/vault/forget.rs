//! `kobj vault forget VAULT`.

use super::access::{AccessFlags, CacheFlags};
use super::{FilterFlags, host_log, say, split_tags};
use crate::report::escape;
use jiff::{Span, Zoned};
use kobj_vault::error::{Error, Result};
use kobj_vault::forget::{Candidate, Keep, Period, Policy, judge};
use kobj_vault::host_log::{Event, HostLog};
use kobj_vault::id::Id;
use kobj_vault::lock::Sharing;
use kobj_vault::repository::Repository;
use kobj_vault::snapshots::{self, Stored};
use kobj_vault::storage::{FileKind, Name};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Flags of `kobj vault forget`.
#[derive(Debug, clap::Args)]
pub(crate) struct ForgetFlags {
    /// Folder of the vault
    vault: OsString,
    /// Snapshots to forget, by id or first digits, whatever a policy says
    #[arg(conflicts_with = "Policy")]
    snapshots: Vec<String>,
    #[command(flatten)]
    policy: PolicyFlags,
    #[command(flatten)]
    filter: FilterFlags,
    /// What makes a group, each judged by itself: host, paths, tags, or '' for one group of all
    #[arg(short, long, value_name = "host,paths,tags", default_value = "host,paths", value_parser = parse_grouping)]
    group_by: Grouping,
    /// Only say what would be forgotten
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Then remove what no snapshot needs any more, as `kobj vault prune` does, unless none was forgotten
    #[arg(long)]
    prune: bool,
    /// Go on although dates look wrong
    #[arg(long)]
    yes: bool,
    /// The named snapshots are gone already, and that was meant: strike them from this host's log
    #[arg(long, requires = "snapshots")]
    made_here: bool,
    #[command(flatten)]
    access: AccessFlags,
    #[command(flatten)]
    cache: CacheFlags,
}

/// What a policy keeps, with restic's names; a count of -1 or `unlimited` keeps all.
#[derive(Debug, Default, clap::Args)]
#[group(id = "Policy", multiple = true)]
struct PolicyFlags {
    /// Keep the newest so many
    #[arg(short = 'l', long, value_name = "COUNT", value_parser = parse_keep, allow_hyphen_values = true)]
    keep_last: Option<Keep>,
    /// Keep the newest of each of the last so many hours that have any
    #[arg(short = 'H', long, value_name = "COUNT", value_parser = parse_keep, allow_hyphen_values = true)]
    keep_hourly: Option<Keep>,
    /// ... days
    #[arg(short = 'd', long, value_name = "COUNT", value_parser = parse_keep, allow_hyphen_values = true)]
    keep_daily: Option<Keep>,
    /// ... ISO weeks
    #[arg(short = 'w', long, value_name = "COUNT", value_parser = parse_keep, allow_hyphen_values = true)]
    keep_weekly: Option<Keep>,
    /// ... months
    #[arg(short = 'm', long, value_name = "COUNT", value_parser = parse_keep, allow_hyphen_values = true)]
    keep_monthly: Option<Keep>,
    /// ... years
    #[arg(short = 'y', long, value_name = "COUNT", value_parser = parse_keep, allow_hyphen_values = true)]
    keep_yearly: Option<Keep>,
    /// Keep all that are younger than the newest less this: 1y5m7d2h
    #[arg(long, value_name = "DURATION", value_parser = parse_span)]
    keep_within: Option<Span>,
    /// Keep the newest of each hour of that time
    #[arg(long, value_name = "DURATION", value_parser = parse_span)]
    keep_within_hourly: Option<Span>,
    /// ... day
    #[arg(long, value_name = "DURATION", value_parser = parse_span)]
    keep_within_daily: Option<Span>,
    /// ... week
    #[arg(long, value_name = "DURATION", value_parser = parse_span)]
    keep_within_weekly: Option<Span>,
    /// ... month
    #[arg(long, value_name = "DURATION", value_parser = parse_span)]
    keep_within_monthly: Option<Span>,
    /// ... year
    #[arg(long, value_name = "DURATION", value_parser = parse_span)]
    keep_within_yearly: Option<Span>,
    /// Keep those with all of these tags; may be given again
    #[arg(long, value_name = "TAG[,TAG...]")]
    keep_tag: Vec<String>,
}

impl PolicyFlags {
    fn policy(&self) -> Policy {
        let counts =
            [self.keep_last, self.keep_hourly, self.keep_daily, self.keep_weekly, self.keep_monthly, self.keep_yearly];
        let spans = [
            self.keep_within,
            self.keep_within_hourly,
            self.keep_within_daily,
            self.keep_within_weekly,
            self.keep_within_monthly,
            self.keep_within_yearly,
        ];
        let mut policy = Policy::default();
        for (period, (count, span)) in Period::ALL.into_iter().zip(counts.into_iter().zip(spans)) {
            policy = count.map_or(policy.clone(), |keep| policy.clone().keep(period, keep));
            policy = span.map_or(policy.clone(), |span| policy.clone().keep_within(period, span));
        }
        self.keep_tag.iter().map(|list| split_tags(list)).fold(policy, Policy::keep_tagged)
    }
}

fn parse_keep(text: &str) -> std::result::Result<Keep, String> {
    match text {
        "-1" | "unlimited" => Ok(Keep::All),
        number => number
            .parse()
            .map(Keep::Count)
            .map_err(|_| format!("'{text}' is no count: write a number, or 'unlimited' to keep all")),
    }
}

/// restic's durations: numbers with y, m, d and h.
fn parse_span(text: &str) -> std::result::Result<Span, String> {
    let wrong = || format!("'{text}' is no duration: write years, months, days and hours as 1y5m7d2h");
    let (mut span, mut digits) = (Span::new(), String::new());
    for character in text.chars() {
        if character.is_ascii_digit() {
            digits.push(character);
            continue;
        }
        let number: i64 = digits.parse().map_err(|_| wrong())?;
        digits.clear();
        let longer = match character {
            'y' => span.try_years(number),
            'm' => span.try_months(number),
            'd' => span.try_days(number),
            'h' => span.try_hours(number),
            _ => return Err(wrong()),
        };
        span = longer.map_err(|_| wrong())?;
    }
    if !digits.is_empty() || span.is_zero() { Err(wrong()) } else { Ok(span) }
}

/// What makes a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Grouping {
    host: bool,
    paths: bool,
    tags: bool,
}

fn parse_grouping(text: &str) -> std::result::Result<Grouping, String> {
    let mut grouping = Grouping::default();
    for word in text.split(',').filter(|word| !word.is_empty()) {
        match word {
            "host" | "hosts" => grouping.host = true,
            "path" | "paths" => grouping.paths = true,
            "tag" | "tags" => grouping.tags = true,
            other => return Err(format!("'{other}' makes no group: host, paths and tags do")),
        }
    }
    Ok(grouping)
}

type Key = (Option<String>, Option<Vec<String>>, Option<Vec<String>>);

impl Grouping {
    fn key(self, stored: &Stored) -> Key {
        let sorted = |list: &[String]| {
            let mut list = list.to_vec();
            list.sort_unstable();
            list
        };
        let snapshot = &stored.snapshot;
        (
            self.host.then(|| snapshot.hostname.clone()),
            self.paths.then(|| sorted(&snapshot.paths)),
            self.tags.then(|| sorted(&snapshot.tags)),
        )
    }
}

/// Forgets; the plan of every group is made, and shown, before anything is removed.
pub(crate) fn run(flags: &ForgetFlags) -> Result<ExitCode> {
    let sharing = if flags.dry_run { Sharing::Shared } else { Sharing::Exclusive };
    let opened = flags.access.open(&flags.vault, sharing)?;
    let repository = &opened.repository;
    let log = host_log(repository);
    if flags.made_here {
        let no_folder = || Error::refused("--made-here", "this user has no state folder, so there is no log");
        let log = log.ok_or_else(no_folder)?;
        let ids = made_here(flags, repository, &log)?;
        log.append(&ids)?;
        say(&format!("{} snapshots struck from this host's log\n", ids.len()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let remove = if flags.snapshots.is_empty() { by_policy(flags, repository)? } else { by_name(flags, repository)? };
    if flags.dry_run {
        say(&format!("would forget {} snapshots; nothing was changed\n", remove.len()))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(log) = &log {
        log.append(&remove.iter().map(|id| Event::Forgotten(*id)).collect::<Vec<_>>())?;
    }
    for id in &remove {
        if let Some(lock) = &opened.lock {
            lock.prove()?;
        }
        match repository.storage().remove(&Name::new(FileKind::Snapshot, *id)) {
            Ok(()) | Err(Error::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    if !flags.prune {
        let more = "`kobj vault prune` frees the space that nothing needs any more";
        say(&format!("forgot {} snapshots; {more}\n", remove.len()))?;
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!("forgot {} snapshots\n", remove.len()))?;
    if !remove.is_empty() {
        let options = kobj_vault::prune::plan::Options::default();
        super::prune::prune(&opened, &flags.cache.cache(), &options, false, false)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The snapshots of this host's log that are gone and that the digits mean.
fn made_here(flags: &ForgetFlags, repository: &Repository, log: &HostLog) -> Result<Vec<Event>> {
    let listed = repository.storage().list_all(FileKind::Snapshot)?;
    let missing = log.missing(&listed.into_iter().map(|file| file.id).collect())?;
    let find = |text: &String| {
        let fits: Vec<&Id> = missing.iter().filter(|id| id.to_string().starts_with(text.as_str())).collect();
        match fits.as_slice() {
            [id] => Ok(Event::Forgotten(**id)),
            [] => {
                Err(Error::refused(format_args!("snapshot {text:?}"), "this host's log misses none whose id begins so"))
            }
            _ => Err(Error::refused(format_args!("snapshot {text:?}"), "several ids begin so: write more digits")),
        }
    };
    flags.snapshots.iter().map(find).collect()
}

fn by_name(flags: &ForgetFlags, repository: &Repository) -> Result<Vec<Id>> {
    // Not loaded: a damaged snapshot can be forgotten too.
    let resolve = |text: &String| match text.as_str() {
        "latest" => Ok(snapshots::resolve(repository, text, &flags.filter.filter())?.id),
        text => snapshots::resolve_id(repository, FileKind::Snapshot, text),
    };
    let mut ids = flags.snapshots.iter().map(resolve).collect::<Result<Vec<Id>>>()?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

fn by_policy(flags: &ForgetFlags, repository: &Repository) -> Result<Vec<Id>> {
    let policy = flags.policy.policy();
    if policy.is_empty() {
        return Err(Error::refused("forget", kobj_vault::forget::Refusal::EmptyPolicy));
    }
    let all = snapshots::load_all(repository, &flags.filter.filter())?;
    if let Some((_, error)) = all.damaged.first() {
        let why = format!("a policy judges all snapshots, and one cannot be read: {error}; forget it by name first");
        return Err(Error::refused("forget", why));
    }
    let mut groups: BTreeMap<Key, Vec<Stored>> = BTreeMap::new();
    for stored in all.snapshots {
        groups.entry(flags.group_by.key(&stored)).or_default().push(stored);
    }
    let now = Zoned::now();
    let (mut remove, mut text) = (Vec::new(), String::new());
    for (key, group) in &groups {
        let candidates = group.iter().map(candidate).collect::<Result<Vec<_>>>()?;
        let verdicts =
            judge(&candidates, &policy, &now, flags.yes).map_err(|refusal| Error::refused(describe(key), refusal))?;
        _ = writeln!(text, "{}", describe(key));
        for (stored, verdict) in group.iter().zip(&verdicts) {
            let what = if verdict.is_kept() { "keep  " } else { "forget" };
            let time = candidate(stored)?.time.strftime("%Y-%m-%d %H:%M:%S").to_string();
            _ = writeln!(text, "  {what} {} {time}  {}", stored.id.short(), verdict.reasons.join(", "));
            if !verdict.is_kept() {
                remove.push(stored.id);
            }
        }
    }
    say(&text)?;
    Ok(remove)
}

fn describe(key: &Key) -> String {
    let list = |list: &[String]| escape::for_terminal(list.join(",").as_bytes());
    let mut words = Vec::new();
    words.extend(key.0.as_ref().map(|host| format!("host {}", escape::for_terminal(host.as_bytes()))));
    words.extend(key.1.as_ref().map(|paths| format!("paths {}", list(paths))));
    words.extend(key.2.as_ref().map(|tags| format!("tags [{}]", list(tags))));
    if words.is_empty() { "all snapshots".into() } else { words.join(", ") }
}

/// As a policy sees it: its days are those of the offset that was recorded.
fn candidate(stored: &Stored) -> Result<Candidate> {
    let time = &stored.snapshot.time;
    let wrong =
        || Error::refused(format_args!("snapshot {}", stored.id.short()), "its time is outside what can be reckoned");
    let (seconds, nanoseconds) = time.instant();
    let nanoseconds = i32::try_from(nanoseconds).map_err(|_| wrong())?;
    let instant = jiff::Timestamp::new(seconds, nanoseconds).map_err(|_| wrong())?;
    let offset = jiff::tz::Offset::from_seconds(i32::from(time.offset_minutes()) * 60).map_err(|_| wrong())?;
    Ok(Candidate { time: instant.to_zoned(offset.to_time_zone()), tags: stored.snapshot.tags.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_counts_are_restics() {
        assert_eq!(
            parse_span("1y5m7d2h").unwrap().fieldwise(),
            Span::new().years(1).months(5).days(7).hours(2).fieldwise()
        );
        for bad in ["", "0d", "7", "d", "1w", "-1d", "99999999999999999999d", "1d1"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
        assert_eq!((parse_keep("-1"), parse_keep("7")), (Ok(Keep::All), Ok(Keep::Count(7))));
        assert!(parse_keep("-2").is_err() && parse_keep("x").is_err());
    }

    #[test]
    fn groups_are_made_of_what_is_named() {
        assert_eq!(parse_grouping("host,paths"), Ok(Grouping { host: true, paths: true, tags: false }));
        assert_eq!(parse_grouping(""), Ok(Grouping::default()));
        assert!(parse_grouping("user").is_err());
    }
}

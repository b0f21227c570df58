//! `kobj backup PATH... --to VAULT`.

use super::vault::access::{AccessFlags, CacheFlags, VaultFlag};
use super::vault::{end, host_log, say, split_tags};
use crate::report::escape;
use crate::report::text::human_size;
use kobj_vault::backup::{Options, Parent, Progress, Report, backup, choose_parent};
use kobj_vault::chunk::{Rule, Wish};
use kobj_vault::error::{Error, Result};
use kobj_vault::host_log::Event;
use kobj_vault::index::Index;
use kobj_vault::lock::Sharing;
use kobj_vault::repository::Repository;
use kobj_vault::snapshots::{self, Filter};
use kobj_vault::source::Source;
use kobj_vault::source::exclude::Patterns;
use kobj_vault::source::files::{self, Walk};
use kobj_vault::tree::{Time, Zone};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

/// Flags of `kobj backup`.
#[derive(Debug, clap::Args)]
pub(crate) struct BackupFlags {
    /// Files and folders to keep
    paths: Vec<PathBuf>,
    #[command(flatten)]
    vault: VaultFlag,
    /// Leave out what fits this pattern (restic's rules); may be given again
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<OsString>,
    /// The same, whatever its case
    #[arg(long, value_name = "PATTERN")]
    iexclude: Vec<OsString>,
    /// File of such patterns, one a line; # begins a comment
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// Of a folder with a sound CACHEDIR.TAG keep only that file
    #[arg(long)]
    exclude_caches: bool,
    /// Of a folder that has this file (which begins with HEADER) keep only that file
    #[arg(long, value_name = "NAME[:HEADER]")]
    exclude_if_present: Vec<OsString>,
    /// Leave out files larger than this: 100M
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    exclude_larger_than: Option<u64>,
    /// Do not go into other file systems
    #[arg(short = 'x', long)]
    one_file_system: bool,
    /// File that names paths to keep, one a line
    #[arg(long, value_name = "FILE")]
    files_from: Vec<PathBuf>,
    /// The same, each path ended by a zero byte and taken as it is
    #[arg(long, value_name = "FILE")]
    files_from_raw: Vec<PathBuf>,
    /// Keep when files were read
    #[arg(long)]
    with_atime: bool,
    /// Tags of the snapshot, separated by commas; may be given again
    #[arg(long, value_name = "TAG[,TAG...]")]
    tag: Vec<String>,
    /// Host that the snapshot is said to be of
    #[arg(short = 'H', long, value_name = "NAME")]
    host: Option<String>,
    /// When the snapshot is said to be made: 2026-11-24 12:00:00
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// Compare with this snapshot instead of the newest of the same host and paths
    #[arg(long, value_name = "SNAPSHOT")]
    parent: Option<String>,
    /// Read every file, whatever its times say
    #[arg(short, long)]
    force: bool,
    /// Read what seems unchanged too and say what changed behind its times
    #[arg(long)]
    rehash: bool,
    /// Cut files anew, whatever the parent's rule was; fixed:SIZE cuts all at that size
    #[arg(long)]
    rechunk: bool,
    /// How files are cut: suitable (the default) or fixed:SIZE
    #[arg(long, value_name = "RULE", value_parser = parse_chunks)]
    chunks: Option<Wish>,
    /// Store nothing, only say how much would be
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// The summary as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: AccessFlags,
    #[command(flatten)]
    cache: CacheFlags,
}

/// Backs up; exit 3 where something could not be read, or changed while it was.
pub(crate) fn run(flags: &BackupFlags) -> ExitCode {
    end(keep(flags))
}

fn keep(flags: &BackupFlags) -> Result<ExitCode> {
    let paths = paths(flags)?;
    let zone = Zone::local();
    let walk_options = walk_options(flags, &zone)?;
    let opened = flags.access.open(&flags.vault.name()?, Sharing::Shared)?;
    let repository = &opened.repository;
    let options = options(flags, &paths, zone)?;
    let index = Index::load(repository, &flags.cache.cache())?;
    let parent = if flags.force { None } else { parent(flags, repository, &options)? };
    let mut walk = Walk::new(&paths, walk_options)?;
    let prove = || opened.lock.as_ref().map_or(Ok(()), kobj_vault::lock::Lock::prove);
    let report = backup(repository, &index, &mut walk, parent.as_ref(), &options, &prove, &mut Silence)?;
    if let (Some(id), Some(log)) = (report.snapshot, host_log(repository)) {
        log.append(&[Event::Made(id)])?;
    }
    tell(&report, flags.json)?;
    super::vault::tell_missing(repository)?;
    Ok(if report.is_complete() { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

struct Silence;

impl Progress for Silence {
    fn entry(&mut self, _: &dyn Source) {}
    fn bytes(&mut self, _: u64) {}
}

/// What was named, here and in files.
fn paths(flags: &BackupFlags) -> Result<Vec<PathBuf>> {
    let mut paths = flags.paths.clone();
    let read = |file: &PathBuf| std::fs::read(file).map_err(|e| Error::io("read", file.display(), e));
    for file in &flags.files_from {
        let text = read(file)?;
        let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let named = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#"));
        paths.extend(named.map(|line| PathBuf::from(OsStr::from_bytes(line))));
    }
    for file in &flags.files_from_raw {
        let text = read(file)?;
        let Some(whole) = text.strip_suffix(b"\0") else {
            return Err(Error::refused(file.display(), "each path in it must end with a zero byte, the last one too"));
        };
        paths.extend(whole.split(|byte| *byte == 0).map(|name| PathBuf::from(OsString::from_vec(name.to_vec()))));
    }
    if paths.is_empty() {
        return Err(Error::refused("backup", "no path was named; name at least one file or folder"));
    }
    Ok(paths)
}

fn walk_options(flags: &BackupFlags, zone: &Zone) -> Result<files::Options> {
    let mut excludes = Patterns::default();
    flags.exclude.iter().try_for_each(|text| excludes.add(text.as_bytes(), false))?;
    flags.iexclude.iter().try_for_each(|text| excludes.add(text.as_bytes(), true))?;
    for file in &flags.exclude_file {
        let text = std::fs::read(file).map_err(|e| Error::io("read", file.display(), e))?;
        excludes.add_lines(&text, false)?;
    }
    let parted = |text: &OsString| {
        let bytes = text.as_bytes();
        match bytes.iter().position(|byte| *byte == b':') {
            Some(colon) => (bytes[..colon].to_vec(), bytes[colon + 1..].to_vec()),
            None => (bytes.to_vec(), Vec::new()),
        }
    };
    Ok(files::Options {
        excludes,
        caches: flags.exclude_caches,
        if_present: flags.exclude_if_present.iter().map(parted).collect(),
        one_file_system: flags.one_file_system,
        larger_than: flags.exclude_larger_than,
        with_access_time: flags.with_atime,
        zone: zone.clone(),
    })
}

fn options(flags: &BackupFlags, paths: &[PathBuf], zone: Zone) -> Result<Options> {
    let here = std::env::current_dir().map_err(|e| Error::io("find", "the current folder", e))?;
    let named = paths.iter().map(|path| absolute(&here, path).to_string_lossy().into_owned()).collect();
    let uid = rustix::process::getuid().as_raw();
    let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    let texts = flags.exclude.iter().chain(&flags.iexclude);
    Ok(Options {
        paths: named,
        hostname: flags.host.clone().unwrap_or_else(host),
        username: std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default(),
        owner: (uid, rustix::process::getgid().as_raw()),
        tags: flags.tag.iter().flat_map(|list| split_tags(list)).collect(),
        excludes: texts.map(|text| text.to_string_lossy().into_owned()).collect(),
        time: flags.time.as_deref().map(|text| parse_time(text, &zone)).transpose()?,
        zone,
        chunks: flags.chunks.unwrap_or_default(),
        rechunk: flags.rechunk,
        rehash: flags.rehash,
        dry_run: flags.dry_run,
        program_version: format!("kobj {}", env!("CARGO_PKG_VERSION")),
    })
}

/// The path from the root on, without `.` and `..`, links not followed: as restic names it.
fn absolute(here: &Path, path: &Path) -> PathBuf {
    let mut whole = PathBuf::new();
    for component in here.join(path).components() {
        match component {
            Component::ParentDir => _ = whole.pop(),
            Component::CurDir => {}
            other => whole.push(other),
        }
    }
    whole
}

fn parent(flags: &BackupFlags, repository: &Repository, options: &Options) -> Result<Option<Parent>> {
    if let Some(text) = &flags.parent {
        let stored = snapshots::resolve(repository, text, &Filter::default())?;
        return Ok(Some(Parent { id: stored.id, tree: stored.snapshot.tree }));
    }
    let all = snapshots::load_all(repository, &Filter::default())?;
    let until = options.time.unwrap_or_else(|| Time::now(&options.zone));
    let known = all.snapshots.iter().map(|stored| (&stored.id, &stored.snapshot));
    Ok(choose_parent(known, &options.hostname, &options.paths, &until))
}

fn tell(report: &Report, json: bool) -> Result<()> {
    for failure in &report.failures {
        warn(&failure.path, &format!("left out: cannot {} it: {}", failure.action, failure.source));
    }
    for path in &report.changing {
        warn(path, "changed each time it was read: what is kept of it is of no single moment");
    }
    for path in &report.silently_changed {
        warn(path, "changed although its size and times did not: it was read anew");
    }
    for what in &report.lost_parents {
        crate::tell(&format!("kobj: {}\n", escape::for_terminal_if_needed(what)));
    }
    let summary = &report.summary;
    let id = report.snapshot.map(|id| id.to_string());
    if json {
        let line = serde_json::json!({
            "message_type": "summary",
            "snapshot_id": id,
            "parent": report.parent.map(|id| id.to_string()),
            "dry_run": id.is_none(),
            "files_new": summary.files_new,
            "files_changed": summary.files_changed,
            "files_unmodified": summary.files_unmodified,
            "dirs_new": summary.dirs_new,
            "dirs_changed": summary.dirs_changed,
            "dirs_unmodified": summary.dirs_unmodified,
            "data_blobs": summary.data_blobs,
            "tree_blobs": summary.tree_blobs,
            "data_added": summary.data_added,
            "data_added_packed": summary.data_added_packed,
            "total_files_processed": summary.total_files_processed,
            "total_bytes_processed": summary.total_bytes_processed,
            "failures": report.failures.len(),
            "changing": report.changing.len(),
        });
        return say(&format!("{line}\n"));
    }
    let what = match &report.snapshot {
        Some(id) => format!("snapshot {}", id.short()),
        None => "would store".into(),
    };
    say(&format!(
        "{what}: {} files ({}), {} new, {} changed, {} unchanged; stored {} as {}\n",
        summary.total_files_processed,
        human_size(summary.total_bytes_processed),
        summary.files_new,
        summary.files_changed,
        summary.files_unmodified,
        human_size(summary.data_added),
        human_size(summary.data_added_packed),
    ))
}

fn warn(path: &Path, what: &str) {
    crate::tell(&format!("kobj: {}: {what}\n", escape::for_terminal(path.as_os_str().as_bytes())));
}

fn parse_time(text: &str, zone: &Zone) -> Result<Time> {
    let wrong = |e: jiff::Error| {
        Error::refused(format_args!("--time {text:?}"), format_args!("{e}: write it as 2026-11-24 12:00:00"))
    };
    let time: jiff::civil::DateTime = text.parse().map_err(wrong)?;
    let instant = jiff::tz::TimeZone::system().to_timestamp(time).map_err(wrong)?;
    let nanoseconds = u32::try_from(instant.subsec_nanosecond()).unwrap_or(0);
    Ok(Time::new(instant.as_second(), nanoseconds, zone))
}

fn parse_size(text: &str) -> std::result::Result<u64, String> {
    let (digits, shift) = match text.bytes().last().map(|byte| byte.to_ascii_lowercase()) {
        Some(b'k') => (&text[..text.len() - 1], 10),
        Some(b'm') => (&text[..text.len() - 1], 20),
        Some(b'g') => (&text[..text.len() - 1], 30),
        Some(b't') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| format!("'{text}' is no size: write a number and K, M, G or T: 100M"))
}

fn parse_chunks(text: &str) -> std::result::Result<Wish, String> {
    if text == "suitable" {
        return Ok(Wish::Suitable);
    }
    let wrong = || format!("'{text}' is no rule: suitable, or fixed:SIZE with a power of two from 64K to 8M");
    let bytes = text.strip_prefix("fixed:").map(parse_size).ok_or_else(wrong)??;
    let fits = bytes.is_power_of_two() && (64 << 10..=8 << 20).contains(&bytes);
    if fits { Ok(Wish::All(Rule::Fixed(u32::try_from(bytes).map_err(|_| wrong())?))) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_named_from_the_root_without_following_links() {
        let of = |path: &str| absolute(Path::new("/a/b"), Path::new(path)).to_string_lossy().into_owned();
        assert_eq!(
            [of("c"), of("./c/"), of("../c"), of("../../../c"), of("/x/./y/..")],
            ["/a/b/c", "/a/b/c", "/a/c", "/c", "/x"]
        );
    }

    #[test]
    fn sizes_and_rules_are_read_or_refused() {
        assert_eq!((parse_size("10"), parse_size("2k"), parse_size("1G")), (Ok(10), Ok(2048), Ok(1 << 30)));
        for bad in ["", "K", "-1", "1.5M", "99999999999999999999", "99999999999999T"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        assert!(parse_chunks("fixed:64K").is_ok() && parse_chunks("suitable").is_ok());
        for bad in ["", "fixed", "fixed:1", "fixed:65K", "fixed:16M", "rabin"] {
            assert!(parse_chunks(bad).is_err(), "{bad}");
        }
    }
}

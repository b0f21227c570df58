//! Jobs inside jobs: an inner run leaves word for the run around it, which names the inner job in its own report.
//!
//! The word is the inner report, a file beside the outer run's record, named by both eras. The outer run reads and
//! removes it; if the outer run died, whoever cleans up after it does.

use crate::report::schema::{Report, Straggler};
use kobj_abi::{Era, Koid};
use kobj_host::record::RuntimeFolder;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;

/// The longest word that is read, in bytes.
const WORD_BYTES_MAX: u64 = 16 << 20;
/// The most inner jobs that one report names.
const INNER_MAX: usize = 10_000;

/// Leaves word for the run `outer`, if it has a record in the same folder. Silent where it has none.
pub(crate) fn leave_word(outer: Koid, report: &Report, own: Koid) {
    let Ok(folder) = RuntimeFolder::open() else { return };
    let beside = rustix::fs::statat(&folder, outer.era().0.to_string(), AtFlags::SYMLINK_NOFOLLOW);
    if !beside.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::RegularFile) {
        return;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let name = word_name(outer.era(), own.era());
    let Ok(file) = rustix::fs::openat(&folder, &name, flags, Mode::RUSR | Mode::WUSR) else { return };
    if File::from(file).write_all(report.to_json().as_bytes()).is_err() {
        let _ = rustix::fs::unlinkat(&folder, &name, AtFlags::empty());
    }
}

fn word_name(outer: Era, inner: Era) -> String {
    format!("{}-{}.json", outer.0, inner.0)
}

/// Takes the words that inner runs left for the run of `era`: each is read once and removed.
pub(crate) fn take_words(era: Era) -> Vec<Report> {
    let Ok(folder) = RuntimeFolder::open() else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir(folder.path()) else { return Vec::new() };
    let beginning = format!("{}-", era.0);
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut words: Vec<String> = names.filter(|n| n.starts_with(&beginning) && n.ends_with(".json")).collect();
    words.sort();
    let mut reports = Vec::new();
    for name in words {
        let report = read_word(&folder, &name);
        let _ = rustix::fs::unlinkat(&folder, &name, AtFlags::empty());
        reports.extend(report.filter(|_| reports.len() < INNER_MAX));
    }
    reports
}

fn read_word(folder: &RuntimeFolder, name: &str) -> Option<Report> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty()).ok()?);
    let found = file.metadata().ok()?;
    if !found.is_file() || found.uid() != rustix::process::geteuid().as_raw() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(WORD_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Report::from_json(&bytes).ok()
}

/// Enters the inner jobs into the outer report, and their names beside what they left.
pub(crate) fn name_inner_jobs(report: &mut Report, words: Vec<Report>) {
    let mut left_by: HashMap<String, String> = HashMap::new();
    for word in words {
        let label = String::from_utf8_lossy(&word.job.label()).into_owned();
        for row in word.stragglers.iter().filter(|row| !row.action.is_gone()) {
            left_by.insert(key(row), row.inner_job.clone().unwrap_or_else(|| label.clone()));
        }
        report.job.jobs.push(word.job);
    }
    for row in report.stragglers.iter_mut().chain(&mut report.unattributed) {
        row.inner_job = left_by.get(&key(row)).cloned();
    }
}

fn key(row: &Straggler) -> String {
    format!("{} {}", row.kind.name(), row.identity)
}

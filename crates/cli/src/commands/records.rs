//! The records of this user's runs: what `kobj jobs`, `kobj balance` and `kobj scrub --dead-jobs` read.

use kobj_host::record::{self, Contents, RuntimeFolder, State};
use kobj_host::view::View;
use std::path::PathBuf;

/// A run, by its record.
#[derive(Debug)]
pub(crate) struct Job {
    /// Its number in `kobj jobs`, from 1, oldest first.
    pub(crate) number: usize,
    /// Where its record is.
    pub(crate) path: PathBuf,
    /// Whether its kobj lives; a dead one's record is held until this value is dropped.
    pub(crate) state: State,
    /// What the record says, or what is wrong with it.
    pub(crate) contents: Result<Contents, String>,
}

impl Job {
    /// Whether its kobj lives.
    pub(crate) const fn is_living(&self) -> bool {
        matches!(self.state, State::Living)
    }

    /// What people call it: its name, else its command's first word.
    pub(crate) fn label(&self) -> Vec<u8> {
        match &self.contents {
            Ok(contents) if !contents.name.is_empty() => contents.name.clone(),
            Ok(contents) => contents.command_line.first().cloned().unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// Whether a person who types `text` means this job: its number, its name, its koid, or its command's pid.
    fn is_called(&self, text: &str) -> bool {
        let Ok(contents) = &self.contents else { return text == self.number.to_string() };
        text == self.number.to_string()
            || text == contents.koid.to_string()
            || text.as_bytes() == contents.name
            || contents.command.is_some_and(|(pid, _)| text == pid.to_string())
    }
}

/// Every job of this user, oldest first; folders that cannot be read are told on standard error.
pub(crate) fn list() -> Vec<Job> {
    let mut found = Vec::new();
    for folder in RuntimeFolder::existing() {
        match folder.and_then(|folder| record::list(&folder)) {
            Ok(records) => found.extend(records),
            Err(why) => crate::tell(&format!("kobj: {}\n", crate::report::escape::for_terminal(why.as_bytes()))),
        }
    }
    found.sort_by_key(|record| record.era);
    let job = |(index, found): (usize, record::Found)| Job {
        number: index + 1,
        path: found.path,
        state: found.state,
        contents: found.contents,
    };
    found.into_iter().enumerate().map(job).collect()
}

/// The one job that is meant. A number in the list stands before a pid.
pub(crate) fn find(jobs: Vec<Job>, text: &str) -> Result<Job, String> {
    let mut called: Vec<Job> = jobs.into_iter().filter(|job| job.is_called(text)).collect();
    if called.len() > 1
        && let Some(at) = called.iter().position(|job| job.number.to_string() == text)
    {
        return Ok(called.swap_remove(at));
    }
    match called.len() {
        1 => Ok(called.remove(0)),
        0 => Err(format!("there is no job '{text}'; kobj jobs lists them")),
        many => Err(format!("'{text}' names {many} jobs; use a number of kobj jobs")),
    }
}

/// Whether the record's process ids have their meaning here and now.
pub(crate) fn is_of_this_namespace(contents: &Contents) -> bool {
    record::pid_namespace() == Some(contents.pid_namespace)
}

/// Whether the job's command still runs: same number, same start time.
pub(crate) fn command_runs(view: &View, contents: &Contents) -> bool {
    let Some((pid, started)) = contents.command else { return false };
    let proc = kobj_host::proc::Proc::open(&view.proc).ok();
    let stat = proc.and_then(|proc| proc.life(pid).ok()?.stat());
    is_of_this_namespace(contents) && stat.is_some_and(|stat| stat.started == started && !stat.is_dead())
}

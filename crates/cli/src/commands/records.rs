//! The records of this user's runs: what `kobj jobs`, `kobj balance` and `kobj scrub --dead-jobs` read.

use kobj_host::record::{self, Contents, Found, RuntimeFolder, State};
use kobj_host::view::View;

/// A run, by its record.
#[derive(Debug)]
pub(crate) struct Job {
    /// Its number in `kobj jobs`, from 1, oldest first.
    pub(crate) number: usize,
    /// Its record: where it is, whether its kobj lives, and what it says.
    pub(crate) record: Found,
}

impl Job {
    /// Whether its kobj lives.
    pub(crate) fn is_living(&self) -> bool {
        self.record.state == State::Living
    }

    /// Whether it was ended and reported, and only its control group is left, with processes in use.
    pub(crate) fn is_settled(&self) -> bool {
        !self.is_living() && self.record.contents.as_ref().is_ok_and(|contents| contents.settled)
    }

    /// What people call it: its name, else its command's first word.
    pub(crate) fn label(&self) -> Vec<u8> {
        match &self.record.contents {
            Ok(contents) if !contents.name.is_empty() => contents.name.clone(),
            Ok(contents) => contents.command_line.first().cloned().unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// How the run is, in a word or two.
    pub(crate) fn state(&self, view: &View) -> &'static str {
        let Ok(contents) = &self.record.contents else { return "unreadable" };
        match (self.is_living(), command_runs(view, contents)) {
            _ if self.is_settled() => "ended, processes left",
            // Which process the command is stands in the record only once it runs: it may look before.
            (true, false) if contents.command.is_none() => "starting",
            (true, true) => "running",
            (true, false) => "ending",
            (false, true) => "dead, command runs",
            (false, false) => "dead",
        }
    }

    /// Whether a person who types `text` means this job: its number, its name, its koid, or its command's pid.
    pub(crate) fn is_called(&self, text: &str) -> bool {
        let Ok(contents) = &self.record.contents else { return text == self.number.to_string() };
        text == self.number.to_string()
            || text == contents.koid.to_string()
            || text.as_bytes() == contents.name
            || contents.command.is_some_and(|(pid, _)| text == pid.to_string())
    }
}

/// Every job of this user, oldest first; folders that cannot be read are told on standard error.
pub(crate) fn list() -> Vec<Job> {
    list_and(tell)
}

/// The same for whoever asked for no list: a folder that cannot be read is not its matter.
pub(crate) fn list_silently() -> Vec<Job> {
    list_and(|_| ())
}

fn list_and(tell_of_folder: impl Fn(&str)) -> Vec<Job> {
    let mut found = Vec::new();
    for folder in RuntimeFolder::existing() {
        match folder.and_then(|folder| record::list(&folder)) {
            Ok(records) => {
                found.extend(records.found);
                records.unrestored.iter().for_each(|sentence| tell(sentence));
            }
            Err(why) => tell_of_folder(&why),
        }
    }
    found.sort_by_key(|record| record.era);
    found.into_iter().enumerate().map(|(index, record)| Job { number: index + 1, record }).collect()
}

fn tell(sentence: &str) {
    crate::tell(&format!("kobj: {}\n", crate::report::escape::for_terminal(sentence.as_bytes())));
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

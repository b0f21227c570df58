//! `--baseline FILE`: what an earlier report names is hidden, so that only what is new is news.
//!
//! Matched by kind, the creator's command, and the name with its runs of digits and hexadecimal digits folded:
//! `/dev/shm/psm_1a2b3c` and `/dev/shm/psm_99ff00` are the same leak. A command that ended before its name was read matches
//! each: whether it is read in time is chance.

use crate::report::files;
use crate::report::schema::{Report, Straggler};
use kobj_abi::HostKind;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// What is known to be left.
#[derive(Clone, Debug, Default)]
pub(crate) struct Baseline {
    /// By kind and folded name, the creators' commands; empty for one that was not read.
    known: HashMap<(HostKind, Vec<u8>), HashSet<Option<String>>>,
}

impl Baseline {
    /// Reads an earlier report.json.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let named = |e: String| {
            format!("the baseline '{}': {e}; give a file that kobj run --report FILE.json wrote", path.display())
        };
        files::read(path).map(|report| Self::of(&report)).map_err(named)
    }

    /// What that report names.
    pub(crate) fn of(report: &Report) -> Self {
        let mut known: HashMap<_, HashSet<_>> = HashMap::new();
        for row in report.stragglers.iter().chain(&report.unattributed) {
            known.entry((row.kind, fold(&row.name.bytes()))).or_default().insert(command_of(row));
        }
        Self { known }
    }

    /// Whether the row was there before, as far as kind, creator's command and folded name say.
    pub(crate) fn knows(&self, row: &Straggler) -> bool {
        self.has(row.kind, &row.name.bytes(), command_of(row))
    }

    /// The same of a process, before it is a row: one that is known is left alone.
    pub(crate) fn knows_process(&self, name: &[u8], parent_command: Option<&[u8]>) -> bool {
        let command = parent_command.map(|command| String::from_utf8_lossy(command).into_owned());
        self.has(HostKind::Process, name, command)
    }

    fn has(&self, kind: HostKind, name: &[u8], command: Option<String>) -> bool {
        if self.known.is_empty() {
            return false;
        }
        let unread = Some(String::new());
        self.known.get(&(kind, fold(name))).is_some_and(|commands| {
            commands.contains(&command)
                || command.is_some() && commands.contains(&unread)
                || command == unread && commands.iter().any(Option::is_some)
        })
    }
}

fn command_of(row: &Straggler) -> Option<String> {
    row.creator.as_ref().map(|creator| creator.command.clone())
}

/// Each run of digits, and each longer run of hexadecimal digits that holds a digit, becomes `#`.
pub(crate) fn fold(name: &[u8]) -> Vec<u8> {
    let mut folded = Vec::with_capacity(name.len());
    let mut at = 0;
    while at < name.len() {
        let hex = name[at..].iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let digits = name[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        let whole_word = at == 0 || !name[at - 1].is_ascii_alphanumeric();
        let ends = name.get(at + hex).is_none_or(|b| !b.is_ascii_alphanumeric());
        let is_hex = whole_word && ends && hex >= 2 && name[at..at + hex].iter().any(u8::is_ascii_digit)
            || hex >= 6 && name[at..at + hex].iter().any(u8::is_ascii_digit);
        let run = if is_hex { hex } else { digits };
        if run == 0 {
            folded.push(name[at]);
            at += 1;
        } else {
            folded.push(b'#');
            at += run;
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_digits_and_hex_fold_and_words_stay() {
        let cases = [
            ("/dev/shm/psm_1a2b3c", "/dev/shm/psm_#"),
            ("/dev/shm/psm_99ff", "/dev/shm/psm_#"),
            ("/tmp/face", "/tmp/face"),
            ("/tmp/deadbeef0", "/tmp/#"),
            ("32769", "#"),
            ("/tmp/build-12.lock", "/tmp/build-#.lock"),
            ("/tmp/x1y22", "/tmp/x#y#"),
            ("", ""),
        ];
        for (name, folded) in cases {
            assert_eq!(String::from_utf8(fold(name.as_bytes())).unwrap(), folded, "{name}");
        }
    }

    #[test]
    fn the_same_leak_is_known_and_another_is_not() {
        let known = crate::report::samples::train();
        let baseline = Baseline::of(&known);
        let mut row = known.stragglers[1].clone();
        row.name.name = "/dev/shm/psm_77ee".into();
        assert!(baseline.knows(&row), "only digits differ");
        let mut other = row.clone();
        other.name.name = "/dev/shm/cache_77ee".into();
        assert!(!baseline.knows(&other), "another name");
        let mut other = row.clone();
        other.creator = None;
        assert!(!baseline.knows(&other), "another creator");
        let mut other = row.clone();
        other.creator.as_mut().expect("it has one").command = "another".into();
        assert!(!baseline.knows(&other), "another command");
        let mut unread = row.clone();
        unread.creator.as_mut().expect("it has one").command = String::new();
        assert!(baseline.knows(&unread), "a command whose name was not read may be the same");
        let mut earlier = known.clone();
        earlier.stragglers[1].creator.as_mut().expect("it has one").command = String::new();
        assert!(Baseline::of(&earlier).knows(&row), "the same the other way round");
        let mut other = row;
        other.kind = HostKind::PosixSemaphore;
        assert!(!baseline.knows(&other), "another kind");
        assert!(!Baseline::default().knows(&known.stragglers[1]));
    }

    #[test]
    fn a_baseline_that_is_no_report_is_named() {
        assert!(Baseline::read(Path::new("/nonexistent/r.json")).unwrap_err().contains("/nonexistent/r.json"));
        assert!(Baseline::read(Path::new("/proc/self/status")).unwrap_err().contains("not a report of kobj"));
        let absent = Baseline::read(Path::new("/nonexistent/known.json")).unwrap_err();
        assert!(absent.contains("/nonexistent/known.json") && absent.contains("--report FILE.json"), "{absent}");
    }
}

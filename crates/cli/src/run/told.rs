//! What a run was told, as its record keeps it: whoever goes on from there must know what is output, and what was not to
//! be touched.
//!
//! One text for each thing, ended by a NUL; its first byte says what it is.

use crate::options::run::RunOptions;
use crate::patterns::Pattern;
use kobj_host::output::Command;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What is of use after the death of a run's kobj.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// The command's working folder.
    pub(crate) folder: PathBuf,
    /// The command, its arguments, and the files that reports were to be written to.
    pub(crate) arguments: Vec<OsString>,
    /// The variables of its environment that can name a path.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Reported, never touched.
    pub(crate) keep: Vec<Pattern>,
    /// Hidden, never touched.
    pub(crate) ignore: Vec<Pattern>,
    /// An earlier report, whose rows are hidden.
    pub(crate) baseline: Option<PathBuf>,
}

const FOLDER: u8 = b'd';
const ARGUMENT: u8 = b'a';
const VARIABLE: u8 = b'e';
const KEEP: u8 = b'k';
const IGNORE: u8 = b'i';
const BASELINE: u8 = b'b';

/// The words for the record; none at all where something cannot be said in them.
pub(crate) fn encode(options: &RunOptions, environment: &[(OsString, OsString)], folder: &Path) -> Vec<u8> {
    let mut words = Vec::with_capacity(2048);
    let mut say = |kind: u8, parts: &[&[u8]]| {
        words.push(kind);
        parts.iter().for_each(|part| words.extend_from_slice(part));
        words.push(0);
    };
    say(FOLDER, &[folder.as_os_str().as_bytes()]);
    options.command.iter().for_each(|argument| say(ARGUMENT, &[argument.as_bytes()]));
    // Where a report was to be written the job may have made the folder.
    options.reports.iter().for_each(|report| say(ARGUMENT, &[report.path.as_os_str().as_bytes()]));
    for (name, value) in environment.iter().filter(|(name, value)| may_name_a_path(name, value)) {
        say(VARIABLE, &[name.as_bytes(), b"=", value.as_bytes()]);
    }
    let patterns = options.keep.iter().map(|keep| (KEEP, keep)).chain(options.ignore.iter().map(|one| (IGNORE, one)));
    let mut is_plain = true;
    for (kind, pattern) in patterns {
        let text = pattern.text();
        is_plain &= !text.contains(&0);
        say(kind, &[&text]);
    }
    if let Some(path) = &options.baseline_file {
        say(BASELINE, &[folder.join(path).as_os_str().as_bytes()]);
    }
    if is_plain { words } else { Vec::new() }
}

/// As [`kobj_host::output`] reads it: a word without a slash names nothing, but for HOME.
fn may_name_a_path(name: &OsStr, value: &OsStr) -> bool {
    name == "HOME" || value.as_bytes().contains(&b'/') && name != "OLDPWD" && name != "PWD"
}

impl Told {
    /// The other way; `None` for what was not made by [`encode`].
    pub(crate) fn decode(words: &[u8]) -> Option<Self> {
        let mut told = Self::default();
        let mut has_folder = false;
        for word in words.strip_suffix(&[0])?.split(|byte| *byte == 0) {
            let (kind, text) = word.split_first()?;
            let text = OsString::from_vec(text.to_vec());
            match *kind {
                FOLDER => {
                    told.folder = text.into();
                    has_folder = told.folder.is_absolute();
                }
                ARGUMENT => told.arguments.push(text),
                VARIABLE => {
                    let at = text.as_bytes().iter().position(|byte| *byte == b'=')?;
                    let (name, value) = (&text.as_bytes()[..at], &text.as_bytes()[at + 1..]);
                    told.environment.push((OsStr::from_bytes(name).into(), OsStr::from_bytes(value).into()));
                }
                KEEP => told.keep.push(Pattern::parse(text).ok()?),
                IGNORE => told.ignore.push(Pattern::parse(text).ok()?),
                BASELINE => told.baseline = Some(text.into()),
                _ => return None,
            }
        }
        has_folder.then_some(told)
    }

    /// The command as the output rules want it.
    pub(crate) fn command(&self) -> Command<'_> {
        Command { arguments: &self.arguments, environment: &self.environment, folder: &self.folder }
    }

    /// The variable of that name.
    pub(crate) fn variable(&self, name: &str) -> Option<&OsStr> {
        self.environment.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_os_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> RunOptions {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let flags = crate::options::run::RunFlags::parse(&words, &|_| None).ok().unwrap();
        RunOptions::resolve(flags, crate::config::Config::default()).unwrap()
    }

    #[test]
    fn what_was_told_comes_back() {
        let options =
            options(&["--keep", "segment:a*", "--ignore", "b:c", "--report", "r.json", "--", "cc", "", "-o/tmp/x"]);
        let bytes = OsString::from_vec(b"/tmp/\xff".to_vec());
        let variables = [
            ("HOME", OsStr::new("")),
            ("PGDATA", bytes.as_os_str()),
            ("TERM", OsStr::new("xterm")),
            ("PWD", OsStr::new("/x")),
        ];
        let variables: Vec<(OsString, OsString)> =
            variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let told = Told::decode(&encode(&options, &variables, Path::new("/work tree"))).unwrap();
        assert_eq!(told.folder, Path::new("/work tree"));
        assert_eq!(told.arguments, ["cc", "", "-o/tmp/x", "r.json"]);
        assert_eq!(told.environment, variables[..2], "the others name nothing");
        assert_eq!((told.keep, told.ignore, told.baseline), (options.keep, options.ignore, None));
    }

    #[test]
    fn what_is_not_ours_says_nothing() {
        for wrong in [&b""[..], b"\0", b"d/x", b"drelative\0", b"a/x\0", b"d/x\0z\0", b"d/x\0eNAME\0", b"d/x\0k\0"] {
            assert_eq!(Told::decode(wrong), None, "{wrong:?}");
        }
    }
}

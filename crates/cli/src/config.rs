//! The configuration: `/etc/kobj/kobj.toml`, `/etc/kobj/conf.d/*.toml`, `$XDG_CONFIG_HOME/kobj/kobj.toml`.
//!
//! A later file stands before an earlier one, key by key. An unknown key is an error: a misspelt `scrub` must not pass
//! as "do not scrub". A file that is not there costs one open.

use crate::durations::{parse_duration, parse_signal};
use crate::options::run::Scrub;
use serde::Deserialize;
use std::ffi::OsString;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The largest configuration file that is read, in bytes.
const SIZE_MAX: u64 = 1 << 20;

/// The settings of all files, joined.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Config {
    /// What is scrubbed at a job's end.
    pub(crate) scrub: Option<Scrub>,
    /// From the first signal to SIGKILL.
    pub(crate) kill_after: Option<Duration>,
    /// The first signal to leftover processes.
    pub(crate) signal: Option<i32>,
    /// Patterns that are reported and never touched.
    pub(crate) keep: Vec<String>,
    /// Patterns that are hidden and never touched.
    pub(crate) ignore: Vec<String>,
    /// Touch nothing.
    pub(crate) report_only: bool,
    /// End processes that serve others, too.
    pub(crate) kill_all: bool,
    /// The exit code for proved stragglers.
    pub(crate) fail_on_stragglers: Option<u8>,
    /// No text report.
    pub(crate) quiet: bool,
    /// Evidence in words.
    pub(crate) explain: bool,
    /// Folders whose files are segments, beside /dev/shm and hugetlbfs.
    pub(crate) segment_folders: Vec<PathBuf>,
    /// Folders whose files are temporary, beside TMPDIR, /tmp, /var/tmp, /run and /run/user/N.
    pub(crate) temporary_folders: Vec<PathBuf>,
}

/// One file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    scrub: Option<BoolOr<String>>,
    kill_after: Option<NumberOr>,
    signal: Option<String>,
    keep: Option<Vec<String>>,
    ignore: Option<Vec<String>>,
    report_only: Option<bool>,
    kill_all: Option<bool>,
    fail_on_stragglers: Option<BoolOr<u8>>,
    quiet: Option<bool>,
    explain: Option<bool>,
    segment_folders: Option<Vec<PathBuf>>,
    temporary_folders: Option<Vec<PathBuf>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "the value is of the wrong kind")]
enum BoolOr<T> {
    Bool(bool),
    Value(T),
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "the value is of the wrong kind")]
enum NumberOr {
    Whole(u32),
    Text(String),
}

/// A key, what it takes, and what it is for: the man page kobj.toml(5) is written from this.
pub(crate) const KEYS: [(&str, &str, &str); 12] = [
    ("scrub", "true, false, \"runtime\", \"all\" or \"none\"", "as --scrub"),
    ("kill_after", "seconds, or a duration as \"1.5m\"", "as --kill-after"),
    ("signal", "a signal's name as \"TERM\"", "as --signal"),
    ("keep", "a list of patterns", "as --keep; added to those typed"),
    ("ignore", "a list of patterns", "as --ignore; added to those typed"),
    ("report_only", "true or false", "as --report-only"),
    ("kill_all", "true or false", "as --kill-all"),
    ("fail_on_stragglers", "true, false or a code from 1 to 255", "as --fail-on-stragglers"),
    ("quiet", "true or false", "as --quiet"),
    ("explain", "true or false", "as --explain"),
    (
        "segment_folders",
        "a list of absolute paths",
        "folders whose regular files are segments, beside /dev/shm and hugetlbfs",
    ),
    (
        "temporary_folders",
        "a list of absolute paths",
        "folders whose files are temporary, beside TMPDIR, /tmp, /var/tmp, /run and /run/user/UID",
    ),
];

impl Config {
    /// Reads all files that are there; `get` reads a variable.
    pub(crate) fn load(get: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, String> {
        Self::load_from(Path::new("/etc/kobj"), user_file(get).as_deref())
    }

    fn load_from(system: &Path, user: Option<&Path>) -> Result<Self, String> {
        let mut config = Self::default();
        config.add_file(&system.join("kobj.toml"))?;
        for path in drop_ins(&system.join("conf.d"))? {
            config.add_file(&path)?;
        }
        if let Some(path) = user {
            config.add_file(path)?;
        }
        Ok(config)
    }

    fn add_file(&mut self, path: &Path) -> Result<(), String> {
        let Some(text) = read(path)? else { return Ok(()) };
        let written: Written = toml::from_str(&text).map_err(|e| describe(path, &text, &e))?;
        self.add(written).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn add(&mut self, written: Written) -> Result<(), String> {
        if let Some(scrub) = written.scrub {
            self.scrub = Some(scrub_of(scrub)?);
        }
        match written.kill_after {
            Some(NumberOr::Whole(seconds)) => self.kill_after = Some(Duration::from_secs(seconds.into())),
            Some(NumberOr::Text(text)) => {
                self.kill_after = Some(parse_duration(&text).map_err(|e| format!("kill_after: {e}"))?);
            }
            None => {}
        }
        if let Some(text) = written.signal {
            self.signal = Some(parse_signal(&text).map_err(|e| format!("signal: {e}"))?);
        }
        match written.fail_on_stragglers {
            Some(BoolOr::Bool(on)) => self.fail_on_stragglers = on.then_some(crate::exit_code::STRAGGLERS),
            Some(BoolOr::Value(0)) => return Err("fail_on_stragglers: a code from 1 to 255 is wanted, not 0".into()),
            Some(BoolOr::Value(code)) => self.fail_on_stragglers = Some(code),
            None => {}
        }
        for (key, folders) in
            [("segment_folders", &written.segment_folders), ("temporary_folders", &written.temporary_folders)]
        {
            if let Some(relative) = folders.iter().flatten().find(|path| !path.is_absolute()) {
                return Err(format!("{key}: '{}' is not an absolute path", relative.display()));
            }
        }
        put(&mut self.keep, written.keep);
        put(&mut self.ignore, written.ignore);
        put(&mut self.report_only, written.report_only);
        put(&mut self.kill_all, written.kill_all);
        put(&mut self.quiet, written.quiet);
        put(&mut self.explain, written.explain);
        put(&mut self.segment_folders, written.segment_folders);
        put(&mut self.temporary_folders, written.temporary_folders);
        Ok(())
    }
}

fn put<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn scrub_of(written: BoolOr<String>) -> Result<Scrub, String> {
    match written {
        BoolOr::Bool(true) => Ok(Scrub::Runtime),
        BoolOr::Bool(false) => Ok(Scrub::None),
        BoolOr::Value(word) => match word.as_str() {
            "runtime" => Ok(Scrub::Runtime),
            "all" => Ok(Scrub::All),
            "none" => Ok(Scrub::None),
            _ => Err(format!("scrub: '{word}' is none of true, false, \"runtime\", \"all\", \"none\"")),
        },
    }
}

/// The user's own file. A HOME that is not absolute is no home.
fn user_file(get: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))?;
    Some(folder.join("kobj/kobj.toml"))
}

fn drop_ins(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if is_absent(e.kind()) => return Ok(Vec::new()),
        Err(e) => return Err(format!("cannot read the folder {}: {e}", folder.display())),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| format!("cannot read the folder {}: {e}", folder.display()))?.path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

const fn is_absent(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn read(path: &Path) -> Result<Option<String>, String> {
    let mut text = String::new();
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if is_absent(e.kind()) => return Ok(None),
        // Somebody else's home that this user (under sudo -u, setpriv) cannot even look into holds nothing for it.
        Err(e) if e.kind() == ErrorKind::PermissionDenied && !path.starts_with("/etc") => return Ok(None),
        Err(e) => return Err(format!("cannot read {}: {e}", path.display())),
    };
    let found = file.metadata().map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    // Under sudo HOME may be another user's: what stands there is not this user's wish, root's least of all.
    if ![0, rustix::process::geteuid().as_raw()].contains(&found.uid()) {
        return Ok(None);
    }
    if found.mode() & 0o002 != 0 {
        return Err(format!("{} can be written by everybody; it is not believed: chmod o-w it", path.display()));
    }
    match file.take(SIZE_MAX + 1).read_to_string(&mut text) {
        Ok(size) if size as u64 > SIZE_MAX => Err(format!("{} is larger than 1 MiB; it is not read", path.display())),
        Ok(_) => Ok(Some(text)),
        Err(e) => Err(format!("cannot read {}: {e}", path.display())),
    }
}

/// `FILE line N: what is wrong; what the key on that line takes`, in one line.
fn describe(path: &Path, text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map(|span| text.bytes().take(span.start).filter(|b| *b == b'\n').count());
    let place = line.map_or(String::new(), |line| format!(" line {}", line + 1));
    let key = line.and_then(|line| text.lines().nth(line)?.split_once('=')).map(|(key, _)| key.trim());
    let known = KEYS.iter().find(|(name, ..)| Some(*name) == key);
    let takes = known.map_or(String::new(), |(name, takes, _)| format!("; {name} takes {takes}"));
    format!("{}{place}: {}{takes}", path.display(), error.message().replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let path = std::env::temp_dir().join(format!("kobj-config-{name}-{}", std::process::id()));
            std::fs::create_dir_all(path.join("conf.d")).unwrap();
            for (file, text) in files {
                std::fs::write(path.join(file), text).unwrap();
            }
            Self(path)
        }

        fn load(&self) -> Result<Config, String> {
            Config::load_from(&self.0, Some(&self.0.join("user.toml")))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn absent_files_are_the_defaults() {
        assert_eq!(Config::load_from(Path::new("/nonexistent/kobj"), None), Ok(Config::default()));
        assert_eq!(Config::load_from(Path::new("/dev/null/kobj"), None), Ok(Config::default()));
    }

    #[test]
    fn later_files_stand_before_earlier_ones_key_by_key() {
        let folder = Folder::new(
            "order",
            &[
                ("kobj.toml", "scrub = true\nkill_after = 3\nkeep = [\"a\"]\n"),
                ("conf.d/20.toml", "kill_after = \"1.5m\"\n"),
                ("conf.d/10.toml", "kill_after = 4\nfail_on_stragglers = true\n"),
                ("conf.d/note.txt", "not toml"),
                ("user.toml", "scrub = \"all\"\nsegment_folders = [\"/srv/shm\"]\n"),
            ],
        );
        let config = folder.load().unwrap();
        assert_eq!(config.scrub, Some(Scrub::All));
        assert_eq!(config.kill_after, Some(Duration::from_secs(90)));
        assert_eq!(config.fail_on_stragglers, Some(123));
        assert_eq!(config.keep, ["a"]);
        assert_eq!(config.segment_folders, [PathBuf::from("/srv/shm")]);
    }

    #[test]
    fn what_another_user_wrote_is_not_believed() {
        let folder = Folder::new("another", &[("user.toml", "scrub = true\n")]);
        let path = folder.0.join("user.toml");
        let mode = |mode| std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        assert_eq!(folder.load().unwrap().scrub, Some(Scrub::Runtime));
        mode(0o666);
        assert!(folder.load().unwrap_err().contains("user.toml can be written by everybody"));
        mode(0o664);
        assert_eq!(folder.load().unwrap().scrub, Some(Scrub::Runtime), "a group of one's own is usual");
        if !rustix::process::geteuid().is_root() {
            return println!("skipped: what_another_user_wrote_is_not_believed: needs root to make another's file");
        }
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        assert_eq!(folder.load().unwrap().scrub, None, "as under sudo with the user's HOME");
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_file_line_key_and_what_exists() {
        let folder = Folder::new("unknown", &[("kobj.toml", "quiet = true\nscurb = true\n")]);
        let e = folder.load().unwrap_err();
        assert!(e.contains("kobj.toml line 2") && e.contains("scurb") && e.contains("temporary_folders"), "{e}");
    }

    #[test]
    fn wrong_values_are_errors_that_name_the_file() {
        for text in [
            "scrub = \"some\"",
            "scrub = 1",
            "kill_after = \"x\"",
            "kill_after = -1",
            "fail_on_stragglers = 0",
            "fail_on_stragglers = 256",
            "segment_folders = [\"relative\"]",
            "quiet = 1",
            "= ",
        ] {
            let folder = Folder::new("wrong", &[("kobj.toml", text)]);
            let e = folder.load().expect_err(text);
            assert!(e.contains("kobj.toml") && !e.contains('\n'), "{text}: {e}");
        }
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_answered_with_what_the_key_takes() {
        for (text, takes) in [
            ("\nscrub = 1", "line 2: the value is of the wrong kind; scrub takes true, false, \"runtime\""),
            ("kill_after = true", "line 1: the value is of the wrong kind; kill_after takes seconds"),
            (
                "fail_on_stragglers = 256",
                "line 1: the value is of the wrong kind; fail_on_stragglers takes true, false",
            ),
            ("quiet = 1", "; quiet takes true or false"),
        ] {
            let folder = Folder::new("kind", &[("kobj.toml", text)]);
            let e = folder.load().expect_err(text);
            assert!(e.contains(takes) && !e.contains("variant"), "{text}: {e}");
        }
    }

    #[test]
    fn the_table_of_keys_is_what_is_read() {
        let e = toml::from_str::<Written>("nonsense = 1").unwrap_err().message().to_string();
        for (key, ..) in KEYS {
            assert!(e.contains(&format!("`{key}`")), "{key}: {e}");
        }
        assert_eq!(e.matches('`').count() / 2, KEYS.len() + 1);
    }

    #[test]
    fn a_relative_home_is_no_home() {
        let get = |name: &str| (name == "HOME").then(|| OsString::from("relative"));
        assert_eq!(user_file(&get), None);
    }
}

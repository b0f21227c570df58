//! What this host made and forgot in a vault, kept outside the vault: an older state of it, or a snapshot that somebody
//! took away, is noticed.
//!
//! One file per vault id, a line per event, `made ID` or `forgotten ID`, only ever appended. A line counts once its
//! newline is written. `made` is written after the snapshot is durable, `forgotten` before it is removed: a crash between
//! leaves too little to compare, never a false alarm.

use crate::error::{Error, Result};
use crate::id::Id;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Bytes of the log that are read at most: room for 800,000 events.
const BYTES_MAX: u64 = 64 << 20;

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// This host stored the snapshot, durably.
    Made(Id),
    /// This host is about to remove the snapshot, as somebody asked here.
    Forgotten(Id),
}

/// This host's log of one vault.
#[derive(Clone, Debug)]
pub struct HostLog {
    path: PathBuf,
}

impl HostLog {
    /// The log of the vault with this id (its config's) in this user's state folder. Nothing is made yet.
    #[must_use]
    pub fn of(state_folder: &Path, vault: &Id) -> Self {
        Self { path: state_folder.join("vaults").join(format!("{vault}.log")) }
    }

    /// Appends events, durably.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn append(&self, events: &[Event]) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let wrong = |action, e: std::io::Error| Error::io(action, self.path.display(), e);
        self.make_folder()?;
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::open(&self.path, flags, mode).map_err(|e| wrong("open", e.into()))?;
        let mut file = File::from(file);
        // One writer at a time: the torn line of one that was killed is closed before ours.
        rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(|e| wrong("lock", e.into()))?;
        let mut text = if self.ends_torn(&file)? { String::from("\n") } else { String::new() };
        for event in events {
            let (word, id) = match event {
                Event::Made(id) => ("made", id),
                Event::Forgotten(id) => ("forgotten", id),
            };
            text.push_str(&format!("{word} {id}\n"));
        }
        file.write_all(text.as_bytes()).map_err(|e| wrong("write", e))?;
        file.sync_all().map_err(|e| wrong("write", e))
    }

    fn make_folder(&self) -> Result<()> {
        use std::os::unix::fs::DirBuilderExt as _;
        let folder = self.path.parent().unwrap_or(&self.path);
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|e| Error::io("create", folder.display(), e))
    }

    fn ends_torn(&self, file: &File) -> Result<bool> {
        use std::os::unix::fs::FileExt as _;
        let wrong = |e: std::io::Error| Error::io("read", self.path.display(), e);
        let length = file.metadata().map_err(wrong)?.len();
        let mut last = [b'\n'];
        if length > 0 {
            file.read_exact_at(&mut last, length - 1).map_err(wrong)?;
        }
        Ok(last != [b'\n'])
    }

    /// The snapshots that this host made, nobody here forgot, and the vault does not list, sorted by id.
    ///
    /// # Errors
    /// Those of the operating system; [`Error::Damaged`] for a line that is no event.
    pub fn missing(&self, listed: &BTreeSet<Id>) -> Result<Vec<Id>> {
        Ok(self.expected()?.difference(listed).copied().collect())
    }

    fn expected(&self) -> Result<BTreeSet<Id>> {
        let wrong = |e: std::io::Error| Error::io("read", self.path.display(), e);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match rustix::fs::open(&self.path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(BTreeSet::new()),
            Err(e) => return Err(Error::io("open", self.path.display(), e)),
        };
        let mut bytes = Vec::new();
        file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(wrong)?;
        if bytes.len() as u64 > BYTES_MAX {
            let why = format!("it has over {BYTES_MAX} bytes; move it away, and the next backup begins a new one");
            return Err(Error::refused(self.path.display(), why));
        }
        let mut expected = BTreeSet::new();
        let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        // What stands behind the last newline was being written.
        lines.pop();
        for (nth, line) in lines.iter().enumerate() {
            match parse(line) {
                Some(Event::Made(id)) => _ = expected.insert(id),
                Some(Event::Forgotten(id)) => _ = expected.remove(&id),
                // A line that was torn when its writer was killed: the next writer closed it.
                None if is_torn(line) => {}
                None => {
                    let what = format!("line {} is no event; move the file away to begin anew", nth + 1);
                    return Err(Error::refused(self.path.display(), what));
                }
            }
        }
        Ok(expected)
    }
}

fn parse(line: &[u8]) -> Option<Event> {
    let (word, id) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    let id = id.parse().ok()?;
    match word {
        "made" => Some(Event::Made(id)),
        "forgotten" => Some(Event::Forgotten(id)),
        _ => None,
    }
}

/// Whether the line is the beginning of an event.
fn is_torn(line: &[u8]) -> bool {
    let is_start = |word: &[u8]| match line.strip_prefix(word) {
        Some(rest) => rest.len() < 2 * Id::LENGTH && rest.iter().all(u8::is_ascii_hexdigit),
        None => word.starts_with(line),
    };
    is_start(b"made ") || is_start(b"forgotten ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("kobj-host-log-{}-{name}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn id(n: u8) -> Id {
        Id::of(&[n])
    }

    #[test]
    fn what_was_made_here_and_is_not_listed_is_missing_unless_it_was_forgotten_here() {
        let folder = Folder::new("missing");
        let log = HostLog::of(&folder.0, &id(0));
        assert!(log.missing(&BTreeSet::new()).unwrap().is_empty());
        log.append(&[Event::Made(id(1)), Event::Made(id(2))]).unwrap();
        log.append(&[Event::Made(id(3)), Event::Forgotten(id(1))]).unwrap();
        assert_eq!(log.missing(&BTreeSet::from([id(3), id(9)])).unwrap(), [id(2)]);
        assert!(HostLog::of(&folder.0, &id(7)).missing(&BTreeSet::new()).unwrap().is_empty());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&log.path), mode(log.path.parent().unwrap())), (0o600, 0o700));
    }

    #[test]
    fn a_line_that_was_torn_at_any_byte_counts_for_nothing_and_hides_nothing() {
        let folder = Folder::new("torn");
        let whole = format!("made {}\n", id(2));
        for cut in 0..whole.len() {
            let log = HostLog::of(&folder.0, &Id::of(&cut.to_le_bytes()));
            log.append(&[Event::Made(id(1))]).unwrap();
            let mut file = std::fs::OpenOptions::new().append(true).open(&log.path).unwrap();
            file.write_all(&whole.as_bytes()[..cut]).unwrap();
            assert_eq!(log.missing(&BTreeSet::new()).unwrap(), [id(1)], "cut at {cut}");
            log.append(&[Event::Made(id(3))]).unwrap();
            let mut expected = vec![id(1), id(3)];
            // Whole but for its newline: the next writer gives it one.
            expected.extend((cut == whole.len() - 1).then(|| id(2)));
            expected.sort_unstable();
            assert_eq!(log.missing(&BTreeSet::new()).unwrap(), expected, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_log_is_refused_and_no_link_is_followed() {
        let folder = Folder::new("refused");
        let log = HostLog::of(&folder.0, &id(0));
        log.append(&[Event::Made(id(1))]).unwrap();
        std::fs::write(&log.path, "made up\nnonsense\n").unwrap();
        assert!(matches!(log.missing(&BTreeSet::new()), Err(Error::Refused { .. })));
        std::fs::remove_file(&log.path).unwrap();
        let target = folder.0.join("target");
        std::fs::write(&target, "").unwrap();
        std::os::unix::fs::symlink(&target, &log.path).unwrap();
        assert!(matches!(log.append(&[Event::Made(id(1))]), Err(Error::Io { .. })));
        assert!(matches!(log.missing(&BTreeSet::new()), Err(Error::Io { .. })));
        assert_eq!(std::fs::read(&target).unwrap(), b"");
    }
}

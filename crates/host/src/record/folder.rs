//! The runtime folder: where records are, and how an era is claimed.

use kobj_abi::Era;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long another kobj may hold the folder before we give up: it does so for microseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many eras in a row may be taken already.
const ERAS_TRIED: u32 = 1000;

/// A folder that is real, ours and closed to others.
#[derive(Debug)]
pub struct RuntimeFolder {
    path: PathBuf,
    opened: OwnedFd,
}

impl RuntimeFolder {
    /// The runtime folder of this user, made if it is not there: `$XDG_RUNTIME_DIR/kobj`, else `/run/kobj` as root, else
    /// `/tmp/kobj-UID`.
    ///
    /// # Errors
    /// A sentence: what is wrong with it, and what to do.
    pub fn open() -> Result<Self, String> {
        let mut why = String::new();
        for path in candidates() {
            match Self::open_at(&path) {
                Ok(folder) => return Ok(folder),
                Err(reason) if why.is_empty() => why = reason,
                Err(_) => {}
            }
        }
        Err(why)
    }

    /// Every runtime folder of this user that is there: a run may have had another environment than we.
    #[must_use]
    pub fn existing() -> Vec<Result<Self, String>> {
        let present = candidates().into_iter().filter(|path| path.symlink_metadata().is_ok());
        present.map(|path| Self::enter(&path)).collect()
    }

    /// That folder, made if it is not there.
    ///
    /// # Errors
    /// As [`RuntimeFolder::open`].
    pub fn open_at(path: &Path) -> Result<Self, String> {
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) => {
                // What the umask took away is given back, to this very folder and to ourselves alone.
                let made = enter_any(path)?;
                let link = format!("/proc/self/fd/{}", made.as_raw_fd());
                rustix::fs::chmod(link, Mode::RWXU).map_err(|error| said(path, "cannot be closed to others", error))?;
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(said(path, "cannot be made", error)),
        }
        Self::enter(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn enter(path: &Path) -> Result<Self, String> {
        let opened = enter_any(path)?;
        let found = rustix::fs::fstat(&opened).map_err(|error| said(path, "cannot be looked at", error))?;
        let own = rustix::process::geteuid().as_raw();
        if found.st_uid != own {
            return Err(format!("{}: belongs to user {}, not to us; remove it", path.display(), found.st_uid));
        }
        if found.st_mode & 0o7777 != 0o700 {
            let mode = found.st_mode & 0o7777;
            return Err(format!("{}: has mode {mode:04o}; make it 0700 or remove it", path.display()));
        }
        // Its access time remembers the last era: listings of ours leave it alone.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOATIME;
        let opened = rustix::fs::openat(&opened, ".", flags, Mode::empty())
            .map_err(|error| said(path, "cannot be opened", error))?;
        Ok(Self { path: path.to_owned(), opened })
    }

    /// Holds the folder against other kobjs until the result is dropped.
    pub(super) fn lock(&self, operation: FlockOperation) -> Result<Locked<'_>, String> {
        let begun = Instant::now();
        // An own opening: the lock ends with it.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOATIME;
        let opened = rustix::fs::openat(&self.opened, ".", flags, Mode::empty())
            .map_err(|error| said(&self.path, "cannot be opened", error))?;
        loop {
            match rustix::fs::flock(&opened, operation) {
                Ok(()) => return Ok(Locked { folder: self, _held: opened }),
                Err(Errno::WOULDBLOCK | Errno::INTR) if begun.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(said(&self.path, "cannot be locked", error)),
            }
        }
    }

    /// The eras of the records in it.
    pub(super) fn eras(&self) -> Result<Vec<Era>, String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOATIME;
        let opened = rustix::fs::openat(&self.opened, ".", flags, Mode::empty())
            .map_err(|error| said(&self.path, "cannot be opened", error))?;
        let mut eras = Vec::new();
        crate::proc::numbered_entries(&opened, |number| eras.push(Era(number)))
            .map_err(|error| format!("{}: cannot be listed: {error}", self.path.display()))?;
        eras.sort_unstable();
        Ok(eras)
    }
}

impl AsFd for RuntimeFolder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.opened.as_fd()
    }
}

/// A folder held against other kobjs.
pub(super) struct Locked<'a> {
    folder: &'a RuntimeFolder,
    _held: OwnedFd,
}

impl Locked<'_> {
    /// Claims the next era by making its file.
    pub(super) fn claim(&self) -> Result<(Era, OwnedFd), String> {
        let RuntimeFolder { path, opened } = self.folder;
        let found = rustix::fs::fstat(opened).map_err(|error| said(path, "cannot be looked at", error))?;
        let now = clock_gettime(ClockId::Realtime).tv_sec;
        let first = u32::try_from(now.max(found.st_atime.saturating_add(1)));
        let first = first.map_err(|_| format!("{}: its time leaves no era; remove the folder", path.display()))?;
        for era in (first..).take(ERAS_TRIED as usize) {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            match rustix::fs::openat(opened, era.to_string().as_str(), flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => {
                    let keep = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
                    let era_time = Timespec { tv_sec: i64::from(era), tv_nsec: 0 };
                    let times = Timestamps { last_access: era_time, last_modification: keep };
                    rustix::fs::futimens(opened, &times).map_err(|error| said(path, "cannot keep the era", error))?;
                    return Ok((Era(era), file));
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(said(path, "cannot take a record", error)),
            }
        }
        Err(format!("{}: {ERAS_TRIED} eras in a row are taken; scrub its dead jobs", path.display()))
    }
}

/// Where a runtime folder may be, best first.
fn candidates() -> Vec<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let mut paths = Vec::new();
    let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let usual = PathBuf::from(format!("/run/user/{uid}"));
    for folder in given.into_iter().chain([usual]) {
        // Under sudo this may be another user's: root leaves nothing there.
        let ours = rustix::fs::stat(&folder).is_ok_and(|found| found.st_uid == uid);
        if folder.is_absolute() && ours && !paths.contains(&folder.join("kobj")) {
            paths.push(folder.join("kobj"));
        }
    }
    if uid == 0 {
        paths.push("/run/kobj".into());
    }
    paths.push(PathBuf::from(OsString::from_vec(format!("/tmp/kobj-{uid}").into_bytes())));
    paths
}

fn enter_any(path: &Path) -> Result<OwnedFd, String> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|error| said(path, "is no folder of ours (a link or a file)", error))
}

fn said(path: &Path, what: &str, error: Errno) -> String {
    format!("{}: {what}: {}", path.display(), std::io::Error::from(error))
}

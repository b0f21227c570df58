//! File events of whole file systems, with who did it: `fanotify` with folder handle, name and target handle.
//!
//! Root only. One event tells of a name made, taken away or moved; equal events of one process are merged by the kernel,
//! so that a name made and deleted at once arrives as one event with both marks.

use crate::late_close;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use std::io;
use std::path::{Path, PathBuf};

/// A name was made in a folder: a new object, or a hard link to an old one.
pub const CREATE: u64 = 0x100;
/// A name was taken away.
pub const DELETE: u64 = 0x200;
/// A name was moved; says old and new folder and name.
pub const RENAME: u64 = 0x1000_0000;
/// The kernel lost events.
pub const OVERFLOW: u64 = 0x4000;
/// The target is a folder.
pub const ON_FOLDER: u64 = 0x4000_0000;

const CLASS_NOTIFICATION: u32 = 0;
const CLOSE_ON_EXEC: u32 = 0x1;
const NON_BLOCKING: u32 = 0x2;
const UNLIMITED_QUEUE: u32 = 0x10;
const REPORT_NAMES_AND_TARGETS: u32 = 0x200 | 0x400 | 0x800 | 0x1000;
const MARK_ADD: u32 = 0x1;
const MARK_FILE_SYSTEM: u32 = 0x100;

const INFO_TARGET: u8 = 1;
const INFO_FOLDER_NAME: u8 = 2;
const INFO_OLD_FOLDER_NAME: u8 = 10;
const INFO_NEW_FOLDER_NAME: u8 = 12;
const METADATA_BYTES: usize = 24;
/// The size of [`Fanotify::buffer`]: some thousands of events.
const BUFFER_BYTES: usize = 256 << 10;

/// A handle inside an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle<'a> {
    /// The file system's type of handle.
    pub kind: i32,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// A folder and a name in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The folder.
    pub folder: Handle<'a>,
    /// The name, without slashes or NUL bytes.
    pub name: &'a [u8],
}

/// One file event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileEvent<'a> {
    /// [`CREATE`], [`DELETE`], [`RENAME`], [`OVERFLOW`], [`ON_FOLDER`]; several where the kernel merged.
    pub mask: u64,
    /// The process that did it; 0 if it has no number in our PID namespace.
    pub pid: u32,
    /// The file system, by its index in [`Fanotify::marks`]; `None` if it is none of them (a btrfs subvolume).
    pub mark: Option<usize>,
    /// Where: for [`RENAME`] the old place.
    pub place: Option<Place<'a>>,
    /// For [`RENAME`], the new place.
    pub new_place: Option<Place<'a>>,
    /// The object that the name leads to.
    pub target: Option<Handle<'a>>,
}

/// A watched file system.
#[derive(Clone, Debug)]
pub struct Mark {
    /// The folder it was named by.
    pub folder: PathBuf,
    /// Its device number (`st_dev`).
    pub device: u64,
    file_system: u64,
}

impl Mark {
    /// A mark of no file system: for tests of those who read events.
    #[must_use]
    pub fn example(device: u64) -> Self {
        Self { folder: PathBuf::new(), device, file_system: 0 }
    }
}

/// A group of watches.
#[derive(Debug)]
pub struct Fanotify {
    group: OwnedFd,
    marks: Vec<Mark>,
    unwatched: Vec<String>,
}

impl Fanotify {
    /// Watches the file system of each of `folders`, each once.
    ///
    /// # Errors
    /// A sentence that says why nothing could be watched.
    pub fn open<'p>(folders: impl IntoIterator<Item = &'p Path>) -> Result<Self, String> {
        let mut watch = Self::group()?;
        for folder in folders {
            if let Err(error) = watch.mark_file_system(folder) {
                watch.unwatched.push(format!("fanotify: {}: {error}", folder.display()));
            }
        }
        if watch.marks.is_empty() { Err(watch.unwatched.join("; ")) } else { Ok(watch) }
    }

    /// Watches names made and taken away directly in one folder, whose file system may lack an id of its own: such a
    /// folder is watched on its own, and no other in the same group (since Linux 6.8).
    ///
    /// # Errors
    /// A sentence that says why it cannot be watched.
    pub fn open_folder(folder: BorrowedFd<'_>) -> Result<Self, String> {
        let mut watch = Self::group()?;
        let why = |error: io::Error| format!("fanotify: {error}");
        let device = rustix::fs::fstat(folder).map_err(|error| why(error.into()))?.st_dev;
        let file_system = rustix::fs::fstatvfs(folder).map_err(|error| why(error.into()))?.f_fsid;
        watch.add(folder, MARK_ADD, CREATE | DELETE).map_err(why)?;
        watch.marks.push(Mark { folder: PathBuf::new(), device, file_system });
        Ok(watch)
    }

    fn group() -> Result<Self, String> {
        let flags = CLASS_NOTIFICATION | CLOSE_ON_EXEC | NON_BLOCKING | UNLIMITED_QUEUE | REPORT_NAMES_AND_TARGETS;
        let event_flags = (libc::O_RDONLY | libc::O_CLOEXEC | libc::O_LARGEFILE) as u32;
        let open = || {
            // SAFETY: duty: none; two numbers go in. A pointer among them would break it.
            let raw = unsafe { libc::fanotify_init(flags, event_flags) };
            if raw < 0 { Err(io::Error::last_os_error()) } else { Ok(raw) }
        };
        let raw = late_close::patiently(open).map_err(|error| format!("fanotify: {error}"))?;
        // SAFETY: duty: `raw` is an open descriptor that nobody else owns: the kernel has just made it. Another use of the
        // number would break it.
        let group = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Self { group, marks: Vec::new(), unwatched: Vec::new() })
    }

    /// The watched file systems.
    #[must_use]
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// Folders whose file system could not be watched, one sentence each.
    #[must_use]
    pub fn unwatched(&self) -> &[String] {
        &self.unwatched
    }

    /// The descriptor to poll.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }

    /// Gives the descriptor away, to be closed late.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.group
    }

    /// A buffer for [`Fanotify::read`], large enough for some thousands of events.
    #[must_use]
    pub fn buffer() -> Vec<u8> {
        vec![0; BUFFER_BYTES]
    }

    /// Reads what is there, up to the buffer's size; `None` if there is nothing now. Iterate it with [`Fanotify::events`].
    ///
    /// # Errors
    /// The group itself failed: watch no more.
    pub fn read<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        loop {
            match rustix::io::read(&self.group, &mut *buffer) {
                Ok(length) => return Ok(buffer.get(..length)),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The events in what was read.
    pub fn events<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = FileEvent<'a>> {
        let mut rest = bytes;
        std::iter::from_fn(move || {
            let (event, after) = next_event(rest, &self.marks)?;
            rest = after;
            Some(event)
        })
    }

    fn mark_file_system(&mut self, folder: &Path) -> io::Result<()> {
        use rustix::fs::{Mode, OFlags};
        let opened = rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let file_system = rustix::fs::fstatvfs(&opened)?.f_fsid;
        if self.marks.iter().any(|mark| mark.file_system == file_system) {
            return Ok(());
        }
        let device = rustix::fs::fstat(&opened)?.st_dev;
        self.add(opened.as_fd(), MARK_ADD | MARK_FILE_SYSTEM, CREATE | DELETE | RENAME | ON_FOLDER)?;
        self.marks.push(Mark { folder: folder.to_owned(), device, file_system });
        Ok(())
    }

    fn add(&self, opened: BorrowedFd<'_>, how: u32, events: u64) -> io::Result<()> {
        // SAFETY: duty: the path is null or ends in NUL. It is null: the kernel then marks what the descriptor is open on.
        // A path without its end would break it.
        let result =
            unsafe { libc::fanotify_mark(self.group.as_raw_fd(), how, events, opened.as_raw_fd(), std::ptr::null()) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset.checked_add(4)?)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<usize> {
    Some(usize::from(u16::from_ne_bytes(bytes.get(offset..offset.checked_add(2)?)?.try_into().ok()?)))
}

/// The first event of `bytes` and what follows it; `None` at the end or where a length is impossible.
pub(crate) fn next_event<'a>(bytes: &'a [u8], marks: &[Mark]) -> Option<(FileEvent<'a>, &'a [u8])> {
    let length = u32_at(bytes, 0)? as usize;
    let metadata = u16_at(bytes, 6)?;
    if metadata < METADATA_BYTES || length < metadata {
        return None;
    }
    let mask = u64::from_ne_bytes(bytes.get(8..16)?.try_into().ok()?);
    let pid = u32_at(bytes, 20)?;
    let mut event = FileEvent { mask, pid, mark: None, place: None, new_place: None, target: None };
    let mut infos = bytes.get(metadata..length)?;
    while let Some(size) = u16_at(infos, 2) {
        let Some(info) = infos.get(..size).filter(|_| size >= 4) else { break };
        read_info(info, marks, &mut event);
        infos = &infos[size..];
    }
    Some((event, bytes.get(length..)?))
}

/// Takes one information record into the event; a malformed one is left out.
fn read_info<'a>(info: &'a [u8], marks: &[Mark], event: &mut FileEvent<'a>) -> Option<()> {
    let kind = *info.first()?;
    if ![INFO_TARGET, INFO_FOLDER_NAME, INFO_OLD_FOLDER_NAME, INFO_NEW_FOLDER_NAME].contains(&kind) {
        return None;
    }
    let file_system = u64::from(u32_at(info, 4)?) | u64::from(u32_at(info, 8)?) << 32;
    event.mark = marks.iter().position(|mark| mark.file_system == file_system);
    let length = u32_at(info, 12)? as usize;
    let bytes = info.get(20..20usize.checked_add(length)?)?;
    let handle = Handle { kind: u32_at(info, 16)? as i32, bytes };
    let name = info.get(20 + length..)?.split(|byte| *byte == 0).next()?;
    let place = Some(Place { folder: handle, name });
    match kind {
        INFO_TARGET => event.target = Some(handle),
        INFO_NEW_FOLDER_NAME => event.new_place = place,
        _ => event.place = place,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_handle::handle_at;
    use std::ffi::CString;

    /// As a user of its own, since it takes all groups that a user may have.
    #[test]
    fn a_group_is_waited_for_while_the_kernel_closes_another() {
        const TEST: &str = "a_group_is_waited_for_while_the_kernel_closes_another";
        const INNER: &str = "KOBJ_TEST_GROUPS";
        if std::env::var_os(INNER).is_none() {
            let own = std::env::current_exe().expect("own path");
            let mut command = std::process::Command::new("setpriv");
            command.args([
                "--reuid=64031",
                "--clear-groups",
                "--inh-caps=+sys_admin",
                "--ambient-caps=+sys_admin",
                "--",
            ]);
            command.arg(own).args(["--exact", &format!("fanotify::tests::{TEST}"), "--nocapture"]);
            let Ok(output) = command.env(INNER, "1").output() else {
                return println!("skipped: {TEST}: no setpriv here");
            };
            let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            if errors.contains("setpriv:") {
                return println!("skipped: {TEST}: {errors}");
            }
            assert!(output.status.success() && text.contains("1 passed"), "{text}{errors}");
            return;
        }
        let mut all = Vec::new();
        let refusal = loop {
            match Fanotify::group() {
                Ok(group) => all.push(group),
                Err(why) => break why,
            }
        };
        if !refusal.contains("os error 24") || all.is_empty() {
            return println!("skipped: {TEST}: {refusal}");
        }
        let last = all.pop();
        let closing = std::thread::spawn(move || drop(last));
        assert!(Fanotify::group().is_ok(), "one of {} was being closed", all.len() + 1);
        closing.join().expect("closed");
    }

    #[test]
    fn what_this_process_makes_is_told_with_its_pid_and_handle() {
        let watch = match Fanotify::open([Path::new("/dev/shm"), Path::new("/dev/shm")]) {
            Ok(watch) => watch,
            Err(why) => {
                return println!("skipped: what_this_process_makes_is_told_with_its_pid_and_handle: {why}");
            }
        };
        assert_eq!(watch.marks().len(), 1);
        let name = format!("kobj-test-fanotify-{}", std::process::id());
        let path = Path::new("/dev/shm").join(&name);
        std::fs::write(&path, "").expect("write");
        let folder = std::fs::File::open("/dev/shm").expect("open");
        let handle = handle_at(folder.as_fd(), &CString::new(name.clone()).expect("name")).expect("handle");
        std::fs::rename(&path, path.with_extension("new")).expect("rename");
        std::fs::remove_file(path.with_extension("new")).expect("remove");
        let mut buffer = Fanotify::buffer();
        let mut mine = Vec::new();
        while let Some(bytes) = watch.read(&mut buffer).expect("read") {
            for event in watch.events(bytes) {
                let target = event.target.map(|target| target.bytes == handle.bytes());
                if event.pid == std::process::id() && target == Some(true) {
                    assert_eq!(event.mark, Some(0));
                    let new = event.new_place.map(|place| place.name.to_vec());
                    mine.push((event.mask, event.place.expect("place").name.to_vec(), new));
                }
            }
        }
        let new_name = format!("{name}.new").into_bytes();
        let expected = [
            (CREATE, name.clone().into_bytes(), None),
            (RENAME, name.into_bytes(), Some(new_name.clone())),
            (DELETE, new_name, None),
        ];
        assert_eq!(mine, expected);
        crate::late_close::close_late(vec![watch.into_fd()]);
    }

    #[test]
    fn impossible_lengths_end_the_reading() {
        let mut event = vec![0u8; METADATA_BYTES];
        event[0..4].copy_from_slice(&24u32.to_ne_bytes());
        event[6..8].copy_from_slice(&24u16.to_ne_bytes());
        assert!(next_event(&event, &[]).is_some());
        for (at, value) in [(0, 23u32), (0, 25), (0, u32::MAX), (0, 0)] {
            let mut wrong = event.clone();
            wrong[at..at + 4].copy_from_slice(&value.to_ne_bytes());
            assert!(next_event(&wrong, &[]).is_none(), "{value}");
        }
    }
}

//! `--report FILE`: written beside its target under another name, then renamed, so that no reader sees half of it.

use super::schema::Report;
use super::{junit, text};
use rustix::fs::{Mode, OFlags};
use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The most links that are followed from a report's name to its file, as the kernel's own limit.
const LINKS_MAX: usize = 40;

/// The form of a report file, by its ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `.txt`
    Text,
    /// `.json`
    Json,
    /// `.xml`
    Junit,
}

/// A report file that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReportFile {
    /// Where.
    pub(crate) path: PathBuf,
    /// In which form.
    pub(crate) format: Format,
}

impl ReportFile {
    /// Reads the ending; any other is refused before the command starts.
    pub(crate) fn parse(path: PathBuf) -> Result<Self, String> {
        let format = match path.extension().and_then(|ending| ending.to_str()) {
            Some("txt") => Format::Text,
            Some("json") => Format::Json,
            Some("xml") => Format::Junit,
            _ => return Err(format!("'{}' does not end in .txt, .json or .xml", path.display())),
        };
        Ok(Self { path, format })
    }

    /// Writes the report; the error names the file and what to do.
    pub(crate) fn write(&self, report: &Report) -> Result<(), String> {
        let content = match self.format {
            Format::Text => text::render(report, text::Style { explain: true, verbose: true, ..text::Style::PLAIN }),
            Format::Json => report.to_json(),
            Format::Junit => junit::render(report),
        };
        replace(&self.path, content.as_bytes(), 0o666)
            .map_err(|e| format!("cannot write the report '{}': {}", self.path.display(), what_to_do(&e)))
    }
}

/// The largest report that is read back, in bytes.
pub(crate) const REPORT_BYTES_MAX: u64 = 256 << 20;

/// Reads an earlier report, which a person names: a file, or a pipe from another program.
pub(crate) fn read(path: &Path) -> Result<Report, String> {
    let bytes = File::open(path).and_then(|file| bounded(file, REPORT_BYTES_MAX)).map_err(|e| e.to_string())?;
    Report::from_json(&bytes)
}

/// All of a file, if it is no larger than `most` bytes.
pub(crate) fn bounded(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it is larger than {most} bytes; it is not read")));
    }
    Ok(bytes)
}

/// Writes every report; each failure is one sentence.
pub(crate) fn write_all(files: &[ReportFile], report: &Report) -> Vec<String> {
    files.iter().filter_map(|file| file.write(report).err()).collect()
}

/// Puts `content` at `path` in one step. `mode` is narrowed by the umask.
///
/// A path that is no regular file (`/dev/stdout`, a fifo) is written into, as a shell's `>` does. What another user laid
/// in a folder that everybody may write to, a link or a fifo, is refused: who runs as root must not be led by it.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    // A symbolic link stays one: its target is replaced.
    let path = follow(path)?;
    match std::fs::metadata(&path) {
        Ok(found) if found.is_dir() => return Err(io::Error::from(rustix::io::Errno::ISDIR)),
        Ok(found) if !found.is_file() => return File::options().write(true).open(&path)?.write_all(content),
        _ => {}
    }
    let mut temporary = folder_of(&path).join(path.file_name().unwrap_or_default()).into_os_string();
    temporary.push(format!(".kobj-{}", std::process::id()));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(&temporary, flags, Mode::from_raw_mode(mode))?;
    let written = File::from(file).write_all(content).and_then(|()| std::fs::rename(&temporary, &path));
    if written.is_err() {
        _ = std::fs::remove_file(&temporary);
    }
    written
}

/// Where `path` leads over links at its end. The folders on the way are the kernel's to resolve.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..LINKS_MAX {
        let Ok(found) = std::fs::symlink_metadata(&path) else { return Ok(path) };
        if !found.is_file() && !found.is_dir() && was_laid_by_another(&path, &found)? {
            let what = if found.is_symlink() { "a link" } else { "no regular file, and" };
            let why = format!("it is {what} that another user put into a folder open to everybody");
            return Err(io::Error::other(why));
        }
        if !found.is_symlink() {
            return Ok(path);
        }
        let target = folder_of(&path).join(std::fs::read_link(&path)?);
        // The links of /proc/PID/fd lead to what has no path, such as a pipe.
        if path.starts_with("/proc") && std::fs::symlink_metadata(&target).is_err() {
            return Ok(path);
        }
        path = target;
    }
    Err(io::Error::from(rustix::io::Errno::LOOP))
}

/// As the kernel's `protected_symlinks` and `protected_fifos` have it, whether they are switched on here or not.
fn was_laid_by_another(path: &Path, found: &Metadata) -> io::Result<bool> {
    const STICKY_AND_OPEN: u32 = 0o1002;
    let folder = std::fs::metadata(folder_of(path))?;
    let is_trusted = [rustix::process::geteuid().as_raw(), folder.uid()].contains(&found.uid());
    Ok(folder.mode() & STICKY_AND_OPEN == STICKY_AND_OPEN && !is_trusted)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn what_to_do(error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space or give --report a file on another disk"
        }
        io::ErrorKind::NotFound => "; make its folder first",
        io::ErrorKind::PermissionDenied => "; give --report a folder that you may write to",
        io::ErrorKind::ReadOnlyFilesystem => "; give --report a file on a writable disk",
        _ => "",
    };
    format!("{error}{advice}")
}

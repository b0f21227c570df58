//! Walking a folder's tree: how big it is, and whether it holds what nobody wants to lose.
//!
//! Iterative and bounded in depth; neither links nor mounts are followed.

use crate::identity;
use crate::listing;
use rustix::fs::FileType;
use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// The deepest folder that is entered; each level on the way holds one descriptor.
pub(crate) const DEPTH_MAX: usize = 128;

/// What a walk found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// Bytes of all its regular files.
    pub bytes: u64,
    /// Entries of the whole tree, the folder itself not counted.
    pub entries: u64,
    /// The data of lasting worth that it holds, in words, if any.
    pub keeps: Option<&'static str>,
    /// Part of it could not be read, or was too deep, or is another mount.
    pub partial: bool,
}

/// A folder on the way down: itself and the folders in it that are still to be entered.
struct Level {
    folder: OwnedFd,
    below: Vec<OsString>,
}

/// Measures the tree of an open folder.
pub fn measure(folder: OwnedFd) -> io::Result<Tree> {
    let mut tree = Tree::default();
    let top = identity::stat_descriptor(folder.as_fd())?;
    let below = level(folder.as_fd(), &mut tree, true)?;
    let mut way = vec![Level { folder, below }];
    while let Some(last) = way.last_mut() {
        let Some(name) = last.below.pop() else {
            way.pop();
            continue;
        };
        if way.len() >= DEPTH_MAX {
            tree.partial = true;
            continue;
        }
        let parent = &way[way.len() - 1].folder;
        let entered = listing::open_at(parent.as_fd(), &name).and_then(|folder| {
            let stat = identity::stat_descriptor(folder.as_fd())?;
            if (stat.device, stat.mount) != (top.device, top.mount) {
                return Err(io::Error::from(io::ErrorKind::CrossesDevices));
            }
            let below = level(folder.as_fd(), &mut tree, true)?;
            Ok(Level { folder, below })
        });
        match entered {
            Ok(level) => way.push(level),
            Err(_) => tree.partial = true,
        }
    }
    Ok(tree)
}

/// The inode numbers of what lies in the tree of an open folder, at most `most` of them; other mounts are not entered.
pub(crate) fn inodes(folder: OwnedFd, most: usize) -> Vec<u64> {
    let mut found = Vec::new();
    let list = |folder: OwnedFd, found: &mut Vec<u64>| {
        let mut below = Vec::new();
        let _ = listing::each(folder.as_fd(), |entry| {
            if found.len() >= most {
                return ControlFlow::Break(());
            }
            found.push(entry.inode);
            if entry.kind == FileType::Directory {
                below.push(entry.name.to_os_string());
            }
            ControlFlow::Continue(())
        });
        Level { folder, below }
    };
    let Ok(top) = identity::stat_descriptor(folder.as_fd()) else { return found };
    let mut way = vec![list(folder, &mut found)];
    while let Some(last) = way.last_mut() {
        let Some(name) = last.below.pop().filter(|_| found.len() < most) else {
            way.pop();
            continue;
        };
        if way.len() >= DEPTH_MAX {
            continue;
        }
        let Ok(folder) = listing::open_at(way[way.len() - 1].folder.as_fd(), &name) else { continue };
        let stat = identity::stat_descriptor(folder.as_fd());
        if stat.is_ok_and(|stat| (stat.device, stat.mount) == (top.device, top.mount)) {
            way.push(list(folder, &mut found));
        }
    }
    found
}

/// Counts one folder's entries and returns the folders in it.
fn level(folder: BorrowedFd<'_>, tree: &mut Tree, with_sizes: bool) -> io::Result<Vec<OsString>> {
    let mut below = Vec::new();
    let mut marks = Marks::default();
    let _ = listing::each(folder, |entry| {
        tree.entries += 1;
        let mut kind = entry.kind;
        let is_asked = kind == FileType::RegularFile && with_sizes || kind == FileType::Unknown;
        if is_asked && let Ok(stat) = identity::stat(folder, entry.name) {
            kind = FileType::from_raw_mode(stat.mode);
            if stat.is_regular() {
                tree.bytes = tree.bytes.saturating_add(stat.size);
            }
        }
        if kind == FileType::Directory {
            below.push(entry.name.to_os_string());
        }
        marks.see(entry.name.as_bytes(), kind);
        ControlFlow::Continue(())
    })?;
    tree.keeps = tree.keeps.or(marks.keeps(folder));
    Ok(below)
}

/// What the names in one folder say about it.
#[derive(Default)]
struct Marks {
    known: Option<&'static str>,
    current: bool,
    manifest: bool,
    /// Files that may be SQLite's: to be looked into.
    sqlite: Vec<OsString>,
}

impl Marks {
    fn see(&mut self, name: &[u8], kind: FileType) {
        let is_file = kind == FileType::RegularFile;
        let found = match name {
            // A worktree or submodule has `.git` as a file.
            b".git" | b".hg" | b".svn" | b".jj" | b".bzr" | b"_darcs" | b".fslckout" | b"CVS" => {
                Some("a version-control checkout")
            }
            b"PG_VERSION" | b"ibdata1" | b"WiredTiger" | b"dump.rdb" | b"appendonly.aof" | b"appendonlydir"
            | b"aria_log_control" | b"data.mdb" | b"__db.001" => Some("a database"),
            _ => None,
        };
        self.known = self.known.or(found);
        if !is_file {
            return;
        }
        self.current |= name == b"CURRENT";
        self.manifest |= name.starts_with(b"MANIFEST-");
        let side = |end: &[u8]| name.strip_suffix(end).filter(|stem| !stem.is_empty());
        if let Some(stem) = side(b"-wal").or(side(b"-shm")).or(side(b"-journal")) {
            self.sqlite.push(OsStr::from_bytes(stem).to_os_string());
        } else if is_sqlite_name(name) {
            self.sqlite.push(OsStr::from_bytes(name).to_os_string());
        }
    }

    fn keeps(&self, folder: BorrowedFd<'_>) -> Option<&'static str> {
        self.known
            .or((self.current && self.manifest).then_some("a database"))
            .or_else(|| self.sqlite.iter().take(64).any(|name| is_sqlite(folder, name)).then_some("a database"))
    }
}

fn is_sqlite_name(name: &[u8]) -> bool {
    let end = name.rsplit(|byte| *byte == b'.').next().unwrap_or(name);
    matches!(end, b"db" | b"db3" | b"sqlite" | b"sqlite3" | b"sqlitedb" | b"s3db")
}

/// Whether `name` in `folder` is an SQLite database: by its first bytes. Only a regular file is opened.
pub(crate) fn is_sqlite(folder: BorrowedFd<'_>, name: &OsStr) -> bool {
    read_small(folder, name, 16).is_ok_and(|head| head == b"SQLite format 3\0")
}

/// The first bytes of a regular file, at most `limit`. Nothing else than a regular file is ever opened.
pub(crate) fn read_small(folder: BorrowedFd<'_>, name: &OsStr, limit: usize) -> io::Result<Vec<u8>> {
    let pointer = identity::point_at(folder, name)?;
    if !identity::stat_descriptor(pointer.as_fd())?.is_regular() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    read_pointed(pointer.as_fd(), limit)
}

/// The first bytes of the regular file that a descriptor points at, at most `limit`.
pub(crate) fn read_pointed(pointer: BorrowedFd<'_>, limit: usize) -> io::Result<Vec<u8>> {
    use rustix::fs::{Mode, OFlags};
    use std::os::fd::AsRawFd;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(format!("/proc/self/fd/{}", pointer.as_raw_fd()), flags, Mode::empty())?;
    let mut bytes = vec![0; limit];
    let mut length = 0;
    while length < limit {
        match rustix::io::read(&file, &mut bytes[length..])? {
            0 => break,
            more => length += more,
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

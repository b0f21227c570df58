//! From a folder's handle back to its path.

use super::{key_of_open, open_folder};
use crate::makers::FolderKey;
use kobj_core::image::FileHandle;
use kobj_platform::file_handle::open_handle;
use rustix::fd::{AsFd, AsRawFd};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How many found paths are kept.
const KEPT: usize = 4096;

/// Paths of folders by device and handle.
#[derive(Default)]
pub(super) struct Places {
    /// Folders named by the view: also where a file system is entered.
    known: Vec<(FolderKey, PathBuf)>,
    found: HashMap<FolderKey, Option<PathBuf>>,
}

impl Places {
    /// Learns the path of a folder that everyone may open.
    pub(super) fn learn(&mut self, folder: &Path) {
        if let Some(key) = open_folder(folder).ok().and_then(|opened| key_of_open(opened.as_fd())) {
            self.known.push((key, folder.to_owned()));
        }
    }

    /// The device and handle of a folder learned.
    pub(super) fn key_of(&self, folder: &Path) -> Option<FolderKey> {
        self.known.iter().find(|(_, path)| path == folder).map(|(key, _)| *key)
    }

    /// The path of `name` in the folder of that handle.
    pub(super) fn path_of(&mut self, device: u64, folder: &FileHandle, name: &[u8]) -> Option<PathBuf> {
        let key = (device, *folder);
        if let Some((_, path)) = self.known.iter().find(|(known, _)| *known == key) {
            return Some(path.join(OsStr::from_bytes(name)));
        }
        if self.found.len() >= KEPT {
            self.found.clear();
        }
        if !self.found.contains_key(&key) {
            let path = self.find(&key);
            self.found.insert(key, path);
        }
        Some(self.found.get(&key)?.as_ref()?.join(OsStr::from_bytes(name)))
    }

    /// Asks the kernel, which lets root alone.
    fn find(&self, key: &FolderKey) -> Option<PathBuf> {
        let entry = &self.known.iter().find(|((device, _), _)| *device == key.0)?.1;
        let entry = open_folder(entry).ok()?;
        let opened = open_handle(entry.as_fd(), key.1.kind, key.1.bytes()).ok()?;
        if rustix::fs::fstat(&opened).ok()?.st_nlink == 0 {
            return None;
        }
        let link = format!("/proc/self/fd/{}", opened.as_raw_fd());
        let path = PathBuf::from(OsStr::from_bytes(rustix::fs::readlink(link, Vec::new()).ok()?.as_bytes()));
        // A folder outside of every mount that we see has no path of ours.
        let same = key_of_open(open_folder(&path).ok()?.as_fd())? == *key;
        same.then_some(path)
    }
}

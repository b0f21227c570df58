//! A vault in plain memory: for tests and simulations, and gone with the process.

use super::{FileKind, Listed, Name, Storage, length_of};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    files: Arc<Mutex<BTreeMap<Name, Arc<[u8]>>>>,
}

impl MemoryStorage {
    /// An empty place.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A place of its own with the same files as this one has now.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self { files: Arc::new(Mutex::new(self.lock().clone())) }
    }

    /// Puts these bytes under a name, whatever stands there: for tests that damage files.
    pub fn replace(&self, name: &Name, bytes: &[u8]) {
        self.lock().insert(*name, bytes.into());
    }

    /// The map is whole after each operation, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, Arc<[u8]>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, name: &Name) -> Result<Arc<[u8]>> {
        self.lock().get(name).cloned().ok_or(Error::Missing { name: *name })
    }
}

impl Storage for MemoryStorage {
    fn place(&self) -> String {
        "memory".to_string()
    }

    fn prepare(&self) -> Result<()> {
        Ok(())
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        if kind == FileKind::Config {
            return Ok(());
        }
        // Outside the lock: `each` may read and write.
        let of_kind = |(name, bytes): (&Name, &Arc<[u8]>)| {
            (name.kind == kind).then_some(Listed { id: name.id, size_bytes: bytes.len() as u64 })
        };
        let found: Vec<Listed> = self.lock().iter().filter_map(of_kind).collect();
        found.into_iter().try_for_each(each)
    }

    fn size(&self, name: &Name) -> Result<u64> {
        self.file(name).map(|bytes| bytes.len() as u64)
    }

    fn read(&self, name: &Name, range: Range<u64>, into: &mut Vec<u8>) -> Result<()> {
        let file = self.file(name)?;
        let part = length_of(&range)
            .and_then(|length| file.get(usize::try_from(range.start).ok()?..)?.get(..length))
            .ok_or_else(|| Error::damaged(name, format_args!("it ends at byte {}", file.len())))?;
        into.extend_from_slice(part);
        Ok(())
    }

    fn write(&self, name: &Name, bytes: &[u8]) -> Result<()> {
        let mut files = self.lock();
        if files.contains_key(name) {
            return Err(Error::Exists { name: *name });
        }
        files.insert(*name, bytes.into());
        Ok(())
    }

    fn remove(&self, name: &Name) -> Result<()> {
        self.lock().remove(name).map(drop).ok_or(Error::Missing { name: *name })
    }
}

//! A vault in memory that records what is written and removed, so that a test can have it as of after each operation; and
//! that can fail at one of them.

use super::memory::MemoryStorage;
use super::{FileKind, Listed, Name, Storage};
use crate::error::{Error, Result};
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// One change.
#[derive(Clone)]
pub(crate) enum Operation {
    Write(Name, Arc<[u8]>),
    Remove(Name),
}

/// Clones share files and record.
#[derive(Clone)]
pub(crate) struct Recording {
    before: MemoryStorage,
    files: MemoryStorage,
    record: Arc<Mutex<Vec<Operation>>>,
    /// The operation of this number fails, once.
    fails_at: Option<usize>,
    failed: Arc<Mutex<usize>>,
}

impl Recording {
    /// Records what is done to a copy of these files.
    pub(crate) fn of(files: &MemoryStorage) -> Self {
        let (before, files) = (files.copy(), files.copy());
        Self { before, files, record: Arc::default(), fails_at: None, failed: Arc::default() }
    }

    /// The same, failing at the operation of this number, counted from 0.
    pub(crate) fn failing_at(files: &MemoryStorage, operation: usize) -> Self {
        Self { fails_at: Some(operation), ..Self::of(files) }
    }

    pub(crate) fn files(&self) -> &MemoryStorage {
        &self.files
    }

    pub(crate) fn operations(&self) -> Vec<Operation> {
        self.record.lock().unwrap().clone()
    }

    /// The files as they were after so many operations.
    pub(crate) fn after(&self, operations: usize) -> MemoryStorage {
        let files = self.before.copy();
        for operation in &self.operations()[..operations] {
            match operation {
                Operation::Write(name, bytes) => files.write(name, bytes).unwrap(),
                Operation::Remove(name) => files.remove(name).unwrap(),
            }
        }
        files
    }

    /// In one step: what is recorded is in the order in which it happened.
    fn change(&self, operation: Operation, change: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut record = self.record.lock().unwrap();
        let mut failed = self.failed.lock().unwrap();
        if self.fails_at == Some(record.len() + *failed) {
            *failed += 1;
            return Err(Error::io("write", "the recording", std::io::Error::other("it was told to fail")));
        }
        change()?;
        record.push(operation);
        Ok(())
    }
}

impl Storage for Recording {
    fn place(&self) -> String {
        self.files.place()
    }

    fn prepare(&self) -> Result<()> {
        self.files.prepare()
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        self.files.list(kind, each)
    }

    fn size(&self, name: &Name) -> Result<u64> {
        self.files.size(name)
    }

    fn read(&self, name: &Name, range: Range<u64>, into: &mut Vec<u8>) -> Result<()> {
        self.files.read(name, range, into)
    }

    fn write(&self, name: &Name, bytes: &[u8]) -> Result<()> {
        self.change(Operation::Write(*name, bytes.into()), || self.files.write(name, bytes))
    }

    fn remove(&self, name: &Name) -> Result<()> {
        self.change(Operation::Remove(*name), || self.files.remove(name))
    }
}

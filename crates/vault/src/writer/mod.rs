//! The way of blobs into a vault: hashed, known ones dropped, compressed, sealed, packed, written durably, and then named by an
//! index file.
//!
//! Whoever reads gives bytes and gets a [`Slot`] in which the id will stand; threads do the rest. An index file is saved when the
//! packs that it names are durable, every 30 seconds or 1 GiB, so that an interrupted run loses no more than that.

mod pool;

use crate::compression;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::{Index, file};
use crate::pack::{BlobKind, PackedBlob, Packer};
use crate::repository::Repository;
use crate::storage::{FileKind, Name};
use crossbeam_channel::{Receiver, Sender, bounded};
use pool::Pool;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Packs that no index file names are lost when a run is interrupted: not more than this long's.
const SAVE_INDEX_EVERY: Duration = Duration::from_secs(30);
/// And not more than these.
const SAVE_INDEX_BYTES: u64 = 1 << 30;
/// Blobs that one index file names at most.
const SAVE_INDEX_BLOBS: usize = 60_000;
/// Bytes that wait for the threads, at most.
const QUEUE_BYTES: usize = 12 << 20;
/// zstd's level for data, chosen for speed: half of a core's time goes into it as it is.
pub(crate) const DATA_LEVEL: i32 = 1;
/// Trees are text and few.
pub(crate) const TREE_LEVEL: i32 = 3;
/// A sample that is looked at before a large blob is compressed.
const SAMPLE_BYTES: usize = 16 * 1024;

/// Where the id of a blob will stand.
#[derive(Clone, Debug, Default)]
pub struct Slot(Arc<OnceLock<Option<Id>>>);

impl Slot {
    /// A slot in which an id stands already.
    #[must_use]
    pub fn of(id: Id) -> Self {
        let slot = Self::default();
        let _ = slot.0.set(Some(id));
        slot
    }

    /// Waits for the id. None if the blob could not be stored: the writer knows why.
    #[must_use]
    pub fn wait(&self) -> Option<Id> {
        *self.0.wait()
    }

    /// Whether [`Slot::wait`] would not wait.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.get().is_some()
    }
}

/// A blob on its way. Whatever happens to it, its slot is set.
struct Job {
    kind: BlobKind,
    bytes: Vec<u8>,
    slot: Slot,
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.slot.0.set(None);
    }
}

/// What was stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Blobs of data.
    pub data_blobs: u64,
    /// Blobs of trees.
    pub tree_blobs: u64,
    /// Bytes of both before compression.
    pub bytes: u64,
    /// Bytes of both in packs.
    pub packed_bytes: u64,
}

#[derive(Default)]
struct Counters {
    data_blobs: AtomicU64,
    tree_blobs: AtomicU64,
    bytes: AtomicU64,
    packed_bytes: AtomicU64,
}

struct Unsaved {
    packs: Vec<(Id, Vec<PackedBlob>)>,
    blobs: usize,
    bytes: u64,
    since: Instant,
}

/// What is proved just before something is published: that the lock still holds.
pub type Prove<'run> = &'run (dyn Fn() -> Result<()> + Sync);

/// The writer of one run.
pub struct Writer<'run> {
    repository: &'run Repository,
    index: &'run Index,
    prove: Prove<'run>,
    /// Nothing is stored, all is counted.
    dry_run: bool,
    sender: Option<Sender<Job>>,
    pool: Pool,
    /// Blobs that some thread is about to store, or that lie in a pack which is not durable yet.
    claimed: Mutex<HashSet<(BlobKind, Id)>>,
    data: Mutex<Packer>,
    trees: Mutex<Packer>,
    /// Held while a pack is named and written: a full one is up to 24 MiB, and one a time is what memory allows.
    writing: Mutex<()>,
    unsaved: Mutex<Unsaved>,
    counters: Counters,
    failure: Mutex<Option<Error>>,
    /// There was one, whoever took it: nothing may be published.
    failed: AtomicBool,
}

/// A panic elsewhere leaves nothing half done behind these locks that is used afterwards: the run fails.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `read` with a writer and waits until all that it gave is durable and named by an index. When `read` fails, what was
/// stored is named all the same: the next run need not store it again.
///
/// # Errors
/// What `read` returned; those of the storage and of `prove`.
pub fn write<T>(
    repository: &Repository,
    index: &Index,
    prove: Prove<'_>,
    dry_run: bool,
    read: impl FnOnce(&Writer<'_>) -> Result<T>,
) -> Result<(T, Stored)> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    let (sender, receiver) = bounded(1024);
    let mut writer = Writer {
        repository,
        index,
        prove,
        dry_run,
        sender: Some(sender),
        pool: Pool::new(QUEUE_BYTES),
        claimed: Mutex::default(),
        data: Mutex::default(),
        trees: Mutex::default(),
        writing: Mutex::default(),
        unsaved: Mutex::new(Unsaved { packs: Vec::new(), blobs: 0, bytes: 0, since: Instant::now() }),
        counters: Counters::default(),
        failure: Mutex::default(),
        failed: AtomicBool::new(false),
    };
    let done = std::thread::scope(|scope| {
        let shared = &writer;
        let handles: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn({
                    let receiver = receiver.clone();
                    move || shared.work(&receiver)
                })
            })
            .collect();
        let done = read(shared);
        // The threads go on until the queue is empty, then see this.
        for _ in 0..threads {
            let _ = shared.sender.as_ref().map(|sender| sender.send(Job::stop()));
        }
        for handle in handles {
            if handle.join().is_err() {
                shared.fail(Error::refused(
                    "backup",
                    "a thread of the writer ended by a defect of this program; report it",
                ));
            }
        }
        done
    });
    writer.sender = None;
    let finished = writer.finish();
    let stored = writer.stored();
    let done = done?;
    finished?;
    if writer.failed.load(Ordering::Relaxed) {
        return Err(Error::refused("backup", "a part of it could not be stored; run it again"));
    }
    Ok((done, stored))
}

impl Job {
    /// An empty tree blob that no one asks for: a thread that gets it ends.
    fn stop() -> Self {
        Self { kind: BlobKind::Tree, bytes: Vec::new(), slot: Slot::default() }
    }
}

impl Writer<'_> {
    /// A buffer for at least so many bytes, empty. It comes back with [`Writer::store`].
    #[must_use]
    pub fn buffer(&self, bytes: usize) -> Vec<u8> {
        self.pool.take(bytes)
    }

    /// Gives bytes on their way, waiting while too many are.
    ///
    /// # Errors
    /// Something given before could not be stored.
    pub fn store(&self, kind: BlobKind, bytes: Vec<u8>) -> Result<Slot> {
        if let Some(error) = locked(&self.failure).take() {
            return Err(error);
        }
        let slot = Slot::default();
        self.pool.admit(bytes.len());
        let job = Job { kind, bytes, slot: slot.clone() };
        match self.sender.as_ref().map(|sender| sender.send(job)) {
            Some(Ok(())) => Ok(slot),
            _ => Err(Error::refused("backup", "its writer has ended; run it again")),
        }
    }

    /// Waits for an id.
    ///
    /// # Errors
    /// Why it could not be stored.
    pub fn id(&self, slot: &Slot) -> Result<Id> {
        slot.wait().ok_or_else(|| {
            locked(&self.failure)
                .take()
                .unwrap_or_else(|| Error::refused("backup", "another part of it failed; nothing was kept"))
        })
    }

    /// What was stored up to now.
    #[must_use]
    pub fn stored(&self) -> Stored {
        // Counts alone: they order nothing.
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stored {
            data_blobs: read(&self.counters.data_blobs),
            tree_blobs: read(&self.counters.tree_blobs),
            bytes: read(&self.counters.bytes),
            packed_bytes: read(&self.counters.packed_bytes),
        }
    }

    fn fail(&self, error: Error) {
        // Read after the threads were joined, which orders it.
        self.failed.store(true, Ordering::Relaxed);
        locked(&self.failure).get_or_insert(error);
    }

    fn work(&self, receiver: &Receiver<Job>) {
        let mut sealed = Vec::new();
        for mut job in receiver.iter() {
            if job.bytes.is_empty() {
                return;
            }
            let length = job.bytes.len();
            match self.process(&job, &mut sealed) {
                Ok(id) => {
                    let _ = job.slot.0.set(Some(id));
                }
                Err(error) => self.fail(error),
            }
            self.pool.give_back(std::mem::take(&mut job.bytes), length);
        }
    }

    fn process(&self, job: &Job, sealed: &mut Vec<u8>) -> Result<Id> {
        let id = Id::of(&job.bytes);
        if self.index.contains(job.kind, &id)? || !locked(&self.claimed).insert((job.kind, id)) {
            return Ok(id);
        }
        let blobs = if job.kind == BlobKind::Data { &self.counters.data_blobs } else { &self.counters.tree_blobs };
        blobs.fetch_add(1, Ordering::Relaxed);
        self.counters.bytes.fetch_add(job.bytes.len() as u64, Ordering::Relaxed);
        if self.dry_run {
            return Ok(id);
        }
        sealed.clear();
        let uncompressed = self.repository.seal_blob(&job.bytes, level(job.kind, &job.bytes), sealed)?;
        self.counters.packed_bytes.fetch_add(sealed.len() as u64, Ordering::Relaxed);
        let packer = if job.kind == BlobKind::Data { &self.data } else { &self.trees };
        let full = {
            let mut packer = locked(packer);
            packer.add(job.kind, id, sealed, uncompressed)?;
            packer.is_full().then(|| std::mem::take(&mut *packer))
        };
        full.map_or(Ok(()), |full| self.write_pack(full))?;
        Ok(id)
    }

    fn write_pack(&self, packer: Packer) -> Result<()> {
        let _alone = locked(&self.writing);
        let pack = packer.finish(self.repository.key())?;
        self.repository.storage().write(&Name::new(FileKind::Pack, pack.id), &pack.bytes)?;
        self.index.add(&pack.id, &pack.blobs);
        {
            let mut claimed = locked(&self.claimed);
            for blob in &pack.blobs {
                claimed.remove(&(blob.kind, blob.id));
            }
        }
        let due = {
            let mut unsaved = locked(&self.unsaved);
            unsaved.bytes += pack.bytes.len() as u64;
            unsaved.blobs += pack.blobs.len();
            unsaved.packs.push((pack.id, pack.blobs));
            let due = unsaved.bytes >= SAVE_INDEX_BYTES
                || unsaved.blobs >= SAVE_INDEX_BLOBS
                || unsaved.since.elapsed() >= SAVE_INDEX_EVERY;
            due.then(|| unsaved.take())
        };
        due.map_or(Ok(()), |packs| self.save_index(&packs))
    }

    /// All of these packs are durable.
    fn save_index(&self, packs: &[(Id, Vec<PackedBlob>)]) -> Result<()> {
        if packs.is_empty() {
            return Ok(());
        }
        (self.prove)()?;
        let text = file::encode(&[], packs.iter().map(|(id, blobs)| (id, blobs.as_slice())));
        self.repository.save_file(FileKind::Index, &text).map(|_| ())
    }

    fn finish(&self) -> Result<()> {
        if let Some(error) = locked(&self.failure).take() {
            return Err(error);
        }
        for packer in [&self.data, &self.trees] {
            let packer = std::mem::take(&mut *locked(packer));
            if !packer.is_empty() {
                self.write_pack(packer)?;
            }
        }
        let packs = locked(&self.unsaved).take();
        self.save_index(&packs)
    }
}

impl Unsaved {
    fn take(&mut self) -> Vec<(Id, Vec<PackedBlob>)> {
        self.bytes = 0;
        self.blobs = 0;
        self.since = Instant::now();
        std::mem::take(&mut self.packs)
    }
}

/// How a blob is compressed. Of a large one samples are tried first: what is compressed already is not worth the time.
pub(crate) fn level(kind: BlobKind, bytes: &[u8]) -> Option<i32> {
    if kind == BlobKind::Tree {
        return Some(TREE_LEVEL);
    }
    if bytes.len() < 8 * SAMPLE_BYTES {
        return Some(DATA_LEVEL);
    }
    let samples = [bytes.len() / 5, bytes.len() / 2, bytes.len() / 5 * 4];
    let shrinks = samples.iter().any(|&at| {
        let sample = bytes.get(at..at + SAMPLE_BYTES).unwrap_or(bytes);
        compression::compress(sample, DATA_LEVEL).is_ok_and(|small| small.len() < sample.len() / 100 * 97)
    });
    shrinks.then_some(DATA_LEVEL)
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;

//! Reading many blobs in the order in which packs hold them: each pack once, blobs that stand near each other together.

use crate::blobs::BLOB_MOST_BYTES;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::Index;
use crate::pack::{BlobKind, PackedBlob};
use crate::repository::Repository;
use crate::storage::{FileKind, Name};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Bytes between two blobs that are read along rather than asked for apart.
const GAP_MOST: u64 = 128 << 10;
/// Bytes that are read at once, unless one blob has more.
const PIECE_MOST: u64 = 4 << 20;

/// What is wanted of one pack.
#[derive(Clone, Debug)]
pub struct PackRead {
    /// The pack.
    pub pack: Id,
    /// Its blobs, by offset, none twice.
    pub blobs: Vec<PackedBlob>,
}

/// What is called with each blob, or why it is lost: (number of the pack in the list, number of the blob in it, bytes).
pub type EachBlob<'a> = dyn Fn(usize, usize, Result<Vec<u8>>) -> Result<()> + Sync + 'a;

/// Threads that are worth starting: one for each CPU, at most 8.
#[must_use]
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(8)
}

/// Reads these blobs, several packs at a time, each proved by its digest. A blob that is bad in its pack is looked for in
/// its other places.
///
/// # Errors
/// The first that `each` returned; nothing more is read then.
pub fn fetch(repository: &Repository, index: &Index, reads: &[PackRead], each: &EachBlob<'_>) -> Result<()> {
    let next = AtomicUsize::new(0);
    // Relaxed: it only spares work; the error itself goes through the mutex.
    let stop = AtomicBool::new(false);
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let work = || {
        let mut buffer = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            // Relaxed: each number is taken once, whatever the order.
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(read) = reads.get(number) else { return };
            let each = |blob: usize, bytes| match stop.load(Ordering::Relaxed) {
                true => Err(Error::refused("a read", "another one failed")),
                false => each(number, blob, bytes),
            };
            if let Err(error) = fetch_pack(repository, index, read, &mut buffer, &each) {
                let mut failed = failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if !stop.swap(true, Ordering::Relaxed) {
                    *failed = Some(error);
                }
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        (1..threads().min(reads.len())).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
}

/// The bytes of a pack that are read at once from blob `first` on, and the number of the blob behind them.
pub(crate) fn piece(blobs: &[PackedBlob], first: usize) -> (Range<u64>, usize) {
    let start = u64::from(blobs[first].offset);
    let mut end = blobs[first].end();
    let mut behind = first + 1;
    while let Some(blob) = blobs.get(behind) {
        if u64::from(blob.offset) > end + GAP_MOST || blob.end().saturating_sub(start) > PIECE_MOST {
            break;
        }
        end = end.max(blob.end());
        behind += 1;
    }
    (start..end, behind)
}

fn fetch_pack(
    repository: &Repository,
    index: &Index,
    read: &PackRead,
    buffer: &mut Vec<u8>,
    each: &dyn Fn(usize, Result<Vec<u8>>) -> Result<()>,
) -> Result<()> {
    let mut first = 0;
    while first < read.blobs.len() {
        let (Range { start, end }, behind) = piece(&read.blobs, first);
        buffer.clear();
        let name = Name::new(FileKind::Pack, read.pack);
        let got = match end - start <= u64::from(BLOB_MOST_BYTES) {
            true => repository.storage().read(&name, start..end, buffer).is_ok(),
            false => false,
        };
        for (number, blob) in read.blobs.iter().enumerate().take(behind).skip(first) {
            let at = (u64::from(blob.offset).saturating_sub(start)) as usize;
            let plain = match buffer.get_mut(at..at + blob.length as usize).filter(|_| got) {
                Some(_) if blob.plain_length() > BLOB_MOST_BYTES => None,
                Some(sealed) => repository.open_blob(&read.pack, blob, sealed).ok(),
                None => None,
            };
            // The slow way tells which place is bad, and tries the others.
            each(number, plain.map_or_else(|| repository.load_blob(index, blob.kind, &blob.id), Ok))?;
        }
        first = behind;
    }
    Ok(())
}

/// Reads one data or tree blob's place for a [`PackRead`].
///
/// # Errors
/// [`Error::UnknownBlob`] when no index names it.
pub fn entry_of(index: &Index, kind: BlobKind, id: &Id) -> Result<u64> {
    index.number(kind, id)?.ok_or(Error::UnknownBlob { kind: kind.word(), id: *id })
}

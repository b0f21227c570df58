//! Executing a plan, so that at every moment each snapshot has all that it needs.
//!
//! 1. Packs that no index names go: nobody can miss them, and there is room then.
//! 2. Needed blobs of packs that are to go are copied into new packs, each proved by its digest.
//! 3. New index files name the new packs, once those are durable, and all that stays.
//! 4. Only then the old index files go, and when none names them any more, the old packs.
//!
//! The lock is proved before each index file and again and again while files are removed.

use super::plan::Plan;
use super::survey::Survey;
use crate::blobs::BLOB_MOST_BYTES;
use crate::config::Version;
use crate::error::{Error, Result};
use crate::fetch::{piece, threads};
use crate::id::Id;
use crate::index::file::{self, BLOBS_FULL};
use crate::pack::{BlobKind, PackedBlob, Packer};
use crate::repository::Repository;
use crate::storage::{FileKind, Name};
use crate::writer::{DATA_LEVEL, Prove, TREE_LEVEL, level};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Blobs whose places are in memory at once: 15 MiB.
const BATCH_BLOBS: u64 = 1 << 18;
/// An index file with fewer blobs is put together with others, if one is written anyway.
const SMALL_INDEX_BLOBS: usize = BLOBS_FULL / 10;
/// Files that are removed between two proofs of the lock.
const REMOVED_AT_ONCE: usize = 256;

/// What a prune did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Blobs that were copied into new packs.
    pub blobs_copied: u64,
    /// New packs.
    pub packs_written: u64,
    /// Bytes of them.
    pub bytes_written: u64,
    /// New index files.
    pub index_files_written: u64,
    /// Index files removed.
    pub index_files_removed: u64,
    /// Packs removed.
    pub packs_removed: u64,
}

/// Executes a plan that was made from this survey. `recompress`: copied blobs that are not compressed are compressed.
/// `prove` says whether the exclusive lock still holds.
///
/// # Errors
/// [`Error::Refused`] for a plan of another survey; [`Error::Damaged`] when a needed blob of a pack that was to be packed
/// anew is whole in none of its places; those of the storage and of `prove`. Whenever it ends, no snapshot has lost anything,
/// and the next prune takes up what is left.
pub fn execute(survey: &Survey<'_>, plan: &Plan, recompress: bool, prove: Prove<'_>) -> Result<Report> {
    let mut report = Report::default();
    if plan.is_empty() {
        return Ok(report);
    }
    check(survey, plan)?;
    report.packs_removed += remove(survey.repository, FileKind::Pack, &plan.unreferenced, prove)?;
    if plan.remove.is_empty() && plan.repack.is_empty() && plan.forget.is_empty() {
        return Ok(report);
    }
    let names =
        Mutex::new(Names { repository: survey.repository, prove, packs: Vec::new(), blobs: 0, files_written: 0 });
    if !plan.repack.is_empty() {
        let recompress = recompress && survey.repository.config().version >= Version::Two;
        let repacker = Repacker { survey, recompress, names: &names, data: Mutex::default(), trees: Mutex::default() };
        repacker.run(plan, &mut report)?;
    }
    let mut names = names.into_inner().unwrap_or_else(PoisonError::into_inner);
    let replaced = rename(survey, plan, &mut names)?;
    report.index_files_written = names.files_written;
    report.index_files_removed = remove(survey.repository, FileKind::Index, &replaced, prove)?;
    report.packs_removed += remove(survey.repository, FileKind::Pack, &plan.remove, prove)?;
    report.packs_removed += remove(survey.repository, FileKind::Pack, &plan.repack, prove)?;
    Ok(report)
}

/// The last guard: the plan says one thing of each pack, and each that anything is taken from stays or is copied.
fn check(survey: &Survey<'_>, plan: &Plan) -> Result<()> {
    let has = |list: &[Id], id: &Id| list.binary_search(id).is_ok();
    for pack in survey.packs() {
        let (stays, copied) = (has(&plan.keep, &pack.id), has(&plan.repack, &pack.id));
        let goes = has(&plan.remove, &pack.id) || has(&plan.unreferenced, &pack.id) || has(&plan.forget, &pack.id);
        let is_in_one = [stays, copied, goes].into_iter().filter(|is_in| *is_in).count() == 1;
        if !is_in_one || (goes && pack.used_blobs > 0) {
            let why = format!("the plan does not fit what pack {} is needed for; nothing was changed", pack.id);
            return Err(Error::refused("prune", why));
        }
    }
    Ok(())
}

/// Removes files; one that is gone already is no error. How many there were.
fn remove(repository: &Repository, kind: FileKind, ids: &[Id], prove: Prove<'_>) -> Result<u64> {
    let mut removed = 0;
    for some in ids.chunks(REMOVED_AT_ONCE) {
        prove()?;
        for id in some {
            match repository.storage().remove(&Name::new(kind, *id)) {
                Ok(()) => removed += 1,
                Err(Error::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(removed)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Packs, all durable, that the next index file names.
struct Names<'a> {
    repository: &'a Repository,
    prove: Prove<'a>,
    packs: Vec<(Id, Vec<PackedBlob>)>,
    blobs: usize,
    files_written: u64,
}

impl Names<'_> {
    fn add(&mut self, pack: Id, blobs: Vec<PackedBlob>) -> Result<()> {
        self.blobs += blobs.len();
        self.packs.push((pack, blobs));
        if self.blobs >= BLOBS_FULL { self.save() } else { Ok(()) }
    }

    fn save(&mut self) -> Result<()> {
        if self.packs.is_empty() {
            return Ok(());
        }
        (self.prove)()?;
        let text = file::encode(&[], self.packs.iter().map(|(id, blobs)| (id, blobs.as_slice())));
        self.repository.save_file(FileKind::Index, &text)?;
        self.packs.clear();
        self.blobs = 0;
        self.files_written += 1;
        Ok(())
    }
}

/// Hears of a pack that an index file names: its place in the survey, its id, its blobs.
type EachPack<'a> = dyn FnMut(usize, &Id, &[PackedBlob]) -> Result<()> + 'a;

/// Names in new index files all that stays and is named by an index file that has to go. The answer is which have to.
fn rename(survey: &Survey<'_>, plan: &Plan, names: &mut Names<'_>) -> Result<Vec<Id>> {
    let repository = survey.repository;
    let none = || Error::refused("the index", "it names a pack that it did not name before; nothing was removed");
    let each_pack = |id: &Id, each: &mut EachPack<'_>| {
        let name = Name::new(FileKind::Index, *id);
        let mut each = |pack: &Id, blobs: &[PackedBlob]| each(survey.position_of(pack).ok_or_else(none)?, pack, blobs);
        repository.stream_index(id, |text| file::decode(&name, text, &mut each)).map(|_| ())
    };
    let stays: Vec<bool> = survey.packs().iter().map(|pack| plan.keep.binary_search(&pack.id).is_ok()).collect();
    let mut named = vec![false; stays.len()];
    let mut replaced = Vec::new();
    for id in survey.index.files() {
        let (mut is_good, mut blobs_count, mut positions) = (true, 0, Vec::new());
        each_pack(id, &mut |position, _, blobs| {
            is_good &= stays[position] && !named[position];
            blobs_count += blobs.len();
            positions.push(position);
            Ok(())
        })?;
        if is_good && blobs_count >= SMALL_INDEX_BLOBS {
            positions.iter().for_each(|position| named[*position] = true);
        } else {
            replaced.push(*id);
        }
    }
    for id in &replaced {
        each_pack(id, &mut |position, pack, blobs| {
            if !stays[position] || std::mem::replace(&mut named[position], true) {
                return Ok(());
            }
            names.add(*pack, blobs.to_vec())
        })?;
    }
    names.save()?;
    if named != stays {
        return Err(Error::refused("the index", "it does not name all that stays any more; nothing was removed"));
    }
    Ok(replaced)
}

/// Copies needed blobs into new packs.
struct Repacker<'a, 'b> {
    survey: &'a Survey<'a>,
    recompress: bool,
    names: &'a Mutex<Names<'b>>,
    data: Mutex<Filling>,
    trees: Mutex<Filling>,
}

/// A pack being filled, and what was written of its kind.
#[derive(Default)]
struct Filling {
    packer: Packer,
    blobs_copied: u64,
    packs_written: u64,
    bytes_written: u64,
}

/// A pack and what is copied from it, by offset.
type Wanted = (Id, Vec<PackedBlob>);

impl Repacker<'_, '_> {
    fn run(&self, plan: &Plan, report: &mut Report) -> Result<()> {
        let (mut batch, mut blobs) = (Vec::new(), 0);
        for id in &plan.repack {
            let position = self.survey.position_of(id);
            let position = position.ok_or_else(|| Error::refused("prune", format!("no index names pack {id}")))?;
            let more = self.survey.packs()[position].used_blobs;
            if blobs + more > BATCH_BLOBS && !batch.is_empty() {
                self.copy_all(&self.wanted(&batch)?)?;
                batch.clear();
                blobs = 0;
            }
            batch.push(position);
            blobs += more;
        }
        self.copy_all(&self.wanted(&batch)?)?;
        for filling in [&self.data, &self.trees] {
            let mut filling = locked(filling);
            if !filling.packer.is_empty() {
                self.write(&mut filling)?;
            }
            report.blobs_copied += filling.blobs_copied;
            report.packs_written += filling.packs_written;
            report.bytes_written += filling.bytes_written;
        }
        Ok(())
    }

    /// What is taken from these packs.
    fn wanted(&self, batch: &[usize]) -> Result<Vec<Wanted>> {
        let packs = self.survey.packs();
        let mut is_in = vec![false; packs.len()];
        batch.iter().for_each(|position| is_in[*position] = true);
        let mut places = Vec::new();
        for entry in (0..self.survey.index.entries()).filter(|entry| self.survey.taken.is_marked(*entry)) {
            let (position, blob) = self.survey.place_of(entry)?;
            if is_in[position as usize] {
                places.push((position, blob));
            }
        }
        places.sort_unstable_by_key(|(position, blob)| (*position, blob.offset));
        let same_pack = places.chunk_by(|a, b| a.0 == b.0);
        Ok(same_pack.map(|of| (packs[of[0].0 as usize].id, of.iter().map(|place| place.1).collect())).collect())
    }

    /// Several packs at a time; the first error ends all.
    fn copy_all(&self, wanted: &[Wanted]) -> Result<()> {
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let failed = Mutex::new(None);
        let work = || {
            // Relaxed: it spares work, and each number is taken once; the error goes through the mutex.
            while !stop.load(Ordering::Relaxed) {
                let Some(pack) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                if let Err(error) = self.copy(pack) {
                    stop.store(true, Ordering::Relaxed);
                    locked(&failed).get_or_insert(error);
                }
            }
        };
        let is_done = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads().min(wanted.len())).map(|_| scope.spawn(work)).collect();
            work();
            others.into_iter().all(|other| other.join().is_ok())
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None if is_done => Ok(()),
            None => Err(Error::refused("prune", "a thread of it ended by a defect of this program; report it")),
        }
    }

    fn copy(&self, (pack, blobs): &Wanted) -> Result<()> {
        let (mut sealed, mut opened, mut first) = (Vec::new(), Vec::new(), 0);
        while first < blobs.len() {
            let (range, behind) = piece(blobs, first);
            let start = range.start;
            sealed.clear();
            let is_believed = range.end - start <= u64::from(BLOB_MOST_BYTES);
            let name = Name::new(FileKind::Pack, *pack);
            if is_believed {
                // What is missing is looked for in other places below.
                if let Err(error @ Error::Io { .. }) = self.survey.repository.storage().read(&name, range, &mut sealed)
                {
                    return Err(error);
                }
            }
            for blob in &blobs[first..behind] {
                let at = usize::try_from(u64::from(blob.offset) - start).unwrap_or(usize::MAX);
                let sealed = sealed.get(at..).and_then(|rest| rest.get(..blob.length as usize));
                self.copy_blob(pack, blob, sealed, &mut opened)?;
            }
            first = behind;
        }
        Ok(())
    }

    /// Copies a blob as it is when it is whole; else from another of its places, sealed anew.
    fn copy_blob(&self, pack: &Id, blob: &PackedBlob, sealed: Option<&[u8]>, buffer: &mut Vec<u8>) -> Result<()> {
        let repository = self.survey.repository;
        let opened = sealed.filter(|_| blob.plain_length() <= BLOB_MOST_BYTES).and_then(|sealed| {
            buffer.clear();
            buffer.extend_from_slice(sealed);
            repository.open_blob(pack, blob, buffer).ok()
        });
        let must_compress = self.recompress && blob.uncompressed_length.is_none();
        match (sealed, opened) {
            (Some(sealed), Some(_)) if !must_compress => self.add(blob, sealed, blob.uncompressed_length),
            (_, opened) => {
                let plain = opened.map_or_else(|| repository.load_blob(self.survey.index, blob.kind, &blob.id), Ok)?;
                // What was asked to be compressed is, whether that helps or not: else it would be asked for again.
                let level = match blob.kind {
                    BlobKind::Data if !must_compress => level(blob.kind, &plain),
                    BlobKind::Data => Some(DATA_LEVEL),
                    BlobKind::Tree => Some(TREE_LEVEL),
                };
                buffer.clear();
                let uncompressed_length = repository.seal_blob(&plain, level, buffer)?;
                self.add(blob, buffer, uncompressed_length)
            }
        }
    }

    fn add(&self, blob: &PackedBlob, sealed: &[u8], uncompressed_length: Option<u32>) -> Result<()> {
        let mut filling = locked(if blob.kind == BlobKind::Data { &self.data } else { &self.trees });
        filling.packer.add(blob.kind, blob.id, sealed, uncompressed_length)?;
        filling.blobs_copied += 1;
        if filling.packer.is_full() { self.write(&mut filling) } else { Ok(()) }
    }

    /// While a pack is written no other is filled: that bounds the memory.
    fn write(&self, filling: &mut Filling) -> Result<()> {
        let repository = self.survey.repository;
        let pack = std::mem::take(&mut filling.packer).finish(repository.key())?;
        repository.storage().write(&Name::new(FileKind::Pack, pack.id), &pack.bytes)?;
        filling.packs_written += 1;
        filling.bytes_written += pack.bytes.len() as u64;
        locked(self.names).add(pack.id, pack.blobs)
    }
}

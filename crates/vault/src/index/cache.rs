//! The index as a sorted file on this machine: however many blobs a vault has, little of it is in memory.
//!
//! The file consists of pages of 4 KiB, each with the start of its SHA-256 in front, checked whenever it is read. It is
//! read by copy, never mapped: a file that is changed or cut underneath is an error of that read, and no signal. It
//! comes into being by an external sort whose memory does not depend on the number of blobs.
//!
//! ```text
//! page: checksum 8 | payload 4088          checksum: of page number u64 LE and payload
//! page 0: magic 8 | vault 32 | index files u64 | packs u64 | blobs u64
//! then index files: id 32, sorted          127 a page
//! then packs: id 32 | size u64 | blobs u32  92 a page, in no order
//! then blobs: id 32 | kind u8 | flags u8 | 0 u16 | pack u32 | offset u32 | length u32 | uncompressed u32, sorted  78 a page
//! then the first 8 bytes of each blob page's first id   511 a page
//! ```
//! Numbers are little endian. Flag 1: the blob is compressed.

use crate::error::{Error, Result};
use crate::id::Id;
use crate::pack::{BlobKind, PackedBlob};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const PAGE: usize = 4096;
const PAYLOAD: usize = PAGE - 8;
const MAGIC: &[u8; 8] = b"kobjvix1";
/// Bytes of a blob's record.
const RECORD: usize = 52;
const PACK_ENTRY: usize = 44;
const RECORDS: u64 = (PAYLOAD / RECORD) as u64;
/// Records that are sorted in memory at a time: 13 MiB.
const RUN_RECORDS: usize = 1 << 18;
/// Pages that are kept: 4 MiB.
const KEPT_PAGES: usize = 1024;
/// Where there are more runs than this, they are merged in several rounds: each holds 64 KiB.
const RUNS_MOST: usize = 256;
const BUFFER: usize = 64 << 10;

/// A record as it stands in the file; sorts by id, kind and place.
type Record = [u8; RECORD];

/// One blob in the file: which pack it is in, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) pack: u32,
    pub(crate) blob: PackedBlob,
}

impl Entry {
    fn encode(&self) -> Record {
        let mut record = [0; RECORD];
        record[..32].copy_from_slice(self.blob.id.as_bytes());
        record[32] = kind_byte(self.blob.kind);
        record[33] = u8::from(self.blob.uncompressed_length.is_some());
        let numbers = [self.pack, self.blob.offset, self.blob.length, self.blob.uncompressed_length.unwrap_or(0)];
        for (place, number) in record[36..].chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        record
    }

    fn decode(record: &[u8]) -> Option<Self> {
        let number = |at: usize| record.get(at..at + 4)?.try_into().map(u32::from_le_bytes).ok();
        let kind = match record.get(32)? {
            0 => BlobKind::Data,
            1 => BlobKind::Tree,
            _ => return None,
        };
        let blob = PackedBlob {
            kind,
            id: id_at(record, 0)?,
            offset: number(40)?,
            length: number(44)?,
            uncompressed_length: if record.get(33)? & 1 == 1 { number(48) } else { None },
        };
        Some(Self { pack: number(36)?, blob })
    }
}

/// What the index says of a whole pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackSummary {
    /// The pack.
    pub id: Id,
    /// Bytes that the pack's file must have, if the index names all that is in it.
    pub size_bytes: u64,
    /// Blobs in it.
    pub blobs: u32,
}

fn kind_byte(kind: BlobKind) -> u8 {
    match kind {
        BlobKind::Data => 0,
        BlobKind::Tree => 1,
    }
}

fn id_at(bytes: &[u8], at: usize) -> Option<Id> {
    bytes.get(at..at + 32)?.try_into().map(Id::from_bytes).ok()
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().map(u64::from_le_bytes).ok()
}

fn checksum(number: u64, payload: &[u8]) -> [u8; 8] {
    let digest = Sha256::new().chain_update(number.to_le_bytes()).chain_update(payload).finalize();
    *digest.first_chunk().unwrap_or(&[0; 8])
}

/// Where the sections of a file with these counts begin, in pages.
#[derive(Clone, Copy, Debug)]
struct Layout {
    files: u64,
    packs: u64,
    blobs: u64,
}

impl Layout {
    const FILES_AT: u64 = 1;

    fn packs_at(self) -> u64 {
        Self::FILES_AT + self.files.div_ceil((PAYLOAD / 32) as u64)
    }

    fn blobs_at(self) -> u64 {
        self.packs_at() + self.packs.div_ceil((PAYLOAD / PACK_ENTRY) as u64)
    }

    fn blob_pages(self) -> u64 {
        self.blobs.div_ceil(RECORDS)
    }

    fn top_at(self) -> u64 {
        self.blobs_at() + self.blob_pages()
    }

    fn pages(self) -> u64 {
        self.top_at() + self.blob_pages().div_ceil((PAYLOAD / 8) as u64)
    }
}

/// Writes entries of one length into pages.
struct PageWriter<'a, W> {
    to: &'a mut W,
    number: u64,
    payload: Vec<u8>,
}

impl<'a, W: Write> PageWriter<'a, W> {
    fn at(to: &'a mut W, number: u64) -> Self {
        Self { to, number, payload: Vec::with_capacity(PAYLOAD) }
    }

    fn push(&mut self, entry: &[u8]) -> io::Result<()> {
        if self.payload.len() + entry.len() > PAYLOAD {
            self.flush()?;
        }
        self.payload.extend_from_slice(entry);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.payload.is_empty() {
            self.payload.resize(PAYLOAD, 0);
            self.to.write_all(&checksum(self.number, &self.payload))?;
            self.to.write_all(&self.payload)?;
            self.payload.clear();
            self.number += 1;
        }
        Ok(())
    }
}

/// A sorted index being built.
pub(crate) struct Builder {
    /// Makes unlinked files for runs.
    scratch: Scratch,
    files: Vec<Id>,
    /// Entries of the pack table, in a file: there may be as many packs as blobs.
    packs: BufWriter<File>,
    packs_count: u64,
    run: Vec<Record>,
    /// Records after which a run is sorted and written.
    run_full: usize,
    runs: Vec<Run>,
    blobs: u64,
}

/// Where temporary files are made.
#[derive(Clone, Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self(folder.to_path_buf())
    }

    /// The folder for temporary files of this machine.
    pub(crate) fn temporary() -> Self {
        Self(std::env::temp_dir())
    }

    /// A file that has no name any more, readable and writable.
    pub(crate) fn file(&self) -> io::Result<File> {
        use rustix::fs::{AtFlags, CWD, Mode, OFlags};
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        if let Ok(file) = rustix::fs::openat(CWD, &self.0, flags | OFlags::TMPFILE, mode) {
            return Ok(file.into());
        }
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let path = self.0.join(format!(".kobj-vault-{:016x}", u64::from_le_bytes(random)));
        let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(CWD, &path, flags, mode)?;
        rustix::fs::unlinkat(CWD, &path, AtFlags::empty())?;
        Ok(file.into())
    }
}

/// Sorted records in a file.
struct Run {
    file: File,
    records: u64,
}

impl Builder {
    pub(crate) fn new(scratch: Scratch) -> Result<Self> {
        let packs = BufWriter::with_capacity(BUFFER, scratch.file().map_err(failed)?);
        let (files, run, runs) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { scratch, files, packs, packs_count: 0, run, run_full: RUN_RECORDS, runs, blobs: 0 })
    }

    #[cfg(test)]
    pub(crate) fn with_short_runs(mut self, records: usize) -> Self {
        self.run_full = records;
        self
    }

    /// Takes over all that a sorted file has: it is one sorted run. Only into a builder that is still empty, for packs
    /// keep their numbers.
    pub(crate) fn take(&mut self, sorted: &SortedFile) -> Result<()> {
        for number in 0..sorted.packs() {
            self.packs.write_all(&pack_entry(&sorted.pack(number)?)).map_err(failed)?;
        }
        self.packs_count = sorted.packs();
        let mut to = BufWriter::with_capacity(BUFFER, self.scratch.file().map_err(failed)?);
        let (mut left, first) = (sorted.blobs(), sorted.layout.blobs_at());
        for page in first..sorted.layout.top_at() {
            let records = left.min(RECORDS);
            left -= records;
            let payload = sorted.read_page(page)?;
            to.write_all(&payload[..records as usize * RECORD]).map_err(failed)?;
        }
        let file = to.into_inner().map_err(|error| failed(error.into_error()))?;
        self.runs.push(Run { file, records: sorted.blobs() });
        self.blobs = sorted.blobs();
        self.files.extend(sorted.files());
        Ok(())
    }

    /// Says that an index file is in it.
    pub(crate) fn add_file(&mut self, id: Id) {
        self.files.push(id);
    }

    pub(crate) fn add_pack(&mut self, id: &Id, blobs: &[PackedBlob]) -> Result<()> {
        let pack = u32::try_from(self.packs_count)
            .map_err(|_| Error::unsupported("the index", "it names more than 4 billion packs"))?;
        let entry = pack_entry(&summary_of(id, blobs));
        self.packs.write_all(&entry).map_err(failed)?;
        self.packs_count += 1;
        for blob in blobs {
            self.run.push(Entry { pack, blob: *blob }.encode());
            if self.run.len() >= self.run_full {
                self.end_run()?;
            }
        }
        self.blobs += blobs.len() as u64;
        Ok(())
    }

    fn end_run(&mut self) -> Result<()> {
        self.run.sort_unstable();
        let mut to = BufWriter::with_capacity(BUFFER, self.scratch.file().map_err(failed)?);
        self.run.iter().try_for_each(|record| to.write_all(record)).map_err(failed)?;
        let file = to.into_inner().map_err(|error| failed(error.into_error()))?;
        self.runs.push(Run { file, records: self.run.len() as u64 });
        self.run.clear();
        if self.runs.len() == RUNS_MOST {
            let mut to = BufWriter::with_capacity(BUFFER, self.scratch.file().map_err(failed)?);
            let runs = std::mem::take(&mut self.runs);
            let records = runs.iter().map(|run| run.records).sum();
            merge(runs, |record| to.write_all(record)).map_err(failed)?;
            let file = to.into_inner().map_err(|error| failed(error.into_error()))?;
            self.runs.push(Run { file, records });
        }
        Ok(())
    }

    /// Writes the whole into `to`, an empty file.
    pub(crate) fn finish(mut self, vault: &Id, to: File) -> Result<SortedFile> {
        if !self.run.is_empty() {
            self.end_run()?;
        }
        self.run = Vec::new();
        self.files.sort_unstable();
        let mut packs = self.packs.into_inner().map_err(|error| failed(error.into_error()))?;
        packs.seek(SeekFrom::Start(0)).map_err(failed)?;
        let layout = Layout { files: self.files.len() as u64, packs: self.packs_count, blobs: self.blobs };
        let mut out = BufWriter::with_capacity(BUFFER, to);
        write_all(&mut out, vault, layout, &self.files, packs, self.runs).map_err(failed)?;
        let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
        SortedFile::open(file, vault)?
            .ok_or_else(|| Error::refused("the sorted index", "it changed while it was written"))
    }
}

fn failed(error: io::Error) -> Error {
    Error::io("write", "the sorted index (a full disk? --cache-dir names another)", error)
}

pub(crate) fn summary_of(id: &Id, blobs: &[PackedBlob]) -> PackSummary {
    let end = blobs.iter().map(PackedBlob::end).max().unwrap_or(0);
    let header: u64 = blobs.iter().map(|blob| if blob.uncompressed_length.is_some() { 41 } else { 37 }).sum();
    let size_bytes = end + header + crate::crypto::OVERHEAD as u64 + 4;
    PackSummary { id: *id, size_bytes, blobs: u32::try_from(blobs.len()).unwrap_or(u32::MAX) }
}

fn pack_entry(pack: &PackSummary) -> [u8; PACK_ENTRY] {
    let mut entry = [0; PACK_ENTRY];
    entry[..32].copy_from_slice(pack.id.as_bytes());
    entry[32..40].copy_from_slice(&pack.size_bytes.to_le_bytes());
    entry[40..].copy_from_slice(&pack.blobs.to_le_bytes());
    entry
}

fn write_all(
    out: &mut BufWriter<File>,
    vault: &Id,
    layout: Layout,
    files: &[Id],
    packs: File,
    runs: Vec<Run>,
) -> io::Result<()> {
    let mut head = PageWriter::at(out, 0);
    head.push(MAGIC)?;
    head.push(vault.as_bytes())?;
    [layout.files, layout.packs, layout.blobs].iter().try_for_each(|count| head.push(&count.to_le_bytes()))?;
    head.flush()?;
    let mut to = PageWriter::at(out, Layout::FILES_AT);
    files.iter().try_for_each(|id| to.push(id.as_bytes()))?;
    to.flush()?;
    let mut from = io::BufReader::with_capacity(BUFFER, packs);
    let mut to = PageWriter::at(out, layout.packs_at());
    let mut entry = [0; PACK_ENTRY];
    for _ in 0..layout.packs {
        from.read_exact(&mut entry)?;
        to.push(&entry)?;
    }
    to.flush()?;
    // 8 bytes for each 78 blobs: a megabyte for ten million.
    let mut top: Vec<[u8; 8]> = Vec::new();
    let mut to = PageWriter::at(out, layout.blobs_at());
    let mut at = 0;
    merge(runs, |record| {
        if at % RECORDS == 0 {
            top.extend(record.first_chunk::<8>());
        }
        at += 1;
        to.push(record)
    })?;
    to.flush()?;
    let mut to = PageWriter::at(out, layout.top_at());
    top.iter().try_for_each(|prefix| to.push(prefix))?;
    to.flush()
}

/// Hands the records of all runs to `each`, in order.
fn merge(runs: Vec<Run>, mut each: impl FnMut(&Record) -> io::Result<()>) -> io::Result<()> {
    use std::cmp::Reverse;
    let mut readers = Vec::with_capacity(runs.len());
    let mut heap = std::collections::BinaryHeap::with_capacity(runs.len());
    for (number, mut run) in runs.into_iter().enumerate() {
        run.file.seek(SeekFrom::Start(0))?;
        let mut reader = (io::BufReader::with_capacity(BUFFER, run.file), run.records);
        heap.extend(next_record(&mut reader)?.map(|record| Reverse((record, number))));
        readers.push(reader);
    }
    while let Some(Reverse((record, number))) = heap.pop() {
        each(&record)?;
        heap.extend(next_record(&mut readers[number])?.map(|record| Reverse((record, number))));
    }
    Ok(())
}

fn next_record((reader, left): &mut (io::BufReader<File>, u64)) -> io::Result<Option<Record>> {
    if *left == 0 {
        return Ok(None);
    }
    *left -= 1;
    let mut record = [0; RECORD];
    reader.read_exact(&mut record)?;
    Ok(Some(record))
}

/// A sorted index on disk.
#[derive(Debug)]
pub(crate) struct SortedFile {
    file: File,
    layout: Layout,
    files: Vec<Id>,
    /// The first 8 bytes of each blob page's first id, as a number that sorts alike.
    top: Vec<u64>,
    kept: Mutex<Vec<Option<Kept>>>,
    /// Where it is to be removed from as soon as a page of it turns out to be damaged.
    path: Option<PathBuf>,
}

#[derive(Debug)]
struct Kept {
    number: u64,
    payload: Box<[u8]>,
}

impl SortedFile {
    /// The sorted index in this file; `None` if it is none of this vault, or damaged.
    pub(crate) fn open(file: File, vault: &Id) -> Result<Option<Self>> {
        let size_bytes = file.metadata().map_err(|error| Error::io("read", "the sorted index", error))?.len();
        let mut sorted = Self {
            file,
            layout: Layout { files: 0, packs: 0, blobs: 0 },
            files: Vec::new(),
            top: Vec::new(),
            kept: Mutex::new(std::iter::repeat_with(|| None).take(KEPT_PAGES).collect()),
            path: None,
        };
        Ok(sorted.read_head(vault, size_bytes).map(|()| sorted))
    }

    fn read_head(&mut self, vault: &Id, size_bytes: u64) -> Option<()> {
        let head = self.read_page(0).ok()?;
        if !head.starts_with(MAGIC) || id_at(&head, 8)? != *vault {
            return None;
        }
        let layout = Layout { files: u64_at(&head, 40)?, packs: u64_at(&head, 48)?, blobs: u64_at(&head, 56)? };
        // Counts that fit a file of this size are small enough for all that follows.
        let bounded = [layout.files, layout.packs, layout.blobs].iter().all(|count| *count <= size_bytes);
        if !bounded || layout.pages().checked_mul(PAGE as u64)? != size_bytes {
            return None;
        }
        self.layout = layout;
        for page in Layout::FILES_AT..layout.packs_at() {
            let payload = self.read_page(page).ok()?;
            self.files.extend(payload.chunks_exact(32).filter_map(|id| id_at(id, 0)));
        }
        self.files.truncate(usize::try_from(layout.files).ok()?);
        for page in layout.top_at()..layout.pages() {
            let payload = self.read_page(page).ok()?;
            self.top.extend(payload.as_chunks::<8>().0.iter().map(|prefix| u64::from_be_bytes(*prefix)));
        }
        self.top.truncate(usize::try_from(layout.blob_pages()).ok()?);
        Some(())
    }

    /// Says where it is kept. A small one is looked through: `None` if a page is damaged. A large one takes too long; its
    /// pages are checked when they are needed.
    pub(crate) fn kept_at(mut self, path: &Path) -> Option<Self> {
        const PAGES_MOST: u64 = 16 << 10;
        self.path = Some(path.to_path_buf());
        let pages = self.layout.pages();
        let whole = pages > PAGES_MOST || (0..pages).all(|page| self.read_page(page).is_ok());
        whole.then_some(self)
    }

    /// Ids of the index files that are in it, sorted.
    pub(crate) fn files(&self) -> &[Id] {
        &self.files
    }

    pub(crate) fn blobs(&self) -> u64 {
        self.layout.blobs
    }

    pub(crate) fn packs(&self) -> u64 {
        self.layout.packs
    }

    fn read_page(&self, number: u64) -> Result<Box<[u8]>> {
        let mut page = vec![0; PAGE];
        let read = self.file.read_exact_at(&mut page, number.saturating_mul(PAGE as u64));
        read.map_err(|error| Error::io("read", "the sorted index", error))?;
        let payload = page.split_off(8);
        if page != checksum(number, &payload) {
            if let Some(path) = &self.path {
                // If this fails, the next run meets the page again and says so again.
                let _ = std::fs::remove_file(path);
            }
            let why = "a page of it was changed, so it was thrown away; run again";
            return Err(Error::refused("the sorted index", why));
        }
        Ok(payload.into_boxed_slice())
    }

    /// What `look` sees in a page: a kept one, or one that is read and kept now.
    fn page<T>(&self, number: u64, look: impl FnOnce(&[u8]) -> Option<T>) -> Result<T> {
        let slot = (number % KEPT_PAGES as u64) as usize;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept[slot].take().filter(|page| page.number == number);
        let page = match found {
            Some(page) => page,
            None => Kept { number, payload: self.read_page(number)? },
        };
        let seen = look(&page.payload);
        kept[slot] = Some(page);
        seen.ok_or_else(|| {
            Error::refused("the sorted index", "an entry of it makes no sense; run again with --no-cache")
        })
    }

    /// The entry of this number, in order of ids.
    pub(crate) fn entry(&self, number: u64) -> Result<Entry> {
        let at = (number % RECORDS) as usize * RECORD;
        self.page(self.layout.blobs_at() + number / RECORDS, |page| Entry::decode(page.get(at..)?))
    }

    /// The pack of this number.
    pub(crate) fn pack(&self, number: u64) -> Result<PackSummary> {
        const ENTRIES: u64 = (PAYLOAD / PACK_ENTRY) as u64;
        let at = (number % ENTRIES) as usize * PACK_ENTRY;
        if number >= self.layout.packs {
            return Err(Error::refused("the sorted index", "it names a pack that it does not have; use --no-cache"));
        }
        self.page(self.layout.packs_at() + number / ENTRIES, |page| {
            let entry = page.get(at..at + PACK_ENTRY)?;
            let blobs = u32::from_le_bytes(entry.get(40..)?.try_into().ok()?);
            Some(PackSummary { id: id_at(entry, 0)?, size_bytes: u64_at(entry, 32)?, blobs })
        })
    }

    /// The number of the first entry of this blob.
    pub(crate) fn find(&self, kind: BlobKind, id: &Id) -> Result<Option<u64>> {
        let prefix = id.as_bytes().first_chunk().map_or(0, |prefix| u64::from_be_bytes(*prefix));
        // The first page that may have it: the last that begins below it, for entries alike may span pages.
        let page = self.top.partition_point(|first| *first < prefix).saturating_sub(1) as u64;
        let wanted = (*id.as_bytes(), kind_byte(kind));
        let (mut low, mut high) = (page * RECORDS, self.layout.blobs);
        // Gallop: nearly always it is in this page or the next.
        let mut step = RECORDS;
        while low + step < high {
            if self.key_at(low + step)? < wanted {
                low += step;
                step *= 2;
            } else {
                high = low + step;
            }
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if self.key_at(middle)? < wanted {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok((low < self.layout.blobs && self.key_at(low)? == wanted).then_some(low))
    }

    fn key_at(&self, number: u64) -> Result<([u8; 32], u8)> {
        let at = (number % RECORDS) as usize * RECORD;
        self.page(self.layout.blobs_at() + number / RECORDS, |page| {
            Some((page.get(at..at + 32)?.try_into().ok()?, *page.get(at + 32)?))
        })
    }
}

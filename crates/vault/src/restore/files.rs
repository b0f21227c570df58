//! Contents of files: what can stay, what is fetched, and how it gets to its place.
//!
//! A file is built under a temporary name and renamed when it is whole, so that no short file ever has the right name. A
//! large one that is there already is written in place, block by block: its path stands in a journal until it is whole.

use super::place::{self, Spot, Target, kind_of};
use super::{Event, JOURNAL, Overwrite, Run, ends_all, io, metadata};
use crate::blobs::BLOB_MOST_BYTES;
use crate::error::{Error, Result};
use crate::fetch::{PackRead, entry_of, fetch};
use crate::id::Id;
use crate::pack::{BlobKind, PackedBlob};
use crate::tree::{Node, NodeKind};
use crate::walk::{Descend, Step, walk};
use kobj_platform::lease::{SigioBlocked, give_lease_back, take_write_lease};
use rustix::fs::{self, FallocateFlags, FileType, OFlags, Stat};
use rustix::io::Errno;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Blobs that are planned before they are fetched: 16 MiB of plan.
const USES_MOST: usize = 500_000;
/// Files that are planned before they are fetched.
const FILES_MOST: usize = 20_000;
/// From this size on a file that is there is written in place.
const IN_PLACE_BYTES: u64 = if cfg!(test) { 16 << 10 } else { 64 << 20 };
const BLOCK: usize = 4096;
const OPEN_FILES: usize = 64;

/// A file whose contents are to be put in place.
#[derive(Debug)]
pub(super) struct FileJob {
    path: Vec<u8>,
    /// Without its contents.
    node: Node,
    /// The path under which it is built; without one it is written in place.
    temporary: Option<Vec<u8>>,
    /// Further names of it.
    links: Vec<Vec<u8>>,
    /// Why it is not whole.
    lost: OnceLock<String>,
}

/// Where one blob goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    pack: u32,
    offset: u32,
    file: u32,
    at: u64,
    entry: u64,
}

/// Files that are fetched together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    files: Vec<FileJob>,
    uses: Vec<Use>,
    /// Files with several names, by the first.
    linked: HashMap<Vec<u8>, usize>,
    /// Files that are being written in place, now or since a run that was broken off.
    unfinished: BTreeSet<Vec<u8>>,
    journal_read: bool,
    /// Files that were left alone because they were there.
    left_alone: BTreeSet<Vec<u8>>,
}

impl Batch {
    /// Gives a file of this batch one more name; false if it is in none.
    pub(super) fn note_link(&mut self, first: &[u8], path: &[u8]) -> bool {
        let file = self.linked.get(first).and_then(|number| self.files.get_mut(*number));
        file.map(|file| file.links.push(path.to_vec())).is_some()
    }

    /// Whether a file was there and stayed as it was.
    pub(super) fn was_left_alone(&self, path: &[u8]) -> bool {
        self.left_alone.contains(path)
    }
}

/// A piece of a file.
struct Piece {
    at: u64,
    entry: u64,
    blob: PackedBlob,
    pack: u32,
    /// It is what the existing file has there.
    same: bool,
}

impl Run<'_, '_> {
    /// Plans a file: compares what is there, and asks for what is not.
    pub(super) fn file(&mut self, path: &[u8], node: &Node) -> Result<()> {
        if self.batch.files.len() >= FILES_MOST || self.batch.uses.len() >= USES_MOST {
            self.finish_batch()?;
        }
        self.read_journal();
        let failed = |error| io("open", path, error);
        let spot = match self.target.as_ref().map(|target| target.spot(path)) {
            Some(Ok(spot)) => Some(spot),
            None | Some(Err(Errno::NOENT)) if self.options.dry_run => None,
            None => None,
            Some(Err(error)) => return Err(failed(error)),
        };
        let there = spot.as_ref().map(Spot::stat).transpose().map_err(failed)?.flatten();
        if there.is_some_and(|stat| kind_of(&stat) == FileType::Directory) {
            return Err(Error::refused(String::from_utf8_lossy(path), "a folder stands there; move it away"));
        }
        if there.is_some_and(|stat| self.leave_alone(path, node, &stat)) {
            match (self.options.overwrite, &spot) {
                // Believed to hold what the snapshot has.
                (Overwrite::IfChanged, Some(spot)) if !self.options.dry_run => self.apply_metadata(path, node, spot),
                (Overwrite::Never, _) => drop(self.batch.left_alone.insert(path.to_vec())),
                _ => {}
            }
            self.kept(path, node);
            return Ok(());
        }
        let regular = there.filter(|stat| kind_of(stat) == FileType::RegularFile);
        let old = match (&spot, regular) {
            (Some(spot), Some(_)) => spot.open(OFlags::RDONLY).ok().map(File::from),
            _ => None,
        };
        let pieces = self.pieces(path, node, old.as_ref())?;
        // Another name of the inode may be somewhere else, whose owner and mode are not ours to set.
        let shared = regular.is_some_and(|stat| stat.st_nlink > 1) && node.links <= 1;
        let unchanged = !shared
            && pieces.iter().all(|piece| piece.same)
            && regular.is_some_and(|stat| u64::try_from(stat.st_size) == Ok(node.size));
        let Some(spot) = spot.filter(|_| !self.options.dry_run) else {
            let told = if unchanged { Self::kept } else { Self::restored };
            told(self, path, node);
            return Ok(());
        };
        if unchanged {
            self.batch.unfinished.remove(path);
            self.apply_metadata(path, node, &spot);
            self.kept(path, node);
            return Ok(());
        }
        let in_place = regular.is_some_and(|stat| stat.st_nlink == 1) && node.size >= IN_PLACE_BYTES;
        let temporary = match in_place {
            true => {
                drop(old);
                self.begin_in_place(path, node, &spot)?;
                None
            }
            false => Some(build(path, node, &spot, &pieces, old.as_ref())?),
        };
        self.plan(path, node, temporary, &pieces);
        Ok(())
    }

    fn apply_metadata(&mut self, path: &[u8], node: &Node, spot: &Spot<'_>) {
        let mut failures = Vec::new();
        metadata::apply(spot, node, &mut |what| failures.push(what));
        failures.iter().for_each(|what| self.problem(path, what));
    }

    /// Whether a file that is there stays as it is.
    fn leave_alone(&self, path: &[u8], node: &Node, there: &Stat) -> bool {
        let same_time = || {
            (there.st_mtime, u32::try_from(there.st_mtime_nsec))
                == (node.modified.instant().0, Ok(node.modified.instant().1))
        };
        match self.options.overwrite {
            // Half written by a run that was broken off: neither new nor old.
            _ if self.batch.unfinished.contains(path) => false,
            Overwrite::Always => false,
            Overwrite::Never => true,
            Overwrite::IfChanged => {
                kind_of(there) == FileType::RegularFile && u64::try_from(there.st_size) == Ok(node.size) && same_time()
            }
        }
    }

    /// Looks up a file's blobs, and whether an existing file has them at their places already.
    fn pieces(&self, path: &[u8], node: &Node, old: Option<&File>) -> Result<Vec<Piece>> {
        let content = node.content.as_deref().unwrap_or(&[]);
        let mut pieces = Vec::with_capacity(content.len());
        let (mut at, mut last): (u64, Option<(u64, u32, PackedBlob)>) = (0, None);
        let mut buffer = Vec::new();
        for id in content {
            let (entry, pack, blob) = match last {
                Some((entry, pack, blob)) if blob.id == *id => (entry, pack, blob),
                _ => {
                    let entry = entry_of(self.index, BlobKind::Data, id)?;
                    let (pack, blob) = self.index.pack_of_entry(entry)?;
                    (entry, pack, blob)
                }
            };
            last = Some((entry, pack, blob));
            let same = old.is_some_and(|old| has(old, at, &blob, &mut buffer));
            pieces.push(Piece { at, entry, blob, pack, same });
            at = at.saturating_add(u64::from(blob.plain_length()));
        }
        if at != node.size {
            let why = format!("its blobs have {at} bytes, and the snapshot says {}", node.size);
            return Err(Error::damaged(String::from_utf8_lossy(path), why));
        }
        Ok(pieces)
    }

    fn plan(&mut self, path: &[u8], node: &Node, temporary: Option<Vec<u8>>, pieces: &[Piece]) {
        let file = self.batch.files.len() as u32;
        self.batch.uses.extend(pieces.iter().filter(|piece| !piece.same).map(|piece| Use {
            pack: piece.pack,
            offset: piece.blob.offset,
            file,
            at: piece.at,
            entry: piece.entry,
        }));
        if node.links > 1 {
            self.batch.linked.insert(path.to_vec(), self.batch.files.len());
        }
        // A file's list of blobs is long and was taken over.
        let node = Node { content: None, ..node.clone() };
        let (path, links, lost) = (path.to_vec(), Vec::new(), OnceLock::new());
        self.batch.files.push(FileJob { path, node, temporary, links, lost });
    }

    /// Proves that nobody has the file open, gives it its size, and says in the journal that it is being written.
    fn begin_in_place(&mut self, path: &[u8], node: &Node, spot: &Spot<'_>) -> Result<()> {
        let failed = |error| io("write", path, error);
        let file = spot.open(OFlags::RDWR).map_err(failed)?;
        let blocked = SigioBlocked::new();
        match take_write_lease(file.as_fd(), &blocked) {
            Ok(()) => drop(give_lease_back(file.as_fd())),
            Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => {
                let why = "somebody has it open (a running virtual machine?); close it, or restore elsewhere";
                return Err(Error::refused(String::from_utf8_lossy(path), why));
            }
            // Where leases do not exist nothing can be proved.
            Err(_) => {}
        }
        self.batch.unfinished.insert(path.to_vec());
        self.write_journal()?;
        fs::ftruncate(&file, node.size).map_err(failed)
    }

    fn read_journal(&mut self) {
        if std::mem::replace(&mut self.batch.journal_read, true) {
            return;
        }
        let Some(spot) = self.target.as_ref().and_then(|target| target.spot(JOURNAL.as_bytes()).ok()) else { return };
        let Ok(file) = spot.open(OFlags::RDONLY) else { return };
        let mut text = Vec::new();
        let read = std::io::Read::read_to_end(&mut std::io::Read::take(File::from(file), 16 << 20), &mut text);
        if read.is_ok() {
            let paths = text.split(|byte| *byte == 0).filter(|path| !path.is_empty());
            self.batch.unfinished.extend(paths.map(<[u8]>::to_vec));
        }
    }

    /// Paths behind each other, a zero after each. Gone when nothing is unfinished.
    fn write_journal(&mut self) -> Result<()> {
        let Some(target) = &self.target else { return Ok(()) };
        let failed = |error: Errno| Error::io("write", JOURNAL, error);
        let spot = target.spot(JOURNAL.as_bytes()).map_err(failed)?;
        if self.batch.unfinished.is_empty() {
            return match spot.unlink() {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(error) => Err(failed(error)),
            };
        }
        let text: Vec<u8> = self.batch.unfinished.iter().flat_map(|path| [path, &[0][..]].concat()).collect();
        let new = target.spot(b".kobj-restore-unfinished-new").map_err(failed)?;
        let file = File::from(new.open(OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC).map_err(failed)?);
        file.write_all_at(&text, 0)
            .and_then(|()| file.sync_all())
            .map_err(|error| Error::io("write", JOURNAL, error))?;
        fs::renameat(&new.folder, new.name, &spot.folder, spot.name).map_err(failed)?;
        fs::fsync(target.root()).map_err(failed)
    }

    /// Fetches what was planned, and gives the files that are whole their names.
    pub(super) fn finish_batch(&mut self) -> Result<()> {
        let files = std::mem::take(&mut self.batch.files);
        let mut uses = std::mem::take(&mut self.batch.uses);
        self.batch.linked.clear();
        uses.sort_unstable();
        let fetched = self.fetch_into(&files, &uses);
        let journal = !self.batch.unfinished.is_empty();
        for file in files {
            if let (Err(_), Some(temporary)) = (&fetched, &file.temporary) {
                self.remove(temporary);
                continue;
            }
            if fetched.is_ok() {
                self.finish_file(&file)?;
            }
        }
        if journal {
            self.write_journal()?;
        }
        fetched
    }

    fn fetch_into(&mut self, files: &[FileJob], uses: &[Use]) -> Result<()> {
        let Some(target) = &self.target else { return Ok(()) };
        let mut reads: Vec<PackRead> = Vec::new();
        let mut numbers: Vec<u32> = Vec::new();
        for (at, one) in uses.iter().enumerate() {
            let before = at.checked_sub(1).map(|at| &uses[at]);
            if before.is_some_and(|before| (before.pack, before.offset) == (one.pack, one.offset)) {
                continue;
            }
            let (_, blob) = self.index.pack_of_entry(one.entry)?;
            if numbers.last() != Some(&one.pack) {
                numbers.push(one.pack);
                let pack = self.index.pack(u64::from(one.pack))?.id;
                reads.push(PackRead { pack, blobs: Vec::new() });
            }
            if let Some(read) = reads.last_mut() {
                read.blobs.push(blob);
            }
        }
        let open = OpenFiles { target, files, open: Mutex::new(HashMap::new()) };
        let bytes = std::sync::atomic::AtomicU64::new(0);
        let each = |read: usize, blob: usize, plain: Result<Vec<u8>>| {
            let key = (numbers[read], reads[read].blobs[blob].offset);
            let first = uses.partition_point(|one| (one.pack, one.offset) < key);
            for one in uses[first..].iter().take_while(|one| (one.pack, one.offset) == key) {
                let job = &files[one.file as usize];
                let written = match &plain {
                    Ok(plain) => open.write(one.file, one.at, plain),
                    Err(error) => Err(Error::damaged(String::from_utf8_lossy(&job.path), error)),
                };
                match written {
                    Ok(()) => {}
                    Err(error) if ends_all(&error) => return Err(error),
                    Err(error) => drop(job.lost.set(error.to_string())),
                }
            }
            // Relaxed: a sum, read when all threads have ended.
            bytes.fetch_add(plain.map_or(0, |plain| plain.len() as u64), std::sync::atomic::Ordering::Relaxed);
            Ok(())
        };
        let done = fetch(self.repository, self.index, &reads, &each);
        self.report.bytes_fetched += bytes.into_inner();
        done
    }

    fn finish_file(&mut self, file: &FileJob) -> Result<()> {
        if let Some(why) = file.lost.get() {
            if let Some(temporary) = &file.temporary {
                self.remove(temporary);
            }
            let state = if file.temporary.is_some() { "not restored" } else { "half written, and in the journal" };
            self.problem(&file.path, &format!("{state}: {why}"));
            for link in &file.links {
                self.problem(link, &format!("not restored: {why}"));
            }
            return Ok(());
        }
        if let Err(error) = self.name_file(file) {
            if ends_all(&error) {
                return Err(error);
            }
            self.problem(&file.path, &error.to_string());
            return Ok(());
        }
        self.report.bytes += file.node.size;
        self.restored(&file.path, &file.node);
        (self.callbacks.event)(&Event::Bytes(file.node.size));
        for link in &file.links {
            if let Err(error) = self.make_link(&file.path, link) {
                self.problem(link, &error.to_string());
            }
        }
        Ok(())
    }

    /// Metadata first: a file that has its name has everything.
    fn name_file(&mut self, file: &FileJob) -> Result<()> {
        let Some(target) = &self.target else { return Ok(()) };
        let failed = |error| io("write", &file.path, error);
        let mut failures = Vec::new();
        let spot = target.spot(&file.path).map_err(failed)?;
        match &file.temporary {
            Some(temporary) => {
                let built = target.spot(temporary).map_err(failed)?;
                metadata::apply(&built, &file.node, &mut |what| failures.push(what));
                fs::renameat(&built.folder, built.name, &spot.folder, spot.name).map_err(failed)?;
            }
            None => {
                let open = spot.open(OFlags::RDWR).map_err(failed)?;
                fs::fsync(&open).map_err(failed)?;
                metadata::apply(&spot, &file.node, &mut |what| failures.push(what));
                self.batch.unfinished.remove(&file.path);
            }
        }
        failures.iter().for_each(|what| self.problem(&file.path, what));
        Ok(())
    }

    fn remove(&self, path: &[u8]) {
        if let Some(Ok(spot)) = self.target.as_ref().map(|target| target.spot(path)) {
            // A stray file with a telling name is all that is left if this fails.
            let _ = spot.unlink();
        }
    }

    /// Reads all files back and compares each blob's digest.
    pub(super) fn verify(&mut self, tree: &Id) -> Result<()> {
        let (repository, index) = (self.repository, self.index);
        walk(repository, index, tree, &mut |step| {
            let Step::Entry(path, node) = step else { return Ok(Descend::Over) };
            let is_folder = node.kind == NodeKind::Folder;
            let selected = (self.callbacks.select)(path, is_folder);
            if is_folder {
                return Ok(if selected.descend || selected.restore { Descend::Into } else { Descend::Over });
            }
            if node.kind == NodeKind::File && selected.restore && !self.batch.left_alone.contains(path) {
                let spot = self.target.as_ref().and_then(|target| target.spot(path).ok());
                let file = spot.and_then(|spot| spot.open(OFlags::RDONLY).ok()).map(File::from);
                let whole = file.as_ref().is_some_and(|file| {
                    let size = file.metadata().is_ok_and(|found| found.is_file() && found.len() == node.size);
                    size && self
                        .pieces(path, node, Some(file))
                        .is_ok_and(|pieces| pieces.iter().all(|piece| piece.same))
                });
                if !whole {
                    self.problem(path, "read back, it is not what the snapshot has");
                }
            }
            Ok(Descend::Over)
        })
    }
}

/// Whether a file has this blob's bytes at this place.
fn has(file: &File, at: u64, blob: &PackedBlob, buffer: &mut Vec<u8>) -> bool {
    if blob.plain_length() > BLOB_MOST_BYTES {
        return false;
    }
    buffer.resize(blob.plain_length() as usize, 0);
    file.read_exact_at(buffer, at).is_ok() && Id::of(buffer) == blob.id
}

/// Makes a file of the right size under a temporary name, with what the existing one has already.
fn build(path: &[u8], node: &Node, spot: &Spot<'_>, pieces: &[Piece], old: Option<&File>) -> Result<Vec<u8>> {
    let failed = |error| io("create", path, error);
    let mut random = [0; 8];
    crate::crypto::random(&mut random)?;
    let name = format!(".kobj-restore-{:016x}", u64::from_le_bytes(random)).into_bytes();
    let (above, _) = place::split(path);
    let temporary = if above.is_empty() { name.clone() } else { [above, b"/", &name].concat() };
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let file = File::from(fs::openat(&spot.folder, &name[..], flags, mode).map_err(failed)?);
    fs::ftruncate(&file, node.size).map_err(failed)?;
    let mut buffer = Vec::new();
    for piece in pieces.iter().filter(|piece| piece.same) {
        buffer.resize(piece.blob.plain_length() as usize, 0);
        let copied = old.map_or(Ok(()), |old| old.read_exact_at(&mut buffer, piece.at));
        copied
            .and_then(|()| write_sparse(&file, piece.at, &buffer))
            .map_err(|error| Error::io("copy", String::from_utf8_lossy(path), error))?;
        // What was compared may have changed since: what is written is compared, not what was read.
        if Id::of(&buffer) != piece.blob.id {
            let why = "the file that was there changed while it was read; run again";
            return Err(Error::refused(String::from_utf8_lossy(path), why));
        }
    }
    Ok(temporary)
}

/// Files being written, a few of them open.
struct OpenFiles<'a> {
    target: &'a Target,
    files: &'a [FileJob],
    open: Mutex<HashMap<u32, Arc<File>>>,
}

impl OpenFiles<'_> {
    fn write(&self, number: u32, at: u64, bytes: &[u8]) -> Result<()> {
        let job = &self.files[number as usize];
        if job.lost.get().is_some() {
            return Ok(());
        }
        let file = self.file(number, job).map_err(|error| io("open", &job.path, error))?;
        let written = match job.temporary {
            Some(_) => write_sparse(&file, at, bytes),
            None => write_changed(&file, at, bytes),
        };
        written.map_err(|error| Error::io("write", String::from_utf8_lossy(&job.path), error))
    }

    fn file(&self, number: u32, job: &FileJob) -> std::result::Result<Arc<File>, Errno> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&number) {
            return Ok(Arc::clone(file));
        }
        if open.len() >= OPEN_FILES {
            open.clear();
        }
        let spot = self.target.spot(job.temporary.as_ref().unwrap_or(&job.path))?;
        let file = Arc::new(File::from(spot.open(OFlags::RDWR)?));
        open.insert(number, Arc::clone(&file));
        Ok(file)
    }
}

/// Runs of blocks, aligned in the file, that `differ` from what the file has: (start, end) in `bytes`.
fn runs(at: u64, bytes: &[u8], mut differ: impl FnMut(usize, usize) -> bool) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let ahead = BLOCK - ((at + start as u64) % BLOCK as u64) as usize;
        let end = bytes.len().min(start + ahead);
        if differ(start, end) {
            match runs.last_mut() {
                Some(run) if run.1 == start => run.1 = end,
                _ => runs.push((start, end)),
            }
        }
        start = end;
    }
    runs
}

fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<16>();
    chunks.iter().all(|chunk| u128::from_ne_bytes(*chunk) == 0) && rest.iter().all(|byte| *byte == 0)
}

/// Writes into a file that is all hole there.
fn write_sparse(file: &File, at: u64, bytes: &[u8]) -> std::io::Result<()> {
    for (start, end) in runs(at, bytes, |start, end| !is_zero(&bytes[start..end])) {
        file.write_all_at(&bytes[start..end], at + start as u64)?;
    }
    Ok(())
}

/// Writes the blocks that differ from what the file has; long zeros become holes.
fn write_changed(file: &File, at: u64, bytes: &[u8]) -> std::io::Result<()> {
    let mut old = vec![0; bytes.len()];
    file.read_exact_at(&mut old, at)?;
    for (start, end) in runs(at, bytes, |start, end| old[start..end] != bytes[start..end]) {
        let (place, length) = (at + start as u64, end - start);
        if length >= BLOCK && is_zero(&bytes[start..end]) {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            if fs::fallocate(file, flags, place, length as u64).is_ok() {
                continue;
            }
        }
        file.write_all_at(&bytes[start..end], place)?;
    }
    Ok(())
}

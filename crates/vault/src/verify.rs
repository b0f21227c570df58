//! Proving that a vault is whole, and saying what it costs where it is not: which files of which snapshots.
//!
//! From indexes and trees alone: each index file is what its name says, each pack that an index names is there and as long
//! as the index makes it, each snapshot's trees are whole, and each blob that they name is in an index. With the data
//! read: each pack has the bytes of its name, its header says what the index says, and each blob in it is the one that
//! it is called.

use crate::error::{Error, Result};
use crate::fetch::threads;
use crate::id::Id;
use crate::index::{Index, Location, PackSummary};
use crate::pack::{self, BlobKind};
use crate::reach::{Gap, Marks, reach};
use crate::repository::Repository;
use crate::snapshots::{Filter, Stored, load_all};
use crate::storage::{FileKind, Name};
use crate::tree::NodeKind;
use crate::walk::{Descend, Step, walk};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Largest pack that is read whole. restic makes none above 128 MiB and a blob.
const PACK_MOST_BYTES: u64 = 512 << 20;

/// Which packs are read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ReadData {
    /// None.
    #[default]
    Nothing,
    /// All.
    All,
    /// Those of part `part` (from 1) of `parts`: all parts together are all packs.
    Part {
        /// Which part.
        part: u8,
        /// How many there are.
        parts: u8,
    },
    /// So many of a hundred, chosen at random.
    Percent(f64),
    /// About so many bytes, chosen at random.
    Bytes(u64),
}

impl ReadData {
    /// Reads what `--read-data-subset` takes: `n/t`, `x%`, or a size with K, M, G, T.
    ///
    /// # Errors
    /// [`Error::Refused`] for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let why = "give n/t with 1 <= n <= t <= 255, a percentage such as 2.5%, or a size such as 50M";
        let bad = || Error::refused(format_args!("--read-data-subset {text}"), why);
        if let Some((part, parts)) = text.split_once('/') {
            let (part, parts) = part.parse().ok().zip(parts.parse().ok()).ok_or_else(bad)?;
            return if 0 < part && part <= parts { Ok(Self::Part { part, parts }) } else { Err(bad()) };
        }
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.parse().map_err(|_| bad())?;
            return if percent > 0.0 && percent <= 100.0 { Ok(Self::Percent(percent)) } else { Err(bad()) };
        }
        let (digits, shift) = match text.chars().last() {
            Some('k' | 'K') => (&text[..text.len() - 1], 10),
            Some('m' | 'M') => (&text[..text.len() - 1], 20),
            Some('g' | 'G') => (&text[..text.len() - 1], 30),
            Some('t' | 'T') => (&text[..text.len() - 1], 40),
            _ => (text, 0),
        };
        let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
        bytes.filter(|bytes| *bytes > 0).map(Self::Bytes).ok_or_else(bad)
    }
}

/// What a verification found.
#[derive(Debug)]
pub enum Finding {
    /// Something is wrong.
    Damage {
        /// The file, blob or tree.
        object: String,
        /// What is wrong with it.
        what: String,
    },
    /// Nothing is lost, but a prune has something to do.
    Note {
        /// The file.
        object: String,
        /// What about it.
        what: String,
    },
    /// What damage costs: this path of this snapshot cannot be restored wholly.
    Cost {
        /// The snapshot.
        snapshot: Id,
        /// The path in it; empty for all of it.
        path: Vec<u8>,
    },
}

impl Finding {
    fn damage(object: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self::Damage { object: object.to_string(), what: what.to_string() }
    }
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Snapshots whose trees were read.
    pub snapshots: u64,
    /// Packs in the index.
    pub packs: u64,
    /// Blobs that snapshots need.
    pub blobs_needed: u64,
    /// Packs that were read whole.
    pub packs_read: u64,
    /// Bytes of them.
    pub bytes_read: u64,
    /// Damages found.
    pub damages: u64,
    /// Paths of snapshots that they cost.
    pub costs: u64,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.damages == 0
    }
}

struct Run<'a> {
    repository: &'a Repository,
    index: Index,
    finding: &'a mut dyn FnMut(Finding),
    report: Report,
    /// Entries of blobs that cannot be read.
    bad: Marks,
    /// Packs that are damaged somewhere: of what they hold each blob is tried when a snapshot needs it.
    lost: Vec<Id>,
}

/// Verifies a vault. Damage is handed to `finding`, then what it costs.
///
/// # Errors
/// Those of the storage as a whole and of temporary files; damage is none.
pub fn verify(repository: &Repository, data: ReadData, finding: &mut dyn FnMut(Finding)) -> Result<Report> {
    let mut report = Report::default();
    let index = Index::load_readable(repository, &mut |id, error| {
        report.damages += 1;
        finding(Finding::damage(Name::new(FileKind::Index, *id), error));
    })?;
    let bad = Marks::none(&index);
    let mut run = Run { repository, index, finding, report, bad, lost: Vec::new() };
    let sizes = run.packs()?;
    let snapshots = run.snapshots()?;
    run.trees(&snapshots)?;
    run.data(data, &sizes)?;
    if !run.report.is_whole() {
        run.costs(&snapshots)?;
    }
    Ok(run.report)
}

impl Run<'_> {
    fn damage(&mut self, object: impl fmt::Display, what: impl fmt::Display) {
        self.report.damages += 1;
        (self.finding)(Finding::damage(object, what));
    }

    /// Each pack of the index is there and as long as the index makes it.
    fn packs(&mut self) -> Result<HashMap<Id, u64>> {
        let mut sizes = HashMap::new();
        self.repository.storage().list(FileKind::Pack, &mut |file| {
            sizes.insert(file.id, file.size_bytes);
            Ok(())
        })?;
        let mut named = std::collections::HashSet::new();
        self.report.packs = self.index.packs();
        for number in 0..self.index.packs() {
            let PackSummary { id, size_bytes, .. } = self.index.pack(number)?;
            let name = Name::new(FileKind::Pack, id);
            if !named.insert(id) {
                continue;
            }
            match sizes.get(&id) {
                None => {
                    self.damage(name, "an index names it, and it is not there");
                    self.lost.push(id);
                }
                Some(found) if *found != size_bytes => {
                    self.damage(name, format_args!("it has {found} bytes; by the index it has {size_bytes}"));
                    self.lost.push(id);
                }
                Some(_) => {}
            }
        }
        for id in sizes.keys().filter(|id| !named.contains(id)) {
            let what = "no index names it: an interrupted backup left it, or a running one has it; prune removes it";
            (self.finding)(Finding::Note {
                object: Name::new(FileKind::Pack, *id).to_string(),
                what: what.to_string(),
            });
        }
        Ok(sizes)
    }

    fn snapshots(&mut self) -> Result<Vec<Stored>> {
        let all = load_all(self.repository, &Filter::default())?;
        for (id, error) in all.damaged {
            self.damage(Name::new(FileKind::Snapshot, id), error);
            self.cost(&id, &[]);
        }
        self.report.snapshots = all.snapshots.len() as u64;
        Ok(all.snapshots)
    }

    fn trees(&mut self, snapshots: &[Stored]) -> Result<()> {
        let mut gaps = Vec::new();
        let roots = snapshots.iter().map(|stored| stored.snapshot.tree);
        let needed = reach(self.repository, &self.index, roots, &mut |gap| gaps.push(gap))?;
        self.report.blobs_needed = needed.count();
        for gap in gaps {
            match gap {
                Gap::Unknown(kind, id) => self.damage(format_args!("{kind} blob {id}"), "it is in no index"),
                Gap::Tree(id, error) => {
                    self.damage(format_args!("tree {id}"), error);
                    if let Some(entry) = self.index.number(BlobKind::Tree, &id)? {
                        self.bad.mark(entry);
                    }
                }
                Gap::Size(tree, name, why) => {
                    self.damage(format_args!("{} in tree {tree}", String::from_utf8_lossy(&name)), why);
                }
            }
        }
        Ok(())
    }

    /// Reads the chosen packs, several at a time.
    fn data(&mut self, data: ReadData, sizes: &HashMap<Id, u64>) -> Result<()> {
        let packs = self.chosen(data, sizes)?;
        let next = AtomicUsize::new(0);
        let found = Mutex::new(Vec::new());
        let (repository, index) = (self.repository, &self.index);
        let work = || {
            // Relaxed: each number is taken once, whatever the order.
            while let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let proof = prove_pack(repository, index, pack, sizes.get(&pack.id).copied().unwrap_or(0));
                if !matches!(&proof, Ok(bad) if bad.is_empty()) {
                    found.lock().unwrap_or_else(PoisonError::into_inner).push((pack.id, proof));
                }
            }
        };
        std::thread::scope(|scope| {
            (1..threads().min(packs.len())).for_each(|_| drop(scope.spawn(work)));
            work();
        });
        self.report.packs_read = packs.len() as u64;
        self.report.bytes_read = packs.iter().filter_map(|pack| sizes.get(&pack.id)).sum();
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.sort_unstable_by_key(|(pack, _)| *pack);
        for (pack, proof) in found {
            match proof {
                Ok(bad) => {
                    bad.iter().for_each(|bad| self.damage(&bad.0, &bad.1));
                    self.lost.push(pack);
                }
                Err(error) => {
                    self.damage(Name::new(FileKind::Pack, pack), error);
                    self.lost.push(pack);
                }
            }
        }
        Ok(())
    }

    fn chosen(&self, data: ReadData, sizes: &HashMap<Id, u64>) -> Result<Vec<PackSummary>> {
        let mut packs = Vec::new();
        if data == ReadData::Nothing {
            return Ok(packs);
        }
        for number in 0..self.index.packs() {
            let pack = self.index.pack(number)?;
            if sizes.contains_key(&pack.id) {
                packs.push(pack);
            }
        }
        packs.sort_unstable_by_key(|pack| pack.id);
        packs.dedup_by_key(|pack| pack.id);
        match data {
            ReadData::Nothing | ReadData::All => {}
            // As restic divides them, so that its parts and ours are the same.
            ReadData::Part { part, parts } => packs.retain(|pack| pack.id.as_bytes()[0] % parts == part - 1),
            ReadData::Percent(percent) => {
                let most = (packs.len() as f64 * percent / 100.0).ceil() as usize;
                shuffle(&mut packs)?;
                packs.truncate(most.max(1));
            }
            ReadData::Bytes(most) => {
                shuffle(&mut packs)?;
                let mut sum = 0_u64;
                packs.retain(|pack| {
                    let fits = sum == 0 || sum.saturating_add(pack.size_bytes) <= most;
                    sum = sum.saturating_add(if fits { pack.size_bytes } else { 0 });
                    fits
                });
            }
        }
        Ok(packs)
    }

    fn cost(&mut self, snapshot: &Id, path: &[u8]) {
        self.report.costs += 1;
        (self.finding)(Finding::Cost { snapshot: *snapshot, path: path.to_vec() });
    }

    /// Whether a blob can be read from none of its places, or is in no index.
    fn is_lost(&self, kind: BlobKind, id: &Id) -> Result<bool> {
        let Some(first) = self.index.number(kind, id)? else { return Ok(true) };
        if self.bad.is_marked(first) {
            return Ok(true);
        }
        if self.lost.is_empty() {
            return Ok(false);
        }
        let places: Vec<Location> = self.index.lookup_all(kind, id)?;
        if places.iter().any(|place| self.lost.binary_search(&place.pack).is_err()) {
            return Ok(false);
        }
        let is_lost = self.repository.load_blob(&self.index, kind, id).is_err();
        if is_lost {
            self.bad.mark(first);
        }
        Ok(is_lost)
    }

    /// Which paths of which snapshots cannot be restored. A folder that was found whole is not gone into again.
    fn costs(&mut self, snapshots: &[Stored]) -> Result<()> {
        self.lost.sort_unstable();
        self.lost.dedup();
        let (repository, whole) = (self.repository, Marks::none(&self.index));
        for stored in snapshots {
            if self.is_lost(BlobKind::Tree, &stored.snapshot.tree)? {
                self.cost(&stored.id, &[]);
                continue;
            }
            let mut paths = Vec::new();
            // How many paths were lost when each open folder was entered.
            let mut before = Vec::new();
            walk(repository, &self.index, &stored.snapshot.tree, &mut |step| {
                match step {
                    Step::Entry(path, node) if node.kind == NodeKind::Folder => {
                        let entry =
                            node.subtree.map(|id| self.index.number(BlobKind::Tree, &id)).transpose()?.flatten();
                        if entry.is_some_and(|entry| whole.is_marked(entry)) {
                            return Ok(Descend::Over);
                        }
                        let lost = node.subtree.map_or(Ok(true), |id| self.is_lost(BlobKind::Tree, &id))?;
                        if lost {
                            paths.push(path.to_vec());
                            return Ok(Descend::Over);
                        }
                        before.push(paths.len());
                        return Ok(Descend::Into);
                    }
                    Step::Entry(path, node) => {
                        let mut content = node.content.iter().flatten();
                        let lost = content
                            .try_fold(false, |lost, id| Ok::<_, Error>(lost || self.is_lost(BlobKind::Data, id)?))?;
                        if lost {
                            paths.push(path.to_vec());
                        }
                    }
                    Step::Leave(_, node) => {
                        let unchanged = before.pop() == Some(paths.len());
                        if let Some(id) = node.subtree.filter(|_| unchanged) {
                            self.index.number(BlobKind::Tree, &id)?.map(|entry| whole.mark(entry));
                        }
                    }
                    Step::Lost(path, _) => {
                        before.pop();
                        paths.push(path.to_vec());
                    }
                }
                Ok(Descend::Over)
            })?;
            paths.iter().for_each(|path| self.cost(&stored.id, path));
        }
        Ok(())
    }
}

fn shuffle(packs: &mut [PackSummary]) -> Result<()> {
    for at in (1..packs.len()).rev() {
        let mut random = [0; 8];
        crate::crypto::random(&mut random)?;
        packs.swap(at, (u64::from_le_bytes(random) % (at as u64 + 1)) as usize);
    }
    Ok(())
}

/// What is wrong with single blobs of a pack.
type BadBlobs = Vec<(String, Error)>;

/// Reads a pack wholly.
fn prove_pack(repository: &Repository, index: &Index, pack: &PackSummary, size_bytes: u64) -> Result<BadBlobs> {
    let name = Name::new(FileKind::Pack, pack.id);
    if size_bytes > PACK_MOST_BYTES {
        return Err(Error::damaged(name, "it has more than 512 MiB; no program makes such packs"));
    }
    let mut bytes = repository.storage().read_whole(&name, PACK_MOST_BYTES)?;
    if Id::of(&bytes) != pack.id {
        return Err(Error::damaged(name, "its bytes are not those that it was named after"));
    }
    let blobs = pack::header_in(repository.key(), &pack.id, &bytes)?;
    if blobs.len() as u64 != u64::from(pack.blobs) {
        let why = format!("its header names {} blobs, the index {}", blobs.len(), pack.blobs);
        return Err(Error::damaged(name, why));
    }
    let mut bad = Vec::new();
    for blob in blobs {
        let object = || format!("{} blob {} in pack {}", blob.kind, blob.id, pack.id);
        if !index.lookup_all(blob.kind, &blob.id)?.contains(&Location { pack: pack.id, blob }) {
            bad.push((
                object(),
                Error::damaged("the index", "it does not say the same of the blob as the pack's header"),
            ));
        }
        let sealed = usize::try_from(blob.end()).ok().and_then(|end| bytes.get_mut(blob.offset as usize..end));
        let opened = sealed.map(|sealed| repository.open_blob(&pack.id, &blob, sealed));
        match opened {
            Some(Ok(_)) => {}
            Some(Err(error)) => bad.push((object(), error)),
            None => bad.push((object(), Error::damaged("the pack", "it ends before the blob does"))),
        }
    }
    Ok(bad)
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;

//! How much of each pack is needed, and from which pack each needed blob is taken.
//!
//! Memory: two bits for each entry of the index, and a record of some hundred bytes for each pack.

use super::plan::{PackKind, PackUse};
use crate::config::Version;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::Index;
use crate::pack::{BlobKind, PackedBlob};
use crate::reach::{Gap, Marks, reach};
use crate::repository::Repository;
use crate::snapshots::{Filter, load_all};
use crate::storage::{FileKind, Name};

/// What a vault holds and what of it is needed.
#[derive(Debug)]
pub struct Survey<'a> {
    pub(super) repository: &'a Repository,
    pub(super) index: &'a Index,
    /// Those of the index first, sorted by id; then those that only the storage has.
    packs: Vec<PackUse>,
    /// How many of them are in the index.
    indexed: usize,
    /// Where in `packs` the index's pack of each number is: two index files may name one pack.
    positions: Vec<u32>,
    /// Entries from whose places needed blobs are taken: one for each blob.
    pub(super) taken: Marks,
}

/// Looks at a vault. The caller holds an exclusive lock since before the index was loaded.
///
/// # Errors
/// [`Error::Damaged`] when something that a snapshot needs is missing or cannot be read: then it cannot be known what is
/// needed, and nothing may be removed. [`Error::Refused`] when the index is not the vault's any more; those of the storage.
pub fn survey<'a>(repository: &'a Repository, index: &'a Index) -> Result<Survey<'a>> {
    let listed = repository.storage().list_all(FileKind::Index)?;
    if !listed.iter().map(|file| &file.id).eq(index.files()) {
        return Err(Error::refused(
            "prune",
            "the index files changed meanwhile, so somebody ignores our lock; run again",
        ));
    }
    let needed = needed(repository, index)?;
    let (packs, positions) = indexed_packs(index)?;
    let indexed = packs.len();
    let mut survey = Survey { repository, index, packs, indexed, positions, taken: Marks::none(index) };
    survey.list_stored()?;
    let has_several = survey.count(&needed)?;
    if has_several {
        survey.choose(&needed)?;
    }
    if survey.taken.count() != needed.count() {
        let why = "not every needed blob has a place in it; nothing was pruned, run again with --no-cache";
        return Err(Error::refused("the sorted index", why));
    }
    Ok(survey)
}

/// What the snapshots need, all of it found.
fn needed(repository: &Repository, index: &Index) -> Result<Marks> {
    let listed = repository.storage().list_all(FileKind::Snapshot)?;
    let all = load_all(repository, &Filter::default())?;
    if let Some((id, error)) = all.damaged.first() {
        let why =
            format!("{error}. What it needs cannot be known, so nothing was pruned: mend it or forget it by name");
        return Err(Error::damaged(Name::new(FileKind::Snapshot, *id), why));
    }
    if all.snapshots.len() != listed.len() {
        let why = "a snapshot went while the others were read, so somebody ignores our lock; nothing was pruned";
        return Err(Error::refused("prune", why));
    }
    let (mut gaps, mut first) = (0_u64, None);
    let roots = all.snapshots.iter().map(|stored| stored.snapshot.tree);
    let needed = reach(repository, index, roots, &mut |gap| {
        gaps += 1;
        first.get_or_insert_with(|| match gap {
            Gap::Unknown(kind, id) => format!("{kind} blob {id} is in no index"),
            Gap::Tree(id, error) => format!("tree {id}: {error}"),
            Gap::Size(tree, name, why) => format!("{} in tree {tree}: {why}", String::from_utf8_lossy(&name)),
        });
    })?;
    match first {
        None => Ok(needed),
        Some(first) => {
            let why =
                format!("snapshots need what it does not have ({gaps} in all), so nothing was pruned. First: {first}");
            Err(Error::damaged("the vault", why))
        }
    }
}

/// A record for each pack of the index, sorted by id, and where the pack of each number is among them.
fn indexed_packs(index: &Index) -> Result<(Vec<PackUse>, Vec<u32>)> {
    let too_many = |_| Error::unsupported("the index", "it names more than 4 billion packs");
    let count = u32::try_from(index.packs()).map_err(too_many)?;
    let mut ids = (0..count).map(|number| Ok((index.pack(number.into())?.id, number))).collect::<Result<Vec<_>>>()?;
    ids.sort_unstable();
    let mut packs: Vec<PackUse> = Vec::new();
    let mut positions = vec![0; ids.len()];
    for (id, number) in ids {
        if packs.last().is_none_or(|last| last.id != id) {
            packs.push(unused(id));
        }
        positions[number as usize] = u32::try_from(packs.len() - 1).map_err(too_many)?;
    }
    for (number, position) in (0_u64..).zip(&positions) {
        let (pack, found) = (&mut packs[*position as usize], index.pack(number)?);
        if *pack.indexed_bytes.get_or_insert(found.size_bytes) != found.size_bytes {
            let why =
                "two index files name different blobs of it; nothing was pruned. `restic repair index` mends that";
            return Err(Error::damaged(Name::new(FileKind::Pack, found.id), why));
        }
    }
    Ok((packs, positions))
}

fn unused(id: Id) -> PackUse {
    PackUse {
        id,
        kind: PackKind::Data,
        indexed_bytes: None,
        stored_bytes: None,
        used_blobs: 0,
        used_bytes: 0,
        unused_blobs: 0,
        unused_bytes: 0,
        is_uncompressed: false,
    }
}

/// One place of a blob.
#[derive(Clone, Copy)]
struct Place {
    entry: u64,
    position: u32,
    blob: PackedBlob,
}

impl<'a> Survey<'a> {
    /// How much of each pack is needed, for a plan.
    #[must_use]
    pub fn packs(&self) -> &[PackUse] {
        &self.packs
    }

    /// Where in `packs` a pack of the index is.
    pub(super) fn position_of(&self, id: &Id) -> Option<usize> {
        self.packs[..self.indexed].binary_search_by(|pack| pack.id.cmp(id)).ok()
    }

    /// Where in `packs` the pack of an entry is, and its place in it.
    pub(super) fn place_of(&self, entry: u64) -> Result<(u32, PackedBlob)> {
        let (number, blob) = self.index.pack_of_entry(entry)?;
        let none = || Error::refused("the sorted index", "it names a pack that it does not have; use --no-cache");
        Ok((*self.positions.get(number as usize).ok_or_else(none)?, blob))
    }

    fn list_stored(&mut self) -> Result<()> {
        let (indexed, strays) = (self.indexed, &mut Vec::new());
        let packs = &mut self.packs[..indexed];
        self.repository.storage().list(FileKind::Pack, &mut |file| {
            match packs.binary_search_by(|pack| pack.id.cmp(&file.id)) {
                Ok(at) => packs[at].stored_bytes = Some(file.size_bytes),
                Err(_) => strays.push(PackUse { stored_bytes: Some(file.size_bytes), ..unused(file.id) }),
            }
            Ok(())
        })?;
        self.packs.append(strays);
        Ok(())
    }

    /// Adds up what each pack holds, and takes the needed blobs that are in one place only. Whether others are in several.
    fn count(&mut self, needed: &Marks) -> Result<bool> {
        let compresses = self.repository.config().version >= Version::Two;
        let mut has_several = false;
        let (mut groups, mut places) = (Groups::new(), Vec::new());
        while let Some(first) = groups.next(self, &mut places)? {
            for place in &places {
                let pack = &mut self.packs[place.position as usize];
                let kind = match place.blob.kind {
                    BlobKind::Data => PackKind::Data,
                    BlobKind::Tree => PackKind::Trees,
                };
                pack.kind =
                    if pack.unused_blobs + pack.used_blobs == 0 || pack.kind == kind { kind } else { PackKind::Mixed };
                pack.unused_blobs += 1;
                pack.unused_bytes += u64::from(place.blob.length);
                pack.is_uncompressed |= compresses && place.blob.uncompressed_length.is_none();
            }
            if needed.is_marked(first) {
                match places.as_slice() {
                    [place] => self.take(*place),
                    _ => has_several = true,
                }
            }
        }
        Ok(has_several)
    }

    /// Of a needed blob in several places takes one: in a pack that is there, and that stays anyway.
    fn choose(&mut self, needed: &Marks) -> Result<()> {
        let (mut groups, mut places) = (Groups::new(), Vec::new());
        while let Some(first) = groups.next(self, &mut places)? {
            if places.len() < 2 || !needed.is_marked(first) {
                continue;
            }
            let best = places.iter().max_by_key(|place| {
                let pack = &self.packs[place.position as usize];
                let is_whole = pack.stored_bytes.is_some() && pack.stored_bytes == pack.indexed_bytes;
                let is_there = pack.stored_bytes.is_some();
                (is_whole, is_there, pack.kind != PackKind::Mixed, pack.used_bytes, place.position)
            });
            if let Some(best) = best.copied() {
                self.take(best);
            }
        }
        Ok(())
    }

    fn take(&mut self, place: Place) {
        self.taken.mark(place.entry);
        let pack = &mut self.packs[place.position as usize];
        pack.unused_blobs -= 1;
        pack.unused_bytes -= u64::from(place.blob.length);
        pack.used_blobs += 1;
        pack.used_bytes += u64::from(place.blob.length);
    }
}

/// Goes through the entries, blob by blob.
struct Groups {
    next: u64,
    ahead: Option<Place>,
}

impl Groups {
    const fn new() -> Self {
        Self { next: 0, ahead: None }
    }

    /// Puts the places of the next blob into `places`, none twice; the answer is the number of its first entry.
    fn next(&mut self, survey: &Survey<'_>, places: &mut Vec<Place>) -> Result<Option<u64>> {
        places.clear();
        places.extend(self.ahead.take());
        while self.next < survey.index.entries() {
            let entry = self.next;
            self.next += 1;
            let (position, blob) = survey.place_of(entry)?;
            let place = Place { entry, position, blob };
            match places.first() {
                Some(first) if (first.blob.id, first.blob.kind) != (blob.id, blob.kind) => {
                    self.ahead = Some(place);
                    break;
                }
                // Named by two index files.
                _ if places.iter().any(|other| (other.position, other.blob.offset) == (position, blob.offset)) => {}
                _ => places.push(place),
            }
        }
        Ok(places.first().map(|place| place.entry))
    }
}

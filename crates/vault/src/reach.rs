//! Which blobs are needed: everything below some trees, found level by level, each tree read once, in the order of packs.

use crate::error::{Error, Result};
use crate::fetch::{PackRead, fetch};
use crate::id::Id;
use crate::index::Index;
use crate::pack::BlobKind;
use crate::repository::Repository;
use crate::tree::{NodeKind, Tree};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// A bit for each entry of an index. Of a blob in several places the first entry's counts.
#[derive(Debug)]
pub struct Marks(Vec<AtomicU64>);

impl Marks {
    /// None is marked.
    #[must_use]
    pub fn none(index: &Index) -> Self {
        let words = usize::try_from(index.entries().div_ceil(64)).unwrap_or(0);
        Self(std::iter::repeat_with(|| AtomicU64::new(0)).take(words).collect())
    }

    /// Marks an entry; whether it was not marked before.
    pub fn mark(&self, entry: u64) -> bool {
        let bit = 1 << (entry % 64);
        // Relaxed: a mark carries nothing but itself; whoever needs all of them joins the threads first.
        let word = usize::try_from(entry / 64).ok().and_then(|word| self.0.get(word));
        word.is_some_and(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
    }

    /// Whether an entry is marked.
    #[must_use]
    pub fn is_marked(&self, entry: u64) -> bool {
        // Relaxed: as above.
        let word = usize::try_from(entry / 64).ok().and_then(|word| self.0.get(word));
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (entry % 64) & 1 == 1)
    }

    /// How many are marked.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum()
    }
}

/// What is wrong below the trees.
#[derive(Debug)]
pub enum Gap {
    /// A blob that is needed is in no index.
    Unknown(BlobKind, Id),
    /// A tree cannot be read.
    Tree(Id, Error),
    /// A file's blobs do not make its size: the tree, the file's name, why.
    Size(Id, Vec<u8>, String),
}

/// Marks every blob that these trees need. `gap` hears of what is missing; where anything is, what is not marked may be
/// needed all the same, so nothing must be removed then.
///
/// # Errors
/// Those of the storage and of the sorted index.
pub fn reach(
    repository: &Repository,
    index: &Index,
    roots: impl Iterator<Item = Id>,
    gap: &mut dyn FnMut(Gap),
) -> Result<Marks> {
    let needed = Marks::none(index);
    let mut level: Vec<u64> = Vec::new();
    let mut unknown = std::collections::BTreeSet::new();
    for root in roots {
        match index.number(BlobKind::Tree, &root)? {
            Some(entry) if needed.mark(entry) => level.push(entry),
            Some(_) => {}
            None if unknown.insert(root) => gap(Gap::Unknown(BlobKind::Tree, root)),
            None => {}
        }
    }
    while !level.is_empty() {
        let next = Mutex::new(Vec::new());
        let gaps = Mutex::new(Vec::new());
        let reads = in_pack_order(index, &mut level)?;
        fetch(repository, index, &reads, &|read, blob, plain| {
            let id = reads[read].blobs[blob].id;
            let tree = plain.and_then(|plain| {
                Tree::decode(&plain).map_err(|error| Error::damaged(format_args!("tree {id}"), error))
            });
            let mut found = Found { index, needed: &needed, trees: Vec::new(), gaps: Vec::new() };
            match tree {
                Ok(tree) => found.tree(&id, &tree)?,
                Err(error @ Error::Io { .. }) => return Err(error),
                Err(error) => found.gaps.push(Gap::Tree(id, error)),
            }
            next.lock().unwrap_or_else(PoisonError::into_inner).append(&mut found.trees);
            gaps.lock().unwrap_or_else(PoisonError::into_inner).append(&mut found.gaps);
            Ok(())
        })?;
        gaps.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().for_each(&mut *gap);
        level = next.into_inner().unwrap_or_else(PoisonError::into_inner);
    }
    Ok(needed)
}

/// What one tree needs that nothing before it did.
struct Found<'a> {
    index: &'a Index,
    needed: &'a Marks,
    trees: Vec<u64>,
    gaps: Vec<Gap>,
}

impl Found<'_> {
    fn tree(&mut self, id: &Id, tree: &Tree) -> Result<()> {
        if !tree.is_sorted() || tree.nodes.iter().any(|node| !node.name.is_entry()) {
            let why = Error::damaged(format_args!("tree {id}"), "a name in it is none, stands twice or out of order");
            self.gaps.push(Gap::Tree(*id, why));
        }
        for node in &tree.nodes {
            let name = node.name.as_bytes();
            match (&node.kind, node.subtree) {
                (NodeKind::Folder, Some(subtree)) => match self.index.number(BlobKind::Tree, &subtree)? {
                    Some(entry) if self.needed.mark(entry) => self.trees.push(entry),
                    Some(_) => {}
                    None => self.gaps.push(Gap::Unknown(BlobKind::Tree, subtree)),
                },
                (NodeKind::Folder, None) => {
                    self.gaps.push(Gap::Size(*id, name.to_vec(), "the folder has no tree".to_string()));
                }
                _ => self.content(id, name, node.size, node.content.as_deref().unwrap_or(&[]))?,
            }
        }
        Ok(())
    }

    fn content(&mut self, tree: &Id, name: &[u8], size: u64, content: &[Id]) -> Result<()> {
        let (mut sum, mut whole) = (0_u64, true);
        let mut last: Option<(Id, u32)> = None;
        for id in content {
            let length = match last {
                Some((before, length)) if before == *id => Some(length),
                _ => match self.index.number(BlobKind::Data, id)? {
                    Some(entry) => {
                        self.needed.mark(entry);
                        Some(self.index.pack_of_entry(entry)?.1.plain_length())
                    }
                    None => None,
                },
            };
            match length {
                Some(length) => {
                    last = Some((*id, length));
                    sum = sum.saturating_add(u64::from(length));
                }
                None => {
                    whole = false;
                    self.gaps.push(Gap::Unknown(BlobKind::Data, *id));
                }
            }
        }
        if whole && !content.is_empty() && sum != size {
            let why = format!("its blobs have {sum} bytes, and the tree says {size}");
            self.gaps.push(Gap::Size(*tree, name.to_vec(), why));
        }
        Ok(())
    }
}

/// Reads for these entries, in the order in which packs hold them.
///
/// # Errors
/// Those of the sorted index.
pub fn in_pack_order(index: &Index, entries: &mut Vec<u64>) -> Result<Vec<PackRead>> {
    let mut places = Vec::with_capacity(entries.len());
    for entry in entries.drain(..) {
        let (pack, blob) = index.pack_of_entry(entry)?;
        places.push((pack, blob.offset, entry));
    }
    places.sort_unstable();
    places.dedup_by_key(|place| (place.0, place.1));
    let mut reads: Vec<PackRead> = Vec::new();
    let mut last = None;
    for (pack, _, entry) in places {
        if last != Some(pack) {
            last = Some(pack);
            reads.push(PackRead { pack: index.pack(u64::from(pack))?.id, blobs: Vec::new() });
        }
        let (_, blob) = index.pack_of_entry(entry)?;
        if let Some(read) = reads.last_mut() {
            read.blobs.push(blob);
        }
    }
    Ok(reads)
}

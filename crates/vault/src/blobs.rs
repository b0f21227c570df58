//! Blobs and trees out of a vault, each proved to be what it was asked for.

use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::{Index, Location};
use crate::pack::BlobKind;
use crate::repository::Repository;
use crate::storage::{FileKind, Name};
use crate::tree::{Node, NodeKind, Tree};

/// Largest blob that is believed. restic's are at most 8 MiB, trees of huge folders or files some hundred.
pub const BLOB_MOST_BYTES: u32 = 1 << 30;

impl Repository {
    /// Loads a blob from the first of its places where it is whole.
    ///
    /// # Errors
    /// [`Error::UnknownBlob`] when no index names it; else the error of its last place.
    pub fn load_blob(&self, index: &Index, kind: BlobKind, id: &Id) -> Result<Vec<u8>> {
        let mut last = Error::UnknownBlob { kind: kind.word(), id: *id };
        for place in index.lookup_all(kind, id)? {
            match self.load_from(&place) {
                Ok(plain) => return Ok(plain),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn load_from(&self, place: &Location) -> Result<Vec<u8>> {
        if place.blob.plain_length() > BLOB_MOST_BYTES || place.blob.length > BLOB_MOST_BYTES {
            let object = format!("{} blob {} in pack {}", place.blob.kind, place.blob.id, place.pack);
            return Err(Error::damaged(object, "the index says it has more than 1 GiB"));
        }
        let mut sealed = Vec::new();
        let range = u64::from(place.blob.offset)..place.blob.end();
        self.storage().read(&Name::new(FileKind::Pack, place.pack), range, &mut sealed)?;
        self.open_blob(&place.pack, &place.blob, &mut sealed)
    }

    /// Loads a tree. Names that no folder can hold, and names that stand twice or out of order, are refused.
    ///
    /// # Errors
    /// Those of [`Repository::load_blob`]; [`Error::Damaged`] for what is no tree.
    pub fn load_tree(&self, index: &Index, id: &Id) -> Result<Tree> {
        let bytes = self.load_blob(index, BlobKind::Tree, id)?;
        let damaged = |why: String| Error::damaged(format_args!("tree {id}"), why);
        let tree = Tree::decode(&bytes).map_err(|error| damaged(error.to_string()))?;
        if !tree.is_sorted() {
            return Err(damaged("its names are not in order, or one stands twice".to_string()));
        }
        match tree.nodes.iter().find(|node| !node.name.is_entry()) {
            Some(node) => Err(damaged(format!("{:?} cannot name an entry of a folder", node.name))),
            None => Ok(tree),
        }
    }

    /// The node at a path in a tree, by names between slashes; `None` for the tree itself.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is none; those of [`Repository::load_tree`].
    pub fn find_node(&self, index: &Index, root: &Id, path: &[u8]) -> Result<Option<Node>> {
        let mut found: Option<Node> = None;
        for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
            let tree = match &found {
                None => Some(*root),
                Some(node) if node.kind == NodeKind::Folder => node.subtree,
                Some(_) => None,
            };
            let tree = tree.map(|id| self.load_tree(index, &id)).transpose()?;
            let node = tree.as_ref().and_then(|tree| tree.find(part)).cloned();
            let object = || format!("path {}", String::from_utf8_lossy(path));
            found = Some(node.ok_or_else(|| Error::refused(object(), "the snapshot has no such entry"))?);
        }
        Ok(found)
    }
}

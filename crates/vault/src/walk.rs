//! Going through a tree and all below it, without recursion: a hostile tree may be as deep as it likes.

use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::Index;
use crate::repository::Repository;
use crate::tree::{Node, NodeKind};

/// Folders below each other that are followed.
pub const DEPTH_MOST: usize = 4096;

/// What a walk meets.
#[derive(Debug)]
pub enum Step<'a> {
    /// An entry; its path, with slashes between names and none in front. What is answered says whether a folder is
    /// gone into.
    Entry(&'a [u8], &'a Node),
    /// All of a folder that was gone into was met.
    Leave(&'a [u8], &'a Node),
    /// A folder's tree cannot be read.
    Lost(&'a [u8], Error),
}

/// Whether to go into a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descend {
    /// Yes.
    Into,
    /// No; go on behind it.
    Over,
}

struct Level {
    nodes: std::vec::IntoIter<Node>,
    /// The folder itself; none for the root.
    folder: Option<Node>,
    /// How much of the path is above this folder.
    above: usize,
}

/// Goes through a tree: each folder before what is in it, names in order of their bytes.
///
/// # Errors
/// That of `step`, and of the root's tree.
pub fn walk(
    repository: &Repository,
    index: &Index,
    root: &Id,
    step: &mut dyn FnMut(Step<'_>) -> Result<Descend>,
) -> Result<()> {
    let mut path: Vec<u8> = Vec::new();
    let nodes = repository.load_tree(index, root)?.nodes.into_iter();
    let mut levels = vec![Level { nodes, folder: None, above: 0 }];
    while let Some(level) = levels.last_mut() {
        let Some(node) = level.nodes.next() else {
            if let Some(folder) = &level.folder {
                step(Step::Leave(&path, folder))?;
            }
            path.truncate(level.above);
            levels.pop();
            continue;
        };
        let above = path.len();
        if above > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(node.name.as_bytes());
        let descend = step(Step::Entry(&path, &node))?;
        if node.kind != NodeKind::Folder || descend == Descend::Over {
            path.truncate(above);
            continue;
        }
        let object = || format!("folder {}", String::from_utf8_lossy(&path));
        let tree = match node.subtree {
            _ if levels.len() >= DEPTH_MOST => Err(Error::damaged(object(), "it is more than 4096 folders deep")),
            None => Err(Error::damaged(object(), "it has no tree")),
            Some(id) => repository.load_tree(index, &id),
        };
        match tree {
            Ok(tree) => levels.push(Level { nodes: tree.nodes.into_iter(), folder: Some(node), above }),
            Err(error) => {
                step(Step::Lost(&path, error))?;
                path.truncate(above);
            }
        }
    }
    Ok(())
}

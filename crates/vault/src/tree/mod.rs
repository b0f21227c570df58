//! Trees: what a folder held, as restic writes it, to the byte.
//!
//! A tree is a blob, so its name is the hash of its JSON: the same folder must yield the same bytes, whoever writes it. The
//! encoder here is Go's `encoding/json` for restic's node: order of fields, what is left out when empty, escapes,
//! quoted names, times. Whatever restic wrote is written again byte for byte after it was read.

pub mod go_json;
pub mod node;
mod printable;
pub mod time;

pub use go_json::Text;
pub use node::{Attribute, Name, Node, NodeKind};
pub use time::{Time, Zone};

use crate::id::Id;
use serde::Deserialize;
use std::fmt;

/// The entries of one folder.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Tree {
    /// Its nodes, in ascending order of their names' bytes if a sound program wrote it: see [`Tree::is_sorted`].
    pub nodes: Vec<Node>,
}

/// Why a tree cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeError {
    /// The bytes are no tree of restic's format; why.
    NotATree(String),
    /// Two entries have this name.
    Twice(Name),
}

impl fmt::Display for TreeError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotATree(why) => write!(to, "a blob is no tree: {why}"),
            Self::Twice(name) => write!(to, "a tree names {name:?} twice"),
        }
    }
}

impl std::error::Error for TreeError {}

impl Tree {
    /// A tree of these nodes, sorted by name.
    ///
    /// # Errors
    /// Two have the same name.
    pub fn new(mut nodes: Vec<Node>) -> Result<Self, TreeError> {
        nodes.sort_unstable_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        match nodes.windows(2).find(|pair| pair[0].name.as_bytes() == pair[1].name.as_bytes()) {
            Some(pair) => Err(TreeError::Twice(pair[0].name.clone())),
            None => Ok(Self { nodes }),
        }
    }

    /// Reads a tree. Names that no folder can hold ("..", one with a slash) are refused.
    ///
    /// # Errors
    /// The bytes are no tree.
    pub fn decode(bytes: &[u8]) -> Result<Self, TreeError> {
        serde_json::from_slice(bytes).map_err(|error| TreeError::NotATree(error.to_string()))
    }

    /// Reads a tree that shall be written again with changes: refused if it holds a field that is not known here and would
    /// be lost.
    ///
    /// # Errors
    /// The bytes are no tree, or one that cannot be written again byte for byte.
    pub fn decode_to_rewrite(bytes: &[u8]) -> Result<Self, TreeError> {
        let tree = Self::decode(bytes)?;
        if tree.encode() != bytes {
            let why = "it holds what this version would lose; rewrite it with the program that wrote it";
            return Err(TreeError::NotATree(why.to_string()));
        }
        Ok(tree)
    }

    /// The bytes of the tree, as they are stored and hashed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let ids: usize = self.nodes.iter().filter_map(|node| node.content.as_ref()).map(Vec::len).sum();
        let mut to = Vec::with_capacity(16 + self.nodes.len() * 360 + ids * (2 * Id::LENGTH + 3));
        to.extend_from_slice(br#"{"nodes":["#);
        for (at, node) in self.nodes.iter().enumerate() {
            if at > 0 {
                to.push(b',');
            }
            node.write(&mut to);
        }
        to.extend_from_slice(b"]}\n");
        to
    }

    /// Whether the names ascend and none stands twice.
    #[must_use]
    pub fn is_sorted(&self) -> bool {
        self.nodes.windows(2).all(|pair| pair[0].name.as_bytes() < pair[1].name.as_bytes())
    }

    /// The node of this name, in a sorted tree.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<&Node> {
        let at = self.nodes.binary_search_by(|node| node.name.as_bytes().cmp(name)).ok()?;
        self.nodes.get(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every tree that restic 0.14 and 0.18 wrote for a corpus of awkward names, times, modes, links, devices and
    /// attributes; a file is named by the id that restic gave it.
    #[test]
    fn what_restic_wrote_is_written_again_to_the_byte() {
        let mut count = 0;
        for version in ["restic-0.14", "restic-0.18"] {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/trees").join(version);
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let id: Id = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
                let bytes = std::fs::read(&path).unwrap();
                let tree = Tree::decode(&bytes).unwrap_or_else(|error| panic!("{id}: {error}"));
                let again = tree.encode();
                assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&bytes), "{version}: {id}");
                assert_eq!(Id::of(&again), id);
                assert!(tree.is_sorted());
                Tree::decode_to_rewrite(&bytes).unwrap();
                // Written as ours, too: names and links made anew from their bytes.
                for node in &tree.nodes {
                    assert_eq!(tree.find(node.name.as_bytes()).map(|found| &found.name), Some(&node.name));
                    if version == "restic-0.18" {
                        assert_eq!(node.name, Name::new(node.name.as_bytes()), "quoted as Unicode 15 has it");
                    }
                }
                count += 1;
            }
        }
        assert_eq!(count, 22, "the golden trees are there");
    }

    #[test]
    fn generic_attributes_and_errors_are_kept() {
        let json = concat!(
            r#"{"nodes":[{"name":"a","type":"irregular","mtime":"2020-01-01T00:00:00Z","atime":"2020-01-01T00:00:00Z","#,
            r#""ctime":"2020-01-01T00:00:00Z","uid":0,"gid":0,"extended_attributes":[{"name":"user.x","value":null}],"#,
            r#""generic_attributes":{"windows.a":32,"windows.b":{"x":[1,2]}},"content":null,"error":"read \u003c"}]}"#,
            "\n"
        );
        let tree = Tree::decode_to_rewrite(json.as_bytes()).unwrap();
        assert_eq!(tree.nodes[0].kind, NodeKind::Other("irregular".into()));
        assert_eq!(tree.nodes[0].error, "read <");
    }

    #[test]
    fn a_tree_that_would_lose_something_is_not_rewritten() {
        let known = r#"{"nodes":[{"name":"a","type":"file","mtime":"2020-01-01T00:00:00Z","atime":"2020-01-01T00:00:00Z","ctime":"2020-01-01T00:00:00Z","uid":0,"gid":0,"content":[]}]}"#;
        let known = format!("{known}\n");
        Tree::decode_to_rewrite(known.as_bytes()).unwrap();
        let unknown = known.replace("\"uid\"", "\"future\":1,\"uid\"");
        Tree::decode(unknown.as_bytes()).unwrap();
        assert!(matches!(Tree::decode_to_rewrite(unknown.as_bytes()), Err(TreeError::NotATree(_))));
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for bad in ["", ".", "..", "a/b", "/", "\\\\x00", "..\\\\x2f", "\\\\q"] {
            let json = format!(r#"{{"nodes":[{{"name":"{bad}","type":"file"}}]}}"#);
            assert!(matches!(Tree::decode(json.as_bytes()), Err(TreeError::NotATree(_))), "{bad}");
        }
        for broken in [
            "",
            "{}",
            "[]",
            r#"{"nodes":[{}]}"#,
            r#"{"nodes":[{"name":"a","type":"file","content":["00"]}]}"#,
            "{\"nodes\":[]}x",
        ] {
            assert!(Tree::decode(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_new_tree_is_sorted_by_bytes_and_names_each_once() {
        let node = |name: &[u8]| Node { name: Name::new(name), ..Node::default() };
        let tree = Tree::new(vec![node(b"b"), node(b"\xff"), node(b"a.b"), node(b"a"), node(b"a-b")]).unwrap();
        let names: Vec<_> = tree.nodes.iter().map(|node| node.name.as_bytes()).collect();
        assert_eq!(names, [&b"a"[..], b"a-b", b"a.b", b"b", b"\xff"]);
        assert_eq!(Tree::new(vec![node(b"a"), node(b"a")]).unwrap_err(), TreeError::Twice(Name::new(b"a")));
        assert_eq!(Tree::default().encode(), b"{\"nodes\":[]}\n");
    }
}

//! A backup: what a source lists becomes a tree, and the tree a snapshot.
//!
//! What did not change since the parent snapshot (size, times and inode are the same, and all its blobs are in the index) is not
//! read. A file that changes while it is read is read again; one that cannot be read is left out whole, never short, and named.
//! Folders are written behind the reader's back: a folder waits for its blobs while the next one is read already.

mod parent;
mod read;

pub use parent::{Parent, choose_parent};

use crate::chunk::{Polynomial, Rabin, Wish};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::Index;
use crate::pack::BlobKind;
use crate::repository::Repository;
use crate::snapshot::{Snapshot, Summary};
use crate::source::{Failure, Source, Step};
use crate::storage::FileKind;
use crate::tree::{Attribute, Node, NodeKind, Text, Time, Tree, Zone};
use crate::writer::{self, Prove, Slot, Stored, Writer};
use read::{Reader, Unreadable};
use std::collections::VecDeque;
use std::path::PathBuf;

/// The tag of a snapshot that lacks something which was asked for.
pub const INCOMPLETE_TAG: &str = "kobj:incomplete";
/// The attribute of a file that changed each time it was read: its contents are of no single moment.
pub const CHANGING_ATTRIBUTE: &str = "user.kobj.changing";
/// Folders that wait for their blobs.
const MOST_WAITING: usize = 4096;

/// What a backup is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The paths as the snapshot names them: absolute.
    pub paths: Vec<String>,
    /// The machine.
    pub hostname: String,
    /// The user.
    pub username: String,
    /// The user's and the group's number.
    pub owner: (u32, u32),
    /// Tags of the snapshot.
    pub tags: Vec<String>,
    /// The patterns, as the snapshot names them.
    pub excludes: Vec<String>,
    /// When it is said to be taken; now if none is given.
    pub time: Option<Time>,
    /// The zone of its times.
    pub zone: Zone,
    /// How files are cut.
    pub chunks: Wish,
    /// Cut files as if there were no parent.
    pub rechunk: bool,
    /// Read what seems unchanged as well, and compare it with what the parent says.
    pub rehash: bool,
    /// Store nothing.
    pub dry_run: bool,
    /// What the snapshot says of the program.
    pub program_version: String,
}

/// What a backup did.
#[derive(Debug)]
pub struct Report {
    /// The snapshot; none of a dry run.
    pub snapshot: Option<Id>,
    /// Its tree.
    pub tree: Id,
    /// Its parent.
    pub parent: Option<Id>,
    /// Counts, as they stand in the snapshot.
    pub summary: Summary,
    /// What was left out because it could not be read.
    pub failures: Vec<Failure>,
    /// Files that changed each time they were read.
    pub changing: Vec<PathBuf>,
    /// Files that seemed unchanged and were not: only looked for with `rehash`.
    pub silently_changed: Vec<PathBuf>,
    /// Folders of the parent that could not be read, and why: what is in them was read as new.
    pub lost_parents: Vec<String>,
}

impl Report {
    /// Whether all that was asked for is in the snapshot as of one moment: else a command ends with 3.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failures.is_empty() && self.changing.is_empty()
    }
}

/// What is told while a backup runs.
pub trait Progress {
    /// A file or folder begins.
    fn entry(&mut self, source: &dyn Source);
    /// So many bytes more were read, or found unchanged.
    fn bytes(&mut self, count: u64);
}

/// Tells nobody.
pub struct Silent;

impl Progress for Silent {
    fn entry(&mut self, _: &dyn Source) {}
    fn bytes(&mut self, _: u64) {}
}

/// Keeps what a source lists. `prove` is asked just before each index and the snapshot: whether the lock still holds.
///
/// # Errors
/// Nothing was listed; what was asked for by name could not be read; those of the vault. There is no snapshot then.
pub fn backup(
    repository: &Repository,
    index: &Index,
    source: &mut dyn Source,
    parent: Option<&Parent>,
    options: &Options,
    prove: Prove<'_>,
    progress: &mut dyn Progress,
) -> Result<Report> {
    let start = Time::now(&options.zone);
    let rabin = Rabin::new(Polynomial::new(repository.config().chunker_polynomial))?;
    let (archived, stored) = writer::write(repository, index, prove, options.dry_run, |writer| {
        let reader = Reader::new(writer, &rabin, index, options);
        Archiver::new(repository, index, writer, reader, progress, options).archive(source, parent)
    })?;
    let Archived { tree, mut summary, failures, changing, silently_changed, lost_parents } = archived;
    summary.backup_start = start;
    summary.backup_end = Time::now(&options.zone);
    count(&mut summary, stored);
    let parent = parent.map(|parent| parent.id);
    let mut report =
        Report { snapshot: None, tree, parent, summary, failures, changing, silently_changed, lost_parents };
    if !options.dry_run {
        let snapshot = snapshot(&report, start, options);
        let text = snapshot.encode().map_err(|error| Error::refused("the snapshot", error))?;
        prove()?;
        report.snapshot = Some(repository.save_file(FileKind::Snapshot, &text)?);
    }
    Ok(report)
}

fn count(summary: &mut Summary, stored: Stored) {
    summary.data_blobs = i64::try_from(stored.data_blobs).unwrap_or(i64::MAX);
    summary.tree_blobs = i64::try_from(stored.tree_blobs).unwrap_or(i64::MAX);
    summary.data_added = stored.bytes;
    summary.data_added_packed = stored.packed_bytes;
}

fn snapshot(report: &Report, start: Time, options: &Options) -> Snapshot {
    let mut snapshot = Snapshot::new(options.time.unwrap_or(start), report.tree, options.paths.clone());
    snapshot.parent = report.parent;
    snapshot.hostname.clone_from(&options.hostname);
    snapshot.username.clone_from(&options.username);
    (snapshot.uid, snapshot.gid) = options.owner;
    snapshot.excludes.clone_from(&options.excludes);
    snapshot.tags.clone_from(&options.tags);
    if !report.failures.is_empty() && !snapshot.has_tag(INCOMPLETE_TAG) {
        snapshot.tags.push(INCOMPLETE_TAG.to_string());
    }
    snapshot.program_version.clone_from(&options.program_version);
    snapshot.summary = Some(report.summary.clone());
    snapshot
}

/// A node whose blobs or tree are on their way.
struct Waiting {
    node: Node,
    content: Option<Vec<Slot>>,
    /// The tree of a folder, set when that folder is written: always before this one.
    subtree: Option<usize>,
    /// What the parent snapshot's file had, to compare.
    compare: Option<(Vec<Id>, PathBuf)>,
}

/// A folder that is being listed.
struct Open {
    node: Option<Node>,
    parent: Option<Tree>,
    entries: Vec<Waiting>,
}

/// A folder that was listed.
struct Closed {
    number: usize,
    entries: Vec<Waiting>,
    parent: Option<Id>,
    is_root: bool,
}

struct Archived {
    tree: Id,
    summary: Summary,
    failures: Vec<Failure>,
    changing: Vec<PathBuf>,
    silently_changed: Vec<PathBuf>,
    lost_parents: Vec<String>,
}

struct Archiver<'run, 'writer> {
    repository: &'run Repository,
    index: &'run Index,
    writer: &'run Writer<'writer>,
    reader: Reader<'run, 'writer>,
    progress: &'run mut dyn Progress,
    options: &'run Options,
    open: Vec<Open>,
    closed: VecDeque<Closed>,
    /// The slots of trees by the number of their folder; taken out when the folder above is written.
    trees: std::collections::HashMap<usize, Slot>,
    folders: usize,
    done: Archived,
}

impl<'run, 'writer> Archiver<'run, 'writer> {
    fn new(
        repository: &'run Repository,
        index: &'run Index,
        writer: &'run Writer<'writer>,
        reader: Reader<'run, 'writer>,
        progress: &'run mut dyn Progress,
        options: &'run Options,
    ) -> Self {
        let now = Time::now(&options.zone);
        let done = Archived {
            tree: Id::of(b""),
            summary: Summary::new(now, now),
            failures: Vec::new(),
            changing: Vec::new(),
            silently_changed: Vec::new(),
            lost_parents: Vec::new(),
        };
        let (open, closed, trees) = (Vec::new(), VecDeque::new(), std::collections::HashMap::new());
        Self { repository, index, writer, reader, progress, options, open, closed, trees, folders: 0, done }
    }

    fn archive(mut self, source: &mut dyn Source, parent: Option<&Parent>) -> Result<Archived> {
        let tree = parent.and_then(|parent| self.parent_tree(Some(&parent.tree)));
        self.open.push(Open { node: None, parent: tree, entries: Vec::new() });
        while let Some(step) = source.next_step() {
            match step {
                Step::Enter(node) => {
                    self.progress.entry(source);
                    self.enter(*node);
                }
                Step::Entry(node) => {
                    self.progress.entry(source);
                    self.entry(source, *node)?;
                }
                Step::Leave => self.leave()?,
                Step::Failed(failure) => self.failed(failure)?,
            }
        }
        let root = self.open.pop().filter(|root| self.open.is_empty() && !root.entries.is_empty());
        let Some(root) = root else {
            return Err(Error::refused(
                "backup",
                "nothing was found to keep; no snapshot was made. Look at paths and excludes",
            ));
        };
        self.close(root.entries, None, true)?;
        while !self.closed.is_empty() {
            self.write_folder()?;
        }
        Ok(self.done)
    }

    /// What was asked for by name must be there; else it is left out and named.
    fn failed(&mut self, failure: Failure) -> Result<()> {
        if failure.asked_for {
            return Err(Error::io(failure.action, failure.path.display(), failure.source));
        }
        self.done.failures.push(failure);
        Ok(())
    }

    fn parent_tree(&mut self, id: Option<&Id>) -> Option<Tree> {
        match self.repository.load_tree(self.index, id?) {
            Ok(tree) => Some(tree),
            Err(error) => {
                self.done.lost_parents.push(error.to_string());
                None
            }
        }
    }

    /// The node of this name in the parent's folder.
    fn before(&self, node: &Node) -> Option<&Node> {
        let tree = self.open.last()?.parent.as_ref()?;
        tree.find(node.name.as_bytes()).filter(|before| before.kind == node.kind)
    }

    fn enter(&mut self, node: Node) {
        let subtree = self.before(&node).and_then(|before| before.subtree);
        let parent = self.parent_tree(subtree.as_ref());
        if let (None, Some(_)) = (&subtree, self.open.last()) {
            self.done.summary.dirs_new += 1;
        }
        let mut node = node;
        // Kept here until the tree is written, to tell whether it changed.
        node.subtree = subtree;
        self.open.push(Open { node: Some(node), parent, entries: Vec::new() });
    }

    fn leave(&mut self) -> Result<()> {
        let Some(Open { node: Some(mut node), entries, .. }) = self.open.pop() else {
            return Err(Error::refused("backup", "its source left a folder that it had not entered"));
        };
        let before = node.subtree.take();
        let number = self.close(entries, before, false)?;
        self.push(Waiting { node, content: None, subtree: Some(number), compare: None })
    }

    fn push(&mut self, waiting: Waiting) -> Result<()> {
        let Some(folder) = self.open.last_mut() else {
            return Err(Error::refused("backup", "its source listed an entry outside of all folders"));
        };
        folder.entries.push(waiting);
        Ok(())
    }

    fn close(&mut self, entries: Vec<Waiting>, parent: Option<Id>, is_root: bool) -> Result<usize> {
        let number = self.folders;
        self.folders += 1;
        self.closed.push_back(Closed { number, entries, parent, is_root });
        while self.closed.len() > MOST_WAITING || self.closed.front().is_some_and(Closed::is_ready) {
            self.write_folder()?;
        }
        Ok(number)
    }

    fn entry(&mut self, source: &mut dyn Source, node: Node) -> Result<()> {
        if node.kind != NodeKind::File {
            return self.push(Waiting { node, content: None, subtree: None, compare: None });
        }
        let before = self.before(&node).cloned();
        let unchanged = match &before {
            Some(before) if is_unchanged(before, &node) => self.is_whole(before)?,
            _ => false,
        };
        let summary = &mut self.done.summary;
        let counter = match (&before, unchanged) {
            (Some(_), true) => &mut summary.files_unmodified,
            (Some(_), false) => &mut summary.files_changed,
            (None, _) => &mut summary.files_new,
        };
        *counter += 1;
        summary.total_files_processed += 1;
        if let (Some(before), true, false) = (&before, unchanged, self.options.rehash) {
            summary.total_bytes_processed += node.size;
            self.progress.bytes(node.size);
            let content = before.content.iter().flatten().map(|id| Slot::of(*id)).collect();
            return self.push(Waiting { node, content: Some(content), subtree: None, compare: None });
        }
        match self.reader.read(source, node, before.as_ref(), self.progress)? {
            Ok(read) => {
                let mut node = read.node;
                if read.changing {
                    node.attributes
                        .push(Attribute { name: Text::new(CHANGING_ATTRIBUTE.into()), value: Some(b"1".to_vec()) });
                    self.done.changing.push(source.path());
                }
                self.done.summary.total_bytes_processed += node.size;
                let compare = before.filter(|_| unchanged && !read.rule_changed).and_then(|before| before.content);
                let compare = compare.map(|content| (content, source.path()));
                self.push(Waiting { node, content: Some(read.content), subtree: None, compare })
            }
            Err(Unreadable { action, error }) => {
                self.done.summary.total_files_processed -= 1;
                let failure = Failure { path: source.path(), action, source: error, asked_for: source.asked_for() };
                self.failed(failure)
            }
        }
    }

    /// Whether the vault has every blob of a file.
    fn is_whole(&self, before: &Node) -> Result<bool> {
        let Some(content) = &before.content else {
            return Ok(false);
        };
        for id in content {
            if !self.index.contains(BlobKind::Data, id)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes the folder that was closed first, waiting for its blobs.
    fn write_folder(&mut self) -> Result<()> {
        let Some(Closed { number, entries, parent, is_root }) = self.closed.pop_front() else {
            return Ok(());
        };
        let mut nodes = Vec::with_capacity(entries.len());
        for Waiting { mut node, content, subtree, compare } in entries {
            if let Some(slots) = content {
                let ids = slots.iter().map(|slot| self.writer.id(slot)).collect::<Result<Vec<Id>>>()?;
                if let Some((_, path)) = compare.filter(|(before, _)| *before != ids) {
                    self.done.silently_changed.push(path);
                }
                node.content = Some(ids);
            }
            if let Some(folder) = subtree {
                let slot = self.trees.remove(&folder).unwrap_or_default();
                node.subtree = Some(self.writer.id(&slot)?);
            }
            nodes.push(node);
        }
        let tree = Tree::new(nodes).map_err(|error| Error::refused("backup", error))?;
        let text = tree.encode();
        let slot = self.writer.store(BlobKind::Tree, text)?;
        if is_root {
            self.done.tree = self.writer.id(&slot)?;
            return Ok(());
        }
        if let Some(before) = parent {
            let same = self.writer.id(&slot)? == before;
            let counter =
                if same { &mut self.done.summary.dirs_unmodified } else { &mut self.done.summary.dirs_changed };
            *counter += 1;
        }
        self.trees.insert(number, slot);
        Ok(())
    }
}

impl Closed {
    /// Whether nothing has to be waited for but trees, which are quick.
    fn is_ready(&self) -> bool {
        self.entries.iter().filter_map(|entry| entry.content.as_ref()).flatten().all(Slot::is_set)
    }
}

/// Whether a file is what the parent snapshot has, as restic tells it: by size, times and inode.
fn is_unchanged(before: &Node, node: &Node) -> bool {
    before.size == node.size
        && before.modified.same_instant(&node.modified)
        && before.changed.same_instant(&node.changed)
        && before.inode == node.inode
        // What changed under the reader then is read again now.
        && !before.attributes.iter().any(|attribute| attribute.name.as_bytes() == CHANGING_ATTRIBUTE.as_bytes())
}

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;

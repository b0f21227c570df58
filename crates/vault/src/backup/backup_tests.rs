//! Tests of the module beside.

use super::*;
use crate::chunk::Rule;
use crate::config::Version;
use crate::index::Cache;
use crate::key_file::{Cost, Origin};
use crate::password::Password;
use crate::repository::InitOptions;
use crate::source::files::{self, Walk};
use crate::source::{Contents, Extent, Fingerprint};
use crate::storage::Storage;
use crate::storage::memory::MemoryStorage;
use crate::tree::Name;
use std::cell::Cell;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kobj-vault-backup-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn vault(storage: &MemoryStorage) -> Repository {
    let options = InitOptions {
        version: Version::Two,
        chunker_polynomial: 0x3D_A335_8B4D_C173,
        cost: Cost::TEST,
        origin: Origin::default(),
    };
    Repository::init(Arc::new(storage.clone()), &Password::new("x"), &options).unwrap()
}

fn options() -> Options {
    Options {
        paths: vec!["/src".to_string()],
        hostname: "host".to_string(),
        username: "user".to_string(),
        owner: (0, 0),
        tags: Vec::new(),
        excludes: Vec::new(),
        time: None,
        zone: Zone::utc(),
        chunks: Wish::Suitable,
        rechunk: false,
        rehash: false,
        dry_run: false,
        program_version: String::new(),
    }
}

fn run(repository: &Repository, source: &mut dyn Source, parent: Option<&Parent>, options: &Options) -> Result<Report> {
    let index = Index::load(repository, &Cache::None).unwrap();
    backup(repository, &index, source, parent, options, &|| Ok(()), &mut Silent)
}

fn parent_of(report: &Report) -> Parent {
    Parent { id: report.snapshot.unwrap(), tree: report.tree }
}

fn node_of(repository: &Repository, root: &Id, path: &Path) -> Node {
    use std::os::unix::ffi::OsStrExt;
    let index = Index::load(repository, &Cache::None).unwrap();
    repository.find_node(&index, root, path.as_os_str().as_bytes()).unwrap().unwrap()
}

/// The bytes of a file, out of the vault.
fn kept(repository: &Repository, root: &Id, path: &Path) -> Vec<u8> {
    let index = Index::load(repository, &Cache::None).unwrap();
    let node = node_of(repository, root, path);
    let mut bytes = Vec::new();
    for id in node.content.unwrap() {
        bytes.extend(repository.load_blob(&index, BlobKind::Data, &id).unwrap());
    }
    assert_eq!(bytes.len() as u64, node.size);
    bytes
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect()
}

#[test]
fn files_are_kept_and_unchanged_ones_are_not_read_again() {
    let scratch = Scratch::new("files");
    let (storage, root) = (MemoryStorage::new(), scratch.0.clone());
    let repository = vault(&storage);
    let big = noise(3_000_000);
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/big"), &big).unwrap();
    fs::write(root.join("a/b/small"), "small").unwrap();
    fs::write(root.join("empty"), "").unwrap();
    let walk =
        || Walk::new(std::slice::from_ref(&root), files::Options { zone: Zone::utc(), ..Default::default() }).unwrap();
    let first = run(&repository, &mut walk(), None, &options()).unwrap();
    assert!(first.is_complete());
    assert_eq!((first.summary.files_new, first.summary.total_bytes_processed), (3, 3_000_005));
    assert_eq!(kept(&repository, &first.tree, &root.join("a/big")), big);
    assert_eq!(kept(&repository, &first.tree, &root.join("a/b/small")), b"small");
    assert_eq!(kept(&repository, &first.tree, &root.join("empty")), b"");

    let again = run(&repository, &mut walk(), Some(&parent_of(&first)), &options()).unwrap();
    // Folders above may be changed by others meanwhile.
    let tree_of = |report: &Report| node_of(&repository, &report.tree, &root).subtree;
    assert_eq!(tree_of(&again), tree_of(&first), "nothing changed: the same tree");
    assert_eq!((again.summary.files_unmodified, again.summary.data_blobs), (3, 0));

    fs::write(root.join("a/b/small"), "other").unwrap();
    let third = run(&repository, &mut walk(), Some(&parent_of(&again)), &options()).unwrap();
    assert_eq!((third.summary.files_changed, third.summary.files_unmodified, third.summary.data_blobs), (1, 2, 1));
    assert_eq!(kept(&repository, &third.tree, &root.join("a/b/small")), b"other");
    let snapshot = crate::snapshots::load(&repository, &third.snapshot.unwrap()).unwrap().snapshot;
    assert_eq!((snapshot.tree, snapshot.parent, snapshot.tags), (third.tree, again.snapshot, Vec::new()));
}

#[test]
fn holes_are_kept_and_cut_as_zeros_are() {
    let scratch = Scratch::new("holes");
    let repository = vault(&MemoryStorage::new());
    let mut bytes = vec![0; 9_000_000];
    let data = noise(700_000);
    bytes[3_000_000..3_700_000].copy_from_slice(&data);
    let (sparse, full) = (scratch.0.join("sparse"), scratch.0.join("full"));
    fs::write(&full, &bytes).unwrap();
    let file = fs::File::create(&sparse).unwrap();
    file.set_len(9_000_000).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &data, 3_000_000).unwrap();
    for wish in [Wish::Suitable, Wish::All(Rule::Fixed(65_536))] {
        let mut walk = Walk::new(std::slice::from_ref(&scratch.0), files::Options::default()).unwrap();
        let report = run(&repository, &mut walk, None, &Options { chunks: wish, ..options() }).unwrap();
        assert_eq!(kept(&repository, &report.tree, &sparse), bytes);
        let content = |path: &Path| node_of(&repository, &report.tree, path).content;
        assert_eq!(content(&sparse), content(&full), "{wish:?}");
    }
}

/// A source of one folder with one file whose contents a test decides.
struct Made<F> {
    steps: Vec<Step>,
    make: F,
    asked_for: bool,
}

impl<F> Made<F> {
    fn new(size: u64, make: F) -> Self {
        let file = Node { name: Name::new(b"file"), size, inode: 1, ..Node::default() };
        let other = Node { name: Name::new(b"link"), kind: NodeKind::Link, ..Node::default() };
        let folder = Node { name: Name::new(b"folder"), kind: NodeKind::Folder, ..Node::default() };
        let steps =
            vec![Step::Leave, Step::Entry(Box::new(other)), Step::Entry(Box::new(file)), Step::Enter(Box::new(folder))];
        Self { steps, make, asked_for: false }
    }
}

impl<F: FnMut() -> io::Result<Box<dyn Contents>>> Source for Made<F> {
    fn next_step(&mut self) -> Option<Step> {
        self.steps.pop()
    }
    fn open(&mut self) -> io::Result<Box<dyn Contents>> {
        (self.make)()
    }
    fn look_again(&mut self) -> io::Result<Node> {
        let size = (self.make)()?.fingerprint()?.size;
        Ok(Node { name: Name::new(b"file"), size, inode: 1, ..Node::default() })
    }
    fn path(&self) -> PathBuf {
        PathBuf::from("/folder/file")
    }
    fn asked_for(&self) -> bool {
        self.asked_for
    }
}

/// Contents that change, or fail, as told.
struct Scripted {
    bytes: Vec<u8>,
    /// Each look at it finds another time while this is above zero.
    changes: Arc<AtomicUsize>,
    fails_at: Option<u64>,
}

impl Contents for Scripted {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.fails_at.is_some_and(|at| offset + buffer.len() as u64 > at) {
            return Err(io::Error::other("the disk is broken"));
        }
        let rest = self.bytes.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
    fn extent(&self, _: u64, size: u64) -> io::Result<Extent> {
        Ok(Extent::Data(size))
    }
    fn fingerprint(&self) -> io::Result<Fingerprint> {
        let left = self.changes.load(Ordering::Relaxed);
        if left > 0 {
            self.changes.store(left - 1, Ordering::Relaxed);
        }
        let modified = (i64::try_from(left).unwrap(), 0);
        Ok(Fingerprint { size: self.bytes.len() as u64, modified, changed: modified, inode: 1 })
    }
}

#[test]
fn a_file_that_changes_is_read_again_and_one_that_goes_on_is_named() {
    let repository = vault(&MemoryStorage::new());
    for (changes, complete) in [(1, true), (1000, false)] {
        let changes = Arc::new(AtomicUsize::new(changes));
        let opened = Cell::new(0);
        let mut source = Made::new(5, || -> io::Result<Box<dyn Contents>> {
            opened.set(opened.get() + 1);
            Ok(Box::new(Scripted { bytes: b"hello".to_vec(), changes: changes.clone(), fails_at: None }))
        });
        let report = run(&repository, &mut source, None, &options()).unwrap();
        assert!(opened.get() >= 2, "it was read again");
        assert_eq!(report.is_complete(), complete);
        assert_eq!(report.changing.len(), usize::from(!complete));
        let index = Index::load(&repository, &Cache::None).unwrap();
        let node = repository.find_node(&index, &report.tree, b"/folder/file").unwrap().unwrap();
        assert_eq!(node.attributes.iter().any(|own| own.name.as_bytes() == CHANGING_ATTRIBUTE.as_bytes()), !complete);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_left_out_whole_and_the_snapshot_says_so() {
    let (storage, bytes) = (MemoryStorage::new(), noise(2_000_000));
    let repository = vault(&storage);
    let broken = || -> io::Result<Box<dyn Contents>> {
        Ok(Box::new(Scripted { bytes: bytes.clone(), changes: Arc::default(), fails_at: Some(1_500_000) }))
    };
    let report = run(&repository, &mut Made::new(2_000_000, broken), None, &options()).unwrap();
    assert_eq!(report.failures.len(), 1);
    let index = Index::load(&repository, &Cache::None).unwrap();
    assert!(repository.find_node(&index, &report.tree, b"/folder/file").is_err(), "there is no such entry");
    assert!(repository.find_node(&index, &report.tree, b"/folder/link").unwrap().is_some());
    assert!(crate::snapshots::load(&repository, &report.snapshot.unwrap()).unwrap().snapshot.has_tag(INCOMPLETE_TAG));

    // Asked for by name, it fails the run, and there is no snapshot more.
    let mut asked = Made { asked_for: true, ..Made::new(2_000_000, broken) };
    assert!(matches!(run(&repository, &mut asked, None, &options()), Err(Error::Io { .. })));
    assert_eq!(storage.list_all(FileKind::Snapshot).unwrap().len(), 1);
}

#[test]
fn an_empty_source_makes_no_snapshot_and_a_dry_run_stores_nothing() {
    let scratch = Scratch::new("dry");
    fs::write(scratch.0.join("file"), "x").unwrap();
    let storage = MemoryStorage::new();
    let repository = vault(&storage);
    let mut excludes = crate::source::exclude::Patterns::default();
    let mut nothing = Made::new(0, || -> io::Result<Box<dyn Contents>> { Err(io::Error::other("none")) });
    nothing.steps.clear();
    assert!(matches!(run(&repository, &mut nothing, None, &options()), Err(Error::Refused { .. })));
    excludes.add(b"nothing", false).unwrap();
    let mut walk =
        Walk::new(std::slice::from_ref(&scratch.0), files::Options { excludes, ..Default::default() }).unwrap();
    let report = run(&repository, &mut walk, None, &Options { dry_run: true, ..options() }).unwrap();
    assert_eq!((report.snapshot, report.summary.data_blobs), (None, 1));
    for kind in [FileKind::Snapshot, FileKind::Index, FileKind::Pack] {
        assert!(storage.list_all(kind).unwrap().is_empty());
    }
}

#[test]
fn a_full_look_finds_what_times_do_not_tell() {
    let repository = vault(&MemoryStorage::new());
    let made = |bytes: &'static [u8]| {
        Made::new(5, move || -> io::Result<Box<dyn Contents>> {
            Ok(Box::new(Scripted { bytes: bytes.to_vec(), changes: Arc::default(), fails_at: None }))
        })
    };
    let first = run(&repository, &mut made(b"hello"), None, &options()).unwrap();
    let trusting = run(&repository, &mut made(b"HELLO"), Some(&parent_of(&first)), &options()).unwrap();
    assert_eq!((trusting.tree, trusting.silently_changed.len()), (first.tree, 0));
    let looking = Options { rehash: true, ..options() };
    let report = run(&repository, &mut made(b"HELLO"), Some(&parent_of(&first)), &looking).unwrap();
    assert_eq!(report.silently_changed, [PathBuf::from("/folder/file")]);
    assert_eq!(kept(&repository, &report.tree, Path::new("/folder/file")), b"HELLO");
}

#[test]
fn any_one_sign_of_change_has_a_file_read_again() {
    let time = |text: &str| text.parse::<Time>().unwrap();
    let node = Node {
        name: Name::new(b"file"),
        size: 5,
        inode: 7,
        modified: time("2026-01-01T00:00:00Z"),
        changed: time("2026-01-02T00:00:00Z"),
        ..Node::default()
    };
    assert!(is_unchanged(&node, &node));
    let elsewhere = Node { modified: time("2026-01-01T01:00:00+01:00"), ..node.clone() };
    assert!(is_unchanged(&node, &elsewhere), "another zone is no change");
    let mark = Attribute { name: Text::new(CHANGING_ATTRIBUTE.into()), value: Some(b"1".to_vec()) };
    for before in [
        Node { size: 6, ..node.clone() },
        Node { inode: 8, ..node.clone() },
        Node { modified: time("2026-01-01T00:00:00.000000001Z"), ..node.clone() },
        Node { changed: time("2026-01-02T00:00:00.000000001Z"), ..node.clone() },
        Node { attributes: vec![mark], ..node.clone() },
    ] {
        assert!(!is_unchanged(&before, &node), "{before:?}");
    }
}

/// A file whose only bytes stand from 2 MiB to 3 MiB; whoever reads elsewhere fails.
struct Hollow;

const HOLLOW: std::ops::Range<u64> = 2 << 20..3 << 20;
const HOLLOW_SIZE: u64 = 8 << 20;

impl Contents for Hollow {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = offset + buffer.len() as u64;
        // What tells an image from other files is looked at in any case.
        let is_head = end <= 4096;
        if !is_head && (offset < HOLLOW.start || end > HOLLOW.end) {
            return Err(io::Error::other("a hole was read"));
        }
        buffer.fill(if is_head { 0 } else { 1 });
        Ok(buffer.len())
    }
    fn extent(&self, offset: u64, size: u64) -> io::Result<Extent> {
        Ok(match offset {
            at if at < HOLLOW.start => Extent::Hole(HOLLOW.start),
            at if at < HOLLOW.end => Extent::Data(HOLLOW.end),
            _ => Extent::Hole(size),
        })
    }
    fn fingerprint(&self) -> io::Result<Fingerprint> {
        Ok(Fingerprint { size: HOLLOW_SIZE, modified: (0, 0), changed: (0, 0), inode: 1 })
    }
}

#[test]
fn no_byte_of_a_hole_is_read() {
    let repository = vault(&MemoryStorage::new());
    for chunks in [Wish::Suitable, Wish::All(Rule::Fixed(65_536))] {
        let mut source = Made::new(HOLLOW_SIZE, || -> io::Result<Box<dyn Contents>> { Ok(Box::new(Hollow)) });
        let report = run(&repository, &mut source, None, &Options { chunks, ..options() }).unwrap();
        assert!(report.is_complete(), "{:?}", report.failures);
        let bytes = kept(&repository, &report.tree, Path::new("/folder/file"));
        assert_eq!(bytes.iter().filter(|&&byte| byte == 1).count(), 1 << 20);
        assert!(bytes[2 << 20..3 << 20].iter().all(|&byte| byte == 1));
    }
}

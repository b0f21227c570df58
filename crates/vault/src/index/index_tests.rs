//! The sorted index against a plain map, its cache, and vaults that restic made.

use super::*;
use crate::config::Version;
use crate::key_file::{Cost, Origin};
use crate::password::Password;
use crate::repository::InitOptions;
use crate::storage::Storage;
use crate::storage::local::LocalStorage;
use crate::storage::memory::MemoryStorage;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::sync::Arc;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("kobj-vault-index-{name}-{}", std::process::id())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn vault() -> (MemoryStorage, Repository) {
    let storage = MemoryStorage::new();
    let options = InitOptions {
        version: Version::Two,
        chunker_polynomial: 0x3d_a335_8b4d_c173,
        cost: Cost::TEST,
        origin: Origin::default(),
    };
    let repository = Repository::init(Arc::new(storage.clone()), &Password::new("x"), &options).expect("vault");
    (storage, repository)
}

/// Packs of made-up blobs: some blobs in several packs, some ids of both kinds.
fn packs(seed: u32, count: u32) -> Vec<(Id, Vec<PackedBlob>)> {
    let pack = |pack: u32| {
        let blob = |at: u32| PackedBlob {
            kind: if (seed + pack + at).is_multiple_of(3) { BlobKind::Tree } else { BlobKind::Data },
            id: Id::of(&((seed + pack * 31 + at * 17) % 5000).to_le_bytes()),
            offset: at * 50,
            length: 50,
            uncompressed_length: at.is_multiple_of(2).then_some(at + 1),
        };
        (Id::of(&[seed.to_le_bytes(), pack.to_le_bytes()].concat()), (0..pack % 60).map(blob).collect())
    };
    (0..count).map(pack).collect()
}

fn save(repository: &Repository, packs: &[(Id, Vec<PackedBlob>)]) -> Id {
    let text = file::encode(&[], packs.iter().map(|(id, blobs)| (id, &blobs[..])));
    repository.save_file(FileKind::Index, &text).expect("saved")
}

/// Every blob is found in all its places, and what is in no pack is not.
fn check(index: &Index, packs: &[(Id, Vec<PackedBlob>)]) {
    let mut places: BTreeMap<(Id, BlobKind), Vec<Location>> = BTreeMap::new();
    for (pack, blobs) in packs {
        for blob in blobs {
            places.entry((blob.id, blob.kind)).or_default().push(Location { pack: *pack, blob: *blob });
        }
    }
    let key = |place: &Location| (place.pack, place.blob.offset);
    for ((id, kind), mut expected) in places {
        let mut found = index.lookup_all(kind, &id).expect("read");
        found.sort_unstable_by_key(key);
        expected.sort_unstable_by_key(key);
        assert_eq!(found, expected);
        let one = index.lookup(kind, &id).expect("read").expect("found");
        assert!(expected.contains(&one) && index.contains(kind, &id).expect("read"));
    }
    for absent in 0..200_u32 {
        let id = Id::of(&(absent + 5000).to_le_bytes());
        assert_eq!(index.lookup(BlobKind::Data, &id).expect("read"), None);
    }
}

#[test]
fn every_blob_is_found_in_all_its_places() {
    let (_storage, repository) = vault();
    let all = packs(1, 300);
    for packs in all.chunks(40) {
        save(&repository, packs);
    }
    let index = Index::load(&repository, &Cache::None).expect("loaded");
    assert_eq!((index.files().len(), index.packs()), (8, 300));
    assert_eq!(index.entries(), all.iter().map(|(_, blobs)| blobs.len() as u64).sum::<u64>());
    check(&index, &all);
    for number in 1..index.entries() {
        let (before, entry) = (index.entry(number - 1).expect("read").blob, index.entry(number).expect("read").blob);
        assert!((before.id, before.kind) <= (entry.id, entry.kind));
        let first = index.number(entry.kind, &entry.id).expect("read").expect("found");
        assert!(first <= number);
    }
    let more = packs(7, 5);
    more.iter().for_each(|(pack, blobs)| index.add(pack, blobs));
    let (pack, blobs) = &more[4];
    let found = index.lookup(blobs[0].kind, &blobs[0].id).expect("read");
    assert_eq!(found, Some(Location { pack: *pack, blob: blobs[0] }));
}

#[test]
fn an_external_sort_of_many_runs_gives_the_same() {
    let folder = Folder::new("runs");
    std::fs::create_dir(&folder.0).expect("made");
    let scratch = Scratch::in_folder(&folder.0);
    let all = packs(3, 200);
    // 7 records a run: more runs than are merged at once.
    let mut builder = Builder::new(scratch.clone()).expect("builder").with_short_runs(7);
    all.iter().for_each(|(pack, blobs)| builder.add_pack(pack, blobs).expect("added"));
    let sorted = builder.finish(&Id::of(b"v"), scratch.file().expect("file")).expect("sorted");
    check(&Index::of(sorted), &all);
    assert_eq!(std::fs::read_dir(&folder.0).expect("listed").count(), 0, "no run keeps a name");
}

#[test]
fn the_cache_is_kept_extended_and_thrown_away_when_it_disagrees() {
    let folder = Folder::new("cache");
    let cache = Cache::Folder(folder.0.clone());
    let (storage, repository) = vault();
    let mut all = packs(1, 100);
    let first = save(&repository, &all);
    check(&Index::load(&repository, &cache).expect("loaded"), &all);
    let kept = folder.0.join(repository.config().id.to_string()).join("index");
    let inode = || std::fs::metadata(&kept).expect("kept").ino();
    assert_eq!(std::fs::metadata(&kept).expect("kept").permissions().mode() & 0o777, 0o600);
    let before = inode();
    // Nothing changed: the vault's index files are not even read.
    let name = Name::new(FileKind::Index, first);
    let bytes = storage.read_whole(&name, 1 << 20).expect("read");
    storage.replace(&name, b"damaged");
    check(&Index::load(&repository, &cache).expect("loaded"), &all);
    assert_eq!(inode(), before);
    // One more: the first is still not read.
    let more = packs(2, 50);
    let second = save(&repository, &more);
    all.extend(more.clone());
    check(&Index::load(&repository, &cache).expect("loaded"), &all);
    // One fewer: all is read anew.
    storage.remove(&Name::new(FileKind::Index, second)).expect("removed");
    assert!(matches!(Index::load(&repository, &cache), Err(Error::Damaged { .. })));
    storage.replace(&name, &bytes);
    all.truncate(100);
    check(&Index::load(&repository, &cache).expect("loaded"), &all);
    // Another vault's cache, a cut one, a changed one.
    let good = std::fs::read(&kept).expect("read");
    for at in [3, 20, 4096 + 30, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&kept, bad).expect("written");
        check(&Index::load(&repository, &cache).expect("loaded"), &all);
    }
    std::fs::write(&kept, &good[..good.len() - 4096]).expect("written");
    check(&Index::load(&repository, &cache).expect("loaded"), &all);
    std::fs::set_permissions(&kept, PermissionsExt::from_mode(0o666)).expect("changed");
    let before = inode();
    check(&Index::load(&repository, &cache).expect("loaded"), &all);
    assert_ne!(inode(), before, "what others can write is not believed");
    assert_eq!(std::fs::read_dir(kept.parent().expect("folder")).expect("listed").count(), 1);
}

#[test]
fn a_cache_changed_while_it_is_read_is_an_error_and_never_a_wrong_answer() {
    let folder = Folder::new("changed");
    let (_storage, repository) = vault();
    let all = packs(1, 100);
    save(&repository, &all);
    let index = Index::load(&repository, &Cache::Folder(folder.0.clone())).expect("loaded");
    let kept = folder.0.join(repository.config().id.to_string()).join("index");
    let file = File::options().write(true).open(&kept).expect("opened");
    file.write_all_at(b"x", 3 * 4096 + 100).expect("written");
    file.write_all_at(b"x", 4 * 4096 + 100).expect("written");
    let blobs = all.iter().flat_map(|(_, blobs)| blobs);
    let answers: Vec<_> = blobs.map(|blob| index.lookup(blob.kind, &blob.id)).collect();
    assert!(answers.iter().any(Result::is_err) && answers.iter().flatten().all(Option::is_some));
    file.set_len(5000).expect("cut");
    let again = Index::load(&repository, &Cache::Folder(folder.0.clone())).expect("loaded");
    check(&again, &all);
}

#[test]
fn a_cache_that_cannot_be_made_is_done_without() {
    let (_storage, repository) = vault();
    let all = packs(1, 50);
    save(&repository, &all);
    check(&Index::load(&repository, &Cache::Folder("/proc/nowhere".into())).expect("loaded"), &all);
    let empty = vault().1;
    let index = Index::load(&empty, &Cache::None).expect("loaded");
    assert_eq!((index.entries(), index.packs()), (0, 0));
    check(&index, &[]);
}

#[test]
fn restics_indexes_name_what_is_in_restics_packs() {
    for folder in ["v1", "v2"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder);
        let storage = Arc::new(LocalStorage::open(&path).expect("golden"));
        let repository = Repository::open(storage, &Password::new("golden")).expect("opens");
        let index = Index::load(&repository, &Cache::None).expect("loaded");
        let mut found = 0;
        for number in 0..index.packs() {
            let pack = index.pack(number).expect("read");
            let size_bytes = repository.storage().size(&Name::new(FileKind::Pack, pack.id)).expect("there");
            assert_eq!(pack.size_bytes, size_bytes);
            let header = crate::pack::read_header(repository.storage(), repository.key(), &pack.id, size_bytes);
            for blob in header.expect("header") {
                let places = index.lookup_all(blob.kind, &blob.id).expect("read");
                assert!(places.contains(&Location { pack: pack.id, blob }));
                found += 1;
            }
        }
        assert_eq!(found, index.entries());
        assert!(found > 5);
    }
}

/// Ten million blobs: how long, and how much memory that is no file. Run by name: it takes a minute and 2 GiB of disk.
#[test]
#[ignore = "a minute and 2 GiB of disk"]
fn ten_million_blobs_need_little_memory() {
    const FILES: u32 = 200;
    const PACKS: u32 = 500;
    const BLOBS: u32 = 100;
    let folder = Folder::new("ten-million");
    let storage = Arc::new(LocalStorage::create(&folder.0).expect("created"));
    let options = InitOptions {
        version: Version::Two,
        chunker_polynomial: 0x3d_a335_8b4d_c173,
        cost: Cost::TEST,
        origin: Origin::default(),
    };
    let repository = Repository::init(storage, &Password::new("x"), &options).expect("vault");
    let blob_id = |number: u32| Id::of(&number.to_le_bytes());
    for file in 0..FILES {
        let pack = |pack: u32| {
            let first = (file * PACKS + pack) * BLOBS;
            let blob = |at: u32| PackedBlob {
                kind: BlobKind::Data,
                id: blob_id(first + at),
                offset: at * 1000,
                length: 1000,
                uncompressed_length: Some(2000),
            };
            (Id::of(&u64::from(first).to_le_bytes()), (0..BLOBS).map(blob).collect())
        };
        let packs: Vec<(Id, Vec<PackedBlob>)> = (0..PACKS).map(pack).collect();
        save(&repository, &packs);
    }
    let peak_mib = || {
        let status = std::fs::read_to_string("/proc/self/status").expect("status");
        let line = status.lines().find(|line| line.starts_with("RssAnon")).expect("RssAnon");
        line.split_whitespace().nth(1).expect("number").parse::<u64>().expect("number") >> 10
    };
    let done = std::sync::atomic::AtomicBool::new(false);
    let (index, most) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            // Relaxed: it only ends the watching.
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                most = most.max(peak_mib());
                std::thread::yield_now();
            }
            most
        });
        let start = std::time::Instant::now();
        let index = Index::load(&repository, &Cache::Folder(folder.0.join("cache"))).expect("loaded");
        println!("built in {:?}", start.elapsed());
        let start = std::time::Instant::now();
        for number in (0..FILES * PACKS * BLOBS).step_by(101) {
            assert!(index.contains(BlobKind::Data, &blob_id(number)).expect("read"));
        }
        println!("99,010 lookups in {:?}", start.elapsed());
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        (index, watch.join().expect("watched"))
    });
    println!("peak {most} MiB");
    assert_eq!(index.entries(), u64::from(FILES * PACKS * BLOBS));
    assert!(most < 192, "{most} MiB of anonymous memory");
    let start = std::time::Instant::now();
    Index::load(&repository, &Cache::Folder(folder.0.join("cache"))).expect("loaded");
    println!("from the cache in {:?}", start.elapsed());
}

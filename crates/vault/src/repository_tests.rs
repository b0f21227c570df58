//! Vaults of version 1 and 2 that restic 0.14 made, and our own.

use super::*;
use crate::pack::{self, BlobKind};
use crate::storage::local::LocalStorage;
use crate::storage::memory::MemoryStorage;
use std::path::Path;

const POLYNOMIAL: u64 = 0x3d_a335_8b4d_c173;

fn options() -> InitOptions {
    InitOptions { version: Version::Two, chunker_polynomial: POLYNOMIAL, cost: Cost::TEST, origin: Origin::here() }
}

fn golden(version: &str) -> Repository {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version);
    let storage = Arc::new(LocalStorage::open(&path).expect("golden vault"));
    Repository::open(storage, &Password::new("golden")).expect("opens")
}

#[test]
fn restics_vaults_open_and_every_file_in_them_reads() {
    for (folder, version) in [("v1", Version::One), ("v2", Version::Two)] {
        let repository = golden(folder);
        assert_eq!(repository.config().version, version);
        for kind in [FileKind::Snapshot, FileKind::Index] {
            for listed in repository.storage().list_all(kind).expect("listed") {
                let text = repository.load_file(kind, &listed.id).expect("read");
                assert_eq!(text.first(), Some(&b'{'));
            }
        }
        let mut kinds = [0, 0];
        for listed in repository.storage().list_all(FileKind::Pack).expect("listed") {
            let blobs = pack::read_header(repository.storage(), repository.key(), &listed.id, listed.size_bytes);
            for blob in blobs.expect("header") {
                let mut sealed = Vec::new();
                let range = u64::from(blob.offset)..blob.end();
                repository.storage().read(&Name::new(FileKind::Pack, listed.id), range, &mut sealed).expect("read");
                let plain = repository.open_blob(&listed.id, &blob, &mut sealed).expect("whole");
                assert_eq!(plain.len(), blob.plain_length() as usize);
                kinds[usize::from(blob.kind == BlobKind::Tree)] += 1;
            }
        }
        assert!(kinds[0] >= 3 && kinds[1] >= 2, "{kinds:?}");
    }
}

#[test]
fn a_new_vault_opens_with_its_passwords_alone() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let made = Repository::init(Arc::clone(&storage), &Password::new("a"), &options()).expect("made");
    let id = made.save_file(FileKind::Snapshot, b"{\"x\":1}").expect("saved");
    made.add_key(&Password::new("b"), Cost::TEST, &Origin::default()).expect("key");
    for password in ["a", "b"] {
        let opened = Repository::open(Arc::clone(&storage), &Password::new(password)).expect("opened");
        assert_eq!(opened.config(), made.config());
        assert_eq!(opened.load_file(FileKind::Snapshot, &id).expect("read"), b"{\"x\":1}");
    }
    let wrong = Repository::open(storage, &Password::new("c")).expect_err("wrong");
    assert!(matches!(wrong, Error::WrongPassword { keys_tried: 2, .. }), "{wrong}");
}

#[test]
fn what_is_no_vault_or_already_one_is_refused() {
    let password = Password::new("a");
    let memory = MemoryStorage::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let open = || Repository::open(Arc::clone(&storage), &password).expect_err("no vault");
    assert!(matches!(open(), Error::NoVault { why, .. } if why.contains("init")));
    let made = Repository::init(Arc::clone(&storage), &password, &options()).expect("made");
    let again = Repository::init(Arc::clone(&storage), &password, &options()).expect_err("there");
    assert!(matches!(again, Error::Refused { .. }));
    memory.remove(&Name::CONFIG).expect("removed");
    assert!(matches!(open(), Error::NoVault { why, .. } if why.contains("interrupted")));
    let again = Repository::init(Arc::clone(&storage), &password, &options()).expect_err("remains");
    assert!(matches!(again, Error::Refused { .. }));
    let config = made.key().seal(b"{\"version\":3,\"id\":\"\",\"chunker_polynomial\":\"\"}").expect("sealed");
    memory.replace(&Name::CONFIG, &config);
    assert!(matches!(open(), Error::Unsupported { .. }));
    memory.replace(&Name::CONFIG, &MasterKey::random().expect("key").seal(b"{}").expect("sealed"));
    assert!(matches!(open(), Error::Damaged { .. }));
    memory.remove(&Name::new(FileKind::Key, *made.key_id())).expect("removed");
    assert!(matches!(open(), Error::Damaged { why, .. } if why.contains("no key")));
}

#[test]
fn a_file_that_is_changed_cut_or_not_its_name_is_damaged() {
    let memory = MemoryStorage::new();
    let repository = Repository::init(Arc::new(memory.clone()), &Password::new("a"), &options()).expect("made");
    let id = repository.save_file(FileKind::Index, b"{\"packs\":[]}").expect("saved");
    let name = Name::new(FileKind::Index, id);
    let good = memory.read_whole(&name, 1000).expect("read");
    let mut changed = good.clone();
    changed[3] ^= 1;
    let foreign = MasterKey::random().expect("key").seal(b"{}").expect("sealed");
    for bad in [&changed[..], &good[..good.len() - 1], b"", &foreign] {
        memory.replace(&name, bad);
        assert!(matches!(repository.load_file(FileKind::Index, &id), Err(Error::Damaged { .. })));
        // Under its own name it is another vault's.
        let own = Name::new(FileKind::Index, Id::of(bad));
        memory.replace(&own, bad);
        assert!(matches!(repository.load_file(FileKind::Index, &own.id), Err(Error::Damaged { .. })));
    }
    let unknown = repository.key().seal(b"x").expect("sealed");
    memory.replace(&Name::new(FileKind::Index, Id::of(&unknown)), &unknown);
    assert!(matches!(repository.load_file(FileKind::Index, &Id::of(&unknown)), Err(Error::Damaged { .. })));
    assert!(matches!(repository.load_file(FileKind::Index, &Id::of(b"?")), Err(Error::Missing { .. })));
}

#[test]
fn a_blob_seals_and_opens_with_its_digest_proved() {
    let storage = Arc::new(MemoryStorage::new());
    let repository = Repository::init(storage, &Password::new("a"), &options()).expect("made");
    let plain = vec![7; 5000];
    let mut blob =
        PackedBlob { kind: BlobKind::Data, id: Id::of(&plain), offset: 0, length: 0, uncompressed_length: None };
    for level in [None, Some(1)] {
        let mut sealed = Vec::new();
        blob.uncompressed_length = repository.seal_blob(&plain, level, &mut sealed).expect("sealed");
        assert_eq!(blob.uncompressed_length, level.map(|_| 5000));
        let pack = Id::of(b"pack");
        assert_eq!(repository.open_blob(&pack, &blob, &mut sealed.clone()).expect("opened"), plain);
        let other = PackedBlob { id: Id::of(b"other"), ..blob };
        assert!(matches!(repository.open_blob(&pack, &other, &mut sealed.clone()), Err(Error::Damaged { .. })));
        sealed[20] ^= 1;
        assert!(matches!(repository.open_blob(&pack, &blob, &mut sealed), Err(Error::Damaged { .. })));
    }
}

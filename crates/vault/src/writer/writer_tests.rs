//! Tests of the module beside.

use super::*;
use crate::config::Version;
use crate::index::Cache;
use crate::key_file::{Cost, Origin};
use crate::pack::header_in;
use crate::password::Password;
use crate::repository::InitOptions;
use crate::storage::Storage;
use crate::storage::memory::MemoryStorage;

fn vault(storage: &MemoryStorage) -> Repository {
    let options = InitOptions {
        version: Version::Two,
        chunker_polynomial: 0x3D_A335_8B4D_C173,
        cost: Cost::TEST,
        origin: Origin::default(),
    };
    Repository::init(Arc::new(storage.clone()), &Password::new("x"), &options).unwrap()
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect()
}

#[test]
fn blobs_are_stored_once_and_found_by_whoever_opens_the_vault_next() {
    let storage = MemoryStorage::new();
    let repository = vault(&storage);
    let index = Index::load(&repository, &Cache::None).unwrap();
    let blobs: Vec<Vec<u8>> = (0..40).map(|seed| noise(seed, 1_000_000 + seed as usize)).collect();
    let prove = || Ok(());
    let (ids, stored) = write(&repository, &index, &prove, false, |writer| {
        let mut slots = Vec::new();
        for blob in blobs.iter().chain(&blobs) {
            slots.push(writer.store(BlobKind::Data, blob.clone())?);
        }
        slots.push(writer.store(BlobKind::Tree, b"tree".to_vec())?);
        slots.iter().map(|slot| writer.id(slot)).collect::<Result<Vec<Id>>>()
    })
    .unwrap();
    assert_eq!((stored.data_blobs, stored.tree_blobs), (40, 1));
    assert_eq!(ids[..40], ids[40..80]);
    let fresh = Index::load(&repository, &Cache::None).unwrap();
    for (blob, id) in blobs.iter().zip(&ids) {
        assert_eq!(*id, Id::of(blob));
        assert!(fresh.contains(BlobKind::Data, id).unwrap());
    }
    // Data and trees lie in packs of their own.
    for listed in storage.list_all(FileKind::Pack).unwrap() {
        let bytes = storage.read_whole(&Name::new(FileKind::Pack, listed.id), u64::MAX).unwrap();
        let kinds: HashSet<_> =
            header_in(repository.key(), &listed.id, &bytes).unwrap().iter().map(|blob| blob.kind).collect();
        assert_eq!(kinds.len(), 1);
    }
    let (_, again) =
        write(&repository, &fresh, &prove, false, |writer| writer.store(BlobKind::Data, blobs[3].clone())).unwrap();
    assert_eq!(again, Stored::default());
}

#[test]
fn a_lost_lock_publishes_nothing() {
    let storage = MemoryStorage::new();
    let repository = vault(&storage);
    let index = Index::load(&repository, &Cache::None).unwrap();
    let prove = || Err(Error::Locked { holder: "somebody".to_string() });
    let written = write(&repository, &index, &prove, false, |writer| writer.store(BlobKind::Data, noise(1, 1000)));
    assert!(matches!(written, Err(Error::Locked { .. })));
    assert!(storage.list_all(FileKind::Index).unwrap().is_empty());
}

#[test]
fn a_dry_run_counts_and_stores_nothing() {
    let storage = MemoryStorage::new();
    let repository = vault(&storage);
    let index = Index::load(&repository, &Cache::None).unwrap();
    let (id, stored) = write(&repository, &index, &|| Ok(()), true, |writer| {
        let slot = writer.store(BlobKind::Data, noise(1, 1000))?;
        writer.id(&slot)
    })
    .unwrap();
    assert_eq!((id, stored.data_blobs, stored.bytes), (Id::of(&noise(1, 1000)), 1, 1000));
    assert!(
        storage.list_all(FileKind::Pack).unwrap().is_empty() && storage.list_all(FileKind::Index).unwrap().is_empty()
    );
}

#[test]
fn what_was_stored_before_a_failure_is_named_all_the_same() {
    let storage = MemoryStorage::new();
    let repository = vault(&storage);
    let index = Index::load(&repository, &Cache::None).unwrap();
    let failed = write(&repository, &index, &|| Ok(()), false, |writer| -> Result<()> {
        let slot = writer.store(BlobKind::Data, noise(1, 1000))?;
        writer.id(&slot)?;
        Err(Error::refused("reader", "it broke off"))
    });
    assert!(failed.is_err());
    assert!(
        Index::load(&repository, &Cache::None).unwrap().contains(BlobKind::Data, &Id::of(&noise(1, 1000))).unwrap()
    );
}

#[test]
fn what_is_compressed_already_is_not_compressed_again() {
    assert_eq!(level(BlobKind::Data, &noise(1, 1_000_000)), None);
    assert_eq!(level(BlobKind::Data, &vec![b'a'; 1_000_000]), Some(DATA_LEVEL));
    assert_eq!(level(BlobKind::Data, b"short"), Some(DATA_LEVEL));
    assert_eq!(level(BlobKind::Tree, &noise(1, 1_000_000)), Some(TREE_LEVEL));
}

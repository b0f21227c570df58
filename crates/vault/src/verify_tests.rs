//! Whole vaults are said to be whole; each way of damage is named, with the files that it costs and no others.

use super::*;
use crate::index::Cache;
use crate::password::Password;
use crate::storage::Storage;
use crate::storage::local::LocalStorage;
use crate::storage::memory::MemoryStorage;
use std::path::Path;
use std::sync::Arc;

/// One of the vaults that restic made, copied into memory so that it can be damaged.
fn golden(version: &str) -> (MemoryStorage, Repository) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version);
    let (from, to) = (LocalStorage::open(&path).expect("golden"), MemoryStorage::new());
    let copy = |name: Name| to.replace(&name, &from.read_whole(&name, 1 << 30).expect("read"));
    copy(Name::CONFIG);
    for kind in FileKind::ALL {
        from.list_all(kind).expect("listed").iter().for_each(|file| copy(Name::new(kind, file.id)));
    }
    let repository = Repository::open(Arc::new(to.clone()), &Password::new("golden")).expect("opens");
    (to, repository)
}

#[derive(Debug, Default)]
struct Seen {
    damages: Vec<String>,
    notes: Vec<String>,
    costs: Vec<String>,
}

fn run(repository: &Repository, data: ReadData) -> (Report, Seen) {
    let mut seen = Seen::default();
    let report = verify(repository, data, &mut |finding| match finding {
        Finding::Damage { object, what } => seen.damages.push(format!("{object}: {what}")),
        Finding::Note { object, .. } => seen.notes.push(object),
        Finding::Cost { path, .. } => seen.costs.push(String::from_utf8_lossy(&path).into_owned()),
    });
    let report = report.expect("verified");
    assert_eq!((report.damages, report.costs), (seen.damages.len() as u64, seen.costs.len() as u64));
    (report, seen)
}

fn numbers() -> Vec<u8> {
    (1..=3000).flat_map(|number: u32| format!("{number}\n").into_bytes()).collect()
}

fn place(repository: &Repository, kind: BlobKind, id: &Id) -> Location {
    let index = Index::load(repository, &Cache::None).expect("index");
    index.lookup(kind, id).expect("read").expect("there")
}

#[test]
fn what_restic_wrote_is_whole() {
    for version in ["v1", "v2"] {
        let (_, repository) = golden(version);
        for data in [ReadData::Nothing, ReadData::All] {
            let (report, seen) = run(&repository, data);
            assert!(report.is_whole() && seen.notes.is_empty(), "{seen:?}");
            assert_eq!((report.snapshots, report.packs), (2, 4));
            assert!(report.blobs_needed > 10);
            assert_eq!(report.packs_read, if data == ReadData::All { 4 } else { 0 });
        }
    }
}

#[test]
fn a_flipped_bit_costs_one_file_of_both_snapshots() {
    let (memory, repository) = golden("v2");
    let place = place(&repository, BlobKind::Data, &Id::of(&numbers()));
    let name = Name::new(FileKind::Pack, place.pack);
    let mut bytes = memory.read_whole(&name, 1 << 20).expect("read");
    bytes[place.blob.offset as usize + 20] ^= 1;
    memory.replace(&name, &bytes);
    assert!(run(&repository, ReadData::Nothing).0.is_whole(), "trees and indexes are whole");
    let (_, seen) = run(&repository, ReadData::All);
    assert!(seen.damages.len() == 1 && seen.damages[0].contains(&place.pack.to_string()), "{seen:?}");
    assert_eq!(seen.costs, ["src/sub/numbers"; 2]);
}

#[test]
fn cut_missing_and_swapped_packs_are_found_without_reading_data() {
    let (memory, repository) = golden("v2");
    let place = place(&repository, BlobKind::Data, &Id::of(&numbers()));
    let name = Name::new(FileKind::Pack, place.pack);
    let bytes = memory.read_whole(&name, 1 << 20).expect("read");
    memory.replace(&name, &bytes[..bytes.len() - 1]);
    let (_, seen) = run(&repository, ReadData::Nothing);
    assert!(seen.damages.len() == 1 && seen.costs.is_empty(), "every blob can still be read: {seen:?}");
    memory.remove(&name).expect("removed");
    let (_, seen) = run(&repository, ReadData::Nothing);
    assert!(seen.damages[0].contains("not there") && seen.costs.contains(&"src/sub/numbers".to_string()), "{seen:?}");
    assert!(seen.costs.len() > 4 && !seen.costs.contains(&"src/nothing".to_string()), "{seen:?}");
    memory.replace(&name, &bytes);
    let stray = Name::new(FileKind::Pack, Id::of(b"stray"));
    memory.replace(&stray, b"stray");
    let (report, seen) = run(&repository, ReadData::All);
    assert!(report.is_whole() && seen.notes == [stray.to_string()]);
}

#[test]
fn a_lost_tree_index_or_snapshot_is_named_with_what_it_costs() {
    let (memory, repository) = golden("v2");
    let all = load_all(&repository, &Filter::default()).expect("snapshots").snapshots;
    let root = place(&repository, BlobKind::Tree, &all[1].snapshot.tree);
    let name = Name::new(FileKind::Pack, root.pack);
    let bytes = memory.read_whole(&name, 1 << 20).expect("read");
    memory.remove(&name).expect("removed");
    let (_, seen) = run(&repository, ReadData::Nothing);
    assert_eq!(seen.costs, [""], "the second snapshot alone: {seen:?}");
    assert!(seen.damages.iter().any(|damage| damage.contains("tree")), "{seen:?}");
    memory.replace(&name, &bytes);
    let snapshot = Name::new(FileKind::Snapshot, all[0].id);
    let good = memory.read_whole(&snapshot, 1 << 20).expect("read");
    memory.replace(&snapshot, &good[1..]);
    let (report, seen) = run(&repository, ReadData::Nothing);
    assert!(report.damages == 1 && seen.costs == [""], "{seen:?}");
    memory.replace(&snapshot, &good);
    for listed in memory.list_all(FileKind::Index).expect("listed") {
        memory.replace(&Name::new(FileKind::Index, listed.id), b"x");
    }
    let (report, seen) = run(&repository, ReadData::Nothing);
    assert_eq!((report.packs, seen.costs), (0, vec![String::new(); 2]));
}

#[test]
fn subsets_are_what_restic_calls_them() {
    assert_eq!(ReadData::parse("2/3").expect("part"), ReadData::Part { part: 2, parts: 3 });
    assert_eq!(ReadData::parse("2.5%").expect("percent"), ReadData::Percent(2.5));
    assert_eq!(ReadData::parse("3M").expect("size"), ReadData::Bytes(3 << 20));
    assert_eq!(ReadData::parse("70").expect("size"), ReadData::Bytes(70));
    for bad in ["", "0/3", "4/3", "1/256", "0%", "101%", "-1%", "NaN%", "M", "0", "1.5G", "99999999999999T", "é"] {
        assert!(ReadData::parse(bad).is_err(), "{bad}");
    }
    let (_, repository) = golden("v2");
    let read = |data| run(&repository, data).0.packs_read;
    assert_eq!((1..=3).map(|part| read(ReadData::Part { part, parts: 3 })).sum::<u64>(), 4);
    assert_eq!((read(ReadData::Percent(50.0)), read(ReadData::Bytes(1)), read(ReadData::Bytes(1 << 30))), (2, 1, 4));
}

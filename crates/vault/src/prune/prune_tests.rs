//! What nobody needs goes and nothing else does, wherever a backup, a forget or a prune is cut off.

use super::plan::{MaxUnused, Options, Plan, plan};
use super::*;
use crate::backup::{self, Silent, backup};
use crate::chunk::Wish;
use crate::config::Version;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::{Cache, Index};
use crate::key_file::{Cost, Origin};
use crate::lock::{Lock, Sharing, SystemClock};
use crate::pack::BlobKind;
use crate::password::Password;
use crate::repository::{InitOptions, Repository};
use crate::restore::{self, Callbacks, Selected};
use crate::snapshots::{Filter, load, load_all};
use crate::source::files::{self, Walk};
use crate::storage::local::LocalStorage;
use crate::storage::memory::MemoryStorage;
use crate::storage::recording::{Operation, Recording};
use crate::storage::{FileKind, Name, Storage};
use crate::tree::Zone;
use crate::verify::{ReadData, verify};
use crate::writer;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kobj-vault-prune-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn vault(version: Version) -> MemoryStorage {
    let storage = MemoryStorage::new();
    let chunker_polynomial = 0x3D_A335_8B4D_C173;
    let options = InitOptions { version, chunker_polynomial, cost: Cost::TEST, origin: Origin::here() };
    Repository::init(Arc::new(storage.clone()), &Password::new("x"), &options).unwrap();
    storage
}

fn open(storage: &(impl Storage + Clone + 'static)) -> Repository {
    Repository::open(Arc::new(storage.clone()), &Password::new("x")).unwrap()
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

fn lock_of(repository: &Repository, sharing: Sharing) -> Lock {
    Lock::take(Arc::new(repository.clone()), Arc::new(SystemClock), sharing, Duration::ZERO).unwrap()
}

/// Backs a folder up, as a command does; the snapshot's id.
fn keep(storage: &(impl Storage + Clone + 'static), folder: &Path) -> Id {
    let repository = open(storage);
    let lock = lock_of(&repository, Sharing::Shared);
    let index = Index::load(&repository, &Cache::None).unwrap();
    let mut source = Walk::new(&[folder.to_path_buf()], files::Options::default()).unwrap();
    let options = backup::Options {
        paths: vec![folder.to_str().unwrap().to_string()],
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
    };
    let report = backup(&repository, &index, &mut source, None, &options, &|| lock.prove(), &mut Silent).unwrap();
    report.snapshot.unwrap()
}

fn forget(storage: &(impl Storage + Clone + 'static), snapshot: &Id) {
    let repository = open(storage);
    let lock = lock_of(&repository, Sharing::Exclusive);
    lock.prove().unwrap();
    repository.storage().remove(&Name::new(FileKind::Snapshot, *snapshot)).unwrap();
}

/// Prunes, as a command does.
fn prune(storage: &(impl Storage + Clone + 'static), options: &Options) -> Result<(Plan, Report)> {
    let repository = open(storage);
    let lock = lock_of(&repository, Sharing::Exclusive);
    let index = Index::load(&repository, &Cache::None)?;
    let survey = survey(&repository, &index)?;
    let plan = plan(survey.packs(), options)?;
    let report = execute(&survey, &plan, options.repack_uncompressed, &|| lock.prove())?;
    Ok((plan, report))
}

const NO_WASTE: Options = Options {
    max_unused: MaxUnused::Bytes(0),
    max_repack_bytes: u64::MAX,
    small_below_bytes: 0,
    repack_uncompressed: false,
    repack_trees_only: false,
};

fn packs(storage: &impl Storage) -> BTreeSet<Id> {
    storage.list_all(FileKind::Pack).unwrap().iter().map(|file| file.id).collect()
}

/// A vault with three snapshots, the first and last of which share most of what they hold; `forgotten`: of the first.
struct Kept {
    storage: MemoryStorage,
    first: Id,
    forgotten: Vec<u8>,
}

fn three_snapshots(scratch: &Scratch, version: Version) -> Kept {
    let storage = vault(version);
    let folder = scratch.0.join("source");
    fs::create_dir_all(folder.join("deep/er")).unwrap();
    let forgotten = noise(1, 50_000);
    for (seed, name) in (1..).zip(["goes", "stays", "deep/stays", "deep/er/stays"]) {
        fs::write(folder.join(name), noise(seed * 2 - 1, 50_000)).unwrap();
    }
    fs::write(folder.join("deep/er/changes"), "first").unwrap();
    let first = keep(&storage, &folder);
    fs::remove_file(folder.join("goes")).unwrap();
    fs::write(folder.join("deep/er/changes"), "second").unwrap();
    fs::write(folder.join("comes"), vec![b'c'; 30_000]).unwrap();
    keep(&storage, &folder);
    fs::write(folder.join("deep/comes"), "more").unwrap();
    keep(&storage, &folder);
    Kept { storage, first, forgotten }
}

/// Each blob that each snapshot names, read and proved; fails if the vault is not whole.
fn assert_whole(storage: &MemoryStorage, snapshots: &BTreeSet<Id>, what: &str) {
    let repository = open(storage);
    let found: BTreeSet<Id> = storage.list_all(FileKind::Snapshot).unwrap().iter().map(|file| file.id).collect();
    assert!(found.is_superset(snapshots), "{what}: a snapshot is gone");
    let mut findings = Vec::new();
    let report = verify(&repository, ReadData::All, &mut |finding| findings.push(finding)).unwrap();
    assert!(report.is_whole(), "{what}: {findings:?}");
    assert_eq!(report.snapshots as usize, found.len(), "{what}");
}

/// The files of a snapshot, restored into a folder: their paths and what they hold.
fn restored(repository: &Repository, snapshot: &Id, folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let index = Index::load(repository, &Cache::None).unwrap();
    let tree = load(repository, snapshot).unwrap().snapshot.tree;
    let (mut select, mut event) = (|_: &[u8], _: bool| Selected::ALL, |_: &restore::Event<'_>| {});
    let mut callbacks = Callbacks { select: &mut select, event: &mut event };
    let options = restore::Options { verify: true, ..restore::Options::default() };
    let report = restore::restore(repository, &index, &tree, folder, options, &mut callbacks).unwrap();
    assert_eq!(report.problems, 0);
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_path_buf()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else {
                found.insert(entry.strip_prefix(folder).unwrap().to_path_buf(), fs::read(&entry).unwrap());
            }
        }
    }
    fs::remove_dir_all(folder).unwrap();
    found
}

#[test]
fn what_was_forgotten_is_gone_and_a_second_prune_has_nothing_to_do() {
    let scratch = Scratch::new("gone");
    for version in [Version::One, Version::Two] {
        let Kept { storage, first, forgotten } = three_snapshots(&scratch, version);
        assert!(prune(&storage, &NO_WASTE).unwrap().0.is_empty(), "all is needed");
        forget(&storage, &first);
        let before = packs(&storage);
        let (plan, report) = prune(&storage, &NO_WASTE).unwrap();
        assert_eq!((plan.repack.len(), plan.remove.len()), (1, 1), "{plan:?}");
        assert_eq!((report.packs_written, report.packs_removed, report.blobs_copied), (1, 2, 3));
        assert!(plan.repack.iter().chain(&plan.remove).all(|id| before.contains(id) && !packs(&storage).contains(id)));
        let repository = open(&storage);
        let index = Index::load(&repository, &Cache::None).unwrap();
        assert!(!index.contains(BlobKind::Data, &Id::of(&forgotten)).unwrap());
        // Small index files were put together.
        assert_eq!((index.files().len(), report.index_files_removed, report.index_files_written), (1, 3, 1));
        assert_whole(&storage, &BTreeSet::new(), "after the prune");
        assert!(prune(&storage, &NO_WASTE).unwrap().0.is_empty());
        assert_eq!(load_all(&repository, &Filter::default()).unwrap().snapshots.len(), 2);
        fs::remove_dir_all(scratch.0.join("source")).unwrap();
    }
}

#[test]
fn all_goes_with_the_last_snapshot_and_strays_go_by_themselves() {
    let scratch = Scratch::new("strays");
    let Kept { storage, .. } = three_snapshots(&scratch, Version::Two);
    let stray = Name::new(FileKind::Pack, Id::of(b"stray"));
    storage.write(&stray, b"stray").unwrap();
    let indexes = storage.list_all(FileKind::Index).unwrap();
    let (plan, report) = prune(&storage, &NO_WASTE).unwrap();
    assert_eq!((plan.unreferenced.as_slice(), plan.unreferenced_bytes, report.packs_removed), (&[stray.id][..], 5, 1));
    assert_eq!(storage.list_all(FileKind::Index).unwrap(), indexes, "the index is as it was");
    assert!(!packs(&storage).contains(&stray.id));
    let snapshots = storage.list_all(FileKind::Snapshot).unwrap();
    snapshots.iter().for_each(|file| forget(&storage, &file.id));
    prune(&storage, &Options { max_unused: MaxUnused::Unlimited, ..NO_WASTE }).unwrap();
    assert!(packs(&storage).is_empty() && storage.list_all(FileKind::Index).unwrap().is_empty());
}

#[test]
fn a_vault_that_is_not_whole_is_not_pruned() {
    let scratch = Scratch::new("damaged");
    let Kept { storage, first, .. } = three_snapshots(&scratch, Version::Two);
    forget(&storage, &first);
    let refused = |what: &str, damage: &dyn Fn(&MemoryStorage)| {
        let damaged = storage.copy();
        damage(&damaged);
        let recording = Recording::of(&damaged);
        let error = prune(&recording, &NO_WASTE).unwrap_err();
        let is_lock = |operation: &Operation| match operation {
            Operation::Write(name, _) | Operation::Remove(name) => name.kind == FileKind::Lock,
        };
        assert!(error.is_damage() && recording.operations().iter().all(is_lock), "{what}: {error}");
    };
    for pack in packs(&storage) {
        let name = Name::new(FileKind::Pack, pack);
        let repository = open(&storage);
        let index = Index::load(&repository, &Cache::None).unwrap();
        if survey(&repository, &index).unwrap().packs().iter().any(|found| found.id == pack && found.used_blobs > 0) {
            refused("a missing pack", &|damaged| damaged.remove(&name).unwrap());
            let bytes = storage.read_whole(&name, 1 << 30).unwrap();
            refused("a cut pack", &|damaged| damaged.replace(&name, &bytes[..bytes.len() - 1]));
        } else {
            let gone = storage.copy();
            gone.remove(&name).unwrap();
            assert_eq!(prune(&gone, &NO_WASTE).unwrap().0.forget, [pack], "nobody needs it");
            assert!(prune(&gone, &NO_WASTE).unwrap().0.is_empty());
            assert_whole(&gone, &BTreeSet::new(), "without it");
        }
    }
    for kind in [FileKind::Snapshot, FileKind::Index] {
        let name = Name::new(kind, storage.list_all(kind).unwrap()[0].id);
        refused(kind.word(), &|damaged| damaged.replace(&name, b"x"));
    }
    for index in storage.list_all(FileKind::Index).unwrap() {
        // What only it named is unknown now, and looks as if nobody needed it.
        refused("a lost index file", &|damaged| damaged.remove(&Name::new(FileKind::Index, index.id)).unwrap());
    }
}

#[test]
fn of_a_blob_in_two_packs_one_is_kept_the_whole_one() {
    let scratch = Scratch::new("twice");
    let Kept { storage, .. } = three_snapshots(&scratch, Version::Two);
    let repository = open(&storage);
    let (stays, alone) = (noise(3, 50_000), noise(99, 1000));
    let id = Id::of(&stays);
    let index = Index::load(&repository, &Cache::None).unwrap();
    let first = index.lookup(BlobKind::Data, &id).unwrap().unwrap().pack;
    // Another writer that did not know of the first.
    let empty = Index::load(&open(&vault(Version::Two)), &Cache::None).unwrap();
    writer::write(&repository, &empty, &|| Ok(()), false, |writer| {
        writer.store(BlobKind::Data, stays.clone())?;
        writer.store(BlobKind::Data, alone.clone())
    })
    .unwrap();
    let index = Index::load(&repository, &Cache::None).unwrap();
    let places = index.lookup_all(BlobKind::Data, &id).unwrap();
    let second = places.iter().find(|place| place.pack != first).unwrap().pack;
    let both = storage.copy();
    let (plan, _) = prune(&both, &NO_WASTE).unwrap();
    assert_eq!((plan.remove, plan.repack), (vec![second], vec![]));
    assert_whole(&both, &BTreeSet::new(), "one of two");
    // The bytes of the first are bad where it stands: the copy is made from the second.
    forget(&storage, &load_all(&repository, &Filter::default()).unwrap().snapshots[0].id);
    let name = Name::new(FileKind::Pack, first);
    let mut bytes = storage.read_whole(&name, 1 << 30).unwrap();
    let place = places.iter().find(|place| place.pack == first).unwrap().blob;
    bytes[place.offset as usize + 20] ^= 1;
    storage.replace(&name, &bytes);
    prune(&storage, &NO_WASTE).unwrap();
    assert_whole(&storage, &BTreeSet::new(), "copied from the other place");
}

#[test]
fn what_is_not_compressed_is_compressed_on_request_and_small_packs_are_put_together() {
    let scratch = Scratch::new("compress");
    let storage = vault(Version::Two);
    let folder = scratch.0.join("source");
    fs::create_dir(&folder).unwrap();
    for seed in [1, 3, 5] {
        // Large enough to be tried first, and left as it is.
        fs::write(folder.join(format!("{seed}")), noise(seed, 200_000)).unwrap();
        keep(&storage, &folder);
    }
    let small = Options { small_below_bytes: 4 << 20, ..NO_WASTE };
    let (plan, report) = prune(&storage, &small).unwrap();
    assert_eq!((plan.repack.len(), report.packs_written, packs(&storage).len()), (6, 2, 2));
    let compress = Options { repack_uncompressed: true, ..NO_WASTE };
    assert_eq!(prune(&storage, &compress).unwrap().0.repack.len(), 1);
    assert!(prune(&storage, &compress).unwrap().0.is_empty(), "compressed once, whether it helped or not");
    assert_whole(&storage, &BTreeSet::new(), "compressed");
}

#[test]
fn nothing_is_removed_when_the_lock_is_lost() {
    let scratch = Scratch::new("lock");
    let Kept { storage, first, .. } = three_snapshots(&scratch, Version::Two);
    forget(&storage, &first);
    let repository = open(&storage);
    let index = Index::load(&repository, &Cache::None).unwrap();
    let survey = survey(&repository, &index).unwrap();
    let plan = plan(survey.packs(), &NO_WASTE).unwrap();
    // The first proof is that of the index file, the second of the old index files, the third and fourth of old packs.
    let whole = (storage.list_all(FileKind::Index).unwrap().len(), packs(&storage).len());
    for (holds, indexes, packs_left) in [(0, 3, whole.1 + 1), (1, 4, whole.1 + 1), (2, 1, whole.1 + 1), (3, 1, whole.1)]
    {
        let copy = storage.copy();
        let repository = open(&copy);
        let survey = super::survey(&repository, &index).unwrap();
        let asked = AtomicUsize::new(0);
        let prove = || match asked.fetch_add(1, Ordering::Relaxed) < holds {
            true => Ok(()),
            false => Err(Error::Locked { holder: "somebody".to_string() }),
        };
        assert!(matches!(execute(&survey, &plan, false, &prove), Err(Error::Locked { .. })), "{holds}");
        assert_eq!(copy.list_all(FileKind::Index).unwrap().len(), indexes, "{holds}");
        assert_eq!(packs(&copy).len(), packs_left, "{holds}");
        assert_whole(&copy, &BTreeSet::new(), "a lost lock");
    }
}

#[test]
fn a_plan_of_another_vault_is_refused() {
    let scratch = Scratch::new("foreign");
    let Kept { storage, .. } = three_snapshots(&scratch, Version::Two);
    let repository = open(&storage);
    let index = Index::load(&repository, &Cache::None).unwrap();
    let survey = survey(&repository, &index).unwrap();
    let mut plan = plan(survey.packs(), &NO_WASTE).unwrap();
    plan.remove.push(plan.keep.remove(0));
    let before = packs(&storage);
    assert!(matches!(execute(&survey, &plan, false, &|| Ok(())), Err(Error::Refused { .. })));
    assert_eq!(packs(&storage), before);
}

/// The restics of this machine.
fn restics() -> Vec<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools");
    let beside = ["restic-bookworm", "restic-trixie"].map(|suite| tools.join(suite).join("usr/bin/restic"));
    let mut found: Vec<_> = beside.into_iter().filter(|path| path.exists()).collect();
    let installed = PathBuf::from("/usr/bin/restic");
    if found.is_empty() && installed.exists() {
        found.push(installed);
    }
    found
}

/// What restic says of a vault, read to the last byte; `None` if nothing is wrong.
fn judged_by(restic: &Path, storage: &MemoryStorage, folder: &Path) -> Option<String> {
    let local = LocalStorage::create(folder).unwrap();
    local.prepare().unwrap();
    let copy = |name: Name| local.write(&name, &storage.read_whole(&name, 1 << 30).unwrap()).unwrap();
    copy(Name::CONFIG);
    for kind in FileKind::ALL {
        storage.list_all(kind).unwrap().iter().for_each(|file| copy(Name::new(kind, file.id)));
    }
    let mut command = Command::new(restic);
    command.args(["check", "--read-data", "--no-lock", "--no-cache", "--repo"]).arg(folder).env("RESTIC_PASSWORD", "x");
    let output = command.output().unwrap();
    fs::remove_dir_all(folder).unwrap();
    let text = || format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (!output.status.success()).then(text)
}

/// Two backups, a forget, an interrupted writer's stray, a prune, a third backup; which operation ended each.
fn recorded(scratch: &Scratch) -> (Recording, BTreeMap<usize, BTreeSet<Id>>) {
    let recording = Recording::of(&vault(Version::Two));
    let folder = scratch.0.join("source");
    fs::create_dir_all(folder.join("deep")).unwrap();
    let mut acknowledged = BTreeMap::from([(0, BTreeSet::new())]);
    let mut now = BTreeSet::new();
    for round in 0..4_u64 {
        for file in 0..4 {
            // One never changes, one each time, the others every other time.
            let seed = file + 10 * [0, round, round / 2, round.div_ceil(2)][file as usize];
            fs::write(folder.join(if file < 2 { "deep" } else { "" }).join(file.to_string()), noise(2 * seed, 20_000))
                .unwrap();
        }
        now.insert(keep(&recording, &folder));
        acknowledged.insert(recording.operations().len(), now.clone());
        if round % 2 == 1 {
            // From the moment that it is asked for, it need not be there.
            let oldest = load_all(&open(&recording), &Filter::default()).unwrap().snapshots[0].id;
            now.remove(&oldest);
            acknowledged.insert(recording.operations().len(), now.clone());
            forget(&recording, &oldest);
            recording.write(&Name::new(FileKind::Pack, Id::of(&[round as u8])), b"stray").unwrap();
            let (plan, _) = prune(&recording, &NO_WASTE).unwrap();
            assert!(!plan.repack.is_empty() && !plan.remove.is_empty() && !plan.unreferenced.is_empty(), "{plan:?}");
        }
    }
    (recording, acknowledged)
}

#[test]
fn cut_after_each_operation_of_backup_forget_and_prune_the_vault_is_whole() {
    const CUTS_MOST: usize = 600;
    const JUDGED_MOST: usize = 20;
    let scratch = Scratch::new("cuts");
    let (recording, acknowledged) = recorded(&scratch);
    let operations = recording.operations().len();
    assert!((40..CUTS_MOST).contains(&operations), "{operations}");
    let restics = restics();
    if restics.is_empty() {
        println!("skipped: restic's judgement of the cuts: there is no restic on this machine");
    }
    let mut whole: BTreeMap<Id, BTreeMap<PathBuf, Vec<u8>>> = BTreeMap::new();
    for cut in 0..=operations {
        let storage = recording.after(cut);
        let known = acknowledged.range(..=cut).next_back().unwrap().1;
        assert_whole(&storage, known, &format!("cut {cut} of {operations}"));
        let repository = open(&storage);
        for stored in load_all(&repository, &Filter::default()).unwrap().snapshots {
            let files = restored(&repository, &stored.id, &scratch.0.join("restored"));
            assert_eq!(files.len(), 4);
            assert_eq!(whole.entry(stored.id).or_insert_with(|| files.clone()), &files, "cut {cut}");
        }
        let every = operations.div_ceil(JUDGED_MOST - 1);
        if let Some(restic) = restics.iter().cycle().nth(cut / every).filter(|_| cut % every == 0) {
            let said = judged_by(restic, &storage, &scratch.0.join("judged"));
            assert_eq!(said, None, "restic at cut {cut} of {operations}");
        }
        // What a cut leaves, the next prune takes away: all that is left is named and needed.
        if cut % 4 == 0 {
            crate::lock::unlock(&repository, &SystemClock, true).unwrap();
            prune(&storage, &NO_WASTE).unwrap();
            assert!(prune(&storage, &NO_WASTE).unwrap().0.is_empty(), "cut {cut}");
            assert_whole(&storage, known, &format!("pruned after cut {cut}"));
        }
    }
    assert_eq!(whole.len(), 4);
}

#[test]
fn a_prune_whose_storage_fails_once_stops_there_and_loses_nothing() {
    let scratch = Scratch::new("fails");
    let Kept { storage, first, .. } = three_snapshots(&scratch, Version::Two);
    forget(&storage, &first);
    storage.write(&Name::new(FileKind::Pack, Id::of(b"stray")), b"stray").unwrap();
    let known: BTreeSet<Id> = storage.list_all(FileKind::Snapshot).unwrap().iter().map(|file| file.id).collect();
    let whole = Recording::of(&storage);
    prune(&whole, &NO_WASTE).unwrap();
    // The first writes the lock, the last removes it.
    let operations = whole.operations().len();
    assert!((8..40).contains(&operations), "{operations}");
    for fails_at in 1..operations - 1 {
        let failing = Recording::failing_at(&storage, fails_at);
        assert!(matches!(prune(&failing, &NO_WASTE), Err(Error::Io { .. })), "operation {fails_at}");
        // Nothing but the lock's removal comes after.
        assert_eq!(failing.operations().len(), fails_at + 1, "operation {fails_at}");
        assert_whole(failing.files(), &known, &format!("failed at operation {fails_at}"));
    }
}

//! What restic backed up comes back; what is there is respected; what is damaged is named; nothing leads outside.

use super::*;
use crate::index::Cache;
use crate::password::Password;
use crate::storage::local::LocalStorage;
use crate::storage::memory::MemoryStorage;
use crate::storage::{FileKind, Name, Storage};
use std::ffi::OsStr;
use std::fs::{read, read_link, symlink_metadata, write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("kobj-vault-restore-{name}-{}", std::process::id())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

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

struct Done {
    report: Report,
    problems: Vec<String>,
    deleted: Vec<String>,
}

fn run_selected(
    repository: &Repository,
    target: &Path,
    options: Options,
    select: &mut dyn FnMut(&[u8], bool) -> Selected,
) -> Result<Done> {
    let index = Index::load(repository, &Cache::None).expect("index");
    let tree = crate::snapshots::resolve(repository, "latest", &Default::default()).expect("snapshot").snapshot.tree;
    let (mut problems, mut deleted) = (Vec::new(), Vec::new());
    let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let mut event = |event: &Event<'_>| match event {
        Event::Problem(path, what) => problems.push(format!("{}: {what}", text(path))),
        Event::Delete(path) => deleted.push(text(path)),
        _ => {}
    };
    let mut callbacks = Callbacks { select, event: &mut event };
    let report = restore(repository, &index, &tree, target, options, &mut callbacks)?;
    assert_eq!(report.problems, problems.len() as u64);
    Ok(Done { report, problems, deleted })
}

fn run(repository: &Repository, target: &Path, options: Options) -> Result<Done> {
    run_selected(repository, target, options, &mut |_, _| Selected::ALL)
}

const IN_PLACE: Options =
    Options { in_place: true, overwrite: Overwrite::Always, delete: false, dry_run: false, verify: true };

fn numbers() -> Vec<u8> {
    (1..=3000).flat_map(|number: u32| format!("{number}\n").into_bytes()).collect()
}

/// All that the golden corpus is.
fn check(target: &Path) {
    let source = target.join("src");
    let stat = |name: &str| symlink_metadata(source.join(name)).expect("there");
    assert_eq!(read(source.join("sub/numbers")).expect("read"), numbers());
    assert_eq!(stat("sub/numbers").mode() & 0o7777, 0o640);
    assert!(read(source.join("a")).expect("read").starts_with(b"hello\nsecond\n"));
    assert_eq!((stat("a").ino(), stat("a").nlink()), (stat("hard").ino(), 2));
    assert_eq!(read_link(source.join("link")).expect("link"), Path::new("a"));
    assert!(stat("fifo").file_type().is_fifo() && stat("sub/empty").is_dir());
    assert_eq!((stat("random").mtime(), stat("random").mtime_nsec()), (-2, 500_000_000));
    assert_eq!((stat("random").len(), stat("nothing").len()), (600, 0));
    assert_eq!((stat("hole").len(), stat("hole").blocks()), (20 << 10, 0));
    assert_eq!(read(source.join(OsStr::from_bytes(b"new\nline\xff<&>"))).expect("read"), b"x");
    let mut value = [0; 10];
    match rustix::fs::lgetxattr(source.join("a"), "user.colour", &mut value[..]) {
        Ok(length) => assert_eq!(&value[..length], b"red"),
        Err(Errno::OPNOTSUPP) => println!("skipped: attributes: this file system has none"),
        Err(error) => panic!("user.colour: {error}"),
    }
    let names = std::fs::read_dir(&source).expect("listed").map(|entry| entry.expect("entry").file_name());
    assert_eq!(names.filter(|name| name.as_bytes().starts_with(b".kobj")).count(), 0);
    assert!(!target.join(JOURNAL).exists());
}

#[test]
fn what_restic_backed_up_comes_back() {
    for version in ["v1", "v2"] {
        let folder = Folder::new(version);
        let (_, repository) = golden(version);
        let done = run(&repository, &folder.0, Options { verify: true, ..Options::default() }).expect("restored");
        assert_eq!(done.problems, Vec::<String>::new());
        check(&folder.0);
        assert!(done.report.bytes_fetched > 14_000 && done.report.restored == 12, "{:?}", done.report);
        let again = run(&repository, &folder.0, Options::default());
        assert!(matches!(again, Err(Error::Refused { .. })), "not empty");
        let again = run(&repository, &folder.0, IN_PLACE).expect("restored");
        assert_eq!((again.problems.len(), again.report.bytes_fetched), (0, 0), "all was there");
    }
}

#[test]
fn a_dry_run_changes_nothing_and_a_selection_is_kept_to() {
    let folder = Folder::new("selected");
    let (_, repository) = golden("v2");
    let dry = run(&repository, &folder.0, Options { dry_run: true, ..Options::default() }).expect("planned");
    assert!(dry.report.restored >= 10 && !folder.0.exists());
    let mut select = |path: &[u8], _| {
        let restore = path.ends_with(b"numbers");
        Selected { restore, descend: true }
    };
    let done = run_selected(&repository, &folder.0, Options::default(), &mut select).expect("restored");
    assert_eq!((done.report.restored, done.problems.len()), (1, 0));
    assert_eq!(read(folder.0.join("src/sub/numbers")).expect("read"), numbers());
    assert_eq!(std::fs::read_dir(folder.0.join("src")).expect("listed").count(), 1);
}

#[test]
fn in_place_what_differs_is_written_and_what_is_more_is_removed_on_request() {
    let folder = Folder::new("place");
    let (_, repository) = golden("v2");
    run(&repository, &folder.0, Options::default()).expect("restored");
    let source = folder.0.join("src");
    let outside = Folder::new("place-outside");
    std::fs::create_dir(&outside.0).expect("made");
    write(outside.0.join("kept"), "kept").expect("written");
    let damage = || {
        write(source.join("sub/numbers"), "other").expect("written");
        write(source.join("hole"), [7; 20 << 10]).expect("written");
        let _ = std::fs::remove_file(source.join("random"));
        symlink(outside.0.join("kept"), source.join("random")).expect("linked");
        write(source.join("more"), "more").expect("written");
        symlink(&outside.0, source.join("sub/linked")).expect("linked");
    };
    damage();
    let never = Options { overwrite: Overwrite::Never, ..IN_PLACE };
    run(&repository, &folder.0, never).expect("restored");
    assert_eq!(read(source.join("sub/numbers")).expect("read"), b"other");
    let dry = Options { dry_run: true, delete: true, ..IN_PLACE };
    let deleted = ["src/more", "src/sub/linked"].map(String::from);
    assert_eq!(run(&repository, &folder.0, dry).expect("planned").deleted, deleted);
    assert_eq!(read(source.join("more")).expect("read"), b"more");
    let done = run(&repository, &folder.0, Options { delete: true, ..IN_PLACE }).expect("restored");
    assert_eq!((done.problems, done.deleted), (vec![], deleted.to_vec()));
    check(&folder.0);
    assert_eq!(read(outside.0.join("kept")).expect("read"), b"kept");
    let changed = Options { overwrite: Overwrite::IfChanged, ..IN_PLACE };
    assert_eq!(run(&repository, &folder.0, changed).expect("restored").report.bytes_fetched, 0);
}

#[test]
fn nothing_is_done_through_a_link_or_into_what_somebody_has_open() {
    let (folder, outside) = (Folder::new("through"), Folder::new("through-outside"));
    std::fs::create_dir(&outside.0).expect("made");
    std::fs::create_dir_all(folder.0.join("src")).expect("made");
    symlink(&outside.0, folder.0.join("src/sub")).expect("linked");
    write(folder.0.join("src/hole"), "a running machine's disk").expect("written");
    let _held = std::fs::File::open(folder.0.join("src/hole")).expect("opened");
    let (_, repository) = golden("v2");
    let done = run(&repository, &folder.0, Options { verify: false, ..IN_PLACE }).expect("restored");
    assert!(done.problems.iter().any(|problem| problem.starts_with("src/sub: ")), "{:?}", done.problems);
    assert!(done.problems.iter().any(|problem| problem.contains("somebody has it open")), "{:?}", done.problems);
    assert_eq!(std::fs::read_dir(&outside.0).expect("listed").count(), 0);
    assert_eq!(read(folder.0.join("src/hole")).expect("read"), b"a running machine's disk");
}

#[test]
fn a_name_that_is_left_alone_lends_its_contents_to_no_other() {
    let folder = Folder::new("alone");
    std::fs::create_dir_all(folder.0.join("src")).expect("made");
    write(folder.0.join("src/a"), "mine").expect("written");
    let (_, repository) = golden("v2");
    let never = Options { overwrite: Overwrite::Never, ..IN_PLACE };
    let done = run(&repository, &folder.0, never).expect("restored");
    assert_eq!(done.problems, Vec::<String>::new());
    assert_eq!(read(folder.0.join("src/a")).expect("read"), b"mine");
    assert!(read(folder.0.join("src/hard")).expect("read").starts_with(b"hello"));
}

#[test]
fn an_inode_with_a_name_elsewhere_is_not_touched() {
    let (folder, outside) = (Folder::new("inode"), Folder::new("inode-outside"));
    let (_, repository) = golden("v2");
    run(&repository, &folder.0, Options::default()).expect("restored");
    std::fs::create_dir(&outside.0).expect("made");
    let (inner, outer) = (folder.0.join("src/sub/numbers"), outside.0.join("numbers"));
    std::fs::hard_link(&inner, &outer).expect("linked");
    std::fs::set_permissions(&outer, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
    run(&repository, &folder.0, IN_PLACE).expect("restored");
    check(&folder.0);
    assert_eq!(symlink_metadata(&outer).expect("there").mode() & 0o777, 0o600);
    assert_eq!(read(&outer).expect("read"), numbers());
}

#[test]
fn a_folder_that_only_leads_to_what_is_selected_stays_as_it_is() {
    let folder = Folder::new("leads");
    std::fs::create_dir_all(folder.0.join("src")).expect("made");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    std::fs::set_permissions(folder.0.join("src"), mode).expect("set");
    let (_, repository) = golden("v2");
    let mut select = |path: &[u8], _| Selected { restore: path.ends_with(b"numbers"), descend: true };
    run_selected(&repository, &folder.0, IN_PLACE, &mut select).expect("restored");
    let mode = |name: &str| symlink_metadata(folder.0.join(name)).expect("there").mode() & 0o777;
    assert_eq!((mode("src"), mode("src/sub")), (0o711, 0o755), "the second was made, so it is as in the snapshot");
}

#[test]
fn a_broken_restore_in_place_is_named_and_a_rerun_finishes_it() {
    let folder = Folder::new("journal");
    let (_, repository) = golden("v2");
    run(&repository, &folder.0, Options::default()).expect("restored");
    let hole = folder.0.join("src/hole");
    let time = std::fs::metadata(&hole).expect("there").modified().expect("time");
    // As a run that was killed leaves it: size and time are right, the bytes are not.
    write(&hole, [7; 20 << 10]).expect("written");
    std::fs::File::options().write(true).open(&hole).expect("opened").set_modified(time).expect("set");
    let changed = Options { overwrite: Overwrite::IfChanged, verify: false, ..IN_PLACE };
    run(&repository, &folder.0, changed).expect("restored");
    assert_eq!(read(&hole).expect("read")[0], 7, "size and time are believed");
    write(folder.0.join(JOURNAL), b"src/hole\0").expect("written");
    run(&repository, &folder.0, changed).expect("restored");
    check(&folder.0);
}

#[test]
fn a_damaged_pack_costs_the_files_in_it_and_no_other() {
    let (memory, repository) = golden("v2");
    let index = Index::load(&repository, &Cache::None).expect("index");
    let blob = Id::of(&numbers());
    let place = index.lookup(crate::pack::BlobKind::Data, &blob).expect("read").expect("there");
    let name = Name::new(FileKind::Pack, place.pack);
    let mut bytes = memory.read_whole(&name, 1 << 20).expect("read");
    bytes[place.blob.offset as usize + 40] ^= 1;
    memory.replace(&name, &bytes);
    let folder = Folder::new("damaged");
    let done = run(&repository, &folder.0, Options::default()).expect("restored");
    assert_eq!(done.problems.len(), 1, "{:?}", done.problems);
    assert!(done.problems[0].starts_with("src/sub/numbers: not restored"), "{:?}", done.problems);
    assert!(!folder.0.join("src/sub/numbers").exists());
    assert_eq!(std::fs::read_dir(folder.0.join("src/sub")).expect("listed").count(), 1, "only `empty`");
    assert_eq!(symlink_metadata(folder.0.join("src/random")).expect("there").len(), 600);
    memory.remove(&name).expect("removed");
    let folder = Folder::new("missing");
    assert!(run(&repository, &folder.0, Options::default()).expect("restored").problems.len() >= 2);
}

//! A folder as a vault: layout, modes, no replacing, no following of links.

use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

/// A folder of this test's own, removed when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kobj-vault-local-{name}-{}", std::process::id()));
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn vault(name: &str) -> (Folder, LocalStorage) {
    let folder = Folder::new(name);
    let storage = LocalStorage::create(&folder.0).expect("created");
    storage.prepare().expect("prepared");
    (folder, storage)
}

#[test]
fn files_stand_where_restic_looks_for_them() {
    let (folder, storage) = vault("layout");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").mode() & 0o7777;
    for kind in FileKind::ALL {
        let id = Id::of(b"bytes");
        let name = if kind == FileKind::Config { Name::CONFIG } else { Name::new(kind, id) };
        storage.write(&name, b"bytes").expect("written");
        let path = match kind {
            FileKind::Config => folder.0.join("config"),
            FileKind::Pack => folder.0.join("data").join(&id.to_string()[..2]).join(id.to_string()),
            kind => folder.0.join(kind.folder()).join(id.to_string()),
        };
        assert_eq!(std::fs::read(&path).expect("there"), b"bytes");
        assert_eq!((mode(&path), mode(path.parent().expect("folder"))), (0o400, 0o700), "{}", path.display());
        assert_eq!(storage.size(&name).expect("size"), 5);
        let mut part = b"x".to_vec();
        storage.read(&name, 1..4, &mut part).expect("read");
        assert_eq!(part, b"xyte");
        assert!(matches!(storage.read(&name, 1..6, &mut part), Err(Error::Damaged { .. })));
        let upside_down = std::ops::Range { start: 3, end: 2 };
        assert!(matches!(storage.read(&name, upside_down, &mut part), Err(Error::Damaged { .. })));
        assert_eq!(part, b"xyte");
        assert!(matches!(storage.write(&name, b"other"), Err(Error::Exists { .. })));
        assert_eq!(storage.read_whole(&name, 5).expect("read"), b"bytes");
        assert!(matches!(storage.read_whole(&name, 4), Err(Error::Damaged { .. })));
        let listed = storage.list_all(kind).expect("listed");
        assert_eq!(listed, if kind == FileKind::Config { vec![] } else { vec![Listed { id, size_bytes: 5 }] });
        storage.remove(&name).expect("removed");
        for gone in [storage.remove(&name), storage.size(&name).map(drop), storage.read(&name, 0..0, &mut part)] {
            assert!(matches!(gone, Err(Error::Missing { .. })));
        }
    }
    assert_eq!(std::fs::read_dir(folder.0.join("data")).expect("data").count(), 256);
}

#[test]
fn links_and_fifos_in_a_vault_lead_nowhere() {
    let (folder, storage) = vault("links");
    let outside = Folder::new("outside");
    std::fs::create_dir(&outside.0).expect("made");
    let name = Name::new(FileKind::Snapshot, Id::of(b"secret"));
    let outer = outside.0.join(name.id.to_string());
    std::fs::write(&outer, b"secret").expect("written");
    let inner = folder.0.join("snapshots").join(name.id.to_string());
    symlink(&outer, &inner).expect("linked");
    assert!(matches!(storage.size(&name), Err(Error::Io { .. })));
    assert_eq!(storage.list_all(FileKind::Snapshot).expect("listed"), []);
    std::fs::remove_file(&inner).expect("removed");
    rustix::fs::mknodat(CWD, &inner, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("fifo");
    assert!(matches!(storage.read_whole(&name, 100), Err(Error::Damaged { .. })));
    // A folder that leads outside: neither read nor written through.
    std::fs::remove_dir(folder.0.join("locks")).expect("removed");
    symlink(&outside.0, folder.0.join("locks")).expect("linked");
    let lock = Name::new(FileKind::Lock, name.id);
    assert!(storage.size(&lock).is_err() && storage.list_all(FileKind::Lock).is_err());
    let new = Name::new(FileKind::Lock, Id::of(b"new"));
    assert!(storage.write(&new, b"new").is_err() && storage.remove(&lock).is_err());
    assert!(outer.exists() && !outside.0.join(new.id.to_string()).exists());
}

#[test]
fn what_an_interrupted_write_left_is_not_listed() {
    let (folder, storage) = vault("remains");
    let id = Id::of(b"x");
    std::fs::write(folder.0.join("index").join(format!("{id}-tmp-1")), b"x").expect("written");
    std::fs::write(folder.0.join("data/00").join(id.to_string()), b"in the wrong folder").expect("written");
    for kind in FileKind::ALL {
        assert_eq!(storage.list_all(kind).expect("listed"), []);
    }
}

#[test]
fn a_named_temporary_file_does_the_same() {
    let (folder, _storage) = vault("named");
    let open = fs::openat(CWD, &folder.0, FOLDER_FLAGS, Mode::empty()).expect("opened");
    write_temporary(open.as_fd(), "config", b"one").expect("written");
    let again = write_temporary(open.as_fd(), "config", b"two").expect_err("there");
    assert_eq!(again.kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(folder.0.join("config")).expect("there"), b"one");
    assert_eq!(std::fs::metadata(folder.0.join("config")).expect("there").permissions().mode() & 0o777, 0o400);
    let names = std::fs::read_dir(&folder.0).expect("listed").map(|entry| entry.expect("entry").file_name());
    assert_eq!(names.filter(|name| name.to_string_lossy().contains("tmp")).count(), 0);
}

#[test]
fn places_that_are_no_vault_are_said_to_be_none() {
    let folder = Folder::new("none");
    assert!(matches!(LocalStorage::open(&folder.0), Err(Error::NoVault { .. })));
    std::fs::create_dir_all(folder.0.join("key")).expect("made");
    assert!(matches!(LocalStorage::open(&folder.0), Err(Error::Unsupported { .. })));
}

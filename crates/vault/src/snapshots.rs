//! The snapshots of a vault: all of them, those that fit, and the one that somebody means.

use crate::error::{Error, Result};
use crate::id::Id;
use crate::repository::Repository;
use crate::snapshot::Snapshot;
use crate::storage::{FileKind, Name};

/// A snapshot and its id.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The file's id.
    pub id: Id,
    /// What it says.
    pub snapshot: Snapshot,
}

/// What a listing of snapshots found.
#[derive(Debug, Default)]
pub struct All {
    /// Those that can be read, oldest first; of equal times by id.
    pub snapshots: Vec<Stored>,
    /// Those that cannot, and why.
    pub damaged: Vec<(Id, Error)>,
}

/// Which snapshots are meant. Each list that is not empty must have one that fits.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Hosts (`--host`).
    pub hosts: Vec<String>,
    /// Lists of tags, of which a snapshot must have every one (`--tag a,b`); an empty list: it must have none.
    pub tags: Vec<Vec<String>>,
    /// Paths, of which a snapshot must have every one (`--path`).
    pub paths: Vec<String>,
}

impl Filter {
    /// Whether it fits.
    #[must_use]
    pub fn fits(&self, snapshot: &Snapshot) -> bool {
        let has_host = self.hosts.is_empty() || self.hosts.contains(&snapshot.hostname);
        let has_tags = |tags: &Vec<String>| match tags.as_slice() {
            [] => snapshot.tags.is_empty(),
            tags => tags.iter().all(|tag| snapshot.has_tag(tag)),
        };
        let has_all_tags = self.tags.is_empty() || self.tags.iter().any(has_tags);
        has_host && has_all_tags && self.paths.iter().all(|path| snapshot.paths.contains(path))
    }
}

/// Loads one.
///
/// # Errors
/// [`Error::Missing`], [`Error::Damaged`], and those of the storage.
pub fn load(repository: &Repository, id: &Id) -> Result<Stored> {
    let text = repository.load_file(FileKind::Snapshot, id)?;
    let snapshot = Snapshot::decode(&text).map_err(|e| Error::damaged(Name::new(FileKind::Snapshot, *id), e))?;
    Ok(Stored { id: *id, snapshot })
}

/// Loads all that fit. One that goes meanwhile is left out; a damaged one is handed back as such, whatever it may say.
///
/// # Errors
/// Those of the storage.
pub fn load_all(repository: &Repository, filter: &Filter) -> Result<All> {
    let mut all = All::default();
    for listed in repository.storage().list_all(FileKind::Snapshot)? {
        match load(repository, &listed.id) {
            Ok(stored) if filter.fits(&stored.snapshot) => all.snapshots.push(stored),
            Ok(_) | Err(Error::Missing { .. }) => {}
            Err(e) if e.is_damage() => all.damaged.push((listed.id, e)),
            Err(e) => return Err(e),
        }
    }
    all.snapshots.sort_by_key(|stored| (stored.snapshot.time.instant(), stored.id));
    Ok(all)
}

/// The snapshot that `text` means: `latest` (the newest that fits), an id, or the beginning of one.
///
/// # Errors
/// [`Error::Refused`] when it means none or several; those of the storage.
pub fn resolve(repository: &Repository, text: &str, filter: &Filter) -> Result<Stored> {
    if text == "latest" {
        let newest = load_all(repository, filter)?.snapshots.pop();
        return newest.ok_or_else(|| {
            Error::refused("snapshot latest", "there is none that fits; `kobj vault list` shows what there is")
        });
    }
    let id = resolve_id(repository, FileKind::Snapshot, text)?;
    load(repository, &id)
}

/// The file of this kind that `text` means: an id, or the beginning of one.
///
/// # Errors
/// [`Error::Refused`] when it means none or several; those of the storage.
pub fn resolve_id(repository: &Repository, kind: FileKind, text: &str) -> Result<Id> {
    let what = || format!("{} {text:?}", kind.word());
    if text.is_empty() || text.len() > 2 * Id::LENGTH || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Error::refused(what(), "it is no id: the first digits of one are enough"));
    }
    let start = text.to_ascii_lowercase();
    let mut found = None;
    for listed in repository.storage().list_all(kind)? {
        if listed.id.to_string().starts_with(&start) && found.replace(listed.id).is_some() {
            return Err(Error::refused(what(), "several ids begin so: write more digits"));
        }
    }
    found.ok_or_else(|| Error::refused(what(), "there is none; `kobj vault list` shows what there is"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Version;
    use crate::key_file::{Cost, Origin};
    use crate::password::Password;
    use crate::repository::InitOptions;
    use crate::storage::memory::MemoryStorage;
    use crate::tree::{Time, Zone};
    use std::sync::Arc;

    fn vault() -> Repository {
        let options = InitOptions {
            version: Version::Two,
            chunker_polynomial: 0x3d_a335_8b4d_c173,
            cost: Cost::TEST,
            origin: Origin::here(),
        };
        Repository::init(Arc::new(MemoryStorage::default()), &Password::new("x"), &options).unwrap()
    }

    fn put(repository: &Repository, seconds: i64, host: &str, tags: &[&str]) -> Id {
        let time = Time::new(seconds, 0, &Zone::utc());
        let mut snapshot = Snapshot::new(time, Id::of(b"tree"), vec!["/a".into(), "/b".into()]);
        snapshot.hostname = host.into();
        snapshot.tags = tags.iter().map(ToString::to_string).collect();
        repository.save_file(FileKind::Snapshot, &snapshot.encode().unwrap()).unwrap()
    }

    #[test]
    fn latest_is_the_newest_that_fits_and_digits_name_one() {
        let vault = vault();
        let new = put(&vault, 200, "h", &["x", "y"]);
        let old = put(&vault, 100, "h", &[]);
        let other = put(&vault, 300, "i", &["x"]);
        let latest = |filter: Filter| resolve(&vault, "latest", &filter).map(|stored| stored.id).ok();
        assert_eq!(latest(Filter::default()), Some(other));
        assert_eq!(latest(Filter { hosts: vec!["h".into()], ..Filter::default() }), Some(new));
        let tags =
            |tags: &[&str]| Filter { tags: vec![tags.iter().map(ToString::to_string).collect()], ..Filter::default() };
        assert_eq!(
            (latest(tags(&["x", "y"])), latest(tags(&["x"])), latest(tags(&[]))),
            (Some(new), Some(other), Some(old))
        );
        assert_eq!(latest(Filter { paths: vec!["/a".into(), "/c".into()], ..Filter::default() }), None);
        assert_eq!(resolve(&vault, &old.to_string()[..12], &Filter::default()).unwrap().id, old);
        let order: Vec<Id> = load_all(&vault, &Filter::default()).unwrap().snapshots.iter().map(|s| s.id).collect();
        assert_eq!(order, [old, new, other]);
    }

    #[test]
    fn what_means_none_or_several_is_refused() {
        let vault = vault();
        for text in ["latest", "", "g", "0", "-1", &"0".repeat(65)] {
            assert!(matches!(resolve(&vault, text, &Filter::default()), Err(Error::Refused { .. })), "{text}");
        }
        // Of 17 ids two begin with the same digit.
        let ids: Vec<String> = (0..17).map(|n| put(&vault, n, "h", &[]).to_string()).collect();
        let twice = |id: &&String| ids.iter().filter(|other| other[..1] == id[..1]).count() > 1;
        let start = &ids.iter().find(twice).unwrap()[..1];
        let error = resolve(&vault, start, &Filter::default()).unwrap_err();
        assert!(error.to_string().contains("more digits"), "{error}");
    }

    #[test]
    fn a_damaged_snapshot_is_named_and_hides_no_other() {
        let vault = vault();
        let good = put(&vault, 1, "h", &[]);
        let bad = vault.save_file(FileKind::Snapshot, b"{}").unwrap();
        let all = load_all(&vault, &Filter { hosts: vec!["h".into()], ..Filter::default() }).unwrap();
        assert_eq!(all.snapshots.iter().map(|s| s.id).collect::<Vec<_>>(), [good]);
        assert_eq!(all.damaged.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [bad]);
    }
}

//! Which blob is where: what the vault's index files say, as a sorted file on this machine, and what was stored since.

mod cache;
pub mod file;

pub use cache::PackSummary;

use crate::error::{Error, Result};
use crate::id::Id;
use crate::pack::{BlobKind, PackedBlob};
use crate::repository::Repository;
use crate::storage::{FileKind, Name};
use cache::{Builder, Scratch, SortedFile};
use rustix::fs::{CWD, Mode, OFlags};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

/// Where the sorted index is kept between commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cache {
    /// In a folder of each vault's own below this one.
    Folder(PathBuf),
    /// Nowhere: it is built anew in a temporary file that has no name.
    None,
}

impl Cache {
    /// `$XDG_CACHE_HOME/kobj`, else `$HOME/.cache/kobj`, else nowhere.
    #[must_use]
    pub fn usual() -> Self {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        absolute("XDG_CACHE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
            .map_or(Self::None, |folder| Self::Folder(folder.join("kobj")))
    }
}

/// One place where a blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The pack.
    pub pack: Id,
    /// Its place in the pack.
    pub blob: PackedBlob,
}

/// The index of a vault, as of when it was loaded, with what this process stored since.
///
/// Entries have numbers: those of the loaded index from 0, in order of (id, kind), one for each place of a blob. A bit
/// for each is how to mark many blobs in little memory.
#[derive(Debug)]
pub struct Index {
    sorted: SortedFile,
    /// What this process stored since. Read by every writer thread for each chunk, written once a pack.
    stored: RwLock<BTreeMap<(Id, BlobKind), Location>>,
}

impl Index {
    /// Loads the index of a vault: from the cache when it has the same index files, else from the vault.
    ///
    /// # Errors
    /// [`Error::Damaged`] for an index file that is none (the whole is refused then: what it named would seem to be
    /// absent); those of the storage and of temporary files. A cache that cannot be read or written is done without.
    pub fn load(repository: &Repository, cache: &Cache) -> Result<Self> {
        let mut listed: Vec<Id> = Vec::new();
        repository.storage().list(FileKind::Index, &mut |file| {
            listed.push(file.id);
            Ok(())
        })?;
        listed.sort_unstable();
        let vault = &repository.config().id;
        let folder = match cache {
            Cache::Folder(folder) => cache_folder(folder, vault),
            Cache::None => None,
        };
        let kept = match folder.as_ref().and_then(|folder| kept(folder, vault)) {
            Some(sorted) if sorted.files() == listed => return Ok(Self::of(sorted)),
            other => other,
        };
        if let Some(folder) = &folder {
            match build_kept(repository, &listed, folder, kept.as_ref()) {
                Ok(sorted) => return Ok(Self::of(sorted)),
                // Perhaps the cache is full or was damaged; if it was the vault's storage, that is said below.
                Err(Error::Io { .. } | Error::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Self::built_nowhere(repository, &listed)
    }

    fn built_nowhere(repository: &Repository, listed: &[Id]) -> Result<Self> {
        let scratch = Scratch::temporary();
        let to = scratch.file().map_err(|error| Error::io("create", "a temporary file", error))?;
        build(repository, listed, Builder::new(scratch)?, to).map(Self::of)
    }

    /// Loads what can be read of the index, from the vault alone. Index files that cannot are handed to `damaged`; what
    /// they named seems to be absent.
    ///
    /// # Errors
    /// Those of the storage and of temporary files.
    pub fn load_readable(repository: &Repository, damaged: &mut dyn FnMut(&Id, Error)) -> Result<Self> {
        let scratch = Scratch::temporary();
        let to = scratch.file().map_err(|error| Error::io("create", "a temporary file", error))?;
        let mut builder = Builder::new(scratch)?;
        for listed in repository.storage().list_all(FileKind::Index)? {
            match add_file(repository, &listed.id, &mut builder) {
                Ok(()) => {}
                Err(error) if error.is_damage() => damaged(&listed.id, error),
                Err(error) => return Err(error),
            }
        }
        builder.finish(&repository.config().id, to).map(Self::of)
    }

    fn of(sorted: SortedFile) -> Self {
        Self { sorted, stored: RwLock::default() }
    }

    /// The index files that it was loaded from, sorted.
    #[must_use]
    pub fn files(&self) -> &[Id] {
        self.sorted.files()
    }

    /// How many entries were loaded; their numbers are below this.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.sorted.blobs()
    }

    /// How many packs were loaded. A pack that two index files name counts twice.
    #[must_use]
    pub fn packs(&self) -> u64 {
        self.sorted.packs()
    }

    /// The pack of this number, below [`Index::packs`].
    ///
    /// # Errors
    /// When the sorted file cannot be read or was changed.
    pub fn pack(&self, number: u64) -> Result<PackSummary> {
        self.sorted.pack(number)
    }

    /// The entry of this number, below [`Index::entries`].
    ///
    /// # Errors
    /// When the sorted file cannot be read or was changed.
    pub fn entry(&self, number: u64) -> Result<Location> {
        let entry = self.sorted.entry(number)?;
        Ok(Location { pack: self.sorted.pack(u64::from(entry.pack))?.id, blob: entry.blob })
    }

    /// The number of the pack that an entry is in.
    ///
    /// # Errors
    /// When the sorted file cannot be read or was changed.
    pub fn pack_of_entry(&self, number: u64) -> Result<(u32, PackedBlob)> {
        self.sorted.entry(number).map(|entry| (entry.pack, entry.blob))
    }

    /// The number of a blob's first entry, if it was loaded.
    ///
    /// # Errors
    /// When the sorted file cannot be read or was changed.
    pub fn number(&self, kind: BlobKind, id: &Id) -> Result<Option<u64>> {
        self.sorted.find(kind, id)
    }

    /// Where a blob is, in one of its places.
    ///
    /// # Errors
    /// When the sorted file cannot be read or was changed.
    pub fn lookup(&self, kind: BlobKind, id: &Id) -> Result<Option<Location>> {
        if let Some(location) = self.stored.read().unwrap_or_else(PoisonError::into_inner).get(&(*id, kind)) {
            return Ok(Some(*location));
        }
        self.sorted.find(kind, id)?.map(|number| self.entry(number)).transpose()
    }

    /// Whether a blob is in the vault.
    ///
    /// # Errors
    /// When the sorted file cannot be read or was changed.
    pub fn contains(&self, kind: BlobKind, id: &Id) -> Result<bool> {
        let stored = self.stored.read().unwrap_or_else(PoisonError::into_inner).contains_key(&(*id, kind));
        Ok(stored || self.sorted.find(kind, id)?.is_some())
    }

    /// Every place of a blob, at most 64.
    ///
    /// # Errors
    /// When the sorted file cannot be read or was changed.
    pub fn lookup_all(&self, kind: BlobKind, id: &Id) -> Result<Vec<Location>> {
        const PLACES_MOST: u64 = 64;
        let mut found: Vec<Location> = Vec::new();
        found.extend(self.stored.read().unwrap_or_else(PoisonError::into_inner).get(&(*id, kind)));
        if let Some(first) = self.sorted.find(kind, id)? {
            for number in first..self.entries().min(first + PLACES_MOST) {
                let location = self.entry(number)?;
                if location.blob.id != *id || location.blob.kind != kind {
                    break;
                }
                if !found.contains(&location) {
                    found.push(location);
                }
            }
        }
        Ok(found)
    }

    /// Notes what this process stored: from now on these blobs are found.
    pub fn add(&self, pack: &Id, blobs: &[PackedBlob]) {
        let mut stored = self.stored.write().unwrap_or_else(PoisonError::into_inner);
        stored.extend(blobs.iter().map(|blob| ((blob.id, blob.kind), Location { pack: *pack, blob: *blob })));
    }
}

fn build(repository: &Repository, files: &[Id], mut builder: Builder, to: File) -> Result<SortedFile> {
    files.iter().try_for_each(|id| add_file(repository, id, &mut builder))?;
    builder.finish(&repository.config().id, to)
}

fn add_file(repository: &Repository, id: &Id, builder: &mut Builder) -> Result<()> {
    let name = Name::new(FileKind::Index, *id);
    repository.stream_index(id, |text| file::decode(&name, text, &mut |pack, blobs| builder.add_pack(pack, blobs)))?;
    builder.add_file(*id);
    Ok(())
}

/// The folder for a vault's cache, made if it was missing; `None` where that is impossible or others could write into it.
fn cache_folder(folder: &Path, vault: &Id) -> Option<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    let path = folder.join(vault.to_string());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).ok()?;
    let found = std::fs::symlink_metadata(&path).ok()?;
    let ours = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0;
    ours.then_some(path)
}

/// The sorted index that an earlier command kept. What is not ours, damaged or of another vault is not taken.
fn kept(folder: &Path, vault: &Id) -> Option<SortedFile> {
    use std::os::unix::fs::MetadataExt;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::openat(CWD, folder.join("index"), flags, Mode::empty()).ok()?);
    let found = file.metadata().ok()?;
    let ours = found.is_file() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0;
    let sorted = SortedFile::open(file, vault).ok().flatten().filter(|_| ours)?;
    sorted.kept_at(&folder.join("index"))
}

/// Builds the index in the cache: beside the kept one, then in its place. Whoever reads the old one goes on with it.
/// What is kept is taken over if the vault still has all the index files that it was made from; only new ones are read.
fn build_kept(repository: &Repository, files: &[Id], folder: &Path, kept: Option<&SortedFile>) -> Result<SortedFile> {
    let mut random = [0; 8];
    crate::crypto::random(&mut random)?;
    let new = folder.join(format!("index-{:016x}", u64::from_le_bytes(random)));
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(CWD, &new, flags, Mode::RUSR | Mode::WUSR);
    let to = made.map_err(|error| Error::io("create", new.display(), error))?;
    let mut builder = Builder::new(Scratch::in_folder(folder));
    let mut added: Cow<'_, [Id]> = Cow::Borrowed(files);
    let has = |ids: &[Id], id: &Id| ids.binary_search(id).is_ok();
    if let Some(kept) = kept.filter(|kept| kept.files().iter().all(|id| has(files, id))) {
        added = files.iter().filter(|id| !has(kept.files(), id)).copied().collect();
        builder = builder.and_then(|mut builder| builder.take(kept).map(|()| builder));
    }
    let built = builder.and_then(|builder| build(repository, &added, builder, to.into()));
    let moved = built.and_then(|sorted| {
        let moved = std::fs::rename(&new, folder.join("index"));
        moved.map(|()| sorted).map_err(|error| Error::io("rename", new.display(), error))
    });
    if moved.is_err() {
        // Best effort: a stray file in a cache does no harm.
        let _ = std::fs::remove_file(&new);
    }
    moved
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;

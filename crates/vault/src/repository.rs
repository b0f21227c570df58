//! A vault that is open: its storage, its key and its config, and the files and blobs in it.

use crate::compression;
use crate::config::{self, Config, Version};
use crate::crypto::{self, MasterKey};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::key_file::{self, Cost, KeyFile, Origin};
use crate::pack::PackedBlob;
use crate::password::Password;
use crate::storage::{FileKind, Name, Storage};
use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufRead, Cursor, Read};
use std::sync::Arc;

/// Key files that are tried with a password: each costs a derivation.
const KEYS_MOST: usize = 64;
/// Largest snapshot or lock file that is read, and what it may decompress to.
const FILE_MOST_BYTES: u64 = 64 << 20;
/// Largest index file that is read. restic ends one at 50,000 blobs, some 8 MB.
const INDEX_MOST_BYTES: u64 = 64 << 20;
/// What an index file may decompress to; it is read as a stream.
const INDEX_TEXT_MOST_BYTES: u64 = 1 << 30;
/// What stands before a compressed file, where the others have `{` or `[`.
const COMPRESSED: u8 = 2;
/// Level for files that are not packed: they are small, and read often.
const FILE_LEVEL: i32 = 3;

/// What a new vault is to be.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// Version of the format; two unless an old restic must read it.
    pub version: Version,
    /// The polynomial by which files are cut: irreducible, of degree 53.
    pub chunker_polynomial: u64,
    /// What deriving the key from the password costs.
    pub cost: Cost,
    /// What the first key says of its making.
    pub origin: Origin,
}

/// An open vault. Clones share the storage.
#[derive(Clone)]
pub struct Repository {
    storage: Arc<dyn Storage>,
    key: MasterKey,
    key_id: Id,
    config: Config,
}

impl fmt::Debug for Repository {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "Repository({}, {})", self.storage.place(), self.config.id.short())
    }
}

impl Repository {
    /// Opens the vault in this storage.
    ///
    /// # Errors
    /// [`Error::NoVault`], [`Error::WrongPassword`], [`Error::Unsupported`] for a newer version, [`Error::Damaged`], and
    /// those of the storage.
    pub fn open(storage: Arc<dyn Storage>, password: &Password) -> Result<Self> {
        // Before any key is derived: that takes a second, and is of no use here.
        let sealed_config = match storage.read_whole(&Name::CONFIG, config::SIZE_MOST) {
            Err(Error::Missing { .. }) => return Err(no_config(&*storage)?),
            other => other?,
        };
        let (key, key_id) = find_key(&*storage, password)?;
        let json = key.open(sealed_config).map_err(|error| Error::damaged("config", error))?;
        let config = Config::decode(&json)?;
        Ok(Self { storage, key, key_id, config })
    }

    /// Makes a new vault in this storage and opens it. The config is written last: without it there is no vault.
    ///
    /// # Errors
    /// [`Error::Refused`] where a vault, or what is left of one, is already; those of the storage.
    pub fn init(storage: Arc<dyn Storage>, password: &Password, options: &InitOptions) -> Result<Self> {
        if password.as_bytes().is_empty() {
            return Err(Error::refused(storage.place(), "a vault needs a password, and an empty one is none"));
        }
        match storage.size(&Name::CONFIG) {
            Err(Error::Missing { .. }) => {}
            Ok(_) => return Err(Error::refused(storage.place(), "there is a vault already; nothing was changed")),
            Err(error) => return Err(error),
        }
        for kind in [FileKind::Key, FileKind::Snapshot, FileKind::Index, FileKind::Pack] {
            if storage_has(&*storage, kind)? {
                return Err(Error::refused(storage.place(), remains(kind)));
            }
        }
        storage.prepare()?;
        let key = MasterKey::random()?;
        let config = Config::new(options.version, options.chunker_polynomial)?;
        let key_id = write_key(&*storage, &KeyFile::create(&key, password, options.cost, &options.origin)?)?;
        storage.write(&Name::CONFIG, &key.seal(&config.encode())?)?;
        Ok(Self { storage, key, key_id, config })
    }

    /// Where the files are.
    #[must_use]
    pub fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// Where the files are, to be shared with threads.
    #[must_use]
    pub fn shared_storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.storage)
    }

    /// What seals everything.
    #[must_use]
    pub fn key(&self) -> &MasterKey {
        &self.key
    }

    /// The key file that the password opened.
    #[must_use]
    pub fn key_id(&self) -> &Id {
        &self.key_id
    }

    /// Version, id and polynomial.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Adds a key file by which another password opens the vault.
    ///
    /// # Errors
    /// Those of the storage.
    pub fn add_key(&self, password: &Password, cost: Cost, origin: &Origin) -> Result<Id> {
        if password.as_bytes().is_empty() {
            return Err(Error::refused("a new key", "an empty password is none"));
        }
        write_key(&*self.storage, &KeyFile::create(&self.key, password, cost, origin)?)
    }

    /// The decrypted text of a lock, a snapshot or an index.
    ///
    /// # Errors
    /// [`Error::Missing`]; [`Error::Damaged`] when the bytes are not those of the name, not of this vault, or too many;
    /// those of the storage.
    pub fn load_file(&self, kind: FileKind, id: &Id) -> Result<Vec<u8>> {
        let name = Name::new(kind, *id);
        let plain = self.load_sealed(&name, FILE_MOST_BYTES)?;
        match plain.first() {
            Some(&COMPRESSED) => compression::decompress_bounded(&plain[1..], FILE_MOST_BYTES)
                .map_err(|error| Error::damaged(name, error)),
            Some(b'{' | b'[') => Ok(plain),
            _ => Err(unknown_form(&name)),
        }
    }

    /// Hands the text of an index file, piece by piece, to `read`.
    ///
    /// # Errors
    /// As [`Repository::load_file`], and what `read` returned.
    pub fn stream_index<T>(&self, id: &Id, read: impl FnOnce(&mut dyn BufRead) -> Result<T>) -> Result<T> {
        let name = Name::new(FileKind::Index, *id);
        let plain = self.load_sealed(&name, INDEX_MOST_BYTES)?;
        match plain.first() {
            Some(&COMPRESSED) => {
                let text = compression::reader(&plain[1..]).map_err(|error| Error::damaged(name, error))?;
                read(&mut io::BufReader::with_capacity(64 << 10, text.take(INDEX_TEXT_MOST_BYTES)))
            }
            Some(b'{' | b'[') => read(&mut Cursor::new(plain)),
            _ => Err(unknown_form(&name)),
        }
    }

    fn load_sealed(&self, name: &Name, most_bytes: u64) -> Result<Vec<u8>> {
        let sealed = self.storage.read_whole(name, most_bytes)?;
        if Id::of(&sealed) != name.id {
            return Err(Error::damaged(name, "its bytes are not those that it was named after"));
        }
        self.key.open(sealed).map_err(|error| Error::damaged(name, error))
    }

    /// Stores the text of a lock, a snapshot or an index, durably, and names it.
    ///
    /// # Errors
    /// Those of the storage.
    pub fn save_file(&self, kind: FileKind, text: &[u8]) -> Result<Id> {
        let plain = match self.config.version {
            Version::One => Cow::Borrowed(text),
            Version::Two => {
                let frame = compression::compress(text, FILE_LEVEL)
                    .map_err(|error| Error::io("compress", kind.word(), error))?;
                Cow::Owned([&[COMPRESSED], &frame[..]].concat())
            }
        };
        let sealed = self.key.seal(&plain)?;
        let id = Id::of(&sealed);
        self.storage.write(&Name::new(kind, id), &sealed)?;
        Ok(id)
    }

    /// Opens a blob whose sealed bytes were read from a pack: decrypts, decompresses, and proves that it is the one.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it is not.
    pub fn open_blob(&self, pack: &Id, blob: &PackedBlob, sealed: &mut [u8]) -> Result<Vec<u8>> {
        let damaged =
            |why: &dyn fmt::Display| Error::damaged(format_args!("{} blob {} in pack {pack}", blob.kind, blob.id), why);
        let plain = self.key.open_in_place(sealed).map_err(|error| damaged(&error))?;
        let plain = match blob.uncompressed_length {
            Some(length) => compression::decompress_exactly(plain, length as usize).map_err(|error| damaged(&error))?,
            None => plain.to_vec(),
        };
        if Id::of(&plain) != blob.id {
            return Err(damaged(&"its bytes are not those that it was named after"));
        }
        Ok(plain)
    }

    /// Seals a blob for a pack behind what `to` holds. `level`: zstd's, or `None` to store it as it is; a version 1
    /// vault never compresses. The answer is the length before compression if it was compressed.
    ///
    /// # Errors
    /// When zstd or the system has no memory or randomness to give.
    pub fn seal_blob(&self, plain: &[u8], level: Option<i32>, to: &mut Vec<u8>) -> Result<Option<u32>> {
        let length = u32::try_from(plain.len() + crypto::OVERHEAD)
            .map_err(|_| Error::refused("a blob", "it would be larger than 4 GiB"))?
            - crypto::OVERHEAD as u32;
        match level.filter(|_| self.config.version >= Version::Two) {
            Some(level) => {
                let frame =
                    compression::compress(plain, level).map_err(|error| Error::io("compress", "a blob", error))?;
                self.key.seal_onto(&frame, to)?;
                Ok(Some(length))
            }
            None => self.key.seal_onto(plain, to).map(|()| None),
        }
    }
}

fn unknown_form(name: &Name) -> Error {
    Error::damaged(name, "its first byte says neither JSON nor zstd")
}

fn storage_has(storage: &dyn Storage, kind: FileKind) -> Result<bool> {
    let mut found = false;
    storage.list(kind, &mut |_| {
        found = true;
        Ok(())
    })?;
    Ok(found)
}

fn remains(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Key => {
            "there is a key but no config: an `init` was interrupted, or the config was lost; if nothing was ever stored \
             here, remove the folder and run `kobj vault init` again"
        }
        _ => {
            "there are files of a vault but no config: it was lost. Without it (its chunker polynomial and id) put it back \
             from a copy; nothing was changed"
        }
    }
}

/// Why there is no vault where there is no config.
fn no_config(storage: &dyn Storage) -> Result<Error> {
    for kind in [FileKind::Key, FileKind::Snapshot, FileKind::Pack] {
        if storage_has(storage, kind)? {
            return Ok(Error::NoVault { place: storage.place(), why: remains(kind).to_string() });
        }
    }
    let why = "there is no config in it; `kobj vault init` makes a new vault".to_string();
    Ok(Error::NoVault { place: storage.place(), why })
}

fn write_key(storage: &dyn Storage, key: &KeyFile) -> Result<Id> {
    let text = key.encode();
    let id = Id::of(&text);
    storage.write(&Name::new(FileKind::Key, id), &text)?;
    Ok(id)
}

/// Tries the password on each key file.
fn find_key(storage: &dyn Storage, password: &Password) -> Result<(MasterKey, Id)> {
    let mut keys_tried = 0;
    let mut unusable = Vec::new();
    for listed in storage.list_all(FileKind::Key)?.into_iter().take(KEYS_MOST) {
        match read_key(storage, &listed.id).and_then(|key| key.open(password)) {
            Ok(Ok(master)) => return Ok((master, listed.id)),
            Ok(Err(_)) => keys_tried += 1,
            Err(error) => unusable.push(format!("key {}: {error}", listed.id.short())),
        }
    }
    if keys_tried == 0 && unusable.is_empty() {
        return Err(Error::damaged(
            storage.place(),
            "the vault has a config but no key: restore its folder keys from a copy",
        ));
    }
    if keys_tried == 0 {
        return Err(Error::damaged(storage.place(), format_args!("no key can be used: {}", unusable.join("; "))));
    }
    Err(Error::WrongPassword { keys_tried, unusable })
}

/// A key file, proved to have the bytes that its name says.
///
/// # Errors
/// [`Error::Missing`], [`Error::Damaged`], [`Error::Unsupported`], and those of the storage.
pub fn read_key(storage: &dyn Storage, id: &Id) -> Result<KeyFile> {
    let name = Name::new(FileKind::Key, *id);
    let text = storage.read_whole(&name, key_file::SIZE_MOST)?;
    if Id::of(&text) != *id {
        return Err(Error::damaged(name, "its bytes are not those that it was named after"));
    }
    KeyFile::decode(&text)
}

#[cfg(test)]
#[path = "repository_tests.rs"]
mod tests;

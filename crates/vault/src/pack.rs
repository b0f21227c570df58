//! Packs: sealed blobs one behind the other, a sealed header that says which, and the header's length.
//!
//! ```text
//! blob 0 | blob 1 | ... | sealed header | length of the sealed header, u32 little endian
//! header entry: type u8 | length of the sealed blob u32 LE | [length before compression u32 LE, types 2 and 3] | id 32
//! ```

use crate::crypto::{self, MasterKey};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::storage::{FileKind, Name, Storage};
use std::fmt;

/// Largest sealed header that is read.
pub const HEADER_MOST_BYTES: u64 = 16 << 20;
/// Largest pack that is believed: lengths are 32 bits wide.
pub const SIZE_MOST: u64 = u32::MAX as u64;
/// The size at which a pack is written: restic's.
pub const SIZE_TARGET: usize = 16 << 20;
const LENGTH_FIELD: usize = 4;
const PLAIN_ENTRY: usize = 1 + 4 + Id::LENGTH;
const COMPRESSED_ENTRY: usize = PLAIN_ENTRY + 4;

/// What a blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlobKind {
    /// A piece of a file.
    Data,
    /// A folder.
    Tree,
}

impl BlobKind {
    /// As indexes and messages spell it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Tree => "tree",
        }
    }
}

impl fmt::Display for BlobKind {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.word())
    }
}

/// A blob's place in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedBlob {
    /// What it is.
    pub kind: BlobKind,
    /// SHA-256 of its plain bytes.
    pub id: Id,
    /// Where its sealed bytes begin.
    pub offset: u32,
    /// How many sealed bytes there are.
    pub length: u32,
    /// Bytes before compression; `None` if it is not compressed.
    pub uncompressed_length: Option<u32>,
}

impl PackedBlob {
    /// Bytes of the blob itself.
    #[must_use]
    pub const fn plain_length(&self) -> u32 {
        match self.uncompressed_length {
            Some(length) => length,
            None => self.length.saturating_sub(crypto::OVERHEAD as u32),
        }
    }

    /// The byte behind its sealed bytes.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset as u64 + self.length as u64
    }
}

/// Decodes a decrypted header. Blobs stand one behind the other, in this order, from byte 0.
///
/// # Errors
/// [`Error::Damaged`] for unknown types, cut entries, blobs shorter than their encryption, and packs above 4 GiB.
pub fn decode_header(header: &[u8]) -> Result<Vec<PackedBlob>> {
    let damaged = |why: &str| Error::damaged("a pack's header", why);
    let mut blobs = Vec::with_capacity(header.len() / PLAIN_ENTRY);
    let (mut rest, mut offset) = (header, 0_u32);
    while let Some((kind, behind)) = rest.split_first() {
        let (kind, compressed) = match kind {
            0 => (BlobKind::Data, false),
            1 => (BlobKind::Tree, false),
            2 => (BlobKind::Data, true),
            3 => (BlobKind::Tree, true),
            other => return Err(damaged(&format!("type {other} of a blob is not known"))),
        };
        let cut = || damaged("its last entry is cut");
        let (length, behind) = take_u32(behind).ok_or_else(cut)?;
        let (uncompressed_length, behind) = match compressed {
            true => take_u32(behind).map(|(length, behind)| (Some(length), behind)).ok_or_else(cut)?,
            false => (None, behind),
        };
        let (id, behind) = behind.split_first_chunk::<{ Id::LENGTH }>().ok_or_else(cut)?;
        if (length as usize) < crypto::OVERHEAD {
            return Err(damaged("a blob is shorter than its encryption"));
        }
        blobs.push(PackedBlob { kind, id: Id::from_bytes(*id), offset, length, uncompressed_length });
        offset = offset.checked_add(length).ok_or_else(|| damaged("the blobs have more than 4 GiB"))?;
        rest = behind;
    }
    Ok(blobs)
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    bytes.split_first_chunk().map(|(number, rest)| (u32::from_le_bytes(*number), rest))
}

/// A header's text, before encryption.
#[must_use]
pub fn encode_header(blobs: &[PackedBlob]) -> Vec<u8> {
    let mut header = Vec::with_capacity(blobs.len() * COMPRESSED_ENTRY);
    for blob in blobs {
        let kind = match blob.kind {
            BlobKind::Data => 0,
            BlobKind::Tree => 1,
        };
        header.push(kind + if blob.uncompressed_length.is_some() { 2 } else { 0 });
        header.extend(blob.length.to_le_bytes());
        header.extend(blob.uncompressed_length.iter().flat_map(|length| length.to_le_bytes()));
        header.extend(blob.id.as_bytes());
    }
    header
}

/// Reads which blobs a pack of this many bytes says it holds.
///
/// # Errors
/// [`Error::Damaged`] for a header that is no header, is not ours, or does not fill the pack; those of the storage.
pub fn read_header(storage: &dyn Storage, key: &MasterKey, pack: &Id, size_bytes: u64) -> Result<Vec<PackedBlob>> {
    let name = Name::new(FileKind::Pack, *pack);
    let damaged = |why: &dyn fmt::Display| Error::damaged(name, why);
    let field = size_bytes.checked_sub(LENGTH_FIELD as u64).ok_or_else(|| damaged(&"it is too short to be a pack"))?;
    let mut length = Vec::new();
    storage.read(&name, field..size_bytes, &mut length)?;
    let length = length.first_chunk().map_or(0, |length| u64::from(u32::from_le_bytes(*length)));
    if length > HEADER_MOST_BYTES {
        return Err(damaged(&format_args!("its header would have {length} bytes; at most 16 MiB are read")));
    }
    let start = field.checked_sub(length).ok_or_else(|| damaged(&"its header would begin before the file does"))?;
    let mut header = Vec::new();
    storage.read(&name, start..field, &mut header)?;
    header_of(key, &name, header, start)
}

/// The blobs of a pack whose bytes are all here.
///
/// # Errors
/// [`Error::Damaged`] as [`read_header`].
pub fn header_in(key: &MasterKey, pack: &Id, bytes: &[u8]) -> Result<Vec<PackedBlob>> {
    let name = Name::new(FileKind::Pack, *pack);
    let parts = bytes.split_last_chunk::<LENGTH_FIELD>().and_then(|(rest, length)| {
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        rest.split_at_checked(rest.len().checked_sub(length)?)
    });
    let (blobs, header) = parts.ok_or_else(|| Error::damaged(name, "its header would begin before the file does"))?;
    if header.len() as u64 > HEADER_MOST_BYTES {
        return Err(Error::damaged(name, "its header has more than 16 MiB"));
    }
    header_of(key, &name, header.to_vec(), blobs.len() as u64)
}

fn header_of(key: &MasterKey, name: &Name, sealed: Vec<u8>, start: u64) -> Result<Vec<PackedBlob>> {
    let header = key.open(sealed).map_err(|error| Error::damaged(format_args!("the header of {name}"), error))?;
    let blobs = decode_header(&header).map_err(|error| match error {
        Error::Damaged { why, .. } => Error::damaged(format_args!("the header of {name}"), why),
        other => other,
    })?;
    if blobs.last().map_or(0, PackedBlob::end) != start {
        return Err(Error::damaged(name, "its header does not say all that is in it"));
    }
    Ok(blobs)
}

/// A pack that is whole and ready to be written.
#[derive(Debug)]
pub struct Pack {
    /// SHA-256 of `bytes`.
    pub id: Id,
    /// The file.
    pub bytes: Vec<u8>,
    /// What is in it.
    pub blobs: Vec<PackedBlob>,
}

/// A pack being filled.
#[derive(Debug, Default)]
pub struct Packer {
    bytes: Vec<u8>,
    blobs: Vec<PackedBlob>,
}

impl Packer {
    /// An empty pack that is built in this buffer, whatever was in it.
    #[must_use]
    pub fn in_buffer(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self { bytes: buffer, blobs: Vec::new() }
    }

    /// Bytes of the file, were it finished now.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let entries = self.blobs.iter().map(|blob| match blob.uncompressed_length {
            Some(_) => COMPRESSED_ENTRY,
            None => PLAIN_ENTRY,
        });
        self.bytes.len() + entries.sum::<usize>() + crypto::OVERHEAD + LENGTH_FIELD
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }

    /// Whether it should be written now: it has restic's target size, or its header is about to be as large as is read.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= SIZE_TARGET || (self.blobs.len() + 1) * COMPRESSED_ENTRY + crypto::OVERHEAD > SIZE_TARGET
    }

    /// Adds a blob that is sealed already. `uncompressed_length`: bytes before compression if it was compressed.
    ///
    /// # Errors
    /// [`Error::Refused`] when the pack would get larger than 4 GiB.
    pub fn add(&mut self, kind: BlobKind, id: Id, sealed: &[u8], uncompressed_length: Option<u32>) -> Result<()> {
        let place = |bytes: usize| u32::try_from(bytes).ok();
        let too_large = || Error::refused(format_args!("{kind} blob {id}"), "the pack would be larger than 4 GiB");
        place(self.size_bytes() + sealed.len() + COMPRESSED_ENTRY).ok_or_else(too_large)?;
        let (offset, length) = place(self.bytes.len()).zip(place(sealed.len())).ok_or_else(too_large)?;
        self.bytes.extend_from_slice(sealed);
        self.blobs.push(PackedBlob { kind, id, offset, length, uncompressed_length });
        Ok(())
    }

    /// Writes the header behind the blobs and names the whole.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn finish(mut self, key: &MasterKey) -> Result<Pack> {
        let start = self.bytes.len();
        key.seal_onto(&encode_header(&self.blobs), &mut self.bytes)?;
        let length = u32::try_from(self.bytes.len() - start)
            .map_err(|_| Error::refused("a pack", "its header would be larger than 4 GiB"))?;
        self.bytes.extend(length.to_le_bytes());
        Ok(Pack { id: Id::of(&self.bytes), bytes: self.bytes, blobs: self.blobs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryStorage;

    fn pack(key: &MasterKey) -> Pack {
        let mut packer = Packer::default();
        for (kind, text, uncompressed) in [(BlobKind::Data, "one", None), (BlobKind::Tree, "two!", Some(9))] {
            let sealed = key.seal(text.as_bytes()).expect("sealed");
            packer.add(kind, Id::of(text.as_bytes()), &sealed, uncompressed).expect("room");
        }
        let size_bytes = packer.size_bytes();
        let pack = packer.finish(key).expect("finished");
        assert_eq!(pack.bytes.len(), size_bytes);
        pack
    }

    #[test]
    fn a_pack_says_what_is_in_it() {
        let key = MasterKey::random().expect("key");
        let pack = pack(&key);
        assert_eq!(header_in(&key, &pack.id, &pack.bytes).expect("header"), pack.blobs);
        let storage = MemoryStorage::new();
        storage.write(&Name::new(FileKind::Pack, pack.id), &pack.bytes).expect("written");
        let size_bytes = pack.bytes.len() as u64;
        assert_eq!(read_header(&storage, &key, &pack.id, size_bytes).expect("header"), pack.blobs);
        let second = pack.blobs[1];
        assert_eq!((second.offset, second.length, second.plain_length()), (35, 36, 9));
        assert_eq!(pack.blobs[0].plain_length(), 3);
        assert!(read_header(&storage, &key, &pack.id, size_bytes - 1).is_err());
    }

    #[test]
    fn a_changed_cut_or_foreign_pack_is_an_error() {
        let key = MasterKey::random().expect("key");
        let pack = pack(&key);
        // The header alone is looked at here: a blob's own bytes are proved when it is read.
        let header = pack.blobs.iter().map(|blob| blob.length as usize).sum::<usize>();
        for at in header..pack.bytes.len() {
            let mut changed = pack.bytes.clone();
            changed[at] ^= 1;
            assert!(header_in(&key, &pack.id, &changed).is_err(), "byte {at}");
        }
        for length in 0..pack.bytes.len() {
            assert!(header_in(&key, &pack.id, &pack.bytes[..length]).is_err(), "cut at {length}");
        }
        assert!(header_in(&MasterKey::random().expect("key"), &pack.id, &pack.bytes).is_err());
        assert!(header_in(&key, &pack.id, &[&[0], &pack.bytes[..]].concat()).is_err());
    }

    #[test]
    fn headers_that_lie_are_refused() {
        let blob =
            PackedBlob { kind: BlobKind::Data, id: Id::of(b""), offset: 0, length: 40, uncompressed_length: None };
        let good = encode_header(&[blob]);
        assert_eq!(decode_header(&good).expect("header"), [blob]);
        let with = |at: usize, byte: u8| {
            let mut changed = good.clone();
            changed[at] = byte;
            decode_header(&changed)
        };
        assert!(with(0, 4).is_err() && with(0, 2).is_err() && with(1, 31).is_err());
        let huge = PackedBlob { length: u32::MAX, ..blob };
        assert!(decode_header(&encode_header(&[huge, huge])).is_err());
    }
}

//! An index file: which blobs are where in which packs. Read as a stream, pack by pack.
//!
//! ```text
//! {"supersedes":[ID, ...],"packs":[{"id":ID,"blobs":[{"id":ID,"type":"data"|"tree","offset":N,"length":N,
//!  "uncompressed_length":N}, ...]}, ...]}
//! ```
//! `supersedes` names index files that this one replaced. They are removed only when this one stands, and what they say
//! stays true until then, so readers (restic's and ours) need not heed it.

use crate::crypto;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::pack::{self, BlobKind, PackedBlob};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::io::BufRead;

/// Blobs after which restic ends an index file, and so do we.
pub const BLOBS_FULL: usize = 50_000;
/// Most blobs that one pack can have: its header's bound, over the shortest entry.
const BLOBS_OF_PACK_MOST: usize = (pack::HEADER_MOST_BYTES / 37) as usize;
/// Most index files that one file can supersede.
const SUPERSEDES_MOST: usize = 1 << 20;

/// What is called for each pack of an index file.
pub type EachPack<'a> = dyn FnMut(&Id, &[PackedBlob]) -> Result<()> + 'a;

/// Reads an index file's text; hands each pack to `each`. The answer is which index files it supersedes.
///
/// # Errors
/// [`Error::Damaged`] for anything that is no index file; what `each` returned.
pub fn decode(name: &dyn fmt::Display, text: &mut dyn BufRead, each: &mut EachPack<'_>) -> Result<Vec<Id>> {
    let mut failed = None;
    let mut json = serde_json::Deserializer::from_reader(text);
    let seed = FileSeed { each, failed: &mut failed };
    let supersedes = seed.deserialize(&mut json).and_then(|supersedes| json.end().map(|()| supersedes));
    match failed {
        Some(error) => Err(error),
        None => supersedes.map_err(|error| Error::damaged(name, error)),
    }
}

/// The text of an index file.
#[must_use]
pub fn encode<'a>(supersedes: &[Id], packs: impl Iterator<Item = (&'a Id, &'a [PackedBlob])>) -> Vec<u8> {
    use std::fmt::Write;
    let mut text = String::from("{");
    if !supersedes.is_empty() {
        let ids: Vec<String> = supersedes.iter().map(|id| format!("\"{id}\"")).collect();
        let _ = write!(text, "\"supersedes\":[{}],", ids.join(","));
    }
    text.push_str("\"packs\":[");
    for (number, (id, blobs)) in packs.enumerate() {
        let comma = if number == 0 { "" } else { "," };
        let _ = write!(text, "{comma}{{\"id\":\"{id}\",\"blobs\":[");
        for (number, blob) in blobs.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            let PackedBlob { kind, id, offset, length, .. } = blob;
            let _ =
                write!(text, "{comma}{{\"id\":\"{id}\",\"type\":\"{kind}\",\"offset\":{offset},\"length\":{length}");
            if let Some(length) = blob.uncompressed_length {
                let _ = write!(text, ",\"uncompressed_length\":{length}");
            }
            text.push('}');
        }
        text.push_str("]}");
    }
    text.push_str("]}");
    text.into_bytes()
}

/// Declares a seed that reads a JSON object or array with the given visitor method.
struct FileSeed<'a, 'b> {
    each: &'a mut EachPack<'b>,
    failed: &'a mut Option<Error>,
}

impl<'de> DeserializeSeed<'de> for FileSeed<'_, '_> {
    type Value = Vec<Id>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> std::result::Result<Vec<Id>, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FileSeed<'_, '_> {
    type Value = Vec<Id>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an index file")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Vec<Id>, A::Error> {
        let mut supersedes = Vec::new();
        let mut seen = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "supersedes" => supersedes = map.next_value_seed(Supersedes)?,
                "packs" => {
                    seen = true;
                    map.next_value_seed(Packs { each: &mut *self.each, failed: &mut *self.failed })?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if seen { Ok(supersedes) } else { Err(A::Error::missing_field("packs")) }
    }
}

struct Supersedes;

impl<'de> DeserializeSeed<'de> for Supersedes {
    type Value = Vec<Id>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> std::result::Result<Vec<Id>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Supersedes {
    type Value = Vec<Id>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("ids of index files")
    }

    fn visit_unit<E>(self) -> std::result::Result<Vec<Id>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Vec<Id>, A::Error> {
        let mut ids = Vec::new();
        while let Some(id) = list.next_element_seed(IdSeed)? {
            if ids.len() == SUPERSEDES_MOST {
                return Err(A::Error::custom("it supersedes too many others"));
            }
            ids.push(id);
        }
        Ok(ids)
    }
}

struct Packs<'a, 'b> {
    each: &'a mut EachPack<'b>,
    failed: &'a mut Option<Error>,
}

impl<'de> DeserializeSeed<'de> for Packs<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> std::result::Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Packs<'_, '_> {
    type Value = ();

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("packs")
    }

    /// Go writes an empty list as null.
    fn visit_unit<E>(self) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<(), A::Error> {
        let mut blobs = Vec::new();
        while let Some(pack) = list.next_element_seed(PackSeed { blobs: &mut blobs })? {
            if let Err(error) = (self.each)(&pack, &blobs) {
                *self.failed = Some(error);
                return Err(A::Error::custom("stopped"));
            }
            blobs.clear();
        }
        Ok(())
    }
}

struct PackSeed<'a> {
    blobs: &'a mut Vec<PackedBlob>,
}

impl<'de> DeserializeSeed<'de> for PackSeed<'_> {
    type Value = Id;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> std::result::Result<Id, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for PackSeed<'_> {
    type Value = Id;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a pack")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Id, A::Error> {
        let mut id = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "id" => id = Some(map.next_value_seed(IdSeed)?),
                "blobs" => map.next_value_seed(Blobs { blobs: &mut *self.blobs })?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        id.ok_or_else(|| A::Error::missing_field("id"))
    }
}

struct Blobs<'a> {
    blobs: &'a mut Vec<PackedBlob>,
}

impl<'de> DeserializeSeed<'de> for Blobs<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> std::result::Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Blobs<'_> {
    type Value = ();

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("blobs")
    }

    fn visit_unit<E>(self) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<(), A::Error> {
        while let Some(blob) = list.next_element_seed(BlobSeed)? {
            if self.blobs.len() == BLOBS_OF_PACK_MOST {
                return Err(A::Error::custom("a pack with more blobs than its header can name"));
            }
            self.blobs.push(blob);
        }
        Ok(())
    }
}

struct BlobSeed;

impl<'de> DeserializeSeed<'de> for BlobSeed {
    type Value = PackedBlob;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> std::result::Result<PackedBlob, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for BlobSeed {
    type Value = PackedBlob;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a blob")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<PackedBlob, A::Error> {
        let (mut id, mut kind, mut offset, mut length, mut uncompressed) = (None, None, None, None, None);
        while let Some(key) = map.next_key_seed(FieldSeed)? {
            match key {
                Field::Id => id = Some(map.next_value_seed(IdSeed)?),
                Field::Kind => kind = Some(map.next_value_seed(KindSeed)?),
                Field::Offset => offset = Some(map.next_value::<u32>()?),
                Field::Length => length = Some(map.next_value::<u32>()?),
                // Zero stands for "not compressed", as restic's omitempty has it.
                Field::Uncompressed => uncompressed = Some(map.next_value::<u32>()?).filter(|length| *length != 0),
                Field::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let missing = A::Error::missing_field;
        let blob = PackedBlob {
            kind: kind.ok_or_else(|| missing("type"))?,
            id: id.ok_or_else(|| missing("id"))?,
            offset: offset.ok_or_else(|| missing("offset"))?,
            length: length.ok_or_else(|| missing("length"))?,
            uncompressed_length: uncompressed,
        };
        if (blob.length as usize) < crypto::OVERHEAD || blob.end() > pack::SIZE_MOST {
            return Err(A::Error::custom("a blob that no pack can hold"));
        }
        Ok(blob)
    }
}

/// A visitor for one short text, without a copy of it.
macro_rules! text_seed {
    ($name:ident, $value:ty, $expecting:literal, $read:expr) => {
        struct $name;

        impl<'de> DeserializeSeed<'de> for $name {
            type Value = $value;

            fn deserialize<D: Deserializer<'de>>(self, from: D) -> std::result::Result<$value, D::Error> {
                from.deserialize_str(self)
            }
        }

        impl Visitor<'_> for $name {
            type Value = $value;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str($expecting)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<$value, E> {
                let read: fn(&str) -> Option<$value> = $read;
                read(text).ok_or_else(|| E::custom(concat!("this is not ", $expecting)))
            }
        }
    };
}

enum Field {
    Id,
    Kind,
    Offset,
    Length,
    Uncompressed,
    Other,
}

text_seed!(IdSeed, Id, "an id of 64 digits", |text| text.parse().ok());
text_seed!(KindSeed, BlobKind, "data or tree", |text| match text {
    "data" => Some(BlobKind::Data),
    "tree" => Some(BlobKind::Tree),
    _ => None,
});
text_seed!(FieldSeed, Field, "a field", |text| Some(match text {
    "id" => Field::Id,
    "type" => Field::Kind,
    "offset" => Field::Offset,
    "length" => Field::Length,
    "uncompressed_length" => Field::Uncompressed,
    _ => Field::Other,
}));

#[cfg(test)]
mod tests {
    use super::*;

    type Read = (Vec<Id>, Vec<(Id, Vec<PackedBlob>)>);

    fn read(text: &[u8]) -> Result<Read> {
        let mut packs = Vec::new();
        let supersedes = decode(&"index", &mut &text[..], &mut |id, blobs| {
            packs.push((*id, blobs.to_vec()));
            Ok(())
        })?;
        Ok((supersedes, packs))
    }

    fn example() -> (Vec<Id>, Vec<(Id, Vec<PackedBlob>)>) {
        let blob = |text: &str, kind, offset, uncompressed_length| PackedBlob {
            kind,
            id: Id::of(text.as_bytes()),
            offset,
            length: 40,
            uncompressed_length,
        };
        let one = vec![blob("a", BlobKind::Data, 0, None), blob("b", BlobKind::Data, 40, Some(77))];
        let two = vec![blob("c", BlobKind::Tree, 0, Some(5))];
        (vec![Id::of(b"old")], vec![(Id::of(b"1"), one), (Id::of(b"2"), two)])
    }

    fn text(of: &Read) -> Vec<u8> {
        encode(&of.0, of.1.iter().map(|(id, blobs)| (id, &blobs[..])))
    }

    #[test]
    fn what_is_written_reads_back() {
        let example = example();
        assert_eq!(read(&text(&example)).expect("index"), example);
        for empty in [&b"{\"packs\":[]}"[..], b"{\"packs\":null}", b"{\"new\":[{}],\"supersedes\":null,\"packs\":[]}"] {
            assert_eq!(read(empty).expect("index"), (vec![], vec![]));
        }
    }

    #[test]
    fn what_is_no_index_is_damaged_and_what_the_caller_says_is_passed_on() {
        let good = String::from_utf8(text(&example())).expect("text");
        let lies = [
            ("\"length\":40", "\"length\":31"),
            ("\"offset\":40", "\"offset\":4294967295"),
            ("\"offset\":40", "\"offset\":-1"),
            ("\"tree\"", "\"twig\""),
            ("\"packs\"", "\"pucks\""),
            ("\"id\":\"", "\"id\":\"0"),
            ("]}]}", "]}]}x"),
        ];
        for (from, to) in lies {
            let bad = good.replace(from, to);
            assert_ne!(bad, good);
            assert!(matches!(read(bad.as_bytes()), Err(Error::Damaged { .. })), "{to}");
        }
        for length in 0..good.len() {
            assert!(read(&good.as_bytes()[..length]).is_err(), "cut at {length}");
        }
        assert!(read(b"[]").is_err());
        let stopped = decode(&"index", &mut good.as_bytes(), &mut |_, _| Err(Error::refused("x", "enough")));
        assert!(matches!(stopped, Err(Error::Refused { .. })));
    }
}

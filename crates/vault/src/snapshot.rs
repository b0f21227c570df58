//! A snapshot: when, of which paths, by whom, and the tree at its root; as restic writes it.

use crate::tree::Time;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::id::Id;

/// A snapshot. Fields of other programs and later versions are kept when it is written again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When it was taken.
    pub time: Time,
    /// The snapshot that it was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional")]
    pub parent: Option<Id>,
    /// The tree at its root.
    #[serde(with = "required")]
    pub tree: Id,
    /// The absolute paths that were asked for.
    #[serde(default, deserialize_with = "list")]
    pub paths: Vec<String>,
    /// The machine.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// The user who took it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// The user's number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// The group's number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// What was left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub excludes: Vec<String>,
    /// Its tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub tags: Vec<String>,
    /// The first of the snapshots that this one was rewritten from.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional")]
    pub original: Option<Id>,
    /// The program that took it (restic 0.16 and later).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program_version: String,
    /// What it took (restic 0.17 and later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// Whatever else stands in it.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// Counts of a backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// When it began.
    pub backup_start: Time,
    /// When it ended.
    pub backup_end: Time,
    /// Files that the parent has not.
    #[serde(default)]
    pub files_new: u64,
    /// Files that differ from the parent's.
    #[serde(default)]
    pub files_changed: u64,
    /// Files as the parent has them.
    #[serde(default)]
    pub files_unmodified: u64,
    /// Folders that the parent has not.
    #[serde(default)]
    pub dirs_new: u64,
    /// Folders that differ from the parent's.
    #[serde(default)]
    pub dirs_changed: u64,
    /// Folders as the parent has them.
    #[serde(default)]
    pub dirs_unmodified: u64,
    /// Blobs of data that were stored.
    #[serde(default)]
    pub data_blobs: i64,
    /// Blobs of trees that were stored.
    #[serde(default)]
    pub tree_blobs: i64,
    /// Bytes that were stored, before compression.
    #[serde(default)]
    pub data_added: u64,
    /// Bytes that were stored, compressed and encrypted.
    #[serde(default)]
    pub data_added_packed: u64,
    /// Files in the snapshot.
    #[serde(default)]
    pub total_files_processed: u64,
    /// Bytes of these.
    #[serde(default)]
    pub total_bytes_processed: u64,
    /// Whatever else stands in it.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

impl Summary {
    /// A summary of nothing, between these times.
    #[must_use]
    pub fn new(backup_start: Time, backup_end: Time) -> Self {
        Self {
            backup_start,
            backup_end,
            files_new: 0,
            files_changed: 0,
            files_unmodified: 0,
            dirs_new: 0,
            dirs_changed: 0,
            dirs_unmodified: 0,
            data_blobs: 0,
            tree_blobs: 0,
            data_added: 0,
            data_added_packed: 0,
            total_files_processed: 0,
            total_bytes_processed: 0,
            unknown: Map::new(),
        }
    }
}

impl Snapshot {
    /// A snapshot of this tree, with nothing else known of it.
    #[must_use]
    pub fn new(time: Time, tree: Id, paths: Vec<String>) -> Self {
        Self {
            time,
            parent: None,
            tree,
            paths,
            hostname: String::new(),
            username: String::new(),
            uid: 0,
            gid: 0,
            excludes: Vec::new(),
            tags: Vec::new(),
            original: None,
            program_version: String::new(),
            summary: None,
            unknown: Map::new(),
        }
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    /// The bytes are no snapshot of restic's format.
    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The bytes of the snapshot, before compression and encryption.
    ///
    /// # Errors
    /// None is known: every field can be written.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Whether it bears this tag.
    #[must_use]
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| own == tag)
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Go writes an empty list as null.
fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(<Option<Vec<String>>>::deserialize(from)?.unwrap_or_default())
}

mod required {
    use super::{Deserialize, Deserializer, Id, Serializer};
    use serde::de::Error as _;

    pub(super) fn serialize<S: Serializer>(id: &Id, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Id, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

mod optional {
    use super::{Deserialize, Deserializer, Id, Serializer};
    use serde::de::Error as _;

    pub(super) fn serialize<S: Serializer>(id: &Option<Id>, to: S) -> Result<S::Ok, S::Error> {
        match id {
            Some(id) => to.collect_str(id),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Id>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"{"time":"2026-11-24T15:46:27.037904979+01:00","parent":"db5677644cfef0fda507a249b19f094687d10840082558c17ed72f9a075f6425","tree":"ed1fe3b34d405d3f5672ba9269512e4ecdae08b3fb10ae2cb530b93acc5a0350","paths":["/srv/corpus"],"hostname":"vm","username":"root","uid":7,"gid":8,"excludes":["nothing"],"tags":["one","two"],"original":"ed1fe3b34d405d3f5672ba9269512e4ecdae08b3fb10ae2cb530b93acc5a0350"}"#;
    const NEW: &str = r#"{"time":"2026-11-24T15:46:30.081231889Z","tree":"db5677644cfef0fda507a249b19f094687d10840082558c17ed72f9a075f6425","paths":["/srv/corpus"],"program_version":"restic 0.18.0","summary":{"backup_start":"2026-11-24T15:46:30.081231889Z","backup_end":"2026-11-24T15:46:30.868967797Z","files_new":68,"files_changed":0,"files_unmodified":0,"dirs_new":9,"dirs_changed":0,"dirs_unmodified":0,"data_blobs":9,"tree_blobs":9,"data_added":4738762,"data_added_packed":3006850,"total_files_processed":68,"total_bytes_processed":11000066}}"#;

    #[test]
    fn snapshots_of_both_restics_are_written_as_they_were() {
        for json in [OLD, NEW] {
            let snapshot = Snapshot::decode(json.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(snapshot.encode().unwrap()).unwrap(), json);
            assert!(snapshot.unknown.is_empty(), "every field of restic's is known");
        }
        assert!(Snapshot::decode(OLD.as_bytes()).unwrap().has_tag("two"));
    }

    #[test]
    fn unknown_fields_survive() {
        let json = NEW
            .replace("\"paths\"", "\"future\":{\"a\":[1]},\"paths\"")
            .replace("\"files_new\"", "\"more\":1,\"files_new\"");
        let again = Snapshot::decode(json.as_bytes()).unwrap().encode().unwrap();
        let [was, is]: [Value; 2] = [json.as_bytes(), &again].map(|bytes| serde_json::from_slice(bytes).unwrap());
        assert_eq!(was, is);
    }

    #[test]
    fn lists_that_go_wrote_as_null_are_empty_and_nonsense_is_refused() {
        let id = Id::of(b"");
        let json = format!(r#"{{"time":"2026-01-01T00:00:00Z","tree":"{id}","paths":null,"tags":null}}"#);
        assert_eq!(Snapshot::decode(json.as_bytes()).unwrap().paths, Vec::<String>::new());
        for bad in ["{}", "[]", "", r#"{"time":"yesterday","tree":"00","paths":[]}"#] {
            assert!(Snapshot::decode(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}

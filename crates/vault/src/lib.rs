//! Snapshots of files and disk images in a repository of restic's format: backup, verify, restore, retention.
//!
//! Whatever is written here any restic can list, check, mount and restore, and the reverse; `docs/vault-format.md` says byte
//! for byte what is written. This room takes any source that can list entries and changed ranges, and any storage
//! that can list, read, write whole files and remove them.
#![forbid(unsafe_code)]

pub mod backup;
mod base64;
pub mod blobs;
pub mod chunk;
pub mod compression;
pub mod config;
pub mod crypto;
pub mod error;
pub mod fetch;
pub mod forget;
pub mod host_log;
pub mod id;
pub mod index;
pub mod key_file;
pub mod lock;
pub mod pack;
pub mod password;
pub mod prune;
pub mod reach;
pub mod repository;
pub mod restore;
pub mod snapshot;
pub mod snapshots;
pub mod source;
pub mod storage;
pub mod tree;
pub mod verify;
pub mod walk;
pub mod writer;

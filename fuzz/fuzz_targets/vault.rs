//! Arbitrary bytes as the files of a vault, as they are once decrypted: no panic, and nothing larger than the bytes allow.
//!
//! The first byte picks a kind of file; the bytes behind it are laid over a good one's, so that what comes late is
//! reached too. What was accepted is written and read again: it must be the same.
#![no_main]

use kobj_vault::config::Config;
use kobj_vault::id::Id;
use kobj_vault::index::file;
use kobj_vault::key_file::KeyFile;
use kobj_vault::pack::{PackedBlob, decode_header, encode_header};
use kobj_vault::snapshot::Snapshot;
use kobj_vault::tree::Tree;
use kobj_vault::{compression, lock};
use libfuzzer_sys::fuzz_target;

const ID: &str = "996a815a52827f47fa65b66380365dfdee7ad9fe3e1364c6cd9c8d307d86d3f7";
const CONFIG: &str = r#"{"version":2,"id":"ID","chunker_polynomial":"22d470f7f74037"}"#;
const KEY: &str = r#"{"created":"2026-11-24T15:48:21.8Z","username":"root","hostname":"vm","kdf":"scrypt","N":32768,"r":8,"p":7,"salt":"F0hmwXGrBWici5to2u4jEg==","data":"sOurcXm1YgD75F4/fih6/8m/QeXssmisVNqdoTPHSA=="}"#;
const INDEX: &str = r#"{"supersedes":["ID"],"packs":[{"id":"ID","blobs":[{"id":"ID","type":"data","offset":0,"length":40,"uncompressed_length":77},{"id":"ID","type":"tree","offset":40,"length":50}]}]}"#;
const SNAPSHOT: &str = r#"{"time":"2026-11-24T15:48:21.833275622+01:00","tree":"ID","paths":["/a"],"hostname":"h","username":"u","uid":1,"gid":2,"tags":["t"],"parent":"ID","program_version":"restic 0.18.0"}"#;
const TREE: &str = r#"{"nodes":[{"name":"a\\n","type":"file","mode":420,"mtime":"1969-12-31T23:59:58.5Z","atime":"1969-12-31T23:59:58.5Z","ctime":"2026-11-24T15:48:21Z","uid":0,"gid":0,"user":"root","inode":7,"device_id":9,"size":77,"links":1,"extended_attributes":[{"name":"user.x","value":"cmVk"}],"content":["ID"]}]}"#;
const LOCK: &str = r#"{"time":"2026-11-24T15:48:21.8Z","exclusive":false,"hostname":"h","username":"u","pid":7,"uid":1,"gid":2}"#;
const GOOD: [&str; 7] = [CONFIG, KEY, INDEX, SNAPSHOT, TREE, LOCK, "\0\x28\0\0\0"];

fn read(which: usize, text: &[u8]) {
    match which {
        0 => {
            if let Ok(config) = Config::decode(text) {
                assert_eq!(Config::decode(&config.encode()).expect("what was written"), config);
            }
        }
        1 => {
            if let Ok(key) = KeyFile::decode(text) {
                assert_eq!(KeyFile::decode(&key.encode()).expect("what was written"), key);
            }
        }
        2 => index(text),
        3 => {
            if let Ok(snapshot) = Snapshot::decode(text) {
                let written = snapshot.encode().expect("a snapshot can be written");
                Snapshot::decode(&written).expect("what was written");
            }
        }
        4 => {
            if let Ok(tree) = Tree::decode(text) {
                let written = tree.encode();
                let again = Tree::decode(&written).expect("what was written");
                assert_eq!(again.encode(), written);
            }
        }
        5 => drop(lock::Record::parse(&Id::of(text), text)),
        _ => {
            if let Ok(blobs) = decode_header(text) {
                assert_eq!(encode_header(&blobs), text);
            }
        }
    }
}

fn index(text: &[u8]) {
    let mut packs: Vec<(Id, Vec<PackedBlob>)> = Vec::new();
    let mut from = text;
    let read = file::decode(&"the index", &mut from, &mut |id, blobs| {
        packs.push((*id, blobs.to_vec()));
        Ok(())
    });
    if let Ok(supersedes) = read {
        let written = file::encode(&supersedes, packs.iter().map(|(id, blobs)| (id, &blobs[..])));
        let mut again = Vec::new();
        file::decode(&"the index", &mut &written[..], &mut |id, blobs| {
            again.push((*id, blobs.to_vec()));
            Ok(())
        })
        .expect("what was written");
        assert_eq!(again, packs);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, rest)) = bytes.split_first_chunk::<3>() else { return };
    let kind = usize::from(which[0]) % (GOOD.len() + 1);
    let Some(good) = GOOD.get(kind) else {
        let most = u64::from(which[1]) << 8;
        if let Ok(plain) = compression::decompress_bounded(rest, most) {
            assert!(plain.len() as u64 <= most);
            assert_eq!(compression::decompress_exactly(rest, plain.len()).expect("the same frame"), plain);
        }
        return;
    };
    let mut text = good.replace("ID", ID).into_bytes();
    let at = usize::from(u16::from_le_bytes([which[1], which[2]])) % text.len();
    let end = text.len().min(at + rest.len());
    text[at..end].copy_from_slice(&rest[..end - at]);
    read(kind, rest);
    read(kind, &text);
    read(kind, &text[..end]);
});

//! Arbitrary bytes as a record file: contents or an error, never a panic, and bounded whatever the lengths in it say.
//!
//! The bytes are laid over a good record's, from the place that the first four say: most random headers would be refused
//! at the first word, and nothing behind it would ever be read.
#![no_main]

use kobj_host::record::decode;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

/// The record of version 2 that the tests keep: a word's number and its value, one a line, in hexadecimal.
const GOLDEN: &str = include_str!("../../crates/host/tests/golden/record-2.txt");

static RECORD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = Vec::new();
    for (place, value) in GOLDEN.lines().filter_map(|line| line.split_once(' ')) {
        let at = usize::from_str_radix(place, 16).expect("place") * 8;
        bytes.resize(at, 0);
        bytes.extend(u64::from_str_radix(value, 16).expect("value").to_le_bytes());
    }
    bytes
});

fuzz_target!(|bytes: &[u8]| {
    let _ = decode(bytes);
    let Some((place, rest)) = bytes.split_first_chunk::<4>() else { return };
    let mut record = RECORD.clone();
    let at = u32::from_le_bytes(*place) as usize % record.len();
    let end = record.len().min(at + rest.len());
    record[at..end].copy_from_slice(&rest[..end - at]);
    if let Ok(contents) = decode(&record) {
        // What was accepted can be asked, and stays within what a record can hold.
        assert!(contents.creations.len() <= record.len() / 64 && contents.notes.len() <= 15);
        for made in contents.creations.values() {
            assert!(made.window_end >= made.window_start);
        }
        let _ = contents.made_by_pid(u32::MAX);
    }
    record.truncate(end);
    let _ = decode(&record);
});

//! Where what stands in a record file, version 2. Little-endian 64-bit words; sizes and offsets in bytes.
//!
//! ```text
//! 0        header (one page), then 12 notes (a page each)
//! 52 KiB   what the command was told, in the command's own form (three pages)
//! 64 KiB   names of makers' commands: 1024 entries of 64 bytes, the first is empty
//! 128 KiB  numbers that were the job's: one bit each
//! 640 KiB  numbers that were somebody else's: one bit each
//! 1152 KiB slots of living creations: 131072 of 64 bytes
//! ```

use crate::family::PID_LIMIT;
use crate::makers::FOLLOWED_MAX;

/// `KOBJREC` and a NUL.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"KOBJREC\0");
pub(super) const VERSION: u64 = 2;

pub(super) const PAGE: usize = 4096;
pub(super) const NOTES: usize = 12;
pub(super) const NOTES_AT: usize = PAGE;
pub(super) const TOLD_AT: usize = NOTES_AT + NOTES * PAGE;
pub(super) const COMMANDS_AT: usize = 64 << 10;
pub(super) const COMMANDS: usize = 1024;
pub(super) const COMMAND_BYTES: usize = 64;
pub(super) const PIDS_BYTES: usize = PID_LIMIT as usize / 8;
pub(super) const OURS_AT: usize = 128 << 10;
pub(super) const FOREIGN_AT: usize = OURS_AT + PIDS_BYTES;
pub(super) const SLOTS_AT: usize = FOREIGN_AT + PIDS_BYTES;
pub(super) const SLOT_BYTES: usize = 64;
pub(super) const SLOTS: usize = FOLLOWED_MAX;
/// The longest file.
pub(super) const END: usize = SLOTS_AT + SLOTS * SLOT_BYTES;

/// Words of the header.
pub(super) mod word {
    pub(in super::super) const MAGIC: usize = 0;
    pub(in super::super) const VERSION: usize = 1;
    pub(in super::super) const LAYOUT: usize = 2;
    /// 1 once the header is whole; written last.
    pub(in super::super) const VALID: usize = 3;
    pub(in super::super) const KOID: usize = 4;
    pub(in super::super) const PARENT: usize = 5;
    pub(in super::super) const KEEPER_PID: usize = 6;
    pub(in super::super) const KEEPER_STARTED: usize = 7;
    pub(in super::super) const COMMAND_STARTED: usize = 8;
    /// Written after the start time; 0 until the command runs.
    pub(in super::super) const COMMAND_PID: usize = 9;
    pub(in super::super) const BOOT: usize = 10;
    pub(in super::super) const PID_NAMESPACE: usize = 12;
    pub(in super::super) const USER: usize = 13;
    pub(in super::super) const SETTINGS: usize = 14;
    pub(in super::super) const STARTED: usize = 16;
    pub(in super::super) const LAST_EVENT: usize = 17;
    pub(in super::super) const ENDED: usize = 18;
    /// How many slots have room; written after the room was reserved.
    pub(in super::super) const SLOTS: usize = 19;
    pub(in super::super) const LOST: usize = 20;
    pub(in super::super) const LAYERS: usize = 21;
    pub(in super::super) const NOT_FOLLOWED: usize = 22;
    /// 1 once the run has ended by itself and only its control group, with processes in use, is left.
    pub(in super::super) const SETTLED: usize = 23;
    pub(in super::super) const PROCESSES: usize = 24;
    pub(in super::super) const COUNTS: usize = 26;
    /// A System V segment that is closed to everybody for a moment: [`super::SEGMENT_CLOSED`], its mode and id, written
    /// last; then key and creator; then the IPC namespace.
    pub(in super::super) const SEGMENT: usize = 34;
    /// Texts: a word with the length, then the bytes.
    pub(in super::super) const NAME: usize = 37;
}

/// A text of the header: the word of its length, and the most bytes.
#[derive(Clone, Copy)]
pub(super) struct Text {
    pub(super) word: usize,
    pub(super) bytes: usize,
}

const fn after(text: Text, bytes: usize) -> Text {
    Text { word: text.word + 1 + text.bytes / 8, bytes }
}

pub(super) const NAME: Text = Text { word: word::NAME, bytes: 128 };
pub(super) const GROUP: Text = after(NAME, 1024);
pub(super) const COOKIE: Text = after(GROUP, 256);
pub(super) const COMMAND_LINE: Text = after(COOKIE, 2048);

/// How many objects the command inherited, then two words for each: device and inode.
pub(super) const INHERITED: usize = COMMAND_LINE.word + 1 + COMMAND_LINE.bytes / 8;
pub(super) const INHERITED_MAX: usize = 16;
/// At [`TOLD_AT`].
pub(super) const TOLD: Text = Text { word: 0, bytes: COMMANDS_AT - TOLD_AT - 8 };
/// In the first word of [`word::SEGMENT`], above the mode in bits 32 to 47 and the id below.
pub(super) const SEGMENT_CLOSED: u64 = 1 << 63;

const _: () = assert!((INHERITED + 1 + INHERITED_MAX * 2) * 8 <= PAGE);
const _: () = assert!(TOLD_AT + 3 * PAGE == COMMANDS_AT && COMMANDS_AT + COMMANDS * COMMAND_BYTES == OURS_AT);

/// The states of a slot, in the lowest byte of its first word.
pub(super) const FREE: u64 = 0;
pub(super) const PROOF: u64 = 1;
pub(super) const HINT: u64 = 2;

/// FNV-1a over everything above that a reader relies on: another layout under the same version is an error, not a guess.
pub(super) const fn checksum() -> u64 {
    let numbers = [
        PAGE,
        NOTES,
        COMMANDS_AT,
        COMMANDS,
        OURS_AT,
        FOREIGN_AT,
        SLOTS_AT,
        SLOTS,
        NAME.word,
        GROUP.word,
        COOKIE.word,
        COMMAND_LINE.word,
        COMMAND_LINE.bytes,
        INHERITED,
        INHERITED_MAX,
        TOLD_AT,
        word::COUNTS,
        word::SEGMENT,
    ];
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut index = 0;
    while index < numbers.len() {
        hash = (hash ^ numbers[index] as u64).wrapping_mul(0x0100_0000_01b3);
        index += 1;
    }
    hash
}

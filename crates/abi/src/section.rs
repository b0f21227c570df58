//! Section memory as whoever maps it sees it: how bytes stand in it, and what can be refused.
//!
//! Others read and write the same memory at the same time, so it is never borrowed as bytes. It is 64-bit words that are
//! loaded and stored atomically and relaxed, always whole and always aligned: two accesses never overlap in part. What
//! somebody else writes meanwhile is seen before or after, word by word; who needs more orders it by an object made for that.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

/// What a view is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// To be read.
    Read,
    /// To be read and written.
    ReadWrite,
}

/// A part of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// Where it begins, in bytes from the section's beginning.
    pub offset_bytes: u64,
    /// Its length in bytes, more than 0.
    pub size_bytes: u64,
}

impl Part {
    /// Whether it is a part of a section of that size.
    #[must_use]
    pub const fn is_inside(self, section_bytes: u64) -> bool {
        match self.offset_bytes.checked_add(self.size_bytes) {
            Some(end) => self.size_bytes > 0 && end <= section_bytes,
            None => false,
        }
    }
}

/// Why a view was not read or written. Nothing was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewError {
    /// Past the view's end.
    OutOfRange {
        /// Where it was to begin.
        offset_bytes: u64,
        /// How much it was to be.
        length_bytes: u64,
        /// How much there is.
        view_bytes: u64,
    },
    /// The view is for reading alone.
    ReadOnly,
    /// The process that had the view has ended, and the view with it.
    Unmapped,
    /// This is a child that was forked off the process that mapped it.
    Forked,
}

impl fmt::Display for ViewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { offset_bytes, length_bytes, view_bytes } => write!(
                f,
                "{length_bytes} bytes from {offset_bytes} on are not within the view of {view_bytes} bytes; ask for fewer"
            ),
            Self::ReadOnly => f.write_str("the view is for reading alone; map the section to be written"),
            Self::Unmapped => f.write_str("the view was taken away when its process ended; map the section again"),
            Self::Forked => f.write_str(
                "this process was forked off the one that mapped the view and has no part in it; share a section by a guest's handle",
            ),
        }
    }
}

impl core::error::Error for ViewError {}

/// Whether so many bytes from an offset on are within a view, and where they begin.
///
/// # Errors
/// [`ViewError::OutOfRange`].
pub const fn within(offset_bytes: u64, length: usize, view_bytes: u64) -> Result<usize, ViewError> {
    let length_bytes = length as u64;
    match offset_bytes.checked_add(length_bytes) {
        Some(end) if end <= view_bytes && end <= usize::MAX as u64 => Ok(offset_bytes as usize),
        _ => Err(ViewError::OutOfRange { offset_bytes, length_bytes, view_bytes }),
    }
}

const WORD: usize = size_of::<u64>();

/// Copies bytes out of words, from a byte offset on. What is past the end of the words is left as it is.
pub fn copy_out(words: &[AtomicU64], offset: usize, into: &mut [u8]) {
    let skip = offset % WORD;
    let words = words.get(offset / WORD..).unwrap_or_default();
    let head = if skip == 0 { 0 } else { into.len().min(WORD - skip) };
    let (first, rest) = into.split_at_mut(head);
    if let (false, Some(word)) = (first.is_empty(), words.first()) {
        // Relaxed, here and below: the copy promises whole words and no order.
        let bytes = word.load(Ordering::Relaxed).to_ne_bytes();
        first.copy_from_slice(&bytes[skip..skip + head]);
    }
    let words = words.get(usize::from(head > 0)..).unwrap_or_default();
    let mut chunks = rest.chunks_exact_mut(WORD);
    let mut words = words.iter();
    for (chunk, word) in chunks.by_ref().zip(words.by_ref()) {
        chunk.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
    }
    let last = chunks.into_remainder();
    if let (false, Some(word)) = (last.is_empty(), words.next()) {
        last.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes()[..last.len()]);
    }
}

/// Copies bytes into words, from a byte offset on. The other bytes of the first and the last word stay as they are, also
/// when somebody else writes them meanwhile. What would be past the end of the words is not copied.
pub fn copy_in(words: &[AtomicU64], offset: usize, from: &[u8]) {
    let skip = offset % WORD;
    let words = words.get(offset / WORD..).unwrap_or_default();
    let head = if skip == 0 { 0 } else { from.len().min(WORD - skip) };
    let (first, rest) = from.split_at(head);
    if let (false, Some(word)) = (first.is_empty(), words.first()) {
        change(word, skip, first);
    }
    let words = words.get(usize::from(head > 0)..).unwrap_or_default();
    let chunks = rest.chunks_exact(WORD);
    let last = chunks.remainder();
    for (chunk, word) in chunks.zip(words) {
        let mut bytes = [0; WORD];
        bytes.copy_from_slice(chunk);
        word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
    }
    if let (false, Some(word)) = (last.is_empty(), words.get(rest.len() / WORD)) {
        change(word, 0, last);
    }
}

/// Changes some bytes of a word.
fn change(word: &AtomicU64, skip: usize, part: &[u8]) {
    let _before = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
        let mut bytes = old.to_ne_bytes();
        bytes[skip..skip + part.len()].copy_from_slice(part);
        Some(u64::from_ne_bytes(bytes))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_in_and_out_at_every_offset_and_length_and_touch_nothing_else() {
        for offset in 0..24 {
            for length in 0..=32 - offset {
                let words: [AtomicU64; 4] = core::array::from_fn(|_| AtomicU64::new(u64::from_ne_bytes([0xee; 8])));
                let from: [u8; 32] = core::array::from_fn(|index| index as u8 + 1);
                copy_in(&words, offset, &from[..length]);
                let mut all = [0; 32];
                copy_out(&words, 0, &mut all);
                let mut wanted = [0xee; 32];
                wanted[offset..offset + length].copy_from_slice(&from[..length]);
                assert_eq!(all, wanted, "{length} bytes from {offset} on");
                let mut some = [0; 32];
                copy_out(&words, offset, &mut some[..length]);
                assert_eq!(some[..length], from[..length], "{length} bytes from {offset} on");
            }
        }
    }

    #[test]
    fn what_is_past_the_words_is_left_alone() {
        let words = [AtomicU64::new(u64::from_ne_bytes([1; 8]))];
        let mut into = [9; 24];
        copy_out(&words, 4, &mut into);
        assert_eq!((&into[..4], &into[4..]), (&[1; 4][..], &[9; 20][..]));
        copy_out(&words, 100, &mut into);
        copy_in(&words, 6, &[7; 24]);
        copy_in(&words, usize::MAX, &[7; 24]);
        assert_eq!(words[0].load(Ordering::Relaxed).to_ne_bytes(), [1, 1, 1, 1, 1, 1, 7, 7]);
    }

    #[test]
    fn parts_end_where_the_section_does() {
        let part = |offset_bytes, size_bytes| Part { offset_bytes, size_bytes };
        assert!(part(0, 10).is_inside(10) && part(9, 1).is_inside(10));
        for past in [part(0, 0), part(0, 11), part(10, 1), part(u64::MAX, 1), part(1, u64::MAX)] {
            assert!(!past.is_inside(10), "{past:?}");
        }
        assert_eq!(within(2, 8, 10), Ok(2));
        assert_eq!(within(10, 0, 10), Ok(10));
        for (offset_bytes, length) in [(3, 8), (u64::MAX, 1), (11, 0)] {
            assert!(within(offset_bytes, length, 10).is_err());
        }
    }
}

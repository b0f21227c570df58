//! restic's cuts: after each byte where the Rabin hash of the last 64 bytes ends in 20 zero bits, not before 512 KiB and at the
//! latest at 8 MiB.
//!
//! The hash depends on the last 64 bytes alone (restic starts its window with a one byte, which has left it before the first
//! place where a cut is allowed), so a block is scanned in four lanes that do not wait for each other's table look-ups.

use super::polynomial::{DEGREE, Polynomial};
use crate::error::{Error, Result};

/// Bytes that the hash covers.
pub const WINDOW_BYTES: usize = 64;
/// No chunk but a file's last is shorter.
pub const MINIMUM_BYTES: usize = 512 * 1024;
/// No chunk is longer.
pub const MAXIMUM_BYTES: usize = 8 * 1024 * 1024;

const MASK: u64 = (1 << 20) - 1;
/// Bytes that a lane scans before the lanes are compared: the more, the less is spent on filling windows, the more is scanned in vain
/// behind a cut.
const LANE_BYTES: usize = 8 * 1024;
const LANES: usize = 4;
const BLOCK_BYTES: usize = LANES * LANE_BYTES;

/// The tables of one vault's hash.
pub struct Rabin {
    /// What a byte that leaves the hash at the top does to the rest.
    reduce: [u64; 256],
    /// What a byte still does to the hash 64 bytes later.
    leave: [u64; 256],
}

impl Rabin {
    /// The hash modulo this polynomial.
    ///
    /// # Errors
    /// It is not irreducible or not of degree 53: the vault's config is damaged or hostile.
    pub fn new(polynomial: Polynomial) -> Result<Box<Self>> {
        if polynomial.degree() != Some(DEGREE) || !polynomial.is_irreducible() {
            let why = format!("{:#x} is no irreducible polynomial of degree {DEGREE}", polynomial.bits());
            return Err(Error::damaged("the chunker polynomial of the config", why));
        }
        let mut tables = Box::new(Self { reduce: [0; 256], leave: [0; 256] });
        // x^512, by way of x^64.
        let mut power = 1u64;
        for _ in 0..8 {
            power = polynomial.rest_of(u128::from(power) << 64);
        }
        for byte in 0..256u64 {
            let at = usize::try_from(byte).unwrap_or(0);
            let top = u128::from(byte) << DEGREE;
            tables.reduce[at] = polynomial.rest_of(top) | (byte << DEGREE);
            tables.leave[at] = (0..8)
                .filter(|bit| byte >> bit & 1 == 1)
                .fold(0, |sum, bit| sum ^ polynomial.rest_of(u128::from(power) << bit));
        }
        Ok(tables)
    }

    /// The hash after one more byte came.
    #[inline(always)]
    fn append(&self, hash: u64, byte: u8) -> u64 {
        ((hash << 8) | u64::from(byte)) ^ self.reduce[(hash >> (DEGREE - 8)) as usize & 255]
    }

    /// The hash after one byte came and the one 64 before left.
    #[inline(always)]
    fn slide(&self, hash: u64, gone: u8, come: u8) -> u64 {
        self.append(hash, come) ^ self.leave[usize::from(gone)]
    }

    fn filled(&self, window: &[u8]) -> u64 {
        window.iter().fold(0, |hash, &byte| self.append(hash, byte))
    }

    /// The first place in `from..=to` where the hash of the 64 bytes before it ends in 20 zero bits. `from` is at least 64.
    fn first_match(&self, data: &[u8], from: usize, to: usize) -> Option<usize> {
        let mut from = from;
        while from + BLOCK_BYTES <= to {
            let block = data.get(from - WINDOW_BYTES..from + BLOCK_BYTES)?;
            if let Some(found) = self.match_in_block(block) {
                return Some(from + found);
            }
            from += BLOCK_BYTES;
        }
        let window = data.get(from - WINDOW_BYTES..to)?;
        let mut hash = self.filled(window.get(..WINDOW_BYTES)?);
        if hash & MASK == 0 {
            return Some(from);
        }
        for (at, (&gone, &come)) in window.iter().zip(&window[WINDOW_BYTES..]).enumerate() {
            hash = self.slide(hash, gone, come);
            if hash & MASK == 0 {
                return Some(from + at + 1);
            }
        }
        None
    }

    /// The first match in a block that has its window in front: place 0 is the end of the window, the block's end is not looked at.
    fn match_in_block(&self, block: &[u8]) -> Option<usize> {
        let lane = |number: usize| {
            block.get(number * LANE_BYTES..).and_then(|rest| rest.first_chunk::<{ LANE_BYTES + WINDOW_BYTES }>())
        };
        let lanes: [&[u8; LANE_BYTES + WINDOW_BYTES]; LANES] = [lane(0)?, lane(1)?, lane(2)?, lane(3)?];
        let mut hashes = lanes.map(|lane| self.filled(&lane[..WINDOW_BYTES]));
        let mut first = [LANE_BYTES; LANES];
        for at in 0..LANE_BYTES {
            let [a, b, c, d] = hashes.map(|hash| hash & MASK == 0);
            if a | b | c | d {
                for (first, found) in first.iter_mut().zip([a, b, c, d]) {
                    if found && *first == LANE_BYTES {
                        *first = at;
                    }
                }
                if a {
                    break;
                }
            }
            for (hash, lane) in hashes.iter_mut().zip(lanes) {
                *hash = self.slide(*hash, lane[at], lane[at + WINDOW_BYTES]);
            }
        }
        first.iter().enumerate().find(|(_, first)| **first < LANE_BYTES).map(|(lane, first)| lane * LANE_BYTES + first)
    }

    /// The length of the chunk at the start of `data`, if it ends within. With `last`, nothing follows, and the rest is a chunk.
    #[must_use]
    pub fn cut(&self, data: &[u8], last: bool) -> Option<usize> {
        Cutter::new(self).cut(data, last)
    }
}

/// Finds the cuts of a stream that is seen in growing pieces, looking at no byte twice.
pub struct Cutter<'rabin> {
    rabin: &'rabin Rabin,
    /// Places up to this one, from the chunk's start, were looked at.
    looked_at: usize,
}

impl<'rabin> Cutter<'rabin> {
    /// A cutter at the start of a file.
    #[must_use]
    pub fn new(rabin: &'rabin Rabin) -> Self {
        Self { rabin, looked_at: 0 }
    }

    /// The length of the chunk that starts with `data`, or none when more must be seen: call again with the same bytes and more.
    /// With `last`, nothing follows `data`. After a cut the next chunk begins behind it.
    pub fn cut(&mut self, data: &[u8], last: bool) -> Option<usize> {
        let end = data.len().min(MAXIMUM_BYTES);
        let from = MINIMUM_BYTES.max(self.looked_at + 1);
        let found = if from <= end { self.rabin.first_match(data, from, end) } else { None };
        let cut = found.or((end == MAXIMUM_BYTES).then_some(MAXIMUM_BYTES)).or((last && end > 0).then_some(end));
        self.looked_at = if cut.is_some() { 0 } else { end };
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed | 1;
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    fn cuts(rabin: &Rabin, data: &[u8]) -> Vec<usize> {
        let (mut at, mut all) = (0, Vec::new());
        while let Some(length) = rabin.cut(&data[at..], true) {
            all.push(length);
            at += length;
        }
        all
    }

    const DEFAULT: Polynomial = Polynomial::new(0x3D_A335_8B4D_C173);

    fn corpora() -> Vec<Vec<u8>> {
        let mut mixed = noise(3, 3_000_001);
        mixed.extend(vec![0; 5_000_000]);
        mixed.extend(noise(4, 700_000));
        mixed.extend(vec![0xaa; 20_000_000]);
        vec![
            noise(1, 40_000_000),
            mixed,
            vec![0; 3 * MINIMUM_BYTES + 1],
            vec![7; MAXIMUM_BYTES],
            vec![7; MAXIMUM_BYTES + 1],
            noise(5, MINIMUM_BYTES - 1),
            noise(6, MINIMUM_BYTES),
            noise(7, MINIMUM_BYTES + 1),
            vec![1],
            Vec::new(),
        ]
    }

    #[test]
    fn cuts_are_those_of_an_independent_chunker() {
        for polynomial in [DEFAULT, Polynomial::random().unwrap()] {
            let rabin = Rabin::new(polynomial).unwrap();
            for (number, data) in corpora().iter().enumerate() {
                let judge = rustic_cdc::Rabin64::new_with_polynom(6, &polynomial.bits());
                let judged = judge_cuts(judge, data);
                assert_eq!(cuts(&rabin, data), judged, "corpus {number}, polynomial {:#x}", polynomial.bits());
            }
        }
    }

    /// restic's rule over rustic_cdc's rolling hash.
    fn judge_cuts(mut hash: rustic_cdc::Rabin64, data: &[u8]) -> Vec<usize> {
        use rustic_cdc::RollingHash64;
        let (mut all, mut start) = (Vec::new(), 0);
        while start < data.len() {
            let rest = &data[start..];
            hash.reset();
            hash.slide(1);
            let skipped = MINIMUM_BYTES - WINDOW_BYTES;
            let mut length = rest.len().min(MAXIMUM_BYTES);
            for (at, &byte) in rest.iter().enumerate().take(MAXIMUM_BYTES).skip(skipped) {
                hash.slide(byte);
                if at + 1 >= MINIMUM_BYTES && hash.get_hash() & MASK == 0 {
                    length = at + 1;
                    break;
                }
            }
            all.push(length);
            start += length;
        }
        all
    }

    /// The blobs that restic 0.14 made of this file in a vault with this polynomial.
    #[test]
    fn blobs_are_those_that_restic_made() {
        let rabin = Rabin::new(Polynomial::new(0x2a_3a80_5b0e_426b)).unwrap();
        let mut data = noise(21, 12_000_000);
        data.splice(8_000_000..8_000_000, vec![0; 2_000_000]);
        let (mut at, mut blobs) = (0, Vec::new());
        for length in cuts(&rabin, &data) {
            blobs.push(crate::id::Id::of(&data[at..at + length]).to_string()[..16].to_string());
            at += length;
        }
        let restics = [
            "58a13375cb48e09f",
            "5466654e24835c29",
            "f579bfe9af90e11a",
            "54c94a4808b164f1",
            "e520cf5e0d777db5",
            "51e496345232f8ed",
            "c7ecd49b3ec4c078",
            "07854d2fef297a06",
            "07854d2fef297a06",
            "07854d2fef297a06",
            "3efe84ac66102e5f",
            "a990a75aea5b7d8d",
        ];
        assert_eq!(blobs, restics);
    }

    #[test]
    fn pieces_of_a_stream_are_cut_like_the_whole() {
        let rabin = Rabin::new(DEFAULT).unwrap();
        let data = noise(9, 12_000_000);
        let whole = cuts(&rabin, &data);
        for step in [4096, 65_537, 1_000_003] {
            let (mut start, mut seen, mut all) = (0, 0, Vec::new());
            let mut cutter = Cutter::new(&rabin);
            while start < data.len() {
                match cutter.cut(&data[start..seen], seen == data.len()) {
                    Some(length) => {
                        all.push(length);
                        start += length;
                    }
                    None => seen = (seen + step).min(data.len()),
                }
            }
            assert_eq!(all, whole, "{step}");
        }
    }

    #[test]
    fn a_byte_in_front_changes_few_cuts() {
        let rabin = Rabin::new(DEFAULT).unwrap();
        let data = noise(11, 60_000_000);
        let mut shifted = vec![1];
        shifted.extend_from_slice(&data);
        let ends = |lengths: Vec<usize>, shift: usize| -> std::collections::HashSet<usize> {
            lengths
                .into_iter()
                .scan(0, |at, length| {
                    *at += length;
                    Some(*at - shift)
                })
                .collect()
        };
        let (a, b) = (ends(cuts(&rabin, &data), 0), ends(cuts(&rabin, &shifted), 1));
        assert!(a.intersection(&b).count() * 10 > a.len() * 8, "{} of {}", a.intersection(&b).count(), a.len());
    }

    #[test]
    fn a_hostile_polynomial_is_refused() {
        for bits in [0, 1, 2, u64::MAX, 1 << 53, (1 << 53) | 1, 0x3D_A335_8B4D_C172] {
            assert!(Rabin::new(Polynomial::new(bits)).is_err(), "{bits:#x}");
        }
    }
}

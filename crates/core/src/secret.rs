//! Secrets out of the seed: the masks of handle tables, the key of the hash of names, the seeds of what is kept in balance.
//!
//! A process knows the mask of its own table: its first handle says it. So no secret may lead to another one. Each is a keyed
//! hash of its own number, and the key, which comes of [`crate::Limits::seed`], is used for nothing else.

/// Where secrets come from, one after another.
pub(crate) struct Secret {
    key: [u64; 2],
    given: u64,
}

impl Secret {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { key: [seed, seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15], given: 0 }
    }

    /// The next one. From any number of them no other one can be told.
    pub(crate) fn next(&mut self) -> u64 {
        self.given = self.given.wrapping_add(1);
        sip::<2, 4>(self.key, self.given, &[])
    }
}

/// SipHash (Aumasson and Bernstein 2012) of a word and bytes, with so many rounds for each word and at the end.
pub(crate) fn sip<const EACH: u32, const END: u32>(key: [u64; 2], first: u64, bytes: &[u8]) -> u64 {
    let mut state = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    absorb::<EACH>(&mut state, first);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        absorb::<EACH>(&mut state, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = (bytes.len() + 8) as u8;
    absorb::<EACH>(&mut state, u64::from_le_bytes(last));
    state[2] ^= 0xff;
    (0..END).for_each(|_| round(&mut state));
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

fn absorb<const EACH: u32>(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    (0..EACH).for_each(|_| round(state));
    state[0] ^= word;
}

fn round(state: &mut [u64; 4]) {
    let [a, b, c, d] = state;
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Time;
    use crate::manager::{Core, Limits};
    use crate::{Call, CallAnswer, What};
    use core::hash::Hasher;
    use kobj_abi::Era;

    #[test]
    fn the_hash_is_the_one_of_the_standard_library() {
        for length in 0..40 {
            let bytes: std::vec::Vec<u8> = (0..length).map(|byte: u8| byte.wrapping_mul(77)).collect();
            let mut theirs = std::hash::DefaultHasher::new();
            theirs.write(&5_u64.to_le_bytes());
            theirs.write(&bytes);
            assert_eq!(sip::<1, 3>([0, 0], 5, &bytes), theirs.finish(), "{length} bytes");
        }
        assert_ne!(sip::<1, 3>([0, 0], 5, b"a"), sip::<1, 3>([0, 1], 5, b"a"));
    }

    /// The vector of 8 bytes in the paper's own table: key 00 01 ... 0f, message 00 01 ... 07.
    #[test]
    fn the_secrets_are_siphash_2_4() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        assert_eq!(sip::<2, 4>(key, 0x0706_0504_0302_0100, &[]), 0x93f5_f579_9a93_2462);
    }

    /// What undoes each step of a mix that can be undone (SplitMix64's).
    fn unmixed(mixed: u64) -> u64 {
        let unshifted = |word: u64, by: u32| (0..64).fold(word, |found, _| word ^ (found >> by));
        let inverse =
            |odd: u64| (0..6).fold(odd, |found, _| found.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(found))));
        let word = unshifted(mixed, 31).wrapping_mul(inverse(0x94d0_49bb_1331_11eb));
        let word = unshifted(word, 27).wrapping_mul(inverse(0xbf58_476d_1ce4_e5b9));
        unshifted(word, 30)
    }

    /// A guest undoes the mix of its mask and counts back to what was given out before.
    #[test]
    fn a_guest_s_first_handle_does_not_say_the_seed() {
        let seed = 0x0123_4567_89ab_cdef;
        let mut core = Core::with_limits(Era(7), Limits { seed, ..Limits::default() });
        let boot = core.boot(Time(0)).unwrap();
        let call = Call::CreateGuest { job: boot.job, inherit: false };
        let Ok(CallAnswer::Guest { process, .. }) = core.call(Time(0), boot.process, call) else { panic!("no guest") };
        let Ok(CallAnswer::Handle(first)) = core.call(Time(0), process, Call::Create { what: What::Directory }) else {
            panic!("no directory")
        };
        let step = 0x9e37_79b9_7f4a_7c15_u64;
        for guess in [first.raw(), unmixed(first.raw())] {
            for steps in 0..100_u64 {
                assert_ne!(guess.wrapping_sub(step.wrapping_mul(steps)), seed, "{steps} before");
            }
        }
    }
}

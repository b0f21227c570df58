//! Koids: 64-bit object ids that are never reused in their domain.

use core::fmt;
use core::num::NonZeroU64;

/// The upper half of a koid. An era is claimed once in a domain, by creating its record exclusively.
///
/// Unit: seconds since 1970, or the last era plus one, whichever is more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Era(pub u32);

/// An object's id, unique in its domain for ever: upper 32 bits the [`Era`], lower 32 bits a counter from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Koid(NonZeroU64);

impl Koid {
    /// The koid number `counter` of `era`; `None` for counter 0, which no object ever has.
    #[must_use]
    pub const fn new(era: Era, counter: u32) -> Option<Self> {
        if counter == 0 {
            return None;
        }
        match NonZeroU64::new(((era.0 as u64) << 32) | counter as u64) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }

    /// A koid as it was stored; `None` if the counter half is 0.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Option<Self> {
        Self::new(Era((raw >> 32) as u32), raw as u32)
    }

    /// The 64 bits, as stored.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0.get()
    }

    /// The era in which the object was created.
    #[must_use]
    pub const fn era(self) -> Era {
        Era((self.raw() >> 32) as u32)
    }

    /// The number within the era, from 1.
    #[must_use]
    pub const fn counter(self) -> u32 {
        self.raw() as u32
    }
}

/// `era:counter` in hexadecimal, sixteen digits and a colon: `6924e0a1:00000003`.
impl fmt::Display for Koid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}:{:08x}", self.era().0, self.counter())
    }
}

impl fmt::Debug for Koid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Koid({self})")
    }
}

impl core::str::FromStr for Koid {
    type Err = ();

    /// Reads what `Display` writes; anything else is an error.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (era, counter) = text.split_once(':').ok_or(())?;
        let half = |part: &str| {
            (part.len() == 8 && part.bytes().all(|b| b.is_ascii_hexdigit()))
                .then(|| u32::from_str_radix(part, 16).ok())
                .flatten()
                .ok_or(())
        };
        Self::new(Era(half(era)?), half(counter)?).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::string::ToString;

    #[test]
    fn a_koid_survives_printing_and_storing() {
        let koid = Koid::new(Era(0x6924_e0a1), 3).unwrap();
        assert_eq!(koid.to_string(), "6924e0a1:00000003");
        assert_eq!(koid.to_string().parse(), Ok(koid));
        assert_eq!(Koid::from_raw(koid.raw()), Some(koid));
    }

    #[test]
    fn counter_zero_and_loose_spellings_are_refused() {
        assert_eq!(Koid::new(Era(1), 0), None);
        assert_eq!(Koid::from_raw(1 << 32), None);
        for wrong in ["", "1:1", "6924e0a1-00000003", "+924e0a1:00000003", "6924e0a1:00000000"] {
            assert!(wrong.parse::<Koid>().is_err(), "{wrong}");
        }
    }
}

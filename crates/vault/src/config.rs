//! The file `config`: the vault's version, its id, and the polynomial by which files are cut.

use crate::error::{Error, Result};
use crate::id::Id;
use serde::{Deserialize, Serialize};

/// Largest config that is read.
pub const SIZE_MOST: u64 = 64 * 1024;

/// Which version of restic's repository format a vault has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Nothing is compressed.
    One,
    /// Blobs and unpacked files may be compressed.
    Two,
}

/// What `config` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The format's version.
    pub version: Version,
    /// Random; what tells this vault from all others.
    pub id: Id,
    /// Irreducible, of degree 53; bit n is the coefficient of x^n.
    pub chunker_polynomial: u64,
}

#[derive(Serialize, Deserialize)]
struct Text {
    version: u32,
    id: String,
    chunker_polynomial: String,
}

impl Config {
    /// A config for a new vault of version 2 with a random id.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn new(version: Version, chunker_polynomial: u64) -> Result<Self> {
        let mut id = [0; Id::LENGTH];
        crate::crypto::random(&mut id)?;
        Ok(Self { version, id: Id::from_bytes(id), chunker_polynomial })
    }

    /// Reads the decrypted file.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a version that is not known; [`Error::Damaged`] for anything that is no config.
    pub fn decode(json: &[u8]) -> Result<Self> {
        let damaged = |why: &dyn std::fmt::Display| Error::damaged("config", why);
        let text: Text = serde_json::from_slice(json).map_err(|error| damaged(&error))?;
        let version = match text.version {
            1 => Version::One,
            2 => Version::Two,
            0 => return Err(damaged(&"version 0 does not exist")),
            newer => {
                let why =
                    format!("the vault has version {newer} of the format; this kobj knows 1 and 2: use a newer one");
                return Err(Error::unsupported("config", why));
            }
        };
        let id = text.id.parse().map_err(|error| damaged(&error))?;
        let digits = text.chunker_polynomial.as_str();
        let chunker_polynomial = u64::from_str_radix(digits, 16)
            .ok()
            .filter(|_| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .ok_or_else(|| damaged(&"the chunker's polynomial is no hexadecimal number"))?;
        if chunker_polynomial >> 53 != 1 {
            return Err(damaged(&"the chunker's polynomial is not of degree 53"));
        }
        Ok(Self { version, id, chunker_polynomial })
    }

    /// The file's text, before encryption.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let version = match self.version {
            Version::One => 1,
            Version::Two => 2,
        };
        format!(r#"{{"version":{version},"id":"{}","chunker_polynomial":"{:x}"}}"#, self.id, self.chunker_polynomial)
            .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"version":2,"id":"996a815a52827f47fa65b66380365dfdee7ad9fe3e1364c6cd9c8d307d86d3f7","chunker_polynomial":"22d470f7f74037"}"#;

    #[test]
    fn restics_config_reads_and_writes_back() {
        let config = Config::decode(GOOD.as_bytes()).expect("config");
        assert_eq!(config.version, Version::Two);
        assert_eq!(config.id.short(), "996a815a");
        assert_eq!(config.chunker_polynomial, 0x22_d470_f7f7_4037);
        assert_eq!(config.encode(), GOOD.as_bytes());
    }

    #[test]
    fn newer_versions_and_nonsense_are_refused() {
        let decode = |from: &str, to: &str| Config::decode(GOOD.replace(from, to).as_bytes());
        assert!(matches!(decode(":2,", ":3,"), Err(Error::Unsupported { .. })));
        assert!(matches!(decode(":2,", ":0,"), Err(Error::Damaged { .. })));
        assert!(matches!(decode("996a", "996"), Err(Error::Damaged { .. })));
        assert!(matches!(decode("22d4", "+2d4"), Err(Error::Damaged { .. })));
        assert!(matches!(decode("22d4", "2d4"), Err(Error::Damaged { .. })));
        assert!(matches!(Config::decode(b""), Err(Error::Damaged { .. })));
    }
}

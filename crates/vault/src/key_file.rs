//! Key files: a password opens one by scrypt, and what is in it opens everything else.
//!
//! The file is plain JSON. Who may write into the vault may put any numbers there, so what scrypt may cost is bounded
//! before it runs.

use crate::base64;
use crate::crypto::{MasterKey, NotAuthentic};
use crate::error::{Error, Result};
use crate::password::Password;
use jiff::Zoned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Largest key file that is read.
pub const SIZE_MOST: u64 = 64 * 1024;
/// Most memory that scrypt may take: 128 N r bytes.
const MEMORY_MOST_BYTES: u64 = 1 << 30;
/// Most work that scrypt may do: 128 N r p bytes mixed. About ten seconds.
const WORK_MOST_BYTES: u64 = 1 << 32;
const SALT_LENGTH: usize = 64;
const SALT_MOST: usize = 1024;
const DATA_MOST: usize = 4096;

/// What deriving a key from a password costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    log_n: u8,
    r: u32,
    p: u32,
}

impl Cost {
    /// What our keys cost: N 32768, r 8, p 1: 32 MiB and some 0.1 s.
    pub const OURS: Self = Self { log_n: 15, r: 8, p: 1 };
    /// Next to nothing: for tests, which make many vaults that hold nothing.
    #[doc(hidden)]
    pub const TEST: Self = Self { log_n: 1, r: 8, p: 1 };

    /// These parameters, if N is a power of two from 2 on and the whole within the bounds.
    #[must_use]
    pub fn new(n: u64, r: u32, p: u32) -> Option<Self> {
        if !n.is_power_of_two() || n < 2 || r == 0 || p == 0 {
            return None;
        }
        let memory_bytes = n.checked_mul(128)?.checked_mul(u64::from(r))?;
        let work_bytes = memory_bytes.checked_mul(u64::from(p))?;
        // Another 128 r p bytes are taken beside; within the work, so bounded by it for the smallest N.
        let beside_bytes = 128_u64.checked_mul(u64::from(r))?.checked_mul(u64::from(p))?;
        let bounded = memory_bytes <= MEMORY_MOST_BYTES && work_bytes <= WORK_MOST_BYTES && beside_bytes <= 1 << 26;
        bounded.then_some(Self { log_n: u8::try_from(n.trailing_zeros()).ok()?, r, p })
    }

    fn n(self) -> u64 {
        1 << self.log_n
    }

    fn derive(self, password: &Password, salt: &[u8]) -> Result<MasterKey> {
        let failed =
            |why: &str| Error::unsupported("scrypt", format_args!("{why}: N {}, r {}, p {}", self.n(), self.r, self.p));
        let parameters =
            scrypt::Params::new(self.log_n, self.r, self.p).map_err(|_| failed("parameters out of range"))?;
        let mut output = Zeroizing::new([0; MasterKey::LENGTH]);
        scrypt::scrypt(password.as_bytes(), salt, &parameters, &mut output[..]).map_err(|_| failed("output length"))?;
        Ok(MasterKey::from_bytes(&output))
    }
}

#[derive(Serialize, Deserialize)]
struct Text {
    #[serde(default)]
    created: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    hostname: String,
    kdf: String,
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
    salt: String,
    data: String,
}

#[derive(Serialize, Deserialize)]
struct KeyText {
    mac: MacText,
    encrypt: Zeroizing<String>,
}

#[derive(Serialize, Deserialize)]
struct MacText {
    k: Zeroizing<String>,
    r: Zeroizing<String>,
}

/// A key file, not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    /// When it was made, as the maker wrote it.
    pub created: String,
    /// Who made it.
    pub username: String,
    /// On which host.
    pub hostname: String,
    cost: Cost,
    salt: Vec<u8>,
    data: Vec<u8>,
}

impl KeyFile {
    /// Reads a key file.
    ///
    /// # Errors
    /// [`Error::Damaged`] for what is no key file; [`Error::Unsupported`] for a derivation that is not known or would cost
    /// more than the bounds.
    pub fn decode(json: &[u8]) -> Result<Self> {
        let damaged = |why: &dyn std::fmt::Display| Error::damaged("the key file", why);
        let text: Text = serde_json::from_slice(json).map_err(|error| damaged(&error))?;
        if text.kdf != "scrypt" {
            return Err(Error::unsupported("the key file", format_args!("key derivation {:?} is not known", text.kdf)));
        }
        let Some(cost) = Cost::new(text.n, text.r, text.p) else {
            let why = format!("scrypt with N {}, r {}, p {} is out of bounds (1 GiB)", text.n, text.r, text.p);
            return Err(Error::unsupported("the key file", why));
        };
        let salt = base64::decode(&text.salt, SALT_MOST).ok_or_else(|| damaged(&"salt is no base64"))?;
        let data = base64::decode(&text.data, DATA_MOST).ok_or_else(|| damaged(&"data is no base64"))?;
        let Text { created, username, hostname, .. } = text;
        Ok(Self { created, username, hostname, cost, salt, data })
    }

    /// A new key file by which this password opens this master key.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn create(master: &MasterKey, password: &Password, cost: Cost, origin: &Origin) -> Result<Self> {
        let mut salt = vec![0; SALT_LENGTH];
        crate::crypto::random(&mut salt)?;
        let part = |bytes| Zeroizing::new(base64::encode(bytes));
        let text = KeyText {
            mac: MacText { k: part(master.mac_k()), r: part(master.mac_r()) },
            encrypt: part(master.encrypt()),
        };
        let json = Zeroizing::new(
            serde_json::to_vec(&text)
                .map_err(|error| Error::refused("the master key", format_args!("no JSON: {error}")))?,
        );
        let data = cost.derive(password, &salt)?.seal(&json)?;
        let Origin { created, username, hostname } = origin.clone();
        Ok(Self { created, username, hostname, cost, salt, data })
    }

    /// The file's text.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let text = Text {
            created: self.created.clone(),
            username: self.username.clone(),
            hostname: self.hostname.clone(),
            kdf: "scrypt".to_string(),
            n: self.cost.n(),
            r: self.cost.r,
            p: self.cost.p,
            salt: base64::encode(&self.salt),
            data: base64::encode(&self.data),
        };
        serde_json::to_vec(&text).unwrap_or_default()
    }

    /// The master key, if this password opens it.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the password fits and what it opens is no key.
    pub fn open(&self, password: &Password) -> Result<std::result::Result<MasterKey, NotAuthentic>> {
        let derived = self.cost.derive(password, &self.salt)?;
        let json = match derived.open(self.data.clone()) {
            Ok(json) => Zeroizing::new(json),
            Err(wrong) => return Ok(Err(wrong)),
        };
        let damaged = || Error::damaged("the key file", "what the password opens is no master key");
        let text: KeyText = serde_json::from_slice(&json).map_err(|_| damaged())?;
        let mut bytes = Zeroizing::new([0; MasterKey::LENGTH]);
        for (range, text) in [(0..32, &text.encrypt), (32..48, &text.mac.k), (48..64, &text.mac.r)] {
            let part = base64::decode(text, range.len()).map(Zeroizing::new).filter(|part| part.len() == range.len());
            let part = part.filter(|part| part.iter().any(|byte| *byte != 0)).ok_or_else(damaged)?;
            bytes[range].copy_from_slice(&part);
        }
        Ok(Ok(MasterKey::from_bytes(&bytes)))
    }
}

/// What a key file says of its making.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// RFC 3339.
    pub created: String,
    /// Login name.
    pub username: String,
    /// Host name.
    pub hostname: String,
}

impl Origin {
    /// Now, this user, this host.
    #[must_use]
    pub fn here() -> Self {
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let username = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
        let now = Zoned::now();
        let created = now.strftime("%Y-%m-%dT%H:%M:%S%.9f%:z").to_string();
        Self { created, username, hostname }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by restic 0.14, password "golden".
    const RESTICS: &str = r#"{"created":"2026-11-24T15:48:21.833275622Z","username":"root","hostname":"vm","kdf":"scrypt","N":32768,"r":8,"p":7,"salt":"F0hmwXGrBWici5to2u4jEmLecI+RWxytgp/C1kz4LKU2UfJhIP0WUDkoXoXPzV0utQ2smiFrkaOHl5KVKXBhAA==","data":"sOurcXm1YgD75F4/fih6/8m/QeXssmisVNqdoTPHSCWHbFQrTH4Uh6vXlAXscpBQH/QFhBPNsvMnSJsCQ1o6/cCRDDDafMBS2doXaM1SVf4rLH+1EOawen3VAMoZofQPzGLSiidowvaGrAd7azndkPZcM7myDhJgIibFRTrs+KN8GrjL6SMDvf3SlxaWYH6RuBPNEazSalpJBDUVt5uTNw=="}"#;

    #[test]
    fn restics_key_opens_with_its_password_alone() {
        let key = KeyFile::decode(RESTICS.as_bytes()).expect("key file");
        assert_eq!((key.username.as_str(), key.hostname.as_str()), ("root", "vm"));
        assert_eq!(key.encode(), RESTICS.as_bytes());
        assert!(key.open(&Password::new("golden")).expect("usable").is_ok());
        assert_eq!(key.open(&Password::new("Golden")).expect("usable").err(), Some(NotAuthentic));
    }

    #[test]
    fn a_new_key_opens_the_master_key_it_was_made_for() {
        let (master, password) = (MasterKey::random().expect("key"), Password::new("x"));
        let made = KeyFile::create(&master, &password, Cost::TEST, &Origin::here()).expect("made");
        let read = KeyFile::decode(&made.encode()).expect("decoded");
        assert_eq!(read, made);
        let opened = read.open(&password).expect("usable").expect("right password");
        assert_eq!(opened.open(master.seal(b"secret").expect("sealed")), Ok(b"secret".to_vec()));
        assert!(read.open(&Password::new("y")).expect("usable").is_err());
        assert!(jiff::Timestamp::strptime("%Y-%m-%dT%H:%M:%S%.f%:z", &read.created).is_ok(), "{}", read.created);
    }

    #[test]
    fn costs_out_of_bounds_are_refused_before_anything_is_derived() {
        assert_eq!(Cost::new(32768, 8, 1), Some(Cost::OURS));
        assert!(Cost::new(1 << 20, 8, 1).is_some());
        for (n, r, p) in
            [(0, 8, 1), (1, 8, 1), (3, 8, 1), (32768, 0, 1), (32768, 8, 0), (1 << 21, 8, 1), (1 << 63, 8, 1)]
        {
            assert_eq!(Cost::new(n, r, p), None, "{n} {r} {p}");
        }
        assert_eq!(Cost::new(2, u32::MAX, u32::MAX), None);
        assert_eq!(Cost::new(2, 1, 1 << 24), None);
        assert_eq!(Cost::new(1 << 15, 8, 1 << 10), None);
    }

    #[test]
    fn what_is_no_key_file_is_refused() {
        for (from, to) in [("scrypt", "argon2"), ("32768", "32767"), ("salt\":\"F", "salt\":\"-"), ("\"N\"", "\"M\"")] {
            let changed = RESTICS.replace(from, to);
            assert!(KeyFile::decode(changed.as_bytes()).is_err(), "{from} -> {to}");
        }
        assert!(KeyFile::decode(b"{}").is_err() && KeyFile::decode(b"").is_err());
    }
}

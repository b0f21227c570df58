//! The vault's encryption: AES-256 in counter mode, then Poly1305-AES over the ciphertext.
//!
//! A sealed message is `IV 16 | ciphertext | MAC 16`. The IV is random and serves as nonce of both. The MAC is compared
//! before anything is decrypted.

use crate::error::{Error, Result};
use aes256ctr_poly1305aes::aead::AeadInPlace;
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key, Nonce, Tag};
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// Bytes of the random start of a sealed message.
pub const IV_LENGTH: usize = 16;
/// Bytes of the authentication code at its end.
pub const MAC_LENGTH: usize = 16;
/// How many bytes longer a sealed message is than the plain one.
pub const OVERHEAD: usize = IV_LENGTH + MAC_LENGTH;

/// What `r` of Poly1305 keeps of each byte; the other bits are zero by definition.
const R_MASK: [u8; 16] = [255, 255, 255, 15, 252, 255, 255, 15, 252, 255, 255, 15, 252, 255, 255, 15];

/// A sealed message that this key did not make, or that was changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAuthentic;

impl fmt::Display for NotAuthentic {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("its authentication code does not fit: it was changed, or another vault's key made it")
    }
}

impl std::error::Error for NotAuthentic {}

/// A key of 64 bytes: 32 for AES-256, 16 and 16 (`k` and `r`) for Poly1305-AES. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct MasterKey(Box<[u8; Self::LENGTH]>);

impl MasterKey {
    /// Bytes of a key.
    pub const LENGTH: usize = 64;

    /// A new random key.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn random() -> Result<Self> {
        let mut key = Self(Box::new([0; Self::LENGTH]));
        random(&mut *key.0)?;
        for (byte, mask) in key.0[48..].iter_mut().zip(R_MASK) {
            *byte &= mask;
        }
        Ok(key)
    }

    /// The key with these bytes: AES, `k`, `r`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::LENGTH]) -> Self {
        Self(Box::new(*bytes))
    }

    /// The 32 bytes for AES-256.
    pub(crate) fn encrypt(&self) -> &[u8] {
        &self.0[..32]
    }

    /// The 16 bytes that encrypt the nonce of Poly1305-AES.
    pub(crate) fn mac_k(&self) -> &[u8] {
        &self.0[32..48]
    }

    /// The 16 bytes that Poly1305 multiplies by.
    pub(crate) fn mac_r(&self) -> &[u8] {
        &self.0[48..]
    }

    fn cipher(&self) -> Aes256CtrPoly1305Aes {
        Aes256CtrPoly1305Aes::new(Key::from_slice(&self.0[..]))
    }

    /// Appends the sealed form of `plain` to `to`.
    ///
    /// # Errors
    /// When the system has no randomness to give; `to` is as it was then.
    pub fn seal_onto(&self, plain: &[u8], to: &mut Vec<u8>) -> Result<()> {
        let mut iv = [0; IV_LENGTH];
        random(&mut iv)?;
        let start = to.len();
        to.reserve(plain.len() + OVERHEAD);
        to.extend_from_slice(&iv);
        to.extend_from_slice(plain);
        match self.cipher().encrypt_in_place_detached(Nonce::from_slice(&iv), &[], &mut to[start + IV_LENGTH..]) {
            Ok(mac) => {
                to.extend_from_slice(&mac);
                Ok(())
            }
            Err(_) => {
                to[start..].zeroize();
                to.truncate(start);
                Err(Error::refused("a message", "too long to be encrypted"))
            }
        }
    }

    /// The sealed form of `plain`.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn seal(&self, plain: &[u8]) -> Result<Vec<u8>> {
        let mut sealed = Vec::new();
        self.seal_onto(plain, &mut sealed)?;
        Ok(sealed)
    }

    /// Decrypts where it stands; the answer is the plain part of `sealed`.
    ///
    /// # Errors
    /// [`NotAuthentic`]; `sealed` is as it was then.
    pub fn open_in_place<'a>(&self, sealed: &'a mut [u8]) -> std::result::Result<&'a mut [u8], NotAuthentic> {
        let (iv, rest) = sealed.split_first_chunk_mut::<IV_LENGTH>().ok_or(NotAuthentic)?;
        let (text, mac) = rest.split_last_chunk_mut::<MAC_LENGTH>().ok_or(NotAuthentic)?;
        let (nonce, tag) = (Nonce::from_slice(iv), Tag::from_slice(mac));
        self.cipher().decrypt_in_place_detached(nonce, &[], text, tag).map_err(|_| NotAuthentic)?;
        Ok(text)
    }

    /// The plain form of a sealed message.
    ///
    /// # Errors
    /// [`NotAuthentic`].
    pub fn open(&self, mut sealed: Vec<u8>) -> std::result::Result<Vec<u8>, NotAuthentic> {
        let length = self.open_in_place(&mut sealed)?.len();
        sealed.copy_within(IV_LENGTH..IV_LENGTH + length, 0);
        sealed.truncate(length);
        Ok(sealed)
    }
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("MasterKey(..)")
    }
}

/// Fills a buffer with randomness.
///
/// # Errors
/// When the system has none to give.
pub fn random(buffer: &mut [u8]) -> Result<()> {
    getrandom::fill(buffer)
        .map_err(|error| Error::io("take randomness from", "the system", std::io::Error::other(error)))
}

/// Bytes that are wiped when dropped.
pub(crate) type Secret = Zeroizing<Vec<u8>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_and_anything_changed_does_not() {
        let key = MasterKey::random().expect("key");
        for length in [0, 1, 15, 16, 17, 1000] {
            let plain: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let sealed = key.seal(&plain).expect("sealed");
            assert_eq!(sealed.len(), plain.len() + OVERHEAD);
            assert_eq!(key.open(sealed.clone()), Ok(plain));
            for at in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[at] ^= 4;
                assert_eq!(key.open(changed), Err(NotAuthentic), "byte {at} of {length}");
            }
            assert_eq!(key.open(sealed[..sealed.len() - 1].to_vec()), Err(NotAuthentic));
            assert_eq!(MasterKey::random().expect("key").open(sealed), Err(NotAuthentic));
        }
        assert_eq!(key.open(vec![0; OVERHEAD - 1]), Err(NotAuthentic));
    }

    #[test]
    fn no_two_messages_look_alike_and_no_key_is_printed() {
        let key = MasterKey::random().expect("key");
        assert_ne!(key.seal(b"same").expect("sealed"), key.seal(b"same").expect("sealed"));
        assert_eq!(format!("{key:?}"), "MasterKey(..)");
    }
}

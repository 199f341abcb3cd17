//! API keys: `sp_ID_SECRETCHECK`, 256 random bits with a public id and a checksum that distinguishes a typing error from a guess.
//!
//! ID is 80 bits and SECRET 256 bits in lower-case base32; CHECK is the CRC-32 of everything before it. A double click selects the
//! whole key, and scanners for leaked secrets can verify a match offline.

use data_encoding::{Encoding, Specification};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;
use subtle::ConstantTimeEq;
use thiserror::Error;

/// The prefix of every API key.
pub const PREFIX: &str = "sp_";

const ID_CHARS: usize = 16;
const SECRET_CHARS: usize = 52;
const CHECK_CHARS: usize = 7;
const DOMAIN: &[u8] = b"sallyport api key v1\0";
const IMPORTED_DOMAIN: &[u8] = b"sallyport imported api key v1\0";
/// An imported key is hashed without salt or stretching, which is safe only for long random texts.
const IMPORTED_CHARS: std::ops::RangeInclusive<usize> = 32..=256;

static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    // The alphabet above is valid; the tests in this file use it.
    specification.encoding().unwrap_or(data_encoding::BASE32_NOPAD)
});

/// A newly created key. Its text exists only here.
pub struct FreshKey {
    /// The public id.
    pub id: String,
    /// The whole key, to be shown once.
    pub text: SecretString,
    /// The hash that is stored.
    pub hash: [u8; 32],
}

/// The parts of a presented key.
#[derive(Debug, PartialEq, Eq)]
pub struct PresentedKey<'a> {
    /// The public id.
    pub id: &'a str,
    /// The hash to compare with the stored one.
    pub(super) hash: [u8; 32],
}

/// A key that clients already have and continue to use, such as an application's own.
#[derive(Debug, PartialEq, Eq)]
pub struct ImportedKey {
    /// The hash that is stored.
    pub hash: [u8; 32],
}

/// A text that cannot be imported as a key.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("an imported key must have 32 to 256 visible ASCII characters")]
pub struct InvalidImportedKey;

/// A text that is not an API key.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not an API key")]
pub struct MalformedKey;

impl FreshKey {
    /// Creates a key from random bytes.
    #[must_use]
    pub fn new(id: [u8; 10], secret: [u8; 32]) -> Self {
        let id = BASE32.encode(&id);
        let body = format!("{PREFIX}{id}_{}", BASE32.encode(&secret));
        let text = SecretString::from(format!("{body}{}", checksum(&body)));
        Self { hash: hash(&id, &secret), id, text }
    }

    /// Returns the text, to be printed once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.text.expose_secret()
    }
}

impl<'a> PresentedKey<'a> {
    /// Parses a presented key and verifies its checksum, but not its secret.
    pub fn parse(text: &'a str) -> Result<Self, MalformedKey> {
        let (body, check) = text.split_at_checked(text.len().saturating_sub(CHECK_CHARS)).ok_or(MalformedKey)?;
        let (id, secret) = body.strip_prefix(PREFIX).and_then(|b| b.split_once('_')).ok_or(MalformedKey)?;
        if id.len() != ID_CHARS || secret.len() != SECRET_CHARS || checksum(body) != check {
            return Err(MalformedKey);
        }
        let mut bytes = [0; 33];
        let buffer = bytes.get_mut(..32).ok_or(MalformedKey)?;
        BASE32.decode_mut(secret.as_bytes(), buffer).map_err(|_| MalformedKey)?;
        Ok(Self { id, hash: hash(id, buffer) })
    }

    /// Compares the key with a stored hash, in constant time.
    #[must_use]
    pub fn matches(&self, stored: &[u8; 32]) -> bool {
        self.hash.ct_eq(stored).into()
    }
}

impl ImportedKey {
    /// Parses the text of a key that was created elsewhere.
    pub fn parse(text: &str) -> Result<Self, InvalidImportedKey> {
        let fits = IMPORTED_CHARS.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        let hash = || Sha256::new().chain_update(IMPORTED_DOMAIN).chain_update(text).finalize().into();
        if fits { Ok(Self { hash: hash() }) } else { Err(InvalidImportedKey) }
    }
}

fn hash(id: &str, secret: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(DOMAIN).chain_update(id).chain_update(secret).finalize().into()
}

fn checksum(body: &str) -> String {
    BASE32.encode(&crc32fast::hash(body.as_bytes()).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_key_parses_and_matches_only_itself() {
        let key = FreshKey::new([1; 10], [2; 32]);
        let presented = PresentedKey::parse(key.reveal()).unwrap();
        assert_eq!(presented.id, key.id);
        assert!(presented.matches(&key.hash));
        assert!(!presented.matches(&FreshKey::new([1; 10], [3; 32]).hash));
        assert!(!presented.matches(&FreshKey::new([4; 10], [2; 32]).hash));
    }

    #[test]
    fn any_single_changed_character_breaks_the_checksum() {
        let key = FreshKey::new([9; 10], [8; 32]);
        let text = key.reveal();
        for i in 0..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[i] = if bytes[i] == b'q' { b'r' } else { b'q' };
            assert_eq!(PresentedKey::parse(std::str::from_utf8(&bytes).unwrap()), Err(MalformedKey), "{i}");
        }
    }

    #[test]
    fn only_a_long_text_without_spaces_can_be_imported() {
        assert!(ImportedKey::parse(&"k".repeat(32)).is_ok());
        for text in ["k".repeat(31), "k".repeat(257), format!("{} {}", "k".repeat(20), "k".repeat(20)), "é".repeat(32)]
        {
            assert_eq!(ImportedKey::parse(&text), Err(InvalidImportedKey), "{text}");
        }
    }

    #[test]
    fn garbage_is_not_a_key() {
        for text in ["", "sp_", "sp__", "sp_wrong", "é", &"sp_".repeat(30), "sk_aaaaaaaaaaaaaaaa_b"] {
            assert_eq!(PresentedKey::parse(text), Err(MalformedKey), "{text}");
        }
    }
}

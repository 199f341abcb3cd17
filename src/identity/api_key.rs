//! API keys: `sp_ID_SECRETCHECK`, 256 random bits under a public id, with a checksum that tells a typing error from a guess.
//!
//! ID is 80 bits and SECRET 256 bits in lower-case base32; CHECK is the CRC-32 of all that stands before it. A double
//! click selects the whole, and scanners for leaked secrets can be sure of a hit without asking anybody.

use data_encoding::{Encoding, Specification};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;
use subtle::ConstantTimeEq;
use thiserror::Error;

/// How every API key begins.
pub const PREFIX: &str = "sp_";

const ID_CHARS: usize = 16;
const SECRET_CHARS: usize = 52;
const CHECK_CHARS: usize = 7;
const DOMAIN: &[u8] = b"sallyport api key v1\0";
const IMPORTED_DOMAIN: &[u8] = b"sallyport imported api key v1\0";
/// An imported key is hashed without salt or stretching, which only a long random text can bear.
const IMPORTED_CHARS: std::ops::RangeInclusive<usize> = 32..=256;

static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    // The alphabet above is a valid one, which the tests of this file use.
    specification.encoding().unwrap_or(data_encoding::BASE32_NOPAD)
});

/// A key that was just made: the only time that its text exists.
pub struct FreshKey {
    /// The public id.
    pub id: String,
    /// The whole text, to be shown once.
    pub text: SecretString,
    /// What is stored.
    pub hash: [u8; 32],
}

/// The parts of a key that was presented.
#[derive(Debug, PartialEq, Eq)]
pub struct PresentedKey<'a> {
    /// The public id.
    pub id: &'a str,
    /// What is stored of it, if there is such a key.
    pub(super) hash: [u8; 32],
}

/// A key that clients have already and keep, such as an application's own.
#[derive(Debug, PartialEq, Eq)]
pub struct ImportedKey {
    /// What is stored.
    pub hash: [u8; 32],
}

/// A text that cannot be imported as a key.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a key to import has 32 to 256 visible ASCII characters")]
pub struct UnfitKey;

/// A text that cannot be an API key.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not an API key")]
pub struct MalformedKey;

impl FreshKey {
    /// Makes a key of random bytes.
    #[must_use]
    pub fn new(id: [u8; 10], secret: [u8; 32]) -> Self {
        let id = BASE32.encode(&id);
        let body = format!("{PREFIX}{id}_{}", BASE32.encode(&secret));
        let text = SecretString::from(format!("{body}{}", checksum(&body)));
        Self { hash: hash(&id, &secret), id, text }
    }
}

impl<'a> PresentedKey<'a> {
    /// Takes a presented text apart; its checksum is verified, its secret is not.
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

    /// Compares with a stored hash, in constant time.
    #[must_use]
    pub fn matches(&self, stored: &[u8; 32]) -> bool {
        self.hash.ct_eq(stored).into()
    }
}

impl ImportedKey {
    /// Takes the text of a key that was made elsewhere.
    pub fn parse(text: &str) -> Result<Self, UnfitKey> {
        let fits = IMPORTED_CHARS.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        let hash = || Sha256::new().chain_update(IMPORTED_DOMAIN).chain_update(text).finalize().into();
        if fits { Ok(Self { hash: hash() }) } else { Err(UnfitKey) }
    }
}

impl FreshKey {
    /// The text, for the one time that it is printed.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.text.expose_secret()
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
            assert_eq!(ImportedKey::parse(&text), Err(UnfitKey), "{text}");
        }
    }

    #[test]
    fn garbage_is_not_a_key() {
        for text in ["", "sp_", "sp__", "sp_wrong", "é", &"sp_".repeat(30), "sk_aaaaaaaaaaaaaaaa_b"] {
            assert_eq!(PresentedKey::parse(text), Err(MalformedKey), "{text}");
        }
    }
}

//! Key fingerprints: identify the key that verified a credential, without revealing anything about the key.

use std::{fmt, str::FromStr};

use hmac::Mac;
use sallyport_core::secrets::hmac_sha256::hmac_sha256;
use thiserror::Error;

const DOMAIN: &[u8] = b"sallyport key fingerprint v1\0";

/// Half of an HMAC-SHA256 with the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 16]);

/// A text that is not a key fingerprint.
#[derive(Debug, Error)]
#[error("not a key fingerprint")]
pub struct InvalidFingerprint;

impl Fingerprint {
    /// Returns the fingerprint of `key` for the use that `parts` describe.
    pub(super) fn of(key: &[u8], parts: &[&str]) -> Self {
        let mut mac = hmac_sha256(key);
        mac.update(DOMAIN);
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        let mut half = [0; 16];
        half.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
        Self(half)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| InvalidFingerprint)?;
        bytes.try_into().map(Self).map_err(|_| InvalidFingerprint)
    }
}

/// Serialises fingerprints for serde.
pub(super) mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::Fingerprint;

    pub(in crate::identity) fn serialize<S: Serializer>(print: &Fingerprint, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(print)
    }

    pub(in crate::identity) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Fingerprint, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_keys_and_uses_have_different_fingerprints() {
        let one = Fingerprint::of(b"key", &["HS256", "a"]);
        assert_eq!(one.to_string().parse::<Fingerprint>().unwrap(), one);
        for other in [Fingerprint::of(b"yek", &["HS256", "a"]), Fingerprint::of(b"key", &["HS256a", ""])] {
            assert_ne!(one, other);
        }
        assert!("xyz".parse::<Fingerprint>().is_err() && "00".parse::<Fingerprint>().is_err());
    }
}

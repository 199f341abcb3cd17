//! The SHA-256 digest of a finished file: computed once, stored with the task, and sent as `Repr-Digest` (RFC 9530) and `ETag`.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::Path,
    str::FromStr,
};

use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Read size, in bytes.
const PIECE: usize = 1 << 20;

/// The SHA-256 digest of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest([u8; 32]);

/// The error for a text that is not a digest.
#[derive(Debug, Error)]
#[error("not a SHA-256 in hexadecimal")]
pub(crate) struct InvalidDigest;

impl Digest {
    /// Reads the whole file and returns its digest, or `None` if `stopped` returns true before the end.
    pub(crate) fn of_file(path: &Path, stopped: impl Fn() -> bool) -> io::Result<Option<Self>> {
        let mut file = File::open(path)?;
        let mut hash = Sha256::new();
        let mut piece = vec![0; PIECE];
        loop {
            if stopped() {
                return Ok(None);
            }
            let read = file.read(&mut piece)?;
            match piece.get(..read) {
                None | Some([]) => return Ok(Some(Self(hash.finalize().into()))),
                Some(bytes) => hash.update(bytes),
            }
        }
    }

    /// Returns a strong validator (RFC 9110, section 8.8.3): different content has a different one.
    pub(crate) fn etag(self) -> String {
        format!("\"{self}\"")
    }

    /// Returns the value of `Repr-Digest` (RFC 9530, section 3).
    pub(crate) fn repr_digest(self) -> String {
        format!("sha-256=:{}:", BASE64.encode(&self.0))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| InvalidDigest)?;
        bytes.try_into().map(Self).map_err(|_| InvalidDigest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9530_a_digest_is_formatted_for_each_header() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        let digest = Digest::of_file(file.path(), || false).unwrap().unwrap();
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.etag(), format!("\"{hex}\""));
        assert_eq!(digest.repr_digest(), "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:");
        assert_eq!(hex.parse::<Digest>().unwrap(), digest);
        assert!(hex.trim_start_matches("ba").parse::<Digest>().is_err() && "x".parse::<Digest>().is_err());
        assert_eq!(Digest::of_file(file.path(), || true).unwrap(), None);
    }
}

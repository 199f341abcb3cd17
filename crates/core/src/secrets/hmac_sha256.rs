//! HMAC-SHA256, the only message authentication code of this program.

use hmac::{Hmac, KeyInit};
use sha2::Sha256;

/// Creates an HMAC with `secret`, which may have any length.
pub fn hmac_sha256(secret: &[u8]) -> Hmac<Sha256> {
    // HMAC hashes a key that is too long and pads one that is too short, so this cannot fail (RFC 2104, section 2).
    Hmac::new_from_slice(secret).unwrap_or_else(|_| unreachable!())
}

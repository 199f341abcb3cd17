//! Secrets: random values, signatures, and files that only their owner can read.

pub mod hmac_sha256;
pub mod random;
pub mod secret_file;

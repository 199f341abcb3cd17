//! Request ids: unique across restarts, cheap to make, and telling nothing about how many requests there were.

use std::{
    fmt,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::store::secret_file::random;

/// Odd, so that multiplying by it permutes the 64-bit numbers (the golden ratio's, as in Fibonacci hashing).
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

static START: LazyLock<(u32, u64)> = LazyLock::new(|| (u32::from_ne_bytes(random()), u64::from_ne_bytes(random())));
static COUNT: AtomicU64 = AtomicU64::new(0);

/// 24 hexadecimal digits: a random number of this process, and a number that no other request of it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId([u8; 24]);

impl RequestId {
    /// The next id.
    #[must_use]
    pub fn next() -> Self {
        let (process, start) = *START;
        let number = start.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed)).wrapping_mul(STEP);
        let mut binary = [0; 12];
        let (head, tail) = binary.split_at_mut(4);
        head.copy_from_slice(&process.to_be_bytes());
        tail.copy_from_slice(&number.to_be_bytes());
        let mut text = [0; 24];
        data_encoding::HEXLOWER.encode_mut(&binary, &mut text);
        Self(text)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

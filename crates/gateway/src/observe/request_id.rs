//! Request IDs: random, so that they are unique across restarts and do not reveal the number of requests.

use std::{cell::RefCell, fmt};

use sallyport_core::secrets::random::random;

const BYTES: usize = 12;
/// The number of IDs that one call to the operating system provides.
const BATCH: usize = 64;

thread_local! {
    static POOL: RefCell<Vec<[u8; BYTES]>> = const { RefCell::new(Vec::new()) };
}

/// A request ID of 24 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId([u8; 2 * BYTES]);

impl RequestId {
    /// Creates a new ID.
    #[must_use]
    pub fn next() -> Self {
        let mut text = [0; 2 * BYTES];
        data_encoding::HEXLOWER.encode_mut(&next_bytes(), &mut text);
        Self(text)
    }

    /// Returns the ID as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

fn next_bytes() -> [u8; BYTES] {
    POOL.with_borrow_mut(|pool| {
        if pool.is_empty() {
            let fresh = random::<{ BYTES * BATCH }>();
            pool.extend(fresh.as_chunks::<BYTES>().0);
        }
        pool.pop().unwrap_or_default()
    })
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

//! The read size for a response: large for a client that keeps up, so that each byte costs little, and small for one that does not, since
//! the data that it has not taken stays in memory.

use std::time::Duration;

use tokio::time::Instant;

/// The smallest and the largest read.
const LEAST: u64 = 16 << 10;
const MOST: u64 = 256 << 10;
/// The socket buffers of even a slow client take the first megabytes at once. So the pieces grow slowly: to this fraction of the bytes sent
/// since the client last kept us waiting.
const SHARE: u64 = 64;
/// A client that keeps us waiting for longer than this does not keep up.
const PROMPT: Duration = Duration::from_millis(10);

/// Chooses the size of the next read, by how readily one client takes data.
#[derive(Debug, Default)]
pub(crate) struct ReadBuffer {
    /// Bytes that the client has taken since it last kept us waiting.
    promptly: u64,
}

impl ReadBuffer {
    /// Returns the maximum number of bytes to read next.
    pub(crate) fn bytes(&self) -> usize {
        usize::try_from((self.promptly / SHARE).clamp(LEAST, MOST)).unwrap_or(usize::MAX)
    }

    /// Records that a piece of `bytes` was sent, beginning at `since`.
    pub(crate) fn took(&mut self, bytes: u64, since: Instant) {
        self.promptly = if since.elapsed() < PROMPT { self.promptly.saturating_add(bytes) } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_gets_large_pieces_for_as_long_as_it_is_prompt() {
        let mut buffer = ReadBuffer::default();
        buffer.took(1 << 20, Instant::now());
        assert_eq!(buffer.bytes(), 16 << 10);
        buffer.took(7 << 20, Instant::now());
        assert_eq!(buffer.bytes(), 128 << 10);
        buffer.took(1 << 30, Instant::now());
        assert_eq!(buffer.bytes(), 256 << 10);
        let asked = Instant::now();
        advance(PROMPT).await;
        buffer.took(1, asked);
        assert_eq!(buffer.bytes(), 16 << 10);
    }
}

//! How much of an answer is read at a time: much for a client that takes it as fast as it comes, so that each byte costs little, and
//! little for one that does not, since what it has not taken lies in memory.

use std::time::Duration;

use tokio::time::Instant;

/// What is read at once, at least and at most.
const LEAST: u64 = 16 << 10;
const MOST: u64 = 256 << 10;
/// The socket of a slow client takes the first megabytes at once. So the pieces grow slowly: to this part of what went out since the
/// client has kept us waiting last.
const SHARE: u64 = 64;
/// A client that has kept us waiting for longer does not take what comes.
const PROMPT: Duration = Duration::from_millis(10);

/// What one client takes.
#[derive(Debug, Default)]
pub(super) struct Appetite {
    /// Bytes that it has taken without making us wait.
    promptly: u64,
}

impl Appetite {
    /// So many bytes are to be read next, at most.
    pub(super) fn bytes(&self) -> usize {
        usize::try_from((self.promptly / SHARE).clamp(LEAST, MOST)).unwrap_or(usize::MAX)
    }

    /// Takes note of a piece that was sent.
    pub(super) fn took(&mut self, bytes: u64, since: Instant) {
        self.promptly = if since.elapsed() < PROMPT { self.promptly.saturating_add(bytes) } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_gets_large_pieces_for_as_long_as_it_is_prompt() {
        let mut appetite = Appetite::default();
        appetite.took(1 << 20, Instant::now());
        assert_eq!(appetite.bytes(), 16 << 10);
        appetite.took(7 << 20, Instant::now());
        assert_eq!(appetite.bytes(), 128 << 10);
        appetite.took(1 << 30, Instant::now());
        assert_eq!(appetite.bytes(), 256 << 10);
        let asked = Instant::now();
        advance(PROMPT).await;
        appetite.took(1, asked);
        assert_eq!(appetite.bytes(), 16 << 10);
    }
}

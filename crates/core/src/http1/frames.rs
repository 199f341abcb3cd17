//! Watches incoming HTTP/2 frames for attacks that stay within the protocol.

use std::time::{Duration, Instant};

use thiserror::Error;

/// `PRI * HTTP/2.0…` (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;
const FRAME_HEAD_BYTES: usize = 9;
const END_HEADERS: u8 = 0x4;
const END_STREAM: u8 = 0x1;
/// How long a field block may take from its first frame to its last.
const MAX_BLOCK_TIME: Duration = Duration::from_secs(10);
/// The cost of an ordinary frame that carries no data; a short DATA frame costs a part of it.
const FRAME_WORK: u32 = 512;
/// The cost that such frames may add up to between two calls of [`FrameWatch::forgive`].
const MAX_WORK: u32 = 1_000 * FRAME_WORK;
/// The cost of a reset. It ends work that was begun, and a request that is reset at once is the cheapest way to cause work.
const RESET_WORK: u32 = 5 * FRAME_WORK;
/// A DATA frame costs as much as it is shorter than this, in bytes.
const SMALL_DATA: u32 = 64;
/// A client may send a WINDOW_UPDATE for every so many bytes that it was sent, far more often than any honest client does,
const BYTES_FOR_UPDATE: u64 = 128;
/// and this many for each request, for windows that it opens in advance.
const UPDATES_FOR_REQUEST: u32 = 2;
/// At most this many are saved up.
const MAX_UPDATES: u32 = 1 << 16;

/// The state of watching one connection.
#[derive(Debug, Default)]
pub struct FrameWatch {
    preface: usize,
    head: Vec<u8>,
    payload: usize,
    /// When the unfinished field block began, if there is one.
    block_since: Option<Instant>,
    /// Whether the field block ends with the current frame.
    last_of_block: bool,
    work: u32,
    /// How many WINDOW_UPDATE frames are free.
    updates: u32,
    /// How many streams may still end with a DATA frame.
    ends: u32,
    /// The sent bytes that updates were already granted for.
    sent: u64,
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FrameFault {
    /// A field block does not end (CONTINUATION floods, slow heads).
    #[error("a block of header fields took too long")]
    SlowHead,
    /// Too many PING, SETTINGS, PRIORITY, needless WINDOW_UPDATE, tiny DATA or reset frames at a time.
    #[error("too many frames without data")]
    Flood,
}

impl FrameWatch {
    /// Inspects bytes that arrived at `now`, when a total of `sent` bytes had been sent in the other direction.
    pub fn see(&mut self, mut bytes: &[u8], sent: u64, now: Instant) -> Result<(), FrameFault> {
        self.earn(sent);
        bytes = skip(bytes, PREFACE_BYTES - self.preface, |n| self.preface += n);
        while !bytes.is_empty() {
            bytes = skip(bytes, self.payload, |n| self.payload -= n);
            self.end_block();
            let missing = FRAME_HEAD_BYTES - self.head.len();
            let part = bytes.get(..missing.min(bytes.len())).unwrap_or_default();
            self.head.extend_from_slice(part);
            bytes = bytes.get(part.len()..).unwrap_or_default();
            if let [a, b, c, kind, flags, ..] = self.head[..]
                && self.head.len() == FRAME_HEAD_BYTES
            {
                self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.head.clear();
                self.frame(kind, flags, now)?;
            }
        }
        self.end_block();
        self.judge_block(now)
    }

    /// Checks the time of the field block when nothing has arrived.
    pub fn judge_block(&self, now: Instant) -> Result<(), FrameFault> {
        match self.block_since {
            Some(since) if now.duration_since(since) > MAX_BLOCK_TIME => Err(FrameFault::SlowHead),
            _ => Ok(()),
        }
    }

    /// Resets the cost; call this every few seconds.
    pub fn forgive(&mut self) {
        self.work = 0;
    }

    /// Forgives one reset of a stream that was already answered, as clients send it when their upload is refused.
    pub fn forgive_reset(&mut self) {
        self.work = self.work.saturating_sub(RESET_WORK);
    }

    /// Grants updates for the bytes sent since the last call.
    fn earn(&mut self, sent: u64) {
        let updates = sent.saturating_sub(self.sent) / BYTES_FOR_UPDATE;
        self.sent += updates * BYTES_FOR_UPDATE;
        self.grant(u32::try_from(updates).unwrap_or(MAX_UPDATES));
    }

    fn grant(&mut self, updates: u32) {
        self.updates = self.updates.saturating_add(updates).min(MAX_UPDATES);
    }

    fn end_block(&mut self) {
        if self.payload == 0 && std::mem::take(&mut self.last_of_block) {
            self.block_since = None;
        }
    }

    fn frame(&mut self, kind: u8, flags: u8, now: Instant) -> Result<(), FrameFault> {
        const DATA: u8 = 0;
        const HEADERS: u8 = 1;
        const RST_STREAM: u8 = 3;
        const WINDOW_UPDATE: u8 = 8;
        const CONTINUATION: u8 = 9;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.block_since.get_or_insert(now);
            self.last_of_block = flags & END_HEADERS != 0;
        }
        let work = match kind {
            DATA if flags & END_STREAM != 0 && self.ends > 0 => {
                self.ends -= 1;
                0
            }
            DATA if self.payload == 0 => FRAME_WORK,
            DATA => SMALL_DATA.saturating_sub(u32::try_from(self.payload).unwrap_or(SMALL_DATA)),
            HEADERS => {
                self.grant(UPDATES_FOR_REQUEST);
                self.ends = self.ends.saturating_add(1);
                0
            }
            // A download is acknowledged with as many of these as it needs.
            WINDOW_UPDATE if self.updates > 0 => {
                self.updates -= 1;
                0
            }
            CONTINUATION if self.payload > 0 => 0,
            RST_STREAM => RESET_WORK,
            _ => FRAME_WORK,
        };
        self.work = self.work.saturating_add(work);
        if self.work > MAX_WORK { Err(FrameFault::Flood) } else { Ok(()) }
    }
}

/// Skips up to `n` of `bytes`, reports the number to `took`, and returns the rest.
fn skip(bytes: &[u8], n: usize, took: impl FnOnce(usize)) -> &[u8] {
    let n = n.min(bytes.len());
    took(n);
    bytes.get(n..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let [_, length @ ..] = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn started() -> (FrameWatch, Instant) {
        let mut watch = FrameWatch::default();
        let now = Instant::now();
        watch.see(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, now).unwrap();
        (watch, now)
    }

    #[test]
    fn a_field_block_that_does_not_end_is_found_however_its_bytes_arrive() {
        let (mut watch, now) = started();
        let bytes = [frame(1, 0, b"abc"), frame(9, 0, b"def"), frame(9, 4, b"")].concat();
        for (n, byte) in bytes.iter().enumerate() {
            let seen = watch.see(&[*byte], 0, now + Duration::from_millis(100 * n as u64));
            assert_eq!(seen, Ok(()));
        }
        assert_eq!(watch.judge_block(now + Duration::from_mins(1)), Ok(()), "it has ended");
        let whole = frame(1, 4, b"abc");
        let (first, last) = whole.split_at(10);
        watch.see(first, 0, now).unwrap();
        assert_eq!(watch.judge_block(now + Duration::from_secs(11)), Err(FrameFault::SlowHead), "it is not complete");
        watch.see(last, 0, now + Duration::from_secs(9)).unwrap();
        assert_eq!(watch.judge_block(now + Duration::from_secs(11)), Ok(()));
        watch.see(&frame(1, 0, b"abc"), 0, now).unwrap();
        assert_eq!(watch.see(&frame(9, 0, b"d"), 0, now + Duration::from_secs(9)), Ok(()));
        assert_eq!(watch.see(&frame(9, 0, b"e"), 0, now + Duration::from_secs(11)), Err(FrameFault::SlowHead));
    }

    #[test]
    fn only_frames_without_data_are_counted() {
        for (kind, flags, payload, most) in [
            (6, 0, &[0; 8][..], 1_000),
            (4, 0, &[], 1_000),
            (2, 0, &[0; 5], 1_000),
            (0, 0, &[], 1_000),
            (0, 0, b"x", 8_126),
            (0, 1, &[], 1_000),
            (3, 0, &[0; 4], 200),
            (8, 0, &[0; 4], 1_000),
            (200, 0, &[], 1_000),
        ] {
            let (mut watch, now) = started();
            let frame = frame(kind, flags, payload);
            let sent = (0..9_999).take_while(|_| watch.see(&frame, 0, now).is_ok()).count();
            assert_eq!(sent, most, "kind {kind}");
            watch.forgive();
            assert_eq!(watch.see(&frame, 0, now), Ok(()));
        }
        let (mut watch, now) = started();
        for _ in 0..5_000 {
            watch.see(&[frame(1, 5, b"head"), frame(8, 0, &[0; 4]), frame(0, 0, b"data")].concat(), 0, now).unwrap();
        }
        for _ in 0..9_999 {
            watch.see(&frame(0, 0, &[0; 64]), 0, now).unwrap();
        }
    }

    #[test]
    fn only_resets_of_answered_streams_are_forgiven() {
        let (mut watch, now) = started();
        let reset = frame(3, 0, &[0; 4]);
        for _ in 0..9_999 {
            watch.see(&reset, 0, now).unwrap();
            watch.forgive_reset();
        }
        watch.see(&reset, 0, now).unwrap();
        watch.forgive_reset();
        watch.forgive_reset();
        assert_eq!((0..999).take_while(|_| watch.see(&reset, 0, now).is_ok()).count(), 200, "nothing is saved up");
    }

    #[test]
    fn window_updates_are_free_for_sent_bytes_and_for_requests() {
        let (mut watch, now) = started();
        let update = frame(8, 0, &[0; 4]);
        let mut count = |sent| {
            watch.forgive();
            (0..99_999).take_while(|_| watch.see(&update, sent, now).is_ok()).count()
        };
        assert_eq!(count(128 * 500 + 127), 1_500);
        assert_eq!(count(128 * 501), 1_001, "the remainder counts towards the next update");
        assert_eq!(count(1 << 40), 1_000 + (1 << 16), "the number of saved updates is limited");
        let (mut watch, now) = started();
        for _ in 0..9_999 {
            watch.see(&[frame(1, 5, b"head"), update.repeat(2)].concat(), 0, now).unwrap();
        }
    }
}

//! Sends ranges of files with sendfile(2): the kernel passes their pages on, and they never enter this process.
//!
//! hyper can only send bytes in memory. It is therefore given placeholder bytes, which nothing ever reads, while the real range waits
//! in the connection's send queue, in the same order. When hyper writes a placeholder, the connection sends the range instead.
//!
//! This works for HTTP/1, where hyper passes on the buffers it is given, all of them at each write. HTTP/2 framing would copy small
//! pieces, placeholders included, so axum is built without it. Because all this depends on how hyper writes:
//!
//! * the manifest names hyper's exact version;
//! * `self_test.rs` tries it at startup, and if it fails, ranges are read into memory instead;
//! * `stream.rs` compares every write and flush with the queue before a byte is sent, and ends the connection if they differ.

mod self_test;
mod stream;
#[cfg(test)]
mod wire_tests;

use std::{collections::VecDeque, fs::File, io, sync::Arc};

use axum::body::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::task::spawn_blocking;

use super::page_cache;

pub(crate) use self::{
    self_test::choose_mode,
    stream::{SendfileStream, Socket},
};

/// The longest range, in bytes.
const MAX_RANGE: usize = 256 << 10;

/// The placeholder for bytes of files; it is never sent itself.
static PLACEHOLDER: [u8; MAX_RANGE] = [0; MAX_RANGE];

/// How the bytes of files get to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendMode {
    /// The kernel sends them in place of placeholders.
    Sendfile,
    /// They are read into memory, and hyper writes them.
    Copy,
}

/// The queue of file ranges still to be sent on a connection.
#[derive(Clone)]
pub(crate) struct SendQueue {
    mode: SendMode,
    /// Always empty if ranges are read into memory.
    ranges: Arc<Mutex<VecDeque<FileRange>>>,
}

struct FileRange {
    file: Arc<File>,
    at: u64,
    left: usize,
}

impl SendQueue {
    fn new(mode: SendMode) -> Self {
        Self { mode, ranges: Arc::default() }
    }

    /// Returns the bytes for hyper to write in order to send a range of at most `bytes` bytes, and at most [`MAX_RANGE`]: a placeholder
    /// of the same length, or the bytes themselves. hyper must get them before it writes again.
    pub(crate) async fn piece(&self, file: &Arc<File>, at: u64, bytes: u64) -> io::Result<Bytes> {
        let length = usize::try_from(bytes).map_or(MAX_RANGE, |bytes| bytes.min(MAX_RANGE));
        match self.mode {
            SendMode::Sendfile => {
                page_cache::load(file, at, length as u64).await?;
                Ok(self.enqueue(Arc::clone(file), at, length))
            }
            SendMode::Copy => {
                let file = Arc::clone(file);
                spawn_blocking(move || read(&file, at, length)).await?
            }
        }
    }

    /// Queues a range, and returns its placeholder.
    fn enqueue(&self, file: Arc<File>, at: u64, left: usize) -> Bytes {
        self.ranges().push_back(FileRange { file, at, left });
        Bytes::from_static(PLACEHOLDER.get(..left).unwrap_or_default())
    }

    /// Ignores poisoning: the queue is consistent even after a panic.
    fn ranges(&self) -> MutexGuard<'_, VecDeque<FileRange>> {
        self.ranges.lock()
    }
}

/// Reads a range that the file must contain in full.
fn read(file: &File, at: u64, length: usize) -> io::Result<Bytes> {
    let mut bytes = vec![0; length];
    std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, at)?;
    Ok(bytes.into())
}

fn is_placeholder(bytes: &[u8]) -> bool {
    PLACEHOLDER.as_ptr_range().contains(&bytes.as_ptr())
}

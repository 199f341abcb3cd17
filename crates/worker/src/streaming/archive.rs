//! Streams several finished files as one ZIP archive. The files are stored uncompressed; sizes and checksums follow each file in a data
//! descriptor, and ZIP64 is used where a size requires it.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::body::{Body, Bytes};
use futures_util::stream;
use jiff::{Timestamp, tz::Offset};
use tokio::{
    runtime::Handle,
    sync::mpsc::{Sender, channel},
    task::spawn_blocking,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

use super::budget::Account;
use crate::{media::read_leases::ReadLease, shares::ShareGuard};

/// Read size, in bytes.
const PIECE: usize = 128 << 10;

/// The maximum number of bytes of one archive that are held in memory while its client reads nothing.
pub(crate) const UNREAD: usize = 4 * PIECE;

/// Sizes from this one on need ZIP64.
const LARGE: u64 = u32::MAX as u64;

/// While others wait for its slot, an archive must send at least this many bytes per [`WINDOW`], or it is ended. Buffers on the way to a
/// slow reader drain a megabyte at a time, so the limit is low enough that a client reading 64 KiB per second always meets it.
const LEAST: u64 = 320 << 10;
const WINDOW: usize = 4;

/// How often progress is checked. [`WINDOW`] counts these intervals.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// A file of the archive.
pub(crate) struct Member {
    /// Unique in the archive, and not a path.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) finished: Option<Timestamp>,
    pub(crate) reading: Arc<ReadLease>,
}

/// The progress of an archive, shared by its writer, its sender and its watcher.
struct Progress {
    /// Cancelled when the archive is to end early.
    stop: CancellationToken,
    /// Bytes that the client has taken.
    taken: AtomicU64,
    /// Set once the archive is complete.
    complete: AtomicBool,
}

/// A writer that passes what is written to the response body.
struct BodyWriter {
    to: Sender<Bytes>,
    account: Account,
    progress: Arc<Progress>,
    runtime: Handle,
    /// The client is gone or the archive was stopped.
    gone: bool,
}

/// Returns the archive of `members` as a response body. It holds `slot` until everything is sent, the client is gone, or others wait
/// and the client reads almost nothing.
pub(crate) fn body(members: Vec<Member>, slot: ShareGuard, account: Account) -> Body {
    // The account limits how much is in flight.
    let (to, pieces) = channel(1);
    let progress = Arc::new(Progress {
        stop: CancellationToken::new(),
        taken: AtomicU64::new(0),
        complete: AtomicBool::new(false),
    });
    let writer = BodyWriter { to, account, progress: Arc::clone(&progress), runtime: Handle::current(), gone: false };
    let work = spawn_blocking(move || write(members, writer));
    let watched = Arc::clone(&progress);
    tokio::spawn(async move {
        // The slot is released when this task ends.
        tokio::select! {
            written = work => if let Err(error) = written.map_err(io::Error::other).flatten() {
                tracing::warn!(%error, "archive not sent completely");
            },
            () = watched.too_slow(&slot) => {
                tracing::warn!("archive ended: its client reads too slowly and others are waiting");
                watched.stop.cancel();
            }
        }
    });
    Body::from_stream(stream::unfold(Some((pieces, progress)), |state| async move {
        let (mut pieces, progress) = state?;
        match pieces.recv().await {
            Some(piece) => Some((Ok(piece), Some((pieces, progress)))),
            None if progress.complete.load(Ordering::Acquire) => None,
            // Abort the response, so that a partial archive is never taken for a complete one.
            None => Some((Err(io::Error::from(io::ErrorKind::BrokenPipe)), None)),
        }
    }))
}

impl Progress {
    /// Completes when others wait for `slot` and the client has taken less than [`LEAST`] in the last window.
    async fn too_slow(&self, slot: &ShareGuard) {
        let mut window = VecDeque::from([0]);
        loop {
            sleep(CHECK_INTERVAL).await;
            let taken = self.taken.load(Ordering::Relaxed);
            window.push_back(taken);
            let before = if window.len() > WINDOW { window.pop_front() } else { None };
            if before.is_some_and(|before| taken - before < LEAST) && slot.is_wanted() {
                return;
            }
        }
    }
}

fn write(members: Vec<Member>, to: BodyWriter) -> io::Result<()> {
    let progress = Arc::clone(&to.progress);
    let mut archive = ZipWriter::new_stream(BufWriter::with_capacity(PIECE, to));
    let mut piece = vec![0; PIECE];
    for Member { name, path, finished, reading: _reading } in members {
        let mut file = File::open(path)?;
        archive.start_file(name, options(file.metadata()?.len(), finished))?;
        loop {
            let read = file.read(&mut piece)?;
            match piece.get(..read) {
                None | Some([]) => break,
                Some(bytes) => archive.write_all(bytes)?,
            }
        }
    }
    let mut rest = archive.finish()?.into_inner();
    rest.flush()?;
    // Set before the writer is dropped, which closes the channel to the client.
    progress.complete.store(true, Ordering::Release);
    Ok(())
}

fn options(bytes: u64, finished: Option<Timestamp>) -> SimpleFileOptions {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(bytes >= LARGE);
    match finished.and_then(date) {
        Some(at) => options.last_modified_time(at),
        None => options,
    }
}

/// Converts to UTC: ZIP dates have no time zone.
fn date(at: Timestamp) -> Option<DateTime> {
    let at = Offset::UTC.to_datetime(at);
    let part = |number: i8| u8::try_from(number).ok();
    DateTime::from_date_and_time(
        u16::try_from(at.year()).ok()?,
        part(at.month())?,
        part(at.day())?,
        part(at.hour())?,
        part(at.minute())?,
        part(at.second())?,
    )
    .ok()
}

impl BodyWriter {
    /// Returns false when the client is gone.
    async fn send(&self, bytes: &[u8]) -> bool {
        let reserved = tokio::select! {
            reserved = self.account.reserve(bytes.len()) => reserved,
            () = self.to.closed() => return false,
        };
        match reserved {
            Ok(reservation) => self.to.send(reservation.wrap(bytes.to_vec())).await.is_ok(),
            Err(_) => false,
        }
    }
}

impl Write for BodyWriter {
    /// Fails once when the client is gone or the archive is stopped. What the ZIP writer still writes while it is dropped is silently
    /// discarded.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.gone {
            let sending = self.progress.stop.run_until_cancelled(self.send(bytes));
            if self.runtime.block_on(sending) != Some(true) {
                self.gone = true;
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.progress.taken.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! Several finished files as one ZIP archive, made while it is sent: stored as they are, with what is known only at the end of each
//! behind it, and in ZIP64 where that is needed.

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

use super::{budget::Account, readers::Reading, shares::Taken};

/// So much is read at a time.
const PIECE: usize = 128 << 10;

/// So much of one archive is in memory while its client reads nothing.
pub(crate) const UNREAD: usize = 4 * PIECE;

/// From here on sizes need ZIP64.
const LARGE: u64 = u32::MAX as u64;

/// While others wait for its place, an archive moves on by so many bytes in a [`WINDOW`], or ends. Buffers on the way take a megabyte at
/// a time from a slow reader's archive, so that one who reads 64 KiB a second always does.
const LEAST: u64 = 320 << 10;
const WINDOW: usize = 4;

/// How often it is looked; a window has so many of these.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A file of the archive.
pub(crate) struct Member {
    /// Unlike all others in the archive, and no path.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) finished: Option<Timestamp>,
    pub(crate) reading: Arc<Reading>,
}

/// How far an archive is, for all that have to do with it.
struct Progress {
    /// Cancelled when the archive is to end early.
    stop: CancellationToken,
    /// In bytes.
    taken: AtomicU64,
    /// Nothing of it is missing.
    whole: AtomicBool,
}

/// Hands what is written to whoever sends it.
struct Outlet {
    to: Sender<Bytes>,
    account: Account,
    progress: Arc<Progress>,
    runtime: Handle,
    /// Nobody takes it any more.
    gone: bool,
}

/// The archive of `members`. It holds `place` until everything is sent, the client is gone, or others wait and the client takes
/// next to nothing.
pub(crate) fn body(members: Vec<Member>, place: Taken, account: Account) -> Body {
    // The account bounds what is on its way.
    let (to, pieces) = channel(1);
    let progress =
        Arc::new(Progress { stop: CancellationToken::new(), taken: AtomicU64::new(0), whole: AtomicBool::new(false) });
    let outlet = Outlet { to, account, progress: Arc::clone(&progress), runtime: Handle::current(), gone: false };
    let work = spawn_blocking(move || write(members, outlet));
    let watched = Arc::clone(&progress);
    tokio::spawn(async move {
        // With this task ends the place.
        tokio::select! {
            written = work => if let Err(error) = written.map_err(io::Error::other).flatten() {
                tracing::warn!(%error, "an archive was not sent to its end");
            },
            () = watched.too_slow(&place) => {
                tracing::warn!("an archive that was read too slowly was ended, since others wait for its place");
                watched.stop.cancel();
            }
        }
    });
    Body::from_stream(stream::unfold(Some((pieces, progress)), |state| async move {
        let (mut pieces, progress) = state?;
        match pieces.recv().await {
            Some(piece) => Some((Ok(piece), Some((pieces, progress)))),
            None if progress.whole.load(Ordering::Acquire) => None,
            // The answer is broken off, so that nobody takes a part for the whole.
            None => Some((Err(io::Error::from(io::ErrorKind::BrokenPipe)), None)),
        }
    }))
}

impl Progress {
    /// Ends when others have come to wait for `place` while next to nothing was taken.
    async fn too_slow(&self, place: &Taken) {
        let mut window = VecDeque::from([0]);
        loop {
            sleep(LOOK_EVERY).await;
            let taken = self.taken.load(Ordering::Relaxed);
            window.push_back(taken);
            let before = if window.len() > WINDOW { window.pop_front() } else { None };
            if before.is_some_and(|before| taken - before < LEAST) && place.is_wanted() {
                return;
            }
        }
    }
}

fn write(members: Vec<Member>, to: Outlet) -> io::Result<()> {
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
    // Before the way to the client closes with the outlet.
    progress.whole.store(true, Ordering::Release);
    Ok(())
}

fn options(bytes: u64, finished: Option<Timestamp>) -> SimpleFileOptions {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(bytes >= LARGE);
    match finished.and_then(date) {
        Some(at) => options.last_modified_time(at),
        None => options,
    }
}

/// The archive's dates have no zone; this is UTC.
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

impl Outlet {
    /// False when the client is gone.
    async fn send(&self, bytes: &[u8]) -> bool {
        let room = tokio::select! {
            room = self.account.room(bytes.len()) => room,
            () = self.to.closed() => return false,
        };
        match room {
            Ok(room) => self.to.send(room.hold(bytes.to_vec())).await.is_ok(),
            Err(_) => false,
        }
    }
}

impl Write for Outlet {
    /// Fails once when the client is gone or is to wait no longer; what the archive writes while it is dropped goes nowhere, without
    /// a word.
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

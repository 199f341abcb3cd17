//! Several finished files as one ZIP archive, made while it is sent: stored as they are, with what is known only at the end of each
//! behind it, and in ZIP64 where that is needed.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::PathBuf,
    sync::Arc,
};

use axum::body::{Body, Bytes};
use futures_util::stream;
use jiff::{Timestamp, tz::Offset};
use tokio::{
    sync::{
        OwnedSemaphorePermit,
        mpsc::{Sender, channel},
    },
    task::spawn_blocking,
};
use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

use super::readers::Reading;

/// So much is read at a time.
const PIECE: usize = 256 << 10;

/// So many pieces are ready before the client has taken them.
const AHEAD: usize = 2;

/// From here on sizes need ZIP64.
const LARGE: u64 = u32::MAX as u64;

/// A file of the archive.
pub(crate) struct Member {
    /// Unlike all others in the archive, and no path.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) finished: Option<Timestamp>,
    pub(crate) reading: Arc<Reading>,
}

/// Hands what is written to whoever sends it.
struct Outlet {
    to: Sender<io::Result<Bytes>>,
    /// Nobody takes it any more.
    gone: bool,
}

/// The archive of `members`. Its thread holds `slot` until everything is sent or the client is gone.
pub(crate) fn body(members: Vec<Member>, slot: OwnedSemaphorePermit) -> Body {
    let (to, pieces) = channel(AHEAD);
    spawn_blocking(move || {
        let _slot = slot;
        if let Err(error) = write(members, Outlet { to: to.clone(), gone: false }) {
            tracing::warn!(%error, "an archive was not sent to its end");
            // The answer is broken off, so that nobody takes a part for the whole.
            drop(to.blocking_send(Err(error)));
        }
    });
    Body::from_stream(stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.recv().await?;
        Some((piece, pieces))
    }))
}

fn write(members: Vec<Member>, to: Outlet) -> io::Result<()> {
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
    archive.finish()?.into_inner().flush()
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

impl Write for Outlet {
    /// Fails once when the client is gone; what the archive writes while it is dropped goes nowhere, without a word.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.gone && self.to.blocking_send(Ok(Bytes::copy_from_slice(bytes))).is_err() {
            self.gone = true;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

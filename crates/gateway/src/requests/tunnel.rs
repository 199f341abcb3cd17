//! A WebSocket tunnel: forwards bytes between client and application in both directions until either side closes.

use std::{io, pin::pin, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    time::timeout,
};

use super::exchange::Traffic;

/// The maximum number of bytes that are read at once.
const READ_BYTES: usize = 16 * 1024;
/// How long the other side may keep sending after one side has closed.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Forwards in both directions until both sides have closed.
pub(crate) async fn join(
    client: impl AsyncRead + AsyncWrite,
    application: impl AsyncRead + AsyncWrite,
    traffic: &mut Traffic,
) {
    let (from_client, to_client) = split(client);
    let (from_application, to_application) = split(application);
    let mut up = pin!(pass(from_client, to_application, &mut traffic.bytes_in));
    let mut down = pin!(pass(from_application, to_client, &mut traffic.bytes_out));
    // Errors are dropped, since neither side is left to report them to.
    tokio::select! {
        ended = &mut up => if ended.is_ok() { let _ = timeout(LAST_WORDS, down).await; },
        ended = &mut down => if ended.is_ok() { let _ = timeout(LAST_WORDS, up).await; },
    }
}

/// Forwards in one direction. All data is written and flushed as soon as it is read.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, count: &mut u64) -> io::Result<()> {
    let mut bytes = BytesMut::new();
    loop {
        bytes.reserve(READ_BYTES);
        let read = from.read_buf(&mut bytes).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        *count += read as u64;
        to.write_all_buf(&mut bytes).await?;
        to.flush().await?;
    }
}

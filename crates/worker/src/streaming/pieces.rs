//! The body of a response that sends parts of a file.

use std::{collections::VecDeque, fs::File, io, sync::Arc};

use axum::body::{Body, Bytes};
use futures_util::{Stream, stream};

use super::{multipart::Segment, range::ByteRange, sendfile::SendQueue};

/// The part of a response that is still to be sent.
struct Remaining<K> {
    file: Arc<File>,
    segments: VecDeque<Segment>,
    queue: SendQueue,
    _guard: K,
}

/// Returns a body for the connection of `queue`. Drops `guard` when the response ends.
pub(super) fn body<K: Send + 'static>(
    file: Arc<File>,
    segments: VecDeque<Segment>,
    queue: SendQueue,
    guard: K,
) -> Body {
    Body::from_stream(pieces(Remaining { file, segments, queue, _guard: guard }))
}

/// Returns the pieces of a response. Each is prepared only after the previous one was taken, so a client that is gone causes no reading.
fn pieces<K>(remaining: Remaining<K>) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold(remaining, |mut remaining| async move {
        let slice = match remaining.segments.pop_front() {
            None => return Ok(None),
            Some(Segment::Text(text)) => return Ok(Some((text, remaining))),
            Some(Segment::File(slice)) => slice,
        };
        let piece = remaining.queue.piece(&remaining.file, slice.first, slice.len()).await?;
        let first = slice.first + piece.len() as u64;
        if first <= slice.last {
            remaining.segments.push_front(Segment::File(ByteRange { first, ..slice }));
        }
        Ok(Some((piece, remaining)))
    })
}

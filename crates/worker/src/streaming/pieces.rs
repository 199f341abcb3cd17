//! The body of a response that sends parts of a file.

use std::{collections::VecDeque, fs::File, io, sync::Arc};

use axum::body::{Body, Bytes};
use futures_util::{Stream, stream};

use super::{multipart::Segment, range::Slice, sendfile::SendQueue};

/// The part of a response that is still to be sent.
struct Rest<K> {
    file: Arc<File>,
    segments: VecDeque<Segment>,
    queue: SendQueue,
    _kept: K,
}

/// Returns a body for the connection of `queue`. Drops `kept` when the response ends.
pub(super) fn body<K: Send + 'static>(file: Arc<File>, segments: VecDeque<Segment>, queue: SendQueue, kept: K) -> Body {
    Body::from_stream(pieces(Rest { file, segments, queue, _kept: kept }))
}

/// Returns the pieces of a response. Each is prepared only after the previous one was taken, so a client that is gone causes no reading.
fn pieces<K>(rest: Rest<K>) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold(rest, |mut rest| async move {
        let slice = match rest.segments.pop_front() {
            None => return Ok(None),
            Some(Segment::Text(text)) => return Ok(Some((text, rest))),
            Some(Segment::File(slice)) => slice,
        };
        let piece = rest.queue.piece(&rest.file, slice.first, slice.len()).await?;
        let first = slice.first + piece.len() as u64;
        if first <= slice.last {
            rest.segments.push_front(Segment::File(Slice { first, ..slice }));
        }
        Ok(Some((piece, rest)))
    })
}

//! Lists of downloads, written a piece at a time while the client reads. A list of thousands takes no more memory than a short one,
//! and the database is not held while a response is sent.

use std::{io, mem};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use thiserror::Error;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{App, json_response, refusal::Refusal, view::TaskView};
use crate::{
    store::{Bounds, Page, Selection, Sequence, StoreError},
    streaming::budget::Account,
    tasks::{caller::Caller, task::Task},
};

/// A piece ends with the download that brings it to this length, in bytes.
const PIECE: usize = 16 << 10;

/// The largest piece, including that last download with the longest possible texts, in bytes.
const LARGEST: usize = 32 << 10;

/// The maximum amount of memory for a response whose client does not read, in bytes.
const UNREAD: usize = 2 * LARGEST;

/// The maximum number of downloads to examine for one response, matching or not.
const MAX_EXAMINED: usize = 5_000;

/// The text around the downloads.
pub(super) struct Frame {
    pub(super) before: Vec<u8>,
    /// Makes the text after the last download, from the position at which the list continues and from `rest`.
    pub(super) after: fn(Option<Sequence>, &[u8]) -> Vec<u8>,
    /// The second argument of `after`.
    pub(super) rest: Vec<u8>,
}

/// The downloads that are still to be written.
pub(super) struct Rows {
    app: App,
    account: Account,
    selection: Selection,
    /// The position at which the list continues.
    position: Option<Sequence>,
    /// How many more downloads may be written.
    remaining: usize,
    /// How many more downloads may be examined.
    examinations_left: usize,
    /// Whether a download has been written, so that the next one needs a comma.
    started: bool,
    frame: Frame,
    finished: bool,
    /// Keeps a stopping worker from releasing the database; dropped after the last read.
    reading: Option<TaskTrackerToken>,
}

/// The reason why a list ends early.
#[derive(Debug, Error)]
enum RowsError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the response budget has no room for the next piece")]
    NoRoom,
}

impl Rows {
    pub(super) fn new(
        app: &App,
        caller: &Caller,
        selection: Selection,
        position: Option<Sequence>,
        rows: usize,
        frame: Frame,
    ) -> Self {
        Self {
            app: app.clone(),
            account: app.budget.account(caller, UNREAD),
            selection,
            position,
            remaining: rows,
            examinations_left: MAX_EXAMINED,
            started: false,
            frame,
            finished: false,
            reading: Some(app.answering.token()),
        }
    }

    /// Returns the response. Its first piece is made before its head is sent, so that an early failure gets a proper status, and an
    /// response of one piece has a Content-Length.
    pub(super) async fn respond(mut self) -> Result<Response, Refusal> {
        let reservation = self.account.reserve_first(LARGEST).await?;
        let first = reservation.wrap(self.piece().await?);
        if self.finished {
            return Ok(json_response::of(first));
        }
        let first = stream::once(async { Ok::<_, io::Error>(first) });
        Ok(json_response::of(Body::from_stream(first.chain(self.rest()))))
    }

    fn rest(self) -> impl Stream<Item = io::Result<Bytes>> {
        stream::try_unfold(self, |mut rows| async move {
            if rows.finished {
                return Ok(None);
            }
            let piece = rows.next().await.map_err(|error| {
                tracing::error!(%error, "a list of downloads was aborted");
                io::Error::other(error)
            })?;
            Ok(Some((piece, rows)))
        })
    }

    async fn next(&mut self) -> Result<Bytes, RowsError> {
        let reservation = self.account.reserve(LARGEST).await.map_err(|_| RowsError::NoRoom)?;
        Ok(reservation.wrap(self.piece().await?))
    }

    /// Returns the next piece, which is not empty, and sets `ended` if it is the last one.
    async fn piece(&mut self) -> Result<Vec<u8>, StoreError> {
        let mut text = mem::take(&mut self.frame.before);
        while text.is_empty() || !self.finished {
            let page = self.page(PIECE.saturating_sub(text.len())).await?;
            self.add(&mut text, &page);
            if text.len() >= PIECE {
                break;
            }
        }
        Ok(text)
    }

    async fn page(&self, bytes: usize) -> Result<Page, StoreError> {
        let app = self.app.clone();
        let write = move |task: Task, text: &mut Vec<u8>| {
            let progress = app.queue.progress(task.id);
            text.push(b',');
            // Writing to memory does not fail.
            let _ = serde_json::to_writer(text, &TaskView::new(task, progress));
        };
        let bounds = Bounds { rows: self.remaining, bytes };
        self.app.queue.context().store.page(self.selection.clone(), self.position, bounds, write).await
    }

    fn add(&mut self, text: &mut Vec<u8>, page: &Page) {
        // Each download has a comma before it, except the very first.
        let skipped = usize::from(!self.started && page.rows > 0);
        text.extend_from_slice(page.text.get(skipped..).unwrap_or_default());
        self.started |= page.rows > 0;
        self.remaining = self.remaining.saturating_sub(page.rows);
        self.examinations_left = self.examinations_left.saturating_sub(page.examined);
        self.position = page.next;
        if page.next.is_none() || self.remaining == 0 || self.examinations_left == 0 {
            text.extend((self.frame.after)(page.next, &self.frame.rest));
            self.finished = true;
            self.reading = None;
        }
    }
}

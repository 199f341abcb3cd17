//! Lists of downloads, written a piece at a time while the client reads: a list of thousands takes no more memory than one of a few,
//! and the database is not held while an answer is sent.

use std::{io, mem};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use thiserror::Error;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{App, answer, view::TaskView};
use crate::worker::{
    budget::{Account, Room},
    caller::Caller,
    refusal::Refusal,
    store::{Bounds, Place, Selection, StoreError, Stretch},
    task::Task,
};

/// A piece ends with the download that makes it so long, in bytes.
const PIECE: usize = 16 << 10;

/// With that download, which has the longest of all texts.
const LARGEST: usize = 32 << 10;

/// So much of an answer is in memory while its client reads nothing.
const UNREAD: usize = 2 * LARGEST;

/// So many downloads are looked at for one answer, wanted or not.
const MAX_LOOKED_AT: usize = 5_000;

/// What stands around the downloads, and between them.
pub(super) struct Frame {
    pub(super) before: Vec<u8>,
    /// Behind the last one, where it goes on behind this place.
    pub(super) after: fn(Option<Place>, &[u8]) -> Vec<u8>,
    /// What `after` needs beside that.
    pub(super) rest: Vec<u8>,
}

/// What is still to be written.
pub(super) struct Rows {
    app: App,
    account: Account,
    selection: Selection,
    /// Where it goes on.
    place: Option<Place>,
    left: usize,
    looks: usize,
    /// Between two downloads, once there was one.
    begun: bool,
    frame: Frame,
    ended: bool,
    /// Keeps a worker that stops from releasing the database; given back with the last read.
    reading: Option<TaskTrackerToken>,
}

/// Why a list is not written to its end.
#[derive(Debug, Error)]
enum Broken {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("there is no room for an answer")]
    NoRoom,
}

impl Rows {
    pub(super) fn new(
        app: &App,
        caller: &Caller,
        selection: Selection,
        place: Option<Place>,
        rows: usize,
        frame: Frame,
    ) -> Self {
        Self {
            app: app.clone(),
            account: app.budget.account(caller, UNREAD),
            selection,
            place,
            left: rows,
            looks: MAX_LOOKED_AT,
            begun: false,
            frame,
            ended: false,
            reading: Some(app.answering.token()),
        }
    }

    /// The answer. Its first piece is made before its head is sent, so that what fails at once has a status of its own; where there
    /// is no second one, its length is known.
    pub(super) async fn answer(mut self) -> Result<Response, Refusal> {
        let room = self.account.first_room(LARGEST).await?;
        let first = room.hold(self.piece().await?);
        if self.ended {
            return Ok(answer::of(first));
        }
        let first = stream::once(async { Ok::<_, io::Error>(first) });
        Ok(answer::of(Body::from_stream(first.chain(self.rest()))))
    }

    fn rest(self) -> impl Stream<Item = io::Result<Bytes>> {
        stream::try_unfold(self, |mut rows| async move {
            if rows.ended {
                return Ok(None);
            }
            let piece = rows.next().await.map_err(|error| {
                tracing::error!(%error, "a list of downloads was broken off");
                io::Error::other(error)
            })?;
            Ok(Some((piece, rows)))
        })
    }

    async fn next(&mut self) -> Result<Bytes, Broken> {
        let room: Room = self.account.room(LARGEST).await.map_err(|_| Broken::NoRoom)?;
        Ok(room.hold(self.piece().await?))
    }

    /// A piece that is not empty; with it, `ended` is known.
    async fn piece(&mut self) -> Result<Vec<u8>, StoreError> {
        let mut text = mem::take(&mut self.frame.before);
        while text.is_empty() || !self.ended {
            let stretch = self.stretch(PIECE.saturating_sub(text.len())).await?;
            self.add(&mut text, &stretch);
            if text.len() >= PIECE {
                break;
            }
        }
        Ok(text)
    }

    async fn stretch(&self, bytes: usize) -> Result<Stretch, StoreError> {
        let app = self.app.clone();
        let write = move |task: Task, text: &mut Vec<u8>| {
            let progress = app.queue.progress(task.id);
            text.push(b',');
            // Writing to memory does not fail.
            let _ = serde_json::to_writer(text, &TaskView::new(task, progress));
        };
        let bounds = Bounds { rows: self.left, bytes };
        self.app.queue.workshop().store.stretch(self.selection.clone(), self.place, bounds, write).await
    }

    fn add(&mut self, text: &mut Vec<u8>, stretch: &Stretch) {
        // Each download has a comma before it, the first of all aside.
        let skipped = usize::from(!self.begun && stretch.rows > 0);
        text.extend_from_slice(stretch.text.get(skipped..).unwrap_or_default());
        self.begun |= stretch.rows > 0;
        self.left = self.left.saturating_sub(stretch.rows);
        self.looks = self.looks.saturating_sub(stretch.looked_at);
        self.place = stretch.next;
        if stretch.next.is_none() || self.left == 0 || self.looks == 0 {
            text.extend((self.frame.after)(stretch.next, &self.frame.rest));
            self.ended = true;
            self.reading = None;
        }
    }
}

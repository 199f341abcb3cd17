//! The transitions of a claimed task up to its end.
//!
//! The status column is the single source of truth about a task. A job that ends writes its result only if the task is still
//! running, so a cancel or a removal in between wins, whatever the order of events.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::{Store, StoreError, row::parsed, text::Field};
use crate::tasks::{description::Description, digest::Digest, finished::Finished, id::TaskId};

/// The result of a cancellation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CancelResult {
    /// The task is cancelled, and so are a playlist's videos: `all` that are cancelled now, and those of them that are `new`.
    Yes { all: Vec<TaskId>, new: Vec<TaskId> },
    /// The task had already ended.
    TooLate,
    /// There is no such task.
    Unknown,
}

impl Store {
    /// Stores what the source reports about itself.
    pub(crate) async fn describe(&self, id: TaskId, about: Description) -> Result<(), StoreError> {
        self.run(move |db| {
            db.execute(
                "UPDATE task SET title = ?2, format_note = ?3, filesize = ?4 WHERE id = ?1",
                params![
                    id.to_string(),
                    Field::Title.cut(&about.title),
                    Field::Note.cut(&about.format_note),
                    about.filesize.cast_signed()
                ],
            )
        })
        .await?;
        Ok(())
    }

    /// Moves a task from downloading to processing. Returns false if it was not downloading.
    pub(crate) async fn processing(&self, id: TaskId) -> Result<bool, StoreError> {
        self.run(move |db| {
            let changed = db.execute(
                "UPDATE task SET status = 'processing' WHERE id = ?1 AND status = 'downloading'",
                [id.to_string()],
            )?;
            Ok(changed == 1)
        })
        .await
    }

    /// Marks a task as completed: its file is in place. Returns false if the task was cancelled or removed meanwhile.
    pub(crate) async fn complete(&self, id: TaskId, finished: Finished, digest: Digest) -> Result<bool, StoreError> {
        self.run(move |db| {
            let changed = db.execute(
                "UPDATE task SET status = 'completed', filesize = ?2, extension = ?3, has_thumbnail = ?4, \
                 completed_at = ?5, sha256 = ?6, subtitles = ?7, error_message = '' WHERE id = ?1 AND status IN ('downloading', 'processing')",
                params![
                    id.to_string(),
                    finished.bytes.cast_signed(),
                    finished.media.extension(),
                    finished.has_thumbnail,
                    Timestamp::now().to_string(),
                    digest.to_string(),
                    finished.subtitles.to_string(),
                ],
            )?;
            Ok(changed == 1)
        })
        .await
    }

    /// Marks a task as failed: it ended without a file.
    pub(crate) async fn fail(&self, id: TaskId, message: String) -> Result<(), StoreError> {
        self.run(move |db| {
            db.execute(
                "UPDATE task SET status = 'error', error_message = ?2, completed_at = ?3 \
                 WHERE id = ?1 AND status IN ('downloading', 'processing')",
                params![id.to_string(), Field::Message.cut(&message), Timestamp::now().to_string()],
            )
        })
        .await?;
        Ok(())
    }

    /// Makes an interrupted task pending again.
    pub(crate) async fn release(&self, id: TaskId) -> Result<(), StoreError> {
        self.run(move |db| {
            db.execute(
                "UPDATE task SET status = 'pending' WHERE id = ?1 AND status IN ('downloading', 'processing')",
                [id.to_string()],
            )
        })
        .await?;
        Ok(())
    }

    /// Cancels a task that has not ended, or a playlist and those of its videos that have not ended.
    pub(crate) async fn cancel(&self, id: TaskId) -> Result<CancelResult, StoreError> {
        self.run(move |db| {
            let mut cancelling = db.prepare_cached(
                "UPDATE task SET status = 'cancelled', completed_at = ?2, list_ended = list_total \
                 WHERE (id = ?1 OR list = ?1) AND status IN ('pending', 'downloading', 'processing', 'expanded') \
                 RETURNING id",
            )?;
            let now = params![id.to_string(), Timestamp::now().to_string()];
            let new = cancelling.query_map(now, |row| parsed(row, 0))?.collect::<Result<_, _>>()?;
            let mut all =
                db.prepare_cached("SELECT id FROM task WHERE (id = ?1 OR list = ?1) AND status = 'cancelled'")?;
            let all = all.query_map([id.to_string()], |row| parsed(row, 0))?.collect::<Result<_, _>>()?;
            let status: Option<String> =
                db.query_row("SELECT status FROM task WHERE id = ?1", [id.to_string()], |row| row.get(0)).optional()?;
            Ok(match status.as_deref() {
                Some("cancelled") => CancelResult::Yes { all, new },
                Some(_) => CancelResult::TooLate,
                None => CancelResult::Unknown,
            })
        })
        .await
    }
}

//! Finished files: when each was last played, how large it is, and whether it is still there.

use std::{collections::HashSet, time::Duration};

use jiff::Timestamp;
use rusqlite::{Row, params};

use super::{Store, StoreError, row::parsed};
use crate::tasks::{
    digest::Digest,
    finished::{Duplicate, FinishedFile, LibraryTask},
    id::TaskId,
};

/// The error message of a task whose finished file is gone.
const LOST: &str = "the file is no longer on this server";

/// A player requests many ranges, so a play is recorded at most once in this time.
const PLAY: Duration = Duration::from_mins(1);

impl Store {
    /// Records that a file is being played.
    pub(crate) async fn played(&self, id: TaskId) -> Result<(), StoreError> {
        let now = Timestamp::now();
        let recent = now.checked_sub(PLAY).unwrap_or(now);
        self.run(move |db| {
            db.prepare_cached(
                "UPDATE task SET last_played_at = ?2 WHERE id = ?1 AND status = 'completed' \
                 AND (last_played_at IS NULL OR last_played_at NOT BETWEEN ?3 AND ?2)",
            )?
            .execute(params![id.to_string(), now.to_string(), recent.to_string()])
        })
        .await?;
        Ok(())
    }

    /// Every task, whoever owns it.
    pub(crate) async fn ids(&self) -> Result<HashSet<TaskId>, StoreError> {
        self.run(|db| db.prepare_cached("SELECT id FROM task")?.query_map([], |row| parsed(row, 0))?.collect()).await
    }

    /// The tasks that have a finished file, or had one that is now missing.
    pub(crate) async fn library_tasks(&self) -> Result<Vec<LibraryTask>, StoreError> {
        self.run(|db| {
            let mut statement = db.prepare_cached(
                "SELECT id, status FROM task WHERE list_extent IS NULL \
                 AND (status = 'completed' OR (status = 'error' AND error_message = ?1))",
            )?;
            let entry = |row: &Row<'_>| Ok(LibraryTask { id: parsed(row, 0)?, status: parsed(row, 1)? });
            statement.query_map([LOST], entry)?.collect()
        })
        .await
    }

    /// Marks a task as failed because its finished file is missing.
    pub(crate) async fn mark_lost(&self, id: TaskId) -> Result<(), StoreError> {
        self.run(move |db| {
            db.execute(
                "UPDATE task SET status = 'error', error_message = ?2 WHERE id = ?1 AND status = 'completed'",
                params![id.to_string(), LOST],
            )
        })
        .await?;
        Ok(())
    }

    /// Marks a task as completed again because its missing file is back, for example after its disk was mounted.
    pub(crate) async fn mark_found(&self, id: TaskId) -> Result<(), StoreError> {
        self.run(move |db| {
            db.execute(
                "UPDATE task SET status = 'completed', error_message = '' WHERE id = ?1 AND error_message = ?2",
                params![id.to_string(), LOST],
            )
        })
        .await?;
        Ok(())
    }

    /// At most `most` other tasks whose finished files had this digest and length, newest first.
    pub(crate) async fn duplicates(
        &self,
        id: TaskId,
        digest: Digest,
        bytes: u64,
        most: u32,
    ) -> Result<Vec<Duplicate>, StoreError> {
        self.run(move |db| {
            let mut statement = db.prepare_cached(
                "SELECT id, extension FROM task WHERE status = 'completed' AND id <> ?1 AND sha256 = ?2 AND filesize = ?3 \
                 ORDER BY sequence DESC LIMIT ?4",
            )?;
            let same = params![id.to_string(), digest.to_string(), bytes.cast_signed(), most];
            let duplicate = |row: &Row<'_>| Ok(Duplicate { id: parsed(row, 0)?, media: parsed(row, 1)? });
            statement.query_map(same, duplicate)?.collect()
        })
        .await
    }

    /// Every finished file, whoever owns it.
    pub(crate) async fn finished_files(&self) -> Result<Vec<FinishedFile>, StoreError> {
        self.run(|db| {
            let mut statement = db.prepare_cached(
                "SELECT id, owner, filesize, coalesce(last_played_at, completed_at, created_at), extension FROM task \
                 WHERE status = 'completed' AND list_extent IS NULL",
            )?;
            statement.query_map([], read)?.collect()
        })
        .await
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<FinishedFile> {
    Ok(FinishedFile {
        id: parsed(row, 0)?,
        owner: parsed(row, 1)?,
        bytes: row.get::<_, i64>(2)?.max(0).cast_unsigned(),
        last_used: parsed(row, 3)?,
        media: parsed(row, 4)?,
    })
}

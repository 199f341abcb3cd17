//! Playlists and their videos: created by one request, counted together, ended and removed together.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Store, StoreError, row::parsed, tasks::RemainingCapacity, text::Field};
use crate::tasks::{
    id::TaskId,
    owner::Owner,
    playlist::{PlaylistEntry, PlaylistPosition},
    task::Status,
};

/// The result of expanding a playlist into its videos.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ExpandResult {
    /// The tasks of its videos.
    Into(Vec<TaskId>),
    /// The queue or the user's list has no room for that many.
    NoRoom,
    /// The playlist was cancelled or removed meanwhile.
    Gone,
}

/// How recounting its videos changed a playlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SettleResult {
    /// Its status or its counts changed.
    Changed,
    /// Its last video was removed, and the playlist with it.
    Gone,
    /// There is no such playlist, or nothing changed.
    Unchanged,
}

/// A playlist's videos, counted by status.
struct VideoCounts {
    all: i64,
    under_way: i64,
    completed: i64,
    failed: i64,
    bytes: i64,
}

impl Store {
    /// Creates a task for each video of a playlist, all in one transaction. From then on the playlist's state follows from theirs.
    pub(crate) async fn expand(
        &self,
        list: TaskId,
        title: String,
        entries: Vec<PlaylistEntry>,
    ) -> Result<ExpandResult, StoreError> {
        self.run(move |db| {
            let expanding = db.unchecked_transaction()?;
            let expanded = expand(&expanding, list, &title, &entries)?;
            expanding.commit()?;
            Ok(expanded)
        })
        .await
    }

    /// Turns a playlist task into an ordinary one: the URL turned out to be a single video.
    pub(crate) async fn make_single_video(&self, id: TaskId) -> Result<(), StoreError> {
        self.run(move |db| db.execute("UPDATE task SET list_extent = NULL WHERE id = ?1", [id.to_string()])).await?;
        Ok(())
    }

    /// The playlists whose counts may be stale after a kill: those with running videos, and those with none left.
    pub(crate) async fn unsettled(&self) -> Result<Vec<TaskId>, StoreError> {
        self.run(|db| {
            let mut unsettled = db.prepare_cached(
                "SELECT id FROM task WHERE status = 'expanded' \
                 OR (list_extent IS NOT NULL AND list_total > 0 AND NOT EXISTS (SELECT 1 FROM task AS video WHERE video.list = task.id))",
            )?;
            unsettled.query_map([], |row| parsed(row, 0))?.collect()
        })
        .await
    }

    /// Recounts a playlist's videos. Once all have ended, the playlist has ended as well.
    pub(crate) async fn settle(&self, list: TaskId) -> Result<SettleResult, StoreError> {
        self.run(move |db| {
            let settling = db.unchecked_transaction()?;
            let settled = settle(&settling, list)?;
            settling.commit()?;
            Ok(settled)
        })
        .await
    }
}

fn expand(db: &Connection, list: TaskId, title: &str, entries: &[PlaylistEntry]) -> rusqlite::Result<ExpandResult> {
    let sql = "SELECT owner FROM task WHERE id = ?1 AND status = 'downloading'";
    let owner: Option<Owner> = db.query_row(sql, [list.to_string()], |row| parsed(row, 0)).optional()?;
    let Some(owner) = owner else { return Ok(ExpandResult::Gone) };
    let capacity = RemainingCapacity::of(db, &owner)?;
    let total = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    if i64::from(total) > capacity.waiting || i64::from(total) > capacity.listed {
        return Ok(ExpandResult::NoRoom);
    }
    let mut ids = Vec::with_capacity(entries.len());
    for (entry, index) in entries.iter().zip(1..) {
        let id = TaskId::random();
        insert(db, id, PlaylistPosition { list, index, total, item: entry.item }, entry)?;
        ids.push(id);
    }
    db.execute(
        "UPDATE task SET status = ?2, title = ?3, list_total = ?4, error_message = '' WHERE id = ?1",
        params![list.to_string(), Status::Expanded.name(), Field::Title.cut(title), total],
    )?;
    settle(db, list)?;
    Ok(ExpandResult::Into(ids))
}

/// Inserts a video with the options that were requested for its playlist.
fn insert(db: &Connection, id: TaskId, at: PlaylistPosition, entry: &PlaylistEntry) -> rusqlite::Result<()> {
    let now = Timestamp::now().to_string();
    let (status, ended) = match entry.fault {
        Some(_) => (Status::Error, Some(&now)),
        None => (Status::Pending, None),
    };
    db.prepare_cached(
        "INSERT INTO task (id, owner, url, quality, download_type, format, status, created_at, priority, \
         wanted_subtitles, automatic_subtitles, title, error_message, completed_at, list, list_index, list_total, list_item, \
         max_filesize) \
         SELECT ?1, owner, ?3, quality, download_type, format, ?4, ?5, priority, \
         wanted_subtitles, automatic_subtitles, ?6, ?7, ?8, ?2, ?9, ?10, ?11, \
         max_filesize FROM task WHERE id = ?2",
    )?
    .execute(params![
        id.to_string(),
        at.list.to_string(),
        Field::Url.cut(&entry.url),
        status.name(),
        now,
        Field::Title.cut(&entry.title),
        Field::Message.cut(entry.fault.as_deref().unwrap_or_default()),
        ended,
        at.index,
        at.total,
        at.item,
    ])?;
    Ok(())
}

fn settle(db: &Connection, list: TaskId) -> rusqlite::Result<SettleResult> {
    let sql = "SELECT status FROM task WHERE id = ?1 AND list_extent IS NOT NULL";
    let status = db.query_row(sql, [list.to_string()], |row| parsed(row, 0)).optional()?;
    let count = count(db, list)?;
    match status {
        Some(Status::Expanded) if count.all > 0 => update_counts(db, list, &count),
        Some(status) if count.all == 0 && status != Status::Removing => {
            // A playlist that has not been read yet has no videos either; it is not deleted.
            let forgotten = db.execute("DELETE FROM task WHERE id = ?1 AND list_total > 0", [list.to_string()])?;
            Ok(if forgotten == 1 { SettleResult::Gone } else { SettleResult::Unchanged })
        }
        _ => Ok(SettleResult::Unchanged),
    }
}

/// Videos that are being removed no longer count.
fn count(db: &Connection, list: TaskId) -> rusqlite::Result<VideoCounts> {
    let read = |row: &Row<'_>| {
        Ok(VideoCounts {
            all: row.get(0)?,
            under_way: row.get(1)?,
            completed: row.get(2)?,
            failed: row.get(3)?,
            bytes: row.get(4)?,
        })
    };
    db.query_row(
        "SELECT count(*), \
         count(*) FILTER (WHERE status IN ('pending', 'downloading', 'processing')), \
         count(*) FILTER (WHERE status = 'completed'), \
         count(*) FILTER (WHERE status = 'error'), \
         coalesce(sum(filesize) FILTER (WHERE status = 'completed'), 0) \
         FROM task WHERE list = ?1 AND status <> 'removing'",
        [list.to_string()],
        read,
    )
}

fn update_counts(db: &Connection, list: TaskId, count: &VideoCounts) -> rusqlite::Result<SettleResult> {
    let (status, message) = count.outcome();
    let ended = (status != Status::Expanded).then(|| Timestamp::now().to_string());
    let changed = db.execute(
        "UPDATE task SET status = ?2, error_message = ?3, completed_at = ?4, list_ended = list_total - ?5, filesize = ?6 \
         WHERE id = ?1 AND (status <> ?2 OR list_ended <> list_total - ?5 OR filesize <> ?6)",
        params![list.to_string(), status.name(), message, ended, count.under_way, count.bytes],
    )?;
    Ok(if changed == 1 { SettleResult::Changed } else { SettleResult::Unchanged })
}

impl VideoCounts {
    /// A playlist is completed if any of its videos is; the message then says how many failed.
    fn outcome(&self) -> (Status, String) {
        let Self { all, under_way, completed, failed, .. } = *self;
        let message = if failed == 0 { String::new() } else { format!("{failed} of {all} downloads failed") };
        match (under_way, completed, failed) {
            (1.., _, _) => (Status::Expanded, String::new()),
            (_, 1.., _) => (Status::Completed, message),
            (_, _, 1..) => (Status::Error, message),
            _ => (Status::Cancelled, String::new()),
        }
    }
}

#[cfg(test)]
#[path = "playlists_tests.rs"]
mod tests;

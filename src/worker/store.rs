//! The task database: one SQLite file, every change of state on disk before it is answered.
//!
//! The status column is the one truth about a task. A job that ends writes its result only where the task is still
//! its own, so a cancel or a removal in between wins, whatever the order of events.

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params, types::Type};
use thiserror::Error;

use super::{
    caller::Caller,
    media::Finished,
    order::Output,
    task::{Status, Task, TaskId},
};

const SCHEMA: &str = include_str!("schema.sql");
const SCHEMA_VERSION: i64 = 1;

/// More tasks than this do not wait at a time.
const MAX_PENDING: i64 = 1_000;

const COLUMNS: &str = "id, owner, url, quality, download_type, format, status, title, format_note, filesize, \
    extension, has_thumbnail, error_message, created_at, completed_at";

/// The tasks on disk; a handle to share.
#[derive(Clone)]
pub(crate) struct Store(Arc<Mutex<Option<Connection>>>);

/// What can go wrong between us and the disk.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    /// No space is left for the database.
    #[error("the disk is full")]
    Full,
    /// Too many tasks wait.
    #[error("too many tasks wait")]
    QueueFull,
    /// Another process holds the database.
    #[error("worker.db is in use; another worker runs on the same data folder")]
    InUse,
    /// The file cannot be made.
    #[error("worker.db: {0}")]
    File(io::Error),
    /// It was given to the next worker.
    #[error("worker.db was released already")]
    Released,
    /// A newer program wrote it.
    #[error("worker.db was written by a newer version (schema {0})")]
    Newer(i64),
    /// Everything else.
    #[error("worker.db: {0}")]
    Sqlite(rusqlite::Error),
    /// The thread that asked the database was lost.
    #[error("the database task did not end: {0}")]
    Lost(#[from] tokio::task::JoinError),
}

/// What a source says of itself before it is downloaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) title: String,
    pub(crate) format_note: String,
    pub(crate) filesize: u64,
}

/// What became of a wish to cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancelled {
    /// It is cancelled, now or already.
    Yes,
    /// It had ended before.
    TooLate,
    /// There is no such task.
    Unknown,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::InUse,
            _ => Self::Sqlite(error),
        }
    }
}

impl Store {
    /// Opens or makes the database; everything that was under way is pending again.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        keep_private(path).map_err(StoreError::File)?;
        let connection = Connection::open(path)?;
        // Two workers on one database would run every job twice.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        migrate(&connection)?;
        connection.execute("UPDATE task SET status = 'pending' WHERE status IN ('downloading', 'processing')", [])?;
        Ok(Self(Arc::new(Mutex::new(Some(connection)))))
    }

    /// Adds a new task at the end of the queue.
    pub(crate) async fn add(&self, task: Task) -> Result<(), StoreError> {
        let added = self.run(move |db| insert(db, &task)).await?;
        if added { Ok(()) } else { Err(StoreError::QueueFull) }
    }

    /// The tasks that `caller` may see, oldest first.
    pub(crate) async fn list(&self, caller: Caller) -> Result<Vec<Task>, StoreError> {
        self.run(move |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM task WHERE status <> 'removing' AND (?1 OR owner = ?2) ORDER BY sequence"
            );
            let mut statement = db.prepare_cached(&sql)?;
            statement.query_map(params![caller.admin, caller.user.as_str()], read)?.collect()
        })
        .await
    }

    /// The task of this id, if `caller` may know that there is one.
    pub(crate) async fn find(&self, id: TaskId, caller: &Caller) -> Result<Option<Task>, StoreError> {
        let task = self.get(id).await?;
        Ok(task.filter(|task| task.status != Status::Removing && caller.may_see(&task.owner)))
    }

    /// Takes the task that has waited longest; it is downloading from now on.
    pub(crate) async fn claim(&self) -> Result<Option<Task>, StoreError> {
        self.run(|db| {
            let sql = format!(
                "UPDATE task SET status = 'downloading' WHERE sequence = \
                 (SELECT min(sequence) FROM task WHERE status = 'pending') RETURNING {COLUMNS}"
            );
            db.query_row(&sql, [], read).optional()
        })
        .await
    }

    /// Notes what the source says of itself.
    pub(crate) async fn describe(&self, id: TaskId, about: Description) -> Result<(), StoreError> {
        self.run(move |db| {
            db.execute(
                "UPDATE task SET title = ?2, format_note = ?3, filesize = ?4 WHERE id = ?1",
                params![id.to_string(), about.title, about.format_note, about.filesize.cast_signed()],
            )
        })
        .await?;
        Ok(())
    }

    /// Downloading is over, processing begins.
    pub(crate) async fn processing(&self, id: TaskId) -> Result<(), StoreError> {
        self.run(move |db| {
            db.execute(
                "UPDATE task SET status = 'processing' WHERE id = ?1 AND status = 'downloading'",
                [id.to_string()],
            )
        })
        .await?;
        Ok(())
    }

    /// The file is in its place. False when the task was cancelled or removed meanwhile.
    pub(crate) async fn complete(&self, id: TaskId, finished: Finished) -> Result<bool, StoreError> {
        self.run(move |db| {
            let changed = db.execute(
                "UPDATE task SET status = 'completed', filesize = ?2, extension = ?3, has_thumbnail = ?4, \
                 completed_at = ?5 WHERE id = ?1 AND status IN ('downloading', 'processing')",
                params![
                    id.to_string(),
                    finished.bytes.cast_signed(),
                    finished.media.extension(),
                    finished.has_thumbnail,
                    Timestamp::now().to_string()
                ],
            )?;
            Ok(changed == 1)
        })
        .await
    }

    /// It ended without a file.
    pub(crate) async fn fail(&self, id: TaskId, message: String) -> Result<(), StoreError> {
        self.run(move |db| {
            db.execute(
                "UPDATE task SET status = 'error', error_message = ?2, completed_at = ?3 \
                 WHERE id = ?1 AND status IN ('downloading', 'processing')",
                params![id.to_string(), message, Timestamp::now().to_string()],
            )
        })
        .await?;
        Ok(())
    }

    /// It was interrupted and waits again.
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

    /// Cancels what has not ended.
    pub(crate) async fn cancel(&self, id: TaskId) -> Result<Cancelled, StoreError> {
        self.run(move |db| {
            db.execute(
                "UPDATE task SET status = 'cancelled', completed_at = ?2 \
                 WHERE id = ?1 AND status IN ('pending', 'downloading', 'processing')",
                params![id.to_string(), Timestamp::now().to_string()],
            )?;
            let status: Option<String> =
                db.query_row("SELECT status FROM task WHERE id = ?1", [id.to_string()], |row| row.get(0)).optional()?;
            Ok(match status.as_deref() {
                Some("cancelled") => Cancelled::Yes,
                Some(_) => Cancelled::TooLate,
                None => Cancelled::Unknown,
            })
        })
        .await
    }

    /// Hides a task whose files are about to go.
    pub(crate) async fn begin_removal(&self, id: TaskId) -> Result<(), StoreError> {
        self.run(move |db| db.execute("UPDATE task SET status = 'removing' WHERE id = ?1", [id.to_string()])).await?;
        Ok(())
    }

    /// Forgets a task whose files are gone.
    pub(crate) async fn forget(&self, id: TaskId) -> Result<(), StoreError> {
        self.run(move |db| db.execute("DELETE FROM task WHERE id = ?1 AND status = 'removing'", [id.to_string()]))
            .await?;
        Ok(())
    }

    /// The tasks in one state, whoever owns them.
    pub(crate) async fn in_state(&self, status: Status) -> Result<Vec<TaskId>, StoreError> {
        self.run(move |db| {
            let mut statement = db.prepare_cached("SELECT id FROM task WHERE status = ?1")?;
            statement.query_map([status.name()], |row| parsed(row, 0))?.collect()
        })
        .await
    }

    async fn get(&self, id: TaskId) -> Result<Option<Task>, StoreError> {
        self.run(move |db| {
            let sql = format!("SELECT {COLUMNS} FROM task WHERE id = ?1");
            db.prepare_cached(&sql)?.query_row([id.to_string()], read).optional()
        })
        .await
    }

    /// Runs `work` on a thread that may block.
    async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let connection = Arc::clone(&self.0);
        let result = tokio::task::spawn_blocking(move || {
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(work(connection.as_ref().ok_or(StoreError::Released)?)?)
        });
        result.await?
    }

    /// Lets another process have the database; nothing can be asked of this handle any more.
    pub(crate) async fn release_file(&self) {
        let connection = Arc::clone(&self.0);
        let closed = tokio::task::spawn_blocking(move || {
            drop(connection.lock().unwrap_or_else(PoisonError::into_inner).take());
        });
        drop(closed.await);
    }
}

/// Makes the file for its owner alone before anything is in it; SQLite gives its other files the same mode.
fn keep_private(path: &Path) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).map(drop)
}

fn migrate(db: &Connection) -> Result<(), StoreError> {
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match version {
        0 => Ok(db.execute_batch(SCHEMA)?),
        SCHEMA_VERSION => Ok(()),
        newer => Err(StoreError::Newer(newer)),
    }
}

/// False when the queue is full.
fn insert(db: &Connection, task: &Task) -> rusqlite::Result<bool> {
    let added = db.execute(
        "INSERT INTO task (id, owner, url, quality, download_type, format, status, created_at) \
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 \
         WHERE (SELECT count(*) FROM task WHERE status = 'pending') < ?9",
        params![
            task.id.to_string(),
            task.owner.as_str(),
            task.url,
            task.quality.to_string(),
            task.output.kind(),
            task.output.format(),
            task.status.name(),
            task.created_at.to_string(),
            MAX_PENDING,
        ],
    )?;
    Ok(added == 1)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Task> {
    let (kind, format): (String, Option<String>) = (row.get(4)?, row.get(5)?);
    let output = Output::parse(&kind, format.as_deref()).map_err(|e| unreadable(5, e))?;
    let extension: Option<String> = row.get(10)?;
    Ok(Task {
        id: parsed(row, 0)?,
        owner: parsed(row, 1)?,
        url: row.get(2)?,
        quality: parsed(row, 3)?,
        output,
        status: parsed(row, 6)?,
        title: row.get(7)?,
        format_note: row.get(8)?,
        filesize: row.get::<_, i64>(9)?.max(0).cast_unsigned(),
        media: extension.map(|e| e.parse()).transpose().map_err(|e| unreadable(10, e))?,
        has_thumbnail: row.get(11)?,
        error_message: row.get(12)?,
        created_at: parsed(row, 13)?,
        completed_at: row
            .get::<_, Option<String>>(14)?
            .map(|t| t.parse())
            .transpose()
            .map_err(|e| unreadable(14, e))?,
    })
}

fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    row.get::<_, String>(column)?.parse().map_err(|e| unreadable(column, e))
}

fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::order::Quality;

    async fn with_tasks<const N: usize>() -> (tempfile::TempDir, Store, [TaskId; N]) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("worker.db")).unwrap();
        let mut ids = [TaskId::random(); N];
        for id in &mut ids {
            let task = Task::new("ana".parse().unwrap(), "https://e.com/".into(), Quality::Best, Output::Audio(None));
            *id = task.id;
            store.add(task).await.unwrap();
        }
        (dir, store, ids)
    }

    async fn status(store: &Store, id: TaskId) -> Status {
        store.get(id).await.unwrap().unwrap().status
    }

    #[tokio::test]
    async fn tasks_are_claimed_in_order_and_once() {
        let (_dir, store, [first, second]) = with_tasks().await;
        assert_eq!(store.claim().await.unwrap().unwrap().id, first);
        assert_eq!(store.claim().await.unwrap().unwrap().id, second);
        assert!(store.claim().await.unwrap().is_none());
        store.release(first).await.unwrap();
        assert_eq!(store.claim().await.unwrap().unwrap().id, first, "an interrupted one keeps its place");
    }

    #[tokio::test]
    async fn a_cancel_wins_over_whatever_the_job_says_later() {
        let (_dir, store, [id]) = with_tasks().await;
        store.claim().await.unwrap();
        assert_eq!(store.cancel(id).await.unwrap(), Cancelled::Yes);
        let finished = Finished { media: "mp4".parse().unwrap(), bytes: 1, has_thumbnail: false };
        assert!(!store.complete(id, finished).await.unwrap());
        store.processing(id).await.unwrap();
        store.fail(id, "late".into()).await.unwrap();
        store.release(id).await.unwrap();
        assert_eq!(status(&store, id).await, Status::Cancelled);
        assert!(store.claim().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_was_under_way_is_pending_after_a_restart() {
        let (dir, store, [first, second, done]) = with_tasks().await;
        for _ in 0..3 {
            store.claim().await.unwrap();
        }
        store.processing(second).await.unwrap();
        store.fail(done, "gone".into()).await.unwrap();
        drop(store);
        let store = Store::open(&dir.path().join("worker.db")).unwrap();
        assert_eq!(status(&store, first).await, Status::Pending);
        assert_eq!(status(&store, second).await, Status::Pending);
        assert_eq!(status(&store, done).await, Status::Error);
    }

    #[tokio::test]
    async fn what_was_released_is_the_next_ones() {
        let (dir, store, [id]) = with_tasks().await;
        store.release_file().await;
        assert!(matches!(store.get(id).await, Err(StoreError::Released)));
        let next = Store::open(&dir.path().join("worker.db")).unwrap();
        assert_eq!(status(&next, id).await, Status::Pending);
    }

    #[tokio::test]
    async fn a_database_of_a_newer_version_is_left_alone() {
        let (dir, store, []) = with_tasks().await;
        store.run(|db| db.pragma_update(None, "user_version", 2)).await.unwrap();
        drop(store);
        assert!(matches!(Store::open(&dir.path().join("worker.db")), Err(StoreError::Newer(2))));
    }
}

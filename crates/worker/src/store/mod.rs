//! The task database: one SQLite file. Every state change is on disk before the request is answered.

mod claim;
mod pages;
mod playlists;
mod retention;
mod row;
mod tasks;
mod text;
mod transitions;

use std::{fs::OpenOptions, io, os::unix::fs::OpenOptionsExt, path::Path, sync::Arc};

use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode};
use thiserror::Error;

use self::text::Field;
pub(crate) use self::{
    claim::{ClaimResult, RetryResult},
    pages::{Bounds, Order, Page, Selection, Sequence},
    playlists::{ExpandResult, SettleResult},
    transitions::CancelResult,
};

/// Schema migrations: the step at index `n` upgrades a database from version `n` to `n + 1`.
const STEPS: [&str; 8] = [
    include_str!("schema.sql"),
    "ALTER TABLE task ADD COLUMN last_played_at TEXT;",
    "ALTER TABLE task ADD COLUMN sha256 TEXT;",
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
    include_str!("schema_6.sql"),
    include_str!("schema_7.sql"),
    include_str!("schema_8.sql"),
];

/// A cloneable handle to the task database.
#[derive(Clone)]
pub(crate) struct Store {
    connection: Arc<Mutex<Option<Connection>>>,
    /// Serialises access to the database, so that callers do not occupy a thread while they wait.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// An error of the task database.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    /// No space is left for the database.
    #[error("the disk is full")]
    Full,
    /// Too many tasks are waiting.
    #[error("too many tasks are waiting")]
    QueueFull,
    /// The user has too many tasks, ended ones included.
    #[error("the user has too many tasks")]
    ListFull,
    /// Another process holds the database.
    #[error("worker.db is in use: another worker is running on the same data folder")]
    InUse,
    /// The file could not be created.
    #[error("worker.db: {0}")]
    File(io::Error),
    /// The database was released to the next worker.
    #[error("worker.db was handed over to the next worker")]
    Released,
    /// A newer version of the program wrote the database.
    #[error("worker.db was written by a newer version of sallyport (schema {0}); upgrade sallyport to use it")]
    Newer(i64),
    /// Any other error of SQLite.
    #[error("worker.db: {0}")]
    Sqlite(rusqlite::Error),
    /// The thread that ran the query panicked or was cancelled.
    #[error("the database thread failed: {0}")]
    Lost(#[from] tokio::task::JoinError),
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
    /// Opens or creates the database. Tasks that were running become pending again.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        keep_private(path).map_err(StoreError::File)?;
        let connection = Connection::open(path)?;
        // Two workers on one database would run every job twice.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        migrate(&connection)?;
        connection.execute("UPDATE task SET status = 'pending' WHERE status IN ('downloading', 'processing')", [])?;
        Ok(Self { connection: Arc::new(Mutex::new(Some(connection))), turn: Arc::default() })
    }

    /// Runs `work` on a thread that may block.
    async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let connection = Arc::clone(&self.connection);
        let result = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let connection = connection.lock();
            Ok(work(connection.as_ref().ok_or(StoreError::Released)?)?)
        });
        result.await?
    }

    /// Closes the database so that another process can open it. From then on every call on this handle fails.
    pub(crate) async fn release_file(&self) {
        let connection = Arc::clone(&self.connection);
        let closed = tokio::task::spawn_blocking(move || {
            drop(connection.lock().take());
        });
        let _ = closed.await;
    }
}

/// Returns a title as it is stored, which may be shorter.
pub(crate) fn stored_title(title: &str) -> &str {
    Field::Title.cut(title)
}

/// Creates the file with mode 0600 before it holds any data; SQLite gives its other files the same mode.
fn keep_private(path: &Path) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).map(drop)
}

fn migrate(db: &Connection) -> Result<(), StoreError> {
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(version).ok().filter(|done| *done <= STEPS.len()).ok_or(StoreError::Newer(version))?;
    for (step, next) in STEPS.iter().zip(1..).skip(done) {
        db.execute_batch(&format!("BEGIN; {step} PRAGMA user_version = {next}; COMMIT;"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::{
        finished::Finished,
        id::TaskId,
        language::Languages,
        order::{Output, Quality},
        task::{Status, Task},
    };
    use sallyport_core::statement::UserLimits;

    async fn with_tasks<const N: usize>() -> (tempfile::TempDir, Store, [TaskId; N]) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("worker.db")).unwrap();
        let mut ids = [TaskId::random(); N];
        for id in &mut ids {
            let task = Task::new("ana".parse().unwrap(), "https://e.com/".into(), Quality::Best, Output::Audio(None));
            *id = task.id;
            store.add(task, UserLimits::default()).await.unwrap();
        }
        (dir, store, ids)
    }

    async fn claimed(store: &Store) -> Option<TaskId> {
        match store.claim(9).await.unwrap() {
            ClaimResult::Claimed(task) => Some(task.id),
            ClaimResult::Later(_) | ClaimResult::Nothing => None,
        }
    }

    async fn status(store: &Store, id: TaskId) -> Status {
        store.get(id).await.unwrap().unwrap().status
    }

    #[tokio::test]
    async fn tasks_are_claimed_in_order_and_once() {
        let (_dir, store, [first, second]) = with_tasks().await;
        assert_eq!(claimed(&store).await, Some(first));
        assert_eq!(claimed(&store).await, Some(second));
        assert_eq!(claimed(&store).await, None);
        store.release(first).await.unwrap();
        assert_eq!(claimed(&store).await, Some(first), "an interrupted task keeps its place");
    }

    #[tokio::test]
    async fn a_cancel_wins_over_whatever_the_job_says_later() {
        let (_dir, store, [id]) = with_tasks().await;
        claimed(&store).await;
        assert_eq!(store.cancel(id).await.unwrap(), CancelResult::Yes { all: vec![id], new: vec![id] });
        let finished =
            Finished { media: "mp4".parse().unwrap(), bytes: 1, has_thumbnail: false, subtitles: Languages::default() };
        let digest = "00".repeat(32).parse().unwrap();
        assert!(!store.complete(id, finished, digest).await.unwrap());
        store.processing(id).await.unwrap();
        store.fail(id, "late".into()).await.unwrap();
        store.release(id).await.unwrap();
        assert_eq!(status(&store, id).await, Status::Cancelled);
        assert_eq!(claimed(&store).await, None);
    }

    #[tokio::test]
    async fn running_tasks_are_pending_after_a_restart() {
        let (dir, store, [first, second, done]) = with_tasks().await;
        for _ in 0..3 {
            claimed(&store).await;
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
    async fn a_released_database_can_be_opened_by_the_next_worker() {
        let (dir, store, [id]) = with_tasks().await;
        store.release_file().await;
        assert!(matches!(store.get(id).await, Err(StoreError::Released)));
        let next = Store::open(&dir.path().join("worker.db")).unwrap();
        assert_eq!(status(&next, id).await, Status::Pending);
    }

    #[tokio::test]
    async fn a_database_of_the_first_version_is_brought_up_to_date() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("worker.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(STEPS[0]).unwrap();
        old.execute_batch(
            "PRAGMA user_version = 1; INSERT INTO task (id, owner, url, quality, download_type, status, created_at) VALUES \
             ('550e8400-e29b-41d4-a716-446655440000', 'ana', 'https://e.com/', 'best', 'audio', 'pending', \
             '2026-01-01T00:00:00Z')",
        )
        .unwrap();
        drop(old);
        for _ in 0..2 {
            let store = Store::open(&path).unwrap();
            let id = "550e8400-e29b-41d4-a716-446655440000".parse().unwrap();
            assert_eq!(status(&store, id).await, Status::Pending);
            store.played(id).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_database_of_a_newer_version_is_left_alone() {
        let (dir, store, []) = with_tasks().await;
        store.run(|db| db.pragma_update(None, "user_version", 99)).await.unwrap();
        drop(store);
        assert!(matches!(Store::open(&dir.path().join("worker.db")), Err(StoreError::Newer(99))));
    }

    #[tokio::test]
    async fn a_database_of_the_first_version_keeps_its_tasks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("worker.db");
        let id = TaskId::random();
        let old = Connection::open(&path).unwrap();
        old.execute_batch(STEPS[0]).unwrap();
        old.execute(
            "INSERT INTO task (id, owner, url, quality, download_type, status, created_at) \
             VALUES (?1, 'ana', 'https://e.com/', 'best', 'video', 'pending', '2026-01-01T00:00:00Z')",
            [id.to_string()],
        )
        .unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        drop(old);
        for _ in 0..2 {
            let store = Store::open(&path).unwrap();
            assert_eq!(claimed(&store).await, Some(id));
        }
    }
}

//! The embedded database: opening, schema and the one connection that this process shares.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use thiserror::Error;

use super::reserve::Reserve;

/// The state database, `state.db` in the data folder.
///
/// Write-ahead logging with full synchronisation: once a call has returned, its change survives a kill and a power cut.
/// Several processes may have it open at the same time.
pub struct Store {
    connection: Mutex<Connection>,
    reserve: Reserve,
    path: PathBuf,
    file: FileId,
}

/// Distinguishes a file from another one at the same path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

/// Why a database operation failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// SQLite reported an error.
    #[error("cannot use the state database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file cannot be created or read.
    #[error("cannot access the file of the state database: {0}")]
    Io(#[from] std::io::Error),
    /// The file at the path is another one or missing, while this process still uses the one that it opened.
    #[error("the state database {} was deleted or replaced while it was open; stop Sallyport, restore the file from a backup without its -wal and -shm files, and start Sallyport again", .0.display())]
    Displaced(PathBuf),
    /// A newer version of this program wrote the database.
    #[error(
        "the state database has schema {0}, but this version supports at most {SCHEMA_VERSION}; run the newer version"
    )]
    NewerSchema(i64),
}

/// Migrations from each version to the next, up to [`SCHEMA_VERSION`]; the first one creates the schema.
const MIGRATIONS: [&str; 4] = [FIRST, BANS, include_str!("schema_3.sql"), include_str!("schema_4.sql")];
const SCHEMA_VERSION: i64 = 4;

const FIRST: &str = "
CREATE TABLE user (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    password_hash TEXT,
    created INTEGER NOT NULL
) STRICT;
CREATE TABLE api_key (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    imported INTEGER NOT NULL,
    user TEXT NOT NULL REFERENCES user (name) ON DELETE CASCADE,
    scopes TEXT NOT NULL,
    note TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER,
    last_used INTEGER
) STRICT;
CREATE TABLE link (
    id TEXT PRIMARY KEY,
    app TEXT NOT NULL,
    target TEXT NOT NULL,
    user TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    revoked INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX link_by_expiry ON link (expires);
";

const BANS: &str = "
CREATE TABLE ban (
    network TEXT PRIMARY KEY,
    why TEXT NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER,
    times INTEGER NOT NULL
) STRICT;
";

impl Store {
    /// Opens the database at `path`; creates it with mode 0600 if it does not exist.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        sallyport_core::secrets::secret_file::create_private(path)?;
        let reserve = Reserve::of(path);
        let connection = match connect(path) {
            // Even opening the database creates files beside it.
            Err(error) if error.is_full() && reserve.give_up() => connect(path)?,
            other => other?,
        };
        reserve.take();
        Ok(Self { connection: Mutex::new(connection), reserve, path: path.to_owned(), file: FileId::at(path)? })
    }

    /// Checks whether the open database is still the file at its path, which other processes would open.
    ///
    /// SQLite cannot follow a replaced file: the write-ahead log of one would be applied to the other.
    ///
    /// # Errors
    /// Returns [`StoreError::Displaced`] if it is not.
    pub fn is_in_place(&self) -> Result<(), StoreError> {
        match FileId::at(&self.path) {
            Ok(file) if file == self.file => Ok(()),
            Ok(_) => Err(StoreError::Displaced(self.path.clone())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::Displaced(self.path.clone())),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a change that must not fail for lack of space: if the disk is full, the reserve is released for it.
    pub(super) fn with_reserve<T>(&self, change: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
        match change() {
            Err(error) if error.is_full() && self.reserve.give_up() => change(),
            other => other,
        }
    }

    /// Releases the reserve for a revocation that is stored outside the database; returns whether there was a reserve.
    pub fn give_up_reserve(&self) -> bool {
        self.reserve.give_up()
    }

    /// Reserves space again if the reserve was released and the disk has enough.
    pub fn keep_reserve(&self) {
        self.reserve.take();
    }

    /// Returns a number that changes whenever another process has written to the database.
    pub fn version(&self) -> Result<i64, StoreError> {
        Ok(self.connection().pragma_query_value(None, "data_version", |row| row.get(0))?)
    }

    pub(super) fn connection(&self) -> MutexGuard<'_, Connection> {
        // SQLite rolls back an unfinished transaction, so a panic elsewhere leaves nothing half done.
        self.connection.lock()
    }
}

impl StoreError {
    /// Whether the disk was too full for the write.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::CannotOpen)
            ),
            Self::Io(error) => error.kind() == std::io::ErrorKind::StorageFull,
            Self::Displaced(_) | Self::NewerSchema(_) => false,
        }
    }
}

impl FileId {
    fn at(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|about| Self { device: about.dev(), inode: about.ino() })
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cache_size", -256)?;
    migrate(&mut connection)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(version).ok().filter(|done| *done <= MIGRATIONS.len());
    let missing = done.and_then(|done| MIGRATIONS.get(done..)).ok_or(StoreError::NewerSchema(version))?;
    if missing.is_empty() {
        return Ok(());
    }
    for migration in missing {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use sallyport_core::names::role::Role;

    use super::*;

    #[test]
    fn a_database_of_a_newer_version_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let store = Store::open(&path).unwrap();
        store.connection().pragma_update(None, "user_version", 99).unwrap();
        drop(store);
        assert!(matches!(Store::open(&path), Err(StoreError::NewerSchema(99))));
    }

    #[test]
    fn a_database_of_an_older_version_keeps_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(FIRST).unwrap();
        old.execute_batch(
            "INSERT INTO user (name, role, created) VALUES ('zoe', 'admin', 5), ('ana', 'user', 0);
            INSERT INTO api_key VALUES ('k1', x'00', 0, 'ana', '*', 'phone', 1, 9, 2);
            UPDATE api_key SET hash = zeroblob(32);
            INSERT INTO link VALUES ('l1', 'a', '/x', 'ana', 1, 9, 0), ('l2', 'a', '/y', 'guest', 1, 9, 1);",
        )
        .unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        drop(old);
        let store = Store::open(&path).unwrap();
        let users: Vec<_> = store.users().unwrap().into_iter().map(|user| (user.name.to_string(), user.id.0)).collect();
        assert_eq!(users, [("ana".to_owned(), 1), ("zoe".to_owned(), 2)]);
        assert!(store.bans().unwrap().is_empty() && store.removed_users().unwrap().is_empty());
        let key = store.keys().unwrap().remove(0);
        assert_eq!((key.id.as_str(), key.user.as_str(), key.expires, key.last_used), ("k1", "ana", Some(9), Some(2)));
        let links =
            store.links().unwrap().into_iter().map(|link| (link.owner.map(|id| id.0), link.maker, link.revoked));
        assert_eq!(links.collect::<Vec<_>>(), [(Some(1), None, false), (None, None, true)]);
        drop(store);
        assert!(Store::open(&path).is_ok(), "the migration runs only once");
    }

    #[test]
    fn another_connections_write_changes_the_version() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let here = Store::open(&path).unwrap();
        let there = Store::open(&path).unwrap();
        let before = here.version().unwrap();
        there.add_user(&"ana".parse().unwrap(), Role::User, None, 0).unwrap();
        assert_ne!(here.version().unwrap(), before);
    }
}

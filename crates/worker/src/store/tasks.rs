//! Adding, looking up and removing tasks.

use std::num::NonZeroU32;

use rusqlite::{Connection, OptionalExtension, params};
use sallyport_core::statement::UserLimits;

use super::{
    Store, StoreError,
    row::{COLUMNS, parsed, read},
};
use crate::tasks::{
    caller::Caller,
    id::TaskId,
    owner::Owner,
    playlist::PlaylistRole,
    task::{Status, Task},
};

/// The maximum number of pending tasks of all users. Each user can have [`ALWAYS_PER_USER`] beyond that,
/// so that no user can fill the queue for others.
const MAX_PENDING: i64 = 1_000;
const ALWAYS_PER_USER: i64 = 20;

/// The maximum number of pending tasks of one user.
pub(super) const MAX_PENDING_PER_USER: i64 = 500;

/// The maximum number of tasks of one user, ended ones included.
const MAX_PER_USER: i64 = 5_000;

/// How many more tasks one user may add.
#[derive(Clone, Copy, Debug)]
pub(super) struct RemainingCapacity {
    /// How many more may be pending.
    pub(super) waiting: i64,
    /// How many more may exist, in any state.
    pub(super) listed: i64,
}

impl Store {
    /// Adds a new task at the end of the queue. From then on these `limits` apply to its owner.
    pub(crate) async fn add(&self, task: Task, limits: UserLimits) -> Result<(), StoreError> {
        let adding = move |db: &Connection| {
            let adding = db.unchecked_transaction()?;
            set_limits(&adding, &task.owner, limits)?;
            let capacity = RemainingCapacity::of(&adding, &task.owner)?;
            if capacity.waiting > 0 && capacity.listed > 0 {
                insert(&adding, &task)?;
            }
            adding.commit()?;
            Ok(capacity)
        };
        match self.run(adding).await? {
            RemainingCapacity { listed: ..1, .. } => Err(StoreError::ListFull),
            RemainingCapacity { waiting: ..1, .. } => Err(StoreError::QueueFull),
            _ => Ok(()),
        }
    }

    /// Returns the task with this id if `caller` may see it.
    pub(crate) async fn find(&self, id: TaskId, caller: &Caller) -> Result<Option<Task>, StoreError> {
        let task = self.get(id).await?;
        Ok(task.filter(|task| task.status != Status::Removing && caller.may_see(&task.owner)))
    }

    /// Hides a task whose files are about to be removed, and a playlist's videos. Returns what was hidden, the task itself last.
    pub(crate) async fn begin_removal(&self, id: TaskId) -> Result<Vec<TaskId>, StoreError> {
        self.run(move |db| {
            let sql = "UPDATE task SET status = 'removing' WHERE id = ?1 OR list = ?1 RETURNING id";
            let mut hiding = db.prepare_cached(sql)?;
            let hidden: Result<Vec<_>, _> = hiding.query_map([id.to_string()], |row| parsed(row, 0))?.collect();
            // The playlist comes last: as long as it exists, the rest of it can be found.
            hidden.map(|mut hidden| {
                hidden.sort_by_key(|found| *found == id);
                hidden
            })
        })
        .await
    }

    /// Deletes a task whose files have been removed.
    pub(crate) async fn forget(&self, id: TaskId) -> Result<(), StoreError> {
        self.run(move |db| db.execute("DELETE FROM task WHERE id = ?1 AND status = 'removing'", [id.to_string()]))
            .await?;
        Ok(())
    }

    /// The tasks in one state, of all owners.
    pub(crate) async fn in_state(&self, status: Status) -> Result<Vec<TaskId>, StoreError> {
        self.run(move |db| {
            let mut statement = db.prepare_cached("SELECT id FROM task WHERE status = ?1")?;
            statement.query_map([status.name()], |row| parsed(row, 0))?.collect()
        })
        .await
    }

    /// Returns the task with this id in any state, without an access check.
    pub(crate) async fn get(&self, id: TaskId) -> Result<Option<Task>, StoreError> {
        self.run(move |db| {
            let sql = format!("SELECT {COLUMNS} FROM task WHERE id = ?1");
            db.prepare_cached(&sql)?.query_row([id.to_string()], read).optional()
        })
        .await
    }
}

fn set_limits(db: &Connection, owner: &Owner, limits: UserLimits) -> rusqlite::Result<()> {
    let at_a_time = limits.concurrent_downloads;
    let waiting = limits.waiting_downloads;
    db.prepare_cached(
        "INSERT INTO turn (owner, at, at_a_time, waiting) VALUES (?1, 0, ?2, ?3) \
         ON CONFLICT (owner) DO UPDATE SET at_a_time = ?2, waiting = ?3",
    )?
    .execute(params![owner.as_str(), at_a_time.map(NonZeroU32::get), waiting.map(NonZeroU32::get)])?;
    Ok(())
}

impl RemainingCapacity {
    pub(super) fn of(db: &Connection, owner: &Owner) -> rusqlite::Result<Self> {
        let sql = "SELECT \
            min(max(?2 - (SELECT count(*) FROM task WHERE status = 'pending'), ?3 - own.waiting), \
                coalesce((SELECT waiting FROM turn WHERE owner = ?1), ?4) - own.waiting, ?4 - own.waiting), \
            ?5 - (SELECT count(*) FROM task WHERE owner = ?1) \
            FROM (SELECT count(*) AS waiting FROM task WHERE owner = ?1 AND status = 'pending') AS own";
        let bounds = params![owner.as_str(), MAX_PENDING, ALWAYS_PER_USER, MAX_PENDING_PER_USER, MAX_PER_USER];
        db.prepare_cached(sql)?.query_row(bounds, |row| Ok(Self { waiting: row.get(0)?, listed: row.get(1)? }))
    }
}

fn insert(db: &Connection, task: &Task) -> rusqlite::Result<()> {
    let list_extent = match task.playlist_role {
        PlaylistRole::List(extent, _) => Some(extent.number()),
        PlaylistRole::Single | PlaylistRole::Entry(_) => None,
    };
    db.execute(
        "INSERT INTO task (id, owner, url, quality, download_type, format, status, created_at, priority, \
         wanted_subtitles, automatic_subtitles, list_extent, max_filesize) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        params![
            task.id.to_string(),
            task.owner.as_str(),
            task.url,
            task.quality.to_string(),
            task.output.kind(),
            task.output.format(),
            task.status.name(),
            task.created_at.to_string(),
            task.priority.rank(),
            task.wanted.languages.to_string(),
            task.wanted.automatic,
            list_extent,
            task.max_filesize.map(u64::cast_signed),
        ],
    )?;
    Ok(())
}

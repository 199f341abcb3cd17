//! What is kept: when it was last played, and how large it is.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Row, params};

use super::{Store, StoreError, row::parsed};
use crate::worker::{retention::Kept, task::TaskId};

/// A player asks for many ranges; one play is noted once in so long.
const PLAY: Duration = Duration::from_mins(1);

impl Store {
    /// Notes that a file is played.
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

    /// Every finished file, whoever owns it.
    pub(crate) async fn kept(&self) -> Result<Vec<Kept>, StoreError> {
        self.run(|db| {
            let mut statement = db.prepare_cached(
                "SELECT id, owner, filesize, coalesce(last_played_at, completed_at, created_at) FROM task \
                 WHERE status = 'completed'",
            )?;
            statement.query_map([], read)?.collect()
        })
        .await
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Kept> {
    Ok(Kept {
        id: parsed(row, 0)?,
        owner: parsed(row, 1)?,
        bytes: row.get::<_, i64>(2)?.max(0).cast_unsigned(),
        last_used: parsed(row, 3)?,
    })
}

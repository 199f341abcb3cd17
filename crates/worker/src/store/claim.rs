//! Scheduling: users take turns, each with their most important task first, and none exceeds their share of running tasks.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Store, StoreError,
    row::{COLUMNS, parsed, read},
    text::Field,
};
use crate::tasks::{id::TaskId, owner::Owner, retries::Retries, task::Task};

/// What the queue offers for a free slot.
#[derive(Debug)]
pub(crate) enum ClaimResult {
    /// This task; its status is now downloading.
    Claimed(Box<Task>),
    /// Nothing yet; a task becomes due after this time.
    Later(Duration),
    /// Nothing until another task ends or is added.
    Nothing,
}

/// The result of scheduling a retry for a download that failed for a transient reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryResult {
    /// The task is pending, for at least this long.
    After(Duration),
    /// The task has no retries left.
    Exhausted,
    /// The task was cancelled or removed meanwhile.
    Gone,
}

/// A task of low priority yields to those of all users. High priority only goes before the user's own tasks; otherwise every user would set it.
const FIRST: &str = "SELECT task.sequence FROM task LEFT JOIN turn ON turn.owner = task.owner \
    WHERE status = 'pending' AND (not_before <= ?1 OR not_before > ?2) \
    AND (SELECT count(*) FROM task AS other WHERE other.owner = task.owner \
        AND other.status IN ('downloading', 'processing')) < min(?3, coalesce(turn.at_a_time, ?3)) \
    ORDER BY priority < 0, coalesce(turn.at, 0), priority DESC, task.sequence LIMIT 1";

impl Store {
    /// Claims the next task of a user who has fewer than `per_user` tasks running.
    pub(crate) async fn claim(&self, per_user: usize) -> Result<ClaimResult, StoreError> {
        let per_user = i64::try_from(per_user).unwrap_or(i64::MAX);
        self.run(move |db| {
            let claiming = db.unchecked_transaction()?;
            let next = claim(&claiming, Timestamp::now().as_millisecond(), per_user)?;
            claiming.commit()?;
            Ok(next)
        })
        .await
    }

    /// Returns the owner of the task that [`claim`](Self::claim) would take, if a running task should give way to it. None gives way to
    /// a task of low priority.
    pub(crate) async fn next_owner(&self, per_user: usize) -> Result<Option<Owner>, StoreError> {
        let per_user = i64::try_from(per_user).unwrap_or(i64::MAX);
        self.run(move |db| {
            let Some(sequence) = first(db, Timestamp::now().as_millisecond(), per_user)? else { return Ok(None) };
            let sql = "SELECT owner FROM task WHERE sequence = ?1 AND priority >= 0";
            db.query_row(sql, [sequence], |row| parsed(row, 0)).optional()
        })
        .await
    }

    /// Makes a task that has given way pending again. Its owner goes behind all waiting users: otherwise the freed slot could
    /// go back to this task, or to another task of the same owner.
    pub(crate) async fn give_way(&self, id: TaskId) -> Result<(), StoreError> {
        self.run(move |db| {
            let giving = db.unchecked_transaction()?;
            let sql = "UPDATE task SET status = 'pending' WHERE id = ?1 AND status IN ('downloading', 'processing') \
                RETURNING owner";
            let owner: Option<Owner> = giving.query_row(sql, [id.to_string()], |row| parsed(row, 0)).optional()?;
            if let Some(owner) = owner {
                take_turn(&giving, &owner)?;
            }
            giving.commit()
        })
        .await
    }

    /// Schedules another attempt of a task that failed for a transient reason, if it has one left.
    pub(crate) async fn retry(&self, id: TaskId, why: String, retries: Retries) -> Result<RetryResult, StoreError> {
        let [chance] = sallyport_core::secrets::random::random();
        self.run(move |db| {
            let under_way = "SELECT tries + 1 FROM task WHERE id = ?1 AND status IN ('downloading', 'processing')";
            let tries: Option<u32> = db.query_row(under_way, [id.to_string()], |row| row.get(0)).optional()?;
            let Some(tries) = tries else { return Ok(RetryResult::Gone) };
            let Some(wait) = retries.wait(tries, chance) else { return Ok(RetryResult::Exhausted) };
            let at = Timestamp::now().as_millisecond().saturating_add(millis(wait));
            db.execute(
                "UPDATE task SET status = 'pending', tries = ?2, not_before = ?3, error_message = ?4 WHERE id = ?1",
                params![id.to_string(), tries, at, Field::Message.cut(&retries.notice(tries, at, &why))],
            )?;
            Ok(RetryResult::After(wait))
        })
        .await
    }

    /// Makes a task pending until its announced source starts, which does not count as an attempt. Returns false if the task was
    /// cancelled or removed meanwhile.
    pub(crate) async fn postpone(&self, id: TaskId, why: String, wait: Duration) -> Result<bool, StoreError> {
        let at = Timestamp::now().as_millisecond().saturating_add(millis(wait));
        let changed = self.run(move |db| {
            db.execute(
                "UPDATE task SET status = 'pending', announced = 1, not_before = ?2, error_message = ?3 \
                 WHERE id = ?1 AND status IN ('downloading', 'processing')",
                params![id.to_string(), at, why],
            )
        });
        Ok(changed.await? == 1)
    }
}

fn first(db: &Connection, now: i64, per_user: i64) -> rusqlite::Result<Option<i64>> {
    let bound = now.saturating_add(millis(Retries::bound()));
    db.prepare_cached(FIRST)?.query_row(params![now, bound, per_user], |r| r.get(0)).optional()
}

fn claim(db: &Connection, now: i64, per_user: i64) -> rusqlite::Result<ClaimResult> {
    let Some(sequence) = first(db, now, per_user)? else { return later(db, now) };
    let sql = format!(
        "UPDATE task SET status = 'downloading', not_before = 0, error_message = '' WHERE sequence = ?1 RETURNING {COLUMNS}"
    );
    let task = db.query_row(&sql, [sequence], read)?;
    take_turn(db, &task.owner)?;
    Ok(ClaimResult::Claimed(Box::new(task)))
}

/// Moves a user behind all others.
fn take_turn(db: &Connection, owner: &Owner) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO turn (owner, at) SELECT ?1, coalesce(max(at), 0) + 1 FROM turn WHERE true \
         ON CONFLICT (owner) DO UPDATE SET at = excluded.at",
        [owner.as_str()],
    )?;
    Ok(())
}

/// Finds when the next task becomes due. A task that waits only because its owner has too many running is not counted: it becomes
/// due when one of those ends.
fn later(db: &Connection, now: i64) -> rusqlite::Result<ClaimResult> {
    let sql = "SELECT min(not_before) FROM task WHERE status = 'pending' AND not_before > ?1";
    let at: Option<i64> = db.query_row(sql, [now], |row| row.get(0))?;
    Ok(at.map_or(ClaimResult::Nothing, |at| {
        ClaimResult::Later(Duration::from_millis(at.saturating_sub(now).unsigned_abs()))
    }))
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::tasks::{
        order::{Output, Priority, Quality},
        task::Status,
    };
    use sallyport_core::statement::UserLimits;

    const RETRIES: Retries = Retries { max: 1, first_delay: Duration::from_mins(1), min_delay: Duration::ZERO };

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("worker.db")).unwrap();
        (dir, store)
    }

    async fn order(store: &Store, owner: &str, priority: Priority) -> TaskId {
        let url = "https://e.com/".into();
        let task = Task { priority, ..Task::new(owner.parse().unwrap(), url, Quality::Best, Output::Audio(None)) };
        let id = task.id;
        store.add(task, UserLimits::default()).await.unwrap();
        id
    }

    async fn claimed(store: &Store, per_user: usize) -> Option<TaskId> {
        match store.claim(per_user).await.unwrap() {
            ClaimResult::Claimed(task) => Some(task.id),
            ClaimResult::Later(_) | ClaimResult::Nothing => None,
        }
    }

    #[tokio::test]
    async fn users_take_turns_whoever_ordered_more() {
        let (_dir, store) = store();
        let mut ana = Vec::new();
        for _ in 0..4 {
            ana.push(order(&store, "ana", Priority::High).await);
        }
        let bob = [order(&store, "bob", Priority::Normal).await, order(&store, "bob", Priority::Normal).await];
        let eve = order(&store, "eve", Priority::Normal).await;
        for expected in [ana[0], bob[0], eve, ana[1], bob[1], ana[2], ana[3]] {
            assert_eq!(claimed(&store, 9).await, Some(expected));
        }
        assert_eq!(claimed(&store, 9).await, None);
    }

    #[tokio::test]
    async fn high_priority_goes_before_the_users_own_tasks_and_low_priority_after_everybodys() {
        let (_dir, store) = store();
        let low = order(&store, "ana", Priority::Low).await;
        let normal = order(&store, "ana", Priority::Normal).await;
        let high = order(&store, "ana", Priority::High).await;
        let other = order(&store, "bob", Priority::Normal).await;
        for expected in [high, other, normal, low] {
            assert_eq!(claimed(&store, 9).await, Some(expected));
        }
    }

    #[tokio::test]
    async fn the_slot_of_a_task_that_gave_way_goes_to_the_one_that_waited() {
        let (_dir, store) = store();
        let anas = [order(&store, "ana", Priority::High).await, order(&store, "ana", Priority::High).await];
        let _waiting = order(&store, "ana", Priority::High).await;
        for expected in anas {
            assert_eq!(claimed(&store, 2).await, Some(expected));
        }
        // Bob's last turn was after hers.
        let earlier = order(&store, "bob", Priority::Normal).await;
        assert_eq!(claimed(&store, 2).await, Some(earlier));
        store.fail(earlier, "gone".into()).await.unwrap();
        let bobs = order(&store, "bob", Priority::Normal).await;
        assert_eq!(store.next_owner(2).await.unwrap(), Some("bob".parse().unwrap()));
        store.give_way(anas[1]).await.unwrap();
        assert_eq!(claimed(&store, 2).await, Some(bobs));
        // A task that was cancelled meanwhile does not cost its owner a turn.
        store.cancel(bobs).await.unwrap();
        store.give_way(bobs).await.unwrap();
        let next = order(&store, "bob", Priority::Normal).await;
        assert_eq!(claimed(&store, 2).await, Some(anas[1]), "her turn was before his");
        assert_eq!(claimed(&store, 2).await, Some(next));
    }

    #[tokio::test]
    async fn no_task_gives_way_to_one_of_low_priority() {
        let (_dir, store) = store();
        let anas = order(&store, "ana", Priority::Normal).await;
        assert_eq!(claimed(&store, 1).await, Some(anas));
        let low = order(&store, "bob", Priority::Low).await;
        assert_eq!(store.next_owner(1).await.unwrap(), None);
        order(&store, "bob", Priority::Normal).await;
        assert_eq!(store.next_owner(1).await.unwrap(), Some("bob".parse().unwrap()));
        store.cancel(low).await.unwrap();
    }

    #[tokio::test]
    async fn no_user_exceeds_their_share_of_running_tasks() {
        let (_dir, store) = store();
        let first = order(&store, "ana", Priority::Normal).await;
        let second = order(&store, "ana", Priority::Normal).await;
        assert_eq!(claimed(&store, 1).await, Some(first));
        assert!(matches!(store.claim(1).await.unwrap(), ClaimResult::Nothing));
        store.fail(first, "gone".into()).await.unwrap();
        assert_eq!(claimed(&store, 1).await, Some(second));
    }

    #[tokio::test]
    async fn a_users_limits_are_those_of_their_newest_request() {
        let (_dir, store) = store();
        let order = async |limits| {
            let task = Task::new("ana".parse().unwrap(), "https://e.com/".into(), Quality::Best, Output::Audio(None));
            store.add(task, limits).await
        };
        let limits = UserLimits {
            concurrent_downloads: NonZeroU32::new(1),
            waiting_downloads: NonZeroU32::new(2),
            ..UserLimits::default()
        };
        order(limits).await.unwrap();
        order(limits).await.unwrap();
        assert!(matches!(order(limits).await, Err(StoreError::QueueFull)));
        assert!(claimed(&store, 9).await.is_some());
        assert_eq!(claimed(&store, 9).await, None);
        order(limits).await.unwrap();
        assert!(matches!(order(limits).await, Err(StoreError::QueueFull)));
        order(UserLimits::default()).await.unwrap();
        assert!(
            claimed(&store, 9).await.is_some(),
            "claiming a task keeps the limits, and the newest request lifts them"
        );
    }

    #[tokio::test]
    async fn a_failed_task_waits_and_keeps_its_attempts_over_a_restart() {
        let (dir, store) = store();
        let id = order(&store, "ana", Priority::Normal).await;
        assert_eq!(claimed(&store, 1).await, Some(id));
        let wait = match store.retry(id, "cut".into(), RETRIES).await.unwrap() {
            RetryResult::After(wait) => wait,
            ended => unreachable!("{ended:?}"),
        };
        assert!(RETRIES.first_delay <= wait && wait <= RETRIES.first_delay * 3 / 2);
        drop(store);
        let store = Store::open(&dir.path().join("worker.db")).unwrap();
        let task = store.get(id).await.unwrap().unwrap();
        assert_eq!(task.status, Status::Pending);
        let (waits, why) = task.error_message.split_once(": ").unwrap_or_default();
        assert!(waits.starts_with("waiting to retry (2 of 2) at "), "{}", task.error_message);
        assert_eq!(why, "cut");
        let left = match store.claim(1).await.unwrap() {
            ClaimResult::Later(left) => left,
            early => unreachable!("{early:?}"),
        };
        assert!(left <= wait && left + Duration::from_secs(30) > wait, "{left:?} of {wait:?}");

        store.run(|db| db.execute("UPDATE task SET not_before = 0", [])).await.unwrap();
        assert_eq!(claimed(&store, 1).await, Some(id));
        assert_eq!(store.retry(id, "cut".into(), RETRIES).await.unwrap(), RetryResult::Exhausted);
        store.cancel(id).await.unwrap();
        assert_eq!(store.retry(id, "cut".into(), RETRIES).await.unwrap(), RetryResult::Gone);
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_does_not_delay_tasks_for_long() {
        let (_dir, store) = store();
        let id = order(&store, "ana", Priority::Normal).await;
        let future = Timestamp::now().as_millisecond() + millis(Duration::from_hours(24));
        store.run(move |db| db.execute("UPDATE task SET not_before = ?1", [future])).await.unwrap();
        assert_eq!(claimed(&store, 1).await, Some(id));
    }
}

//! How long finished files are kept: some go by their age, and the oldest go first where there are too many; both by last play.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{queue::Queue, store::StoreError, task::TaskId};
use crate::{config::Retention, username::UserName};

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(5);

/// A finished file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) id: TaskId,
    pub(crate) owner: UserName,
    pub(crate) bytes: u64,
    /// Its last play, or its end where nobody has played it.
    pub(crate) last_used: Timestamp,
}

/// Why a file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Age,
    Size,
}

/// Removes what is not to be kept, until `stop`; at once where everything is.
pub(crate) async fn enforce(queue: &Queue, stop: &CancellationToken) {
    let limits = queue.workshop().config.retention;
    if limits == Retention::default() {
        return;
    }
    while stop.run_until_cancelled(sleep(LOOK)).await.is_some() {
        if let Err(error) = sweep(queue, limits).await {
            tracing::error!(%error, "what is kept could not be looked through");
        }
    }
}

async fn sweep(queue: &Queue, limits: Retention) -> Result<(), StoreError> {
    let workshop = queue.workshop();
    let kept = workshop.store.kept().await?;
    for (file, why) in to_go(kept, limits, Timestamp::now(), |id| workshop.readers.any(id)) {
        let Kept { id, owner, bytes, last_used } = file;
        tracing::info!(task = %id, user = %owner, bytes, %last_used, ?why, "a file is not kept any longer");
        // A failure is in the log; the next look tries again.
        drop(queue.remove(id).await);
    }
    Ok(())
}

/// What goes, oldest first; never what is being read, which counts all the same.
fn to_go(mut kept: Vec<Kept>, limits: Retention, now: Timestamp, read: impl Fn(TaskId) -> bool) -> Vec<(Kept, Why)> {
    kept.sort_by_key(|file| file.last_used);
    let mut total: u64 = kept.iter().map(|file| file.bytes).sum();
    let mut going = Vec::new();
    for file in kept {
        let why = if limits.keep_for.is_some_and(|time| age(&file, now) > time) {
            Why::Age
        } else if limits.keep_bytes.is_some_and(|most| total > most) {
            Why::Size
        } else {
            continue;
        };
        if !read(file.id) {
            total = total.saturating_sub(file.bytes);
            going.push((file, why));
        }
    }
    going
}

/// None at all for what was used in the future of a clock that was set back.
fn age(file: &Kept, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(file.last_used)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn file(bytes: u64, last_used: &str) -> Kept {
        Kept { id: TaskId::random(), owner: "ana".parse().unwrap(), bytes, last_used: last_used.parse().unwrap() }
    }

    fn names(going: &[(Kept, Why)]) -> Vec<(u64, Why)> {
        going.iter().map(|(file, why)| (file.bytes, *why)).collect()
    }

    #[test]
    fn the_least_recently_used_goes_first_until_the_rest_fits() {
        let files =
            vec![file(3, "2026-01-03T00:00:00Z"), file(1, "2026-01-01T00:00:00.5Z"), file(2, "2026-01-01T00:00:00Z")];
        let now = "2026-01-04T00:00:00.2Z".parse().unwrap();
        let by =
            |keep_for, keep_bytes| names(&to_go(files.clone(), Retention { keep_for, keep_bytes }, now, |_| false));
        assert_eq!(by(None, Some(6)), []);
        assert_eq!(by(None, Some(5)), [(2, Why::Size)]);
        assert_eq!(by(None, Some(3)), [(2, Why::Size), (1, Why::Size)]);
        assert_eq!(by(Some(DAY * 3), None), [(2, Why::Age)]);
        assert_eq!(by(Some(DAY * 3), Some(3)), [(2, Why::Age), (1, Why::Size)]);
        assert_eq!(by(None, None), []);
    }

    #[test]
    fn what_is_read_stays_and_another_makes_room() {
        let files = vec![file(1, "2026-01-01T00:00:00Z"), file(2, "2026-01-02T00:00:00Z")];
        let read = files[0].id;
        let now = "2026-03-01T00:00:00Z".parse().unwrap();
        let limits = Retention { keep_for: Some(DAY), keep_bytes: Some(0) };
        assert_eq!(names(&to_go(files, limits, now, |id| id == read)), [(2, Why::Age)]);
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nothing_old() {
        let now = "2020-01-01T00:00:00Z".parse().unwrap();
        let limits = Retention { keep_for: Some(DAY), keep_bytes: None };
        assert_eq!(to_go(vec![file(1, "2026-01-01T00:00:00Z")], limits, now, |_| false), []);
    }
}

//! Makes downloads give way to those of other users: one that is almost idle, or one of a user who has several running while another
//! user has none. A download that gives way keeps what it has, waits for its next turn and continues from there.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::Queue;
use crate::{
    disk::usage::DiskUsage,
    jobs::registry::Running,
    store::StoreError,
    tasks::{id::TaskId, owner::Owner, task::Status},
};

/// How often running downloads are checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// How long a download runs undisturbed, and the period over which its speed is measured. It begins at the start, not at the first byte,
/// because the source decides when that comes. A download that starts slowly has more time at its next turn.
const WINDOW: Duration = Duration::from_secs(15);

/// The limit for an undisturbed run, in multiples of [`WINDOW`]. Each time an owner's only download gives way, its next undisturbed run
/// is twice as long, so that it eventually completes whoever is waiting. A download beyond its owner's share always has [`WINDOW`] alone,
/// so that a wait does not make the next one longer.
const MAX_FACTOR: u32 = 64;

/// How many downloads that gave way are remembered.
const MAX_REMEMBERED: usize = 1_024;

/// How many bytes a download had written, and when.
type Samples = VecDeque<(Instant, u64)>;

/// What is known about the running downloads.
#[derive(Default)]
pub(crate) struct SlotMonitor {
    samples: HashMap<TaskId, Samples>,
    /// How often each has given way.
    times: HashMap<TaskId, u32>,
}

/// A running download and its measured speed.
struct MeasuredJob {
    id: TaskId,
    running: Arc<Running>,
    /// In bytes per second. `None` if it has not run for long enough, or is past downloading: a file being merged, checked or moved is
    /// nearly done.
    speed: Option<u64>,
}

/// Checks the running downloads until `stop` is cancelled.
pub(crate) async fn watch(queue: &Queue, stop: &CancellationToken) {
    let least = queue.context().config.min_download_rate;
    let mut monitor = SlotMonitor::default();
    while stop.run_until_cancelled(sleep(CHECK_INTERVAL)).await.is_some() {
        if let Err(error) = monitor.check(queue, least).await {
            tracing::error!(%error, "cannot check whether a download should give way");
        }
    }
}

/// Chooses the download that gives way to one of `waiting`: the slowest of those below `least`, else the newest of a user who has more
/// than their share.
fn choose_job<'a>(jobs: &'a [MeasuredJob], waiting: &Owner, least: u64) -> Option<&'a MeasuredJob> {
    let under_way = |user: &Owner| jobs.iter().filter(|job| job.running.owner == *user).count();
    let own = under_way(waiting);
    let others = || jobs.iter().filter(|job| job.running.owner != *waiting);
    let ready = || others().filter_map(|job| Some((job.speed?, job)));
    let slowest = ready().filter(|(speed, _)| *speed < least).min_by_key(|(speed, _)| *speed);
    let beyond_share = ready().filter(|(_, job)| under_way(&job.running.owner) > own + 1);
    slowest.or_else(|| beyond_share.max_by_key(|(_, job)| job.running.since)).map(|(_, job)| job)
}

impl SlotMonitor {
    async fn check(&mut self, queue: &Queue, least: u64) -> Result<(), StoreError> {
        let jobs = self.measure(queue).await?;
        if let Some(waiting) = queue.user_waiting_for_slot().await?
            && let Some(one) = choose_job(&jobs, &waiting, least)
        {
            self.give_way(one, &waiting);
        }
        Ok(())
    }

    async fn measure(&mut self, queue: &Queue) -> Result<Vec<MeasuredJob>, StoreError> {
        let running = queue.running_jobs();
        let downloading = queue.context().store.in_state(Status::Downloading).await?;
        self.samples.retain(|id, _| running.iter().any(|(known, _)| known == id));
        let owners: Vec<_> = running.iter().map(|(_, running)| running.owner.clone()).collect();
        let mut jobs = Vec::with_capacity(running.len());
        for (id, running) in running {
            let folder = queue.context().media.job(id).work();
            let written = spawn_blocking(move || DiskUsage::in_folder(&folder)).await;
            let bytes = written.ok().and_then(Result::ok).map_or(0, |written| written.bytes);
            let of_owner = owners.iter().filter(|owner| **owner == running.owner).count();
            let undisturbed = self.undisturbed(id, of_owner);
            let speed = self.speed(id, &running, bytes, undisturbed).filter(|_| downloading.contains(&id));
            jobs.push(MeasuredJob { id, running, speed });
        }
        Ok(jobs)
    }

    /// Returns how long a download runs before it can give way. Its owner has `of_owner` running downloads, this one included.
    fn undisturbed(&self, id: TaskId, of_owner: usize) -> Duration {
        match (of_owner, self.times.get(&id)) {
            (0 | 1, Some(times)) => WINDOW * (1_u32 << (*times).min(MAX_FACTOR.ilog2())),
            (_, None) | (2.., Some(_)) => WINDOW,
        }
    }

    /// Returns the speed over the last [`WINDOW`], or `None` until the download has run for `undisturbed`.
    fn speed(&mut self, id: TaskId, running: &Running, bytes: u64, undisturbed: Duration) -> Option<u64> {
        let now = Instant::now();
        let samples = self.samples.entry(id).or_default();
        samples.push_back((now, bytes));
        while samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            samples.pop_front();
        }
        let (at, before) = samples.front()?;
        let passed = now.duration_since(*at).as_millis();
        let ready = running.since.elapsed() >= undisturbed && passed >= WINDOW.as_millis();
        // A partial file that is restarted is shorter than before.
        let speed = u128::from(bytes.saturating_sub(*before)) * 1_000 / passed.max(1);
        ready.then(|| u64::try_from(speed).unwrap_or(u64::MAX))
    }

    fn give_way(&mut self, MeasuredJob { id, running, speed }: &MeasuredJob, waiting: &Owner) {
        tracing::info!(task = %id, owner = %running.owner, to = %waiting, ?speed, "download gives way to another user's");
        if self.times.len() >= MAX_REMEMBERED {
            self.times.clear();
        }
        *self.times.entry(*id).or_default() += 1;
        running.give_way();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(owner: &str, speed: Option<u64>) -> MeasuredJob {
        let running = Running::new(owner.parse().unwrap(), CancellationToken::new());
        MeasuredJob { id: TaskId::random(), running: Arc::new(running), speed }
    }

    fn owner_of<'a>(jobs: &'a [MeasuredJob], waiting: &str) -> Option<(&'a str, Option<u64>)> {
        let one = choose_job(jobs, &waiting.parse().unwrap(), 100)?;
        Some((one.running.owner.as_str(), one.speed))
    }

    #[test]
    fn a_user_waits_no_longer_for_having_waited_before_unless_it_is_for_anothers_only_download() {
        let mut monitor = SlotMonitor::default();
        let id = TaskId::random();
        assert_eq!(monitor.undisturbed(id, 1), WINDOW);
        monitor.times.insert(id, 3);
        assert_eq!((monitor.undisturbed(id, 1), monitor.undisturbed(id, 2)), (WINDOW * 8, WINDOW));
        monitor.times.insert(id, 99);
        assert_eq!(monitor.undisturbed(id, 1), WINDOW * MAX_FACTOR);
    }

    #[tokio::test]
    async fn the_slowest_of_others_gives_way_then_one_beyond_a_share_and_no_other() {
        let fast = |owner: &str| job(owner, Some(1_000));
        assert_eq!(owner_of(&[job("ana", Some(50)), job("eve", Some(9))], "bob"), Some(("eve", Some(9))));
        assert_eq!(owner_of(&[job("bob", Some(9)), fast("ana")], "bob"), None, "not to the same user");
        assert_eq!(owner_of(&[fast("ana"), fast("eve")], "bob"), None, "one each, and fast");
        assert_eq!(owner_of(&[fast("ana"), fast("ana"), fast("eve")], "bob").unwrap().0, "ana");
        assert_eq!(owner_of(&[fast("ana"), fast("ana"), fast("bob")], "bob"), None, "one more than bob has is fair");
        assert_eq!(owner_of(&[job("ana", None), job("ana", None)], "bob"), None, "both have just started");
    }
}

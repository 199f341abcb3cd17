//! Removes finished files that exceed the configured age, and the oldest ones if all together exceed the configured size. Both go by the
//! last play.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use sallyport_core::config::Retention;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    media::{FileId, MediaFolder},
    queue::Queue,
    store::StoreError,
    streaming::hls,
    tasks::{finished::FinishedFile, id::TaskId},
};

/// How often the limits are checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// A change of the clock by more than this counts as a jump.
const MAX_DRIFT: Duration = Duration::from_mins(1);

/// How long after a jump no file is removed for its age. If the clock is wrong, the administrator has this time to correct it.
const DISTRUST_PERIOD: Duration = Duration::from_hours(1);

/// A finished file and what it occupies on disk.
#[derive(Clone, Debug)]
struct StoredFile {
    content: Content,
    /// The bytes of its prepared stream, which it never shares.
    stream: u64,
    file: FinishedFile,
}

/// Content that is stored once, possibly for several tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Content {
    At(FileId),
    /// The file was not found.
    Missing(TaskId),
}

/// The reason why a file is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum RemovalReason {
    Age,
    /// Only its prepared stream is removed, which can be made again.
    StreamSize,
    Size,
}

/// A point in time on two clocks: the wall clock and a monotonic one.
#[derive(Clone, Copy, Debug)]
struct ClockReading {
    date: Timestamp,
    monotonic: Instant,
}

/// Detects jumps of the wall clock.
#[derive(Debug)]
struct Clock {
    last: ClockReading,
    jumped: Option<Instant>,
}

/// Removes files beyond the limits until `stop` is cancelled. Returns immediately if no limit is configured.
pub(super) async fn enforce(queue: &Queue, stop: &CancellationToken) {
    let limits = queue.context().config.retention;
    if limits == Retention::default() {
        return;
    }
    let mut clock = Clock::new(ClockReading::now());
    while stop.run_until_cancelled(sleep(CHECK_INTERVAL)).await.is_some() {
        let trusted = clock.observe(ClockReading::now());
        let limits = Retention { keep_for: limits.keep_for.filter(|_| trusted), ..limits };
        if let Err(error) = sweep(queue, limits).await {
            tracing::error!(%error, "cannot check the retention limits");
        }
    }
}

async fn sweep(queue: &Queue, limits: Retention) -> Result<(), StoreError> {
    let context = queue.context();
    let files = context.store.finished_files().await?;
    let media = context.media.clone();
    let files = spawn_blocking(move || files.into_iter().map(|file| StoredFile::of(&media, file)).collect()).await?;
    for (file, reason) in files_to_remove(files, limits, Timestamp::now(), |id| context.media.is_being_read(id)) {
        let FinishedFile { id, owner, bytes, last_used, .. } = file;
        // Failures are logged; the next check retries.
        match reason {
            RemovalReason::StreamSize => {
                tracing::info!(task = %id, user = %owner, %last_used, "prepared stream removed by retention");
                hls::remove(&context.media, id).await;
            }
            RemovalReason::Age | RemovalReason::Size => {
                tracing::info!(task = %id, user = %owner, bytes, %last_used, why = ?reason, "file removed by retention");
                let _ = queue.remove(id).await;
            }
        }
    }
    Ok(())
}

/// Returns the files to remove, and the reason for each. Files that are being read are never removed, but count towards the size.
fn files_to_remove(
    files: Vec<StoredFile>,
    limits: Retention,
    now: Timestamp,
    read: impl Fn(TaskId) -> bool,
) -> Vec<(FinishedFile, RemovalReason)> {
    let old = |file: &FinishedFile| limits.keep_for.is_some_and(|time| age(file, now) > time) && !read(file.id);
    let (old, rest): (Vec<_>, Vec<_>) = files.into_iter().partition(|stored| old(&stored.file));
    let too_much = limits.keep_bytes.map(|most| beyond_size(rest, most, read)).unwrap_or_default();
    let removals = old.into_iter().map(|stored| (stored.file, RemovalReason::Age));
    let mut removals: Vec<_> = removals.chain(too_much).collect();
    removals.sort_by_key(|(file, reason)| (*reason, file.last_used));
    removals
}

/// Returns what to remove until the rest fits, least recently used first: prepared streams, because they can be made again, then files.
/// Content shared by several tasks counts once, with the latest use of any of them, and frees space only if all of them are removed.
fn beyond_size(files: Vec<StoredFile>, most: u64, read: impl Fn(TaskId) -> bool) -> Vec<(FinishedFile, RemovalReason)> {
    let mut contents: HashMap<Content, Vec<StoredFile>> = HashMap::new();
    for stored in files {
        contents.entry(stored.content).or_default().push(stored);
    }
    let mut total: u64 = contents.values().map(|all| bytes(all)).sum();
    let mut contents: Vec<_> = contents.into_values().collect();
    contents.sort_by_key(|all| all.iter().map(|stored| stored.file.last_used).max());
    let mut removals = Vec::new();
    for stored in contents.iter_mut().flatten().filter(|stored| stored.stream > 0 && !read(stored.file.id)) {
        if total > most {
            total = total.saturating_sub(std::mem::take(&mut stored.stream));
            removals.push((stored.file.clone(), RemovalReason::StreamSize));
        }
    }
    for all in contents {
        if total > most && !all.iter().any(|stored| read(stored.file.id)) {
            total = total.saturating_sub(bytes(&all));
            removals.extend(all.into_iter().map(|stored| (stored.file, RemovalReason::Size)));
        }
    }
    removals
}

/// Returns the bytes of content that several tasks share, plus the stream of each.
fn bytes(all: &[StoredFile]) -> u64 {
    let shared = all.iter().map(|stored| stored.file.bytes).max().unwrap_or(0);
    all.iter().fold(shared, |sum, stored| sum.saturating_add(stored.stream))
}

impl StoredFile {
    fn of(media: &MediaFolder, file: FinishedFile) -> Self {
        let content = media.place(file.id, file.media).map_or(Content::Missing(file.id), Content::At);
        Self { content, stream: hls::size(media, file.id), file }
    }
}

impl ClockReading {
    fn now() -> Self {
        Self { date: Timestamp::now(), monotonic: Instant::now() }
    }
}

impl Clock {
    fn new(now: ClockReading) -> Self {
        Self { last: now, jumped: None }
    }

    /// Returns true if the wall clock can be trusted.
    fn observe(&mut self, now: ClockReading) -> bool {
        let passed = now.monotonic.saturating_duration_since(self.last.monotonic);
        let by_date = now.date.duration_since(self.last.date).abs();
        let off = Duration::try_from(by_date).unwrap_or(Duration::MAX).abs_diff(passed);
        if off > MAX_DRIFT {
            tracing::warn!(?off, date = %now.date, "the clock has jumped; removing no file for its age for one hour");
            self.jumped = Some(now.monotonic);
        }
        self.last = now;
        self.jumped.is_none_or(|at| now.monotonic.saturating_duration_since(at) > DISTRUST_PERIOD)
    }
}

/// Returns the time since the last use, or zero if that lies in the future because the clock was set back.
fn age(file: &FinishedFile, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(file.last_used)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn file(bytes: u64, last_used: &str) -> FinishedFile {
        let owner = "ana".parse().unwrap();
        let media = "mp4".parse().unwrap();
        FinishedFile { id: TaskId::random(), owner, bytes, last_used: last_used.parse().unwrap(), media }
    }

    fn unshared(files: &[FinishedFile]) -> Vec<StoredFile> {
        let stored =
            |file: &FinishedFile| StoredFile { content: Content::Missing(file.id), stream: 0, file: file.clone() };
        files.iter().map(stored).collect()
    }

    fn names(removals: &[(FinishedFile, RemovalReason)]) -> Vec<(u64, RemovalReason)> {
        removals.iter().map(|(file, reason)| (file.bytes, *reason)).collect()
    }

    #[test]
    fn the_least_recently_used_goes_first_until_the_rest_fits() {
        let files =
            vec![file(3, "2026-01-03T00:00:00Z"), file(1, "2026-01-01T00:00:00.5Z"), file(2, "2026-01-01T00:00:00Z")];
        let now = "2026-01-04T00:00:00.2Z".parse().unwrap();
        let by = |keep_for, keep_bytes| {
            names(&files_to_remove(unshared(&files), Retention { keep_for, keep_bytes }, now, |_| false))
        };
        assert_eq!(by(None, Some(6)), []);
        assert_eq!(by(None, Some(5)), [(2, RemovalReason::Size)]);
        assert_eq!(by(None, Some(3)), [(2, RemovalReason::Size), (1, RemovalReason::Size)]);
        assert_eq!(by(Some(DAY * 3), None), [(2, RemovalReason::Age)]);
        assert_eq!(by(Some(DAY * 3), Some(3)), [(2, RemovalReason::Age), (1, RemovalReason::Size)]);
        assert_eq!(by(None, None), []);
    }

    #[test]
    fn a_file_that_is_being_read_stays_and_another_makes_room() {
        let files = vec![file(1, "2026-01-01T00:00:00Z"), file(2, "2026-01-02T00:00:00Z")];
        let read = files[0].id;
        let now = "2026-03-01T00:00:00Z".parse().unwrap();
        let limits = Retention { keep_for: Some(DAY), keep_bytes: Some(0) };
        assert_eq!(names(&files_to_remove(unshared(&files), limits, now, |id| id == read)), [(2, RemovalReason::Age)]);
    }

    #[test]
    fn shared_content_counts_once_and_is_removed_as_a_whole() {
        let files = [(1, 7, "01"), (2, 5, "02"), (1, 7, "03"), (3, 4, "04")];
        let mut files: Vec<_> = files
            .map(|(inode, bytes, day)| {
                let content = Content::At(FileId { device: 1, inode });
                StoredFile { content, stream: 0, file: file(bytes, &format!("2026-01-{day}T00:00:00Z")) }
            })
            .into();
        let now = "2026-02-01T00:00:00Z".parse().unwrap();
        let by = |files: &[StoredFile], keep_bytes, read: Option<TaskId>| {
            let limits = Retention { keep_for: None, keep_bytes: Some(keep_bytes) };
            names(&files_to_remove(files.to_vec(), limits, now, |id| Some(id) == read))
        };
        assert_eq!(by(&files, 16, None), []);
        assert_eq!(by(&files, 15, None), [(5, RemovalReason::Size)], "the other was used later");
        assert_eq!(
            by(&files, 10, None),
            [(7, RemovalReason::Size), (5, RemovalReason::Size), (7, RemovalReason::Size)]
        );
        assert_eq!(by(&files, 10, Some(files[0].file.id)), [(5, RemovalReason::Size), (4, RemovalReason::Size)]);
        files[0].stream = 3;
        assert_eq!(by(&files, 19, None), []);
        assert_eq!(
            by(&files, 16, None),
            [(7, RemovalReason::StreamSize)],
            "a stream counts on its own and is removed before any file"
        );
        assert_eq!(by(&files, 15, None), [(7, RemovalReason::StreamSize), (5, RemovalReason::Size)]);
        assert_eq!(
            by(&files, 16, Some(files[0].file.id)),
            [(5, RemovalReason::Size)],
            "but not while it is being played"
        );
    }

    #[test]
    fn a_clock_that_jumps_is_not_trusted_for_an_hour() {
        let start = ClockReading::now();
        let at = |monotonic: u64, date: i64| ClockReading {
            monotonic: start.monotonic + Duration::from_secs(monotonic),
            date: start.date + jiff::SignedDuration::from_secs(date),
        };
        let mut clock = Clock::new(start);
        assert!(clock.observe(at(5, 5)) && clock.observe(at(10, 40)), "small changes are tolerated");
        assert!(!clock.observe(at(15, 86_400)) && !clock.observe(at(3_600, 90_000)));
        assert!(clock.observe(at(3_616, 90_016)));
        assert!(!clock.observe(at(3_621, 3_621)) && !clock.observe(at(7_000, 7_000)), "a jump back counts, too");
    }

    #[test]
    fn a_clock_that_was_set_back_expires_nothing() {
        let now = "2020-01-01T00:00:00Z".parse().unwrap();
        let limits = Retention { keep_for: Some(DAY), keep_bytes: None };
        assert_eq!(files_to_remove(unshared(&[file(1, "2026-01-01T00:00:00Z")]), limits, now, |_| false), []);
    }
}

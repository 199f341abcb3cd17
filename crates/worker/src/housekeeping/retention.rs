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
const LOOK: Duration = Duration::from_secs(5);

/// A change of the clock by more than this counts as a jump.
const JUMP: Duration = Duration::from_mins(1);

/// How long after a jump no file is removed for its age. If the clock is wrong, the administrator has this time to correct it.
const DISTRUST: Duration = Duration::from_hours(1);

/// A finished file and what it occupies on disk.
#[derive(Clone, Debug)]
struct Lying {
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
    Unknown(TaskId),
}

/// The reason why a file is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    Age,
    /// Only its prepared stream is removed, which can be made again.
    StreamSize,
    Size,
}

/// A point in time on two clocks: the wall clock and a monotonic one.
#[derive(Clone, Copy, Debug)]
struct Moment {
    date: Timestamp,
    steady: Instant,
}

/// Detects jumps of the wall clock.
#[derive(Debug)]
struct Clock {
    last: Moment,
    jumped: Option<Instant>,
}

/// Removes files beyond the limits until `stop` is cancelled. Returns immediately if no limit is configured.
pub(super) async fn enforce(queue: &Queue, stop: &CancellationToken) {
    let limits = queue.context().config.retention;
    if limits == Retention::default() {
        return;
    }
    let mut clock = Clock::new(Moment::now());
    while stop.run_until_cancelled(sleep(LOOK)).await.is_some() {
        let believed = clock.look(Moment::now());
        let limits = Retention { keep_for: limits.keep_for.filter(|_| believed), ..limits };
        if let Err(error) = sweep(queue, limits).await {
            tracing::error!(%error, "cannot check the retention limits");
        }
    }
}

async fn sweep(queue: &Queue, limits: Retention) -> Result<(), StoreError> {
    let context = queue.context();
    let kept = context.store.finished_files().await?;
    let media = context.media.clone();
    let kept = spawn_blocking(move || kept.into_iter().map(|file| Lying::of(&media, file)).collect()).await?;
    for (file, why) in to_go(kept, limits, Timestamp::now(), |id| context.media.is_being_read(id)) {
        let FinishedFile { id, owner, bytes, last_used, .. } = file;
        // Failures are logged; the next check retries.
        match why {
            Why::StreamSize => {
                tracing::info!(task = %id, user = %owner, %last_used, "prepared stream removed by retention");
                hls::remove(&context.media, id).await;
            }
            Why::Age | Why::Size => {
                tracing::info!(task = %id, user = %owner, bytes, %last_used, ?why, "file removed by retention");
                let _ = queue.remove(id).await;
            }
        }
    }
    Ok(())
}

/// Returns the files to remove, and why. Files that are being read are never removed, but count towards the size.
fn to_go(
    kept: Vec<Lying>,
    limits: Retention,
    now: Timestamp,
    read: impl Fn(TaskId) -> bool,
) -> Vec<(FinishedFile, Why)> {
    let old = |file: &FinishedFile| limits.keep_for.is_some_and(|time| age(file, now) > time) && !read(file.id);
    let (old, rest): (Vec<_>, Vec<_>) = kept.into_iter().partition(|lying| old(&lying.file));
    let too_much = limits.keep_bytes.map(|most| beyond(rest, most, read)).unwrap_or_default();
    let going = old.into_iter().map(|lying| (lying.file, Why::Age));
    let mut going: Vec<_> = going.chain(too_much).collect();
    going.sort_by_key(|(file, why)| (*why, file.last_used));
    going
}

/// Returns what to remove until the rest fits, least recently used first: prepared streams, because they can be made again, then files.
/// Content shared by several tasks counts once, with the latest use of any of them, and frees space only if all of them are removed.
fn beyond(kept: Vec<Lying>, most: u64, read: impl Fn(TaskId) -> bool) -> Vec<(FinishedFile, Why)> {
    let mut contents: HashMap<Content, Vec<Lying>> = HashMap::new();
    for lying in kept {
        contents.entry(lying.content).or_default().push(lying);
    }
    let mut total: u64 = contents.values().map(|all| bytes(all)).sum();
    let mut contents: Vec<_> = contents.into_values().collect();
    contents.sort_by_key(|all| all.iter().map(|lying| lying.file.last_used).max());
    let mut going = Vec::new();
    for lying in contents.iter_mut().flatten().filter(|lying| lying.stream > 0 && !read(lying.file.id)) {
        if total > most {
            total = total.saturating_sub(std::mem::take(&mut lying.stream));
            going.push((lying.file.clone(), Why::StreamSize));
        }
    }
    for all in contents {
        if total > most && !all.iter().any(|lying| read(lying.file.id)) {
            total = total.saturating_sub(bytes(&all));
            going.extend(all.into_iter().map(|lying| (lying.file, Why::Size)));
        }
    }
    going
}

/// Returns the bytes of content that several tasks share, plus the stream of each.
fn bytes(all: &[Lying]) -> u64 {
    let shared = all.iter().map(|lying| lying.file.bytes).max().unwrap_or(0);
    all.iter().fold(shared, |sum, lying| sum.saturating_add(lying.stream))
}

impl Lying {
    fn of(media: &MediaFolder, file: FinishedFile) -> Self {
        let content = media.place(file.id, file.media).map_or(Content::Unknown(file.id), Content::At);
        Self { content, stream: hls::size(media, file.id), file }
    }
}

impl Moment {
    fn now() -> Self {
        Self { date: Timestamp::now(), steady: Instant::now() }
    }
}

impl Clock {
    fn new(now: Moment) -> Self {
        Self { last: now, jumped: None }
    }

    /// Returns true if the wall clock can be trusted.
    fn look(&mut self, now: Moment) -> bool {
        let passed = now.steady.saturating_duration_since(self.last.steady);
        let by_date = now.date.duration_since(self.last.date).abs();
        let off = Duration::try_from(by_date).unwrap_or(Duration::MAX).abs_diff(passed);
        if off > JUMP {
            tracing::warn!(?off, date = %now.date, "the clock has jumped; removing no file for its age for one hour");
            self.jumped = Some(now.steady);
        }
        self.last = now;
        self.jumped.is_none_or(|at| now.steady.saturating_duration_since(at) > DISTRUST)
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

    fn apart(files: &[FinishedFile]) -> Vec<Lying> {
        let lying = |file: &FinishedFile| Lying { content: Content::Unknown(file.id), stream: 0, file: file.clone() };
        files.iter().map(lying).collect()
    }

    fn names(going: &[(FinishedFile, Why)]) -> Vec<(u64, Why)> {
        going.iter().map(|(file, why)| (file.bytes, *why)).collect()
    }

    #[test]
    fn the_least_recently_used_goes_first_until_the_rest_fits() {
        let files =
            vec![file(3, "2026-01-03T00:00:00Z"), file(1, "2026-01-01T00:00:00.5Z"), file(2, "2026-01-01T00:00:00Z")];
        let now = "2026-01-04T00:00:00.2Z".parse().unwrap();
        let by =
            |keep_for, keep_bytes| names(&to_go(apart(&files), Retention { keep_for, keep_bytes }, now, |_| false));
        assert_eq!(by(None, Some(6)), []);
        assert_eq!(by(None, Some(5)), [(2, Why::Size)]);
        assert_eq!(by(None, Some(3)), [(2, Why::Size), (1, Why::Size)]);
        assert_eq!(by(Some(DAY * 3), None), [(2, Why::Age)]);
        assert_eq!(by(Some(DAY * 3), Some(3)), [(2, Why::Age), (1, Why::Size)]);
        assert_eq!(by(None, None), []);
    }

    #[test]
    fn a_file_that_is_being_read_stays_and_another_makes_room() {
        let files = vec![file(1, "2026-01-01T00:00:00Z"), file(2, "2026-01-02T00:00:00Z")];
        let read = files[0].id;
        let now = "2026-03-01T00:00:00Z".parse().unwrap();
        let limits = Retention { keep_for: Some(DAY), keep_bytes: Some(0) };
        assert_eq!(names(&to_go(apart(&files), limits, now, |id| id == read)), [(2, Why::Age)]);
    }

    #[test]
    fn shared_content_counts_once_and_is_removed_as_a_whole() {
        let files = [(1, 7, "01"), (2, 5, "02"), (1, 7, "03"), (3, 4, "04")];
        let mut files: Vec<_> = files
            .map(|(inode, bytes, day)| {
                let content = Content::At(FileId { device: 1, inode });
                Lying { content, stream: 0, file: file(bytes, &format!("2026-01-{day}T00:00:00Z")) }
            })
            .into();
        let now = "2026-02-01T00:00:00Z".parse().unwrap();
        let by = |files: &[Lying], keep_bytes, read: Option<TaskId>| {
            let limits = Retention { keep_for: None, keep_bytes: Some(keep_bytes) };
            names(&to_go(files.to_vec(), limits, now, |id| Some(id) == read))
        };
        assert_eq!(by(&files, 16, None), []);
        assert_eq!(by(&files, 15, None), [(5, Why::Size)], "the other was used later");
        assert_eq!(by(&files, 10, None), [(7, Why::Size), (5, Why::Size), (7, Why::Size)]);
        assert_eq!(by(&files, 10, Some(files[0].file.id)), [(5, Why::Size), (4, Why::Size)]);
        files[0].stream = 3;
        assert_eq!(by(&files, 19, None), []);
        assert_eq!(
            by(&files, 16, None),
            [(7, Why::StreamSize)],
            "a stream counts on its own and is removed before any file"
        );
        assert_eq!(by(&files, 15, None), [(7, Why::StreamSize), (5, Why::Size)]);
        assert_eq!(by(&files, 16, Some(files[0].file.id)), [(5, Why::Size)], "but not while it is being played");
    }

    #[test]
    fn a_clock_that_jumps_is_not_trusted_for_an_hour() {
        let start = Moment::now();
        let at = |steady: u64, date: i64| Moment {
            steady: start.steady + Duration::from_secs(steady),
            date: start.date + jiff::SignedDuration::from_secs(date),
        };
        let mut clock = Clock::new(start);
        assert!(clock.look(at(5, 5)) && clock.look(at(10, 40)), "small changes are tolerated");
        assert!(!clock.look(at(15, 86_400)) && !clock.look(at(3_600, 90_000)));
        assert!(clock.look(at(3_616, 90_016)));
        assert!(!clock.look(at(3_621, 3_621)) && !clock.look(at(7_000, 7_000)), "a jump back counts, too");
    }

    #[test]
    fn a_clock_that_was_set_back_expires_nothing() {
        let now = "2020-01-01T00:00:00Z".parse().unwrap();
        let limits = Retention { keep_for: Some(DAY), keep_bytes: None };
        assert_eq!(to_go(apart(&[file(1, "2026-01-01T00:00:00Z")]), limits, now, |_| false), []);
    }
}

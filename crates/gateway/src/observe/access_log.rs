//! The access log: one line per request, within a budget for each user and client, and without delaying requests.

mod allowance;
mod budget;
mod entry;
mod file;
mod line;
mod summary;
mod writer;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::{Condvar, Mutex};
use prometheus_client::metrics::counter::Counter;
use sallyport_core::config::{AccessFormat, LogConfig};

pub(crate) use self::entry::{Entry, LoggedRequest};
use self::{
    budget::Budget,
    entry::LinePriority,
    file::LogFile,
    summary::{Omission, OmissionSummary},
    writer::Writer,
};

/// Limit of the bytes that wait while the disk does not accept them; lines beyond it are only counted.
const MAX_PENDING: usize = 8 << 20;
/// The part of it for lines that an unauthenticated client can cause.
const MAX_PENDING_OF_STRANGERS: usize = MAX_PENDING / 2;

/// The access log, to which requests write entries.
pub(crate) struct AccessLog {
    shared: Arc<Shared>,
    writer: Option<thread::JoinHandle<()>>,
}

/// Counters of omitted lines, by reason.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeftOut {
    /// The client exceeded its lines per second or its bytes per day.
    pub client_budget: Counter,
    /// The queue was full because the disk was too slow.
    pub queue_full: Counter,
    /// The disk was nearly full.
    pub disk_reserve: Counter,
}

/// The state that requests and the writer share.
struct Shared {
    format: AccessFormat,
    pending: Mutex<Pending>,
    wake: Condvar,
    /// Whether only lines of users are written.
    sparing: AtomicBool,
    left_out: LeftOut,
}

struct Pending {
    lines: Vec<u8>,
    budget: Budget,
    /// Lines that did not fit into the queue, since the last summary.
    queue_full: u64,
    /// Lines that were omitted to save disk space, since the last summary.
    disk_reserve: u64,
    closed: bool,
}

impl AccessLog {
    /// Opens the file that the configuration names for appending; a new file gets mode 0600.
    ///
    /// # Errors
    /// Fails if the file cannot be opened or the thread cannot be started.
    pub(crate) fn open(config: &LogConfig, left_out: LeftOut) -> io::Result<Self> {
        let file = LogFile::open(&config.access, config.access_max_size, config.access_keep)?;
        let writer = Writer::new(file, config.disk_reserve);
        let shared = Arc::new(Shared {
            format: config.access_format,
            pending: Mutex::new(Pending::new(Budget::new(config.access_lines_per_client, config.access_bytes_per_day))),
            wake: Condvar::new(),
            sparing: AtomicBool::new(writer.is_sparing()),
            left_out,
        });
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("access-log".into()).stack_size(128 << 10);
        let writer = thread.spawn(move || writer.run(&theirs))?;
        Ok(Self { shared, writer: Some(writer) })
    }

    /// Accepts one entry, which is soon in the file, or counted as omitted.
    pub(crate) fn write(&self, entry: &Entry<'_>) {
        let Shared { format, pending, sparing, left_out, .. } = &*self.shared;
        let priority = entry.priority();
        let is_spared = priority == LinePriority::Stranger && sparing.load(Ordering::Relaxed);
        let mut pending = pending.lock();
        let is_full = pending.is_full_for(priority);
        let Pending { lines, budget, queue_full, disk_reserve, .. } = &mut *pending;
        if is_spared {
            *disk_reserve += 1;
            left_out.disk_reserve.inc();
        } else if is_full {
            *queue_full += 1;
            left_out.queue_full.inc();
        } else if !budget.admit(entry, || appended(lines, |lines| entry.write(*format, lines))) {
            left_out.client_budget.inc();
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.shared.pending.lock().closed = true;
        self.shared.wake.notify_all();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Shared {
    /// Counts lines that the disk did not accept.
    fn lose(&self, lines: u64) {
        self.left_out.disk_reserve.inc_by(lines);
        self.pending.lock().disk_reserve += lines;
    }
}

impl Pending {
    fn new(budget: Budget) -> Self {
        Self { lines: Vec::new(), budget, queue_full: 0, disk_reserve: 0, closed: false }
    }

    fn is_full_for(&self, priority: LinePriority) -> bool {
        let max = match priority {
            LinePriority::User => MAX_PENDING,
            LinePriority::Stranger => MAX_PENDING_OF_STRANGERS,
        };
        self.lines.len() >= max
    }

    /// Begins the next second, `age` after the log was opened, and writes summaries of what was omitted in the last one, as far as there is space.
    fn turn(&mut self, format: AccessFormat, is_sparing: bool, age: Duration) {
        let now = Timestamp::now();
        let Self { lines, budget, .. } = self;
        budget.turn(age, |more| {
            let has_room = lines.len() < MAX_PENDING_OF_STRANGERS;
            has_room.then(|| appended(lines, |lines| more.write(format, now, lines)))
        });
        for (count, why) in
            [(&mut self.queue_full, Omission::QueueFull), (&mut self.disk_reserve, Omission::DiskReserve)]
        {
            if *count > 0 && !is_sparing && self.lines.len() < MAX_PENDING_OF_STRANGERS {
                OmissionSummary::of_all(std::mem::take(count), why).write(format, now, &mut self.lines);
            }
        }
    }
}

/// Returns the number of bytes that `write` appends.
fn appended(lines: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> usize {
    let before = lines.len();
    write(lines);
    lines.len() - before
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, path::Path};

    use super::{line::tests::entry, *};
    use crate::observe::Verdict;

    fn config(path: &Path, disk_reserve: u64) -> LogConfig {
        LogConfig {
            level: String::new(),
            access: path.to_owned(),
            access_format: AccessFormat::Json,
            access_lines_per_client: NonZeroU32::MAX,
            access_bytes_per_day: None,
            access_max_size: None,
            access_keep: 1,
            disk_reserve,
        }
    }

    fn denied() -> Entry<'static> {
        Entry { decision: Verdict::Deny, code: Some("no_route"), user: None, ..entry() }
    }

    #[test]
    fn with_little_disk_space_only_users_are_logged_and_the_others_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let left_out = LeftOut::default();
        let log = AccessLog::open(&config(&path, u64::MAX), left_out.clone()).unwrap();
        log.write(&denied());
        log.write(&Entry { decision: Verdict::Preflight, user: None, ..entry() });
        log.write(&entry());
        drop(log);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!((text.lines().count(), left_out.disk_reserve.get()), (1, 2), "{text}");
    }

    #[test]
    fn an_incomplete_line_is_terminated_before_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        std::fs::write(&path, "{\"ts\":\"19").unwrap();
        let log = AccessLog::open(&config(&path, 0), LeftOut::default()).unwrap();
        log.write(&entry());
        drop(log);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("{\"ts\":\"19\n{\"ts\":\"1970"), "{text}");
    }

    #[test]
    fn a_full_queue_still_has_space_for_users() {
        let mut pending = Pending::new(Budget::new(NonZeroU32::MAX, None));
        while !pending.is_full_for(LinePriority::Stranger) {
            denied().write(AccessFormat::Json, &mut pending.lines);
        }
        assert!(!pending.is_full_for(LinePriority::User));
        let full = pending.lines.len();
        pending.queue_full = 3;
        pending.turn(AccessFormat::Json, false, Duration::ZERO);
        assert_eq!((pending.lines.len(), pending.queue_full), (full, 3), "the summary is written once there is space");
        pending.lines.clear();
        pending.turn(AccessFormat::Json, false, Duration::ZERO);
        let text = String::from_utf8(pending.lines).unwrap();
        assert!(text.contains("\"more\":3,\"why\":\"queue_full\"") && pending.queue_full == 0, "{text}");
    }
}

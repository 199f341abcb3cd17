//! The access log: one line a request, within a budget for each user and client, and never in the way of a request.

mod allowance;
mod budget;
mod file;
mod line;
mod writer;

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;

pub use self::line::{Asked, Entry};
use self::{
    budget::Budget,
    file::LogFile,
    line::{More, Weight, Why},
    writer::Writer,
};
use crate::config::{AccessFormat, LogConfig};

/// So many bytes wait at most while the disk does not take them; lines beyond are counted.
const MAX_PENDING: usize = 8 << 20;
/// So many of them may be lines that strangers can have written.
const MAX_PENDING_OF_STRANGERS: usize = MAX_PENDING / 2;

/// Where entries go.
pub struct AccessLog {
    shared: Arc<Shared>,
    writer: Option<thread::JoinHandle<()>>,
}

/// How many lines were left out, by the reason.
#[derive(Clone, Debug, Default)]
pub struct LeftOut {
    /// Their client had its lines for that second, or its bytes for that day.
    pub client_budget: Counter,
    /// More waited than the disk took.
    pub queue_full: Counter,
    /// The disk was nearly full.
    pub disk_reserve: Counter,
}

/// What requests and the writer share.
struct Shared {
    format: AccessFormat,
    pending: Mutex<Pending>,
    wake: Condvar,
    /// True while only lines of users are written.
    sparing: AtomicBool,
    left_out: LeftOut,
}

struct Pending {
    lines: Vec<u8>,
    budget: Budget,
    /// What did not fit in here, since that was last said.
    queue_full: u64,
    /// What was spared for the disk, since that was last said.
    disk_reserve: u64,
    closed: bool,
}

impl AccessLog {
    /// Appends to the file that the configuration names, which is made for the owner only.
    ///
    /// # Errors
    /// The file cannot be opened, or its thread not started.
    pub fn open(config: &LogConfig, left_out: LeftOut) -> io::Result<Self> {
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

    /// Takes one entry; it is in the file soon, or counted.
    pub fn write(&self, entry: &Entry<'_>) {
        let Shared { format, pending, sparing, left_out, .. } = &*self.shared;
        let weight = entry.weight();
        let is_spared = weight == Weight::Stranger && sparing.load(Ordering::Relaxed);
        let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = pending.is_full_for(weight);
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
        self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.shared.wake.notify_all();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Shared {
    /// Counts lines that the disk has not taken.
    fn lose(&self, lines: u64) {
        self.left_out.disk_reserve.inc_by(lines);
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).disk_reserve += lines;
    }
}

impl Pending {
    fn new(budget: Budget) -> Self {
        Self { lines: Vec::new(), budget, queue_full: 0, disk_reserve: 0, closed: false }
    }

    fn is_full_for(&self, weight: Weight) -> bool {
        let max = match weight {
            Weight::User => MAX_PENDING,
            Weight::Stranger => MAX_PENDING_OF_STRANGERS,
        };
        self.lines.len() >= max
    }

    /// Begins the next second, at `age` since the log was opened, and says what was left out in the last one as far as there is
    /// room to say it.
    fn turn(&mut self, format: AccessFormat, is_sparing: bool, age: Duration) {
        let now = Timestamp::now();
        let Self { lines, budget, .. } = self;
        budget.turn(age, |more| {
            let has_room = lines.len() < MAX_PENDING_OF_STRANGERS;
            has_room.then(|| appended(lines, |lines| more.write(format, now, lines)))
        });
        for (count, why) in [(&mut self.queue_full, Why::QueueFull), (&mut self.disk_reserve, Why::DiskReserve)] {
            if *count > 0 && !is_sparing && self.lines.len() < MAX_PENDING_OF_STRANGERS {
                More::of_all(std::mem::take(count), why).write(format, now, &mut self.lines);
            }
        }
    }
}

/// How many bytes `write` has appended.
fn appended(lines: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> usize {
    let before = lines.len();
    write(lines);
    lines.len() - before
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, path::Path};

    use super::{line::tests::entry, *};
    use crate::observe::metrics::Verdict;

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
    fn with_little_room_on_the_disk_only_users_are_logged_and_the_others_counted() {
        let dir = tempfile::tempdir().unwrap();
        let (path, left_out) = (dir.path().join("access.log"), LeftOut::default());
        let log = AccessLog::open(&config(&path, u64::MAX), left_out.clone()).unwrap();
        log.write(&denied());
        log.write(&Entry { decision: Verdict::Preflight, user: None, ..entry() });
        log.write(&entry());
        drop(log);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!((text.lines().count(), left_out.disk_reserve.get()), (1, 2), "{text}");
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next_one() {
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
    fn in_a_full_queue_there_is_room_for_users_that_strangers_do_not_take() {
        let mut pending = Pending::new(Budget::new(NonZeroU32::MAX, None));
        while !pending.is_full_for(Weight::Stranger) {
            denied().write(AccessFormat::Json, &mut pending.lines);
        }
        assert!(!pending.is_full_for(Weight::User));
        let full = pending.lines.len();
        pending.queue_full = 3;
        pending.turn(AccessFormat::Json, false, Duration::ZERO);
        assert_eq!((pending.lines.len(), pending.queue_full), (full, 3), "it is said once there is room");
        pending.lines.clear();
        pending.turn(AccessFormat::Json, false, Duration::ZERO);
        let text = String::from_utf8(pending.lines).unwrap();
        assert!(text.contains("\"more\":3,\"why\":\"queue_full\"") && pending.queue_full == 0, "{text}");
    }
}

//! What happens to tasks, as it happens: the last events in memory, for whoever follows them or comes back for what he missed.
//!
//! A follower holds nothing but the number of the last event that he has, so a slow one costs no more than a fast one. Of the
//! progress of one task only the newest is kept: who is slow gets less of it, and never less of what else there is.

use std::{
    collections::VecDeque,
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    caller::Caller,
    shares::{Busy, Shares, Sizes, Taken},
    task::{Task, TaskId},
    ytdlp::Progress,
};
use crate::worker::owner::Owner;

/// So many are kept: with the longest of titles and URLs some 5 MiB.
const MAX_KEPT: usize = 1_024;

/// Streams at a time.
const STREAMS: Sizes = Sizes { all: 512, user: 8, link: 1 };

/// How long one waits for a stream to end: that of a client which has just lost its connection does.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something that happened to a task.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// It is new, or more than its progress has changed.
    Task(Arc<Task>),
    /// Bytes came.
    Progress(TaskId, Progress),
    /// It is gone, with its files.
    Removed(TaskId),
    /// More has changed at once than is worth an event for each.
    Many,
}

/// Where in the events a follower is: the process that counted them, and the number of the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventId {
    process: u64,
    number: u64,
}

/// A text that is no event's id.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not an event id")]
pub(crate) struct InvalidEventId;

/// The events; a handle to share.
#[derive(Clone)]
pub(crate) struct Events(Arc<Inner>);

struct Inner {
    process: u64,
    log: Mutex<Log>,
    /// The number of the last event.
    last: watch::Sender<u64>,
    streams: Shares,
}

#[derive(Default)]
struct Log {
    last: u64,
    /// The last one that made room for others. Progress that newer progress has replaced does not count.
    forgotten: u64,
    kept: VecDeque<Kept>,
}

struct Kept {
    number: u64,
    owner: Owner,
    what: What,
}

/// What a follower has not had yet.
#[derive(Debug)]
pub(crate) enum Missed {
    /// The next event that he may see, and where he is after it.
    Event(EventId, What),
    /// There were events that nobody can tell him any more; he is here now.
    Lost(EventId),
    /// Nothing.
    Nothing,
}

/// Whose events a follower gets.
#[derive(Clone, Debug)]
pub(crate) enum Whose {
    Own(Owner),
    Everybodys,
}

/// One follower.
pub(crate) struct Follower {
    events: Events,
    whose: Whose,
    /// None: from before this process, or from nowhere.
    at: Option<u64>,
    changes: watch::Receiver<u64>,
    _seat: Taken,
}

impl Events {
    /// Nobody waits for a stream any longer once `stop` is cancelled.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        let process = u64::from_ne_bytes(crate::random::random());
        let (log, streams) = (Mutex::default(), Shares::new(STREAMS, stop));
        Self(Arc::new(Inner { process, log, last: watch::Sender::new(0), streams }))
    }

    /// Adds an event of a task of `owner`'s.
    pub(crate) fn publish(&self, owner: Owner, what: What) {
        let last = locked(&self.0.log).add(owner, what);
        self.0.last.send_replace(last);
    }

    /// Follows on from `after`; refused where the user has, or all have, as many streams as may be.
    pub(crate) async fn follow(&self, caller: &Caller, whose: Whose, after: Option<EventId>) -> Result<Follower, Busy> {
        let seat = self.0.streams.of(caller).take_within(1, PATIENCE).await?;
        let at = after.filter(|id| id.process == self.0.process).map(|id| id.number);
        Ok(Follower { events: self.clone(), whose, at, changes: self.0.last.subscribe(), _seat: seat })
    }

    fn id(&self, number: u64) -> EventId {
        EventId { process: self.0.process, number }
    }
}

impl Log {
    fn add(&mut self, owner: Owner, what: What) -> u64 {
        if let What::Progress(id, _) = &what {
            self.kept.retain(|kept| !matches!(&kept.what, What::Progress(old, _) if old == id));
        }
        if self.kept.len() >= MAX_KEPT
            && let Some(oldest) = self.kept.pop_front()
        {
            self.forgotten = oldest.number;
        }
        self.last += 1;
        self.kept.push_back(Kept { number: self.last, owner, what });
        self.last
    }

    /// The first event after `at` that `whose` shows.
    fn after(&self, at: u64, whose: &Whose) -> Option<&Kept> {
        let from = self.kept.partition_point(|kept| kept.number <= at);
        self.kept.range(from..).find(|kept| whose.shows(&kept.owner))
    }
}

impl Follower {
    /// What comes next, if it has happened already.
    pub(crate) fn missed(&mut self) -> Missed {
        let log = locked(&self.events.0.log);
        let Some(at) = self.at.filter(|at| (log.forgotten..=log.last).contains(at)) else {
            self.at = Some(log.last);
            return Missed::Lost(self.events.id(log.last));
        };
        let next = log.after(at, &self.whose);
        self.at = Some(next.map_or(log.last, |kept| kept.number));
        next.map_or(Missed::Nothing, |kept| Missed::Event(self.events.id(kept.number), kept.what.clone()))
    }

    /// Waits until something more may have happened.
    pub(crate) async fn more(&mut self) {
        // It lives for as long as the events do, which this follower holds.
        drop(self.changes.changed().await);
    }
}

impl Whose {
    fn shows(&self, owner: &Owner) -> bool {
        match self {
            Self::Own(user) => user == owner,
            Self::Everybodys => true,
        }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.process, self.number)
    }
}

impl FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, InvalidEventId> {
        let (process, number) = text.split_once('-').ok_or(InvalidEventId)?;
        let process = u64::from_str_radix(process, 16).map_err(|_| InvalidEventId)?;
        let number = number.parse().map_err(|_| InvalidEventId)?;
        Ok(Self { process, number })
    }
}

/// What is behind these locks is whole after a panic, too.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    /// None where one would have to wait.
    fn follow(events: &Events, user: &str, after: Option<EventId>) -> Option<Follower> {
        let (caller, whose) = (Caller::test(user, None), Whose::Own(user.parse().unwrap()));
        events.follow(&caller, whose, after).now_or_never()?.ok()
    }

    fn removed(events: &Events, owner: &str) {
        events.publish(owner.parse().unwrap(), What::Removed(TaskId::random()));
    }

    fn seen(follower: &mut Follower) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match follower.missed() {
                Missed::Event(id, what) => seen.push(format!("{} {what:?}", id.number).chars().take(12).collect()),
                Missed::Lost(id) => seen.push(format!("lost {}", id.number)),
                Missed::Nothing => return seen,
            }
        }
    }

    #[tokio::test]
    async fn who_comes_back_gets_what_he_missed_and_nobody_elses() {
        let events = Events::new(CancellationToken::new());
        for owner in ["ana", "bob", "ana"] {
            removed(&events, owner);
        }
        assert_eq!(seen(&mut follow(&events, "ana", Some(events.id(1))).unwrap()), ["3 Removed(Ta"]);
        assert_eq!(seen(&mut follow(&events, "bob", Some(events.id(0))).unwrap()), ["2 Removed(Ta"]);
        let root = Caller::test("root", None);
        let all = events.follow(&root, Whose::Everybodys, Some(events.id(0))).await;
        assert_eq!(seen(&mut all.unwrap()).len(), 3);
        assert_eq!(seen(&mut follow(&events, "ana", None).unwrap()), ["lost 3"]);
    }

    #[tokio::test]
    async fn what_is_too_old_of_another_process_or_from_the_future_is_lost() {
        let events = Events::new(CancellationToken::new());
        for _ in 0..MAX_KEPT + 10 {
            removed(&events, "ana");
        }
        let last = MAX_KEPT as u64 + 10;
        assert_eq!(seen(&mut follow(&events, "ana", Some(events.id(10))).unwrap()).len(), MAX_KEPT);
        for wrong in [events.id(9), events.id(last + 1), Events::new(CancellationToken::new()).id(last)] {
            assert_eq!(seen(&mut follow(&events, "ana", Some(wrong)).unwrap()), [format!("lost {last}")]);
        }
    }

    #[tokio::test]
    async fn of_progress_the_newest_is_kept() {
        let events = Events::new(CancellationToken::new());
        removed(&events, "ana");
        let id = TaskId::random();
        for downloaded in 0..5_000 {
            events.publish("ana".parse().unwrap(), What::Progress(id, Progress { downloaded, ..Progress::default() }));
        }
        let mut follower = follow(&events, "ana", Some(events.id(0))).unwrap();
        assert!(matches!(follower.missed(), Missed::Event(EventId { number: 1, .. }, What::Removed(_))));
        assert!(matches!(
            follower.missed(),
            Missed::Event(EventId { number: 5_001, .. }, What::Progress(_, Progress { downloaded: 4_999, .. }))
        ));
        assert!(matches!(follower.missed(), Missed::Nothing));
    }

    #[tokio::test]
    async fn a_user_has_so_many_streams_and_no_more() {
        let events = Events::new(CancellationToken::new());
        let mut streams: Vec<_> = (0..STREAMS.user).map(|_| follow(&events, "ana", None).unwrap()).collect();
        assert!(follow(&events, "ana", None).is_none());
        assert!(follow(&events, "bob", None).is_some());
        streams.pop();
        assert!(follow(&events, "ana", None).is_some());
    }

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = Events::new(CancellationToken::new()).id(7);
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "-", "7", "x-1", "1-", "1-x", "11111111111111111-1"] {
            assert_eq!(text.parse::<EventId>(), Err(InvalidEventId), "{text}");
        }
    }
}

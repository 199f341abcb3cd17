//! Live events about tasks. The newest are kept in memory for subscribers, and for those who reconnect and want what they missed.
//!
//! A subscriber holds only the number of the last event it has received, so a slow one costs no more than a fast one. Only the newest
//! progress event of each task is kept: a slow subscriber receives fewer progress events, but every other event.

use std::{collections::VecDeque, fmt, str::FromStr, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    shares::{Busy, ShareGuard, Shares, Sizes},
    tasks::{caller::Caller, id::TaskId, owner::Owner, progress::Progress, task::Task},
};

/// How many events are kept: about 5 MiB with the longest titles and URLs.
const MAX_KEPT: usize = 1_024;

/// Concurrent streams.
const STREAMS: Sizes = Sizes { all: 512, user: 8, link: 1 };

/// How long a new stream waits for another to end. The old stream of a client that has just lost its connection ends within this time.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Something that happened to a task.
#[derive(Clone, Debug)]
pub(crate) enum TaskEvent {
    /// The task is new, or something other than its progress has changed.
    Task(Arc<Task>),
    /// The download has made progress.
    Progress(TaskId, Progress),
    /// The task was removed, with its files.
    Removed(TaskId),
    /// Too many tasks have changed at once for an event each.
    Many,
}

/// A position in the events: the process that numbered them, and the number of the last one received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventId {
    process: u64,
    number: u64,
}

/// The error for a text that is not an event id.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not an event id")]
pub(crate) struct InvalidEventId;

/// The events of this process. Clones share them.
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
    /// The number of the last event dropped to make room. Progress events replaced by newer ones do not count.
    last_dropped: u64,
    entries: VecDeque<LoggedEvent>,
}

struct LoggedEvent {
    number: u64,
    owner: Owner,
    event: TaskEvent,
}

/// The next thing that a subscriber has not received yet.
#[derive(Debug)]
pub(crate) enum NextEvent {
    /// The next event that the subscriber may see, and the position after it.
    Event(EventId, TaskEvent),
    /// Some events are no longer available; the subscriber continues from this position.
    Lost(EventId),
    /// No event is waiting.
    None,
}

/// Whose events a subscriber receives.
#[derive(Clone, Debug)]
pub(crate) enum Audience {
    Own(Owner),
    Everyone,
}

/// One subscriber.
pub(crate) struct Subscription {
    events: Events,
    audience: Audience,
    /// `None` if the subscriber gave no position, or one of an earlier process.
    position: Option<u64>,
    changes: watch::Receiver<u64>,
    _slot: ShareGuard,
}

impl Events {
    /// Creates an empty log. Waits for a stream end once `stop` is cancelled.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        let process = u64::from_ne_bytes(sallyport_core::secrets::random::random());
        let log = Mutex::default();
        let streams = Shares::new(STREAMS, stop);
        Self(Arc::new(Inner { process, log, last: watch::Sender::new(0), streams }))
    }

    /// Adds an event about a task of `owner`.
    pub(crate) fn publish(&self, owner: Owner, event: TaskEvent) {
        let last = locked(&self.0.log).add(owner, event);
        self.0.last.send_replace(last);
    }

    /// Subscribes to the events after `after`. Fails with [`Busy`] if the user, or all users together, have too many streams.
    pub(crate) async fn subscribe(
        &self,
        caller: &Caller,
        audience: Audience,
        after: Option<EventId>,
    ) -> Result<Subscription, Busy> {
        let slot = self.0.streams.of(caller).take_within(1, MAX_WAIT).await?;
        let position = after.filter(|id| id.process == self.0.process).map(|id| id.number);
        Ok(Subscription { events: self.clone(), audience, position, changes: self.0.last.subscribe(), _slot: slot })
    }

    fn id(&self, number: u64) -> EventId {
        EventId { process: self.0.process, number }
    }
}

impl Log {
    fn add(&mut self, owner: Owner, event: TaskEvent) -> u64 {
        if let TaskEvent::Progress(id, _) = &event {
            self.entries.retain(|entry| !matches!(&entry.event, TaskEvent::Progress(old, _) if old == id));
        }
        if self.entries.len() >= MAX_KEPT
            && let Some(oldest) = self.entries.pop_front()
        {
            self.last_dropped = oldest.number;
        }
        self.last += 1;
        self.entries.push_back(LoggedEvent { number: self.last, owner, event });
        self.last
    }

    /// Returns the first event after `at` that is visible to `whose`.
    fn after(&self, position: u64, audience: &Audience) -> Option<&LoggedEvent> {
        let from = self.entries.partition_point(|entry| entry.number <= position);
        self.entries.range(from..).find(|entry| audience.includes(&entry.owner))
    }
}

impl Subscription {
    /// Returns the next event, if there is one already.
    pub(crate) fn try_next(&mut self) -> NextEvent {
        let log = locked(&self.events.0.log);
        let Some(position) = self.position.filter(|position| (log.last_dropped..=log.last).contains(position)) else {
            self.position = Some(log.last);
            return NextEvent::Lost(self.events.id(log.last));
        };
        let next = log.after(position, &self.audience);
        self.position = Some(next.map_or(log.last, |entry| entry.number));
        next.map_or(NextEvent::None, |entry| NextEvent::Event(self.events.id(entry.number), entry.event.clone()))
    }

    /// Waits until something more may have happened.
    pub(crate) async fn changed(&mut self) {
        // Cannot fail: the sender lives as long as the events, which this subscriber holds.
        let _ = self.changes.changed().await;
    }
}

impl Audience {
    fn includes(&self, owner: &Owner) -> bool {
        match self {
            Self::Own(user) => user == owner,
            Self::Everyone => true,
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

/// Locks and ignores poisoning: the data is consistent even after a panic.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    /// Returns `None` if the subscriber would have to wait.
    fn subscribe(events: &Events, user: &str, after: Option<EventId>) -> Option<Subscription> {
        let caller = Caller::test(user, None);
        let audience = Audience::Own(user.parse().unwrap());
        events.subscribe(&caller, audience, after).now_or_never()?.ok()
    }

    fn removed(events: &Events, owner: &str) {
        events.publish(owner.parse().unwrap(), TaskEvent::Removed(TaskId::random()));
    }

    fn seen(subscription: &mut Subscription) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match subscription.try_next() {
                NextEvent::Event(id, event) => seen.push(format!("{} {event:?}", id.number).chars().take(12).collect()),
                NextEvent::Lost(id) => seen.push(format!("lost {}", id.number)),
                NextEvent::None => return seen,
            }
        }
    }

    #[tokio::test]
    async fn a_returning_subscriber_gets_the_events_it_missed_and_nobody_elses() {
        let events = Events::new(CancellationToken::new());
        for owner in ["ana", "bob", "ana"] {
            removed(&events, owner);
        }
        assert_eq!(seen(&mut subscribe(&events, "ana", Some(events.id(1))).unwrap()), ["3 Removed(Ta"]);
        assert_eq!(seen(&mut subscribe(&events, "bob", Some(events.id(0))).unwrap()), ["2 Removed(Ta"]);
        let root = Caller::test("root", None);
        let all = events.subscribe(&root, Audience::Everyone, Some(events.id(0))).await;
        assert_eq!(seen(&mut all.unwrap()).len(), 3);
        assert_eq!(seen(&mut subscribe(&events, "ana", None).unwrap()), ["lost 3"]);
    }

    #[tokio::test]
    async fn a_position_that_is_too_old_of_another_process_or_in_the_future_is_lost() {
        let events = Events::new(CancellationToken::new());
        for _ in 0..MAX_KEPT + 10 {
            removed(&events, "ana");
        }
        let last = MAX_KEPT as u64 + 10;
        assert_eq!(seen(&mut subscribe(&events, "ana", Some(events.id(10))).unwrap()).len(), MAX_KEPT);
        for wrong in [events.id(9), events.id(last + 1), Events::new(CancellationToken::new()).id(last)] {
            assert_eq!(seen(&mut subscribe(&events, "ana", Some(wrong)).unwrap()), [format!("lost {last}")]);
        }
    }

    #[tokio::test]
    async fn only_the_newest_progress_of_a_task_is_kept() {
        let events = Events::new(CancellationToken::new());
        removed(&events, "ana");
        let id = TaskId::random();
        for downloaded in 0..5_000 {
            events.publish(
                "ana".parse().unwrap(),
                TaskEvent::Progress(id, Progress { downloaded, ..Progress::default() }),
            );
        }
        let mut subscription = subscribe(&events, "ana", Some(events.id(0))).unwrap();
        assert!(matches!(subscription.try_next(), NextEvent::Event(EventId { number: 1, .. }, TaskEvent::Removed(_))));
        assert!(matches!(
            subscription.try_next(),
            NextEvent::Event(EventId { number: 5_001, .. }, TaskEvent::Progress(_, Progress { downloaded: 4_999, .. }))
        ));
        assert!(matches!(subscription.try_next(), NextEvent::None));
    }

    #[tokio::test]
    async fn a_user_cannot_exceed_the_limit_of_streams() {
        let events = Events::new(CancellationToken::new());
        let mut streams: Vec<_> = (0..STREAMS.user).map(|_| subscribe(&events, "ana", None).unwrap()).collect();
        assert!(subscribe(&events, "ana", None).is_none());
        assert!(subscribe(&events, "bob", None).is_some());
        streams.pop();
        assert!(subscribe(&events, "ana", None).is_some());
    }

    #[test]
    fn an_event_id_parses_as_it_is_displayed() {
        let id = Events::new(CancellationToken::new()).id(7);
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "-", "7", "x-1", "1-", "1-x", "11111111111111111-1"] {
            assert_eq!(text.parse::<EventId>(), Err(InvalidEventId), "{text}");
        }
    }
}

//! Queries sites for clients that wait for the answer: a few yt-dlp runs at a time, one run for identical questions, and a cache of
//! answers.
//!
//! The result is the same for all users, so they share runs and results. A run continues for as long as a caller waits for it.

mod cache;
mod run;

use std::{collections::HashMap, ffi::OsString, sync::Arc, time::Duration};

use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use parking_lot::{Mutex, MutexGuard};
use sallyport_core::config::WorkerConfig;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use utoipa::IntoResponses;

use self::cache::AnswerCache;
use super::{
    App, info,
    refusal::{Refusal, RefusalBody},
    search,
};
use crate::{
    disk::NoRoom,
    queue::Queue,
    shares::{Busy, ShareGuard, Shares, Sizes},
    tasks::{
        caller::Caller,
        owner::Owner,
        source::{ResolveError, SourceUrl},
    },
    ytdlp::{self, Tools, Unready},
};

/// How many runs there are at a time. Each is one yt-dlp process, and for sites that need it a JavaScript runtime.
const SLOTS: Sizes = Sizes { all: 4, user: 2, link: 1 };

/// How long a client waits for a slot.
const MAX_WAIT: Duration = Duration::from_secs(8);

/// A run that takes longer is ended if others wait for its slot.
const UNCONTESTED_TIME: Duration = Duration::from_secs(20);

/// A question for yt-dlp; equal questions get the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Question {
    /// What a page offers.
    Page(SourceUrl),
    /// A search with at most `count` results.
    Search { text: String, count: u8 },
}

/// Why there is no answer.
#[derive(Clone, Debug, Error)]
pub(super) enum LookupError {
    #[error("too many metadata lookups are already running")]
    Busy,
    #[error(transparent)]
    Unready(#[from] Unready),
    #[error("the site took too long")]
    TooSlow,
    #[error("the site refused the request: {0}")]
    Refused(String),
    #[error("the site could not be reached")]
    Unreachable,
    #[error("the site could not be read")]
    Unreadable,
    #[error("yt-dlp could not be run")]
    NotRun,
    #[error("the disk is full")]
    Full,
    #[error("the disk is read-only")]
    ReadOnly,
}

/// A cloneable handle to the running queries and the cached answers.
#[derive(Clone)]
pub(super) struct MetadataLookups(Arc<Inner>);

struct Inner {
    cache: AnswerCache,
    slots: Shares,
    /// Locked while deciding whether a run is needed.
    under_way: Mutex<HashMap<Question, WeakShared<SharedLookup>>>,
    stop: CancellationToken,
}

type SharedLookup = BoxFuture<'static, Result<Bytes, LookupError>>;

/// Where an answer comes from.
enum Answer {
    Cached(Bytes),
    Running(Shared<SharedLookup>),
}

/// The error responses of the routes that query a site.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes what `Refusal` makes")]
pub(super) enum LookupFailures {
    /// A value is not accepted, or the site refused the request (`invalid_value`, `url_refused`, `upstream_refused`)
    #[response(status = 422)]
    Refused(RefusalBody),
    /// The site could not be reached or read (`upstream_unreachable`, `upstream_failed`)
    #[response(status = 502)]
    Unreadable(RefusalBody),
    /// The worker cannot query sites now (`busy`, `yt_dlp_missing`, `yt_dlp_too_old`, `yt_dlp_broken`, `sandbox_missing`)
    #[response(status = 503)]
    Unready(RefusalBody),
    /// The site took too long (`upstream_timeout`)
    #[response(status = 504)]
    TooSlow(RefusalBody),
    /// The server cannot store anything (`disk_full`, `disk_read_only`)
    #[response(status = 507)]
    NoRoom(RefusalBody),
}

impl MetadataLookups {
    /// Cancelling `stop` ends all runs.
    pub(super) fn new(config: &WorkerConfig, stop: CancellationToken) -> Self {
        let cache = AnswerCache::new(config.look_keep_for);
        let slots = Shares::new(SLOTS, stop.clone());
        Self(Arc::new(Inner { cache, slots, under_way: Mutex::default(), stop }))
    }

    /// Returns the answer as JSON. If a run is needed, it takes one of `caller`'s slots.
    pub(super) async fn lookup(
        &self,
        queue: &Queue,
        caller: &Caller,
        question: Question,
    ) -> Result<Bytes, LookupError> {
        let cached_or_running = self.cached_or_running(&self.under_way(), &question);
        let answer = if let Some(answer) = cached_or_running {
            answer
        } else {
            let slot = self.0.slots.of(caller).take_within(1, MAX_WAIT).await;
            self.join_or_begin(queue, question, slot)?
        };
        match answer {
            Answer::Cached(json) => Ok(json),
            Answer::Running(outcome) => outcome.await,
        }
    }

    fn cached_or_running(
        &self,
        under_way: &HashMap<Question, WeakShared<SharedLookup>>,
        question: &Question,
    ) -> Option<Answer> {
        let running = under_way.get(question).and_then(WeakShared::upgrade).map(Answer::Running);
        // A run caches its answer before it ends, so one of the two is found.
        running.or_else(|| self.0.cache.get(question).map(Answer::Cached))
    }

    /// Looks for an answer again first: somebody else may have asked the same while this caller waited for a slot.
    fn join_or_begin(
        &self,
        queue: &Queue,
        question: Question,
        slot: Result<ShareGuard, Busy>,
    ) -> Result<Answer, LookupError> {
        let mut under_way = self.under_way();
        if let Some(answer) = self.cached_or_running(&under_way, &question) {
            return Ok(answer);
        }
        let outcome = self.clone().run(queue.clone(), question.clone(), slot?).boxed().shared();
        under_way.retain(|_, outcome| outcome.upgrade().is_some());
        under_way.extend(outcome.downgrade().map(|weak| (question, weak)));
        Ok(Answer::Running(outcome))
    }

    /// Caches only successful answers: a site that has failed may work for the next client.
    async fn run(self, queue: Queue, question: Question, slot: ShareGuard) -> Result<Bytes, LookupError> {
        let json = tokio::select! {
            json = run::run(queue.context(), &question, &self.0.stop) => json?,
            () = slot.contested_after(UNCONTESTED_TIME, ShareGuard::is_wanted) => return Err(LookupError::TooSlow),
        };
        self.0.cache.insert(question, json.clone());
        Ok(json)
    }

    /// Ignores poisoning: the map is consistent even after a panic.
    fn under_way(&self) -> MutexGuard<'_, HashMap<Question, WeakShared<SharedLookup>>> {
        self.0.under_way.lock()
    }
}

impl Question {
    fn args(&self, tools: &Tools) -> Vec<OsString> {
        match self {
            Self::Page(source) => ytdlp::page_metadata(tools, source),
            Self::Search { text, count } => ytdlp::search(tools, text, *count),
        }
    }

    /// Extracts the fields that clients get from yt-dlp's answer.
    fn read(&self, line: &str) -> Option<Bytes> {
        let json = match self {
            Self::Page(_) => info::read(line),
            Self::Search { .. } => search::read(line),
        };
        // Drops the spare capacity that serialising it has left.
        json.map(|json| json.into_boxed_slice().into())
    }

    /// The size in bytes.
    fn size(&self) -> usize {
        match self {
            Self::Page(source) => source.as_str().len(),
            Self::Search { text, .. } => text.len(),
        }
    }
}

impl From<Busy> for LookupError {
    fn from(_: Busy) -> Self {
        Self::Busy
    }
}

impl From<NoRoom> for LookupError {
    fn from(reason: NoRoom) -> Self {
        match reason {
            NoRoom::Full => Self::Full,
            NoRoom::ReadOnly => Self::ReadOnly,
            NoRoom::Unknown(_) | NoRoom::Lost(_) => Self::NotRun,
        }
    }
}

impl LookupError {
    /// The refusal for a client that requested `what`.
    pub(super) fn refusal(self, what: &str) -> Refusal {
        let bad_gateway =
            |code, why: &Self| Refusal::new(StatusCode::BAD_GATEWAY, code, format!("{what} is not available: {why}"));
        match self {
            Self::Busy => {
                Refusal::unavailable("busy", "Too many metadata lookups are already running; try again later")
            }
            Self::Unready(unready) => unready.into(),
            Self::TooSlow => Refusal::new(
                StatusCode::GATEWAY_TIMEOUT,
                "upstream_timeout",
                format!("{what} is not available: {self}"),
            ),
            Self::Refused(message) => Refusal::invalid("upstream_refused", message),
            Self::Unreachable => bad_gateway("upstream_unreachable", &self),
            Self::Unreadable => bad_gateway("upstream_failed", &self),
            Self::NotRun => Refusal::internal(),
            Self::Full => NoRoom::Full.into(),
            Self::ReadOnly => NoRoom::ReadOnly.into(),
        }
    }
}

/// Resolves the source and refuses private addresses. This check applies to every request, even if the answer is cached. A worker
/// that is stopping does not wait for a name server.
pub(super) async fn resolved(app: &App, user: &Owner, source: &SourceUrl, what: &'static str) -> Result<(), Refusal> {
    let resolving = source.resolve(&app.queue.context().lookups, user);
    match app.stop.run_until_cancelled(resolving).await {
        Some(Ok(())) => Ok(()),
        Some(Err(ResolveError::Unresolved)) => Err(LookupError::Unreachable.refusal(what)),
        Some(Err(private)) => Err(Refusal::invalid("url_refused", private.to_string())),
        None => Err(LookupError::Busy.refusal(what)),
    }
}

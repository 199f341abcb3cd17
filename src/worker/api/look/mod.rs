//! Looks at the outside world for clients that wait: few runs of yt-dlp at a time, one for all who ask the same, and answers that
//! are kept for a while.
//!
//! What is found is the same for everybody, so neither a run nor an answer is one user's. A run goes on for as long as anybody
//! waits for it.

mod kept;
mod run;

use std::{
    collections::HashMap,
    ffi::OsString,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use utoipa::IntoResponses;

use self::kept::Kept;
use super::{App, info, search};
use crate::{
    config::WorkerConfig,
    worker::{
        caller::Caller,
        disk::NoRoom,
        owner::Owner,
        queue::Queue,
        refusal::{Refusal, RefusalBody},
        shares::{Busy, Shares, Sizes, Taken},
        source::{ResolveError, SourceUrl},
        ytdlp::{self, Tools, Unready},
    },
};

/// How many run at a time. Each is one yt-dlp, and where a site needs it one JavaScript runtime.
const PLACES: Sizes = Sizes { all: 4, user: 2, link: 1 };

/// How long one waits for a place.
const PATIENCE: Duration = Duration::from_secs(8);

/// A look that takes longer ends where others wait for its place.
const LONG_ENOUGH: Duration = Duration::from_secs(20);

/// What is asked of yt-dlp; whoever asks the same gets the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Question {
    /// What a page offers.
    Page(SourceUrl),
    /// So many results at most.
    Search { text: String, count: u8 },
}

/// Why there is no answer.
#[derive(Clone, Debug, Error)]
pub(super) enum LookError {
    #[error("too many looks run already")]
    Busy,
    #[error(transparent)]
    Unready(#[from] Unready),
    #[error("the site took too long")]
    TooSlow,
    #[error("the site refuses: {0}")]
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

/// Looks that run, and what earlier ones have found; a handle to share.
#[derive(Clone)]
pub(super) struct Looks(Arc<Inner>);

struct Inner {
    kept: Kept,
    places: Shares,
    /// Held while it is decided whether a run is needed.
    under_way: Mutex<HashMap<Question, WeakShared<Outcome>>>,
    stop: CancellationToken,
}

type Outcome = BoxFuture<'static, Result<Bytes, LookError>>;

/// Where an answer comes from.
enum Answer {
    Kept(Bytes),
    Coming(Shared<Outcome>),
}

/// What a route that looks answers in place of what was asked for.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it describes what `Refusal` makes")]
pub(super) enum NotSeen {
    /// A value is not accepted, or the site refuses (`invalid_value`, `url_refused`, `upstream_refused`)
    #[response(status = 422)]
    Refused(RefusalBody),
    /// The site cannot be read (`upstream_unreachable`, `upstream_failed`)
    #[response(status = 502)]
    Unreadable(RefusalBody),
    /// Not now (`busy`, `yt_dlp_missing`, `yt_dlp_too_old`, `yt_dlp_broken`, `sandbox_missing`)
    #[response(status = 503)]
    Unready(RefusalBody),
    /// The site is too slow (`upstream_timeout`)
    #[response(status = 504)]
    TooSlow(RefusalBody),
    /// There is no room (`disk_full`, `disk_read_only`)
    #[response(status = 507)]
    NoRoom(RefusalBody),
}

impl Looks {
    /// All that run end when `stop` is cancelled.
    pub(super) fn new(config: &WorkerConfig, stop: CancellationToken) -> Self {
        let (kept, places) = (Kept::new(config.look_keep_for), Shares::new(PLACES, stop.clone()));
        Self(Arc::new(Inner { kept, places, under_way: Mutex::default(), stop }))
    }

    /// The answer, as JSON. `caller` is whose place a run takes, where one is needed.
    pub(super) async fn look(&self, queue: &Queue, caller: &Caller, question: Question) -> Result<Bytes, LookError> {
        let known = self.known(&self.under_way(), &question);
        let answer = if let Some(answer) = known {
            answer
        } else {
            let place = self.0.places.of(caller).take_within(1, PATIENCE).await;
            self.join_or_begin(queue, question, place)?
        };
        match answer {
            Answer::Kept(json) => Ok(json),
            Answer::Coming(outcome) => outcome.await,
        }
    }

    fn known(&self, under_way: &HashMap<Question, WeakShared<Outcome>>, question: &Question) -> Option<Answer> {
        let coming = under_way.get(question).and_then(WeakShared::upgrade).map(Answer::Coming);
        // A run keeps its answer before it ends.
        coming.or_else(|| self.0.kept.get(question).map(Answer::Kept))
    }

    /// While a place was waited for, somebody else may have asked the same.
    fn join_or_begin(
        &self,
        queue: &Queue,
        question: Question,
        place: Result<Taken, Busy>,
    ) -> Result<Answer, LookError> {
        let mut under_way = self.under_way();
        if let Some(answer) = self.known(&under_way, &question) {
            return Ok(answer);
        }
        let outcome = self.clone().run(queue.clone(), question.clone(), place?).boxed().shared();
        under_way.retain(|_, outcome| outcome.upgrade().is_some());
        under_way.extend(outcome.downgrade().map(|weak| (question, weak)));
        Ok(Answer::Coming(outcome))
    }

    /// Only what was found is kept: a site that has failed may do better for the next who asks.
    async fn run(self, queue: Queue, question: Question, place: Taken) -> Result<Bytes, LookError> {
        let json = tokio::select! {
            json = run::run(queue.workshop(), &question, &self.0.stop) => json?,
            () = place.outstayed(LONG_ENOUGH, Taken::is_wanted) => return Err(LookError::TooSlow),
        };
        self.0.kept.keep(question, json.clone());
        Ok(json)
    }

    /// What is behind the lock is whole after a panic, too.
    fn under_way(&self) -> MutexGuard<'_, HashMap<Question, WeakShared<Outcome>>> {
        self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Question {
    fn args(&self, tools: &Tools) -> Vec<OsString> {
        match self {
            Self::Page(source) => ytdlp::look_at(tools, source),
            Self::Search { text, count } => ytdlp::search(tools, text, *count),
        }
    }

    /// What is of use of yt-dlp's answer.
    fn read(&self, line: &str) -> Option<Bytes> {
        let json = match self {
            Self::Page(_) => info::read(line),
            Self::Search { .. } => search::read(line),
        };
        // Without the room that writing it has left behind it.
        json.map(|json| json.into_boxed_slice().into())
    }

    /// In bytes.
    fn size(&self) -> usize {
        match self {
            Self::Page(source) => source.as_str().len(),
            Self::Search { text, .. } => text.len(),
        }
    }
}

impl From<Busy> for LookError {
    fn from(_: Busy) -> Self {
        Self::Busy
    }
}

impl From<NoRoom> for LookError {
    fn from(reason: NoRoom) -> Self {
        match reason {
            NoRoom::Full => Self::Full,
            NoRoom::ReadOnly => Self::ReadOnly,
            NoRoom::Unknown(_) | NoRoom::Lost(_) => Self::NotRun,
        }
    }
}

impl LookError {
    /// What a client is told that has asked for `what`.
    pub(super) fn refusal(self, what: &str) -> Refusal {
        let bad_gateway =
            |code, why: &Self| Refusal::new(StatusCode::BAD_GATEWAY, code, format!("{what} is not available: {why}"));
        match self {
            Self::Busy => Refusal::unavailable("busy", "Too many of these requests run already"),
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

/// Judges the places that a look would go to. Each who asks is judged anew, whatever is kept. A worker that stops waits for no
/// name server.
pub(super) async fn resolved(app: &App, user: &Owner, source: &SourceUrl, what: &'static str) -> Result<(), Refusal> {
    let resolving = source.resolve(&app.queue.workshop().lookups, user);
    match app.stop.run_until_cancelled(resolving).await {
        Some(Ok(())) => Ok(()),
        Some(Err(ResolveError::Unresolved)) => Err(LookError::Unreachable.refusal(what)),
        Some(Err(private)) => Err(Refusal::invalid("url_refused", private.to_string())),
        None => Err(LookError::Busy.refusal(what)),
    }
}

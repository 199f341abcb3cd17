//! Looks at the outside world for a client that waits: one short run of yt-dlp, few at a time.

use std::{ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};
use tokio_util::sync::CancellationToken;
use utoipa::IntoResponses;
use uuid::Uuid;

use crate::worker::{
    disk::{Exhausted, SCRATCH},
    job::Workshop,
    refusal::{Refusal, RefusalBody},
    removal::remove,
    sandbox::Allowance,
    source::{ResolveError, SourceUrl},
    ytdlp::{Bounds, Complaint, Confined, End, Kind, Line, Run, Tools},
};

const AT_A_TIME: usize = 2;
const PATIENCE: Duration = Duration::from_secs(3);

/// The metadata of one page, at most.
const MAX_ANSWER: usize = 8 << 20;

/// A look keeps nothing, but a JavaScript runtime may have a cache.
const MAX_FILE: u64 = 64 << 20;
/// Pages, and no media.
const MAX_BYTES: u64 = 64 << 20;

/// The right to look, for so many at a time.
#[derive(Clone)]
pub(super) struct Looks {
    slots: Arc<Semaphore>,
    stop: CancellationToken,
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

/// A folder that is gone when its owner is.
struct Scratch(PathBuf);

impl Looks {
    /// All of them end when `stop` is cancelled.
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { slots: Arc::new(Semaphore::new(AT_A_TIME)), stop }
    }

    /// Runs yt-dlp with the arguments that `args` makes, and reads its one line of JSON.
    pub(super) async fn look<T: DeserializeOwned>(
        &self,
        workshop: &Workshop,
        args: impl FnOnce(&Tools) -> Vec<OsString>,
        what: &'static str,
    ) -> Result<T, Refusal> {
        let tools = workshop.readiness.tools().await?;
        let slot = timeout(PATIENCE, self.slots.acquire()).await;
        let Ok(Ok(_slot)) = slot else {
            return Err(Refusal::unavailable("busy", "Too many of these requests run already"));
        };
        workshop.disks.room().await?;
        let scratch = Scratch::make(workshop.media.jobs()).await?;
        let args = args(&tools);
        let time = workshop.config.info_timeout;
        let allowance = Allowance { file: MAX_FILE, cpu: time.as_secs() };
        let proxy = Some(workshop.passes.proxy(&tools.sandbox, Uuid::new_v4(), time, MAX_BYTES));
        let (program, folder) = (&tools.yt_dlp, &scratch.0);
        let confined = Confined { tools: &tools, program, args, folder, reads: &[], allowance, proxy };
        // When the client goes away this future is dropped, and the run with it.
        let bounds = Bounds { disks: &workshop.disks, most: SCRATCH, line: MAX_ANSWER, time };
        let run = Run::start(confined, bounds, &self.stop);
        let run = run.map_err(|error| {
            tracing::error!(%error, "yt-dlp could not be started");
            Refusal::internal()
        })?;
        answer(run, what).await
    }
}

async fn answer<T: DeserializeOwned>(mut run: Run, what: &str) -> Result<T, Refusal> {
    let (mut answer, mut complaint) = (None, None);
    while let Some(line) = run.next().await {
        match line {
            Line::Out(json) => answer = answer.or_else(|| serde_json::from_str(&json).ok()),
            Line::Err(text) => complaint = complaint.or_else(|| Complaint::of(&text)),
        }
    }
    match (run.end().await, answer) {
        (End::Exited(status), Some(answer)) if status.success() => Ok(answer),
        (end, _) => Err(refusal(end, complaint, what)),
    }
}

impl Scratch {
    async fn make(parent: PathBuf) -> Result<Self, Refusal> {
        let path = parent.join(format!("look-{}", Uuid::new_v4()));
        let scratch = Self(path.clone());
        let made = spawn_blocking(move || std::fs::create_dir(path)).await;
        match made {
            Ok(Ok(())) => Ok(scratch),
            _ => Err(Refusal::internal()),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.0);
        spawn_blocking(move || {
            if let Err(error) = remove(&path) {
                tracing::warn!(path = %path.display(), %error, "a folder could not be removed");
            }
        });
    }
}

/// Judges the places that a look would go to.
pub(super) async fn resolved(source: &SourceUrl, what: &'static str) -> Result<(), Refusal> {
    match source.resolve().await {
        Ok(()) => Ok(()),
        Err(ResolveError::Unresolved) => Err(unreachable(what)),
        Err(private) => Err(Refusal::invalid("url_refused", private.to_string())),
    }
}

fn refusal(end: End, complaint: Option<Complaint>, what: &str) -> Refusal {
    match (end, complaint) {
        (End::Exhausted(Exhausted::Disks(reason)), _) => reason.into(),
        (End::TimedOut, _) => Refusal::new(
            StatusCode::GATEWAY_TIMEOUT,
            "upstream_timeout",
            format!("{what} is not available: the site took too long"),
        ),
        (_, Some(Complaint { kind: Kind::Other | Kind::Faltering, message })) => {
            Refusal::invalid("upstream_refused", message)
        }
        (_, Some(Complaint { kind: Kind::Unreachable | Kind::Forbidden, .. })) => unreachable(what),
        _ => Refusal::new(
            StatusCode::BAD_GATEWAY,
            "upstream_failed",
            format!("{what} is not available: the site could not be read"),
        ),
    }
}

fn unreachable(what: &str) -> Refusal {
    let detail = format!("{what} is not available: the site could not be reached");
    Refusal::new(StatusCode::BAD_GATEWAY, "upstream_unreachable", detail)
}

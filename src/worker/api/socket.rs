//! `GET /api/v2/events/socket`: the same as Server-Sent Events, over a WebSocket (RFC 6455), for clients that have only that.
//!
//! Each event is one text message. What a client sends is read, so that its end is noticed, and means nothing.

use std::{error::Error, time::Duration};

use axum::{
    extract::{
        Query, State,
        rejection::QueryRejection,
        ws::{
            CloseCode, CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code,
            rejection::WebSocketUpgradeRejection,
        },
    },
    http::StatusCode,
    response::Response,
};
use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tungstenite::error::Error as SocketError;
use utoipa::IntoParams;

use super::{App, told};
use crate::worker::{
    caller::Caller,
    events::Follower,
    refusal::{Refusal, RefusalBody},
};

/// What a client may say at once, in bytes.
const MAX_MESSAGE: usize = 4 << 10;

/// For each socket, from its beginning.
const READ_BUFFER: usize = 4 << 10;

/// What waits for a client that reads slowly: one event, and answers to its own frames.
const MAX_UNSENT: usize = 256 << 10;

/// How often a client is asked whether it is there.
const PING: Duration = Duration::from_secs(15);

/// One of whom nothing has come for so long is not.
const SILENCE: Duration = Duration::from_secs(45);

/// How long a client may take for what it is sent.
const SENDING: Duration = Duration::from_secs(30);

/// How long the last word may take.
const CLOSING: Duration = Duration::from_secs(1);

/// The query. A browser can give a WebSocket nothing else.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Ask {
    /// 1 for everybody's, which administrators only see.
    #[serde(default)]
    #[param(maximum = 1, default = 0)]
    all: u8,
    /// The last event that was seen.
    after: Option<String>,
}

/// Why a socket ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The worker stops.
    Stopped,
    /// The client said more than it may.
    TooMuch,
    /// The client does not speak WebSocket.
    Nonsense,
    /// There is nobody to tell.
    Gone,
}

/// Follow what happens to downloads, over a WebSocket
///
/// A WebSocket (RFC 6455). Each event is a text message, `{"event": …, "id": …, "data": …}`, with names and data as in
/// `/api/v2/events`; the streams of both are counted together. A client may say nothing longer than 4 KiB (close code 1009), and
/// what it says means nothing. It is asked for a sign of life every 15 seconds, and must give one within 45.
#[utoipa::path(
    get,
    path = "/api/v2/events/socket",
    params(Ask),
    responses(
        (status = 101, description = "Events, without an end"),
        (status = 400, body = RefusalBody, description = "The request does not ask for a WebSocket (`not_a_websocket`)"),
        (status = 403, body = RefusalBody, description = "Only administrators see everybody's (`admins_only`)"),
        (status = 422, body = RefusalBody, description = "The query is not what is expected (`invalid_value`)"),
        (status = 429, body = RefusalBody, description = "The user has too many streams open (`too_many_streams`)"),
        (status = 503, body = RefusalBody, description = "The worker is stopping (`busy`)"),
    )
)]
pub(super) async fn follow(
    State(app): State<App>,
    caller: Caller,
    query: Result<Query<Ask>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let Query(ask) = query.map_err(|e| Refusal::invalid("invalid_value", e.body_text()))?;
    let whose = told::whose(&caller, ask.all)?;
    // Not 426, whose `Upgrade` field ends at the gateway, and which HTTP/2 does not know.
    let upgrade = upgrade.map_err(|_| {
        Refusal::new(StatusCode::BAD_REQUEST, "not_a_websocket", "A WebSocket (version 13) is to be asked for here")
    })?;
    let follower = told::follow(&app, &caller, whose, ask.after.as_deref()).await?;
    let upgrade = upgrade
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_UNSENT);
    Ok(upgrade.on_upgrade(async move |socket| serve(app, follower, socket).await))
}

/// Until either side goes.
async fn serve(app: App, mut follower: Follower, socket: WebSocket) {
    let (mut to, mut from) = socket.split();
    let ended = tokio::select! {
        ended = tell(&app, &mut follower, &mut to) => ended,
        ended = listen(&mut from) => ended,
    };
    drop(follower);
    if let Some(code) = ended.code() {
        let frame = CloseFrame { code, reason: "".into() };
        // Whether it comes or not, nobody is waited for.
        drop(timeout(CLOSING, to.send(Message::Close(Some(frame)))).await);
    }
}

async fn tell(app: &App, follower: &mut Follower, to: &mut SplitSink<WebSocket, Message>) -> Ended {
    let mut pings = interval_at(Instant::now() + PING, PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            biased;
            () = app.stop.cancelled() => return Ended::Stopped,
            _ = pings.tick() => Message::Ping(Bytes::new()),
            told = told::next(app, follower) => Message::text(serde_json::to_string(&told).unwrap_or_default()),
        };
        let sending = timeout(SENDING, to.send(message));
        match app.stop.run_until_cancelled(sending).await {
            Some(Ok(Ok(()))) => {}
            Some(_) => return Ended::Gone,
            None => return Ended::Stopped,
        }
    }
}

async fn listen(from: &mut SplitStream<WebSocket>) -> Ended {
    loop {
        match timeout(SILENCE, from.next()).await {
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => return Ended::of(&error),
            Ok(None) | Err(_) => return Ended::Gone,
        }
    }
}

impl Ended {
    fn of(error: &axum::Error) -> Self {
        match error.source().and_then(|source| source.downcast_ref()) {
            Some(SocketError::Capacity(_)) => Self::TooMuch,
            Some(SocketError::Protocol(_) | SocketError::Utf8(_)) => Self::Nonsense,
            _ => Self::Gone,
        }
    }

    /// What the client is told, where it can be told anything.
    fn code(self) -> Option<CloseCode> {
        match self {
            Self::Stopped => Some(close_code::AWAY),
            Self::TooMuch => Some(close_code::SIZE),
            Self::Nonsense => Some(close_code::PROTOCOL),
            Self::Gone => None,
        }
    }
}

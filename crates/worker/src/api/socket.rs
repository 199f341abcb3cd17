//! `GET /api/v2/events/socket`: the same events over a WebSocket (RFC 6455), for clients that do not support Server-Sent Events.
//!
//! Each event is one text message. Messages of the client are read only to notice when it disconnects; their content is ignored.

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

use super::{
    App, event_view,
    refusal::{Refusal, RefusalBody},
};
use crate::{events::Subscription, tasks::caller::Caller};

/// The largest message that a client may send, in bytes.
const MAX_MESSAGE: usize = 4 << 10;

/// Allocated for each socket as soon as it opens, in bytes.
const READ_BUFFER: usize = 4 << 10;

/// The maximum amount of data that waits for a client that reads slowly: one event, and answers to its own frames. In bytes.
const MAX_UNSENT: usize = 256 << 10;

/// How often the worker pings a client.
const PING_INTERVAL: Duration = Duration::from_secs(15);

/// A client that has sent nothing for this long, not even a pong, is disconnected.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// How long a client may take to receive a message.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// How long sending the close frame may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The query. A browser cannot send headers of its own with a WebSocket.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SocketQuery {
    /// 1 for all users' downloads, which only administrators can follow.
    #[serde(default)]
    #[param(maximum = 1, default = 0)]
    all: u8,
    /// The id of the last event received.
    after: Option<String>,
}

/// The reason why a socket ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndReason {
    /// The worker is stopping.
    Stopped,
    /// The client sent a message that is too large.
    TooLarge,
    /// The client violated the WebSocket protocol.
    ProtocolViolation,
    /// The client has disconnected or does not respond.
    Disconnected,
}

/// Follow downloads over a WebSocket
///
/// A WebSocket (RFC 6455). Each event is a text message, `{"event": …, "id": …, "data": …}`, with names and data as in
/// `/api/v2/events`; the limit on open streams counts both kinds together. Messages of the client are ignored, and must not exceed
/// 4 KiB (close code 1009). The server sends a ping every 15 seconds; a client that sends nothing for 45 seconds is disconnected.
#[utoipa::path(
    get,
    path = "/api/v2/events/socket",
    params(SocketQuery),
    responses(
        (status = 101, description = "An endless stream of events"),
        (status = 400, body = RefusalBody, description = "The request is not a WebSocket handshake (`not_a_websocket`)"),
        (status = 403, body = RefusalBody, description = "Only administrators can follow all users' downloads (`admins_only`)"),
        (status = 422, body = RefusalBody, description = "The query is invalid (`invalid_value`)"),
        (status = 429, body = RefusalBody, description = "The user has too many streams open (`too_many_streams`)"),
        (status = 503, body = RefusalBody, description = "The worker is stopping (`busy`)"),
    )
)]
pub(super) async fn follow(
    State(app): State<App>,
    caller: Caller,
    query: Result<Query<SocketQuery>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let Query(query) = query.map_err(|e| Refusal::invalid("invalid_value", e.body_text()))?;
    let audience = event_view::audience(&caller, query.all)?;
    // Not 426: its `Upgrade` field would not pass the gateway, and HTTP/2 does not have it.
    let upgrade = upgrade.map_err(|_| {
        Refusal::new(StatusCode::BAD_REQUEST, "not_a_websocket", "A WebSocket handshake (version 13) is required")
    })?;
    let subscription = event_view::subscribe(&app, &caller, audience, query.after.as_deref()).await?;
    let upgrade = upgrade
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_UNSENT);
    Ok(upgrade.on_upgrade(async move |socket| serve(app, subscription, socket).await))
}

/// Serves a socket until either side ends it.
async fn serve(app: App, mut subscription: Subscription, socket: WebSocket) {
    let (mut to, mut from) = socket.split();
    let reason = tokio::select! {
        reason = send_events(&app, &mut subscription, &mut to) => reason,
        reason = watch_client(&mut from) => reason,
    };
    drop(subscription);
    if let Some(code) = reason.code() {
        let frame = CloseFrame { code, reason: "".into() };
        // Best effort: the socket closes whether or not the client receives this.
        let _ = timeout(CLOSE_TIMEOUT, to.send(Message::Close(Some(frame)))).await;
    }
}

async fn send_events(app: &App, subscription: &mut Subscription, to: &mut SplitSink<WebSocket, Message>) -> EndReason {
    let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            biased;
            () = app.stop.cancelled() => return EndReason::Stopped,
            _ = pings.tick() => Message::Ping(Bytes::new()),
            event = event_view::next(app, subscription) => Message::text(serde_json::to_string(&event).unwrap_or_default()),
        };
        let sending = timeout(SEND_TIMEOUT, to.send(message));
        match app.stop.run_until_cancelled(sending).await {
            Some(Ok(Ok(()))) => {}
            Some(_) => return EndReason::Disconnected,
            None => return EndReason::Stopped,
        }
    }
}

async fn watch_client(from: &mut SplitStream<WebSocket>) -> EndReason {
    loop {
        match timeout(IDLE_TIMEOUT, from.next()).await {
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => return EndReason::of(&error),
            Ok(None) | Err(_) => return EndReason::Disconnected,
        }
    }
}

impl EndReason {
    fn of(error: &axum::Error) -> Self {
        match error.source().and_then(|source| source.downcast_ref()) {
            Some(SocketError::Capacity(_)) => Self::TooLarge,
            Some(SocketError::Protocol(_) | SocketError::Utf8(_)) => Self::ProtocolViolation,
            _ => Self::Disconnected,
        }
    }

    /// The close code, if the client can still receive one.
    fn code(self) -> Option<CloseCode> {
        match self {
            Self::Stopped => Some(close_code::AWAY),
            Self::TooLarge => Some(close_code::SIZE),
            Self::ProtocolViolation => Some(close_code::PROTOCOL),
            Self::Disconnected => None,
        }
    }
}

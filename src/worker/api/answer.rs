//! JSON answers of some size, which count against the budget until the client has them.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::Serialize;

use super::App;
use crate::worker::{caller::Caller, refusal::Refusal};

const JSON: &str = "application/json";

/// Answers with what `make` makes once there is room for it; `most` says how many bytes that may have.
pub(super) async fn json<T: Serialize>(
    app: &App,
    caller: &Caller,
    most: usize,
    make: impl FnOnce() -> Result<T, Refusal>,
) -> Result<Response, Refusal> {
    let room = app.budget.account(caller, most).first_room(most).await?;
    let text = serde_json::to_vec(&make()?).map_err(|_| Refusal::internal())?;
    Ok(of(room.hold(text)))
}

/// An answer of these bytes, which are JSON.
pub(super) fn of(body: impl Into<axum::body::Body>) -> Response {
    ([(header::CONTENT_TYPE, JSON)], body.into()).into_response()
}

/// Text that is here already, as an answer that counts.
pub(super) async fn text(app: &App, caller: &Caller, text: String) -> Result<Bytes, Refusal> {
    let room = app.budget.account(caller, text.len()).first_room(text.len()).await?;
    Ok(room.hold(text.into_bytes()))
}

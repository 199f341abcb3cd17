//! Large JSON responses, which count against the budget until the client has read them.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::Serialize;

use super::{App, refusal::Refusal};
use crate::tasks::caller::Caller;

const JSON: &str = "application/json";

/// Waits until the budget has room for `most` bytes, then answers with the result of `make`, which must not exceed that.
pub(super) async fn json<T: Serialize>(
    app: &App,
    caller: &Caller,
    most: usize,
    make: impl FnOnce() -> Result<T, Refusal>,
) -> Result<Response, Refusal> {
    let reservation = app.budget.account(caller, most).reserve_first(most).await?;
    let text = serde_json::to_vec(&make()?).map_err(|_| Refusal::internal())?;
    Ok(of(reservation.wrap(text)))
}

/// Returns a response with this body, which is JSON.
pub(super) fn of(body: impl Into<axum::body::Body>) -> Response {
    ([(header::CONTENT_TYPE, JSON)], body.into()).into_response()
}

/// Waits until the budget has room for `most` bytes, then returns the text that `make` produces, which must not exceed that.
pub(super) async fn text<F>(app: &App, caller: &Caller, most: usize, make: F) -> Result<Bytes, Refusal>
where
    F: Future<Output = Result<String, Refusal>>,
{
    let reservation = app.budget.account(caller, most).reserve_first(most).await?;
    Ok(reservation.wrap(make.await?.into_bytes()))
}

//! The body of an error by RFC 9457, for the gateway's answers and the worker's own at its door.

use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

/// Why a request was not let through.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem<'a> {
    /// A URI that names the kind of problem; `about:blank` where the status says it all.
    r#type: &'a str,
    /// The status in words.
    #[schema(required)]
    title: Option<&'a str>,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// For people; the words may change.
    detail: &'a str,
    /// The id of the request, which the gateway's log has as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    /// For programs; it does not change.
    code: &'a str,
}

impl<'a> Problem<'a> {
    /// One whose status says what kind it is.
    pub(crate) fn new(status: StatusCode, code: &'a str, detail: &'a str) -> Self {
        let title = status.canonical_reason();
        Self { r#type: "about:blank", title, status: status.as_u16(), detail, instance: None, code }
    }

    /// Of a kind that has a URI.
    pub(crate) fn of_type(self, r#type: &'a str) -> Self {
        Self { r#type, ..self }
    }

    /// Of one request.
    pub(crate) fn of_request(self, id: &'a str) -> Self {
        Self { instance: Some(id), ..self }
    }

    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

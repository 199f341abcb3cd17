//! The body of an error response (RFC 9457), for the gateway's responses and for requests that the worker refuses.

use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

/// Why a request was refused.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem<'a> {
    /// A URI that identifies the problem type; `about:blank` if the status says everything.
    r#type: &'a str,
    /// The reason phrase of the status.
    #[schema(required)]
    title: Option<&'a str>,
    /// The status of the response.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// An explanation for people; the wording may change.
    detail: &'a str,
    /// The request ID, which is also in the gateway's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    /// A code for programs; it does not change.
    code: &'a str,
}

impl<'a> Problem<'a> {
    /// Creates a problem whose type is given by the status.
    #[must_use]
    pub fn new(status: StatusCode, code: &'a str, detail: &'a str) -> Self {
        let title = status.canonical_reason();
        Self { r#type: "about:blank", title, status: status.as_u16(), detail, instance: None, code }
    }

    /// Sets the URI of the problem type.
    #[must_use]
    pub fn of_type(self, r#type: &'a str) -> Self {
        Self { r#type, ..self }
    }

    /// Sets the request ID.
    #[must_use]
    pub fn of_request(self, id: &'a str) -> Self {
        Self { instance: Some(id), ..self }
    }

    /// Returns the status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

//! The API as an OpenAPI 3.1 document. The program adds what the gateway requires of clients.

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderName, header},
};
use sallyport_core::problem::Problem;
use utoipa::{
    OpenApi,
    openapi::{self, Object, Type, schema::ObjectBuilder},
};

use super::{App, event_view::ProgressView, refusal::RefusalBody};

/// The description of the API as a whole; the rest comes from the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sallyport's worker",
        description = "The OfflineTube v5 API and, under `/api/v2`, extensions to it, as a client of the gateway sees them.\n\n\
            The gateway sends errors as `application/problem+json` (RFC 9457), the worker as `application/json`. With \
            `errors = \"fastapi\"` in the policy, both send `application/json`. The credentials and scopes of each \
            route are those of the built-in policy."
    ),
    servers((url = "/", description = "The gateway")),
    components(schemas(ProgressView, RefusalBody, Problem))
)]
struct Document;

/// Returns the description of every route, without what the gateway adds.
#[must_use]
pub fn document() -> openapi::OpenApi {
    super::routes().into_openapi()
}

/// This document
///
/// It is generated from the program itself and is the same for every client.
#[utoipa::path(
    get,
    path = "/api/v2/openapi.json",
    responses((status = 200, body = Object, description = "OpenAPI 3.1"))
)]
pub(super) async fn serve(State(app): State<App>) -> ([(HeaderName, &'static str); 1], Bytes) {
    ([(header::CONTENT_TYPE, "application/json")], app.openapi)
}

/// The document without routes, to which the routes are added.
pub(super) fn blank() -> openapi::OpenApi {
    Document::openapi()
}

/// The schema of a string that is one of `names`.
pub(super) fn one_of(description: &str, names: impl IntoIterator<Item = &'static str>) -> Object {
    let names = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names));
    names.description(Some(description)).build()
}

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;

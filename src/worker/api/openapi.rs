//! The API as an OpenAPI 3.1 document: the descriptions of the routes, plus what the gateway adds to each.

use std::{collections::BTreeMap, sync::LazyLock};

use axum::{
    body::Bytes,
    http::{HeaderName, StatusCode, header},
};
use utoipa::{
    OpenApi,
    openapi::{
        self, Content, Header, Object, Ref, RefOr, Response, Type,
        path::Operation,
        schema::ObjectBuilder,
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};

use super::{
    access::{Access, Asked},
    event_view::ProgressView,
    refusal::RefusalBody,
};
use crate::{identity::CredentialKind, policy::Reason, problem::Problem};

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

static JSON: LazyLock<Bytes> = LazyLock::new(|| {
    let described = describe(super::routes().into_openapi());
    serde_json::to_vec_pretty(&described).unwrap_or_default().into()
});

/// This document
///
/// It is generated from the program itself and is the same for every client.
#[utoipa::path(
    get,
    path = "/api/v2/openapi.json",
    responses((status = 200, body = Object, description = "OpenAPI 3.1"))
)]
pub(super) async fn document() -> ([(HeaderName, &'static str); 1], Bytes) {
    ([(header::CONTENT_TYPE, "application/json")], JSON.clone())
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

/// Adds the gateway's credentials, scopes and answers.
fn describe(mut api: openapi::OpenApi) -> openapi::OpenApi {
    let access = Access::of_the_worker();
    for (path, item) in &mut api.paths.paths {
        let operations = [
            ("GET", &mut item.get),
            ("POST", &mut item.post),
            ("PUT", &mut item.put),
            ("PATCH", &mut item.patch),
            ("DELETE", &mut item.delete),
        ];
        for (method, operation) in operations {
            if let (Some(operation), Some(asked)) = (operation, access.of(method, path)) {
                guard(operation, asked);
            }
        }
    }
    let components = api.components.get_or_insert_default();
    for kind in CredentialKind::ALL {
        components.security_schemes.insert(kind.name().to_owned(), scheme(kind).into());
    }
    // The method of an operation is always known and allowed, and no operation creates links.
    let met = |reason| !matches!(reason, Reason::UnknownMethod | Reason::MethodNotAllowed | Reason::TooManyLinks);
    for (status, reasons) in by_status(met) {
        components.responses.insert(component(status), refusal(status, &reasons).into());
    }
    api
}

/// Adds the credentials that an operation accepts, and the answers of the gateway itself.
fn guard(operation: &mut Operation, asked: Asked<'_>) {
    let needed = |kind: &CredentialKind| SecurityRequirement::new(kind.name(), scopes(*kind, asked));
    operation.operation_id = Some(asked.name.to_owned());
    operation.security = Some(asked.credentials.iter().map(needed).collect());
    for (status, reasons) in by_status(|reason| asked.may_meet(reason)) {
        let key = status.as_str().to_owned();
        let common = || RefOr::Ref(Ref::from_response_name(component(status)));
        if let RefOr::T(own) = operation.responses.responses.entry(key).or_insert_with(common) {
            join(own, refusal(status, &reasons));
        }
    }
}

/// The scopes that a credential needs. A link needs none: it grants what it names.
fn scopes(kind: CredentialKind, asked: Asked<'_>) -> Vec<String> {
    match kind {
        CredentialKind::Link | CredentialKind::OfflinetubeLink => Vec::new(),
        _ => asked.scopes.to_vec(),
    }
}

fn by_status(wanted: impl Fn(Reason) -> bool) -> BTreeMap<StatusCode, Vec<Reason>> {
    let mut found = BTreeMap::<_, Vec<_>>::new();
    for reason in Reason::ALL.iter().copied().filter(|reason| wanted(*reason)) {
        found.entry(reason.status()).or_default().push(reason);
    }
    found
}

fn component(status: StatusCode) -> String {
    format!("Gateway{}", status.as_u16())
}

/// The gateway's answer with this status.
fn refusal(status: StatusCode, reasons: &[Reason]) -> Response {
    let reasons: Vec<_> = reasons.iter().map(|r| format!("* `{}`: {}", r.code(), r.detail())).collect();
    let mut response = Response::new(format!("From the gateway:\n\n{}", reasons.join("\n")));
    for (media_type, schema) in [("application/problem+json", "Problem"), ("application/json", "Refusal")] {
        let content = Content::new(Some(Ref::from_schema_name(schema)));
        response.content.insert(media_type.to_owned(), content.into());
    }
    let header = match status {
        StatusCode::UNAUTHORIZED => Some(("WWW-Authenticate", Type::String)),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => {
            Some(("Retry-After", Type::Integer))
        }
        _ => None,
    };
    response.headers.extend(header.map(|(name, kind)| (name.to_owned(), Header::new(Object::with_type(kind)).into())));
    response
}

/// Merges the gateway's answer into the worker's, since both may use the same status.
fn join(own: &mut Response, gateways: Response) {
    own.description = format!("{}\n\n{}", own.description, gateways.description);
    own.content.extend(gateways.content);
    own.headers.extend(gateways.headers);
}

fn scheme(kind: CredentialKind) -> SecurityScheme {
    let in_query = |name, text| SecurityScheme::ApiKey(ApiKey::Query(ApiKeyValue::with_description(name, text)));
    match kind {
        CredentialKind::ApiKey => SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
            "X-API-Key",
            "An API key. It is also accepted as a bearer token or as the Basic password.",
        ))),
        CredentialKind::Jwt => {
            SecurityScheme::Http(Http::builder().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build())
        }
        CredentialKind::Link => in_query("sp_sig", "A signed link, with `sp_user`, `sp_exp`, `sp_kid` and `sp_id`."),
        CredentialKind::OfflinetubeLink => {
            in_query("signature", "A signed link in OfflineTube's style, with `expires` and `user`.")
        }
        CredentialKind::ClientCertificate => SecurityScheme::MutualTls {
            description: Some("Used if the request has no other credential.".to_owned()),
            deprecated: None,
            extensions: None,
        },
    }
}

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;

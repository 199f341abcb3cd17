//! The worker's API as the gateway's clients see it: the worker's own description of its routes, and what the gateway requires on each.

mod access;

use std::collections::BTreeMap;

use http::StatusCode;
use sallyport_gateway::{identity::CredentialKind, policy::Reason};
use sallyport_worker::openapi;
use utoipa::openapi::{
    Content, Header, Object, OpenApi, Ref, RefOr, Response, Type,
    path::Operation,
    security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};

use self::access::{Access, RouteAccess};

/// Returns the whole document as JSON.
pub(crate) fn json() -> Vec<u8> {
    serde_json::to_vec_pretty(&describe(openapi())).unwrap_or_default()
}

/// Adds the gateway's credentials, scopes and responses.
fn describe(mut api: OpenApi) -> OpenApi {
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
    for kind in CredentialKind::ALL.iter().copied() {
        components.security_schemes.insert(kind.name().to_owned(), scheme(kind).into());
    }
    // The method of an operation is always known and allowed, and no operation creates links.
    let met = |reason| !matches!(reason, Reason::UnknownMethod | Reason::MethodNotAllowed | Reason::TooManyLinks);
    for (status, reasons) in by_status(met) {
        components.responses.insert(component(status), refusal(status, &reasons).into());
    }
    api
}

/// Adds the credentials that an operation accepts, and the responses of the gateway itself.
fn guard(operation: &mut Operation, asked: RouteAccess<'_>) {
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
fn scopes(kind: CredentialKind, asked: RouteAccess<'_>) -> Vec<String> {
    if kind.is_link() { Vec::new() } else { asked.scopes.to_vec() }
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

/// The gateway's response with this status.
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

/// Merges the gateway's response into the worker's, since both may use the same status.
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
        CredentialKind::OfflineTubeLink => {
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
mod tests;

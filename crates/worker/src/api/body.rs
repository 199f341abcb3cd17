//! Parses a request body, which must be one JSON object with no repeated key and no key that the route does not define.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{StatusCode, header},
};
use sallyport_core::json;
use serde::de::DeserializeOwned;

use super::refusal::Refusal;

/// A body that parsed into `T`.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        if !says_json(&request) {
            return Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_json",
                "The Content-Type must be application/json",
            ));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            Refusal::new(rejection.status(), "unreadable_body", "The body could not be read or is too large")
        })?;
        parse(&bytes).map(Self)
    }
}

/// Parses `bytes`. Fails with 400 if they are not one object with distinct keys, and with 422 if the route does not accept a key or a
/// value.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    let value = json::parse_strictly(bytes).map_err(|e| Refusal::malformed(short(&e)))?;
    if !value.is_object() {
        return Err(Refusal::malformed("not an object".to_owned()));
    }
    serde_json::from_value(value).map_err(|e| Refusal::invalid("invalid_value", short(&e)))
}

fn says_json(request: &Request) -> bool {
    let Some(value) = request.headers().get(header::CONTENT_TYPE) else { return true };
    let essence = value.to_str().unwrap_or("").split(';').next().unwrap_or("").trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn short(error: &serde_json::Error) -> String {
    error.to_string().chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "only parsed")]
        url: String,
    }

    fn status(body: &str) -> u16 {
        parse::<Sample>(body.as_bytes()).map_or_else(|refusal| refusal.into_response().status().as_u16(), |_| 200)
    }

    #[test]
    fn only_one_object_with_distinct_known_keys_passes() {
        assert_eq!(status(r#" {"url": "x"} "#), 200);
        for bad in [
            "",
            "{",
            "[]",
            r#"["x"]"#,
            "null",
            r#"{"url":"x"} x"#,
            r#"{"url":"x","url":"y"}"#,
            r#"{"url":{"a":1,"a":2}}"#,
            "\u{feff}{}",
        ] {
            assert_eq!(status(bad), 400, "{bad}");
        }
        assert_eq!(status(r#"{"url":"x","\u0075rl":"y"}"#), 400, "an escaped spelling is the same key");
        for refused in ["{}", r#"{"url":1}"#, r#"{"url":null}"#, r#"{"url":"x","z":1}"#] {
            assert_eq!(status(refused), 422, "{refused}");
        }
    }
}

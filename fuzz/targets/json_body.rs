//! An accepted body is JSON that every parser reads the same way; the forwarded body contains only what the rule names, and a second validation
//! changes nothing.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use sallyport_core::{
    http1::{Framing, RequestHead, Version},
    json,
};
use serde_json::Value;

use super::{
    forward::{Came, decide},
    site,
};

pub fn run(data: &[u8]) {
    let lax = serde_json::from_slice::<Value>(data);
    match json::parse_strictly(data) {
        Ok(strict) => assert_eq!(strict, lax.expect("strict and yet no JSON")),
        // Input that is refused despite valid grammar has a duplicate name, and so loses something when it is parsed.
        Err(_) => assert!(lax.is_err() || lax.is_ok_and(|v| names(&v) < colons(data))),
    }
    let came = order(data.len());
    let Some(permit) = decide(&came, data) else { return };
    let body = permit.body().expect("the body was not validated").to_vec();
    let Ok(Value::Object(object)) = json::parse_strictly(&body) else { panic!("{body:?}") };
    assert!(object.keys().all(|name| ["url", "quality", "download_type", "format"].contains(&&**name)), "{object:?}");
    let url = object["url"].as_str().expect("a URL is required");
    assert!(url.starts_with("https://") || url.starts_with("http://"), "{url}");
    let again = decide(&came, &body).expect("a validated body is refused");
    assert_eq!(again.body(), Some(&*body));
}

/// Returns a request for a download by a user who is allowed to make it.
fn order(length: usize) -> Came {
    let headers: HeaderMap = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
        (HeaderName::from_static("x-api-key"), HeaderValue::from_static(site::KEY)),
    ]
    .into_iter()
    .collect();
    let target = "/api/download".to_owned();
    let host = "worker.example".to_owned();
    let head = RequestHead::new(Method::POST, target, host, headers, Version::Http11);
    Came { head, framing: Framing::Length(length as u64), websocket: false }
}

/// Counts the names in all objects.
fn names(value: &Value) -> usize {
    match value {
        Value::Object(object) => object.len() + object.values().map(names).sum::<usize>(),
        Value::Array(values) => values.iter().map(names).sum(),
        _ => 0,
    }
}

fn colons(data: &[u8]) -> usize {
    data.split(|b| *b == b':').count() - 1
}

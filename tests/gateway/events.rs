//! A download's events over a WebSocket, through gateway and worker and real TLS.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::{Error, HandshakeError, Message, WebSocket, client::IntoClientRequest, http::HeaderValue};

use crate::{
    client::{Request, Tls, connect},
    instance::Instance,
    origin::Origin,
    whole::{start_download, up},
};

const TARGET: &str = "/api/v2/events/socket";

/// Opens a WebSocket, or returns the status and code of the refusal.
fn open(i: &Instance, target: &str, fields: &[(&'static str, &str)]) -> Result<WebSocket<Tls>, (u16, Value)> {
    let mut request = format!("wss://localhost{target}").into_client_request().unwrap();
    for (name, value) in fields {
        request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
    }
    let stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    match tungstenite::client(request, stream) {
        Ok((socket, _)) => Ok(socket),
        Err(HandshakeError::Failure(Error::Http(response))) => {
            let body = response.body().as_deref().unwrap_or_default();
            let code = serde_json::from_slice::<Value>(body).map_or(Value::Null, |body| body["code"].clone());
            Err((response.status().as_u16(), code))
        }
        Err(error) => panic!("{error}"),
    }
}

fn next(socket: &mut WebSocket<Tls>) -> Value {
    loop {
        match socket.read().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_websocket_delivers_a_downloads_events_until_its_key_is_revoked() {
    let origin = Origin::start();
    let i = up(&origin);
    let made = i.command(&["key", "create", "--scope", "downloads:read"]);
    let key = made["key"].as_str().unwrap();
    let mut socket = open(&i, TARGET, &[("x-api-key", key)]).unwrap();
    let reset = next(&mut socket);
    assert_eq!(reset["event"], "reset");
    let id = start_download(&i, &origin.url("slow/sample.mp4"));
    let mut events = Vec::new();
    while events.last().is_none_or(|event: &Value| event["data"]["status"] != "completed") {
        events.push(next(&mut socket));
    }
    assert!(events.iter().all(|event| event["data"]["id"] == *id), "{events:?}");
    let progress: Vec<_> = events.iter().filter(|event| event["event"] == "progress").collect();
    assert!(progress.len() >= 3, "{events:?}");
    let known = |data: &Value| data["speed"].is_f64() && data["eta"].is_f64() && data["total_bytes"].is_u64();
    assert!(progress.iter().any(|event| known(&event["data"])), "{progress:?}");

    let after = events[2]["id"].as_str().unwrap();
    let mut again = open(&i, &format!("{TARGET}?after={after}"), &[("x-api-key", key)]).unwrap();
    let missed = next(&mut again);
    assert!(missed["event"] != "reset" && !events[..3].contains(&missed), "{missed}");

    i.command(&["key", "revoke", made["id"].as_str().unwrap()]);
    let revoked = Instant::now();
    while socket.read().is_ok() {}
    assert!(revoked.elapsed() < Duration::from_secs(10), "within seconds: {:?}", revoked.elapsed());
}

#[test]
fn a_websocket_does_not_open_without_permission_to_subscribe() {
    let origin = Origin::start();
    let i = up(&origin);
    let only_media = i.new_key(&["--scope", "media:read"]);
    let refused =
        |target: &str, fields: &[(&'static str, &str)]| open(&i, target, fields).err().map(|(status, _)| status);
    assert_eq!(refused(TARGET, &[]), Some(401));
    assert_eq!(refused(TARGET, &[("x-api-key", &only_media)]), Some(403));
    let foreign = [("x-api-key", i.key()), ("origin", "https://evil.example")];
    assert_eq!(refused(TARGET, &foreign), Some(403), "another site's page");
    assert_eq!(refused(&format!("{TARGET}?all=2"), &[("x-api-key", i.key())]), Some(422));
    let plain = i.send(&Request::new("GET", TARGET).key(i.key()));
    assert_eq!((plain.status, &plain.json()["code"]), (400, &json!("not_a_websocket")));
}

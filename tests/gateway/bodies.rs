//! Bodies: validated before anything goes upstream, and re-serialised from the validated values.

use crate::{canary::Canary, client::Request, instance::Instance};

const REFUSED_URLS: &[&str] = &[
    "-x",
    "--exec=id",
    "file:///etc/passwd",
    "ftp://example.com/",
    "ytsearch:x",
    "http://127.0.0.1/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://localhost/",
    "http://[::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://169.254.169.254/latest/meta-data",
    "http://metadata.google.internal/",
    "http://10.0.0.1/",
    "http://192.168.1.1/",
    "http://[fd00::1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://user:pass@example.com/",
    "http://router/",
    "http://①②⑦.0.0.1/",
    "https://exam ple.com/",
    "https://exam\nple.com/",
    " file:///etc/passwd",
    " http://127.0.0.1/\n",
];

fn post(i: &Instance, body: &str) -> (u16, String) {
    let response = i.send(&Request::new("POST", "/api/info").key(i.key()).json(body));
    (response.status, if response.status >= 400 { response.code() } else { String::new() })
}

#[test]
fn a_validated_body_arrives_as_it_was_validated() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    assert_eq!(post(&i, " { \"url\" : \"https:\\/\\/Example.com/a?b=1\" } ").0, 200);
    let seen = canary.only();
    assert_eq!(seen.body, r#"{"url":"https://example.com/a?b=1"}"#);
    assert_eq!(seen.header("content-length"), [seen.body.len().to_string()]);
    assert!(seen.header("transfer-encoding").is_empty());
}

#[test]
fn white_space_around_a_url_does_not_arrive() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    assert_eq!(post(&i, r#"{"url":" \thttps://example.com/a\r\n"}"#).0, 200);
    assert_eq!(canary.only().body, r#"{"url":"https://example.com/a"}"#);
}

#[test]
fn the_refusal_of_a_private_host_names_the_setting_that_allows_it() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let response = i.post("/api/info", r#"{"url":"http://192.168.1.1/video.mp4"}"#);
    assert_eq!(response.status, 422);
    let detail = response.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("worker.allow_private"), "{detail}");
    assert!(canary.seen().is_empty());
}

#[test]
fn a_chunked_body_is_validated_as_a_whole_and_arrives_with_its_length() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let head = format!(
        "POST /api/info HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-API-Key: {}\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
        i.key()
    );
    let body = "8\r\n{\"url\":\"\r\n17\r\nhttps://example.com/a\"}\r\n0\r\n\r\n";
    assert_eq!(i.send_bytes(format!("{head}{body}").as_bytes()).status, 200);
    let seen = canary.only();
    assert_eq!((seen.body.as_str(), seen.header("transfer-encoding").len()), (r#"{"url":"https://example.com/a"}"#, 0));
    let evil = body.replace("https://example.com/a\"}", "http://127.0.0.1:80/a\"}");
    assert_eq!(i.send_bytes(format!("{head}{evil}").as_bytes()).status, 422);
    for malformed in
        ["8\r\n{\"url\":\"\r\n16\r\nhttps://example.com/a\"}\r\n0\r\n\r\n", "zz\r\n{}\r\n0\r\n\r\n", "-1\r\n\r\n"]
    {
        assert_eq!(i.send_bytes(format!("{head}{malformed}").as_bytes()).status, 400, "{malformed}");
    }
    assert_eq!(canary.seen().len(), 1);
}

#[test]
fn bad_bodies_are_refused_and_none_arrives() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    i.replace_in("policies/worker.toml", "rates = [{ limit = \"20/minute\", by = \"user\" }]", "rates = []");
    let mut i = i;
    i.kill();
    i.start_role("gateway");
    for body in
        ["", "x", "[]", "{", "{}{}", r#"{"url":"https://example.com/","url":"http://127.0.0.1/"}"#, "\u{feff}{}"]
    {
        assert_eq!(post(&i, body), (400, "bad_body".into()), "{body}");
    }
    for url in REFUSED_URLS {
        assert_eq!(post(&i, &serde_json::json!({ "url": url }).to_string()), (422, "refused_value".into()), "{url}");
    }
    for body in ["{}", r#"{"url":1}"#, r#"{"url":"https://example.com/","exec":"id"}"#] {
        assert_eq!(post(&i, body), (422, "refused_value".into()), "{body}");
    }
    let text = Request::new("POST", "/api/info")
        .key(i.key())
        .header("Content-Type", "text/plain")
        .body(r#"{"url":"https://example.com/"}"#);
    assert_eq!(i.send(&text).status, 400, "a content type that another site's form can send is not accepted as JSON");
    assert!(canary.seen().is_empty(), "{:?}", canary.seen());
}

#[test]
fn unknown_qualities_and_formats_are_refused_by_name() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    for (field, value) in [("quality", "4k"), ("download_type", "film"), ("format", "exe")] {
        let body = format!(r#"{{"url":"https://example.com/","{field}":"{value}"}}"#);
        let response = i.post("/api/download", &body);
        assert_eq!(response.status, 422);
        let detail = response.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(field) && !detail.contains(value), "{detail}");
    }
    assert!(canary.seen().is_empty());
}

#[test]
fn a_body_that_is_too_large_is_refused_in_any_framing() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let large = format!(r#"{{"url":"https://example.com/{}"}}"#, "a".repeat(17_000));
    let declared = i.post("/api/info", &large);
    assert_eq!((declared.status, declared.code().as_str()), (413, "body_too_large"));
    let head = format!(
        "POST /api/info HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        i.key()
    );
    let chunked = format!("{head}{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    assert_eq!(i.send_bytes(chunked.as_bytes()).status, 413);
    assert_eq!(
        i.send(&Request::new("GET", "/api/downloads").key(i.key()).body("x")).status,
        413,
        "a GET accepts no body"
    );
    assert!(canary.seen().is_empty());
}

#[test]
fn a_validated_body_arrives_whole_even_if_trailers_follow_it_over_http2() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let status = runtime.block_on(async {
        let stream = crate::client::connect_http2(i.tls, &i.authority()).await;
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::post("https://localhost/api/info").header("x-api-key", i.key());
        let request = request.header("content-type", "application/json").body(()).unwrap();
        let (response, mut body) = client.send_request(request, false).unwrap();
        body.send_data(r#"{"url":"https://example.com/a"}"#.into(), false).unwrap();
        // So that the trailers arrive on their own; nothing shows that the gateway has read the data.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        body.send_trailers([("x-trailer".parse().unwrap(), "1".parse().unwrap())].into_iter().collect()).unwrap();
        response.await.unwrap().status().as_u16()
    });
    assert_eq!((status, canary.only().body.as_str()), (200, r#"{"url":"https://example.com/a"}"#));
}

#[test]
fn numbers_in_kept_fields_arrive_exactly_as_written() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| {
        let fields = "url = { type = \"media-url\", required = true }\n\n[[route]]\nname = \"search\"";
        let n = "n = { type = \"integer\" }\n";
        i.replace_in("policies/worker.toml", fields, &format!("{n}{fields}"));
        let info = "path = \"/api/info\"\nscopes = [\"downloads:read\"]\nrates = [{ limit = \"20/minute\", by = \"user\" }]\nmax_body = \"16KiB\"\n\n";
        i.replace_in(
            "policies/worker.toml",
            &format!("{info}[route.body.fields]"),
            &format!("{info}[route.body]\nunknown = \"keep\"\n\n[route.body.fields]"),
        );
    });
    let body = r#"{"id":12345678901234567890123,"list":[1.10,1E5,-0,{"x":9007199254740993}],"n":7,"url":"https://example.com/"}"#;
    assert_eq!(post(&i, body).0, 200);
    assert_eq!(canary.only().body, body);
    for (refused, status) in [
        (r#"{"n":7.0,"url":"https://example.com/"}"#, 422),
        (r#"{"n":9223372036854775808,"url":"https://example.com/"}"#, 422),
        (r#"{"x":1e999,"url":"https://example.com/"}"#, 400),
        (r#"{"x":{"a":1,"a":2},"url":"https://example.com/"}"#, 400),
    ] {
        assert_eq!(post(&i, refused).0, status, "{refused}");
    }
    let private = post(&i, r#"{"url":"http://168.63.129.16/machine"}"#);
    assert_eq!(private, (422, "refused_value".into()));
    assert_eq!(canary.seen().len(), 1);
}

//! The worker accepts only requests that the gateway signed.

use sallyport_core::{
    clock,
    statement::{HEADER, StatementKey},
};

use crate::{
    client::{Request, Response, sign, statement},
    origin::Origin,
    process::Worker,
};

const LIST: &str = "/api/downloads";

fn with(worker: &Worker, values: &[String]) -> Response {
    let mut request = Request::new("GET", LIST);
    for value in values {
        request = request.header(HEADER, value);
    }
    request.send(worker.address)
}

#[test]
fn only_a_fresh_statement_for_this_exact_request_is_accepted() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let good = || statement(Some("ana"), worker.address, "GET", LIST);
    let value = sign(&good());
    assert_eq!(with(&worker, std::slice::from_ref(&value)).status, 200);

    let mut old = good();
    old.at = clock::unix_now() - 31;
    let mut ahead = good();
    ahead.at = clock::unix_now() + 60;
    let other_path = statement(Some("ana"), worker.address, "GET", "/api/downloads?x=1");
    let mut other_worker = good();
    other_worker.to = "127.0.0.1:1".to_owned();
    let other_method = statement(Some("ana"), worker.address, "DELETE", LIST);
    let unsigned: Vec<Vec<String>> = vec![
        vec![],
        vec![value.clone()],
        vec![sign(&good()), sign(&good())],
        vec![StatementKey::new(b"another key of at least 32 bytes").sign(&good())],
        vec![sign(&old)],
        vec![sign(&ahead)],
        vec![sign(&other_path)],
        vec![sign(&other_worker)],
        vec![sign(&other_method)],
        vec!["v1.e30.e30".to_owned()],
        vec![String::new()],
    ];
    for (i, values) in unsigned.iter().enumerate() {
        let response = with(&worker, values);
        assert_eq!(response.status, 401, "{i}");
        assert_eq!(response.header("content-type"), Some("application/problem+json"), "{i}");
        assert_eq!((&response.json()["code"], &response.json()["status"]), (&"unsigned".into(), &401.into()), "{i}");
    }
    let nobody = with(&worker, &[sign(&statement(None, worker.address, "GET", LIST))]);
    assert_eq!((nobody.status, &nobody.json()["code"]), (403, &"no_user".into()));
}

#[test]
fn only_the_health_check_answers_without_a_statement() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let health = Request::new("GET", "/healthz").send(worker.address);
    assert_eq!((health.status, health.body), (200, b"ok".to_vec()));
    for target in ["/", "/api/downloads", "/api/search?q=x", "/docs", "/healthz/", "/api/stream/x", "/openapi.json"] {
        for method in ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT"] {
            assert_eq!(Request::new(method, target).send(worker.address).status, 401, "{method} {target}");
        }
    }
    assert_eq!(worker.get("ana", "/docs").status, 404);
    assert_eq!(worker.post("ana", "/api/downloads", "{}").status, 405);
}

#[test]
fn a_request_from_before_the_worker_started_must_be_retried() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let mut early = statement(Some("ana"), worker.address, "GET", LIST);
    early.at = clock::unix_now() - 20;
    let response = with(&worker, &[sign(&early)]);
    assert_eq!((response.status, &response.json()["code"]), (503, &"busy".into()));
    assert!(response.header("retry-after").is_some());
}

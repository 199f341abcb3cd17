//! Rates: the sixth of five a minute, by user and by address, and who is not hit by whose flood.

use crate::{canary::Canary, client::Request, instance::Instance};

const BODY: &str = r#"{"url":"https://example.com/a.mp4"}"#;

fn post(key: &str) -> Request {
    Request::new("POST", "/api/download").key(key).json(BODY)
}

#[test]
fn the_sixth_within_a_minute_is_refused_and_told_when_to_come_back() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    for n in 0..5 {
        assert_eq!(i.send(&post(i.key())).status, 200, "{n}");
    }
    let sixth = i.send(&post(i.key()));
    assert_eq!((sixth.status, sixth.code().as_str()), (429, "rate_limited"));
    let wait: u64 = sixth.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=12).contains(&wait), "{wait}");
    assert_eq!(sixth.header("ratelimit"), Some(&*format!("\"default\";r=0;t={wait}")));
    assert_eq!(sixth.header("ratelimit-policy"), Some("\"default\";q=5;w=60"));
    assert_eq!(canary.seen().len(), 5);

    let again = i.new_key(&[]);
    assert_eq!(i.send(&post(&again)).status, 429, "another key of the same user does not help");
    i.command(&["user", "add", "ana"]);
    let ana = i.new_key(&["--user", "ana"]);
    assert_eq!(i.send(&post(&ana)).status, 200, "another user has a rate of her own");
    assert_eq!(i.get("/api/downloads").status, 200, "and so has another route");
}

#[test]
fn refused_bodies_count_and_an_address_has_a_rate_before_any_credential() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    for _ in 0..5 {
        assert_eq!(i.send(&Request::new("POST", "/api/download").key(i.key()).json("{")).status, 400);
    }
    assert_eq!(i.send(&post(i.key())).status, 429);
    for _ in 6..20 {
        assert_eq!(i.send(&Request::new("POST", "/api/download").json(BODY)).status, 401);
    }
    assert_eq!(
        i.send(&Request::new("POST", "/api/download").json(BODY)).status,
        429,
        "the twenty-first of this address"
    );
    assert!(canary.seen().is_empty());
}

#[test]
fn a_spoofed_forwarded_for_is_ignored_and_a_trusted_proxys_is_not() {
    let canary = Canary::start();
    let policy = "credentials = [\"api-key\", \"jwt\"]\nrates = [{ limit = \"2/hour\", by = \"address\" }]";
    let change = |i: &Instance| {
        i.replace_in(
            "policies/worker.toml",
            "credentials = [\"api-key\", \"jwt\"]\nrates = [{ limit = \"600/minute\", by = \"user\" }]",
            policy,
        );
    };
    let get = |i: &Instance, client: &str| {
        i.send(&Request::new("GET", "/api/downloads").key(i.key()).header("X-Forwarded-For", client)).status
    };
    let i = Instance::with(&canary.address.to_string(), change);
    let statuses: Vec<u16> = (0..4).map(|n| get(&i, &format!("192.0.2.{n}"))).collect();
    assert_eq!(statuses, [200, 200, 429, 429]);

    let i = Instance::with(&canary.address.to_string(), |i| {
        change(i);
        i.replace("trusted_proxies = []", "trusted_proxies = [\"127.0.0.0/8\"]");
    });
    assert!((0..4).all(|n| get(&i, &format!("192.0.2.{n}")) == 200));
    assert_eq!(get(&i, "10.9.9.9, 192.0.2.1"), 200, "the second of this client");
    assert_eq!(get(&i, "10.8.8.8, 192.0.2.1"), 429, "what stands left of it is anybody's word");
    let flood: Vec<u16> = (0..4).map(|n| get(&i, &format!("2001:db8::{n}"))).collect();
    assert_eq!(flood, [200, 200, 429, 429], "one /64 is one client");
}

const DEFAULTS: &str = "rates = [{ limit = \"600/minute\", by = \"user\" }]";

fn with_rates(canary: &Canary, rates: &str) -> Instance {
    Instance::with(&canary.address.to_string(), |i| {
        i.replace_in("policies/worker.toml", DEFAULTS, &format!("rates = [{rates}]"));
    })
}

#[test]
fn a_route_may_have_any_number_of_rates() {
    let canary = Canary::start();
    let one =
        "{ limit = \"9/minute\", by = \"address\" }, { limit = \"9/minute\" }, { limit = \"9/minute\", by = \"key\" },";
    let i = with_rates(&canary, &one.repeat(20));
    assert!((0..9).all(|_| i.get("/api/downloads").status == 200));
    assert_eq!(i.get("/api/downloads").status, 429);
}

#[test]
fn a_rate_by_key_counts_each_key_and_a_burst_is_what_may_come_at_once() {
    let canary = Canary::start();
    let i = with_rates(&canary, "{ limit = \"60/hour\", by = \"key\", burst = 2 }");
    let other = i.new_key(&[]);
    let statuses = |key: &str| [(); 3].map(|()| i.send(&Request::new("GET", "/api/downloads").key(key)).status);
    assert_eq!((statuses(i.key()), statuses(&other)), ([200, 200, 429], [200, 200, 429]));
}

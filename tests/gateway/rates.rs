//! Rates: the sixth request of five per minute, by user and by address, and which clients a flood does not affect.

use std::{
    fs,
    io::{Read, Write},
};

use crate::{
    admin::metric,
    canary::Canary,
    client::{Request, connect},
    instance::Instance,
};

const BODY: &str = r#"{"url":"https://example.com/a.mp4"}"#;

fn post(key: &str) -> Request {
    Request::new("POST", "/api/download").key(key).json(BODY)
}

#[test]
fn the_sixth_request_within_a_minute_is_refused_and_told_when_to_retry() {
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
    assert_eq!(i.send(&post(&ana)).status, 200, "another user has her own rate");
    assert_eq!(i.get("/api/downloads").status, 200, "another route has its own rate");
}

#[test]
fn refused_bodies_count_and_an_addresss_rate_applies_before_any_credential() {
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
        "the twenty-first request of this address"
    );
    assert!(canary.seen().is_empty());
}

#[test]
fn a_spoofed_forwarded_for_is_ignored_and_a_trusted_proxys_is_used() {
    let canary = Canary::start();
    let policy = "credentials = [\"api-key\", \"jwt\"]\nrates = [{ limit = \"2/hour\", by = \"address\" }]";
    let change = |i: &Instance| {
        i.replace_in(
            "policies/worker.toml",
            "credentials = [\"api-key\", \"jwt\", \"client-certificate\"]\nrates = [{ limit = \"600/minute\", by = \"user\" }]",
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
    assert_eq!(get(&i, "10.9.9.9, 192.0.2.1"), 200, "the second request of this client");
    assert_eq!(get(&i, "10.8.8.8, 192.0.2.1"), 429, "entries to the left of it may be forged");
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
fn a_rate_by_key_counts_each_key_and_a_burst_may_arrive_at_once() {
    let canary = Canary::start();
    let i = with_rates(&canary, "{ limit = \"60/hour\", by = \"key\", burst = 2 }");
    let other = i.new_key(&[]);
    let statuses = |key: &str| [(); 3].map(|()| i.send(&Request::new("GET", "/api/downloads").key(key)).status);
    assert_eq!((statuses(i.key()), statuses(&other)), ([200, 200, 429], [200, 200, 429]));
}

#[test]
fn visitors_with_links_share_no_rate_behind_a_shared_address() {
    let canary = Canary::start();
    let open = |shared: &str| {
        Instance::with(&canary.address.to_string(), |i| {
            i.replace_in("policies/worker.toml", DEFAULTS, "rates = [{ limit = \"3/hour\", by = \"user\" }]");
            i.replace("shared_addresses = [\"127.0.0.0/8\", \"::1/128\"]", &format!("shared_addresses = [{shared}]"));
        })
    };
    let visits = |i: &Instance| {
        [(); 2].map(|()| {
            let made = i.command(&["link", "create", "/api/stream/a.mp4"]);
            let url = made["url"].as_str().unwrap();
            let target = &url[url.find("/api/").unwrap()..];
            [(); 4].map(|()| i.send(&Request::new("HEAD", target)).status)
        })
    };
    let flood_and_visitor = [[200, 200, 200, 429]; 2];
    assert_eq!(visits(&open("\"127.0.0.0/8\", \"::1/128\"")), flood_and_visitor, "each link has its own rate");
    assert_eq!(
        visits(&open("")),
        [[200, 200, 200, 429], [429; 4]],
        "at the address of a single client they also share its rate"
    );
}

/// Returns how many of 2000 clients are refused at their first request.
fn refused_newcomers(i: &Instance) -> usize {
    let refused = |batch: u8| {
        let requests = (0..100u8).flat_map(|n| {
            let last = if n == 99 { "Connection: close\r\n" } else { "" };
            let from = format!("X-Forwarded-For: 192.0.{batch}.{n}\r\n");
            format!("GET /a HTTP/1.1\r\nHost: localhost\r\n{from}{last}\r\n").into_bytes()
        });
        let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
        stream.write_all(&requests.collect::<Vec<_>>()).unwrap();
        let mut responses = Vec::new();
        let _ = stream.read_to_end(&mut responses);
        let responses = String::from_utf8_lossy(&responses);
        assert_eq!(responses.matches("HTTP/1.1 ").count(), 100);
        responses.matches("HTTP/1.1 429 ").count()
    };
    (0..20).map(refused).sum()
}

#[test]
fn beyond_max_tracked_clients_new_clients_share_slots() {
    let canary = Canary::start();
    let policy = "[[route]]\nname = \"all\"\nmethods = [\"GET\"]\npath = \"/{*rest}\"\ncredentials = []\nanonymous = true\n\
        rates = [{ limit = \"1/hour\", by = \"address\" }]\n";
    let with = |most: &str| {
        Instance::with(&canary.address.to_string(), |i| {
            fs::write(i.path("policies/worker.toml"), policy).unwrap();
            i.replace("trusted_proxies = []", "trusted_proxies = [\"127.0.0.0/8\"]");
            i.replace("max_tracked_clients = 100000", &format!("max_tracked_clients = {most}"));
        })
    };
    let few = with("1");
    assert!(refused_newcomers(&few) > 100, "of 1400 clients in 1024 slots, many collide");
    assert!(metric(&few, "sallyport_rate_limited_clients") < 1600.0);
    let many = with("100000");
    assert_eq!(refused_newcomers(&many), 0);
    assert!((metric(&many, "sallyport_rate_limited_clients") - 2000.0).abs() < 0.5);
}

#[test]
fn a_flood_of_addresses_does_not_affect_the_rates_of_known_clients() {
    let canary = Canary::start();
    let policy = "[[route]]\nname = \"all\"\nmethods = [\"GET\"]\npath = \"/{*rest}\"\ncredentials = []\nanonymous = true\n\
        rates = [{ limit = \"2/hour\", by = \"address\" }]\n";
    let i = Instance::with(&canary.address.to_string(), |i| {
        fs::write(i.path("policies/worker.toml"), policy).unwrap();
        i.replace("trusted_proxies = []", "trusted_proxies = [\"127.0.0.0/8\"]");
        i.replace("max_tracked_clients = 100000", "max_tracked_clients = 4");
    });
    let knock = |n: u8| {
        let request = Request::new("GET", "/a").key(i.key()).header("X-Forwarded-For", &format!("203.0.113.{n}"));
        i.send(&request).status
    };
    assert!((0..10).all(|n| knock(n) == 200));
    refused_newcomers(&i);
    assert!(refused_newcomers(&i) > 1_000, "the shared slots are used up");
    let statuses: Vec<u16> = (0..10).map(knock).collect();
    assert_eq!(statuses, [200; 10], "none of them was moved to a shared slot");
}

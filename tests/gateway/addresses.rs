//! Address rules: denial by network, by the names `lan` and `wan`, and by country; and what a denial reveals and costs.

use std::fs;

use crate::{
    canary::Canary,
    client::{Request, Response},
    country_database,
    instance::Instance,
};

/// Starts a gateway with these rules under `[defaults]` that trusts the test's claims about the client's address.
fn with_rules(canary: &Canary, rules: &str, change: impl FnOnce(&Instance)) -> Instance {
    Instance::with(&canary.address.to_string(), |i| {
        i.replace("trusted_proxies = []", "trusted_proxies = [\"127.0.0.0/8\"]");
        i.replace_in("policies/worker.toml", "[defaults]\n", &format!("[defaults]\n{rules}\n"));
        change(i);
    })
}

/// Gives one route its own rules.
fn on_route(i: &Instance, route: &str, rules: &str) {
    let name = format!("name = \"{route}\"\n");
    i.replace_in("policies/worker.toml", &name, &format!("{name}{rules}\n"));
}

fn from(i: &Instance, client: &str, request: Request) -> Response {
    i.send(&request.header("X-Forwarded-For", client))
}

fn get(i: &Instance, client: &str, path: &str) -> u16 {
    from(i, client, Request::new("GET", path).key(i.key())).status
}

fn statuses<const N: usize>(i: &Instance, clients: [&str; N]) -> [u16; N] {
    clients.map(|client| get(i, client, "/api/downloads"))
}

#[test]
fn routes_for_the_lan_are_closed_to_the_wan() {
    let canary = Canary::start();
    let i = with_rules(&canary, "allow_from = [\"lan\"]", |_| ());
    for client in ["127.0.0.1", "10.0.0.7", "192.168.1.7", "169.254.1.1", "fd00::7", "fe80::7", "::ffff:10.0.0.7"] {
        assert_eq!(get(&i, client, "/api/downloads"), 200, "{client}");
    }
    let arrived = canary.seen().len();
    for client in ["192.0.2.7", "100.64.0.7", "2001:db8::7", "::ffff:192.0.2.7"] {
        let response = from(&i, client, Request::new("GET", "/api/downloads").key(i.key()));
        assert_eq!((response.status, response.code().as_str()), (403, "address_denied"), "{client}");
    }
    assert_eq!(canary.seen().len(), arrived);
    assert_eq!(statuses(&with_rules(&canary, "deny_from = [\"wan\"]", |_| ()), ["10.0.0.7", "192.0.2.7"]), [200, 403]);
}

#[test]
fn without_a_trusted_proxy_the_sockets_address_counts() {
    let canary = Canary::start();
    let rules = |rules: &str| {
        Instance::with(&canary.address.to_string(), |i| {
            i.replace_in("policies/worker.toml", "[defaults]\n", &format!("[defaults]\n{rules}\n"));
        })
    };
    assert_eq!(
        statuses(&rules("deny_from = [\"lan\"]"), ["192.0.2.7"]),
        [403],
        "the address is 127.0.0.1, whatever the header says"
    );
    assert_eq!(statuses(&rules("allow_from = [\"127.0.0.1\"]"), ["192.0.2.7"]), [200]);
}

#[test]
fn a_denied_address_learns_nothing_about_routes_and_credentials() {
    let canary = Canary::start();
    let i = with_rules(&canary, "allow_from = [\"lan\"]", |i| {
        i.replace("cors_origins = []", "cors_origins = [\"https://a.example\"]");
    });
    let preflight = |path: &str| {
        let request = Request::new("OPTIONS", path).header("Origin", "https://a.example");
        request.header("Access-Control-Request-Method", "GET")
    };
    let body = |response: &Response| {
        let mut problem = response.json();
        problem["instance"].take();
        problem
    };
    let send = |request: Request| from(&i, "192.0.2.7", request);
    let first = body(&send(Request::new("GET", "/api/downloads").key(i.key())));
    for request in [
        Request::new("GET", "/api/downloads"),
        Request::new("GET", "/api/downloads").key("sp_wrong"),
        Request::new("GET", "/api/downloads").key(i.key()).bearer("two"),
        Request::new("GET", "/api/downloads").header("Origin", "https://a.example"),
        Request::new("PATCH", "/api/downloads"),
        Request::new("GET", "/nowhere"),
        Request::new("POST", "/api/download").json("{"),
        Request::new("POST", "/.sallyport/links").key(i.key()).json("{}"),
        preflight("/api/downloads"),
        preflight("/nowhere"),
    ] {
        let response = send(request.clone());
        assert_eq!(response.status, 403, "{request:?}");
        assert_eq!(body(&response), first, "{request:?}");
        assert_eq!(response.header("vary"), Some("Origin"), "the same on every route: {request:?}");
    }
    let line = i.log_line(&send(Request::new("GET", "/api/downloads").key(i.key())));
    assert_eq!((&line["code"], &line["client_ip"]), (&"address_denied".into(), &"192.0.2.7".into()));
    assert_eq!((&line["app"], &line["route"], &line["user"]), (&"worker".into(), &"list-downloads".into(), &().into()));
    assert!(canary.seen().is_empty());
    assert_eq!(from(&i, "10.0.0.7", preflight("/api/downloads")).status, 204, "an allowed address gets a response");
    assert_eq!(get(&i, "10.0.0.7", "/nowhere"), 404);
}

#[test]
fn a_denied_address_does_not_learn_which_routes_accept_file_names() {
    let canary = Canary::start();
    let i = with_rules(&canary, "allow_from = [\"lan\"]", |_| ());
    let paths = ["/api/stream/a%EF%BC%8Fb", "/api/info/a%EF%BC%8Fb", "/nowhere/a%EF%BC%8Fb"];
    assert_eq!(paths.map(|path| get(&i, "192.0.2.7", path)), [403; 3]);
    assert_eq!(paths.map(|path| get(&i, "10.0.0.7", path)), [200, 400, 400]);
    assert_eq!(canary.seen().len(), 1);
}

#[test]
fn a_denied_address_does_not_use_up_the_rate_of_others() {
    let canary = Canary::start();
    // Both are in one /64, by which rates are counted.
    let i = with_rules(&canary, "deny_from = [\"2001:db8::1\"]", |i| {
        on_route(i, "list-downloads", "rates = [{ limit = \"2/hour\", by = \"address\" }]");
    });
    assert_eq!(statuses(&i, ["2001:db8::1"; 5]), [403; 5]);
    assert_eq!(statuses(&i, ["2001:db8::2"; 3]), [200, 200, 429]);
    assert_eq!(statuses(&i, ["2001:db8::1"]), [403]);
}

#[test]
fn a_denied_network_wins_over_an_allowed_one_and_others_are_denied() {
    let canary = Canary::start();
    let rules =
        "allow_from = [\"192.0.2.0/24\", \"2001:db8::/32\"]\ndeny_from = [\"192.0.2.66\", \"2001:db8:66::/48\"]";
    let i = with_rules(&canary, rules, |_| ());
    assert_eq!(statuses(&i, ["192.0.2.1", "192.0.2.66", "192.0.3.1", "10.0.0.1"]), [200, 403, 403, 403]);
    assert_eq!(statuses(&i, ["2001:db8:1::1", "2001:db8:66::1", "2001:db9::1"]), [200, 403, 403]);
}

#[test]
fn a_routes_own_list_replaces_that_of_the_defaults() {
    let canary = Canary::start();
    let i = with_rules(&canary, "allow_from = [\"lan\"]\ndeny_from = [\"10.0.0.66\"]", |i| {
        on_route(i, "stream", "allow_from = []");
        on_route(i, "search", "allow_from = [\"192.0.2.0/24\"]\ndeny_from = []");
    });
    let statuses =
        |path: &str| ["10.0.0.1", "10.0.0.66", "192.0.2.1", "198.51.100.1"].map(|client| get(&i, client, path));
    assert_eq!(statuses("/api/downloads"), [200, 403, 403, 403]);
    assert_eq!(
        statuses("/api/stream/x"),
        [200, 403, 200, 200],
        "the defaults apply to a list that the route does not have"
    );
    assert_eq!(statuses("/api/search"), [403, 403, 200, 403]);
    let link = i.post("/.sallyport/links", r#"{"path":"/api/search"}"#);
    assert_eq!(link.status, 422, "the gateway's own route is for the lan, where this test is");
}

/// 192.0.2.0/24 and 2001:db8::/32 in Germany, 198.51.100.0/25 in France.
fn atlas(kind: &str) -> Vec<u8> {
    country_database::write(kind, &[("192.0.2.0", 24, "DE"), ("198.51.100.0", 25, "FR"), ("2001:db8::", 32, "DE")])
}

fn name_database(i: &Instance, bytes: &[u8]) {
    fs::write(i.path("countries.mmdb"), bytes).unwrap();
    i.replace("\n[tls]", "geoip = \"countries.mmdb\"\n[tls]");
}

#[test]
fn a_country_is_looked_up_in_the_configured_database() {
    let canary = Canary::start();
    let i = with_rules(&canary, "deny_from = [\"country:FR\", \"country:RU\"]", |i| {
        name_database(i, &atlas("GeoLite2-Country"));
        on_route(i, "search", "allow_from = [\"lan\", \"country:DE\"]");
    });
    let clients = ["192.0.2.1", "2001:db8::1", "198.51.100.1", "198.51.100.128", "203.0.113.1", "10.0.0.1"];
    assert_eq!(statuses(&i, clients), [200, 200, 403, 200, 200, 200], "an address without a known country is in none");
    assert_eq!(clients.map(|client| get(&i, client, "/api/search")), [200, 200, 403, 403, 403, 200]);
}

#[test]
fn an_invalid_entry_of_an_address_list_is_a_fault_at_its_position() {
    for (list, column, words) in [
        ("allow_from = [\"lan\", \"country:DE\"]", 22, "[gateway] geoip"),
        ("deny_from = [\"country:UK\"]", 14, "write two capital letters"),
        ("deny_from = [\"192.168.1.5/24\"]", 14, "write \"192.168.1.0/24\""),
        ("allow_from = [\"nas.local\"]", 15, "write \"lan\", \"wan\""),
        ("allow_from = [\"::ffff:192.0.2.0/120\"]", 15, "write the IPv4 network"),
    ] {
        for under in ["[defaults]\n", "name = \"search\"\n"] {
            let i = Instance::made(&[]);
            i.replace_in("policies/worker.toml", under, &format!("{under}{list}\n"));
            let policy = fs::read_to_string(i.path("policies/worker.toml")).unwrap();
            let line = policy.lines().position(|line| line == list).unwrap() + 1;
            let report = i.output(&["check"]);
            let found = String::from_utf8_lossy(&report.stdout).replace("\\\"", "\"");
            assert_eq!(report.status.code(), Some(1), "{list}");
            assert!(
                found.contains(&format!("worker.toml:{line}:{column}: ")) && found.contains(words),
                "{list}: {found}"
            );
            assert_eq!(i.spawn("gateway", &[]).wait().unwrap().code(), Some(1), "{list}: startup finds it too");
        }
    }
}

#[test]
fn a_database_that_is_broken_or_has_no_countries_prevents_startup() {
    let whole = atlas("GeoLite2-Country");
    let mut broken = whole.clone();
    broken[7] = 0xfe; // the second branch of the root now leads outside the tree
    for (bytes, words) in [
        (atlas("GeoLite2-ASN"), "GeoLite2-ASN"),
        (b"no database".to_vec(), "name a country database"),
        (whole[..whole.len() - 40].to_vec(), "name a country database"),
        (broken, "name a country database"),
    ] {
        let i = Instance::made(&[]);
        name_database(&i, &bytes);
        let report = i.output(&["check"]);
        let found = String::from_utf8_lossy(&report.stdout).into_owned();
        assert!(found.contains(words) && found.contains("countries.mmdb"), "{found}");
        assert_eq!(i.spawn("gateway", &[]).wait().unwrap().code(), Some(1));
    }
    let i = Instance::made(&[]);
    name_database(&i, &whole);
    assert_eq!(i.command(&["check"])["ok"], true);
    fs::remove_file(i.path("countries.mmdb")).unwrap();
    assert_eq!(i.output(&["check"]).status.code(), Some(1));
    assert_eq!(i.spawn("gateway", &[]).wait().unwrap().code(), Some(1));
}

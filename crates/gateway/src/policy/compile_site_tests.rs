//! Tests of what a policy becomes: what routes inherit, the gateway's own routes, and what a reload keeps.

use std::{
    num::{NonZeroU32, NonZeroU64},
    sync::Arc,
};

use http::Method;

use super::{
    super::{Route, Stated, route::Handler},
    tests::{CONFIG, ROUTE, compile_for, compile_policy},
    *,
};
use crate::identity::CredentialKind;

/// A key of `[defaults]`, and what a route has without it, with it, and with a value of its own.
struct InheritedKey {
    in_defaults: &'static str,
    in_route: &'static str,
    unset: &'static str,
    inherited: &'static str,
    own: &'static str,
    show: fn(&Route) -> String,
}

const INHERITED: &[InheritedKey] = &[
    InheritedKey {
        in_defaults: "credentials = [\"link\"]",
        in_route: "credentials = [\"api-key\"]",
        unset: "[ApiKey, Jwt, ClientCertificate]",
        inherited: "[Link]",
        own: "[ApiKey]",
        show: |route| {
            let kinds = CredentialKind::ALL.iter().filter(|kind| route.credentials.contains(**kind));
            format!("{:?}", kinds.collect::<Vec<_>>())
        },
    },
    InheritedKey {
        in_defaults: "rates = [{ limit = \"5/minute\" }]",
        in_route: "rates = []",
        unset: "0",
        inherited: "1",
        own: "0",
        show: |route| route.limits.len().to_string(),
    },
    InheritedKey {
        in_defaults: "max_body = \"1KiB\"",
        in_route: "max_body = \"2KiB\"",
        unset: "65536",
        inherited: "1024",
        own: "2048",
        show: |route| route.max_body.to_string(),
    },
    InheritedKey {
        in_defaults: "cors = true",
        in_route: "cors = false",
        unset: "false",
        inherited: "true",
        own: "false",
        show: |route| route.cors.to_string(),
    },
    InheritedKey {
        in_defaults: "allow_from = [\"lan\"]",
        in_route: "allow_from = []",
        unset: "[]",
        inherited: "[Lan]",
        own: "[]",
        show: |route| format!("{:?}", route.addresses.allow),
    },
    InheritedKey {
        in_defaults: "deny_from = [\"lan\"]",
        in_route: "deny_from = [\"wan\"]\nallow_from = []",
        unset: "[]",
        inherited: "[Lan]",
        own: "[Wan]",
        show: |route| format!("{:?}", route.addresses.deny),
    },
    InheritedKey {
        in_defaults: "link_ignores = [\"utm_*\"]",
        in_route: "link_ignores = []",
        unset: "12",
        inherited: "1",
        own: "0",
        show: |route| route.link_ignores.len().to_string(),
    },
];

#[test]
fn a_route_inherits_each_default_unless_it_has_a_value_of_its_own() {
    let shown = |text: &str, row: &InheritedKey| (row.show)(&compile_policy(text, None).unwrap().all_routes[0]);
    for row in INHERITED {
        let InheritedKey { in_defaults, in_route, .. } = row;
        assert_eq!(shown(ROUTE, row), row.unset, "{in_defaults}");
        assert_eq!(shown(&format!("{ROUTE}[defaults]\n{in_defaults}\n"), row), row.inherited, "{in_defaults}");
        let both = format!("{ROUTE}{in_route}\n[defaults]\n{in_defaults}\n");
        assert_eq!(shown(&both, row), row.own, "{in_defaults}");
    }
}

#[test]
fn a_field_without_a_maximum_has_the_default_one() {
    let fields = "body.fields.t = { type = \"text\" }\nbody.fields.w = { type = \"words\" }\nbody.fields.i = { type = \"integer\" }\n\
        body.fields.tm = { type = \"text\", max = 9 }\nbody.fields.wm = { type = \"words\", max = 9 }\n\
        body.fields.im = { type = \"integer\", min = 1, max = 9 }\n";
    let app = compile_policy(&format!("{ROUTE}{fields}"), None).unwrap();
    let kinds: Vec<_> =
        app.all_routes[0].body.as_ref().unwrap().fields.iter().map(|f| format!("{:?}", f.kind)).collect();
    let unlimited = format!("Integer {{ min: {}, max: {} }}", i64::MIN, i64::MAX);
    let expected = [
        &unlimited,
        "Integer { min: 1, max: 9 }",
        "Text { max_chars: 1024 }",
        "Text { max_chars: 9 }",
        "Words { max: 16 }",
        "Words { max: 9 }",
    ];
    assert_eq!(kinds, expected);
}

/// The handler of a request by method and path.
fn handler(app: &App, method: &Method, path: &str) -> Option<Handler> {
    app.routes.at(path)?.route(method).map(|route| route.handler)
}

#[test]
fn every_site_creates_links_and_only_the_workers_without_a_page_shows_the_welcome_page() {
    let statement = "[upstream]\nstatement = true\n";
    let root = ROUTE.replace("/items", "/");
    let rest = ROUTE.replace("/items", "/{*rest}");
    for (text, page) in [
        (ROUTE.to_owned(), None),
        (format!("{ROUTE}{statement}"), Some(Handler::Welcome)),
        (format!("{root}{statement}"), Some(Handler::Upstream)),
        (format!("{rest}{statement}"), Some(Handler::Upstream)),
    ] {
        let app = compile_policy(&text, None).unwrap();
        assert_eq!(handler(&app, &Method::GET, "/"), page, "{text}");
        assert_eq!(handler(&app, &Method::POST, "/.sallyport/links"), Some(Handler::CreateLink), "{text}");
    }
    let below = format!("{CONFIG}prefix = \"/shop\"\n");
    let app = compile_for(&below, &format!("{ROUTE}{statement}"), None).unwrap();
    assert_eq!(handler(&app, &Method::GET, "/"), None, "the page of another application");
}

#[test]
fn the_gateways_own_routes_follow_the_addresses_and_origins_of_the_application() {
    let more =
        "[defaults]\ndeny_from = [\"wan\"]\n[upstream]\nstatement = true\n[cors]\norigins = [\"https://a.example\"]\n";
    let app = compile_policy(&format!("{ROUTE}{more}"), None).unwrap();
    let own: Vec<_> = app.all_routes.iter().filter(|route| route.handler != Handler::Upstream).collect();
    assert_eq!(
        own.iter().map(|route| (&*route.name, route.cors)).collect::<Vec<_>>(),
        [("create-link", true), ("welcome", false)]
    );
    assert!(own.iter().all(|route| route.addresses.deny.len() == 1));
    let without = compile_policy(ROUTE, None).unwrap();
    assert!(without.all_routes.iter().all(|route| !route.cors && route.addresses.deny.is_empty()));
}

#[test]
fn the_rest_of_a_path_can_be_empty_unless_that_path_has_its_own_route() {
    let rest = "[[route]]\nname = \"rest\"\nmethods = [\"GET\", \"PUT\"]\npath = \"/items/{*rest}\"\n";
    let root = ROUTE.replace("/items", "/items/");
    let name = |app: &App, method: &Method, path: &str| {
        app.routes.at(path).and_then(|matched| matched.route(method).map(|route| route.name.to_string()))
    };
    let alone = compile_policy(rest, None).unwrap();
    assert_eq!(name(&alone, &Method::GET, "/items/").as_deref(), Some("rest"));
    assert_eq!(name(&alone, &Method::GET, "/items"), None);
    for text in [format!("{root}{rest}"), format!("{rest}{root}")] {
        let both = compile_policy(&text, None).unwrap();
        assert_eq!(name(&both, &Method::GET, "/items/").as_deref(), Some("list"));
        assert_eq!(name(&both, &Method::PUT, "/items/").as_deref(), Some("rest"));
        assert_eq!(name(&both, &Method::HEAD, "/items/7").as_deref(), Some("rest"));
    }
}

#[test]
fn a_reload_keeps_the_counts_of_rates_that_it_does_not_change() {
    let rates = |text: &str| format!("{ROUTE}rates = [{text}]\n");
    let old =
        compile_policy(&rates("{ limit = \"5/minute\" }, { limit = \"9/hour\", by = \"address\" }"), None).unwrap();
    for (text, kept) in [
        ("{ limit = \"5/minute\" }, { limit = \"9/hour\", by = \"address\" }", [true, true]),
        ("{ limit = \"5/minute\", burst = 1 }, { limit = \"9/hour\", by = \"address\" }", [false, true]),
        ("{ limit = \"6/minute\" }, { limit = \"9/hour\", by = \"user\" }", [false, false]),
    ] {
        let new = compile_policy(&rates(text), Some(&old)).unwrap();
        let both = new.all_routes[0].limits.iter().zip(&old.all_routes[0].limits);
        assert_eq!(both.map(|(new, old)| Arc::ptr_eq(&new.tracker, &old.tracker)).collect::<Vec<_>>(), kept, "{text}");
    }
    let renamed = compile_policy(&rates("{ limit = \"5/minute\" }").replace("list", "other"), Some(&old)).unwrap();
    assert!(!Arc::ptr_eq(&renamed.all_routes[0].limits[0].tracker, &old.all_routes[0].limits[0].tracker));
}

#[test]
fn an_application_is_told_if_no_route_can_be_under_its_prefix() {
    let reached = |prefix: &str, path: &str| {
        let config = format!("{CONFIG}prefix = \"{prefix}\"\n");
        compile_for(&config, &ROUTE.replace("/items", path), None).unwrap().has_routes_under_its_prefix()
    };
    for (prefix, path) in
        [("/", "/items"), ("/items", "/items"), ("/a/", "/a/b"), ("/a/b", "/{x}/b"), ("/a/b", "/{*rest}")]
    {
        assert!(reached(prefix, path), "{prefix} {path}");
    }
    for (prefix, path) in [("/a", "/items"), ("/item", "/items"), ("/items/x", "/items"), ("/a/b", "/{x}/c")] {
        assert!(!reached(prefix, path), "{prefix} {path}");
    }
}

#[test]
fn a_statement_has_the_address_of_its_application_and_the_limits_of_each_user() {
    assert_eq!(compile_policy(ROUTE, None).unwrap().statement, None);
    let limits = "limits = { concurrent_downloads = 2, max_filesize = \"1KiB\" }\n";
    let app = compile_policy(&format!("{ROUTE}[upstream]\nstatement = true\n{limits}"), None).unwrap();
    let Stated { to, limits } = app.statement.unwrap();
    assert_eq!(to, "127.0.0.1:8001");
    assert_eq!(limits.concurrent_downloads.map(NonZeroU32::get), Some(2));
    assert_eq!((limits.waiting_downloads, limits.max_filesize.map(NonZeroU64::get)), (None, Some(1024)));
}

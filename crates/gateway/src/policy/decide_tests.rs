//! Tests of the order of a decision, step by step as `docs/policies.md` describes it.

#[path = "decide_fixture_tests.rs"]
mod fixture;

use std::{collections::BTreeSet, ops::RangeInclusive};

use http::Method;

use self::fixture::{FORGED_KEY, KEY, NOW, OLD_KEY, POOR_KEY, Presented, Sent, site};
use super::{
    super::{Denial, Guess, Reason as R, Trace},
    *,
};

/// A defect of a request, and how the request ends that has it and the defects of all later rows.
struct Row {
    /// The number of the step in `docs/policies.md`.
    step: usize,
    name: &'static str,
    reason: Reason,
    /// The steps that were passed.
    passed: &'static str,
    spoil: fn(&mut Sent),
}

const fn row(step: usize, name: &'static str, reason: Reason, passed: &'static str, spoil: fn(&mut Sent)) -> Row {
    Row { step, name, reason, passed, spoil }
}

/// The steps before those about the body, for a request without a defect.
const PASSED: &str = "app route address origin address-rate api-key authenticated scopes user-rate";

/// The defects in the order in which they are found. Of two rows that spoil the same part, the first wins.
const ROWS: &[Row] = &[
    row(3, "host", R::BadHost, "", |s| s.host = "shop.example."),
    row(3, "connection for another host", R::Misdirected, "", |s| s.addressing = Addressing::Misdirected),
    row(4, "dot segment", R::BadPath, "", |s| s.name = "../a%EF%BC%8Fb;v=1"),
    row(5, "host of no application", R::NoRoute, "", |s| s.host = "other.example"),
    row(5, "path parameter", R::BadPath, "app", |s| s.name = "a%EF%BC%8Fb;v=1"),
    row(5, "query", R::BadPath, "app", |s| s.query = "a#b"),
    row(6, "address, without a route", R::AddressDenied, "app", |s| {
        s.client = "203.0.113.9";
        s.folder = "nowhere";
    }),
    row(6, "address, with a route", R::AddressDenied, "app route", |s| {
        s.client = "203.0.113.9";
        s.method = Method::POST;
        s.folder = "orders";
    }),
    row(7, "lookalike of a separator", R::BadPath, "app address", |s| s.name = "a%EF%BC%8Fb"),
    row(7, "unknown path and method", R::UnknownMethod, "app address", |s| s.method = Method::TRACE),
    row(7, "unknown path", R::NoRoute, "app address", |s| s.folder = "nowhere"),
    row(7, "preflight by a page of another origin", R::ForeignOrigin, "app route address", |s| {
        s.method = Method::OPTIONS;
        s.origin = "https://evil.example";
    }),
    row(7, "method that no route can have", R::UnknownMethod, "app address", |s| s.method = Method::TRACE),
    row(7, "method that the path lacks, for a client that can use none", R::NoRoute, "app address", |s| {
        s.method = Method::DELETE;
        s.presented = Presented::Nothing;
    }),
    row(8, "page of another origin", R::ForeignOrigin, "app route address", |s| s.origin = "https://evil.example"),
    row(9, "rate of the address", R::RateLimited, "app route address origin", |s| s.is_address_spent = true),
    row(10, "two keys", R::TwoCredentials, "app route address origin address-rate", |s| {
        s.presented = Presented::TwoKeys;
    }),
    row(10, "forged key", R::BadCredential, "app route address origin address-rate api-key", |s| {
        s.presented = Presented::Key(FORGED_KEY);
    }),
    row(10, "expired key", R::ExpiredCredential, "app route address origin address-rate api-key", |s| {
        s.presented = Presented::Key(OLD_KEY);
    }),
    row(10, "forged link", R::BadLink, "app route address origin address-rate link", |s| {
        s.presented = Presented::ForgedLink;
    }),
    row(10, "expired link", R::ExpiredLink, "app route address origin address-rate link", |s| {
        s.presented = Presented::Link(NOW - 1);
    }),
    row(10, "no credential", R::NotAuthenticated, "app route address origin address-rate anonymous", |s| {
        s.presented = Presented::Nothing;
    }),
    row(10, "token of a removed user", R::UnknownUser, "app route address origin address-rate jwt", |s| {
        s.presented = Presented::Token("eve");
    }),
    row(
        10,
        "certificate, for a page of another origin",
        R::ForeignOrigin,
        "app route address origin address-rate client-certificate",
        |s| s.presented = Presented::Certificate,
    ),
    row(
        10,
        "kind that the route does not accept",
        R::CredentialNotAccepted,
        "app route address origin address-rate jwt authenticated",
        |s| s.presented = Presented::Token("ana"),
    ),
    row(
        10,
        "link for another method than GET",
        R::CredentialNotAccepted,
        "app route address origin address-rate link authenticated",
        |s| s.presented = Presented::Link(NOW),
    ),
    row(10, "scope", R::InsufficientScope, "app route address origin address-rate api-key authenticated", |s| {
        s.presented = Presented::Key(POOR_KEY);
    }),
    row(
        11,
        "rate of the user",
        R::RateLimited,
        "app route address origin address-rate api-key authenticated scopes",
        |s| s.is_user_spent = true,
    ),
    row(12, "length that is no number", R::BadBody, PASSED, |s| s.length = Some("many")),
    row(12, "length", R::BodyTooLarge, PASSED, |s| s.length = Some("1025")),
    row(13, "type of the body", R::BadBody, PASSED, |s| s.content_type = "text/plain"),
    row(13, "body that is no object", R::BadBody, PASSED, |s| s.body = "[]"),
    row(13, "value in the body", R::RefusedValue, PASSED, |s| s.body = "{\"n\":\"many\"}"),
];

/// The first step that `Site::decide` takes, and the last one of `PendingBody::judge`; other rooms take the others.
const STEPS: RangeInclusive<usize> = 3..=13;

/// The reasons of these steps that no defect leads to: a client is told the methods of a path only if it could use one of them, and how
/// fast a body arrives is not known here.
const WITHOUT_A_ROW: [(usize, &str); 2] = [(7, "method_not_allowed"), (13, "body_too_slow")];

/// The steps, one word each.
fn words(steps: &Trace) -> String {
    let word = |step: &Step| match step {
        Step::App(_) => "app",
        Step::Route(_) => "route",
        Step::AddressAllowed => "address",
        Step::OriginAllowed => "origin",
        Step::AddressRate => "address-rate",
        Step::Presented(kind) => kind.name(),
        Step::Authenticated => "authenticated",
        Step::Anonymous => "anonymous",
        Step::Scopes => "scopes",
        Step::UserRate => "user-rate",
        Step::Body => "body",
        Step::Denied(reason) => reason.code(),
    };
    steps.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_first_step_that_fails_ends_the_decision_whatever_else_is_wrong() {
    for (i, row) in ROWS.iter().enumerate() {
        let mut sent = Sent::good();
        ROWS[i..].iter().rev().for_each(|row| (row.spoil)(&mut sent));
        let denial = sent.outcome().unwrap_err();
        assert_eq!(denial.reason, row.reason, "{}", row.name);
        let passed = format!("{} {}", row.passed, row.reason.code());
        assert_eq!(words(&denial.steps), passed.trim_start(), "{}", row.name);
    }
}

#[test]
fn each_defect_alone_is_a_reason_and_without_any_the_request_is_forwarded() {
    for row in ROWS {
        let mut sent = Sent::good();
        (row.spoil)(&mut sent);
        assert_eq!(sent.outcome().unwrap_err().reason, row.reason, "{}", row.name);
    }
    let permit = Sent::good().outcome().unwrap();
    assert_eq!(words(permit.steps()), format!("{PASSED} body"));
    assert_eq!(permit.body(), Some(&b"{\"n\":1}"[..]));
}

#[test]
fn the_rows_are_the_steps_that_the_document_describes() {
    let document = include_str!("../../../../docs/policies.md");
    let order = document.split_once("## The order of a decision").unwrap().1.split_once("\n## ").unwrap().0;
    let step = |number| order.split_once(&format!("\n{number}. **")).unwrap().1;
    let described = STEPS.flat_map(|number| {
        let text = step(number).split_once(&format!("\n{}. ", number + 1)).unwrap().0;
        let codes = Reason::ALL.iter().map(|reason| reason.code());
        codes.filter(move |code| text.contains(&format!("`{code}`"))).map(move |code| (number, code))
    });
    let mut described: BTreeSet<_> = described.collect();
    for reason in WITHOUT_A_ROW {
        assert!(described.remove(&reason), "{reason:?}");
    }
    assert_eq!(ROWS.iter().map(|row| (row.step, row.reason.code())).collect::<BTreeSet<_>>(), described);
    assert!(ROWS.is_sorted_by_key(|row| row.step));
}

/// A request to read, which any kind of credential but a certificate is accepted for.
fn reading(presented: Presented) -> Sent {
    Sent { method: Method::GET, origin: "https://shop.example", presented, ..Sent::good() }
}

#[test]
fn a_request_is_forwarded_without_the_credential_in_its_query() {
    for (presented, query, kind, target) in [
        (Presented::Key(KEY), "page=2", "api-key", None),
        (Presented::Token("ana"), "page=2", "jwt", None),
        (Presented::Link(NOW), "", "link", Some("/orders/7")),
        (Presented::Link(NOW), "utm_source=x", "link", Some("/orders/7")),
        (Presented::OfflineTubeLink, "page=2&utm_source=x", "offlinetube-link", Some("/orders/7?page=2")),
    ] {
        let permit = Sent { query, ..reading(presented) }.outcome().unwrap();
        let passed = format!("app route address address-rate {kind} authenticated scopes user-rate");
        assert_eq!(words(permit.steps()), passed);
        assert_eq!(permit.rewritten_target("/orders/7").as_deref(), target, "{kind}");
        assert_eq!(permit.identity().unwrap().user.as_str(), "ana", "{kind}");
    }
}

#[test]
fn a_route_for_everybody_refuses_only_a_credential_that_is_not_valid() {
    let about = |presented| Sent { folder: "about", name: "us", ..reading(presented) }.outcome();
    let passed = |presented| about(presented).map(|permit| words(permit.steps())).map_err(|denial| denial.reason);
    let anonymous = "app route address address-rate anonymous user-rate";
    assert_eq!(passed(Presented::Nothing), Ok(anonymous.to_owned()));
    // The route reads no certificate, and leaves parameters of links to the application.
    assert_eq!(passed(Presented::Certificate), Ok(anonymous.to_owned()));
    assert_eq!(passed(Presented::OfflineTubeLink), Ok(anonymous.to_owned()));
    let known = "app route address address-rate api-key authenticated scopes user-rate";
    assert_eq!(passed(Presented::Key(POOR_KEY)), Ok(known.to_owned()));
    assert_eq!(passed(Presented::Key(FORGED_KEY)), Err(Reason::BadCredential));
    assert_eq!(passed(Presented::Key(OLD_KEY)), Err(Reason::ExpiredCredential));
    assert_eq!(passed(Presented::ForgedLink), Err(Reason::BadLink));
}

#[test]
fn only_a_forged_credential_counts_as_a_guess() {
    for (presented, reason, guess) in [
        (Presented::Nothing, Reason::NotAuthenticated, Guess::No),
        (Presented::TwoKeys, Reason::TwoCredentials, Guess::No),
        (Presented::Key(FORGED_KEY), Reason::BadCredential, Guess::Yes),
        (Presented::Key(OLD_KEY), Reason::ExpiredCredential, Guess::No),
        (Presented::Key(POOR_KEY), Reason::InsufficientScope, Guess::No),
        (Presented::Token("eve"), Reason::UnknownUser, Guess::No),
        (Presented::ForgedLink, Reason::BadLink, Guess::Yes),
        (Presented::CutLink, Reason::BadLink, Guess::No),
        (Presented::Link(NOW - 1), Reason::ExpiredLink, Guess::No),
    ] {
        let denial = reading(presented).outcome().unwrap_err();
        assert_eq!((denial.reason, denial.guess), (reason, guess));
    }
    let altered = Sent { query: "page=2", ..reading(Presented::Link(NOW)) }.outcome().unwrap_err();
    assert_eq!((altered.reason, altered.guess), (Reason::BadLink, Guess::No));
}

#[test]
fn the_methods_of_a_path_are_told_to_clients_that_can_use_one_of_them() {
    let delete = |sent: Sent| Sent { method: Method::DELETE, ..sent }.outcome().unwrap_err();
    let allow = |denial: &Denial| denial.allow.as_ref().map(|value| value.to_str().unwrap().to_owned());
    for (sent, allowed) in [
        (reading(Presented::Key(KEY)), Some("POST, GET, HEAD")),
        (reading(Presented::Token("ana")), Some("GET, HEAD")),
        (Sent { client: "198.51.100.1", ..reading(Presented::Key(KEY)) }, Some("POST")),
        (Sent { is_address_spent: true, ..reading(Presented::Key(KEY)) }, Some("GET, HEAD")),
        (reading(Presented::Nothing), None),
        (reading(Presented::Key(POOR_KEY)), None),
        (reading(Presented::Key(FORGED_KEY)), None),
    ] {
        let denial = delete(sent);
        assert_eq!(allow(&denial).as_deref(), allowed);
        let reason = if allowed.is_some() { Reason::MethodNotAllowed } else { Reason::NoRoute };
        assert_eq!(denial.reason, reason);
        assert_eq!(denial.identity.is_some(), allowed.is_some(), "an unknown path names no user");
    }
    assert_eq!(delete(reading(Presented::Key(FORGED_KEY))).guess, Guess::Yes);
}

#[test]
fn a_preflight_is_answered_for_an_allowed_origin_and_method_only() {
    let preflight = |origin, method| {
        let sent = Sent { method: Method::OPTIONS, origin, preflight: method, ..Sent::good() };
        match sent.decide(&site()) {
            Decision::Preflight(response) => Ok(response.methods),
            Decision::Respond(denial) => Err(denial.reason),
            Decision::Forward(_) | Decision::Judge(_) => unreachable!("a preflight was forwarded"),
        }
    };
    assert_eq!(preflight("https://partner.example", "POST").unwrap(), "POST");
    // The route for GET has no CORS.
    assert_eq!(preflight("https://partner.example", "GET"), Err(Reason::ForeignOrigin));
    assert_eq!(preflight("https://partner.example", "DELETE"), Err(Reason::ForeignOrigin));
    assert_eq!(preflight("https://evil.example", "POST"), Err(Reason::ForeignOrigin));
}

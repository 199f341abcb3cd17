//! Tests of signing and verifying links: a link opens its own target only.

use data_encoding::BASE64URL_NOPAD;
use hmac::Mac;

use super::*;

fn keys(ids: &[&str]) -> LinkKeys {
    let lines: Vec<_> = ids.iter().map(|id| format!("{id} {}", id.repeat(64).replace('k', "a"))).collect();
    LinkKeys::parse(&lines.join("\n")).unwrap()
}

fn claims() -> LinkClaims<'static> {
    LinkClaims { app: "downloads", target: "/api/stream/a.mp4", user: "ana", expires: 1_000, id: "i1" }
}

fn verify(keys: &LinkKeys, app: &str, path: &str, query: &str, now: i64) -> Result<LinkGrant, LinkError> {
    keys.verify(app, path, &find(query).unwrap().unwrap(), now)
}

fn find(query: &str) -> Result<Option<LinkQuery<'_>>, MalformedLink> {
    LinkQuery::find(query, Namespace::Gateway, &["fbclid", "utm_*"].map(|text| text.parse().unwrap()))
}

#[test]
fn a_link_opens_only_its_own_target_until_it_expires() {
    let keys = keys(&["a1"]);
    let query = keys.sign(&claims());
    assert!(verify(&keys, "downloads", "/api/stream/a.mp4", &query, 1_000).is_ok());
    assert_eq!(verify(&keys, "downloads", "/api/stream/a.mp4", &query, 1_001), Err(LinkError::Expired));
    assert_eq!(verify(&keys, "downloads", "/api/stream/b.mp4", &query, 1_000), Err(LinkError::Forged));
    assert_eq!(verify(&keys, "other", "/api/stream/a.mp4", &query, 1_000), Err(LinkError::Forged));
}

#[test]
fn every_parameter_is_covered_by_the_signature() {
    let keys = keys(&["a1"]);
    let query = keys.sign(&claims());
    for (from, to) in [
        ("sp_user=ana", "sp_user=eve"),
        ("sp_exp=1000", "sp_exp=9000"),
        ("sp_exp=1000", "sp_exp=01000"),
        ("sp_id=i1", "sp_id=i2"),
        ("sp_sig=", "sp_sig=A"),
    ] {
        let changed = query.replacen(from, to, 1);
        assert_ne!(changed, query);
        assert_eq!(verify(&keys, "downloads", "/api/stream/a.mp4", &changed, 0), Err(LinkError::Forged), "{changed}");
    }
    for changed in [query.replace("sp_kid=a1", "sp_kid=a2"), format!("x=1&{query}"), format!("{query}&x=1&y")] {
        let refused = verify(&keys, "downloads", "/api/stream/a.mp4", &changed, 0);
        assert_eq!(refused, Err(LinkError::Altered), "refused, but not a guess: {changed}");
    }
}

#[test]
fn ignored_parameters_are_removed_unless_they_were_signed() {
    let keys = keys(&["a1"]);
    let signed = |target| keys.sign(&LinkClaims { target, ..claims() });
    let query = |link: &str| keys.signed_query("downloads", "/zip", &find(link).unwrap().unwrap());
    let bare = signed("/zip");
    let ids = signed("/zip?ids=1,2");
    let own = signed("/zip?utm_id=1");
    assert_eq!(query(&format!("{bare}&fbclid=x&utm_source=y")).as_deref(), Ok(""));
    assert_eq!(query(&format!("ids=1,2&{ids}&fbclid=x")).as_deref(), Ok("ids=1,2"));
    assert_eq!(query(&format!("fbclid=x&ids=1%2c2&{ids}")).as_deref(), Ok("ids=1%2c2"), "as sent");
    assert_eq!(query(&format!("utm_id=1&{own}")).as_deref(), Ok("utm_id=1"));
    assert_eq!(query(&own), Err(LinkError::Forged), "a signed parameter is missing");
    assert_eq!(query(&format!("ids=1,2,3&{ids}")), Err(LinkError::Forged));
    assert_eq!(query(&format!("ids=1,2&{ids}&gclid=x")), Err(LinkError::Altered));
}

#[test]
fn a_link_opens_every_spelling_of_its_target_and_an_older_link_the_signed_one() {
    let keys = keys(&["a1"]);
    let query = keys.sign(&LinkClaims { target: "/x/[a]%7e.mp4", user: "ana@b.example", ..claims() });
    for path in ["/x/[a]%7e.mp4", "/x/%5Ba%5D~.mp4", "/x/%5ba%5d%7E.mp4"] {
        assert!(verify(&keys, "downloads", path, &query, 0).is_ok(), "{path}");
        assert!(verify(&keys, "downloads", path, &query.replace('@', "%40"), 0).is_ok(), "{path}");
    }
    assert_eq!(verify(&keys, "downloads", "/x/[a]%257e.mp4", &query, 0), Err(LinkError::Forged));
    let raw = LinkClaims { target: "/x/[a].mp4", ..claims() };
    let signature = BASE64URL_NOPAD.encode(&keys.signing.mac(&raw).finalize().into_bytes());
    let old = format!("sp_user=ana&sp_exp=1000&sp_kid=a1&sp_id=i1&sp_sig={signature}");
    assert!(verify(&keys, "downloads", "/x/[a].mp4", &old, 0).is_ok());
}

#[test]
fn a_link_is_extended_to_one_other_target_with_the_same_expiry() {
    let keys = keys(&["a1"]);
    let query = keys.sign(&claims());
    let more = keys.extend("downloads", &find(&query).unwrap().unwrap(), "/api/stream/b.mp4").unwrap();
    let grant = verify(&keys, "downloads", "/api/stream/b.mp4", &more, 1_000).unwrap();
    assert_eq!((grant.user.as_str(), &*grant.id, grant.expires), ("ana", "i1", 1_000));
    assert_eq!(verify(&keys, "downloads", "/api/stream/b.mp4", &more, 1_001), Err(LinkError::Expired));
    assert_eq!(verify(&keys, "downloads", "/api/stream/a.mp4", &more, 1_000), Err(LinkError::Forged));
    assert_eq!(verify(&keys, "other", "/api/stream/b.mp4", &more, 1_000), Err(LinkError::Forged));
}

#[test]
fn a_target_with_an_empty_query_equals_the_one_without() {
    let keys = keys(&["a1"]);
    for (target, path, query) in [
        ("/x?", "/x", ""),
        ("/x", "/x", ""),
        ("/x?&", "/x", "&&"),
        ("/x??", "/x", "?&"),
        ("/x?a=1&", "/x", "a=1&&"),
        ("/x?a", "/x", "a&"),
    ] {
        let query = format!("{query}{}", keys.sign(&LinkClaims { target, ..claims() }));
        assert!(verify(&keys, "downloads", path, &query, 0).is_ok(), "{target}");
    }
}

#[test]
fn adjacent_fields_cannot_be_confused() {
    let keys = keys(&["a1"]);
    let one = keys.sign(&LinkClaims { user: "ab", id: "c", ..claims() });
    let other = keys.sign(&LinkClaims { user: "a", id: "bc", ..claims() });
    assert_ne!(one.rsplit_once('=').unwrap().1, other.rsplit_once('=').unwrap().1);
}

#[test]
fn an_older_key_still_verifies_links_and_a_removed_one_does_not() {
    let old = keys(&["a1"]).sign(&claims());
    assert!(verify(&keys(&["b2", "a1"]), "downloads", "/api/stream/a.mp4", &old, 0).is_ok());
    assert_eq!(verify(&keys(&["c3", "b2"]), "downloads", "/api/stream/a.mp4", &old, 0), Err(LinkError::Altered));
}

#[test]
fn repeated_missing_and_unknown_parameters_are_malformed() {
    let query = keys(&["a1"]).sign(&claims());
    assert_eq!(find(&format!("{query}&sp_id=i1")), Err(MalformedLink));
    assert_eq!(find(&format!("{query}&sp_more=1")), Err(MalformedLink));
    for part in ["sp_sig=x", "sp_user=ana", "sp_id=1&sp_id=2"] {
        assert_eq!(find(part), Err(MalformedLink), "{part}");
    }
    for none in ["q=sp_sig", "sp_page=2", "sp_sigs=x&sp_lang=en"] {
        assert_eq!(find(none), Ok(None), "{none}");
    }
    let elsewhere = |query| LinkQuery::find(query, Namespace::Application, &[]);
    for none in ["sp_page=2", "sp_id=1&sp_id=2", "sp_user=ana&sp_exp=1", "sp_more"] {
        assert_eq!(elsewhere(none), Ok(None), "{none}");
    }
    assert_eq!(
        elsewhere("sp_sig=x&sp_page=2"),
        Err(MalformedLink),
        "a signature is never passed on to the application"
    );
    assert_eq!(elsewhere("sp_id=1&sp_id=2&sp_sig=x&sp_user=a&sp_exp=1&sp_kid=k"), Err(MalformedLink));
    assert!(elsewhere(&query).unwrap().is_some());
}

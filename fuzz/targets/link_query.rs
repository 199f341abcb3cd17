//! The parameters of a link are found completely or not at all; a signed link opens only its own target.

use sallyport_gateway::identity::{
    link::{LinkClaims, LinkError, LinkKeys, LinkQuery, Namespace},
    offlinetube::OfflineTubeQuery,
};

use super::{parts, site};

pub(super) fn keys() -> LinkKeys {
    LinkKeys::parse(&format!("k1 {}\nk2 {}", "01".repeat(32), "23".repeat(32))).unwrap()
}

/// Input: a query, then a path.
pub fn run(data: &[u8]) {
    let (query, rest) = parts::text(data);
    let (path, _) = parts::text(rest);
    for namespace in [Namespace::Gateway, Namespace::Application] {
        let Ok(found) = LinkQuery::find(query, namespace, &[]) else { continue };
        if found.is_none() {
            // The forwarded query does not contain a signature.
            assert!(!query.split('&').any(|pair| pair.starts_with("sp_sig=")), "{query:?}");
        }
        // A fuzzer cannot produce a valid signature.
        let opened = found.map(|link| keys().verify("downloads", path, &link, 0));
        assert!(!matches!(opened, Some(Ok(_) | Err(LinkError::Expired))), "{query:?}");
    }
    if let Ok(Some(link)) = OfflineTubeQuery::find(query, &[]) {
        let ours = |pair: &str| ["expires", "signature", "user"].contains(&pair.split('=').next().unwrap());
        assert!(!link.rest.split('&').any(ours), "{query:?} leaves {:?}", link.rest);
        assert!(site::offlinetube().verify(path, &link, 0).is_err(), "{query:?}");
    }
    signed(path, query);
}

fn signed(path: &str, query: &str) {
    if query.is_empty() || query.split('&').any(|pair| pair.starts_with("sp_")) {
        return;
    }
    let target = format!("{path}?{query}");
    let claims = LinkClaims { app: "downloads", target: &target, user: "ana", expires: 10, id: "i1" };
    let own = keys().sign(&claims);
    for presented in [format!("{query}&{own}"), format!("{own}&{query}")] {
        let link = LinkQuery::find(&presented, Namespace::Gateway, &[]).unwrap().unwrap();
        let verify = |app: &str, path: &str, now| keys().verify(app, path, &link, now);
        let opened = verify("downloads", path, 10).unwrap();
        assert_eq!(opened.user.as_str(), "ana");
        assert_eq!(keys().signed_query("downloads", path, &link).as_deref(), Ok(query));
        assert_eq!(verify("downloads", path, 11), Err(LinkError::Expired));
        assert_eq!(verify("other", path, 10), Err(LinkError::Forged));
        assert_eq!(verify("downloads", &format!("{path}x"), 10), Err(LinkError::Forged));
    }
}

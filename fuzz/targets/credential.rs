//! A request presents one credential, presents none, or is refused; and a credential that was never issued is never accepted.

use sallyport_gateway::identity::{Credential, CredentialKind, PresentationError, Reads, presented};

use super::{parts, site};

/// Input: a query, then fields.
pub fn run(data: &[u8]) {
    let (query, rest) = parts::text(data);
    let (headers, _) = parts::fields(rest);
    let all = [CredentialKind::ApiKey, CredentialKind::Jwt, CredentialKind::Link, CredentialKind::OfflineTubeLink];
    let found = presented(&headers, Some(query), Reads { kinds: all.into_iter().collect(), ..Reads::default() });
    let in_headers = ["x-api-key", "authorization"].iter().map(|name| headers.get_all(*name).iter().count());
    match (in_headers.sum::<usize>(), &found) {
        (2.., Ok(_)) => panic!("one of two credentials was accepted"),
        (0, Ok(Some(Credential::ApiKey(_) | Credential::Jwt(_)))) => panic!("the fields contain no credential"),
        (1, Ok(None)) => panic!("the credential was not found"),
        (_, Ok(found)) => judge(found.as_ref()),
        (_, Err(PresentationError::Two | PresentationError::Unreadable | PresentationError::UnreadableLink)) => {}
    }
    // A credential that belongs to the application is not presented to the gateway.
    let theirs = [http::header::AUTHORIZATION, "x-api-key".parse().unwrap()];
    let reads = Reads { app_headers: &theirs, ..Reads::default() };
    assert!(matches!(presented(&headers, None, reads), Ok(None)));
}

fn judge(credential: Option<&Credential<'_>>) {
    let Some(credential) = credential else { return };
    let known = matches!(credential, Credential::ApiKey(key) if key == site::KEY);
    let verified = site::authority().verify(credential, "downloads", "/a", Some("a"), 0);
    assert_eq!(verified.is_ok(), known, "{credential:?}");
}

//! Names of header fields: which only the gateway may set, which frame a message, and which an application's response loses.

use std::borrow::Cow;

use sallyport_core::{http1::is_hop_by_hop, statement};

/// Prefixes of names that only the gateway may set. Every punctuation character counts as `-`, since CGI turns all of them into `_`.
/// The fields of client certificates are `Client-Cert` and `Client-Cert-Chain` (RFC 9440, section 2.4) and their older names.
const MANAGED_PREFIXES: [&str; 9] = [
    "x-forwarded-",
    "remote-",
    "x-auth-",
    "x-accel-",
    "x-sallyport-",
    "client-cert",
    "x-client-cert",
    "x-ssl-",
    "ssl-client-",
];
/// Whole names of the same kind; names that make some applications see another path, method or client than the one that was checked;
/// and the credentials, which end at the gateway.
const MANAGED_NAMES: [&str; 16] = [
    "forwarded",
    "x-forwarded",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "x-cluster-client-ip",
    "x-request-id",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "proxy",
    "proxy-authorization",
    "authorization",
    "x-api-key",
];

/// Prefixes that are removed from an application's responses, with `WITHHELD_NAMES`: the software in use, instructions to a server in front
/// of it, and permissions for other origins, which only the policy grants.
const WITHHELD_PREFIXES: [&str; 2] = ["access-control-", "x-accel-"];
const WITHHELD_NAMES: [&str; 3] = ["server", "x-powered-by", statement::HEADER];

/// Returns true for a name that only the gateway may set.
pub(super) fn is_managed(name: &str) -> bool {
    let name = &*folded(name);
    MANAGED_NAMES.contains(&name) || MANAGED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Returns the name with every punctuation character as `-`. A `HeaderName` is lower case by construction.
fn folded(name: &str) -> Cow<'_, str> {
    let sign = |c: char| !c.is_ascii_alphanumeric() && c != '-';
    if name.contains(sign) { name.replace(sign, "-").into() } else { name.into() }
}

/// Returns true for a field, in any spelling, that frames a message or controls its connection.
pub(super) fn frames(name: &str) -> bool {
    let name = &*folded(name);
    is_hop_by_hop(name) || name == "content-length"
}

/// Returns true for a field of an application's response that no client gets.
pub(super) fn is_withheld(name: &str) -> bool {
    let name = &*folded(name);
    WITHHELD_NAMES.contains(&name)
        || WITHHELD_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || is_hop_by_hop(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_managed_name_is_managed() {
        for name in [
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded.host",
            "forwarded",
            "x-real-ip",
            "x_real_ip",
            "remote-user",
            "remote_user",
            "x-auth-user",
            "x-accel-redirect",
            "x-sallyport-statement",
            "client-cert",
            "client_cert_chain",
            "x-ssl-client-s-dn",
            "x-request-id",
            "authorization",
            "remote!user",
            "x-rewrite-url",
            "x_http_method_override",
        ] {
            assert!(is_managed(name), "{name}");
        }
        for name in ["accept", "x-requested-with", "range", "content-type", "cookie", "my_header"] {
            assert!(!is_managed(name), "{name}");
        }
    }
}

//! The page on the plaintext listener that helps devices in the local network to trust the local authority.

use data_encoding::BASE64;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use sallyport_core::http1::RequestHead;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    clients::own_response::{OwnResponse, own_headers},
    edge::trust_anchor::TrustAnchor,
};

const PAGE: &str = include_str!("trust.html");
const PROFILE: &str = include_str!("trust.mobileconfig");

/// The path of the page on the plaintext listener.
pub const TRUST_PAGE: &str = "/.sallyport/trust";

/// The page and its files, ready to send.
pub(crate) struct TrustPage {
    files: [File; 4],
}

struct File {
    path: &'static str,
    content_type: &'static str,
    policy: HeaderValue,
    body: Vec<u8>,
}

impl TrustPage {
    pub(crate) fn new(anchor: &TrustAnchor) -> Self {
        let nothing = || HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
        let file = |path, content_type, body| File { path, content_type, policy: nothing(), body };
        let page = page(anchor);
        let policy = HeaderValue::try_from(page_policy(&page)).unwrap_or_else(|_| nothing());
        Self {
            files: [
                File { policy, ..file(TRUST_PAGE, "text/html; charset=utf-8", page.into_bytes()) },
                file("/.sallyport/ca.crt", "application/x-x509-ca-cert", anchor.der().to_vec()),
                file("/.sallyport/ca.pem", "application/x-pem-file", anchor.pem().into_bytes()),
                file("/.sallyport/ca.mobileconfig", "application/x-apple-aspen-config", profile(anchor).into_bytes()),
            ],
        }
    }

    /// Answers a request for the page or one of its files; `None` for any other path.
    pub(crate) fn respond(&self, head: &RequestHead) -> Option<OwnResponse> {
        let file = self.files.iter().find(|file| file.path == head.path())?;
        Some(match head.method {
            Method::GET | Method::HEAD => file.respond(),
            _ => not_allowed(),
        })
    }
}

impl File {
    fn respond(&self) -> OwnResponse {
        let mut response = OwnResponse::bare(StatusCode::OK);
        let headers = &mut response.head.headers;
        headers.extend(own_headers());
        headers.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        for (name, value) in [
            // A cache must not give a device an authority that no longer exists.
            (header::CACHE_CONTROL, "no-store"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response.body.clone_from(&self.body);
        response
    }
}

fn not_allowed() -> OwnResponse {
    let mut response = OwnResponse::bare(StatusCode::METHOD_NOT_ALLOWED);
    response.head.headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

fn page(anchor: &TrustAnchor) -> String {
    let ends = jiff::Timestamp::from_second(anchor.ends()).unwrap_or(jiff::Timestamp::MAX).to_string();
    let day = ends.split('T').next().unwrap_or_default();
    filled(PAGE, &[("name", anchor.name()), ("fingerprint", &anchor.fingerprint()), ("ends", day)])
}

/// Returns the content security policy of a page, which allows its one style sheet by hash and nothing else.
pub(crate) fn page_policy(page: &str) -> String {
    let style = page.split_once("<style>").and_then(|(_, rest)| rest.split_once("</style>")).map_or("", |(s, _)| s);
    let hash = BASE64.encode(&Sha256::digest(style));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// Returns a profile for Apple's systems. Its ids derive from the certificate, so that installing it again replaces it.
fn profile(anchor: &TrustAnchor) -> String {
    let digest = anchor.digest();
    let id = |part: &[u8]| {
        let bytes = part.try_into().unwrap_or_default();
        uuid::Builder::from_custom_bytes(bytes).into_uuid().hyphenated().to_string().to_uppercase()
    };
    let (certificate, profile) = digest.split_at(size_of::<Uuid>());
    let values = [
        ("name", anchor.name()),
        ("fingerprint", &anchor.fingerprint()),
        ("der", &BASE64.encode(anchor.der())),
        ("certificate_id", &id(certificate)),
        ("profile_id", &id(profile)),
    ];
    filled(PROFILE, &values)
}

/// Returns the template with each `{{key}}` replaced by escaped text, for both HTML and XML.
fn filled(template: &str, values: &[(&str, &str)]) -> String {
    values
        .iter()
        .fold(template.to_owned(), |text, (key, value)| text.replace(&format!("{{{{{key}}}}}"), &escaped(value)))
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // So that no value can refer to another one.
            '{' => out.push_str("&#123;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_a_template_stay_text() {
        let name = "<b onclick=\"x('y')\">&{{ends}}\0";
        let text = filled("[{{name}}] [{{ends}}]", &[("name", name), ("ends", "soon")]);
        assert_eq!(text, "[&lt;b onclick=&quot;x(&#39;y&#39;)&quot;&gt;&amp;&#123;&#123;ends}} ] [soon]");
    }

    #[test]
    fn the_page_loads_nothing_from_elsewhere() {
        for text in [PAGE, PROFILE] {
            let keys: Vec<_> =
                text.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")).map(|(k, _)| k).collect();
            let known = ["name", "fingerprint", "ends", "der", "certificate_id", "profile_id"];
            assert!(!keys.is_empty() && keys.iter().all(|key| known.contains(key)), "{keys:?}");
        }
        for foreign in ["<script", "src=", "http:", "https:", "style=", "onclick", "@import", "url("] {
            assert!(!PAGE.contains(foreign), "{foreign}");
        }
    }
}

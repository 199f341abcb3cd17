//! The shop of the tests of decisions: its policy, its users, and requests to it.

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use sallyport_core::{config, names::role::Role};
use secrecy::SecretString;
use serde_json::json;

use crate::{
    identity::{
        Authenticator, ClientCertificate, KeyOrigin, KeyRecord, KeyTable, LinkBook, LinkRecord, People,
        api_key::ImportedKey,
        jwt::{Expected, JwtVerifier, issue},
        link::{LinkClaims, LinkKeys},
        offlinetube::OfflineTubeKey,
    },
    limits::Acquaintance,
    policy::{Addressing, Behind, Decision, Denial, Permit, PolicyText, RequestFacts, Site, compile_text},
};

pub(super) const NOW: i64 = 1_800_000_000;

const CONFIG: &str = r#"
[[app]]
name = "shop"
policy = "shop"
upstream = "127.0.0.1:8001"
hosts = ["shop.example"]
"#;

const POLICY: &str = r#"
[defaults]
deny_from = ["203.0.113.0/24"]
[cors]
origins = ["https://partner.example"]
[[route]]
name = "order"
methods = ["POST"]
path = "/orders/{id}"
credentials = ["api-key", "link", "client-certificate"]
scopes = ["orders:write"]
rates = [{ limit = "1/day", by = "address" }, { limit = "1/day", by = "user" }]
max_body = "1KiB"
cors = true
[route.body.fields]
n = { type = "integer", required = true }
[[route]]
name = "read"
methods = ["GET"]
path = "/orders/{id}"
deny_from = ["198.51.100.0/24"]
credentials = ["api-key", "jwt", "link", "offlinetube-link"]
scopes = ["orders:read"]
link_object = "id"
[[route]]
name = "about"
methods = ["GET"]
path = "/about/{page}"
credentials = []
anonymous = true
"#;

/// Ana's key with every scope.
pub(super) const KEY: &str = "0123456789abcdef0123456789abcdef";
/// Ana's key with no scope that a route requires.
pub(super) const POOR_KEY: &str = "1123456789abcdef0123456789abcdef";
/// Ana's key that has expired.
pub(super) const OLD_KEY: &str = "2123456789abcdef0123456789abcdef";
/// Ben's key with every scope.
const BENS_KEY: &str = "3123456789abcdef0123456789abcdef";
/// No key.
pub(super) const FORGED_KEY: &str = "4123456789abcdef0123456789abcdef";

/// What a request presents.
#[derive(Clone, Copy)]
pub(super) enum Presented {
    Nothing,
    Key(&'static str),
    TwoKeys,
    /// A token for this user.
    Token(&'static str),
    /// A link that expires then.
    Link(i64),
    /// A link with another link's signature.
    ForgedLink,
    /// A link without its signature.
    CutLink,
    /// A link in OfflineTube's format.
    OfflineTubeLink,
    Certificate,
}

/// A request, part by part, so that each part can be spoiled on its own.
#[derive(Clone)]
pub(super) struct Sent {
    pub(super) method: Method,
    pub(super) host: &'static str,
    pub(super) addressing: Addressing,
    /// The path is `/FOLDER/NAME`.
    pub(super) folder: &'static str,
    pub(super) name: &'static str,
    pub(super) query: &'static str,
    pub(super) client: &'static str,
    pub(super) origin: &'static str,
    /// The method that a preflight asks for.
    pub(super) preflight: &'static str,
    pub(super) presented: Presented,
    /// `Content-Length`, if it is not the true one.
    pub(super) length: Option<&'static str>,
    pub(super) content_type: &'static str,
    pub(super) body: &'static str,
    /// Whether others have used up the rate of the client's address.
    pub(super) is_address_spent: bool,
    /// Whether the user has used up their rate, from another address.
    pub(super) is_user_spent: bool,
}

impl Sent {
    /// A request that passes every step.
    pub(super) fn good() -> Self {
        Self {
            method: Method::POST,
            host: "shop.example",
            addressing: Addressing::Right,
            folder: "orders",
            name: "7",
            query: "",
            client: "192.0.2.1",
            origin: "https://partner.example",
            preflight: "POST",
            presented: Presented::Key(KEY),
            length: None,
            content_type: "application/json",
            body: "{ \"n\": 1 }",
            is_address_spent: false,
            is_user_spent: false,
        }
    }

    fn path(&self) -> String {
        format!("/{}/{}", self.folder, self.name)
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut add = |name, value: &str| {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        };
        add("origin", self.origin);
        add("content-type", self.content_type);
        add("content-length", self.length.unwrap_or(&self.body.len().to_string()));
        if self.method == Method::OPTIONS {
            add("access-control-request-method", self.preflight);
        }
        match self.presented {
            Presented::Key(key) => add("x-api-key", key),
            Presented::TwoKeys => {
                add("x-api-key", KEY);
                add("x-api-key", KEY);
            }
            Presented::Token(user) => add("authorization", &format!("Bearer {}", token(user))),
            Presented::Nothing
            | Presented::Link(_)
            | Presented::ForgedLink
            | Presented::CutLink
            | Presented::OfflineTubeLink
            | Presented::Certificate => {}
        }
        headers
    }

    fn query(&self) -> String {
        let link = match self.presented {
            Presented::Link(expires) => link(&self.path(), expires),
            Presented::ForgedLink => link("/elsewhere", NOW),
            Presented::CutLink => link(&self.path(), NOW).rsplit_once('&').unwrap().0.to_owned(),
            Presented::OfflineTubeLink => offlinetube().sign(self.name, &"ana".parse().unwrap(), NOW),
            Presented::Nothing
            | Presented::Key(_)
            | Presented::TwoKeys
            | Presented::Token(_)
            | Presented::Certificate => String::new(),
        };
        [self.query, &link].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("&")
    }

    /// Sends the request to a new site, after the requests that spend rates.
    pub(super) fn outcome(&self) -> Result<Permit, Box<Denial>> {
        let site = site();
        if self.is_address_spent {
            _ = Self { presented: Presented::Key(BENS_KEY), client: self.client, ..Self::good() }.send(&site);
        }
        if self.is_user_spent {
            _ = Self { client: "192.0.2.99", ..Self::good() }.send(&site);
        }
        self.send(&site)
    }

    fn send(&self, site: &Site) -> Result<Permit, Box<Denial>> {
        match self.decide(site) {
            Decision::Forward(permit) => Ok(permit),
            Decision::Judge(pending) => pending.judge(&self.headers(), self.body.as_bytes()).map_err(Box::new),
            Decision::Preflight(_) => unreachable!("a preflight was answered"),
            Decision::Respond(denial) => Err(Box::new(denial)),
        }
    }

    pub(super) fn decide(&self, site: &Site) -> Decision {
        let certificate = matches!(self.presented, Presented::Certificate).then(certificate);
        let query = self.query();
        let facts = RequestFacts {
            method: &self.method,
            path: &self.path(),
            query: Some(&*query).filter(|query| !query.is_empty()),
            headers: &self.headers(),
            host: self.host,
            addressing: self.addressing,
            client: self.client.parse::<IpAddr>().unwrap(),
            behind: Behind::One,
            acquaintance: Acquaintance::Stranger,
            countries: None,
            upgrade: false,
            certificate: certificate.as_ref(),
        };
        site.decide(&facts, &authenticator(), NOW)
    }
}

pub(super) fn site() -> Site {
    let config = config::read(Path::new("/etc/config.toml"), CONFIG).unwrap();
    let policy = PolicyText { path: Path::new("/etc/shop.toml"), text: POLICY };
    Site::new(config.apps.iter().map(|app| compile_text(policy, app, &config, None).unwrap()).collect())
}

fn authenticator() -> Authenticator {
    let keys = vec![
        key("k1", KEY, "ana", "*", None),
        key("k2", POOR_KEY, "ana", "orders:count", None),
        key("k3", OLD_KEY, "ana", "*", Some(NOW)),
        key("k4", BENS_KEY, "ben", "*", None),
    ];
    Authenticator {
        keys: KeyTable::new(keys, []),
        people: People { removed: [("eve".parse().unwrap(), NOW)].into(), ..People::default() },
        jwt: Arc::new(JwtVerifier::new(&secret(), &Expected::default(), Duration::ZERO)),
        links: Arc::new(link_keys()),
        made_links: Arc::new(LinkBook::new(&[link_record()])),
        offlinetube: Arc::new(offlinetube()),
        client_authorities: None,
    }
}

fn key(id: &str, text: &str, user: &str, scopes: &str, expires: Option<i64>) -> KeyRecord {
    KeyRecord {
        id: id.to_owned(),
        hash: ImportedKey::parse(text).unwrap().hash,
        origin: KeyOrigin::Imported,
        user: user.parse().unwrap(),
        generation: None,
        role: Role::User,
        scopes: scopes.to_owned(),
        note: String::new(),
        created: 0,
        expires,
        last_used: None,
    }
}

fn secret() -> SecretString {
    "fedcba9876543210fedcba9876543210".into()
}

fn token(user: &str) -> String {
    issue(&secret(), &json!({ "sub": user, "scope": "*", "exp": NOW + 9 })).unwrap()
}

fn link_keys() -> LinkKeys {
    LinkKeys::parse(&format!("k1 {}", "01".repeat(32))).unwrap()
}

fn link(path: &str, expires: i64) -> String {
    link_keys().sign(&LinkClaims { app: "shop", target: path, user: "ana", expires, id: "i1" })
}

fn link_record() -> LinkRecord {
    LinkRecord {
        id: "i1".to_owned(),
        app: "shop".to_owned(),
        target: "/orders/7".to_owned(),
        user: "ana".parse().unwrap(),
        owner: None,
        maker: None,
        created: 0,
        expires: NOW,
        revoked: false,
    }
}

fn offlinetube() -> OfflineTubeKey {
    OfflineTubeKey::new(secret(), Duration::from_hours(1), 0)
}

fn certificate() -> Arc<ClientCertificate> {
    let made = rcgen::generate_simple_self_signed(["ana".to_owned()]).unwrap();
    Arc::new(ClientCertificate::read(&[made.cert.der().clone()]).unwrap())
}

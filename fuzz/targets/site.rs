//! A site and an authenticator, as in a gateway; created once.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use sallyport_core::{
    config::{self, Config},
    names::role::Role,
};
use sallyport_gateway::{
    identity::{
        Authenticator, KeyOrigin, KeyRecord, KeyTable, People,
        api_key::ImportedKey,
        jwt::{Expected, JwtVerifier},
        offlinetube::OfflineTubeKey,
    },
    policy::{PolicyText, Site, builtin, compile_text},
};
use secrecy::SecretString;

use super::link_query;

const CONFIG: &str = r#"
[[app]]
name = "downloads"
policy = "worker"
upstream = "127.0.0.1:8001"
hosts = ["worker.example"]

[[app]]
name = "open"
policy = "open"
upstream = "127.0.0.1:8002"
"#;

/// A policy that forwards every valid request, so that many requests are written for an upstream.
const OPEN: &str = r#"
path_parameters = true
[defaults]
credentials = []
max_body = "1GiB"
[[route]]
name = "own-header"
methods = ["GET"]
path = "/own/{id}"
anonymous = true
app_headers = ["authorization"]
[[route]]
name = "judged"
methods = ["POST"]
path = "/judged"
anonymous = true
max_body = "64KiB"
[route.body]
unknown = "keep"
[route.body.fields.url]
type = "media-url"
[route.body.fields.n]
type = "integer"
min = 1
max = 9
[route.body.fields.s]
type = "text"
max = 9
[[route]]
name = "rest"
methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
path = "/{*rest}"
anonymous = true
[[route]]
name = "root"
methods = ["GET", "POST"]
path = "/"
anonymous = true
"#;

pub(super) fn config() -> &'static Config {
    static CONFIG_READ: OnceLock<Config> = OnceLock::new();
    CONFIG_READ.get_or_init(|| config::read(Path::new("/etc/config.toml"), CONFIG).unwrap())
}

pub(super) fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| {
        let apps = config().apps.iter().map(|app| {
            // Rates would make a run depend on its duration.
            let text = builtin(&app.policy).unwrap_or(OPEN).lines().filter(|line| !line.starts_with("rates"));
            let text = text.collect::<Vec<_>>().join("\n");
            let policy = PolicyText { path: Path::new("/etc/policy.toml"), text: &text };
            compile_text(policy, app, config(), None).unwrap()
        });
        Site::new(apps.collect())
    })
}

/// The only valid key.
pub(super) const KEY: &str = "0123456789abcdef0123456789abcdef";

/// Knows only the user ana, by [`KEY`].
pub(super) fn authority() -> &'static Authenticator {
    static AUTHORITY: OnceLock<Authenticator> = OnceLock::new();
    let key = || KeyRecord {
        id: "k1".to_owned(),
        hash: ImportedKey::parse(KEY).unwrap().hash,
        origin: KeyOrigin::Imported,
        user: "ana".parse().unwrap(),
        generation: None,
        role: Role::Admin,
        scopes: "*".to_owned(),
        note: String::new(),
        created: 0,
        expires: None,
        last_used: None,
    };
    AUTHORITY.get_or_init(|| Authenticator {
        keys: KeyTable::new(vec![key()], []),
        people: People::default(),
        jwt: jwt(),
        links: Arc::new(link_query::keys()),
        made_links: Arc::default(),
        offlinetube: Arc::new(offlinetube()),
        client_authorities: None,
    })
}

pub(super) fn secret() -> SecretString {
    "fedcba9876543210fedcba9876543210".into()
}

pub(super) fn jwt() -> Arc<JwtVerifier> {
    static VERIFIER: OnceLock<Arc<JwtVerifier>> = OnceLock::new();
    let make = || Arc::new(JwtVerifier::new(&secret(), &Expected::default(), Duration::from_secs(5)));
    Arc::clone(VERIFIER.get_or_init(make))
}

pub(super) fn offlinetube() -> OfflineTubeKey {
    OfflineTubeKey::new(secret(), Duration::from_hours(1), 0)
}

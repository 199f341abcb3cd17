//! The applications behind one gateway, and which of them a request is for.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use super::{
    addresses::AddressRules,
    cors::CorsPolicy,
    denial::{BasicChallenge, ErrorStyle},
    headers::SecurityHeaders,
    route::{Route, RouteTable},
    safe_path::{Parameters, SafePath},
};
use crate::{config::Upstream, statement::Limits};

/// The paths that are the gateway's own on every site.
pub(super) const OWN_PREFIX: &str = "/.sallyport/";

/// The scope with which an administrator acts on others' objects; no route asks for it.
const ADMIN: &str = "admin";

/// Every application, in the order of the configuration.
#[derive(Debug)]
pub struct Site {
    pub(super) apps: Vec<Arc<App>>,
}

/// What a statement says of its application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stated {
    /// Where it listens.
    pub to: String,
    /// What each user may have of it who is no administrator.
    pub limits: Limits,
}

/// One application with its compiled policy.
#[derive(Debug)]
pub struct App {
    /// Its name in logs and links.
    pub name: Arc<str>,
    /// The longest silence within an answer.
    pub timeout: Duration,
    /// What each request's signed statement says beside who asks for what; None: it carries none.
    pub statement: Option<Stated>,
    /// The form of error bodies.
    pub style: ErrorStyle,
    /// Whom 401 offers Basic as well.
    pub basic_challenge: BasicChallenge,
    /// Cross-origin rules.
    pub cors: CorsPolicy,
    /// The security headers of its answers.
    pub headers: SecurityHeaders,
    pub(super) hosts: Vec<String>,
    pub(super) prefix: String,
    /// From where anybody may even learn that a route is not there.
    pub(super) addresses: AddressRules,
    pub(super) parameters: Parameters,
    pub(super) upstream: Upstream,
    pub(super) routes: RouteTable,
    pub(super) all_routes: Vec<Arc<Route>>,
    /// Whether any route of the policy is under the prefix.
    pub(super) any_reached: bool,
    /// The text of its policy.
    pub(super) source: Arc<str>,
    /// The file that it was in; None for a built-in policy.
    pub(super) file: Option<PathBuf>,
}

impl Site {
    /// A site of these applications, in this order.
    #[must_use]
    pub fn new(apps: Vec<App>) -> Self {
        Self { apps: apps.into_iter().map(Arc::new).collect() }
    }

    /// The applications.
    #[must_use]
    pub fn apps(&self) -> &[Arc<App>] {
        &self.apps
    }

    /// Every scope that opens something here.
    #[must_use]
    pub fn scopes(&self) -> BTreeSet<&str> {
        let routes = self.apps.iter().flat_map(|app| &app.all_routes);
        routes.flat_map(|route| &route.scopes).map(|scope| &**scope).chain([ADMIN]).collect()
    }

    /// The object that a link in OfflineTube's style to `path` signs; None where no route takes such links.
    #[must_use]
    pub fn link_object(&self, app: Option<&str>, path: &str) -> Option<String> {
        let mut named = self.apps.iter().filter(|a| app.is_none_or(|name| *a.name == *name));
        named.find_map(|app| {
            let path = SafePath::read(path, app.parameters).ok()?;
            let matched = app.routes.at(path.decoded())?;
            let route = matched.route(&http::Method::GET)?;
            path.judge_names(route.names).ok()?;
            let name = route.link_object.as_deref()?;
            matched.parameter(name).map(str::to_owned)
        })
    }

    /// The first application whose host and prefix match the decoded path.
    #[must_use]
    pub fn app(&self, host: &str, path: &str) -> Option<&Arc<App>> {
        let name = host_name(host);
        self.apps.iter().find(|app| app.answers_to(name) && app.covers(path))
    }

    /// The form of error bodies where nobody can tell which application a request is for: what all of them have in common.
    #[must_use]
    pub fn common_style(&self) -> ErrorStyle {
        let mut styles = self.apps.iter().map(|app| app.style);
        styles.next().filter(|first| styles.all(|style| style == *first)).unwrap_or_default()
    }

    /// True when an application is Sallyport's own worker: it believes only statements, and is where the worker listens.
    #[must_use]
    pub fn needs_worker(&self, listen: &Upstream) -> bool {
        self.apps.iter().any(|app| app.statement.is_some() && app.upstream == *listen)
    }

    /// The applications whose policy reads otherwise than in `old`; those that `old` does not have among them.
    pub fn changed_policies(&self, old: &Self) -> impl Iterator<Item = &App> {
        let same = |app: &&Arc<App>, old: &Self| old.apps.iter().any(|o| o.name == app.name && o.source == app.source);
        self.apps.iter().filter(move |app| !same(app, old)).map(|app| &**app)
    }

    /// How many clients all rate limits together remember.
    #[must_use]
    pub fn tracked_clients(&self) -> usize {
        let limits = self.apps.iter().flat_map(|app| &app.all_routes).flat_map(|route| &route.limits);
        limits.map(|limit| limit.tracker.len()).sum()
    }

    /// Forgets clients that no rate limit needs to remember; to be called every few seconds.
    pub fn sweep(&self) {
        for route in self.apps.iter().flat_map(|app| &app.all_routes) {
            route.limits.iter().for_each(|limit| limit.tracker.sweep());
        }
    }
}

impl App {
    fn answers_to(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|h| h.eq_ignore_ascii_case(host))
    }

    /// By whole segments of the decoded path, each up to its parameters, which some applications do not see.
    fn covers(&self, path: &str) -> bool {
        let name = |segment| str::split(segment, ';').next().unwrap_or(segment);
        let mut segments = path.split('/').map(name);
        let prefix = self.prefix.trim_end_matches('/');
        prefix.split('/').all(|wanted| segments.next() == Some(wanted)) || path.starts_with(OWN_PREFIX)
    }

    /// False where no route of the policy can be reached.
    #[must_use]
    pub fn has_routes_under_its_prefix(&self) -> bool {
        self.any_reached
    }

    /// The route that a GET of this decoded path takes, for making links to it.
    #[must_use]
    pub fn route_for_get(&self, path: &str) -> Option<Arc<Route>> {
        self.routes.at(path)?.route(&http::Method::GET).map(Arc::clone)
    }
}

/// The host without its port: of `h:8443`, `[::1]:8443`, `h`.
#[must_use]
pub fn host_name(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

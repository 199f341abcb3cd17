//! The applications behind the gateway, and the choice of the one that a request is for.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use sallyport_core::{addresses::Authority, config::Upstream, statement::UserLimits};

use super::{
    addresses::AddressRules,
    cors::CorsPolicy,
    error_style::{BasicChallenge, ErrorStyle},
    headers::SecurityHeaders,
    route::{Route, RouteTable},
    safe_path::{Parameters, SafePath},
};

/// The prefix of the gateway's own paths on every site.
pub(super) const OWN_PREFIX: &str = "/.sallyport/";

/// The scope that lets an administrator act on other users' objects; no route requires it.
const ADMIN: &str = "admin";

/// All applications, in the order of the configuration.
#[derive(Debug)]
pub struct Site {
    pub(super) apps: Vec<Arc<App>>,
}

/// What a statement says about its application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stated {
    /// The address that the application listens on.
    pub to: String,
    /// The limits of each user who is not an administrator.
    pub limits: UserLimits,
}

/// One application with its compiled policy.
#[derive(Debug)]
pub struct App {
    /// The name, in logs and links.
    pub name: Arc<str>,
    /// The longest pause within a response.
    pub timeout: Duration,
    /// What the signed statement of each request says besides the identity and the request; `None` sends no statement.
    pub statement: Option<Stated>,
    /// The format of error bodies.
    pub style: ErrorStyle,
    /// Which clients a 401 offers Basic authentication as well.
    pub basic_challenge: BasicChallenge,
    /// Cross-origin rules.
    pub cors: CorsPolicy,
    /// The security headers of responses.
    pub headers: SecurityHeaders,
    pub(super) hosts: Vec<String>,
    pub(super) prefix: String,
    /// The addresses that may learn that a path has no route.
    pub(super) addresses: AddressRules,
    pub(super) parameters: Parameters,
    pub(super) upstream: Upstream,
    pub(super) routes: RouteTable,
    pub(super) all_routes: Vec<Arc<Route>>,
    /// Whether any route of the policy can be under the prefix.
    pub(super) any_reached: bool,
    /// The text of the policy.
    pub(super) source: Arc<str>,
    /// The file of the policy; `None` for a built-in policy.
    pub(super) file: Option<PathBuf>,
}

impl Site {
    /// Creates a site with these applications, in this order.
    #[must_use]
    pub fn new(apps: Vec<App>) -> Self {
        Self { apps: apps.into_iter().map(Arc::new).collect() }
    }

    /// Returns the applications.
    #[must_use]
    pub fn apps(&self) -> &[Arc<App>] {
        &self.apps
    }

    /// Returns every scope that has an effect here.
    #[must_use]
    pub fn scopes(&self) -> BTreeSet<&str> {
        let routes = self.apps.iter().flat_map(|app| &app.all_routes);
        routes.flat_map(|route| &route.scopes).map(|scope| &**scope).chain([ADMIN]).collect()
    }

    /// Returns the object that an OfflineTube-style link to `path` signs; `None` if no route accepts such links there.
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

    /// Returns the first application whose host and prefix match the host and the decoded path.
    #[must_use]
    pub fn app(&self, host: &str, path: &str) -> Option<&Arc<App>> {
        let name = host_name(host);
        self.apps.iter().find(|app| app.answers_to(name) && app.covers(path))
    }

    /// Returns the format of error bodies for a request that cannot be assigned to an application: the one that all applications share,
    /// otherwise the default.
    #[must_use]
    pub fn common_style(&self) -> ErrorStyle {
        let mut styles = self.apps.iter().map(|app| app.style);
        styles.next().filter(|first| styles.all(|style| style == *first)).unwrap_or_default()
    }

    /// Returns true if an application is Sallyport's own worker: it requires statements, and its upstream is where the worker listens.
    #[must_use]
    pub fn needs_worker(&self, listen: &Upstream) -> bool {
        self.apps.iter().any(|app| app.statement.is_some() && app.upstream == *listen)
    }

    /// Returns the applications whose policy text differs from `old`, including those that `old` does not have.
    pub fn changed_policies(&self, old: &Self) -> impl Iterator<Item = &App> {
        let same = |app: &&Arc<App>, old: &Self| old.apps.iter().any(|o| o.name == app.name && o.source == app.source);
        self.apps.iter().filter(move |app| !same(app, old)).map(|app| &**app)
    }

    /// Returns the number of clients that all rate limits together remember.
    #[must_use]
    pub fn tracked_clients(&self) -> usize {
        let limits = self.apps.iter().flat_map(|app| &app.all_routes).flat_map(|route| &route.limits);
        limits.map(|limit| limit.tracker.len()).sum()
    }

    /// Forgets the clients that no rate limit needs to remember; call this every few seconds.
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

    /// Compares whole segments of the decoded path, each without its parameters, since some applications strip them.
    fn covers(&self, path: &str) -> bool {
        let name = |segment| str::split(segment, ';').next().unwrap_or(segment);
        let mut segments = path.split('/').map(name);
        let prefix = self.prefix.trim_end_matches('/');
        prefix.split('/').all(|wanted| segments.next() == Some(wanted)) || path.starts_with(OWN_PREFIX)
    }

    /// Returns false if no route of the policy can be reached.
    #[must_use]
    pub fn has_routes_under_its_prefix(&self) -> bool {
        self.any_reached
    }

    /// Returns the route for a GET of this decoded path, to create links to it.
    #[must_use]
    pub fn route_for_get(&self, path: &str) -> Option<Arc<Route>> {
        self.routes.at(path)?.route(&http::Method::GET).map(Arc::clone)
    }
}

/// Returns the host without its port: `h` for `h:8443`, `[::1]` for `[::1]:8443`.
#[must_use]
pub fn host_name(authority: &str) -> &str {
    Authority::split(authority).host
}

//! Compiles one application: its policy, and what the configuration says about it.

use std::{num::NonZeroU64, sync::Arc};

use http::Method;
use sallyport_core::{
    config::{AppConfig, Upstream},
    statement::UserLimits,
};

use super::{compiler::Compiler, defaults::Defaults, placed_route::PlacedRoute};
use crate::policy::{
    headers::SecurityHeaders,
    safe_path::Parameters,
    site::{App, OWN_PREFIX, Stated},
    wire,
};

impl Compiler<'_> {
    pub(super) fn app(&mut self, app: &AppConfig, policy: wire::Policy) -> App {
        let cors = self.cors(&policy.cors, &app.cors_origins);
        let headers = self.headers(&policy.headers);
        let defaults = self.defaults(policy.defaults);
        let mut all = self.all_routes(policy.route, &defaults);
        let create_link = self.create_link(cors.origins.is_empty(), &defaults.addresses);
        all.push(PlacedRoute::own(format!("{OWN_PREFIX}links"), Method::POST, create_link));
        // An application that requires statements is the worker, which has no page.
        let page = |placed: &PlacedRoute| placed.path == "/" || placed.path.starts_with("/{*");
        if policy.upstream.statement && app.prefix == "/" && !all.iter().any(page) {
            all.push(PlacedRoute::own("/".to_owned(), Method::GET, self.welcome(&defaults.addresses)));
        }
        self.judge_link_also(&all, policy.upstream.statement);
        let any_reached = all.iter().any(|placed| !placed.is_own() && may_be_under(&app.prefix, &placed.path));
        let all_routes = all.iter().map(|placed| Arc::clone(&placed.route)).collect();
        App {
            name: app.name.as_str().into(),
            timeout: app.timeout,
            statement: self.statement(&policy.upstream, &app.upstream),
            style: policy.errors,
            basic_challenge: policy.basic_challenge,
            cors,
            headers,
            hosts: app.hosts.clone(),
            prefix: app.prefix.clone(),
            addresses: defaults.addresses,
            parameters: if policy.path_parameters { Parameters::Allow } else { Parameters::Refuse },
            upstream: app.upstream.clone(),
            routes: self.route_table(all),
            all_routes,
            any_reached,
            source: Arc::clone(&self.source),
            file: None,
        }
    }

    fn headers(&mut self, headers: &wire::Headers) -> SecurityHeaders {
        SecurityHeaders::compile(headers, |key, invalid| self.faults.in_table("headers", key, invalid.to_string()))
    }

    /// Returns the routes of the policy.
    fn all_routes(&mut self, routes: Vec<wire::Route>, defaults: &Defaults) -> Vec<PlacedRoute> {
        let mut all = Vec::new();
        for (index, route) in routes.into_iter().enumerate() {
            let path = route.path.clone();
            let methods = self.methods(index, &route.methods);
            all.push(PlacedRoute { index, path, methods, route: Arc::new(self.route(index, route, defaults)) });
        }
        all
    }

    fn statement(&mut self, upstream: &wire::Upstream, at: &Upstream) -> Option<Stated> {
        let wire::UpstreamLimits { concurrent_downloads, waiting_downloads, max_filesize } = upstream.limits;
        if !upstream.statement && upstream.limits != wire::UpstreamLimits::default() {
            let what = "limits require statement = true, which tells the worker about them";
            self.faults.in_table("upstream", "limits", what);
        }
        let max_filesize = max_filesize.and_then(|size| {
            let most = NonZeroU64::new(size.0);
            if most.is_none() {
                let what = "a max_filesize of 0 would keep nothing; remove it for no limit";
                self.faults.in_table("upstream", "limits", what);
            }
            most
        });
        let limits = UserLimits { concurrent_downloads, waiting_downloads, max_filesize };
        upstream.statement.then(|| Stated { to: at.to_string(), limits })
    }
}

/// Returns true if the template matches some path under the prefix.
fn may_be_under(prefix: &str, template: &str) -> bool {
    let mut segments = template.split('/');
    let fits = |wanted: &str| segments.next().is_some_and(|segment| segment == wanted || segment.contains('{'));
    template.contains("{*") || prefix.trim_end_matches('/').split('/').all(fits)
}

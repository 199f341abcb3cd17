//! What the built-in policy requires of a client on each route.

use sallyport_gateway::{
    identity::CredentialKind,
    policy::{Reason, builtin},
};
use serde::Deserialize;

/// The parts of the policy that affect clients.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Access {
    defaults: Defaults,
    route: Vec<Route>,
}

#[derive(Debug, Default, Deserialize)]
struct Defaults {
    credentials: Vec<CredentialKind>,
}

#[derive(Debug, Deserialize)]
struct Route {
    name: String,
    methods: Vec<String>,
    path: String,
    #[serde(default)]
    scopes: Vec<String>,
    credentials: Option<Vec<CredentialKind>>,
    body: Option<toml::Table>,
}

/// The requirements of one route.
#[derive(Clone, Copy, Debug)]
pub(super) struct RouteAccess<'a> {
    pub(super) name: &'a str,
    pub(super) credentials: &'a [CredentialKind],
    pub(super) scopes: &'a [String],
    has_body: bool,
}

impl Access {
    /// Reads the built-in policy of the worker. Empty if it cannot be parsed, which tests rule out.
    pub(super) fn of_the_worker() -> Self {
        builtin("worker").and_then(|text| toml::from_str(text).ok()).unwrap_or_default()
    }

    /// Returns the requirements of a route, or none if no client can use it.
    pub(super) fn of(&self, method: &str, path: &str) -> Option<RouteAccess<'_>> {
        let route = self.route.iter().find(|r| r.path == path && r.methods.iter().any(|m| m == method))?;
        let credentials = route.credentials.as_ref().unwrap_or(&self.defaults.credentials);
        Some(RouteAccess { name: &route.name, credentials, scopes: &route.scopes, has_body: route.body.is_some() })
    }

    /// Every method and path.
    #[cfg(test)]
    pub(super) fn all(&self) -> Vec<(&str, &str)> {
        let routes = self.route.iter();
        routes.flat_map(|route| route.methods.iter().map(|method| (method.as_str(), route.path.as_str()))).collect()
    }
}

impl RouteAccess<'_> {
    /// Whether a request for this route can be refused for `reason`.
    pub(super) fn may_meet(&self, reason: Reason) -> bool {
        match reason {
            // Links are created by a route of the gateway itself, and a route always allows its own method.
            Reason::LinkRefused | Reason::TooManyLinks | Reason::UnknownMethod | Reason::MethodNotAllowed => false,
            Reason::ExpiredLink => self.credentials.iter().any(|kind| kind.is_link()),
            Reason::RefusedValue => self.has_body,
            _ => true,
        }
    }
}

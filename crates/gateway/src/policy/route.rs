//! Routes: which requests are allowed, for which clients and how often. Lookup by method and path does not slow down with their number.

use std::sync::Arc;

use http::{HeaderName, Method, header};
use thiserror::Error;

use super::{addresses::AddressRules, body::BodyRule, safe_path::Names};
use crate::{
    identity::{AddedParameter, CredentialKind, CredentialKinds, Reads},
    limits::Tracker,
};

/// One route of an application.
#[derive(Debug)]
pub struct Route {
    /// The name, as logged.
    pub name: Arc<str>,
    /// The addresses that may use it.
    pub addresses: AddressRules,
    /// The accepted kinds of credentials.
    pub credentials: CredentialKinds,
    /// Whether it can be used without a credential.
    pub anonymous: bool,
    /// The scopes that a credential must have; a link needs none.
    pub scopes: Box<[Box<str>]>,
    /// The rate limits.
    pub limits: Box<[Limit]>,
    /// Whether allowed foreign origins may use it.
    pub cors: bool,
    /// The largest body, in bytes.
    pub max_body: u64,
    /// The rule for the body; `None` accepts any body within `max_body`.
    pub body: Option<BodyRule>,
    /// The path parameter that OfflineTube's links sign.
    pub link_object: Option<Box<str>>,
    /// The name of an object in the same folder; clients with a link to this route also get a link to that object.
    pub link_also: Option<Box<str>>,
    /// Parameters that others may add to a link without invalidating it; they are not forwarded.
    pub link_ignores: Box<[AddedParameter]>,
    /// Which characters the names in its path may contain.
    pub names: Names,
    /// Headers that hold a credential on other routes, but belong to the application on this one.
    pub app_headers: Box<[HeaderName]>,
    /// The handler.
    pub handler: Handler,
}

/// The handler of a permitted request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// The application.
    Upstream,
    /// The gateway itself creates a signed link.
    CreateLink,
    /// The gateway itself shows the welcome page, on a site that has no page.
    Welcome,
}

/// One rate limit of a route, and its recent clients.
#[derive(Debug)]
pub struct Limit {
    /// What the rate is counted by.
    pub by: LimitBy,
    /// The counts.
    pub tracker: Arc<Tracker>,
}

/// What a rate is counted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitBy {
    /// The user; the address if the request is anonymous.
    #[default]
    User,
    /// The key or link; the user if the credential has no id.
    Key,
    /// The client's address, IPv6 by /64; counted before any credential is checked.
    Address,
}

/// The routes of an application.
#[derive(Debug, Default)]
pub struct RouteTable {
    by_path: matchit::Router<Vec<(Method, Arc<Route>)>>,
}

/// The routes that a path matches.
pub struct Matched<'t, 'p> {
    methods: &'t [(Method, Arc<Route>)],
    parameters: matchit::Params<'t, 'p>,
}

impl Route {
    /// Returns where the route reads credentials from.
    #[must_use]
    pub fn reads(&self) -> Reads<'_> {
        Reads { kinds: self.credentials, app_headers: &self.app_headers, ignored: &self.link_ignores }
    }

    /// Returns true if the route reads a credential from the password of Basic authentication.
    #[must_use]
    pub fn takes_basic(&self) -> bool {
        self.credentials.any(CredentialKind::is_a_password) && !self.app_headers.contains(&header::AUTHORIZATION)
    }
}

/// Two routes that contradict each other, or a path that cannot be parsed.
#[derive(Debug, Error)]
pub enum RouteConflict {
    /// The template cannot be parsed; the message says what is wrong and how to fix it.
    #[error("{0}")]
    Template(&'static str),
    /// Another template matches the same paths.
    #[error(
        "it matches the same requests as {0}; write the same path in both routes, including the names of parameters"
    )]
    Overlap(String),
    /// Method and path belong to the route with this name.
    #[error(
        "the route {1:?} already handles {0} on this path, so this one would never get a request; give each path and method one route"
    )]
    Taken(Method, Arc<str>),
}

impl From<matchit::InsertError> for RouteConflict {
    fn from(error: matchit::InsertError) -> Self {
        use matchit::InsertError;
        match error {
            InsertError::Conflict { with } => Self::Overlap(with),
            InsertError::InvalidParamSegment => {
                Self::Template("a segment can have at most one {parameter}; remove the others")
            }
            InsertError::InvalidParam => {
                Self::Template("a parameter is a name in braces, such as {id}; double a brace that is meant literally")
            }
            InsertError::InvalidCatchAll => {
                Self::Template("{*rest} matches the rest of the path, so it must come last")
            }
            _ => Self::Template("the path cannot be parsed; write segments, and parameters such as {id}"),
        }
    }
}

impl RouteTable {
    /// Adds the routes of one path template, such as `/api/download/{id}/file`; a parameter matches one segment.
    pub fn insert(&mut self, template: &str, methods: Vec<(Method, Arc<Route>)>) -> Result<(), RouteConflict> {
        for (i, (method, _)) in methods.iter().enumerate() {
            if let Some((_, first)) = methods.iter().take(i).find(|(m, _)| m == method) {
                return Err(RouteConflict::Taken(method.clone(), Arc::clone(&first.name)));
            }
        }
        Ok(self.by_path.insert(template, methods)?)
    }

    /// Returns the routes that the decoded path matches.
    #[must_use]
    pub fn at<'t, 'p>(&'t self, path: &'p str) -> Option<Matched<'t, 'p>> {
        let found = self.by_path.at(path).ok()?;
        Some(Matched { methods: found.value, parameters: found.params })
    }
}

impl<'t> Matched<'t, '_> {
    /// Returns the route for `method`; HEAD uses the route for GET.
    #[must_use]
    pub fn route(&self, method: &Method) -> Option<&'t Arc<Route>> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        self.methods.iter().find(|(m, _)| m == method).map(|(_, route)| route)
    }

    /// Returns the routes of the path, each with its methods.
    pub fn routes(&self) -> impl Iterator<Item = (&'t Arc<Route>, impl Iterator<Item = &'t Method>)> {
        let by_route = self.methods.chunk_by(|(_, one), (_, next)| Arc::ptr_eq(one, next));
        by_route.filter_map(|all| Some((&all.first()?.1, all.iter().map(|(method, _)| method))))
    }

    /// Returns the methods that other origins may use.
    pub fn cors_methods(&self) -> impl Iterator<Item = &Method> {
        self.methods.iter().filter(|(_, route)| route.cors).map(|(method, _)| method)
    }

    /// Returns the value of a parameter of the template.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name)
    }
}

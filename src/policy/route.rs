//! Routes: what may be asked for, of whom, how often; found by method and path in a time that does not grow with their number.

use std::sync::Arc;

use http::{HeaderName, Method, header};
use thiserror::Error;

use super::{addresses::AddressRules, body::BodyRule, safe_path::Names};
use crate::{
    identity::{CredentialKind, CredentialKinds, Reads, link::AddedParameter},
    limits::Tracker,
};

/// One route of an application.
#[derive(Debug)]
pub struct Route {
    /// Its name in logs.
    pub name: Arc<str>,
    /// From where it may be used.
    pub addresses: AddressRules,
    /// The kinds of credentials that it takes.
    pub credentials: CredentialKinds,
    /// Whether it may be used without any.
    pub anonymous: bool,
    /// The scopes that a credential needs; a link stands for itself.
    pub scopes: Box<[Box<str>]>,
    /// Its rates.
    pub limits: Box<[Limit]>,
    /// Whether other origins may use it.
    pub cors: bool,
    /// The largest body, in bytes.
    pub max_body: u64,
    /// What the body must be; None: whatever fits.
    pub body: Option<BodyRule>,
    /// The parameter of the path that OfflineTube's links sign.
    pub link_object: Option<Box<str>>,
    /// The name of the object beside this one that who comes by a link gets a link to as well.
    pub link_also: Option<Box<str>>,
    /// Parameters that others may add to a link without spoiling it; they do not go on.
    pub link_ignores: Box<[AddedParameter]>,
    /// What its path may be spelt with.
    pub names: Names,
    /// Headers that would hold a credential elsewhere, and are the application's own here.
    pub app_headers: Box<[HeaderName]>,
    /// Who answers.
    pub handler: Handler,
}

/// Who answers a permitted request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// The application.
    Upstream,
    /// The gateway itself: makes a signed link.
    CreateLink,
    /// The gateway itself: shows the page of a site that has none.
    Welcome,
}

/// One rate of a route, and who has used it lately.
#[derive(Debug)]
pub struct Limit {
    /// What is counted.
    pub by: LimitBy,
    /// Who was counted.
    pub tracker: Arc<Tracker>,
}

/// What a rate counts by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitBy {
    /// The user; the address where there is none.
    #[default]
    User,
    /// The key or link; the user where the credential has no id.
    Key,
    /// The client's address, IPv6 by its /64; counted before any credential is looked at.
    Address,
}

/// The routes of an application.
#[derive(Debug, Default)]
pub struct RouteTable {
    by_path: matchit::Router<Vec<(Method, Arc<Route>)>>,
}

/// What a path leads to.
pub struct Matched<'t, 'p> {
    methods: &'t [(Method, Arc<Route>)],
    parameters: matchit::Params<'t, 'p>,
}

impl Route {
    /// What it reads as credentials.
    #[must_use]
    pub fn reads(&self) -> Reads<'_> {
        Reads { kinds: self.credentials, app_headers: &self.app_headers, ignored: &self.link_ignores }
    }

    /// True where a key that comes as the password of Basic is read.
    #[must_use]
    pub fn takes_basic(&self) -> bool {
        self.credentials.contains(CredentialKind::ApiKey) && !self.app_headers.contains(&header::AUTHORIZATION)
    }
}

/// Two routes that cannot both be.
#[derive(Debug, Error)]
pub enum RouteConflict {
    /// The template cannot be read; what is wrong, and what mends it.
    #[error("{0}")]
    Template(&'static str),
    /// Another template takes the same paths.
    #[error("it takes the same requests as {0}; write the same path in both routes, parameters included")]
    Overlap(String),
    /// Method and path are the route's of this name.
    #[error(
        "{0} on this path is the route {1:?} already, so this one never gets a request; give each path and method one route"
    )]
    Taken(Method, Arc<str>),
}

impl From<matchit::InsertError> for RouteConflict {
    fn from(error: matchit::InsertError) -> Self {
        use matchit::InsertError;
        match error {
            InsertError::Conflict { with } => Self::Overlap(with),
            InsertError::InvalidParamSegment => {
                Self::Template("a segment has one {parameter} at most; take the others out")
            }
            InsertError::InvalidParam => {
                Self::Template("a parameter has a name in braces, such as {id}; a brace that is meant is written twice")
            }
            InsertError::InvalidCatchAll => {
                Self::Template("{*rest} takes all that follows, so it stands at the end of the path")
            }
            _ => Self::Template("the path cannot be read; write segments, and parameters such as {id}"),
        }
    }
}

impl RouteTable {
    /// Adds the routes of one path template, such as `/api/download/{id}/file`; a parameter is one segment.
    pub fn insert(&mut self, template: &str, methods: Vec<(Method, Arc<Route>)>) -> Result<(), RouteConflict> {
        for (i, (method, _)) in methods.iter().enumerate() {
            if let Some((_, first)) = methods.iter().take(i).find(|(m, _)| m == method) {
                return Err(RouteConflict::Taken(method.clone(), Arc::clone(&first.name)));
            }
        }
        Ok(self.by_path.insert(template, methods)?)
    }

    /// What the decoded path leads to.
    #[must_use]
    pub fn at<'t, 'p>(&'t self, path: &'p str) -> Option<Matched<'t, 'p>> {
        let found = self.by_path.at(path).ok()?;
        Some(Matched { methods: found.value, parameters: found.params })
    }
}

impl<'t> Matched<'t, '_> {
    /// The route for `method`; HEAD is GET without a body.
    #[must_use]
    pub fn route(&self, method: &Method) -> Option<&'t Arc<Route>> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        self.methods.iter().find(|(m, _)| m == method).map(|(_, route)| route)
    }

    /// The routes of the path, each with its methods.
    pub fn routes(&self) -> impl Iterator<Item = (&'t Arc<Route>, impl Iterator<Item = &'t Method>)> {
        let by_route = self.methods.chunk_by(|(_, one), (_, next)| Arc::ptr_eq(one, next));
        by_route.filter_map(|all| Some((&all.first()?.1, all.iter().map(|(method, _)| method))))
    }

    /// The methods that other origins may use here.
    pub fn cors_methods(&self) -> impl Iterator<Item = &Method> {
        self.methods.iter().filter(|(_, route)| route.cors).map(|(method, _)| method)
    }

    /// The value of a parameter of the template.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name)
    }
}

//! The permit: proof that a request was judged. Only `policy::decide` creates one, and choosing an upstream requires one.

use std::sync::Arc;

use sallyport_core::config::Upstream;

use super::{
    cors::CorsHeaders,
    route::{Handler, Route},
    site::App,
    trace::Trace,
};
use crate::identity::Identity;

/// Proof that a request may be forwarded, and what is known about it.
#[derive(Debug)]
pub struct Permit {
    pub(super) app: Arc<App>,
    pub(super) route: Arc<Route>,
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) query: QueryRewrite,
    /// The query of a link to the route's `link_also` object.
    pub(super) link: Option<String>,
    pub(super) body: Option<Vec<u8>>,
    pub(super) cors: CorsHeaders,
    pub(super) steps: Trace,
}

/// How the query is rewritten for the upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum QueryRewrite {
    /// It is forwarded as sent.
    #[default]
    Keep,
    /// The credential was removed from it; this is the rest, which can be empty.
    Only(String),
}

/// The destination of a permitted request.
#[derive(Debug)]
pub enum Target<'a> {
    /// The application.
    Upstream(&'a Upstream),
    /// The gateway's own handler that creates links.
    CreateLink,
    /// The gateway's own welcome page.
    Welcome,
}

impl Permit {
    /// Returns the destination of the request.
    #[must_use]
    pub fn target(&self) -> Target<'_> {
        match self.route.handler {
            Handler::Upstream => Target::Upstream(&self.app.upstream),
            Handler::CreateLink => Target::CreateLink,
            Handler::Welcome => Target::Welcome,
        }
    }

    /// Returns the application.
    #[must_use]
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Returns the route.
    #[must_use]
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// Returns the authenticated identity; `None` for an anonymous request.
    #[must_use]
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }

    /// Returns the path and query for the upstream if they differ from what was sent; `raw_path` is the path as sent.
    #[must_use]
    pub fn rewritten_target(&self, raw_path: &str) -> Option<String> {
        match &self.query {
            QueryRewrite::Keep => None,
            QueryRewrite::Only(rest) if rest.is_empty() => Some(raw_path.to_owned()),
            QueryRewrite::Only(rest) => Some(format!("{raw_path}?{rest}")),
        }
    }

    /// Returns the query of a link to the route's `link_also` object, for an application that tells the client about it.
    #[must_use]
    pub fn link(&self) -> Option<&str> {
        self.link.as_deref()
    }

    /// Returns the validated and re-serialised body, if the route has a body rule.
    #[must_use]
    pub fn body(&self) -> Option<&[u8]> {
        self.body.as_deref()
    }

    /// Returns the CORS headers of the response.
    #[must_use]
    pub fn cors(&self) -> &CorsHeaders {
        &self.cors
    }

    /// Returns the steps that led to the permit.
    #[must_use]
    pub fn steps(&self) -> &Trace {
        &self.steps
    }
}

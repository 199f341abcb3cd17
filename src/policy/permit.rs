//! The permit: proof that a request was judged. Only `policy::decide` makes one, and only with one is an upstream chosen.

use std::sync::Arc;

use super::{
    cors::CorsAnswer,
    route::{Handler, Route},
    site::App,
    steps::Steps,
};
use crate::{config::Upstream, identity::Identity};

/// Proof that a request may go on, and what is known of it.
#[derive(Debug)]
pub struct Permit {
    pub(super) app: Arc<App>,
    pub(super) route: Arc<Route>,
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) query: QueryRewrite,
    /// The query of a link to what the route's `link_also` names.
    pub(super) link: Option<String>,
    pub(super) body: Option<Vec<u8>>,
    pub(super) cors: CorsAnswer,
    pub(super) steps: Steps,
}

/// What becomes of the query on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum QueryRewrite {
    /// It goes as it came.
    #[default]
    Keep,
    /// The credential in it was taken out; this is the rest, maybe empty.
    Only(String),
}

/// Where a permitted request goes.
#[derive(Debug)]
pub enum Target<'a> {
    /// To the application.
    Upstream(&'a Upstream),
    /// To the gateway's own maker of links.
    CreateLink,
    /// To the gateway's own page.
    Welcome,
}

impl Permit {
    /// Where the request goes.
    #[must_use]
    pub fn target(&self) -> Target<'_> {
        match self.route.handler {
            Handler::Upstream => Target::Upstream(&self.app.upstream),
            Handler::CreateLink => Target::CreateLink,
            Handler::Welcome => Target::Welcome,
        }
    }

    /// The application.
    #[must_use]
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// The route.
    #[must_use]
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// Who asks; None on a route that needs no credential.
    #[must_use]
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }

    /// Path and query for the upstream where they differ from what came: `raw_path` is as it came.
    #[must_use]
    pub fn rewritten_target(&self, raw_path: &str) -> Option<String> {
        match &self.query {
            QueryRewrite::Keep => None,
            QueryRewrite::Only(rest) if rest.is_empty() => Some(raw_path.to_owned()),
            QueryRewrite::Only(rest) => Some(format!("{raw_path}?{rest}")),
        }
    }

    /// The query of a link to the object beside this one that goes with it, for an application that names it to the client.
    #[must_use]
    pub fn link(&self) -> Option<&str> {
        self.link.as_deref()
    }

    /// The body that was judged and written anew, where the route has a rule for it.
    #[must_use]
    pub fn body(&self) -> Option<&[u8]> {
        self.body.as_deref()
    }

    /// The CORS headers of the answer.
    #[must_use]
    pub fn cors(&self) -> &CorsAnswer {
        &self.cors
    }

    /// How it came to this.
    #[must_use]
    pub fn steps(&self) -> &Steps {
        &self.steps
    }
}

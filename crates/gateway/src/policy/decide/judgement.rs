//! One judgement: what a request is judged by, and what its steps have gathered so far.

use std::{mem, sync::Arc};

use http::HeaderValue;

use super::{authentication::Known, fault::Fault};
use crate::{
    identity::{Authenticator, Identity},
    policy::{
        App, BasicChallenge, CorsHeaders, Denial, ErrorStyle, Permit, Reason, RequestFacts, Route, Site, Step, Trace,
    },
};

/// One request that is being judged.
pub(super) struct Judgement<'j> {
    pub(super) facts: &'j RequestFacts<'j>,
    pub(super) authenticator: &'j Authenticator,
    /// Unix seconds.
    pub(super) now: i64,
    pub(super) steps: Trace,
    pub(super) basic: BasicChallenge,
    pub(super) cors: CorsHeaders,
    pub(super) app: Option<&'j Arc<App>>,
    pub(super) identity: Option<Arc<Identity>>,
    /// The `Allow` header of the response.
    pub(super) allow: Option<HeaderValue>,
}

impl<'j> Judgement<'j> {
    pub(super) fn new(facts: &'j RequestFacts<'j>, authenticator: &'j Authenticator, now: i64) -> Self {
        Self {
            facts,
            authenticator,
            now,
            steps: Trace::new(),
            basic: BasicChallenge::Never,
            cors: CorsHeaders::None,
            app: None,
            identity: None,
            allow: None,
        }
    }

    pub(super) fn enter(&mut self, app: &'j Arc<App>) {
        self.app = Some(app);
        self.steps.push(Step::App(Arc::clone(&app.name)));
    }

    /// Refuses an ambiguous path with the error format and CORS headers of the application that it appears to be for, so that the
    /// application's front end can read the reason.
    pub(super) fn unread(&mut self, site: &'j Site) -> Reason {
        self.app = self.app.or_else(|| site.app(self.facts.host, self.facts.path));
        self.cors = self.app.map_or(CorsHeaders::None, |app| app.cors.headers_without_route(self.facts.headers));
        Reason::BadPath
    }

    /// Permits the request, which has passed every step.
    pub(super) fn permit(&mut self, app: &Arc<App>, route: &Arc<Route>, known: Known) -> Permit {
        let Known { identity, query, link } = known;
        Permit {
            app: Arc::clone(app),
            route: Arc::clone(route),
            identity,
            query,
            link,
            body: None,
            cors: mem::take(&mut self.cors),
            steps: mem::take(&mut self.steps),
        }
    }

    pub(super) fn deny(self, fault: Fault) -> Denial {
        let Fault { reason, exceeded, guess } = fault;
        let Self { cors, app, identity, mut steps, basic, allow, .. } = self;
        steps.push(Step::Denied(reason));
        let style = app.map_or_else(ErrorStyle::default, |app| app.style);
        let app = app.map(Arc::clone);
        Denial { exceeded, allow, cors, app, style, guess, basic, identity, steps, ..Denial::bare(reason) }
    }
}

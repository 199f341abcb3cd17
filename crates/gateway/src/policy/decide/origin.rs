//! The steps about pages of other origins: who can read the response, preflights, and requests that such pages could do harm with.

use std::{mem, sync::Arc};

use http::{HeaderValue, Method};

use super::{fault::Fault, judgement::Judgement};
use crate::policy::{App, CorsHeaders, PreflightResponse, Reason, Route, Step, cors::is_foreign, route::Matched};

impl Judgement<'_> {
    /// Sets whether pages of other origins can read the response, according to the route or, without a route, the application.
    pub(super) fn share(&mut self, app: &App, route: Option<&Arc<Route>>) {
        let headers = self.facts.headers;
        self.cors = match route {
            Some(route) if route.cors => app.cors.headers(headers),
            Some(_) => CorsHeaders::None,
            None => app.cors.headers_without_route(headers),
        };
    }

    /// Answers a preflight for a request with `method`.
    pub(super) fn preflight(
        &mut self,
        app: &Arc<App>,
        matched: &Matched<'_, '_>,
        method: &Method,
    ) -> Result<PreflightResponse, Fault> {
        let mut methods = matched.cors_methods().map(Method::as_str).collect::<Vec<_>>();
        if methods.is_empty() {
            return Err(Reason::NoRoute.into());
        }
        self.cors = app.cors.headers(self.facts.headers);
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        if !matches!(self.cors, CorsHeaders::Allow { .. }) || !methods.contains(&method.as_str()) {
            return Err(Reason::ForeignOrigin.into());
        }
        Ok(PreflightResponse {
            app: Arc::clone(app),
            cors: mem::take(&mut self.cors),
            methods: HeaderValue::from_str(&methods.join(", ")).map_err(|_| Reason::Internal)?,
            headers: app.cors.allow_headers.clone(),
            max_age: app.cors.max_age.as_secs(),
        })
    }

    /// Refuses requests by pages of foreign origins that could change something (CSRF; RFC 6455, section 10.2); CORS already keeps such
    /// pages from reading.
    pub(super) fn origin(&mut self) -> Result<(), Fault> {
        if matches!(self.cors, CorsHeaders::Allow { .. }) {
            self.steps.push(Step::OriginAllowed);
            return Ok(());
        }
        self.no_harm_by_foreign_pages()
    }

    /// Checks a credential that browsers send along with requests by any page, such as a client certificate. Pages of other origins can
    /// change something as its user only if the policy allows CORS with credentials.
    pub(super) fn unasked(&self) -> Result<(), Fault> {
        if matches!(self.cors, CorsHeaders::Allow { credentials: true, .. }) {
            return Ok(());
        }
        self.no_harm_by_foreign_pages()
    }

    fn no_harm_by_foreign_pages(&self) -> Result<(), Fault> {
        if self.facts.is_harmless() || !is_foreign(self.facts.headers, self.facts.host) {
            return Ok(());
        }
        Err(Reason::ForeignOrigin.into())
    }
}

//! The decision: the only place where a request is judged, step by step, denying by default.

mod authentication;
mod fault;
mod judgement;
mod method;
mod origin;
mod rates;

use std::sync::Arc;

use http::{HeaderMap, header};

use self::{fault::Fault, judgement::Judgement};
use super::{
    cors::preflight_method,
    decision::{Decision, PendingBody},
    facts::{Addressing, RequestFacts},
    host::is_authority,
    reason::Reason,
    route::Route,
    safe_path::{Names, Parameters, SafePath},
    site::{App, Site},
    trace::Step,
};
use crate::identity::Authenticator;

impl Site {
    /// Judges a request at the time `now` (Unix seconds).
    pub fn decide(&self, facts: &RequestFacts<'_>, authenticator: &Authenticator, now: i64) -> Decision {
        let mut judgement = Judgement::new(facts, authenticator, now);
        match judgement.judge(self) {
            Ok(decision) => decision,
            Err(fault) => Decision::Respond(judgement.deny(fault)),
        }
    }
}

impl<'j> Judgement<'j> {
    /// Takes the steps in the order that `docs/policies.md` describes.
    fn judge(&mut self, site: &'j Site) -> Result<Decision, Fault> {
        let facts = self.facts;
        judge_host(facts)?;
        if facts.addressing == Addressing::Misdirected {
            return Err(Reason::Misdirected.into());
        }
        // The path is decoded once, so that the same form selects the application and the route.
        let path = SafePath::read(facts.path, Parameters::Allow).map_err(|_| self.unread(site))?;
        let app = site.app(facts.host, path.decoded()).ok_or(Reason::NoRoute)?;
        self.enter(app);
        judge_target(app, &path, facts.query).map_err(|_| self.unread(site))?;
        let matched = app.routes.at(path.decoded());
        let preflight = preflight_method(facts.method, facts.headers);
        let route = matched.as_ref().and_then(|matched| matched.route(preflight.as_ref().unwrap_or(facts.method)));
        // A client with a denied address gets the same response on every path, so it cannot tell which routes exist.
        self.share(app, None);
        self.address(app, route)?;
        self.share(app, route);
        path.judge_names(route.map_or(Names::Plain, |route| route.names)).map_err(|_| self.unread(site))?;
        let matched = matched.ok_or_else(|| method::no_path(facts.method))?;
        if let Some(method) = preflight {
            return self.preflight(app, &matched, &method).map(Decision::Preflight);
        }
        let route = route.ok_or_else(|| self.other_method(app, &matched))?;
        self.origin()?;
        self.address_rate(route)?;
        if route.takes_basic() {
            self.basic = app.basic_challenge;
        }
        let known = self.authenticate(app, route, &matched)?;
        self.user_rate(route, known.identity.as_deref())?;
        declared_length_fits(facts.headers, route.max_body)?;
        let permit = self.permit(app, route, known);
        Ok(if route.body.is_some() { Decision::Judge(PendingBody(permit)) } else { Decision::Forward(permit) })
    }

    /// Judges the client's address, before anything that is expensive or reveals something. Without a route the application's own rules
    /// apply, so that a denied client cannot tell whether a route exists.
    fn address(&mut self, app: &App, route: Option<&Arc<Route>>) -> Result<(), Fault> {
        if let Some(route) = route {
            self.steps.push(Step::Route(Arc::clone(&route.name)));
        }
        let rules = route.map_or(&app.addresses, |route| &route.addresses);
        rules.judge(self.facts.client, self.facts.countries)?;
        if !rules.is_empty() {
            self.steps.push(Step::AddressAllowed);
        }
        Ok(())
    }
}

/// Refuses a target that the application might parse differently from the form its routes were matched with.
fn judge_target(app: &App, path: &SafePath<'_>, query: Option<&str>) -> Result<(), Fault> {
    let strange = app.parameters == Parameters::Refuse && path.has_parameters();
    let garbled = !query.unwrap_or_default().bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if strange || garbled { Err(Reason::BadPath.into()) } else { Ok(()) }
}

/// Requires exactly one authority, of characters that every parser reads the same way (RFC 9112, section 3.2).
fn judge_host(facts: &RequestFacts<'_>) -> Result<(), Fault> {
    let repeated = facts.headers.get_all(header::HOST).iter().nth(1).is_some();
    if repeated || !is_authority(facts.host) { Err(Reason::BadHost.into()) } else { Ok(()) }
}

/// Refuses a body whose declared length is too large; a body without a declared length is counted as it arrives.
fn declared_length_fits(headers: &HeaderMap, max: u64) -> Result<(), Fault> {
    let Some(length) = headers.get(header::CONTENT_LENGTH) else { return Ok(()) };
    let length: u64 = length.to_str().ok().and_then(|l| l.parse().ok()).ok_or(Reason::BadBody)?;
    if length > max { Err(Reason::BodyTooLarge.into()) } else { Ok(()) }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;

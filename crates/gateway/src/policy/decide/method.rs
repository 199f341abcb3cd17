//! The denial of a method that no route of a known path accepts.

use http::{HeaderValue, Method};

use super::{fault::Fault, judgement::Judgement};
use crate::policy::{App, Guess, Reason, Route, route::Matched};

impl Judgement<'_> {
    /// Tells a client that may use a route of the path which methods it accepts (RFC 9110, section 15.5.6). To other clients the path
    /// appears not to exist. A forged credential counts as a guess here, as on the routes themselves.
    pub(super) fn other_method(&mut self, app: &App, matched: &Matched<'_, '_>) -> Fault {
        if !is_known(self.facts.method) {
            return Reason::UnknownMethod.into();
        }
        let before = self.steps.clone();
        let mut allowed = Vec::new();
        let mut guess = Guess::No;
        for (route, methods) in matched.routes() {
            match self.lets_in(app, route, matched) {
                Ok(()) => allowed.extend(methods.map(Method::as_str)),
                Err(Fault { guess: Guess::Yes, .. }) => guess = Guess::Yes,
                Err(Fault { guess: Guess::No, .. }) => {}
            }
            self.steps.clone_from(&before);
        }
        if allowed.is_empty() {
            self.identity = None;
            return Fault { guess, ..Reason::NoRoute.into() };
        }
        if allowed.contains(&"GET") {
            allowed.push("HEAD");
        }
        self.allow = HeaderValue::from_str(&allowed.join(", ")).ok();
        Reason::MethodNotAllowed.into()
    }

    fn lets_in(&mut self, app: &App, route: &Route, matched: &Matched<'_, '_>) -> Result<(), Fault> {
        route.addresses.judge(self.facts.client, self.facts.countries)?;
        self.address_rate(route)?;
        self.authenticate(app, route, matched).map(drop)
    }
}

/// Returns the reason if no path matches. For a method that no policy can name it does not depend on the path (RFC 9110, section 9.1).
pub(super) fn no_path(method: &Method) -> Reason {
    if is_known(method) { Reason::NoRoute } else { Reason::UnknownMethod }
}

fn is_known(method: &Method) -> bool {
    const KNOWN: [Method; 7] =
        [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
    KNOWN.contains(method)
}

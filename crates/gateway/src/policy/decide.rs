//! The decision: the only place where a request is judged, step by step, denying by default.

mod method;

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderValue, Method, header};
use sallyport_core::addresses;

use super::{
    addresses::Countries,
    cors::{self, CorsAnswer, PreflightAnswer},
    decision::{Decision, PendingBody},
    denial::{Denial, Guess},
    error_style::{BasicChallenge, ErrorStyle},
    host::is_authority,
    permit::{Permit, QueryRewrite},
    reason::Reason,
    route::{Limit, LimitBy, Matched, Route},
    safe_path::{Names, Parameters, SafePath},
    site::{App, Site},
    trace::{Step, Trace},
};
use crate::{
    identity::{
        Authenticator, ClientCertificate, CountsTowards, Credential, CredentialKind, Identity, PresentationError,
        Rejection, presented,
    },
    limits::{Acquaintance, Exceeded, Tracker},
};

/// The facts about a request that a decision is based on.
#[derive(Debug)]
pub struct RequestFacts<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path, as sent.
    pub path: &'a str,
    /// The query, as sent.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The authority that the client named.
    pub host: &'a str,
    /// Whether the connection is for that host.
    pub addressing: Addressing,
    /// The client's address.
    pub client: IpAddr,
    /// How many clients share that address.
    pub behind: Behind,
    /// Whether a client at that address was authenticated recently.
    pub acquaintance: Acquaintance,
    /// The database that maps the address to a country.
    pub countries: Option<&'a dyn Countries>,
    /// Whether the client asks for a protocol upgrade.
    pub upgrade: bool,
    /// The client certificate from the TLS handshake.
    pub certificate: Option<&'a Arc<ClientCertificate>>,
}

/// How many clients share an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// One client, as far as is known.
    One,
    /// Many unrelated clients: the address is one of `gateway.shared_addresses`.
    Many,
}

impl RequestFacts<'_> {
    /// Returns true if the request changes nothing, whoever made the client send it (RFC 9110, section 9.2.1).
    fn is_harmless(&self) -> bool {
        matches!(*self.method, Method::GET | Method::HEAD) && !self.upgrade
    }
}

/// Whether a request arrived on a connection that is for its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// It did, as far as is known.
    Right,
    /// TLS was negotiated for a different host (RFC 9110, section 7.4).
    Misdirected,
}

/// What a judgement has gathered so far, for a denial to carry.
struct Judgement<'s> {
    steps: Trace,
    basic: BasicChallenge,
    cors: CorsAnswer,
    app: Option<&'s Arc<App>>,
    identity: Option<Arc<Identity>>,
    /// The `Allow` header of the response.
    allow: Option<HeaderValue>,
}

impl Site {
    /// Judges a request at the time `now` (Unix seconds).
    pub fn decide(&self, facts: &RequestFacts<'_>, authority: &Authenticator, now: i64) -> Decision {
        let mut judgement = Judgement {
            steps: Trace::new(),
            basic: BasicChallenge::Never,
            cors: CorsAnswer::None,
            app: None,
            identity: None,
            allow: None,
        };
        match self.judge(&mut judgement, facts, authority, now) {
            Ok(decision) => decision,
            Err(fault) => Decision::Respond(judgement.deny(fault)),
        }
    }

    fn judge<'s>(
        &'s self,
        judgement: &mut Judgement<'s>,
        facts: &RequestFacts<'_>,
        authority: &Authenticator,
        now: i64,
    ) -> Result<Decision, Fault> {
        judge_host(facts)?;
        if facts.addressing == Addressing::Misdirected {
            return Err(Reason::Misdirected.into());
        }
        // The path is decoded once, so that the same form selects the application and the route.
        let path = SafePath::read(facts.path, Parameters::Allow).map_err(|_| judgement.unread(self, facts))?;
        let app = self.app(facts.host, path.decoded()).ok_or(Reason::NoRoute)?;
        judgement.enter(app);
        judge_target(app, &path, facts.query).map_err(|_| judgement.unread(self, facts))?;
        let matched = app.routes.at(path.decoded());
        let preflight = cors::preflight_method(facts.method, facts.headers);
        let route = matched.as_ref().and_then(|m| m.route(preflight.as_ref().unwrap_or(facts.method)));
        // A client with a denied address gets the same response on every path, so it cannot tell which routes exist.
        judgement.share(app, None, facts.headers);
        judgement.address(app, route, facts)?;
        judgement.share(app, route, facts.headers);
        path.judge_names(route.map_or(Names::Plain, |route| route.names)).map_err(|_| judgement.unread(self, facts))?;
        let matched = matched.ok_or_else(|| method::no_path(facts.method))?;
        if let Some(method) = preflight {
            return judgement.preflight(app, &matched, &method, facts.headers).map(Decision::Preflight);
        }
        let route = route.ok_or_else(|| judgement.other_method(app, &matched, facts, (authority, now)))?;
        judgement.origin(facts)?;
        judgement.address_rate(route, facts)?;
        if route.takes_basic() {
            judgement.basic = app.basic_challenge;
        }
        let known = judgement.authenticate(app, route, &matched, facts, (authority, now))?;
        judgement.user_rate(route, known.identity.as_deref(), facts)?;
        declared_length_fits(facts.headers, route.max_body)?;
        let permit = judgement.permit(app, route, known);
        Ok(if route.body.is_some() { Decision::Judge(PendingBody(permit)) } else { Decision::Forward(permit) })
    }
}

impl<'s> Judgement<'s> {
    fn permit(&mut self, app: &Arc<App>, route: &Arc<Route>, known: Known) -> Permit {
        let Known { identity, query, link } = known;
        Permit {
            app: Arc::clone(app),
            route: Arc::clone(route),
            identity,
            query,
            link,
            body: None,
            cors: std::mem::take(&mut self.cors),
            steps: std::mem::take(&mut self.steps),
        }
    }

    fn enter(&mut self, app: &'s Arc<App>) {
        self.app = Some(app);
        self.steps.push(Step::App(Arc::clone(&app.name)));
    }

    /// Refuses an ambiguous path with the error format and CORS headers of the application that it appears to be for, so that the
    /// application's front end can read the reason.
    fn unread(&mut self, site: &'s Site, facts: &RequestFacts<'_>) -> Reason {
        self.app = self.app.or_else(|| site.app(facts.host, facts.path));
        self.cors = self.app.map_or(CorsAnswer::None, |app| app.cors.answer_without_route(facts.headers));
        Reason::BadPath
    }

    /// Sets whether pages of other origins can read the response, according to the route or, without a route, the application.
    fn share(&mut self, app: &App, route: Option<&Arc<Route>>, headers: &HeaderMap) {
        self.cors = match route {
            Some(route) if route.cors => app.cors.answer(headers),
            Some(_) => CorsAnswer::None,
            None => app.cors.answer_without_route(headers),
        };
    }

    /// Judges the client's address, before anything that is expensive or reveals something. Without a route the application's own rules
    /// apply, so that a denied client cannot tell whether a route exists.
    fn address(&mut self, app: &App, route: Option<&Arc<Route>>, facts: &RequestFacts<'_>) -> Result<(), Fault> {
        if let Some(route) = route {
            self.steps.push(Step::Route(Arc::clone(&route.name)));
        }
        let rules = route.map_or(&app.addresses, |route| &route.addresses);
        rules.judge(facts.client, facts.countries)?;
        if !rules.is_empty() {
            self.steps.push(Step::AddressAllowed);
        }
        Ok(())
    }

    fn preflight(
        &mut self,
        app: &Arc<App>,
        matched: &Matched<'_, '_>,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<PreflightAnswer, Fault> {
        let mut methods = matched.cors_methods().map(Method::as_str).collect::<Vec<_>>();
        if methods.is_empty() {
            return Err(Reason::NoRoute.into());
        }
        self.cors = app.cors.answer(headers);
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        if !matches!(self.cors, CorsAnswer::Allow { .. }) || !methods.contains(&method.as_str()) {
            return Err(Reason::ForeignOrigin.into());
        }
        Ok(PreflightAnswer {
            app: Arc::clone(app),
            cors: std::mem::take(&mut self.cors),
            methods: HeaderValue::from_str(&methods.join(", ")).map_err(|_| Reason::Internal)?,
            headers: app.cors.allow_headers.clone(),
            max_age: app.cors.max_age.as_secs(),
        })
    }

    /// Refuses requests by pages of foreign origins that could change something (CSRF; RFC 6455, section 10.2); CORS already keeps such
    /// pages from reading.
    fn origin(&mut self, facts: &RequestFacts<'_>) -> Result<(), Fault> {
        if matches!(self.cors, CorsAnswer::Allow { .. }) {
            self.steps.push(Step::OriginAllowed);
            return Ok(());
        }
        if facts.is_harmless() || !cors::is_foreign(facts.headers, facts.host) {
            return Ok(());
        }
        Err(Reason::ForeignOrigin.into())
    }

    /// Checks a credential that browsers send along with requests by any page, such as a client certificate. Pages of other origins can
    /// change something as its user only if the policy allows CORS with credentials.
    fn unasked(&self, facts: &RequestFacts<'_>) -> Result<(), Fault> {
        let allowed = matches!(self.cors, CorsAnswer::Allow { credentials: true, .. });
        if allowed || facts.is_harmless() || !cors::is_foreign(facts.headers, facts.host) {
            return Ok(());
        }
        Err(Reason::ForeignOrigin.into())
    }

    fn address_rate(&mut self, route: &Route, facts: &RequestFacts<'_>) -> Result<(), Fault> {
        for limit in route.limits.iter().filter(|l| l.by == LimitBy::Address) {
            limit.tracker.check(addresses::client_network(facts.client), facts.acquaintance)?;
        }
        self.steps.push(Step::AddressRate);
        Ok(())
    }

    fn authenticate(
        &mut self,
        app: &App,
        route: &Route,
        matched: &Matched<'_, '_>,
        facts: &RequestFacts<'_>,
        (authority, now): (&Authenticator, i64),
    ) -> Result<Known, Fault> {
        let explicit = presented(facts.headers, facts.query, route.reads())?;
        let Some(credential) = explicit.or_else(|| certificate(route, facts)) else {
            self.steps.push(Step::Anonymous);
            return if route.anonymous { Ok(Known::default()) } else { Err(Reason::NotAuthenticated.into()) };
        };
        let kind = credential.kind();
        self.steps.push(Step::Presented(kind));
        if kind.is_sent_unasked() {
            self.unasked(facts)?;
        }
        let object = route.link_object.as_deref().and_then(|name| matched.parameter(name));
        let identity = authority.verify(&credential, &app.name, facts.path, object, now)?;
        self.steps.push(Step::Authenticated);
        self.identity = Some(Arc::clone(&identity));
        // Authenticated clients may use anonymous routes as well.
        if !route.credentials.contains(kind) && !route.anonymous {
            return Err(Reason::CredentialNotAccepted.into());
        }
        let link = link_also(route, app, facts.path, &credential, authority);
        let query = match credential {
            Credential::ApiKey(_) | Credential::Jwt(_) | Credential::ClientCertificate(_) => QueryRewrite::Keep,
            // The query as signed, without the parameters that others added.
            Credential::Link(link) => QueryRewrite::Only(
                authority.links.signed_query(&app.name, facts.path, &link).map_err(|_| Reason::Internal)?,
            ),
            Credential::OfflineTubeLink(link) => QueryRewrite::Only(link.rest),
        };
        judge_extent(kind, &identity, route, facts.method)?;
        self.steps.push(Step::Scopes);
        Ok(Known { identity: Some(identity), query, link })
    }

    fn user_rate(&mut self, route: &Route, identity: Option<&Identity>, facts: &RequestFacts<'_>) -> Result<(), Fault> {
        for Limit { by, tracker } in &route.limits {
            match (by, identity) {
                (LimitBy::Address, _) => {}
                (LimitBy::User | LimitBy::Key, None) => count_stranger(tracker, facts.client)?,
                (LimitBy::User | LimitBy::Key, Some(identity)) => match (identity.proof.counts_towards(), by) {
                    (CountsTowards::Link(id), _) => count_link(tracker, identity.kind(), id, facts)?,
                    (CountsTowards::Credential(id), LimitBy::Key) => {
                        tracker.check((identity.kind().name(), id), Acquaintance::Known)?;
                    }
                    (CountsTowards::Credential(_), LimitBy::User | LimitBy::Address) | (CountsTowards::User, _) => {
                        count_user(tracker, identity)?;
                    }
                },
            }
        }
        self.steps.push(Step::UserRate);
        Ok(())
    }

    fn deny(mut self, fault: Fault) -> Denial {
        self.steps.push(Step::Denied(fault.reason));
        let Fault { reason, exceeded, guess } = fault;
        let Self { cors, app, identity, steps, basic, allow } = self;
        let style = app.map_or_else(ErrorStyle::default, |app| app.style);
        let app = app.map(Arc::clone);
        Denial { exceeded, allow, cors, app, style, guess, basic, identity, steps, ..Denial::bare(reason) }
    }
}

/// The result of authentication: the identity, and how the query is rewritten.
#[derive(Default)]
struct Known {
    identity: Option<Arc<Identity>>,
    query: QueryRewrite,
    link: Option<String>,
}

/// A reason on its way to a denial.
#[derive(Clone, Copy)]
struct Fault {
    reason: Reason,
    exceeded: Option<Exceeded>,
    guess: Guess,
}

impl From<Reason> for Fault {
    fn from(reason: Reason) -> Self {
        Self { reason, exceeded: None, guess: Guess::No }
    }
}

impl From<Exceeded> for Fault {
    fn from(exceeded: Exceeded) -> Self {
        Self { reason: Reason::RateLimited, exceeded: Some(exceeded), guess: Guess::No }
    }
}

impl From<PresentationError> for Fault {
    fn from(error: PresentationError) -> Self {
        let (reason, guess) = match error {
            PresentationError::Two => (Reason::TwoCredentials, Guess::No),
            PresentationError::Unreadable => (Reason::BadCredential, Guess::Yes),
            // The link was cut off or has a repeated parameter, so there is no signature to guess.
            PresentationError::UnreadableLink => (Reason::BadLink, Guess::No),
        };
        Self { reason, exceeded: None, guess }
    }
}

impl From<Rejection> for Fault {
    fn from(refusal: Rejection) -> Self {
        let (reason, guess) = match refusal {
            Rejection::Invalid => (Reason::BadCredential, Guess::Yes),
            Rejection::Unusable => (Reason::BadCredential, Guess::No),
            Rejection::Expired => (Reason::ExpiredCredential, Guess::No),
            Rejection::UnknownUser => (Reason::UnknownUser, Guess::No),
            Rejection::LinkForged => (Reason::BadLink, Guess::Yes),
            Rejection::LinkAltered => (Reason::BadLink, Guess::No),
            Rejection::LinkExpired => (Reason::ExpiredLink, Guess::No),
        };
        Self { reason, exceeded: None, guess }
    }
}

/// Returns the connection's certificate if the route accepts one. Other routes ignore it, because the client presents it once per
/// connection, whatever the request.
fn certificate<'f>(route: &Route, facts: &RequestFacts<'f>) -> Option<Credential<'f>> {
    let taken = route.credentials.contains(CredentialKind::ClientCertificate);
    facts.certificate.filter(|_| taken).map(Credential::ClientCertificate)
}

/// Returns the query of a link to the route's `link_also` object in the folder of `path`, derived from the verified link `credential`.
fn link_also(
    route: &Route,
    app: &App,
    path: &str,
    credential: &Credential<'_>,
    authority: &Authenticator,
) -> Option<String> {
    let link = match credential {
        Credential::Link(link) => link,
        Credential::ApiKey(_)
        | Credential::Jwt(_)
        | Credential::OfflineTubeLink(_)
        | Credential::ClientCertificate(_) => return None,
    };
    let name = route.link_also.as_deref()?;
    let (folder, _) = path.rsplit_once('/')?;
    authority.links.extend(&app.name, link, &format!("{folder}/{name}"))
}

fn count_user(tracker: &Tracker, identity: &Identity) -> Result<(), Exceeded> {
    tracker.check(("user", identity.user.as_str(), identity.generation), Acquaintance::Known)
}

fn count_stranger(tracker: &Tracker, client: IpAddr) -> Result<(), Exceeded> {
    tracker.check(addresses::client_network(client), Acquaintance::Stranger)
}

/// Anyone can hold a link, so requests with it do not use up its owner's rate. They count against the link, and against the client's
/// address together with its anonymous requests. A shared address says nothing about the holder, so it is not counted.
fn count_link(tracker: &Tracker, kind: CredentialKind, id: &str, facts: &RequestFacts<'_>) -> Result<(), Exceeded> {
    tracker.check((kind.name(), id), Acquaintance::Stranger)?;
    match facts.behind {
        Behind::One => count_stranger(tracker, facts.client),
        Behind::Many => Ok(()),
    }
}

/// Checks that a credential extends to the request: a link only reads, and any other needs the scopes of the route.
fn judge_extent(kind: CredentialKind, identity: &Identity, route: &Route, method: &Method) -> Result<(), Fault> {
    let (holds, reason) = if kind.is_link() {
        (matches!(*method, Method::GET | Method::HEAD), Reason::CredentialNotAccepted)
    } else {
        (identity.scopes.contain_all(&route.scopes), Reason::InsufficientScope)
    };
    if holds { Ok(()) } else { Err(reason.into()) }
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

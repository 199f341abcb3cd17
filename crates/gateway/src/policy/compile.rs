//! Compiles policy files into a site. Every contradiction is reported here, at startup, with its line and column.

use std::{collections::HashSet, num::NonZeroU64, path::Path, sync::Arc};

use http::{HeaderName, HeaderValue, Method};
use sallyport_core::{
    config::{self, AppConfig, Config, Diagnostic, Diagnostics, Document, Fault, HostPort, Key, Upstream},
    statement::UserLimits,
};

use super::{
    addresses::{AddressRules, AddressSet},
    body::{BodyRule, Field, FieldKind},
    cors::{CorsPolicy, Origin},
    headers::SecurityHeaders,
    route::{Handler, Limit, Route, RouteConflict, RouteTable},
    safe_path::{Names, Parameters},
    site::{App, OWN_PREFIX, Site, Stated},
    source::{Missing, Source, SourcePlace, source},
    wire,
};
use crate::{
    identity::{
        CredentialKind, Scopes,
        link::{AddedParameter, InvalidParameter},
    },
    limits::{RateLimit, Tracker},
};

/// The routes of one path, with the index of the first one in the file.
type PathRoutes = (String, usize, Vec<(Method, Arc<Route>)>);

/// A route and its position.
struct PlacedRoute {
    /// Its index in the file.
    place: usize,
    path: String,
    methods: Vec<Method>,
    route: Arc<Route>,
}

/// The index of the gateway's own routes, which are in no file.
const OWN: usize = usize::MAX;

impl PlacedRoute {
    fn own(path: String, method: Method, route: Route) -> Self {
        Self { place: OWN, path, methods: vec![method], route: Arc::new(route) }
    }
}

/// A judged body passes through a buffer of this size on its way upstream.
const MAX_JUDGED_BODY: u64 = 64 * 1024;

/// Reads and compiles the policy of every application.
///
/// # Errors
/// Lists every fault of every policy, and every application without a policy.
pub fn compile(config: &Config) -> Result<Site, Diagnostics> {
    compile_after(config, &Site::new(Vec::new()))
}

/// Like [`compile`], for a site that replaces `old`: unchanged rates keep their counts.
///
/// # Errors
/// The same as [`compile`].
pub fn compile_after(config: &Config, old: &Site) -> Result<Site, Diagnostics> {
    let mut faults = Vec::new();
    let mut of_config = Vec::new();
    let mut apps = Vec::new();
    for (i, app) in config.apps.iter().enumerate() {
        of_config.extend(origin_faults(i, app));
        match source(i, app, config) {
            Ok(source) => match compile_source(&source, app, config, old) {
                Ok(app) => apps.push(app),
                Err(Diagnostics(found)) => faults.extend(found),
            },
            Err(Missing::File(fault)) => of_config.push(fault),
            Err(Missing::Text(fault)) => faults.push(fault),
        }
    }
    if !of_config.is_empty() {
        let text = std::fs::read_to_string(&config.file).unwrap_or_default();
        faults.splice(0..0, config::locate(&config.file, &text, &of_config).0);
    }
    // Two applications can share a policy.
    let mut seen = HashSet::new();
    faults.retain(|fault| seen.insert(fault.to_string()));
    if faults.is_empty() { Ok(Site::new(apps)) } else { Err(Diagnostics(faults)) }
}

fn compile_source(source: &Source, app: &AppConfig, config: &Config, old: &Site) -> Result<App, Diagnostics> {
    let Source { path, text, place } = source;
    if *place == SourcePlace::BuiltIn && old.apps.iter().any(|old| old.file.as_ref() == Some(path)) {
        let what = "the file is gone; its policy stays in force. Put the file back, or restart the gateway to use \
            the built-in policy of this name";
        return Err(Diagnostic::in_file(path, what).into());
    }
    let same = old.apps.iter().find(|old| *old.name == *app.name);
    let mut compiled = compile_text((path, text), app, config, same.map(|old| &**old))?;
    compiled.file = Some(path.clone()).filter(|_| *place == SourcePlace::File);
    Ok(compiled)
}

/// Compiles `source`, the text of the policy at `path`, for one application of `config`; `old` works as in [`compile_after`].
///
/// # Errors
/// Lists every fault of the policy.
pub fn compile_text(
    (path, source): (&Path, &str),
    app: &AppConfig,
    config: &Config,
    old: Option<&App>,
) -> Result<App, Diagnostics> {
    let Document { value, mut faults, lost_elements } = Document::<wire::Policy>::read(path, source);
    let Some(policy) = value.filter(|_| !lost_elements) else { return Err(faults) };
    let mut compiler = Compiler {
        max_clients: config.limits.max_tracked_clients,
        allow_private: &config.worker.allow_private,
        old,
        source: source.into(),
        has_countries: config.geoip.is_some(),
        link_ignores: Box::default(),
        faults: Vec::new(),
    };
    let app = compiler.app(app, policy);
    faults.0.extend(config::locate(path, source, &compiler.faults).0);
    if faults.0.is_empty() { Ok(app) } else { Err(faults) }
}

/// Checks the origins that the configuration adds to those of the policy.
fn origin_faults(i: usize, app: &AppConfig) -> Vec<Fault> {
    let origins = app.cors_origins.iter().enumerate();
    let faults = origins.filter_map(|(at, text)| Some((at, text.parse::<Origin>().err()?)));
    faults
        .map(|(at, e)| Fault::new(vec![Key::element("app", i), Key::element("cors_origins", at)], e.to_string()))
        .collect()
}

pub(super) struct Compiler<'a> {
    max_clients: usize,
    allow_private: &'a [HostPort],
    old: Option<&'a App>,
    source: Arc<str>,
    has_countries: bool,
    /// The value in `[defaults]`.
    link_ignores: Box<[AddedParameter]>,
    faults: Vec<Fault>,
}

impl Compiler<'_> {
    fn app(&mut self, app: &AppConfig, policy: wire::Policy) -> App {
        let cors = self.cors(&policy.cors, &app.cors_origins);
        let headers = self.headers(&policy.headers);
        let addresses = self.default_addresses(&policy.defaults);
        self.link_ignores = self.added_parameters(Key { name: "defaults", index: None }, &policy.defaults.link_ignores);
        let mut all = self.all_routes(policy.route, &policy.defaults, &addresses);
        let create_link = self.create_link(cors.origins.is_empty(), &addresses);
        all.push(PlacedRoute::own(format!("{OWN_PREFIX}links"), Method::POST, create_link));
        // An application that requires statements is the worker, which has no page.
        let page = |placed: &PlacedRoute| placed.path == "/" || placed.path.starts_with("/{*");
        if policy.upstream.statement && app.prefix == "/" && !all.iter().any(page) {
            all.push(PlacedRoute::own("/".to_owned(), Method::GET, self.welcome(&addresses)));
        }
        self.linked_too(&all, policy.upstream.statement);
        let any_reached = all.iter().any(|placed| placed.place != OWN && may_be_under(&app.prefix, &placed.path));
        let all_routes = all.iter().map(|placed| Arc::clone(&placed.route)).collect();
        App {
            name: app.name.as_str().into(),
            timeout: app.timeout,
            statement: self.statement(&policy.upstream, &app.upstream),
            style: policy.errors,
            basic_challenge: policy.basic_challenge,
            cors,
            headers,
            hosts: app.hosts.clone(),
            prefix: app.prefix.clone(),
            addresses,
            parameters: if policy.path_parameters { Parameters::Allow } else { Parameters::Refuse },
            upstream: app.upstream.clone(),
            routes: self.route_table(all),
            all_routes,
            any_reached,
            source: Arc::clone(&self.source),
            file: None,
        }
    }

    fn statement(&mut self, upstream: &wire::Upstream, at: &Upstream) -> Option<Stated> {
        let wire::UpstreamLimits { concurrent_downloads, waiting_downloads, max_filesize } = upstream.limits;
        if !upstream.statement && upstream.limits != wire::UpstreamLimits::default() {
            self.add_to_upstream("limits require statement = true, which tells the worker about them");
        }
        let max_filesize = max_filesize.and_then(|size| {
            let most = NonZeroU64::new(size.0);
            if most.is_none() {
                self.add_to_upstream("a max_filesize of 0 would keep nothing; remove it for no limit");
            }
            most
        });
        let limits = UserLimits { concurrent_downloads, waiting_downloads, max_filesize };
        upstream.statement.then(|| Stated { to: at.to_string(), limits })
    }

    /// Returns the routes of the policy.
    fn all_routes(
        &mut self,
        routes: Vec<wire::Route>,
        defaults: &wire::Defaults,
        addresses: &AddressRules,
    ) -> Vec<PlacedRoute> {
        let mut all = Vec::new();
        for (place, route) in routes.into_iter().enumerate() {
            let (path, methods) = (route.path.clone(), self.methods(place, &route.methods));
            let route = Arc::new(self.route(place, route, defaults, addresses));
            all.push(PlacedRoute { place, path, methods, route });
        }
        all
    }

    /// Checks that `link_also` grants nothing that the link itself could not be created for.
    fn linked_too(&mut self, all: &[PlacedRoute], statement: bool) {
        for PlacedRoute { place, path, route, .. } in all {
            let Some(name) = &route.link_also else { continue };
            let beside = path.rsplit_once('/').map(|(folder, _)| format!("{folder}/{name}"));
            let other =
                all.iter().find(|other| Some(&other.path) == beside.as_ref() && other.methods.contains(&Method::GET));
            let takes_links = |route: &Route| route.credentials.contains(CredentialKind::Link);
            if !statement || !takes_links(route) || path.ends_with('}') {
                self.add(
                    *place,
                    "link_also",
                    "requires the credential \"link\", a path that ends in a name, and [upstream] statement = true",
                );
            }
            if !other.is_some_and(|other| takes_links(&other.route) && other.route.scopes == route.scopes) {
                self.add(
                    *place,
                    "link_also",
                    "must name a route in the same folder that accepts links and has the same scopes",
                );
            }
        }
    }

    fn route_table(&mut self, all: Vec<PlacedRoute>) -> RouteTable {
        let (mut by_path, mut taken): (Vec<PathRoutes>, Vec<_>) = (Vec::new(), Vec::new());
        for PlacedRoute { place, path, methods, route } in all {
            if self.has_unreadable_path(place, &path) {
                continue;
            }
            if !by_path.iter().any(|(known, ..)| *known == path) {
                by_path.push((path.clone(), place, Vec::new()));
            }
            let Some((.., known)) = by_path.iter_mut().find(|(known, ..)| *known == path) else { continue };
            for method in methods {
                if let Some((_, first)) = known.iter().find(|(taken, _)| *taken == method) {
                    taken.push((place, RouteConflict::Taken(method, Arc::clone(&first.name))));
                } else {
                    known.push((method, Arc::clone(&route)));
                }
            }
        }
        for (place, conflict) in taken {
            self.add(place, "path", conflict.to_string());
        }
        add_roots(&mut by_path);
        let mut table = RouteTable::default();
        for (path, place, methods) in by_path {
            if let Err(conflict) = table.insert(&path, methods) {
                self.add(place, "path", conflict.to_string());
            }
        }
        table
    }

    /// Reports a path that no request can have.
    fn has_unreadable_path(&mut self, place: usize, path: &str) -> bool {
        let outside = outside_braces(path);
        let what = if outside.contains('*') {
            "a lone * matches only itself, so no request would match; write {*rest} for the rest of the path, or {name} for one segment"
        } else if outside.contains(['?', '#']) {
            "a path does not include ? or #; remove the query"
        } else {
            return false;
        };
        self.add(place, "path", what);
        true
    }

    fn route(&mut self, i: usize, route: wire::Route, defaults: &wire::Defaults, addresses: &AddressRules) -> Route {
        let own = format!("/{}", OWN_PREFIX.trim_matches('/'));
        if !route.path.starts_with('/') || route.path.starts_with(&own) {
            self.add(i, "path", format!("must start with \"/\" and must not be under {OWN_PREFIX}"));
        }
        let addresses = self.addresses(i, &route, addresses);
        let max_body = self.max_body(i, &route, defaults);
        let credentials = route.credentials.unwrap_or_else(|| defaults.credentials.clone());
        if credentials.is_empty() != route.anonymous {
            self.add(i, "credentials", "a route either accepts credentials or is anonymous; set one of the two");
        }
        if credentials.contains(&CredentialKind::OfflinetubeLink) != route.link_object.is_some() {
            self.add(
                i,
                "link_object",
                "requires the credential \"offlinetube-link\", and the other way round; set both or neither",
            );
        }
        self.judge_scopes(i, &route.scopes);
        Route {
            addresses,
            credentials: credentials.into_iter().collect(),
            anonymous: route.anonymous,
            scopes: route.scopes.into_iter().map(Into::into).collect(),
            limits: self.limits(&route.name, &route.rates.unwrap_or_else(|| defaults.rates.clone())),
            name: route.name.into(),
            cors: route.cors.unwrap_or(defaults.cors),
            max_body,
            body: route.body.map(|body| self.body(i, body)),
            link_object: route.link_object.map(Into::into),
            link_also: route.link_also.map(Into::into),
            link_ignores: match route.link_ignores {
                Some(names) => self.added_parameters(Key { name: "route", index: Some(i) }, &names),
                None => self.link_ignores.clone(),
            },
            names: if route.file_names { Names::Titles } else { Names::Plain },
            app_headers: route.app_headers.into_iter().map(header_name).collect(),
            handler: Handler::Upstream,
        }
    }

    fn judge_scopes(&mut self, i: usize, scopes: &[String]) {
        for scope in scopes {
            if scope.contains(['*', ' ']) || scope.parse::<Scopes>().is_err() {
                self.add(i, "scopes", format!("{scope:?} is not a scope; use only a-z 0-9 : . _ -"));
            }
        }
    }

    /// A judged body is read completely first, so its limit is above 0 and at most [`MAX_JUDGED_BODY`].
    fn max_body(&mut self, i: usize, route: &wire::Route, defaults: &wire::Defaults) -> u64 {
        let max_body = route.max_body.unwrap_or(defaults.max_body).0;
        if route.body.is_some() && max_body > MAX_JUDGED_BODY {
            self.add(i, "max_body", "a route with a body rule can have a max_body of at most 64KiB; lower it");
        }
        if route.body.is_some() && max_body == 0 {
            let whose = if route.max_body.is_some() { "" } else { " of [defaults]" };
            self.add(i, "max_body", format!("the max_body{whose} is 0, so every body would be refused before its rule is checked; set one such as \"16KiB\" for this route"));
        }
        max_body
    }

    fn added_parameters(&mut self, table: Key, names: &[String]) -> Box<[AddedParameter]> {
        let mut parameters = Vec::new();
        for (i, name) in names.iter().enumerate() {
            match name.parse() {
                Ok(parameter) => parameters.push(parameter),
                Err(invalid) => {
                    let key = vec![table, Key { name: "link_ignores", index: Some(i) }];
                    self.faults.push(Fault { key, what: InvalidParameter::to_string(&invalid) });
                }
            }
        }
        parameters.into()
    }

    fn default_addresses(&mut self, defaults: &wire::Defaults) -> AddressRules {
        let key = vec![Key { name: "defaults", index: None }];
        AddressRules {
            allow: self.places(&key, "allow_from", &defaults.allow_from),
            deny: self.places(&key, "deny_from", &defaults.deny_from),
        }
    }

    /// Each of the two lists of a route replaces the default.
    fn addresses(&mut self, i: usize, route: &wire::Route, defaults: &AddressRules) -> AddressRules {
        let key = vec![Key { name: "route", index: Some(i) }];
        let mut own = |name, texts: &Option<Vec<String>>| texts.as_ref().map(|texts| self.places(&key, name, texts));
        AddressRules {
            allow: own("allow_from", &route.allow_from).unwrap_or_else(|| defaults.allow.clone()),
            deny: own("deny_from", &route.deny_from).unwrap_or_else(|| defaults.deny.clone()),
        }
    }

    fn places(&mut self, table: &[Key], name: &'static str, texts: &[String]) -> Box<[AddressSet]> {
        let mut places = Vec::new();
        for (i, text) in texts.iter().enumerate() {
            let what = match text.parse() {
                Ok(AddressSet::Country(_)) if !self.has_countries => {
                    format!("{text:?} requires a country database; set its file in config.toml, [gateway] geoip")
                }
                Ok(place) => {
                    places.push(place);
                    continue;
                }
                Err(invalid) => invalid.to_string(),
            };
            self.faults.push(Fault { key: [table, &[Key { name, index: Some(i) }]].concat(), what });
        }
        places.into()
    }

    pub(super) fn limits(&self, route: &str, limits: &[wire::Limit]) -> Box<[Limit]> {
        let old = self.old.and_then(|app| app.all_routes.iter().find(|old| *old.name == *route));
        let old = old.map_or(&[][..], |route| &route.limits);
        let limit = |(i, l): (usize, &wire::Limit)| {
            let limit = RateLimit { rate: l.rate, burst: l.burst.unwrap_or(l.rate.count) };
            let same = old.get(i).filter(|old| old.by == l.by && old.tracker.is_of(limit, self.max_clients));
            let tracker = same.map(|old| Arc::clone(&old.tracker));
            Limit { by: l.by, tracker: tracker.unwrap_or_else(|| Arc::new(Tracker::new(limit, self.max_clients))) }
        };
        limits.iter().enumerate().map(limit).collect()
    }

    fn methods(&mut self, i: usize, names: &[String]) -> Vec<Method> {
        const KNOWN: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        let mut methods = Vec::new();
        for name in names {
            match KNOWN.iter().find(|m| m.as_str() == name) {
                Some(method) => methods.push(method.clone()),
                None => self.add(i, "methods", format!("{name:?} is not a method that a route can have; write GET (which includes HEAD), POST, PUT, PATCH or DELETE")),
            }
        }
        if names.is_empty() {
            self.add(i, "methods", "no methods; write at least one, such as \"GET\"");
        }
        methods
    }

    fn body(&mut self, i: usize, body: wire::Body) -> BodyRule {
        let fields = body.fields.into_iter().map(|(name, field)| self.field(i, name, field)).collect();
        BodyRule { fields, unknown: body.unknown }
    }

    fn field(&mut self, i: usize, name: String, field: wire::Field) -> Field {
        let wire::Field { kind, required, values, min, max } = field;
        let fits = match kind {
            wire::FieldType::OneOf => values.as_ref().is_some_and(|v| !v.is_empty()) && min.is_none() && max.is_none(),
            wire::FieldType::Text | wire::FieldType::Words => {
                values.is_none() && min.is_none() && max.is_none_or(|m| m > 0)
            }
            wire::FieldType::Integer => values.is_none(),
            wire::FieldType::MediaUrl | wire::FieldType::Boolean => values.is_none() && min.is_none() && max.is_none(),
        };
        if !fits {
            self.add(
                i,
                "body",
                format!("field {name:?}: values is only for one-of, max only for text, words and integer, min only for integer"),
            );
        }
        let kind = match kind {
            wire::FieldType::Text => {
                FieldKind::Text { max_chars: max.and_then(|m| usize::try_from(m).ok()).unwrap_or(1_024) }
            }
            wire::FieldType::Words => FieldKind::Words { max: max.and_then(|m| usize::try_from(m).ok()).unwrap_or(16) },
            wire::FieldType::OneOf => {
                FieldKind::OneOf(values.unwrap_or_default().into_iter().map(Into::into).collect())
            }
            wire::FieldType::MediaUrl => FieldKind::MediaUrl { allow_private: self.allow_private.to_vec() },
            wire::FieldType::Integer => {
                FieldKind::Integer { min: min.unwrap_or(i64::MIN), max: max.unwrap_or(i64::MAX) }
            }
            wire::FieldType::Boolean => FieldKind::Boolean,
        };
        Field { name: name.into(), required, kind }
    }

    fn cors(&mut self, cors: &wire::Cors, more: &[String]) -> CorsPolicy {
        let mut origins = Vec::new();
        for (i, text) in cors.origins.iter().enumerate() {
            match text.parse::<Origin>() {
                Ok(origin) => origins.push(origin),
                Err(e) => {
                    let key = vec![Key::table("cors"), Key::element("origins", i)];
                    self.faults.push(Fault::new(key, e.to_string()));
                }
            }
        }
        // Invalid origins in the configuration are reported by `origin_faults`.
        origins.extend(more.iter().filter_map(|text| text.parse().ok()));
        CorsPolicy {
            origins,
            credentials: cors.credentials,
            allow_headers: self.header_list("allow_headers", &cors.allow_headers),
            expose_headers: self.header_list("expose_headers", &cors.expose_headers),
            max_age: cors.max_age.0,
        }
    }

    fn headers(&mut self, headers: &wire::Headers) -> SecurityHeaders {
        SecurityHeaders::compile(headers, |key, invalid| {
            self.faults.push(table_fault("headers", key, invalid.to_string()));
        })
    }

    fn header_list(&mut self, key: &'static str, names: &[String]) -> HeaderValue {
        if let Some(bad) = names.iter().find(|n| n.parse::<http::HeaderName>().is_err() || *n == "*") {
            self.faults.push(table_fault("cors", key, format!("{bad:?} is not the name of a header")));
        }
        HeaderValue::from_str(&names.join(", ")).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    fn add_to_upstream(&mut self, what: &str) {
        let key = ["upstream", "limits"].map(|name| Key { name, index: None }).to_vec();
        self.faults.push(Fault { key, what: what.to_owned() });
    }

    fn add(&mut self, route: usize, key: &'static str, what: impl Into<String>) {
        let path = vec![Key { name: "route", index: Some(route) }, Key { name: key, index: None }];
        self.faults.push(Fault { key: path, what: what.into() });
    }
}

/// Returns true if the template matches some path under the prefix.
fn may_be_under(prefix: &str, template: &str) -> bool {
    let mut segments = template.split('/');
    let fits = |wanted: &str| segments.next().is_some_and(|segment| segment == wanted || segment.contains('{'));
    template.contains("{*") || prefix.trim_end_matches('/').split('/').all(fits)
}

/// Returns the literal parts of a path template.
fn outside_braces(path: &str) -> String {
    let mut depth = 0_u32;
    path.chars()
        .filter(|c| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => return depth == 0,
            }
            false
        })
        .collect()
}

/// Makes `/x/{*rest}` match `/x/` as well, except for methods that have their own route there: the router's catch-all needs at least
/// one character.
fn add_roots(by_path: &mut Vec<PathRoutes>) {
    for (path, place, methods) in by_path.clone() {
        let Some(root) = path.rfind("{*").and_then(|at| path.get(..at)) else { continue };
        match by_path.iter_mut().find(|(known, ..)| known == root) {
            Some((.., known)) => {
                let free: Vec<_> = methods.into_iter().filter(|(m, _)| known.iter().all(|(k, _)| k != m)).collect();
                known.extend(free);
            }
            None => by_path.push((root.to_owned(), place, methods)),
        }
    }
}

fn header_name(header: wire::AppHeader) -> HeaderName {
    match header {
        wire::AppHeader::Authorization => http::header::AUTHORIZATION,
        wire::AppHeader::XApiKey => HeaderName::from_static("x-api-key"),
    }
}

fn table_fault(table: &'static str, key: &'static str, what: String) -> Fault {
    Fault { key: vec![Key { name: table, index: None }, Key { name: key, index: None }], what }
}

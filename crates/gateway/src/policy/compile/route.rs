//! Compiles one `[[route]]`.

use http::{HeaderName, Method, header};
use sallyport_core::config::Key;

use super::{compiler::Compiler, defaults::Defaults};
use crate::{
    identity::{CredentialKind, Scopes},
    policy::{
        route::{Handler, Route},
        safe_path::Names,
        site::OWN_PREFIX,
        wire,
    },
};

/// The methods that a route can name.
const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

impl Compiler<'_> {
    /// Compiles the route at `index`.
    pub(super) fn route(&mut self, index: usize, route: wire::Route, defaults: &Defaults) -> Route {
        self.judge_path(index, &route.path);
        let addresses = self.addresses(index, &route, &defaults.addresses);
        let max_body = self.max_body(index, &route, defaults);
        let credentials = self.credentials(index, &route, defaults);
        self.judge_scopes(index, &route.scopes);
        Route {
            addresses,
            credentials: credentials.into_iter().collect(),
            anonymous: route.anonymous,
            scopes: route.scopes.into_iter().map(Into::into).collect(),
            limits: self.limits(&route.name, route.rates.as_ref().unwrap_or(&defaults.rates)),
            name: route.name.into(),
            cors: route.cors.unwrap_or(defaults.cors),
            max_body,
            body: route.body.map(|body| self.body(index, body)),
            link_object: route.link_object.map(Into::into),
            link_also: route.link_also.map(Into::into),
            link_ignores: match route.link_ignores {
                Some(names) => self.link_ignores(Key::element("route", index), &names),
                None => defaults.link_ignores.clone(),
            },
            names: if route.file_names { Names::Titles } else { Names::Plain },
            app_headers: route.app_headers.into_iter().map(header_name).collect(),
            handler: Handler::Upstream,
        }
    }

    pub(super) fn methods(&mut self, index: usize, names: &[String]) -> Vec<Method> {
        let mut methods = Vec::new();
        for name in names {
            if let Some(method) = METHODS.iter().find(|method| method.as_str() == name) {
                methods.push(method.clone());
            } else {
                let what = format!(
                    "{name:?} is not a method that a route can have; write GET (which includes HEAD), POST, PUT, PATCH \
                     or DELETE"
                );
                self.faults.in_route(index, "methods", what);
            }
        }
        if names.is_empty() {
            self.faults.in_route(index, "methods", "no methods; write at least one, such as \"GET\"");
        }
        methods
    }

    fn judge_path(&mut self, index: usize, path: &str) {
        let own = format!("/{}", OWN_PREFIX.trim_matches('/'));
        if !path.starts_with('/') || path.starts_with(&own) {
            let what = format!("must start with \"/\" and must not be under {OWN_PREFIX}");
            self.faults.in_route(index, "path", what);
        }
    }

    fn credentials(&mut self, index: usize, route: &wire::Route, defaults: &Defaults) -> Vec<CredentialKind> {
        let credentials = route.credentials.as_ref().unwrap_or(&defaults.credentials);
        if credentials.is_empty() != route.anonymous {
            let what = "a route either accepts credentials or is anonymous; set one of the two";
            self.faults.in_route(index, "credentials", what);
        }
        if credentials.contains(&CredentialKind::OfflineTubeLink) != route.link_object.is_some() {
            let what = "requires the credential \"offlinetube-link\", and the other way round; set both or neither";
            self.faults.in_route(index, "link_object", what);
        }
        credentials.clone()
    }

    fn judge_scopes(&mut self, index: usize, scopes: &[String]) {
        for scope in scopes {
            if scope.contains(['*', ' ']) || scope.parse::<Scopes>().is_err() {
                let what = format!("{scope:?} is not a scope; use only a-z 0-9 : . _ -");
                self.faults.in_route(index, "scopes", what);
            }
        }
    }
}

fn header_name(name: wire::AppHeader) -> HeaderName {
    match name {
        wire::AppHeader::Authorization => header::AUTHORIZATION,
        wire::AppHeader::XApiKey => HeaderName::from_static("x-api-key"),
    }
}

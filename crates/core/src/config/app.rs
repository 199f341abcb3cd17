//! `[[app]]`: the applications behind the gateway.

use std::{collections::HashSet, time};

use super::{
    effect::{AT_ONCE, toml_table},
    fault::{Faults, Key},
    hosts::{self, ShadowedHost},
    units::Duration,
    upstream::Upstream,
};

toml_table! {
    /// `[[app]]`
    struct AppToml {
        name: String => AT_ONCE;
        policy: String => AT_ONCE;
        upstream: String => AT_ONCE;
        #[serde(default)]
        hosts: Vec<String> => AT_ONCE;
        #[serde(default = "every_path")]
        prefix: String => AT_ONCE;
        #[serde(default)]
        cors_origins: Vec<String> => AT_ONCE;
        #[serde(default = "default_timeout")]
        timeout: Duration => AT_ONCE;
    }
}

fn every_path() -> String {
    "/".into()
}

const fn default_timeout() -> Duration {
    Duration::seconds(60)
}

/// An application behind the gateway.
#[derive(Clone, Debug)]
pub struct AppConfig {
    /// The name, in logs and links.
    pub name: String,
    /// The name of the policy.
    pub policy: String,
    /// The address that the application listens on.
    pub upstream: Upstream,
    /// The host names that it serves, in lower case; empty for all.
    pub hosts: Vec<String>,
    /// The path prefix that it serves; "/" for all.
    pub prefix: String,
    /// Origins that its CORS routes allow in addition to those of the policy.
    pub cors_origins: Vec<String>,
    /// The longest pause of the application within a response.
    pub timeout: time::Duration,
}

impl AppConfig {
    /// Resolves all applications. One whose upstream is invalid is left out.
    pub(super) fn resolve_all(apps: Vec<AppToml>, faults: &mut Faults<'_>) -> Vec<Self> {
        let mut names = HashSet::new();
        let mut resolved = Vec::new();
        for (i, app) in apps.into_iter().enumerate() {
            let mut faults = faults.within(Key::element("app", i));
            if !names.insert(app.name.clone()) || app.name.is_empty() {
                faults.add("name", format!("{:?} is empty or already used; give each app a unique name", app.name));
            }
            let Some(app) = Self::resolve(app, &mut faults) else { continue };
            app.check_reached(&resolved, &mut faults);
            resolved.push(app);
        }
        resolved
    }

    fn resolve(app: AppToml, faults: &mut Faults<'_>) -> Option<Self> {
        if !app.prefix.starts_with('/') {
            faults.add("prefix", "must start with \"/\"; write \"/\" for every path");
        }
        let hosts: Vec<_> = app.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        for (i, host) in hosts.iter().enumerate() {
            if let Some(what) = hosts::error(host) {
                faults.add(Key::element("hosts", i), what);
            }
        }
        Some(Self {
            upstream: faults.parsed("upstream", &app.upstream)?,
            name: app.name,
            policy: app.policy,
            hosts,
            prefix: app.prefix,
            cors_origins: app.cors_origins,
            timeout: app.timeout.0,
        })
    }

    /// Reports the hosts for which this application gets no requests, because an application before it takes them all.
    fn check_reached(&self, before: &[Self], faults: &mut Faults<'_>) {
        for ShadowedHost { host, by } in hosts::shadowed(self, before) {
            let key = host.map_or(Key::table("prefix"), |host| Key::element("hosts", host));
            let name = host.and_then(|host| self.hosts.get(host)).map_or("every host", String::as_str);
            let what = format!(
                "app {by:?} comes before this one and receives every request for {name} under {}; give this one another host or prefix, or put it first",
                self.prefix
            );
            faults.add(key, what);
        }
    }
}

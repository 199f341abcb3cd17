//! Checks whether requests can reach the applications.

use std::{io, net::TcpStream, os::unix::net::UnixStream, time::Duration};

use sallyport_core::{
    config::{AppConfig, Key, Upstream},
    files::os_error,
};
use sallyport_gateway::policy::Site;

use super::{Depth, Inspection};

/// An application on this machine or its network answers sooner.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

impl Inspection<'_> {
    pub(super) fn apps(&mut self, site: Option<&Site>, depth: Depth) {
        let config = self.config;
        if config.apps.is_empty() {
            self.fault(
                Vec::new(),
                "there is no [[app]], so every request would get 404; add one with name, policy and upstream",
            );
        }
        for app in site.into_iter().flat_map(Site::apps) {
            let Some((i, wanted)) = config.apps.iter().enumerate().find(|(_, wanted)| wanted.name == *app.name) else {
                continue;
            };
            if app.statement.is_some() && wanted.upstream != config.worker.listen {
                let what = format!(
                    "{} is not worker.listen ({}), and the worker accepts only requests that were signed for its own address; use the same address in both",
                    wanted.upstream, config.worker.listen
                );
                // The gateway still starts; only this application is unreachable.
                match depth {
                    Depth::Start(_) => self.warn(app_key(i, "upstream"), what),
                    Depth::Everything => self.fault(app_key(i, "upstream"), what),
                }
            }
            if !app.has_routes_under_its_prefix() {
                let what = format!(
                    "no route of the policy {:?} is under {}, so nothing is reachable; the paths of routes are complete, including the prefix",
                    wanted.policy, wanted.prefix
                );
                self.fault(app_key(i, "prefix"), what);
            }
        }
    }

    /// Checks that each upstream accepts connections, except for the worker that is started together with the gateway.
    pub(super) fn upstreams(&mut self, site: Option<&Site>) {
        let config = self.config;
        for (i, app) in config.apps.iter().enumerate() {
            let ours = self.roles.have_worker()
                && app.upstream == config.worker.listen
                && site.is_some_and(|site| site.needs_worker(&app.upstream));
            if !ours && let Err(error) = connect(&app.upstream) {
                self.silent(i, app, &error);
            }
        }
    }

    fn silent(&mut self, i: usize, app: &AppConfig, error: &io::Error) {
        let key = app_key(i, "upstream");
        let upstream = &app.upstream;
        match (upstream, error.kind()) {
            (Upstream::Unix(_), io::ErrorKind::PermissionDenied) => {
                let what = "this account may not use the socket; add the account to the socket's group";
                self.fault(key, format!("{upstream}: {what}"));
            }
            (Upstream::Unix(_), io::ErrorKind::NotFound) => {
                self.warn(key, format!("{upstream} does not exist; start the application, which creates it"));
            }
            _ => {
                let why = os_error::words(error);
                self.warn(
                    key,
                    format!("no application answers at {upstream} ({why}); start it or correct the address"),
                );
            }
        }
    }
}

fn connect(upstream: &Upstream) -> io::Result<()> {
    match upstream {
        Upstream::Tcp(address) => TcpStream::connect_timeout(address, CONNECT_TIMEOUT).map(drop),
        Upstream::Unix(path) => UnixStream::connect(path).map(drop),
    }
}

fn app_key(i: usize, name: &'static str) -> Vec<Key> {
    vec![Key::element("app", i), Key::table(name)]
}

//! Resolves the configuration as written to the validated [`Config`]: makes paths absolute, parses addresses, refuses contradictions.

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroU64},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};
use url::Url;

use super::{
    hosts::{self, Taken},
    settings::settings,
    types::{
        AppConfig, BansConfig, CertificatePaths, ClientsConfig, Config, EgressConfig, GatewayLimits, JwtConfig,
        JwtKeyConfig, LinksConfig, LogConfig, MAX_FORBIDDEN_PATHS, Network, ProxyConfig, Retention, TlsConfig, TlsMode,
        Upstream, WorkerConfig,
    },
    wire::{self, LibraryAccess, TlsModeName, Wire},
};

/// The most rotated files of the access log.
const MAX_KEEP: u32 = 1_000;
const SECOND: Duration = Duration::from_secs(1);
/// Starting yt-dlp already takes part of it.
const MIN_STALL_TIMEOUT: Duration = SECOND;

/// Where `scripts/run` installs yt-dlp and deno, next to the configuration in a checkout.
const TOOLS_DIR: &str = ".tools/bin";

/// All videos of a playlist are queued at once, and this is how many tasks of one user can be queued.
const MAX_PLAYLIST: u16 = 500;

/// A value that parses but makes no sense.
pub struct Fault {
    /// The path to the key, from the top.
    pub key: Vec<Key>,
    /// What is wrong, and how to fix it.
    pub what: String,
}

/// One step of the path to a key.
#[derive(Clone, Copy)]
pub struct Key {
    /// The name of a key, or of a table.
    pub name: &'static str,
    /// Which element of a list of tables.
    pub index: Option<usize>,
}

impl Key {
    /// The step to a key, or to a table.
    #[must_use]
    pub const fn table(name: &'static str) -> Self {
        Self { name, index: None }
    }

    /// The step to one table of a list, counted from 0.
    #[must_use]
    pub const fn element(name: &'static str, index: usize) -> Self {
        Self { name, index: Some(index) }
    }
}

impl Fault {
    /// Creates a fault of the value at `key`.
    pub fn new(key: Vec<Key>, what: impl Into<String>) -> Self {
        Self { key, what: what.into() }
    }
}

impl Config {
    /// Returns the configuration, if it can be used, and every fault.
    pub(crate) fn survey(wire: Wire, file: &Path) -> (Option<Self>, Vec<Fault>) {
        let mut faults = Faults::default();
        let config = faults.config(wire, file);
        (config, faults.0)
    }
}

/// The faults found so far.
#[derive(Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, key: Vec<Key>, what: impl Into<String>) {
        self.0.push(Fault { key, what: what.into() });
    }

    pub(super) fn parsed<T: FromStr>(&mut self, key: Vec<Key>, text: &str) -> Option<T>
    where
        T::Err: std::fmt::Display,
    {
        text.parse().map_err(|e: T::Err| self.add(key, e.to_string())).ok()
    }

    /// Returns the number of faults so far.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Resolves the configuration; returns `None` only if there are faults.
    fn config(&mut self, wire: Wire, file: &Path) -> Option<Config> {
        let (settings, base) = (settings(&wire), file.parent().unwrap_or(Path::new("/")));
        let listen = self.listen(&wire.gateway.listen);
        let (admin_listen, public_url) = (self.admin_listen(&wire), self.public_url(&wire, &listen));
        let http_listen = self.addresses("http_listen", &wire.gateway.http_listen);
        let tls = self.tls(wire.tls, !http_listen.is_empty(), base);
        let data_dir = base.join(wire.data_dir);
        self.library(&wire.worker, &base.join(&wire.worker.media_dir), &data_dir);
        let worker = self.worker(wire.worker, &wire.insecure, base);
        let egress = self.egress(wire.egress, base);
        Some(Config {
            file: file.to_owned(),
            settings,
            base_dir: base.to_owned(),
            data_dir,
            policies_dir: base.join(wire.policies_dir),
            proxies: self.proxies(&wire.gateway),
            limits: self.limits(&wire.gateway),
            admin_hosts: self.admin_hosts(&wire.gateway.admin_hosts),
            geoip: wire.gateway.geoip.map(|path| base.join(path)),
            drain_timeout: wire.gateway.drain_timeout.0,
            jwt: self.jwt(wire.jwt, base),
            links: self.links(&wire.links),
            bans: self.bans(wire.bans),
            log: self.log(wire.log, base),
            apps: self.apps(wire.app),
            listen,
            http_listen,
            // These come last, since `?` ends the search for faults.
            admin_listen: admin_listen?,
            public_url: public_url?,
            tls: tls?,
            worker: worker?,
            egress,
        })
    }

    fn addresses(&mut self, name: &'static str, texts: &[String]) -> Vec<SocketAddr> {
        let key = |index| vec![table("gateway"), Key { name, index: Some(index) }];
        texts.iter().enumerate().filter_map(|(i, text)| self.parsed(key(i), text)).collect()
    }

    fn limits(&mut self, gateway: &wire::Gateway) -> GatewayLimits {
        for (name, count) in [
            ("max_tracked_clients", gateway.max_tracked_clients),
            ("max_connections", gateway.max_connections),
            ("max_connections_per_client", gateway.max_connections_per_client),
            ("max_requests", gateway.max_requests),
            ("max_requests_per_client", gateway.max_requests_per_client),
        ] {
            if count == 0 {
                self.add(gateway_key(name), "0 would refuse every client; write at least 1");
            }
        }
        if gateway.send_timeout.0 < SECOND {
            self.add(gateway_key("send_timeout"), "must be at least \"1s\"");
        }
        if gateway.pause_timeout.0 < gateway.send_timeout.0 {
            self.add(gateway_key("pause_timeout"), "shorter than send_timeout; write at least the same");
        }
        GatewayLimits {
            max_tracked_clients: gateway.max_tracked_clients,
            max_connections: gateway.max_connections,
            max_connections_per_client: gateway.max_connections_per_client,
            max_requests: gateway.max_requests,
            max_requests_per_client: gateway.max_requests_per_client,
            max_memory: NonZeroU64::new(gateway.max_memory.0),
            min_body_rate: NonZeroU64::new(gateway.min_body_rate.0),
            send_timeout: gateway.send_timeout.0,
            pause_timeout: gateway.pause_timeout.0,
        }
    }

    fn listen(&mut self, texts: &[String]) -> Vec<SocketAddr> {
        if texts.is_empty() {
            self.add(gateway_key("listen"), "no address to listen on; write at least one, such as \"[::]:8443\"");
        }
        self.addresses("listen", texts)
    }

    fn proxies(&mut self, gateway: &wire::Gateway) -> ProxyConfig {
        let (trusted, protocol) = (gateway.trusted_proxies.clone(), gateway.proxy_protocol);
        if protocol && trusted.is_empty() {
            let what = "no proxy is trusted to send a PROXY header; list the proxies in trusted_proxies";
            self.add(gateway_key("proxy_protocol"), what);
        }
        ProxyConfig { trusted, shared: gateway.shared_addresses.clone(), protocol, header: gateway.forwarded_header }
    }

    fn admin_listen(&mut self, wire: &Wire) -> Option<Upstream> {
        let listen: Upstream = self.parsed(gateway_key("admin_listen"), &wire.gateway.admin_listen)?;
        if !listen.is_local() && !wire.insecure.admin_on_any_address {
            self.add(
                gateway_key("admin_listen"),
                "not a loopback address, and the admin listener requires no credential; use 127.0.0.1 or a unix: socket",
            );
        }
        Some(listen)
    }

    fn admin_hosts(&mut self, hosts: &[String]) -> Vec<String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        for (i, host) in hosts.iter().enumerate() {
            if host.is_empty() || !host.bytes().all(plain) {
                let key = vec![table("gateway"), Key { name: "admin_hosts", index: Some(i) }];
                self.add(
                    key,
                    format!("{host:?} is not a host name; write it without scheme and port, such as \"nas.local\""),
                );
            }
        }
        hosts.to_vec()
    }

    fn public_url(&mut self, wire: &Wire, listen: &[SocketAddr]) -> Option<Url> {
        let port = listen.first().map_or(443, SocketAddr::port);
        let name = wire.tls.first_name().unwrap_or("localhost");
        let text = wire.gateway.public_url.clone().unwrap_or_else(|| format!("https://{name}:{port}"));
        let url: Url = self.parsed(gateway_key("public_url"), &text)?;
        // Any other part of a URL would be lost, or end up in links.
        let bare = format!("{}/", url.origin().ascii_serialization());
        if url.scheme() != "https" || url.as_str() != bare {
            let what =
                "must consist of https, a host and optionally a port; write, for example, \"https://home.example.com\"";
            self.add(gateway_key("public_url"), what);
        }
        Some(url)
    }

    fn tls(&mut self, tls: wire::Tls, plain: bool, base: &Path) -> Option<TlsConfig> {
        let mode = self.tls_mode(&tls, plain, base)?;
        let further = tls.certificate.into_iter();
        let certificates =
            further.map(|c| CertificatePaths { cert: base.join(c.cert), key: base.join(c.key) }).collect();
        let clients = tls.clients.map(|c| ClientsConfig {
            ca: base.join(c.ca),
            crl: c.crl.into_iter().map(|list| base.join(list)).collect(),
            user: c.user,
        });
        Some(TlsConfig { mode, certificates, profile: tls.profile, clients })
    }

    fn tls_mode(&mut self, tls: &wire::Tls, plain: bool, base: &Path) -> Option<TlsMode> {
        let files = (&tls.cert, &tls.key);
        if tls.mode != TlsModeName::Files && files != (&None, &None) {
            let what = "cert and key require mode \"files\"; set that mode, or remove them";
            self.add(vec![table("tls")], what);
        }
        if tls.mode != TlsModeName::Acme && (!tls.domains.is_empty() || tls.email.is_some()) {
            let what = "domains and email require mode \"acme\"; set that mode, or remove them";
            self.add(vec![table("tls")], what);
        }
        let dir = base.join("certs");
        match (tls.mode, files) {
            (TlsModeName::LocalCa, _) => Some(TlsMode::LocalCa { dir, names: tls.names.clone() }),
            (TlsModeName::Acme, _) => {
                let acme = self.acme(tls, plain, base)?;
                let names = tls.names.iter().cloned().chain(acme.domains.iter().map(ToString::to_string)).collect();
                Some(TlsMode::Acme { acme, dir, names })
            }
            (TlsModeName::Files, (Some(cert), Some(key))) => {
                Some(TlsMode::Files(CertificatePaths { cert: base.join(cert), key: base.join(key) }))
            }
            (TlsModeName::Files, _) => {
                self.add(vec![table("tls")], "mode \"files\" requires cert and key; set both");
                None
            }
        }
    }

    fn jwt(&mut self, jwt: wire::Jwt, base: &Path) -> JwtConfig {
        if jwt.leeway.0 > Duration::from_mins(1) {
            self.add(vec![table("jwt"), table("leeway")], "must be at most \"60s\"");
        }
        let key = |k: wire::JwtKey| JwtKeyConfig {
            algorithm: k.algorithm,
            file: base.join(k.file),
            id: k.id,
            issuer: k.issuer,
            audience: k.audience,
        };
        JwtConfig {
            secret_env: jwt.secret_env,
            issuer: jwt.issuer,
            audience: jwt.audience,
            leeway: jwt.leeway.0,
            keys: jwt.key.into_iter().map(key).collect(),
        }
    }

    fn worker(&mut self, worker: wire::Worker, insecure: &wire::Insecure, base: &Path) -> Option<WorkerConfig> {
        let key = |name| vec![table("worker"), table(name)];
        let listen: Upstream = self.parsed(key("listen"), &worker.listen)?;
        if !listen.is_local() && !insecure.worker_on_any_address {
            self.add(
                key("listen"),
                "not a loopback address; use 127.0.0.1 or a unix: socket, so that only the gateway reaches the worker",
            );
        }
        let retention = self.retention(&worker);
        self.turns(&worker);
        let allow_key = |i| vec![table("worker"), Key { name: "allow_private", index: Some(i) }];
        let allowed = worker.allow_private.iter().enumerate();
        let allow_private = allowed.filter_map(|(i, text)| self.parsed(allow_key(i), text)).collect();
        Some(WorkerConfig {
            listen,
            media_dir: base.join(worker.media_dir),
            tools_dir: base.join(TOOLS_DIR),
            library_access: worker.library_access,
            yt_dlp: program(base, &worker.yt_dlp),
            ffmpeg: program(base, &worker.ffmpeg),
            js_runtime: program(base, &worker.js_runtime),
            readable: worker.readable.iter().map(|path| base.join(path)).collect(),
            partial_sandbox: insecure.partial_sandbox,
            allow_private,
            concurrent_downloads: worker.concurrent_downloads,
            concurrent_downloads_per_user: worker.concurrent_downloads_per_user,
            max_playlist: worker.max_playlist,
            retries: worker.retries,
            retry_delay: worker.retry_delay.0,
            stall_timeout: worker.stall_timeout.0,
            min_download_rate: worker.min_download_rate.0,
            max_filesize: worker.max_filesize.0,
            disk_reserve: worker.disk_reserve.0,
            retention,
            hls_keep_for: worker.hls_keep_for.0,
            job_timeout: worker.job_timeout.0,
            info_timeout: worker.info_timeout.0,
            look_keep_for: worker.look_keep_for.0,
        })
    }

    fn library(&mut self, worker: &wire::Worker, media_dir: &Path, data_dir: &Path) {
        if worker.library_access == LibraryAccess::Group && media_dir.starts_with(data_dir) {
            let key = vec![table("worker"), table("library_access")];
            self.add(key, "only the owner can enter data_dir, so the group cannot reach media_dir inside it; put media_dir elsewhere");
        }
    }

    fn turns(&mut self, worker: &wire::Worker) {
        let key = |name| vec![table("worker"), table(name)];
        for (name, count) in [
            ("concurrent_downloads", worker.concurrent_downloads),
            ("concurrent_downloads_per_user", worker.concurrent_downloads_per_user),
        ] {
            if count == 0 {
                self.add(key(name), "0 would never download; write at least 1");
            }
        }
        if !(1..=MAX_PLAYLIST).contains(&worker.max_playlist) {
            self.add(
                key("max_playlist"),
                "must be from 1 to 500, which is how many downloads of one user can be queued",
            );
        }
        if worker.stall_timeout.0 < MIN_STALL_TIMEOUT {
            self.add(key("stall_timeout"), "too short to read a page; write at least \"1s\"");
        }
    }

    fn retention(&mut self, worker: &wire::Worker) -> Retention {
        let key = |name| vec![table("worker"), table(name)];
        let retention = Retention {
            keep_for: worker.keep_for.map(|time| time.0),
            keep_bytes: worker.keep_bytes.map(|size| size.0),
        };
        if retention.keep_for.is_some_and(|time| time.is_zero()) {
            self.add(key("keep_for"), "0 would keep nothing; remove it to keep everything");
        }
        if retention.keep_bytes == Some(0) {
            self.add(key("keep_bytes"), "0 would keep nothing; remove it to keep everything");
        }
        retention
    }

    fn apps(&mut self, apps: Vec<wire::App>) -> Vec<AppConfig> {
        let mut names = std::collections::HashSet::new();
        let mut resolved = Vec::new();
        for (i, app) in apps.into_iter().enumerate() {
            let key = |name| vec![Key { name: "app", index: Some(i) }, table(name)];
            if !names.insert(app.name.clone()) || app.name.is_empty() {
                self.add(key("name"), format!("{:?} is empty or already used; give each app a unique name", app.name));
            }
            if !app.prefix.starts_with('/') {
                self.add(key("prefix"), "must start with \"/\"; write \"/\" for every path");
            }
            let hosts: Vec<_> = app.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
            self.hosts(i, &hosts);
            let Some(upstream) = self.parsed(key("upstream"), &app.upstream) else { continue };
            let app = AppConfig {
                name: app.name,
                policy: app.policy,
                upstream,
                hosts,
                prefix: app.prefix,
                cors_origins: app.cors_origins,
                timeout: app.timeout.0,
            };
            self.unreached(i, &app, &resolved);
            resolved.push(app);
        }
        resolved
    }

    fn hosts(&mut self, app: usize, names: &[String]) {
        for (i, name) in names.iter().enumerate() {
            if let Some(what) = hosts::fault(name) {
                self.add(vec![Key::element("app", app), Key::element("hosts", i)], what);
            }
        }
    }

    /// Reports an application that gets no requests for a host because an application before it takes them all.
    fn unreached(&mut self, i: usize, app: &AppConfig, before: &[AppConfig]) {
        for Taken { host, by } in hosts::taken(app, before) {
            let place = host.map_or(table("prefix"), |host| Key::element("hosts", host));
            let name = host.and_then(|host| app.hosts.get(host)).map_or("every host", String::as_str);
            let what = format!(
                "app {by:?} comes before this one and receives every request for {name} under {}; give this one another host or prefix, or put it first",
                app.prefix
            );
            self.add(vec![Key::element("app", i), place], what);
        }
    }

    fn egress(&mut self, egress: wire::Egress, base: &Path) -> EgressConfig {
        let key = |name| vec![table("egress"), table(name)];
        if egress.listen.is_some_and(|listen| !listen.ip().is_loopback()) {
            self.add(
                key("listen"),
                "not a loopback address; use 127.0.0.1, or remove it to run the egress guard inside the worker",
            );
        }
        if egress.ports.is_empty() {
            self.add(key("ports"), "no ports; list the ones that downloads may come from, such as [80, 443]");
        }
        EgressConfig { listen: egress.listen, ports: egress.ports, key_file: base.join(egress.key_file) }
    }

    fn log(&mut self, log: wire::Log, base: &Path) -> LogConfig {
        let level = log.level;
        // A single unknown word would be accepted as the name of a module, which never logs.
        let lone = !level.contains(['=', ',']);
        if (lone && level.parse::<LevelFilter>().is_err()) || EnvFilter::try_new(&level).is_err() {
            let what = format!("{level:?} is not a level; write error, warn, info, debug or trace");
            self.add(vec![table("log"), table("level")], what);
        }
        let lines = NonZeroU32::new(log.access_lines_per_client);
        if lines.is_none() {
            self.add(vec![table("log"), table("access_lines_per_client")], "0 would log nothing; write at least 1");
        }
        if log.access_keep > MAX_KEEP {
            let what = format!("every rotation renames each file; write at most {MAX_KEEP}");
            self.add(vec![table("log"), table("access_keep")], what);
        }
        LogConfig {
            level,
            access: base.join(log.access),
            access_format: log.access_format,
            access_lines_per_client: lines.unwrap_or(NonZeroU32::MIN),
            access_bytes_per_day: NonZeroU64::new(log.access_bytes_per_day.0),
            access_max_size: NonZeroU64::new(log.access_max_size.0),
            access_keep: log.access_keep,
            disk_reserve: log.disk_reserve.0,
        }
    }

    fn links(&mut self, links: &wire::Links) -> LinksConfig {
        if links.default_expiry > links.max_expiry {
            self.add(vec![table("links"), table("default_expiry")], "longer than max_expiry; lower it");
        }
        for (name, most) in [("max_per_user", links.max_per_user), ("max_in_all", links.max_in_all)] {
            if most == 0 {
                self.add(vec![table("links"), table(name)], "must be at least 1");
            }
        }
        LinksConfig {
            default_expiry: links.default_expiry.0,
            max_expiry: links.max_expiry.0,
            max_per_user: links.max_per_user,
            max_in_all: links.max_in_all,
        }
    }

    fn bans(&mut self, bans: wire::Bans) -> BansConfig {
        let key = |name| vec![table("bans"), table(name)];
        if bans.forbidden_paths as usize > MAX_FORBIDDEN_PATHS {
            let what = format!("each path is remembered; write at most {MAX_FORBIDDEN_PATHS}, or 0 for no limit");
            self.add(key("forbidden_paths"), what);
        }
        if bans.window.0 < SECOND {
            self.add(key("window"), "must be at least \"1s\"");
        }
        if bans.durations.is_empty() {
            self.add(key("durations"), "no durations; write at least one, such as [\"1h\"]");
        }
        for (i, _) in bans.durations.iter().enumerate().filter(|(_, duration)| duration.0 < SECOND) {
            let key = vec![table("bans"), Key { name: "durations", index: Some(i) }];
            self.add(key, "must be at least \"1s\"");
        }
        let allow_key = |i| vec![table("bans"), Key { name: "allow", index: Some(i) }];
        let allow = bans.allow.iter().enumerate();
        let allow = allow.filter_map(|(i, text)| self.parsed(allow_key(i), text).map(|Network(network)| network));
        BansConfig {
            allow: allow.collect(),
            enabled: bans.enabled,
            failed_credentials: NonZeroU32::new(bans.failed_credentials),
            forbidden_paths: NonZeroU32::new(bans.forbidden_paths),
            denied_requests: NonZeroU32::new(bans.denied_requests),
            window: bans.window.0,
            durations: bans.durations.into_iter().map(|duration| duration.0).collect(),
            spare_authenticated: bans.spare_authenticated.0,
            include_local: bans.include_local,
        }
    }
}

/// Returns the path of a program. A name is looked up on the PATH later; a path with a slash is relative to the file's folder.
pub(super) fn program(base: &Path, text: &str) -> PathBuf {
    if text.contains('/') { base.join(text) } else { text.into() }
}

fn table(name: &'static str) -> Key {
    Key::table(name)
}

fn gateway_key(name: &'static str) -> Vec<Key> {
    vec![table("gateway"), table(name)]
}

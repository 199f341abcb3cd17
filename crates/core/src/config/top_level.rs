//! The whole file: its top level as written, and the validated [`Config`], in which every path is absolute and every address parsed.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use url::Url;

use super::{
    app::{AppConfig, AppToml},
    bans::{BansConfig, BansToml},
    base::Base,
    effect::{AT_ONCE, Named::Table, RESTART_ALL, toml_table},
    egress::{EgressConfig, EgressToml},
    fault::{Fault, Faults},
    gateway::GatewayToml,
    gateway_limits::GatewayLimits,
    insecure::InsecureToml,
    jwt::{JwtConfig, JwtToml},
    links::{LinksConfig, LinksToml},
    log::{LogConfig, LogToml},
    proxies::ProxyConfig,
    settings::{Settings, settings},
    tls::{TlsConfig, TlsToml},
    upstream::Upstream,
    worker::{WorkerConfig, WorkerToml},
};
use crate::addresses::{client_network, is_local};

toml_table! {
    /// The whole file.
    struct ConfigToml {
        data_dir: PathBuf = "data".into() => RESTART_ALL;
        policies_dir: PathBuf = "policies".into() => AT_ONCE;
        gateway: GatewayToml = GatewayToml::default() => Table(GatewayToml::KEYS);
        tls: TlsToml = TlsToml::default() => Table(TlsToml::KEYS);
        jwt: JwtToml = JwtToml::default() => Table(JwtToml::KEYS);
        links: LinksToml = LinksToml::default() => Table(LinksToml::KEYS);
        bans: BansToml = BansToml::default() => Table(BansToml::KEYS);
        log: LogToml = LogToml::default() => Table(LogToml::KEYS);
        worker: WorkerToml = WorkerToml::default() => Table(WorkerToml::KEYS);
        egress: EgressToml = EgressToml::default() => Table(EgressToml::KEYS);
        app: Vec<AppToml> = Vec::new() => Table(AppToml::KEYS);
        insecure: InsecureToml = InsecureToml::default() => Table(InsecureToml::KEYS);
    }
}

/// The validated configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that it was read from.
    pub file: PathBuf,
    /// Every setting with its written or default value, by dotted name, to find out what has changed.
    pub settings: Settings,
    /// The folder of the configuration file, which relative paths start from.
    pub base_dir: PathBuf,
    /// State and secrets (0700).
    pub data_dir: PathBuf,
    /// The folder with policies that override the built-in ones.
    pub policies_dir: PathBuf,
    /// The addresses of TLS listeners.
    pub listen: Vec<SocketAddr>,
    /// The addresses of plain listeners, which redirect to TLS.
    pub http_listen: Vec<SocketAddr>,
    /// The address of the admin listener: health, readiness and metrics.
    pub admin_listen: Upstream,
    /// Names that the admin listener accepts besides addresses and local names.
    pub admin_hosts: Vec<String>,
    /// The gateway's public URL.
    pub public_url: Url,
    /// The proxies in front of the gateway.
    pub proxies: ProxyConfig,
    /// The country database.
    pub geoip: Option<PathBuf>,
    /// The limits on connections, requests and memory.
    pub limits: GatewayLimits,
    /// How long running requests may continue after a stop was requested.
    pub drain_timeout: Duration,
    /// Certificates and TLS versions.
    pub tls: TlsConfig,
    /// The settings for JSON Web Tokens.
    pub jwt: JwtConfig,
    /// The lifetimes and number of links.
    pub links: LinksConfig,
    /// The settings for bans.
    pub bans: BansConfig,
    /// The settings for logs.
    pub log: LogConfig,
    /// The worker's settings.
    pub worker: WorkerConfig,
    /// The egress guard's settings.
    pub egress: EgressConfig,
    /// The applications behind the gateway, in order.
    pub apps: Vec<AppConfig>,
}

impl Config {
    /// Returns the configuration, if it can be used, and every fault.
    pub(super) fn validate(written: ConfigToml, file: &Path) -> (Option<Self>, Vec<Fault>) {
        let mut found = Vec::new();
        let config = Self::resolve(written, file, &mut Faults::new(&mut found));
        (config, found)
    }

    /// Resolves the configuration; returns `None` only if there are faults.
    fn resolve(written: ConfigToml, file: &Path, faults: &mut Faults<'_>) -> Option<Self> {
        let settings = settings(&written);
        let base = Base(file.parent().unwrap_or(Path::new("/")));
        let data_dir = base.path(&written.data_dir);
        let gateway = &written.gateway;
        let insecure = &written.insecure;
        let mut gateway_faults = faults.within("gateway");
        let listen = gateway.listen(&mut gateway_faults);
        let admin_listen = gateway.admin_listen(insecure, &mut gateway_faults);
        let public_url = gateway.public_url(written.tls.first_name(), &listen, &mut gateway_faults);
        let http_listen = gateway_faults.all_parsed("http_listen", &gateway.http_listen);
        let tls = TlsConfig::resolve(written.tls, !http_listen.is_empty(), base, &mut faults.within("tls"));
        let worker = WorkerConfig::resolve(&written.worker, insecure, &data_dir, base, &mut faults.within("worker"));
        let egress = EgressConfig::resolve(written.egress, base, &mut faults.within("egress"));
        let mut gateway_faults = faults.within("gateway");
        Some(Self {
            file: file.to_owned(),
            settings,
            base_dir: base.0.to_owned(),
            policies_dir: base.path(&written.policies_dir),
            proxies: ProxyConfig::resolve(gateway, &mut gateway_faults),
            limits: GatewayLimits::resolve(gateway, &mut gateway_faults),
            admin_hosts: gateway.admin_hosts(&mut gateway_faults),
            geoip: gateway.geoip.as_ref().map(|path| base.path(path)),
            drain_timeout: gateway.drain_timeout.0,
            jwt: JwtConfig::resolve(written.jwt, base, &mut faults.within("jwt")),
            links: LinksConfig::resolve(&written.links, &mut faults.within("links")),
            bans: BansConfig::resolve(written.bans, &mut faults.within("bans")),
            log: LogConfig::resolve(written.log, base, &mut faults.within("log")),
            apps: AppConfig::resolve_all(written.app, faults),
            data_dir,
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

    /// Returns the path of `secrets/` in the data folder.
    #[must_use]
    pub fn secrets_dir(&self) -> PathBuf {
        self.data_dir.join("secrets")
    }

    /// Returns the path of `acme/` in the data folder.
    #[must_use]
    pub fn acme_dir(&self) -> PathBuf {
        self.data_dir.join("acme")
    }

    /// Returns true if `address` is never banned: it is local, shared by many clients, or in `bans.allow`.
    #[must_use]
    pub fn never_bans(&self, address: IpAddr) -> bool {
        // A client behind NAT64 is banned by its IPv4 address, so the exemptions of that address apply to it as well.
        let translated = Some(client_network(address)).filter(IpAddr::is_ipv4);
        std::iter::once(address).chain(translated).any(|address| {
            let local = !self.bans.include_local && is_local(address);
            local || self.proxies.is_shared(address) || self.bans.allow.iter().any(|net| net.contains(&address))
        })
    }
}

//! The configuration as the program uses it: every path absolute, every address parsed.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use ipnet::IpNet;
use thiserror::Error;
use url::{Host, Url};

use super::acme::AcmeConfig;
use super::settings::Settings;
use super::wire::{AccessFormat, ForwardedHeader, JwtAlgorithm, LibraryAccess, TlsProfile};
use crate::{
    address::{client_network, is_local},
    identity::UserField,
};

/// The configuration as the program uses it.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that it was read from.
    pub file: PathBuf,
    /// Every setting as it was written or is by default, under its dotted name, for telling what has changed.
    pub settings: Settings,
    /// The folder of the configuration file; relative paths start here.
    pub base_dir: PathBuf,
    /// State and secrets (0700).
    pub data_dir: PathBuf,
    /// Where policies that override the built-in ones lie.
    pub policies_dir: PathBuf,
    /// TLS listeners.
    pub listen: Vec<SocketAddr>,
    /// Plain listeners that redirect to TLS.
    pub http_listen: Vec<SocketAddr>,
    /// Health, readiness and metrics.
    pub admin_listen: Upstream,
    /// By which names, beside addresses and local names, the admin listener is asked.
    pub admin_hosts: Vec<String>,
    /// What the outside calls this gateway.
    pub public_url: Url,
    /// The proxies before the gateway.
    pub proxies: ProxyConfig,
    /// The database of countries.
    pub geoip: Option<PathBuf>,
    /// How much clients may take up.
    pub limits: Limits,
    /// How long running requests may go on after a stop was asked for.
    pub drain_timeout: Duration,
    /// Certificates and versions.
    pub tls: TlsConfig,
    /// Token settings.
    pub jwt: JwtConfig,
    /// The lives of links.
    pub links: LinksConfig,
    /// Who is shut out, and for how long.
    pub bans: BansConfig,
    /// Logs.
    pub log: LogConfig,
    /// The worker's settings.
    pub worker: WorkerConfig,
    /// The egress guard's.
    pub egress: EgressConfig,
    /// The applications behind the gateway, in order.
    pub apps: Vec<AppConfig>,
}

/// How much clients may take up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// At most so many clients are remembered by each rate limit.
    pub max_tracked_clients: usize,
    /// At most so many connections are open at a time.
    pub max_connections: usize,
    /// At most so many of them belong to one IPv4 address or IPv6 /64.
    pub max_connections_per_client: usize,
    /// At most so many requests are on their way at a time.
    pub max_requests: usize,
    /// At most so many of them belong to one IPv4 address or IPv6 /64.
    pub max_requests_per_client: usize,
    /// What the gateway may hold in memory before it turns new requests away, in bytes; None: what the system can spare.
    pub max_memory: Option<NonZeroU64>,
    /// The average that a request's body keeps after its first seconds, in bytes for each second; None: as slow as it likes.
    pub min_body_rate: Option<NonZeroU64>,
    /// A client that takes nothing of what it is sent is given up after so long.
    pub send_timeout: Duration,
    /// The same for a client whose user is known, while there is memory.
    pub pause_timeout: Duration,
}

/// The proxies before the gateway, and how they say who calls.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Whose word is taken.
    pub trusted: Vec<IpNet>,
    /// Where many clients come from by one address, such as a tunnel's end on this machine.
    pub shared: Vec<IpNet>,
    /// Whether their connections begin with a PROXY header.
    pub protocol: bool,
    /// The header that is read of them.
    pub header: ForwardedHeader,
}

/// Certificates and versions.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Where the first certificate comes from.
    pub mode: TlsMode,
    /// Further ones, for clients that ask for their names.
    pub certificates: Vec<CertificatePaths>,
    /// Versions and cipher suites.
    pub profile: TlsProfile,
    /// Certificates that clients may show; None: none is asked for.
    pub clients: Option<ClientsConfig>,
}

/// Whose certificates stand for users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientsConfig {
    /// The authorities' certificates in PEM.
    pub ca: PathBuf,
    /// Their revocation lists in PEM.
    pub crl: Vec<PathBuf>,
    /// Where a certificate has its user's name.
    pub user: UserField,
}

/// A certificate's two files in PEM, watched for changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificatePaths {
    /// The chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Where the first certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// A local authority of our own, in `certs/`, for these names and every address of this machine.
    LocalCa {
        /// The folder that holds authority and certificate.
        dir: PathBuf,
        /// Names beside those that are found.
        names: Vec<String>,
    },
    /// Two files.
    Files(CertificatePaths),
    /// Those that public authorities give, and until they do one of the local authority.
    Acme {
        /// Which, and how.
        acme: AcmeConfig,
        /// The folder that holds the local authority and its certificate.
        dir: PathBuf,
        /// Names in the local authority's certificate beside those that are found.
        names: Vec<String>,
    },
}

/// The lives of links, and how many there may be.
#[derive(Clone, Copy, Debug)]
pub struct LinksConfig {
    /// A link's life when none is asked for.
    pub default_expiry: Duration,
    /// A link's longest life.
    pub max_expiry: Duration,
    /// How many there may be in one user's name.
    pub max_per_user: u32,
    /// How many there may be in all.
    pub max_in_all: u32,
}

/// Who is shut out, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BansConfig {
    /// False: nobody is.
    pub enabled: bool,
    /// So many failed credentials are too many; None: any number is fine.
    pub failed_credentials: Option<NonZeroU32>,
    /// So many different forbidden paths are too many; None: any number is fine.
    pub forbidden_paths: Option<NonZeroU32>,
    /// So many requests that are denied to a client that nobody knows are too many; None: any number is fine.
    pub denied_requests: Option<NonZeroU32>,
    /// The time in which they are counted.
    pub window: Duration,
    /// How long the first ban of a client lasts, its second, and so on; the last one for all that follow.
    pub durations: Vec<Duration>,
    /// Who has authenticated is not banned for so long.
    pub spare_authenticated: Duration,
    /// Networks that are never banned.
    pub allow: Vec<IpNet>,
    /// Whether this machine and its networks can be banned.
    pub include_local: bool,
}

/// Logs.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// A filter in `tracing` syntax.
    pub level: String,
    /// The access log's file.
    pub access: PathBuf,
    /// The access log's format.
    pub access_format: AccessFormat,
    /// The lines that one user or client may have in a second.
    pub access_lines_per_client: NonZeroU32,
    /// The bytes that the access log may grow by in a day; None: any number.
    pub access_bytes_per_day: Option<NonZeroU64>,
    /// The size at which the access log is rotated, in bytes; None: never.
    pub access_max_size: Option<NonZeroU64>,
    /// How many rotated files are kept.
    pub access_keep: u32,
    /// Free space in bytes below which only requests of users are logged.
    pub disk_reserve: u64,
}

/// Token settings.
#[derive(Clone, Debug)]
pub struct JwtConfig {
    /// The variable that may hold the secret.
    pub secret_env: String,
    /// The `iss` that tokens must have, where set.
    pub issuer: Option<String>,
    /// The `aud` that tokens must have, where set.
    pub audience: Option<String>,
    /// Tolerance for clocks, at most 60 s (RFC 8725 leaves it open; RFC 7519, section 4.1.4, asks for "a few minutes" at most).
    pub leeway: Duration,
    /// Public keys whose tokens are accepted too.
    pub keys: Vec<JwtKeyConfig>,
}

/// One public key.
#[derive(Clone, Debug)]
pub struct JwtKeyConfig {
    /// Its one algorithm.
    pub algorithm: JwtAlgorithm,
    /// The PEM file.
    pub file: PathBuf,
    /// The `kid` that chooses it; without one it is tried for tokens without a `kid`.
    pub id: Option<String>,
    /// The `iss` that its tokens must have, where set.
    pub issuer: Option<String>,
    /// The `aud` that its tokens must have, where set.
    pub audience: Option<String>,
}

/// The worker's settings.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Where it listens.
    pub listen: Upstream,
    /// Finished media.
    pub media_dir: PathBuf,
    /// Which accounts can read finished files.
    pub library_access: LibraryAccess,
    /// Where programs that are given by name are looked for before the PATH.
    pub tools_dir: PathBuf,
    /// The yt-dlp program, a name or a path.
    pub yt_dlp: PathBuf,
    /// The ffmpeg program, likewise.
    pub ffmpeg: PathBuf,
    /// The JavaScript runtime for yt-dlp (deno), likewise.
    pub js_runtime: PathBuf,
    /// What children may read beside what their programs need.
    pub readable: Vec<PathBuf>,
    /// Hosts that may be private all the same.
    pub allow_private: Vec<HostPort>,
    /// How many downloads run at a time.
    pub concurrent_downloads: usize,
    /// How many of one user's.
    pub concurrent_downloads_per_user: usize,
    /// How many films a list may have.
    pub max_playlist: u16,
    /// How often a download that failed for a passing reason is tried again.
    pub retries: u32,
    /// How long until the first of these, at least; each later one waits twice as long as the one before.
    pub retry_delay: Duration,
    /// The longest silence of a download before it is ended and tried again.
    pub stall_timeout: Duration,
    /// A download that is slower, in bytes a second, makes room for those of others who wait.
    pub min_download_rate: u64,
    /// The largest file that is kept, in bytes.
    pub max_filesize: u64,
    /// How long finished files are kept.
    pub retention: Retention,
    /// How long prepared streams are kept that nobody plays.
    pub hls_keep_for: Duration,
    /// Free space that downloads leave alone, in bytes.
    pub disk_reserve: u64,
    /// The longest that one download may run.
    pub job_timeout: Duration,
    /// The longest that one look at a page's metadata may take.
    pub info_timeout: Duration,
    /// How long what a look has found is kept for who asks the same.
    pub look_keep_for: Duration,
    /// Whether children run where they cannot be kept in as they should.
    pub partial_sandbox: bool,
}

/// How long finished files are kept, by their last play; without limits for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Who was not played for so long goes.
    pub keep_for: Option<Duration>,
    /// All together are no larger than this, in bytes; the least recently played goes first.
    pub keep_bytes: Option<u64>,
}

/// The egress guard's settings.
#[derive(Clone, Debug)]
pub struct EgressConfig {
    /// Where it listens as a process of its own, on loopback; None: it is part of the worker.
    pub listen: Option<SocketAddr>,
    /// The ports of public hosts that children may go to.
    pub ports: Vec<u16>,
    /// The key that it shares with the worker.
    pub key_file: PathBuf,
}

/// An application behind the gateway.
#[derive(Clone, Debug)]
pub struct AppConfig {
    /// Its name in logs and links.
    pub name: String,
    /// Its policy's name.
    pub policy: String,
    /// Where it listens.
    pub upstream: Upstream,
    /// The host names that it answers for, lower case; empty for all.
    pub hosts: Vec<String>,
    /// The path prefix that it answers for; "/" for all.
    pub prefix: String,
    /// Origins that its CORS routes allow beside those of the policy.
    pub cors_origins: Vec<String>,
    /// The longest silence of the application within an answer.
    pub timeout: Duration,
}

/// An address on this machine's network or a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Upstream {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
}

/// A host, as a URL names it, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
}

/// Not an address or a Unix socket.
#[derive(Debug, Error)]
#[error("{0:?} is not an address; write \"127.0.0.1:8001\", \"[::1]:8001\" or \"unix:/run/app.sock\"")]
pub struct InvalidUpstream(String);

/// A network, or an address as the network of it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network(pub(super) IpNet);

/// Not a network or an address.
#[derive(Debug, Error)]
#[error("{0:?} is not a network or one address; write \"192.0.2.0/24\", \"2001:db8::/32\" or \"192.0.2.1\"")]
pub(super) struct InvalidNetwork(String);

/// Not a host and a port.
#[derive(Debug, Error)]
#[error("{0:?} is not a host and port; write \"127.0.0.1:8080\" or \"nas.lan:80\"")]
pub struct InvalidHostPort(String);

impl FromStr for Upstream {
    type Err = InvalidUpstream;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => Err(InvalidUpstream(text.to_owned())),
            None => text.parse().map(Self::Tcp).map_err(|_| InvalidUpstream(text.to_owned())),
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Upstream {
    /// True when only this machine reaches it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = text.parse::<IpAddr>().map(|address| address.to_canonical().into());
        let network: IpNet = address.or_else(|_| text.parse()).map_err(|_| InvalidNetwork(text.to_owned()))?;
        // Clients are compared by their address of IPv4, so nobody would ever be in it.
        let mapped = matches!(network, IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some());
        if mapped || network.trunc() != network { Err(InvalidNetwork(text.to_owned())) } else { Ok(Self(network)) }
    }
}

impl FromStr for HostPort {
    type Err = InvalidHostPort;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || InvalidHostPort(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
        Ok(Self { host: Host::parse(host).map_err(|_| error())?, port: port.parse().map_err(|_| error())? })
    }
}

impl HostPort {
    /// True when `url` goes to this host and port.
    #[must_use]
    pub fn matches(&self, url: &Url) -> bool {
        url.host().is_some_and(|h| h.to_owned() == self.host) && url.port_or_known_default() == Some(self.port)
    }
}

impl Config {
    /// `secrets/` in the data folder.
    #[must_use]
    pub fn secrets_dir(&self) -> PathBuf {
        self.data_dir.join("secrets")
    }

    /// `acme/` in the data folder.
    #[must_use]
    pub fn acme_dir(&self) -> PathBuf {
        self.data_dir.join("acme")
    }

    /// True when `address` is not banned whatever it does: of this machine or its networks, one that many
    /// clients share, or allowed.
    #[must_use]
    pub fn never_bans(&self, address: IpAddr) -> bool {
        // A translated client is banned by its IPv4 address, so what is said of that holds for it, too.
        let translated = Some(client_network(address)).filter(IpAddr::is_ipv4);
        std::iter::once(address).chain(translated).any(|address| {
            let local = !self.bans.include_local && is_local(address);
            local || self.proxies.is_shared(address) || self.bans.allow.iter().any(|net| net.contains(&address))
        })
    }
}

impl ClientsConfig {
    /// What it is read from.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.ca).chain(&self.crl)
    }
}

impl TlsConfig {
    /// The certificates that must be there before a start.
    pub fn files(&self) -> impl Iterator<Item = &CertificatePaths> {
        let first = match &self.mode {
            TlsMode::Files(files) => Some(files),
            TlsMode::LocalCa { .. } | TlsMode::Acme { .. } => None,
        };
        first.into_iter().chain(&self.certificates)
    }
}

impl ProxyConfig {
    /// True when `address` belongs to a proxy whose word is taken.
    #[must_use]
    pub fn trust(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&address))
    }

    /// True when `address` may stand for many clients.
    #[must_use]
    pub fn is_shared(&self, address: IpAddr) -> bool {
        self.trust(address) || self.shared.iter().any(|net| net.contains(&address))
    }
}

//! The validated configuration: every path is absolute, every address parsed.

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

use super::{
    acme::AcmeConfig,
    settings::Settings,
    wire::{AccessFormat, ForwardedHeader, JwtAlgorithm, LibraryAccess, TlsProfile, UserField},
};
use crate::addresses::{client_network, is_local};

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

/// The limits on connections, requests and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayLimits {
    /// The number of clients that each rate limit remembers.
    pub max_tracked_clients: usize,
    /// The number of simultaneous connections.
    pub max_connections: usize,
    /// The number of simultaneous connections of one IPv4 address or IPv6 /64.
    pub max_connections_per_client: usize,
    /// The number of simultaneous requests.
    pub max_requests: usize,
    /// The number of simultaneous requests of one IPv4 address or IPv6 /64.
    pub max_requests_per_client: usize,
    /// The memory that the gateway may use before it refuses new requests, in bytes; `None` means what the system can spare.
    pub max_memory: Option<NonZeroU64>,
    /// The minimum average rate of a request body after its first seconds, in bytes per second; `None` means no minimum.
    pub min_body_rate: Option<NonZeroU64>,
    /// How long a client may read nothing of a response before it is disconnected.
    pub send_timeout: Duration,
    /// The same for an authenticated client, as long as there is enough memory.
    pub pause_timeout: Duration,
}

/// The proxies in front of the gateway, and how they name the client.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// The trusted proxies.
    pub trusted: Vec<IpNet>,
    /// Addresses that many clients share, such as the local end of a tunnel.
    pub shared: Vec<IpNet>,
    /// Whether connections of trusted proxies begin with a PROXY header.
    pub protocol: bool,
    /// The header in which trusted proxies name the client.
    pub header: ForwardedHeader,
}

/// Certificates and TLS versions.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Where the first certificate comes from.
    pub mode: TlsMode,
    /// Additional certificates, for clients that ask for their names.
    pub certificates: Vec<CertificatePaths>,
    /// TLS versions and cipher suites.
    pub profile: TlsProfile,
    /// The accepted client certificates; `None` means that none is requested.
    pub clients: Option<ClientsConfig>,
}

/// The client certificates that authenticate users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientsConfig {
    /// The file with the authorities' certificates in PEM.
    pub ca: PathBuf,
    /// The files with their revocation lists in PEM.
    pub crl: Vec<PathBuf>,
    /// The field of a certificate that holds the user's name.
    pub user: UserField,
}

/// The two files of a certificate in PEM, which are watched for changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificatePaths {
    /// The certificate chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Where the first certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// A local authority in `certs/`, which issues a certificate for these names and every address of this machine.
    LocalCa {
        /// The folder of the authority and its certificate.
        dir: PathBuf,
        /// Names in addition to the detected ones.
        names: Vec<String>,
    },
    /// Two files.
    Files(CertificatePaths),
    /// Public authorities, by ACME; until they issue a certificate, one of the local authority is used.
    Acme {
        /// The ACME settings.
        acme: AcmeConfig,
        /// The folder of the local authority and its certificate.
        dir: PathBuf,
        /// Names in the local authority's certificate in addition to the detected ones.
        names: Vec<String>,
    },
}

/// The lifetimes and number of links.
#[derive(Clone, Copy, Debug)]
pub struct LinksConfig {
    /// The lifetime of a link if none is requested.
    pub default_expiry: Duration,
    /// The longest lifetime of a link.
    pub max_expiry: Duration,
    /// The number of links per user.
    pub max_per_user: u32,
    /// The total number of links.
    pub max_in_all: u32,
}

/// The number of forbidden paths that are remembered per client; `bans.forbidden_paths` cannot be larger.
pub const MAX_FORBIDDEN_PATHS: usize = 100;

/// Which clients are banned, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BansConfig {
    /// Whether clients are banned at all.
    pub enabled: bool,
    /// The number of failed credentials that leads to a ban; `None` means no limit.
    pub failed_credentials: Option<NonZeroU32>,
    /// The number of different forbidden paths that leads to a ban; `None` means no limit.
    pub forbidden_paths: Option<NonZeroU32>,
    /// The number of denied requests of an unauthenticated client that leads to a ban; `None` means no limit.
    pub denied_requests: Option<NonZeroU32>,
    /// The period in which they are counted.
    pub window: Duration,
    /// The durations of a client's first ban, its second, and so on; the last one applies to all further bans.
    pub durations: Vec<Duration>,
    /// How long an authenticated client is exempt from bans.
    pub spare_authenticated: Duration,
    /// Networks that are never banned.
    pub allow: Vec<IpNet>,
    /// Whether this machine and its networks can be banned.
    pub include_local: bool,
}

/// The settings for logs.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// A filter in `tracing` syntax.
    pub level: String,
    /// The file of the access log.
    pub access: PathBuf,
    /// The format of the access log.
    pub access_format: AccessFormat,
    /// The number of lines per second for one user or client.
    pub access_lines_per_client: NonZeroU32,
    /// The number of bytes that the access log may grow by per day; `None` means no limit.
    pub access_bytes_per_day: Option<NonZeroU64>,
    /// The size at which the access log is rotated, in bytes; `None` means never.
    pub access_max_size: Option<NonZeroU64>,
    /// How many rotated files are kept.
    pub access_keep: u32,
    /// The free space, in bytes, below which only requests of users are logged.
    pub disk_reserve: u64,
}

/// The settings for JSON Web Tokens.
#[derive(Clone, Debug)]
pub struct JwtConfig {
    /// The environment variable that can hold the secret.
    pub secret_env: String,
    /// The `iss` that tokens must have, if set.
    pub issuer: Option<String>,
    /// The `aud` that tokens must have, if set.
    pub audience: Option<String>,
    /// The tolerance for clock skew, at most 60 s (RFC 8725 leaves it open; RFC 7519, section 4.1.4, allows at most "a few minutes").
    pub leeway: Duration,
    /// Public keys whose tokens are accepted as well.
    pub keys: Vec<JwtKeyConfig>,
}

/// A public key that verifies tokens.
#[derive(Clone, Debug)]
pub struct JwtKeyConfig {
    /// The only algorithm that it is used with.
    pub algorithm: JwtAlgorithm,
    /// The PEM file.
    pub file: PathBuf,
    /// The `kid` that selects it; a key without one is tried for tokens without a `kid`.
    pub id: Option<String>,
    /// The `iss` that its tokens must have, if set.
    pub issuer: Option<String>,
    /// The `aud` that its tokens must have, if set.
    pub audience: Option<String>,
}

/// The worker's settings.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// The address that the worker listens on.
    pub listen: Upstream,
    /// The folder of finished media.
    pub media_dir: PathBuf,
    /// Which system accounts can read finished files.
    pub library_access: LibraryAccess,
    /// The folder that is searched for programs given by name, before the PATH.
    pub tools_dir: PathBuf,
    /// The yt-dlp program, as a name or a path.
    pub yt_dlp: PathBuf,
    /// The ffmpeg program, as a name or a path.
    pub ffmpeg: PathBuf,
    /// The JavaScript runtime for yt-dlp (deno), as a name or a path.
    pub js_runtime: PathBuf,
    /// Paths that child processes may read in addition to what their programs need.
    pub readable: Vec<PathBuf>,
    /// Private hosts that are allowed.
    pub allow_private: Vec<HostPort>,
    /// The number of simultaneous downloads.
    pub concurrent_downloads: usize,
    /// The number of simultaneous downloads of one user.
    pub concurrent_downloads_per_user: usize,
    /// The number of videos in a playlist.
    pub max_playlist: u16,
    /// How often a download is retried after a temporary failure.
    pub retries: u32,
    /// The shortest delay before the first retry; it doubles with each further one.
    pub retry_delay: Duration,
    /// How long a download may make no progress before it is stopped and retried.
    pub stall_timeout: Duration,
    /// The rate, in bytes per second, below which a download makes room for waiting downloads of other users.
    pub min_download_rate: u64,
    /// The largest file that is kept, in bytes.
    pub max_filesize: u64,
    /// How long finished files are kept.
    pub retention: Retention,
    /// How long prepared streams are kept after they were last played.
    pub hls_keep_for: Duration,
    /// The free space that downloads must leave, in bytes.
    pub disk_reserve: u64,
    /// The longest time that a download may run.
    pub job_timeout: Duration,
    /// The longest time that fetching the metadata of a page may take.
    pub info_timeout: Duration,
    /// How long fetched metadata is cached for identical requests.
    pub look_keep_for: Duration,
    /// Whether child processes run even if they cannot be fully sandboxed.
    pub partial_sandbox: bool,
}

/// How long finished files are kept, by the time they were last played; without limits, forever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Files that were not played for this long are removed.
    pub keep_for: Option<Duration>,
    /// The total size of all files, in bytes; the least recently played ones are removed first.
    pub keep_bytes: Option<u64>,
}

/// The egress guard's settings.
#[derive(Clone, Debug)]
pub struct EgressConfig {
    /// The loopback address that it listens on as a separate process; `None` makes it part of the worker.
    pub listen: Option<SocketAddr>,
    /// The ports of public hosts that child processes may connect to.
    pub ports: Vec<u16>,
    /// The file of the key that it shares with the worker.
    pub key_file: PathBuf,
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
    pub timeout: Duration,
}

/// A TCP address or a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Upstream {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
}

/// A host, as in a URL, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
}

/// A text that is neither an address nor a Unix socket.
#[derive(Debug, Error)]
#[error("{0:?} is not an address; write \"127.0.0.1:8001\", \"[::1]:8001\" or \"unix:/run/app.sock\"")]
pub struct InvalidUpstream(String);

/// A network; a single address is a network of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network(pub(super) IpNet);

/// A text that is neither a network nor an address.
#[derive(Debug, Error)]
#[error("{0:?} is not a network or an address; write \"192.0.2.0/24\", \"2001:db8::/32\" or \"192.0.2.1\"")]
pub(super) struct InvalidNetwork(String);

/// A text that is not a host and a port.
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
    /// Returns true if only this machine can reach it.
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
        // Clients are compared by their IPv4 address, so no client would ever match.
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
    /// Returns true if `url` has this host and port.
    #[must_use]
    pub fn matches(&self, url: &Url) -> bool {
        url.host().is_some_and(|h| h.to_owned() == self.host) && url.port_or_known_default() == Some(self.port)
    }
}

impl Config {
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

impl ClientsConfig {
    /// Returns the files that it is read from.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.ca).chain(&self.crl)
    }
}

impl TlsConfig {
    /// Returns the certificates that must exist before startup.
    pub fn files(&self) -> impl Iterator<Item = &CertificatePaths> {
        let first = match &self.mode {
            TlsMode::Files(files) => Some(files),
            TlsMode::LocalCa { .. } | TlsMode::Acme { .. } => None,
        };
        first.into_iter().chain(&self.certificates)
    }
}

impl ProxyConfig {
    /// Returns true if `address` belongs to a trusted proxy.
    #[must_use]
    pub fn trust(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&address))
    }

    /// Returns true if many clients may share `address`.
    #[must_use]
    pub fn is_shared(&self, address: IpAddr) -> bool {
        self.trust(address) || self.shared.iter().any(|net| net.contains(&address))
    }
}

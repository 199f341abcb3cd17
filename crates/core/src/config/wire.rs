//! `config.toml` as written: every table and key with its default, and nothing else.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    acme,
    units::{ByteSize, Duration},
};

const LOOPBACK_V4: IpNet = IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8);
const LOOPBACK_V6: IpNet = IpNet::new_assert(IpAddr::V6(Ipv6Addr::LOCALHOST), 128);

/// The whole file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Wire {
    pub(crate) data_dir: PathBuf,
    pub(crate) policies_dir: PathBuf,
    pub(crate) gateway: Gateway,
    pub(crate) tls: Tls,
    pub(crate) jwt: Jwt,
    pub(crate) links: Links,
    pub(crate) bans: Bans,
    pub(crate) log: Log,
    pub(crate) worker: Worker,
    pub(crate) egress: Egress,
    pub(crate) app: Vec<App>,
    pub(crate) insecure: Insecure,
}

/// `[gateway]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Gateway {
    pub(crate) listen: Vec<String>,
    pub(crate) http_listen: Vec<String>,
    pub(crate) admin_listen: String,
    pub(crate) admin_hosts: Vec<String>,
    pub(crate) public_url: Option<String>,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) proxy_protocol: bool,
    pub(crate) forwarded_header: ForwardedHeader,
    pub(crate) shared_addresses: Vec<IpNet>,
    pub(crate) geoip: Option<PathBuf>,
    pub(crate) max_tracked_clients: usize,
    pub(crate) max_connections: usize,
    pub(crate) max_connections_per_client: usize,
    pub(crate) max_requests: usize,
    pub(crate) max_requests_per_client: usize,
    pub(crate) max_memory: ByteSize,
    pub(crate) min_body_rate: ByteSize,
    pub(crate) send_timeout: Duration,
    pub(crate) pause_timeout: Duration,
    pub(crate) drain_timeout: Duration,
}

/// The header in which trusted proxies name the client of a forwarded request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// `[tls]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tls {
    pub(crate) mode: TlsModeName,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) names: Vec<String>,
    pub(crate) domains: Vec<String>,
    pub(crate) email: Option<String>,
    pub(crate) profile: TlsProfile,
    pub(crate) acme: acme::Wire,
    pub(crate) certificate: Vec<Certificate>,
    pub(crate) clients: Option<Clients>,
}

/// `[tls.clients]`: client certificates that authenticate users.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Clients {
    pub(crate) ca: PathBuf,
    #[serde(default)]
    pub(crate) crl: Vec<PathBuf>,
    #[serde(default)]
    pub(crate) user: UserField,
}

/// `[[tls.certificate]]`: an additional certificate, for clients that ask for one of its names.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Certificate {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// The TLS versions and cipher suites, by the names of Mozilla's profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsProfile {
    /// TLS 1.2 and 1.3.
    Intermediate,
    /// Only TLS 1.3.
    Modern,
}

/// Where the certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TlsModeName {
    LocalCa,
    Files,
    Acme,
}

/// `[jwt]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Jwt {
    pub(crate) secret_env: String,
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Option<String>,
    pub(crate) leeway: Duration,
    pub(crate) key: Vec<JwtKey>,
}

/// `[[jwt.key]]`: a public key whose tokens are accepted as well.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JwtKey {
    pub(crate) algorithm: JwtAlgorithm,
    pub(crate) file: PathBuf,
    pub(crate) id: Option<String>,
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Option<String>,
}

/// The field of a certificate that holds the user's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserField {
    /// The subject's common name.
    #[default]
    CommonName,
    /// The alternative name of type e-mail (rfc822Name).
    Email,
    /// The alternative name of type DNS.
    Dns,
}

/// The signature algorithms of public keys; each key has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum JwtAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
}

/// `[links]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Links {
    pub(crate) default_expiry: Duration,
    pub(crate) max_expiry: Duration,
    pub(crate) max_per_user: u32,
    pub(crate) max_in_all: u32,
}

/// `[bans]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Bans {
    pub(crate) enabled: bool,
    pub(crate) failed_credentials: u32,
    pub(crate) forbidden_paths: u32,
    pub(crate) denied_requests: u32,
    pub(crate) window: Duration,
    pub(crate) durations: Vec<Duration>,
    pub(crate) spare_authenticated: Duration,
    pub(crate) allow: Vec<String>,
    pub(crate) include_local: bool,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    pub(crate) level: String,
    pub(crate) access: PathBuf,
    pub(crate) access_format: AccessFormat,
    pub(crate) access_lines_per_client: u32,
    pub(crate) access_bytes_per_day: ByteSize,
    pub(crate) access_max_size: ByteSize,
    pub(crate) access_keep: u32,
    pub(crate) disk_reserve: ByteSize,
}

/// The format of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessFormat {
    /// One JSON object per line.
    Json,
    /// Apache's combined format.
    Combined,
}

/// Which system accounts can read finished files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LibraryAccess {
    /// Only the worker's account.
    #[default]
    Owner,
    /// The group of the media folder as well.
    Group,
}

/// `[worker]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Worker {
    pub(crate) listen: String,
    pub(crate) media_dir: PathBuf,
    pub(crate) library_access: LibraryAccess,
    pub(crate) yt_dlp: String,
    pub(crate) ffmpeg: String,
    pub(crate) js_runtime: String,
    pub(crate) readable: Vec<PathBuf>,
    pub(crate) allow_private: Vec<String>,
    pub(crate) concurrent_downloads: usize,
    pub(crate) concurrent_downloads_per_user: usize,
    pub(crate) max_playlist: u16,
    pub(crate) retries: u32,
    pub(crate) retry_delay: Duration,
    pub(crate) stall_timeout: Duration,
    pub(crate) min_download_rate: ByteSize,
    pub(crate) max_filesize: ByteSize,
    pub(crate) disk_reserve: ByteSize,
    pub(crate) keep_for: Option<Duration>,
    pub(crate) keep_bytes: Option<ByteSize>,
    pub(crate) hls_keep_for: Duration,
    pub(crate) job_timeout: Duration,
    pub(crate) info_timeout: Duration,
    pub(crate) look_keep_for: Duration,
}

/// `[egress]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Egress {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) ports: Vec<u16>,
    pub(crate) key_file: PathBuf,
}

/// `[[app]]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct App {
    pub(crate) name: String,
    pub(crate) policy: String,
    pub(crate) upstream: String,
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
    #[serde(default = "root_prefix")]
    pub(crate) prefix: String,
    #[serde(default)]
    pub(crate) cors_origins: Vec<String>,
    #[serde(default = "upstream_timeout")]
    pub(crate) timeout: Duration,
}

/// `[insecure]`: the settings that relax a check; all are off by default.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Insecure {
    pub(crate) worker_on_any_address: bool,
    pub(crate) admin_on_any_address: bool,
    pub(crate) partial_sandbox: bool,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            data_dir: "data".into(),
            policies_dir: "policies".into(),
            gateway: Gateway::default(),
            tls: Tls::default(),
            jwt: Jwt::default(),
            links: Links::default(),
            bans: Bans::default(),
            log: Log::default(),
            worker: Worker::default(),
            egress: Egress::default(),
            app: Vec::new(),
            insecure: Insecure::default(),
        }
    }
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            listen: vec!["[::]:8443".into()],
            http_listen: vec!["[::]:8080".into()],
            admin_listen: "127.0.0.1:9901".into(),
            admin_hosts: Vec::new(),
            public_url: None,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            forwarded_header: ForwardedHeader::XForwardedFor,
            shared_addresses: vec![LOOPBACK_V4, LOOPBACK_V6],
            geoip: None,
            max_tracked_clients: 100_000,
            max_connections: 12_000,
            max_connections_per_client: 256,
            max_requests: 5_000,
            max_requests_per_client: 500,
            max_memory: ByteSize(0),
            min_body_rate: ByteSize(1 << 10),
            send_timeout: seconds(60),
            pause_timeout: seconds(15 * 60),
            drain_timeout: seconds(10),
        }
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            mode: TlsModeName::LocalCa,
            cert: None,
            key: None,
            names: Vec::new(),
            domains: Vec::new(),
            email: None,
            profile: TlsProfile::Intermediate,
            certificate: Vec::new(),
            acme: acme::Wire::default(),
            clients: None,
        }
    }
}

impl Tls {
    /// Returns the default name for the gateway's public URL: the first of `domains`, which are publicly known, otherwise of `names`.
    pub(crate) fn first_name(&self) -> Option<&str> {
        let domain = self.domains.first().map(|domain| domain.trim_start_matches("*."));
        domain.or_else(|| self.names.first().map(String::as_str))
    }
}

impl Default for Jwt {
    fn default() -> Self {
        Self { secret_env: "JWT_SECRET_KEY".into(), issuer: None, audience: None, leeway: seconds(30), key: Vec::new() }
    }
}

impl Default for Links {
    fn default() -> Self {
        Self {
            default_expiry: seconds(3_600),
            max_expiry: seconds(7 * 86_400),
            max_per_user: 1_000,
            max_in_all: 20_000,
        }
    }
}

impl Default for Bans {
    fn default() -> Self {
        Self {
            enabled: true,
            failed_credentials: 10,
            forbidden_paths: 20,
            denied_requests: 6_000,
            window: seconds(600),
            durations: [600, 3_600, 86_400, 7 * 86_400].map(seconds).into(),
            spare_authenticated: seconds(86_400),
            allow: Vec::new(),
            include_local: false,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".into(),
            access: "data/access.log".into(),
            access_format: AccessFormat::Json,
            access_lines_per_client: 200,
            access_bytes_per_day: ByteSize(900 << 20),
            access_max_size: ByteSize(100 << 20),
            access_keep: 9,
            disk_reserve: ByteSize(256 << 20),
        }
    }
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8001".into(),
            media_dir: "data/media".into(),
            library_access: LibraryAccess::Owner,
            yt_dlp: "yt-dlp".into(),
            ffmpeg: "ffmpeg".into(),
            js_runtime: "deno".into(),
            readable: Vec::new(),
            allow_private: Vec::new(),
            concurrent_downloads: 2,
            concurrent_downloads_per_user: 2,
            max_playlist: 200,
            retries: 4,
            retry_delay: seconds(10),
            stall_timeout: seconds(60),
            min_download_rate: ByteSize(32 << 10),
            max_filesize: ByteSize(20 << 30),
            disk_reserve: ByteSize(1 << 30),
            keep_for: None,
            keep_bytes: None,
            hls_keep_for: seconds(24 * 3_600),
            job_timeout: seconds(6 * 3_600),
            info_timeout: seconds(60),
            look_keep_for: seconds(600),
        }
    }
}

impl Default for Egress {
    fn default() -> Self {
        Self { listen: None, ports: vec![80, 443], key_file: "data/secrets/egress.key".into() }
    }
}

fn root_prefix() -> String {
    "/".into()
}

fn upstream_timeout() -> Duration {
    seconds(60)
}

const fn seconds(n: u64) -> Duration {
    Duration(std::time::Duration::from_secs(n))
}

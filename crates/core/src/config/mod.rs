//! Configuration: `config.toml` as written, the layers over it, and the validated [`Config`].
//!
//! Each table has a file with the table as written, its defaults, when a change of each key takes effect, and how it becomes the validated type.

pub mod acme;
mod app;
mod bans;
mod base;
mod diagnostic;
mod document;
mod effect;
mod egress;
mod environment;
mod fault;
mod gateway;
mod gateway_limits;
mod host_port;
mod hosts;
mod insecure;
mod jwt;
mod links;
mod load;
mod log;
mod network;
mod proxies;
#[cfg(test)]
mod resolution_tests;
mod settings;
mod tls;
mod top_level;
mod units;
mod upstream;
mod words;
mod worker;

pub use self::app::AppConfig;
pub use self::bans::{BansConfig, MAX_FORBIDDEN_PATHS};
pub use self::diagnostic::{Diagnostic, Diagnostics, Located};
pub use self::document::Document;
pub use self::effect::{Effect, Waiter};
pub use self::egress::EgressConfig;
pub use self::fault::{Fault, Key};
pub use self::gateway_limits::GatewayLimits;
pub use self::host_port::HostPort;
pub use self::jwt::{JwtAlgorithm, JwtConfig, JwtKeyConfig};
pub use self::links::LinksConfig;
pub use self::load::{Sources, Survey, load, locate, read};
pub use self::log::{AccessFormat, LogConfig};
pub use self::proxies::{ForwardedHeader, ProxyConfig};
pub use self::settings::{Settings, every_key};
pub use self::tls::{CertificatePaths, ClientsConfig, TlsConfig, TlsMode, TlsProfile, UserField};
pub use self::top_level::Config;
pub use self::units::{ByteSize, Duration, Rate, RateParseError};
pub use self::upstream::Upstream;
pub use self::worker::{LibraryAccess, Retention, WorkerConfig};

//! Configuration: `config.toml` as written, the layers over it, and the validated [`Config`].

pub mod acme;
mod diagnostic;
mod document;
mod environment;
mod hosts;
mod load;
mod resolve;
mod settings;
mod types;
mod units;
mod wire;
mod words;

pub use self::types::{
    AppConfig, BansConfig, CertificatePaths, ClientsConfig, Config, EgressConfig, GatewayLimits, HostPort, JwtConfig,
    JwtKeyConfig, LogConfig, MAX_FORBIDDEN_PATHS, ProxyConfig, Retention, TlsConfig, TlsMode, Upstream, WorkerConfig,
};
pub use diagnostic::{Diagnostic, Diagnostics, Located};
pub use load::{load, read};
pub use settings::Settings;
pub use units::{ByteSize, Duration, Rate, RateParseError};
pub use wire::{AccessFormat, ForwardedHeader, JwtAlgorithm, LibraryAccess, TlsProfile, UserField};

pub(crate) use document::Document;
pub(crate) use load::{Sources, Survey, locate};
pub(crate) use resolve::{Fault, Key};

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

pub use self::diagnostic::{Diagnostic, Diagnostics, Located};
pub use self::load::{load, read};
pub use self::settings::Settings;
pub use self::types::{
    AppConfig, BansConfig, CertificatePaths, ClientsConfig, Config, EgressConfig, GatewayLimits, HostPort, JwtConfig,
    JwtKeyConfig, LogConfig, MAX_FORBIDDEN_PATHS, ProxyConfig, Retention, TlsConfig, TlsMode, Upstream, WorkerConfig,
};
pub use self::units::{ByteSize, Duration, Rate, RateParseError};
pub use self::wire::{AccessFormat, ForwardedHeader, JwtAlgorithm, LibraryAccess, TlsProfile, UserField};

pub use self::document::Document;
pub use self::load::{Sources, Survey, locate};
pub use self::resolve::{Fault, Key};

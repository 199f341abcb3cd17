//! Observability: the access log, metrics and the set-up of `tracing`.

pub mod access_log;
mod histogram;
pub mod metrics;
pub mod process;
mod request_id;
pub mod tracing;
mod verdict;

pub use self::request_id::RequestId;
pub use self::verdict::Verdict;

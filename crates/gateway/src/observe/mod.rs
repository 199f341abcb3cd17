//! Observability: the access log, metrics and the set-up of `tracing`.

pub(crate) mod access_log;
mod histogram;
pub(crate) mod metrics;
pub(crate) mod process;
mod request_id;
pub mod tracing;
mod verdict;

pub use self::request_id::RequestId;
pub(crate) use self::verdict::Verdict;

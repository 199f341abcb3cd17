//! What happened: the access log, and the set-up of `tracing`.

pub mod access_log;
mod request_id;
pub mod tracing;

pub use request_id::RequestId;

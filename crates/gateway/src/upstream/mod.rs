//! The applications: connections to them, a pool for later requests, strict parsing of their answers, and whether the worker answers.
//!
//! Reaching an application requires a `Permit`.

mod connection;
mod pool;
pub(super) mod worker_watch;

pub use self::connection::{AnswerFault, Connection, UpstreamResponse};
pub use self::pool::{ConnectFault, Pool};

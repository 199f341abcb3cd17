//! The applications: connections to them, a pool for later requests, strict parsing of their responses, and whether the worker answers.
//!
//! Reaching an application requires a `Permit`.

mod connection;
mod pool;
mod worker_watch;

pub(crate) use self::connection::{Connection, ResponseFault, UpstreamResponse};
pub(crate) use self::pool::{ConnectFault, Pool};
pub(crate) use self::worker_watch::WorkerWatch;

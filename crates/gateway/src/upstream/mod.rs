//! Connections to the applications: a pool for later requests, and strict parsing of their answers.
//!
//! Reaching an application requires a `Permit`.

mod connection;
mod pool;

pub use self::connection::{AnswerFault, Connection, UpstreamResponse};
pub use self::pool::{ConnectFault, Pool};

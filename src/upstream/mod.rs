//! Connections to the applications: a pool for later requests, and strict parsing of their answers.
//!
//! Reaching an application requires a `Permit`.

mod connection;
mod pool;

pub use connection::{AnswerFault, Connection, Said};
pub use pool::{ConnectFault, Pool};

//! The way to the applications: connections that are kept for the next request, and answers held to the grammar.
//!
//! An application is reached only with a `Permit`.

mod connection;
mod pool;

pub use connection::{AnswerFault, Connection, Said};
pub use pool::{ConnectFault, Pool};

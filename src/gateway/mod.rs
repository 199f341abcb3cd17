//! The gateway: the only room that knows pingora's proxy. It turns a session into plain facts, asks for a decision,
//! and forwards or answers.

mod admin;
mod body;
mod client_address;
mod connection;
mod context;
pub mod control;
mod headers;
mod links;
mod live;
mod proxy;
mod redirect;
mod respond;
mod run;

pub use links::{LinkPlace, LinkRefusal, LinkRequest, MadeLink};
pub(crate) use live::jwt_verifier;
pub use live::{Live, LiveError};
pub use run::{GatewayError, run};

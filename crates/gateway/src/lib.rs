//! The gateway: reads a request, asks for a decision, and forwards or answers. HTTP/2 uses pingora's connections, HTTP/1 a strict parser of
//! our own.
//!
//! A room imports from the rooms below it only, from top to bottom:
//!
//! - `lifecycle`: start, reload, hot restart and stop, and the control socket.
//! - `connections`: the accept loops, and the life of each connection.
//! - `requests`: one request, from its head to the decision, then to the application and back, or to a denial.
//! - `pages`: what the gateway answers itself, and the listeners that answer nothing else.
//! - `clients`: one client: its address, the body of its request, its response, and the limits that apply to it. Only its adapter
//!   `http2_transport` names pingora.
//! - `upstream`: the connections to the applications; requires a [`policy::Permit`].
//! - `state`: what requests are judged with, replaced as a whole when the configuration or the database changes.
//! - `observe`: logs and metrics.
//! - `edge`: sockets, certificates and TLS, without any HTTP.
//! - `policy`: policy files become a table of routes, which decides about each request.
//! - `identity`: a credential becomes an identity.
//! - `store`: the database of users, keys, links and bans, and the secrets.
//! - `limits`: rates and bans.
#![forbid(unsafe_code)]

mod clients;
mod connections;
pub mod edge;
pub mod identity;
pub mod lifecycle;
pub mod limits;
pub mod observe;
mod pages;
pub mod policy;
mod requests;
mod state;
pub mod store;
mod upstream;

pub use self::{
    clients::client_address::client_address,
    lifecycle::{Inheritance, run},
    pages::trust_page::TRUST_PAGE,
    requests::to_upstream::{Onward, to_upstream},
    state::{GeoIp, LinkPlace, LinkRefusal, LinkRequest, client_authorities, jwt_verifier},
};

//! The gateway: it reads a request, asks for a decision, and forwards or answers. HTTP/2 comes from pingora's
//! connections, HTTP/1 from a reader of our own that takes nothing but the letter of the grammar.

mod admin;
mod appetite;
mod bans;
mod certificates;
mod client;
mod client_address;
mod connection;
pub mod control;
mod effect;
mod exchange;
mod forward;
mod front;
mod geoip;
mod handle;
mod headers;
mod http1;
mod http2;
mod http2_connection;
mod leftovers;
mod links;
mod live;
mod load;
mod pace;
mod plain;
mod redirect;
mod refusal;
mod reload;
mod respond;
mod run;
mod state;
mod succession;
mod trust_page;
mod tunnel;
mod upload;
mod welcome;
mod worker_watch;

pub use client_address::client_address;
pub use geoip::{GeoIp, GeoIpError};
pub use headers::{Onward, to_upstream};
pub use links::{LinkPlace, LinkRefusal, LinkRequest, MadeLink};
pub use live::{Live, LiveError};
pub(crate) use live::{client_authorities, jwt_verifier};
pub use run::{GatewayError, run};
pub use succession::{Inheritance, InheritanceError};
pub use trust_page::TRUST_PAGE;

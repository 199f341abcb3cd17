//! The gateway: reads a request, asks for a decision, and forwards or answers. HTTP/2 uses pingora's connections, HTTP/1 a strict parser of
//! our own.
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
pub mod upstream;

pub use self::clients::client_address::client_address;
pub use self::lifecycle::hot_restart::{Inheritance, InheritanceError};
pub use self::lifecycle::run::{GatewayError, run};
pub use self::pages::trust_page::TRUST_PAGE;
pub use self::requests::headers::{Onward, to_upstream};
pub use self::state::gateway_state::{GatewayState, StateError, client_authorities, jwt_verifier};
pub use self::state::geoip::{GeoIp, GeoIpError};
pub use self::state::links::{LinkPlace, LinkRefusal, LinkRequest, MadeLink};

//! What requests are judged with: the configuration and policies in force, and the keys, users, links and bans that change meanwhile.

mod bans;
mod browsers;
mod credentials;
mod error;
mod gateway_state;
mod geoip;
mod housekeeping;
mod links;
mod refresh;
mod rules;
mod withdrawn;

pub(crate) use self::error::StateError;
pub(crate) use self::gateway_state::GatewayState;
pub use self::geoip::GeoIp;
pub use self::links::{LinkPlace, LinkRefusal, LinkRequest};
pub(crate) use self::refresh::Refreshed;
pub(crate) use self::rules::Rules;
pub use self::rules::{client_authorities, jwt_verifier};

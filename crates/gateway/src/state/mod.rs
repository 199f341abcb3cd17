//! What requests are judged with: the configuration and policies in force, and the keys, users, links and bans that change meanwhile.

pub(super) mod bans;
pub(super) mod browsers;
pub(super) mod credentials;
pub(super) mod gateway_state;
pub(super) mod geoip;
pub(super) mod links;
pub(super) mod withdrawn;

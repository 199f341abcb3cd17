//! The gateway over the wire: the built program, real TLS, and a canary upstream that records what reaches it.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod canary;
mod client;
mod client_authority;
mod country_database;
mod instance;
mod name_server;
mod pebble;

#[path = "../support/disk.rs"]
#[expect(dead_code, reason = "the worker's tests use more of it")]
mod disk;
#[path = "../support/media.rs"]
mod media;
#[path = "../support/origin.rs"]
#[expect(dead_code, reason = "the worker's tests use more of it")]
mod origin;
#[path = "../support/places.rs"]
mod places;
#[path = "../support/ports.rs"]
mod ports;
#[path = "../support/tools.rs"]
mod programs;
#[path = "../support/skips.rs"]
mod skips;

mod access_log;
mod acme;
mod addresses;
mod admin;
mod advisories;
mod ban_effects;
mod ban_filters;
mod bans;
mod bodies;
mod callers;
mod certificate_expiry;
mod checks;
mod chunked;
mod client_certificates;
mod commands;
mod configuration;
mod cors;
mod credentials;
mod desync;
mod early_answers;
mod events;
mod floods;
mod follow;
mod frames;
mod framing;
mod full_disk;
mod grants;
mod greedy;
mod headers;
mod hot_restart;
mod issuers;
mod lenience;
mod link_limits;
mod link_makers;
mod links;
mod paths;
mod rates;
mod reload;
mod renewal;
mod reused_names;
mod roles;
mod security_headers;
mod server_names;
mod sockets;
mod state;
mod streams;
mod titles;
mod tls;
mod trust_page;
mod upstream;
mod volume;
mod websocket;
mod welcome;
mod whole;

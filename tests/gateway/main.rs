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
mod instance;

#[path = "../worker/media.rs"]
mod media;
#[path = "../worker/origin.rs"]
mod origin;

mod bodies;
mod configuration;
mod cors;
mod credentials;
mod headers;
mod links;
mod paths;
mod rates;
mod state;
mod tls;
mod upstream;
mod whole;

//! Properties of each parser of untrusted bytes that must hold for any input, one file for each; `run` panics if one does not hold.
//!
//! libFuzzer runs the targets (`fuzz_targets/`), and so does `tests/fuzz_seeds.rs`, with the seeds and a few thousand changes of them.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a target fails by panicking"
)]

mod parts;
mod site;

pub mod chunked_body;
pub mod client_address;
pub mod config_toml;
pub mod cors_origin;
pub mod credential;
pub mod forward;
pub mod hls_playlist;
pub mod http2_frames;
pub mod json_body;
pub mod jwt;
pub mod link_query;
pub mod policy_toml;
pub mod proxy_protocol;
pub mod range;
pub mod request_head;
pub mod response_head;
pub mod safe_path;
pub mod statement;
pub mod webvtt;

/// A target, which panics if it finds a violation.
pub type Target = fn(&[u8]);

/// Every target, by the name of its folder in `fuzz/seeds/`.
pub const ALL: [(&str, Target); 19] = [
    ("chunked_body", chunked_body::run),
    ("client_address", client_address::run),
    ("config_toml", config_toml::run),
    ("cors_origin", cors_origin::run),
    ("credential", credential::run),
    ("forward", forward::run),
    ("hls_playlist", hls_playlist::run),
    ("http2_frames", http2_frames::run),
    ("json_body", json_body::run),
    ("jwt", jwt::run),
    ("link_query", link_query::run),
    ("policy_toml", policy_toml::run),
    ("proxy_protocol", proxy_protocol::run),
    ("range", range::run),
    ("request_head", request_head::run),
    ("response_head", response_head::run),
    ("safe_path", safe_path::run),
    ("statement", statement::run),
    ("webvtt", webvtt::run),
];

//! Sallyport: a hardened reverse-proxy gateway for self-hosted downloaders, and the download and stream worker behind it.
//!
//! `docs/architecture.md` describes the modules and the path of a request through them.
#![forbid(unsafe_code)]

mod account;
pub mod address;
pub mod cli;
pub mod config;
mod durable;
pub mod edge;
pub mod egress;
mod exact_json;
pub mod gateway;
mod hmac_sha256;
pub mod http1;
pub mod identity;
pub mod json;
pub mod limits;
mod lookup;
pub mod observe;
mod os_error;
pub mod policy;
mod problem;
pub mod random;
pub mod secret_file;
mod settled;
pub mod shutdown;
mod spelling;
pub mod statement;
pub mod store;
pub mod supervision;
mod tcp_tuning;
pub mod upstream;
pub mod username;
pub mod worker;
mod write_all;

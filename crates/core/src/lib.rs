//! What the gateway and the worker share: the configuration, and the small types and tools that both need.
#![forbid(unsafe_code)]

pub mod addresses;
pub mod clock;
pub mod config;
pub mod files;
pub mod http1;
pub mod json;
pub mod names;
pub mod problem;
pub mod secrets;
pub mod sockets;
pub mod statement;
pub mod supervision;

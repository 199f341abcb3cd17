//! The connections of clients, over HTTP/1 and HTTP/2, up to the request that they carry, and their limits.

pub(super) mod admission;
pub(super) mod client;
pub(super) mod client_address;
pub(super) mod connection;
pub(super) mod head_error;
pub(super) mod http1;
pub(super) mod http2;
pub(super) mod http2_connection;
pub(super) mod leftovers;
pub(super) mod listeners;
pub(super) mod pause;
pub(super) mod read_buffer;
pub(super) mod timeouts;
pub(super) mod tunnel;

//! The connections of clients, over HTTP/1 and HTTP/2, from the accept loops to the requests that they carry.

pub(super) mod http1_connection;
pub(super) mod http2_connection;
pub(super) mod listeners;

//! The edge: sockets, certificates and TLS; hands a stream on and knows nothing of HTTP.

pub mod certificates;
pub mod listener;
pub mod local_ca;
pub mod slots;
mod stream;
pub mod tls;

pub use stream::{Downstream, Inspect};

//! The edge: sockets, certificates and TLS; hands a stream on and knows nothing of HTTP.

mod caller;
pub mod certificates;
pub mod listener;
pub mod local_ca;
mod proxy_protocol;
mod shared_address;
pub mod slots;
mod stream;
pub mod tls;

pub use caller::Callers;
pub use stream::{Downstream, Inspect};

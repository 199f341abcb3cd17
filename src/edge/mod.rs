//! The edge: sockets, certificates and TLS. It produces client streams and knows nothing of HTTP.

pub mod acme;
mod caller;
pub mod certificates;
pub mod client_ca;
pub mod handover;
pub mod listener;
pub mod local_ca;
mod pem_file;
pub mod proxy_protocol;
mod server_names;
mod shared_address;
pub mod slots;
pub mod sockets;
mod stream;
mod threshold;
pub mod tls;
pub mod trust_anchor;

pub use server_names::{Certificates, ServedName};
pub use stream::{Downstream, Inspect};
pub use threshold::{Caller, Threshold, ThresholdFault};

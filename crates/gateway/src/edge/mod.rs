//! The edge: sockets, certificates and TLS. It produces client streams and knows nothing of HTTP.

mod accept;
mod accept_fault;
pub(crate) mod accept_loop;
pub mod acme;
pub mod certificates;
mod challenge_responder;
pub mod client_ca;
pub(crate) mod connection_limits;
pub mod local_ca;
mod peer_address;
mod pem_file;
pub mod proxy_protocol;
mod server_names;
mod shared_address;
mod stream;
pub mod tls;
pub mod trust_anchor;

pub(crate) use self::accept::{Acceptor, Caller};
pub(crate) use self::accept_fault::AcceptFault;
pub(crate) use self::server_names::{Certificates, ServedName};
pub(crate) use self::stream::{Downstream, Inspect};

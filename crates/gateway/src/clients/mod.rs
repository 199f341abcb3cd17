//! One client: its address, the body of its request, its response, and the limits that apply to it.

pub(super) mod admission;
pub(super) mod client;
pub(super) mod client_address;
pub(super) mod fault;
pub(super) mod head_error;
pub(super) mod http1;
pub(super) mod http1_end;
pub(super) mod http1_head;
pub(super) mod http2;
pub(super) mod http2_transport;
pub(super) mod leftovers;
pub(super) mod own_response;
pub(super) mod pause;
pub(super) mod read_buffer;
pub(super) mod timeouts;

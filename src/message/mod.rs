//! HTTP messages as plain data, and strict parsing of HTTP/1.1: a message that two parsers could read differently is refused.
//!
//! Pure computation: bytes in, data or bytes out. The rules are those of RFC 9110 and RFC 9112; where these let a recipient repair a
//! message, this module refuses it. Both sides of the gateway use it: for clients' requests and applications' responses.

mod body;
mod chunked;
mod date;
mod encode;
mod fields;
mod frames;
mod head;
mod request;
mod response;

pub use body::{BodyDecoder, BodyFault, Framing};
pub use date::http_date;
pub use encode::{BodyEncoder, Encoded, Overlong, Persistence, write_field, write_response};
pub use fields::{Connection, connection, is_hop_by_hop};
pub use frames::{FrameFault, FrameWatch};
pub use head::{HeadFault, HeadScan, MAX_HEAD_BYTES, MAX_TARGET_BYTES};
pub use request::{Http1Request, RequestHead, Version};
pub use response::{Http1Response, ResponseHead};

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

pub use self::body::{BodyDecoder, BodyFault, Framing};
pub use self::date::http_date;
pub use self::encode::{BodyEncoder, Encoded, Overlong, Persistence, write_field, write_response};
pub use self::fields::{Connection, connection, is_hop_by_hop};
pub use self::frames::{FrameFault, FrameWatch};
pub use self::head::{HeadFault, HeadScan, MAX_HEAD_BYTES, MAX_TARGET_BYTES};
pub use self::request::{Http1Request, RequestHead, Version};
pub use self::response::{Http1Response, ResponseHead};

//! A response head that is parsed and re-serialised has the same meaning, to clients as well as to this parser.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use sallyport_core::http1::{Framing, HeadScan, Http1Response, Persistence, is_hop_by_hop, write_response};

use super::parts::byte;

pub fn run(data: &[u8]) {
    let (choice, data) = byte(data);
    let method = if choice & 1 == 0 { Method::GET } else { Method::HEAD };
    let Ok(Some(end)) = HeadScan::default().end(data) else { return };
    let Ok(mut response) = Http1Response::parse(&Bytes::copy_from_slice(&data[..end]), &method) else { return };
    // With the added fields, the response may exceed the limit of fields that the parser accepts.
    if response.head.headers.len() > 97 {
        return;
    }
    drop_connection_fields(&mut response.head.headers);
    if response.head.status == StatusCode::NO_CONTENT || response.head.status.is_informational() {
        response.head.headers.remove(header::CONTENT_LENGTH);
    }
    // A body that ends with the application's connection is forwarded in chunks.
    let framing = if response.framing == Framing::UntilClose { Framing::Chunked } else { response.framing };
    let bodiless = framing == Framing::Length(0);
    let mut out = Vec::new();
    write_response(&mut out, &response.head, None, (!bodiless).then_some(framing), Persistence::Close);
    let again = Http1Response::parse(&Bytes::from(out), &method).expect("the written head does not parse");
    assert_eq!(again.head.status, response.head.status);
    assert!(again.connection.close && again.connection.named.is_empty());
    let mut headers = again.head.headers;
    drop_connection_fields(&mut headers);
    let length = headers.get(header::CONTENT_LENGTH).cloned();
    assert_eq!(length, response.head.headers.get(header::CONTENT_LENGTH).cloned());
    assert_eq!(headers, response.head.headers);
    if !bodiless {
        assert_eq!(again.framing, framing);
    }
}

fn drop_connection_fields(headers: &mut HeaderMap) {
    let names: Vec<_> = headers.keys().filter(|name| is_hop_by_hop(name.as_str())).cloned().collect();
    for name in &names {
        headers.remove(name);
    }
}
